//! A ready sandbox becomes somebody's.

use std::sync::Arc;

use hothouse_domain::{ClaimSpec, EventKind};

use super::Sandbox;
use crate::error::SandboxError;
use crate::link::locked;
use crate::terms::{Claimant, Terms};

impl Sandbox {
    /// What it was made from, whose it is, and its place in a pool, as they are now.
    #[must_use]
    pub fn terms(&self) -> Arc<Terms> {
        Arc::clone(&locked(&self.inner.terms))
    }

    /// Binds a claim's variables, labels and lease to it; its files are for the caller to write. When this returns, a node
    /// that is started on this home later knows of the claim too.
    ///
    /// # Errors
    /// [`SandboxError`]: it breaks a rule, the sandbox is dead, or the state directory takes no more; it is unclaimed then.
    pub async fn claim(&self, claim: ClaimSpec, claimant: Claimant) -> Result<(), SandboxError> {
        // Alone: what two claims write must not mix.
        let running = self.inner.running.write().await;
        let terms = self.terms().claimed(claim, claimant);
        terms.spec.validate()?;
        // Looked at under the lock that destroy needs: it is not taken away meanwhile.
        let _entered = self.inner.gate.enter(&self.inner.id)?;
        let Some(running) = running.as_ref() else {
            return Err(SandboxError::NotFound(self.inner.id.to_string()));
        };
        running
            .remember(&terms)
            .map_err(|source| SandboxError::Remember { id: self.inner.id.clone(), source })?;
        let leased = !terms.spec.lease.is_endless();
        self.inner.around.owners.remove(&self.terms());
        self.inner.around.owners.add(&terms);
        *locked(&self.inner.terms) = Arc::new(terms);
        self.inner.around.events.note(&self.inner.id, &self.terms(), EventKind::Claimed);
        if leased {
            self.inner.leased.notify_one();
        }
        Ok(())
    }
}
