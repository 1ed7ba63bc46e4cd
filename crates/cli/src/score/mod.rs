//! `hothouse score`: each solution in its own fresh sandbox, a verdict that the solution cannot choose, a line of results
//! as soon as it is known.
//!
//! ```text
//! source ─► row ─► plan ─► runner ─► python | program ─► verdict ─► ledger, summary
//! ```

mod args;
mod compare;
mod feed;
mod ledger;
mod plan;
mod program;
mod progress;
mod python;
mod row;
mod runner;
mod schema;
mod source;
mod summary;
mod verdict;
mod warm;
mod wire;

pub(crate) use args::ScoreArgs;

use std::time::Instant;

use hothouse_domain::ImageRef;
use tokio::sync::mpsc;

use crate::console;
use crate::failure::{EXIT_FAILURE, EXIT_USAGE, Failure};
use crate::interrupt::{Interrupts, status_of_signal};
use crate::place::Place;
use args::Output;
use ledger::{Earlier, Ledger};
use plan::{Attempt, Common, Plan, Tasks};
use progress::Progress;
use python::Harness;
use runner::{Reuse, Runner};
use source::Problems;
use summary::{Circumstances, Tally};

/// Scores; the exit status: 0 when every attempt passed (or got the verdict that it expects), 1 when not, 2 for input
/// that cannot be used.
pub(crate) async fn run(args: ScoreArgs) -> Result<u8, Failure> {
    let output = args.output()?;
    if output == Output::Schema {
        return console::line(&format!("{:#}", schema::schema())).map(|()| 0);
    }
    let common = args.common()?;
    let Some(mut plan) = read(&args, &common) else { return Ok(EXIT_USAGE) };
    let (mut ledger, earlier) = open_results(&args)?;
    let mut tally = Tally::default();
    let planned = plan.attempts.len();
    let attempts = left_to_do(std::mem::take(&mut plan.attempts), earlier, &mut tally);
    let resumed = planned - attempts.len();
    if resumed > 0 {
        console::note(&format!("{resumed} of {planned} attempts have results already and are not run again"));
    }
    let concurrency = args.concurrency();
    let began = Instant::now();
    let mut ended = Ended::AtItsEnd;
    let mut elapsed_s = 0.0;
    if !attempts.is_empty() {
        let reuse = args.reuse();
        // While the node starts, another core compiles what every attempt of a Python task begins with, save those that a
        // warm interpreter judges: they would wait for it in vain.
        let here = args.place.url().is_none() && common.image == ImageRef::Host;
        let needs = |attempt: &Attempt| attempt.task.is_for_python() && !reuse.serves(&attempt.task);
        let early = here && attempts.iter().any(needs);
        let open = Box::pin(Place::open(&args.place, Runner::most_sandboxes(concurrency)));
        let compile = async { if early { Harness::compile_here().await } else { None } };
        let (place, harness) = tokio::join!(open, compile);
        let place = place?;
        let work = Work { place: &place, common: &common, concurrency, reuse };
        let worked = Box::pin(work.run(attempts, harness, &mut ledger, &mut tally)).await;
        elapsed_s = began.elapsed().as_secs_f64();
        place.close().await;
        ended = worked?;
    }
    let tasks_without_solution = plan.unsolved.len();
    let around = Circumstances { planned, resumed, tasks_without_solution, concurrency, elapsed_s };
    let summary = tally.summary(around);
    match output {
        Output::Json => console::json(&summary)?,
        Output::Expected => tally.print_expected(&summary)?,
        Output::Table | Output::Schema => tally.print(&summary)?,
    }
    if let Ended::BySignal(signal) = ended {
        console::note(&format!("interrupted: {} attempts have no result", summary.missing));
        return Ok(status_of_signal(signal));
    }
    let good = match output {
        Output::Expected => summary.unexpected == 0 && summary.uncontained == 0,
        Output::Table | Output::Json | Output::Schema if args.expect => {
            summary.unexpected == 0 && summary.uncontained == 0
        }
        Output::Table | Output::Json | Output::Schema => {
            tally.count(verdict::Verdict::Passed) == summary.attempts
        }
    };
    Ok(if good { 0 } else { EXIT_FAILURE })
}

