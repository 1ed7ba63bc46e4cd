//! What is asked of `steps`, and what will be measured for it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use thiserror::Error;

use super::place::Placement;
use super::rounds::Operation;
use super::script::{Action, Transport};
use super::server::interpreter;
use super::swarm::Load;
use super::target::Target;
use super::{MANY, PLACES};

/// How `steps` is measured.
#[derive(Debug, Clone, Args)]
pub(crate) struct StepsArgs {
    /// For `steps`: only these
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    cases: Vec<Case>,
    /// For `steps`: a server that is already there, in place of one of our own
    #[arg(long, visible_alias = "target", value_name = "URL", value_parser = Target::of)]
    url: Option<Target>,
    /// For `steps`: what the server at URL serves, so that its actions are known: echo or grid_world
    #[arg(long, value_name = "NAME", default_value = "echo")]
    environment: String,
    /// For `steps`: the action of each step, as JSON, where the environment is another one
    #[arg(long, value_name = "JSON", value_parser = Action::parse)]
    action: Option<Action>,
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
    #[arg(long, value_name = "FILE", value_parser = interpreter)]
    reference_python: Option<PathBuf>,
    /// For `steps`: measure with the official Python client too
    #[arg(long, requires = "reference_python")]
    python_client: bool,
}

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Case {
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
    /// Steps of a Python class in a sandbox, against the same class in the reference's server
    Worker,
    /// Sessions that each get a sandbox, opened one after the other
    Start,
    /// Steps by the official Python client
    Client,
}

impl Case {
    fn needs_own_server(self) -> bool {
        matches!(self, Self::Batch | Self::Idle | Self::Worker | Self::Start)
    }
}

/// An argument that does not go with the others.
#[derive(Debug, Error)]
#[error("{flag} {reason}")]
pub(crate) struct WrongArgument {
    /// Which.
    pub(crate) flag: &'static str,
    /// What is wrong with it, and what to do.
    pub(crate) reason: String,
}

/// What will be measured, all arguments read.
#[derive(Debug)]
pub(crate) struct Plan {
    cases: Vec<Case>,
    /// A server that is there already.
    pub(super) there: Option<Target>,
    /// What sessions do.
    pub(super) action: Action,
    sessions: Vec<usize>,
    /// How long, in each round.
    pub(super) time: Duration,
    threads: usize,
    /// On which cores.
    pub(super) placement: Placement,
    /// The reference's.
    pub(super) python: Option<PathBuf>,
}

impl StepsArgs {
    /// What will be measured.
    ///
    /// # Errors
    /// When an argument does not go with the others, or not with this machine.
    pub(crate) fn plan(&self) -> Result<Plan, WrongArgument> {
        let cases = self.cases();
        let action = match &self.action {
            Some(action) => action.clone(),
            None => Action::of(&self.environment).ok_or_else(|| {
                let reason =
                    format!("{}: its actions are not known here; give one with --action", self.environment);
                WrongArgument { flag: "--environment", reason }
            })?,
        };
        let wrong = |flag, reason: &str| Err(WrongArgument { flag, reason: reason.to_owned() });
        if action != Action::Echo {
            if self.url.is_none() {
                return wrong(
                    "--url",
                    "is not there; other environments than echo are measured at a server that serves them",
                );
            }
            if self.reference_python.is_some() {
                return wrong(
                    "--reference-python",
                    "is there, but the reference is an echo, and the server is not",
                );
            }
        }
        if self.url.is_some() && cases.iter().any(|case| case.needs_own_server()) {
            return wrong(
                "--cases",
                "names batch, idle, worker or start, which need a server of our own; leave out --url",
            );
        }
        if self.reference_python.is_none() && cases.contains(&Case::Client) {
            return wrong("--cases", "names client, which needs --reference-python");
        }
        let threads = usize::from(self.threads);
        let placement = if self.pin {
            let apart = Placement::apart(threads);
            apart.map_err(|error| WrongArgument { flag: "--pin", reason: format!("{error:#}") })?
        } else {
            Placement::Anywhere
        };
        Ok(Plan {
            cases,
            there: self.url.clone(),
            action,
            sessions: self.sessions.iter().filter_map(|n| usize::try_from(*n).ok()).collect(),
            time: Duration::from_secs(u64::from(self.seconds)),
            threads,
            placement,
            python: self.reference_python.clone(),
        })
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = self.cases.clone();
        if cases.is_empty() {
            cases = Case::value_variants().iter().copied().filter(|case| *case != Case::Client).collect();
            // Of a server that is there neither processes nor other environments are known.
            cases.retain(|case| self.url.is_none() || !case.needs_own_server());
        }
        if self.python_client && !cases.contains(&Case::Client) {
            cases.push(Case::Client);
        }
        cases
    }
}

impl Plan {
    /// Steps of a server with nothing to be compared with, and nothing that is promised.
    pub(super) fn alone(target: Target, action: Action, time: Duration) -> Self {
        Self {
            cases: vec![Case::Websocket],
            there: Some(target),
            action,
            sessions: Vec::new(),
            time,
            threads: 1,
            placement: Placement::Anywhere,
            python: None,
        }
    }

    /// Whether this is measured.
    pub(super) fn wants(&self, case: Case) -> bool {
        self.cases.contains(&case)
    }

    /// Whether it is this program's server, whose figures are promised.
    pub(super) fn is_own(&self) -> bool {
        self.there.is_none()
    }

    /// What all servers are compared in.
    pub(super) fn operations(&self) -> Vec<Operation> {
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
                Case::Batch | Case::Idle | Case::Worker | Case::Start => {}
            }
        }
        all
    }

    fn sessions_or<'a>(&'a self, otherwise: &'a [usize]) -> &'a [usize] {
        if self.sessions.is_empty() { otherwise } else { &self.sessions }
    }

    /// Load on a server.
    pub(super) fn load(&self, target: Target) -> Load {
        Load {
            target,
            transport: Transport::WebSocket,
            action: self.action.clone(),
            threads: self.threads,
            placement: self.placement.clone(),
        }
    }
}
