//! Which handler answers which route.

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, delete, get, post, put};

use crate::app::App;
use crate::dialects::openenv::{self, Openenv};
use crate::{
    archives, changes, contexts, events, execs, files, groups, health, images, metrics, openapi, owners,
    pools, ports, problem, sandboxes, shells, snapshots, span, stats, templates, terminal,
};

/// Every route, as the counters name them. When adding one: 1. here, 2. in [`router`], 3. in `openapi`; a test compares.
pub(crate) const ROUTES: &[&str] = &[
    "/v1/sandboxes/{sandbox_id}/exec",
    "/v1/sandboxes",
    "/v1/sandboxes/{sandbox_id}",
    "/v1/sandboxes/{sandbox_id}/shells/{shell_id}/run",
    PORTS,
    "/v1/sandboxes/{sandbox_id}/freeze",
    "/v1/sandboxes/{sandbox_id}/thaw",
    "/v1/sandboxes/{sandbox_id}/execs",
    "/v1/sandboxes/{sandbox_id}/execs/{exec_id}",
    "/v1/sandboxes/{sandbox_id}/execs/{exec_id}/output",
    "/v1/sandboxes/{sandbox_id}/execs/{exec_id}/stream",
    "/v1/sandboxes/{sandbox_id}/execs/{exec_id}/stdin",
    "/v1/sandboxes/{sandbox_id}/execs/{exec_id}/signal",
    "/v1/sandboxes/{sandbox_id}/execs/{exec_id}/resize",
    "/v1/sandboxes/{sandbox_id}/terminal",
    "/v1/sandboxes/{sandbox_id}/shells",
    "/v1/sandboxes/{sandbox_id}/shells/{shell_id}",
    "/v1/sandboxes/{sandbox_id}/shells/{shell_id}/interrupt",
    "/v1/sandboxes/{sandbox_id}/contexts/{context_id}/run",
    "/v1/sandboxes/{sandbox_id}/contexts",
    "/v1/sandboxes/{sandbox_id}/contexts/{context_id}",
    "/v1/sandboxes/{sandbox_id}/contexts/{context_id}/interrupt",
    "/v1/sandboxes/{sandbox_id}/contexts/{context_id}/reset",
    "/v1/sandboxes/{sandbox_id}/contexts/{context_id}/fork",
    "/v1/sandboxes/{sandbox_id}/files",
    "/v1/sandboxes/{sandbox_id}/files/stat",
    "/v1/sandboxes/{sandbox_id}/files/list",
    "/v1/sandboxes/{sandbox_id}/files/mkdir",
    "/v1/sandboxes/{sandbox_id}/files/rename",
    "/v1/sandboxes/{sandbox_id}/archive",
    "/v1/sandboxes/{sandbox_id}/patch",
    "/v1/pools/{pool_name}/claim",
    "/v1/pools",
    "/v1/pools/{pool_name}",
    "/v1/pools/{pool_name}/size",
    "/v1/pools/{pool_name}/drain",
    "/v1/groups",
    "/v1/groups/{group_id}",
    "/v1/sandboxes/{sandbox_id}/snapshot",
    "/v1/sandboxes/{sandbox_id}/fork",
    "/v1/sandboxes/{sandbox_id}/restore",
    "/v1/sandboxes/{sandbox_id}/diff",
    "/v1/sandboxes/{sandbox_id}/diff/patch",
    "/v1/sandboxes/{sandbox_id}/diff/layer",
    "/v1/snapshots",
    "/v1/snapshots/{snapshot_id}/layer",
    "/v1/snapshots/{snapshot_id}",
    "/v1/templates",
    "/v1/templates/{template_name}",
    "/v1/images",
    "/v1/images/pull",
    "/v1/images/import",
    "/v1/images/prune",
    "/v1/images/{image}",
    "/v1/images/{image}/archive",
    "/v1/events",
    "/v1/owners/{owner}/renew",
    "/v1/stats",
    "/v1/sandboxes/{sandbox_id}/stats",
    "/v1/capabilities",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/",
];

/// A port of a sandbox, with any path.
const PORTS: &str = "/v1/sandboxes/{sandbox_id}/ports/{port}/{*path}";
/// The same port's root, which no wildcard stands for.
const PORT_ROOTS: [&str; 2] =
    ["/v1/sandboxes/{sandbox_id}/ports/{port}", "/v1/sandboxes/{sandbox_id}/ports/{port}/"];

/// The name of a route in [`ROUTES`], with the life of the program, so that counting needs no copy.
pub(crate) fn route_name(path: &str) -> Option<&'static str> {
    let path = if PORT_ROOTS.contains(&path) { PORTS } else { path };
    ROUTES.iter().chain([&openenv::BELOW]).find(|route| **route == path).copied()
}

