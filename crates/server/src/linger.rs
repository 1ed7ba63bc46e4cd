//! A socket that is closed so that the client still reads the last answer.
//!
//! A server that answers early (413, 404) and closes with unread bytes in its buffer makes the kernel send a reset, and the
//! client may lose the answer to it. So the sending side is closed first, and what still comes is read and dropped, until
//! the client has had its say, or for a short time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// The longest time for what still comes.
const TOTAL: Duration = Duration::from_secs(3);
/// A client that is silent for so long has had its say.
const QUIET: Duration = Duration::from_millis(500);
/// Bytes that are dropped between two looks at the clock and at other tasks.
const AT_ONCE: usize = 1 << 20;

/// A socket that lingers at its end.
#[derive(Debug)]
pub(crate) struct Linger<S> {
    socket: S,
    end: Option<End>,
}

#[derive(Debug)]
struct End {
    quiet: Pin<Box<Sleep>>,
    last: Instant,
}

impl<S> Linger<S> {
    /// Wraps a socket.
    pub(crate) fn new(socket: S) -> Self {
        Self { socket, end: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.end.is_none() {
            ready!(Pin::new(&mut this.socket).poll_shutdown(context))?;
        }
        let end = this
            .end
            .get_or_insert_with(|| End { quiet: Box::pin(sleep(QUIET)), last: Instant::now() + TOTAL });
        let mut dropped = 0;
        let mut space = [0_u8; 8192];
        while dropped < AT_ONCE {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut this.socket).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => dropped += buffer.filled().len(),
                // The client is gone; that is all we waited for.
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        let now = Instant::now();
        if now >= end.last {
            return Poll::Ready(Ok(()));
        }
        if dropped > 0 {
            end.quiet.as_mut().reset(end.last.min(now + QUIET));
        }
        if dropped >= AT_ONCE {
            // More is there already, so nothing else would wake us.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        end.quiet.as_mut().poll(context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn the_answer_arrives_although_the_request_was_not_read() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let mut server = Linger::new(socket);
        let closing = async {
            server.write_all(b"no").await.unwrap();
            server.shutdown().await.unwrap();
            drop(server);
        };
        let sending = async {
            let body = vec![0_u8; 4 << 20];
            client.write_all(&body).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "no");
        };
        tokio::join!(closing, sending);
    }

    #[tokio::test]
    async fn a_silent_client_is_not_waited_for() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let start = Instant::now();
        Linger::new(socket).shutdown().await.unwrap();
        assert!(start.elapsed() < TOTAL);
    }
}
