//! What a sandbox was made from and whose it is: what a later node has to know of it.

use hothouse_domain::capacity::demand;
use hothouse_domain::{Claim, ClaimSpec, FrozenBy, GroupId, Invalid, PoolPlace, SandboxSpec, TenantName};
use serde::{Deserialize, Serialize};

use crate::capacity::Demand;

/// What a sandbox was made from and whose it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// Defaults filled in, and what was bound when it was claimed.
    pub spec: SandboxSpec,
    /// Its place in a pool; `None` for one that no pool made.
    #[serde(default)]
    pub pool: Option<PoolPlace>,
    /// Who asked for it.
    #[serde(default)]
    pub claimant: Claimant,
    /// Since when its lease counts, in milliseconds since the machine started: no step of the clock ends a lease.
    #[serde(default)]
    pub leased_ms: u64,
    /// Who froze it, where that was not a client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen_by: Option<FrozenBy>,
}

/// Who asked for a sandbox, and by which request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimant {
    /// Whose it is, where keys tell tenants apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// The group that it is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Member>,
    /// The request that must not make a second one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestKey>,
    /// The environment whose session it is for: no server adopts it, since the session ends with its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
}

/// A place in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The group.
    pub group: GroupId,
    /// How many members make it whole; 0 where any number does.
    #[serde(default)]
    pub of: u32,
}

/// An idempotency key with what was asked for under it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestKey {
    /// The key.
    pub key: String,
    /// Hash of the request, in hexadecimal: the same key with another one is a conflict.
    pub body: String,
}

impl Terms {
    /// With what a claim binds over what is there.
    ///
    /// # Errors
    /// [`Invalid`] names what breaks a rule.
    pub(crate) fn claimed(&self, claim: ClaimSpec, claimant: Claimant) -> Result<Self, Invalid> {
        let mut terms = self.clone();
        bind(&mut terms.spec, claim)?;
        terms.claimant = claimant;
        terms.leased_ms = boottime_ms();
        if let Some(place) = &mut terms.pool {
            place.claim = Claim::Claimed;
        }
        terms.spec.validate()?;
        Ok(terms)
    }

    /// What it takes of the node.
    pub(crate) fn demand(&self) -> Demand {
        Demand { tenant: self.claimant.tenant.clone(), amounts: demand(&self.spec) }
    }

    /// True while it waits in a pool, or is prepared for that: no lease counts yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.pool.as_ref().is_some_and(|place| place.claim != Claim::Claimed)
    }
}

/// Puts what a claim binds over what a sandbox is made with; its files are for somebody else.
pub(crate) fn bind(spec: &mut SandboxSpec, claim: ClaimSpec) -> Result<(), Invalid> {
    let ClaimSpec { env, secrets, labels, resources, lease, files: _ } = claim;
    spec.env.extend(env);
    spec.secrets.extend(secrets);
    if let Some(change) = resources {
        spec.resources = change.over(&spec.resources)?;
    }
    spec.labels.extend(labels);
    spec.lease = lease.or(&spec.lease);
    Ok(())
}

/// Milliseconds since the machine started, those in which it slept included.
#[must_use]
pub(crate) fn boottime_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let whole = u64::try_from(now.tv_sec).unwrap_or_default().saturating_mul(1000);
    whole.saturating_add(u64::try_from(now.tv_nsec / 1_000_000).unwrap_or_default())
}
