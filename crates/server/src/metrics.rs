//! What the server counts, in the Prometheus text format.

mod memory;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use hothouse_domain::{ErrorCode, ExecResult, Outcome, PoolInfo, SandboxPhase};
use hothouse_fleet::QueueInfo;
use hothouse_sandbox::Node;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use self::memory::MemoryMetrics;
use crate::app::App;
use crate::problem::Refusal;

/// Upper bounds of the latency buckets, in seconds.
const LATENCY_BUCKETS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];

/// A label value that lives as long as the program, so that counting copies no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Name(&'static str);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: Name,
    route: Name,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: Name,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: Name,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: Name,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: Name,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    pool: String,
}

/// What the pools say of themselves, taken over whenever somebody asks.
#[derive(Debug, Default)]
struct PoolMetrics {
    ready: Family<PoolLabels, Gauge>,
    making: Family<PoolLabels, Gauge>,
    claimed: Family<PoolLabels, Gauge>,
    hits: Family<PoolLabels, Counter>,
    misses: Family<PoolLabels, Counter>,
    failures: Family<PoolLabels, Counter>,
}

impl PoolMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("pool_ready", "Sandboxes that wait for a claim", self.ready.clone());
        registry.register("pool_making", "Sandboxes in the making", self.making.clone());
        registry.register("pool_claimed", "Sandboxes that were claimed and are alive", self.claimed.clone());
        registry.register("pool_hits", "Claims that got a ready sandbox", self.hits.clone());
        registry.register("pool_misses", "Claims that found none ready", self.misses.clone());
        registry.register("pool_failures", "Sandboxes that could not be made", self.failures.clone());
    }

    /// Starts from nothing each time: a pool that is gone leaves no figures behind.
    fn take_over(&self, pools: &[PoolInfo]) {
        for gauges in [&self.ready, &self.making, &self.claimed] {
            gauges.clear();
        }
        for counters in [&self.hits, &self.misses, &self.failures] {
            counters.clear();
        }
        for info in pools {
            let labels = PoolLabels { pool: info.spec.name.to_string() };
            self.ready.get_or_create(&labels).set(info.ready.into());
            self.making.get_or_create(&labels).set(info.making.into());
            self.claimed.get_or_create(&labels).set(info.claimed.into());
            self.hits.get_or_create(&labels).inc_by(info.hits);
            self.misses.get_or_create(&labels).inc_by(info.misses);
            self.failures.get_or_create(&labels).inc_by(info.failures);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AmountLabels {
    of: String,
}

/// Who waits for room, and what is taken of the node.
#[derive(Debug, Default)]
struct QueueMetrics {
    turn: Mutex<()>,
    waiting: Gauge,
    admitted: Counter,
    waited: Counter<f64, AtomicU64>,
    taken: Family<AmountLabels, Gauge<f64, AtomicU64>>,
    capacity: Family<AmountLabels, Gauge<f64, AtomicU64>>,
}

impl QueueMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("queue_waiting", "Requests that wait for room", self.waiting.clone());
        registry.register("queue_admitted", "Requests that waited and got room", self.admitted.clone());
        let waited = "Time that those have waited in all";
        registry.register_with_unit("queue_wait", waited, Unit::Seconds, self.waited.clone());
        registry.register("node_taken", "What sandboxes take of the node", self.taken.clone());
        registry.register("node_capacity", "What the node has to give", self.capacity.clone());
    }

    fn take_over(&self, queue: QueueInfo, usage: &BTreeMap<String, (f64, Option<f64>)>) {
        self.waiting.set(i64::try_from(queue.waiting).unwrap_or(i64::MAX));
        // One scrape at a time: the difference to what was there before is added once.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.admitted.inc_by(queue.admitted.saturating_sub(self.admitted.get()));
        self.waited.inc_by((queue.waited_s - self.waited.get()).max(0.0));
        self.taken.clear();
        self.capacity.clear();
        for (name, (taken, capacity)) in usage {
            let labels = AmountLabels { of: name.clone() };
            self.taken.get_or_create(&labels).set(*taken);
            if let Some(capacity) = capacity {
                self.capacity.get_or_create(&labels).set(*capacity);
            }
        }
    }
}

/// Where the sandboxes of the node are in their lives, taken over whenever somebody asks.
#[derive(Debug, Default)]
struct SandboxMetrics {
    all: Gauge,
    phases: Family<PhaseLabels, Gauge>,
    endings: Family<CauseLabels, Counter>,
}

/// Every phase, so that one in which there is none says 0.
const PHASES: [&str; 5] = ["creating", "running", "frozen", "dead", "destroying"];

fn phase_name(phase: &SandboxPhase) -> &'static str {
    match phase {
        SandboxPhase::Creating => PHASES[0],
        SandboxPhase::Running => PHASES[1],
        SandboxPhase::Frozen { .. } => PHASES[2],
        SandboxPhase::Dead { .. } => PHASES[3],
        SandboxPhase::Destroying => PHASES[4],
    }
}

impl SandboxMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("sandboxes", "Sandboxes on this node", self.all.clone());
        let help = "Sandboxes on this node that are in a phase of their lives";
        registry.register("sandboxes_in_phase", help, self.phases.clone());
        registry.register("sandbox_endings", "Sandboxes that have ended, by cause", self.endings.clone());
    }

    fn take_over(&self, node: &Node) {
        self.all.set(i64::try_from(node.len()).unwrap_or(i64::MAX));
        let mut phases: BTreeMap<&'static str, i64> = PHASES.map(|phase| (phase, 0)).into();
        for sandbox in node.all() {
            *phases.entry(phase_name(&sandbox.watch_phase().borrow())).or_default() += 1;
        }
        for (phase, count) in phases {
            self.phases.get_or_create(&PhaseLabels { phase: Name(phase) }).set(count);
        }
        self.endings.clear();
        for (cause, count) in node.endings_by_cause() {
            self.endings.get_or_create(&CauseLabels { cause: Name(cause) }).inc_by(count);
        }
    }
}

