//! From a plan to an image of the store: what is missing is unpacked, several layers at once, and kept when all is there.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hothouse_domain::{ImageId, ImageName};
use rustix::fs::{FlockOperation, Mode, OFlags};

use super::budget::Budget;
use super::digest;
use super::error::Fault;
use super::layer::{self, Expected, Source};
use super::library::{ImageRecord, LayerRecord, Library, key};
use super::manifest::Configuration;
use super::plan::{Plan, PlannedLayer, chains};
use super::progress::Progress;
use super::tree::{Tree, Whiteouts};

/// The most layers of one sandbox. Of an image with more, the lowest are merged into one.
const MAX_STACK: usize = 64;
/// The most layers that are unpacked at once.
const MAX_AT_ONCE: usize = 4;

/// What one import is making; gone with it, also when its process is killed.
#[derive(Debug)]
pub(super) struct Import<'a> {
    library: &'a Library,
    path: PathBuf,
    _lock: File,
}

impl<'a> Import<'a> {
    /// Begins an import; what it `wants` is not removed until it ends.
    pub(super) fn begin(library: &'a Library, wants: &[ImageId]) -> Result<Self, Fault> {
        let path = library.path("imports", &uuid::Uuid::new_v4().simple().to_string());
        let failed = |e: io::Error| Fault::store(path.display(), &e);
        let _all = library.lock()?;
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let lock = File::create(path.join("lock")).map_err(failed)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
        let text = serde_json::to_vec(wants).map_err(|e| failed(e.into()))?;
        fs::write(path.join("wants.json"), text).map_err(failed)?;
        Ok(Self { library, path: path.clone(), _lock: lock })
    }

    /// A directory of its own.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn directory(&self, name: &str) -> Result<(PathBuf, OwnedFd), Fault> {
        let path = self.path.join(name);
        let failed = |e: io::Error| Fault::store(path.display(), &e);
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        Ok((path, fd))
    }
}

impl Drop for Import<'_> {
    fn drop(&mut self) {
        if let Err(error) = super::remove::remove_path(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "what an import left is removed later");
        }
    }
}

/// What imports are at work, and those that were killed.
pub(super) struct Imports {
    pub(super) wants: HashSet<String>,
    pub(super) dead: Vec<PathBuf>,
}

