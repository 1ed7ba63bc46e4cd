//! What happens to sandboxes, as followers of a server hear of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ending::Ending;
use crate::id::{GroupId, PoolName, SandboxId, SnapshotId, TenantName};
use crate::image::ImageRef;
use crate::sandbox::FrozenBy;

/// Something that happened to a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Counts from 1 as long as the server runs.
    pub seq: u64,
    /// When, RFC 3339, UTC.
    pub at: String,
    /// To which sandbox.
    pub sandbox_id: SandboxId,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
    /// The pool that made it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolName>,
    /// The group that it is a member of, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupId>,
    /// Whose it is, where keys tell tenants apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// It was made.
    Created,
    /// It was found alive when the server started.
    Adopted,
    /// Somebody claimed it from its pool.
    Claimed,
    /// Its processes were stopped.
    Frozen {
        /// By whom.
        #[serde(default, rename = "frozen_by")]
        by: FrozenBy,
    },
    /// They run again.
    Thawed,
    /// A snapshot of its files was taken.
    Snapshotted {
        /// Which.
        snapshot: SnapshotId,
    },
    /// It was set back: its files are those of `image`, and no process of before is left.
    Restored {
        /// What it is made of now.
        image: ImageRef,
    },
    /// Its guest is gone; it is there until it is deleted.
    Died {
        /// Why.
        reason: String,
    },
    /// It is no more.
    Ended {
        /// Who ended it, when, and why.
        ending: Ending,
    },
}

impl EventKind {
    /// The kind as it stands on the wire.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Adopted => "adopted",
            Self::Claimed => "claimed",
            Self::Frozen { .. } => "frozen",
            Self::Thawed => "thawed",
            Self::Snapshotted { .. } => "snapshotted",
            Self::Restored { .. } => "restored",
            Self::Died { .. } => "died",
            Self::Ended { .. } => "ended",
        }
    }
}
