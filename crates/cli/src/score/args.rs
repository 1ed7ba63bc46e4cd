//! The flags of `hothouse score`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use hothouse_domain::Resources;
use hothouse_domain::exec::check_seconds;

use super::plan::Common;
use super::row::Bounds;
use super::runner::Reuse;
use crate::failure::Failure;
use crate::flags::{LimitFlags, PlaceFlags, duration};

/// The most attempts at once.
const MAX_CONCURRENCY: usize = 4096;

/// Score solutions of programming tasks, each in its own fresh sandbox
///
/// Rows are those of HumanEval (task_id, prompt, entry_point, test, canonical_solution or completion), or programs of any
/// kind with cases or hidden tests; docs/scoring.md shows both. Exit status: 0 when every attempt passed, 1 when not,
/// 2 when the input cannot be used.
#[derive(Debug, clap::Args)]
#[command(after_help = "Try it: hothouse score examples/scoring/tasks.jsonl --solutions \
                        examples/scoring/solutions-right.jsonl")]
pub(crate) struct ScoreArgs {
    /// Tasks, one JSON object per line; plain or gzip; `-` reads standard input
    #[arg(
        value_name = "TASKS",
        required_unless_present = "schema",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) tasks: String,
    /// Solutions, one per line: task_id with completion, solution or files; several per task are allowed
    /// [default: those in TASKS]
    #[arg(long, value_name = "FILE")]
    pub(super) solutions: Option<String>,
    /// Results, one line per attempt, appended as it finishes; attempts that are in it already are not run again
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Attempts at once [default: the number of cores]
    #[arg(long, short = 'j', value_name = "N")]
    concurrency: Option<usize>,
    /// Wall time of one run of rows that name none, e.g. 10, 500ms, 2m
    #[arg(long, value_name = "DURATION", default_value = "10", value_parser = duration)]
    timeout: f64,
    /// Judge each attempt in a sandbox that no other attempt has seen; else one that function tasks have provably left nothing
    /// in judges the next
    #[arg(long)]
    fresh: bool,
    /// Compare each verdict with its solution's `expect`, and show what each tried; exit status 0 when all agree
    #[arg(long)]
    pub(super) expect: bool,
    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    pub(super) place: PlaceFlags,
}

/// What is printed.
#[derive(Debug, Clone, clap::Args)]
struct OutputFlags {
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// Print the JSON Schema of the rows and end
    #[arg(long)]
    schema: bool,
}

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// A table for a person.
    Table,
    /// A table of verdicts and what was expected.
    Expected,
    /// One JSON object.
    Json,
    /// The schema, and nothing is run.
    Schema,
}

impl ScoreArgs {
    /// True when a program reads the output.
    pub(crate) fn wants_json(&self) -> bool {
        self.output.json
    }

    pub(super) fn output(&self) -> Result<Output, Failure> {
        if self.tasks == "-" && self.solutions.as_deref() == Some("-") {
            return Err(Failure::usage("--solutions", "and TASKS both read standard input; give one a file"));
        }
        Ok(match (&self.output, self.expect) {
            (OutputFlags { schema: true, .. }, _) => Output::Schema,
            (OutputFlags { json: true, .. }, _) => Output::Json,
            (_, true) => Output::Expected,
            (_, false) => Output::Table,
        })
    }

    /// Whether a sandbox judges several attempts.
    pub(super) fn reuse(&self) -> Reuse {
        if self.fresh { Reuse::Never } else { Reuse::WhenClean }
    }

    /// What all attempts have in common.
    pub(super) fn common(&self) -> Result<Common, Failure> {
        check_seconds("--timeout", Some(self.timeout), 0.1, 86_400.0)?;
        let resources = self.limits.over(&Resources::default());
        resources.validate()?;
        if let Some(number) = self.concurrency.filter(|n| !(1..=MAX_CONCURRENCY).contains(n)) {
            return Err(Failure::usage("--concurrency", format!("is {number}; use 1 to {MAX_CONCURRENCY}")));
        }
        Ok(Common { image: self.limits.image.clone(), bounds: Bounds { timeout_s: self.timeout, resources } })
    }

    pub(super) fn concurrency(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.concurrency.unwrap_or_else(cores)
    }
}
