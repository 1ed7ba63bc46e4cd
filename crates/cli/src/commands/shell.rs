//! `hothouse shell`.

use hothouse_domain::{ExecSpec, SandboxId, SandboxSpec};

use super::follow::{End, follow};
use super::program::{Mode, StandardInput};
use super::run::{OneShot, What, finish, sandbox_spec};
use super::{needs_server, table, terminal};
use crate::console;
use crate::failure::Failure;
use crate::flags::{EnvFlag, FileFlag, LimitFlags, PlaceFlags};
use crate::interrupt::{Interrupts, status_of_signal};
use crate::place::ApiClient;

/// The best shell that the sandbox has, as a person wants it.
const BEST_SHELL: &str = "command -v bash >/dev/null 2>&1 && exec bash; exec sh";

/// Open a shell in a sandbox
///
/// Without an ID in a fresh sandbox, which goes when the shell ends. Commands may also come from a pipe.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hothouse shell\n  hothouse shell --file ./project\n  hothouse shell sb-1"
)]
pub(crate) struct ShellArgs {
    /// A sandbox of a server; a fresh one when absent
    #[arg(value_name = "ID", conflicts_with_all = ["file", "image", "memory", "cpus", "pids", "disk", "inodes"])]
    id: Option<SandboxId>,
    /// Set a variable: NAME=VALUE, or NAME to pass it on (repeatable)
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]")]
    env: Vec<EnvFlag>,
    /// Where the shell starts [default: /workspace]
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

/// Runs the shell; its exit status.
pub(crate) async fn run(args: ShellArgs) -> Result<u8, Failure> {
    let ShellArgs { id, env, workdir, user, file, limits, place } = args;
    let mode =
        if terminal::present() { Mode::Terminal } else { Mode::Pipes { input: StandardInput::Forwarded } };
    let exec = ExecSpec {
        argv: Some(["/bin/sh", "-c", BEST_SHELL].map(str::to_owned).into()),
        env: EnvFlag::map(env),
        cwd: workdir.clone(),
        user,
        ..ExecSpec::default()
    };
    exec.validate()?;
    let Some(id) = id else {
        let sandbox = sandbox_spec(&limits, workdir.as_deref())?;
        if mode == Mode::Terminal {
            greet(&sandbox);
        }
        return OneShot { sandbox, files: file, what: What::Given, exec, mode }.run_at(&place).await;
    };
    let sandbox = ApiClient::new(place.url().unwrap_or(ApiClient::DEFAULT_URL))?.sandbox(id);
    let mut interrupts = Interrupts::listen()?;
    let end = Box::pin(follow(&sandbox, exec, mode, &mut interrupts)).await;
    match end.map_err(|failure| needs_server(failure).own())? {
        End::Finished(result) => finish(&sandbox, *result, mode, None).await,
        End::Interrupted(signal) => Ok(status_of_signal(signal)),
    }
}

fn greet(spec: &SandboxSpec) {
    let limits = &spec.resources;
    console::note(&format!(
        "A fresh sandbox: {} memory, {} cores, {} disk, no network. All of it goes when you leave.",
        table::bytes(limits.memory_bytes),
        limits.cpus,
        table::bytes(limits.disk_bytes),
    ));
}
