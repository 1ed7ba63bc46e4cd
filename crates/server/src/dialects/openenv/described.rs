//! What an environment says of itself: health, metadata, schemas, and the description of its API.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::answer;
use super::request;
use super::served::{For, Mode, Served};

/// Whether it is there.
pub(super) async fn health(_: For) -> Response {
    answer::json(StatusCode::OK, br#"{"status":"healthy"}"#.to_vec())
}

/// What it is.
pub(super) async fn metadata(For(served): For) -> Response {
    let environment = &served.environment;
    answer::value(
        StatusCode::OK,
        &json!({
            "name": environment.class,
            "description": environment.description,
            "readme_content": environment.readme,
            "version": environment.version,
            "author": null,
            "documentation_url": null,
        }),
    )
}

/// JSON Schemas of what is sent.
pub(super) async fn schema(For(served): For) -> Response {
    let schemas = &served.environment.schemas;
    answer::value(
        StatusCode::OK,
        &json!({
            "action": schemas.action,
            "observation": schemas.observation,
            "state": schemas.state,
            "reset_observation": schemas.reset_observation,
        }),
    )
}

/// The description of the API.
pub(super) async fn openapi(For(served): For) -> Response {
    answer::value(StatusCode::OK, &description(&served))
}

/// The same for people.
pub(super) async fn docs(For(served): For) -> Response {
    let page = include_str!("docs.html").replace("{{name}}", &escape(&served.environment.name));
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
        ),
    ];
    (headers, page).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn description(served: &Served) -> Value {
    let schemas = &served.environment.schemas;
    let mut paths = Map::new();
    let mut add = |path: &str, method: &str, summary: &str, body: Option<Value>, answer: Value| {
        let mut operation = json!({
            "summary": summary,
            "operationId": format!("{}_{method}", path.trim_matches('/').replace(['/', '{', '}'], "_")),
            "responses": {
                "200": {"description": "Successful Response", "content": {"application/json": {"schema": answer}}},
            },
        });
        if let Some(body) = body {
            operation["requestBody"] = json!({"content": {"application/json": {"schema": body}}});
        }
        paths.insert(path.to_owned(), json!({method: operation}));
    };
    let object = || json!({"type": "object", "additionalProperties": true});
    let named = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    if served.settings.mode == Mode::Simulation {
        add("/reset", "post", "Begin an episode", Some(named("ResetRequest")), named("Result"));
        add("/step", "post", "Take a step", Some(named("StepRequest")), named("Result"));
        add("/state", "get", "Where the episode is", None, named("State"));
    }
    add("/health", "get", "Whether the server is there", None, object());
    add("/metadata", "get", "What the environment is", None, object());
    add("/schema", "get", "JSON Schemas of what is sent", None, object());
    add("/mcp", "post", "Call a tool by JSON-RPC (MCP)", Some(object()), object());
    add(
        "/list_environments",
        "get",
        "Names of environments with tasks",
        None,
        json!({"type": "array", "items": {"type": "string"}}),
    );
    add(
        "/{env_name}/splits",
        "get",
        "Splits of an environment's tasks",
        None,
        json!({"type": "array", "items": object()}),
    );
    for (path, summary) in [
        ("/{env_name}/tasks", "Tasks of a split"),
        ("/{env_name}/num_tasks", "How many there are"),
        ("/{env_name}/task", "One of them"),
        ("/{env_name}/task_range", "Some of them"),
    ] {
        add(path, "post", summary, Some(object()), object());
    }
    let mut components = Map::from_iter(request::schemas().map(|(name, schema)| (name.to_owned(), schema)));
    components.insert("Action".to_owned(), schemas.action.clone());
    components.insert("Observation".to_owned(), schemas.observation.clone());
    components.insert("State".to_owned(), schemas.state.clone());
    components.insert(
        "Result".to_owned(),
        json!({
            "type": "object",
            "required": ["observation"],
            "properties": {
                "observation": named("Observation"),
                "reward": {"anyOf": [{"type": "number"}, {"type": "null"}]},
                "done": {"type": "boolean", "default": false},
                "metadata": {"anyOf": [object(), {"type": "null"}]},
            },
        }),
    );
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "OpenEnv Environment HTTP API",
            "description": format!(
                "{}: {}. Episodes over one connection: the WebSocket at `ws`.",
                served.environment.name, served.environment.description
            ),
            "version": "1.0.0",
        },
        "paths": paths,
        "components": {"schemas": components},
    })
}
