//! A handle to one live sandbox.

mod claim;
mod contexts;
mod dials;
mod execs;
mod files;
mod leases;
mod owner;
mod relief;
mod requests;
mod shells;
mod snapshots;

use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use futures::Stream;
use hothouse_domain::{Capabilities, Ending, SandboxId, SandboxInfo, SandboxPhase, SandboxStats, Secret};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::endings::Endings;
use crate::events::Events;
use crate::lease::Owners;
use crate::link::{LinkCache, LinkPlace};
use crate::native::{NativeBackend, Running};
use crate::phase::Gate;
use crate::pressure::Pressure;
use crate::snapshot::SnapshotUse;
use crate::terms::Terms;

pub(crate) use owner::{Command, Origin};
pub(crate) use relief::Relief;

pub(crate) use snapshots::{NewSnapshot, Over};

pub(crate) use requests::{Attempt, cut_short, strange, unexpected};

/// What happens to an exec's standard input after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterStdin {
    /// It stays open.
    KeepOpen,
    /// It ends.
    Close,
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalTarget {
    /// The process that the exec started.
    Leader,
    /// That process and all its descendants.
    Tree,
}

/// How to write a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Permission bits; those of the file that is replaced, or 0o644, when absent.
    pub mode: Option<u32>,
    /// Refuse unless the content's SHA-256 is this.
    pub sha256: Option<[u8; 32]>,
}

/// Bounds on an archive that is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Entries.
    pub max_entries: u64,
    /// Bytes of content.
    pub max_bytes: u64,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self { max_entries: 100_000, max_bytes: 4 << 30 }
    }
}

/// Content that flows into a sandbox.
pub trait Content: Stream<Item = std::io::Result<Bytes>> + Send + Unpin {}
impl<S: Stream<Item = std::io::Result<Bytes>> + Send + Unpin> Content for S {}

/// A handle to one sandbox; clones are handles to the same one. Dropping handles does not end it.
#[derive(Debug, Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

/// What the sandboxes of a node share.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) backend: NativeBackend,
    pub(crate) links: LinkCache,
    pub(crate) tasks: TaskTracker,
    pub(crate) endings: Endings,
    pub(crate) events: Events,
    pub(crate) owners: Owners,
    pub(crate) pressure: Pressure,
}

#[derive(Debug)]
struct Inner {
    id: SandboxId,
    /// Replaced as a whole when it is claimed.
    terms: Mutex<Arc<Terms>>,
    /// Set when it has been made.
    created_at: OnceLock<jiff::Timestamp>,
    /// Set when its end begins.
    ending: OnceLock<Ending>,
    /// Seconds; set when it has been made.
    create_s: OnceLock<f64>,
    gate: Arc<Gate>,
    commands: mpsc::Sender<Command>,
    /// Taken by destroy.
    running: tokio::sync::RwLock<Option<Running>>,
    link: LinkPlace,
    /// Told when its guest says nothing though it was asked.
    silence: Arc<Notify>,
    /// The snapshot that it is made of.
    image_use: Mutex<Option<SnapshotUse>>,
    /// Told when it was claimed with a lease.
    leased: Notify,
    /// One connects, the others wait for its link.
    connecting: tokio::sync::Mutex<()>,
    around: Arc<Surroundings>,
}

/// Requests that may wait for the owner.
const COMMANDS: usize = 8;

impl Sandbox {
    /// A sandbox that its owner task, which reads the commands, is yet to make.
    pub(crate) fn new(
        id: SandboxId,
        terms: Terms,
        around: Arc<Surroundings>,
    ) -> (Self, mpsc::Receiver<Command>) {
        Self::in_phase(SandboxPhase::Creating, id, terms, around, None)
    }

