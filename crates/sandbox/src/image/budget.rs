//! How much one image may become.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::Fault;

/// The most that one image may become; what comes in over these is refused in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Bytes that its layers unpack to, holes of sparse files and padding included.
    pub max_bytes: u64,
    /// Entries of all its layers, with the directories that their names imply.
    pub max_entries: u64,
    /// Bytes of paths that have to be remembered while its layers unpack: those of directories, and of all that a layer has
    /// made where the layers are merged. A path of 4 KiB is a handful of bytes in an archive.
    pub max_path_bytes: u64,
    /// Bytes on disk of all images of the store.
    pub max_store_bytes: u64,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 30,
            max_entries: 1_000_000,
            max_path_bytes: 256 << 20,
            max_store_bytes: 128 << 30,
        }
    }
}

/// What one image has used up of that, in all its layers at once.
#[derive(Debug)]
pub(super) struct Budget {
    limits: ImageLimits,
    bytes: AtomicU64,
    read: AtomicU64,
    entries: AtomicU64,
    paths: AtomicU64,
    stopped: AtomicBool,
    /// The whole store ends.
    closing: Arc<AtomicBool>,
}

impl Budget {
    pub(super) fn new(limits: ImageLimits, closing: Arc<AtomicBool>) -> Self {
        let nothing = || AtomicU64::new(0);
        let (bytes, read, entries, paths) = (nothing(), nothing(), nothing(), nothing());
        Self { limits, bytes, read, entries, paths, stopped: AtomicBool::new(false), closing }
    }

    /// One more entry. Also where an image ends that another layer of it has failed.
    pub(super) fn entry(&self) -> Result<(), Fault> {
        if self.is_stopped() {
            return Err(Fault::invalid("was stopped"));
        }
        let most = self.limits.max_entries;
        match self.entries.fetch_add(1, Ordering::Relaxed) < most {
            true => Ok(()),
            false => Err(Fault::too_large(format!("has more than {most} entries"))),
        }
    }

    /// A path that is remembered.
    pub(super) fn path(&self, path: &[u8]) -> Result<(), Fault> {
        let (length, most) = (u64::try_from(path.len()).unwrap_or(u64::MAX), self.limits.max_path_bytes);
        match self.paths.fetch_add(length, Ordering::Relaxed).saturating_add(length) <= most {
            true => Ok(()),
            false => {
                Err(Fault::too_large(format!("has directories whose paths have more than {most} bytes")))
            }
        }
    }

    /// A file of so many bytes.
    pub(super) fn bytes(&self, count: u64) -> Result<(), Fault> {
        self.add(&self.bytes, count)
    }

    /// So many bytes came out of the decompression: an archive of nothing but padding is large too.
    pub(super) fn unpacked(&self, count: u64) -> Result<(), Fault> {
        self.add(&self.read, count)
    }

    fn add(&self, sum: &AtomicU64, count: u64) -> Result<(), Fault> {
        let most = self.limits.max_bytes;
        let added = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sum| {
            sum.checked_add(count).filter(|sum| *sum <= most)
        });
        added.map(drop).map_err(|_| Fault::too_large(format!("unpacks to more than {most} bytes")))
    }

    /// All layers end as soon as they notice.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.closing.load(Ordering::Relaxed)
    }
}
