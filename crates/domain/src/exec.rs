//! One command in a sandbox: what to run, and what happened.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::context::{Mime, Raised, Value};
use crate::id::ExecId;
use crate::problem::Invalid;
use crate::sandbox::{check_env, check_path};

/// The longest argument list, in bytes, NULs included.
pub const MAX_ARGV_BYTES: usize = 1 << 20;
/// The longest timeout, in seconds: 30 days.
pub const MAX_TIMEOUT_S: f64 = 30.0 * 86_400.0;
/// Kept output per stream when the request names no limit, in bytes.
pub const DEFAULT_OUTPUT_LIMIT: u64 = 1 << 20;
/// The most output that may be kept per stream, in bytes.
pub const MAX_OUTPUT_LIMIT: u64 = 16 << 20;
/// Time from TERM to KILL when the request names none, in seconds.
pub const DEFAULT_GRACE_S: f64 = 2.0;

/// One command to run in a sandbox. Exactly one of `argv` and `shell` is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExecSpec {
    /// Chosen by the client: a repeat with the same id and body returns the recorded result instead of running again;
    /// the same id with another body is a conflict. Made by the server when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec_id: Option<ExecId>,
    /// Program and arguments; the program is looked up in the sandbox's `PATH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["python3", "-c", "print(1)"]))]
    pub argv: Option<Vec<String>>,
    /// A command line for the sandbox's `/bin/sh -c`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Added to the sandbox's own environment.
    pub env: BTreeMap<String, String>,
    /// Names of the sandbox's secrets that it gets as variables; a variable of the same name in `env` wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Working directory; the sandbox's `workdir` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// A user name or number of the sandbox, `user` or `user:group`; root when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Text for standard input, which then ends. `encoding` says how it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// How `stdin` is written.
    pub stdin_encoding: Encoding,
    /// Keep standard input open for `POST …/stdin` after the inline text.
    pub stdin_open: bool,
    /// Wall time until the whole process tree gets TERM, in seconds; none when absent. 0.001 to 2,592,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    /// Time from TERM to KILL, in seconds; 2 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_s: Option<f64>,
    /// How many bytes of each stream are kept (half from its start, half from its end); 1 MiB when absent, at most
    /// 16 MiB. What falls between is counted, not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_limit_bytes: Option<u64>,
    /// Run it on a pseudo-terminal of this size; output then is one stream, `stdout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pty: Option<PtySize>,
    /// Answer as soon as it runs; fetch the result later by its id.
    pub detach: bool,
}

