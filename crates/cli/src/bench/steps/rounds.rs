//! Servers under the same load, in turn.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::batch::{Batch, Batched};
use super::floor::Floor;
use super::script::{Action, Transport};
use super::server::Server;
use super::swarm::{Load, Swarm, churn};
use super::target::Target;
use super::watch::Watch;
use super::{Figures, MANY, Plan, client, measure as step};
use crate::bench::report::{Bar, Cost, Report, Role, Row};
use crate::bench::sample::{Ratio, Round, Series, count, median};

/// One server of the comparison.
#[derive(Debug)]
pub(super) struct Side {
    /// Its name.
    pub(super) name: String,
    /// What it stands for.
    pub(super) role: Role,
    /// How it is loaded.
    pub(super) load: Load,
    /// What it lives in, and no longer than this.
    pub(super) host: Host,
}

/// What a server lives in.
#[derive(Debug)]
pub(super) enum Host {
    /// A thread of this process.
    Floor(Floor),
    /// A process that was started for this.
    Process(Server),
    /// It was there.
    Elsewhere,
}

impl Host {
    fn watch(&self) -> Watch {
        match self {
            Self::Floor(floor) => Watch::Thread(floor.thread()),
            Self::Process(server) => server.watch(),
            Self::Elsewhere => Watch::Nobody,
        }
    }
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// Steps of so many sessions.
    Step(Transport, usize),
    /// Opening of so many at once.
    Open(usize),
    /// Sessions that come, step once and go, at so many places.
    Churn(usize),
    /// Steps of so many sessions, by the official client.
    Client(usize),
    /// Steps of so many sessions of a class in Python.
    Worker(usize),
}

/// All rounds of one server.
#[derive(Debug, Default)]
struct Entry {
    series: Series,
    openings: Series,
    server_cpu: Option<Duration>,
    load_cpu: Duration,
    elapsed: Duration,
}

impl Operation {
    fn name(self) -> String {
        match self {
            Self::Step(Transport::WebSocket, _) => "WebSocket step".to_owned(),
            Self::Step(Transport::Http, _) => "HTTP step".to_owned(),
            Self::Open(n) => format!("open {n} at once"),
            Self::Churn(_) => "open, step once, close".to_owned(),
            Self::Client(_) => "official client's step".to_owned(),
            Self::Worker(_) => "step of a Python class".to_owned(),
        }
    }

    fn at_once(self) -> usize {
        match self {
            Self::Step(_, n) | Self::Open(n) | Self::Churn(n) | Self::Client(n) | Self::Worker(n) => n,
        }
    }

    /// How many times the reference's rate is promised.
    fn promised(self) -> Option<f64> {
        match self {
            Self::Step(Transport::WebSocket, 1) => Some(8.0),
            Self::Step(Transport::WebSocket, 16 | 100) => Some(10.0),
            Self::Step(Transport::WebSocket, 1000) => Some(15.0),
            Self::Step(Transport::Http, 1 | 16) => Some(5.0),
            Self::Client(1) => Some(1.3),
            Self::Worker(1) => Some(1.0),
            Self::Worker(100) => Some(2.0),
            Self::Step(..) | Self::Open(_) | Self::Churn(_) | Self::Client(_) | Self::Worker(_) => None,
        }
    }

    /// Whether the floor can do it: it answers, and knows nothing of the rest of HTTP.
    fn has_floor(self, action: &Action) -> bool {
        !matches!(self, Self::Client(_)) && *action == Action::Echo
    }
}

/// Measures all servers in each operation, and adds rows and promises to the report.
///
/// # Errors
/// When a server fails, or answers wrongly.
pub(super) fn measure(
    report: &mut Report,
    sides: &[Side],
    plan: &Plan,
    operations: &[Operation],
    rounds: usize,
) -> anyhow::Result<()> {
    for operation in operations.iter().copied() {
        let sides: Vec<&Side> = sides
            .iter()
            .filter(|side| side.role != Role::Floor || operation.has_floor(&plan.action))
            .collect();
        let mut entries: Vec<Entry> = sides.iter().map(|_| Entry::default()).collect();
        for _ in 0..rounds {
            for (side, entry) in sides.iter().zip(&mut entries) {
                let figures = once(operation, side, plan).with_context(|| {
                    format!("{}: {}, {} at once", side.name, operation.name(), operation.at_once())
                })?;
                entry.add(figures);
            }
        }
        add(report, plan, operation, &sides, &entries);
    }
    Ok(())
}

fn once(operation: Operation, side: &Side, plan: &Plan) -> anyhow::Result<Figures> {
    let Side { load, host, .. } = side;
    let watch = host.watch();
    let before = watch.cpu();
    let tally = match operation {
        Operation::Step(transport, sessions) => {
            let load = Load { transport, ..load.clone() };
            return step(&load, sessions, plan.time, watch);
        }
        Operation::Worker(sessions) => return step(load, sessions, plan.time, watch),
        Operation::Open(sessions) => {
            let (swarm, tally) = Swarm::open(load, sessions, sessions)?;
            swarm.close()?;
            tally
        }
        Operation::Churn(places) => churn(load, places, plan.time)?,
        Operation::Client(sessions) => {
            let python: &Path =
                plan.python.as_deref().context("the official client needs --reference-python")?;
            client::step(python, &load.target, &load.placement, sessions, plan.time)?
        }
    };
    let server_cpu = watch.cpu_since(before);
    let load_cpu = tally.cpu;
    Ok(Figures { opening: Round::default(), steps: tally.round(), server_cpu, load_cpu })
}

