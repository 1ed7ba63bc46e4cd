//! Lists of tasks that some environments have, as OpenEnv's Task API asks for them.

use serde_json::{Value, json};

use crate::game::Failed;
use crate::instance::OpenError;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskQuery {
    /// The splits there are.
    Splits,
    /// All tasks of a split.
    Tasks {
        /// Its name.
        split: String,
    },
    /// How many tasks a split has.
    Count {
        /// Its name.
        split: String,
    },
    /// One task.
    Task {
        /// The split's name.
        split: String,
        /// Its place in the split, from 0.
        index: i64,
    },
    /// Tasks that follow each other.
    Range {
        /// The split's name.
        split: String,
        /// The first; from the beginning when left out.
        start: Option<i64>,
        /// The one behind the last; to the end when left out.
        stop: Option<i64>,
    },
}

impl TaskQuery {
    /// The method of an author's class that answers it.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Self::Splits => "list_splits",
            Self::Tasks { .. } => "list_tasks",
            Self::Count { .. } => "num_tasks",
            Self::Task { .. } => "get_task",
            Self::Range { .. } => "get_task_range",
        }
    }

    /// What that is given, by name.
    #[must_use]
    pub fn arguments(&self) -> Value {
        match self {
            Self::Splits => json!({}),
            Self::Tasks { split } | Self::Count { split } => json!({"split": split}),
            Self::Task { split, index } => json!({"split": split, "index": index}),
            Self::Range { split, start, stop } => json!({"split": split, "start": start, "stop": stop}),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// The environment has no such lists.
    #[error("{0} is not supported for this environment")]
    NotSupported(&'static str),
    /// There is no task at this place.
    #[error("Invalid task index")]
    Index,
    /// The environment failed.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// What would answer could not be reached.
    #[error(transparent)]
    Unreached(#[from] OpenError),
}