/// The server's counters.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    latency: Family<RouteLabels, Histogram, fn() -> Histogram>,
    creates: Family<OutcomeLabels, Counter>,
    claims: Family<OutcomeLabels, Counter>,
    execs: Family<OutcomeLabels, Counter>,
    exec_duration: Histogram,
    exec_overhead: Histogram,
    sandboxes: SandboxMetrics,
    pools: PoolMetrics,
    queue: QueueMetrics,
    memory: MemoryMetrics,
    pub(crate) connections: Gauge,
    pub(crate) connections_refused: Counter,
    pub(crate) streams: Gauge,
}

fn latency_histogram() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}

impl Metrics {
    /// All counters at zero, but for those of the node.
    pub(crate) fn new(node: &Node) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("hothouse"),
            requests: Family::default(),
            latency: Family::new_with_constructor(latency_histogram),
            creates: Family::default(),
            claims: Family::default(),
            execs: Family::default(),
            exec_duration: latency_histogram(),
            exec_overhead: latency_histogram(),
            sandboxes: SandboxMetrics::default(),
            pools: PoolMetrics::default(),
            queue: QueueMetrics::default(),
            memory: MemoryMetrics::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            streams: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("http_requests", "Requests answered", metrics.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request's head to its answer's head",
            Unit::Seconds,
            metrics.latency.clone(),
        );
        registry.register("sandbox_creates", "Sandboxes asked for, by how it went", metrics.creates.clone());
        registry.register("claims", "Sandboxes claimed from pools, by how it went", metrics.claims.clone());
        registry.register(
            "execs",
            "Execs that ended while a client waited, by outcome",
            metrics.execs.clone(),
        );
        let help = "Time that those ran, as their guests saw it";
        registry.register_with_unit("exec_duration", help, Unit::Seconds, metrics.exec_duration.clone());
        let help = "Time that clients of execs waited longer than those ran";
        registry.register_with_unit("exec_overhead", help, Unit::Seconds, metrics.exec_overhead.clone());
        node.makings().register(registry);
        metrics.sandboxes.register(registry);
        metrics.pools.register(registry);
        metrics.queue.register(registry);
        metrics.memory.register(registry);
        registry.register("http_connections", "Open connections", metrics.connections.clone());
        registry.register(
            "http_connections_refused",
            "Connections over the limit",
            metrics.connections_refused.clone(),
        );
        registry.register("streams", "Followed execs and open terminals", metrics.streams.clone());
        metrics
    }

    /// Counts an answered request.
    pub(crate) fn request(
        &self,
        method: &axum::http::Method,
        route: &'static str,
        status: u16,
        took: Duration,
    ) {
        let labels = RequestLabels { method: Name(method_name(method)), route: Name(route), status };
        self.requests.get_or_create(&labels).inc();
        self.latency.get_or_create(&RouteLabels { route: Name(route) }).observe(took.as_secs_f64());
    }

    /// Counts a create: made, or why not.
    pub(crate) fn create(&self, result: Result<(), ErrorCode>) {
        let outcome = Name(result.err().map_or("created", ErrorCode::as_str));
        self.creates.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts a claim: a sandbox was given, or why not.
    pub(crate) fn claim(&self, result: Result<(), ErrorCode>) {
        let outcome = Name(result.err().map_or("claimed", ErrorCode::as_str));
        self.claims.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts an exec whose client waited so long for its end.
    pub(crate) fn awaited_exec(&self, result: &ExecResult, waited: Duration) {
        self.exec(result);
        if !result.replayed {
            self.exec_overhead.observe((waited.as_secs_f64() - result.duration_s).max(0.0));
        }
    }

    /// Counts an exec that ended, unless it was counted before.
    pub(crate) fn exec(&self, result: &ExecResult) {
        if result.replayed {
            return;
        }
        let outcome = Name(match result.outcome {
            Outcome::Exited { code: 0 } => "exited_zero",
            Outcome::Exited { .. } => "exited_nonzero",
            Outcome::Signalled { .. } => "signalled",
            Outcome::TimedOut => "timed_out",
            Outcome::OomKilled => "oom_killed",
            Outcome::FailedToStart { .. } => "failed_to_start",
            Outcome::Lost { .. } => "lost",
        });
        self.execs.get_or_create(&OutcomeLabels { outcome }).inc();
        self.exec_duration.observe(result.duration_s);
    }
}

/// Methods as label values; a made-up method must not make a new time series.
fn method_name(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

/// Counters in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "server", responses(
    (status = 200, description = "Counters", body = String, content_type = "application/openmetrics-text"),
))]
pub(crate) async fn metrics(State(app): State<App>) -> Response {
    app.metrics.sandboxes.take_over(&app.node);
    app.metrics.pools.take_over(&app.fleet.pools());
    app.metrics.queue.take_over(app.fleet.queue(), &app.node.usage());
    app.metrics.memory.take_over(app.node.memory());
    let mut text = String::with_capacity(16 << 10);
    if let Err(error) = encode(&mut text, &app.metrics.registry) {
        let detail = format!("the counters could not be written: {error}");
        return Refusal::new(ErrorCode::Internal, detail).into_response();
    }
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, HeaderValue::from_static(media_type))], text).into_response()
}
