//! Waiting for something, never for ever.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// The longest wait for anything. Far more than it takes, since a busy machine is no mistake.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What something gives within [`PATIENCE`].
pub(crate) async fn within<T>(what: &str, happens: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, happens).await.with_context(|| format!("waited {PATIENCE:?} for {what}"))
}

/// Waits until the condition gives something; tells what it gave last when it never does.
pub(crate) async fn until<T>(
    what: &str,
    mut condition: impl AsyncFnMut() -> Result<Result<T, String>>,
) -> Result<T> {
    let mut last = String::new();
    let holds = async {
        loop {
            match condition().await? {
                Ok(value) => return anyhow::Ok(value),
                Err(state) => last = state,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let held = within(what, holds).await;
    held.with_context(|| format!("last seen: {last}"))?
}
