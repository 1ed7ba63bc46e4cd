//! `hothouse logs`.

use hothouse_domain::{ExecId, ExecState, ExecStatus, Outcome, SandboxId};

use super::follow::{End, watch};
use super::table::{self, Table};
use super::{needs_server, program};
use crate::console;
use crate::failure::Failure;
use crate::flags::ServerFlags;
use crate::interrupt::{Interrupts, status_of_signal};
use crate::place::{SandboxHandle, decode};

/// Show the output of an exec, or list the execs of a sandbox
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hothouse logs sb-1\n  hothouse logs --follow sb-1 train")]
pub(crate) struct LogsArgs {
    /// Which sandbox
    #[arg(value_name = "ID")]
    id: SandboxId,
    /// Which exec; all are listed when absent
    #[arg(value_name = "EXEC_ID")]
    exec_id: Option<ExecId>,
    /// Follow it live until it ends; the exit status then is the program's own
    #[arg(long, short = 'F', requires = "exec_id", conflicts_with = "json")]
    follow: bool,
    /// Print status, outputs and usage as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

/// Shows it.
pub(crate) async fn run(args: LogsArgs) -> Result<u8, Failure> {
    let LogsArgs { id, exec_id, follow, json, server } = args;
    let sandbox = server.client()?.sandbox(id);
    let shown = match exec_id {
        None => list(&sandbox, json).await,
        Some(exec_id) if follow => Box::pin(follow_exec(&sandbox, &exec_id)).await,
        Some(exec_id) => show(&sandbox, &exec_id, json).await,
    };
    shown.map_err(needs_server)
}

async fn list(sandbox: &SandboxHandle, json: bool) -> Result<u8, Failure> {
    let execs = sandbox.execs().await?;
    if json {
        console::json(&execs)?;
        return Ok(0);
    }
    let mut table = Table::new(&["EXEC_ID", "STATE", "TIME", "STDOUT", "STDERR"]);
    for exec in &execs {
        let (state, time) = state(exec);
        table.row(vec![
            exec.exec_id.to_string(),
            state,
            time,
            table::bytes(exec.stdout_bytes),
            table::bytes(exec.stderr_bytes),
        ]);
    }
    table.print()?;
    Ok(0)
}

fn state(exec: &ExecStatus) -> (String, String) {
    let ExecState::Finished { result } = &exec.state else { return ("running".to_owned(), String::new()) };
    let state = match &result.outcome {
        Outcome::Exited { code } => format!("exited {code}"),
        Outcome::Signalled { signal } => format!("signal {signal}"),
        Outcome::TimedOut => "timed out".to_owned(),
        Outcome::OomKilled => "out of memory".to_owned(),
        Outcome::FailedToStart { reason } => format!("did not start: {reason}"),
        Outcome::Lost { reason } => format!("lost: {reason}"),
    };
    (state, table::seconds(result.duration_s))
}

/// Shows what is kept so far.
async fn show(sandbox: &SandboxHandle, exec_id: &ExecId, json: bool) -> Result<u8, Failure> {
    let status = sandbox.exec_status(exec_id).await?;
    if json {
        console::json(&status)?;
        return Ok(0);
    }
    if let ExecState::Finished { result } = status.state {
        let dropped = result.truncated;
        console::bytes(&decode(result.stdout, result.encoding)?)?;
        console::err_bytes(&decode(result.stderr, result.encoding)?);
        let missing = dropped.stdout_dropped_bytes + dropped.stderr_dropped_bytes;
        if missing > 0 {
            console::note(&format!("hint: {missing} bytes from the middle were not kept"));
        }
        return Ok(0);
    }
    for (name, is_error) in [("stdout", false), ("stderr", true)] {
        let bytes = sandbox.kept_output(exec_id, name).await?;
        if is_error { console::err_bytes(&bytes) } else { console::bytes(&bytes)? }
    }
    Ok(0)
}

async fn follow_exec(sandbox: &SandboxHandle, exec_id: &ExecId) -> Result<u8, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let live = sandbox.attach(exec_id, 0, 0).await?;
    match Box::pin(watch(live, &mut interrupts)).await? {
        End::Interrupted(signal) => Ok(status_of_signal(signal)),
        End::Finished(result) => {
            let (status, message) = program::status(&result, None);
            if let Some(message) = message {
                console::note(&message);
            }
            Ok(status)
        }
    }
}