/// Looks through all imports. Call it with the store locked.
pub(super) fn survey(library: &Library) -> Result<Imports, Fault> {
    let root = library.path("imports", "");
    let mut found = Imports { wants: HashSet::new(), dead: Vec::new() };
    let entries = fs::read_dir(&root).map_err(|e| Fault::store(root.display(), &e))?;
    for entry in entries.flatten() {
        let path = entry.path();
        let lock = File::open(path.join("lock"));
        let free = lock
            .is_ok_and(|lock| rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok())
            || !path.join("lock").exists();
        if free {
            found.dead.push(path);
            continue;
        }
        let wants: Vec<ImageId> = fs::read(path.join("wants.json"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        found.wants.extend(wants.iter().map(|digest| key(digest).to_owned()));
    }
    Ok(found)
}

/// Layers that go into one directory.
struct Batch {
    digest: ImageId,
    layers: Vec<PlannedLayer>,
}

fn batches(layers: Vec<PlannedLayer>) -> Vec<Batch> {
    let single = |layer: PlannedLayer| Batch { digest: layer.diff.clone(), layers: vec![layer] };
    if layers.len() <= MAX_STACK {
        return layers.into_iter().map(single).collect();
    }
    let diffs: Vec<ImageId> = layers.iter().map(|layer| layer.diff.clone()).collect();
    let merged = layers.len() - MAX_STACK + 1;
    let digest = chains(&diffs)[merged - 1].clone();
    let mut layers = layers.into_iter();
    let lowest = layers.by_ref().take(merged).collect();
    let mut batches = vec![Batch { digest, layers: lowest }];
    batches.extend(layers.map(single));
    batches
}

/// Makes a plan's image an image of the store.
pub(super) fn import(
    library: &Library,
    plan: Plan,
    names: &[ImageName],
    budget: &Budget,
    progress: &Progress,
) -> Result<ImageRecord, Fault> {
    let Plan { id, configuration, config, layers, names: own } = plan;
    let names: Vec<ImageName> = own.iter().chain(names).cloned().collect();
    progress.begin(layers.len(), layers.iter().map(|layer| layer.bytes).sum());
    let batches = batches(layers);
    let wants: Vec<ImageId> = batches.iter().map(|batch| batch.digest.clone()).collect();
    let import = Import::begin(library, &wants)?;
    let records = unpack_all(&import, &batches, budget, progress)?;
    let record = record(id, &configuration, records);
    library.take_image(&record, &config, &names)?;
    progress.done();
    Ok(record)
}

fn record(id: ImageId, configuration: &Configuration, layers: Vec<LayerRecord>) -> ImageRecord {
    ImageRecord {
        id,
        os: configuration.os.clone(),
        architecture: configuration.architecture.clone(),
        created: configuration.created.clone(),
        imported_at: jiff::Timestamp::now(),
        config: configuration.usage(),
        layers,
    }
}

fn unpack_all(
    import: &Import<'_>,
    batches: &[Batch],
    budget: &Budget,
    progress: &Progress,
) -> Result<Vec<LayerRecord>, Fault> {
    let next = AtomicUsize::new(0);
    let done: Mutex<HashMap<usize, LayerRecord>> = Mutex::default();
    let failure: Mutex<Option<Fault>> = Mutex::default();
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = batches.get(number) else { return };
            if budget.is_stopped() {
                return;
            }
            // An image may have a layer twice; the second is there when the first is.
            let first = batches[..number].iter().any(|other| other.digest == batch.digest);
            let made = if first { Ok(None) } else { unpack_batch(import, batch, budget, progress).map(Some) };
            match made {
                Ok(Some(record)) => _ = lock(&done).insert(number, record),
                Ok(None) => {}
                Err(fault) => {
                    // The first reason counts: the others are that it was stopped.
                    lock(&failure).get_or_insert(fault.within(format!("layer {}", batch.digest)));
                    budget.stop();
                }
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = cores.min(MAX_AT_ONCE).min(batches.len());
    std::thread::scope(|scope| (0..workers).for_each(|_| _ = scope.spawn(work)));
    if let Some(fault) = failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(fault);
    }
    if budget.is_stopped() {
        return Err(Fault::unavailable("was stopped before all of it was there"));
    }
    let done = lock(&done);
    let first = |batch: &Batch| batches.iter().position(|other| other.digest == batch.digest);
    let record = |batch: &Batch| first(batch).and_then(|number| done.get(&number)).cloned();
    batches.iter().map(|batch| record(batch).ok_or_else(|| Fault::invalid("a layer was left out"))).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every critical section here leaves its data whole.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn unpack_batch(
    import: &Import<'_>,
    batch: &Batch,
    budget: &Budget,
    progress: &Progress,
) -> Result<LayerRecord, Fault> {
    let library = import.library;
    if let Some(record) = library.layer(&batch.digest)? {
        for layer in &batch.layers {
            progress.spared(layer.bytes);
            progress.layer_done();
        }
        return Ok(record);
    }
    check_room(library)?;
    let (path, fd) = import.directory(key(&batch.digest))?;
    let whiteouts = if batch.layers.len() > 1 { Whiteouts::Apply } else { Whiteouts::Keep };
    let mut tree = Tree::new(fd, library.owners, whiteouts, budget);
    for planned in &batch.layers {
        let source = (planned.open)()?;
        // Somebody else may have had it meanwhile, whom the opening has waited for.
        if batch.layers.len() == 1
            && let Some(record) = library.layer(&batch.digest)?
        {
            progress.layer_done();
            return Ok(record);
        }
        layer::unpack(source, &planned.expected, &mut tree, budget, progress)?;
        progress.layer_done();
    }
    let written = tree.finish()?;
    let record = LayerRecord {
        digest: batch.digest.clone(),
        bytes: written.bytes,
        entries: written.entries,
        left_out: written.left_out,
        opaque: written.opaque,
    };
    library.take_layer(&path, &record)?;
    Ok(record)
}

/// Refuses to go on where the disk is all but full: a full disk hurts more than this image.
fn check_room(library: &Library) -> Result<(), Fault> {
    const RESERVE: u64 = 64 << 20;
    let path = library.layers();
    let stat = rustix::fs::statvfs(&path).map_err(|e| Fault::store(path.display(), &e.into()))?;
    if stat.f_bavail.saturating_mul(stat.f_frsize) < RESERVE {
        let reason = format!("{} has less than 64 MiB left; free some first", path.display());
        return Err(Fault::no_space(reason));
    }
    Ok(())
}

/// Makes a root file system an image of the store. Its digest is known only when all of it has been read.
pub(super) fn import_root(
    library: &Library,
    source: Source,
    bytes: u64,
    names: &[ImageName],
    budget: &Budget,
    progress: &Progress,
) -> Result<ImageRecord, Fault> {
    progress.begin(1, bytes);
    check_room(library)?;
    let import = Import::begin(library, &[])?;
    let (path, fd) = import.directory("root")?;
    let mut tree = Tree::new(fd, library.owners, Whiteouts::Keep, budget);
    let diff = layer::unpack(source, &Expected::default(), &mut tree, budget, progress)?.diff;
    let written = tree.finish()?;
    progress.layer_done();
    let layer = LayerRecord {
        digest: diff.clone(),
        bytes: written.bytes,
        entries: written.entries,
        left_out: written.left_out,
        opaque: false,
    };
    let configuration = Configuration::plain(vec![diff.to_string()]);
    let text = serde_json::to_vec(&configuration)
        .map_err(|e| Fault::invalid(format!("writing a configuration: {e}")))?;
    // Wanted by somebody from here on, before it is where others may remove it.
    let _wanted = Import::begin(library, &[diff])?;
    library.take_layer(&path, &layer)?;
    let record = record(digest::of(&text), &configuration, vec![layer]);
    library.take_image(&record, &text, names)?;
    progress.done();
    Ok(record)
}
