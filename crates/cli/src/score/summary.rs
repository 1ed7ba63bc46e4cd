//! What a run came to.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::verdict::{Record, Verdict};
use crate::commands::table::{Table, seconds};
use crate::console;
use crate::failure::Failure;

/// Attempts that did not pass and are shown one by one.
const MAX_SHOWN: usize = 20;

/// Counts records as they come.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: BTreeMap<Verdict, usize>,
    solved: BTreeSet<String>,
    tasks: BTreeSet<String>,
    durations: Vec<f64>,
    unexpected: usize,
    uncontained: usize,
    records: Vec<Record>,
}

/// Everything that a program may want to know of a run.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Attempts with a verdict, those of earlier runs included.
    pub(super) attempts: usize,
    /// Attempts that were planned and have none, because the run was interrupted.
    pub(super) missing: usize,
    /// Attempts whose verdict an earlier run found.
    pub(super) resumed: usize,
    /// Attempts by verdict.
    pub(super) verdicts: BTreeMap<&'static str, usize>,
    /// Tasks that have attempts.
    pub(super) tasks: usize,
    /// Tasks of which a solution passed.
    pub(super) tasks_solved: usize,
    /// Tasks without a solution.
    pub(super) tasks_without_solution: usize,
    /// Attempts whose verdict is not what their row expects (`passed` where it says nothing).
    pub(super) unexpected: usize,
    /// Attempts of this run whose sandbox could not be removed.
    pub(super) uncontained: usize,
    /// Attempts at once.
    pub(super) concurrency: usize,
    /// Wall time of this run's attempts, in seconds.
    pub(super) elapsed_s: f64,
    /// Attempts of this run in a second.
    pub(super) per_second: f64,
    /// Half of this run's attempts took at most so long, in seconds.
    pub(super) p50_s: Option<f64>,
    /// All but one in a hundred took at most so long, in seconds.
    pub(super) p99_s: Option<f64>,
}

/// What the tally does not know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    pub(super) planned: usize,
    pub(super) resumed: usize,
    pub(super) tasks_without_solution: usize,
    pub(super) concurrency: usize,
    pub(super) elapsed_s: f64,
}

impl Tally {
    /// Counts a record that an earlier run made.
    pub(super) fn add_earlier(&mut self, record: Record) {
        *self.counts.entry(record.verdict).or_default() += 1;
        self.tasks.insert(record.task_id.clone());
        if record.verdict == Verdict::Passed {
            self.solved.insert(record.task_id.clone());
        }
        if !record.as_expected() {
            self.unexpected += 1;
        }
        self.records.push(record);
    }