impl ExecSpec {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Invalid`] names the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), Invalid> {
        match (&self.argv, &self.shell) {
            (Some(argv), None) => check_argv(argv)?,
            (None, Some(shell)) => check_text("shell", shell)?,
            (Some(_), Some(_)) => {
                return Err(Invalid::new("argv", "and shell are both given; give exactly one"));
            }
            (None, None) => {
                return Err(Invalid::new("argv", "is missing; give argv (a list) or shell (a string)"));
            }
        }
        check_env(&self.env)?;
        if let Some(cwd) = &self.cwd {
            check_path("cwd", cwd)?;
        }
        check_user(self.user.as_deref())?;
        check_seconds("timeout_s", self.timeout_s, 0.001, MAX_TIMEOUT_S)?;
        check_seconds("grace_s", self.grace_s, 0.0, 3600.0)?;
        if let Some(limit) = self.output_limit_bytes
            && limit > MAX_OUTPUT_LIMIT
        {
            return Err(Invalid::new(
                "output_limit_bytes",
                format!("is {limit}; at most {MAX_OUTPUT_LIMIT}. Stream the output to read more"),
            ));
        }
        if let Some(pty) = &self.pty {
            pty.validate()?;
        }
        Ok(())
    }
}

fn check_argv(argv: &[String]) -> Result<(), Invalid> {
    if argv.first().is_none_or(String::is_empty) {
        return Err(Invalid::new("argv", "is empty; its first element is the program"));
    }
    if let Some(at) = argv.iter().position(|arg| arg.contains('\0')) {
        return Err(Invalid::new(format!("argv[{at}]"), "has a NUL byte"));
    }
    let bytes: usize = argv.iter().map(|arg| arg.len() + 1).sum();
    if bytes > MAX_ARGV_BYTES {
        return Err(Invalid::new("argv", format!("has {bytes} bytes; at most {MAX_ARGV_BYTES}")));
    }
    Ok(())
}

/// Checks a user of the sandbox.
pub(crate) fn check_user(user: Option<&str>) -> Result<(), Invalid> {
    match user {
        Some(user) if user.is_empty() || user.len() > 128 || user.contains('\0') => {
            Err(Invalid::new("user", "is not a user; use a name or number, or user:group"))
        }
        Some(_) | None => Ok(()),
    }
}

pub(crate) fn check_text(field: &str, text: &str) -> Result<(), Invalid> {
    if text.contains('\0') {
        return Err(Invalid::new(field, "has a NUL byte"));
    }
    // The kernel takes no single argument over 128 KiB.
    if text.len() >= 128 << 10 {
        return Err(Invalid::new(
            field,
            format!("has {} bytes; at most 131071. Write it to a file and run that", text.len()),
        ));
    }
    Ok(())
}

/// Checks a number of seconds against its range.
///
/// # Errors
/// [`Invalid`] names the field and the range.
pub fn check_seconds(field: &str, value: Option<f64>, low: f64, high: f64) -> Result<(), Invalid> {
    match value {
        Some(s) if !(s.is_finite() && (low..=high).contains(&s)) => {
            Err(Invalid::new(field, format!("is {s}; use {low} to {high} seconds")))
        }
        Some(_) | None => Ok(()),
    }
}

/// How bytes are written in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Encoding {
    /// As the text itself.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// As standard base64 with padding, for bytes that are not UTF-8.
    #[serde(rename = "base64")]
    Base64,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PtySize {
    /// Lines, 1 to 10,000.
    pub rows: u16,
    /// Characters in a line, 1 to 10,000.
    pub cols: u16,
}

impl PtySize {
    /// Checks both numbers.
    ///
    /// # Errors
    /// [`Invalid`] names the field.
    pub fn validate(&self) -> Result<(), Invalid> {
        for (field, value) in [("pty.rows", self.rows), ("pty.cols", self.cols)] {
            if !(1..=10_000).contains(&value) {
                return Err(Invalid::new(field, format!("is {value}; use 1 to 10000")));
            }
        }
        Ok(())
    }
}

/// How an exec ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// Its leader called exit.
    Exited {
        /// The exit status, 0 to 255.
        code: i32,
    },
    /// A signal that Hothouse did not send ended its leader, or one that a client asked for.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// Its time was up; the whole tree was ended.
    TimedOut,
    /// The kernel ended it because the sandbox's memory limit was reached.
    OomKilled,
    /// It never ran.
    FailedToStart {
        /// Why, e.g. `python9: no such program in PATH`.
        reason: String,
    },
    /// The sandbox died or was deleted under it.
    Lost {
        /// What happened to the sandbox.
        reason: String,
    },
}

/// What an exec used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// CPU time in user mode of the leader and the children it waited for, in seconds.
    pub cpu_user_s: f64,
    /// CPU time in the kernel, likewise.
    pub cpu_system_s: f64,
    /// The largest resident set of one of these processes, in bytes.
    pub max_rss_bytes: u64,
}

/// What was not kept of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Truncated {
    /// Bytes of standard output that fell out of its middle.
    pub stdout_dropped_bytes: u64,
    /// Bytes of standard error that fell out of its middle.
    pub stderr_dropped_bytes: u64,
}

/// What happened to one exec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExecResult {
    /// Its id.
    pub exec_id: ExecId,
    /// How it ended.
    pub outcome: Outcome,
    /// Standard output: its kept start and end, one after the other.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// How `stdout` and `stderr` are written: `utf-8`, or `base64` when either has bytes that are not UTF-8.
    pub encoding: Encoding,
    /// What was not kept.
    pub truncated: Truncated,
    /// True when a process that outlived the leader still held an output open, so that output may have followed.
    pub output_held_open: bool,
    /// Wall time from start to end, in seconds.
    pub duration_s: f64,
    /// What it used.
    pub usage: Usage,
    /// True when this is the recorded result of an earlier request with the same id.
    pub replayed: bool,
    /// For code of a context: what its last expression came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<Value>>,
    /// For code of a context: the exception that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<Raised>>,
    /// For code of a context: what it showed beside what it printed, e.g. figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub displays: Vec<Mime>,
    /// For code of a context: the parts of its value that were too large to be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<String>,
}

/// Whether an exec still runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ExecState {
    /// It runs.
    Running,
    /// It has ended.
    Finished {
        /// What happened.
        result: Box<ExecResult>,
    },
}

/// One exec as lookups show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExecStatus {
    /// Its id.
    pub exec_id: ExecId,
    /// Whether it runs, and if not, what happened.
    #[serde(flatten)]
    pub state: ExecState,
    /// Bytes that it has written to standard output so far.
    pub stdout_bytes: u64,
    /// Bytes that it has written to standard error so far.
    pub stderr_bytes: u64,
}