    /// A sandbox that an earlier node made. Whoever gets this handle finds it as it is: there is no moment in which it
    /// seems not to be there yet.
    pub(crate) fn adopted(
        running: Running,
        terms: Terms,
        around: Arc<Surroundings>,
    ) -> (Self, mpsc::Receiver<Command>) {
        let phase = if running.is_frozen() {
            SandboxPhase::Frozen { by: terms.frozen_by.unwrap_or_default() }
        } else {
            SandboxPhase::Running
        };
        Self::in_phase(phase, running.id().clone(), terms, around, Some(running))
    }

    fn in_phase(
        phase: SandboxPhase,
        id: SandboxId,
        terms: Terms,
        around: Arc<Surroundings>,
        running: Option<Running>,
    ) -> (Self, mpsc::Receiver<Command>) {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let inner = Inner {
            id,
            terms: Mutex::new(Arc::new(terms)),
            created_at: running.as_ref().map_or_else(OnceLock::new, |running| running.created_at().into()),
            ending: OnceLock::new(),
            create_s: OnceLock::new(),
            gate: Gate::new(phase),
            commands,
            running: tokio::sync::RwLock::new(running),
            link: Arc::new(Mutex::new(None)),
            silence: Arc::new(Notify::new()),
            image_use: Mutex::new(None),
            leased: Notify::new(),
            connecting: tokio::sync::Mutex::new(()),
            around,
        };
        (Self { inner: Arc::new(inner) }, inbox)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &SandboxId {
        &self.inner.id
    }

    /// What it is and where it is in its life.
    #[must_use]
    pub fn info(&self) -> SandboxInfo {
        let inner = &*self.inner;
        let terms = self.terms();
        let mut spec = terms.spec.clone();
        for value in spec.env.values_mut() {
            Secret::MASK.clone_into(value);
        }
        for secret in spec.secrets.values_mut() {
            *secret = Secret::masked();
        }
        SandboxInfo {
            id: inner.id.clone(),
            phase: inner.gate.phase(),
            spec,
            created_at: inner.created_at.get().copied().unwrap_or_else(jiff::Timestamp::now).to_string(),
            pool: terms.pool.clone(),
            group: terms.claimant.group.as_ref().map(|member| member.group.clone()),
            tenant: terms.claimant.tenant.clone(),
            create_s: inner.create_s.get().copied().unwrap_or_default(),
            isolation: self.isolation().clone(),
        }
    }

    /// What it uses now. Reads a few small files.
    pub async fn stats(&self) -> SandboxStats {
        let running = self.inner.running.read().await;
        self.stats_of(running.as_ref())
    }

    /// [`stats`](Self::stats) without waiting: one that is being claimed or destroyed at this moment has no figures.
    #[must_use]
    pub fn stats_now(&self) -> SandboxStats {
        let running = self.inner.running.try_read().ok();
        self.stats_of(running.as_ref().and_then(|running| running.as_ref()))
    }

    #[expect(clippy::cast_precision_loss, reason = "microseconds of years are below 2^52")]
    fn stats_of(&self, running: Option<&Running>) -> SandboxStats {
        let usage = running.map(Running::usage).unwrap_or_default();
        SandboxStats {
            id: self.inner.id.clone(),
            phase: self.inner.gate.phase(),
            cpu_s: usage.cpu_us.map(|us| us as f64 / 1e6),
            memory_bytes: usage.memory_bytes,
            processes: usage.processes.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
        }
    }

    /// Where it is in its life, now and whenever that changes.
    #[must_use]
    pub fn watch_phase(&self) -> watch::Receiver<SandboxPhase> {
        self.inner.gate.watch()
    }

    /// What its backend enforces for it.
    #[must_use]
    pub fn isolation(&self) -> &Capabilities {
        self.inner.around.backend.capabilities()
    }

    /// True when it has all these labels.
    #[must_use]
    pub fn has_labels(&self, labels: &[(String, String)]) -> bool {
        let terms = self.terms();
        labels.iter().all(|(name, value)| terms.spec.labels.get(name) == Some(value))
    }
}
