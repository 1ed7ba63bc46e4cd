//! `hothouse bench`: the promised numbers, measured beside the floor and the installed peers.
//!
//! A bench starts a real `hothouse serve` on a free port and drives it through keep-alive connections, one for each
//! operation in flight. Contenders are interleaved round by round, so that a drifting machine hits all of them alike;
//! what is quoted is the median of the rounds' ratios. A bench is a program, never a timed test: it reports a missed
//! bar and ends with success.

mod adopt;
mod claim;
mod contest;
mod context;
mod create;
mod density;
mod dial;
mod exec;
mod footprint;
mod fork;
mod growth;
mod http;
mod image;
mod machine;
mod peer;
mod process;
mod report;
mod sample;
mod score;
mod service;
mod session;
mod steps;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::failure::Failure;
use growth::Extent;
use hothouse_domain::ErrorCode;
use report::Report;
pub(crate) use steps::{Action, Served, Subject, Target};

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Make a sandbox, run `true` in it, destroy it
    Create,
    /// Take a ready sandbox from a pool, run `true` in it
    Claim,
    /// Run `true` in a live sandbox
    Exec,
    /// Run a command in a live shell session
    Session,
    /// Open, ask and fork live Python interpreters, against `python3` started anew
    Context,
    /// Bytes to what listens in a sandbox and back, against the same on a plain socket
    Dial,
    /// Fork a sandbox, fan out into many, set one back
    Fork,
    /// Score tasks, against the same tasks as bare Python processes
    Score,
    /// Unpack an image, against `tar -x`; make sandboxes from one layer and from thirty
    Image,
    /// Memory of idle sandboxes, latency with many alive, leaks after many have gone
    Growth,
    /// Kill a server with many sandboxes alive; until the next one is ready
    Adopt,
    /// Claims, commands and listings with ever more sandboxes alive
    Density,
    /// Step environments over WebSockets and HTTP, against OpenEnv's own server
    Steps,
    /// All of these, one after the other
    All,
}

/// Measure this machine: the floor, Hothouse and the installed peers side by side.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    /// What to measure
    bench: Bench,
    /// Write the figures to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How often each contender is measured: 5 times, for `steps` 2 unless said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,
    /// For `score`: a file of tasks in HumanEval's shape
    #[arg(long, value_name = "FILE")]
    tasks: Option<PathBuf>,
    /// For `score`: tasks at once; the number of cores by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: Option<u16>,
    /// For `growth`, `adopt`, `density`: sandboxes alive at once
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=20_000))]
    alive: u32,
    /// For `density`: draw the latencies into FILE, an SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// For `growth`: sandboxes that come and go
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..))]
    churn: u32,
    #[command(flatten)]
    steps: steps::StepsArgs,
}

/// Runs the benches that were asked for, prints a table of each and writes the JSON file.
///
/// # Errors
/// When a server does not start, an operation fails or the file cannot be written.
pub(crate) async fn run(args: BenchArgs) -> Result<u8, Failure> {
    if args.bench == Bench::Score && args.tasks.is_none() {
        return Err(Failure::usage("--tasks", "is not there; name a file of tasks in HumanEval's shape"));
    }
    if matches!(args.bench, Bench::Steps | Bench::All) {
        args.steps.plan().map_err(|wrong| Failure::usage(wrong.flag, wrong.reason))?;
    }
    on_its_own(move || measure_all(&args)).await
}

/// Measures one environment, prints a table and writes the JSON file.
///
/// # Errors
/// When it cannot be served or stepped, or the file cannot be written.
pub(crate) async fn environment(subject: Subject, json: Option<PathBuf>) -> Result<u8, Failure> {
    on_its_own(move || {
        let report = subject.measure()?;
        report.print(&mut std::io::stdout().lock()).context("printing the table")?;
        write(json.as_deref(), &report)
    })
    .await
}

/// Measures on a thread of its own: the measuring client has its own small runtime.
async fn on_its_own(measure: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Result<u8, Failure> {
    let done = tokio::task::spawn_blocking(measure).await;
    match done {
        Ok(Ok(())) => Ok(0),
        Ok(Err(error)) => Err(Failure::new(ErrorCode::Internal, format!("{error:#}"))),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Failure::new(ErrorCode::Internal, error.to_string())),
        },
    }
}

fn write(file: Option<&Path>, figures: &impl Serialize) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let json = serde_json::to_string_pretty(figures).context("writing JSON")?;
    fs::write(file, json + "\n").with_context(|| format!("writing {}", file.display()))
}

fn measure_all(args: &BenchArgs) -> anyhow::Result<()> {
    let benches: &[Bench] = match args.bench {
        Bench::All if args.tasks.is_none() => &[
            Bench::Create,
            Bench::Claim,
            Bench::Exec,
            Bench::Session,
            Bench::Context,
            Bench::Dial,
            Bench::Fork,
            Bench::Image,
            Bench::Adopt,
            Bench::Growth,
            Bench::Density,
            Bench::Steps,
        ],
        Bench::All => &[
            Bench::Create,
            Bench::Claim,
            Bench::Exec,
            Bench::Session,
            Bench::Context,
            Bench::Dial,
            Bench::Fork,
            Bench::Image,
            Bench::Score,
            Bench::Adopt,
            Bench::Growth,
            Bench::Density,
            Bench::Steps,
        ],
        ref one => std::slice::from_ref(one),
    };
    let mut reports = Vec::new();
    for bench in benches {
        let report = measure(*bench, args)?;
        report.print(&mut std::io::stdout().lock()).context("printing the table")?;
        reports.push(report);
    }
    if args.bench == Bench::All && args.tasks.is_none() {
        writeln!(std::io::stdout(), "  not measured: score; name its tasks with --tasks FILE")
            .context("printing the table")?;
    }
    if args.bench == Bench::All {
        return write(args.json.as_deref(), &serde_json::json!({ "benches": reports }));
    }
    write(args.json.as_deref(), &reports[0])
}

fn measure(bench: Bench, args: &BenchArgs) -> anyhow::Result<Report> {
    let rounds = usize::from(args.rounds.unwrap_or(if bench == Bench::Steps { 2 } else { 5 }));
    match bench {
        Bench::Create => create::run(rounds),
        Bench::Claim => claim::run(rounds),
        Bench::Exec => exec::run(rounds),
        Bench::Session => session::run(rounds),
        Bench::Context => context::run(rounds),
        Bench::Dial => dial::run(rounds),
        Bench::Fork => fork::run(rounds),
        Bench::Image => image::run(rounds),
        Bench::Score => {
            let tasks =
                args.tasks.as_deref().context("bench score needs --tasks FILE, in HumanEval's shape")?;
            score::run(tasks, args.concurrency.map(usize::from), rounds)
        }
        Bench::Growth => growth::run(Extent {
            alive: usize::try_from(args.alive).unwrap_or(usize::MAX),
            churn: usize::try_from(args.churn).unwrap_or(usize::MAX),
            rounds,
        }),
        Bench::Adopt => adopt::run(usize::try_from(args.alive).unwrap_or(usize::MAX), rounds),
        Bench::Density => {
            density::run(usize::try_from(args.alive).unwrap_or(usize::MAX), rounds, args.plot.as_deref())
        }
        Bench::Steps => steps::run(&args.steps, rounds),
        Bench::All => anyhow::bail!("`all` is a list of benches, not one"),
    }
}
