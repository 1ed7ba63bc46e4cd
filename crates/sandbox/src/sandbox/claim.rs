//! A ready sandbox becomes somebody's.

use std::sync::Arc;

use hothouse_domain::{ClaimSpec, EventKind, FrozenBy};

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

    /// Notes who froze it, for this node and later ones.
    pub(super) async fn remember_frozen_by(&self, by: Option<FrozenBy>) -> Result<(), SandboxError> {
        if self.terms().frozen_by == by {
            return Ok(());
        }
        // Alone, as a claim is.
        let running = self.inner.running.write().await;
        let terms = Terms { frozen_by: by, ..Terms::clone(&self.terms()) };
        let Some(running) = running.as_ref() else { return Err(self.gone()) };
        running
            .remember(&terms)
            .map_err(|source| SandboxError::Remember { id: self.inner.id.clone(), source })?;
        *locked(&self.inner.terms) = Arc::new(terms);
        Ok(())
    }

    pub(super) fn set_terms(&self, terms: Terms) {
        *locked(&self.inner.terms) = Arc::new(terms);
    }

    /// Binds a claim's variables, secrets, labels, limits and lease to it; its files are for the caller to write. When this returns, a node
    /// that is started on this home later knows of the claim too.
    ///
    /// # Errors
    /// [`SandboxError`]: it breaks a rule, the sandbox is dead, or the state directory takes no more; it is unclaimed then.
    pub async fn claim(&self, claim: ClaimSpec, claimant: Claimant) -> Result<(), SandboxError> {
        // Alone: what two claims write must not mix.
        let running = self.inner.running.write().await;
        let old = self.terms();
        let terms = old.claimed(claim, claimant)?;
        // Looked at under the lock that destroy needs: it is not taken away meanwhile.
        let _entered = self.inner.gate.enter(&self.inner.id)?;
        let Some(running) = running.as_ref() else {
            return Err(SandboxError::NotFound(self.inner.id.to_string()));
        };
        let limits = (old.spec.resources != terms.spec.resources).then_some(&terms.spec.resources);
        if let Some(limits) = limits {
            let failed = |reason| SandboxError::Limit { id: self.inner.id.clone(), reason };
            running.limit(limits).await.map_err(failed)?;
        }
        if let Err(source) = running.remember(&terms) {
            if limits.is_some()
                && let Err(reason) = running.limit(&old.spec.resources).await
            {
                tracing::error!(sandbox = %self.inner.id, reason, "giving it its old limits back");
            }
            return Err(SandboxError::Remember { id: self.inner.id.clone(), source });
        }
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
