//! What plays elsewhere: in a worker, a sandbox or another server.

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Map, Value};

use crate::environment::Era;
use crate::game::{Reset, ToolError};
use crate::observed::Observed;
use crate::session::{SessionLimits, StepError};
use crate::tasks::{TaskError, TaskQuery};

/// Why no session could be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct OpenError {
    /// One sentence.
    pub message: String,
    /// Where in the author's code.
    pub traceback: Option<String>,
}

/// A state, as a JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// Fields beside `episode_id` and `step_count`.
    Beside(Vec<u8>),
    /// All of it.
    Whole(Vec<u8>),
}

/// How arrays are told, where an environment has some.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Arrays {
    /// As nested lists of numbers.
    #[default]
    Lists,
    /// Larger ones packed: their type, their shape, and their bytes in Base64.
    Packed,
}

/// What a client and its session have agreed on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    /// Whose rules hold.
    pub era: Era,
    /// How arrays are told.
    pub arrays: Arrays,
    /// What the session may use.
    pub limits: SessionLimits,
}

/// Makes instances of one environment.
pub trait Host: Send + Sync + fmt::Debug {
    /// Makes one, for a session on these terms.
    fn open(&self, terms: Terms) -> BoxFuture<'_, Result<Box<dyn Instance>, OpenError>>;

    /// Answers what is asked of the environment's tasks. Most have none.
    fn tasks<'a>(&'a self, query: &'a TaskQuery) -> BoxFuture<'a, Result<Value, TaskError>> {
        Box::pin(async { Err(TaskError::NotSupported(query.method())) })
    }
}

/// What a client may say beside an action.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// The time that it gives the step.
    pub within: Option<Duration>,
    /// Further arguments by name, for environments whose step takes some.
    pub kwargs: Option<&'a Map<String, Value>>,
}

/// One that plays. Its session never asks for two things at once. Dropping it ends it; [`Instance::close`] ends it in
/// order.
pub trait Instance: Send + fmt::Debug {
    /// Begins an episode.
    fn reset<'a>(&'a mut self, how: &'a Reset) -> BoxFuture<'a, Result<Observed, StepError>>;

    /// Does what an action, a JSON object, says.
    fn step<'a>(
        &'a mut self,
        action: &'a str,
        beside: Beside<'a>,
    ) -> BoxFuture<'a, Result<Observed, StepError>>;

    /// What it may take beyond the time of a step. One that can stop what a step does and go on takes a while for that
    /// when the time is up; of others the session gives up then and there.
    fn overtime(&self) -> Duration {
        Duration::ZERO
    }

    /// Where it is.
    fn state(&mut self) -> BoxFuture<'_, Result<Shown, StepError>>;

    /// Another one in the same state, from now on apart.
    fn copy(&mut self) -> BoxFuture<'_, Result<Box<dyn Instance>, StepError>>;

    /// Calls a tool; the result as MCP has it.
    fn call_tool<'a>(
        &'a mut self,
        name: &'a str,
        arguments: &'a Map<String, Value>,
    ) -> BoxFuture<'a, Result<Value, ToolError>>;

    /// Ends it in order.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}
