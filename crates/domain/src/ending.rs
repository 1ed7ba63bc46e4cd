//! How sandboxes end: who ended it, when, and why.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// A client deleted it.
    Deleted,
    /// Its lease's lifetime is over.
    Lifetime,
    /// Nobody used it for as long as its lease allows.
    Idle,
    /// There was no word of its owner for as long as its lease allows.
    OwnerGone,
    /// Its group could not be made whole, or was deleted.
    Group,
    /// Its pool has no use for it: it shrank, drained, was deleted, or has a newer version of its template.
    Pool,
    /// The session of an environment that it was for is over.
    Session,
    /// Who asked for it went away before the answer.
    Abandoned,
    /// The machine was short of memory, and its lease allows to end it then.
    MemoryPressure,
    /// The node ended and took its sandboxes with it.
    NodeEnded,
    /// It was dead when a node was started: the machine had been, or its guest ended meanwhile.
    FoundDead,
}

impl EndCause {
    /// The cause as it stands on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Lifetime => "lifetime",
            Self::Idle => "idle",
            Self::OwnerGone => "owner_gone",
            Self::Group => "group",
            Self::Pool => "pool",
            Self::Session => "session",
            Self::Abandoned => "abandoned",
            Self::MemoryPressure => "memory_pressure",
            Self::NodeEnded => "node_ended",
            Self::FoundDead => "found_dead",
        }
    }
}

/// How a sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ending {
    /// Why, for a program.
    pub cause: EndCause,
    /// Who: `client`, the tenant whose key was used, `lease`, `pressure`, `pool NAME`, `group ID`, `environment NAME` or
    /// `node`.
    pub by: String,
    /// When, RFC 3339, UTC.
    pub at: String,
    /// Why, for a person: a lowercase fragment.
    pub why: String,
}
