//! Connections to what listens in a sandbox.

use std::time::{Duration, Instant};

use hothouse_guest::message::{DialTarget, MAX_DIAL_WAIT_MS, Reply, Request};

use super::Sandbox;
use super::requests::{Repeat, strange};
use crate::dial::DialStream;
use crate::error::SandboxError;
use crate::link::WakeWhen;

impl Sandbox {
    /// Connects to what listens in the sandbox. While nothing does, it is tried again inside until `wait` is over (ten
    /// minutes at most); without a wait the first attempt counts. What listens is reached as root of the sandbox.
    ///
    /// # Errors
    /// [`SandboxError`]: nothing listens there (`not_listening`), no such path (`file_not_found`), a path that is no socket
    /// (`file_refused`), too many connections (1,024 in a sandbox), frozen, dead.
    pub async fn dial(&self, target: &DialTarget, wait: Duration) -> Result<DialStream, SandboxError> {
        let since = Instant::now();
        let stream = self
            .attempts(Repeat::Safe, || async {
                // Rounded up: nobody is to be told of a failure before the time that he gave has passed.
                let left = wait.saturating_sub(since.elapsed()).as_nanos().div_ceil(1_000_000);
                let wait_ms = u64::try_from(left).unwrap_or(u64::MAX).min(MAX_DIAL_WAIT_MS);
                let request = Request::Dial { target: target.clone(), wait_ms };
                let mut stream = self.open(&request, WakeWhen::Any).await?;
                match self.reply(&mut stream).await? {
                    Reply::Dialed => Ok(stream),
                    reply => Err(strange(&reply).into()),
                }
            })
            .await?;
        Ok(DialStream::new(self.clone(), stream))
    }
}
