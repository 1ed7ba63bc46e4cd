//! An idle sandbox gives up memory when the machine is short of it, and comes back with the next request.

use hothouse_domain::{Claim, EventKind, FrozenBy, Reclaim, SandboxPhase};

use super::Sandbox;
use super::owner::Command;
use crate::endings::End;
use crate::error::SandboxError;
use crate::link::locked;
use crate::native::GroupMemory;
use crate::pressure::relief::{Candidate, Use};
use crate::terms::boottime_ms;

/// What an idle sandbox does for the machine.
#[derive(Debug)]
pub(crate) enum Relief {
    /// It freezes, so that what is taken back of its memory stays so.
    Freeze,
    /// It ends.
    End(End),
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Relieved {
    /// It is frozen, was in use after all, or could not be frozen.
    Stays(Result<(), SandboxError>),
    Ended(Result<(), SandboxError>),
}

impl Sandbox {
    /// How it stands when memory is short; `None` for one that is not there, or waits for a claim: its pool gives that up.
    /// `swap` is what room there is for memory that cannot be dropped.
    pub(crate) fn candidate(&self, swap: u64) -> Option<Candidate> {
        let terms = self.terms();
        if terms.pool.as_ref().is_some_and(|place| place.claim != Claim::Claimed) {
            return None;
        }
        let allowed = terms.spec.lease.reclaim.unwrap_or_default();
        let (used, allowed) = match self.inner.gate.phase() {
            SandboxPhase::Running | SandboxPhase::Frozen { by: FrozenBy::Pressure } => (self.used(), allowed),
            // A client wants to go on from here; nothing in it notices that pages have to be read again.
            SandboxPhase::Frozen { by: FrozenBy::Client } => {
                (self.used(), if allowed == Reclaim::End { Reclaim::Freeze } else { allowed })
            }
            SandboxPhase::Creating | SandboxPhase::Dead { .. } | SandboxPhase::Destroying => return None,
        };
        let memory = self.memory()?;
        Some(Candidate {
            used,
            allowed,
            by_freezing: memory.reclaimable(swap),
            by_ending: memory.used().unwrap_or_default(),
        })
    }

    fn used(&self) -> Use {
        // Looked at first: a request that comes now is seen by one of both.
        let unused_ms = boottime_ms().saturating_sub(self.inner.gate.used_ms());
        match locked(&self.inner.link).as_ref().filter(|link| !link.has_ended()) {
            None => Use::Idle { ms: unused_ms },
            Some(link) => link.idle_ms().map_or(Use::Busy, |idle| Use::Idle { ms: idle.min(unused_ms) }),
        }
    }

    /// Its memory, where this machine counts it; nothing while it is being claimed or destroyed.
    pub(crate) fn memory(&self) -> Option<GroupMemory> {
        self.inner.running.try_read().ok()?.as_ref()?.memory()
    }

    /// Who has frozen it, if it is frozen.
    #[must_use]
    pub fn frozen_by(&self) -> Option<FrozenBy> {
        match self.inner.gate.phase() {
            SandboxPhase::Frozen { by } => Some(by),
            SandboxPhase::Creating
            | SandboxPhase::Running
            | SandboxPhase::Dead { .. }
            | SandboxPhase::Destroying => None,
        }
    }

    /// Gives up memory unless somebody uses it. For the owner task.
    pub(super) async fn relieve(&self, relief: Relief) -> Relieved {
        let used = self.inner.gate.used_ms();
        let by = match self.inner.gate.phase() {
            SandboxPhase::Running => None,
            SandboxPhase::Frozen { by } => Some(by),
            SandboxPhase::Creating | SandboxPhase::Dead { .. } | SandboxPhase::Destroying => {
                return Relieved::Stays(Ok(()));
            }
        };
        if by.is_none() && self.is_busy(|info| info.running > 0 || info.shells > 0).await {
            // Not asked again at once.
            self.inner.gate.touch();
            return Relieved::Stays(Ok(()));
        }
        match (relief, by) {
            (Relief::Freeze, None) => Relieved::Stays(self.freeze_for_memory(used).await),
            (Relief::Freeze, Some(_)) | (Relief::End(_), Some(FrozenBy::Client)) => Relieved::Stays(Ok(())),
            (Relief::End(end), Some(FrozenBy::Pressure) | None) => {
                match self.inner.gate.step_unless_used(SandboxPhase::Destroying, used) {
                    Ok(true) => Relieved::Ended(self.destroy(end).await),
                    Ok(false) => Relieved::Stays(Ok(())),
                    Err(error) => {
                        tracing::error!(sandbox = %self.inner.id, %error, "illegal step");
                        Relieved::Stays(Ok(()))
                    }
                }
            }
        }
    }

    async fn freeze_for_memory(&self, used: u64) -> Result<(), SandboxError> {
        let by = FrozenBy::Pressure;
        // Written down before: a node that comes after a kill must know that nobody else wants it frozen.
        self.remember_frozen_by(Some(by)).await?;
        let shut = self.inner.gate.step_unless_used(SandboxPhase::Frozen { by }, used);
        if !matches!(shut, Ok(true)) {
            return self.remember_frozen_by(None).await;
        }
        if let Err(error) = self.stop_processes().await {
            // Nobody froze it, whatever is written down: what is read is looked at for one that is frozen alone.
            drop(self.remember_frozen_by(None).await);
            return Err(error);
        }
        tracing::info!(sandbox = %self.inner.id, "frozen: it is idle and memory is short");
        self.note(EventKind::Frozen { by });
        Ok(())
    }

    /// A client wants what the node has frozen to stay so.
    pub(super) async fn keep_frozen(&self) -> Result<(), SandboxError> {
        self.remember_frozen_by(None).await?;
        let by = FrozenBy::Client;
        self.step(SandboxPhase::Frozen { by });
        self.note(EventKind::Frozen { by });
        Ok(())
    }

    /// Thaws it if the node has frozen it. For the owner task.
    pub(super) async fn wake_now(&self) -> Result<(), SandboxError> {
        if self.frozen_by() != Some(FrozenBy::Pressure) {
            return Ok(());
        }
        self.thaw_now().await?;
        self.inner.around.pressure.count_thawed();
        // Whoever wakes it is about to use it.
        self.inner.gate.touch();
        if let Err(error) = self.remember_frozen_by(None).await {
            // The next freeze tries again.
            tracing::warn!(sandbox = %self.inner.id, %error, "noting that it runs again");
        }
        Ok(())
    }

    /// Thaws it for a request if the node has frozen it; false when a client has.
    pub(super) async fn wakes(&self) -> Result<bool, SandboxError> {
        if self.frozen_by() == Some(FrozenBy::Client) {
            return Ok(false);
        }
        self.command(Command::Wake).await?;
        Ok(true)
    }
}
