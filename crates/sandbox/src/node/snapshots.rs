//! Snapshots and forks of a node's sandboxes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hothouse_domain::{
    Afterwards, ClaimSpec, ImageRef, RestoreSpec, SandboxSpec, SnapshotId, SnapshotInfo, SnapshotSpec,
    TemplateName, TenantName,
};

use super::Node;
use crate::endings::End;
use crate::error::{SandboxError, SnapshotError};
use crate::exec_request::fresh;
use crate::native::SetAside;
use crate::sandbox::{NewSnapshot, Over, Sandbox};
use crate::snapshot::diff::{Entry, entries};
use crate::snapshot::{Keep, SnapshotStore, SnapshotUse, Writing};
use crate::terms::bind;

/// Files that a sandbox has changed, and those that it was made of: they are there as long as this is.
#[derive(Debug)]
pub struct ChangedFiles {
    _files: SnapshotUse,
    _over: Option<SnapshotUse>,
}

/// The pause before the files of a snapshot are written again that could not be.
const WRITE_AGAIN: Duration = Duration::from_secs(5);

fn plain(id: SnapshotId, keep: Keep) -> NewSnapshot {
    NewSnapshot { id, keep, labels: BTreeMap::new(), template: None, over: Over::Image }
}

impl Node {
    fn store(&self) -> &std::sync::Arc<SnapshotStore> {
        self.inner.around.backend.snapshots()
    }

    /// Takes a snapshot of a sandbox's files; `end` is how it ends where it is to end then.
    ///
    /// # Errors
    /// [`SandboxError`]: it breaks a rule, its id is taken, the sandbox is frozen or dead, or its files cannot be copied;
    /// nothing is left of the snapshot then.
    pub async fn snapshot(
        &self,
        sandbox: &Sandbox,
        spec: SnapshotSpec,
        end: End,
    ) -> Result<SnapshotInfo, SandboxError> {
        spec.validate()?;
        let SnapshotSpec { id, labels, afterwards } = spec;
        let id = id.unwrap_or_else(|| fresh("sn"));
        if afterwards == Afterwards::End {
            let new = NewSnapshot { labels: labels.clone(), ..plain(id.clone(), Keep::Kept) };
            let (node, sandbox, end) = (self.clone(), sandbox.clone(), end.clone());
            // A caller that leaves meanwhile must not leave a body behind that nobody writes the files of.
            let lend = self.inner.around.tasks.spawn(async move {
                let aside = sandbox.lend(new, end).await?;
                Ok::<_, SandboxError>(aside.map(|aside| node.write_later(aside)))
            });
            if lend.await.map_err(|_| SandboxError::ShuttingDown)??.is_some() {
                return Ok(self.store().get(&id, None)?);
            }
        }
        // The use ends here: what stays is not for its sake.
        drop(sandbox.snapshot(NewSnapshot { labels, ..plain(id.clone(), Keep::Kept) }).await?);
        if afterwards == Afterwards::End {
            self.end(sandbox.id(), end).await?;
        }
        Ok(self.store().get(&id, None)?)
    }

    /// Copies the files of a snapshot whose sandbox has ended, and ends what is left of that. Sandboxes are made of them
    /// meanwhile where they are.
    pub(super) fn write_later(&self, aside: SetAside) {
        let (node, closing) = (self.clone(), self.inner.closing.clone());
        self.inner.around.tasks.spawn(async move {
            while let Err(error) = node.write(&aside).await {
                if node.store().get(&aside.snapshot, None).is_err() {
                    // It was deleted meanwhile.
                    break;
                }
                tracing::error!(snapshot = %aside.snapshot, %error, "its files are still in memory; writing them again soon");
                tokio::select! {
                    // The next node goes on.
                    () = closing.cancelled() => return,
                    () = tokio::time::sleep(WRITE_AGAIN) => {}
                }
            }
            let snapshot = aside.snapshot.clone();
            if let Err(error) = aside.destroy().await {
                tracing::error!(%snapshot, %error, "something is left of the sandbox that it was taken of");
            }
        });
    }

    async fn write(&self, aside: &SetAside) -> Result<(), SnapshotError> {
        let store = self.store();
        let Writing { into, over } = store.writing(&aside.snapshot)?;
        let base = match over {
            Some(over) => {
                store.whole(&over).await;
                store.changes(&over)?.layers
            }
            None => Vec::new(),
        };
        let (bytes, entries) = aside.copy_files(&into, &base).await?;
        store.written(&aside.snapshot, bytes, entries)
    }

    /// The files of a sandbox as they are now, for forks to be made of: they stay as long as this and the forks do.
    ///
    /// # Errors
    /// [`SandboxError`]: it is frozen or dead, or its files cannot be copied.
    pub async fn files_of(&self, sandbox: &Sandbox) -> Result<SnapshotUse, SandboxError> {
        sandbox.snapshot(plain(fresh("fk"), Keep::Passing)).await
    }

