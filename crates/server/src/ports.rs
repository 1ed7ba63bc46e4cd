//! HTTP and WebSockets to what listens on a port of a sandbox.
//!
//! One connection into the sandbox for each request, which ends with it. Bodies flow both ways as they come: neither is
//! kept, and a slow reader slows the writer down. Nothing that listens in a sandbox can make this server wait for longer
//! than the client asked for, or hold more of it than one stream's credit.

mod forbearing;
mod headers;
mod line;

use std::error::Error;
use std::ops::RangeInclusive;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, Version};
use axum::response::{IntoResponse, Response};
use hothouse_domain::{ErrorCode, Problem, SandboxId};
use hothouse_sandbox::{DialTarget, SandboxError};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::app::{App, StreamPermit};
use crate::auth::Caller;
use crate::body::{Content, Fault};
use crate::problem::Refusal;
use crate::target::{AtPort, InSandbox};
use headers::{Place, Protocol};
use line::{Answer, Line};

/// Seconds to wait until something listens on the port.
const WAIT: &str = "Hothouse-Wait-S";
/// Seconds until the answer has to begin.
const TIMEOUT: &str = "Hothouse-Timeout-S";
const WAITS: RangeInclusive<f64> = 0.0..=600.0;
const TIMEOUTS: RangeInclusive<f64> = 0.001..=86_400.0;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes of a WebSocket that are on their way in each direction.
const PIECE: usize = 64 << 10;

/// How patient a request is.
pub(crate) struct Times {
    wait: Duration,
    timeout: Duration,
}

impl FromRequestParts<App> for Times {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Refusal> {
        Ok(Self {
            wait: seconds(&parts.headers, WAIT, WAITS)?.unwrap_or_default(),
            timeout: seconds(&parts.headers, TIMEOUT, TIMEOUTS)?.unwrap_or(DEFAULT_TIMEOUT),
        })
    }
}

fn seconds(headers: &HeaderMap, name: &str, range: RangeInclusive<f64>) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse::<f64>().ok());
    match number.filter(|number| range.contains(number)) {
        Some(number) => Ok(Some(Duration::from_secs_f64(number))),
        None => {
            let reason = format!("is no number of seconds from {} to {}", range.start(), range.end());
            Err(Refusal::field(name, reason))
        }
    }
}

