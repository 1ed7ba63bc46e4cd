//! Where the load goes.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use reqwest::Url;

/// A server that speaks the OpenEnv protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Its name in requests.
    host: String,
    /// What stands before `/ws` and `/step`, without a slash at its end.
    base: String,
}

/// The subprotocol of batches.
pub(super) const BATCHES: &str = "hothouse.env.v1";

impl Target {
    /// The target of a URL.
    ///
    /// # Errors
    /// When it is no URL of a server without TLS, or its name has no address.
    pub(crate) fn of(url: &str) -> anyhow::Result<Self> {
        let parsed = Url::parse(url).with_context(|| format!("{url} is not a URL"))?;
        if !matches!(parsed.scheme(), "http" | "ws") {
            bail!("{url}: only http:// and ws:// are measured; end TLS before the server");
        }
        let addresses = parsed.socket_addrs(|| Some(80)).with_context(|| format!("{url}: no address"))?;
        let address = *addresses.first().with_context(|| format!("{url}: its name has no address"))?;
        let name = parsed.host_str().with_context(|| format!("{url} names no host"))?;
        let host = parsed.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let base = parsed.path().trim_end_matches('/').trim_end_matches("/ws").to_owned();
        Ok(Self { address, host, base })
    }

    /// The target of a server on this machine.
    pub(super) fn at(address: SocketAddr) -> Self {
        Self { address, host: address.to_string(), base: String::new() }
    }

    /// As a client is told it.
    pub(super) fn url(&self) -> String {
        format!("http://{}{}", self.host, self.base)
    }

    /// The path of something of the environment.
    pub(super) fn path(&self, of: &str) -> String {
        format!("{}{of}", self.base)
    }

    /// The request that makes a connection a WebSocket.
    pub(super) fn upgrade(&self, subprotocol: Option<&str>) -> Vec<u8> {
        let Self { host, base, .. } = self;
        // It need not be unguessable: nobody lies between.
        let key = base64::engine::general_purpose::STANDARD.encode(b"hothouse measure");
        let mut request = format!(
            "GET {base}/ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        );
        if let Some(name) = subprotocol {
            request.push_str("Sec-WebSocket-Protocol: ");
            request.push_str(name);
            request.push_str("\r\n");
        }
        (request + "\r\n").into_bytes()
    }

    /// A request with a body of JSON, on a connection that is kept.
    pub(super) fn post(&self, path: &str, body: &str) -> Vec<u8> {
        let Self { host, base, .. } = self;
        format!(
            "POST {base}{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_address_host_and_what_stands_before_the_path() {
        let target = Target::of("http://127.0.0.1:8123").unwrap();
        assert_eq!(target, Target::at("127.0.0.1:8123".parse().unwrap()));
        let deep = Target::of("ws://127.0.0.1/envs/echo/ws").unwrap();
        assert_eq!(deep.address.port(), 80);
        assert_eq!(deep.url(), "http://127.0.0.1/envs/echo");
        let request = String::from_utf8(deep.upgrade(Some(BATCHES))).unwrap();
        assert!(request.starts_with("GET /envs/echo/ws HTTP/1.1\r\nHost: 127.0.0.1\r\n"), "{request}");
        assert!(request.ends_with("Sec-WebSocket-Protocol: hothouse.env.v1\r\n\r\n"), "{request}");
        let request = String::from_utf8(target.post("/step", "{}")).unwrap();
        assert!(request.ends_with("Content-Length: 2\r\n\r\n{}"), "{request}");
    }

    #[test]
    fn what_cannot_be_measured_is_said() {
        for wrong in ["127.0.0.1:80", "https://127.0.0.1", "http://", "unix:/tmp/x"] {
            assert!(Target::of(wrong).is_err(), "{wrong}");
        }
    }
}
