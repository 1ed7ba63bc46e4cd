//! `hothouse repl`.

use std::io::Read as _;

use hothouse_domain::{
    ContextCode, ContextId, ContextSpec, ErrorCode, ExecResult, Outcome, SandboxId, SandboxSpec,
};

use super::follow::{self, End};
use super::prompt::{Line, Prompt};
use super::run::{put_files, sandbox_spec};
use super::{needs_server, program, table, terminal};
use crate::console;
use crate::failure::Failure;
use crate::flags::{EnvFlag, FileFlag, LimitFlags, PlaceFlags};
use crate::interrupt::{Interrupts, status_of_signal};
use crate::place::{ApiClient, Place, SandboxHandle};

/// A live Python in a sandbox: variables stay, the last expression's value is shown
///
/// Without an ID in a fresh sandbox, which goes when the session ends. On a terminal, lines are read one after another,
/// with history; Ctrl-C interrupts, Ctrl-D or `exit()` leaves. Code from a pipe or file runs as a whole; the exit status
/// then is 1 when an exception ended it, or what `sys.exit` was given.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hothouse repl
  hothouse repl --file data.csv --import csv --import statistics
  echo 'sum(range(10))' | hothouse repl
  hothouse repl sb-1")]
pub(crate) struct ReplArgs {
    /// A sandbox of a server; a fresh one when absent
    #[arg(value_name = "ID", conflicts_with_all = ["file", "image", "memory", "cpus", "pids", "disk", "inodes"])]
    id: Option<SandboxId>,
    /// Load a module beforehand (repeatable) [default: json, re, math, random, collections, and numpy where it is]
    #[arg(long = "import", value_name = "MODULE")]
    import: Vec<String>,
    /// Set a variable: NAME=VALUE, or NAME to pass it on (repeatable)
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]")]
    env: Vec<EnvFlag>,
    /// Where it starts [default: /workspace]
    #[arg(long, short = 'w', value_name = "PATH")]
    workdir: Option<String>,
    /// User in the sandbox, by name or number, also user:group [default: root]
    #[arg(long, short = 'u', value_name = "USER")]
    user: Option<String>,
    /// Put a file or directory into the fresh sandbox first (repeatable)
    #[arg(long, short = 'f', value_name = "LOCAL[:PATH]")]
    file: Vec<FileFlag>,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    place: PlaceFlags,
}

/// Runs the session; its exit status.
pub(crate) async fn run(args: ReplArgs) -> Result<u8, Failure> {
    let ReplArgs { id, import, env, workdir, user, file, limits, place } = args;
    let spec = ContextSpec {
        imports: (!import.is_empty()).then_some(import),
        env: EnvFlag::map(env),
        cwd: workdir.clone(),
        user,
        ..ContextSpec::default()
    };
    spec.validate().map_err(|invalid| {
        let flag = if invalid.field.starts_with("imports") {
            "--import".to_owned()
        } else {
            program::flag_of(&invalid.field)
        };
        Failure::usage(flag, invalid.reason)
    })?;
    // Before anything is made, so that what is no text costs nothing.
    let source = if terminal::present() { None } else { Some(read_all()?) };
    if let Some(id) = id {
        let client = ApiClient::new(place.url().unwrap_or(ApiClient::DEFAULT_URL))?;
        let status = Box::pin(session(&client.sandbox(id), spec, source)).await;
        return status.map_err(|failure| needs_server(failure).own());
    }
    let sandbox = sandbox_spec(&limits, workdir.as_deref())?;
    let place = Box::pin(Place::open(&place, 1)).await.map_err(Failure::own)?;
    let status = Box::pin(in_fresh(&place, sandbox, file, spec, source)).await.map_err(Failure::own);
    place.close().await;
    status
}

fn read_all() -> Result<String, Failure> {
    let mut source = String::new();
    match std::io::stdin().read_to_string(&mut source) {
        Ok(_) => Ok(source),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(Failure::usage("standard input", "is not UTF-8, which Python code is written in"))
        }
        Err(error) => Err(Failure::io("reading standard input", &error)),
    }
}

async fn in_fresh(
    place: &Place,
    spec: SandboxSpec,
    files: Vec<FileFlag>,
    context: ContextSpec,
    source: Option<String>,
) -> Result<u8, Failure> {
    let limits = spec.resources.clone();
    let sandbox = place.create(spec).await?;
    let status = Box::pin(async {
        put_files(&sandbox, files).await?;
        if source.is_none() {
            console::note(&format!(
                "A fresh sandbox: {} memory, {} cores, no network. All of it goes when you leave.",
                table::bytes(limits.memory_bytes),
                limits.cpus,
            ));
        }
        session(&sandbox, context, source).await
    })
    .await;
    if matches!(place, Place::Remote(_)) {
        // An embedded node takes its sandboxes with it.
        let deleted = sandbox.delete().await;
        return status.and_then(|status| deleted.map(|()| status));
    }
    status
}

