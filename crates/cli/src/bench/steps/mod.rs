//! `steps`: steps of an echo environment over the OpenEnv protocol, for this program's server, the reference's, and the
//! floor, all under the same load in one run.
//!
//! The load is a closed loop: each session steps again as soon as it is answered. One thread makes it, with frames that
//! were masked beforehand and one epoll, so that what is measured is the server; what the load itself used stands beside
//! what the server used, and the floor says what the load can reach.

mod batch;
mod client;
mod connection;
mod floor;
mod frames;
mod idle;
mod lane;
mod place;
mod plan;
mod rounds;
mod sandboxed;
mod script;
mod server;
mod session;
mod specimen;
mod subject;
mod swarm;
mod target;
mod watch;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::report::{Report, Role};
use super::sample::Round;
use floor::{Floor, echo};
use lane::Tally;
pub(super) use plan::StepsArgs;
use plan::{Case, Plan};
use rounds::{Host, Side};
pub(crate) use script::Action;
use server::{Server, versions};
pub(crate) use subject::{Served, Subject};
use swarm::{Load, Swarm};
pub(crate) use target::Target;
use watch::Watch;

/// Sessions that are opened at once, and sessions of a batch.
const MANY: usize = 1000;
/// Places at which sessions come and go.
const PLACES: usize = 16;
/// Idle sessions, if the machine lets one process have so many connections.
const IDLE: usize = 10_000;

/// What was measured of one server.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Opening of the sessions.
    pub(crate) opening: Round,
    /// Their steps.
    pub(crate) steps: Round,
    /// Processor time that the server used for them, where it is known.
    pub(crate) server_cpu: Option<Duration>,
    /// Processor time that the load used.
    pub(crate) load_cpu: Duration,
}

/// Opens so many sessions at once, steps them for so long, and closes them.
///
/// # Errors
/// When the server refuses, breaks a connection, or answers anything but what was asked for.
pub(crate) fn measure(load: &Load, sessions: usize, time: Duration, watch: Watch) -> anyhow::Result<Figures> {
    let (mut swarm, opening) = Swarm::open(load, sessions, sessions)?;
    swarm.step((time / 10).min(Duration::from_millis(500)))?;
    let before = watch.cpu();
    let steps = swarm.step(time)?;
    let server_cpu = watch.cpu_since(before);
    swarm.close()?;
    let load_cpu = steps.cpu;
    Ok(Figures { opening: opening.round(), steps: steps.round(), server_cpu, load_cpu })
}

impl Tally {
    fn round(self) -> Round {
        Round { latencies: self.latencies, elapsed: self.elapsed }
    }
}

/// Measures it.
pub(super) fn run(args: &StepsArgs, rounds: usize) -> anyhow::Result<Report> {
    let mut report = Report::new("steps");
    let descriptors = idle::raise_descriptors();
    let plan = args.plan()?;
    report.notes.push(format!(
        "one operation: a step, from its request sent to its answer read and found right; each contender {} s in each \
         of {rounds} rounds; server µs: processor time of the server for each operation",
        plan.time.as_secs()
    ));
    let mut sides = vec![plan.floor()?, plan.own()?];
    if let Some(python) = &plan.python {
        report.notes.push(format!("reference: {}", versions(python)?));
        sides.push(plan.reference(python)?);
    } else {
        report
            .not_measured
            .push("the reference: name a Python with openenv 0.10.0 by --reference-python".to_owned());
    }
    rounds::measure(&mut report, &sides, &plan, &plan.operations(), rounds)?;
    drop(sides);
    if plan.wants(Case::Worker) {
        sandboxed::worker(&mut report, &plan, rounds)?;
    }
    if plan.wants(Case::Start) {
        sandboxed::start(&mut report, &plan, rounds)?;
    }
    if plan.wants(Case::Batch) {
        rounds::batch(&mut report, &plan, rounds)?;
    }
    if plan.wants(Case::Idle) {
        idle::run(&mut report, &plan, IDLE, descriptors)?;
    }
    Ok(report)
}

impl Plan {
    fn floor(&self) -> anyhow::Result<Side> {
        let floor = Floor::start(&self.placement, echo).context("starting the floor")?;
        let load = self.load(Target::at(floor.address()));
        Ok(Side { name: "only answers".to_owned(), role: Role::Floor, load, host: Host::Floor(floor) })
    }

    fn own(&self) -> anyhow::Result<Side> {
        if let Some(target) = &self.there {
            return Ok(Side {
                name: target.url(),
                role: Role::Hothouse,
                load: self.load(target.clone()),
                host: Host::Elsewhere,
            });
        }
        let server = Server::hothouse("echo", &self.placement)?;
        Ok(self.side("hothouse", Role::Hothouse, server))
    }

    fn reference(&self, python: &Path) -> anyhow::Result<Side> {
        let server = Server::reference(python, &self.placement)?;
        Ok(self.side("openenv under uvicorn", Role::Peer, server))
    }

    fn side(&self, name: &str, role: Role, server: Server) -> Side {
        Side {
            name: name.to_owned(),
            role,
            load: self.load(Target::at(server.address())),
            host: Host::Process(server),
        }
    }
}
