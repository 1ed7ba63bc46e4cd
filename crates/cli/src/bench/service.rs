//! A real `hothouse serve`, started for one bench and ended with it.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hyper::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;

use super::footprint::children;
use super::http::{Connection, Driver};

/// A running server with a home of its own.
#[derive(Debug)]
pub(super) struct Service {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
    cgroup: String,
    // Kept open: a server whose standard output is gone may complain.
    stdout: BufReader<ChildStdout>,
}

impl Service {
    /// Starts this same program as a server on a free port and waits until it says that it is ready.
    ///
    /// # Errors
    /// When it does not come up; with the end of what it logged.
    pub(super) fn start() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("hothouse-bench-")
            .tempdir()
            .context("making a directory for the bench's server")?;
        // Its own cgroups: another server on this machine sweeps what it does not know in its own only.
        let cgroup = format!("hothouse-bench-{}", std::process::id());
        let (child, address, stdout) = launch(&directory, &cgroup)?;
        Ok(Self { child, address, directory, cgroup, stdout })
    }

    /// Kills it, and starts another one on what it has left. Says how long that one took until it was ready.
    ///
    /// # Errors
    /// When it cannot be killed, or the other one does not come up.
    pub(super) fn kill_and_start_again(&mut self) -> anyhow::Result<Duration> {
        self.child.kill().context("killing the server")?;
        self.child.wait().context("waiting for the killed server")?;
        let begin = Instant::now();
        let (child, address, stdout) = launch(&self.directory, &self.cgroup)?;
        let took = begin.elapsed();
        (self.child, self.address, self.stdout) = (child, address, stdout);
        Ok(took)
    }

    /// A client of it.
    ///
    /// # Errors
    /// When the client's runtime does not start.
    pub(super) fn driver(&self) -> anyhow::Result<Driver> {
        Driver::new(self.address)
    }

    /// The server's process and those that it started and are part of it: the spawner.
    pub(super) fn processes(&self) -> Vec<u32> {
        let server = self.child.id();
        let mut pids = vec![server];
        pids.extend(children(server));
        pids
    }

    /// Its home.
    pub(super) fn home(&self) -> PathBuf {
        home_in(&self.directory)
    }

    /// The name of its cgroup directory, its own.
    pub(super) fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Ends it and waits until it has destroyed its sandboxes.
    ///
    /// # Errors
    /// When it cannot be told to end, or ends with a failure; with the end of what it logged.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).context("ending the server")?;
        let status = self.child.wait().context("waiting for the server")?;
        if !status.success() {
            bail!("the server ended with {status}: {}", tail(&self.directory.path().join("log")));
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Only after a failed bench: the server is still there and is told to end; if it has gone, nothing is to do.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// Starts the program as a server in this directory and waits until it says that it is ready.
fn launch(directory: &TempDir, cgroup: &str) -> anyhow::Result<(Child, SocketAddr, BufReader<ChildStdout>)> {
    let log = File::create(directory.path().join("log")).context("making the server's log")?;
    let program = std::env::current_exe().context("finding this program")?;
    let mut child = Command::new(program)
        .args(["serve", "--listen", "127.0.0.1:0", "--on-exit", "destroy", "--max-sandboxes", "30000"])
        .arg("--home")
        .arg(home_in(directory))
        .args(rustix::process::geteuid().is_root().then_some(["--cgroup", cgroup]).into_iter().flatten())
        .env_remove("HOTHOUSE_SERVER")
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("starting the server")?;
    let stdout = child.stdout.take().context("the server has no standard output")?;
    let mut line = String::new();
    let mut stdout = BufReader::new(stdout);
    stdout.read_line(&mut line).context("reading the server's first line")?;
    let Some(address) = address_in(&line) else {
        let status = child.wait().context("waiting for the server")?;
        bail!("the server did not start ({status}): {}", tail(&directory.path().join("log")));
    };
    Ok((child, address, stdout))
}

fn home_in(directory: &TempDir) -> PathBuf {
    directory.path().join("home")
}

/// The address in the first line of a server.
pub(super) fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || "[]:.".contains(c))).unwrap_or(rest.len());
    rest[..end].trim_end_matches(['.', ':']).parse().ok()
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// What the benches need of a created sandbox.
#[derive(Debug, Deserialize)]
struct Made {
    id: String,
}

/// What the benches need of a result.
#[derive(Debug, Deserialize)]
struct Ended {
    outcome: serde_json::Value,
}

/// The body that runs `true`.
pub(super) const EXEC_TRUE: &[u8] = br#"{"argv":["true"]}"#;

/// Makes a sandbox with defaults: image `host`, no network, no pool.
///
/// # Errors
/// What the server refused.
pub(super) async fn create(connection: &mut Connection) -> anyhow::Result<String> {
    let made: Made = connection.json(Method::POST, "/v1/sandboxes", &b"{}"[..]).await?;
    Ok(made.id)
}

/// Posts a command and checks that it exited with 0: a failure must not pass for a fast success.
///
/// # Errors
/// What the server refused, or how the command ended.
pub(super) async fn run_ok(
    connection: &mut Connection,
    path: &str,
    body: &'static [u8],
) -> anyhow::Result<()> {
    let ended: Ended = connection.json(Method::POST, path, body).await?;
    if ended.outcome["kind"] != "exited" || ended.outcome["code"] != 0 {
        bail!("{path}: outcome {}", ended.outcome);
    }
    Ok(())
}

/// Destroys a sandbox.
///
/// # Errors
/// What the server refused.
pub(super) async fn destroy(connection: &mut Connection, id: &str) -> anyhow::Result<()> {
    connection.call(Method::DELETE, &format!("/v1/sandboxes/{id}"), &b""[..]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_either_form_of_the_first_line() {
        let expected: SocketAddr = "127.0.0.1:4711".parse().unwrap();
        assert_eq!(address_in("hothouse listens on http://127.0.0.1:4711\n"), Some(expected));
        assert_eq!(address_in("{\"url\":\"http://127.0.0.1:4711\"}\n"), Some(expected));
        assert_eq!(address_in("ready: http://127.0.0.1:4711.\n"), Some(expected));
        assert_eq!(address_in(""), None);
    }
}
