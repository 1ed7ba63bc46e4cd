//! What sandboxes and the node use now.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hothouse_domain::{ErrorCode, NodeStats, Problem, SandboxId, SandboxStats, Taken};
use hothouse_sandbox::Sandbox;

use crate::app::App;
use crate::auth::Caller;
use crate::problem::{Refusal, json_response};
use crate::query::Query;
use crate::target::InSandbox;

/// Sandboxes that are shown when the request names no limit.
const DEFAULT_LIMIT: usize = 100;
/// And at most.
const MAX_LIMIT: usize = 1000;

/// What one sandbox uses now.
#[utoipa::path(get, operation_id = "sandbox_stats", path = "/v1/sandboxes/{sandbox_id}/stats", tag = "sandboxes",
    params(("sandbox_id" = SandboxId, Path)), responses(
    (status = 200, body = SandboxStats),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn of_one(InSandbox(sandbox): InSandbox, query: Query) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &sandbox.stats().await))
}

/// What the node and its sandboxes use now.
#[utoipa::path(get, operation_id = "node_stats", path = "/v1/stats", tag = "server", params(
    ("limit" = Option<u32>, Query, description = "Sandboxes to show, those with the most memory; 1 to 1,000, 100 when absent"),
), responses(
    (status = 200, body = NodeStats),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn of_node(
    State(app): State<App>,
    caller: Caller,
    mut query: Query,
) -> Result<Response, Refusal> {
    let limit = query.number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
    query.finish()?;
    let mut known: Vec<Sandbox> = app.node.all();
    known.retain(|sandbox| caller.knows(&sandbox.terms().claimant));
    // Thousands of small files are read: not on a thread that answers others.
    let read = tokio::task::spawn_blocking(move || {
        known.iter().map(Sandbox::stats_now).collect::<Vec<SandboxStats>>()
    });
    let mut sandboxes = read.await.map_err(|error| Refusal::new(ErrorCode::Internal, error.to_string()))?;
    sandboxes.sort_by(|a, b| b.memory_bytes.cmp(&a.memory_bytes).then_with(|| a.id.cmp(&b.id)));
    sandboxes.truncate(limit);
    let usage = app.node.usage().into_iter();
    let stats = NodeStats {
        at_s: hothouse_sandbox::uptime_s(),
        usage: usage.map(|(name, (taken, capacity))| (name, Taken { taken, capacity })).collect(),
        memory: app.node.memory(),
        waiting: app.fleet.queue().waiting,
        pools: app.fleet.pools(),
        sandboxes,
    };
    Ok(json_response(StatusCode::OK, &stats))
}
