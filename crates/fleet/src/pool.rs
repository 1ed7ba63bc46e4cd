//! One pool: what it has ready, and the keeper task that keeps it so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hothouse_domain::{
    Claim, ClaimSpec, EndCause, Invalid, PoolInfo, PoolName, PoolPhase, PoolPlace, PoolSize, PoolSpec,
    SandboxPhase, SandboxSpec, TemplateInfo,
};
use hothouse_sandbox::{Claimant, CreateStage, End, NewSandbox, Node, Reserved, Sandbox, SandboxError};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::field::{Empty, display};
use tracing::{Instrument as _, Span};

use crate::admission::{Admission, Patience};
use crate::binding::Files;
use crate::demand::Demand;
use crate::error::FleetError;
use crate::plan::{Action, Desired, Memory, Observed, plan};
use crate::preparation::Preparations;
use crate::shelf::PoolRecord;

/// How often the keeper looks although nothing has happened: demand wanes, sandboxes die.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A refill waits until there was no claim for so long: who has just claimed a sandbox is about to use it.
const YIELD: Duration = Duration::from_millis(10);
/// Waits after a sandbox that could not be made, doubled with each in a row up to the second.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// A pool; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    node: Node,
    admission: Admission,
    preparations: Preparations,
    contents: Mutex<Contents>,
    /// Something has changed that the keeper may act on.
    changed: Notify,
    /// The keeper ends, and what is made from now on is not kept.
    closing: CancellationToken,
    tasks: TaskTracker,
    began: Instant,
}

#[derive(Debug)]
struct Contents {
    spec: PoolSpec,
    phase: PoolPhase,
    template: TemplateInfo,
    /// The oldest first. All of them are unclaimed.
    ready: VecDeque<Sandbox>,
    making: u32,
    /// Claims whose sandbox is being made for them alone.
    waiting: u32,
    demand: Demand,
    hits: u64,
    misses: u64,
    failures: u64,
    failures_in_a_row: u32,
    last_failure: Option<String>,
    /// No refill before this.
    rest_until: Option<Instant>,
    /// When a ready one was given away last.
    given_at: Option<Instant>,
}

