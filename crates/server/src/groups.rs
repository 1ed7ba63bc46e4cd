//! Groups: made together, looked at, ended together.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hothouse_domain::{EndedMany, GroupId, GroupInfo, GroupSpec, Problem};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::asked::{IdempotencyKey, made};
use crate::auth::Caller;
use crate::body::JsonBody;
use crate::problem::{Refusal, json_response};
use crate::query::Query;
use crate::target::AtGroup;

/// All groups that have members, sorted by id.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Groups {
    /// The groups.
    items: Vec<GroupSummary>,
}

/// A group in a listing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupSummary {
    /// Its id.
    id: GroupId,
    /// Members that are there.
    members: usize,
}

/// Make a group of sandboxes, or claim one from a pool: all of it or, as `on_failure` says, what can be had.
#[utoipa::path(post, operation_id = "group_create", path = "/v1/groups", tag = "groups", request_body = GroupSpec, params(
    ("wait_s" = Option<f64>, Query, description = "Seconds to wait for room; 0 to 600, 0 when absent"),
    ("priority" = Option<i32>, Query, description = "-100 to 100, more is sooner; 0 when absent"),
    ("Idempotency-Key" = Option<String>, Header, description = "A repeat with the same key gets what the first has made"),
), responses(
    (status = 201, body = GroupInfo, headers(("Location" = String, description = "Where it is"))),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    key: IdempotencyKey,
    mut query: Query,
    JsonBody(mut spec): JsonBody<GroupSpec>,
) -> Result<Response, Refusal> {
    let asked = key.asked(&caller, &mut query, "group", &spec)?;
    query.finish()?;
    if let Some(sandbox) = &mut spec.sandbox {
        caller.check_image(sandbox)?;
    }
    let (info, replay) = app.fleet.create_group(spec, asked).await?;
    Ok(made(&info, &format!("/v1/groups/{}", info.id), replay))
}

/// List groups that have members, sorted by id.
#[utoipa::path(get, operation_id = "group_list", path = "/v1/groups", tag = "groups", responses(
    (status = 200, body = Groups),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(State(app): State<App>, caller: Caller, query: Query) -> Result<Response, Refusal> {
    query.finish()?;
    let items = app
        .fleet
        .groups(caller.scope())
        .into_iter()
        .map(|(id, members)| GroupSummary { id, members })
        .collect();
    Ok(json_response(StatusCode::OK, &Groups { items }))
}

/// Look at one group.
#[utoipa::path(get, operation_id = "group_get", path = "/v1/groups/{group_id}", tag = "groups",
    params(("group_id" = GroupId, Path)), responses(
    (status = 200, body = GroupInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    AtGroup(id): AtGroup,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &app.fleet.group(caller.scope(), &id)?))
}

/// Delete all members of a group; answers when nothing of them is left.
#[utoipa::path(delete, operation_id = "group_delete", path = "/v1/groups/{group_id}", tag = "groups",
    params(("group_id" = GroupId, Path)), responses(
    (status = 200, body = EndedMany),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    AtGroup(id): AtGroup,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &app.fleet.end_group(caller.scope(), &id, &caller.name()).await?))
}
