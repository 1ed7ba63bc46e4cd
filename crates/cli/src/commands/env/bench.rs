//! `hothouse env bench`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::bench::{Action, Served, Subject, Target, environment};
use crate::failure::Failure;

/// Measure how fast an environment steps, with many sessions at once
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hothouse env bench grid_world\n  hothouse env bench ./my_env --sessions 1,64 --action '{\"number\": 50}'\n  hothouse env bench coding --action '{\"code\": \"1 + 1\"}' -- --memory 512M --warm 16\n  hothouse env bench http://127.0.0.1:8000"
)]
pub(super) struct BenchArgs {
    /// Which: as for `hothouse env serve`, or the address of a server
    name: String,
    /// The action of each step, as JSON; the simplest that fits the environment's schema unless said
    #[arg(long, value_name = "JSON", value_parser = Action::parse)]
    action: Option<Action>,
    /// Sessions at once
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 16, 100], value_parser = clap::value_parser!(u32).range(1..=100_000))]
    sessions: Vec<u32>,
    /// How long each is measured in each round
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Write the figures to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Further arguments for `hothouse env serve`
    #[arg(last = true, value_name = "FLAGS")]
    serve: Vec<OsString>,
}

/// Measures it.
pub(super) async fn run(args: BenchArgs) -> Result<u8, Failure> {
    let served = if args.name.contains("://") {
        if !args.serve.is_empty() {
            return Err(Failure::usage(
                "FLAGS",
                "are for what is served here; leave them out with an address",
            ));
        }
        let target = Target::of(&args.name).map_err(|error| Failure::usage("NAME", format!("{error:#}")))?;
        Served::There(target)
    } else {
        Served::Here { name: args.name, flags: args.serve }
    };
    let subject = Subject {
        served,
        action: args.action,
        sessions: args.sessions.iter().filter_map(|n| usize::try_from(*n).ok()).collect(),
        time: Duration::from_secs(u64::from(args.seconds)),
        rounds: usize::from(args.rounds),
    };
    environment(subject, args.json).await
}
