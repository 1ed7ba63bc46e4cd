//! The table: one row for each part.

use std::fmt;
use std::time::Duration;

use crate::ledger::Ledger;
use crate::stage::Rest;

/// What a ledger has to show.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) enum Expected {
    /// Each exec answered, done once, and readable.
    #[default]
    Clean,
    /// Doubled, lost and unreadable ones: a negative control.
    Broken,
}

/// What one part counted.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) part: &'static str,
    /// Times that something was broken on purpose.
    pub(crate) faults: u64,
    pub(crate) ledger: Ledger,
    /// What its ledger has to show.
    pub(crate) expected: Expected,
    pub(crate) rest: Rest,
    pub(crate) took: Duration,
    /// Why the part could not be played to its end.
    pub(crate) broken: Option<String>,
    /// What else it has to tell.
    pub(crate) notes: Vec<String>,
}

/// Columns after the name.
const HEAD: [&str; 14] = [
    "faults",
    "execs",
    "repeated",
    "answered",
    "once",
    "lost",
    "doubled",
    "unreadable",
    "processes",
    "cgroups",
    "mounts",
    "dirs",
    "pooled",
    "s",
];

impl Row {
    /// True when nothing is lost, doubled, unreadable or left.
    pub(crate) fn is_clean(&self) -> bool {
        let ledger = &self.ledger;
        let counted = match self.expected {
            Expected::Clean => ledger.is_clean(),
            Expected::Broken => ledger.doubled > 0 && ledger.lost > 0 && ledger.unreadable > 0,
        };
        self.broken.is_none() && counted && self.rest.leftovers.is_empty() && self.rest.pooled == 0
    }

    fn cells(&self) -> [String; 14] {
        let Ledger { execs, repeated, acknowledged, once, lost, doubled, unreadable, .. } = &self.ledger;
        let left = &self.rest.leftovers;
        let counts = [&self.faults, execs, repeated, acknowledged, once, lost, doubled, unreadable];
        let sizes = [left.processes.len(), left.cgroups.len(), left.mounts, left.directories.len()];
        let mut cells: Vec<String> = counts.map(ToString::to_string).into();
        cells.extend(sizes.map(|size| size.to_string()));
        cells.push(self.rest.pooled.to_string());
        cells.push(format!("{:.1}", self.took.as_secs_f64()));
        std::array::from_fn(|at| cells[at].clone())
    }
}

fn line(name: &str, cells: &[impl AsRef<str>]) -> String {
    let cells: String = cells.iter().map(|cell| format!(" {:>10}", cell.as_ref())).collect();
    format!("{name:<12}{cells}")
}

/// The heads of the columns.
pub(crate) fn head() -> String {
    line("part", &HEAD)
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", line(self.part, &self.cells()))?;
        for note in &self.notes {
            write!(f, "\n    {note}")?;
        }
        if self.is_clean() {
            return Ok(());
        }
        if let Some(why) = &self.broken {
            write!(f, "\n    BROKEN {why}")?;
        }
        for detail in &self.ledger.details {
            write!(f, "\n    {detail}")?;
        }
        let left = &self.rest.leftovers;
        for what in left.processes.iter().chain(&left.cgroups).chain(&left.directories) {
            write!(f, "\n    left: {what}")?;
        }
        for line in self.rest.log.lines() {
            write!(f, "\n    log: {line}")?;
        }
        Ok(())
    }
}