/// Reads tasks and solutions; tells all that is wrong with them.
fn read(args: &ScoreArgs, common: &Common) -> Option<Plan> {
    let mut problems = Problems::default();
    let tasks_name = source::display_name(&args.tasks);
    let tasks = Tasks::parse(&tasks_name, source::read_lines(&args.tasks, &mut problems), &mut problems);
    let plan = match &args.solutions {
        None => Plan::of_own_solutions(&tasks, common, &mut problems),
        // Against half the tasks, every second solution would seem to be for none.
        Some(_) if !problems.is_empty() => Plan::default(),
        Some(file) => {
            let lines = source::read_lines(file, &mut problems);
            Plan::of_solutions(&tasks, &source::display_name(file), lines, common, &mut problems)
        }
    };
    if problems.is_empty() && plan.attempts.is_empty() {
        problems.add_whole(&tasks_name, "no task has a solution; give --solutions FILE");
    }
    if !problems.is_empty() {
        for problem in problems.shown() {
            console::note(&format!("error: {problem}"));
        }
        console::note("hint: `hothouse score --schema` prints the JSON Schema of the rows");
        return None;
    }
    for (file, ignored) in [(Some(&args.tasks), &tasks.ignored), (args.solutions.as_ref(), &plan.ignored)] {
        for (field, rows) in ignored {
            let file = source::display_name(file.map_or("", String::as_str));
            console::note(&format!("note: {file}: field {field} is not used ({rows} rows)"));
        }
    }
    if !plan.unsolved.is_empty() {
        let count = plan.unsolved.len();
        let first = plan.unsolved[0].as_str();
        console::note(&format!(
            "note: {count} of {} tasks have no solution and are not run, e.g. {first}",
            tasks.len()
        ));
    }
    debug_assert_eq!(tasks.iter().count(), plan.tasks() + plan.unsolved.len());
    Some(plan)
}

fn open_results(args: &ScoreArgs) -> Result<(Option<Ledger>, Earlier), Failure> {
    let Some(path) = &args.out else { return Ok((None, Earlier::default())) };
    let (ledger, earlier) = Ledger::open(path).map_err(|e| {
        Failure::usage("--out", e.to_string()).hint("give a new file, or one that an earlier run has written")
    })?;
    if earlier.torn_bytes > 0 {
        let bytes = earlier.torn_bytes;
        console::note(&format!("note: {}: cut off a torn last line of {bytes} bytes", path.display()));
    }
    Ok((Some(ledger), earlier))
}

/// Those whose key has no result yet; the others are counted.
fn left_to_do(attempts: Vec<Attempt>, mut earlier: Earlier, tally: &mut Tally) -> Vec<Attempt> {
    let mut left = Vec::with_capacity(attempts.len());
    for attempt in attempts {
        match earlier.finished.remove(&attempt.key) {
            // What is expected may have changed since.
            Some(record) => tally.add_earlier(verdict::Record {
                expect: attempt.expect,
                attack: attempt.attack,
                ..record
            }),
            None => left.push(attempt),
        }
    }
    left
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    AtItsEnd,
    BySignal(i32),
}

/// A run on an open place.
#[derive(Debug, Clone, Copy)]
struct Work<'a> {
    place: &'a Place,
    common: &'a Common,
    concurrency: usize,
    reuse: Reuse,
}

impl Work<'_> {
    async fn run(
        self,
        attempts: Vec<Attempt>,
        harness: Option<Harness>,
        ledger: &mut Option<Ledger>,
        tally: &mut Tally,
    ) -> Result<Ended, Failure> {
        let mut interrupts = Interrupts::listen()?;
        let progress = Progress::new(attempts.len());
        let (sender, mut finished) = mpsc::channel(64);
        let runner =
            Runner::new(self.place, self.common.image.clone(), self.concurrency, harness, self.reuse, sender);
        let collect = async {
            let mut drive = Box::pin(runner.run(attempts));
            let mut driven = false;
            loop {
                tokio::select! {
                    biased;
                    Some(record) = finished.recv() => keep(record, ledger, tally, &progress)?,
                    () = &mut drive, if !driven => driven = true,
                    else => return Ok::<_, Failure>(()),
                }
                if driven && finished.is_empty() {
                    return Ok(());
                }
            }
        };
        let ended = tokio::select! {
            result = collect => result.map(|()| Ended::AtItsEnd),
            signal = interrupts.next() => Ok(Ended::BySignal(signal)),
        };
        progress.finish();
        if !matches!(ended, Ok(Ended::AtItsEnd)) {
            finished.close();
            // A second signal does not wait for sandboxes to go.
            tokio::select! {
                () = runner.clean_up() => {}
                _ = interrupts.next() => {}
            }
        }
        ended
    }
}

fn keep(
    record: verdict::Record,
    ledger: &mut Option<Ledger>,
    tally: &mut Tally,
    progress: &Progress,
) -> Result<(), Failure> {
    if let Some(ledger) = ledger {
        let hint = "free some space and run the same command again: finished attempts are kept";
        ledger
            .append(&record)
            .map_err(|e| Failure::new(hothouse_domain::ErrorCode::Internal, e.to_string()).hint(hint))?;
    }
    tally.add(record);
    progress.show(tally);
    Ok(())
}
