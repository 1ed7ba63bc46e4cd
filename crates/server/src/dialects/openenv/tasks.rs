//! The Task API: lists of tasks that some environments have.

use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::answer;
use super::served::{For, Openenv};

/// The environment's name, as the only one of a list.
pub(super) async fn list_environments(For(served): For) -> Response {
    answer::value(StatusCode::OK, &json!([served.environment.name]))
}

/// The splits of an environment's tasks.
pub(super) async fn splits(served: For, path: TaskPath) -> Response {
    not_supported(&served, &path, "list_splits")
}

/// Tasks of a split.
pub(super) async fn of_split(
    served: For,
    path: TaskPath,
    State(_): State<Openenv>,
    uri: axum::http::Uri,
) -> Response {
    let method = match uri.path().rsplit('/').next() {
        Some("num_tasks") => "num_tasks",
        Some("task") => "get_task",
        Some("task_range") => "get_task_range",
        _ => "list_tasks",
    };
    not_supported(&served, &path, method)
}

/// The name in the path.
type TaskPath = Path<std::collections::HashMap<String, String>>;

fn not_supported(For(served): &For, Path(path): &TaskPath, method: &str) -> Response {
    let name = path.get("env_name").map(String::as_str).unwrap_or_default();
    if !name.eq_ignore_ascii_case(&served.environment.name) {
        return answer::detail(StatusCode::NOT_FOUND, &format!("unknown environment '{name}'"));
    }
    let detail = format!("{method} is not supported for this environment");
    answer::detail(StatusCode::NOT_IMPLEMENTED, &detail)
}
