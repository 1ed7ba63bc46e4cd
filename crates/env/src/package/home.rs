//! The sandbox of a package, and what runs in it: started when it is wanted, and again when it is gone.

use std::time::Duration;

use hothouse_domain::exec::ExecState;
use hothouse_domain::{ExecId, ExecSpec, Outcome, SandboxSpec};
use hothouse_fleet::{Asked, Fleet};
use hothouse_sandbox::{DialStream, DialTarget, Sandbox};
use tokio::sync::Mutex;

use super::running::{failed, server_socket, worker_socket};
use super::{CODE, Target};
use crate::instance::OpenError;

/// Time for what runs in a sandbox to listen: it imports the author's module first.
const LISTENS: Duration = Duration::from_secs(120);
/// Between looks whether what is waited for has ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Characters of a program's last words.
const LAST_WORDS: usize = 4000;

/// The sandbox of a package.
#[derive(Debug)]
pub(super) struct Home {
    fleet: Fleet,
    spec: SandboxSpec,
    program: ExecSpec,
    listens: DialTarget,
    running: Mutex<Option<Running>>,
}

#[derive(Debug, Clone)]
struct Running {
    sandbox: Sandbox,
    exec_id: ExecId,
}

impl Home {
    /// One in which a worker runs.
    pub(super) fn worker(fleet: Fleet, spec: SandboxSpec, target: &Target) -> Self {
        let listens = worker_socket();
        let argv = ["python3", "-m", "hothouse.worker", &target.for_worker(), "--socket", path(&listens)];
        let program = ExecSpec { argv: Some(argv.map(str::to_owned).to_vec()), ..ExecSpec::default() };
        Self { fleet, spec, program, listens, running: Mutex::default() }
    }

    /// One in which the package's own server runs.
    pub(super) fn server(fleet: Fleet, spec: SandboxSpec, target: &Target) -> Self {
        let listens = server_socket();
        let argv = ["python3", "-m", "hothouse.worker.own_server", &target.for_worker(), path(&listens)];
        let cwd = match target {
            Target::Directory { manifest, .. } => Some(format!("{CODE}/{}", manifest.name)),
            Target::Gymnasium(_) | Target::PettingZoo(_) => None,
        };
        let program = ExecSpec { argv: Some(argv.map(str::to_owned).to_vec()), cwd, ..ExecSpec::default() };
        Self { fleet, spec, program, listens, running: Mutex::default() }
    }

    /// Another one in which the same runs.
    pub(super) fn another(&self) -> Self {
        Self {
            fleet: self.fleet.clone(),
            spec: self.spec.clone(),
            program: self.program.clone(),
            listens: self.listens.clone(),
            running: Mutex::default(),
        }
    }

    /// A connection to what runs in it, which is started if it does not run.
    pub(super) async fn connect(&self) -> Result<DialStream, String> {
        let mut running = self.running.lock().await;
        if let Some(there) = running.as_ref() {
            // No wait: what has listened once listens, or is gone.
            match there.sandbox.dial(&self.listens, Duration::ZERO).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    tracing::warn!(sandbox = %there.sandbox.id(), %error, "starting an environment again")
                }
            }
        }
        if let Some(gone) = running.take() {
            // What is left of it is of no use; that it is gone already is no error.
            _ = self.fleet.node().delete(gone.sandbox.id()).await;
        }
        let (there, stream) = self.start().await?;
        *running = Some(there);
        Ok(stream)
    }

    async fn start(&self) -> Result<(Running, DialStream), String> {
        let created = self.fleet.create(self.spec.clone(), Asked::default()).await;
        let (sandbox, _) = created.map_err(|error| format!("its sandbox cannot be made: {error}"))?;
        let there = async {
            let started = sandbox.exec_detached(self.program.clone()).await;
            let exec_id = started.map_err(|error| format!("it cannot be started: {error}"))?.exec_id;
            let running = Running { sandbox: sandbox.clone(), exec_id };
            let stream = tokio::select! {
                stream = sandbox.dial(&self.listens, LISTENS) => {
                    stream.map_err(|error| format!("it does not listen: {error}"))?
                }
                words = running.ended() => return Err(words),
            };
            Ok((running, stream))
        };
        match there.await {
            Ok(there) => Ok(there),
            Err(error) => {
                // Why it did not start is what counts.
                _ = self.fleet.node().delete(sandbox.id()).await;
                Err(error)
            }
        }
    }
}

impl Running {
    /// Waits until the program has ended; its last words.
    async fn ended(&self) -> String {
        loop {
            match self.sandbox.exec_status(&self.exec_id).await {
                Ok(status) => {
                    if let ExecState::Finished { result } = status.state {
                        let said =
                            if result.stderr.trim().is_empty() { result.stdout } else { result.stderr };
                        let skipped = said.trim().chars().count().saturating_sub(LAST_WORDS);
                        let said: String = said.trim().chars().skip(skipped).collect();
                        return format!("it has ended: {said}");
                    }
                }
                Err(error) => return format!("it cannot be looked at: {error}"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The version of a sandbox's Python, e.g. `3.11`.
pub(super) async fn python_of(fleet: &Fleet, spec: &SandboxSpec) -> Result<String, OpenError> {
    let (sandbox, _) = fleet.create(spec.clone(), Asked::default()).await.map_err(failed)?;
    let code = "import sys; print('%d.%d' % sys.version_info[:2])";
    let argv = ["python3", "-c", code].map(str::to_owned).to_vec();
    let result =
        sandbox.exec(ExecSpec { argv: Some(argv), timeout_s: Some(60.0), ..ExecSpec::default() }).await;
    // What it was made for is done.
    _ = fleet.node().delete(sandbox.id()).await;
    let result = result.map_err(failed)?;
    match result.outcome {
        Outcome::Exited { code: 0 } => Ok(result.stdout.trim().to_owned()),
        Outcome::FailedToStart { reason } => {
            Err(failed(format!("image {} has no python3, which the environment needs: {reason}", spec.image)))
        }
        Outcome::Exited { .. }
        | Outcome::Signalled { .. }
        | Outcome::TimedOut
        | Outcome::OomKilled
        | Outcome::Lost { .. } => {
            Err(failed(format!("python3 of image {} does not run: {}", spec.image, result.stderr.trim())))
        }
    }
}

fn path(target: &DialTarget) -> &str {
    match target {
        DialTarget::Path(path) => path,
        DialTarget::Port(_) => "",
    }
}
