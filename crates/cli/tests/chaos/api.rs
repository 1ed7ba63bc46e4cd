//! The HTTP API as a client sees it that repeats what was not answered.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use hothouse_domain::{PoolInfo, Problem, SandboxInfo};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(60);

/// Connections that a client keeps when it needs them no more.
pub(crate) const IDLE: usize = 4;

/// A client of one server, as long as that lives.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    /// `http://127.0.0.1:PORT`.
    pub(crate) base: String,
    pub(crate) http: reqwest::Client,
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Answer {
    /// What it says, when it is one of success.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        ensure!((200..300).contains(&self.status), "{}", self.text());
        serde_json::from_slice(&self.body).with_context(|| self.text())
    }

    /// The problem that it is.
    pub(crate) fn problem(&self) -> Result<Problem> {
        ensure!(self.status >= 400, "no problem but {}", self.text());
        serde_json::from_slice(&self.body).with_context(|| self.text())
    }

    /// Status and body for a message.
    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.status, String::from_utf8_lossy(&self.body))
    }

    /// Nothing, when the status is one of these.
    pub(crate) fn expect(self, statuses: &[u16]) -> Result<Self> {
        ensure!(statuses.contains(&self.status), "wanted {statuses:?}, got {}", self.text());
        Ok(self)
    }
}

impl Api {
    /// A client with connections of its own.
    pub(crate) fn new(base: &str) -> Result<Self> {
        // Every client wants one, TLS or not; the first one stays.
        drop(tokio_rustls::rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .timeout(ANSWER)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(IDLE)
            .build()?;
        Ok(Self { base: base.to_owned(), http })
    }

    /// Sends one request; an error means that nobody knows what became of it.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let request = self.http.request(method, format!("{}{path}", self.base));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let response = request.send().await.with_context(|| path.to_owned())?;
        let status = response.status().as_u16();
        Ok(Answer { status, body: response.bytes().await.with_context(|| path.to_owned())? })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(Method::DELETE, path, None).await
    }

    /// Makes a small sandbox; its id.
    pub(crate) async fn create(&self) -> Result<String> {
        let made: SandboxInfo = self.post("/v1/sandboxes", &json!({})).await?.json()?;
        Ok(made.id.to_string())
    }

    /// Claims a sandbox from a pool; its id.
    pub(crate) async fn claim(&self, pool: &str, body: &Value) -> Result<String> {
        let given: SandboxInfo = self.post(&format!("/v1/pools/{pool}/claim"), body).await?.json()?;
        Ok(given.id.to_string())
    }

    /// Every sandbox that has this label, or every one.
    pub(crate) async fn sandboxes(&self, label: Option<&str>) -> Result<Vec<SandboxInfo>> {
        let label = label.map(|label| format!("&label={}", label.replace('=', "%3D"))).unwrap_or_default();
        let page: Value = self.get(&format!("/v1/sandboxes?limit=1000{label}")).await?.json()?;
        Ok(serde_json::from_value(page["items"].clone())?)
    }

    /// One sandbox.
    pub(crate) async fn sandbox(&self, id: &str) -> Result<SandboxInfo> {
        self.get(&format!("/v1/sandboxes/{id}")).await?.json()
    }

    /// Deletes a sandbox; one that is gone is as good.
    pub(crate) async fn remove(&self, id: &str) -> Result<()> {
        self.delete(&format!("/v1/sandboxes/{id}")).await?.expect(&[204, 404, 410])?;
        Ok(())
    }

    /// One pool.
    pub(crate) async fn pool(&self, name: &str) -> Result<PoolInfo> {
        self.get(&format!("/v1/pools/{name}")).await?.json()
    }

    /// A file of a sandbox; nothing where there is none.
    pub(crate) async fn file(&self, sandbox: &str, path: &str) -> Result<String> {
        let answer = self.get(&format!("/v1/sandboxes/{sandbox}/files?path={path}")).await?;
        match answer.status {
            200 => Ok(String::from_utf8_lossy(&answer.body).into_owned()),
            404 if answer.problem()?.code.as_str() == "file_not_found" => Ok(String::new()),
            _ => bail!("{path} in {sandbox}: {}", answer.text()),
        }
    }

    /// A gauge of `/metrics`.
    pub(crate) async fn gauge(&self, name: &str) -> Result<u64> {
        let answer = self.get("/metrics").await?;
        let text = String::from_utf8_lossy(&answer.body);
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.with_context(|| format!("no {name} in the counters"))
    }
}
