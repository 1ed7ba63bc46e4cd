//! Snapshots of this node: the changed files of sandboxes, which others are made of.
//!
//! ```text
//! $HOTHOUSE_HOME/snapshots/<id>.<nonce>/snapshot.json     what it is
//! $HOTHOUSE_HOME/snapshots/<id>.<nonce>/u0, u1, …         the changes to each overlay of its image, as a layer
//! $HOTHOUSE_HOME/snapshots/.unfinished-<id>/              half made; swept when a node starts
//! $HOTHOUSE_HOME/snapshots/<id>.<nonce>/lent.json         one whose files are still where its sandbox has left them
//! <directory of live sandboxes>/.forks/<id>.<nonce>/…     the same for what only forks are made of: gone with the last
//! ```
//!
//! The nonce makes each path the path of one snapshot for ever: another may have its id when it is gone, and what is
//! known of a layer by its path must not be taken for the other's.

pub mod diff;
pub mod export;
mod lending;

pub(crate) use lending::{NewLending, Writing};

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hothouse_domain::{ImageId, ImageRef, LayerRef, SnapshotId, SnapshotInfo, TenantName};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::error::SnapshotError;
use crate::image::Pin;
use crate::link::locked;
use crate::native::Borrowed;

use self::lending::{Files, Found, read_lent};

/// Beside the directories of sandboxes; no id leads there.
pub(crate) const FORKS: &str = ".forks";
const META: &str = "snapshot.json";
const UNFINISHED: &str = ".unfinished-";

/// How long a snapshot stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Until it is deleted.
    Kept,
    /// As long as there are sandboxes that are made of it.
    Passing,
}

/// What `snapshot.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Meta {
    #[serde(flatten)]
    info: SnapshotInfo,
    /// Overlays of its image, each of which it has a layer for.
    layers: usize,
}

#[derive(Debug)]
struct Entry {
    meta: Meta,
    place: PathBuf,
    keep: Keep,
    uses: u32,
    /// Keeps the image of the store that it changes.
    pinned: Option<Arc<Pin>>,
    files: Files,
}

impl Entry {
    fn layers(&self) -> Vec<PathBuf> {
        (0..self.meta.layers).map(|number| layer(&self.place, number)).collect()
    }
}

/// What a snapshot is made of.
#[derive(Debug, Clone)]
pub(crate) struct Changes {
    /// The image that it changes.
    pub(crate) image: ImageRef,
    /// What lies between that and its changes.
    pub(crate) image_layers: Vec<LayerRef>,
    /// Its layer for each overlay of the image.
    pub(crate) layers: Vec<PathBuf>,
    /// Its layers are these instead, as long as they are not written.
    pub(crate) lent: Option<Arc<Borrowed>>,
}

