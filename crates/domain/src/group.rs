//! Groups: sandboxes that are made together and ended together.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ending::Ending;
use crate::id::{GroupId, PoolName, SandboxId};
use crate::pool::ClaimSpec;
use crate::problem::{Invalid, Problem};
use crate::sandbox::{SandboxInfo, SandboxSpec};
use crate::snapshot::check_fork_claim;

/// The most members of a group.
pub const MAX_MEMBERS: u32 = 1024;

/// What becomes of a group of which not every member could be had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Nothing of it stays.
    #[default]
    Undo,
    /// Those that there are stay; the answer names the others.
    Keep,
}

/// What a group is to be: `sandbox` describes each member, or they are claimed from `pool`. Unknown fields are refused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GroupSpec {
    /// Its id; made by the server when absent. Members are named after it: `ID-0`, `ID-1`, …, where they are made for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<GroupId>,
    /// How many members. 1 to 1,024.
    pub count: u32,
    /// What each member is made from; the default sandbox when neither this nor `pool` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxSpec>,
    /// The sandbox of which the members are forks: its files as they are now, and what it was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fork_of: Option<SandboxId>,
    /// The pool from which the members are claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolName>,
    /// What is bound to each member that is claimed or forked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimSpec>,
    /// What becomes of it when not every member can be had.
    pub on_failure: OnFailure,
}

impl GroupSpec {
    /// Checks the rules that need no machine.
    ///
    /// # Errors
    /// [`Invalid`] names the field and what is allowed.
    pub fn validate(&self) -> Result<(), Invalid> {
        if !(1..=MAX_MEMBERS).contains(&self.count) {
            return Err(Invalid::new("count", format!("is {}; use 1 to {MAX_MEMBERS}", self.count)));
        }
        let within = |field: &str, invalid: Invalid| {
            Invalid::new(format!("{field}.{}", invalid.field), invalid.reason)
        };
        if let Some(sandbox) = &self.sandbox {
            if self.pool.is_some() {
                return Err(Invalid::new("sandbox", "and pool exclude each other; give one"));
            }
            if sandbox.id.is_some() {
                return Err(Invalid::new("sandbox.id", "cannot be given: members are named after the group"));
            }
            sandbox.validate().map_err(|invalid| within("sandbox", invalid))?;
        }
        if self.fork_of.is_some() && (self.sandbox.is_some() || self.pool.is_some()) {
            return Err(Invalid::new("fork_of", "excludes sandbox and pool; give one of them"));
        }
        match &self.claim {
            Some(claim) if self.fork_of.is_some() => check_fork_claim(claim),
            Some(_) if self.pool.is_none() => {
                Err(Invalid::new("claim", "needs a pool to claim from, or fork_of"))
            }
            Some(claim) => claim.validate().map_err(|invalid| within("claim", invalid)),
            None => Ok(()),
        }
    }
}

/// A member that could not be had, or a sandbox that could not be ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failed {
    /// Which member, from 0; absent where an id says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Which sandbox; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<SandboxId>,
    /// Why.
    pub problem: Problem,
}

/// A member that is no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndedMember {
    /// Which.
    pub id: SandboxId,
    /// How it ended.
    pub ending: Ending,
}

/// A group as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GroupInfo {
    /// Its id.
    pub id: GroupId,
    /// Members that are there, sorted by id.
    pub members: Vec<SandboxInfo>,
    /// Members that have ended, as far as that is remembered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<EndedMember>,
    /// Members that could not be had; only in the answer to the request that made the group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failed>,
}

/// What became of many sandboxes that were to be ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndedMany {
    /// How many are no more.
    pub ended: usize,
    /// Those that could not be removed entirely.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failed>,
}
