//! The store on disk.
//!
//! ```text
//! images/store/layers/<key>        an unpacked layer; <key> is the first half of its digest
//! images/store/layers/<key>.json   what it is; a layer without that is not whole
//! images/store/images/<hex>.json   an image by its id, its configuration as it came beside it
//! images/store/names/<hash>        a name, and the id of the image that is called so
//! images/store/sources/<hash>      which image a file of this machine held when it was last read
//! images/store/blobs/<hex>         compressed layers while they come from a registry
//! images/store/imports/<random>/   what one import is making, with a lock that it holds
//! images/store/pins/<hex>          locked by every process that has sandboxes of the image
//! images/store/lock                held for a moment by whoever changes what belongs together
//! ```
//!
//! Several processes share a store: a server, and every `hothouse run` with a node of its own. What is in use is told by
//! locks, which end with their holders, and by the state of the sandboxes that outlive a server.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use hothouse_domain::image::{ImageConfig, ImageInfo, ImageLayer};
use hothouse_domain::{ImageId, ImageName};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::budget::ImageLimits;
use super::error::Fault;
use super::tree::Owners;

/// Digits of a digest that name a layer's directory: 128 bits tell them apart, and the names of a hundred layers fit the
/// page that a mount's options have.
const KEY: usize = 32;

/// The images on disk.
#[derive(Debug)]
pub(crate) struct Library {
    root: PathBuf,
    /// Where the states of sandboxes are that outlive their server.
    sandboxes: Option<PathBuf>,
    pub(super) owners: Owners,
    pub(super) limits: ImageLimits,
    pins: Mutex<HashMap<ImageId, Weak<Pin>>>,
}

/// Keeps an image from being removed.
#[derive(Debug)]
pub(crate) struct Pin {
    id: ImageId,
    /// Locked, together with those of other processes.
    _lock: File,
}

impl Pin {
    /// Which image.
    pub(crate) fn id(&self) -> &ImageId {
        &self.id
    }
}

/// One layer on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub(super) digest: ImageId,
    pub(super) bytes: u64,
    pub(super) entries: u64,
    pub(super) left_out: u64,
    /// It hides all that is below it.
    pub(super) opaque: bool,
}

/// One image on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    pub(super) id: ImageId,
    pub(super) os: String,
    pub(super) architecture: String,
    pub(super) created: Option<String>,
    pub(super) imported_at: jiff::Timestamp,
    pub(super) config: ImageConfig,
    /// The lowest first.
    pub(super) layers: Vec<LayerRecord>,
}

impl ImageRecord {
    pub(super) fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }
}

/// The name of a layer's directory.
pub(super) fn key(digest: &ImageId) -> &str {
    &digest.digits()[..KEY]
}

/// A name as the name of a file: it may be longer than one may be.
fn file_name(name: &ImageName) -> String {
    super::digest::of(name.to_string().as_bytes()).digits().to_owned()
}

/// What a file of a name holds: the id and the name.
fn read_name(text: &str) -> Result<(ImageId, ImageName), Fault> {
    let (id, name) = text.split_once('\n').ok_or_else(|| Fault::invalid("has a damaged name"))?;
    Ok((super::digest::parse(id)?, ImageName::parse(name).map_err(Fault::invalid)?))
}

