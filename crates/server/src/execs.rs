//! Execs: run, look up, read output again, feed, signal, resize.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use hothouse_domain::{
    Encoding, ExecId, ExecResult, ExecSpec, ExecStatus, Problem, PtySize, SandboxId, Signal,
};
use hothouse_sandbox::OutputName;
use hothouse_sandbox::sandbox::{AfterStdin, SignalTarget};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{Content, JsonBody};
use crate::problem::{Refusal, json_response};
use crate::query::Query;
use crate::streams::{self, Offsets};
use crate::target::{AtExec, InSandbox};

/// Bytes of output in one answer when the request names no number.
const DEFAULT_OUTPUT_READ: u32 = 64 << 10;
/// The most bytes of output in one answer.
const MAX_OUTPUT_READ: u32 = 1 << 20;
/// The longest that a lookup waits for the end, in seconds.
const MAX_WAIT_S: f64 = 3600.0;
/// Where the bytes of an answer begin in the output.
const OFFSET_HEADER: HeaderName = HeaderName::from_static("hothouse-offset");
/// Bytes written so far.
const TOTAL_HEADER: HeaderName = HeaderName::from_static("hothouse-total");
/// `true` when no more will come.
const ENDED_HEADER: HeaderName = HeaderName::from_static("hothouse-ended");

/// The execs in the journal, oldest first, without output.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExecList {
    items: Vec<ExecStatus>,
}

/// A piece of kept output.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OutputPiece {
    /// Where the bytes begin: the offset asked for, or later where bytes were not kept.
    offset: u64,
    /// Bytes written so far.
    total: u64,
    /// True when no more will come after `total`.
    ended: bool,
    /// The bytes.
    data: String,
    /// How `data` is written.
    encoding: Encoding,
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// The process that the exec started.
    Leader,
    /// That process and all its descendants.
    #[default]
    Tree,
}

/// A signal to send.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignalRequest {
    /// Which.
    pub(crate) signal: Signal,
    /// To whom; the tree when absent.
    #[serde(default)]
    pub(crate) target: Target,
}

impl From<Target> for SignalTarget {
    fn from(target: Target) -> Self {
        match target {
            Target::Leader => Self::Leader,
            Target::Tree => Self::Tree,
        }
    }
}

/// True when the client asks for server-sent events, by `?stream=true` or by `Accept`.
pub(crate) fn wants_events(query: &mut Query, headers: &HeaderMap) -> Result<bool, Refusal> {
    Ok(query.switch("stream")? || accepts(headers, "text/event-stream"))
}

fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = ranges.flat_map(|value| value.split(','));
    types.any(|range| range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type))
}

/// Run a command. Answers with its result when it has ended; with `detach` as soon as it runs; as server-sent events
/// (`started`, `stdout`, `stderr`, `skipped`, `finished`, `error`) while it runs. A client that goes away ends none of
/// them: look the exec up by its id.
#[utoipa::path(post, operation_id = "exec_run", path = "/v1/sandboxes/{sandbox_id}/exec", tag = "execs", request_body = ExecSpec,
    params(
        ("sandbox_id" = SandboxId, Path),
        ("stream" = Option<bool>, Query, description = "Answer with server-sent events, as `Accept: text/event-stream` does"),
    ), responses(
    (status = 200, description = "It has ended, however it ended", content(
        (ExecResult = "application/json"), (String = "text/event-stream"))),
    (status = 202, description = "It runs detached", body = ExecStatus),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn run(
    State(app): State<App>,
    InSandbox(sandbox): InSandbox,
    mut query: Query,
    headers: HeaderMap,
    JsonBody(spec): JsonBody<ExecSpec>,
) -> Result<Response, Refusal> {
    let events = wants_events(&mut query, &headers)?;
    query.finish()?;
    spec.validate()?;
    match (events, spec.detach) {
        (false, false) => {
            let begin = Instant::now();
            let result = sandbox.exec(spec).await?;
            app.metrics.awaited_exec(&result, begin.elapsed());
            Ok(json_response(StatusCode::OK, &result))
        }
        (false, true) => Ok(json_response(StatusCode::ACCEPTED, &sandbox.exec_detached(spec).await?)),
        (true, false) => {
            let permit = app.stream_permit()?;
            let stream = sandbox.exec_stream(spec).await?;
            Ok(streams::follow(&app, permit, stream, Offsets::default()))
        }
        (true, true) => Err(Refusal::field("detach", "and a stream exclude each other; give one")),
    }
}

/// The execs that the sandbox remembers (the last 1,024), oldest first, without output.
#[utoipa::path(get, operation_id = "exec_list", path = "/v1/sandboxes/{sandbox_id}/execs", tag = "execs",
    params(("sandbox_id" = SandboxId, Path)), responses(
    (status = 200, body = ExecList),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(InSandbox(sandbox): InSandbox, query: Query) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &ExecList { items: sandbox.execs().await? }))
}

