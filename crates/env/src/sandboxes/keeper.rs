//! Keeps sandboxes ready.

use std::pin::pin;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::{Sandboxes, Stocked};

/// Sandboxes that are made at once. More would take the processor from the sessions.
const AT_ONCE: usize = 2;
/// The pause after one could not be made; it doubles from failure to failure.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often it is looked whether the machine has memory again.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What to do next.
enum Next {
    /// Make so many more.
    Make(usize),
    /// Nothing before one is taken, or this moment.
    Wait(Option<Instant>),
}

impl Sandboxes {
    /// Sees to it that some are kept ready.
    pub(super) fn keep(&self) {
        let inner = &self.0;
        if inner.options.warm == 0
            || inner.closing.is_cancelled()
            || inner.is_kept.swap(true, Ordering::Relaxed)
        {
            return;
        }
        let sandboxes = self.clone();
        self.in_background(async move {
            let keep = pin!(sandboxes.keep_ready());
            // What is being made then is given up, and ends.
            _ = sandboxes.0.closing.run_until_cancelled(keep).await;
            drop(std::mem::take(&mut *sandboxes.ready()));
        });
    }

    async fn keep_ready(&self) {
        let mut making = FuturesUnordered::new();
        let mut failures = 0_u32;
        let mut paused = None;
        loop {
            let until = match self.next(making.len(), paused) {
                Next::Make(count) => {
                    making.extend((0..count).map(|_| self.make()));
                    continue;
                }
                Next::Wait(until) => until,
            };
            let wake = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(made) = making.next() => match made {
                    Ok(housing) => {
                        (failures, paused) = (0, None);
                        self.ready().push_back(housing);
                    }
                    Err(error) => {
                        let pause = PAUSE.saturating_mul(1 << failures.min(6)).min(LONGEST_PAUSE);
                        tracing::warn!(environment = self.0.options.environment, %error, ?pause, "no sandbox kept ready");
                        (failures, paused) = (failures + 1, Some(Instant::now() + pause));
                    }
                },
                () = self.0.taken.notified() => {}
                () = wake => {}
            }
        }
    }

    fn next(&self, making: usize, paused: Option<Instant>) -> Next {
        let now = Instant::now();
        if let Some(paused) = paused.filter(|paused| *paused > now) {
            return Next::Wait(Some(paused));
        }
        let mut until = None;
        if let Stocked::WhileUsed(idle) = self.0.options.stocked {
            let over = *self.0.used.lock().unwrap_or_else(PoisonError::into_inner) + idle;
            if over <= now {
                let unused = std::mem::take(&mut *self.ready());
                tracing::debug!(count = unused.len(), "no session for long: none is kept ready");
                return Next::Wait(None);
            }
            until = Some(over);
        }
        let lacking = self.0.options.warm.saturating_sub(self.ready().len() + making);
        if lacking == 0 || making >= AT_ONCE {
            return Next::Wait(until);
        }
        if self.0.fleet.node().is_short_of_memory() {
            return Next::Wait(Some(now + LOOK_EVERY));
        }
        Next::Make(lacking.min(AT_ONCE - making))
    }
}
