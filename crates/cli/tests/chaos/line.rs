//! Where the server is reached now; nowhere while it is down.

use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::Value;
use tokio::sync::watch;

use crate::api::{Answer, Api};
use crate::wait::within;

/// Pause before a request is repeated to a server that did not go away.
const PAUSE: Duration = Duration::from_millis(50);

/// A server's address, which changes when it is killed and started again; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Line(watch::Sender<Option<Api>>);

impl Line {
    pub(crate) fn to(api: &Api) -> Self {
        Self(watch::Sender::new(Some(api.clone())))
    }

    /// The server is about to go away.
    pub(crate) fn cut(&self) {
        self.0.send_replace(None);
    }

    /// There is another one.
    pub(crate) fn connect(&self, api: &Api) {
        self.0.send_replace(Some(api.clone()));
    }

    /// The server, once there is one.
    pub(crate) async fn api(&self) -> Result<Api> {
        let mut current = self.0.subscribe();
        let api = within("a server", current.wait_for(Option::is_some)).await??;
        api.clone().context("a server")
    }

    /// Waits until there may be another server, or a moment.
    pub(crate) async fn rest(&self) {
        let mut current = self.0.subscribe();
        current.mark_unchanged();
        // Either way the next try is due.
        let _changed = tokio::time::timeout(PAUSE, current.changed()).await;
    }

    /// Sends a request until it is answered with one of these statuses; what it was, and how many tries it took.
    pub(crate) async fn insist(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        statuses: &[u16],
    ) -> Result<(Answer, u32)> {
        let mut tries = 0;
        let mut last = "nothing".to_owned();
        let asked = async {
            loop {
                tries += 1;
                match self.api().await?.send(method.clone(), path, body).await {
                    Ok(answer) if statuses.contains(&answer.status) => return anyhow::Ok(answer),
                    Ok(answer) => last = answer.text(),
                    Err(error) => last = format!("{error:#}"),
                }
                self.rest().await;
            }
        };
        let answer = within(&format!("an answer to {method} {path}"), asked).await;
        let answer = answer.with_context(|| format!("last heard: {last}"))??;
        Ok((answer, tries))
    }
}