/// Look an exec up; with `wait_s` wait so long for its end.
#[utoipa::path(get, operation_id = "exec_get", path = "/v1/sandboxes/{sandbox_id}/execs/{exec_id}", tag = "execs",
    params(
        ("sandbox_id" = SandboxId, Path),
        ("exec_id" = ExecId, Path),
        ("wait_s" = Option<f64>, Query, description = "Wait for the end, at most so many seconds; 0 to 3,600"),
    ), responses(
    (status = 200, body = ExecStatus),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn get(
    State(app): State<App>,
    InSandbox(sandbox): InSandbox,
    AtExec(exec_id): AtExec,
    mut query: Query,
) -> Result<Response, Refusal> {
    let wait_s = query.number("wait_s", 0.0..=MAX_WAIT_S)?.unwrap_or(0.0);
    query.finish()?;
    if wait_s > 0.0 {
        tokio::select! {
            () = app.draining.cancelled() => {}
            () = tokio::time::sleep(Duration::from_secs_f64(wait_s)) => {}
            ended = sandbox.wait_exec(&exec_id) => { ended?; }
        }
    }
    Ok(json_response(StatusCode::OK, &sandbox.exec_status(&exec_id).await?))
}

/// Read kept output of a running or finished exec from a byte offset. The bytes themselves with the headers
/// `Hothouse-Offset`, `Hothouse-Total` and `Hothouse-Ended`, or JSON when `Accept` asks for it.
#[utoipa::path(get, operation_id = "exec_output", path = "/v1/sandboxes/{sandbox_id}/execs/{exec_id}/output", tag = "execs",
    params(
        ("sandbox_id" = SandboxId, Path),
        ("exec_id" = ExecId, Path),
        ("stream" = Option<String>, Query, description = "`stdout` (when absent) or `stderr`"),
        ("offset" = Option<u64>, Query, description = "First byte; 0 when absent"),
        ("max" = Option<u32>, Query, description = "At most so many bytes; 1 to 1,048,576, 65,536 when absent"),
    ), responses(
    (status = 200, content((Vec<u8> = "application/octet-stream"), (OutputPiece = "application/json")), headers(
        ("Hothouse-Offset" = u64, description = "Where the bytes begin"),
        ("Hothouse-Total" = u64, description = "Bytes written so far"),
        ("Hothouse-Ended" = bool, description = "No more will come"))),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn output(
    InSandbox(sandbox): InSandbox,
    AtExec(exec_id): AtExec,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let name = match query.take("stream")?.as_deref() {
        None | Some("stdout") => OutputName::Stdout,
        Some("stderr") => OutputName::Stderr,
        Some(_) => return Err(Refusal::field("stream", "is neither stdout nor stderr")),
    };
    let offset = query.number("offset", 0..=u64::MAX)?.unwrap_or(0);
    let max = query.number("max", 1..=MAX_OUTPUT_READ)?.unwrap_or(DEFAULT_OUTPUT_READ);
    query.finish()?;
    let chunk = sandbox.read_output(&exec_id, name, offset, max).await?;
    if accepts(&headers, "application/json") {
        let (data, encoding) = streams::text_or_base64(&chunk.bytes);
        let piece =
            OutputPiece { offset: chunk.offset, total: chunk.total, ended: chunk.ended, data, encoding };
        return Ok(json_response(StatusCode::OK, &piece));
    }
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (OFFSET_HEADER, chunk.offset.into()),
        (TOTAL_HEADER, chunk.total.into()),
        (ENDED_HEADER, HeaderValue::from_static(if chunk.ended { "true" } else { "false" })),
    ];
    Ok((headers, Body::from(chunk.bytes)).into_response())
}

/// Follow an exec as server-sent events, from byte offsets in its outputs. `Last-Event-ID` goes on where a broken
/// connection ended.
#[utoipa::path(get, operation_id = "exec_stream", path = "/v1/sandboxes/{sandbox_id}/execs/{exec_id}/stream", tag = "execs",
    params(
        ("sandbox_id" = SandboxId, Path),
        ("exec_id" = ExecId, Path),
        ("stdout_from" = Option<u64>, Query, description = "First byte of standard output; 0 when absent"),
        ("stderr_from" = Option<u64>, Query, description = "First byte of standard error; 0 when absent"),
        ("Last-Event-ID" = Option<String>, Header, description = "`id` of the last event that came; wins over the offsets"),
    ), responses(
    (status = 200, description = "Events", content_type = "text/event-stream", body = String),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn stream(
    State(app): State<App>,
    InSandbox(sandbox): InSandbox,
    AtExec(exec_id): AtExec,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let asked = Offsets {
        stdout: query.number("stdout_from", 0..=u64::MAX)?.unwrap_or(0),
        stderr: query.number("stderr_from", 0..=u64::MAX)?.unwrap_or(0),
    };
    query.finish()?;
    let from = Offsets::resumed(&headers)?.unwrap_or(asked);
    let permit = app.stream_permit()?;
    let stream = sandbox.attach(&exec_id, from.stdout, from.stderr).await?;
    Ok(streams::follow(&app, permit, stream, from))
}

/// Feed an exec's standard input with the bytes of the body; answers when all are in its pipe.
#[utoipa::path(post, operation_id = "exec_stdin", path = "/v1/sandboxes/{sandbox_id}/execs/{exec_id}/stdin", tag = "execs",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    params(
        ("sandbox_id" = SandboxId, Path),
        ("exec_id" = ExecId, Path),
        ("close" = Option<bool>, Query, description = "End standard input after these bytes"),
    ), responses(
    (status = 204, description = "All in its pipe"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn stdin(
    State(app): State<App>,
    InSandbox(sandbox): InSandbox,
    AtExec(exec_id): AtExec,
    mut query: Query,
    request: Request,
) -> Result<Response, Refusal> {
    let close = query.switch("close")?;
    query.finish()?;
    let (mut content, fault) = Content::new(request.into_body(), app.limits.file_bytes, &app)?;
    let mut wrote = false;
    while let Some(chunk) = content.next().await {
        let chunk = chunk.map_err(|error| fault.or(Refusal::field("body", error.to_string())))?;
        sandbox.write_stdin(&exec_id, chunk, AfterStdin::KeepOpen).await?;
        wrote = true;
    }
    // Without a byte and without close there is nothing to do, but the exec must still be one that takes input.
    if close || !wrote {
        let after = if close { AfterStdin::Close } else { AfterStdin::KeepOpen };
        sandbox.write_stdin(&exec_id, Bytes::new(), after).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Send a signal to an exec.
#[utoipa::path(post, operation_id = "exec_signal", path = "/v1/sandboxes/{sandbox_id}/execs/{exec_id}/signal", tag = "execs",
    request_body = SignalRequest, params(("sandbox_id" = SandboxId, Path), ("exec_id" = ExecId, Path)), responses(
    (status = 204, description = "Sent"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn signal(
    InSandbox(sandbox): InSandbox,
    AtExec(exec_id): AtExec,
    query: Query,
    JsonBody(request): JsonBody<SignalRequest>,
) -> Result<Response, Refusal> {
    query.finish()?;
    sandbox.signal(&exec_id, request.signal.number(), request.target.into()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Change the size of an exec's terminal.
#[utoipa::path(post, operation_id = "exec_resize", path = "/v1/sandboxes/{sandbox_id}/execs/{exec_id}/resize", tag = "execs",
    request_body = PtySize, params(("sandbox_id" = SandboxId, Path), ("exec_id" = ExecId, Path)), responses(
    (status = 204, description = "Changed"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn resize(
    InSandbox(sandbox): InSandbox,
    AtExec(exec_id): AtExec,
    query: Query,
    JsonBody(size): JsonBody<PtySize>,
) -> Result<Response, Refusal> {
    query.finish()?;
    check_size(size, "")?;
    sandbox.resize(&exec_id, size).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Checks a terminal's size; the domain names its fields as those of an exec.
pub(crate) fn check_size(size: PtySize, parent: &str) -> Result<(), Refusal> {
    size.validate().map_err(|mut invalid| {
        if let Some(name) = invalid.field.strip_prefix("pty.") {
            invalid.field = format!("{parent}{name}");
        }
        invalid.into()
    })
}
