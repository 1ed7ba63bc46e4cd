//! Snapshots of sandboxes' files, forks, and sandboxes that are set back.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hothouse_domain::{
    ForkSpec, Problem, RestoreSpec, SandboxId, SandboxInfo, SnapshotId, SnapshotInfo, SnapshotSpec,
};
use hothouse_fleet::{FleetError, Replay};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::asked::{IdempotencyKey, made};
use crate::auth::Caller;
use crate::body::OptionalJsonBody;
use crate::problem::{Refusal, json_response};
use crate::query::Query;
use crate::sandboxes::deleted_by;
use crate::target::{AtSnapshot, InSandbox};

/// All snapshots that were asked for by name, sorted by id.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Snapshots {
    /// The snapshots.
    items: Vec<SnapshotInfo>,
}

/// Take a snapshot of a sandbox's files: `snapshot:ID` is an image from then on. Its processes stand still meanwhile.
#[utoipa::path(post, operation_id = "snapshot_create", path = "/v1/sandboxes/{sandbox_id}/snapshot", tag = "snapshots",
    params(("sandbox_id" = SandboxId, Path)), request_body = Option<SnapshotSpec>, responses(
    (status = 201, body = SnapshotInfo, headers(("Location" = String, description = "Where it is"))),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    InSandbox(sandbox): InSandbox,
    query: Query,
    OptionalJsonBody(spec): OptionalJsonBody<SnapshotSpec>,
) -> Result<Response, Refusal> {
    query.finish()?;
    let info = app.node.snapshot(&sandbox, spec, deleted_by(&caller)).await?;
    Ok(made(&info, &format!("/v1/snapshots/{}", info.id), Replay::No))
}

/// Make a fork: another sandbox with the files that this one has now, and no process of it.
#[utoipa::path(post, operation_id = "sandbox_fork", path = "/v1/sandboxes/{sandbox_id}/fork", tag = "snapshots", params(
    ("sandbox_id" = SandboxId, Path),
    ("wait_s" = Option<f64>, Query, description = "Seconds to wait for room; 0 to 600, 0 when absent"),
    ("priority" = Option<i32>, Query, description = "-100 to 100, more is sooner; 0 when absent"),
    ("Idempotency-Key" = Option<String>, Header, description = "A repeat with the same key gets what the first has made"),
), request_body = Option<ForkSpec>, responses(
    (status = 201, body = SandboxInfo, headers(("Location" = String, description = "Where it is"))),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn fork(
    State(app): State<App>,
    caller: Caller,
    InSandbox(sandbox): InSandbox,
    key: IdempotencyKey,
    mut query: Query,
    OptionalJsonBody(spec): OptionalJsonBody<ForkSpec>,
) -> Result<Response, Refusal> {
    let asked = key.asked(&caller, &mut query, &format!("fork {}", sandbox.id()), &spec)?;
    query.finish()?;
    let forked = Box::pin(app.fleet.fork(sandbox, spec, asked)).await;
    app.metrics.create(forked.as_ref().map(|_| ()).map_err(FleetError::code));
    let (fork, replay) = forked?;
    Ok(made(&fork.info(), &format!("/v1/sandboxes/{}", fork.id()), replay))
}

/// Set a sandbox back to a snapshot, or to the image that it is made of: no file and no process of before is left.
#[utoipa::path(post, operation_id = "sandbox_restore", path = "/v1/sandboxes/{sandbox_id}/restore", tag = "snapshots",
    params(("sandbox_id" = SandboxId, Path)), request_body = Option<RestoreSpec>, responses(
    (status = 200, body = SandboxInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn restore(
    State(app): State<App>,
    caller: Caller,
    InSandbox(sandbox): InSandbox,
    query: Query,
    OptionalJsonBody(spec): OptionalJsonBody<RestoreSpec>,
) -> Result<Response, Refusal> {
    query.finish()?;
    app.node.restore(&sandbox, spec, caller.scope()).await?;
    Ok(json_response(StatusCode::OK, &sandbox.info()))
}

/// List the snapshots that were asked for by name, sorted by id.
#[utoipa::path(get, operation_id = "snapshot_list", path = "/v1/snapshots", tag = "snapshots", responses(
    (status = 200, body = Snapshots),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(State(app): State<App>, caller: Caller, query: Query) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &Snapshots { items: app.node.snapshots(caller.scope()) }))
}

/// Look at one snapshot.
#[utoipa::path(get, operation_id = "snapshot_get", path = "/v1/snapshots/{snapshot_id}", tag = "snapshots",
    params(("snapshot_id" = SnapshotId, Path)), responses(
    (status = 200, body = SnapshotInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    AtSnapshot(id): AtSnapshot,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &app.node.snapshot_info(&id, caller.scope())?))
}

/// Delete a snapshot of which no sandbox is made.
#[utoipa::path(delete, operation_id = "snapshot_delete", path = "/v1/snapshots/{snapshot_id}", tag = "snapshots",
    params(("snapshot_id" = SnapshotId, Path)), responses(
    (status = 204, description = "Gone"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    AtSnapshot(id): AtSnapshot,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    app.node.delete_snapshot(&id, caller.scope())?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
