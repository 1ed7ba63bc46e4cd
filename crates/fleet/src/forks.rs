//! Forks: sandboxes that begin with the files of another one.

use hothouse_domain::ForkSpec;
use hothouse_sandbox::{NewSandbox, Sandbox, SandboxError};

use crate::creation::Asked;
use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::requests::Replay;

impl Fleet {
    /// Makes a fork of a sandbox: a sandbox of its own with the files that this one has now, and no process of it.
    ///
    /// # Errors
    /// [`FleetError`]: it breaks a rule, its id is taken, the origin is frozen or dead, or there is no room.
    pub async fn fork(
        &self,
        origin: Sandbox,
        spec: ForkSpec,
        asked: Asked,
    ) -> Result<(Sandbox, Replay), FleetError> {
        spec.validate()?;
        let (fleet, claimant, patience) = (self.clone(), asked.claimant(), asked.patience);
        let make = async move {
            let ForkSpec { id, claim } = spec;
            // Held until the fork is made, which keeps it from then on.
            let files = fleet.node().files_of(&origin).await?;
            let spec = fleet.node().fork_spec(&origin, &files, claim)?;
            let spec = hothouse_domain::SandboxSpec { id, ..spec };
            let new = NewSandbox { spec, pool: None, claimant };
            let reserve = || fleet.node().reserve(vec![new.clone()]);
            let reserved = fleet.admission().admit(patience, reserve).await?.pop();
            let made = reserved.ok_or(SandboxError::ShuttingDown)?.make().await?;
            drop(files);
            Ok::<Sandbox, FleetError>(made)
        };
        self.once(asked, make).await
    }
}
