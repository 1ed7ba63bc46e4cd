//! The images of a home: fetched once however many ask, listed, removed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use hothouse_domain::image::{ImageInfo, PruneSpec, Pruned, PullPolicy, PullSpec};
use hothouse_domain::{ErrorCode, ImageId, ImageName, ImageRef};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::budget::{Budget, ImageLimits};
use super::collect;
use super::error::{Fault, ImageError};
use super::library::{ImageRecord, Library, Pin};
use super::progress::Progress;
use super::tree::Owners;

/// Images that are fetched at once; others wait.
const MAX_AT_ONCE: usize = 4;

type Outcome = Result<Arc<ImageRecord>, ImageError>;
type Waiting = Shared<BoxFuture<'static, Outcome>>;

/// The images of a home; clones are the same.
#[derive(Debug, Clone)]
pub struct Images {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) library: Library,
    flights: Mutex<HashMap<String, Flight>>,
    places: tokio::sync::Semaphore,
    tasks: TaskTracker,
    /// For what waits …
    pub(super) closed: CancellationToken,
    /// … and for what works.
    closing: Arc<AtomicBool>,
}

#[derive(Debug, Clone)]
struct Flight {
    progress: Arc<Progress>,
    outcome: Waiting,
}

/// An image that is being fetched. It goes on when nobody waits for it any more.
#[derive(Debug)]
pub struct Pull {
    progress: Arc<Progress>,
    images: Images,
    outcome: Waiting,
}

impl Pull {
    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Waits until it is there.
    ///
    /// # Errors
    /// [`ImageError`]: why it cannot be had; nothing of it is kept but what a later try goes on with.
    pub async fn done(self) -> Result<ImageInfo, ImageError> {
        let record = self.outcome.await?;
        self.images.blocking(record.id.to_string(), move |library| info_of(library, &record)).await
    }
}

fn info_of(library: &Library, record: &ImageRecord) -> Result<ImageInfo, Fault> {
    Ok(library.info(record, &library.names()?))
}

impl Images {
    /// The images under a home's `images`, which is made when absent.
    ///
    /// # Errors
    /// What the directory refuses.
    pub fn open(images: &Path, limits: ImageLimits) -> io::Result<Self> {
        fs::create_dir_all(images)?;
        let owners = if rustix::process::geteuid().is_root() { Owners::Image } else { Owners::Ours };
        let library = Library::open(images, owners, limits)?;
        let inner = Inner {
            library,
            flights: Mutex::default(),
            places: tokio::sync::Semaphore::new(MAX_AT_ONCE),
            tasks: TaskTracker::new(),
            closed: CancellationToken::new(),
            closing: Arc::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Removes what killed processes have left. Call it once, when a server starts.
    pub(crate) fn sweep(&self) {
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.spawn_blocking(move || {
            if let Err(fault) = collect::sweep(&inner.library) {
                tracing::warn!(reason = fault.reason, "sweeping the images");
            }
        });
    }

    /// Ends what is being fetched, and waits until it has ended.
    pub async fn close(&self) {
        self.inner.closing.store(true, Ordering::Relaxed);
        self.inner.closed.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    pub(super) fn budget(&self) -> Budget {
        Budget::new(self.inner.library.limits, Arc::clone(&self.inner.closing))
    }

    /// Does something with the store in a thread that may wait for the disk.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        image: String,
        work: impl FnOnce(&Library) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, ImageError> {
        let inner = Arc::clone(&self.inner);
        match self.inner.tasks.spawn_blocking(move || work(&inner.library)).await {
            Ok(result) => result.map_err(|fault| fault.of(image)),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Fault::unavailable("was stopped").of(image)),
            },
        }
    }

    /// The image behind a reference, if the store has it as it is now at its source.
    fn there(&self, reference: &ImageRef) -> Result<Option<ImageRecord>, Fault> {
        let library = &self.inner.library;
        match reference {
            ImageRef::Stored(name) | ImageRef::Registry(name) => library.named(name),
            ImageRef::Id(id) => library.by_id(id),
            ImageRef::File(file) => {
                library.source(&reference.to_string(), &super::local::stamp(Path::new(&file.path))?)
            }
            // Only the daemon knows.
            ImageRef::Daemon(_) | ImageRef::Host | ImageRef::Directory(_) | ImageRef::Snapshot(_) => Ok(None),
        }
    }

    /// Fetches an image, or finds it; several who ask for one at once get the same.
    #[must_use]
    pub fn pull(&self, spec: PullSpec) -> Pull {
        let key = serde_json::to_string(&spec).unwrap_or_default();
        let mut flights = self.inner.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Flight { progress, outcome }) = flights.get(&key).cloned() {
            return Pull { progress, images: self.clone(), outcome };
        }
        let progress = Arc::<Progress>::default();
        let (images, at) = (self.clone(), Arc::clone(&progress));
        let image = spec.image.to_string();
        let told = image.clone();
        let task = self.inner.tasks.spawn({
            let key = key.clone();
            async move {
                let outcome = images.fetch(spec, &at).await;
                images.inner.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                match &outcome {
                    Ok(record) => tracing::info!(image, id = %record.id, "image is there"),
                    Err(fault) => tracing::info!(image, reason = fault.reason, "no image"),
                }
                outcome.map(Arc::new).map_err(|fault| fault.of(image))
            }
        });
        let outcome = async move {
            // A panic or an aborted task: neither is this image's fault.
            task.await.unwrap_or_else(|e| {
                Err(Fault { code: ErrorCode::Internal, reason: format!("was given up: {e}") }.of(told))
            })
        };
        let outcome = outcome.boxed().shared();
        flights.insert(key, Flight { progress: Arc::clone(&progress), outcome: outcome.clone() });
        Pull { progress, images: self.clone(), outcome }
    }

