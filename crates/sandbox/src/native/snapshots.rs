//! Files of sandboxes on their way out, and back: copies of upper layers, and bodies that take another's place.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hothouse_domain::{ImageRef, PullPolicy, SandboxSpec, SnapshotId};
use tokio::sync::mpsc;

use super::backend::{Inner, NativeBackend};
use super::driver::Spawner;
use super::running::{Origin, Running};
use super::wire::{CopyOrder, Order, Report, Then};
use super::{CreateError, DestroyError};
use crate::error::SnapshotError;
use crate::image::{Layer, Pin};
use crate::snapshot::diff::Changed;
use crate::snapshot::{Discarded, SnapshotStore};
use crate::terms::Terms;

/// The pause before files are removed again into which somebody copies.
const REMOVED_AGAIN: Duration = Duration::from_millis(100);
/// How long that may go on.
const COPIED_WITHIN: Duration = Duration::from_mins(1);

impl Inner {
    /// Removes the files of snapshots that are no more.
    pub(super) async fn remove_discarded(self: Arc<Self>, mut discarded: mpsc::UnboundedReceiver<Discarded>) {
        while let Some(discarded) = discarded.recv().await {
            if let Err(error) = self.remove_files(&discarded).await {
                tracing::error!(path = %discarded.place.display(), %error, "removing a snapshot's files");
            }
        }
    }

    async fn remove_files(&self, discarded: &Discarded) -> io::Result<()> {
        for layer in discarded.layers.iter().filter_map(|layer| layer.to_str()) {
            self.forget_layer(layer).await.map_err(io::Error::other)?;
        }
        let begin = Instant::now();
        loop {
            let gone = discarded.place.clone();
            let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(&gone));
            match removed.await.map_err(io::Error::other)? {
                // Somebody copies into it who has not seen yet that it is gone.
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty && begin.elapsed() < COPIED_WITHIN => {
                    tokio::time::sleep(REMOVED_AGAIN).await;
                }
                removed => return removed,
            }
        }
    }
}

impl Running {
    /// The image of the store that it is made of.
    pub(crate) fn pin(&self) -> Option<&Arc<Pin>> {
        self.pin.as_ref()
    }

    /// Copies what it has written, and removed, over the layers that `base` has.
    pub(crate) async fn copy_files(
        &self,
        into: &[PathBuf],
        base: &[PathBuf],
        then: Then,
    ) -> Result<Copied, SnapshotError> {
        let failed = |reason| SnapshotError::Copy { id: self.id.clone(), reason };
        let text = |path: &Path| {
            let text = path.to_str().map(str::to_owned);
            text.ok_or_else(|| failed(format!("{} is not UTF-8", path.display())))
        };
        let mut layers = Vec::new();
        for (number, target) in into.iter().enumerate() {
            layers.push((text(target)?, base.get(number).map(|base| text(base)).transpose()?));
        }
        let order = |ticket| Order::Copy {
            ticket,
            body: self.body.clone(),
            order: CopyOrder { layers: layers.clone(), then },
        };
        let spawner = self.backend.spawner().await.map_err(failed)?;
        match spawner.ask(order, None).await {
            Ok(Report::Copied { bytes, entries, layers, .. }) => {
                Ok(Copied { bytes, entries, layers, spawner })
            }
            Ok(other) => Err(failed(format!("the spawner answered {other:?}"))),
            Err(reason) => Err(failed(reason)),
        }
    }
}

/// What was copied out of a sandbox.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    /// The numbers under which a spawner knows its layers already.
    layers: Vec<u32>,
    spawner: Arc<Spawner>,
}

impl Copied {
    /// Nothing will be made of it.
    pub(crate) async fn discard(&self) {
        for &layer in &self.layers {
            // A spawner that is gone has no shelf either.
            drop(self.spawner.send(&Order::Unregister { layer }, None).await);
        }
    }

