//! Snapshots whose files are still where their sandboxes have left them.
//!
//! ```text
//! <id>.<nonce>/lent.json      instead of snapshot.json: what it will be, and the body that has its files
//! <id>.<nonce>/u0, u1, …      half made
//! ```
//!
//! It is a snapshot from the moment that it is there under this name, and the body aside: a node that starts after a kill
//! finds both and goes on. Without the body, which no end of the machine outlives, it is nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hothouse_domain::{ImageId, ImageRef, SnapshotId, SnapshotInfo};
use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Entry, Keep, META, Meta, SnapshotStore, SnapshotUse, Unfinished, layer};
use crate::endings::Ended;
use crate::error::SnapshotError;
use crate::image::Pin;
use crate::link::locked;
use crate::native::Lent;

const LENT: &str = "lent.json";
const NEXT_META: &str = "snapshot.json.next";
/// Room that is to be left where snapshots are, in bytes: other things are written there too.
const MARGIN: u64 = 64 << 20;

/// What `lent.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LentMeta {
    #[serde(flatten)]
    meta: Meta,
    /// What its files change where they are: what the sandbox was made of.
    over: ImageRef,
    /// The ticket of the body that has them.
    key: u64,
    /// How its sandbox ended.
    ended: Ended,
}

/// Where a snapshot's files are.
#[derive(Debug)]
pub(super) enum Files {
    /// In its layers.
    Whole,
    /// Where its sandbox has left them.
    Lent(Lending),
}

/// Files that are lent.
#[derive(Debug)]
pub(super) struct Lending {
    pub(super) lent: Arc<Lent>,
    /// What they change.
    pub(super) over: ImageRef,
    /// Keeps that, where it is a snapshot.
    _over: Option<SnapshotUse>,
    /// Closed when they are whole.
    whole: watch::Sender<()>,
}

/// A snapshot whose files are to be lent.
#[derive(Debug)]
pub(crate) struct NewLending {
    pub(crate) info: SnapshotInfo,
    pub(crate) lent: Arc<Lent>,
    pub(crate) over: ImageRef,
    /// The ticket of the body that has them.
    pub(crate) key: u64,
    pub(crate) ended: Ended,
    pub(crate) image: Option<Arc<Pin>>,
}

/// What an earlier node has lent, and had not written when it ended.
pub(super) type Found = BTreeMap<u64, (LentFound, PathBuf)>;

/// One of them.
#[derive(Debug)]
pub(super) struct LentFound(LentMeta);

/// What a lent snapshot's files are to be copied to, and over.
#[derive(Debug)]
pub(crate) struct Writing {
    pub(crate) into: Vec<PathBuf>,
    pub(crate) over: Option<SnapshotId>,
}

/// The key and the content of what is lent in a directory, if that is what it holds.
pub(super) fn read_lent(place: &std::path::Path) -> io::Result<(u64, LentFound)> {
    let meta: LentMeta = serde_json::from_slice(&fs::read(place.join(LENT))?)?;
    Ok((meta.key, LentFound(meta)))
}

impl SnapshotStore {
    /// Whether there is room for so much more.
    pub(crate) fn has_room(&self, bytes: u64, entries: u64) -> Result<bool, SnapshotError> {
        let failed = |source: io::Error| SnapshotError::Files { path: self.kept.clone(), source };
        let room = statvfs(&self.kept).map_err(io::Error::from).map_err(failed)?;
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        // Where inodes are made as they are needed there are said to be none at all.
        let inodes = room.f_files == 0 || room.f_favail > entries;
        Ok(free > bytes.saturating_add(MARGIN) && inodes)
    }

    /// Makes one known whose files are still where its sandbox has them. Whoever gets the use keeps it.
    pub(crate) fn lend(
        self: &Arc<Self>,
        unfinished: &Unfinished,
        new: NewLending,
    ) -> Result<SnapshotUse, SnapshotError> {
        let failed = |source| SnapshotError::Files { path: unfinished.place.clone(), source };
        let NewLending { info, lent, over, key, ended, image } = new;
        let meta = Meta { info, layers: unfinished.layers };
        let using = self.use_of(&over)?;
        let written = LentMeta { meta: meta.clone(), over: over.clone(), key, ended };
        let text = serde_json::to_vec(&written).map_err(io::Error::other).map_err(failed)?;
        fs::write(unfinished.place.join(LENT), text).map_err(failed)?;
        let place = self.place_of(unfinished);
        let files = Files::Lent(Lending { lent, over, _over: using, whole: watch::Sender::new(()) });
        let mut entries = locked(&self.entries);
        fs::rename(&unfinished.place, &place).map_err(failed)?;
        let entry = Entry { meta, place, keep: Keep::Kept, uses: 1, pinned: image, files };
        entries.insert(unfinished.id.clone(), entry);
        Ok(SnapshotUse { store: Arc::clone(self), id: unfinished.id.clone() })
    }

