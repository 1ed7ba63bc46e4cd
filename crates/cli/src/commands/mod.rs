//! One command, one file: its flags and what it does.

pub(crate) mod build;
pub(crate) mod completions;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod doctor;
pub(crate) mod env;
pub(crate) mod exec;
mod follow;
pub(crate) mod image;
pub(crate) mod keys;
pub(crate) mod logs;
pub(crate) mod openapi;
pub(crate) mod pool;
mod program;
mod prompt;
pub(crate) mod ps;
pub(crate) mod repl;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod shell;
pub(crate) mod snapshot;
pub(crate) mod table;
pub(crate) mod template;
mod terminal;
pub(crate) mod top;
mod transfer;

use std::process::ExitCode;

use hothouse_domain::ErrorCode;
use tokio::runtime::Handle;

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

/// After how many tasks a busy thread looks for what has become ready. One that looks more often serves those that
/// come again soon before those that wait: of 1,000 sessions that step all the time, the slowest hundredth then waits
/// twice as long (on two cores, tokio's 61: 31 and 59 ms; this: 13 to 18 ms). A thread with nothing to do looks at once.
const LOOK: u32 = 1024;

fn in_runtime(command: Command) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .event_interval(LOOK)
        .enable_all()
        .build()
        .map_err(|e| Failure::io("starting threads", &e))?;
    let telling = command.start_logs(runtime.handle())?;
    let result = runtime.block_on(Box::pin(dispatch(command)));
    telling.end();
    // A thread that waits in a read of standard input never comes back; nothing else is left by now.
    runtime.shutdown_background();
    result
}

async fn dispatch(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Run(args) => Box::pin(run::run(args)).await,
        Command::Shell(args) => Box::pin(shell::run(args)).await,
        Command::Repl(args) => Box::pin(repl::run(args)).await,
        Command::Score(args) => Box::pin(crate::score::run(args)).await,
        Command::Serve(args) => Box::pin(serve::run(args)).await,
        Command::Create(args) => create::run(args).await,
        Command::Ps(args) => ps::run(args).await,
        Command::Exec(args) => Box::pin(exec::run(args)).await,
        Command::Cp(args) => Box::pin(cp::run(args)).await,
        Command::Logs(args) => logs::run(args).await,
        Command::Rm(args) => rm::run(args).await,
        Command::Snapshot(args) => snapshot::run(args).await,
        Command::Fork(args) => snapshot::fork(args).await,
        Command::Restore(args) => snapshot::restore(args).await,
        Command::Diff(args) => snapshot::diff(args).await,
        Command::Template(args) => template::run(args).await,
        Command::Pool(args) => pool::run(args).await,
        Command::Image(args) => Box::pin(image::run(args)).await,
        Command::Build(args) => Box::pin(build::run(args)).await,
        Command::Top(args) => top::run(args).await,
        Command::Env(args) => Box::pin(env::run(args)).await,
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
            Self::Snapshot(args) => args.wants_json(),
            Self::Fork(args) => args.json,
            Self::Restore(args) => args.json,
            Self::Diff(args) => args.json,
            Self::Template(args) => args.wants_json(),
            Self::Pool(args) => args.wants_json(),
            Self::Image(args) => args.wants_json(),
            Self::Build(args) => args.wants_json(),
            Self::Top(args) => args.json,
            Self::Env(args) => args.wants_json(),
            Self::Keys(args) => args.wants_json(),
            Self::Doctor(args) => args.json,
            Self::Shell(_)
            | Self::Repl(_)
            | Self::Cp(_)
            | Self::Bench(_)
            | Self::Openapi(_)
            | Self::Completions(_) => false,
        }
    }

    /// Sends logs to standard error: those of the server as asked for, of other commands only errors, unless
    /// `HOTHOUSE_LOG` asks for more.
    fn start_logs(&self, runtime: &Handle) -> Result<Telling, Failure> {
        use tracing_subscriber::prelude::*;
        use tracing_subscriber::{EnvFilter, fmt};
        let (default, format) = match self {
            Self::Serve(args) => ("info", args.log_format),
            Self::Env(args) if args.is_server() => ("warn", serve::LogFormat::Text),
            _ => ("error", serve::LogFormat::Text),
        };
        let filter = EnvFilter::builder().with_env_var("HOTHOUSE_LOG");
        let filter = filter.try_from_env().unwrap_or_else(|_| EnvFilter::new(default));
        let telling = match self {
            Self::Serve(_) => Telling::from_environment(runtime)?,
            _ => Telling::Logs,
        };
        let logs = fmt::layer().with_writer(std::io::stderr).with_ansi(console::err_is_terminal());
        let logs = match format {
            serve::LogFormat::Text => logs.boxed(),
            serve::LogFormat::Json => logs.json().boxed(),
        };
        let subscriber = tracing_subscriber::registry().with(logs.with_filter(filter));
        match &telling {
            Telling::Logs => subscriber.init(),
            #[cfg(feature = "otel")]
            Telling::LogsAndTraces(traces) => subscriber.with(traces.layer()).init(),
        }
        telling.warn_of_no_traces();
        Ok(telling)
    }
}

/// Where traces are to be sent to, if anywhere.
pub(crate) fn traces_endpoint() -> Option<String> {
    let is_off = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|off| off.eq_ignore_ascii_case("true"));
    let named = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    let endpoint = named.into_iter().find_map(|name| std::env::var(name).ok().filter(|url| !url.is_empty()));
    endpoint.filter(|_| !is_off)
}

/// How the program tells what it does.
enum Telling {
    Logs,
    #[cfg(feature = "otel")]
    LogsAndTraces(crate::traces::Traces),
}

impl Telling {
    #[cfg(feature = "otel")]
    fn from_environment(runtime: &Handle) -> Result<Self, Failure> {
        let traces = crate::traces::Traces::from_environment(runtime.clone())?;
        Ok(traces.map_or(Self::Logs, Self::LogsAndTraces))
    }

    #[cfg(not(feature = "otel"))]
    #[expect(clippy::unnecessary_wraps, reason = "it can fail with the feature otel")]
    fn from_environment(_runtime: &Handle) -> Result<Self, Failure> {
        Ok(Self::Logs)
    }

    fn warn_of_no_traces(&self) {
        if let (false, Some(endpoint)) = (cfg!(feature = "otel"), traces_endpoint()) {
            tracing::warn!(
                endpoint,
                "traces are asked for, which this build cannot send; build it with `--features otel`"
            );
        }
    }

    fn end(self) {
        match self {
            Self::Logs => {}
            #[cfg(feature = "otel")]
            Self::LogsAndTraces(traces) => traces.end(),
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
