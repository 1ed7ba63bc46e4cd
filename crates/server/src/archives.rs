//! Many files at once: tar archives and patches.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hothouse_domain::files::FilesChanged;
use hothouse_domain::{Problem, SandboxId};

use crate::app::App;
use crate::body::Content;
use crate::files::reader_body;
use crate::problem::{Refusal, json_response};
use crate::query::Query;
use crate::target::InSandbox;

/// The most leading components that a patch may strip.
const MAX_STRIP: u32 = 64;

/// A tar archive of a file or directory, names relative to it.
#[utoipa::path(get, operation_id = "archive_download", path = "/v1/sandboxes/{sandbox_id}/archive", tag = "files",
    params(("sandbox_id" = SandboxId, Path), ("path" = String, Query, description = "Absolute path in the sandbox")),
    responses(
    (status = 200, body = Vec<u8>, content_type = "application/x-tar"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn download(InSandbox(sandbox): InSandbox, mut query: Query) -> Result<Response, Refusal> {
    let path = query.path("path")?;
    query.finish()?;
    let reader = sandbox.tar_out(&path).await?;
    let media_type = HeaderValue::from_static("application/x-tar");
    Ok(([(header::CONTENT_TYPE, media_type)], reader_body(reader, None)).into_response())
}

/// Unpack a tar archive (the body, not compressed) into a directory, which is made when absent.
#[utoipa::path(put, operation_id = "archive_upload", path = "/v1/sandboxes/{sandbox_id}/archive", tag = "files",
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    params(("sandbox_id" = SandboxId, Path), ("path" = String, Query, description = "Absolute path of the directory")),
    responses(
    (status = 200, description = "Unpacked", body = FilesChanged),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn upload(
    State(app): State<App>,
    InSandbox(sandbox): InSandbox,
    mut query: Query,
    request: Request,
) -> Result<Response, Refusal> {
    let path = query.path("path")?;
    query.finish()?;
    let limits = app.limits.archive;
    // Headers and padding come on top of the content, at most three blocks of 512 bytes for an entry in practice.
    let bytes = limits.max_bytes.saturating_add(limits.max_entries.saturating_mul(4096));
    let (content, fault) = Content::new(request.into_body(), bytes, &app)?;
    let changed = sandbox.tar_in(&path, limits, content).await.map_err(|error| fault.or(error))?;
    Ok(json_response(StatusCode::OK, &changed))
}

/// Apply a unified diff (the body): all of it or nothing.
#[utoipa::path(post, operation_id = "patch_apply", path = "/v1/sandboxes/{sandbox_id}/patch", tag = "files",
    request_body(content = String, content_type = "text/x-diff"),
    params(
        ("sandbox_id" = SandboxId, Path),
        ("path" = String, Query, description = "Absolute path of the directory that its names are relative to"),
        ("strip" = Option<u32>, Query, description = "Leading components to take off the names, as `patch -p`; 1 when absent"),
    ), responses(
    (status = 200, description = "Applied", body = FilesChanged),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn patch(
    State(app): State<App>,
    InSandbox(sandbox): InSandbox,
    mut query: Query,
    request: Request,
) -> Result<Response, Refusal> {
    let path = query.path("path")?;
    let strip = query.number("strip", 0..=MAX_STRIP)?.unwrap_or(1);
    query.finish()?;
    let (content, fault) = Content::new(request.into_body(), app.limits.patch_bytes, &app)?;
    let changed = sandbox.patch(&path, strip, content).await.map_err(|error| fault.or(error))?;
    Ok(json_response(StatusCode::OK, &changed))
}