/// Files of a snapshot that is no more, which are to be removed.
#[derive(Debug)]
pub(crate) struct Discarded {
    /// Where they are.
    pub(crate) place: PathBuf,
    /// The paths that its layers had while it was one.
    pub(crate) layers: Vec<PathBuf>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SnapshotStore {
    kept: PathBuf,
    passing: PathBuf,
    entries: Mutex<BTreeMap<SnapshotId, Entry>>,
    /// What an earlier node had lent, until it is resumed.
    found: Mutex<Found>,
    /// What has become of no use. Unbounded, but no longer than there are sandboxes that end.
    discarded: mpsc::UnboundedSender<Discarded>,
}

/// Somebody uses a snapshot; it stays as long as this does.
#[derive(Debug)]
pub struct SnapshotUse {
    store: Arc<SnapshotStore>,
    id: SnapshotId,
}

impl SnapshotUse {
    /// Which.
    #[must_use]
    pub fn id(&self) -> &SnapshotId {
        &self.id
    }
}

impl Drop for SnapshotUse {
    fn drop(&mut self) {
        self.store.release(&self.id);
    }
}

/// The directories of a snapshot that is being taken; removed when dropped unfinished.
#[derive(Debug)]
pub(crate) struct Unfinished {
    place: PathBuf,
    id: SnapshotId,
    keep: Keep,
    layers: usize,
}

impl Unfinished {
    /// Where each layer goes.
    pub(crate) fn layers(&self) -> impl Iterator<Item = PathBuf> {
        (0..self.layers).map(|number| layer(&self.place, number))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(path = %self.place.display(), %error, "removing a snapshot that was not finished");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn layer(place: &Path, number: usize) -> PathBuf {
    place.join(format!("u{number}"))
}

/// A name that a node which starts sweeps, and that no snapshot has.
fn doomed() -> String {
    format!("{UNFINISHED}.{}", uuid::Uuid::new_v4().simple())
}

fn private(path: &Path) -> io::Result<()> {
    // What is in it keeps the permissions it had inside, setuid bits too: nobody else may come this far.
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

impl SnapshotStore {
    /// Reads what there is. `memory` is where sandboxes have their directories. The receiver hears of what is to
    /// be removed.
    pub(crate) fn open(
        home: &Path,
        memory: &Path,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<Discarded>), SnapshotError> {
        let (kept, passing) = (home.join("snapshots"), memory.join(FORKS));
        #[expect(
            clippy::disallowed_methods,
            reason = "it holds no more than there are sandboxes, none of which may wait to end"
        )]
        let (discarded, to_remove) = mpsc::unbounded_channel();
        let (mut entries, mut found_lent) = (BTreeMap::new(), Found::new());
        for (directory, keep) in [(&kept, Keep::Kept), (&passing, Keep::Passing)] {
            let failed = |source| SnapshotError::Files { path: directory.clone(), source };
            let listing = match fs::read_dir(directory) {
                Ok(listing) => listing,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            for found in listing {
                let found = found.map_err(failed)?;
                let (name, place) = (found.file_name(), found.path());
                if name.to_string_lossy().starts_with(UNFINISHED) {
                    // Out of the way of its id at once. What copies into it may not have ended yet.
                    let gone = directory.join(doomed());
                    let moved = fs::rename(&place, &gone);
                    moved.map_err(|source| SnapshotError::Files { path: place, source })?;
                    // The receiver is below.
                    drop(discarded.send(Discarded { place: gone, layers: Vec::new() }));
                    continue;
                }
                match read_meta(&place) {
                    Ok(meta) => {
                        let id = meta.info.id.clone();
                        entries.insert(
                            id,
                            Entry { meta, place, keep, uses: 0, pinned: None, files: Files::Whole },
                        );
                    }
                    Err(error) => {
                        if let Ok((key, lent)) = read_lent(&place) {
                            found_lent.insert(key, (lent, place));
                            continue;
                        }
                        tracing::error!(path = %place.display(), %error, "a snapshot that cannot be read is left alone");
                    }
                }
            }
        }
        let (entries, found) = (Mutex::new(entries), Mutex::new(found_lent));
        Ok((Arc::new(Self { kept, passing, entries, found, discarded }), to_remove))
    }

    /// Keeps the images that those change that there are, by what this finds.
    pub(crate) fn pin_images(&self, find: impl Fn(&ImageId) -> Option<Arc<Pin>>) {
        for (id, entry) in locked(&self.entries).iter_mut() {
            if let ImageRef::Id(image) = &entry.meta.info.image {
                entry.pinned = find(image);
                if entry.pinned.is_none() {
                    tracing::error!(%id, %image, "the image that a snapshot changes is gone");
                }
            }
        }
    }

    /// Makes the directories of a new one.
    pub(crate) fn begin(
        &self,
        id: &SnapshotId,
        keep: Keep,
        layers: usize,
    ) -> Result<Unfinished, SnapshotError> {
        if locked(&self.entries).contains_key(id) {
            return Err(SnapshotError::Exists(id.clone()));
        }
        let place = self.directory(keep).join(format!("{UNFINISHED}{id}"));
        let failed = |source| SnapshotError::Files { path: place.clone(), source };
        private(self.directory(keep)).map_err(failed)?;
        match DirBuilder::new().mode(0o700).create(&place) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(SnapshotError::Exists(id.clone()));
            }
            Err(error) => return Err(failed(error)),
        }
        let unfinished = Unfinished { place: place.clone(), id: id.clone(), keep, layers };
        for layer in unfinished.layers() {
            fs::create_dir(layer).map_err(failed)?;
        }
        Ok(unfinished)
    }

    /// Where one is to be when it is known: nothing has ever been there.
    fn place_of(&self, unfinished: &Unfinished) -> PathBuf {
        let name = format!("{}.{}", unfinished.id, uuid::Uuid::new_v4().simple());
        self.directory(unfinished.keep).join(name)
    }

