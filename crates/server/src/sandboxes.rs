//! Sandboxes: make, find, freeze, delete.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hothouse_domain::id::check_name;
use hothouse_domain::{EndedMany, Problem, SandboxId, SandboxInfo, SandboxSpec};
use hothouse_fleet::FleetError;
use hothouse_sandbox::{End, Sandbox};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::asked::{IdempotencyKey, made};
use crate::auth::Caller;
use crate::body::OptionalJsonBody;
use crate::problem::{Refusal, json_response};
use crate::query::Query;
use crate::target::InSandbox;

/// Sandboxes of a page when the request names no limit.
const DEFAULT_PAGE: usize = 100;
/// Sandboxes of the largest page.
const MAX_PAGE: usize = 1000;

/// One page of sandboxes, sorted by id.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SandboxPage {
    /// The sandboxes.
    items: Vec<SandboxInfo>,
    /// Give this as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<SandboxId>,
}

/// Make a sandbox. An empty body means the default one.
#[utoipa::path(post, operation_id = "sandbox_create", path = "/v1/sandboxes", tag = "sandboxes", request_body = Option<SandboxSpec>, params(
    ("wait_s" = Option<f64>, Query, description = "Seconds to wait for room; 0 to 600, 0 when absent"),
    ("priority" = Option<i32>, Query, description = "-100 to 100, more is sooner; 0 when absent"),
    ("Idempotency-Key" = Option<String>, Header, description = "A repeat with the same key gets what the first has made"),
), responses(
    (status = 201, description = "Made; its guest takes requests", body = SandboxInfo,
        headers(("Location" = String, description = "Where it is"))),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    key: IdempotencyKey,
    mut query: Query,
    OptionalJsonBody(mut spec): OptionalJsonBody<SandboxSpec>,
) -> Result<Response, Refusal> {
    let asked = key.asked(&caller, &mut query, "sandbox", &spec)?;
    query.finish()?;
    caller.check_image(&mut spec)?;
    spec.validate()?;
    let created = app.fleet.create(spec, asked).await;
    app.metrics.create(created.as_ref().map(|_| ()).map_err(FleetError::code));
    let (sandbox, replay) = created?;
    Ok(made(&sandbox.info(), &format!("/v1/sandboxes/{}", sandbox.id()), replay))
}

/// List sandboxes, sorted by id, page by page.
#[utoipa::path(get, operation_id = "sandbox_list", path = "/v1/sandboxes", tag = "sandboxes", params(
    ("limit" = Option<u32>, Query, description = "1 to 1,000; 100 when absent"),
    ("after" = Option<SandboxId>, Query, description = "`next` of the page before"),
    ("label" = Option<Vec<String>>, Query, description = "`name=value`; may repeat, all must fit"),
), responses(
    (status = 200, body = SandboxPage),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    mut query: Query,
) -> Result<Response, Refusal> {
    let limit = query.number("limit", 1..=MAX_PAGE)?.unwrap_or(DEFAULT_PAGE);
    let after: Option<SandboxId> = query.parsed("after")?;
    let labels = labels(&mut query)?;
    query.finish()?;
    // One more than asked for tells whether there is a next page.
    let wanted = |sandbox: &Sandbox| sandbox.has_labels(&labels) && caller.knows(&sandbox.terms().claimant);
    let mut items = app.node.list(after.as_ref(), limit + 1, wanted);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(|info| info.id.clone()) } else { None };
    Ok(json_response(StatusCode::OK, &SandboxPage { items, next }))
}

fn labels(query: &mut Query) -> Result<Vec<(String, String)>, Refusal> {
    query.take_all("label").iter().map(|label| parse_label(label)).collect()
}

fn parse_label(text: &str) -> Result<(String, String), Refusal> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(Refusal::field("label", "has no '='; write it as ?label=name%3Dvalue"));
    };
    check_name(name).map_err(|error| Refusal::field("label", error.to_string()))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Look at one sandbox.
#[utoipa::path(get, operation_id = "sandbox_get", path = "/v1/sandboxes/{sandbox_id}", tag = "sandboxes",
    params(("sandbox_id" = SandboxId, Path)), responses(
    (status = 200, body = SandboxInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn get(InSandbox(sandbox): InSandbox, query: Query) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &sandbox.info()))
}

/// Delete a sandbox; answers when nothing of it is left.
#[utoipa::path(delete, operation_id = "sandbox_delete", path = "/v1/sandboxes/{sandbox_id}", tag = "sandboxes",
    params(("sandbox_id" = SandboxId, Path)), responses(
    (status = 204, description = "Gone"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    InSandbox(sandbox): InSandbox,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    app.node.end(sandbox.id(), deleted_by(&caller)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Delete all sandboxes that have these labels; answers when nothing of them is left.
#[utoipa::path(delete, operation_id = "sandbox_delete_many", path = "/v1/sandboxes", tag = "sandboxes", params(
    ("label" = Vec<String>, Query, description = "`name=value`; may repeat, all must fit; one at least"),
), responses(
    (status = 200, body = EndedMany),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn delete_many(
    State(app): State<App>,
    caller: Caller,
    mut query: Query,
) -> Result<Response, Refusal> {
    let labels = labels(&mut query)?;
    query.finish()?;
    if labels.is_empty() {
        let reason = "is missing; give it as ?label=name%3Dvalue to say which sandboxes are meant";
        return Err(Refusal::field("label", reason));
    }
    let mut sandboxes = app.node.all();
    sandboxes.retain(|sandbox| sandbox.has_labels(&labels) && caller.knows(&sandbox.terms().claimant));
    Ok(json_response(StatusCode::OK, &app.fleet.end_many(sandboxes, &deleted_by(&caller)).await))
}

pub(crate) fn deleted_by(caller: &Caller) -> End {
    End { by: caller.name(), ..End::deleted() }
}

/// Stop every process of a sandbox; they keep their memory.
#[utoipa::path(post, operation_id = "sandbox_freeze", path = "/v1/sandboxes/{sandbox_id}/freeze", tag = "sandboxes",
    params(("sandbox_id" = SandboxId, Path)), responses(
    (status = 200, body = SandboxInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn freeze(InSandbox(sandbox): InSandbox, query: Query) -> Result<Response, Refusal> {
    query.finish()?;
    sandbox.freeze().await?;
    Ok(json_response(StatusCode::OK, &sandbox.info()))
}

/// Let the processes of a frozen sandbox run again.
#[utoipa::path(post, operation_id = "sandbox_thaw", path = "/v1/sandboxes/{sandbox_id}/thaw", tag = "sandboxes",
    params(("sandbox_id" = SandboxId, Path)), responses(
    (status = 200, body = SandboxInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn thaw(InSandbox(sandbox): InSandbox, query: Query) -> Result<Response, Refusal> {
    query.finish()?;
    sandbox.thaw().await?;
    Ok(json_response(StatusCode::OK, &sandbox.info()))
}
