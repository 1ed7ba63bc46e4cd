//! A handle to one sandbox, wherever it is.

use bytes::Bytes;
use futures::Stream;
use hothouse_domain::files::{FileInfo, FileWritten, FilesChanged};
use hothouse_domain::{ErrorCode, ExecId, ExecResult, ExecSpec, ExecStatus, Problem, SandboxId, SandboxInfo};
use hothouse_sandbox::sandbox::{ArchiveLimits, Content, SignalTarget, WriteOptions};
use hothouse_sandbox::{FileReader, Node, OutputChunk, OutputName, Sandbox};
use reqwest::{Method, RequestBuilder, header};
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};

use super::client::ApiClient;
use super::events::EventStream;
use super::live::{Input, Live};
use crate::failure::Failure;

/// A sandbox; clones are handles to the same one. Dropping handles does not end it.
#[derive(Debug, Clone)]
pub(crate) enum SandboxHandle {
    /// In this process.
    Here {
        /// What deletes it.
        node: Node,
        /// The sandbox.
        sandbox: Sandbox,
    },
    /// At a server.
    There {
        /// The server.
        client: ApiClient,
        /// Which sandbox.
        id: SandboxId,
    },
}

impl SandboxHandle {
    pub(crate) fn here(node: Node, sandbox: Sandbox) -> Self {
        Self::Here { node, sandbox }
    }

    pub(crate) fn there(client: ApiClient, id: SandboxId) -> Self {
        Self::There { client, id }
    }

    /// Its id.
    pub(crate) fn id(&self) -> &SandboxId {
        match self {
            Self::Here { sandbox, .. } => sandbox.id(),
            Self::There { id, .. } => id,
        }
    }

    /// What it is and where it is in its life.
    pub(crate) async fn info(&self) -> Result<SandboxInfo, Failure> {
        match self {
            Self::Here { sandbox, .. } => Ok(sandbox.info()),
            Self::There { client, id } => client.send_json(at(client, id, Method::GET, &[])).await,
        }
    }

    /// Runs a command to its end and returns what happened.
    pub(crate) async fn exec(&self, spec: ExecSpec) -> Result<ExecResult, Failure> {
        match self {
            Self::Here { sandbox, .. } => Ok(sandbox.exec(spec).await?),
            Self::There { client, id } => {
                client.send_json(at(client, id, Method::POST, &["exec"]).json(&spec)).await
            }
        }
    }

    /// Starts a command and returns as soon as it runs.
    pub(crate) async fn exec_detached(&self, spec: ExecSpec) -> Result<ExecStatus, Failure> {
        let spec = ExecSpec { detach: true, ..spec };
        match self {
            Self::Here { sandbox, .. } => Ok(sandbox.exec_detached(spec).await?),
            Self::There { client, id } => {
                client.send_json(at(client, id, Method::POST, &["exec"]).json(&spec)).await
            }
        }
    }

    /// Runs a command and follows it live. With a `pty` it may be talked to as a terminal.
    pub(crate) async fn exec_stream(&self, mut spec: ExecSpec) -> Result<Live, Failure> {
        let exec_id = spec.exec_id.get_or_insert_with(fresh_exec_id).clone();
        match self {
            Self::Here { sandbox, .. } => {
                let stream = sandbox.exec_stream(spec).await?;
                Ok(Live::here(sandbox.clone(), exec_id, stream))
            }
            Self::There { client, id } if spec.pty.is_some() => terminal(client, id, exec_id, spec).await,
            Self::There { client, id } => {
                let request = at(client, id, Method::POST, &["exec"])
                    .header(header::ACCEPT, "text/event-stream")
                    .json(&spec);
                let events = EventStream::new(client.clone(), client.send(request).await?);
                Ok(Live::there(client.clone(), id.clone(), exec_id, events))
            }
        }
    }

    /// Follows an exec from byte offsets in its outputs.
    pub(crate) async fn attach(&self, exec: &ExecId, stdout: u64, stderr: u64) -> Result<Live, Failure> {
        match self {
            Self::Here { sandbox, .. } => {
                let stream = sandbox.attach(exec, stdout, stderr).await?;
                Ok(Live::here(sandbox.clone(), exec.clone(), stream))
            }
            Self::There { client, id } => {
                let request = at(client, id, Method::GET, &["execs", exec.as_str(), "stream"])
                    .query(&[("stdout_from", stdout), ("stderr_from", stderr)]);
                let events = EventStream::new(client.clone(), client.send(request).await?);
                Ok(Live::there(client.clone(), id.clone(), exec.clone(), events))
            }
        }
    }

