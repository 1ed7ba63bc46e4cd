//! The HTTP client of a Hothouse server: keep-alive, typed problems.

use std::sync::Arc;
use std::time::Duration;

use hothouse_domain::{
    Capabilities, ErrorCode, ImageInfo, ImageRef, Problem, SandboxId, SandboxInfo, SandboxSpec,
};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_rustls::rustls::ClientConfig;
use tokio_tungstenite::tungstenite::Error as WebSocketError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use super::tls;
use crate::failure::Failure;

/// A WebSocket to a server.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// A server, by HTTP; clones share its connections.
#[derive(Debug, Clone)]
pub(crate) struct ApiClient {
    http: reqwest::Client,
    base: Url,
    /// For what does not go through `http`.
    authorization: Option<HeaderValue>,
    tls: Option<Arc<ClientConfig>>,
}

/// The key from the environment: in an argument every process of the machine could read it.
fn authorization() -> Result<Option<HeaderValue>, Failure> {
    let Some(key) = std::env::var_os("HOTHOUSE_API_KEY").filter(|key| !key.is_empty()) else {
        return Ok(None);
    };
    let value = key.to_str().and_then(|key| HeaderValue::try_from(format!("Bearer {key}")).ok());
    let Some(mut value) = value else {
        return Err(Failure::usage("HOTHOUSE_API_KEY", "is not printable ASCII; is it a key?"));
    };
    value.set_sensitive(true);
    Ok(Some(value))
}

/// One page of a listing.
#[derive(Debug, Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

impl ApiClient {
    /// Where a server listens when nothing else is said.
    pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8700";

    /// A client of the server at this address; connects when first used.
    pub(crate) fn new(url: &str) -> Result<Self, Failure> {
        let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let bad = |reason: &str| {
            Failure::usage("--server", format!("{url:?} {reason}")).hint("use e.g. http://127.0.0.1:8700")
        };
        let mut base: Url = full.parse().map_err(|_| bad("is not a URL"))?;
        match base.scheme() {
            "http" | "https" => {}
            _ => return Err(bad("is not an http:// or https:// address")),
        }
        if base.host_str().is_none_or(str::is_empty) || base.query().is_some() || base.fragment().is_some() {
            return Err(bad("is not the address of a server"));
        }
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&path);
        let mut headers = HeaderMap::new();
        let authorization = authorization()?;
        headers.extend(authorization.clone().map(|value| (header::AUTHORIZATION, value)));
        let tls = if base.scheme() == "https" { Some(tls::config()?) } else { None };
        // Not used for http; this keeps the client from reading the machine's roots for nothing.
        let unused = || tls::without_roots().map(Arc::new);
        let config = tls.clone().map_or_else(unused, Ok)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured((*config).clone())
            .default_headers(headers)
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(5))
            .no_proxy()
            .build()
            .map_err(|e| Failure::new(ErrorCode::Internal, format!("making an HTTP client: {e}")))?;
        Ok(Self { http, base, authorization, tls })
    }

    /// Opens a WebSocket.
    pub(crate) async fn socket(&self, mut url: Url) -> Result<Socket, WebSocketError> {
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        url.set_scheme(scheme).expect("all of these are schemes with a host");
        let mut request = url.as_str().into_client_request()?;
        request.headers_mut().extend(self.authorization.clone().map(|value| (header::AUTHORIZATION, value)));
        let connector = self.tls.clone().map(Connector::Rustls);
        Ok(connect_async_tls_with_config(request, None, true, connector).await?.0)
    }

    /// The server's address.
    pub(crate) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// A request to a path below the base, its segments escaped.
    pub(crate) fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        self.http.request(method, self.url(segments))
    }

    /// The address of a path below the base, its segments escaped.
    pub(crate) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Sends it; a response that is no success is a failure with the server's problem.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|e| self.failure(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(|e| self.failure(&e))?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(problem.into()),
            Err(_) => Err(Failure::new(
                ErrorCode::Internal,
                format!(
                    "{} answered {status} without a problem document; is it a Hothouse server?",
                    self.base()
                ),
            )),
        }
    }

    /// Sends it and reads the JSON answer.
    pub(crate) async fn send_json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let body = self.send(request).await?.bytes().await.map_err(|e| self.failure(&e))?;
        serde_json::from_slice(&body).map_err(|e| {
            Failure::new(ErrorCode::Internal, format!("{} answered something else: {e}", self.base()))
                .hint("are client and server of the same version?")
        })
    }

    /// What to say when a request did not get through.
    pub(crate) fn failure(&self, error: &reqwest::Error) -> Failure {
        let base = self.base();
        if error.is_connect() {
            return Failure::new(ErrorCode::NotFound, format!("no server answers at {base}")).hint(
                "start one with `hothouse serve`, or name another with --server URL or HOTHOUSE_SERVER",
            );
        }
        // The innermost cause says what happened; the outer ones only that something did.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Failure::new(ErrorCode::Internal, format!("talking to {base}: {cause}"))
    }

    /// All of a listing that has one page.
    pub(crate) async fn items<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<Vec<T>, Failure> {
        let page: Page<T> = self.send_json(self.request(Method::GET, segments)).await?;
        Ok(page.items)
    }

    /// Makes a sandbox.
    pub(crate) async fn create(&self, spec: &SandboxSpec) -> Result<SandboxInfo, Failure> {
        self.send_json(self.request(Method::POST, &["v1", "sandboxes"]).json(spec)).await
    }

    /// An image of the server's store.
    pub(crate) async fn image(&self, image: &ImageRef) -> Result<ImageInfo, Failure> {
        self.send_json(self.request(Method::GET, &["v1", "images", &image.to_string()])).await
    }

    /// A handle to a sandbox that is said to exist.
    pub(crate) fn sandbox(&self, id: SandboxId) -> super::SandboxHandle {
        super::SandboxHandle::there(self.clone(), id)
    }

    /// All sandboxes that have all these labels, `(name, value)`.
    pub(crate) async fn list(&self, labels: &[(String, String)]) -> Result<Vec<SandboxInfo>, Failure> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut query = vec![("limit", "1000".to_owned())];
            query.extend(labels.iter().map(|(name, value)| ("label", format!("{name}={value}"))));
            query.extend(after.take().map(|after| ("after", after)));
            let request = self.request(Method::GET, &["v1", "sandboxes"]).query(&query);
            let page: Page<SandboxInfo> = self.send_json(request).await?;
            all.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// What the server's backend enforces.
    pub(crate) async fn capabilities(&self) -> Result<Capabilities, Failure> {
        self.send_json(self.request(Method::GET, &["v1", "capabilities"])).await
    }
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    #[test_case("http://127.0.0.1:8700" => "http://127.0.0.1:8700/v1/sandboxes/a%2Fb")]
    #[test_case("127.0.0.1:8700" => "http://127.0.0.1:8700/v1/sandboxes/a%2Fb")]
    #[test_case("https://host" => "https://host/v1/sandboxes/a%2Fb")]
    #[test_case("http://host/prefix/" => "http://host/prefix/v1/sandboxes/a%2Fb")]
    fn addresses(base: &str) -> String {
        ApiClient::new(base).unwrap().url(&["v1", "sandboxes", "a/b"]).to_string()
    }

    #[test_case("ftp://host" ; "other scheme")]
    #[test_case("http://" ; "no host")]
    #[test_case("http://host/?a=b" ; "query")]
    #[test_case("" ; "empty")]
    fn refused(base: &str) {
        assert_eq!(ApiClient::new(base).unwrap_err().exit(), crate::failure::EXIT_USAGE);
    }
}
