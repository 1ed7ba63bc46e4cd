//! How sandboxes are made: how long each stage takes, and at which one it fails.
//!
//! A create costs a handful of clock reads for this: the series of every stage are there before the first one.

use std::time::{Duration, Instant};

use hothouse_domain::{ErrorCode, SandboxId};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing::field::Empty;

use crate::terms::Terms;

/// Upper bounds of the buckets, in seconds: a stage takes microseconds, a wait for room minutes.
const BUCKETS: [f64; 16] = [
    0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0,
    30.0, 300.0,
];

/// What happens to a sandbox until it is its owner's. When adding one: here, in [`CreateStage::ALL`], and in
/// [`CreateStage::as_str`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CreateStage {
    /// It gets room, or waits for it; once for a group that is made whole.
    Admission,
    /// Its image is found, and layers that are new are registered with the spawner.
    Image,
    /// Its directory and the socket of its guest are made.
    Directory,
    /// Its order and the report of it are on their way, or wait until the spawner takes them.
    Handover,
    /// It gets a network namespace and control groups.
    Prepare,
    /// Its process is cloned.
    Clone,
    /// Its user ids are mapped, and its layers with them.
    Ids,
    /// Its process mounts, restricts itself and executes the guest.
    Mount,
    /// What a later server needs to find it is written down.
    Record,
    /// Its template's setup runs.
    Setup,
    /// A claim's variables, secrets, labels, limits and lease become its own.
    Bind,
    /// A claim's files are written into it.
    Files,
}

impl CreateStage {
    /// In order.
    pub const ALL: [Self; 12] = [
        Self::Admission,
        Self::Image,
        Self::Directory,
        Self::Handover,
        Self::Prepare,
        Self::Clone,
        Self::Ids,
        Self::Mount,
        Self::Record,
        Self::Setup,
        Self::Bind,
        Self::Files,
    ];

    /// The stage as counters name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Image => "image",
            Self::Directory => "directory",
            Self::Handover => "handover",
            Self::Prepare => "prepare",
            Self::Clone => "clone",
            Self::Ids => "ids",
            Self::Mount => "mount",
            Self::Record => "record",
            Self::Setup => "setup",
            Self::Bind => "bind",
            Self::Files => "files",
        }
    }
}

impl CreateStage {
    /// Where its time stands in the span of a create; the others have spans of their own.
    fn field(self) -> Option<&'static str> {
        match self {
            Self::Image => Some("image_us"),
            Self::Directory => Some("directory_us"),
            Self::Handover => Some("handover_us"),
            Self::Prepare => Some("prepare_us"),
            Self::Clone => Some("clone_us"),
            Self::Ids => Some("ids_us"),
            Self::Mount => Some("mount_us"),
            Self::Record => Some("record_us"),
            Self::Admission | Self::Setup | Self::Bind | Self::Files => None,
        }
    }
}

impl EncodeLabelValue for CreateStage {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: CreateStage,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    stage: CreateStage,
    code: &'static str,
}

/// How long the stages took that only the spawner sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SpawnTimes {
    pub(crate) prepare: Duration,
    pub(crate) clone: Duration,
    pub(crate) ids: Duration,
    pub(crate) mount: Duration,
}

impl SpawnTimes {
    fn stages(self) -> [(CreateStage, Duration); 4] {
        [
            (CreateStage::Prepare, self.prepare),
            (CreateStage::Clone, self.clone),
            (CreateStage::Ids, self.ids),
            (CreateStage::Mount, self.mount),
        ]
    }
}

