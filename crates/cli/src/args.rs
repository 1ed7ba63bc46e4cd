//! The command line: one variant per command; each command's own flags stand in its file.

use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Styles};
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use hothouse_sandbox::native::SPAWNER_COMMAND;

use crate::commands;
use crate::console;
use crate::failure::{EXIT_USAGE, Failure};

/// Isolated sandboxes in about a millisecond.
#[derive(Debug, Parser)]
#[command(name = "hothouse", version, styles = STYLES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Try it: hothouse run -- python3 -c 'print(1)'")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(commands::run::RunArgs),
    Shell(commands::shell::ShellArgs),
    Repl(commands::repl::ReplArgs),
    Score(crate::score::ScoreArgs),
    Serve(commands::serve::ServeArgs),
    Create(commands::create::CreateArgs),
    Ps(commands::ps::PsArgs),
    Exec(commands::exec::ExecArgs),
    Cp(commands::cp::CpArgs),
    Logs(commands::logs::LogsArgs),
    Rm(commands::rm::RmArgs),
    Snapshot(commands::snapshot::SnapshotArgs),
    Fork(commands::snapshot::ForkArgs),
    Restore(commands::snapshot::RestoreArgs),
    Diff(commands::snapshot::DiffArgs),
    Template(commands::template::TemplateArgs),
    Pool(commands::pool::PoolArgs),
    Image(commands::image::ImageArgs),
    Build(commands::build::BuildArgs),
    Top(commands::top::TopArgs),
    Env(commands::env::EnvArgs),
    Keys(commands::keys::KeysArgs),
    Doctor(commands::doctor::DoctorArgs),
    Bench(crate::bench::BenchArgs),
    Openapi(commands::openapi::OpenapiArgs),
    Completions(commands::completions::CompletionsArgs),
}

impl Cli {
    /// Reads the command line. What cannot be read is told here, as JSON when a program asked for that.
    pub(crate) fn read() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            match as_json(&error) {
                Some(json) if !asked => console::note(&json),
                // Help that nobody reads any more needs no complaint.
                Some(_) | None => _ = error.print(),
            }
            ExitCode::from(if asked { 0 } else { EXIT_USAGE })
        })
    }
}

/// The problem document of wrong usage, when the command line has `--json` before any program's own arguments.
fn as_json(error: &clap::Error) -> Option<String> {
    std::env::args_os().take_while(|arg| arg != "--").find(|arg| arg == "--json")?;
    let text = error.to_string();
    let what = text.split("\n\n").next()?.trim_start_matches("error: ");
    let detail = what.split_whitespace().collect::<Vec<_>>().join(" ");
    Failure::new(hothouse_domain::ErrorCode::InvalidRequest, detail).json()
}

/// True when this process was started to be the spawner. Decided before clap runs, which is slow beside a sandbox.
pub(crate) fn is_spawner() -> bool {
    std::env::args_os().nth(1).is_some_and(|first| first == SPAWNER_COMMAND)
}