impl Pool {
    /// A pool with what an earlier server left ready for it. Its keeper runs until the pool is closed.
    pub(crate) fn start(
        preparations: Preparations,
        admission: Admission,
        record: PoolRecord,
        template: TemplateInfo,
        ready: Vec<Sandbox>,
    ) -> Self {
        let contents = Contents {
            spec: record.spec,
            phase: record.phase,
            template,
            ready: ready.into(),
            making: 0,
            waiting: 0,
            demand: Demand::default(),
            hits: 0,
            misses: 0,
            failures: 0,
            failures_in_a_row: 0,
            last_failure: None,
            rest_until: None,
            given_at: None,
        };
        let pool = Self {
            inner: Arc::new(Inner {
                node: admission.node().clone(),
                admission,
                preparations,
                contents: Mutex::new(contents),
                changed: Notify::new(),
                closing: CancellationToken::new(),
                tasks: TaskTracker::new(),
                began: Instant::now(),
            }),
        };
        pool.inner.tasks.spawn(pool.clone().keep());
        pool
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.inner.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept of it.
    pub(crate) fn record(&self) -> PoolRecord {
        let contents = self.contents();
        PoolRecord { spec: contents.spec.clone(), phase: contents.phase }
    }

    /// As listings show it.
    pub(crate) fn info(&self) -> PoolInfo {
        let name = self.contents().spec.name.clone();
        let claimed = self.inner.node.count(|terms| {
            terms.pool.as_ref().is_some_and(|place| place.pool == name && place.claim == Claim::Claimed)
        });
        let contents = self.contents();
        PoolInfo {
            spec: contents.spec.clone(),
            phase: contents.phase,
            template_version: contents.template.version,
            ready: count(contents.ready.len()),
            making: contents.making,
            claimed: count(claimed),
            hits: contents.hits,
            misses: contents.misses,
            failures: contents.failures,
            last_failure: contents.last_failure.clone(),
        }
    }

    /// Keeps another number ready.
    pub(crate) fn scale(&self, size: PoolSize) {
        let mut contents = self.contents();
        contents.spec.min = size.min;
        contents.spec.max = size.max;
        drop(contents);
        self.inner.changed.notify_one();
    }

    /// Makes none and gives none any more.
    pub(crate) fn drain(&self) {
        self.contents().phase = PoolPhase::Draining;
        self.inner.changed.notify_one();
    }

    /// Makes sandboxes of another version; those of the old one go.
    pub(crate) fn set_template(&self, template: TemplateInfo) {
        let mut contents = self.contents();
        contents.template = template;
        // It may be the cure.
        contents.rest_until = None;
        drop(contents);
        self.inner.changed.notify_one();
    }

    /// Gives a sandbox: one that is ready, or else one that is made now. A caller that goes away leaves none claimed.
    pub(crate) async fn claim(
        &self,
        claim: ClaimSpec,
        claimant: Claimant,
        patience: Patience,
    ) -> Result<Sandbox, FleetError> {
        let (given, taken) = oneshot::channel();
        let pool = self.clone();
        let left = CancellationToken::new();
        let _leaves = left.clone().drop_guard();
        // For traces: off where nobody collects them. Of what was sent only names may stand here.
        let span = tracing::debug_span!(
            target: "hothouse_trace",
            "claim",
            hothouse.pool = %self.name(),
            hothouse.template = Empty,
            hothouse.tenant = claimant.tenant.as_ref().map(display),
            hothouse.sandbox = Empty,
            hothouse.claim = Empty,
        );
        let give = async move {
            let result = pool.give(claim, claimant, patience, left).await;
            if let Err(Ok(sandbox)) = given.send(result) {
                let why = "who claimed it went away before the answer";
                pool.remove(sandbox, EndCause::Abandoned, why).await;
            }
        };
        self.inner.tasks.spawn(give.instrument(span));
        taken.await.unwrap_or(Err(SandboxError::ShuttingDown.into()))
    }

    async fn give(
        &self,
        mut claim: ClaimSpec,
        claimant: Claimant,
        patience: Patience,
        left: CancellationToken,
    ) -> Result<Sandbox, FleetError> {
        claim.validate()?;
        let files = Files::of(std::mem::take(&mut claim.files))?;
        let sandbox = self.bind(claim, claimant, patience, left).await?;
        Span::current().record("hothouse.sandbox", display(sandbox.id()));
        if files.is_empty() {
            return Ok(sandbox);
        }
        let makings = self.inner.node.makings();
        match makings.watch(CreateStage::Files, SandboxError::code, files.write(&sandbox)).await {
            Ok(()) => Ok(sandbox),
            Err(error) => {
                // Half of what was asked for is nothing that a caller could use.
                self.remove(sandbox, EndCause::Pool, "the claim's files could not be written").await;
                Err(error.into())
            }
        }
    }

    async fn bind(
        &self,
        claim: ClaimSpec,
        claimant: Claimant,
        patience: Patience,
        left: CancellationToken,
    ) -> Result<Sandbox, FleetError> {
        let (mut spec, place, template) = {
            let mut contents = self.contents();
            if contents.phase == PoolPhase::Draining {
                return Err(FleetError::Draining(contents.spec.name.clone()));
            }
            let spec = bound(&contents.template, &claim)?;
            // Before any is taken: a claim that cannot be bound costs nobody a sandbox.
            spec.validate()?;
            Span::current().record("hothouse.template", display(&contents.template.name));
            let now = self.second();
            contents.demand.note(now);
            (spec, place(&contents, Claim::Claimed), contents.template.clone())
        };
        while let Some(sandbox) = self.take_ready() {
            match self.inner.node.claim(&sandbox, claim.clone(), claimant.clone()).await {
                Ok(()) => {
                    self.contents().hits += 1;
                    Span::current().record("hothouse.claim", "hit");
                    return Ok(sandbox);
                }
                // No other one would do better, and this one is as good as before.
                Err(error) if is_of_the_claim(&error) || is_of_the_disk(&error) => {
                    self.contents().ready.push_front(sandbox);
                    self.inner.changed.notify_one();
                    return Err(error.into());
                }
                // It died in the meantime: the next one may do.
                Err(error) => {
                    tracing::warn!(sandbox = %sandbox.id(), %error, "a ready sandbox could not be claimed");
                    self.inner.tasks.spawn(self.clone().removed(sandbox, "it could not be claimed"));
                }
            }
        }
        let waiting = Waiting::new(self);
        Span::current().record("hothouse.claim", "miss");
        let made = async {
            let base = self.inner.preparations.base(&template, &place.pool, patience).await?;
            spec.image = base.image.clone();
            let new = NewSandbox { spec, pool: Some(place), claimant };
            let reserve = || self.inner.node.reserve(vec![new.clone()]);
            let reserved = self.inner.admission.admit(patience, reserve).await?.pop();
            Ok::<Reserved, FleetError>(reserved.ok_or(SandboxError::ShuttingDown)?)
        };
        let reserved = tokio::select! {
            reserved = made => reserved?,
            // Nobody is left who would wait.
            () = left.cancelled() => return Err(SandboxError::ShuttingDown.into()),
        };
        let made = reserved.make().await;
        drop(waiting);
        Ok(made?)
    }

    /// Makes one that waits for a claim.
    async fn make_ready(&self, template: &TemplateInfo, place: PoolPlace) -> Result<Sandbox, FleetError> {
        let base = self.inner.preparations.base(template, &place.pool, Patience::default());
        let base = tokio::select! {
            base = base => base?,
            () = self.inner.closing.cancelled() => return Err(SandboxError::ShuttingDown.into()),
        };
        let spec = SandboxSpec { image: base.image.clone(), ..template.spec.sandbox() };
        let new = NewSandbox { spec, pool: Some(place), claimant: Claimant::default() };
        Ok(self.inner.node.create_for(new).await?)
    }

    /// The oldest one of the latest version.
    fn take_ready(&self) -> Option<Sandbox> {
        let mut contents = self.contents();
        let version = contents.template.version;
        let at = contents.ready.iter().position(|sandbox| is_usable(sandbox, version))?;
        let sandbox = contents.ready.remove(at);
        contents.given_at = Some(Instant::now());
        drop(contents);
        self.inner.changed.notify_one();
        sandbox
    }

    /// The keeper: observes, plans, obeys.
    async fn keep(self) {
        loop {
            for action in self.look() {
                match action {
                    Action::Make(n) => (0..n).for_each(|_| drop(self.inner.tasks.spawn(self.clone().make()))),
                    Action::Retire(n) => self.retire(n),
                    Action::RetireOutdated => self.retire_outdated(),
                }
            }
            let pause = self.yields().unwrap_or(LOOK_EVERY);
            tokio::select! {
                () = self.inner.closing.cancelled() => return,
                () = self.inner.changed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// How long a refill yields yet to those who have just claimed; not where half of what should be ready is gone.
    fn yields(&self) -> Option<Duration> {
        let contents = self.contents();
        let low = count(contents.ready.len()) < contents.spec.min.div_ceil(2);
        if low || contents.waiting > 0 {
            return None;
        }
        let left = YIELD.checked_sub(contents.given_at?.elapsed())?;
        (!left.is_zero()).then_some(left)
    }

    /// What to do now. What is to be made counts as being made from here on.
    fn look(&self) -> Vec<Action> {
        let second = self.second();
        // Room that somebody waits for is not for us.
        let room = if self.inner.admission.is_awaited() { 0 } else { self.inner.node.room() };
        let memory = if self.inner.node.is_short_of_memory() { Memory::Short } else { Memory::Enough };
        let yields = self.yields().is_some();
        let mut contents = self.contents();
        let version = contents.template.version;
        let usable = contents.ready.iter().filter(|sandbox| is_usable(sandbox, version)).count();
        let rests = contents.rest_until.is_some_and(|until| Instant::now() < until);
        let observed = Observed {
            ready: count(usable),
            outdated: count(contents.ready.len() - usable),
            making: contents.making,
            demand: contents.demand.of_late(second),
            makers: if rests || yields || self.inner.closing.is_cancelled() { 0 } else { makers() },
            room: count(room),
            waiting: contents.waiting,
            memory,
        };
        let actions = plan(Desired { size: contents.spec.size(), phase: contents.phase }, observed);
        for action in &actions {
            if let Action::Make(n) = action {
                contents.making += n;
            }
        }
        actions
    }

    async fn make(self) {
        let (template, place) = {
            let contents = self.contents();
            (contents.template.clone(), place(&contents, Claim::Ready))
        };
        let made = self.make_ready(&template, place).await;
        let mut unwanted = None;
        {
            let mut contents = self.contents();
            contents.making -= 1;
            match made {
                // Those of an old version, or too many, are retired by the keeper's next look.
                Ok(sandbox) if !self.inner.closing.is_cancelled() => {
                    contents.ready.push_back(sandbox);
                    contents.failures_in_a_row = 0;
                    contents.last_failure = None;
                }
                Ok(sandbox) => unwanted = Some(sandbox),
                Err(error) => {
                    tracing::warn!(pool = %contents.spec.name, %error, "refilling");
                    contents.failures += 1;
                    contents.last_failure = Some(error.to_string());
                    let rest = PATIENCE.0.saturating_mul(1 << contents.failures_in_a_row.min(16));
                    contents.failures_in_a_row += 1;
                    contents.rest_until = Some(Instant::now() + rest.min(PATIENCE.1));
                }
            }
        }
        self.inner.changed.notify_one();
        if let Some(sandbox) = unwanted {
            self.remove(sandbox, EndCause::Pool, "the pool was closed meanwhile").await;
        }
    }

    fn retire(&self, n: u32) {
        for _ in 0..n {
            let Some(sandbox) = self.take_ready() else { return };
            self.inner.tasks.spawn(self.clone().removed(sandbox, "the pool keeps fewer ready"));
        }
    }

    fn retire_outdated(&self) {
        let outdated: Vec<Sandbox> = {
            let mut contents = self.contents();
            let version = contents.template.version;
            let (kept, outdated) = std::mem::take(&mut contents.ready)
                .into_iter()
                .partition(|sandbox| is_usable(sandbox, version));
            contents.ready = kept;
            Vec::from(outdated)
        };
        for sandbox in outdated {
            let why = "it is dead, or of an older version of the template";
            self.inner.tasks.spawn(self.clone().removed(sandbox, why));
        }
    }

    async fn removed(self, sandbox: Sandbox, why: &'static str) {
        self.remove(sandbox, EndCause::Pool, why).await;
        // There is room again.
        self.inner.changed.notify_one();
    }

    async fn remove(&self, sandbox: Sandbox, cause: EndCause, why: &str) {
        let end = End::new(cause, format!("pool {}", self.name()), why);
        if let Err(error) = self.inner.node.end(sandbox.id(), end).await {
            tracing::warn!(sandbox = %sandbox.id(), %error, "not removed");
        }
    }

    /// Ends the keeper and waits for what is under way; what is ready stays for the next server.
    pub(crate) async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Closes it and removes what is ready.
    pub(crate) async fn empty(&self) {
        self.close().await;
        let ready = std::mem::take(&mut self.contents().ready);
        for sandbox in ready {
            self.remove(sandbox, EndCause::Pool, "the pool was deleted").await;
        }
    }

    fn name(&self) -> PoolName {
        self.contents().spec.name.clone()
    }

    fn second(&self) -> u64 {
        self.inner.began.elapsed().as_secs()
    }
}

/// Counts a claim that waits for as long as this lives: it may end anywhere.
struct Waiting<'a>(&'a Pool);

impl<'a> Waiting<'a> {
    fn new(pool: &'a Pool) -> Self {
        let mut contents = pool.contents();
        contents.misses += 1;
        contents.waiting += 1;
        drop(contents);
        Self(pool)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.contents().waiting -= 1;
        self.0.inner.changed.notify_one();
    }
}

/// True where the disk is full, whichever sandbox it is about.
fn is_of_the_disk(error: &SandboxError) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error, SandboxError::Remember { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
}

/// What a claim asks for that no sandbox of this pool can be, for this tenant or on this machine.
fn is_of_the_claim(error: &SandboxError) -> bool {
    matches!(error, SandboxError::QuotaUsedUp { .. } | SandboxError::Invalid(_) | SandboxError::Limit { .. })
}

/// A sandbox that may be given to a claim.
fn is_usable(sandbox: &Sandbox, version: u64) -> bool {
    let terms = sandbox.terms();
    let place = terms.pool.as_ref();
    place.is_some_and(|place| place.version == version && place.claim == Claim::Ready)
        && *sandbox.watch_phase().borrow() == SandboxPhase::Running
}

fn place(contents: &Contents, claim: Claim) -> PoolPlace {
    let TemplateInfo { name, version, .. } = contents.template.clone();
    PoolPlace { pool: contents.spec.name.clone(), template: name, version, claim }
}

/// A sandbox of this template as this claim wants it.
fn bound(template: &TemplateInfo, claim: &ClaimSpec) -> Result<SandboxSpec, Invalid> {
    let mut spec = template.spec.sandbox();
    spec.env.extend(claim.env.clone());
    spec.labels.extend(claim.labels.clone());
    spec.lease = claim.lease.clone().or(&spec.lease);
    spec.secrets.extend(claim.secrets.clone());
    if let Some(change) = claim.resources {
        spec.resources = change.over(&spec.resources)?;
    }
    Ok(spec)
}

/// Sandboxes that a pool makes at once: half of the cores are left to those who use some.
fn makers() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| count(cores.get() / 2).max(1))
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
