//! What sandboxes use now.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::SandboxId;
use crate::pool::PoolInfo;
use crate::sandbox::SandboxPhase;

/// What one sandbox uses; what this machine does not count is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SandboxStats {
    /// Which.
    pub id: SandboxId,
    /// Where it is in its life.
    #[serde(flatten)]
    pub phase: SandboxPhase,
    /// CPU time of its control group, in seconds. The group may have served another sandbox before: what counts is the
    /// difference between two looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<f64>,
    /// Memory in bytes, its files included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads, the guest included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
}

/// What a node has to give and what is taken of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Taken {
    /// By sandboxes that are there, and those in the making.
    pub taken: f64,
    /// In all; absent where it is not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<f64>,
}

/// What a node does now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeStats {
    /// Seconds since the machine started, for rates.
    pub at_s: f64,
    /// By name: `sandboxes`, `cpus`, `memory_bytes`, `pids`, and what the node was started with.
    pub usage: BTreeMap<String, Taken>,
    /// Requests that wait for room.
    pub waiting: usize,
    /// The pools, by name.
    pub pools: Vec<PoolInfo>,
    /// Those that use the most memory, at most as many as were asked for.
    pub sandboxes: Vec<SandboxStats>,
}
