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

/// The memory of the machine, and what was done to keep enough of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryStats {
    /// Bytes that can be used without swapping, as the kernel estimates them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
    /// Below this no sandbox is made; 0 for no such limit.
    pub min_free_bytes: u64,
    /// Below this memory is taken back from idle sandboxes; 0 for never.
    pub reclaim_below_bytes: u64,
    /// Sandboxes that are frozen by the node now.
    pub frozen: u64,
    /// Times that memory was taken back from a sandbox that lives on, since the node was started.
    pub reclaims: u64,
    /// Sandboxes that were ended for their memory.
    pub ended: u64,
    /// Sandboxes that a request has thawed.
    pub thawed: u64,
    /// Bytes that were taken back, by either way.
    pub reclaimed_bytes: u64,
}

/// What a node does now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeStats {
    /// Seconds since the machine started, for rates.
    pub at_s: f64,
    /// By name: `sandboxes`, `cpus`, `memory_bytes`, `pids`, and what the node was started with.
    pub usage: BTreeMap<String, Taken>,
    /// The machine's memory.
    pub memory: MemoryStats,
    /// Requests that wait for room.
    pub waiting: usize,
    /// The pools, by name.
    pub pools: Vec<PoolInfo>,
    /// Those that use the most memory, at most as many as were asked for.
    pub sandboxes: Vec<SandboxStats>,
}
