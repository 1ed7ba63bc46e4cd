//! The HTTP API as a client sees it; nothing here knows more than the documents say.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use hothouse_domain::{Capabilities, ExecResult, ExecSpec, ExecStatus, Problem, SandboxInfo, SandboxSpec};
use reqwest::Method;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A client of one server.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    /// `http://127.0.0.1:PORT`.
    pub(crate) base: String,
    http: reqwest::Client,
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Bytes,
}

impl Answer {
    /// The problem's code, or the status where there is none.
    pub(crate) fn code(&self) -> String {
        match serde_json::from_slice::<Problem>(&self.body) {
            Ok(problem) => problem.code.as_str().to_owned(),
            Err(_) => self.status.to_string(),
        }
    }

    fn json<T: DeserializeOwned>(&self, what: &str) -> anyhow::Result<T> {
        if !(200..300).contains(&self.status) {
            bail!("{what}: {} {}", self.status, String::from_utf8_lossy(&self.body));
        }
        serde_json::from_slice(&self.body).with_context(|| format!("the answer to {what}"))
    }
}

impl Api {
    /// A client of the server at `base`.
    pub(crate) fn new(base: &str) -> anyhow::Result<Self> {
        // Every client wants one, TLS or not; the first one stays.
        drop(tokio_rustls::rustls::crypto::ring::default_provider().install_default());
        Self::with_key(base, None)
    }

    /// One that shows this key with every request.
    pub(crate) fn with_key(base: &str, key: Option<&str>) -> anyhow::Result<Self> {
        let mut headers = reqwest::header::HeaderMap::new();
        if let Some(key) = key {
            headers.insert(reqwest::header::AUTHORIZATION, format!("Bearer {key}").parse()?);
        }
        let builder = reqwest::Client::builder().timeout(Duration::from_secs(180)).tcp_nodelay(true);
        let http = builder.default_headers(headers).build()?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), http })
    }

    /// Sends one request.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Answer> {
        let request = self.http.request(method, format!("{}{path}", self.base));
        let request = if body.first() == Some(&b'{') {
            request.header("content-type", "application/json")
        } else {
            request.header("content-type", "application/octet-stream")
        };
        let response = request.body(body).send().await.with_context(|| path.to_owned())?;
        let status = response.status().as_u16();
        Ok(Answer { status, body: response.bytes().await.with_context(|| path.to_owned())? })
    }

    /// Begins a request and leaves its answer unread.
    pub(crate) async fn begin(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<reqwest::Response> {
        let request = self.http.request(method, format!("{}{path}", self.base));
        Ok(request.header("content-type", "application/json").body(body).send().await?)
    }

    /// Sends a request that is to be carried out once.
    pub(crate) async fn once(&self, key: &str, path: &str, body: Bytes) -> anyhow::Result<Answer> {
        let request = self.http.post(format!("{}{path}", self.base)).header("idempotency-key", key);
        let response = request.header("content-type", "application/json").body(body).send().await?;
        let status = response.status().as_u16();
        Ok(Answer { status, body: response.bytes().await? })
    }

    /// Sends a body that is made while it is sent.
    pub(crate) async fn put_stream(&self, path: &str, body: reqwest::Body) -> anyhow::Result<Answer> {
        let request = self.http.put(format!("{}{path}", self.base)).body(body);
        let response = request.header("content-type", "application/octet-stream").send().await?;
        let status = response.status().as_u16();
        Ok(Answer { status, body: response.bytes().await.with_context(|| path.to_owned())? })
    }

    /// Sends a request line exactly as written, where a client library would tidy the path.
    pub(crate) async fn send_raw(&self, method: &str, target: &str) -> anyhow::Result<Answer> {
        let address = self.base.trim_start_matches("http://");
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await??;
        let text = String::from_utf8_lossy(&answer);
        let status = text.split_whitespace().nth(1).context("no status")?.parse()?;
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok(Answer { status, body: Bytes::from(body.to_owned()) })
    }

    /// What the backend enforces.
    pub(crate) async fn capabilities(&self) -> anyhow::Result<Capabilities> {
        self.send(Method::GET, "/v1/capabilities", Bytes::new()).await?.json("capabilities")
    }

    /// Makes a sandbox.
    pub(crate) async fn create(&self, spec: &SandboxSpec) -> anyhow::Result<SandboxInfo> {
        let body = serde_json::to_vec(spec)?.into();
        self.send(Method::POST, "/v1/sandboxes", body).await?.json("create")
    }

    /// Deletes a sandbox.
    pub(crate) async fn delete(&self, id: &str) -> anyhow::Result<Answer> {
        self.send(Method::DELETE, &format!("/v1/sandboxes/{id}"), Bytes::new()).await
    }

    /// Runs a command to its end, whatever the answer.
    pub(crate) async fn try_exec(&self, id: &str, spec: &ExecSpec) -> anyhow::Result<Answer> {
        let body = serde_json::to_vec(spec)?.into();
        self.send(Method::POST, &format!("/v1/sandboxes/{id}/exec"), body).await
    }

    /// Runs a command to its end.
    pub(crate) async fn exec(&self, id: &str, spec: &ExecSpec) -> anyhow::Result<ExecResult> {
        self.try_exec(id, spec).await?.json("exec")
    }

    /// Starts a command and returns its id.
    pub(crate) async fn exec_detached(&self, id: &str, spec: ExecSpec) -> anyhow::Result<ExecStatus> {
        self.try_exec(id, &ExecSpec { detach: true, ..spec }).await?.json("detached exec")
    }

    /// What a detached exec is up to.
    pub(crate) async fn exec_status(&self, id: &str, exec_id: &str) -> anyhow::Result<ExecStatus> {
        let path = format!("/v1/sandboxes/{id}/execs/{exec_id}");
        self.send(Method::GET, &path, Bytes::new()).await?.json("exec status")
    }
}
