//! What a sandbox's owner does with its files as a whole: it takes snapshots of them, and sets it back to one.

use std::collections::BTreeMap;
use std::sync::Arc;

use hothouse_domain::{
    EventKind, FrozenBy, Holds, ImageRef, SandboxPhase, SnapshotId, SnapshotInfo, TemplateName,
};
use tokio::sync::{oneshot, watch};

use super::Sandbox;
use super::owner::Command;
use crate::endings::End;
use crate::error::{SandboxError, SnapshotError};
use crate::link::{LinkError, locked};
use crate::native::{FreezeError, Loan, Running, SetAside, Then};
use crate::snapshot::{Keep, NewLending, SnapshotUse};
use crate::terms::Terms;

/// A snapshot that is to be taken.
#[derive(Debug)]
pub(crate) struct NewSnapshot {
    pub(crate) id: SnapshotId,
    pub(crate) keep: Keep,
    pub(crate) labels: BTreeMap<String, String>,
    /// The template whose setup has run in the sandbox.
    pub(crate) template: Option<TemplateName>,
    pub(crate) over: Over,
}

/// What a snapshot of a sandbox that is made of another snapshot changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The image that this changes: it holds what both do, and stands for itself.
    Image,
    /// That snapshot: it holds what the sandbox has changed, no more.
    Snapshot,
}