    fn use_of(self: &Arc<Self>, over: &ImageRef) -> Result<Option<SnapshotUse>, SnapshotError> {
        match over {
            ImageRef::Snapshot(id) => self.take(id, None).map(Some),
            _ => Ok(None),
        }
    }

    /// Takes one back whose sandbox could not be put aside.
    pub(crate) fn take_back(&self, id: &SnapshotId) {
        let taken = locked(&self.entries).remove(id);
        if let Some(entry) = taken {
            self.hand_over(id, entry.place.clone(), &entry);
        }
    }

    /// What is to be copied for one that is lent; what an earlier attempt has left is gone.
    pub(crate) fn writing(&self, id: &SnapshotId) -> Result<Writing, SnapshotError> {
        let (into, over) = {
            let entries = locked(&self.entries);
            let entry = entries.get(id).ok_or_else(|| SnapshotError::NotFound(id.to_string()))?;
            let over = match &entry.files {
                Files::Lent(Lending { over: ImageRef::Snapshot(over), .. }) => Some(over.clone()),
                Files::Lent(_) | Files::Whole => None,
            };
            (entry.layers(), over)
        };
        for directory in &into {
            let failed = |source| SnapshotError::Files { path: directory.clone(), source };
            match fs::remove_dir_all(directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                Ok(()) | Err(_) => fs::create_dir(directory).map_err(failed)?,
            }
        }
        Ok(Writing { into, over })
    }

    /// The files of one that was lent have been copied: from now on it is like any other.
    pub(crate) fn written(&self, id: &SnapshotId, bytes: u64, files: u64) -> Result<(), SnapshotError> {
        let mut entries = locked(&self.entries);
        let entry = entries.get_mut(id).ok_or_else(|| SnapshotError::NotFound(id.to_string()))?;
        let failed = |source| SnapshotError::Files { path: entry.place.clone(), source };
        let mut meta = entry.meta.clone();
        (meta.info.bytes, meta.info.entries) = (bytes, files);
        let text = serde_json::to_vec(&meta).map_err(io::Error::other).map_err(failed)?;
        let next = entry.place.join(NEXT_META);
        fs::write(&next, text).and_then(|()| fs::rename(&next, entry.place.join(META))).map_err(failed)?;
        if let Err(error) = fs::remove_file(entry.place.join(LENT)) {
            // Of no meaning beside the other.
            tracing::debug!(%id, %error, "removing what tells that its files are lent");
        }
        entry.meta = meta;
        let lending = std::mem::replace(&mut entry.files, Files::Whole);
        drop(entries);
        // What it uses is let go of, which takes the same lock.
        drop(lending);
        Ok(())
    }

    /// Waits until the files of this one are in its layers; at once where they are, or there is none.
    pub(crate) async fn whole(&self, id: &SnapshotId) {
        let told = locked(&self.entries).get(id).and_then(|entry| match &entry.files {
            Files::Lent(lending) => Some(lending.whole.subscribe()),
            Files::Whole => None,
        });
        if let Some(mut told) = told {
            while told.changed().await.is_ok() {}
        }
    }

    /// Goes on with what an earlier node had lent of these bodies, by their keys; gives how the sandboxes ended. What it had
    /// lent of bodies that are gone is lost.
    pub(crate) fn resume(
        self: &Arc<Self>,
        mut bodies: BTreeMap<u64, Arc<Lent>>,
        pin: impl Fn(&ImageId) -> Option<Arc<Pin>>,
    ) -> Vec<(u64, SnapshotId, Ended)> {
        let mut found: Vec<_> = std::mem::take(&mut *locked(&self.found)).into_values().collect();
        // What one is made over is older.
        found.sort_by(|(a, _), (b, _)| a.0.meta.info.created_at.cmp(&b.0.meta.info.created_at));
        let mut resumed = Vec::new();
        for (LentFound(LentMeta { meta, over, key, ended }), place) in found {
            let id = meta.info.id.clone();
            let using = self.use_of(&over);
            match (bodies.remove(&key), using) {
                (Some(lent), Ok(using)) => {
                    let pinned = match &meta.info.image {
                        ImageRef::Id(image) => pin(image),
                        _ => None,
                    };
                    let files =
                        Files::Lent(Lending { lent, over, _over: using, whole: watch::Sender::new(()) });
                    let entry = Entry { meta, place, keep: Keep::Kept, uses: 0, pinned, files };
                    locked(&self.entries).insert(id.clone(), entry);
                    resumed.push((key, id, ended));
                }
                (body, using) => {
                    let (body, over) = (body.is_some(), using.is_ok());
                    tracing::error!(%id, body, over, "the files of a snapshot were lost before they were written");
                    let layers = (0..meta.layers).map(|number| layer(&place, number)).collect();
                    // The receiver lives as long as the backend.
                    drop(self.discarded.send(super::Discarded { place, layers }));
                }
            }
        }
        resumed
    }

    /// How many layers an earlier node has lent of the body of this key, if any.
    pub(crate) fn lent_layers(&self, key: u64) -> Option<usize> {
        locked(&self.found).get(&key).map(|(LentFound(lent), _)| lent.meta.layers)
    }
}
