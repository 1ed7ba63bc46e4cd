//! Sandboxes that somebody asks for: alone or from a pool, at most once for a key, when there is room.

use hothouse_domain::{ClaimSpec, PoolName, SandboxSpec, TenantName};
use hothouse_sandbox::{Claimant, NewSandbox, RequestKey, Sandbox};

use crate::admission::Patience;
use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::requests::{Made, Replay};

/// Who asks, and how.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// Whose it will be, where keys tell tenants apart.
    pub tenant: Option<TenantName>,
    /// The request that must not make a second one.
    pub request: Option<RequestKey>,
    /// How long it may wait for room.
    pub patience: Patience,
    /// The environment whose session it is for, if it is for one.
    pub environment: Option<String>,
}

impl Asked {
    pub(crate) fn claimant(&self) -> Claimant {
        Claimant {
            tenant: self.tenant.clone(),
            group: None,
            request: self.request.clone(),
            environment: self.environment.clone(),
        }
    }
}

impl Fleet {
    /// Makes a sandbox.
    ///
    /// # Errors
    /// [`FleetError`]: it breaks a rule, its id is taken, there is no room, or the backend's reason.
    pub async fn create(&self, spec: SandboxSpec, asked: Asked) -> Result<(Sandbox, Replay), FleetError> {
        spec.validate()?;
        let fleet = self.clone();
        let claimant = asked.claimant();
        let patience = asked.patience;
        let make = async move {
            let new = NewSandbox { spec, pool: None, claimant };
            let reserve = || fleet.node().reserve(vec![new.clone()]);
            let reserved = fleet.admission().admit(patience, reserve).await?.pop();
            let reserved = reserved.ok_or(hothouse_sandbox::SandboxError::ShuttingDown)?;
            Ok::<Sandbox, FleetError>(reserved.make().await?)
        };
        self.once(asked, make).await
    }

    /// Gives a sandbox of a pool: one that is ready, or else one that is made now.
    ///
    /// # Errors
    /// [`FleetError`]: there is no such pool, it is draining, the claim breaks a rule, or none could be made.
    pub async fn claim(
        &self,
        name: &PoolName,
        claim: ClaimSpec,
        asked: Asked,
    ) -> Result<(Sandbox, Replay), FleetError> {
        let (pool, claimant, patience) = (self.find(name)?, asked.claimant(), asked.patience);
        self.once(asked, async move { pool.claim(claim, claimant, patience).await }).await
    }

    pub(crate) async fn once(
        &self,
        asked: Asked,
        make: impl Future<Output = Result<Sandbox, FleetError>> + Send + 'static,
    ) -> Result<(Sandbox, Replay), FleetError> {
        let Some(request) = asked.request else { return Ok((make.await?, Replay::No)) };
        let make = async move { Ok(Made::Sandbox(make.await?.id().clone())) };
        match self.requests().once(asked.tenant, request.clone(), self.tasks(), make).await? {
            (Made::Sandbox(id), replay) => Ok((self.node().get(&id)?, replay)),
            (Made::Group(_), _) => Err(FleetError::OtherRequest(request.key)),
        }
    }
}
