//! What an OpenEnv server says of itself over HTTP.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::home::Home;
use super::running::failed;
use crate::game::Failed;
use crate::instance::OpenError;
use crate::tasks::{TaskError, TaskQuery};

/// Bytes of the longest answer.
const LONGEST: usize = 64 << 20;
/// Time for a server to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the server answers to a GET.
pub(super) async fn get(home: &Home, path: &str) -> Result<Value, OpenError> {
    let (status, answer) = ask(home, Method::GET, path, None).await?;
    if !status.is_success() {
        return Err(failed(format!("it answers {status} to GET {path}")));
    }
    Ok(answer)
}

/// Asks a server for its environment's tasks.
pub(super) async fn tasks(home: &Home, query: &TaskQuery) -> Result<Value, TaskError> {
    let not_supported = || TaskError::NotSupported(query.method());
    // It knows itself by a name of its own; one that is older than the Task API knows nothing of it.
    let (status, names) = ask(home, Method::GET, "/list_environments", None).await?;
    let name = names.get(0).and_then(Value::as_str).filter(|_| status.is_success());
    let name = name.filter(|name| !name.contains(['/', '?', '#', ' '])).ok_or_else(not_supported)?;
    let (method, last, body) = match query {
        TaskQuery::Splits => (Method::GET, "splits", None),
        TaskQuery::Tasks { .. } => (Method::POST, "tasks", Some(query.arguments())),
        TaskQuery::Count { .. } => (Method::POST, "num_tasks", Some(query.arguments())),
        TaskQuery::Task { .. } => (Method::POST, "task", Some(query.arguments())),
        TaskQuery::Range { .. } => (Method::POST, "task_range", Some(query.arguments())),
    };
    let path = format!("/{name}/{last}");
    let (status, mut answer) = ask(home, method, &path, body).await?;
    match status {
        StatusCode::OK => {
            let inner = match query {
                TaskQuery::Splits => return Ok(answer),
                TaskQuery::Tasks { .. } | TaskQuery::Range { .. } => answer.get_mut("tasks"),
                TaskQuery::Count { .. } => answer.get_mut("num_tasks"),
                TaskQuery::Task { .. } => answer.get_mut("task"),
            };
            let missing = || Failed::new(format!("its server's answer to {path} has no {last}"));
            Ok(inner.ok_or_else(missing)?.take())
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            Err(not_supported())
        }
        StatusCode::BAD_REQUEST => Err(TaskError::Index),
        other => Err(Failed::new(format!("its server answers {other} to {path}: {answer}")).into()),
    }
}

/// What the server answers, as JSON; as a text where it is none.
async fn ask(
    home: &Home,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<(StatusCode, Value), OpenError> {
    let stream = home.connect().await.map_err(failed)?;
    let named = format!("{method} {path}");
    let asked = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONNECTION, "close")
            .header(CONTENT_TYPE, "application/json");
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).map_err(|e| e.to_string())?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
            let status = answer.status();
            let body = http_body_util::Limited::new(answer.into_body(), LONGEST);
            let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
            match serde_json::from_slice(&body) {
                Ok(answer) => Ok((status, answer)),
                Err(_no_json) if !status.is_success() => {
                    Ok((status, Value::String(String::from_utf8_lossy(&body).into_owned())))
                }
                Err(error) => Err(format!("its answer to {named} is no JSON: {error}")),
            }
        };
        // The connection is driven beside the request, and ends with it.
        tokio::select! {
            answer = answer => answer,
            Err(error) = connection => Err(error.to_string()),
        }
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(failed),
        Err(_elapsed) => Err(failed(format!("it does not answer {named} within {PATIENCE:?}"))),
    }
}
