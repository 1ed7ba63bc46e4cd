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
mod rounds;
mod script;
mod server;
mod session;
mod swarm;
mod target;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::report::{Report, Role};
use super::sample::Round;
use floor::{Floor, echo};
use lane::Tally;
use place::Placement;
use rounds::{Host, Operation, Side};
use script::{Action, Transport};
use server::{Server, interpreter, versions};
use swarm::{Load, Swarm};
use target::Target;
use watch::Watch;

/// How `steps` is measured.
#[derive(Debug, Clone, Args)]
pub(crate) struct StepsArgs {
    /// For `steps`: only these
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    cases: Vec<Case>,
    /// For `steps`: a server that is already there, in place of one of our own
    #[arg(long, visible_alias = "target", value_name = "URL")]
    url: Option<String>,
    /// For `steps`: what the server at URL serves, so that its actions are known: echo or grid_world
    #[arg(long, value_name = "NAME", default_value = "echo")]
    environment: String,
    /// For `steps`: the action of each step, as JSON, where the environment is another one
    #[arg(long, value_name = "JSON")]
    action: Option<String>,
    /// For `steps`: sessions at once [default: 1,16,100,1000; over HTTP 1,16]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=100_000))]
    sessions: Vec<u32>,
    /// For `steps`: how long each contender is measured in each round
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
    /// For `steps`: threads that make the load
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
    /// For `steps`: keep server and load on different cores
    #[arg(long)]
    pin: bool,
    /// For `steps`: a Python with the package openenv 0.10.0, to be measured beside
    #[arg(long, value_name = "FILE")]
    reference_python: Option<PathBuf>,
    /// For `steps`: measure with the official Python client too
    #[arg(long, requires = "reference_python")]
    python_client: bool,
}

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// Steps over WebSockets
    Websocket,
    /// Steps over HTTP
    Http,
    /// Opening of sessions
    Open,
    /// Sessions that come, step once and go
    Churn,
    /// Many sessions stepped by one message
    Batch,
    /// Memory of idle sessions
    Idle,
    /// Steps by the official Python client
    Client,
}

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
    let server_cpu = watch.cpu().zip(before).map(|(after, before)| after.saturating_sub(before));
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
    let plan = Plan::of(args)?;
    report.notes.push(format!(
        "one operation: a step, from its request sent to its answer read and found right; each contender {} s in each \
         of {rounds} rounds; server µs: processor time of the server for each operation",
        args.seconds
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
    rounds::measure(&mut report, &sides, &plan, rounds)?;
    drop(sides);
    if plan.wants(Case::Batch) {
        rounds::batch(&mut report, &plan, rounds)?;
    }
    if plan.wants(Case::Idle) {
        idle::run(&mut report, &plan, IDLE, descriptors)?;
    }
    Ok(report)
}

/// What will be measured, all arguments read.
#[derive(Debug)]
struct Plan {
    cases: Vec<Case>,
    /// A server that is there already.
    there: Option<Target>,
    action: Action,
    sessions: Vec<usize>,
    time: Duration,
    threads: usize,
    placement: Placement,
    python: Option<PathBuf>,
}

impl Plan {
    fn of(args: &StepsArgs) -> anyhow::Result<Self> {
        let StepsArgs { cases, url, environment, action, sessions, seconds, threads, pin, .. } = args;
        let action = match action {
            Some(text) => Action::parse(text).context("--action")?,
            None => Action::of(environment).with_context(|| {
                format!("--environment {environment}: its actions are not known here; give one with --action")
            })?,
        };
        let there = url.as_deref().map(Target::of).transpose().context("--url")?;
        if there.is_none() && action != Action::Echo {
            bail!("--environment and --action are for a server that is there; name it with --url");
        }
        let python = args.reference_python.as_deref().map(interpreter).transpose()?;
        if python.is_some() && action != Action::Echo {
            bail!("the reference is an echo; measure another environment without --reference-python");
        }
        let threads = usize::from(*threads);
        let mut cases = cases.clone();
        if cases.is_empty() {
            cases = vec![Case::Websocket, Case::Http, Case::Open, Case::Churn, Case::Batch, Case::Idle];
            // Of a server that is there neither processes nor other environments are known.
            cases.retain(|case| there.is_none() || !matches!(case, Case::Batch | Case::Idle));
            cases.extend(args.python_client.then_some(Case::Client));
        }
        Ok(Self {
            cases,
            there,
            action,
            sessions: sessions.iter().map(|n| usize::try_from(*n)).collect::<Result<_, _>>()?,
            time: Duration::from_secs(u64::from(*seconds)),
            threads,
            placement: if *pin { Placement::apart(threads)? } else { Placement::Anywhere },
            python,
        })
    }

    fn wants(&self, case: Case) -> bool {
        self.cases.contains(&case)
    }

    /// Whether it is this program's server, whose figures are promised.
    fn is_own(&self) -> bool {
        self.there.is_none()
    }

    /// What all servers are compared in.
    fn operations(&self) -> Vec<Operation> {
        let mut all = Vec::new();
        for case in &self.cases {
            match case {
                Case::Websocket => {
                    let sessions = self.sessions_or(&[1, 16, 100, MANY]);
                    all.extend(sessions.iter().map(|n| Operation::Step(Transport::WebSocket, *n)));
                }
                Case::Http => {
                    let sessions = self.sessions_or(&[1, 16]);
                    all.extend(sessions.iter().map(|n| Operation::Step(Transport::Http, *n)));
                }
                Case::Open => all.push(Operation::Open(MANY)),
                Case::Churn => all.push(Operation::Churn(PLACES)),
                Case::Client => all.extend([1, PLACES].map(Operation::Client)),
                Case::Batch | Case::Idle => {}
            }
        }
        all
    }

    fn sessions_or<'a>(&'a self, otherwise: &'a [usize]) -> &'a [usize] {
        if self.sessions.is_empty() { otherwise } else { &self.sessions }
    }

    fn load(&self, target: Target) -> Load {
        Load {
            target,
            transport: Transport::WebSocket,
            action: self.action.clone(),
            threads: self.threads,
            placement: self.placement.clone(),
        }
    }

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

    fn reference(&self, python: &std::path::Path) -> anyhow::Result<Side> {
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
