//! The native backend: Linux namespaces, cgroups, overlayfs and seccomp, driven by a spawner process.
//!
//! ```text
//!   backend (this process, tokio)            spawner (privileged, one thread)           guest (PID 1 of a sandbox)
//!   binds sandboxes/<id>/guest.sock ──order, listener──► clone, ids, groups ──go──► mounts, restrictions, exec
//!            ▲                                                │
//!            └──────────────── Created, Died, Destroyed ──────┘
//!   connects to guest.sock ───────────────────────────────────────────────────────────► accepts
//! ```
//!
//! The spawner is out of every path but create and destroy.

mod adoption;
mod backend;
mod capabilities;
pub(crate) mod cgroup;
mod driver;
mod kernel;
mod lent;
mod packet;
mod process;
mod running;
mod runtime;
mod snapshots;
mod spawner;
mod state;
mod wire;

use std::path::PathBuf;

use hothouse_domain::{ErrorCode, SandboxId};

pub use self::adoption::Adopted;
pub use self::backend::NativeBackend;
pub(crate) use self::lent::{Borrowed, Lent, Loan, SetAside};
pub(crate) use self::running::GroupMemory;
pub use self::running::Running;
pub use self::spawner::spawner_main;
pub(crate) use self::wire::Then;

use crate::image::{ImageError, ImageLimits};

/// The hidden subcommand by which a program that embeds the node runs the spawner: `PROGRAM spawner …`.
pub const SPAWNER_COMMAND: &str = "spawner";

/// What becomes of sandboxes when nobody drives them any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenOrphaned {
    /// They live on for the next server on the same home.
    #[default]
    LiveOn,
    /// They end at once: for a node that serves one command.
    End,
}

/// How to start the native backend.
#[derive(Debug, Clone)]
pub struct NativeOptions {
    /// `$HOTHOUSE_HOME`: images and the state of sandboxes. Made when absent.
    pub home: PathBuf,
    /// The program to run as the spawner, with [`SPAWNER_COMMAND`] as its first argument; it must call [`spawner_main`].
    pub spawner: PathBuf,
    /// Name of the cgroup directory to work under, relative to each hierarchy's mount, e.g. `hothouse`. By default
    /// `hothouse` for root, and for others what is delegated to them.
    pub cgroup: Option<String>,
    /// What becomes of sandboxes when this process is gone.
    pub when_orphaned: WhenOrphaned,
    /// For so many sandboxes to come, networks and control groups are kept ready. 8 feed a busy server; what makes one
    /// sandbox and ends needs 1.
    pub ahead: usize,
    /// What images may become.
    pub images: ImageLimits,
}

/// What the spawner is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SpawnerArguments {
    instance: String,
    cgroup: Option<String>,
    when_orphaned: WhenOrphaned,
    ahead: usize,
}

impl SpawnerArguments {
    fn to_arguments(&self) -> Vec<String> {
        let mut arguments = vec![SPAWNER_COMMAND.to_owned(), format!("--instance={}", self.instance)];
        arguments.push(format!("--ahead={}", self.ahead));
        arguments.extend(self.cgroup.iter().map(|name| format!("--cgroup={name}")));
        if self.when_orphaned == WhenOrphaned::End {
            arguments.push("--end-when-orphaned".to_owned());
        }
        arguments
    }

    /// Reads what `to_arguments` wrote; `None` when somebody else called us.
    fn from_command_line() -> Option<Self> {
        Self::parse(std::env::args().skip(1))
    }

    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        if arguments.next()? != SPAWNER_COMMAND {
            return None;
        }
        let when_orphaned = WhenOrphaned::LiveOn;
        let mut parsed = Self { instance: String::new(), cgroup: None, when_orphaned, ahead: 1 };
        for argument in arguments {
            match argument.split_once('=') {
                Some(("--instance", value)) => parsed.instance = value.to_owned(),
                Some(("--cgroup", value)) => parsed.cgroup = Some(value.to_owned()),
                Some(("--ahead", value)) => parsed.ahead = value.parse().ok()?,
                _ if argument == "--end-when-orphaned" => parsed.when_orphaned = WhenOrphaned::End,
                _ => return None,
            }
        }
        (!parsed.instance.is_empty()).then_some(parsed)
    }
}

/// Why the backend did not start.
#[derive(Debug, thiserror::Error)]
#[error("native backend: {0}")]
pub struct NativeStartError(pub String);

/// Why a sandbox was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The image cannot be used.
    #[error("image {image}: {reason}")]
    Image {
        /// Which.
        image: String,
        /// Why.
        reason: String,
    },
    /// The image cannot be had.
    #[error(transparent)]
    NoImage(#[from] ImageError),
    /// A step failed.
    #[error("making sandbox {id}: {step}: {reason}")]
    Step {
        /// Which sandbox.
        id: SandboxId,
        /// Which step, e.g. `mount overlay`.
        step: String,
        /// Why.
        reason: String,
    },
    /// The machine lacks something that cannot be done without.
    #[error("{0}")]
    Unsupported(String),
}

impl CreateError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Image { .. } => ErrorCode::ImageInvalid,
            Self::NoImage(error) => error.code,
            Self::Step { .. } => ErrorCode::CreateFailed,
            Self::Unsupported(_) => ErrorCode::Unsupported,
        }
    }
}

/// Why a sandbox was not frozen or thawed.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// This machine has no freezer that we may use.
    #[error("this machine cannot freeze sandboxes: {0}")]
    Unsupported(String),
    /// The kernel refused.
    #[error("freezing or thawing sandbox {id}: {reason}")]
    Refused {
        /// Which.
        id: SandboxId,
        /// Why.
        reason: String,
    },
}

impl FreezeError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unsupported(_) => ErrorCode::Unsupported,
            Self::Refused { .. } => ErrorCode::Internal,
        }
    }
}

/// What destroying left behind.
#[derive(Debug, thiserror::Error)]
#[error("destroying sandbox {id}: {reason}")]
pub struct DestroyError {
    /// Which.
    pub id: SandboxId,
    /// What went wrong.
    pub reason: String,
}

/// FNV-1a: the same in every build, unlike the standard library's.
fn stable_hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spawner_arguments_survive_the_command_line() {
        for (cgroup, when_orphaned) in
            [(None, WhenOrphaned::LiveOn), (Some("a/b".to_owned()), WhenOrphaned::End)]
        {
            let arguments = SpawnerArguments { instance: "hh1".to_owned(), cgroup, when_orphaned, ahead: 3 };
            assert_eq!(SpawnerArguments::parse(arguments.to_arguments().into_iter()), Some(arguments));
        }
        assert_eq!(SpawnerArguments::parse(["run".to_owned()].into_iter()), None);
        assert_eq!(SpawnerArguments::parse(["spawner".to_owned(), "--x".to_owned()].into_iter()), None);
    }
}
