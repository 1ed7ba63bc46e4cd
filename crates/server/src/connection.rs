//! Connections: taken one by one, bounded in number, closed in order.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hothouse_domain::ErrorCode;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::door::Door;
use crate::linger::Linger;
use crate::problem::Refusal;

/// Pause after the kernel had no descriptor or memory for a connection: the next try would fail at once too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Refused clients that are told so at once. More wait in the kernel: each holds a descriptor meanwhile.
const REFUSED_AT_ONCE: usize = 32;
/// Time for telling a client that there are too many connections.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// The connections of one server.
pub(crate) struct Connections {
    line: Line,
    tls: Option<TlsAcceptor>,
    tasks: TaskTracker,
}

/// What one connection needs; clones share it.
#[derive(Clone)]
struct Line {
    door: Door,
    router: Router,
    http: http1::Builder,
    /// Cancelled when the grace is over.
    closing: CancellationToken,
}

impl Line {
    /// Answers the requests of a connection until it ends.
    async fn serve(self, socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr) {
        let Self { door, router, http, closing } = self;
        let service = TowerToHyperService::new(router);
        let connection = http.serve_connection(TokioIo::new(socket), service).with_upgrades();
        let _open = Open::new(&door);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = door.draining.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = closing.cancelled() => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection broke");
        }
    }
}

impl Connections {
    /// No connections yet.
    pub(crate) fn new(door: Door, router: Router, tls: Option<TlsAcceptor>) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(door.limits.head_timeout)
            .max_buf_size(door.limits.head_bytes.max(8192))
            .half_close(false)
            .keep_alive(true);
        let line = Line { door, router, http, closing: CancellationToken::new() };
        Self { line, tls, tasks: TaskTracker::new() }
    }

    /// Takes connections until the server drains.
    pub(crate) async fn accept(&self, listener: &TcpListener) {
        loop {
            let accept = async {
                while self.tasks.len() >= self.line.door.limits.max_connections + REFUSED_AT_ONCE {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                listener.accept().await
            };
            let accepted = tokio::select! {
                () = self.line.door.draining.cancelled() => return,
                accepted = accept => accepted,
            };
            match accepted {
                Ok((socket, peer)) => self.take(socket, peer),
                Err(error) if is_of_the_peer(&error) => {
                    tracing::debug!(%error, "a connection broke before it was taken");
                }
                Err(error) => {
                    tracing::error!(%error, "cannot take connections; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn take(&self, socket: TcpStream, peer: SocketAddr) {
        if self.tasks.len() >= self.line.door.limits.max_connections {
            self.line.door.refused.inc();
            // Not counted among the connections, and over within its time.
            self.tasks.spawn(refuse(socket, self.line.door.limits.max_connections));
            return;
        }
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%peer, %error, "small answers may be delayed");
        }
        let (line, socket) = (self.line.clone(), Linger::new(socket));
        let Some(tls) = self.tls.clone() else {
            self.tasks.spawn(line.serve(socket, peer));
            return;
        };
        self.tasks.spawn(async move {
            // Boxed: what follows it need not hold its room.
            let handshake = Box::pin(timeout(line.door.limits.head_timeout, tls.accept(socket)));
            let shaken = tokio::select! {
                shaken = handshake => shaken,
                () = line.door.draining.cancelled() => return,
            };
            match shaken {
                Ok(Ok(socket)) => line.serve(socket, peer).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a handshake failed"),
                Err(_elapsed) => tracing::debug!(%peer, "a handshake took too long"),
            }
        });
    }

    /// Lets running requests and terminals end, at most for the grace, then closes what is left.
    pub(crate) async fn finish(self) {
        self.tasks.close();
        self.line.door.upgraded.close();
        let ended = async {
            self.tasks.wait().await;
            self.line.door.upgraded.wait().await;
        };
        if timeout(self.line.door.limits.grace, ended).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "the grace is over; closing the rest");
            self.line.closing.cancel();
            self.tasks.wait().await;
        }
    }
}

/// Counts an open connection as long as it lives.
struct Open<'a>(&'a Door);

impl<'a> Open<'a> {
    fn new(door: &'a Door) -> Self {
        door.open.inc();
        Self(door)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}

/// True for errors of one connection; the others are of this machine.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Says that there are too many connections, without reading what the client wants.
async fn refuse(socket: TcpStream, limit: usize) {
    let mut socket = Linger::new(socket);
    let detail = format!("{limit} connections are open, the server's limit; try again later");
    let refusal = Refusal::new(ErrorCode::LimitExceeded, detail);
    let status = refusal.0.status;
    let body = serde_json::to_string(&refusal.0).unwrap_or_default();
    let media_type = crate::problem::PROBLEM_JSON;
    let answer = format!(
        "HTTP/1.1 {status} Too Many Requests\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nRetry-After: 1\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    let said = async {
        socket.write_all(answer.as_bytes()).await?;
        socket.shutdown().await
    };
    match timeout(REFUSAL_TIME, said).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a refused client was gone"),
        Err(_elapsed) => tracing::debug!("a refused client did not listen"),
    }
}
