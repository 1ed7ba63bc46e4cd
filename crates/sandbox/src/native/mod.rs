//! The native backend: Linux namespaces, cgroups, overlayfs and seccomp, driven by a spawner process.

use std::path::PathBuf;
use std::process::ExitCode;

use hothouse_domain::{Capabilities, ErrorCode, SandboxId, SandboxSpec};
use tokio::net::UnixStream;
use tokio::sync::watch;

/// The hidden subcommand by which a program that embeds the node runs the spawner: `PROGRAM spawner …`.
pub const SPAWNER_COMMAND: &str = "spawner";

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

/// The native backend of this machine.
#[derive(Debug)]
pub struct NativeBackend {}

/// A sandbox that this backend made.
#[derive(Debug)]
pub struct Running {}

/// Runs the spawner: never returns until its driver is gone. Call it from a single-threaded program only.
pub fn spawner_main() -> ExitCode {
    unimplemented!()
}

impl NativeBackend {
    /// Starts the spawner and finds out what this machine enforces.
    ///
    /// # Errors
    /// [`NativeStartError`] when the machine cannot host sandboxes at all; it says what to do.
    pub async fn start(_options: NativeOptions) -> Result<Self, NativeStartError> {
        unimplemented!()
    }

    /// What this backend enforces on this machine.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        unimplemented!()
    }

    /// Makes a sandbox; its guest accepts connections when this returns.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left behind then.
    pub async fn create(&self, _id: &SandboxId, _spec: &SandboxSpec) -> Result<Running, CreateError> {
        unimplemented!()
    }

    /// Finds the sandboxes that an earlier server left alive, with their specs and creation times, and sweeps what is dead.
    pub async fn adopt(&self) -> Vec<(Running, SandboxSpec, jiff::Timestamp)> {
        unimplemented!()
    }
}

impl Running {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &SandboxId {
        unimplemented!()
    }

    /// A fresh connection to its guest.
    ///
    /// # Errors
    /// An I/O error when the guest is gone.
    pub async fn connect(&self) -> std::io::Result<UnixStream> {
        unimplemented!()
    }

    /// Becomes `Some(reason)` when its guest is gone.
    #[must_use]
    pub fn death(&self) -> watch::Receiver<Option<String>> {
        unimplemented!()
    }

    /// Stops every process in it; they keep their memory.
    ///
    /// # Errors
    /// [`FreezeError`].
    pub async fn freeze(&self) -> Result<(), FreezeError> {
        unimplemented!()
    }

    /// Lets its processes run again.
    ///
    /// # Errors
    /// [`FreezeError`].
    pub async fn thaw(&self) -> Result<(), FreezeError> {
        unimplemented!()
    }

    /// Kills every process in it and removes its files and cgroups. Works on a dead or frozen one too.
    ///
    /// # Errors
    /// [`DestroyError`] names what is left.
    pub async fn destroy(self) -> Result<(), DestroyError> {
        unimplemented!()
    }
}
