//! The connection to what listens, and the answer that flows out of it.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::http::Request;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use hothouse_sandbox::DialStream;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::forbearing::Forbearing;
use crate::app::StreamPermit;

/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 128 << 10;

/// A connection that moves as long as somebody polls it: it has no task of its own, so that each byte wakes one task, and
/// it ends with whoever waits for it.
pub(super) struct Line {
    /// `None` when it has ended.
    connection: Option<BoxFuture<'static, hyper::Result<()>>>,
}

impl Line {
    /// Speaks HTTP on a stream.
    pub(super) async fn open(stream: DialStream) -> hyper::Result<(SendRequest<Body>, Self)> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(Forbearing::new(stream)))
            .await?;
        Ok((sender, Self { connection: Some(connection.with_upgrades().boxed()) }))
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn ask(
        &mut self,
        sender: &mut SendRequest<Body>,
        request: Request<Body>,
    ) -> hyper::Result<hyper::Response<Incoming>> {
        let mut answer = std::pin::pin!(sender.send_request(request));
        std::future::poll_fn(|cx| {
            self.poll(cx);
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// Moves what can be moved. How it ended is told by what was asked of it.
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && connection.poll_unpin(cx).is_ready()
        {
            self.connection = None;
        }
    }

    /// Waits until it has ended, or became another protocol's.
    pub(super) async fn end(mut self) -> hyper::Result<()> {
        match self.connection.take() {
            Some(connection) => connection.await,
            None => Ok(()),
        }
    }
}

/// The body of an answer, with the connection that it comes from.
pub(super) struct Answer {
    pub(super) line: Line,
    pub(super) body: Incoming,
    pub(super) _permit: StreamPermit,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        self.line.poll(cx);
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
