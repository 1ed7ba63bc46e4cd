//! Answers that flow for long, and end when the key is taken away under which they were asked for.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::Response;
use futures::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use crate::auth;

/// The same answer, which ends when `revoked` is cancelled: one of events with a last event `error`, any other by breaking off.
pub(crate) fn revocable(response: Response, revoked: CancellationToken) -> Response {
    let (parts, body) = response.into_parts();
    let is_events = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|media_type| media_type.starts_with("text/event-stream"));
    if !is_events {
        let cut = stream::once(async move {
            revoked.cancelled_owned().await;
            Err(axum::Error::new(std::io::Error::other("the key was revoked")))
        });
        let whole = body.into_data_stream();
        return Response::from_parts(parts, Body::from_stream(until_cut(whole, cut)));
    }
    let last = stream::once(async move {
        revoked.cancelled_owned().await;
        let problem = serde_json::to_string(&*auth::revoked().0).unwrap_or_default();
        Ok(Bytes::from(format!("event: error\ndata: {problem}\n\n")))
    });
    let whole = body.into_data_stream();
    Response::from_parts(parts, Body::from_stream(until_cut(whole, last)))
}

type Chunk = Result<Bytes, axum::Error>;

/// `whole`, or as much of it as came before the one chunk of `cut`, and that.
fn until_cut(
    whole: impl futures::Stream<Item = Chunk> + Send + 'static,
    cut: impl futures::Stream<Item = Chunk> + Send + 'static,
) -> impl futures::Stream<Item = Chunk> + Send + 'static {
    let state = Some((Box::pin(whole), Box::pin(cut)));
    stream::unfold(state, |state| async move {
        let (mut whole, mut cut) = state?;
        tokio::select! {
            chunk = whole.next() => chunk.map(|chunk| (chunk, Some((whole, cut)))),
            chunk = cut.next() => chunk.map(|chunk| (chunk, None)),
        }
    })
}
