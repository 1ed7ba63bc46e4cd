//! The sandboxes of one machine.

mod snapshots;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt as _;
use hothouse_domain::capacity::Amounts;
use hothouse_domain::{
    Capabilities, ClaimSpec, EndCause, Ending, EventKind, FrozenBy, MemoryStats, OwnerName, PoolPlace,
    SandboxId, SandboxInfo, SandboxSpec, TenantName,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::endings::{End, Ended, Endings};
use crate::error::SandboxError;
use crate::events::Events;
use crate::exec_request::fresh;
use crate::image::{ImageLimits, Images};
use crate::lease::Owners;
use crate::link::LinkCache;
use crate::makings::{CreateStage, Makings};
use crate::native::{NativeBackend, NativeOptions, NativeStartError, Running, WhenOrphaned};
use crate::pressure::{Marks, Pressure, keeper};
use crate::registry::Registry;
use crate::sandbox::{Command, Origin, Sandbox, Surroundings};
use crate::terms::{Claimant, Terms, boottime_ms};

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
    /// What else it has to give, by name, e.g. `cpus`, `memory_bytes`, `pids`, or any name that sandboxes may need.
    pub capacity: Amounts,
    /// Bytes of memory that have to be left on the machine for another sandbox to be made; 0 for no such limit.
    pub min_free_memory: u64,
    /// Bytes of memory below which it is taken back from idle sandboxes; 0 for never.
    pub reclaim_below: u64,
    /// What becomes of the sandboxes when this process is killed.
    pub when_orphaned: WhenOrphaned,
    /// What images may become.
    pub images: ImageLimits,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeStartError {
    /// The backend did not start.
    #[error(transparent)]
    Native(#[from] NativeStartError),
    /// How earlier sandboxes ended cannot be read or written.
    #[error("{home}/endings.jsonl: {source}")]
    Endings {
        /// `$HOTHOUSE_HOME`.
        home: PathBuf,
        /// Why.
        source: std::io::Error,
    },
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

/// A sandbox that is to be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewSandbox {
    /// What it is made from.
    pub spec: SandboxSpec,
    /// Its place in a pool, if a pool makes it.
    pub pool: Option<PoolPlace>,
    /// Who asks for it.
    pub claimant: Claimant,
}

/// An id and room for a sandbox that is yet to be made; given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    node: Node,
    place: Option<(Sandbox, mpsc::Receiver<Command>)>,
}

impl Reserved {
    /// Makes it. When the caller gives up waiting, none is left behind.
    ///
    /// # Errors
    /// [`SandboxError`]: the backend's reason.
    pub async fn make(mut self) -> Result<Sandbox, SandboxError> {
        let Some((sandbox, commands)) = self.place.take() else { return Err(SandboxError::ShuttingDown) };
        let (made, result) = oneshot::channel();
        self.node.own(sandbox.clone(), Origin::Make(made, tracing::Span::current()), commands);
        result.await.unwrap_or(Err(SandboxError::ShuttingDown))?;
        Ok(sandbox)
    }

    /// The id that it has or will have.
    #[must_use]
    pub fn id(&self) -> Option<&SandboxId> {
        self.place.as_ref().map(|(sandbox, _)| sandbox.id())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some((sandbox, _)) = self.place.take() {
            self.node.inner.around.owners.remove(&sandbox.terms());
            self.node.inner.registry.remove(sandbox.id());
        }
    }
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
        let NodeOptions { home, spawner, cgroup, max_sandboxes, capacity, when_orphaned, images, .. } =
            options;
        let marks = Marks { floor: options.min_free_memory, reclaim_below: options.reclaim_below };
        let ahead = (max_sandboxes / 4).clamp(1, AHEAD);
        let endings = match when_orphaned {
            WhenOrphaned::LiveOn => {
                // Made by the backend else, which starts later.
                let failed = |source| NodeStartError::Endings { home: home.clone(), source };
                std::fs::create_dir_all(&home).and_then(|()| Endings::open(&home)).map_err(failed)?
            }
            WhenOrphaned::End => Endings::in_memory(),
        };
        let backend =
            NativeBackend::start(NativeOptions { home, spawner, cgroup, when_orphaned, ahead, images })
                .await?;
        let adopted = backend.adopt().await;
        let around = Arc::new(Surroundings {
            backend,
            links: LinkCache::default(),
            tasks: TaskTracker::new(),
            endings,
            events: Events::new(),
            owners: Owners::default(),
            pressure: Pressure::new(marks),
        });
        let registry = Arc::new(Registry::new(max_sandboxes, &capacity));
        let closing = CancellationToken::new();
        let node = Self { inner: Arc::new(Inner { around, registry, closing }) };
        node.sweep_links();
        node.keep_memory();
        if when_orphaned == WhenOrphaned::LiveOn {
            node.images().sweep();
        }
        for (aside, ended) in adopted.aside {
            if node.ending(&ended.id).is_none() {
                node.inner.around.endings.note(ended);
            }
            node.write_later(aside);
        }
        for (id, terms) in adopted.dead {
            node.found_dead(id, terms);
        }
        let mut ended = Vec::new();
        for (running, terms) in adopted.alive {
            let sandbox = node.adopt(running, terms);
            ended.extend(node.ending(sandbox.id()).map(|ending| (sandbox, ending)));
        }
        node.inner.around.backend.snapshots().sweep();
        for (sandbox, ending) in ended {
            node.make_good(sandbox, ending);
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

    fn keep_memory(&self) {
        if self.inner.around.pressure.takes_back() {
            let (around, registry) = (Arc::clone(&self.inner.around), Arc::clone(&self.inner.registry));
            let closing = self.inner.closing.clone();
            self.inner.around.tasks.spawn(async move { keeper::keep(&around, &registry, &closing).await });
        }
    }

    /// The memory of the machine, and what was done to keep enough of it.
    #[must_use]
    pub fn memory(&self) -> MemoryStats {
        let frozen =
            self.all().iter().filter(|sandbox| sandbox.frozen_by() == Some(FrozenBy::Pressure)).count();
        self.inner.around.pressure.stats(frozen as u64)
    }

    /// True while memory is taken back from idle sandboxes: what nobody needs yet is better not made.
    #[must_use]
    pub fn is_short_of_memory(&self) -> bool {
        self.inner.around.pressure.short().is_some()
    }

    /// The end that was written down for this sandbox.
    fn ending(&self, id: &SandboxId) -> Option<Ending> {
        self.inner.around.endings.find(id).and_then(|ended| ended.ending)
    }

    fn found_dead(&self, id: SandboxId, terms: Terms) {
        if self.ending(&id).is_none() {
            tracing::warn!(sandbox = %id, "ended while no server was there");
            let end =
                End::new(EndCause::FoundDead, "node", "its guest had ended when the server was started");
            let ended = Ended { id, ending: Some(end.now()), claimant: terms.claimant };
            self.inner.around.endings.note(ended);
        }
    }

    /// Ends what an earlier node had begun to end when it was killed.
    fn make_good(&self, sandbox: Sandbox, ending: Ending) {
        self.inner.around.tasks.spawn(async move {
            let end = End::new(ending.cause, ending.by, ending.why);
            if let Err(error) = sandbox.command(|done| Command::Destroy(end, done)).await {
                tracing::error!(sandbox = %sandbox.id(), %error, "an end that was begun cannot be made good");
            }
        });
    }

    fn adopt(&self, running: Running, terms: Terms) -> Sandbox {
        let death = running.death();
        let (sandbox, commands) = Sandbox::adopted(running, terms, Arc::clone(&self.inner.around));
        tracing::info!(sandbox = %sandbox.id(), "adopted");
        if let Err(error) = sandbox.take_image(&sandbox.terms()) {
            tracing::error!(sandbox = %sandbox.id(), %error, "it lives, but others cannot be made of what it is made of");
        }
        let demand = sandbox.terms().demand();
        self.inner.registry.adopt(sandbox.id().clone(), sandbox.clone(), demand);
        self.inner.around.owners.add(&sandbox.terms());
        self.inner.around.events.note(sandbox.id(), &sandbox.terms(), EventKind::Adopted);
        self.own(sandbox.clone(), Origin::Adopted(death), commands);
        sandbox
    }

    fn own(&self, sandbox: Sandbox, origin: Origin, commands: mpsc::Receiver<Command>) {
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

    /// The images that sandboxes are made from.
    #[must_use]
    pub fn images(&self) -> &Images {
        self.inner.around.backend.images()
    }

    /// Makes a sandbox. When the caller gives up waiting, none is left behind.
    ///
    /// # Errors
    /// [`SandboxError`]: invalid spec, id taken, node full, or the backend's reason.
    pub async fn create(&self, spec: SandboxSpec) -> Result<Sandbox, SandboxError> {
        self.create_for(NewSandbox { spec, ..NewSandbox::default() }).await
    }

    /// [`create`](Self::create) for a place in a pool, or for somebody.
    ///
    /// # Errors
    /// As there.
    pub async fn create_for(&self, new: NewSandbox) -> Result<Sandbox, SandboxError> {
        let reserved = self.reserve(vec![new]);
        let reserved =
            reserved.inspect_err(|error| self.makings().failed(CreateStage::Admission, error.code()));
        match reserved?.pop() {
            Some(reserved) => reserved.make().await,
            None => Err(SandboxError::ShuttingDown),
        }
    }

    /// Takes ids and room for all of these or, where that fails for one, for none. What is not made gives them back.
    ///
    /// # Errors
    /// [`SandboxError`]: an invalid spec, an id that is taken, or too little of something.
    pub fn reserve(&self, wanted: Vec<NewSandbox>) -> Result<Vec<Reserved>, SandboxError> {
        if self.inner.closing.is_cancelled() {
            return Err(SandboxError::ShuttingDown);
        }
        self.inner.around.pressure.check()?;
        let mut reserved = Vec::with_capacity(wanted.len());
        let mut entries = Vec::with_capacity(wanted.len());
        for NewSandbox { mut spec, pool, claimant } in wanted {
            spec.validate()?;
            let id = spec.id.take().unwrap_or_else(|| fresh("sb"));
            spec.id = Some(id.clone());
            let terms = Terms { spec, pool, claimant, leased_ms: boottime_ms(), frozen_by: None };
            let demand = terms.demand();
            let (sandbox, commands) = Sandbox::new(id.clone(), terms, Arc::clone(&self.inner.around));
            sandbox.take_image(&sandbox.terms())?;
            entries.push((id, sandbox.clone(), demand));
            reserved.push((sandbox, commands));
        }
        self.inner.registry.reserve(entries)?;
        let reserve = |(sandbox, commands): (Sandbox, _)| {
            self.inner.around.endings.forget(sandbox.id());
            self.inner.around.owners.add(&sandbox.terms());
            Reserved { node: self.clone(), place: Some((sandbox, commands)) }
        };
        Ok(reserved.into_iter().map(reserve).collect())
    }

    /// Binds a ready sandbox of a pool to a claim, and to the quota of whoever claims it.
    ///
    /// # Errors
    /// As for [`Sandbox::claim`], or the quota is used up; it is unclaimed then.
    pub async fn claim(
        &self,
        sandbox: &Sandbox,
        claim: ClaimSpec,
        claimant: Claimant,
    ) -> Result<(), SandboxError> {
        let bound = self.bind(sandbox, claim, claimant);
        self.makings().watch(CreateStage::Bind, SandboxError::code, bound).await
    }

    async fn bind(
        &self,
        sandbox: &Sandbox,
        claim: ClaimSpec,
        claimant: Claimant,
    ) -> Result<(), SandboxError> {
        let unclaimed = sandbox.terms().demand();
        let demand = sandbox.terms().claimed(claim.clone(), claimant.clone())?.demand();
        self.inner.registry.exchange(sandbox.id(), demand)?;
        let claimed = sandbox.claim(claim, claimant).await;
        if claimed.is_err()
            && let Err(error) = self.inner.registry.exchange(sandbox.id(), unclaimed)
        {
            // It has ended meanwhile and has given back what it took.
            tracing::debug!(sandbox = %sandbox.id(), %error, "of a claim that failed");
        }
        claimed
    }

    /// Sets what each tenant may have at most; a tenant without an entry is limited by the node alone.
    pub fn set_quotas(&self, quotas: &HashMap<TenantName, Amounts>) {
        self.inner.registry.set_quotas(quotas);
    }

    /// What the node has to give and what is taken of it, by name; no limit where there is `None`.
    #[must_use]
    pub fn usage(&self) -> BTreeMap<String, (f64, Option<f64>)> {
        self.inner.registry.usage()
    }

    /// Told whenever a sandbox gives back what it took.
    #[must_use]
    pub fn freed(&self) -> watch::Receiver<u64> {
        self.inner.registry.freed()
    }

    /// The sandbox with this id.
    ///
    /// # Errors
    /// [`SandboxError`]: it has ended, or there was none.
    pub fn get(&self, id: &SandboxId) -> Result<Sandbox, SandboxError> {
        self.inner.registry.get(id).ok_or_else(|| SandboxError::gone(id, &self.inner.around.endings))
    }

    /// Sandboxes with ids after `after`, sorted by id, that are `wanted`; at most `limit`.
    #[must_use]
    pub fn list(
        &self,
        after: Option<&SandboxId>,
        limit: usize,
        wanted: impl Fn(&Sandbox) -> bool,
    ) -> Vec<SandboxInfo> {
        let page = self.inner.registry.page(after, limit, wanted);
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
        self.end(id, End::deleted()).await
    }

    /// [`delete`](Self::delete) by somebody, for a reason.
    ///
    /// # Errors
    /// As there.
    pub async fn end(&self, id: &SandboxId, end: End) -> Result<(), SandboxError> {
        self.get(id)?.command(|done| Command::Destroy(end, done)).await
    }

    /// How its sandboxes are made.
    #[must_use]
    pub fn makings(&self) -> &Makings {
        self.inner.around.backend.makings()
    }

    /// How a sandbox ended that is no more, and whose it was.
    #[must_use]
    pub fn ended(&self, id: &SandboxId) -> Option<Ended> {
        self.inner.around.endings.find(id)
    }

    /// How the latest sandboxes ended that are no more, in no order.
    #[must_use]
    pub fn endings(&self) -> Vec<Ended> {
        self.inner.around.endings.all()
    }

    /// How many sandboxes have ended since it was started, by cause.
    #[must_use]
    pub fn endings_by_cause(&self) -> BTreeMap<&'static str, u64> {
        self.inner.around.endings.by_cause()
    }

    /// What happens to its sandboxes.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.inner.around.events
    }

    /// There was word of an owner: the leases of all its sandboxes begin anew. Says how many there are.
    #[must_use]
    pub fn renew(&self, tenant: Option<TenantName>, owner: OwnerName) -> usize {
        self.inner.around.owners.renew(&(tenant, owner))
    }

    /// Ends the node: no more sandboxes are made, and those that there are live on or are destroyed. Returns when all
    /// that the node had under way has ended.
    pub async fn shutdown(&self, at_shutdown: AtShutdown) {
        self.inner.closing.cancel();
        self.images().close().await;
        let sandboxes = self.inner.registry.all();
        futures::stream::iter(sandboxes)
            .for_each_concurrent(DESTROY_AT_ONCE, |sandbox| async move {
                match at_shutdown {
                    AtShutdown::Leave => sandbox.leave().await,
                    AtShutdown::Destroy => {
                        let end = End::new(EndCause::NodeEnded, "node", "the node ended and took it along");
                        match sandbox.command(|done| Command::Destroy(end, done)).await {
                            Ok(()) | Err(SandboxError::NotFound(_) | SandboxError::Ended { .. }) => {}
                            Err(error) => {
                                tracing::error!(sandbox = %sandbox.id(), %error, "not all of it was removed");
                            }
                        }
                    }
                }
            })
            .await;
        self.inner.around.tasks.close();
        self.inner.around.tasks.wait().await;
    }
}
