//! What a sandbox has changed of its image: as a list, as a patch, as a layer.

use std::io;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use hothouse_domain::{Diff, Problem, SandboxId, SnapshotId};
use hothouse_sandbox::snapshot::diff::Entry;
use hothouse_sandbox::snapshot::export::{write_layer, write_patch};
use tokio_util::io::{ReaderStream, SyncIoBridge};

use crate::app::App;
use crate::auth::Caller;
use crate::problem::{Refusal, json_response};
use crate::query::Query;
use crate::target::{AtSnapshot, InSandbox};

/// Paths that one answer lists.
const MOST: usize = 10_000;
/// Bytes of an archive that may wait for a slow reader.
const BUFFER: usize = 256 << 10;

/// List what a sandbox has added, modified and deleted since its image. Its processes stand still meanwhile.
#[utoipa::path(get, operation_id = "diff_list", path = "/v1/sandboxes/{sandbox_id}/diff", tag = "snapshots", params(
    ("sandbox_id" = SandboxId, Path),
    ("path" = Option<String>, Query, description = "Only at and below this absolute path"),
), responses(
    (status = 200, body = Diff),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(
    State(app): State<App>,
    InSandbox(sandbox): InSandbox,
    mut query: Query,
) -> Result<Response, Refusal> {
    let below = below(&mut query)?;
    query.finish()?;
    let (_files, entries) = app.node.changes(&sandbox, below.into()).await?;
    let count = entries.len() as u64;
    let changes = entries.into_iter().take(MOST).map(|entry| entry.change).collect();
    Ok(json_response(StatusCode::OK, &Diff { changes, count }))
}

/// What a sandbox has changed of text files, as a unified diff for `patch -p1` and `git apply`.
#[utoipa::path(get, operation_id = "diff_patch", path = "/v1/sandboxes/{sandbox_id}/diff/patch", tag = "snapshots", params(
    ("sandbox_id" = SandboxId, Path),
    ("path" = Option<String>, Query, description = "Only at and below this absolute path; names begin below it"),
), responses(
    (status = 200, body = String, content_type = "text/x-diff"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn patch(
    State(app): State<App>,
    InSandbox(sandbox): InSandbox,
    mut query: Query,
) -> Result<Response, Refusal> {
    let below = below(&mut query)?;
    query.finish()?;
    let (files, mut entries) = app.node.changes(&sandbox, below.clone().into()).await?;
    for entry in &mut entries {
        if let Some(name) = entry.change.path.strip_prefix(below.trim_end_matches('/')) {
            entry.change.path = name.to_owned();
        }
    }
    Ok(written("text/x-diff", files, entries, write_patch))
}

/// What a sandbox has changed, as a layer of an OCI image: a tar archive in which `.wh.NAME` stands for what was deleted.
#[utoipa::path(get, operation_id = "diff_layer", path = "/v1/sandboxes/{sandbox_id}/diff/layer", tag = "snapshots", params(
    ("sandbox_id" = SandboxId, Path),
    ("path" = Option<String>, Query, description = "Only at and below this absolute path"),
), responses(
    (status = 200, body = Vec<u8>, content_type = "application/vnd.oci.image.layer.v1.tar"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn layer(
    State(app): State<App>,
    InSandbox(sandbox): InSandbox,
    mut query: Query,
) -> Result<Response, Refusal> {
    let below = below(&mut query)?;
    query.finish()?;
    let (files, entries) = app.node.changes(&sandbox, below.into()).await?;
    Ok(written(LAYER, files, entries, write_layer))
}

/// What a snapshot changes of its image, as a layer of an OCI image.
#[utoipa::path(get, operation_id = "snapshot_layer", path = "/v1/snapshots/{snapshot_id}/layer", tag = "snapshots",
    params(("snapshot_id" = SnapshotId, Path)), responses(
    (status = 200, body = Vec<u8>, content_type = "application/vnd.oci.image.layer.v1.tar"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn of_snapshot(
    State(app): State<App>,
    caller: Caller,
    AtSnapshot(id): AtSnapshot,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    let files = app.node.use_snapshot(&id, caller.scope())?;
    let entries = app.node.snapshot_changes(&id, "/".into()).await?;
    Ok(written(LAYER, files, entries, write_layer))
}

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn below(query: &mut Query) -> Result<String, Refusal> {
    Ok(query.optional_path("path")?.unwrap_or_else(|| "/".to_owned()))
}

/// Writes entries into the body of an answer, as fast as they are read. One that breaks off is seen by its reader: its
/// last chunk does not come.
fn written(
    media_type: &'static str,
    files: impl Send + 'static,
    entries: Vec<Entry>,
    write: impl FnOnce(&[Entry], SyncIoBridge<tokio::io::DuplexStream>) -> io::Result<()> + Send + 'static,
) -> Response {
    let (reader, writer) = tokio::io::duplex(BUFFER);
    let (failed, failure) = tokio::sync::oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let result = write(&entries, SyncIoBridge::new(writer));
        drop(files);
        if let Err(error) = &result {
            tracing::error!(%error, "writing what was changed");
        }
        // A reader that has left needs to hear of nothing.
        drop(failed.send(result));
    });
    let end = futures::stream::once(async move { failure.await.unwrap_or(Ok(())) })
        .filter_map(|result| async move { result.err().map(Err) });
    let body = Body::from_stream(ReaderStream::new(reader).chain(end));
    ([(header::CONTENT_TYPE, HeaderValue::from_static(media_type))], body).into_response()
}
