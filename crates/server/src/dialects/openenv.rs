//! OpenEnv: environments over HTTP and WebSocket, as the clients of <https://github.com/huggingface/OpenEnv> know them.
//!
//! ```text
//! POST reset, step · GET state, health, schema, metadata      requests, each by itself or for a session that is kept
//! WS   ws                                                     a session for each connection, or many with [`many`]
//! POST mcp · WS mcp                                           JSON-RPC: an environment's tools
//! GET  web/                                                   a page to try the environment by hand, see [`web`]
//! ```
//!
//! The first clients (HTTP, one session for all) and today's (WebSocket) are served side by side; [`Settings`] says which
//! time's rules hold where they differ. What is ours alone (batches, ids of requests, forks) is spoken only with clients
//! that ask for the subprotocol `hothouse.env.v1`.

mod answer;
mod described;
mod held;
mod http;
mod json_error;
mod many;
mod mcp;
mod message;
mod request;
mod served;
mod socket;
mod tasks;
mod web;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::{any, any_service, get, post};

/// The route of the server for all environments.
pub(crate) const BELOW: &str = "/openenv/{environment}/{*path}";

pub use served::{HttpSessions, Mode, Openenv, Settings};

/// The routes of all environments, below `/openenv/{environment}`.
pub(crate) fn below(openenv: Openenv) -> Router {
    let inner = finished("/openenv/{environment}", openenv);
    // One route of the server for all of them, by which they are counted.
    Router::new()
        .route("/openenv/{environment}", any_service(inner.clone()))
        .route("/openenv/{environment}/", any_service(inner.clone()))
        .route(BELOW, any_service(inner))
}

/// The routes of one environment, at the root.
pub(crate) fn at_root(openenv: Openenv) -> Router {
    finished("", openenv)
}

fn finished(base: &str, openenv: Openenv) -> Router {
    let inner = routes(base, openenv.mode())
        .fallback(http::no_route)
        .method_not_allowed_fallback(http::no_method)
        .with_state(openenv);
    // Around the whole router, since the `Allow` header is added within it.
    Router::new().fallback_service(inner).layer(from_fn(http::without_head))
}

fn routes(base: &str, mode: Mode) -> Router<Openenv> {
    let at = |path: &str| format!("{base}{path}");
    let router = Router::new()
        .route(&at("/health"), get(described::health))
        .route(&at("/metadata"), get(described::metadata))
        .route(&at("/schema"), get(described::schema))
        .route(&at("/openapi.json"), get(described::openapi))
        .route(&at("/docs"), get(described::docs))
        .route(&at("/redoc"), get(described::docs))
        .route(&at("/ws"), any(socket::open))
        .route(&at("/mcp"), post(mcp::call).get(mcp::open))
        .route(&at("/list_environments"), get(tasks::list_environments))
        .route(&at("/{env_name}/splits"), get(tasks::splits))
        .route(&at("/{env_name}/tasks"), post(tasks::of_split))
        .route(&at("/{env_name}/num_tasks"), post(tasks::of_split))
        .route(&at("/{env_name}/task"), post(tasks::of_split))
        .route(&at("/{env_name}/task_range"), post(tasks::of_split))
        .merge(web::routes(base, mode));
    match mode {
        Mode::Simulation => router
            .route(&at("/reset"), post(http::reset))
            .route(&at("/step"), post(http::step))
            .route(&at("/state"), get(http::state)),
        // Agents that are in production must not be able to begin anew.
        Mode::Production => router,
    }
}