/// The makings of a node's sandboxes.
#[derive(Debug)]
pub struct Makings {
    stages: Family<StageLabels, Histogram, fn() -> Histogram>,
    /// The same histograms, in the order of [`CreateStage::ALL`].
    by_stage: [Histogram; CreateStage::ALL.len()],
    whole: Histogram,
    failures: Family<FailureLabels, Counter>,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Makings {
    pub(crate) fn new() -> Self {
        let stages = Family::new_with_constructor(histogram as fn() -> Histogram);
        let by_stage = CreateStage::ALL.map(|stage| stages.get_or_create(&StageLabels { stage }).clone());
        Self { stages, by_stage, whole: histogram(), failures: Family::default() }
    }

    /// Has a registry tell of them.
    pub fn register(&self, registry: &mut Registry) {
        let (whole, stages) = (self.whole.clone(), self.stages.clone());
        let help = "Time that sandboxes took to be made, from image to record";
        registry.register_with_unit("create", help, Unit::Seconds, whole);
        let help = "Time that sandboxes spent in each stage until they were their owners'";
        registry.register_with_unit("create_stage", help, Unit::Seconds, stages);
        let help = "Sandboxes that were not made or bound, by the stage that failed and why";
        registry.register("create_failures", help, self.failures.clone());
    }

    /// A stage has ended well.
    pub fn passed(&self, stage: CreateStage, took: Duration) {
        self.by_stage[stage as usize].observe(took.as_secs_f64());
    }

    /// A stage has failed.
    pub fn failed(&self, stage: CreateStage, code: ErrorCode) {
        self.failures.get_or_create(&FailureLabels { stage, code: code.as_str() }).inc();
    }

    /// Runs a stage and notes how long it took, or that it failed.
    ///
    /// # Errors
    /// Those of the stage.
    pub async fn watch<T, E>(
        &self,
        stage: CreateStage,
        code: impl FnOnce(&E) -> ErrorCode,
        run: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let begin = Instant::now();
        let done = run.await;
        match &done {
            Ok(_) => self.passed(stage, begin.elapsed()),
            Err(error) => self.failed(stage, code(error)),
        }
        done
    }

    /// The backend begins to make one.
    pub(crate) fn begin(&self, id: &SandboxId, terms: &Terms) -> Making<'_> {
        // For traces: off where nobody collects them. Of what was sent only names and times may stand here.
        let span = tracing::debug_span!(
            target: "hothouse_trace",
            "create",
            hothouse.sandbox = %id,
            hothouse.tenant = terms.claimant.tenant.as_ref().map(display),
            hothouse.pool = terms.pool.as_ref().map(|place| display(&place.pool)),
            hothouse.template = terms.pool.as_ref().map(|place| display(&place.template)),
            hothouse.error = Empty,
            otel.status_code = Empty,
            image_us = Empty,
            directory_us = Empty,
            handover_us = Empty,
            prepare_us = Empty,
            clone_us = Empty,
            ids_us = Empty,
            mount_us = Empty,
            record_us = Empty,
        );
        let now = Instant::now();
        Making { makings: self, span, stage: CreateStage::Image, begin: now, since: now }
    }
}

/// One sandbox that the backend makes.
#[derive(Debug)]
pub(crate) struct Making<'a> {
    makings: &'a Makings,
    span: Span,
    stage: CreateStage,
    begin: Instant,
    since: Instant,
}

impl Making<'_> {
    /// The stage that it was in is over, and this one begins.
    pub(crate) fn enter(&mut self, next: CreateStage) {
        let now = Instant::now();
        self.passed(self.stage, now - self.since);
        (self.stage, self.since) = (next, now);
    }

    /// The spawner has answered: the time that it did not account for is that of the handover.
    pub(crate) fn spawned(&mut self, times: SpawnTimes) {
        let mut inside = Duration::ZERO;
        for (stage, took) in times.stages() {
            self.passed(stage, took);
            inside += took;
        }
        let now = Instant::now();
        self.passed(CreateStage::Handover, (now - self.since).saturating_sub(inside));
        (self.stage, self.since) = (CreateStage::Record, now);
    }

    /// The spawner has failed at this stage.
    pub(crate) fn failed_at(&mut self, stage: CreateStage) {
        self.stage = stage;
    }

    /// It is made, or not.
    pub(crate) fn ended(self, result: Result<(), ErrorCode>) {
        match result {
            Ok(()) => {
                let now = Instant::now();
                self.passed(self.stage, now - self.since);
                self.makings.whole.observe((now - self.begin).as_secs_f64());
            }
            Err(code) => {
                self.makings.failed(self.stage, code);
                self.span.record("hothouse.error", code.as_str());
                self.span.record("otel.status_code", "ERROR");
            }
        }
    }

    fn passed(&self, stage: CreateStage, took: Duration) {
        self.makings.passed(stage, took);
        if let (Some(field), false) = (stage.field(), self.span.is_disabled()) {
            self.span.record(field, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_is_at_its_place() {
        for (place, stage) in CreateStage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, place, "{stage:?}");
        }
    }

    #[test]
    fn a_failure_is_counted_where_it_happened_and_times_nothing() {
        let makings = Makings::new();
        let mut making = makings.begin(&"sb-1".parse().unwrap(), &Terms::default());
        making.enter(CreateStage::Directory);
        making.enter(CreateStage::Handover);
        making.failed_at(CreateStage::Mount);
        making.ended(Err(ErrorCode::CreateFailed));
        let mut registry = Registry::default();
        makings.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "create_failures_total{stage=\"mount\",code=\"create_failed\"} 1",
            "create_stage_seconds_count{stage=\"directory\"} 1",
            "create_stage_seconds_count{stage=\"handover\"} 0",
            "create_stage_seconds_count{stage=\"mount\"} 0",
            "create_seconds_count 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
