//! Shell sessions.

use hothouse_domain::exec::DEFAULT_OUTPUT_LIMIT;
use hothouse_domain::shell::{ShellCommand, ShellInfo, ShellSpec};
use hothouse_domain::{ExecResult, ShellId};
use hothouse_guest::message::{OutputMode, Reply, Request};

use super::Sandbox;
use super::requests::{Repeat, strange};
use crate::error::SandboxError;
use crate::exec_request::{self, fresh};
use crate::stream::{ExecStream, StdinRoute};

impl Sandbox {
    /// Starts a shell session.
    ///
    /// # Errors
    /// [`SandboxError`]: id taken, no shell in the image, too many.
    pub async fn shell_open(&self, mut spec: ShellSpec) -> Result<ShellInfo, SandboxError> {
        let shell_id = spec.shell_id.take().unwrap_or_else(|| fresh("sh"));
        let request = exec_request::shell_open(&self.terms().spec, spec, &shell_id)?;
        match self.ask(&request, Repeat::Never).await? {
            Reply::ShellOpened { program } => Ok(ShellInfo { shell_id, program, busy: false }),
            reply => Err(strange(&reply)),
        }
    }

    /// Runs a command in a shell session to its end.
    ///
    /// # Errors
    /// [`SandboxError`]: no such session, busy.
    pub async fn shell_run(
        &self,
        shell_id: &ShellId,
        mut command: ShellCommand,
    ) -> Result<ExecResult, SandboxError> {
        let (exec_id, origin) = exec_request::exec_id(command.exec_id.take());
        let limit = command.output_limit_bytes.unwrap_or(DEFAULT_OUTPUT_LIMIT);
        let request = exec_request::shell_run(shell_id, command, &exec_id, OutputMode::Collect)?;
        self.collect(&request, (&exec_id, origin), limit).await
    }

    /// Runs a command in a shell session and follows it live.
    ///
    /// # Errors
    /// As for [`Sandbox::shell_run`].
    pub async fn shell_stream(
        &self,
        shell_id: &ShellId,
        mut command: ShellCommand,
    ) -> Result<ExecStream, SandboxError> {
        let exec_id = exec_request::exec_id(command.exec_id.take()).0;
        let request = exec_request::shell_run(shell_id, command, &exec_id, OutputMode::Follow)?;
        self.follow(&request, exec_id, StdinRoute::Closed, (0, 0)).await
    }

    /// Interrupts the command that a shell session runs.
    ///
    /// # Errors
    /// [`SandboxError`]: no such session.
    pub async fn shell_interrupt(&self, shell_id: &ShellId) -> Result<(), SandboxError> {
        self.tell(&Request::ShellInterrupt { shell_id: shell_id.to_string() }, Repeat::Never).await
    }

    /// Ends a shell session.
    ///
    /// # Errors
    /// [`SandboxError`]: no such session.
    pub async fn shell_close(&self, shell_id: &ShellId) -> Result<(), SandboxError> {
        self.tell(&Request::ShellClose { shell_id: shell_id.to_string() }, Repeat::Never).await
    }

    /// The open shell sessions.
    ///
    /// # Errors
    /// [`SandboxError`]: frozen, dead.
    pub async fn shells(&self) -> Result<Vec<ShellInfo>, SandboxError> {
        let entries = match self.ask(&Request::ShellList, Repeat::Safe).await? {
            Reply::Shells(entries) => entries,
            reply => return Err(strange(&reply)),
        };
        let info = |entry: hothouse_guest::message::ShellEntry| {
            let shell_id = ShellId::try_from(entry.shell_id).ok()?;
            Some(ShellInfo { shell_id, program: entry.program, busy: entry.busy })
        };
        Ok(entries.into_iter().filter_map(info).collect())
    }
}
