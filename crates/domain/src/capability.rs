//! What a backend enforces on this machine, limit by limit.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How well one protection holds here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "level", rename_all = "snake_case")]
pub enum Enforcement {
    /// The kernel enforces it.
    Enforced,
    /// It holds in part.
    Partial {
        /// What holds and what does not.
        reason: String,
        /// What the machine's owner can do about it.
        fix: String,
    },
    /// It does not hold.
    Missing {
        /// Why not.
        reason: String,
        /// What the machine's owner can do about it.
        fix: String,
    },
}

/// One protection or feature and how well it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Capability {
    /// A stable name, e.g. `memory_limit`, `pids_limit`, `cpu_limit`, `disk_limit`, `inode_limit`, `user_namespace`,
    /// `uid_range`, `network_none`, `seccomp`, `landlock`, `idmapped_layers`, `freeze`.
    pub name: String,
    /// One line: what it protects or allows.
    pub what: String,
    /// How well it holds.
    #[serde(flatten)]
    pub enforcement: Enforcement,
}

/// Everything that a backend enforces and can do on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Capabilities {
    /// The backend, e.g. `native`.
    pub backend: String,
    /// Each protection, in a fixed order.
    pub items: Vec<Capability>,
}

impl Capabilities {
    /// How well the named protection holds; `None` for a name that this backend does not know.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Enforcement> {
        self.items.iter().find(|item| item.name == name).map(|item| &item.enforcement)
    }
}
