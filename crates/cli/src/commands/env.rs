//! `hothouse env`: init, validate, serve, run, bench, ls.

mod bench;
mod init;
mod run;
mod serve;
mod stage;
mod validate;

use clap::Subcommand;
use hothouse_env::Catalogue;
use hothouse_env::builtin::Sandboxed;
use serde::Serialize;

use super::table::Table;
use crate::console;
use crate::failure::Failure;

/// Serve environments: reset, step, state
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hothouse env ls\n  hothouse env serve echo\n  hothouse env serve grid_world --port 8001 --capacity 64\n  hothouse env serve coding --memory 1G --warm 8"
)]
pub(crate) struct EnvArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Init(init::InitArgs),
    Validate(validate::ValidateArgs),
    Serve(serve::ServeArgs),
    Run(run::RunArgs),
    Bench(bench::BenchArgs),
    Ls(LsArgs),
}

/// List the environments that come with Hothouse
#[derive(Debug, clap::Args)]
struct LsArgs {
    /// Print all about them as JSON
    #[arg(long)]
    json: bool,
}

/// What is told of an environment.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    version: String,
    description: String,
    /// It plays in a sandbox.
    sandbox: bool,
}

impl EnvArgs {
    pub(super) fn wants_json(&self) -> bool {
        match &self.what {
            What::Init(_) | What::Run(_) | What::Bench(_) => false,
            What::Validate(args) => args.json,
            What::Serve(args) => args.json,
            What::Ls(args) => args.json,
        }
    }

    /// True for what runs until it is told to end.
    pub(super) fn is_server(&self) -> bool {
        matches!(self.what, What::Serve(_))
    }
}

/// Does what is asked.
pub(crate) async fn run(args: EnvArgs) -> Result<u8, Failure> {
    match args.what {
        What::Init(args) => init::run(&args),
        What::Validate(args) => Box::pin(validate::run(args)).await,
        What::Run(args) => Box::pin(run::run(args)).await,
        What::Bench(args) => bench::run(args).await,
        What::Serve(args) => Box::pin(serve::run(args)).await,
        What::Ls(args) => list(&args),
    }
}

fn list(args: &LsArgs) -> Result<u8, Failure> {
    let in_memory = Catalogue::with_builtins().all().into_iter().map(|environment| Listed {
        name: environment.name.clone(),
        version: environment.version.clone(),
        description: environment.description.clone(),
        sandbox: false,
    });
    let sandboxed = Sandboxed::ALL.map(|environment| environment.about()).map(|about| Listed {
        name: about.name.to_owned(),
        version: about.version.to_owned(),
        description: about.description.to_owned(),
        sandbox: true,
    });
    let mut listed: Vec<Listed> = in_memory.chain(sandboxed).collect();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    if args.json {
        console::json(&listed)?;
        return Ok(0);
    }
    let mut table = Table::new(&["NAME", "VERSION", "WHAT IT IS"]);
    for environment in listed {
        table.row(vec![environment.name, environment.version, environment.description]);
    }
    table.print()?;
    Ok(0)
}
