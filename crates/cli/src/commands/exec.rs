//! `hothouse exec`.

use hothouse_domain::{ExecId, ExecSpec, SandboxId};
use hothouse_sandbox::sandbox::SignalTarget;

use super::follow::{End, follow};
use super::program::ProgramFlags;
use super::{needs_server, run};
use crate::console;
use crate::failure::Failure;
use crate::flags::ServerFlags;
use crate::interrupt::{Interrupts, status_of_signal};
use crate::place::{SandboxHandle, fresh_exec_id};

/// Run a program in a sandbox of a server
///
/// As for `run`: live output, forwarded input, the program's own exit status.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hothouse exec sb-1 -- pip list
  hothouse exec --detach --exec-id train sb-1 -- python3 train.py && hothouse logs --follow sb-1 train")]
pub(crate) struct ExecArgs {
    /// Which sandbox
    #[arg(value_name = "ID")]
    id: SandboxId,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    argv: Vec<String>,
    /// Return as soon as it runs and print its exec id; `hothouse logs` shows its output
    #[arg(long, short = 'd', conflicts_with_all = ["tty", "interactive"], help_heading = "Program")]
    detach: bool,
    /// Name this exec: a repeat with the same id gives the first one's result instead of running again
    #[arg(long, value_name = "EXEC_ID", help_heading = "Program")]
    exec_id: Option<ExecId>,
    #[command(flatten)]
    program: ProgramFlags,
    #[command(flatten)]
    server: ServerFlags,
}

impl ExecArgs {
    /// True when a program reads the output.
    pub(super) fn wants_json(&self) -> bool {
        self.program.wants_json()
    }
}

/// Runs the program; its exit status.
pub(crate) async fn run(args: ExecArgs) -> Result<u8, Failure> {
    let ExecArgs { detach, exec_id, program, server, id, argv } = args;
    let (json, mode) = (program.wants_json(), program.mode()?);
    let spec = ExecSpec { exec_id: Some(exec_id.unwrap_or_else(fresh_exec_id)), ..program.spec(argv)? };
    let sandbox = server.client()?.sandbox(id);
    let status = async {
        if detach {
            let status = sandbox.exec_detached(spec).await?;
            if json {
                console::json(&status)?
            } else {
                console::line(status.exec_id.as_str())?
            }
            return Ok(0);
        }
        let mut interrupts = Interrupts::listen()?;
        match Box::pin(follow(&sandbox, spec.clone(), mode, &mut interrupts)).await? {
            End::Finished(result) => run::finish(&sandbox, *result, mode, spec.timeout_s).await,
            End::Interrupted(signal) => {
                if let Some(id) = &spec.exec_id {
                    kill(&sandbox, id).await?;
                }
                Ok(status_of_signal(signal))
            }
        }
    };
    Box::pin(status).await.map_err(|failure| needs_server(failure).own())
}

/// Ends a program that did not go by itself; the sandbox stays.
async fn kill(sandbox: &SandboxHandle, id: &ExecId) -> Result<(), Failure> {
    use hothouse_domain::ErrorCode;
    const KILL: i32 = 9;
    match sandbox.signal(id, KILL, SignalTarget::Tree).await {
        // It has ended meanwhile, or had not begun.
        Err(failure) if matches!(failure.code(), Some(ErrorCode::ExecFinished | ErrorCode::ExecNotFound)) => {
            Ok(())
        }
        other => other,
    }
}
