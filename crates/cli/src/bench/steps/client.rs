//! The official Python client in a closed loop.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::lane::Tally;
use super::place::Placement;
use super::target::Target;

const PROGRAM: &str = include_str!("python_client.py");

#[derive(Debug, Deserialize)]
struct Said {
    latencies_ns: Vec<u64>,
    elapsed_s: f64,
    cpu_s: f64,
}

/// Steps so many sessions for so long, with the client of the package `openenv`.
///
/// # Errors
/// When it fails, or is answered with something else than an echo.
pub(super) fn step(
    python: &Path,
    target: &Target,
    placement: &Placement,
    sessions: usize,
    time: Duration,
) -> anyhow::Result<Tally> {
    let mut command = Command::new(python);
    command
        .args(["-c", PROGRAM, &target.url(), &sessions.to_string(), &time.as_secs_f64().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = std::thread::scope(|scope| {
        // On a thread of its own: the program has the cores of the thread that starts it.
        let started = scope.spawn(|| {
            placement.keep_load(0)?;
            command.output().with_context(|| format!("running {}", python.display()))
        });
        match started.join() {
            Ok(output) => output,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "the official client ended with {}: {}",
            output.status,
            said.lines().last().unwrap_or("no message")
        );
    }
    let said: Said =
        serde_json::from_slice(&output.stdout).context("reading what the official client found")?;
    Ok(Tally {
        latencies: said.latencies_ns.into_iter().map(Duration::from_nanos).collect(),
        elapsed: Duration::try_from_secs_f64(said.elapsed_s).context("a duration")?,
        cpu: Duration::try_from_secs_f64(said.cpu_s).context("a processor time")?,
        ..Tally::default()
    })
}
