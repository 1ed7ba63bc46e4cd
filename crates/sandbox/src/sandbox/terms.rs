//! What a sandbox was made from, and whose it is: the part of it that a claim changes.

use std::sync::Arc;

use hothouse_domain::{Claim, ClaimSpec, PoolPlace, SandboxSpec};

use super::Sandbox;
use crate::error::SandboxError;
use crate::link::locked;

/// What it was made from, and its place in a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// Defaults filled in, and what was bound when it was claimed.
    pub spec: SandboxSpec,
    /// `None` for one that no pool made.
    pub pool: Option<PoolPlace>,
}

impl Terms {
    /// With what a claim binds: its variables and labels over those that are there.
    #[must_use]
    fn claimed(&self, claim: ClaimSpec) -> Self {
        let ClaimSpec { env, labels, files: _ } = claim;
        let mut terms = self.clone();
        terms.spec.env.extend(env);
        terms.spec.labels.extend(labels);
        if let Some(place) = &mut terms.pool {
            place.claim = Claim::Claimed;
        }
        terms
    }
}

impl Sandbox {
    /// What it was made from and its place in a pool, as they are now.
    #[must_use]
    pub fn terms(&self) -> Arc<Terms> {
        Arc::clone(&locked(&self.inner.terms))
    }

    /// Binds a claim's variables and labels to it; its files are for the caller to write. When this returns, a node that is started on this home later knows of the claim too.
    ///
    /// # Errors
    /// [`SandboxError`]: it breaks a rule, the sandbox is dead, or the state directory takes no more; it is unclaimed then.
    pub async fn claim(&self, claim: ClaimSpec) -> Result<(), SandboxError> {
        // Alone: what two claims write must not mix.
        let running = self.inner.running.write().await;
        let terms = self.terms().claimed(claim);
        terms.spec.validate()?;
        // Looked at under the lock that destroy needs: it is not taken away meanwhile.
        let _entered = self.inner.gate.enter(&self.inner.id)?;
        let Some(running) = running.as_ref() else {
            return Err(SandboxError::NotFound(self.inner.id.to_string()));
        };
        running
            .remember(&terms.spec, terms.pool.as_ref())
            .map_err(|source| SandboxError::Remember { id: self.inner.id.clone(), source })?;
        *locked(&self.inner.terms) = Arc::new(terms);
        Ok(())
    }
}
