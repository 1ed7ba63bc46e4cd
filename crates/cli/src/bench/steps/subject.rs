//! Any environment, measured by itself.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper::Method;
use serde_json::Value;

use super::place::Placement;
use super::plan::Plan;
use super::rounds::{self, Host, Operation, Side};
use super::script::{Action, Transport};
use super::server::Server;
use super::specimen::specimen;
use super::target::Target;
use crate::bench::http::Driver;
use crate::bench::report::{Report, Role};

/// What is measured.
#[derive(Debug, Clone)]
pub(crate) enum Served {
    /// A server that is there already.
    There(Target),
    /// What `hothouse env serve` is to serve, with these flags.
    Here {
        /// A name, a directory, an id of Gymnasium.
        name: String,
        /// Further arguments.
        flags: Vec<OsString>,
    },
}

/// Where an action is from.
#[derive(Debug, Clone, Copy)]
enum Made {
    ByUser,
    FromSchema,
}

/// An environment, and how it is measured.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// Which.
    pub(crate) served: Served,
    /// What is done in each step; the simplest action that fits the environment's schema when left out.
    pub(crate) action: Option<Action>,
    /// Sessions at once.
    pub(crate) sessions: Vec<usize>,
    /// For how long, in each round.
    pub(crate) time: Duration,
    /// How often.
    pub(crate) rounds: usize,
}

impl Subject {
    /// Steps it over WebSockets.
    ///
    /// # Errors
    /// When it cannot be served, refuses the action, or answers anything but observations.
    pub(in crate::bench) fn measure(self) -> anyhow::Result<Report> {
        let (name, target, host) = match self.served {
            Served::There(target) => (target.url(), target, Host::Elsewhere),
            Served::Here { name, flags } => {
                let server = Server::at_home(name.as_ref(), &flags, &Placement::Anywhere)?;
                (name, Target::at(server.address()), Host::Process(server))
            }
        };
        let (action, made) = match self.action {
            Some(action) => (action, Made::ByUser),
            None => (simplest(&target)?, Made::FromSchema),
        };
        let mut report = Report::new("env");
        report.notes.push(format!(
            "one operation: a step over a WebSocket, each session again as soon as it is answered; {} s in each of {} rounds",
            self.time.as_secs(),
            self.rounds
        ));
        if let Action::Same(action) = &action {
            report.notes.push(format!("the action: {action}"));
        }
        let plan = Plan::alone(target.clone(), action, self.time);
        let side = Side { name, role: Role::Hothouse, load: plan.load(target), host };
        let operations: Vec<Operation> = self
            .sessions
            .into_iter()
            .map(|sessions| Operation::Step(Transport::WebSocket, sessions))
            .collect();
        let done = rounds::measure(&mut report, &[side], &plan, &operations, self.rounds);
        match made {
            Made::ByUser => done?,
            Made::FromSchema => {
                done.context("with an action made from the schema; --action gives another")?
            }
        }
        Ok(report)
    }
}

/// The simplest action that fits the environment's schema.
fn simplest(target: &Target) -> anyhow::Result<Action> {
    let driver = Driver::new(target.address)?;
    let path = target.path("/schema");
    let schema: Value = driver
        .once(async |connection| connection.json(Method::GET, &path, "").await)
        .context("asking for the schema of actions")?;
    match specimen(&schema["action"]) {
        Some(action) if action.is_object() => Ok(Action::Same(action)),
        Some(_) | None => bail!(
            "no action could be made from the environment's schema; give one with --action: {}",
            schema["action"]
        ),
    }
}
