//! The client side of a measurement: raw keep-alive connections, one for each operation in flight, all on one thread,
//! so that the client takes as little of the machine as it can.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::sample::Round;

/// One keep-alive connection.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    // Reads and writes the socket; ends with this set.
    _io: JoinSet<()>,
}

impl Connection {
    async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("connecting to the server")?;
        stream.set_nodelay(true).context("setting TCP_NODELAY")?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.context("HTTP handshake")?;
        let mut io = JoinSet::new();
        io.spawn(async move {
            // A broken connection shows in the request that it breaks.
            let _ = connection.await;
        });
        Ok(Self { sender, host: address.to_string(), _io: io })
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// When the connection breaks, or the answer's status is not a success; with its body.
    pub(super) async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, &self.host)
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.into()))
            .context("building a request")?;
        self.sender.ready().await.context("connection closed")?;
        let answer = self.sender.send_request(request).await.with_context(|| format!("{path}: no answer"))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.with_context(|| format!("{path}: body"))?.to_bytes();
        if !status.is_success() {
            bail!("{path}: {}", refusal(status, &body));
        }
        Ok(body)
    }

    /// As [`Connection::call`], with the answer's JSON.
    ///
    /// # Errors
    /// As `call`, or when the answer is not what was expected.
    pub(super) async fn json<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<T> {
        let bytes = self.call(method, path, body).await?;
        serde_json::from_slice(&bytes).with_context(|| format!("{path}: unexpected answer"))
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> String {
    format!("{status}: {}", String::from_utf8_lossy(body).chars().take(400).collect::<String>())
}

/// Runs operations against a server, on this thread.
#[derive(Debug)]
pub(super) struct Driver {
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
    idle: RefCell<Vec<Connection>>,
}

impl Driver {
    /// A driver of the server at `address`.
    pub(super) fn new(address: SocketAddr) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the client's runtime")?;
        Ok(Self { runtime, address, idle: RefCell::default() })
    }

    /// Does `ops` operations, `in_flight` at once, each worker on its own connection. The operation gets its number.
    #[expect(clippy::needless_pass_by_value, reason = "callers write the closure in place")]
    pub(super) fn round<F>(&self, in_flight: usize, ops: usize, op: F) -> anyhow::Result<Round>
    where
        F: AsyncFn(&mut Connection, usize) -> anyhow::Result<()>,
    {
        self.runtime.block_on(async {
            let mut connections = self.take(in_flight).await?;
            let next = std::cell::Cell::new(0);
            let began = Instant::now();
            let mut workers: FuturesUnordered<_> = connections
                .iter_mut()
                .map(async |connection| -> anyhow::Result<Vec<Duration>> {
                    let mut latencies = Vec::with_capacity(ops / in_flight + 1);
                    loop {
                        let at = next.get();
                        if at >= ops {
                            return Ok(latencies);
                        }
                        next.set(at + 1);
                        let sent = Instant::now();
                        op(connection, at).await?;
                        latencies.push(sent.elapsed());
                    }
                })
                .collect();
            let mut latencies = Vec::with_capacity(ops);
            while let Some(done) = workers.next().await {
                latencies.extend(done?);
            }
            let elapsed = began.elapsed();
            drop(workers);
            self.idle.borrow_mut().append(&mut connections);
            Ok(Round { latencies, elapsed })
        })
    }

    /// Does one thing on one connection, not timed.
    pub(super) fn once<T, F>(&self, op: F) -> anyhow::Result<T>
    where
        F: AsyncFnOnce(&mut Connection) -> anyhow::Result<T>,
    {
        self.runtime.block_on(async {
            let mut connections = self.take(1).await?;
            let done = op(&mut connections[0]).await;
            if done.is_ok() {
                self.idle.borrow_mut().append(&mut connections);
            }
            done
        })
    }

    /// Waits, while connections are served.
    pub(super) fn pause(&self, time: Duration) {
        self.runtime.block_on(tokio::time::sleep(time));
    }

    async fn take(&self, wanted: usize) -> anyhow::Result<Vec<Connection>> {
        let mut taken = {
            let mut idle = self.idle.borrow_mut();
            let from = idle.len().saturating_sub(wanted);
            idle.split_off(from)
        };
        // The server may have closed what lay idle for long.
        taken.retain(|connection| !connection.sender.is_closed());
        while taken.len() < wanted {
            taken.push(Connection::open(self.address).await?);
        }
        Ok(taken)
    }
}