impl Sandbox {
    /// Takes a snapshot of its files; its processes stand still meanwhile.
    pub(crate) async fn snapshot(&self, new: NewSnapshot) -> Result<SnapshotUse, SandboxError> {
        let (done, taken) = oneshot::channel();
        let asked = self.inner.commands.send(Command::Snapshot(Box::new(new), done)).await;
        asked.map_err(|_| self.gone())?;
        taken.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Sets it back to an image, or to that which it is made of: its files are those of the image, and no process of
    /// before is left. Requests that are under way fail with [`SandboxError::Restored`]; execs of before are forgotten.
    pub(crate) async fn restore(&self, image: Option<(ImageRef, SnapshotUse)>) -> Result<(), SandboxError> {
        self.command(|done| Command::Restore(image.map(Box::new), done)).await
    }

    /// Owner: takes it.
    pub(super) async fn snapshot_now(&self, new: NewSnapshot) -> Result<SnapshotUse, SandboxError> {
        self.wake_now().await?;
        if let ImageRef::Snapshot(earlier) = &self.terms().spec.image {
            // What is copied or read must be there.
            self.inner.around.backend.snapshots().whole(earlier).await;
        }
        let entered = self.inner.gate.enter(&self.inner.id)?;
        let running = self.inner.running.read().await;
        let Some(running) = running.as_ref() else { return Err(self.gone()) };
        let (backend, terms) = (&self.inner.around.backend, self.terms());
        let store = backend.snapshots();
        let NewSnapshot { id, keep, labels, template, over } = new;
        // What it changes is an image that is no snapshot itself: a snapshot of what was made of one holds both.
        let (image, base) = match &terms.spec.image {
            ImageRef::Snapshot(earlier) if over == Over::Image => {
                let changes = store.changes(earlier)?;
                (changes.image, changes.layers)
            }
            image @ ImageRef::Snapshot(_) => (image.clone(), Vec::new()),
            _ => (image_of(running, &terms), Vec::new()),
        };
        let unfinished = store.begin(&id, keep, backend.overlays(&image).await?)?;
        let then = match keep {
            Keep::Passing => Then::Layers,
            Keep::Kept => Then::Nothing,
        };
        let into: Vec<_> = unfinished.layers().collect();
        let stopped = self.stop(running, &terms).await?;
        let copied = running.copy_files(&into, &base, then).await;
        self.go_on(running, &terms, stopped).await?;
        drop(entered);
        let copied = copied?;
        let (bytes, entries) = (copied.bytes, copied.entries);
        let info = self.snapshot_info(id.clone(), image, &terms);
        let info = SnapshotInfo { bytes, entries, labels, template, ..info };
        let taken = match store.finish(&unfinished, info, running.pin().cloned()) {
            Ok(taken) => taken,
            Err(error) => {
                copied.discard().await;
                return Err(error.into());
            }
        };
        copied.placed(&store.changes(&id)?.layers).await;
        if keep == Keep::Kept {
            self.note(EventKind::Snapshotted { snapshot: id });
        }
        Ok(taken)
    }

    /// Takes one with which it ends, if its files can be lent until they are copied.
    pub(crate) async fn lend(&self, new: NewSnapshot, end: End) -> Result<Option<SetAside>, SandboxError> {
        let (told, lent) = oneshot::channel();
        self.command(|done| Command::Lend(Box::new(new), end, told, done)).await?;
        Ok(lent.await.ok())
    }

    /// Owner: takes it, and puts the sandbox aside; `None` where it cannot stand still, its files cannot be lent, or there is
    /// no room for what is to be written later.
    pub(super) async fn lend_now(
        &self,
        new: NewSnapshot,
        end: End,
    ) -> Result<Option<SetAside>, SandboxError> {
        self.wake_now().await?;
        let entered = self.inner.gate.enter(&self.inner.id)?;
        let (backend, terms) = (&self.inner.around.backend, self.terms());
        let store = backend.snapshots();
        let NewSnapshot { id, labels, template, .. } = new;
        let ended = self.ended(end);
        let (lent, using) = {
            let running = self.inner.running.read().await;
            let Some(running) = running.as_ref() else { return Err(self.gone()) };
            let image = match &terms.spec.image {
                ImageRef::Snapshot(earlier) => store.get(earlier, None)?.image,
                _ => image_of(running, &terms),
            };
            let overlays = backend.overlays(&image).await?;
            let unfinished = store.begin(&id, Keep::Kept, overlays)?;
            let stopped = self.stop(running, &terms).await?;
            let loan = match stopped {
                Stopped::ByUs => running.lend(overlays).await,
                Stopped::Not => return self.go_on(running, &terms, stopped).await.map(|()| None),
            };
            let room = loan.as_ref().map_or(Ok(true), |loan| store.has_room(loan.bytes, loan.entries));
            let loan = match (loan, room) {
                (Ok(loan), Ok(true)) => loan,
                (Ok(loan), room) => {
                    running.take_back(&loan.lent).await;
                    self.go_on(running, &terms, stopped).await?;
                    return Ok(room.map(|_| None)?);
                }
                (Err(error), _) => {
                    tracing::debug!(sandbox = %self.inner.id, %error, "its files are copied before it ends");
                    self.go_on(running, &terms, stopped).await?;
                    return Ok(None);
                }
            };
            let Loan { lent, bytes, entries } = loan;
            let info = SnapshotInfo {
                bytes,
                entries,
                labels,
                template,
                ..self.snapshot_info(id.clone(), image, &terms)
            };
            let over = match &terms.spec.image {
                ImageRef::Snapshot(_) => terms.spec.image.clone(),
                _ => info.image.clone(),
            };
            let (key, image) = (running.key(), running.pin().cloned());
            let lending =
                NewLending { info, lent: Arc::clone(&lent), over, key, ended: ended.clone(), image };
            match store.lend(&unfinished, lending) {
                Ok(using) => (lent, using),
                Err(error) => {
                    running.take_back(&lent).await;
                    self.go_on(running, &terms, stopped).await?;
                    return Err(error.into());
                }
            }
        };
        drop(entered);
        let mut place = self.inner.running.write().await;
        let Some(running) = place.take() else { return Err(self.gone()) };
        let aside = match running.set_aside(Arc::clone(&lent), id.clone()) {
            Ok(aside) => aside,
            Err((running, source)) => {
                // No later node would find the snapshot, so nobody may; the sandbox goes on.
                drop(using);
                store.take_back(&id);
                running.take_back(&lent).await;
                let gone_on = self.go_on(&running, &terms, Stopped::ByUs).await;
                *place = Some(*running);
                gone_on?;
                return Err(SandboxError::Remember { id: self.inner.id.clone(), source });
            }
        };
        drop(place);
        self.step(SandboxPhase::Destroying);
        self.fail_link("the sandbox was deleted");
        // After it is aside: a node that starts in between has the snapshot, and notes this.
        self.note_end(ended);
        self.note(EventKind::Snapshotted { snapshot: id });
        Ok(Some(aside))
    }

    fn snapshot_info(&self, id: SnapshotId, image: ImageRef, terms: &Terms) -> SnapshotInfo {
        SnapshotInfo {
            id,
            created_at: jiff::Timestamp::now().to_string(),
            sandbox_id: self.inner.id.clone(),
            image,
            image_layers: terms.spec.layers.clone(),
            holds: Holds::Files,
            bytes: 0,
            entries: 0,
            labels: BTreeMap::new(),
            tenant: terms.claimant.tenant.clone(),
            template: None,
            sandboxes: 0,
        }
    }

    /// Stops its processes, so that no file changes while another is copied; where there is no freezer each file is as it
    /// is when its turn comes.
    async fn stop(&self, running: &Running, terms: &Terms) -> Result<Stopped, SandboxError> {
        // A node that comes after a kill may thaw it then: no client has frozen it.
        self.remember_stopped(running, terms, Some(FrozenBy::Pressure))?;
        match running.freeze().await {
            Ok(()) => Ok(Stopped::ByUs),
            Err(FreezeError::Unsupported(reason)) => {
                tracing::debug!(sandbox = %self.inner.id, reason, "its files are copied while it runs");
                Ok(Stopped::Not)
            }
            Err(error @ FreezeError::Refused { .. }) => Err(error.into()),
        }
    }

    /// Lets them go on.
    async fn go_on(&self, running: &Running, terms: &Terms, stopped: Stopped) -> Result<(), SandboxError> {
        if let Stopped::ByUs = stopped {
            running.thaw().await?;
            if let Some(link) = &*locked(&self.inner.link) {
                link.excuse();
            }
        }
        self.remember_stopped(running, terms, None)
    }

    fn remember_stopped(
        &self,
        running: &Running,
        terms: &Terms,
        by: Option<FrozenBy>,
    ) -> Result<(), SandboxError> {
        let terms = Terms { frozen_by: by, ..Terms::clone(terms) };
        let failed = |source| SandboxError::Remember { id: self.inner.id.clone(), source };
        running.remember(&terms).map_err(failed)
    }

    /// Owner: sets it back. Gives whom to watch for its death from now on.
    pub(super) async fn restore_now(
        &self,
        image: Option<(ImageRef, SnapshotUse)>,
    ) -> Result<watch::Receiver<Option<String>>, SandboxError> {
        self.wake_now().await?;
        drop(self.inner.gate.enter(&self.inner.id)?);
        // Nobody gets a connection to the body that goes, and no claim changes the terms meanwhile.
        let mut place = self.inner.running.write().await;
        let mut terms = Terms::clone(&self.terms());
        let (image, using) = match image {
            Some((image, using)) => (image, Some(using)),
            None => (terms.spec.image.clone(), None),
        };
        if let (ImageRef::Snapshot(id), Some(_)) = (&image, &using) {
            terms.spec.layers = self.inner.around.backend.snapshots().changes(id)?.image_layers;
        }
        terms.spec.image = image.clone();
        let Some(old) = place.take() else { return Err(self.gone()) };
        let replaced = match self.inner.around.backend.replace(old, &terms).await {
            Ok((new, replaced)) => {
                *place = Some(new);
                replaced
            }
            Err((old, error)) => {
                *place = Some(old);
                return Err(error.into());
            }
        };
        let link = locked(&self.inner.link).take();
        if let Some(link) = link {
            link.fail(&LinkError::Restored);
        }
        let death = place.as_ref().map(Running::death).ok_or_else(|| self.gone())?;
        *locked(&self.inner.terms) = Arc::new(terms);
        if let Some(using) = using {
            // The one that it was made of is let go.
            *locked(&self.inner.image_use) = Some(using);
        }
        drop(place);
        self.inner.gate.touch();
        self.note(EventKind::Restored { image });
        let id = self.inner.id.clone();
        self.inner.around.tasks.spawn(async move {
            if let Err(error) = replaced.destroy().await {
                tracing::error!(sandbox = %id, %error, "something is left of what it was before it was restored");
            }
        });
        Ok(death)
    }

    /// Keeps the snapshot that it is made of.
    pub(crate) fn hold(&self, using: SnapshotUse) {
        *locked(&self.inner.image_use) = Some(using);
    }

    /// Begins to use the snapshot that it is made of, if it is made of one.
    pub(crate) fn take_image(&self, terms: &Terms) -> Result<(), SnapshotError> {
        if let ImageRef::Snapshot(id) = &terms.spec.image {
            let store = self.inner.around.backend.snapshots();
            // A pool's template may be made of what whoever claims has no access to.
            let tenant = terms.claimant.tenant.as_ref().filter(|_| terms.pool.is_none());
            self.hold(store.take(id, tenant)?);
        }
        Ok(())
    }

    /// It is no more: what it was made of may go.
    pub(super) fn let_image_go(&self) {
        drop(locked(&self.inner.image_use).take());
    }
}

/// What a sandbox that is made of no snapshot is made of, by its id: a name may mean another one tomorrow.
fn image_of(running: &Running, terms: &Terms) -> ImageRef {
    running.pin().map_or_else(|| terms.spec.image.clone(), |pin| ImageRef::Id(pin.id().clone()))
}

/// Whether processes were stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    ByUs,
    Not,
}
