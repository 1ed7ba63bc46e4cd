//! A live shell in a sandbox, which keeps its working directory and variables from command to command.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::exec::check_seconds;
use crate::id::{ExecId, ShellId};
use crate::problem::Invalid;
use crate::sandbox::{check_env, check_path};

/// What to open a shell session with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShellSpec {
    /// The id; made by the server when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell_id: Option<ShellId>,
    /// Added to the sandbox's own environment.
    pub env: BTreeMap<String, String>,
    /// Names of the sandbox's secrets that it gets as variables; a variable of the same name in `env` wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Where it starts; the sandbox's `workdir` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// A user name or number of the sandbox; root when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl ShellSpec {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Invalid`] names the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), Invalid> {
        check_env(&self.env)?;
        match &self.cwd {
            Some(cwd) => check_path("cwd", cwd),
            None => Ok(()),
        }
    }
}

/// An open shell session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShellInfo {
    /// Its id.
    pub shell_id: ShellId,
    /// The program, e.g. `/bin/bash`.
    pub program: String,
    /// True while a command runs in it.
    pub busy: bool,
}

/// One command for a live shell. Its result is an [`ExecResult`](crate::ExecResult), whose outcome `exited` carries the
/// shell's `$?`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShellCommand {
    /// As an exec's id: a repeat returns the recorded result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec_id: Option<ExecId>,
    /// The command line; may span lines.
    pub command: String,
    /// Wall time until the command is interrupted, in seconds; none when absent. The shell itself lives on when the
    /// command gives way to the interrupt, and is ended when it does not within 2 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    /// How many bytes of each stream are kept; as for an exec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_limit_bytes: Option<u64>,
}

impl ShellCommand {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Invalid`] names the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.command.contains('\0') {
            return Err(Invalid::new("command", "has a NUL byte"));
        }
        if self.command.len() > 1 << 20 {
            return Err(Invalid::new(
                "command",
                format!("has {} bytes; at most 1048576", self.command.len()),
            ));
        }
        check_seconds("timeout_s", self.timeout_s, 0.001, crate::exec::MAX_TIMEOUT_S)
    }
}
