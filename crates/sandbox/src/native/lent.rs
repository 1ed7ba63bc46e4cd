//! Files of a sandbox that has ended, as it has left them: others are made of them while they are copied to where they are
//! to stay.
//!
//! ```text
//!  sandbox ends ──► its body stands still, aside ──► copied ──► nobody is being made of it ──► its body is ended
//!                        │ its upper layers are layers of others                │ those have hold of them themselves
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use hothouse_domain::SnapshotId;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use super::DestroyError;
use super::running::Running;
use super::snapshots::Replaced;
use super::wire::{Body, Order, Report};
use crate::error::SnapshotError;

/// What a sandbox has lent.
#[derive(Debug)]
pub(crate) struct Lent {
    body: Body,
    overlays: u32,
    /// Shared by those that are being made of it.
    borrowed: Arc<RwLock<()>>,
}

impl Lent {
    pub(crate) fn new(body: Body, overlays: usize) -> Self {
        // No sandbox has more than there are layers.
        let overlays = u32::try_from(overlays).unwrap_or(u32::MAX);
        Self { body, overlays, borrowed: Arc::default() }
    }

    pub(super) fn body(&self) -> &Body {
        &self.body
    }

    pub(super) fn overlays(&self) -> u32 {
        self.overlays
    }

    /// What the layer of an overlay is known by: no path is like it.
    pub(super) fn name(&self, overlay: usize) -> String {
        format!("lent:{}:{overlay}", self.body.key)
    }

    /// Keeps it for somebody who is being made of it; `None` when that is over.
    pub(crate) fn borrow(self: &Arc<Self>) -> Option<Arc<Borrowed>> {
        let guard = Arc::clone(&self.borrowed).try_read_owned().ok()?;
        Some(Arc::new(Borrowed { lent: Arc::clone(self), _guard: guard }))
    }
}

/// Somebody is being made of what a sandbox has lent.
#[derive(Debug)]
pub(crate) struct Borrowed {
    lent: Arc<Lent>,
    _guard: OwnedRwLockReadGuard<()>,
}

impl Borrowed {
    pub(super) fn lent(&self) -> &Lent {
        &self.lent
    }
}

/// The body of a sandbox that has ended, aside, whose files are in a snapshot that is yet to be written.
#[derive(Debug)]
#[must_use = "it stands still until it is destroyed"]
pub(crate) struct SetAside {
    pub(super) body: Running,
    pub(super) place: PathBuf,
    pub(super) lent: Arc<Lent>,
    pub(crate) snapshot: SnapshotId,
}

impl SetAside {
    /// Copies what it has written, and removed, over the layers that `base` has.
    pub(crate) async fn copy_files(
        &self,
        into: &[PathBuf],
        base: &[PathBuf],
    ) -> Result<(u64, u64), SnapshotError> {
        let copied = self.body.copy_files(into, base, super::wire::Then::Nothing).await?;
        Ok((copied.bytes, copied.entries))
    }

    /// Waits until nobody is being made of it, and ends it.
    pub(crate) async fn destroy(self) -> Result<(), DestroyError> {
        drop(self.lent.borrowed.write().await);
        self.body.take_back(&self.lent).await;
        Replaced { body: self.body, place: self.place }.destroy().await
    }
}

/// What is lent, and how much that is.
#[derive(Debug)]
pub(crate) struct Loan {
    pub(crate) lent: Arc<Lent>,
    /// Bytes and entries of all its files, those in shared memory included.
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

impl Running {
    /// Lends what it has written. It stands still, and does so from now on.
    pub(crate) async fn lend(&self, overlays: usize) -> Result<Loan, SnapshotError> {
        let failed = |reason| SnapshotError::Copy { id: self.id.clone(), reason };
        let lent = Arc::new(Lent::new(self.body.clone(), overlays));
        let (body, overlays) = (self.body.clone(), lent.overlays());
        let spawner = self.backend.spawner().await.map_err(failed)?;
        match spawner.ask(|ticket| Order::Lend { ticket, body, overlays }, None).await.map_err(failed)? {
            Report::Lent { bytes, entries, layers, .. } => {
                spawner.knows_lent(&lent, &layers).await;
                Ok(Loan { lent, bytes, entries })
            }
            other => Err(failed(format!("the spawner answered {other:?}"))),
        }
    }

    /// Takes back what was lent: nobody is being made of it.
    pub(crate) async fn take_back(&self, lent: &Lent) {
        for overlay in 0..lent.overlays() {
            if let Err(error) = self.backend.forget_layer(&lent.name(overlay as usize)).await {
                tracing::error!(sandbox = %self.id, error, "taking its files from the shelf");
            }
        }
    }

    /// The ticket of its body, by which a later node knows it.
    pub(crate) fn key(&self) -> u64 {
        self.body.key
    }

    /// Puts it aside: a node that starts now finds no sandbox of its id. After a failure it is where it was.
    pub(crate) fn set_aside(
        self,
        lent: Arc<Lent>,
        snapshot: SnapshotId,
    ) -> Result<SetAside, (Box<Self>, std::io::Error)> {
        let place = self.backend.directory.beside(&self.id);
        match self.backend.directory.set_aside(&self.id, &place) {
            Ok(()) => Ok(SetAside { body: self, place, lent, snapshot }),
            Err(error) => Err((Box::new(self), error)),
        }
    }
}
