//! `coding`: Python in a sandbox. Each session has a sandbox and in it a live interpreter, a context, whose variables
//! last for an episode.
//!
//! ```text
//! reset (today)   the context begins anew; where more than variables is left, another sandbox takes the place of this one
//! reset (seed)    nothing: the first clients' variables outlive it
//! step            runs the code. However it ends, the session goes on: what took too long is interrupted, and an
//!                 interpreter that ended is followed by a fresh one
//! copy            a fork of the context in the same sandbox: variables of its own, files in common
//! ```

mod python_json;
mod reward;
mod run;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hothouse_domain::{ContextForkSpec, ContextId, ContextSpec, ErrorCode};
use hothouse_sandbox::{Sandbox, SandboxError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Metadata;
use crate::environment::{About, Environment, Era, Models, Turns};
use crate::game::{Failed, Reset, ToolError, fields, read};
use crate::instance::{Beside, Host, Instance, OpenError, Shown, Terms};
use crate::model::{Field, Kind, Model};
use crate::observed::{Observed, Reward};
use crate::sandboxes::{Fitting, Housing, Sandboxes, step_error};
use crate::session::StepError;
pub use reward::Transform;
use run::Ran;

/// The context that a fitted sandbox has.
const FIRST: &str = "session";
/// What a step may take beyond its time: interrupting the code, and a fresh interpreter or sandbox if need be.
const OVERTIME: Duration = Duration::from_secs(20);

/// What it is.
pub(super) const ABOUT: About = About {
    name: "coding",
    class: "PythonCodeActEnv",
    description: "Python in a sandbox, a fresh interpreter for each episode; today's reward is for short code that looks safe",
    version: "1.0.0",
};

/// How an episode begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Resets {
    /// With a fresh interpreter, in the sandbox of before if nothing is seen to be left there.
    #[default]
    InPlace,
    /// In another sandbox.
    Fresh,
}

fn models() -> Models {
    let code = Field::new("code", Kind::Text, "Python code to run");
    let number = || Kind::Integer { least: None, most: None };
    let observation = vec![
        Field::new("stdout", Kind::Text, "What was printed, and the value of a last expression").or(""),
        Field::new("stderr", Kind::Text, "What went wrong").or(""),
        Field::new("exit_code", number(), "0 if nothing did").or(0),
    ];
    let last = Field::new("last_exit_code", number(), "Of the last step").or(0);
    Models {
        action: Model::action("CodeAction", "Code to run.", vec![code]),
        observation: Model::observation("CodeObservation", "What came of the code.", observation),
        state: Model::state("CodeState", "Where the episode is.", vec![last]),
    }
}

/// The environment, over these sandboxes.
pub(super) fn environment(sandboxes: Sandboxes, transform: Transform, resets: Resets) -> Environment {
    let models = models();
    let action = models.action.clone();
    let host = Python { kit: Arc::new(Kit { sandboxes, transform, resets, action }) };
    Environment::elsewhere(ABOUT, &models, Turns::AtOnce, Arc::new(host))
}

/// An interpreter for a session.
#[derive(Debug)]
pub(super) struct Context;

impl Fitting for Context {
    fn fit<'a>(&'a self, sandbox: &'a Sandbox) -> BoxFuture<'a, Result<(), SandboxError>> {
        Box::pin(async move { open(sandbox, id(FIRST)?).await })
    }
}

async fn open(sandbox: &Sandbox, context: ContextId) -> Result<(), SandboxError> {
    let spec = ContextSpec { context_id: Some(context), ..ContextSpec::default() };
    sandbox.context_open(spec).await.map(drop)
}

fn id(name: &str) -> Result<ContextId, SandboxError> {
    let invalid = |e: hothouse_domain::InvalidId| hothouse_domain::Invalid::new("context_id", e.to_string());
    Ok(name.parse().map_err(invalid)?)
}

/// What all sessions share.
#[derive(Debug)]
struct Kit {
    sandboxes: Sandboxes,
    transform: Transform,
    resets: Resets,
    action: Model,
}

/// Makes them.
#[derive(Debug)]
struct Python {
    kit: Arc<Kit>,
}

impl Host for Python {
    fn open(&self, terms: Terms) -> BoxFuture<'_, Result<Box<dyn Instance>, OpenError>> {
        let Terms { era, limits, .. } = terms;
        Box::pin(async move {
            let seat = self.kit.seat().await?;
            let kit = Arc::clone(&self.kit);
            let coding = Coding { kit, seat, era, limit: limits.step, last_exit_code: 0 };
            Ok(Box::new(coding) as Box<dyn Instance>)
        })
    }
}

impl Kit {
    /// A fresh interpreter in a sandbox of its own.
    async fn seat(&self) -> Result<Seat, OpenError> {
        let housing = self.sandboxes.take().await?;
        let told = |error: SandboxError| OpenError { message: error.to_string(), traceback: None };
        let context = id(FIRST).map_err(told)?;
        Ok(Seat { housing: Arc::new(housing), context, interpreter: Interpreter::Alive })
    }
}

/// Whether a session has an interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interpreter {
    Alive,
    Gone,
}

/// A session's context. Forks sit in one sandbox, which ends with the last of them.
#[derive(Debug)]
struct Seat {
    housing: Arc<Housing>,
    context: ContextId,
    interpreter: Interpreter,
}

impl Seat {
    fn sandbox(&self) -> &Sandbox {
        self.housing.sandbox()
    }

    /// Whether no fork is in the same sandbox.
    fn is_alone(&self) -> bool {
        Arc::strong_count(&self.housing) == 1
    }