async fn session(sandbox: &SandboxHandle, spec: ContextSpec, source: Option<String>) -> Result<u8, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let info = sandbox.context_open(spec).await?;
    let context = info.context_id;
    let status = match source {
        Some(code) => Box::pin(once(sandbox, &context, code, &mut interrupts)).await,
        None => Box::pin(converse(sandbox, &context, &info.python, &mut interrupts)).await,
    };
    // Its sandbox may be gone by now, and it with it.
    _ = sandbox.context_close(&context).await;
    status
}

/// Runs what came from a pipe.
async fn once(
    sandbox: &SandboxHandle,
    context: &ContextId,
    code: String,
    interrupts: &mut Interrupts,
) -> Result<u8, Failure> {
    match step(sandbox, context, code, interrupts).await? {
        End::Interrupted(signal) => Ok(status_of_signal(signal)),
        End::Finished(result) => {
            tell(&result)?;
            let (status, message) = program::status(&result, None);
            if let Some(message) = message.filter(|_| result.error.is_none()) {
                console::note(&message);
            }
            Ok(status)
        }
    }
}

async fn step(
    sandbox: &SandboxHandle,
    context: &ContextId,
    code: String,
    interrupts: &mut Interrupts,
) -> Result<End, Failure> {
    let code = ContextCode { code, ..ContextCode::default() };
    code.validate().map_err(|invalid| Failure::usage("the code", invalid.reason))?;
    follow::talk_to(sandbox.context_stream(context, code).await?, interrupts).await
}

/// Shows what code came to.
fn tell(result: &ExecResult) -> Result<(), Failure> {
    for display in &result.displays {
        match display.get("text/plain") {
            Some(text) => console::line(text)?,
            None => {
                let kinds: Vec<&str> = display.keys().map(String::as_str).collect();
                console::note(&format!("(shown as {})", kinds.join(", ")));
            }
        }
    }
    if let Some(value) = &result.value {
        console::line(&value.repr)?;
    }
    if let Some(error) = &result.error
        && error.name != "SystemExit"
    {
        let text = if error.traceback.is_empty() {
            format!("error: {}: {}", error.name, error.message)
        } else {
            error.traceback.trim_end().to_owned()
        };
        console::note(&text);
    }
    Ok(())
}

/// Reads, runs and shows, line after line, until the person leaves.
async fn converse(
    sandbox: &SandboxHandle,
    context: &ContextId,
    version: &str,
    interrupts: &mut Interrupts,
) -> Result<u8, Failure> {
    console::note(&format!("Python {version} in {}; Ctrl-D leaves.", sandbox.id()));
    let mut prompt = Prompt::new();
    loop {
        let (line, back) = prompt.read().await?;
        prompt = back;
        let code = match line {
            Line::Text(text) if text.trim().is_empty() => continue,
            Line::Text(text) => text,
            Line::Cleared => continue,
            Line::End => return Ok(0),
        };
        match step(sandbox, context, code, interrupts).await {
            Ok(End::Finished(result)) => {
                tell(&result)?;
                if let Some(status) = left(&result) {
                    return Ok(status);
                }
                if result.error.as_ref().is_some_and(|error| error.name == "ContextEnded") {
                    afresh(sandbox, context).await?;
                }
            }
            Ok(End::Interrupted(_)) => {
                console::note("the code does not give way");
                afresh(sandbox, context).await?;
            }
            Err(failure) if failure.code() == Some(ErrorCode::ContextEnded) => {
                afresh(sandbox, context).await?
            }
            Err(failure) => return Err(failure),
        }
    }
}

async fn afresh(sandbox: &SandboxHandle, context: &ContextId) -> Result<(), Failure> {
    sandbox.context_reset(context).await?;
    console::note("a fresh interpreter was started; its variables are gone, the sandbox's files are not");
    Ok(())
}

/// The exit status when code asked to leave.
fn left(result: &ExecResult) -> Option<u8> {
    let asked = result.error.as_ref().is_some_and(|error| error.name == "SystemExit");
    match result.outcome {
        Outcome::Exited { code } if asked => Some(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        _ => None,
    }
}
