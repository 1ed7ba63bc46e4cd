//! Why an operation on a sandbox failed.

use std::io;
use std::path::PathBuf;

use hothouse_domain::{Ending, ErrorCode, Invalid, Problem, SandboxId, SnapshotId, TemplateName, TenantName};
use hothouse_guest::message::GuestErrorCode;

use crate::endings::Endings;
use crate::native::{CreateError, DestroyError, FreezeError};

/// Why an operation on a sandbox failed. [`SandboxError::problem`] is what a caller outside sees.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A field of the request breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// No sandbox has this id.
    #[error("no sandbox {0}; `hothouse ps` lists those that are alive")]
    NotFound(String),
    /// It is no more.
    #[error("sandbox {id} ended at {at}: {why} (by {by})", at = ending.at, why = ending.why, by = ending.by)]
    Ended {
        /// Which.
        id: SandboxId,
        /// How.
        ending: Box<Ending>,
    },
    /// A sandbox with this id exists.
    #[error("sandbox {0} exists already; delete it or choose another id")]
    Exists(SandboxId),
    /// Its guest is gone.
    #[error("sandbox {id} is dead: {reason}; delete it and create another")]
    Dead {
        /// Which.
        id: SandboxId,
        /// Why its guest is gone.
        reason: String,
    },
    /// It is frozen.
    #[error("sandbox {0} is frozen; thaw it first")]
    Frozen(SandboxId),
    /// Too little is left of something.
    #[error(
        "the node has {limit} {name}, of which {taken} are taken; {wanted} more do not fit; try again later, or wait with wait_s"
    )]
    NodeFull {
        /// Of what.
        name: String,
        /// How much there is in all.
        limit: f64,
        /// How much of it is taken.
        taken: f64,
        /// How much was asked for.
        wanted: f64,
    },
    /// The machine has too little memory left for another one.
    #[error(
        "the machine has {available} bytes of memory left, less than the {floor} that --min-free-memory keeps; try again later"
    )]
    MemoryShort {
        /// Bytes that are available.
        available: u64,
        /// Bytes that have to be.
        floor: u64,
    },
    /// The tenant may have no more of something.
    #[error(
        "tenant {tenant} may have {limit} {name} and has {taken}; {wanted} more are over its quota; delete some sandboxes first"
    )]
    QuotaUsedUp {
        /// Whose quota.
        tenant: TenantName,
        /// Of what.
        name: String,
        /// How much it may have.
        limit: f64,
        /// How much it has.
        taken: f64,
        /// How much was asked for.
        wanted: f64,
    },
    /// The guest refused.
    #[error("{message}")]
    Guest {
        /// The kind of failure.
        code: GuestErrorCode,
        /// What the guest says.
        message: String,
    },
    /// The backend could not make it.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// An image cannot be had or removed.
    #[error(transparent)]
    Image(#[from] crate::image::ImageError),
    /// The backend could not freeze or thaw it.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    /// The backend could not remove all of it.
    #[error(transparent)]
    Destroy(#[from] DestroyError),
    /// Its state directory took no more.
    #[error("writing down who has sandbox {id}: {source}")]
    Remember {
        /// Which.
        id: SandboxId,
        /// Why.
        source: io::Error,
    },
    /// It keeps the limits that it has.
    #[error("setting the limits of sandbox {id}: {reason}")]
    Limit {
        /// Which.
        id: SandboxId,
        /// Why.
        reason: String,
    },
    /// It was set back to an earlier state meanwhile.
    #[error(
        "sandbox {0} was restored while the request was under way; what it did is gone with the state before"
    )]
    Restored(SandboxId),
    /// Something about a snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The node is going down.
    #[error("the node is shutting down")]
    ShuttingDown,
}

