//! Pools: sandboxes of a template that are kept ready.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::exec::Encoding;
use crate::files::parse_mode;
use crate::id::{PoolName, TemplateName};
use crate::lease::Lease;
use crate::problem::Invalid;
use crate::resources::ResourceChange;
use crate::sandbox::check_path;
use crate::secret::Secret;

/// The most sandboxes that a pool may keep ready.
pub const MAX_READY: u32 = 20_000;

/// What a pool is to be. Unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// Its name.
    pub name: PoolName,
    /// What its sandboxes are made from, always in the latest version.
    pub template: TemplateName,
    /// Sandboxes that are ready when nobody claims any.
    pub min: u32,
    /// Sandboxes that are ready at most: it grows to what has been claimed lately, and shrinks again.
    pub max: u32,
}

impl PoolSpec {
    /// Its size.
    #[must_use]
    pub fn size(&self) -> PoolSize {
        PoolSize { min: self.min, max: self.max }
    }
}

/// How many sandboxes a pool keeps ready. Unknown fields are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolSize {
    /// Sandboxes that are ready when nobody claims any.
    pub min: u32,
    /// Sandboxes that are ready at most.
    pub max: u32,
}

impl PoolSize {
    /// Checks the rules.
    ///
    /// # Errors
    /// [`Invalid`] names the field and what is allowed.
    pub fn validate(&self) -> Result<(), Invalid> {
        let Self { min, max } = *self;
        if max == 0 || max > MAX_READY {
            return Err(Invalid::new("max", format!("is {max}; use 1 to {MAX_READY}")));
        }
        if min > max {
            return Err(Invalid::new("min", format!("is {min}, more than max, which is {max}")));
        }
        Ok(())
    }
}

/// Where a pool is in its life.
///
/// ```text
/// active ──► draining          either ──► gone
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolPhase {
    /// It keeps sandboxes ready and gives them to claims.
    Active,
    /// It makes none and gives none; those that were claimed live on.
    Draining,
}

/// A pool as listings show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolInfo {
    /// What it is to be.
    pub spec: PoolSpec,
    /// Where it is in its life.
    pub phase: PoolPhase,
    /// The version of its template that it makes sandboxes of.
    pub template_version: u64,
    /// Sandboxes that wait for a claim.
    pub ready: u32,
    /// Sandboxes that are being made.
    pub making: u32,
    /// Sandboxes that were claimed and are alive.
    pub claimed: u32,
    /// Claims that got a ready sandbox, since the server started.
    pub hits: u64,
    /// Claims that found none ready and waited for a fresh one, since the server started.
    pub misses: u64,
    /// Sandboxes that could not be made, since the server started.
    pub failures: u64,
    /// Why the last one could not be made; absent once one could.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

/// The most files that a claim may bring; a tree goes in as an archive.
pub const MAX_FILES: usize = 256;

/// A file that a claim brings. Unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimFile {
    /// Its absolute path in the sandbox; missing directories are made.
    pub path: String,
    /// What is in it.
    pub content: String,
    /// How `content` is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// Permission bits, octal; those of the file that is replaced, or 644, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// What is bound to a ready sandbox when it is claimed. Unknown fields are refused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimSpec {
    /// Variables of every exec that does not set them itself, over those of the template.
    pub env: BTreeMap<String, String>,
    /// Values for execs that ask for them by name; no other process gets them, and nothing shows them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
    /// Labels, over those of the template.
    pub labels: BTreeMap<String, String>,
    /// Limits that are other than the template's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceChange>,
    /// Files that are there when the claim is answered.
    pub files: Vec<ClaimFile>,
    /// When it ends without being deleted, over what the template says; counted from the claim.
    #[serde(skip_serializing_if = "Lease::is_endless")]
    pub lease: Lease,
}

impl ClaimSpec {
    /// Checks the rules of its files; those of the rest are a sandbox's.
    ///
    /// # Errors
    /// [`Invalid`] names the field and what is allowed.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.files.len() > MAX_FILES {
            let reason = format!("has {} entries; at most {MAX_FILES}: put an archive in", self.files.len());
            return Err(Invalid::new("files", reason));
        }
        for (at, file) in self.files.iter().enumerate() {
            check_path(&format!("files[{at}].path"), &file.path)?;
            file.mode.as_deref().map(|mode| parse_mode(&format!("files[{at}].mode"), mode)).transpose()?;
        }
        Ok(())
    }
}

/// Whether a pool's sandbox still waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// Its template's setup runs in it; nobody gets it yet.
    Preparing,
    /// It waits for a claim.
    Ready,
    /// Somebody has it.
    Claimed,
}

/// A sandbox's place in a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolPlace {
    /// The pool.
    pub pool: PoolName,
    /// The template that it was made from.
    pub template: TemplateName,
    /// And its version.
    pub version: u64,
    /// Whether it still waits.
    pub claim: Claim,
}
