//! Environments that play in sandboxes.

use std::time::Duration;

use anyhow::{Context as _, bail};

use super::lane::Tally;
use super::rounds::{self, Operation};
use super::script::Action;
use super::server::Server;
use super::swarm::{Load, Swarm};
use super::target::Target;
use super::{MANY, Plan};
use crate::bench::http::Driver;
use crate::bench::report::{Bar, Report, Role, Row};
use crate::bench::sample::{Round, Series};

/// Sessions opened in a round.
const OPENINGS: usize = 50;
/// Between two of them: what one took from those that are ready is made again in that time.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest that one may take, in milliseconds.
const WARM_MS: f64 = 20.0;

/// Steps of the reference's class as a package of ours, beside the reference.
///
/// # Errors
/// When a server fails, or answers wrongly.
pub(super) fn worker(report: &mut Report, plan: &Plan, rounds: usize) -> anyhow::Result<()> {
    need_own_server(plan, "worker")?;
    let package = Server::package(&plan.placement).context("serving the class as a package")?;
    let mut sides = vec![plan.side("hothouse, in a sandbox", Role::Hothouse, package)];
    if let Some(python) = &plan.python {
        sides.push(plan.reference(python)?);
    }
    rounds::measure(report, &sides, plan, &[1, 100, MANY].map(Operation::Worker), rounds)
}

/// Sessions of `coding`, each with a sandbox and an interpreter of its own, opened one after the other.
///
/// # Errors
/// When the server fails, or refuses a session.
pub(super) fn start(report: &mut Report, plan: &Plan, rounds: usize) -> anyhow::Result<()> {
    need_own_server(plan, "start")?;
    let server = Server::hothouse("coding", &plan.placement)?;
    let load = Load { action: Action::parse(r#"{"code":"1"}"#)?, ..plan.load(Target::at(server.address())) };
    let clock = Driver::new(server.address())?;
    let mut series = Series::default();
    for _ in 0..rounds {
        let mut round = Tally::default();
        for _ in 0..OPENINGS {
            clock.pause(PAUSE);
            let (swarm, opening) =
                Swarm::open(&load, 1, 1).context("hothouse: opening a session of coding")?;
            round.elapsed += opening.elapsed;
            round.latencies.extend(opening.latencies);
            swarm.close()?;
        }
        series.push(Round { latencies: round.latencies, elapsed: round.elapsed });
    }
    let mut row = Row::of("open and reset a session of coding: hothouse", Role::Hothouse, 1, &series);
    row.note =
        format!("a sandbox each, from those that are kept ready; {} ms between two", PAUSE.as_millis());
    report.bars.push(Bar::at_most("a session in a warm sandbox, p50", series.p50_ms(), WARM_MS, " ms"));
    report.bars.push(Bar::at_most("a session in a warm sandbox, p99", series.p99_ms(), WARM_MS, " ms"));
    report.rows.push(row);
    Ok(())
}

fn need_own_server(plan: &Plan, case: &str) -> anyhow::Result<()> {
    if plan.is_own() {
        return Ok(());
    }
    bail!("the case `{case}` needs a server of its own; leave out --url")
}
