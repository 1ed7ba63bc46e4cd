//! The rules of an environment that plays in memory.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::model::Model;
use crate::observed::Observed;
use crate::session::StepError;

/// How an episode begins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reset {
    /// Draws are the same for the same one; without it they differ from episode to episode.
    pub seed: Option<u64>,
    /// All that the client gave, `seed` and `episode_id` too, for those who want to see it as it came.
    pub given: Map<String, Value>,
}

/// Why it could not be done. What plays goes on as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failed {
    /// One sentence.
    pub message: String,
    /// Where in the author's code.
    pub traceback: Option<String>,
}

impl Failed {
    /// For this reason.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), traceback: None }
    }
}

/// Why a tool gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// There is none of this name.
    #[error("Unknown tool: '{0}'")]
    Unknown(String),
    /// Its arguments are wrong, as this says.
    #[error("{0}")]
    Arguments(String),
    /// It failed.
    #[error("{0}")]
    Failed(String),
    /// The environment has no tools.
    #[error("Environment does not support MCP")]
    None,
}

/// One game, whatever its rules. [`Typed`] makes one of [`Rules`].
pub trait Game: Send + fmt::Debug {
    /// Begins an episode and shows it.
    ///
    /// # Errors
    /// [`Failed`]: it cannot begin so.
    fn reset(&mut self, how: &Reset, shown: &mut Observed) -> Result<(), Failed>;

    /// Does what an action, a JSON object, says.
    ///
    /// # Errors
    /// [`StepError::Invalid`]: it is not as its model wants it; [`StepError::Failed`]: it cannot be done now.
    fn step(&mut self, action: &str, model: &Model, shown: &mut Observed) -> Result<(), StepError>;

    /// Fields of its state beside `episode_id` and `step_count`, as a JSON object.
    fn state(&self) -> Option<Vec<u8>>;

    /// The same game, from now on apart.
    fn copy(&self) -> Box<dyn Game>;

    /// Calls a tool; what it returns.
    ///
    /// # Errors
    /// [`ToolError`]: there is none of this name, or it failed.
    fn call_tool(&mut self, name: &str, arguments: &Map<String, Value>) -> Result<Value, ToolError>;
}

/// The rules of a game, over actions of a type of its own.
pub trait Rules: Clone + Send + fmt::Debug + 'static {
    /// What an action is. It must take what the environment's model takes once that has filled it in, and refuse all else.
    type Action: DeserializeOwned;

    /// Begins an episode and shows it.
    ///
    /// # Errors
    /// [`Failed`]: it cannot begin so.
    fn reset(&mut self, how: &Reset, shown: &mut Observed) -> Result<(), Failed>;

    /// Does what an action says and shows what came of it.
    ///
    /// # Errors
    /// [`Failed`]: it cannot be done now.
    fn step(&mut self, action: Self::Action, shown: &mut Observed) -> Result<(), Failed>;

    /// Fields of its state beside `episode_id` and `step_count`, as a JSON object.
    fn state(&self) -> Option<Vec<u8>> {
        None
    }

    /// Calls a tool; what it returns.
    ///
    /// # Errors
    /// [`ToolError`]: there is none of this name, or it failed.
    fn call_tool(&mut self, name: &str, arguments: &Map<String, Value>) -> Result<Value, ToolError> {
        let (_, _) = (name, arguments);
        Err(ToolError::None)
    }
}

/// Fields as a JSON object, in their order.
#[must_use]
pub(crate) fn fields(of: &impl Serialize) -> Option<Vec<u8>> {
    let written = serde_json::to_vec(of);
    debug_assert!(written.is_ok(), "the fields of a state are plain");
    written.ok()
}

/// An action as it is meant.
///
/// # Errors
/// [`StepError::Invalid`]: it is not as its model wants it; [`StepError::Failed`]: it is no JSON.
pub(crate) fn read<A: DeserializeOwned>(action: &str, model: &Model) -> Result<A, StepError> {
    // Nearly all actions are just as they should be; what is not is looked at again, for what it could mean or for what
    // is wrong with it.
    // An object only: a list of its fields' values would be read as well.
    if action.trim_ascii_start().starts_with('{')
        && let Ok(action) = serde_json::from_str(action)
    {
        return Ok(action);
    }
    let given =
        serde_json::from_str(action).map_err(|e| Failed::new(format!("the action is no JSON: {e}")))?;
    let checked = model.check(given).map_err(StepError::Invalid)?;
    let taken = serde_json::from_value(Value::Object(checked));
    Ok(taken.map_err(|e| Failed::new(format!("the action cannot be taken: {e}")))?)
}

/// Rules as a game.
#[derive(Debug, Clone)]
pub struct Typed<R>(pub R);

impl<R: Rules> Game for Typed<R> {
    fn reset(&mut self, how: &Reset, shown: &mut Observed) -> Result<(), Failed> {
        self.0.reset(how, shown)
    }

    fn step(&mut self, action: &str, model: &Model, shown: &mut Observed) -> Result<(), StepError> {
        Ok(self.0.step(read(action, model)?, shown)?)
    }

    fn state(&self) -> Option<Vec<u8>> {
        self.0.state()
    }

    fn copy(&self) -> Box<dyn Game> {
        Box::new(self.clone())
    }

    fn call_tool(&mut self, name: &str, arguments: &Map<String, Value>) -> Result<Value, ToolError> {
        self.0.call_tool(name, arguments)
    }
}
