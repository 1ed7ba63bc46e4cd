//! Why a command failed, as a person and as a program see it.

use std::fmt;
use std::io;

use hothouse_domain::{ErrorCode, Invalid, InvalidId, Problem};
use hothouse_sandbox::{ImageError, NodeStartError, SandboxError};
use serde::Serialize;

/// The exit status of a command that failed by itself.
pub(crate) const EXIT_FAILURE: u8 = 1;
/// The exit status of wrong usage.
pub(crate) const EXIT_USAGE: u8 = 2;
/// The exit status of `run` and `exec` when Hothouse failed, not the program.
pub(crate) const EXIT_OWN: u8 = 125;
/// The exit status when whoever read our output went away: 128 + SIGPIPE.
pub(crate) const EXIT_PIPE: u8 = 141;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something to tell.
    Told(Box<Told>),
    /// Nothing to tell: all was said, or nobody listens. Ends with this status.
    Quiet(u8),
}

/// A failure with what to tell.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    #[serde(flatten)]
    problem: Problem,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip)]
    exit: u8,
}

impl Failure {
    /// A failure with a stable code and a lowercase sentence.
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// Wrong usage of one flag or argument.
    pub(crate) fn usage(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Problem::from(Invalid::new(field, reason)).into()
    }

    /// An operation on this machine that failed: what was tried, and the system's reason.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(ErrorCode::Internal, format!("{what}: {}", reason(error)))
    }

    /// With what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Told(told) = &mut self {
            told.hint = Some(hint.into());
        }
        self
    }

    /// As `run` and `exec` report it: 125, so that it is not taken for the program's own status.
    #[must_use]
    pub(crate) fn own(mut self) -> Self {
        if let Self::Told(told) = &mut self
            && told.exit == EXIT_FAILURE
        {
            told.exit = EXIT_OWN;
        }
        self
    }

    /// The stable code, when there is something to tell.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Told(told) => Some(told.problem.code),
            Self::Quiet(_) => None,
        }
    }

    /// The exit status.
    pub(crate) fn exit(&self) -> u8 {
        match self {
            Self::Told(told) => told.exit,
            Self::Quiet(status) => *status,
        }
    }

    /// The JSON problem document, one line; `None` when there is nothing to tell.
    pub(crate) fn json(&self) -> Option<String> {
        match self {
            Self::Told(told) => serde_json::to_string(told).ok(),
            Self::Quiet(_) => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told(told) => {
                // One line, whatever a server or program put into it.
                write!(f, "error: {}", one_line(&told.problem.detail))?;
                match &told.hint {
                    Some(hint) => write!(f, "\nhint: {}", one_line(hint)),
                    None => Ok(()),
                }
            }
            Self::Quiet(status) => write!(f, "ended with status {status}"),
        }
    }
}

/// The system's reason without its number, which tells a person nothing.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// A text from elsewhere on one line, without characters that move a terminal's cursor.
fn one_line(text: &str) -> String {
    let spaced = |c: char| if c == '\n' || c == '\t' { ' ' } else { c };
    text.chars().map(spaced).filter(|c| !c.is_control()).collect()
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let (exit, hint) = match problem.code {
            ErrorCode::InvalidRequest => (EXIT_USAGE, None),
            ErrorCode::CreateFailed | ErrorCode::Unsupported => {
                (EXIT_FAILURE, Some("`hothouse doctor` shows what this machine can do".to_owned()))
            }
            _ => (EXIT_FAILURE, None),
        };
        Self::Told(Box::new(Told { problem, hint, exit }))
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Problem::from(invalid).into()
    }
}

impl From<InvalidId> for Failure {
    fn from(invalid: InvalidId) -> Self {
        Self::usage("id", invalid.to_string())
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        error.problem().into()
    }
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Self {
        error.problem().into()
    }
}

impl From<NodeStartError> for Failure {
    fn from(error: NodeStartError) -> Self {
        Self::new(ErrorCode::Unsupported, error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new(ErrorCode::Internal, format!("writing JSON: {error}"))
    }
}

/// For errors of writing to standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Quiet(EXIT_PIPE);
        }
        Self::io("writing output", &error)
    }
}
