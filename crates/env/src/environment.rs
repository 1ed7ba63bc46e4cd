//! What an environment is: its name, its schemas, and how a session of it is made.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::game::Game;
use crate::instance::Host;
use crate::model::Model;
use crate::tasks::{TaskError, TaskQuery};

/// Which time's rules and wire hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Era {
    /// As the first clients know it: one session for all of them over HTTP, no metadata on the wire.
    Seed,
    /// As clients are today.
    #[default]
    Today,
}

/// Who says whether a step may be taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turns {
    /// The session: not before the first reset, nor after the end.
    FromReset,
    /// The session: at once, for what is made is in an episode already; not after the end.
    AtOnce,
    /// The environment itself.
    ItsOwn,
}

/// JSON Schemas (draft 2020-12) of what is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Schemas {
    /// Of an action.
    pub action: Value,
    /// Of an observation.
    pub observation: Value,
    /// Of a state.
    pub state: Value,
    /// Of the observation after a reset, which may differ.
    pub reset_observation: Value,
}

/// A tool that an agent may call by MCP.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments.
    pub input_schema: Value,
    /// JSON Schema of its result.
    pub output_schema: Value,
}

/// How a session's player is made.
#[derive(Clone)]
pub enum Maker {
    /// In memory.
    Game {
        /// What an action looks like.
        action: Arc<Model>,
        /// Makes one, with the rules of an era.
        make: fn(Era) -> Box<dyn Game>,
    },
    /// Elsewhere: in a worker, a sandbox or another server.
    Host(Arc<dyn Host>),
}

impl fmt::Debug for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Game { .. } => f.write_str("Game"),
            Self::Host(host) => f.debug_tuple("Host").field(host).finish(),
        }
    }
}

/// A kind of environment.
#[derive(Debug, Clone)]
pub struct Environment {
    /// How it is called, e.g. `grid_world`.
    pub name: String,
    /// What clients are told that its class is called, e.g. `GridWorldEnvironment`.
    pub class: String,
    /// One sentence.
    pub description: String,
    /// Changes with its rules.
    pub version: String,
    /// What its author says of it, as Markdown.
    pub readme: Option<String>,
    /// Of what is sent.
    pub schemas: Schemas,
    /// Tools for MCP; `None` where it has none to call.
    pub tools: Option<Vec<Tool>>,
    /// Who says whose turn it is.
    pub turns: Turns,
    /// How a session's player is made.
    pub maker: Maker,
}

impl Environment {
    /// One that plays in memory.
    #[must_use]
    pub fn in_memory(about: About, models: Models, turns: Turns, make: fn(Era) -> Box<dyn Game>) -> Self {
        let schemas = models.schemas();
        Self::new(about, schemas, turns, Maker::Game { action: Arc::new(models.action), make })
    }

    /// One that plays elsewhere.
    #[must_use]
    pub fn elsewhere(about: About, models: &Models, turns: Turns, host: Arc<dyn Host>) -> Self {
        Self::new(about, models.schemas(), turns, Maker::Host(host))
    }

    fn new(about: About, schemas: Schemas, turns: Turns, maker: Maker) -> Self {
        Self {
            name: about.name.to_owned(),
            class: about.class.to_owned(),
            description: about.description.to_owned(),
            version: about.version.to_owned(),
            readme: None,
            schemas,
            tools: None,
            turns,
            maker,
        }
    }

    /// Answers what is asked of its tasks.
    ///
    /// # Errors
    /// [`TaskError`]: it has none, or none there, or failed.
    pub async fn tasks(&self, query: &TaskQuery) -> Result<Value, TaskError> {
        match &self.maker {
            Maker::Game { .. } => Err(TaskError::NotSupported(query.method())),
            Maker::Host(host) => host.tasks(query).await,
        }
    }

    /// The same, with tools for MCP.
    #[must_use]
    pub fn with_tools(mut self, tools: Vec<Tool>) -> Self {
        self.tools = Some(tools);
        self
    }
}

/// What people are told of an environment that comes with Hothouse.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// How it is called.
    pub name: &'static str,
    /// What clients are told that its class is called.
    pub class: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// Changes with its rules.
    pub version: &'static str,
}

/// What is sent, of an environment that comes with Hothouse.
#[derive(Debug, Clone)]
pub struct Models {
    /// An action.
    pub action: Model,
    /// An observation.
    pub observation: Model,
    /// A state.
    pub state: Model,
}

impl Models {
    fn schemas(&self) -> Schemas {
        let observation = self.observation.schema();
        Schemas {
            action: self.action.schema(),
            reset_observation: observation.clone(),
            observation,
            state: self.state.schema(),
        }
    }
}
