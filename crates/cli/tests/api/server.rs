//! The server under test and a client of it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::wait::{client, within};

/// A running `hothouse serve` with a home and cgroups of its own.
pub(crate) struct Server {
    child: Child,
    pub(crate) base: String,
    pub(crate) client: reqwest::Client,
    directory: TempDir,
    cgroup: Option<String>,
    start: Start,
    // Kept open: a server whose standard output is gone may complain.
    _stdout: BufReader<ChildStdout>,
}

/// How it is started, also the next time.
struct Start {
    flags: Vec<String>,
    env: Vec<(String, String)>,
}

/// What a server answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.bytes)
            .with_context(|| format!("{}: {}", self.status, String::from_utf8_lossy(&self.bytes)))
    }

    /// The body, when the status is this one.
    pub(crate) fn expect(self, status: u16) -> Result<Self> {
        ensure!(
            self.status.as_u16() == status,
            "got {}, wanted {status}: {}",
            self.status,
            String::from_utf8_lossy(&self.bytes)
        );
        Ok(self)
    }

    /// Checks that it is a problem document with this status and code.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Result<Value> {
        let media_type = self.header("content-type");
        ensure!(media_type == "application/problem+json", "{}: {media_type}", self.status);
        let problem = self.json()?;
        ensure!(
            self.status.as_u16() == status && problem["status"] == status && problem["code"] == code,
            "got {} {problem}, wanted {status} {code}",
            self.status
        );
        let complete =
            problem["detail"].is_string() && problem["title"].is_string() && problem["type"].is_string();
        ensure!(complete, "{problem}");
        Ok(problem)
    }

    /// A header as text; empty when absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Sends a request and takes the whole answer.
pub(crate) async fn send(request: RequestBuilder) -> Result<Answer> {
    let answer = async {
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        anyhow::Ok(Answer { status, headers, bytes: response.bytes().await?.to_vec() })
    };
    within("an answer", answer).await?
}

/// A name for cgroups that no other test uses.
pub(crate) fn own_cgroup() -> Option<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static SWEPT: Once = Once::new();
    SWEPT.call_once(sweep_cgroups);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    geteuid().is_root().then(|| format!("hothouse-api-{}-{count}", std::process::id()))
}

/// Removes what servers of earlier runs have left: a node leaves its own directory, which others may share.
fn sweep_cgroups() {
    let hierarchies = || std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let roots = hierarchies().map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
    for entry in roots.flat_map(std::fs::read_dir).flatten().flatten() {
        let name = entry.file_name();
        let run = name.to_str().and_then(|name| name.strip_prefix("hothouse-api-")?.split('-').next());
        let Some(run) = run else { continue };
        if !Path::new("/proc").join(run).exists() {
            // One that is still in use stays, for a later run to remove.
            drop(std::fs::remove_dir(entry.path()));
        }
    }
}

impl Server {
    /// Starts it and waits until it listens.
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// With further flags, which are those of the servers that follow it too.
    pub(crate) async fn start_with(flags: &[&str]) -> Result<Self> {
        Self::start_where(flags, &[]).await
    }

    /// With these variables too.
    pub(crate) async fn start_where(flags: &[&str], env: &[(&str, &str)]) -> Result<Self> {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let directory = tempfile::Builder::new().prefix("hothouse-api-").tempdir()?;
        Self::start_in(directory, own_cgroup(), Start { flags, env }).await
    }

    /// Kills it and starts another one on the same home.
    pub(crate) async fn killed_and_started_again(mut self) -> Result<Self> {
        self.child.start_kill()?;
        within("the end of a killed server", self.child.wait()).await??;
        let Self { directory, cgroup, start, .. } = self;
        Self::start_in(directory, cgroup, start).await
    }

    async fn start_in(directory: TempDir, cgroup: Option<String>, start: Start) -> Result<Self> {
        let log = std::fs::File::create(directory.path().join("log"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_hothouse"));
        command
            .args(["serve", "--json", "--on-exit", "destroy", "--home"])
            .arg(directory.path().join("home"))
            .env("HOTHOUSE_LISTEN", "127.0.0.1:0")
            .args(&start.flags)
            .envs(start.env.iter().map(|(name, value)| (name, value)))
            .env_remove("HOTHOUSE_SERVER")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        if let Some(cgroup) = &cgroup {
            command.args(["--cgroup", cgroup]);
        }
        let mut child = command.spawn().context("starting hothouse serve")?;
        let mut stdout = BufReader::new(child.stdout.take().context("standard output")?);
        let mut line = String::new();
        within("the server to be ready", stdout.read_line(&mut line)).await??;
        let Ok(ready) = serde_json::from_str::<Value>(&line) else {
            let log = std::fs::read_to_string(directory.path().join("log")).unwrap_or_default();
            bail!("the server said {line:?}: {log}");
        };
        let base = ready["url"].as_str().context("url")?.to_owned();
        Ok(Self { child, base, client: client()?, directory, cgroup, start, _stdout: stdout })
    }

    /// Its home.
    pub(crate) fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> Result<Pid> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        pid.context("the server has ended")
    }

    /// A request to a path.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        send(self.request(Method::GET, path)).await
    }

    /// POST without a body.
    pub(crate) async fn post_nothing(&self, path: &str) -> Result<Answer> {
        send(self.request(Method::POST, path)).await
    }

    /// POST with JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        send(self.request(Method::POST, path).json(body)).await
    }

    /// PUT with bytes.
    pub(crate) async fn put(&self, path: &str, body: impl Into<reqwest::Body>) -> Result<Answer> {
        send(self.request(Method::PUT, path).body(body)).await
    }

    /// DELETE.
    pub(crate) async fn delete(&self, path: &str) -> Result<Answer> {
        send(self.request(Method::DELETE, path)).await
    }

    /// Makes a default sandbox; its path.
    pub(crate) async fn sandbox(&self) -> Result<String> {
        let info = self.post_nothing("/v1/sandboxes").await?.expect(201)?.json()?;
        Ok(format!("/v1/sandboxes/{}", info["id"].as_str().context("id")?))
    }

    /// Runs a shell line in the sandbox at this path; its result.
    pub(crate) async fn shell(&self, sandbox: &str, line: &str) -> Result<Value> {
        let body = serde_json::json!({"shell": line, "timeout_s": 20});
        self.post(&format!("{sandbox}/exec"), &body).await?.expect(200)?.json()
    }

    /// Tells it to end.
    pub(crate) fn terminate(&self) -> Result<()> {
        Ok(kill_process(self.pid()?, Signal::TERM)?)
    }

    /// Waits until it has ended; fails when it did not end well.
    pub(crate) async fn ended(mut self) -> Result<()> {
        let status = within("the server to end", self.child.wait()).await??;
        ensure!(status.success(), "the server ended with {status}: {}", self.log());
        Ok(())
    }

    /// Ends it with all its sandboxes.
    pub(crate) async fn stop(self) -> Result<()> {
        self.terminate()?;
        self.ended().await
    }
}