    /// Looks an exec up; a finished one comes with its kept output.
    pub(crate) async fn exec_status(&self, exec: &ExecId) -> Result<ExecStatus, Failure> {
        match self {
            Self::Here { sandbox, .. } => Ok(sandbox.exec_status(exec).await?),
            Self::There { client, id } => {
                client.send_json(at(client, id, Method::GET, &["execs", exec.as_str()])).await
            }
        }
    }

    /// The execs that the sandbox remembers, oldest first, without output.
    pub(crate) async fn execs(&self) -> Result<Vec<ExecStatus>, Failure> {
        #[derive(serde::Deserialize)]
        struct Listing {
            items: Vec<ExecStatus>,
        }
        match self {
            Self::Here { sandbox, .. } => Ok(sandbox.execs().await?),
            Self::There { client, id } => {
                let listing: Listing = client.send_json(at(client, id, Method::GET, &["execs"])).await?;
                Ok(listing.items)
            }
        }
    }

    /// Sends a running exec a signal.
    pub(crate) async fn signal(
        &self,
        exec: &ExecId,
        signal: i32,
        target: SignalTarget,
    ) -> Result<(), Failure> {
        self.input(exec.clone()).signal(signal, target).await
    }

    /// A way to talk to a running exec.
    fn input(&self, exec: ExecId) -> Input {
        match self {
            Self::Here { sandbox, .. } => Input::Here(sandbox.clone(), exec),
            Self::There { client, id } => Input::There(client.clone(), id.clone(), exec),
        }
    }

    /// What is kept of an output so far; `name` is `stdout` or `stderr`.
    pub(crate) async fn kept_output(&self, exec: &ExecId, name: &str) -> Result<Vec<u8>, Failure> {
        const AT_ONCE: u32 = 1 << 20;
        let mut all = Vec::new();
        let mut offset = 0;
        loop {
            let chunk = self.output_chunk(exec, name, offset, AT_ONCE).await?;
            if chunk.bytes.is_empty() {
                return Ok(all);
            }
            offset = chunk.offset + chunk.bytes.len() as u64;
            all.extend_from_slice(&chunk.bytes);
        }
    }

    async fn output_chunk(
        &self,
        exec: &ExecId,
        name: &str,
        offset: u64,
        max: u32,
    ) -> Result<OutputChunk, Failure> {
        match self {
            Self::Here { sandbox, .. } => {
                let from = if name == "stderr" { OutputName::Stderr } else { OutputName::Stdout };
                Ok(sandbox.read_output(exec, from, offset, max).await?)
            }
            Self::There { client, id } => {
                let (offset_text, max) = (offset.to_string(), max.to_string());
                let query = [("stream", name), ("offset", &offset_text), ("max", &max)];
                let request = at(client, id, Method::GET, &["execs", exec.as_str(), "output"])
                    .header(header::ACCEPT, "application/octet-stream")
                    .query(&query);
                let response = client.send(request).await?;
                let number = |name: &str| response.headers().get(name)?.to_str().ok()?.parse::<u64>().ok();
                let (offset, total) = (number("hothouse-offset"), number("hothouse-total"));
                let ended = response.headers().get("hothouse-ended").is_some_and(|value| value == "true");
                let bytes = response.bytes().await.map_err(|e| client.failure(&e))?;
                let offset = offset.unwrap_or_default();
                Ok(OutputChunk { offset, total: total.unwrap_or(offset), bytes, ended })
            }
        }
    }

    /// What is at a path (a link at its end is not followed).
    pub(crate) async fn stat(&self, path: &str) -> Result<FileInfo, Failure> {
        match self {
            Self::Here { sandbox, .. } => Ok(sandbox.stat(path).await?),
            Self::There { client, id } => {
                let request = at(client, id, Method::GET, &["files", "stat"]).query(&[("path", path)]);
                client.send_json(request).await
            }
        }
    }

    /// Writes a file, atomically, making missing parents.
    pub(crate) async fn write_file(
        &self,
        path: &str,
        mode: u32,
        content: impl Content + 'static,
    ) -> Result<FileWritten, Failure> {
        match self {
            Self::Here { sandbox, .. } => {
                let options = WriteOptions { mode: Some(mode), sha256: None };
                Ok(sandbox.write_file(path, options, content).await?)
            }
            Self::There { client, id } => {
                let request = at(client, id, Method::PUT, &["files"])
                    .query(&[("path", path), ("mode", &format!("{mode:o}"))])
                    .body(reqwest::Body::wrap_stream(content));
                client.send_json(request).await
            }
        }
    }

