//! Sandboxes for the sessions of one environment: each of its own, a few of them ready before anybody asks.
//!
//! ```text
//! take ──► ready? ──yes──► the session        keeper: make, fit, put by, until there are enough
//!             └────no────► make and fit one
//! Housing dropped (session closed, client gone, episode over) ──► the sandbox ends, in the background
//! ```
//!
//! They carry the environment's name in what the node remembers of them, so that a server that is killed is followed by
//! one that ends them: their sessions ended with it.

mod keeper;
mod traces;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use hothouse_domain::{EndCause, ErrorCode, ForkSpec, FrozenBy, RestoreSpec, SandboxPhase, SandboxSpec};
use hothouse_fleet::{Asked, Fleet, FleetError, Patience};
use hothouse_sandbox::{End, Sandbox, SandboxError};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::game::Failed;
use crate::instance::OpenError;
use crate::session::StepError;
use traces::Traces;

/// How long a session waits for room on a full node, in seconds.
const PATIENCE_S: f64 = 5.0;

/// What a sandbox needs before a session can begin in it.
pub trait Fitting: Send + Sync + std::fmt::Debug {
    /// Puts it in.
    fn fit<'a>(&'a self, sandbox: &'a Sandbox) -> BoxFuture<'a, Result<(), SandboxError>>;
}

/// When sandboxes are kept ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stocked {
    /// From the start on.
    Always,
    /// From the first session on, until none was opened for so long.
    WhileUsed(Duration),
}

/// Which sandboxes, and how many of them are kept ready.
#[derive(Debug, Clone)]
pub struct SandboxesOptions {
    /// The environment that they are for.
    pub environment: String,
    /// What they are made from.
    pub spec: SandboxSpec,
    /// What they need.
    pub fitting: Arc<dyn Fitting>,
    /// So many are kept ready.
    pub warm: usize,
    /// When.
    pub stocked: Stocked,
}

/// The sandboxes of one environment; clones are the same. They end with [`Sandboxes::close`].
#[derive(Debug, Clone)]
pub struct Sandboxes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fleet: Fleet,
    options: SandboxesOptions,
    ready: Mutex<VecDeque<Housing>>,
    /// Told when one was taken.
    taken: Notify,
    used: Mutex<Instant>,
    is_kept: AtomicBool,
    closing: CancellationToken,
    /// The keeper, and ends that are under way.
    tasks: TaskTracker,
    runtime: Handle,
    names: AtomicU64,
}

/// Where the files of a sandbox come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Image,
    Fork,
}

/// A sandbox that is fitted for a session, or for several forks of one. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Housing {
    home: Sandboxes,
    sandbox: Sandbox,
    origin: Origin,
    /// What was in it once it was fitted.
    traces: Option<Traces>,
}

impl Sandboxes {
    /// Nothing is made yet, unless they are [`Stocked::Always`].
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    #[must_use]
    pub fn new(fleet: Fleet, options: SandboxesOptions) -> Self {
        let mut options = options;
        options.spec.labels.insert("environment".to_owned(), options.environment.clone());
        let stocked = options.stocked;
        let sandboxes = Self(Arc::new(Inner {
            fleet,
            options,
            ready: Mutex::default(),
            taken: Notify::new(),
            used: Mutex::new(Instant::now()),
            is_kept: AtomicBool::new(false),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            names: AtomicU64::new(0),
        }));
        if stocked == Stocked::Always {
            sandboxes.keep();
        }
        sandboxes
    }

    /// One that is fitted: a ready one, or else one that is made now.
    pub(crate) async fn take(&self) -> Result<Housing, OpenError> {
        let told = |message: String| OpenError { message, traceback: None };
        if self.0.closing.is_cancelled() {
            return Err(told("the server is shutting down".to_owned()));
        }
        *self.0.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.keep();
        self.0.taken.notify_one();
        loop {
            let Some(housing) = self.ready().pop_front() else { break };
            if housing.is_alive() {
                return Ok(housing);
            }
        }
        // Boxed, as what is rarely needed is: it would be a part of every step.
        Box::pin(self.make()).await.map_err(|error| told(error.to_string()))
    }

    fn ready(&self) -> MutexGuard<'_, VecDeque<Housing>> {
        self.0.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> Asked {
        let patience = Patience::new(PATIENCE_S, 0).unwrap_or_default();
        Asked { patience, environment: Some(self.0.options.environment.clone()), ..Asked::default() }
    }

