//! Waiting for a condition, bounded.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The longest wait for anything in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until the condition gives something.
///
/// # Errors
/// When it gives nothing for [`PATIENCE`], or fails.
pub(crate) async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await? {
            return Ok(value);
        }
        if start.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} for {what}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
