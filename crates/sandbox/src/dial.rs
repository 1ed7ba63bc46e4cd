//! A connection to what listens in a sandbox, as a byte stream.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use hothouse_guest::frame::Channel;
pub use hothouse_guest::message::DialTarget;
use hothouse_guest::message::{GuestErrorCode, Reply};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::SandboxError;
use crate::link::{Event, LinkError, LinkStream, StopAt};
use crate::sandbox::{Attempt, Sandbox, cut_short, strange, unexpected};

/// A connection to what listens in a sandbox. Each direction ends for itself: `shutdown` ends ours, reading nothing is the
/// other's. Dropping it before `shutdown` breaks it off.
///
/// It lives as long as the sandbox and this process: a freeze stops it until the thaw, a restore or a death breaks it. The
/// errors that reading and writing give carry a [`SandboxError`].
pub struct DialStream {
    sandbox: Sandbox,
    stream: LinkStream,
    reading: Reading,
    writing: Writing,
}

/// Finds out what became of the sandbox.
type Explanation = Pin<Box<dyn Future<Output = SandboxError> + Send>>;

enum Reading {
    /// What arrived and was not read yet.
    Open(BytesMut),
    /// All was read.
    Ended,
    /// The connection to the guest broke; why is found out.
    Failing(Explanation),
    /// It broke, for this reason.
    Failed(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    /// `shutdown` was called.
    Ended,
}

impl fmt::Debug for DialStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reading = match &self.reading {
            Reading::Open(_) => "open",
            Reading::Ended => "ended",
            Reading::Failing(_) | Reading::Failed(_) => "failed",
        };
        f.debug_struct("DialStream")
            .field("sandbox", self.sandbox.id())
            .field("stream", &self.stream)
            .field("reading", &reading)
            .field("writing", &self.writing)
            .finish()
    }
}

impl DialStream {
    pub(crate) fn new(sandbox: Sandbox, stream: LinkStream) -> Self {
        Self { sandbox, stream, reading: Reading::Open(BytesMut::new()), writing: Writing::Open }
    }

    /// The sandbox that it leads into.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// What an event that is not content means: the end, or a failure.
    fn end(&self, event: Result<Option<Event>, LinkError>) -> Reading {
        let error = match event {
            Ok(Some(Event::End(Channel::Socket))) => return Reading::Ended,
            Ok(Some(Event::Reply(reply))) => match *reply {
                Reply::Error { code, message } => SandboxError::Guest { code, message },
                reply => strange(&reply),
            },
            Ok(Some(event)) => unexpected(&event),
            Ok(None) => cut_short(),
            Err(error) => match self.sandbox.failed(error) {
                Attempt::Final(error) => error,
                Attempt::Lost(reason) => {
                    let sandbox = self.sandbox.clone();
                    return Reading::Failing(Box::pin(async move { sandbox.lost(reason).await }));
                }
            },
        };
        Reading::Failing(Box::pin(std::future::ready(error)))
    }
}

fn broken(error: SandboxError) -> io::Error {
    let kind = match &error {
        SandboxError::Guest { code: GuestErrorCode::DialBroken, .. } => io::ErrorKind::ConnectionReset,
        _ => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, error)
}

impl AsyncRead for DialStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match &mut this.reading {
                Reading::Open(unread) if !unread.is_empty() => {
                    let count = unread.len().min(buffer.remaining());
                    buffer.put_slice(&unread[..count]);
                    unread.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Reading::Open(unread) => match ready!(this.stream.poll_next(cx)) {
                    Ok(Some(Event::Data(Channel::Socket, bytes))) => *unread = bytes,
                    event => this.reading = this.end(event),
                },
                Reading::Ended => return Poll::Ready(Ok(())),
                Reading::Failing(explanation) => {
                    let error = ready!(explanation.as_mut().poll(cx));
                    this.reading = Reading::Failed(error.to_string());
                    return Poll::Ready(Err(broken(error)));
                }
                Reading::Failed(reason) => {
                    let reason = reason.clone();
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason)));
                }
            }
        }
    }
}

impl AsyncWrite for DialStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.writing == Writing::Ended {
            let reason = "this side of the connection was shut down";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, reason)));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match ready!(self.stream.poll_send(cx, Channel::Socket, bytes, StopAt::Over)) {
            Some(count) => Poll::Ready(Ok(count)),
            None => {
                let reason = "the other end of the connection is gone; reading tells why";
                Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, reason)))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is on its way: the link keeps nothing that its socket takes.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.writing == Writing::Open {
            self.writing = Writing::Ended;
            self.stream.end(Channel::Socket);
        }
        Poll::Ready(Ok(()))
    }
}
