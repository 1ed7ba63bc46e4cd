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
use axum::routing::{any, get, post};

pub use served::{HttpSessions, Mode, Openenv, Settings};

/// The routes of all environments, below `/openenv/{environment}`.
pub(crate) fn below(openenv: Openenv) -> Router {
    routes("/openenv/{environment}", openenv.mode()).with_state(openenv)
}

/// The routes of one environment, at the root.
pub(crate) fn at_root(openenv: Openenv) -> Router {
    routes("", openenv.mode())
        .fallback(http::no_route)
        .method_not_allowed_fallback(http::no_method)
        .with_state(openenv)
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
