//! Where one sandbox is in its life, and who may still talk to its guest.
//!
//! A request passes the gate before it is sent and holds an [`Opening`] until it was. A freeze shuts the gate first and
//! waits for the openings, so that it knows of every request that the guest has still to read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hothouse_domain::{SandboxId, SandboxPhase};
use tokio::sync::{Notify, watch};

use crate::error::SandboxError;
use crate::link::locked;
use crate::terms::boottime_ms;

/// The phase of one sandbox. All its steps are legal ones.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    /// Told when the last opening is let go.
    quiet: Notify,
    shown: watch::Sender<SandboxPhase>,
    /// When a request was let through or had been sent last, in milliseconds since the machine started.
    used: AtomicU64,
}

#[derive(Debug)]
struct State {
    phase: SandboxPhase,
    openings: usize,
}

/// A step that [`SandboxPhase::may_become`] forbids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a sandbox that is {from:?} cannot become {to:?}")]
pub(crate) struct IllegalStep {
    from: SandboxPhase,
    to: SandboxPhase,
}

impl Gate {
    pub(crate) fn new(phase: SandboxPhase) -> Arc<Self> {
        let shown = watch::Sender::new(phase.clone());
        Arc::new(Self {
            state: Mutex::new(State { phase, openings: 0 }),
            quiet: Notify::new(),
            shown,
            used: AtomicU64::new(boottime_ms()),
        })
    }

    /// When somebody used the sandbox last; now, while a request is on its way.
    pub(crate) fn used_ms(&self) -> u64 {
        if locked(&self.state).openings > 0 {
            self.touch();
        }
        self.used.load(Ordering::Relaxed)
    }

    /// Somebody uses it.
    pub(crate) fn touch(&self) {
        self.used.store(boottime_ms(), Ordering::Relaxed);
    }

    pub(crate) fn phase(&self) -> SandboxPhase {
        locked(&self.state).phase.clone()
    }

    /// The phase now and whenever it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<SandboxPhase> {
        self.shown.subscribe()
    }

    pub(crate) fn step(&self, next: SandboxPhase) -> Result<(), IllegalStep> {
        self.take_step(&mut locked(&self.state), next)
    }

    fn take_step(&self, state: &mut State, next: SandboxPhase) -> Result<(), IllegalStep> {
        if !state.phase.may_become(&next) {
            return Err(IllegalStep { from: state.phase.clone(), to: next });
        }
        state.phase.clone_from(&next);
        // Under the lock, so that watchers see the steps in their order.
        self.shown.send_replace(next);
        Ok(())
    }

    /// Takes the step unless the sandbox was used after this moment, or a request is on its way.
    pub(crate) fn step_unless_used(&self, next: SandboxPhase, since_ms: u64) -> Result<bool, IllegalStep> {
        let mut state = locked(&self.state);
        if state.openings > 0 || self.used.load(Ordering::Relaxed) > since_ms {
            return Ok(false);
        }
        self.take_step(&mut state, next)?;
        Ok(true)
    }

    /// Lets a request through, or says why not. A sandbox that is being made lets nobody through: its handle is not
    /// given out before.
    pub(crate) fn enter(self: &Arc<Self>, id: &SandboxId) -> Result<Opening, SandboxError> {
        let mut state = locked(&self.state);
        refusal(&state.phase, id)?;
        state.openings += 1;
        self.touch();
        Ok(Opening { gate: Arc::clone(self) })
    }

    /// Waits until every request that was let through has been sent.
    pub(crate) async fn quiet(&self) {
        loop {
            let quiet = self.quiet.notified();
            if locked(&self.state).openings == 0 {
                return;
            }
            quiet.await;
        }
    }
}