impl SandboxError {
    /// What is said of a sandbox that is not there: how it ended, where that is known.
    pub(crate) fn gone(id: &SandboxId, endings: &Endings) -> Self {
        match endings.find(id).and_then(|ended| ended.ending) {
            Some(ending) => Self::Ended { id: id.clone(), ending: Box::new(ending) },
            None => Self::NotFound(id.to_string()),
        }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::InvalidRequest,
            Self::NotFound(_) => ErrorCode::SandboxNotFound,
            Self::Ended { .. } => ErrorCode::SandboxEnded,
            Self::Exists(_) => ErrorCode::SandboxExists,
            Self::Dead { .. } => ErrorCode::SandboxDead,
            Self::Frozen(_) => ErrorCode::SandboxFrozen,
            Self::NodeFull { .. } | Self::MemoryShort { .. } => ErrorCode::CapacityExceeded,
            Self::QuotaUsedUp { .. } => ErrorCode::QuotaExceeded,
            Self::Guest { code, .. } => match code {
                GuestErrorCode::Invalid => ErrorCode::InvalidRequest,
                GuestErrorCode::ExecNotFound => ErrorCode::ExecNotFound,
                GuestErrorCode::ExecConflict => ErrorCode::ExecConflict,
                GuestErrorCode::ExecFinished => ErrorCode::ExecFinished,
                GuestErrorCode::ShellNotFound => ErrorCode::ShellNotFound,
                GuestErrorCode::ShellExists => ErrorCode::ShellExists,
                GuestErrorCode::ShellBusy => ErrorCode::ShellBusy,
                GuestErrorCode::ContextNotFound => ErrorCode::ContextNotFound,
                GuestErrorCode::ContextExists => ErrorCode::ContextExists,
                GuestErrorCode::ContextBusy => ErrorCode::ContextBusy,
                GuestErrorCode::ContextEnded => ErrorCode::ContextEnded,
                GuestErrorCode::FileNotFound => ErrorCode::FileNotFound,
                GuestErrorCode::FileRefused => ErrorCode::FileRefused,
                GuestErrorCode::NoSpace => ErrorCode::NoSpace,
                GuestErrorCode::PatchRejected => ErrorCode::PatchRejected,
                GuestErrorCode::TooLarge => ErrorCode::TooLarge,
                GuestErrorCode::LimitExceeded => ErrorCode::LimitExceeded,
                GuestErrorCode::Unsupported => ErrorCode::Unsupported,
                GuestErrorCode::NotListening => ErrorCode::NotListening,
                GuestErrorCode::DialBroken => ErrorCode::ConnectionBroken,
                GuestErrorCode::Internal => ErrorCode::Internal,
            },
            Self::Create(error) => error.code(),
            Self::Image(error) => error.code,
            Self::Freeze(error) => error.code(),
            Self::Limit { .. } => ErrorCode::Unsupported,
            Self::Destroy(_) | Self::Remember { .. } => ErrorCode::Internal,
            Self::Restored(_) => ErrorCode::SandboxRestored,
            Self::Snapshot(error) => error.code(),
            Self::ShuttingDown => ErrorCode::ShuttingDown,
        }
    }

    /// The problem document for a caller outside.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Invalid(invalid) => invalid.clone().into(),
            Self::Ended { ending, .. } => {
                Problem { ending: Some((**ending).clone()), ..Problem::new(self.code(), self.to_string()) }
            }
            other => Problem::new(other.code(), other.to_string()),
        }
    }
}

/// Why an operation on a snapshot failed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// No snapshot has this id.
    #[error("no snapshot {0}; `hothouse snapshot ls` lists those that there are")]
    NotFound(String),
    /// A snapshot with this id exists.
    #[error("snapshot {0} exists already; delete it or choose another id")]
    Exists(SnapshotId),
    /// Sandboxes are made of it.
    #[error("{sandboxes} sandboxes are made of snapshot {id}; delete them first")]
    InUse {
        /// Which.
        id: SnapshotId,
        /// How many.
        sandboxes: u32,
    },
    /// A template makes its sandboxes of it.
    #[error(
        "template {template} makes its sandboxes of snapshot {id}; it goes when the template is changed or removed"
    )]
    OfTemplate {
        /// Which.
        id: SnapshotId,
        /// Whose.
        template: TemplateName,
    },
    /// Its files could not be read, written or removed.
    #[error("{path}: {source}")]
    Files {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The sandbox's files could not be copied; nothing is left of the snapshot.
    #[error("taking a snapshot of sandbox {id}: {reason}")]
    Copy {
        /// Which sandbox.
        id: SandboxId,
        /// Which step failed, and why.
        reason: String,
    },
}

impl SnapshotError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound(_) => ErrorCode::SnapshotNotFound,
            Self::Exists(_) => ErrorCode::SnapshotExists,
            Self::InUse { .. } | Self::OfTemplate { .. } => ErrorCode::SnapshotInUse,
            Self::Files { source, .. } if source.kind() == io::ErrorKind::StorageFull => ErrorCode::NoSpace,
            Self::Files { .. } | Self::Copy { .. } => ErrorCode::Internal,
        }
    }
}