    /// Tells under which paths its layers are from now on, so that nobody has to have them registered.
    pub(crate) async fn placed(&self, paths: &[PathBuf]) {
        for (path, &number) in paths.iter().zip(&self.layers) {
            // A path that is no text, or cannot be looked at, is an error of whoever makes a sandbox of it.
            if let Some(path) = path.to_str() {
                self.spawner.knows(path, number).await;
            }
        }
    }
}

/// A body whose place another has taken: it is to be destroyed.
#[derive(Debug)]
#[must_use = "it lives until it is destroyed"]
pub(crate) struct Replaced {
    pub(super) body: Running,
    pub(super) place: PathBuf,
}

impl Replaced {
    /// Ends it and removes what it had.
    pub(crate) async fn destroy(self) -> Result<(), DestroyError> {
        self.body.destroy_at(&self.place).await
    }
}

impl NativeBackend {
    /// The snapshots of this node.
    pub(crate) fn snapshots(&self) -> &Arc<SnapshotStore> {
        &self.snapshots
    }

    /// How many overlays an image has: so many layers does a snapshot of it have.
    pub(crate) async fn overlays(&self, image: &ImageRef) -> Result<usize, CreateError> {
        let spec = SandboxSpec { image: image.clone(), pull: PullPolicy::Never, ..SandboxSpec::default() };
        Ok(self.images.resolve(&spec, &self.snapshots).await?.overlays.len())
    }

    /// What a snapshot changes, overlay by overlay.
    pub(crate) async fn changed(&self, id: &SnapshotId) -> Result<Vec<Changed>, CreateError> {
        let image = ImageRef::Snapshot(id.clone());
        let spec = SandboxSpec { image, pull: PullPolicy::Never, ..SandboxSpec::default() };
        let image = self.images.resolve(&spec, &self.snapshots).await?;
        let changed = |(target, layers): (String, Vec<Layer>)| {
            let mut layers = layers.into_iter().map(|layer| Path::new(&layer.tree).join(layer.below));
            let upper = layers.next().unwrap_or_default();
            Changed { target: target.into(), upper, lower: layers.collect() }
        };
        Ok(image.overlays.into_iter().map(changed).collect())
    }

    /// Makes another body for a sandbox, on other terms, in the place of the one that it has: from the moment that this
    /// one is in its place, also a node that starts after a kill finds it and no other. After a failure the old one is
    /// as it was, and is given back.
    pub(crate) async fn replace(
        &self,
        old: Running,
        terms: &Terms,
    ) -> Result<(Running, Replaced), (Running, CreateError)> {
        let (inner, id) = (&self.inner, old.id().clone());
        let step =
            |step: &str, reason: String| CreateError::Step { id: id.clone(), step: step.to_owned(), reason };
        let place = inner.directory.beside(&id);
        let mut making = self.makings.begin(&id, terms);
        let made = async {
            let image = self.images.resolve(&terms.spec, &self.snapshots).await?;
            let listener = || inner.directory.make_at(&place);
            Ok((self.make_body(&id, &terms.spec, &image, &mut making, listener).await?, image.pin))
        };
        let made = made.await;
        making.ended(made.as_ref().map(drop).map_err(CreateError::code));
        let (body, pin) = match made {
            Ok(made) => made,
            Err(error) => {
                if let Err(e) = inner.directory.remove_at(&place) {
                    tracing::error!(%id, error = %e, "removing the directory of a failed restore");
                }
                return Err((old, error));
            }
        };
        let death = inner.remember(&body);
        let new = Running {
            backend: Arc::clone(inner),
            id: id.clone(),
            body,
            created_at: old.created_at(),
            origin: Origin::Made,
            death,
            pin,
        };
        let exchanged = if inner.remembers() {
            inner.directory.save_at(&place, &new.state(terms.clone()))
        } else {
            Ok(())
        };
        let exchanged = exchanged.and_then(|()| inner.directory.exchange(&id, &place));
        match exchanged {
            Ok(()) => Ok((new, Replaced { body: old, place })),
            Err(e) => {
                if let Err(error) = (Replaced { body: new, place }).destroy().await {
                    tracing::error!(%id, %error, "undoing a failed restore");
                }
                Err((old, step("putting it in its place", e.to_string())))
            }
        }
    }
}
