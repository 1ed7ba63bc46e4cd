//! Why an operation of the fleet failed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hothouse_domain::{ErrorCode, GroupId, Invalid, PoolName, Problem, TemplateName};
use hothouse_sandbox::SandboxError;

/// Why an operation of the fleet failed. [`FleetError::problem`] is what a caller outside sees.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A field of the request breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// No template has this name.
    #[error("no template {0}; `hothouse template ls` lists those that there are")]
    NoTemplate(String),
    /// A pool makes sandboxes of it.
    #[error("template {template} is used by pool {pool}; remove the pool first")]
    TemplateInUse {
        /// Which.
        template: TemplateName,
        /// By whom.
        pool: PoolName,
    },
    /// No pool has this name.
    #[error("no pool {0}; `hothouse pool ls` lists those that there are")]
    NoPool(String),
    /// A pool with this name exists.
    #[error("pool {0} exists already; scale it, or remove it first")]
    PoolExists(PoolName),
    /// Some of its sandboxes are claimed.
    #[error("sandboxes of pool {pool} are claimed, {claimed} of them; delete them first, or drain the pool")]
    PoolInUse {
        /// Which.
        pool: PoolName,
        /// How many.
        claimed: u32,
    },
    /// It gives nothing any more.
    #[error("pool {0} is draining; claim from another one")]
    Draining(PoolName),
    /// A file of a template or pool could not be written or removed.
    #[error("{path}: {source}")]
    Shelf {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others wait for room already.
    #[error("{waiting} requests wait for room before this one; try again later, or wait longer with wait_s")]
    QueueAhead {
        /// How many.
        waiting: usize,
    },
    /// Too many wait for room.
    #[error("{limit} requests wait for room already, as many as may; try again later")]
    QueueFull {
        /// How many may.
        limit: usize,
    },
    /// The idempotency key stands for something else.
    #[error("Idempotency-Key {0} was used for another request; choose another key for each request")]
    OtherRequest(String),
    /// No group has this id.
    #[error("no group {0}, or nothing of it is left; GET /v1/groups lists those that there are")]
    NoGroup(String),
    /// A group has this id.
    #[error("group {0} exists already; delete it or choose another id")]
    GroupExists(GroupId),
    /// A member could not be had, and the group was undone.
    #[error("member {index} of {count} could not be had, and nothing of the group is left: {source}")]
    Member {
        /// Which, from 0.
        index: u32,
        /// Of how many.
        count: u32,
        /// Why.
        source: Box<FleetError>,
    },
    /// A command of the template's setup failed.
    #[error("setup[{index}] {how}: {said}")]
    Setup {
        /// Which, from 0.
        index: usize,
        /// What became of it.
        how: String,
        /// The end of what it wrote.
        said: String,
    },
    /// What its template makes sandboxes of could not be had; others wait for the same.
    #[error(transparent)]
    Preparation(Arc<FleetError>),
    /// A sandbox could not be made or claimed.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

impl FleetError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::InvalidRequest,
            Self::NoTemplate(_) => ErrorCode::TemplateNotFound,
            Self::TemplateInUse { .. } => ErrorCode::TemplateInUse,
            Self::NoPool(_) => ErrorCode::PoolNotFound,
            Self::PoolExists(_) => ErrorCode::PoolExists,
            Self::PoolInUse { .. } => ErrorCode::PoolInUse,
            Self::Draining(_) => ErrorCode::PoolDraining,
            Self::Shelf { .. } => ErrorCode::Internal,
            Self::Sandbox(error) => error.code(),
            Self::QueueAhead { .. } | Self::QueueFull { .. } => ErrorCode::CapacityExceeded,
            Self::OtherRequest(_) => ErrorCode::IdempotencyConflict,
            Self::NoGroup(_) => ErrorCode::GroupNotFound,
            Self::GroupExists(_) => ErrorCode::GroupExists,
            Self::Member { source, .. } => source.code(),
            Self::Setup { .. } => ErrorCode::SetupFailed,
            Self::Preparation(error) => error.code(),
        }
    }

    /// The problem document for a caller outside.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Invalid(invalid) => invalid.clone().into(),
            Self::Sandbox(error) => error.problem(),
            Self::Preparation(error) => error.problem(),
            Self::Member { source, .. } => Problem { detail: self.to_string(), ..source.problem() },
            other => Problem::new(other.code(), other.to_string()),
        }
    }
}

/// Why the fleet did not start.
#[derive(Debug, thiserror::Error)]
#[error("reading {path}: {reason}; repair the file or move it away")]
pub struct FleetStartError {
    /// Which file or directory.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}
