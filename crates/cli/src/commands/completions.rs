//! `hothouse completions`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::console;
use crate::failure::Failure;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: hothouse completions bash > /etc/bash_completion.d/hothouse")]
pub(crate) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Prints it.
pub(crate) fn run(args: &CompletionsArgs) -> Result<u8, Failure> {
    let CompletionsArgs { shell } = *args;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hothouse", &mut script);
    console::bytes(&script)?;
    Ok(0)
}
