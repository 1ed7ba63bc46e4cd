//! What of a request's and an answer's head goes across, between a client and what listens in a sandbox.
//!
//! What listens is hostile, and so is what it answers: the key of the client stays here, as do cookies of anything else
//! that a browser knows under our name; and a page that comes from a sandbox is no page of this server.

use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use hothouse_domain::SandboxId;

/// Headers of one connection, which go no further.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];
/// Headers of an answer that would speak for all of this server.
const FOR_THE_WHOLE_SITE: [HeaderName; 5] = [
    header::STRICT_TRANSPORT_SECURITY,
    header::ALT_SVC,
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("service-worker-allowed"),
    HeaderName::from_static("report-to"),
];
/// Ours, in both directions.
const OURS: &str = "hothouse-";
/// Goes in as `Authorization`, whose own value is the key of this server.
pub(super) const AUTHORIZATION: HeaderName = HeaderName::from_static("hothouse-authorization");
/// Says that an answer is that of what listens on the port.
pub(super) const PORT: HeaderName = HeaderName::from_static("hothouse-port");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// Those that say who asked, which only we know.
const FORWARDED: [HeaderName; 6] = [
    header::FORWARDED,
    FORWARDED_HOST,
    FORWARDED_PREFIX,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-proto"),
];
/// A page gets an origin that is nobody's, so that it has no more of this server than a page of any other site.
const NO_ORIGIN: HeaderValue = HeaderValue::from_static("sandbox allow-scripts");

/// A port of a sandbox, as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) sandbox: SandboxId,
    pub(super) port: u16,
}

/// Whether the connection is to become another protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    WebSocket,
}

impl Protocol {
    /// What a request asks for; other protocols than these two are not carried.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let upgrades =
            names_in(headers, &header::CONNECTION).any(|name| name.eq_ignore_ascii_case("upgrade"));
        let websocket =
            names_in(headers, &header::UPGRADE).any(|name| name.eq_ignore_ascii_case("websocket"));
        if upgrades && websocket { Self::WebSocket } else { Self::Http }
    }
}

/// The comma-separated words of a header.
fn names_in<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// True for what this connection alone is about.
fn stays(headers: &HeaderMap, name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
        || name.as_str().starts_with("proxy-")
        || names_in(headers, &header::CONNECTION).any(|named| name.as_str().eq_ignore_ascii_case(named))
}

impl Place {
    /// Where the port's paths begin on this server.
    pub(super) fn prefix(&self) -> String {
        format!("/v1/sandboxes/{}/ports/{}", self.sandbox, self.port)
    }

    /// What cookies of this port are called outside. No id has a `~`, so none is taken for another port's.
    fn cookie_prefix(&self) -> String {
        format!("hothouse~{}~{}~", self.sandbox, self.port)
    }

    /// The headers that what listens gets.
    pub(super) fn request(&self, given: &HeaderMap, protocol: Protocol) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(given.len() + 4);
        for (name, value) in given {
            let dropped = stays(given, name)
                || FORWARDED.contains(name)
                || matches!(*name, header::HOST | header::AUTHORIZATION | header::COOKIE | header::EXPECT)
                || name.as_str().starts_with(OURS);
            if !dropped {
                headers.append(name, value.clone());
            }
        }
        if let Some(host) = given.get(header::HOST) {
            headers.insert(FORWARDED_HOST, host.clone());
        }
        if let Some(authorization) = given.get(AUTHORIZATION) {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let cookies = self.cookies_in(given);
        for (name, value) in [
            (header::HOST, format!("localhost:{}", self.port)),
            (FORWARDED_PREFIX, self.prefix()),
            (header::COOKIE, cookies),
        ] {
            // Made of what headers held already, and of an id: none is no header.
            if let Ok(value) = HeaderValue::try_from(value)
                && !value.is_empty()
            {
                headers.insert(name, value);
            }
        }
        match protocol {
            Protocol::Http => headers.insert(header::CONNECTION, HeaderValue::from_static("close")),
            Protocol::WebSocket => {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"))
            }
        };
        headers
    }