    /// Keeps the files of a sandbox in which a template's setup has run, under an id that no client can give.
    ///
    /// # Errors
    /// [`SandboxError`]: it is dead, or its files cannot be copied.
    pub async fn keep_setup(
        &self,
        sandbox: &Sandbox,
        id: SnapshotId,
        template: TemplateName,
    ) -> Result<SnapshotUse, SandboxError> {
        sandbox.snapshot(NewSnapshot { template: Some(template), ..plain(id, Keep::Kept) }).await
    }

    /// Begins to use what a template's setup has left, if it is there.
    #[must_use]
    pub fn use_setup(&self, id: &SnapshotId) -> Option<SnapshotUse> {
        self.store().take_setup(id)
    }

    /// Has what the setups of other templates have left go with the last sandbox that is made of it.
    pub fn sweep_setups(&self, wanted: &BTreeSet<SnapshotId>) {
        self.store().sweep_setups(wanted);
    }

    /// What a fork is made from: all that its origin is made from and bound to, other files, and a claim's say over it.
    ///
    /// # Errors
    /// [`SandboxError::Invalid`]: the claim breaks a rule.
    pub fn fork_spec(
        &self,
        origin: &Sandbox,
        files: &SnapshotUse,
        claim: ClaimSpec,
    ) -> Result<SandboxSpec, SandboxError> {
        let image = ImageRef::Snapshot(files.id().clone());
        let mut spec = SandboxSpec { id: None, image, ..origin.terms().spec.clone() };
        bind(&mut spec, claim)?;
        spec.validate()?;
        Ok(spec)
    }

    /// What a sandbox has changed of what it is made of, at and below a path; the files are there as long as the uses are.
    ///
    /// # Errors
    /// [`SandboxError`]: it is frozen or dead, or its files cannot be copied or read.
    pub async fn changes(
        &self,
        sandbox: &Sandbox,
        below: PathBuf,
    ) -> Result<(ChangedFiles, Vec<Entry>), SandboxError> {
        let terms = sandbox.terms();
        let over = match &terms.spec.image {
            ImageRef::Snapshot(earlier) => Some(self.store().take(earlier, None)?),
            _ => None,
        };
        let new = NewSnapshot { over: Over::Snapshot, ..plain(fresh("fk"), Keep::Passing) };
        let files = sandbox.snapshot(new).await?;
        let entries = self.snapshot_changes(files.id(), below).await?;
        Ok((ChangedFiles { _files: files, _over: over }, entries))
    }

    /// What a snapshot changes of its image, at and below a path.
    ///
    /// # Errors
    /// [`SandboxError`]: there is none of this id, or its files cannot be read.
    pub async fn snapshot_changes(
        &self,
        id: &SnapshotId,
        below: PathBuf,
    ) -> Result<Vec<Entry>, SandboxError> {
        self.store().whole(id).await;
        let overlays = self.inner.around.backend.changed(id).await?;
        let path = overlays.first().map(|overlay| overlay.upper.clone()).unwrap_or_default();
        let failed = |source| SandboxError::from(SnapshotError::Files { path: path.clone(), source });
        let entries = tokio::task::spawn_blocking(move || {
            let mut entries = entries(&overlays)?;
            entries.retain(|entry| Path::new(&entry.change.path).starts_with(&below));
            Ok(entries)
        });
        entries.await.map_err(io::Error::other).flatten().map_err(failed)
    }

    /// Begins to use a snapshot, so that it stays.
    ///
    /// # Errors
    /// [`SandboxError`]: there is none of this id.
    pub fn use_snapshot(
        &self,
        id: &SnapshotId,
        tenant: Option<&TenantName>,
    ) -> Result<SnapshotUse, SandboxError> {
        Ok(self.store().take(id, tenant)?)
    }

    /// Sets a sandbox back to a snapshot, or to what it is made of: no file and no process of before is left.
    ///
    /// # Errors
    /// [`SandboxError`]: there is no such snapshot, or the sandbox is frozen or dead; it is as it was then.
    pub async fn restore(
        &self,
        sandbox: &Sandbox,
        spec: RestoreSpec,
        tenant: Option<&TenantName>,
    ) -> Result<(), SandboxError> {
        let image = match spec.snapshot {
            None => None,
            Some(id) => Some((ImageRef::Snapshot(id.clone()), self.store().take(&id, tenant)?)),
        };
        sandbox.restore(image).await
    }

    /// The snapshots that were asked for by name, by id; of all tenants where none is named.
    #[must_use]
    pub fn snapshots(&self, tenant: Option<&TenantName>) -> Vec<SnapshotInfo> {
        self.store().list(tenant)
    }

    /// One of them.
    ///
    /// # Errors
    /// [`SandboxError`]: there is none of this id.
    pub fn snapshot_info(
        &self,
        id: &SnapshotId,
        tenant: Option<&TenantName>,
    ) -> Result<SnapshotInfo, SandboxError> {
        Ok(self.store().get(id, tenant)?)
    }

    /// Deletes one of which nothing is made.
    ///
    /// # Errors
    /// [`SandboxError`]: there is none of this id, or sandboxes are made of it.
    pub fn delete_snapshot(&self, id: &SnapshotId, tenant: Option<&TenantName>) -> Result<(), SandboxError> {
        Ok(self.store().delete(id, tenant)?)
    }
}
