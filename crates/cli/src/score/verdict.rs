//! What became of one attempt.

use std::fmt;

use hothouse_domain::Usage;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What became of one attempt. Nothing that a solution prints or returns decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Every test held.
    Passed,
    /// A test did not hold, or the solution ended, broke a rule or left something running.
    Failed,
    /// Its time was up.
    TimedOut,
    /// Its memory was used up.
    OomKilled,
    /// It could not be judged: the row's tests are broken, or the sandbox could not be made. Tried again on resume.
    Error,
}

impl Verdict {
    /// In the order of reports.
    pub(crate) const ALL: [Self; 5] =
        [Self::Passed, Self::Failed, Self::TimedOut, Self::OomKilled, Self::Error];

    /// As it stands in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::OomKilled => "oom_killed",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A verdict with its grounds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    /// Why, in a line; empty for a pass.
    pub(crate) reason: String,
    /// The call or case during which it was decided, where there is one.
    pub(crate) during: String,
    /// The start and end of what the solution wrote.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) usage: Usage,
}

impl Judgement {
    /// A verdict and its reason; nothing else is known.
    pub(crate) fn new(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self {
            verdict,
            reason: reason.into(),
            during: String::new(),
            stdout: String::new(),
            stderr: String::new(),
            usage: Usage::default(),
        }
    }

    /// Adds what an earlier part of the same attempt used.
    #[must_use]
    pub(crate) fn with_usage(mut self, usage: Usage) -> Self {
        self.usage.cpu_user_s += usage.cpu_user_s;
        self.usage.cpu_system_s += usage.cpu_system_s;
        self.usage.max_rss_bytes = self.usage.max_rss_bytes.max(usage.max_rss_bytes);
        self
    }
}

/// One line of the results file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(title = "result")]
pub(crate) struct Record {
    /// The task.
    pub(crate) task_id: String,
    /// Which of the task's solutions, from 0.
    pub(crate) sample: u32,
    /// Names task, solution, limits and image together; a finished attempt with this key is not run again.
    pub(crate) key: String,
    /// What became of it.
    pub(crate) verdict: Verdict,
    /// Why, in a line; empty for a pass.
    pub(crate) reason: String,
    /// The call or case during which it was decided; empty where there is none.
    pub(crate) during: String,
    /// Wall time from the sandbox being ready to the verdict, in seconds.
    pub(crate) duration_s: f64,
    /// What its processes used.
    pub(crate) usage: Usage,
    /// The start and the end of what the solution wrote to standard output.
    pub(crate) stdout: String,
    /// Likewise to standard error.
    pub(crate) stderr: String,
    /// True when its sandbox was removed with all that ran in it.
    pub(crate) contained: bool,
    /// The verdicts that the solution's row expects, if it says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) expect: Vec<Verdict>,
    /// What the solution tries, if its row says so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) attack: String,
}

impl Record {
    /// True when the verdict is one that the row expects: `passed` when it names none.
    pub(crate) fn as_expected(&self) -> bool {
        if self.expect.is_empty() {
            return self.verdict == Verdict::Passed;
        }
        self.expect.contains(&self.verdict)
    }
}
