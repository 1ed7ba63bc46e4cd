//! Isolated sandboxes.
//!
//! A [`Node`] owns the sandboxes of one machine. A [`Sandbox`] is a cheap handle to one of them: it runs execs and shells
//! and moves files, all by talking to the guest inside over the guest protocol. The [`native`] backend makes, finds
//! again, freezes and destroys sandboxes, and hands back a byte stream to the guest; it knows nothing of execs.

mod capacity;
pub mod dial;
pub mod endings;
pub mod error;
pub mod events;
mod exec_request;
mod exec_result;
pub mod image;
mod lease;
mod link;
pub mod makings;
pub mod native;
pub mod node;
mod phase;
mod pressure;
mod registry;
pub mod sandbox;
pub mod snapshot;
pub mod stream;
mod terms;
pub mod tls;

pub use dial::{DialStream, DialTarget};
pub use endings::{End, Ended};
pub use error::{SandboxError, SnapshotError};
pub use events::Events;
pub use image::{ImageError, ImageLimits, Images};
pub use makings::{CreateStage, Makings};
pub use node::{NewSandbox, Node, NodeOptions, NodeStartError, Reserved};
pub use sandbox::Sandbox;
pub use snapshot::SnapshotUse;
pub use stream::{ExecEvent, ExecStream, FileReader, OutputChunk, OutputName};
pub use terms::{Claimant, Member, RequestKey, Terms};

/// Seconds since the machine started, those in which it slept included.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "milliseconds of years are below 2^52")]
pub fn uptime_s() -> f64 {
    terms::boottime_ms() as f64 / 1e3
}

/// A new group's id.
#[must_use]
pub fn fresh_group() -> hothouse_domain::GroupId {
    exec_request::fresh("gr")
}
