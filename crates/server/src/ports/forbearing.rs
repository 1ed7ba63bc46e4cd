//! A stream to what may answer before it has heard all.
//!
//! An app that refuses a large upload says so and closes. What is still being sent to it then fails, and the answer lies
//! unread: whoever takes that failure for the end never sees it. So what cannot be sent any more is dropped, and how it
//! ended is told by what is read.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that tells of its end to who reads, not to who writes.
#[derive(Debug)]
pub(super) struct Forbearing<S> {
    stream: S,
    hearing: Hearing,
}

/// Whether the other end takes what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hearing {
    Yes,
    NoMore,
}

impl<S> Forbearing<S> {
    /// Wraps a stream.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, hearing: Hearing::Yes }
    }

    /// What came of sending, or of what belongs to it.
    fn sent<T>(&mut self, result: io::Result<T>, otherwise: T) -> io::Result<T> {
        match result {
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                self.hearing = Hearing::NoMore;
                Ok(otherwise)
            }
            other => other,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Forbearing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Forbearing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.hearing == Hearing::NoMore {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        Poll::Ready(self.sent(result, bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.hearing == Hearing::NoMore {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(Pin::new(&mut self.stream).poll_flush(context));
        Poll::Ready(self.sent(result, ()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.hearing == Hearing::NoMore {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(Pin::new(&mut self.stream).poll_shutdown(context));
        Poll::Ready(self.sent(result, ()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn what_was_said_is_heard_by_who_could_not_finish() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut ours = Forbearing::new(ours);
        theirs.write_all(b"no").await.unwrap();
        drop(theirs);
        ours.write_all(&vec![0; 1 << 20]).await.unwrap();
        ours.flush().await.unwrap();
        let mut said = Vec::new();
        ours.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"no");
        ours.shutdown().await.unwrap();
    }
}