    /// Ends the interpreter and begins another.
    async fn renew(&mut self) -> Result<(), SandboxError> {
        self.interpreter = Interpreter::Gone;
        match self.sandbox().context_reset(&self.context).await {
            Ok(_) => {}
            // Somebody else has set the sandbox back, or has closed it.
            Err(error) if error.code() == ErrorCode::ContextNotFound => {
                open(self.sandbox(), self.context.clone()).await?;
            }
            Err(error) => return Err(error),
        }
        self.interpreter = Interpreter::Alive;
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.is_alone() {
            return;
        }
        // Its fork goes on; this context is of no use there any more.
        let (housing, context) = (Arc::clone(&self.housing), self.context.clone());
        self.housing.home().in_background(async move {
            if let Err(error) = housing.sandbox().context_close(&context).await {
                tracing::debug!(sandbox = %housing.sandbox().id(), %context, %error, "it ends with its sandbox");
            }
        });
    }
}

/// One session's.
#[derive(Debug)]
struct Coding {
    kit: Arc<Kit>,
    seat: Seat,
    era: Era,
    /// Time for a step.
    limit: Duration,
    last_exit_code: i32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    code: String,
    #[serde(default, rename = "metadata")]
    _metadata: Metadata,
}

#[derive(Serialize)]
struct Observation<'a> {
    stdout: &'a str,
    stderr: &'a str,
    exit_code: i32,
}

#[derive(Serialize)]
struct Told<'a> {
    last_code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_violation: Option<&'static str>,
}

#[derive(Serialize)]
struct State {
    last_exit_code: i32,
}

impl Coding {
    async fn begin_anew(&mut self) -> Result<(), StepError> {
        if self.kit.resets == Resets::InPlace && self.seat.is_alone() {
            match self.seat.renew().await {
                Ok(()) if self.seat.housing.is_untouched().await => return Ok(()),
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(sandbox = %self.seat.sandbox().id(), %error, "another one takes its place");
                }
            }
        }
        self.move_out().await
    }

    /// Goes on in another sandbox.
    async fn move_out(&mut self) -> Result<(), StepError> {
        let seat = self.kit.seat().await;
        self.seat = seat.map_err(|OpenError { message, traceback }| Failed { message, traceback })?;
        Ok(())
    }

    fn observed(&mut self, code: &str, ran: &Ran) -> Result<Observed, StepError> {
        self.last_exit_code = ran.exit_code;
        let transform = if self.era == Era::Seed { Transform::None } else { self.kit.transform };
        let judged = reward::judge(transform, code, ran.parses);
        let mut observed = Observed::default();
        let Ran { stdout, stderr, exit_code, .. } = ran;
        let observation = Observation { stdout, stderr, exit_code: *exit_code };
        observed.show(&observation, Reward::Number(judged.reward), false)?;
        observed.tell(&Told { last_code: code, safety_violation: judged.violation })?;
        Ok(observed)
    }
}

impl Instance for Coding {
    fn reset<'a>(&'a mut self, _: &'a Reset) -> BoxFuture<'a, Result<Observed, StepError>> {
        Box::pin(async move {
            if self.era == Era::Today {
                self.begin_anew().await?;
            }
            self.last_exit_code = 0;
            let mut observed = Observed::default();
            let nothing = Observation { stdout: "", stderr: "", exit_code: 0 };
            observed.show(&nothing, Reward::Number(0.0), false)?;
            Ok(observed)
        })
    }

    fn step<'a>(
        &'a mut self,
        action: &'a str,
        beside: Beside<'a>,
    ) -> BoxFuture<'a, Result<Observed, StepError>> {
        Box::pin(async move {
            let Action { code, _metadata } = read(action, &self.kit.action)?;
            let limit = beside.within.map_or(self.limit, |within| within.min(self.limit));
            let ran = self.run(&code, limit).await?;
            self.observed(&code, &ran)
        })
    }

    fn overtime(&self) -> Duration {
        OVERTIME
    }

    fn state(&mut self) -> BoxFuture<'_, Result<Shown, StepError>> {
        let state = fields(&State { last_exit_code: self.last_exit_code }).unwrap_or_else(|| b"{}".to_vec());
        Box::pin(std::future::ready(Ok(Shown::Beside(state))))
    }

    fn copy(&mut self) -> BoxFuture<'_, Result<Box<dyn Instance>, StepError>> {
        Box::pin(async move {
            self.make_sure().await?;
            let name = self.kit.sandboxes.fresh_name();
            let context = id(&name).map_err(|error| step_error(&error))?;
            let spec = ContextForkSpec { context_id: Some(context.clone()), count: None };
            let forked = self.seat.sandbox().context_fork(&self.seat.context, spec).await;
            forked.map_err(|error| step_error(&error))?;
            let housing = Arc::clone(&self.seat.housing);
            let seat = Seat { housing, context, interpreter: Interpreter::Alive };
            let Self { era, limit, last_exit_code, .. } = *self;
            let copy = Self { kit: Arc::clone(&self.kit), seat, era, limit, last_exit_code };
            Ok(Box::new(copy) as Box<dyn Instance>)
        })
    }

    fn call_tool<'a>(
        &'a mut self,
        _: &'a str,
        _: &'a Map<String, Value>,
    ) -> BoxFuture<'a, Result<Value, ToolError>> {
        Box::pin(std::future::ready(Err(ToolError::None)))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        // Its sandbox ends in the background; nobody waits for that.
        drop(self);
        Box::pin(std::future::ready(()))
    }
}
