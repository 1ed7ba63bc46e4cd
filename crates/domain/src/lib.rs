//! The words of Hothouse: ids, specs, limits, states with their legal transitions, outcomes and error codes.
//!
//! Every type here is plain data: serde and schema derives, validation, nothing else. There is no I/O, no clock and
//! no async runtime in this crate, and there never is. The same types are the REST bodies, the CLI's `--json` output
//! and the arguments of the core calls, so that a concept has one definition.

pub mod capability;
pub mod capacity;
pub mod context;
pub mod ending;
pub mod event;
pub mod exec;
pub mod files;
pub mod group;
pub mod id;
pub mod image;
pub mod image_name;
pub mod lease;
pub mod pool;
pub mod problem;
pub mod resources;
pub mod sandbox;
pub mod secret;
pub mod shell;
pub mod signal;
pub mod snapshot;
pub mod stats;
pub mod template;

pub use capability::{Capabilities, Capability, Enforcement};
pub use context::{
    ContextCode, ContextForkSpec, ContextInfo, ContextSpec, ContextState, Json, JsonObject, Mime, Raised,
    Value,
};
pub use ending::{EndCause, Ending};
pub use event::{Event, EventKind};
pub use exec::{Encoding, ExecResult, ExecSpec, ExecState, ExecStatus, Outcome, PtySize, Truncated, Usage};
pub use group::{EndedMany, EndedMember, Failed, GroupInfo, GroupSpec, OnFailure};
pub use id::{
    ContextId, ExecId, GroupId, InvalidId, OwnerName, PoolName, SandboxId, ShellId, SnapshotId, TemplateName,
    TenantName,
};
pub use image::{ImageInfo, ImageProgress, ImageRef, LayerRef, PullPolicy, PullSpec};
pub use image_name::{ImageId, ImageName};
pub use lease::{Lease, Reclaim};
pub use pool::{Claim, ClaimFile, ClaimSpec, PoolInfo, PoolPhase, PoolPlace, PoolSize, PoolSpec};
pub use problem::{ErrorCode, Invalid, Problem};
pub use resources::{ResourceChange, Resources};
pub use sandbox::{FrozenBy, Network, SandboxInfo, SandboxPhase, SandboxSpec};
pub use secret::Secret;
pub use signal::Signal;
pub use snapshot::{
    Afterwards, Change, Diff, Difference, ForkSpec, Holds, RestoreSpec, SETUP_PREFIX, SnapshotInfo,
    SnapshotSpec,
};
pub use stats::{MemoryStats, NodeStats, SandboxStats, Taken};
pub use template::{TemplateInfo, TemplateSpec};
