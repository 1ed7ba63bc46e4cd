//! Waiting for something, never for ever.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::timeout;

/// The longest wait for anything in these tests. Far more than it takes, since a busy machine is no mistake.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What something gives.
///
/// # Errors
/// When it has not happened after [`PATIENCE`].
pub(crate) async fn within<T>(what: &str, happens: impl Future<Output = T>) -> Result<T> {
    timeout(PATIENCE, happens).await.with_context(|| format!("waited {PATIENCE:?} for {what}"))
}

/// As [`within`], for one part of something that all of it has to be done by the deadline.
///
/// # Errors
/// When it has not happened by then.
pub(crate) async fn by<T>(deadline: Instant, what: &str, happens: impl Future<Output = T>) -> Result<T> {
    let happened = tokio::time::timeout_at(deadline.into(), happens).await;
    happened.with_context(|| format!("waited {PATIENCE:?} for {what}"))
}

/// Waits until the condition gives something.
///
/// # Errors
/// When it gives nothing for [`PATIENCE`], or fails.
pub(crate) async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let holds = async {
        loop {
            if let Some(value) = condition().await? {
                return Ok(value);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(what, holds).await?
}

/// A client that gives up as this file does, whatever a test forgets to bound.
pub(crate) fn client() -> Result<reqwest::Client> {
    // Every client wants one, TLS or not; another test may have been first.
    drop(tokio_rustls::rustls::crypto::ring::default_provider().install_default());
    Ok(reqwest::Client::builder().timeout(PATIENCE).build()?)
}
