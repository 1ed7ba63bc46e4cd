//! `hothouse`: the front door. It parses, wires and prints; everything else lives in the crates behind it.

use std::process::ExitCode;

mod args;
mod bench;
mod commands;
mod console;
mod failure;
mod flags;
mod interrupt;
mod place;
mod score;
#[cfg(feature = "otel")]
mod traces;

fn main() -> ExitCode {
    if args::is_spawner() {
        // Before any thread exists: the spawner clones processes and must be single-threaded.
        return hothouse_sandbox::native::spawner_main();
    }
    match args::Cli::read() {
        Ok(cli) => commands::start(cli.command),
        Err(status) => status,
    }
}
