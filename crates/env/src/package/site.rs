//! What an environment requires, installed by pip into a directory of its own.

use std::path::Path;

use tokio::process::Command;

use super::layers::LayerError;

/// Characters of pip's last words.
const LAST_WORDS: usize = 2000;

/// Installs requirements for a Python version. Only wheels: what is not built needs no compiler, and runs none of its
/// author's code here.
pub(super) async fn install(requirements: &[String], python: &str, into: &Path) -> Result<(), LayerError> {
    let mut command = Command::new("python3");
    command
        .args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"])
        .args(["--only-binary=:all:", "--implementation=cp", "--python-version", python])
        .arg("--target")
        .arg(into)
        .arg("--")
        .args(requirements)
        .kill_on_drop(true);
    let output = command.output().await.map_err(|error| LayerError::NoPip(format!("python3: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    if said.ends_with("No module named pip") {
        return Err(LayerError::NoPip(said.to_owned()));
    }
    let skipped = said.chars().count().saturating_sub(LAST_WORDS);
    let said = said.chars().skip(skipped).collect();
    Err(LayerError::Pip { requirements: requirements.join(" "), said })
}
