//! The sandboxes of one machine.

use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt as _;
use hothouse_domain::{Capabilities, PoolPlace, SandboxId, SandboxInfo, SandboxSpec};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::SandboxError;
use crate::exec_request::fresh;
use crate::link::LinkCache;
use crate::native::{NativeBackend, NativeOptions, NativeStartError, Running, WhenOrphaned};
use crate::registry::Registry;
use crate::sandbox::{Command, Origin, Sandbox, Surroundings, Terms};

/// How many sandboxes are destroyed at once when a node ends.
const DESTROY_AT_ONCE: usize = 32;

/// How to start a node.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// `$HOTHOUSE_HOME`.
    pub home: PathBuf,
    /// See [`NativeOptions::spawner`](crate::native::NativeOptions).
    pub spawner: PathBuf,
    /// See [`NativeOptions::cgroup`](crate::native::NativeOptions).
    pub cgroup: Option<String>,
    /// At most so many sandboxes at once.
    pub max_sandboxes: usize,
    /// What becomes of the sandboxes when this process is killed.
    pub when_orphaned: WhenOrphaned,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeStartError {
    /// The backend did not start.
    #[error(transparent)]
    Native(#[from] NativeStartError),
}

/// What happens to the sandboxes when a node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtShutdown {
    /// They live on; the next node on the same home adopts them.
    Leave,
    /// They are destroyed.
    Destroy,
}

/// The sandboxes of one machine; clones share them.
#[derive(Debug, Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

/// Sandboxes whose networks and control groups a big node keeps ready.
const AHEAD: usize = 8;

#[derive(Debug)]
struct Inner {
    around: Arc<Surroundings>,
    registry: Arc<Registry<Sandbox>>,
    /// Cancelled when the node takes no more requests.
    closing: CancellationToken,
}

impl Node {
    /// Starts the backend and adopts the sandboxes that an earlier node on this home left alive.
    ///
    /// # Errors
    /// [`NodeStartError`] says what this machine lacks.
    pub async fn start(options: NodeOptions) -> Result<Self, NodeStartError> {
        let NodeOptions { home, spawner, cgroup, max_sandboxes, when_orphaned } = options;
        let ahead = (max_sandboxes / 4).clamp(1, AHEAD);
        let backend =
            NativeBackend::start(NativeOptions { home, spawner, cgroup, when_orphaned, ahead }).await?;
        let adopted = backend.adopt().await;
        let around =
            Arc::new(Surroundings { backend, links: LinkCache::default(), tasks: TaskTracker::new() });
        let registry = Arc::new(Registry::new(max_sandboxes));
        let closing = CancellationToken::new();
        let node = Self { inner: Arc::new(Inner { around, registry, closing }) };
        node.sweep_links();
        for (running, spec, pool) in adopted {
            node.adopt(running, Terms { spec, pool });
        }
        Ok(node)
    }

    fn sweep_links(&self) {
        let (around, closing) = (Arc::clone(&self.inner.around), self.inner.closing.clone());
        self.inner.around.tasks.spawn(async move {
            tokio::select! {
                () = closing.cancelled() => {}
                () = around.links.sweep_forever() => {}
            }
        });
    }

    fn adopt(&self, running: Running, terms: Terms) {
        let death = running.death();
        let (sandbox, commands) = Sandbox::adopted(running, terms, Arc::clone(&self.inner.around));
        tracing::info!(sandbox = %sandbox.id(), "adopted");
        self.inner.registry.adopt(sandbox.id().clone(), sandbox.clone());
        self.own(sandbox, Origin::Adopted(death), commands);
    }

    fn own(&self, sandbox: Sandbox, origin: Origin, commands: tokio::sync::mpsc::Receiver<Command>) {
        let registry = Arc::clone(&self.inner.registry);
        let forget = move |sandbox: &Sandbox| registry.remove(sandbox.id());
        self.inner.around.tasks.spawn(sandbox.own(origin, commands, forget));
    }

    /// Every sandbox, by id.
    #[must_use]
    pub fn all(&self) -> Vec<Sandbox> {
        self.inner.registry.all()
    }

