//! What a template's sandboxes are made of: its image or, where it has a setup, the files that this has left.
//!
//! ```text
//! template with a setup ──► snapshot there? ──yes──► sandboxes are made of it
//!                                └──no──► one sandbox of its image ──setup──► snapshot ──► …    once for all who wait
//! ```
//!
//! The snapshot's id says what the template was: another version has another one. Those that no template wants any more
//! go with the last sandbox that is made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::{Either, Shared, WeakShared, select};
use hothouse_domain::{
    Claim, EndCause, ImageRef, PoolName, PoolPlace, SETUP_PREFIX, SnapshotId, TemplateInfo,
};
use hothouse_sandbox::{Claimant, CreateStage, End, NewSandbox, Sandbox, SandboxError, SnapshotUse};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::admission::{Admission, Patience};
use crate::error::FleetError;
use crate::setup;

type Outcome = oneshot::Receiver<Result<Arc<SnapshotUse>, Arc<FleetError>>>;
/// One that is under way, for all who wait for it.
type Running = Shared<Outcome>;

/// The preparations of a node; clones are the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Preparations {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    admission: Admission,
    state: Mutex<State>,
    /// One has ended.
    ended: Notify,
    closing: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct State {
    wanted: BTreeSet<SnapshotId>,
    /// Those that nobody waits for any more are being given up.
    running: BTreeMap<SnapshotId, WeakShared<Outcome>>,
}

/// What a sandbox is to be made of. It stays as long as this does; a sandbox keeps it from when it is reserved.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) image: ImageRef,
    _kept: Option<Arc<SnapshotUse>>,
}

impl Base {
    fn prepared(used: Arc<SnapshotUse>) -> Self {
        Self { image: ImageRef::Snapshot(used.id().clone()), _kept: Some(used) }
    }
}