/// A request for what listens on a TCP port of the sandbox's loopback, with any method; a WebSocket too. Path, query, body
/// and headers go in and the answer comes out as they are, but for what belongs to a connection; `Authorization` is this
/// server's, `Hothouse-Authorization` goes in as that. An answer of what listens has a header `Hothouse-Port`; one without
/// is a problem document of this server: `not_listening` (502) where nothing listens, `connection_broken` (502) where what
/// listens gives no answer in HTTP/1.1 or breaks off, `timed_out` (504) where it takes too long. Pages get an origin of
/// nobody's: this is for programs, not for browsers.
#[utoipa::path(method(get, post, put, patch, delete, head, options), operation_id = "port", tag = "ports",
    path = "/v1/sandboxes/{sandbox_id}/ports/{port}/{path}",
    params(
        ("sandbox_id" = SandboxId, Path),
        ("port" = u16, Path, description = "1 to 65535"),
        ("path" = String, Path, description = "Path for what listens; may have slashes, and may be empty"),
        ("Hothouse-Wait-S" = Option<f64>, Header, description = "Wait so many seconds until something listens there; 0 when absent, at most 600"),
        ("Hothouse-Timeout-S" = Option<f64>, Header, description = "The answer has to begin within so many seconds; 300 when absent, at most 86400"),
        ("Hothouse-Authorization" = Option<String>, Header, description = "`Authorization` for what listens"),
    ), responses(
    (status = 200, description = "Whatever was answered, with its own status", body = Vec<u8>, content_type = "*/*", headers(
        ("Hothouse-Port" = u16, description = "The port whose answer this is"))),
    (status = 101, description = "A WebSocket is open"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn forward(
    State(app): State<App>,
    caller: Caller,
    InSandbox(sandbox): InSandbox,
    AtPort(port): AtPort,
    times: Times,
    mut request: Request,
) -> Result<Response, Refusal> {
    let permit = app.stream_permit()?;
    let place = Place { sandbox: sandbox.id().clone(), port };
    let protocol = Protocol::of(request.headers());
    let upgrade = (protocol == Protocol::WebSocket).then(|| hyper::upgrade::on(&mut request));
    let (request, fault) = inward(&app, &place, protocol, request)?;
    let stream = sandbox.dial(&DialTarget::Port(port), times.wait).await?;
    let failed = |error: hyper::Error| fault.or(failure(port, &error));
    let (mut sender, mut line) = Line::open(stream).await.map_err(failed)?;
    let answer = timeout(times.timeout, line.ask(&mut sender, request)).await;
    let mut answer = match answer {
        Ok(answer) => answer.map_err(failed)?,
        Err(_elapsed) => return Err(fault.or(too_slow(port, times.timeout))),
    };
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let headers = place.answer(answer.headers(), Protocol::Http);
        let (parts, body) = answer.into_parts();
        let mut response = Response::new(Body::new(Answer { line, body, _permit: permit }));
        *response.status_mut() = parts.status;
        *response.headers_mut() = headers;
        return Ok(response);
    }
    let Some(outside) = upgrade else {
        let detail = format!("port {port}: what listens there changed the protocol, which nobody asked for");
        return Err(Refusal::new(ErrorCode::ConnectionBroken, detail));
    };
    let headers = place.answer(answer.headers(), Protocol::WebSocket);
    let inside = hyper::upgrade::on(&mut answer);
    let carried = Carried {
        line,
        outside,
        inside,
        revoked: caller.revoked,
        draining: app.draining.clone(),
        _permit: permit,
    };
    app.terminals.spawn(carried.run(place));
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    *response.headers_mut() = headers;
    Ok(response)
}

/// The request as it goes in.
fn inward(
    app: &App,
    place: &Place,
    protocol: Protocol,
    request: Request,
) -> Result<(axum::http::Request<Body>, Fault), Refusal> {
    let (parts, body) = request.into_parts();
    let (body, fault) = if axum::body::HttpBody::is_end_stream(&body) {
        (Body::empty(), Fault::default())
    } else {
        let (content, fault) = Content::new(body, app.limits.file_bytes, app)?;
        (Body::from_stream(content), fault)
    };
    let mut inward = axum::http::Request::new(body);
    *inward.method_mut() = parts.method;
    *inward.uri_mut() = own_path(&parts.uri)?;
    *inward.version_mut() = Version::HTTP_11;
    *inward.headers_mut() = place.request(&parts.headers, protocol);
    Ok((inward, fault))
}

/// What follows the port in a path, as it was sent: what it means is for the one who listens to say.
fn own_path(uri: &Uri) -> Result<Uri, Refusal> {
    let whole = uri.path_and_query().map_or("/", |whole| whole.as_str());
    // Before it: "", v1, sandboxes, the id, ports, the port.
    let own = match whole.match_indices('/').nth(5) {
        Some((at, _)) => whole[at..].to_owned(),
        None => format!("/{}", uri.query().map(|query| format!("?{query}")).unwrap_or_default()),
    };
    own.parse().map_err(|_| Refusal::field("path", "is none that a request can carry"))
}

/// Why there is no answer.
fn failure(port: u16, error: &hyper::Error) -> Refusal {
    let mut source: Option<&dyn Error> = error.source();
    while let Some(cause) = source {
        // The stream's own reason: the sandbox is dead, or the other end broke the connection off.
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<SandboxError>()) {
            return error.problem().into();
        }
        source = cause.source();
    }
    let what = if error.is_parse() || error.is_parse_too_large() {
        format!("what listens there did not answer in HTTP/1.1: {error}")
    } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        "what listens there closed the connection before it answered".to_owned()
    } else {
        format!("the connection broke: {error}")
    };
    Refusal::new(ErrorCode::ConnectionBroken, format!("port {port}: {what}"))
}

fn too_slow(port: u16, limit: Duration) -> Refusal {
    let detail = format!(
        "port {port}: what listens there has not begun to answer within {} s; ask for more with Hothouse-Timeout-S",
        limit.as_secs_f64()
    );
    Refusal::new(ErrorCode::TimedOut, detail)
}

/// A WebSocket between a client and what listens.
struct Carried {
    line: Line,
    outside: OnUpgrade,
    inside: OnUpgrade,
    revoked: CancellationToken,
    draining: CancellationToken,
    _permit: StreamPermit,
}

impl Carried {
    /// Moves bytes until one side ends, the key is taken away or the server goes down.
    async fn run(self, place: Place) {
        let Self { line, outside, inside, revoked, draining, _permit } = self;
        let carried = async {
            line.end().await?;
            let (outside, inside) = tokio::try_join!(outside, inside)?;
            let (mut outside, mut inside) = (TokioIo::new(outside), TokioIo::new(inside));
            copy_bidirectional_with_sizes(&mut outside, &mut inside, PIECE, PIECE).await?;
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        };
        let ended = tokio::select! {
            ended = carried => ended,
            () = revoked.cancelled() => Ok(()),
            () = draining.cancelled() => Ok(()),
        };
        if let Err(error) = ended {
            tracing::debug!(sandbox = %place.sandbox, port = place.port, %error, "a WebSocket broke");
        }
    }
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    #[test_case("/v1/sandboxes/a/ports/80/" => "/"; "root")]
    #[test_case("/v1/sandboxes/a/ports/80" => "/"; "no slash")]
    #[test_case("/v1/sandboxes/a/ports/80?q=1" => "/?q=1"; "no slash and a query")]
    #[test_case("/v1/sandboxes/a/ports/80/x/../y%2F%2e?q=%41/b" => "/x/../y%2F%2e?q=%41/b"; "as it was sent")]
    #[test_case("/v1/sandboxes/a/ports/80//evil/x" => "//evil/x"; "two slashes")]
    fn paths(uri: &str) -> String {
        own_path(&uri.parse().unwrap()).unwrap().to_string()
    }
}