fn refusal(phase: &SandboxPhase, id: &SandboxId) -> Result<(), SandboxError> {
    match phase {
        SandboxPhase::Running => Ok(()),
        SandboxPhase::Frozen { .. } => Err(SandboxError::Frozen(id.clone())),
        SandboxPhase::Dead { reason } => Err(SandboxError::Dead { id: id.clone(), reason: reason.clone() }),
        SandboxPhase::Creating | SandboxPhase::Destroying => Err(SandboxError::NotFound(id.to_string())),
    }
}

/// A request on its way to the guest.
#[derive(Debug)]
pub(crate) struct Opening {
    gate: Arc<Gate>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut state = locked(&self.gate.state);
        state.openings -= 1;
        if state.openings == 0 {
            self.gate.quiet.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use hothouse_domain::FrozenBy;

    use super::*;

    const FROZEN: SandboxPhase = SandboxPhase::Frozen { by: FrozenBy::Client };

    fn dead() -> SandboxPhase {
        SandboxPhase::Dead { reason: "out of memory".to_owned() }
    }

    fn id() -> SandboxId {
        "a".parse().unwrap()
    }

    #[test]
    fn a_life_with_a_freeze_in_it() {
        let gate = Gate::new(SandboxPhase::Creating);
        for next in [SandboxPhase::Running, FROZEN, SandboxPhase::Running, dead()] {
            gate.step(next.clone()).unwrap();
            assert_eq!(gate.phase(), next);
            assert_eq!(*gate.watch().borrow(), next);
        }
        gate.step(SandboxPhase::Destroying).unwrap();
    }

    #[test]
    fn an_illegal_step_is_refused_and_changes_nothing() {
        let gate = Gate::new(dead());
        for next in [SandboxPhase::Creating, SandboxPhase::Running, FROZEN, dead()] {
            let refused = gate.step(next.clone()).unwrap_err();
            assert_eq!(refused, IllegalStep { from: dead(), to: next });
            assert_eq!(gate.phase(), dead());
        }
    }

    #[test]
    fn the_gate_says_why_it_is_shut() {
        let refused = |phase| Gate::new(phase).enter(&id()).unwrap_err().code().as_str();
        assert_eq!(refused(FROZEN), "sandbox_frozen");
        assert_eq!(refused(dead()), "sandbox_dead");
        assert_eq!(refused(SandboxPhase::Destroying), "sandbox_not_found");
        assert!(Gate::new(SandboxPhase::Running).enter(&id()).is_ok());
    }

    #[test]
    fn what_the_node_froze_a_client_may_freeze_and_not_the_other_way_round() {
        let gate = Gate::new(SandboxPhase::Running);
        for by in [FrozenBy::Pressure, FrozenBy::Client] {
            gate.step(SandboxPhase::Frozen { by }).unwrap();
        }
        gate.step(SandboxPhase::Frozen { by: FrozenBy::Pressure }).unwrap_err();
    }

    #[test]
    fn who_comes_in_between_keeps_the_gate_open() {
        let gate = Gate::new(SandboxPhase::Running);
        let before = gate.used_ms();
        let opening = gate.enter(&id()).unwrap();
        assert!(!gate.step_unless_used(FROZEN, before).unwrap(), "a request is on its way");
        drop(opening);
        assert!(!gate.step_unless_used(FROZEN, before.saturating_sub(1)).unwrap(), "there was one");
        assert!(gate.step_unless_used(FROZEN, gate.used_ms()).unwrap());
        assert_eq!(gate.phase(), FROZEN);
    }

    #[tokio::test]
    async fn quiet_comes_when_the_last_opening_goes() {
        let gate = Gate::new(SandboxPhase::Running);
        let (first, second) = (gate.enter(&id()).unwrap(), gate.enter(&id()).unwrap());
        gate.step(FROZEN).unwrap();
        assert!(gate.enter(&id()).is_err());
        let mut quiet = Box::pin(gate.quiet());
        assert!(futures::poll!(quiet.as_mut()).is_pending());
        drop(first);
        assert!(futures::poll!(quiet.as_mut()).is_pending());
        drop(second);
        assert!(futures::poll!(quiet.as_mut()).is_ready());
    }
}