impl Preparations {
    pub(crate) fn new(admission: Admission) -> Self {
        let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (state, ended) = (Mutex::default(), Notify::new());
        Self { inner: Arc::new(Inner { admission, state, ended, closing, tasks }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the sandboxes of this template are made of. Its setup runs now where it has not; all who ask meanwhile wait
    /// for the same run, and learn of the same failure.
    pub(crate) async fn base(
        &self,
        template: &TemplateInfo,
        pool: &PoolName,
        patience: Patience,
    ) -> Result<Base, FleetError> {
        if template.spec.setup.is_empty() {
            return Ok(Base { image: template.spec.image.clone(), _kept: None });
        }
        let id = snapshot_of(template);
        let running = loop {
            let ended = self.inner.ended.notified();
            {
                let mut state = self.state();
                if let Some(used) = self.inner.admission.node().use_setup(&id) {
                    return Ok(Base::prepared(Arc::new(used)));
                }
                match state.running.get(&id).map(WeakShared::upgrade) {
                    Some(Some(running)) => break running,
                    // It is being given up: the next one begins when nothing is left of it.
                    Some(None) => {}
                    None => {
                        let running = self.start(id.clone(), template.clone(), pool.clone(), patience);
                        state.running.extend(running.downgrade().map(|running| (id, running)));
                        break running;
                    }
                }
            }
            ended.await;
        };
        match running.await {
            Ok(Ok(used)) => Ok(Base::prepared(used)),
            Ok(Err(error)) => Err(FleetError::Preparation(error)),
            Err(_) => Err(SandboxError::ShuttingDown.into()),
        }
    }

    /// It goes on for as long as somebody waits for it.
    fn start(&self, id: SnapshotId, template: TemplateInfo, pool: PoolName, patience: Patience) -> Running {
        let (mut done, running) = oneshot::channel();
        let this = self.clone();
        let span =
            tracing::debug_span!(target: "hothouse_trace", "prepare", hothouse.template = %template.name);
        let task = async move {
            let given_up = this.inner.closing.child_token();
            let made = {
                let prepare = std::pin::pin!(this.prepare(&id, template, pool, patience, given_up.clone()));
                match select(prepare, std::pin::pin!(done.closed())).await {
                    Either::Left((made, _)) => made,
                    Either::Right(((), prepare)) => {
                        given_up.cancel();
                        prepare.await
                    }
                }
            };
            if let Err(error) = &made {
                tracing::warn!(snapshot = %id, %error, "a template's setup");
            }
            this.state().running.remove(&id);
            // Nobody may be waiting any more.
            drop(done.send(made.map(Arc::new).map_err(Arc::new)));
            // The template may have changed meanwhile.
            this.sweep();
            this.inner.ended.notify_waiters();
        };
        self.inner.tasks.spawn(task.instrument(span));
        running.shared()
    }

    /// Waits until nothing is left of those that nobody waits for.
    pub(crate) async fn settle(&self) {
        loop {
            let ended = self.inner.ended.notified();
            if self.state().running.values().all(|running| running.upgrade().is_some()) {
                return;
            }
            ended.await;
        }
    }

    async fn prepare(
        &self,
        id: &SnapshotId,
        template: TemplateInfo,
        pool: PoolName,
        patience: Patience,
        given_up: CancellationToken,
    ) -> Result<SnapshotUse, FleetError> {
        let node = self.inner.admission.node();
        let TemplateInfo { name, version, spec } = template;
        let place = PoolPlace { pool, template: name.clone(), version, claim: Claim::Preparing };
        let new = NewSandbox { spec: spec.sandbox(), pool: Some(place), claimant: Claimant::default() };
        let reserve = || node.reserve(vec![new.clone()]);
        let reserved = tokio::select! {
            reserved = self.inner.admission.admit(patience, reserve) => reserved?.pop(),
            () = given_up.cancelled() => None,
        };
        let sandbox = reserved.ok_or(SandboxError::ShuttingDown)?.make().await?;
        let prepared = match self.set_up(&spec.setup, &sandbox, &given_up).await {
            Ok(()) => node.keep_setup(&sandbox, id.clone(), name.clone()).await.map_err(FleetError::from),
            Err(error) => Err(error),
        };
        let why = if prepared.is_ok() { "its setup is kept as a snapshot" } else { "its setup failed" };
        let end = End::new(EndCause::Pool, format!("template {name}"), why);
        if let Err(error) = node.end(sandbox.id(), end).await {
            tracing::warn!(sandbox = %sandbox.id(), %error, "not removed");
        }
        prepared
    }

    async fn set_up(
        &self,
        setup: &[String],
        sandbox: &Sandbox,
        given_up: &CancellationToken,
    ) -> Result<(), FleetError> {
        let run =
            setup::run(setup, sandbox).instrument(tracing::debug_span!(target: "hothouse_trace", "setup"));
        let makings = self.inner.admission.node().makings();
        tokio::select! {
            done = makings.watch(CreateStage::Setup, FleetError::code, run) => done,
            () = given_up.cancelled() => Err(SandboxError::ShuttingDown.into()),
        }
    }

    /// These are the templates that there are: what others have left goes when nothing is made of it.
    pub(crate) fn want<'a>(&self, templates: impl Iterator<Item = &'a TemplateInfo>) {
        let with_setup = templates.filter(|template| !template.spec.setup.is_empty());
        self.state().wanted = with_setup.map(snapshot_of).collect();
        self.sweep();
    }

    fn sweep(&self) {
        let state = self.state();
        self.inner.admission.node().sweep_setups(&state.wanted);
    }

    /// Gives up what is under way.
    pub(crate) async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

/// The id of the snapshot that a template's setup leaves: the same for the same template.
fn snapshot_of(template: &TemplateInfo) -> SnapshotId {
    let text = serde_json::to_vec(&(&template.name, &template.spec)).expect("a template is JSON");
    let digest: String = Sha256::digest(&text).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{SETUP_PREFIX}{digest}").parse().expect("letters, digits and a dash make an id")
}

#[cfg(test)]
mod tests {
    use hothouse_domain::TemplateSpec;

    use super::*;

    #[test]
    fn the_same_template_has_the_same_snapshot_and_another_has_another() {
        let template = |name: &str, version, command: &str| TemplateInfo {
            name: name.parse().unwrap(),
            version,
            spec: TemplateSpec { setup: vec![command.to_owned()], ..TemplateSpec::default() },
        };
        let first = snapshot_of(&template("a", 1, "true"));
        assert_eq!(first, snapshot_of(&template("a", 3, "true")), "one that is changed back is known");
        assert_ne!(first, snapshot_of(&template("a", 1, "false")));
        assert_ne!(first, snapshot_of(&template("b", 1, "true")));
    }
}
