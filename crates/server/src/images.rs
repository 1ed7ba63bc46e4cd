//! Images: fetch, upload, find, remove, download.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use hothouse_domain::image::{PruneSpec, Pruned, PullEvent};
use hothouse_domain::{ImageInfo, ImageName, Problem, PullSpec};
use hothouse_sandbox::image::Pull;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::{App, StreamPermit};
use crate::body::{Content, JsonBody, OptionalJsonBody};
use crate::problem::{Refusal, json_response};
use crate::query::Query;
use crate::target::AtImage;

const LINES: &str = "application/x-ndjson";

/// All images, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImageList {
    /// The images.
    items: Vec<ImageInfo>,
}

/// List the images of the store, the newest first.
#[utoipa::path(get, operation_id = "image_list", path = "/v1/images", tag = "images", responses(
    (status = 200, body = ImageList),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(State(app): State<App>, query: Query) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &ImageList { items: app.node.images().list().await? }))
}

/// Look at one image.
#[utoipa::path(get, operation_id = "image_get", path = "/v1/images/{image}", tag = "images",
    params(("image" = String, Path, description = "`NAME[:TAG]` or `sha256:HEX`, slashes escaped")), responses(
    (status = 200, body = ImageInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn get(
    State(app): State<App>,
    AtImage(image): AtImage,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &app.node.images().inspect(&image).await?))
}

/// Fetch an image into the store; one that is there and unchanged costs a look. It goes on when the caller leaves.
///
/// With `Accept: application/x-ndjson` it tells how far it is, an event a line, and its last line is `done` or `failed`.
#[utoipa::path(post, operation_id = "image_pull", path = "/v1/images/pull", tag = "images", request_body = PullSpec, responses(
    (status = 200, description = "It is there", content(
        (ImageInfo = "application/json"), (PullEvent = "application/x-ndjson"),
    )),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn pull(
    State(app): State<App>,
    headers: HeaderMap,
    query: Query,
    JsonBody(spec): JsonBody<PullSpec>,
) -> Result<Response, Refusal> {
    query.finish()?;
    let followed =
        headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|a| a.contains(LINES));
    if !followed {
        let pull = app.node.images().pull(spec);
        return Ok(json_response(StatusCode::OK, &pull.done().await?));
    }
    let permit = app.stream_permit()?;
    let pull = app.node.images().pull(spec);
    let body = Body::from_stream(events(pull, permit));
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(LINES))], body).into_response())
}

/// Says how far it is whenever that changes, and how it ended.
fn events(pull: Pull, permit: StreamPermit) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let mut told = pull.progress().watch();
    told.mark_changed();
    let done = Box::pin(pull.done());
    futures::stream::unfold(Some((done, told, permit)), |state| async move {
        let (mut done, mut told, permit) = state?;
        tokio::select! {
            biased;
            outcome = &mut done => {
                let event = match outcome {
                    Ok(image) => PullEvent::Done(Box::new(image)),
                    Err(error) => PullEvent::Failed(Box::new(error.problem())),
                };
                Some((Ok(line(&event)), None))
            }
            Ok(()) = told.changed() => {
                let event = PullEvent::Progress(*told.borrow_and_update());
                Some((Ok(line(&event)), Some((done, told, permit))))
            }
        }
    })
}

fn line(event: &PullEvent) -> Bytes {
    // Nothing in it cannot be written as JSON.
    let mut text = serde_json::to_vec(event).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// Upload an archive (the body): `docker save`, an OCI layout or a root file system, plain or compressed with gzip or zstd.
#[utoipa::path(post, operation_id = "image_import", path = "/v1/images/import", tag = "images",
    request_body(content = Vec<u8>, content_type = "application/x-tar"), params(
    ("name" = Option<ImageName>, Query, description = "What it is called in the store, beside its own names; may repeat"),
    ("which" = Option<String>, Query, description = "Its name in the archive, where there are several"),
), responses(
    (status = 201, description = "It is there", body = ImageInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn import(
    State(app): State<App>,
    mut query: Query,
    request: Request,
) -> Result<Response, Refusal> {
    let which = query.take("which")?;
    let names =
        query.take_all("name").iter().map(|name| name.parse()).collect::<Result<Vec<ImageName>, _>>()?;
    query.finish()?;
    let (content, fault) = Content::new(request.into_body(), app.limits.image_bytes, &app)?;
    let images = app.node.images().clone();
    let received = images.receive(content, which, names, std::sync::Arc::default()).await;
    Ok(json_response(StatusCode::CREATED, &received.map_err(|error| fault.or(error))?))
}

/// Remove an image, or by one of several names only that name. One that sandboxes are made from stays.
#[utoipa::path(delete, operation_id = "image_delete", path = "/v1/images/{image}", tag = "images",
    params(("image" = String, Path, description = "`NAME[:TAG]` or `sha256:HEX`, slashes escaped")), responses(
    (status = 200, description = "What is gone", body = Pruned),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn delete(
    State(app): State<App>,
    AtImage(image): AtImage,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &app.node.images().remove(&image).await?))
}

/// Remove images that nothing uses: those without a name, or all.
#[utoipa::path(post, operation_id = "image_prune", path = "/v1/images/prune", tag = "images",
    request_body = Option<PruneSpec>, responses(
    (status = 200, description = "What is gone", body = Pruned),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn prune(
    State(app): State<App>,
    query: Query,
    OptionalJsonBody(spec): OptionalJsonBody<PruneSpec>,
) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &app.node.images().prune(spec).await?))
}

/// Download an image as an archive: what `docker save` writes, which is an OCI layout too.
#[utoipa::path(get, operation_id = "image_export", path = "/v1/images/{image}/archive", tag = "images",
    params(("image" = String, Path, description = "`NAME[:TAG]` or `sha256:HEX`, slashes escaped")), responses(
    (status = 200, body = Vec<u8>, content_type = "application/x-tar"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn export(
    State(app): State<App>,
    AtImage(image): AtImage,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    let archive = app.node.images().export(&image).await?;
    let media_type = HeaderValue::from_static("application/x-tar");
    Ok(([(header::CONTENT_TYPE, media_type)], Body::from_stream(archive)).into_response())
}
