//! A sandbox and its lease: when it is due, and whether it is over then.

use std::pin::Pin;
use std::time::Duration;

use hothouse_domain::{EndCause, SandboxPhase};
use hothouse_guest::message::{self, GuestInfo, Reply, Request};
use tokio::time::{Instant, Sleep};

use super::Sandbox;
use crate::endings::End;
use crate::lease::{Clocks, Standing, standing};
use crate::link::{WakeWhen, locked};
use crate::terms::boottime_ms;

/// How long a guest may take to say what runs in it; what it runs is in its way then, so something does.
const SAYS_WITHIN: Duration = Duration::from_secs(2);
/// The longest sleep of a timer that has none to keep: a lease may be set with no event to tell of it.
const FAR: Duration = Duration::from_hours(24);

/// Wakes when a lease is due; holds nothing where there is none.
#[derive(Debug, Default)]
pub(super) struct LeaseTimer(Option<Pin<Box<Sleep>>>);

impl LeaseTimer {
    /// Wakes after this time; never for `None`.
    pub(super) fn set(&mut self, due: Option<Duration>) {
        self.0 = due.map(|due| Box::pin(tokio::time::sleep_until(Instant::now() + due.min(FAR))));
    }

    pub(super) async fn wait(&mut self) {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().await,
            None => std::future::pending().await,
        }
    }
}

impl Sandbox {
    /// How long its lease lasts at least, if it has one.
    pub(super) fn due(&self) -> Option<Duration> {
        match self.standing() {
            Standing::Endless => None,
            Standing::Until(due) => Some(Duration::from_millis(due.saturating_sub(boottime_ms()))),
            Standing::Over(..) => Some(Duration::ZERO),
        }
    }

    fn standing(&self) -> Standing {
        let terms = self.terms();
        if terms.is_waiting() {
            return Standing::Endless;
        }
        let clocks = Clocks {
            leased: terms.leased_ms,
            used: self.inner.gate.used_ms(),
            owner: self.inner.around.owners.heard_of(&terms),
            now: boottime_ms(),
        };
        standing(&terms.spec.lease, clocks)
    }

    /// The end that its lease has come to, if it has.
    pub(super) async fn lease_over(&self) -> Option<End> {
        let Standing::Over(cause, seconds) = self.standing() else { return None };
        if cause == EndCause::Idle && self.is_busy(|info| info.running > 0).await {
            self.inner.gate.touch();
            return None;
        }
        // A request may have come while the guest was asked.
        let Standing::Over(..) = self.standing() else { return None };
        let why = match cause {
            EndCause::Lifetime => format!("its lease was for {seconds} s"),
            EndCause::Idle => format!("nobody used it for {seconds} s"),
            EndCause::OwnerGone => {
                let owner = self.terms().spec.lease.owner.clone();
                format!(
                    "there was no word of its owner {} for {seconds} s",
                    owner.as_ref().map_or("", |o| o.as_str())
                )
            }
            EndCause::Deleted
            | EndCause::Group
            | EndCause::Pool
            | EndCause::Session
            | EndCause::Abandoned
            | EndCause::MemoryPressure
            | EndCause::NodeEnded
            | EndCause::FoundDead => return None,
        };
        tracing::info!(sandbox = %self.inner.id, why, "a lease is over");
        Some(End::new(cause, "lease", why))
    }

    /// True while something is under way in it that somebody asked for: a transfer, or what `busy` sees, such as an exec
    /// that may have no client.
    pub(super) async fn is_busy(&self, busy: fn(&GuestInfo) -> bool) -> bool {
        if self.inner.gate.phase() != SandboxPhase::Running {
            return false;
        }
        if locked(&self.inner.link).as_ref().is_some_and(|link| !link.has_ended() && link.idle_ms().is_none())
        {
            return true;
        }
        match tokio::time::timeout(SAYS_WITHIN, self.guest_info()).await {
            Ok(info) => info.as_ref().is_some_and(busy),
            Err(_elapsed) => true,
        }
    }

    /// What the guest says of itself, not counted as use; `None` when it says nothing any more.
    async fn guest_info(&self) -> Option<GuestInfo> {
        let link = self.link().await.ok()?;
        let mut stream = link.open(&message::encode(&Request::Info), WakeWhen::Any).ok()?;
        match self.reply(&mut stream).await {
            Ok(Reply::Info(info)) => Some(info),
            Ok(_) | Err(_) => None,
        }
    }
}