    fn directory(&self, keep: Keep) -> &Path {
        match keep {
            Keep::Kept => &self.kept,
            Keep::Passing => &self.passing,
        }
    }

    /// Makes it known. Whoever gets the use keeps it from being discarded at once.
    pub(crate) fn finish(
        self: &Arc<Self>,
        unfinished: &Unfinished,
        info: SnapshotInfo,
        image: Option<Arc<Pin>>,
    ) -> Result<SnapshotUse, SnapshotError> {
        let failed = |source| SnapshotError::Files { path: unfinished.place.clone(), source };
        let meta = Meta { info, layers: unfinished.layers };
        let text = serde_json::to_vec(&meta).map_err(io::Error::other).map_err(failed)?;
        fs::write(unfinished.place.join(META), text).map_err(failed)?;
        let place = self.place_of(unfinished);
        let mut entries = locked(&self.entries);
        fs::rename(&unfinished.place, &place).map_err(failed)?;
        let (keep, files) = (unfinished.keep, Files::Whole);
        let entry = Entry { meta, place, keep, uses: 1, pinned: image, files };
        entries.insert(unfinished.id.clone(), entry);
        Ok(SnapshotUse { store: Arc::clone(self), id: unfinished.id.clone() })
    }

    /// Begins to use one, which belongs to this tenant where tenants are told apart.
    pub(crate) fn take(
        self: &Arc<Self>,
        id: &SnapshotId,
        tenant: Option<&TenantName>,
    ) -> Result<SnapshotUse, SnapshotError> {
        let mut entries = locked(&self.entries);
        match entries.get_mut(id) {
            Some(entry) if is_visible(&entry.meta.info, tenant) => {
                entry.uses += 1;
                Ok(SnapshotUse { store: Arc::clone(self), id: id.clone() })
            }
            Some(_) | None => Err(SnapshotError::NotFound(id.to_string())),
        }
    }

    /// Begins to use what a template's setup has left.
    pub(crate) fn take_setup(self: &Arc<Self>, id: &SnapshotId) -> Option<SnapshotUse> {
        let mut entries = locked(&self.entries);
        let entry = entries.get_mut(id).filter(|entry| entry.meta.info.template.is_some())?;
        entry.uses += 1;
        // One that was not wanted any more may be wanted again.
        entry.keep = Keep::Kept;
        Some(SnapshotUse { store: Arc::clone(self), id: id.clone() })
    }

    /// Has what the setups of other templates have left go with the last that is made of it. A node that is killed
    /// meanwhile finds it again, and whoever says what is wanted says so again.
    pub(crate) fn sweep_setups(&self, wanted: &BTreeSet<SnapshotId>) {
        let mut entries = locked(&self.entries);
        let mut unused = Vec::new();
        for (id, entry) in entries.iter_mut() {
            if entry.meta.info.template.is_some() && !wanted.contains(id) {
                entry.keep = Keep::Passing;
                unused.extend((entry.uses == 0).then(|| id.clone()));
            }
        }
        for id in unused {
            self.discard(&mut entries, &id);
        }
    }

    fn release(&self, id: &SnapshotId) {
        let mut entries = locked(&self.entries);
        let Some(entry) = entries.get_mut(id) else { return };
        entry.uses = entry.uses.saturating_sub(1);
        if entry.uses == 0 && entry.keep == Keep::Passing {
            self.discard(&mut entries, id);
        }
    }

    fn discard(&self, entries: &mut BTreeMap<SnapshotId, Entry>, id: &SnapshotId) {
        if let Some(entry) = entries.remove(id) {
            self.hand_over(id, entry.place.clone(), &entry);
        }
    }

    fn hand_over(&self, id: &SnapshotId, place: PathBuf, entry: &Entry) {
        if self.discarded.send(Discarded { place, layers: entry.layers() }).is_err() {
            tracing::debug!(%id, "the node has ended; the next one removes the snapshot's files");
        }
    }

    /// Discards what earlier forks were made of, none of which are left. Call it when all that live have been found.
    pub(crate) fn sweep(&self) {
        let mut entries = locked(&self.entries);
        let unused: Vec<SnapshotId> = entries
            .iter()
            .filter(|(_, entry)| entry.keep == Keep::Passing && entry.uses == 0)
            .map(|(id, _)| id.clone())
            .collect();
        for id in unused {
            self.discard(&mut entries, &id);
        }
    }

