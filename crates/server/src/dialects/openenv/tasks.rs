//! The Task API: lists of tasks that some environments have. The environment is asked; most have none.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::response::Response;
use hothouse_env::model::{Field, Kind, Model};
use hothouse_env::{Environment, Era, TaskError, TaskQuery};
use serde_json::{Map, Value, json};

use super::answer;
use super::request;
use super::served::For;

fn asked(title: &'static str, more: Vec<Field>) -> Model {
    let mut fields = vec![Field::new("split", Kind::Text, "Task split name")];
    fields.extend(more);
    Model::request(title, fields)
}

fn number() -> Kind {
    Kind::Integer { least: None, most: None }
}

static OF_SPLIT: LazyLock<Model> = LazyLock::new(|| asked("ListTasksRequest", Vec::new()));
static OF_INDEX: LazyLock<Model> = LazyLock::new(|| {
    asked("GetTaskRequest", vec![Field::new("index", number(), "Task index within the split")])
});
static OF_RANGE: LazyLock<Model> = LazyLock::new(|| {
    let bound =
        |name, description| Field::new(name, Kind::Optional(Box::new(number())), description).or(Value::Null);
    asked(
        "GetTaskRangeRequest",
        vec![bound("start", "Inclusive start index"), bound("stop", "Exclusive stop index")],
    )
});

/// The name in the path.
type TaskPath = Path<HashMap<String, String>>;

/// The environment's name, as the only one of a list.
pub(super) async fn list_environments(For(served): For) -> Response {
    answer::value(StatusCode::OK, &json!([served.environment.name]))
}

/// The splits of an environment's tasks.
pub(super) async fn splits(For(served): For, path: TaskPath) -> Response {
    let environment = &served.environment;
    if let Some(unknown) = unknown(environment, &path) {
        return unknown;
    }
    match environment.tasks(&TaskQuery::Splits).await {
        Ok(Value::Array(splits)) => {
            let splits: Vec<Value> = splits.into_iter().map(normal).collect();
            answer::value(StatusCode::OK, &splits.into())
        }
        Ok(other) => no_list(&other),
        Err(error) => refused(&error),
    }
}

/// Tasks of a split, how many there are, one of them, or some.
pub(super) async fn of_split(For(served): For, path: TaskPath, request: Request<Body>) -> Response {
    let environment = &served.environment;
    let (parts, body) = request.into_parts();
    let last = parts.uri.path().rsplit('/').next().unwrap_or_default();
    let model = match last {
        "task" => &OF_INDEX,
        "task_range" => &OF_RANGE,
        _ => &OF_SPLIT,
    };
    let given = match request::read(body, served.settings.message_bytes).await {
        Ok(body) => request::checked(model, &body, &parts.headers, Era::Today),
        Err(refusal) => Err(refusal),
    };
    // As FastAPI has it: a body that is wrong is told before a name that is.
    let given = match given {
        Ok(given) => given,
        Err(refusal) => return *refusal,
    };
    if let Some(unknown) = unknown(environment, &path) {
        return unknown;
    }
    let query = query(last, &given);
    match environment.tasks(&query).await {
        Ok(found) => {
            let body = match query {
                TaskQuery::Count { .. } => json!({"num_tasks": found}),
                TaskQuery::Task { .. } => json!({"task": found}),
                TaskQuery::Tasks { .. } => json!({"tasks": found, "env_name": environment.name}),
                TaskQuery::Splits | TaskQuery::Range { .. } => json!({"tasks": found}),
            };
            answer::value(StatusCode::OK, &body)
        }
        Err(error) => refused(&error),
    }
}

fn query(last: &str, given: &Map<String, Value>) -> TaskQuery {
    let number = |name: &str| given.get(name).and_then(Value::as_i64);
    let split = given.get("split").and_then(Value::as_str).unwrap_or_default().to_owned();
    match last {
        "num_tasks" => TaskQuery::Count { split },
        "task" => TaskQuery::Task { split, index: number("index").unwrap_or_default() },
        "task_range" => TaskQuery::Range { split, start: number("start"), stop: number("stop") },
        _ => TaskQuery::Tasks { split },
    }
}

/// A split may be named alone; it is of a kind all the same.
fn normal(split: Value) -> Value {
    let name = match split {
        Value::Object(_) => return split,
        Value::String(name) => name,
        other => other.to_string(),
    };
    let kind = if matches!(name.as_str(), "train" | "validation" | "test") { &name } else { "validation" };
    json!({"name": name, "type": kind})
}

fn unknown(environment: &Environment, Path(path): &TaskPath) -> Option<Response> {
    let name = path.get("env_name").map(String::as_str).unwrap_or_default();
    if name.eq_ignore_ascii_case(&environment.name) {
        return None;
    }
    Some(answer::detail(StatusCode::NOT_FOUND, &format!("unknown environment '{name}'")))
}

fn no_list(other: &Value) -> Response {
    let detail = format!("list_splits gave no list but {other}");
    answer::detail(StatusCode::INTERNAL_SERVER_ERROR, &detail)
}

fn refused(error: &TaskError) -> Response {
    let status = match error {
        TaskError::NotSupported(_) => StatusCode::NOT_IMPLEMENTED,
        TaskError::Index => StatusCode::BAD_REQUEST,
        TaskError::Failed(failed) => {
            let traceback = failed.traceback.as_deref().unwrap_or_default();
            tracing::warn!(error = failed.message, traceback, "tasks of an environment could not be told");
            StatusCode::INTERNAL_SERVER_ERROR
        }
        TaskError::Unreached(_) => StatusCode::BAD_GATEWAY,
    };
    answer::detail(status, &error.to_string())
}
