//! Is the server alive, does it take work, what can this node enforce.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hothouse_domain::{Capabilities, ErrorCode, Problem};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::problem::{Refusal, json_response};

/// That the server lives.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    #[schema(value_type = String)]
    status: &'static str,
    /// The server's version.
    #[schema(value_type = String)]
    version: &'static str,
}

/// What is here.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Hello {
    /// `hothouse`.
    #[schema(value_type = String)]
    name: &'static str,
    /// The server's version.
    #[schema(value_type = String)]
    version: &'static str,
    /// Where to go on.
    #[schema(value_type = Vec<String>)]
    links: [&'static str; 6],
}

/// Alive: answers as long as the process does.
#[utoipa::path(get, path = "/healthz", tag = "server", responses((status = 200, body = Health)))]
pub(crate) async fn healthz() -> Response {
    json_response(StatusCode::OK, &Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Ready: 200 while the server takes work, 503 once it is shutting down.
#[utoipa::path(get, path = "/readyz", tag = "server", responses(
    (status = 200, body = Health),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn readyz(State(app): State<App>) -> Result<Response, Refusal> {
    if app.draining.is_cancelled() {
        return Err(Refusal::new(ErrorCode::ShuttingDown, "the server is shutting down"));
    }
    Ok(json_response(StatusCode::OK, &Health { status: "ready", version: env!("CARGO_PKG_VERSION") }))
}

/// What this node enforces, limit by limit.
#[utoipa::path(get, path = "/v1/capabilities", tag = "server", responses((status = 200, body = Capabilities)))]
pub(crate) async fn capabilities(State(app): State<App>) -> Response {
    json_response(StatusCode::OK, app.node.capabilities())
}

/// What is here and where to go on.
#[utoipa::path(get, path = "/", tag = "server", responses((status = 200, body = Hello)))]
pub(crate) async fn hello() -> Response {
    let links = ["/openapi.json", "/v1/sandboxes", "/v1/capabilities", "/healthz", "/readyz", "/metrics"];
    json_response(StatusCode::OK, &Hello { name: "hothouse", version: env!("CARGO_PKG_VERSION"), links })
}
