//! The same attacks without a sandbox: what the negative controls run.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::process::Command;

/// What is put before every Python payload.
pub(crate) const PRELUDE: &str = include_str!("payloads/prelude.py");

/// A namespace of its own for attacks whose success would change this machine; the defence itself stays off.
pub(crate) const OWN_MOUNTS: &[&str] = &["unshare", "--mount", "--propagation", "private"];
/// A namespace in which PID 1 is the attack itself, which reaps nothing.
pub(crate) const OWN_PIDS: &[&str] =
    &["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc"];

/// Whether this program runs as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A wrapper that also works for an ordinary user, who becomes root of a namespace of his own.
pub(crate) fn wrapped(wrapper: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = wrapper.iter().map(|word| (*word).to_owned()).collect();
    if !is_root() && words.first().is_some_and(|word| word == "unshare") {
        words.insert(1, "--map-root-user".to_owned());
    }
    words
}

/// The last line of an output as JSON.
pub(crate) fn last_json(stdout: &str) -> anyhow::Result<Value> {
    let line = stdout.lines().rev().find(|line| line.starts_with('{')).context("no line of JSON")?;
    Ok(serde_json::from_str(line)?)
}

/// Runs a command; its standard output, whatever its exit status.
pub(crate) async fn command(words: &[String], limit: Duration) -> anyhow::Result<String> {
    let (program, args) = words.split_first().context("an empty command")?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(limit, command.output())
        .await
        .with_context(|| format!("{program} took longer than {limit:?}"))??;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if stdout.is_empty() && !output.stderr.is_empty() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(stdout)
}

/// Runs a Python payload outside and returns its report.
pub(crate) async fn python(wrapper: &[&str], payload: &str, args: &[&str]) -> anyhow::Result<Value> {
    let mut words = wrapped(wrapper);
    words.extend(["/usr/bin/python3".to_owned(), "-c".to_owned(), format!("{PRELUDE}\n{payload}")]);
    words.extend(args.iter().map(|arg| (*arg).to_owned()));
    last_json(&command(&words, Duration::from_secs(60)).await?)
}

/// Runs a shell script outside and returns its output.
pub(crate) async fn shell(wrapper: &[&str], script: &str) -> anyhow::Result<String> {
    let mut words = wrapped(wrapper);
    words.extend(["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()]);
    command(&words, Duration::from_secs(60)).await
}