    async fn fetch(&self, spec: PullSpec, progress: &Arc<Progress>) -> Result<ImageRecord, Fault> {
        let there = match spec.pull {
            PullPolicy::Missing | PullPolicy::Never => self.there(&spec.image)?,
            PullPolicy::Always => match spec.image {
                ImageRef::Stored(_) | ImageRef::Id(_) => self.there(&spec.image)?,
                _ => None,
            },
        };
        let record = match there {
            Some(record) => record,
            None if spec.pull == PullPolicy::Never => {
                let image = &spec.image;
                return Err(Fault::missing(format!(
                    "is not in the store and must not be fetched; `hothouse image pull {image}` fetches it"
                )));
            }
            None => {
                let _place = tokio::select! {
                    place = self.inner.places.acquire() => place,
                    () = self.inner.closed.cancelled() => return Err(Fault::unavailable("was stopped")),
                };
                self.fetch_now(&spec, progress).await?
            }
        };
        if let Some(name) = spec.name.as_ref().and_then(ImageName::tagged) {
            self.inner.library.tag(&record.id, &[name])?;
        }
        progress.done();
        Ok(record)
    }

    async fn fetch_now(&self, spec: &PullSpec, progress: &Arc<Progress>) -> Result<ImageRecord, Fault> {
        let record = match &spec.image {
            ImageRef::Stored(name) => {
                let name = name.familiar();
                return Err(Fault::missing(format!(
                    "is not in the store; `hothouse image ls` lists what is, `hothouse image pull docker://{name}` \
                     fetches it"
                )));
            }
            ImageRef::Id(_) => {
                return Err(Fault::missing("is not in the store; `hothouse image ls` lists what is"));
            }
            ImageRef::Host => return Err(Fault::invalid("is always there")),
            ImageRef::Snapshot(_) => {
                return Err(Fault::invalid(
                    "is a snapshot; `hothouse snapshot ls` lists those that there are",
                ));
            }
            ImageRef::Registry(name) => self.fetch_from_registry(name, spec, progress).await?,
            ImageRef::Daemon(name) => self.fetch_from_daemon(name, progress).await?,
            ImageRef::Directory(path) => self.fetch_from_directory(path.clone(), progress).await?,
            ImageRef::File(file) => self.fetch_from_file(file.clone(), &spec.image, progress).await?,
        };
        let keep = record.id.clone();
        self.in_store(move |library| collect::shrink(library, &keep)).await?;
        Ok(record)
    }