    /// What it changes, and how.
    pub(crate) fn changes(&self, id: &SnapshotId) -> Result<Changes, SnapshotError> {
        let entries = locked(&self.entries);
        let entry = entries.get(id).ok_or_else(|| SnapshotError::NotFound(id.to_string()))?;
        let SnapshotInfo { image, image_layers, .. } = entry.meta.info.clone();
        let (image, lent) = match &entry.files {
            Files::Lent(lending) => {
                let borrowed = lending.lent.borrow();
                let borrowed = borrowed.ok_or_else(|| SnapshotError::NotFound(id.to_string()))?;
                (lending.over.clone(), Some(borrowed))
            }
            Files::Whole => (image, None),
        };
        Ok(Changes { image, image_layers, layers: entry.layers(), lent })
    }

    /// One that was asked for by name.
    pub(crate) fn get(
        &self,
        id: &SnapshotId,
        tenant: Option<&TenantName>,
    ) -> Result<SnapshotInfo, SnapshotError> {
        let entries = locked(&self.entries);
        match entries.get(id) {
            Some(entry) if is_visible(&entry.meta.info, tenant) => Ok(shown(entry)),
            Some(_) | None => Err(SnapshotError::NotFound(id.to_string())),
        }
    }

    /// All that are kept, by id.
    pub(crate) fn list(&self, tenant: Option<&TenantName>) -> Vec<SnapshotInfo> {
        locked(&self.entries)
            .values()
            .filter(|entry| entry.keep == Keep::Kept && is_visible(&entry.meta.info, tenant))
            .map(shown)
            .collect()
    }

    /// Deletes one that nothing is made of; its files go soon after.
    pub(crate) fn delete(&self, id: &SnapshotId, tenant: Option<&TenantName>) -> Result<(), SnapshotError> {
        let mut entries = locked(&self.entries);
        match entries.get(id) {
            Some(entry) if !is_visible(&entry.meta.info, tenant) || entry.keep == Keep::Passing => {
                Err(SnapshotError::NotFound(id.to_string()))
            }
            None => Err(SnapshotError::NotFound(id.to_string())),
            Some(Entry {
                meta: Meta { info: SnapshotInfo { template: Some(template), .. }, .. }, ..
            }) => Err(SnapshotError::OfTemplate { id: id.clone(), template: template.clone() }),
            Some(entry) if entry.uses > 0 => {
                Err(SnapshotError::InUse { id: id.clone(), sandboxes: entry.uses })
            }
            Some(entry) => {
                // Under another name at once: a node that starts after a kill sweeps it.
                let gone = self.kept.join(doomed());
                let failed = |source| SnapshotError::Files { path: entry.place.clone(), source };
                fs::rename(&entry.place, &gone).map_err(failed)?;
                let removed = entries.remove(id);
                drop(entries);
                if let Some(entry) = &removed {
                    self.hand_over(id, gone, entry);
                }
                Ok(())
            }
        }
    }
}

fn is_visible(info: &SnapshotInfo, tenant: Option<&TenantName>) -> bool {
    tenant.is_none() || info.tenant.as_ref() == tenant
}

fn shown(entry: &Entry) -> SnapshotInfo {
    SnapshotInfo { sandboxes: entry.uses, ..entry.meta.info.clone() }
}

fn read_meta(place: &Path) -> io::Result<Meta> {
    Ok(serde_json::from_slice(&fs::read(place.join(META))?)?)
}

#[cfg(test)]
mod tests {
    use hothouse_domain::Holds;

    use super::*;

    fn info(id: &SnapshotId, tenant: Option<&str>) -> SnapshotInfo {
        SnapshotInfo {
            id: id.clone(),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            sandbox_id: "sb-1".parse().unwrap(),
            image: ImageRef::Host,
            image_layers: Vec::new(),
            holds: Holds::Files,
            bytes: 3,
            entries: 1,
            labels: BTreeMap::new(),
            tenant: tenant.map(|name| name.parse().unwrap()),
            template: None,
            sandboxes: 0,
        }
    }

    fn id(text: &str) -> SnapshotId {
        text.parse().unwrap()
    }

