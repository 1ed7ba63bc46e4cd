//! Tools by JSON-RPC 2.0, over HTTP and WebSocket: `tools/list`, `tools/call`, and sessions for several calls.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hothouse_env::{Environment, Session, Tool, ToolError};
use serde_json::{Map, Value, json};

use super::answer;
use super::held::Closed;
use super::json_error::explain;
use super::request;
use super::served::{For, Openenv, Served};
use super::socket::{self, Line};

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const INTERNAL: i64 = -32603;
/// No place for another session.
const AT_CAPACITY: i64 = -32000;

/// A JSON-RPC error.
#[derive(Debug)]
struct RpcError {
    code: i64,
    message: String,
    data: Value,
}

impl RpcError {
    fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: Value::Null }
    }
}

impl From<ToolError> for RpcError {
    fn from(error: ToolError) -> Self {
        Self::new(INTERNAL, error.to_string())
    }
}

/// A JSON-RPC request.
struct Request {
    method: String,
    params: Map<String, Value>,
    id: Value,
}

/// A request over HTTP.
pub(super) async fn call(For(served): For, body: Body) -> Response {
    let body = match request::read(body, served.settings.message_bytes).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let text = String::from_utf8_lossy(&body);
    let answered = answer_alone(&served, &text).await;
    answer::json(StatusCode::OK, answered.into_bytes())
}

/// Requests over a WebSocket, all in one session.
pub(super) async fn open(
    For(served): For,
    State(openenv): State<Openenv>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        let mut response = answer::detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    };
    let tasks = openenv.sockets().clone();
    socket::bounded(upgrade, &served).on_upgrade(move |socket| {
        tasks.track_future(async move {
            let line = Line::new(socket, &served, &openenv);
            serve(line, &served).await;
        })
    })
}

async fn serve(mut line: Line, served: &Arc<Served>) {
    let opened = async {
        let place = served.places.take(1).await.map_err(at_capacity)?;
        let session = served.open().await.map_err(|error| RpcError::new(INTERNAL, error.to_string()))?;
        Ok((session, place))
    };
    let (mut session, _place) = match opened.await {
        Ok(opened) => opened,
        Err(error) => {
            // A client that is gone hears nothing; there is nobody else to tell.
            _ = line.send(rpc(&Value::Null, Err(error))).await;
            return line.say_goodbye(socket::End::Gone).await;
        }
    };
    let id = uuid::Uuid::new_v4().to_string();
    let end = loop {
        let text = match line.next().await {
            Ok(text) => text,
            Err(end) => break end,
        };
        line.touch();
        let answered = match parse_text(&text) {
            Ok(request) => {
                let result = match request.method.as_str() {
                    // It has one already.
                    "openenv/session/create" => Ok(json!({"session_id": id})),
                    "openenv/session/close" => close_own(&id, &request),
                    _ => in_session(&mut session, &request).await,
                };
                rpc(&request.id, result)
            }
            Err(error) if error.code == PARSE_ERROR => {
                let message = format!("Parse error: {}", explain(&text));
                rpc(&Value::Null, Err(RpcError::new(PARSE_ERROR, message)))
            }
            Err(error) => rpc(&Value::Null, Err(error)),
        };
        if let Err(end) = line.send(answered).await {
            break end;
        }
    };
    session.close().await;
    line.say_goodbye(end).await;
}

/// A connection's own session ends with it.
fn close_own(id: &str, request: &Request) -> Result<Value, RpcError> {
    match request.params.get("session_id") {
        Some(given) if given == id => {
            let message = "Cannot close active WebSocket-managed session via MCP method";
            Err(RpcError::new(INVALID_REQUEST, message))
        }
        Some(other) => Err(unknown_session(other)),
        None => Err(RpcError::new(INVALID_PARAMS, "Invalid params - 'session_id' is required")),
    }
}

/// The answer to a request of a session's own WebSocket.
pub(super) async fn answer_in_session(session: &mut Session, request: &Value) -> String {
    match parse(request) {
        Ok(request) => {
            let result = in_session(session, &request).await;
            rpc(&request.id, result)
        }
        Err(error) => rpc(&Value::Null, Err(error)),
    }
}

/// The answer to a request by itself: it names its session, or has one for itself.
async fn answer_alone(served: &Arc<Served>, text: &str) -> String {
    let request = match parse_text(text) {
        Ok(request) => request,
        Err(error) => return rpc(&Value::Null, Err(error)),
    };
    let result = match request.method.as_str() {
        "openenv/session/create" => create(served).await,
        "openenv/session/close" => close(served, &request),
        "tools/list" | "tools/call" => by_itself(served, &request).await,
        _ => Err(unknown_method(&request)),
    };
    rpc(&request.id, result)
}

async fn by_itself(served: &Arc<Served>, request: &Request) -> Result<Value, RpcError> {
    if let Some(id) = request.params.get("session_id") {
        let held = id.as_str().and_then(|id| served.held.find(id));
        let held = held.ok_or_else(|| unknown_session(id))?;
        let result = in_session(&mut *held.session.lock().await, request).await;
        held.touch();
        return result;
    }
    if request.method == "tools/list" {
        return list(&served.environment);
    }
    let opened = served.open().await;
    let mut session = opened.map_err(|error| RpcError::new(INTERNAL, error.to_string()))?;
    let result = in_session(&mut session, request).await;
    session.close().await;
    result
}