    /// [`blocking`](Self::blocking) for what has no name yet.
    pub(super) async fn in_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Library) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let done = self.blocking(String::new(), work).await;
        done.map_err(|ImageError { code, reason, .. }| Fault { code, reason })
    }

    /// What a sandbox is made from, kept from being removed while the result lives.
    pub(super) async fn pinned(
        &self,
        reference: &ImageRef,
        pull: PullPolicy,
    ) -> Result<(Arc<Pin>, ImageRecord), ImageError> {
        let failed = |fault: Fault| fault.of(reference);
        if pull != PullPolicy::Always
            && let Some(record) = self.there(reference).map_err(failed)?
            && let Some(pin) = self.inner.library.pin(&record.id).map_err(failed)?
        {
            return Ok((pin, record));
        }
        // One that is removed before it is pinned is fetched again.
        for _ in 0..3 {
            let record = self.pull(PullSpec::of(reference.clone(), pull)).outcome.await?;
            if let Some(pin) = self.inner.library.pin(&record.id).map_err(failed)? {
                return Ok((pin, (*record).clone()));
            }
        }
        Err(failed(Fault::unavailable("is removed as soon as it is there; is --image-space too small?")))
    }

    /// Keeps an image of a sandbox that was found alive.
    pub(crate) fn pin(&self, id: &ImageId) -> Option<Arc<Pin>> {
        match self.inner.library.pin(id) {
            Ok(pin) => pin,
            Err(fault) => {
                tracing::error!(%id, reason = fault.reason, "keeping the image of an adopted sandbox");
                None
            }
        }
    }

    /// All images, the newest first.
    ///
    /// # Errors
    /// [`ImageError`]: the store cannot be read.
    pub async fn list(&self) -> Result<Vec<ImageInfo>, ImageError> {
        self.blocking("list".to_owned(), |library| {
            let names = library.names()?;
            let mut all = Vec::new();
            for id in library.ids()? {
                // One that vanished meanwhile was removed.
                all.extend(library.record(&id)?.map(|record| library.info(&record, &names)));
            }
            all.sort_by(|a, b| b.imported_at.cmp(&a.imported_at).then_with(|| a.id.cmp(&b.id)));
            Ok(all)
        })
        .await
    }

    /// One image.
    ///
    /// # Errors
    /// [`ImageError`]: there is none.
    pub async fn inspect(&self, image: &ImageRef) -> Result<ImageInfo, ImageError> {
        let wanted = image.clone();
        self.blocking(image.to_string(), move |library| info_of(library, &find(library, &wanted)?)).await
    }

    /// Removes an image. By one of several names, only the name goes.
    ///
    /// # Errors
    /// [`ImageError`]: there is none, or sandboxes are made from it.
    pub async fn remove(&self, image: &ImageRef) -> Result<Pruned, ImageError> {
        let wanted = image.clone();
        self.blocking(image.to_string(), move |library| {
            let record = find(library, &wanted)?;
            if let ImageRef::Stored(name) | ImageRef::Registry(name) = &wanted
                && name.digest().is_none()
            {
                let names = library.names()?;
                let tags =
                    names.iter().filter(|(name, id)| **id == record.id && name.tag().is_some()).count();
                if tags > 1 {
                    library.unname(name)?;
                    return Ok(Pruned::default());
                }
            }
            collect::remove(library, &record.id)
        })
        .await
    }

    /// Removes images that nothing uses.
    ///
    /// # Errors
    /// [`ImageError`]: something cannot be removed.
    pub async fn prune(&self, spec: PruneSpec) -> Result<Pruned, ImageError> {
        self.blocking("prune".to_owned(), move |library| collect::prune(library, spec)).await
    }
}

/// An image of the store.
pub(super) fn find(library: &Library, wanted: &ImageRef) -> Result<ImageRecord, Fault> {
    let found = match wanted {
        ImageRef::Stored(name) | ImageRef::Registry(name) | ImageRef::Daemon(name) => library.named(name)?,
        ImageRef::Id(id) => library.by_id(id)?,
        ImageRef::File(file) => {
            library.source(&wanted.to_string(), &super::local::stamp(Path::new(&file.path))?)?
        }
        ImageRef::Host | ImageRef::Directory(_) | ImageRef::Snapshot(_) => None,
    };
    found.ok_or_else(|| Fault::missing("is not in the store; `hothouse image ls` lists what is"))
}
