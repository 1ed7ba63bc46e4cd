//! Web pages and rebound DNS names: a browser on this machine must not be a way in.
//!
//! What protects an API without keys is that it listens on loopback. A web page can reach loopback too, from the
//! user's own browser. So a request that names another site as its origin is refused, and on loopback one whose `Host` is
//! not this machine (a DNS name that an attacker points at 127.0.0.1).

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::http::{HeaderMap, header};
use hothouse_domain::ErrorCode;

use crate::app::Exposure;
use crate::problem::Refusal;

/// Checks where a request comes from.
pub(crate) fn check(exposure: Exposure, headers: &HeaderMap) -> Result<(), Refusal> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if exposure == Exposure::Loopback && !host.is_empty() && !is_loopback(host) {
        let host: String = host.chars().take(64).collect();
        return Err(Refusal::new(
            ErrorCode::Forbidden,
            format!("Host is {host:?}; this server answers only to localhost and loopback addresses"),
        )
        .about("Host"));
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let site = origin.split_once("://").map(|(_scheme, site)| site);
    if site.is_some_and(|site| !site.is_empty() && site.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    let origin: String = origin.chars().take(64).collect();
    Err(Refusal::new(
        ErrorCode::Forbidden,
        format!("Origin is {origin:?}; pages of other sites may not use this server"),
    )
    .about("Origin"))
}

/// True for `localhost`, 127.0.0.0/8 and `[::1]`, with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _port)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || name.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    fn headers(host: &str, origin: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
            if !value.is_empty() {
                headers.insert(name, value.parse().unwrap());
            }
        }
        headers
    }

    #[test_case("localhost:8700", "", true; "name")]
    #[test_case("127.0.0.1:8700", "", true; "ipv4")]
    #[test_case("[::1]:8700", "", true; "ipv6")]
    #[test_case("", "", true; "no host, as HTTP/1.0 allows")]
    #[test_case("evil.example:8700", "", false; "rebound name")]
    #[test_case("127.0.0.1.evil.example", "", false; "name that begins like loopback")]
    #[test_case("localhost:8700", "http://localhost:8700", true; "own page")]
    #[test_case("localhost:8700", "http://localhost:3000", false; "page of another port")]
    #[test_case("localhost:8700", "https://evil.example", false; "page of another site")]
    #[test_case("localhost:8700", "null", false; "opaque origin")]
    fn on_loopback(host: &str, origin: &str, allowed: bool) {
        assert_eq!(check(Exposure::Loopback, &headers(host, origin)).is_ok(), allowed);
    }

    #[test]
    fn on_a_network_any_host_is_fine_but_other_origins_are_not() {
        assert!(check(Exposure::Network, &headers("node7:8700", "")).is_ok());
        assert!(check(Exposure::Network, &headers("node7:8700", "http://node7:8700")).is_ok());
        assert!(check(Exposure::Network, &headers("node7:8700", "http://evil.example")).is_err());
    }
}
