//! What the backend and its spawner say to each other: one postcard message per packet, file descriptors beside it.

use hothouse_domain::Resources;
use serde::{Deserialize, Serialize};

use crate::makings::{CreateStage, SpawnTimes};

/// The longest packet, in bytes.
pub(crate) const MAX_PACKET: usize = 64 << 10;

/// Ties an answer to its order. That of a create also names the sandbox from then on; a backend begins to count where
/// no earlier one has been.
pub(crate) type Ticket = u64;

/// Limits as the kernel takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Microseconds of CPU per 100 ms.
    pub(crate) cpu_quota_us: u64,
    pub(crate) memory_bytes: u64,
    /// Processes and threads, the guest included.
    pub(crate) pids: u32,
    pub(crate) disk_bytes: u64,
    pub(crate) disk_inodes: u64,
}

impl Limits {
    pub(crate) fn of(resources: &Resources) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "validated: 0.01 to 1024 cores"
        )]
        let cpu_quota_us = ((resources.cpus * 100_000.0).round() as u64).max(1000);
        Self {
            cpu_quota_us,
            memory_bytes: resources.memory_bytes,
            // The guest is one of them.
            pids: resources.pids.saturating_add(1),
            disk_bytes: resources.file_bytes(),
            disk_inodes: resources.disk_inodes,
        }
    }
}

/// One overlay of a sandbox's file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Overlay {
    /// Where it goes, absolute; `/` comes first.
    pub(crate) target: String,
    /// Topmost first.
    pub(crate) layers: Vec<OverlayLayer>,
}

/// One layer of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OverlayLayer {
    /// The number of a registered tree.
    pub(crate) tree: u32,
    /// A name in it; empty for all of it.
    pub(crate) below: String,
}

/// Everything that making one sandbox needs. The packet carries its listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CreateOrder {
    pub(crate) id: String,
    pub(crate) overlays: Vec<Overlay>,
    /// Directories that must exist in the root: mount points.
    pub(crate) directories: Vec<String>,
    /// Made in the finished root, where the image's links count.
    pub(crate) workdir: Option<String>,
    pub(crate) limits: Limits,
}

/// Where a sandbox's files are copied to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CopyOrder {
    /// For each overlay, an empty directory, and the directory whose content comes first.
    pub(crate) layers: Vec<(String, Option<String>)>,
    pub(crate) then: Then,
}

/// What becomes of a copy when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Then {
    /// Sandboxes are made of it at once: its directories are layers from the beginning.
    Layers,
    /// Nothing yet.
    Nothing,
}

/// A sandbox's process and kernel objects, enough to find and end it in a later life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Body {
    /// The ticket of its create.
    pub(crate) key: Ticket,
    /// PID of the guest in the spawner's PID namespace.
    pub(crate) pid: i32,
    /// Field 22 of `/proc/PID/stat`: tells a reused PID from the guest.
    pub(crate) start_time: u64,
    /// Name of its cgroup below the root, where there is one.
    pub(crate) group: Option<String>,
    /// OOM kills that the group had seen before.
    pub(crate) oom_before: u64,
    /// Its range of user ids.
    pub(crate) slot: u32,
}

/// To the spawner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Make a directory of the host usable as a layer.
    Register {
        ticket: Ticket,
        path: String,
    },
    Create {
        ticket: Ticket,
        order: CreateOrder,
    },
    /// A sandbox of an earlier spawner: its slot and group are taken, its end is watched for. No answer.
    Adopt {
        body: Body,
    },
    Destroy {
        ticket: Ticket,
        body: Body,
    },
    /// A sandbox gets other limits on memory, processes and CPU time.
    Limit {
        ticket: Ticket,
        body: Body,
        limits: Limits,
    },
    /// What the sandbox has written is copied to directories of the machine.
    Copy {
        ticket: Ticket,
        body: Body,
        order: CopyOrder,
    },
    /// What a sandbox has written becomes layers as it is. It stands still, and does so until nobody uses them any more.
    Lend {
        ticket: Ticket,
        body: Body,
        overlays: u32,
    },
    /// A layer is used no more. No answer.
    Unregister {
        layer: u32,
    },
    /// A sandbox that is being destroyed takes long: its CPU limit is lifted. No answer.
    Hasten {
        key: Ticket,
    },
}

/// From the spawner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// First: it is up, and this is what it can do.
    Ready {
        abilities: Abilities,
    },
    /// It cannot work here.
    Unable {
        reason: String,
    },
    Registered {
        ticket: Ticket,
        layer: u32,
    },
    Created {
        ticket: Ticket,
        body: Body,
        times: SpawnTimes,
    },
    /// A create that failed; nothing is left of it.
    NotCreated {
        ticket: Ticket,
        stage: CreateStage,
        step: String,
        reason: String,
    },
    /// Any other order that failed; nothing is left of it.
    Failed {
        ticket: Ticket,
        step: String,
        reason: String,
    },
    /// A guest ended without being told to.
    Died {
        key: Ticket,
        reason: String,
    },
    Limited {
        ticket: Ticket,
    },
    /// What differs from the image was copied.
    Copied {
        ticket: Ticket,
        bytes: u64,
        entries: u64,
        /// The numbers that its directories have as layers, where that was ordered.
        layers: Vec<u32>,
    },
    /// A layer for each overlay, and what the store holds that they are in.
    Lent {
        ticket: Ticket,
        bytes: u64,
        entries: u64,
        layers: Vec<u32>,
    },
    /// `leftover` names what could not be removed.
    Destroyed {
        ticket: Ticket,
        leftover: Option<String>,
    },
}

/// What the spawner found that it can do. `Err` carries the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Abilities {
    pub(crate) uid_range: Result<(), String>,
    pub(crate) memory: Result<(), String>,
    pub(crate) swap: Result<(), String>,
    pub(crate) pids: Result<(), String>,
    pub(crate) cpu: Result<(), String>,
    pub(crate) freeze: Result<(), String>,
    pub(crate) network: Result<(), String>,
    pub(crate) idmap: Result<(), String>,
    pub(crate) landlock: Result<u32, String>,
}
