//! How far getting an image is, for whoever watches.

use std::sync::atomic::{AtomicU64, Ordering};

use hothouse_domain::image::{ImageProgress, ImageStage};
use tokio::sync::watch;

/// Bytes between two words about them.
const STEP: u64 = 4 << 20;

/// What is told about one image that is being fetched or read.
#[derive(Debug)]
pub struct Progress {
    told: watch::Sender<ImageProgress>,
    read: AtomicU64,
    told_at: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        let told = watch::Sender::new(ImageProgress::default());
        Self { told, read: AtomicU64::new(0), told_at: AtomicU64::new(0) }
    }
}

impl Progress {
    /// What is told, now and whenever it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<ImageProgress> {
        self.told.subscribe()
    }

    pub(super) fn begin(&self, layers: usize, bytes: u64) {
        let fresh = ImageProgress {
            stage: ImageStage::Unpacking,
            layers: layers as u64,
            bytes,
            ..ImageProgress::default()
        };
        self.told.send_replace(fresh);
    }

    /// So many bytes of the source were read.
    pub(super) fn read(&self, count: u64) {
        let sum = self.read.fetch_add(count, Ordering::Relaxed) + count;
        if sum - self.told_at.load(Ordering::Relaxed) >= STEP {
            self.told_at.store(sum, Ordering::Relaxed);
            self.told.send_modify(|told| told.bytes_done = sum);
        }
    }

    pub(super) fn layer_done(&self) {
        let sum = self.read.load(Ordering::Relaxed);
        self.told.send_modify(|told| {
            told.layers_done += 1;
            told.bytes_done = sum;
        });
    }

    /// So many bytes are there already.
    pub(super) fn spared(&self, bytes: u64) {
        self.read(bytes);
    }

    pub(super) fn done(&self) {
        self.told.send_modify(|told| told.stage = ImageStage::Done);
    }
}
