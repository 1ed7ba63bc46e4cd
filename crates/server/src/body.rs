//! Bodies of requests: JSON that names the field it breaks on, and content that flows into a sandbox.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use hothouse_domain::ErrorCode;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::app::App;
use crate::problem::Refusal;

/// A JSON body. Its media type must be JSON, so that a web page cannot send one without asking the browser.
pub(crate) struct JsonBody<T>(pub(crate) T);

/// A JSON body that may be left out, which means the default.
pub(crate) struct OptionalJsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for JsonBody<T> {
    type Rejection = Refusal;
    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        check_json(request.headers())?;
        let bytes = collect(request.into_body(), app).await?;
        from_json(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned + Default> FromRequest<App> for OptionalJsonBody<T> {
    type Rejection = Refusal;
    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        JsonBody::from_request(request, app).await.map(|JsonBody(body)| Self(body))
    }
}

fn check_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    let given: String = given.chars().take(64).collect();
    Err(Refusal::new(ErrorCode::InvalidRequest, format!("Content-Type is {given:?}; send application/json"))
        .about("Content-Type")
        .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

/// Refuses a body whose announced length is over the limit.
fn check_length(body: &Body, limit: u64) -> Result<(), Refusal> {
    match body.size_hint().lower() {
        length if length > limit => Err(too_large(limit)),
        _ => Ok(()),
    }
}

fn too_large(limit: u64) -> Refusal {
    Refusal::new(ErrorCode::TooLarge, format!("the body has more than {limit} bytes, the limit here"))
        .about("body")
}

fn too_slow(limit: Duration) -> Refusal {
    Refusal::new(ErrorCode::TimedOut, format!("no more of the body came for {} s", limit.as_secs()))
        .about("body")
        .with_status(StatusCode::REQUEST_TIMEOUT)
}

async fn collect(body: Body, app: &App) -> Result<Bytes, Refusal> {
    let limit = app.limits.json_bytes;
    check_length(&body, limit as u64)?;
    let mut chunks = body.into_data_stream();
    let whole = async {
        // The usual body comes as one chunk, which is taken as it is.
        let Some(first) = chunks.next().await.transpose().map_err(broken)? else { return Ok(Bytes::new()) };
        if first.len() > limit {
            return Err(too_large(limit as u64));
        }
        let Some(second) = chunks.next().await.transpose().map_err(broken)? else { return Ok(first) };
        let mut all = BytesMut::from(first);
        let mut next = Some(second);
        while let Some(chunk) = next {
            if all.len() + chunk.len() > limit {
                return Err(too_large(limit as u64));
            }
            all.extend_from_slice(&chunk);
            next = chunks.next().await.transpose().map_err(broken)?;
        }
        Ok(all.freeze())
    };
    match timeout(app.limits.body_timeout, whole).await {
        Ok(result) => result,
        Err(_elapsed) => Err(too_slow(app.limits.body_timeout)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is the argument of map_err")]
fn broken(error: axum::Error) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, format!("the body broke off: {error}")).about("body")
}

/// Reads JSON; what does not fit is named by its path, what is no JSON by line and column.
pub(crate) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    // The path is tracked only once it is known that something is wrong: the tracking costs more than the parsing.
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    match serde_json::from_slice(bytes) {
        // serde would take a list as an object's values in order.
        Ok(_) if first != Some(&b'{') => {
            Err(Refusal::new(ErrorCode::InvalidRequest, "the body does not fit: it is not an object")
                .about("body"))
        }
        Ok(body) => Ok(body),
        Err(plain) => {
            let mut reader = serde_json::Deserializer::from_slice(bytes);
            let tracked: Result<T, _> = serde_path_to_error::deserialize(&mut reader);
            Err(match tracked {
                Err(error) => json_refusal(&error.path().to_string(), error.inner()),
                // A whole value, and then something after it.
                Ok(_) => json_refusal(".", &plain),
            })
        }
    }
}

fn json_refusal(path: &str, error: &serde_json::Error) -> Refusal {
    if error.is_data() {
        let text = error.to_string();
        // serde ends its sentence with the position, which says little once the field has a name.
        let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
        let field = field_name(path, reason);
        let reason = reason.strip_prefix(field.as_str()).map_or(reason, str::trim_start);
        let detail = match reason {
            _ if field == "body" => format!("the body does not fit: {reason}"),
            _ if reason.starts_with("is ") || reason.starts_with("has ") => format!("{field} {reason}"),
            _ => format!("{field}: {reason}"),
        };
        return Refusal::new(ErrorCode::InvalidRequest, detail).about(field);
    }
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    let detail = format!("the body is not JSON: {reason} at line {line}, column {column}");
    Refusal::new(ErrorCode::InvalidRequest, detail).about("body")
}

/// The field that a path and serde's sentence name: for unknown and missing fields the path ends one step early.
fn field_name(path: &str, reason: &str) -> String {
    let quoted = ["unknown field `", "missing field `", "duplicate field `"]
        .iter()
        .find_map(|start| reason.strip_prefix(start))
        .and_then(|rest| rest.split('`').next());
    let last = path.rsplit('.').next().unwrap_or_default();
    match (path, quoted) {
        ("." | "", Some(name)) => name.to_owned(),
        ("." | "", None) => "body".to_owned(),
        (path, Some(name)) if last != name => format!("{path}.{name}"),
        (path, _) => path.to_owned(),
    }
}

/// Content on its way into a sandbox: bounded in size, and in the pauses that it may make.
pub(crate) struct Content {
    chunks: BodyDataStream,
    left: u64,
    limit: u64,
    pause: Duration,
    pause_over: Pin<Box<Sleep>>,
    fault: Fault,
}

/// Why content broke off, for the handler: the sandbox only learns that it did.
#[derive(Clone, Default)]
pub(crate) struct Fault(Arc<OnceLock<Problem>>);

#[derive(Clone, Copy)]
enum Problem {
    TooLarge(u64),
    TooSlow(Duration),
    Broken,
}

impl Fault {
    /// The reason why the content broke off, or else the sandbox's own reason.
    pub(crate) fn or(&self, other: impl Into<Refusal>) -> Refusal {
        match self.0.get() {
            Some(Problem::TooLarge(limit)) => too_large(*limit),
            Some(Problem::TooSlow(pause)) => too_slow(*pause),
            Some(Problem::Broken) => {
                Refusal::new(ErrorCode::InvalidRequest, "the body broke off").about("body")
            }
            None => other.into(),
        }
    }
}

impl Content {
    /// The body as content of at most `limit` bytes.
    pub(crate) fn new(body: Body, limit: u64, app: &App) -> Result<(Self, Fault), Refusal> {
        check_length(&body, limit)?;
        let fault = Fault::default();
        let pause = app.limits.body_timeout;
        let content = Self {
            chunks: body.into_data_stream(),
            left: limit,
            limit,
            pause,
            pause_over: Box::pin(sleep(pause)),
            fault: fault.clone(),
        };
        Ok((content, fault))
    }

    fn fail(&self, problem: Problem, text: &'static str) -> Poll<Option<io::Result<Bytes>>> {
        // Only the first reason counts, and the stream ends with it.
        let _first = self.fault.0.set(problem);
        Poll::Ready(Some(Err(io::Error::other(text))))
    }
}

impl Stream for Content {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match self.chunks.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(chunk))) => {
                let next_pause = Instant::now() + self.pause;
                self.pause_over.as_mut().reset(next_pause);
                match self.left.checked_sub(chunk.len() as u64) {
                    Some(left) => self.left = left,
                    None => return self.fail(Problem::TooLarge(self.limit), "over the size limit"),
                }
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(_))) => self.fail(Problem::Broken, "the body broke off"),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.pause_over.as_mut().poll(context) {
                Poll::Ready(()) => self.fail(Problem::TooSlow(self.pause), "the body came too slowly"),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use hothouse_domain::{ExecSpec, SandboxSpec};
    use test_case::test_case;

    use super::*;

    fn refusal<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> (String, String) {
        let problem = from_json::<T>(text.as_bytes()).unwrap_err().0;
        assert_eq!(problem.code, ErrorCode::InvalidRequest);
        (problem.field.unwrap_or_default(), problem.detail)
    }

    #[test_case(r#"{"resources":{"cpus":"two"}}"#, "resources.cpus", "invalid type"; "wrong type")]
    #[test_case(r#"{"resources":{"cores":2}}"#, "resources.cores", "unknown field"; "unknown nested")]
    #[test_case(r#"{"imagee":"host"}"#, "imagee", "unknown field"; "unknown")]
    #[test_case(r#"{"image":"https://x"}"#, "image", "image: \"https://x\" is not known"; "image")]
    #[test_case(r#"{"id":"../etc"}"#, "id", "id has '.' at byte 0"; "id")]
    #[test_case(r#"{"env":{"A":1}}"#, "env.A", "invalid type"; "map value")]
    #[test_case(r#"{"network":"all"}"#, "network", "unknown variant"; "variant")]
    #[test_case(r#"{"resources":{"pids":-1}}"#, "resources.pids", "invalid value"; "negative")]
    #[test_case("[]", "body", "does not fit"; "not an object")]
    #[test_case("{\n \"env\": {\n }", "body", "line 3, column"; "broken off")]
    #[test_case("", "body", "line 1, column 0"; "empty")]
    #[test_case("{} {}", "body", "line 1, column 4"; "two values")]
    #[test_case(r#"{"labels":{},"labels":{}}"#, "labels", "duplicate field"; "twice")]
    fn sandbox_bodies_name_what_is_wrong(text: &str, field: &str, part: &str) {
        let (named, detail) = refusal::<SandboxSpec>(text);
        assert_eq!(named, field, "{detail}");
        assert!(detail.contains(part), "{detail}");
    }

    #[test_case(r#"{"pty":{"rows":1}}"#, "pty.cols", "missing field"; "missing nested")]
    #[test_case(r#"{"argv":["a",5]}"#, "argv[1]", "invalid type"; "list item")]
    #[test_case(r#"{"stdin_encoding":"latin"}"#, "stdin_encoding", "unknown variant"; "encoding")]
    fn exec_bodies_name_what_is_wrong(text: &str, field: &str, part: &str) {
        let (named, detail) = refusal::<ExecSpec>(text);
        assert_eq!(named, field, "{detail}");
        assert!(detail.contains(part), "{detail}");
    }
}
