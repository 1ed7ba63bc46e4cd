//! The matrix: one row for each case and each kind of user.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use crate::cases::Case;
use crate::findings::Findings;
use crate::scene::Neighbourhood;
use crate::world::Whom;

/// One case as one kind of user.
#[derive(Debug)]
pub(crate) struct Row {
    /// Which case.
    pub(crate) case: &'static Case,
    /// As whom the server ran.
    pub(crate) whom: Whom,
    /// What the attack got.
    pub(crate) attack: Findings,
    /// What it left on the host.
    pub(crate) host: Findings,
    /// Whether the neighbour was served.
    pub(crate) neighbour: Findings,
    /// How fast.
    pub(crate) neighbours: Neighbourhood,
    /// What the attack got with the defence off.
    pub(crate) control: Findings,
    /// How long it all took.
    pub(crate) took: Duration,
}

impl Row {
    fn parts(&self) -> [(&'static str, &Findings); 4] {
        [
            ("attack", &self.attack),
            ("host", &self.host),
            ("neighbour", &self.neighbour),
            ("control", &self.control),
        ]
    }

    fn broken(&self) -> Vec<String> {
        self.parts()
            .into_iter()
            .flat_map(|(part, found)| found.broken().map(move |what| format!("{part}: {what}")))
            .collect()
    }

    /// True when nothing is wrong but that the neighbour waited. That may have been for other programs on the machine, which
    /// nothing here can hold still; it is for the attack when it happens again.
    pub(crate) fn is_only_slow(&self) -> bool {
        let served = [self.neighbours.before, self.neighbours.during, self.neighbours.after];
        let parts = [&self.attack, &self.host, &self.control];
        self.neighbour.broken().next().is_some()
            && served.iter().all(|service| service.failures == 0)
            && parts.iter().all(|found| found.broken().next().is_none())
    }

    fn holes(&self) -> Vec<&str> {
        let mut holes: Vec<&str> = self.parts().into_iter().flat_map(|(_, found)| found.holes()).collect();
        holes.sort_unstable();
        holes.dedup();
        holes
    }

    /// The row as one line of the matrix, with what is wrong below it.
    pub(crate) fn line(&self) -> String {
        let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
        let cell = |found: &Findings| {
            if found.broken().next().is_some() {
                "BROKEN".to_owned()
            } else if found.holes().next().is_some() {
                format!("hole {}/{}", found.held(), found.len())
            } else {
                format!("held {}/{}", found.held(), found.len())
            }
        };
        let control = match (self.control.broken().next(), self.control.held()) {
            (Some(_), _) => "FAILED",
            (None, 0) => "not played",
            (None, _) => "attack works",
        };
        let mut line = format!(
            "{:<4} {:<44} {:<10} {:<12} {:<10} {:<20} {:<13} {:>6.1} s",
            self.case.id,
            self.case.title,
            self.whom,
            cell(&self.attack),
            cell(&self.host),
            [self.neighbours.before, self.neighbours.during, self.neighbours.after]
                .map(|service| ms(service.p99))
                .join(" / "),
            control,
            self.took.as_secs_f64(),
        );
        for hole in self.holes() {
            line.push_str(&format!("\n       named hole: {hole}"));
        }
        for what in self.broken() {
            line.push_str(&format!("\n       BROKEN {what}"));
        }
        line
    }
}

/// All rows.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    rows: Vec<Row>,
    skipped: Vec<String>,
    broken: Vec<String>,
}

impl Matrix {
    /// Adds a row.
    pub(crate) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Notes that nothing was run as that one.
    pub(crate) fn skip(&mut self, whom: Whom, reason: &str) {
        let line = format!("abuse as {whom}: {reason}");
        if let Some(path) = std::env::var_os("HOTHOUSE_SKIPS") {
            let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
            if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
                self.broken.push(format!("{}: {error}", path.display()));
            }
        }
        self.skipped.push(line);
    }

    /// Notes that a server could not be started or ended.
    pub(crate) fn broken(&mut self, whom: Whom, reason: &str) {
        self.broken.push(format!("as {whom}: {reason}"));
    }

    /// Success when nothing is broken and something was tried.
    pub(crate) fn verdict(&self) -> ExitCode {
        let clean = self.broken.is_empty() && self.rows.iter().all(|row| row.broken().is_empty());
        if clean && !self.rows.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<4} {:<44} {:<10} {:<12} {:<10} {:<20} {:<13}",
            "case", "attack", "server as", "attack", "host", "neighbour p99, ms", "defence off"
        )?;
        for row in &self.rows {
            writeln!(f, "{}", row.line())?;
        }
        for line in self.skipped.iter() {
            writeln!(f, "skipped: {line}")?;
        }
        for line in &self.broken {
            writeln!(f, "BROKEN {line}")?;
        }
        let failed = self.rows.iter().filter(|row| !row.broken().is_empty()).count() + self.broken.len();
        let holes = self.rows.iter().filter(|row| !row.holes().is_empty()).count();
        let passed = self.rows.len() + self.broken.len() - failed;
        let word = if failed == 0 { "ok" } else { "FAILED" };
        writeln!(f, "{holes} rows with a named hole")?;
        write!(f, "test result: {word}. {passed} passed; {failed} failed; {} ignored", self.skipped.len())
    }
}