impl Entry {
    fn add(&mut self, figures: Figures) {
        let Figures { opening, steps, server_cpu, load_cpu } = figures;
        self.elapsed += steps.elapsed;
        self.load_cpu += load_cpu;
        self.server_cpu = match (self.server_cpu, server_cpu) {
            (Some(sum), Some(more)) => Some(sum + more),
            (sum, more) => sum.or(more),
        };
        self.series.push(steps);
        self.openings.push(opening);
    }

    fn note(&self, operation: Operation, ratio: Option<Ratio>) -> String {
        let seconds = |series: &Series| series.median_elapsed().as_secs_f64();
        let mut said: Vec<String> =
            ratio.iter().map(|ratio| format!("rate {ratio} × the reference")).collect();
        match operation {
            Operation::Open(_) => said.push(format!("all open after {:.3} s", seconds(&self.series))),
            Operation::Step(..) | Operation::Worker(_) => {
                said.push(format!("opened in {:.3} s", seconds(&self.openings)))
            }
            Operation::Churn(_) | Operation::Client(_) => {}
        }
        said.join("; ")
    }

    fn cost(&self, ratio: Option<Ratio>, promised: Option<f64>) -> Cost {
        let share = |cpu: Duration| cpu.as_secs_f64() / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let operations = count(self.series.len().max(1));
        Cost {
            server_us: self.server_cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / operations),
            server_cores: self.server_cpu.map(share),
            load_cores: share(self.load_cpu),
            ratio: ratio.map(|ratio| ratio.median),
            bar: promised,
        }
    }
}

fn add(report: &mut Report, plan: &Plan, operation: Operation, sides: &[&Side], entries: &[Entry]) {
    let reference = sides.iter().position(|side| side.role == Role::Peer).map(|at| &entries[at]);
    for (side, entry) in sides.iter().zip(entries) {
        let own = side.role == Role::Hothouse && plan.is_own();
        let ratio = reference
            .filter(|_| side.role != Role::Peer)
            .and_then(|base| entry.series.rate_over(&base.series));
        let promised = operation.promised().filter(|_| own);
        let name = format!("{}: {}", operation.name(), side.name);
        let mut row = Row::of(&name, side.role, operation.at_once(), &entry.series);
        row.cost = Some(entry.cost(ratio, promised));
        row.note = entry.note(operation, ratio);
        if own {
            promises(report, operation, entry, ratio);
        }
        report.rows.push(row);
    }
}

fn promises(report: &mut Report, operation: Operation, entry: &Entry, ratio: Option<Ratio>) {
    let name = format!("{}, {} at once", operation.name(), operation.at_once());
    if let Some((promised, ratio)) = operation.promised().zip(ratio) {
        report.bars.push(Bar::at_least(
            &format!("{name}, rate over the reference"),
            ratio.median,
            promised,
            " ×",
        ));
    }
    match operation {
        Operation::Step(Transport::WebSocket, MANY) => {
            report.bars.push(Bar::at_most(&format!("{name}, p99"), entry.series.p99_ms(), 20.0, " ms"));
        }
        Operation::Open(_) => {
            let took = entry.series.median_elapsed().as_secs_f64();
            report.bars.push(Bar::at_most(&operation.name(), took, 0.3, " s"));
        }
        _ => {}
    }
}

/// Measures many sessions of `grid_world`, stepped by one message.
///
/// # Errors
/// When the server fails, or answers wrongly.
pub(super) fn batch(report: &mut Report, plan: &Plan, rounds: usize) -> anyhow::Result<()> {
    if !plan.is_own() {
        bail!("the case `batch` needs a server of grid_world of its own; leave out --url");
    }
    let server = Server::hothouse("grid_world", &plan.placement)?;
    let target = Target::at(server.address());
    let mut all = Entry::default();
    let (mut rates, mut resets) = (Vec::new(), 0);
    for _ in 0..rounds {
        let (Batched { tally, steps, resets: more }, server_cpu) =
            one_batch(plan, &target, server.watch()).context("hothouse: batches")?;
        rates.push(count(steps) / tally.elapsed.as_secs_f64());
        resets += more;
        let load_cpu = tally.cpu;
        all.add(Figures { opening: Round::default(), steps: tally.round(), server_cpu, load_cpu });
    }
    let mut row =
        Row::of(&format!("batch of {MANY} grid_world: hothouse"), Role::Hothouse, MANY, &all.series);
    row.per_second = median(rates);
    let mut cost = all.cost(None, Some(BATCHED));
    cost.server_us = cost.server_us.map(|us| us / count(MANY));
    row.cost = Some(cost);
    row.note =
        format!("latencies are of messages, rate and server µs of single steps; {resets} resets among them");
    report.bars.push(Bar::at_least("batched grid_world", row.per_second / 1e6, BATCHED, " M steps/s"));
    report.rows.push(row);
    Ok(())
}

/// Millions of steps a second.
const BATCHED: f64 = 1.0;

fn one_batch(plan: &Plan, target: &Target, watch: Watch) -> anyhow::Result<(Batched, Option<Duration>)> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            plan.placement.keep_load(0)?;
            let mut batch = Batch::open(target, MANY)?;
            batch.step(plan.time / 10)?;
            let before = watch.cpu();
            let batched = batch.step(plan.time)?;
            Ok((batched, watch.cpu_since(before)))
        });
        match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
