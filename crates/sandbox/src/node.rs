//! The sandboxes of one machine.

use std::path::PathBuf;

use hothouse_domain::{Capabilities, SandboxId, SandboxInfo, SandboxSpec};

use crate::error::SandboxError;
use crate::native::NativeStartError;
use crate::sandbox::Sandbox;

/// How to start a node.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// `$HOTHOUSE_HOME`.
    pub home: PathBuf,
    /// See [`NativeOptions::spawner`](crate::native::NativeOptions).
    pub spawner: PathBuf,
    /// See [`NativeOptions::cgroup`](crate::native::NativeOptions).
    pub cgroup: Option<String>,
    /// At most so many sandboxes at once.
    pub max_sandboxes: usize,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeStartError {
    /// The backend did not start.
    #[error(transparent)]
    Native(#[from] NativeStartError),
}

/// What happens to the sandboxes when a node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtShutdown {
    /// They live on; the next node on the same home adopts them.
    Leave,
    /// They are destroyed.
    Destroy,
}

/// The sandboxes of one machine; clones share them.
#[derive(Debug, Clone)]
pub struct Node {}

#[allow(unused_variables, clippy::unimplemented, reason = "signatures first; the bodies follow")]
impl Node {
    /// Starts the backend and adopts the sandboxes that an earlier node on this home left alive.
    ///
    /// # Errors
    /// [`NodeStartError`] says what this machine lacks.
    pub async fn start(options: NodeOptions) -> Result<Self, NodeStartError> {
        unimplemented!()
    }
    /// What the backend enforces here.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        unimplemented!()
    }
    /// Makes a sandbox.
    ///
    /// # Errors
    /// [`SandboxError`]: invalid spec, id taken, node full, or the backend's reason.
    pub async fn create(&self, spec: SandboxSpec) -> Result<Sandbox, SandboxError> {
        unimplemented!()
    }
    /// The sandbox with this id.
    ///
    /// # Errors
    /// [`SandboxError::NotFound`].
    pub fn get(&self, id: &SandboxId) -> Result<Sandbox, SandboxError> {
        unimplemented!()
    }
    /// Sandboxes with ids after `after`, sorted by id, that have all these labels; at most `limit`.
    #[must_use]
    pub fn list(
        &self,
        after: Option<&SandboxId>,
        labels: &[(String, String)],
        limit: usize,
    ) -> Vec<SandboxInfo> {
        unimplemented!()
    }
    /// How many sandboxes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        unimplemented!()
    }
    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Destroys a sandbox; returns when nothing of it is left.
    ///
    /// # Errors
    /// [`SandboxError`]: no such sandbox, or what could not be removed.
    pub async fn delete(&self, id: &SandboxId) -> Result<(), SandboxError> {
        unimplemented!()
    }
    /// Ends the node.
    pub async fn shutdown(&self, at_shutdown: AtShutdown) {
        unimplemented!()
    }
}