fn lock(file: &File, operation: FlockOperation) -> Result<(), Errno> {
    loop {
        match rustix::fs::flock(file, operation) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Writes a file as a whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let next = path.with_added_extension(format!("next-{}", uuid::Uuid::new_v4().simple()));
    fs::write(&next, bytes).and_then(|()| fs::rename(&next, path)).inspect_err(|_| {
        // The error that is told is the first one.
        drop(fs::remove_file(&next));
    })
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

impl Library {
    /// Opens the store under `images`, which is made when absent.
    pub(super) fn open(images: &Path, owners: Owners, limits: ImageLimits) -> io::Result<Self> {
        let root = fs::canonicalize(images)?.join("store");
        let private = |path: &Path| match DirBuilder::new().mode(0o700).create(path) {
            // Files keep their set-user-id bits: nobody else of this machine may get at them.
            Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o700)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e),
        };
        private(&root)?;
        for name in ["layers", "images", "names", "sources", "blobs", "imports", "pins"] {
            private(&root.join(name))?;
        }
        let sandboxes = root.parent().and_then(Path::parent).map(|home| home.join("sandboxes"));
        Ok(Self { root, sandboxes, owners, limits, pins: Mutex::default() })
    }

    pub(super) fn path(&self, kind: &str, name: &str) -> PathBuf {
        self.root.join(kind).join(name)
    }

    /// The directory that all layers are in.
    pub(super) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// Keeps others from changing what belongs together as long as the result lives.
    pub(super) fn lock(&self) -> Result<File, Fault> {
        let path = self.root.join("lock");
        let open = File::options().create(true).truncate(false).write(true).open(&path);
        open.and_then(|file| lock(&file, FlockOperation::LockExclusive).map(|()| file).map_err(Into::into))
            .map_err(|e| Fault::store(format_args!("locking {}", path.display()), &e))
    }

    /// A layer, if it is there and whole.
    pub(super) fn layer(&self, digest: &ImageId) -> Result<Option<LayerRecord>, Fault> {
        let path = self.path("layers", &format!("{}.json", key(digest)));
        let record: LayerRecord = match read_json(&path) {
            Ok(record) => record,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Fault::store(path.display(), &e)),
        };
        if record.digest != *digest {
            return Err(Fault::invalid(format!(
                "layer {digest} begins as {} does, which the store has; no honest image does that",
                record.digest
            )));
        }
        Ok(self.path("layers", key(digest)).is_dir().then_some(record))
    }

    /// Takes a finished layer in; one that somebody else was faster with stays.
    pub(super) fn take_layer(&self, made: &Path, record: &LayerRecord) -> Result<(), Fault> {
        let _lock = self.lock()?;
        if self.layer(&record.digest)?.is_some() {
            return Ok(());
        }
        let target = self.path("layers", key(&record.digest));
        let failed = |e: io::Error| Fault::store(format_args!("keeping layer {}", record.digest), &e);
        let text = serde_json::to_vec(record).map_err(|e| failed(e.into()))?;
        if target.is_dir() {
            // Half of one that was being removed.
            super::remove::remove_path(&target).map_err(failed)?;
        }
        fs::rename(made, &target).map_err(failed)?;
        write_whole(&target.with_added_extension("json"), &text).map_err(failed)
    }

    /// Takes an image in whose layers are there, under these names, which others lose.
    pub(super) fn take_image(
        &self,
        record: &ImageRecord,
        config: &[u8],
        names: &[ImageName],
    ) -> Result<(), Fault> {
        let _lock = self.lock()?;
        let failed = |e: io::Error| Fault::store(format_args!("keeping image {}", record.id), &e);
        for layer in &record.layers {
            if self.layer(&layer.digest)?.is_none() {
                return Err(Fault::invalid(format!("layer {} has vanished from the store", layer.digest)));
            }
        }
        let path = self.path("images", &format!("{}.json", record.id.digits()));
        if !path.exists() {
            let text = serde_json::to_vec(record).map_err(|e| failed(e.into()))?;
            write_whole(&path.with_extension("config"), config).map_err(failed)?;
            write_whole(&path, &text).map_err(failed)?;
        }
        for name in names {
            self.name(name, &record.id).map_err(failed)?;
        }
        Ok(())
    }

    fn name(&self, name: &ImageName, id: &ImageId) -> io::Result<()> {
        write_whole(&self.path("names", &file_name(name)), format!("{id}\n{name}").as_bytes())
    }

    /// Gives an image of the store another name.
    pub(super) fn tag(&self, id: &ImageId, names: &[ImageName]) -> Result<(), Fault> {
        let _lock = self.lock()?;
        self.record(id)?.ok_or_else(|| Fault::missing("is not in the store"))?;
        for name in names {
            self.name(name, id).map_err(|e| Fault::store(format_args!("naming {name}"), &e))?;
        }
        Ok(())
    }

    /// An image by its whole id.
    pub(super) fn record(&self, id: &ImageId) -> Result<Option<ImageRecord>, Fault> {
        let path = self.path("images", &format!("{}.json", id.digits()));
        match read_json(&path) {
            Ok(record) => Ok(Some(record)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Fault::store(path.display(), &e)),
        }
    }

    /// The configuration of an image, as it came.
    pub(super) fn configuration(&self, record: &ImageRecord) -> Result<Vec<u8>, Fault> {
        let path = self.path("images", &format!("{}.config", record.id.digits()));
        fs::read(&path).map_err(|e| Fault::store(path.display(), &e))
    }

    /// The image that is called so; by its digest where the name has one.
    pub(super) fn named(&self, name: &ImageName) -> Result<Option<ImageRecord>, Fault> {
        let name = match name.digest() {
            Some(digest) => name.at(digest.clone()),
            None => name.clone(),
        };
        let path = self.path("names", &file_name(&name));
        let id = match fs::read_to_string(&path) {
            Ok(text) => read_name(&text)?.0,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Fault::store(path.display(), &e)),
        };
        self.record(&id)
    }

    /// The only image whose id begins so.
    pub(super) fn by_id(&self, id: &ImageId) -> Result<Option<ImageRecord>, Fault> {
        if id.is_whole() {
            return self.record(id);
        }
        let mut found = self.ids()?.into_iter().filter(|known| known.digits().starts_with(id.digits()));
        let first = found.next();
        if found.next().is_some() {
            return Err(Fault::missing("is the beginning of several ids; give more of its digits"));
        }
        first.map_or(Ok(None), |id| self.record(&id))
    }

    fn list(&self, kind: &str) -> Result<Vec<String>, Fault> {
        let path = self.root.join(kind);
        let names = fs::read_dir(&path).and_then(|entries| {
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        });
        names.map_err(|e| Fault::store(path.display(), &e))
    }

    pub(super) fn ids(&self) -> Result<Vec<ImageId>, Fault> {
        let names = self.list("images")?;
        let digits = names.iter().filter_map(|name| name.strip_suffix(".json"));
        Ok(digits.filter_map(|digits| ImageId::from_digits(digits).ok()).collect())
    }

    /// All names with the ids behind them.
    pub(super) fn names(&self) -> Result<BTreeMap<ImageName, ImageId>, Fault> {
        let mut names = BTreeMap::new();
        for file in self.list("names")? {
            // One that vanished meanwhile was removed.
            let Ok(text) = fs::read_to_string(self.path("names", &file)) else { continue };
            if let Ok((id, name)) = read_name(&text) {
                names.insert(name, id);
            }
        }
        Ok(names)
    }

    pub(super) fn unname(&self, name: &ImageName) -> Result<(), Fault> {
        let path = self.path("names", &file_name(name));
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Fault::store(path.display(), &e)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Which image a file of this machine held when it looked like this.
    pub(super) fn source(&self, source: &str, stamp: &str) -> Result<Option<ImageRecord>, Fault> {
        let path = self.path("sources", super::digest::of(source.as_bytes()).digits());
        let Ok(text) = fs::read_to_string(path) else { return Ok(None) };
        match text.split_once('\n') {
            Some((id, known)) if known == stamp => self.record(&super::digest::parse(id)?),
            Some(_) | None => Ok(None),
        }
    }

    pub(super) fn note_source(&self, source: &str, stamp: &str, id: &ImageId) -> Result<(), Fault> {
        let path = self.path("sources", super::digest::of(source.as_bytes()).digits());
        write_whole(&path, format!("{id}\n{stamp}").as_bytes()).map_err(|e| Fault::store(path.display(), &e))
    }

    fn pin_path(&self, id: &ImageId) -> PathBuf {
        self.path("pins", id.digits())
    }

    fn open_pin(&self, id: &ImageId) -> io::Result<File> {
        File::options().create(true).truncate(false).write(true).open(self.pin_path(id))
    }

    /// Keeps an image from being removed while the result lives. `None` when it is not there.
    pub(super) fn pin(&self, id: &ImageId) -> Result<Option<Arc<Pin>>, Fault> {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pin) = pins.get(id).and_then(Weak::upgrade) {
            return Ok(Some(pin));
        }
        let failed = |e: io::Error| Fault::store(self.pin_path(id).display(), &e);
        // Who removes an image removes its pin too: one that was opened before is good for nothing.
        for _ in 0..16 {
            let file = self.open_pin(id).map_err(failed)?;
            lock(&file, FlockOperation::LockShared).map_err(|e| failed(e.into()))?;
            let ours = file.metadata().map_err(failed)?;
            let there = fs::metadata(self.pin_path(id));
            if !there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                continue;
            }
            if self.record(id)?.is_none() {
                // A pin of nothing is removed with the next images.
                return Ok(None);
            }
            // When it was last used. That it cannot be told costs nothing but its place in the order.
            drop(file.set_modified(SystemTime::now()));
            let pin = Arc::new(Pin { id: id.clone(), _lock: file });
            pins.retain(|_, pin| pin.strong_count() > 0);
            pins.insert(id.clone(), Arc::downgrade(&pin));
            return Ok(Some(pin));
        }
        Err(Fault::invalid("is being removed over and over"))
    }

    /// When an image was last used.
    pub(super) fn used_at(&self, id: &ImageId) -> Option<SystemTime> {
        fs::metadata(self.pin_path(id)).and_then(|meta| meta.modified()).ok()
    }

    /// Takes an image for removing it; `None` while somebody has sandboxes of it.
    pub(super) fn seize(&self, id: &ImageId) -> Result<Option<File>, Fault> {
        let failed = |e: io::Error| Fault::store(self.pin_path(id).display(), &e);
        let existed = self.used_at(id);
        let file = self.open_pin(id).map_err(failed)?;
        if let Some(existed) = existed {
            // A look is no use. Where this fails, the image is kept a little longer.
            drop(file.set_modified(existed));
        }
        match lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Images of sandboxes that are written down: of a server that runs, or that was killed and left them alive.
    pub(super) fn written_down(&self) -> HashSet<ImageId> {
        #[derive(Deserialize)]
        struct Image {
            #[serde(default)]
            image_id: Option<ImageId>,
        }
        let Some(sandboxes) = &self.sandboxes else { return HashSet::new() };
        let Ok(entries) = fs::read_dir(sandboxes) else { return HashSet::new() };
        let states = entries.flatten().map(|entry| entry.path().join("state.json"));
        states.filter_map(|state| read_json::<Image>(&state).ok()?.image_id).collect()
    }

    /// An image as listings show it.
    pub(super) fn info(&self, record: &ImageRecord, names: &BTreeMap<ImageName, ImageId>) -> ImageInfo {
        let own = names.iter().filter(|(_, id)| **id == record.id).map(|(name, _)| name);
        let (digests, tagged): (Vec<&ImageName>, Vec<&ImageName>) =
            own.partition(|name| name.tag().is_none());
        let used_at = self.used_at(&record.id).and_then(|time| jiff::Timestamp::try_from(time).ok());
        // Without a pin nobody has ever used it, and a look must not make one.
        let held = used_at.is_some() && matches!(self.seize(&record.id), Ok(None));
        let in_use = held || self.written_down().contains(&record.id);
        let layer = |layer: &LayerRecord| ImageLayer {
            digest: layer.digest.to_string(),
            bytes: layer.bytes,
            entries: layer.entries,
        };
        ImageInfo {
            id: record.id.clone(),
            names: tagged.into_iter().map(ImageName::familiar).collect(),
            digests: digests.into_iter().map(ImageName::familiar).collect(),
            os: record.os.clone(),
            architecture: record.architecture.clone(),
            created: record.created.clone(),
            imported_at: record.imported_at.to_string(),
            used_at: used_at.map(|at| at.to_string()),
            in_use,
            bytes: record.bytes(),
            config: record.config.clone(),
            layers: record.layers.iter().map(layer).collect(),
            left_out: record.layers.iter().map(|layer| layer.left_out).sum(),
        }
    }
}