    /// How many sandboxes there are of this kind.
    #[must_use]
    pub fn count(&self, of_kind: impl Fn(&Terms) -> bool) -> usize {
        self.all().iter().filter(|sandbox| of_kind(&sandbox.terms())).count()
    }

    /// How many sandboxes there may be.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.inner.registry.limit()
    }

    /// How many more there may be now.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limit().saturating_sub(self.len())
    }

    /// What the backend enforces here.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        self.inner.around.backend.capabilities()
    }

    /// Makes a sandbox. When the caller gives up waiting, none is left behind.
    ///
    /// # Errors
    /// [`SandboxError`]: invalid spec, id taken, node full, or the backend's reason.
    pub async fn create(&self, spec: SandboxSpec) -> Result<Sandbox, SandboxError> {
        self.create_in(spec, None).await
    }

    /// [`create`](Self::create) for a place in a pool.
    ///
    /// # Errors
    /// As there.
    pub async fn create_in(
        &self,
        mut spec: SandboxSpec,
        pool: Option<PoolPlace>,
    ) -> Result<Sandbox, SandboxError> {
        if self.inner.closing.is_cancelled() {
            return Err(SandboxError::ShuttingDown);
        }
        spec.validate()?;
        let id = spec.id.take().unwrap_or_else(|| fresh("sb"));
        spec.id = Some(id.clone());
        spec.workdir = Some(crate::exec_request::workdir(&spec));
        let around = Arc::clone(&self.inner.around);
        let (sandbox, commands) = Sandbox::new(id.clone(), Terms { spec, pool }, around);
        self.inner.registry.reserve(&id, sandbox.clone())?;
        let (made, result) = oneshot::channel();
        self.own(sandbox.clone(), Origin::Make(made), commands);
        result.await.unwrap_or(Err(SandboxError::ShuttingDown))?;
        Ok(sandbox)
    }

    /// The sandbox with this id.
    ///
    /// # Errors
    /// [`SandboxError::NotFound`].
    pub fn get(&self, id: &SandboxId) -> Result<Sandbox, SandboxError> {
        self.inner.registry.get(id).ok_or_else(|| SandboxError::NotFound(id.to_string()))
    }

    /// Sandboxes with ids after `after`, sorted by id, that have all these labels; at most `limit`.
    #[must_use]
    pub fn list(
        &self,
        after: Option<&SandboxId>,
        labels: &[(String, String)],
        limit: usize,
    ) -> Vec<SandboxInfo> {
        let page = self.inner.registry.page(after, limit, |sandbox| sandbox.has_labels(labels));
        page.iter().map(Sandbox::info).collect()
    }

    /// How many sandboxes there are, those included that are being made or removed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.registry.len()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Destroys a sandbox; returns when nothing of it is left. It goes on when the caller gives up waiting.
    ///
    /// # Errors
    /// [`SandboxError`]: no such sandbox, or what could not be removed.
    pub async fn delete(&self, id: &SandboxId) -> Result<(), SandboxError> {
        self.get(id)?.command(Command::Destroy).await
    }

    /// Ends the node: no more sandboxes are made, and those that there are live on or are destroyed. Returns when all
    /// that the node had under way has ended.
    pub async fn shutdown(&self, at_shutdown: AtShutdown) {
        self.inner.closing.cancel();
        let sandboxes = self.inner.registry.all();
        futures::stream::iter(sandboxes)
            .for_each_concurrent(DESTROY_AT_ONCE, |sandbox| async move {
                match at_shutdown {
                    AtShutdown::Leave => sandbox.leave().await,
                    AtShutdown::Destroy => match sandbox.command(Command::Destroy).await {
                        Ok(()) | Err(SandboxError::NotFound(_)) => {}
                        Err(error) => {
                            tracing::error!(sandbox = %sandbox.id(), %error, "not all of it was removed");
                        }
                    },
                }
            })
            .await;
        self.inner.around.tasks.close();
        self.inner.around.tasks.wait().await;
    }
}