/// All routes of a server. Paths stand in full: a nested router would rewrite the URI of every request.
pub(crate) fn router(app: App, openenv: Openenv) -> Router {
    Router::new()
        .route("/v1/sandboxes", post(sandboxes::create).get(sandboxes::list).delete(sandboxes::delete_many))
        .route("/v1/sandboxes/{sandbox_id}", get(sandboxes::get).delete(sandboxes::delete))
        .route("/v1/sandboxes/{sandbox_id}/freeze", post(sandboxes::freeze))
        .route("/v1/sandboxes/{sandbox_id}/thaw", post(sandboxes::thaw))
        .route("/v1/sandboxes/{sandbox_id}/exec", post(execs::run))
        .route("/v1/sandboxes/{sandbox_id}/execs", get(execs::list))
        .route("/v1/sandboxes/{sandbox_id}/execs/{exec_id}", get(execs::get))
        .route("/v1/sandboxes/{sandbox_id}/execs/{exec_id}/output", get(execs::output))
        .route("/v1/sandboxes/{sandbox_id}/execs/{exec_id}/stream", get(execs::stream))
        .route("/v1/sandboxes/{sandbox_id}/execs/{exec_id}/stdin", post(execs::stdin))
        .route("/v1/sandboxes/{sandbox_id}/execs/{exec_id}/signal", post(execs::signal))
        .route("/v1/sandboxes/{sandbox_id}/execs/{exec_id}/resize", post(execs::resize))
        .route("/v1/sandboxes/{sandbox_id}/terminal", get(terminal::open))
        .route(PORTS, any(ports::forward))
        .route(PORT_ROOTS[0], any(ports::forward))
        .route(PORT_ROOTS[1], any(ports::forward))
        .route("/v1/sandboxes/{sandbox_id}/shells", post(shells::open).get(shells::list))
        .route("/v1/sandboxes/{sandbox_id}/shells/{shell_id}", delete(shells::close))
        .route("/v1/sandboxes/{sandbox_id}/shells/{shell_id}/run", post(shells::run))
        .route("/v1/sandboxes/{sandbox_id}/shells/{shell_id}/interrupt", post(shells::interrupt))
        .route("/v1/sandboxes/{sandbox_id}/contexts", post(contexts::open).get(contexts::list))
        .route("/v1/sandboxes/{sandbox_id}/contexts/{context_id}", get(contexts::get).delete(contexts::close))
        .route("/v1/sandboxes/{sandbox_id}/contexts/{context_id}/run", post(contexts::run))
        .route("/v1/sandboxes/{sandbox_id}/contexts/{context_id}/interrupt", post(contexts::interrupt))
        .route("/v1/sandboxes/{sandbox_id}/contexts/{context_id}/reset", post(contexts::reset))
        .route("/v1/sandboxes/{sandbox_id}/contexts/{context_id}/fork", post(contexts::fork))
        .route("/v1/sandboxes/{sandbox_id}/files", get(files::read).put(files::write).delete(files::remove))
        .route("/v1/sandboxes/{sandbox_id}/files/stat", get(files::stat))
        .route("/v1/sandboxes/{sandbox_id}/files/list", get(files::list))
        .route("/v1/sandboxes/{sandbox_id}/files/mkdir", post(files::mkdir))
        .route("/v1/sandboxes/{sandbox_id}/files/rename", post(files::rename))
        .route("/v1/sandboxes/{sandbox_id}/archive", get(archives::download).put(archives::upload))
        .route("/v1/sandboxes/{sandbox_id}/patch", post(archives::patch))
        .route("/v1/sandboxes/{sandbox_id}/snapshot", post(snapshots::create))
        .route("/v1/sandboxes/{sandbox_id}/fork", post(snapshots::fork))
        .route("/v1/sandboxes/{sandbox_id}/restore", post(snapshots::restore))
        .route("/v1/sandboxes/{sandbox_id}/diff", get(changes::list))
        .route("/v1/sandboxes/{sandbox_id}/diff/patch", get(changes::patch))
        .route("/v1/sandboxes/{sandbox_id}/diff/layer", get(changes::layer))
        .route("/v1/snapshots/{snapshot_id}/layer", get(changes::of_snapshot))
        .route("/v1/snapshots", get(snapshots::list))
        .route("/v1/snapshots/{snapshot_id}", get(snapshots::get).delete(snapshots::delete))
        .route("/v1/templates", get(templates::list))
        .route(
            "/v1/templates/{template_name}",
            put(templates::put).get(templates::get).delete(templates::delete),
        )
        .route("/v1/pools", post(pools::create).get(pools::list))
        .route("/v1/pools/{pool_name}", get(pools::get).delete(pools::delete))
        .route("/v1/pools/{pool_name}/size", put(pools::scale))
        .route("/v1/pools/{pool_name}/drain", post(pools::drain))
        .route("/v1/pools/{pool_name}/claim", post(pools::claim))
        .route("/v1/groups", post(groups::create).get(groups::list))
        .route("/v1/groups/{group_id}", get(groups::get).delete(groups::delete))
        .route("/v1/images", get(images::list))
        .route("/v1/images/pull", post(images::pull))
        .route("/v1/images/import", post(images::import))
        .route("/v1/images/prune", post(images::prune))
        .route("/v1/images/{image}", get(images::get).delete(images::delete))
        .route("/v1/images/{image}/archive", get(images::export))
        .route("/v1/events", get(events::follow))
        .route("/v1/owners/{owner}/renew", post(owners::renew))
        .route("/v1/stats", get(stats::of_node))
        .route("/v1/sandboxes/{sandbox_id}/stats", get(stats::of_one))
        .route("/v1/capabilities", get(health::capabilities))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(openapi::openapi))
        .route("/", get(health::hello))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .with_state(app.clone())
        .merge(openenv::below(openenv))
        .layer(from_fn_with_state(app, span::observe))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ROUTES;

    #[test]
    fn every_route_is_in_the_specification_and_no_other() {
        let specification: serde_json::Value = serde_json::from_str(&crate::openapi_json()).unwrap();
        // OpenAPI knows no wildcards.
        let described: BTreeSet<&str> =
            specification["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let routes: BTreeSet<String> = ROUTES.iter().map(|route| route.replace("{*", "{")).collect();
        assert_eq!(described, routes.iter().map(String::as_str).collect());
    }
}
