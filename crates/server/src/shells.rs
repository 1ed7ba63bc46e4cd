//! Shell sessions.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hothouse_domain::shell::{ShellCommand, ShellInfo, ShellSpec};
use hothouse_domain::{ExecResult, Problem, SandboxId, ShellId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{JsonBody, OptionalJsonBody};
use crate::execs::wants_events;
use crate::problem::{Refusal, json_response};
use crate::query::Query;
use crate::streams::{self, Offsets};
use crate::target::{AtShell, InSandbox};

/// The open shell sessions of a sandbox.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShellList {
    items: Vec<ShellInfo>,
}

/// Open a shell session. An empty body means the default one.
#[utoipa::path(post, operation_id = "shell_open", path = "/v1/sandboxes/{sandbox_id}/shells", tag = "shells", request_body = Option<ShellSpec>,
    params(("sandbox_id" = SandboxId, Path)), responses(
    (status = 201, description = "Open", body = ShellInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn open(
    InSandbox(sandbox): InSandbox,
    query: Query,
    OptionalJsonBody(spec): OptionalJsonBody<ShellSpec>,
) -> Result<Response, Refusal> {
    query.finish()?;
    spec.validate()?;
    Ok(json_response(StatusCode::CREATED, &sandbox.shell_open(spec).await?))
}

/// The open shell sessions.
#[utoipa::path(get, operation_id = "shell_list", path = "/v1/sandboxes/{sandbox_id}/shells", tag = "shells",
    params(("sandbox_id" = SandboxId, Path)), responses(
    (status = 200, body = ShellList),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(InSandbox(sandbox): InSandbox, query: Query) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &ShellList { items: sandbox.shells().await? }))
}

/// Run a command in a shell session; buffered or as server-sent events, as for an exec.
#[utoipa::path(post, operation_id = "shell_run", path = "/v1/sandboxes/{sandbox_id}/shells/{shell_id}/run", tag = "shells",
    request_body = ShellCommand, params(
        ("sandbox_id" = SandboxId, Path),
        ("shell_id" = ShellId, Path),
        ("stream" = Option<bool>, Query, description = "Answer with server-sent events, as `Accept: text/event-stream` does"),
    ), responses(
    (status = 200, description = "It has ended; `exited` carries the shell's `$?`", content(
        (ExecResult = "application/json"), (String = "text/event-stream"))),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn run(
    State(app): State<App>,
    InSandbox(sandbox): InSandbox,
    AtShell(shell_id): AtShell,
    mut query: Query,
    headers: HeaderMap,
    JsonBody(command): JsonBody<ShellCommand>,
) -> Result<Response, Refusal> {
    let events = wants_events(&mut query, &headers)?;
    query.finish()?;
    command.validate()?;
    if events {
        let permit = app.stream_permit()?;
        let stream = sandbox.shell_stream(&shell_id, command).await?;
        return Ok(streams::follow(&app, permit, stream, Offsets::default()));
    }
    let result = sandbox.shell_run(&shell_id, command).await?;
    app.metrics.exec(&result);
    Ok(json_response(StatusCode::OK, &result))
}

/// Interrupt the command that a shell session runs.
#[utoipa::path(post, operation_id = "shell_interrupt", path = "/v1/sandboxes/{sandbox_id}/shells/{shell_id}/interrupt", tag = "shells",
    params(("sandbox_id" = SandboxId, Path), ("shell_id" = ShellId, Path)), responses(
    (status = 204, description = "Interrupted"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn interrupt(
    InSandbox(sandbox): InSandbox,
    AtShell(shell_id): AtShell,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    sandbox.shell_interrupt(&shell_id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// End a shell session.
#[utoipa::path(delete, operation_id = "shell_close", path = "/v1/sandboxes/{sandbox_id}/shells/{shell_id}", tag = "shells",
    params(("sandbox_id" = SandboxId, Path), ("shell_id" = ShellId, Path)), responses(
    (status = 204, description = "Ended"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn close(
    InSandbox(sandbox): InSandbox,
    AtShell(shell_id): AtShell,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    sandbox.shell_close(&shell_id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
