//! Contexts: live interpreters.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hothouse_domain::{
    ContextCode, ContextForkSpec, ContextId, ContextInfo, ContextSpec, ExecResult, Problem, SandboxId,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{JsonBody, OptionalJsonBody};
use crate::execs::wants_events;
use crate::problem::{Refusal, json_response};
use crate::query::Query;
use crate::streams::{self, Offsets};
use crate::target::{AtContext, InSandbox};

/// The contexts of a sandbox.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ContextList {
    items: Vec<ContextInfo>,
}

/// Open a context: a live Python interpreter that keeps its variables. An empty body means the default one.
#[utoipa::path(post, operation_id = "context_open", path = "/v1/sandboxes/{sandbox_id}/contexts", tag = "contexts", request_body = Option<ContextSpec>,
    params(("sandbox_id" = SandboxId, Path)), responses(
    (status = 201, description = "Open", body = ContextInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn open(
    InSandbox(sandbox): InSandbox,
    query: Query,
    OptionalJsonBody(spec): OptionalJsonBody<ContextSpec>,
) -> Result<Response, Refusal> {
    query.finish()?;
    spec.validate()?;
    Ok(json_response(StatusCode::CREATED, &sandbox.context_open(spec).await?))
}

/// The contexts, oldest first; one that has ended is among them until it is deleted.
#[utoipa::path(get, operation_id = "context_list", path = "/v1/sandboxes/{sandbox_id}/contexts", tag = "contexts",
    params(("sandbox_id" = SandboxId, Path)), responses(
    (status = 200, body = ContextList),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(InSandbox(sandbox): InSandbox, query: Query) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &ContextList { items: sandbox.contexts().await? }))
}

/// One context.
#[utoipa::path(get, operation_id = "context_get", path = "/v1/sandboxes/{sandbox_id}/contexts/{context_id}", tag = "contexts",
    params(("sandbox_id" = SandboxId, Path), ("context_id" = ContextId, Path)), responses(
    (status = 200, body = ContextInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn get(
    InSandbox(sandbox): InSandbox,
    AtContext(context_id): AtContext,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &sandbox.context(&context_id).await?))
}

/// Run code in a context; buffered or as server-sent events, as for an exec. The result says what the last expression
/// came to (`value`), or which exception ended the code (`error`).
#[utoipa::path(post, operation_id = "context_run", path = "/v1/sandboxes/{sandbox_id}/contexts/{context_id}/run", tag = "contexts",
    request_body = ContextCode, params(
        ("sandbox_id" = SandboxId, Path),
        ("context_id" = ContextId, Path),
        ("stream" = Option<bool>, Query, description = "Answer with server-sent events, as `Accept: text/event-stream` does"),
    ), responses(
    (status = 200, description = "It has ended, however it ended", content(
        (ExecResult = "application/json"), (String = "text/event-stream"))),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn run(
    State(app): State<App>,
    InSandbox(sandbox): InSandbox,
    AtContext(context_id): AtContext,
    mut query: Query,
    headers: HeaderMap,
    JsonBody(code): JsonBody<ContextCode>,
) -> Result<Response, Refusal> {
    let events = wants_events(&mut query, &headers)?;
    query.finish()?;
    code.validate()?;
    if events {
        let permit = app.stream_permit()?;
        let stream = sandbox.context_stream(&context_id, code).await?;
        return Ok(streams::follow(&app, permit, stream, Offsets::default()));
    }
    let result = sandbox.context_run(&context_id, code).await?;
    app.metrics.exec(&result);
    Ok(json_response(StatusCode::OK, &result))
}

/// Interrupt the code that a context runs: a `KeyboardInterrupt` in it.
#[utoipa::path(post, operation_id = "context_interrupt", path = "/v1/sandboxes/{sandbox_id}/contexts/{context_id}/interrupt", tag = "contexts",
    params(("sandbox_id" = SandboxId, Path), ("context_id" = ContextId, Path)), responses(
    (status = 204, description = "Interrupted"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn interrupt(
    InSandbox(sandbox): InSandbox,
    AtContext(context_id): AtContext,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    sandbox.context_interrupt(&context_id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// End a context's interpreter, whatever it does, and start a fresh one in its place on the same terms.
#[utoipa::path(post, operation_id = "context_reset", path = "/v1/sandboxes/{sandbox_id}/contexts/{context_id}/reset", tag = "contexts",
    params(("sandbox_id" = SandboxId, Path), ("context_id" = ContextId, Path)), responses(
    (status = 200, description = "A fresh one", body = ContextInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn reset(
    InSandbox(sandbox): InSandbox,
    AtContext(context_id): AtContext,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &sandbox.context_reset(&context_id).await?))
}

/// Fork a context that runs nothing: each fork begins with all its variables, has offsets of its own in its open files and
/// random numbers of its own, and shares nothing with it from then on. Threads do not come along. All forks are made or
/// none.
#[utoipa::path(post, operation_id = "context_fork", path = "/v1/sandboxes/{sandbox_id}/contexts/{context_id}/fork", tag = "contexts",
    request_body = Option<ContextForkSpec>,
    params(("sandbox_id" = SandboxId, Path), ("context_id" = ContextId, Path)), responses(
    (status = 201, description = "The forks, in order", body = ContextList),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn fork(
    InSandbox(sandbox): InSandbox,
    AtContext(context_id): AtContext,
    query: Query,
    OptionalJsonBody(spec): OptionalJsonBody<ContextForkSpec>,
) -> Result<Response, Refusal> {
    query.finish()?;
    spec.validate()?;
    let items = sandbox.context_fork(&context_id, spec).await?;
    Ok(json_response(StatusCode::CREATED, &ContextList { items }))
}

/// End a context and everything started in it.
#[utoipa::path(delete, operation_id = "context_close", path = "/v1/sandboxes/{sandbox_id}/contexts/{context_id}", tag = "contexts",
    params(("sandbox_id" = SandboxId, Path), ("context_id" = ContextId, Path)), responses(
    (status = 204, description = "Ended"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn close(
    InSandbox(sandbox): InSandbox,
    AtContext(context_id): AtContext,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    sandbox.context_close(&context_id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