async fn create(served: &Arc<Served>) -> Result<Value, RpcError> {
    served.held.reap();
    let place = served.places.take(1).await.map_err(at_capacity)?;
    let session = served.open().await.map_err(|error| RpcError::new(INTERNAL, error.to_string()))?;
    let held = served.held.keep(session, Some(place));
    Ok(json!({"session_id": held.id}))
}

fn close(served: &Arc<Served>, request: &Request) -> Result<Value, RpcError> {
    let Some(id) = request.params.get("session_id") else {
        return Err(RpcError::new(INVALID_PARAMS, "Invalid params - 'session_id' is required"));
    };
    match served.held.close(id.as_str().unwrap_or_default()) {
        Closed::Now => Ok(json!({"session_id": id, "closed": true})),
        Closed::Later => Ok(json!({"session_id": id, "closed": false, "closing": true})),
        Closed::Unknown => Err(unknown_session(id)),
    }
}

async fn in_session(session: &mut Session, request: &Request) -> Result<Value, RpcError> {
    match request.method.as_str() {
        "tools/list" => list(session.environment()),
        "tools/call" => {
            if session.environment().tools.is_none() {
                return Err(ToolError::None.into());
            }
            let Some(name) = request.params.get("name").and_then(Value::as_str) else {
                return Err(RpcError::new(INVALID_PARAMS, "Missing 'name' in params"));
            };
            let none = Map::new();
            let arguments = match request.params.get("arguments") {
                None | Some(Value::Null) => &none,
                Some(Value::Object(arguments)) => arguments,
                Some(_) => {
                    return Err(RpcError::new(INVALID_PARAMS, "Invalid params - 'arguments' is no object"));
                }
            };
            Ok(session.call_tool(name, arguments).await?)
        }
        _ => Err(unknown_method(request)),
    }
}

fn list(environment: &Environment) -> Result<Value, RpcError> {
    let tools = environment.tools.as_ref().ok_or(ToolError::None)?;
    Ok(json!({"tools": tools.iter().map(told).collect::<Vec<_>>()}))
}

fn told(tool: &Tool) -> Value {
    json!({
        "name": tool.name, "title": null, "description": tool.description, "inputSchema": tool.input_schema,
        "outputSchema": tool.output_schema, "icons": null, "annotations": null, "meta": {"fastmcp": {"tags": []}},
        "execution": null,
    })
}

fn unknown_method(request: &Request) -> RpcError {
    RpcError::new(METHOD_NOT_FOUND, format!("Method not found: {}", request.method))
}

fn unknown_session(id: &Value) -> RpcError {
    let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    RpcError::new(INVALID_PARAMS, format!("Unknown session_id: {id}"))
}

fn at_capacity(full: hothouse_env::Full) -> RpcError {
    let data = json!({"active_sessions": full.active, "max_sessions": full.most});
    RpcError { code: AT_CAPACITY, message: full.to_string(), data }
}

fn parse_text(text: &str) -> Result<Request, RpcError> {
    match serde_json::from_str::<Value>(text) {
        Ok(value @ Value::Object(_)) => parse(&value),
        Ok(_) | Err(_) => Err(RpcError::new(PARSE_ERROR, "Parse error")),
    }
}

/// Reads a request; what is wrong with it is told as pydantic tells it.
fn parse(value: &Value) -> Result<Request, RpcError> {
    let empty = Map::new();
    let fields = value.as_object().unwrap_or(&empty);
    let mut wrong = Vec::new();
    let mut note = |field: &str, what: &str| wrong.push(format!("{field}\n  {what}"));
    match fields.get("jsonrpc").and_then(Value::as_str) {
        Some("2.0") => {}
        Some(_) => note("jsonrpc", "Input should be '2.0'"),
        None if fields.contains_key("jsonrpc") => note("jsonrpc", "Input should be '2.0'"),
        // The field has a default.
        None => {}
    }
    let method = fields.get("method").and_then(Value::as_str);
    if method.is_none() {
        note(
            "method",
            if fields.contains_key("method") { "Input should be a valid string" } else { "Field required" },
        );
    }
    let params = match fields.get("params") {
        None => Map::new(),
        Some(Value::Object(params)) => params.clone(),
        Some(_) => {
            note("params", "Input should be a valid dictionary");
            Map::new()
        }
    };
    let id = fields.get("id").cloned().unwrap_or_default();
    if !(id.is_null() || id.is_string() || id.is_i64() || id.is_u64()) {
        note("id", "Input should be a valid string or integer");
    }
    for name in fields.keys().filter(|name| !matches!(name.as_str(), "jsonrpc" | "method" | "params" | "id"))
    {
        note(name, "Extra inputs are not permitted");
    }
    match method {
        Some(method) if wrong.is_empty() => Ok(Request { method: method.to_owned(), params, id }),
        _ => {
            let many = if wrong.len() == 1 { "" } else { "s" };
            let message = format!(
                "Invalid request: {} validation error{many} for JsonRpcRequest\n{}",
                wrong.len(),
                wrong.join("\n")
            );
            Err(RpcError::new(INVALID_REQUEST, message))
        }
    }
}

fn rpc(id: &Value, result: Result<Value, RpcError>) -> String {
    match result {
        Ok(result) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
        Err(RpcError { code, message, data }) => {
            let error = format!(r#"{{"code":{code},"message":{},"data":{data}}}"#, Value::from(message));
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
        }
    }
}