    async fn make(&self) -> Result<Housing, FleetError> {
        let (sandbox, _) = self.0.fleet.create(self.0.options.spec.clone(), self.asked()).await?;
        // From here on it ends with this, should the making be given up.
        let mut housing = Housing { home: self.clone(), sandbox, origin: Origin::Image, traces: None };
        self.0.options.fitting.fit(&housing.sandbox).await?;
        housing.traces = Some(Traces::of(self.0.fleet.node(), &housing.sandbox).await?);
        Ok(housing)
    }

    /// A name that nothing else in these sandboxes has.
    pub(crate) fn fresh_name(&self) -> String {
        format!("session-{}", self.0.names.fetch_add(1, Ordering::Relaxed))
    }

    /// Does something that its session does not wait for.
    pub(crate) fn in_background(&self, doing: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn_on(doing, &self.0.runtime);
    }

    /// Ends all of them, those in use too; returns when nothing of them is left.
    pub async fn close(&self) {
        self.0.closing.cancel();
        drop(std::mem::take(&mut *self.ready()));
        let name = &self.0.options.environment;
        let mut all = self.0.fleet.node().all();
        all.retain(|sandbox| sandbox.terms().claimant.environment.as_ref() == Some(name));
        let end = End::new(EndCause::Session, format!("environment {name}"), "the server ended");
        for failed in self.0.fleet.end_many(all, &end).await.failures {
            tracing::error!(sandbox = ?failed.id, detail = failed.problem.detail, "of a session that is over");
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Housing {
    /// The sandbox.
    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// What it is one of.
    pub(crate) fn home(&self) -> &Sandboxes {
        &self.home
    }

    fn is_alive(&self) -> bool {
        let phase = self.sandbox.watch_phase().borrow().clone();
        matches!(phase, SandboxPhase::Running | SandboxPhase::Frozen { by: FrozenBy::Pressure })
    }

    /// Whether nothing is in it but what it was fitted with: no file, no process, no shared memory. What cannot be seen
    /// counts as something.
    pub(crate) async fn is_untouched(&self) -> bool {
        let Some(before) = self.traces.as_ref().filter(|traces| traces.tell_all()) else { return false };
        match Traces::of(self.home.0.fleet.node(), &self.sandbox).await {
            Ok(now) => now == *before,
            Err(error) => {
                tracing::debug!(sandbox = %self.sandbox.id(), %error, "what is left in it cannot be seen");
                false
            }
        }
    }

    /// Sets it back to what it is made of and fits it again; false where that cannot be.
    pub(crate) async fn restore(&self) -> bool {
        if self.origin == Origin::Fork {
            return false;
        }
        let node = self.home.0.fleet.node();
        let restored = async {
            node.restore(&self.sandbox, RestoreSpec::default(), None).await?;
            self.home.0.options.fitting.fit(&self.sandbox).await
        };
        match restored.await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(sandbox = %self.sandbox.id(), %error, "not set back; another one takes its place");
                false
            }
        }
    }

    /// Another one with the same files, fitted; no process of this one is in it.
    pub(crate) async fn fork(&self) -> Result<Self, StepError> {
        let home = self.home.clone();
        let forking = home.0.fleet.fork(self.sandbox.clone(), ForkSpec::default(), home.asked());
        let forked = Box::pin(forking).await;
        let (sandbox, _) = forked.map_err(|error| match error {
            FleetError::Sandbox(error) => step_error(&error),
            other => Failed::new(other.to_string()).into(),
        })?;
        let fork = Self { home, sandbox, origin: Origin::Fork, traces: None };
        fork.home.0.options.fitting.fit(&fork.sandbox).await.map_err(|error| step_error(&error))?;
        Ok(fork)
    }
}

impl Drop for Housing {
    fn drop(&mut self) {
        let (home, sandbox) = (self.home.clone(), self.sandbox.clone());
        self.home.in_background(async move {
            let by = format!("environment {}", home.0.options.environment);
            let end = End::new(EndCause::Session, by, "its session or its episode is over");
            match home.0.fleet.node().end(sandbox.id(), end).await {
                Ok(()) | Err(SandboxError::Ended { .. } | SandboxError::NotFound(_)) => {}
                Err(error) => tracing::error!(sandbox = %sandbox.id(), %error, "not removed"),
            }
        });
    }
}

/// What an error of a sandbox is for its session.
pub(crate) fn step_error(error: &SandboxError) -> StepError {
    match error.code() {
        ErrorCode::SandboxNotFound
        | ErrorCode::SandboxEnded
        | ErrorCode::SandboxDead
        | ErrorCode::ShuttingDown => StepError::Lost(error.to_string()),
        _ => Failed::new(error.to_string()).into(),
    }
}