    /// Reads a regular file as it flows.
    pub(crate) async fn read_file(&self, path: &str) -> Result<Download, Failure> {
        match self {
            Self::Here { sandbox, .. } => {
                Ok(Download::Here(Box::new(sandbox.read_file(path, 0, None).await?)))
            }
            Self::There { client, id } => {
                let request = at(client, id, Method::GET, &["files"]).query(&[("path", path)]);
                Ok(Download::There(client.clone(), Box::new(client.send(request).await?)))
            }
        }
    }

    /// A tar archive of a file or directory as it flows.
    pub(crate) async fn tar_out(&self, path: &str) -> Result<Download, Failure> {
        match self {
            Self::Here { sandbox, .. } => Ok(Download::Here(Box::new(sandbox.tar_out(path).await?))),
            Self::There { client, id } => {
                let request = at(client, id, Method::GET, &["archive"]).query(&[("path", path)]);
                Ok(Download::There(client.clone(), Box::new(client.send(request).await?)))
            }
        }
    }

    /// Unpacks a tar archive into a directory, which is made when absent.
    pub(crate) async fn tar_in(
        &self,
        path: &str,
        content: impl Content + 'static,
    ) -> Result<FilesChanged, Failure> {
        match self {
            Self::Here { sandbox, .. } => Ok(sandbox.tar_in(path, ArchiveLimits::default(), content).await?),
            Self::There { client, id } => {
                let request = at(client, id, Method::PUT, &["archive"])
                    .query(&[("path", path)])
                    .body(reqwest::Body::wrap_stream(content));
                client.send_json(request).await
            }
        }
    }

    /// Destroys it; returns when nothing of it is left.
    pub(crate) async fn delete(&self) -> Result<(), Failure> {
        match self {
            Self::Here { node, sandbox } => Ok(node.delete(sandbox.id()).await?),
            Self::There { client, id } => client.send(at(client, id, Method::DELETE, &[])).await.map(drop),
        }
    }
}

/// Content as it flows out of a sandbox.
#[derive(Debug)]
pub(crate) enum Download {
    /// In this process.
    Here(Box<FileReader>),
    /// From a server.
    There(ApiClient, Box<reqwest::Response>),
}

impl Download {
    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Here(reader) => Ok(reader.next().await?),
            Self::There(client, response) => response.chunk().await.map_err(|e| client.failure(&e)),
        }
    }

    /// As a stream.
    pub(crate) fn stream(self) -> impl Stream<Item = Result<Bytes, Failure>> + Unpin {
        Box::pin(futures::stream::try_unfold(self, async |mut this| {
            Ok(this.next().await?.map(|bytes| (bytes, this)))
        }))
    }
}

/// An id that nobody else has.
pub(crate) fn fresh_exec_id() -> ExecId {
    let id = format!("ex-{}", uuid::Uuid::now_v7().simple());
    id.parse().expect("letters, digits and a dash make an id")
}

/// A request about a sandbox.
pub(super) fn at(client: &ApiClient, id: &SandboxId, method: Method, rest: &[&str]) -> RequestBuilder {
    let path = [&["v1", "sandboxes", id.as_str()], rest].concat();
    client.request(method, &path)
}

async fn terminal(client: &ApiClient, id: &SandboxId, exec: ExecId, spec: ExecSpec) -> Result<Live, Failure> {
    use futures::SinkExt as _;
    let url = client.url(&["v1", "sandboxes", id.as_str(), "terminal"]);
    let broken = |error: WebSocketError| match error {
        // The server says why.
        WebSocketError::Http(response)
            if let Some(Ok(problem)) =
                response.body().as_ref().map(|b| serde_json::from_slice::<Problem>(b)) =>
        {
            Failure::from(problem)
        }
        other => {
            Failure::new(ErrorCode::Internal, format!("opening a terminal at {}: {other}", client.base()))
        }
    };
    let mut socket = client.socket(url).await.map_err(broken)?;
    socket.send(Message::text(serde_json::to_string(&spec)?)).await.map_err(broken)?;
    Ok(Live::terminal(client.clone(), id.clone(), exec, socket))
}