    /// Counts a record of this run.
    pub(super) fn add(&mut self, record: Record) {
        self.durations.push(record.duration_s);
        if !record.contained {
            self.uncontained += 1;
        }
        self.add_earlier(record);
    }

    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.counts.get(&verdict).copied().unwrap_or(0)
    }

    pub(super) fn summary(&self, around: Circumstances) -> Summary {
        let mut durations = self.durations.clone();
        durations.sort_by(f64::total_cmp);
        let attempts = self.records.len();
        #[expect(clippy::cast_precision_loss, reason = "a number of attempts")]
        let ran = durations.len() as f64;
        Summary {
            attempts,
            missing: around.planned.saturating_sub(attempts),
            resumed: around.resumed,
            verdicts: Verdict::ALL.iter().map(|v| (v.as_str(), self.count(*v))).collect(),
            tasks: self.tasks.len(),
            tasks_solved: self.solved.len(),
            tasks_without_solution: around.tasks_without_solution,
            unexpected: self.unexpected,
            uncontained: self.uncontained,
            concurrency: around.concurrency,
            elapsed_s: around.elapsed_s,
            per_second: if around.elapsed_s > 0.0 { ran / around.elapsed_s } else { 0.0 },
            p50_s: percentile(&durations, 50),
            p99_s: percentile(&durations, 99),
        }
    }

    /// The verdict counts, and the attempts that did not pass.
    pub(super) fn print(&self, summary: &Summary) -> Result<(), Failure> {
        let others: Vec<_> = self.records.iter().filter(|r| r.verdict != Verdict::Passed).collect();
        if !others.is_empty() {
            let mut table = Table::new(&["TASK", "SAMPLE", "VERDICT", "REASON"]);
            for record in others.iter().take(MAX_SHOWN) {
                let sample = record.sample.to_string();
                let reason = shortened(&record.reason, 100);
                table.row(vec![record.task_id.clone(), sample, record.verdict.to_string(), reason]);
            }
            table.print()?;
            if others.len() > MAX_SHOWN {
                console::line(&format!("and {} more", others.len() - MAX_SHOWN))?;
            }
            console::line("")?;
        }
        self.print_counts(summary)
    }

    fn print_counts(&self, summary: &Summary) -> Result<(), Failure> {
        let mut table = Table::new(&["VERDICT", "ATTEMPTS"]);
        for verdict in Verdict::ALL {
            table.row(vec![verdict.to_string(), self.count(verdict).to_string()]);
        }
        table.print()?;
        console::line("")?;
        let Summary { tasks, tasks_solved, attempts, elapsed_s, per_second, concurrency, .. } = summary;
        console::line(&format!("{tasks_solved} of {tasks} tasks solved, {attempts} attempts"))?;
        let ran = attempts - summary.resumed.min(*attempts);
        if let (Some(p50), Some(p99)) = (summary.p50_s, summary.p99_s) {
            let (p50, p99) = (seconds(p50), seconds(p99));
            console::line(&format!(
                "{ran} run in {}, {concurrency} at once: {per_second:.1}/s, p50 {p50}, p99 {p99}",
                seconds(*elapsed_s)
            ))?;
        }
        Ok(())
    }

    /// What each attempt tried, what became of it, and whether that is what its row expects.
    pub(super) fn print_expected(&mut self, summary: &Summary) -> Result<(), Failure> {
        self.records.sort_by_key(|r| (r.as_expected() && r.contained, r.attack.is_empty()));
        let mut table = Table::new(&["TASK", "IT TRIES", "VERDICT", "AS EXPECTED", "CONTAINED", "WHY"]);
        for record in &self.records {
            let words: Vec<_> = record.expect.iter().map(|v| v.as_str()).collect();
            let expected = match (record.as_expected(), words.is_empty()) {
                (true, _) => "yes".to_owned(),
                (false, false) => format!("NO, {}", words.join(" or ")),
                (false, true) => "NO, passed".to_owned(),
            };
            let attack = if record.attack.is_empty() { "nothing bad" } else { &record.attack };
            let contained = if record.contained { "yes" } else { "NO" };
            table.row(vec![
                record.task_id.clone(),
                shortened(attack, 44),
                record.verdict.to_string(),
                expected,
                contained.to_owned(),
                shortened(&record.reason, 60),
            ]);
        }
        table.print()?;
        console::line("")?;
        self.print_counts(summary)?;
        let Summary { attempts, unexpected, uncontained, .. } = summary;
        console::line(&format!(
            "{} of {attempts} verdicts as expected, {} of {attempts} contained",
            attempts - unexpected,
            attempts - uncontained
        ))
    }
}

/// The value that so many percent of the sorted values do not exceed.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.max(1) - 1).copied()
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    #[test_case(&[], 50 => None; "nothing")]
    #[test_case(&[7.0], 99 => Some(7.0); "one")]
    #[test_case(&[1.0, 2.0, 3.0, 4.0], 50 => Some(2.0); "half")]
    #[test_case(&[1.0, 2.0, 3.0, 4.0], 99 => Some(4.0); "nearly all")]
    fn percentiles(sorted: &[f64], percent: usize) -> Option<f64> {
        percentile(sorted, percent)
    }

    #[test_case("short", 5 => "short")]
    #[test_case("too long", 5 => "too …")]
    #[test_case("äöüßé!", 5 => "äöüß…")]
    fn texts(text: &str, most: usize) -> String {
        shortened(text, most)
    }
}
