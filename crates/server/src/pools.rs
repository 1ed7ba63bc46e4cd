//! Pools: make, size, drain, delete, and claim from.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hothouse_domain::{ClaimSpec, PoolInfo, PoolName, PoolSize, PoolSpec, Problem, SandboxInfo};
use hothouse_fleet::FleetError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::asked::{IdempotencyKey, made};
use crate::auth::Caller;
use crate::body::{JsonBody, OptionalJsonBody};
use crate::problem::{Refusal, json_response};
use crate::query::Query;
use crate::target::AtPool;

/// All pools, sorted by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pools {
    /// The pools.
    items: Vec<PoolInfo>,
}

/// Make a pool; it fills in the background.
#[utoipa::path(post, operation_id = "pool_create", path = "/v1/pools", tag = "pools", request_body = PoolSpec, responses(
    (status = 201, body = PoolInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn create(
    State(app): State<App>,
    query: Query,
    JsonBody(spec): JsonBody<PoolSpec>,
) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::CREATED, &app.fleet.create_pool(spec)?))
}

/// List pools, sorted by name.
#[utoipa::path(get, operation_id = "pool_list", path = "/v1/pools", tag = "pools", responses(
    (status = 200, body = Pools),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(State(app): State<App>, query: Query) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &Pools { items: app.fleet.pools() }))
}

/// Look at one pool.
#[utoipa::path(get, operation_id = "pool_get", path = "/v1/pools/{pool_name}", tag = "pools",
    params(("pool_name" = PoolName, Path)), responses(
    (status = 200, body = PoolInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn get(
    State(app): State<App>,
    AtPool(name): AtPool,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &app.fleet.pool(&name)?))
}

/// Delete a pool and what it has ready. One whose sandboxes are claimed has to be drained first.
#[utoipa::path(delete, operation_id = "pool_delete", path = "/v1/pools/{pool_name}", tag = "pools",
    params(("pool_name" = PoolName, Path)), responses(
    (status = 204, description = "Gone; sandboxes that were claimed live on"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn delete(
    State(app): State<App>,
    AtPool(name): AtPool,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    app.fleet.remove_pool(&name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Keep another number of sandboxes ready.
#[utoipa::path(put, operation_id = "pool_scale", path = "/v1/pools/{pool_name}/size", tag = "pools",
    params(("pool_name" = PoolName, Path)), request_body = PoolSize, responses(
    (status = 200, body = PoolInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn scale(
    State(app): State<App>,
    AtPool(name): AtPool,
    query: Query,
    JsonBody(size): JsonBody<PoolSize>,
) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &app.fleet.scale_pool(&name, size)?))
}

/// Have a pool make and give nothing any more; sandboxes that were claimed live on.
#[utoipa::path(post, operation_id = "pool_drain", path = "/v1/pools/{pool_name}/drain", tag = "pools",
    params(("pool_name" = PoolName, Path)), responses(
    (status = 200, body = PoolInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn drain(
    State(app): State<App>,
    AtPool(name): AtPool,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &app.fleet.drain_pool(&name)?))
}

/// Claim a sandbox: one that is ready, or else one that is made now. An empty body binds nothing.
#[utoipa::path(post, operation_id = "pool_claim", path = "/v1/pools/{pool_name}/claim", tag = "pools",
    request_body = Option<ClaimSpec>, params(
    ("pool_name" = PoolName, Path),
    ("wait_s" = Option<f64>, Query, description = "Seconds to wait for room; 0 to 600, 0 when absent"),
    ("priority" = Option<i32>, Query, description = "-100 to 100, more is sooner; 0 when absent"),
    ("Idempotency-Key" = Option<String>, Header, description = "A repeat with the same key gets what the first has made"),
), responses(
    (status = 201, description = "Claimed; its guest takes requests", body = SandboxInfo,
        headers(("Location" = String, description = "Where it is"))),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn claim(
    State(app): State<App>,
    AtPool(name): AtPool,
    caller: Caller,
    key: IdempotencyKey,
    mut query: Query,
    OptionalJsonBody(claim): OptionalJsonBody<ClaimSpec>,
) -> Result<Response, Refusal> {
    let asked = key.asked(&caller, &mut query, &format!("claim {name}"), &claim)?;
    query.finish()?;
    let claimed = app.fleet.claim(&name, claim, asked).await;
    app.metrics.claim(claimed.as_ref().map(|_| ()).map_err(FleetError::code));
    let (sandbox, replay) = claimed?;
    Ok(made(&sandbox.info(), &format!("/v1/sandboxes/{}", sandbox.id()), replay))
}
