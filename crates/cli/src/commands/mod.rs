//! One command, one file: its flags and what it does.

pub(crate) mod completions;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod doctor;
pub(crate) mod exec;
mod follow;
pub(crate) mod image;
pub(crate) mod keys;
pub(crate) mod logs;
pub(crate) mod openapi;
pub(crate) mod pool;
mod program;
pub(crate) mod ps;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod shell;
pub(crate) mod table;
pub(crate) mod template;
mod terminal;
pub(crate) mod top;
mod transfer;

use std::process::ExitCode;

use hothouse_domain::ErrorCode;

use crate::args::Command;
use crate::console;
use crate::failure::Failure;

/// Runs a command to its end, tells what went wrong, and gives the exit status.
pub(crate) fn start(command: Command) -> ExitCode {
    let json = command.wants_json();
    std::panic::set_hook(Box::new(|panic| {
        // One line for a person; a backtrace is for those who ask for it with a debugger.
        console::note(&format!("error: this is a bug in hothouse: {}", panic.to_string().replace('\n', " ")));
    }));
    let status = match in_runtime(command) {
        Ok(status) => status,
        Err(failure) => {
            tell(&failure, json);
            failure.exit()
        }
    };
    ExitCode::from(status)
}

fn in_runtime(command: Command) -> Result<u8, Failure> {
    command.start_logs();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::io("starting threads", &e))?;
    let result = runtime.block_on(Box::pin(dispatch(command)));
    // A thread that waits in a read of standard input never comes back; nothing else is left by now.
    runtime.shutdown_background();
    result
}

async fn dispatch(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Run(args) => Box::pin(run::run(args)).await,
        Command::Shell(args) => Box::pin(shell::run(args)).await,
        Command::Score(args) => Box::pin(crate::score::run(args)).await,
        Command::Serve(args) => Box::pin(serve::run(args)).await,
        Command::Create(args) => create::run(args).await,
        Command::Ps(args) => ps::run(args).await,
        Command::Exec(args) => Box::pin(exec::run(args)).await,
        Command::Cp(args) => Box::pin(cp::run(args)).await,
        Command::Logs(args) => logs::run(args).await,
        Command::Rm(args) => rm::run(args).await,
        Command::Template(args) => template::run(args).await,
        Command::Pool(args) => pool::run(args).await,
        Command::Image(args) => Box::pin(image::run(args)).await,
        Command::Top(args) => top::run(args).await,
        Command::Keys(args) => keys::run(args),
        Command::Doctor(args) => Box::pin(doctor::run(args)).await,
        Command::Bench(args) => Box::pin(crate::bench::run(args)).await,
        Command::Openapi(args) => openapi::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}

impl Command {
    /// True when a program reads the output, so that failures are JSON too.
    fn wants_json(&self) -> bool {
        match self {
            Self::Run(args) => args.wants_json(),
            Self::Exec(args) => args.wants_json(),
            Self::Score(args) => args.wants_json(),
            Self::Serve(args) => args.json,
            Self::Create(args) => args.json,
            Self::Ps(args) => args.json,
            Self::Logs(args) => args.json,
            Self::Rm(args) => args.json,
            Self::Template(args) => args.wants_json(),
            Self::Pool(args) => args.wants_json(),
            Self::Image(args) => args.wants_json(),
            Self::Top(args) => args.json,
            Self::Keys(args) => args.wants_json(),
            Self::Doctor(args) => args.json,
            Self::Shell(_) | Self::Cp(_) | Self::Bench(_) | Self::Openapi(_) | Self::Completions(_) => false,
        }
    }

    /// Sends logs to standard error: those of the server as asked for, of other commands only errors, unless
    /// `HOTHOUSE_LOG` asks for more.
    fn start_logs(&self) {
        use tracing_subscriber::EnvFilter;
        let (default, format) = match self {
            Self::Serve(args) => ("info", args.log_format),
            _ => ("error", serve::LogFormat::Text),
        };
        let filter = EnvFilter::builder().with_env_var("HOTHOUSE_LOG");
        let filter = filter.try_from_env().unwrap_or_else(|_| EnvFilter::new(default));
        let logs = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(console::err_is_terminal());
        match format {
            serve::LogFormat::Text => logs.init(),
            serve::LogFormat::Json => logs.json().init(),
        }
    }
}

fn tell(failure: &Failure, json: bool) {
    match failure {
        Failure::Told(_) if json => {
            let text = failure.json();
            console::note(text.as_deref().unwrap_or("{}"));
        }
        Failure::Told(_) => console::note(&failure.to_string()),
        Failure::Quiet(_) => {}
    }
}

/// With a hint to start a server when the command cannot do without and none was named.
fn needs_server(failure: Failure) -> Failure {
    match failure.code() {
        Some(ErrorCode::SandboxNotFound | ErrorCode::SandboxEnded) => {
            failure.hint("`hothouse ps` lists the sandboxes")
        }
        Some(_) | None => failure,
    }
}