    #[test]
    fn a_kept_one_stays_until_it_is_deleted_and_nothing_is_made_of_it() {
        let (home, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (store, mut gone) = SnapshotStore::open(home.path(), memory.path()).unwrap();
        let one = id("one");
        let unfinished = store.begin(&one, Keep::Kept, 2).unwrap();
        assert!(matches!(store.begin(&one, Keep::Kept, 2), Err(SnapshotError::Exists(_))));
        let used = store.finish(&unfinished, info(&one, Some("a")), None).unwrap();
        drop(unfinished);
        let layers = store.changes(&one).unwrap().layers;
        assert_eq!(layers.len(), 2);
        assert!(matches!(store.delete(&one, None), Err(SnapshotError::InUse { sandboxes: 1, .. })));
        drop(used);
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert!(store.take(&one, Some(&b)).is_err(), "another tenant's");
        assert!(store.delete(&one, Some(&b)).is_err());
        assert_eq!(store.list(Some(&b)), Vec::new());
        assert_eq!(store.list(Some(&a)).len(), 1);
        let (again, _) = SnapshotStore::open(home.path(), memory.path()).unwrap();
        assert_eq!(again.get(&one, None).unwrap().bytes, 3, "it survives its node");
        store.delete(&one, Some(&a)).unwrap();
        let discarded = gone.try_recv().unwrap();
        assert!(discarded.place.exists(), "to be removed");
        assert_eq!(discarded.layers, layers, "they are known by the paths they had");
        assert!(store.begin(&one, Keep::Kept, 2).is_ok(), "the id is free at once");
        let (again, mut gone) = SnapshotStore::open(home.path(), memory.path()).unwrap();
        assert!(again.get(&one, None).is_err());
        let left: Vec<_> =
            fs::read_dir(home.path().join("snapshots")).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(left, [gone.try_recv().unwrap().place], "what was not removed is handed over once more");
        assert!(again.begin(&one, Keep::Kept, 1).is_ok(), "the id is free again");
    }

    #[test]
    fn a_passing_one_goes_with_the_last_that_is_made_of_it() {
        let (home, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (store, mut gone) = SnapshotStore::open(home.path(), memory.path()).unwrap();
        let one = id("one");
        let used =
            store.finish(&store.begin(&one, Keep::Passing, 1).unwrap(), info(&one, None), None).unwrap();
        let second = store.take(&one, None).unwrap();
        assert_eq!(store.list(None), Vec::new(), "nobody asked for it by name");
        drop(used);
        assert!(gone.try_recv().is_err());
        drop(second);
        assert!(gone.try_recv().is_ok());
        assert!(store.take(&one, None).is_err());
    }

    #[test]
    fn what_a_setup_left_goes_with_its_last_sandbox_when_its_template_is_gone() {
        let (home, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (store, mut gone) = SnapshotStore::open(home.path(), memory.path()).unwrap();
        let (one, plain) = (id("setup-1"), id("plain"));
        let of_template = |id| SnapshotInfo { template: Some("t".parse().unwrap()), ..info(id, None) };
        let used = store.finish(&store.begin(&one, Keep::Kept, 1).unwrap(), of_template(&one), None).unwrap();
        drop(store.finish(&store.begin(&plain, Keep::Kept, 1).unwrap(), info(&plain, None), None).unwrap());
        assert!(store.take_setup(&plain).is_none(), "no template's");
        assert!(matches!(store.delete(&one, None), Err(SnapshotError::OfTemplate { .. })));
        store.sweep_setups(&BTreeSet::from([one.clone()]));
        drop(used);
        store.sweep_setups(&BTreeSet::new());
        assert_eq!(gone.try_recv().unwrap().layers.len(), 1);
        assert!(store.take_setup(&one).is_none());
        assert!(store.get(&plain, None).is_ok());

        let used = store.finish(&store.begin(&one, Keep::Kept, 1).unwrap(), of_template(&one), None).unwrap();
        store.sweep_setups(&BTreeSet::new());
        assert!(gone.try_recv().is_err(), "something is made of it");
        drop(store.take_setup(&one).unwrap());
        drop(used);
        assert!(gone.try_recv().is_err(), "it is wanted again");
    }

    #[test]
    fn an_unfinished_one_leaves_nothing() {
        let (home, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (store, _gone) = SnapshotStore::open(home.path(), memory.path()).unwrap();
        drop(store.begin(&id("one"), Keep::Kept, 1).unwrap());
        assert_eq!(fs::read_dir(home.path().join("snapshots")).unwrap().count(), 0);
        assert!(store.begin(&id("one"), Keep::Kept, 1).is_ok(), "the id is free again");
    }
}