    /// Those of a client's cookies that this port has set, by its own names.
    fn cookies_in(&self, given: &HeaderMap) -> String {
        let prefix = self.cookie_prefix();
        let all = given.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let ours =
            all.flat_map(|value| value.split(';')).filter_map(|cookie| cookie.trim().strip_prefix(&prefix));
        ours.collect::<Vec<_>>().join("; ")
    }

    /// The headers that the client gets.
    pub(super) fn answer(&self, given: &HeaderMap, protocol: Protocol) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(given.len() + 2);
        for (name, value) in given {
            if stays(given, name) || FOR_THE_WHOLE_SITE.contains(name) || name.as_str().starts_with(OURS) {
                continue;
            }
            let value = match *name {
                header::SET_COOKIE => self.cookie_out(value),
                header::LOCATION | header::CONTENT_LOCATION => Some(self.location_out(value)),
                _ => Some(value.clone()),
            };
            if let Some(value) = value {
                headers.append(name, value);
            }
        }
        headers.insert(PORT, HeaderValue::from(self.port));
        match protocol {
            Protocol::Http => {
                headers.append(header::CONTENT_SECURITY_POLICY, NO_ORIGIN);
            }
            Protocol::WebSocket => {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            }
        }
        headers
    }

    /// A cookie that is this port's alone; none where it cannot be read.
    fn cookie_out(&self, value: &HeaderValue) -> Option<HeaderValue> {
        let mut parts = value.to_str().ok()?.split(';').map(str::trim);
        let mut cookie = format!("{}{}", self.cookie_prefix(), parts.next()?);
        let mut path = "/";
        for attribute in parts {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "domain" => {}
                "path" if value.starts_with('/') => path = value,
                "path" => {}
                _ => {
                    cookie.push_str("; ");
                    cookie.push_str(attribute);
                }
            }
        }
        HeaderValue::try_from(format!("{cookie}; Path={}{path}", self.prefix())).ok()
    }

    /// A reference to the port's own root leads to where its paths are here.
    fn location_out(&self, value: &HeaderValue) -> HeaderValue {
        let outside = value.to_str().ok().and_then(|text| {
            let path = ["localhost", "127.0.0.1", "[::1]"]
                .iter()
                .find_map(|host| text.strip_prefix(&format!("http://{host}:{}", self.port)))
                .unwrap_or(text);
            // Two slashes begin the name of another host.
            let own = path.is_empty() || (path.starts_with('/') && !path.starts_with("//"));
            own.then(|| HeaderValue::try_from(format!("{}{path}", self.prefix())).ok()).flatten()
        });
        outside.unwrap_or_else(|| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    fn place() -> Place {
        Place { sandbox: "sb.1".parse().unwrap(), port: 8000 }
    }

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        list.iter().map(pair).collect()
    }

    fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_is_of_one_connection_goes_no_further_and_neither_does_the_key() {
        let given = headers(&[
            ("host", "node:8700"),
            ("authorization", "Bearer hh_secret"),
            ("hothouse-authorization", "Basic app"),
            ("hothouse-wait-s", "1"),
            ("connection", "keep-alive, X-Mine"),
            ("keep-alive", "timeout=5"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("proxy-anything", "1"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("accept", "a"),
            ("accept", "b"),
            ("content-length", "5"),
        ]);
        let sent = place().request(&given, Protocol::of(&given));
        let mut names: Vec<&str> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept",
                "authorization",
                "connection",
                "content-length",
                "host",
                "x-forwarded-host",
                "x-forwarded-prefix"
            ]
        );
        assert_eq!(values(&sent, "accept"), ["a", "b"]);
        assert_eq!(values(&sent, "authorization"), ["Basic app"]);
        assert_eq!(values(&sent, "host"), ["localhost:8000"]);
        assert_eq!(values(&sent, "connection"), ["close"]);
        assert_eq!(values(&sent, "x-forwarded-host"), ["node:8700"]);
        assert_eq!(values(&sent, "x-forwarded-prefix"), ["/v1/sandboxes/sb.1/ports/8000"]);
    }

    #[test]
    fn only_a_websocket_is_upgraded() {
        let given = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-key", "k"),
        ]);
        assert_eq!(Protocol::of(&given), Protocol::WebSocket);
        let sent = place().request(&given, Protocol::WebSocket);
        assert_eq!(
            (values(&sent, "upgrade"), values(&sent, "connection")),
            (vec!["websocket".to_owned()], vec!["upgrade".to_owned()])
        );
        assert_eq!(values(&sent, "sec-websocket-key"), ["k"]);
        for other in [&[("connection", "upgrade"), ("upgrade", "h2c")][..], &[("upgrade", "websocket")]] {
            assert_eq!(Protocol::of(&headers(other)), Protocol::Http);
        }
    }

    #[test]
    fn cookies_are_those_of_the_port_alone() {
        let given = headers(&[
            ("cookie", "other=1; hothouse~sb.1~8000~mine=2; hothouse~sb.1~80~no=3"),
            ("cookie", "hothouse~sb.1~8000~also=a=b; hothouse~sb~1~8000~no=4"),
        ]);
        assert_eq!(values(&place().request(&given, Protocol::Http), "cookie"), ["mine=2; also=a=b"]);
        let none = headers(&[("cookie", "session=of-another-program")]);
        assert!(place().request(&none, Protocol::Http).get("cookie").is_none());
    }

    #[test_case("a=b" => "hothouse~sb.1~8000~a=b; Path=/v1/sandboxes/sb.1/ports/8000/")]
    #[test_case("a=b; Path=/app; HttpOnly" => "hothouse~sb.1~8000~a=b; HttpOnly; Path=/v1/sandboxes/sb.1/ports/8000/app")]
    #[test_case("a=b;domain=node;PATH=x; Max-Age=5" => "hothouse~sb.1~8000~a=b; Max-Age=5; Path=/v1/sandboxes/sb.1/ports/8000/")]
    fn cookies_on_their_way_out(text: &str) -> String {
        place().cookie_out(&HeaderValue::try_from(text).unwrap()).unwrap().to_str().unwrap().to_owned()
    }

    #[test_case("/a?b" => "/v1/sandboxes/sb.1/ports/8000/a?b"; "root")]
    #[test_case("http://localhost:8000/a" => "/v1/sandboxes/sb.1/ports/8000/a"; "by name")]
    #[test_case("http://127.0.0.1:8000" => "/v1/sandboxes/sb.1/ports/8000"; "by number")]
    #[test_case("http://localhost:80001/a" => "http://localhost:80001/a"; "another port")]
    #[test_case("next" => "next"; "relative")]
    #[test_case("//evil/a" => "//evil/a"; "another host")]
    #[test_case("https://example.org/" => "https://example.org/"; "another site")]
    fn locations(text: &str) -> String {
        place().location_out(&HeaderValue::try_from(text).unwrap()).to_str().unwrap().to_owned()
    }

    #[test]
    fn an_answer_speaks_for_nobody_but_itself() {
        let given = headers(&[
            ("content-type", "text/html"),
            ("content-security-policy", "default-src *"),
            ("strict-transport-security", "max-age=1"),
            ("clear-site-data", "\"*\""),
            ("service-worker-allowed", "/"),
            ("hothouse-port", "1"),
            ("hothouse-size", "1"),
            ("connection", "close"),
            ("content-length", "3"),
        ]);
        let sent = place().answer(&given, Protocol::Http);
        let mut names: Vec<&str> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "content-security-policy", "content-type", "hothouse-port"]);
        assert_eq!(values(&sent, "hothouse-port"), ["8000"]);
        assert_eq!(values(&sent, "content-security-policy"), ["default-src *", "sandbox allow-scripts"]);
    }
}
