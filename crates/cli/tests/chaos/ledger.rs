//! What became of every exec: done once, lost, doubled, readable.

use std::collections::BTreeMap;

use anyhow::Result;
use futures::StreamExt as _;

use crate::line::Line;
use crate::work::{Done, MARKS, read_back};

/// Results that are looked up at once.
const LOOKUPS: usize = 32;
/// Details that are kept; the first ones tell the story.
const DETAILS: usize = 20;

/// The counts of one part.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ledger {
    /// Asked for.
    pub(crate) execs: u64,
    /// Asked for more than once.
    pub(crate) repeated: u64,
    /// Answered.
    pub(crate) acknowledged: u64,
    /// Their mark is there once.
    pub(crate) once: u64,
    /// Answered, or asked for to the end, and the mark is not there.
    pub(crate) lost: u64,
    /// Their mark is there more than once.
    pub(crate) doubled: u64,
    /// Answered, and the result cannot be looked up or is wrong.
    pub(crate) unreadable: u64,
    /// Ids and what is wrong with them.
    pub(crate) details: Vec<String>,
}

impl Ledger {
    /// Notes something wrong.
    pub(crate) fn detail(&mut self, text: String) {
        if self.details.len() < DETAILS {
            self.details.push(text);
        }
    }

    /// True when each exec was answered, done once, and can be read.
    pub(crate) fn is_clean(&self) -> bool {
        self.acknowledged == self.execs && self.once == self.execs && self.unreadable == 0
    }

    /// Compares what clients know with what sandboxes and journals say.
    pub(crate) async fn check(&mut self, line: &Line, all: &[Done]) -> Result<()> {
        let unreadable: Vec<(&Done, anyhow::Error)> = futures::stream::iter(all)
            .map(async |done| read_back(line, done).await.err().map(|error| (done, error)))
            .buffer_unordered(LOOKUPS)
            .filter_map(async |wrong| wrong)
            .collect()
            .await;
        for (done, error) in unreadable {
            self.unreadable += 1;
            self.detail(format!("unreadable: {} in {}: {error:#}", done.exec_id, done.job.sandbox));
        }
        let mut marks: BTreeMap<(&str, String), u64> = BTreeMap::new();
        let mut by_sandbox: BTreeMap<&str, Vec<&Done>> = BTreeMap::new();
        for done in all {
            by_sandbox.entry(&done.job.sandbox).or_default().push(done);
        }
        for sandbox in by_sandbox.keys() {
            for mark in line.api().await?.file(sandbox, MARKS).await?.lines() {
                *marks.entry((sandbox, mark.to_owned())).or_default() += 1;
            }
        }
        for done in all {
            let count = marks.get(&(done.job.sandbox.as_str(), done.job.name.clone()));
            self.count(done, count.copied().unwrap_or(0));
        }
        Ok(())
    }

    fn count(&mut self, done: &Done, marks: u64) {
        self.execs += 1;
        self.repeated += u64::from(done.tries > 1);
        match &done.acknowledged {
            Ok(()) => self.acknowledged += 1,
            Err(why) => self.detail(format!("unanswered: {} in {}: {why}", done.exec_id, done.job.sandbox)),
        }
        match marks {
            0 => self.lost += 1,
            1 => self.once += 1,
            _ => self.doubled += 1,
        }
        if marks != 1 {
            let (id, sandbox, tries) = (&done.exec_id, &done.job.sandbox, done.tries);
            self.detail(format!("{marks} marks: {id} in {sandbox}, asked for {tries} times"));
        }
    }
}
