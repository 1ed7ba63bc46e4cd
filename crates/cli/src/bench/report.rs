//! What a bench says: a table for people, one JSON object for programs.

use std::io::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::machine::Machine;
use super::sample::Series;

/// What a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// What the kernel alone needs.
    Floor,
    /// This program.
    Hothouse,
    /// Another program that does something like it.
    Peer,
}

/// One contender's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    /// What was measured.
    pub(super) name: String,
    /// What it stands for.
    pub(super) role: Role,
    /// Operations measured.
    pub(super) n: usize,
    /// Operations at once.
    pub(super) in_flight: usize,
    /// Median latency.
    pub(super) p50_ms: f64,
    /// 99th percentile.
    pub(super) p99_ms: f64,
    /// Operations per second, median of the rounds.
    pub(super) per_second: f64,
    /// What a reader must know, e.g. a ratio.
    pub(super) note: String,
    /// What both ends used, where that was looked at.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) cost: Option<Cost>,
}

/// What server and load used, and how a contender stands to its peer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Cost {
    /// Processor time of the server for each operation, in microseconds.
    #[serde(rename = "server_us_per_operation")]
    pub(super) server_us: Option<f64>,
    /// Cores that the server used.
    pub(super) server_cores: Option<f64>,
    /// Cores that the load used: near its number of threads it is the load that was measured.
    pub(super) load_cores: f64,
    /// How many times the peer's rate.
    pub(super) ratio: Option<f64>,
    /// What of that is promised.
    pub(super) bar: Option<f64>,
}

impl Row {
    /// The row of a measured contender.
    pub(super) fn of(name: &str, role: Role, in_flight: usize, series: &Series) -> Self {
        Self {
            name: name.to_owned(),
            role,
            n: series.len(),
            in_flight,
            p50_ms: series.p50_ms(),
            p99_ms: series.p99_ms(),
            per_second: series.per_second(),
            note: String::new(),
            cost: None,
        }
    }
}

impl Cost {
    fn cells(self) -> [String; 5] {
        let or_nothing = |value: Option<f64>, digits: usize| {
            value.map(|value| format!("{value:.digits$}")).unwrap_or_default()
        };
        [
            or_nothing(self.server_us, 2),
            or_nothing(self.server_cores, 2),
            format!("{:.2}", self.load_cores),
            or_nothing(self.ratio, 2),
            or_nothing(self.bar, 1),
        ]
    }
}

/// A figure that is not a latency: bytes, counts, before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figure {
    /// What was counted.
    pub(super) name: String,
    /// Before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<f64>,
    /// After, or the figure itself.
    pub(super) value: f64,
    /// Of what.
    pub(super) unit: &'static str,
}

/// Whether a promised number was kept in this run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Bar {
    /// What is promised.
    pub(super) name: String,
    /// The promise.
    pub(super) bar: String,
    /// What was measured.
    pub(super) measured: String,
    /// Whether it was kept.
    pub(super) met: bool,
}

impl Bar {
    /// A promise that a figure stays at or below a number.
    pub(super) fn at_most(name: &str, measured: f64, bar: f64, unit: &str) -> Self {
        Self {
            name: name.to_owned(),
            bar: format!("≤ {bar}{unit}"),
            measured: format!("{measured:.2}{unit}"),
            met: measured <= bar,
        }
    }

    /// A promise that a figure stays at or above a number.
    pub(super) fn at_least(name: &str, measured: f64, bar: f64, unit: &str) -> Self {
        Self {
            name: name.to_owned(),
            bar: format!("≥ {bar}{unit}"),
            measured: format!("{measured:.2}{unit}"),
            met: measured >= bar,
        }
    }
}

/// Everything that one bench found in one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Report {
    /// Which bench.
    pub(super) bench: &'static str,
    /// Where.
    pub(super) machine: Machine,
    /// Latencies and rates.
    pub(super) rows: Vec<Row>,
    /// Other figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) figures: Vec<Figure>,
    /// The promises.
    pub(super) bars: Vec<Bar>,
    /// Peers that were not measured, each with the reason.
    pub(super) not_measured: Vec<String>,
    /// What the reader must know about the set-up.
    pub(super) notes: Vec<String>,
}

impl Report {
    /// An empty report of this machine.
    pub(super) fn new(bench: &'static str) -> Self {
        Self {
            bench,
            machine: Machine::look(),
            rows: Vec::new(),
            figures: Vec::new(),
            bars: Vec::new(),
            not_measured: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Writes it for people.
    pub(super) fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "\n{}: {}", self.bench, self.machine)?;
        for note in &self.notes {
            writeln!(out, "  {note}")?;
        }
        if !self.rows.is_empty() {
            writeln!(out, "{}", self.latency_table())?;
        }
        if !self.figures.is_empty() {
            writeln!(out, "{}", self.figure_table())?;
        }
        for bar in &self.bars {
            let mark = if bar.met { "met   " } else { "MISSED" };
            writeln!(out, "  {mark} {}: {} (bar {})", bar.name, bar.measured, bar.bar)?;
        }
        for peer in &self.not_measured {
            writeln!(out, "  not measured: {peer}")?;
        }
        Ok(())
    }

    fn latency_table(&self) -> Table {
        let costs = self.rows.iter().any(|row| row.cost.is_some());
        let mut header = vec!["", "in flight", "n", "p50 ms", "p99 ms", "per second"];
        if costs {
            header.extend(["server µs", "server cores", "load cores", "× peer", "bar"]);
        }
        let numbers = header.len();
        header.push("note");
        let mut table = plain_table(&header);
        for row in &self.rows {
            let name = match row.role {
                Role::Floor => format!("{} (floor)", row.name),
                Role::Peer => format!("{} (peer)", row.name),
                Role::Hothouse => row.name.clone(),
            };
            let mut cells = vec![
                name,
                row.in_flight.to_string(),
                row.n.to_string(),
                format!("{:.3}", row.p50_ms),
                format!("{:.3}", row.p99_ms),
                format!("{:.0}", row.per_second),
            ];
            if costs {
                cells.extend(row.cost.map(Cost::cells).unwrap_or_default());
            }
            cells.push(row.note.clone());
            table.add_row(cells);
        }
        align_numbers(&mut table, 1..=numbers - 1);
        table
    }

    fn figure_table(&self) -> Table {
        let mut table = plain_table(&["", "before", "value", "unit"]);
        for figure in &self.figures {
            table.add_row([
                figure.name.clone(),
                figure.before.map(number).unwrap_or_default(),
                number(figure.value),
                figure.unit.to_owned(),
            ]);
        }
        align_numbers(&mut table, 1..=2);
        table
    }
}

fn plain_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}

fn align_numbers(table: &mut Table, columns: std::ops::RangeInclusive<usize>) {
    for at in columns {
        if let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn number(value: f64) -> String {
    if value.fract().abs() < 1e-9 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::sample::Round;

    #[test]
    fn json_has_the_documented_shape() {
        let mut series = Series::default();
        series
            .push(Round { latencies: vec![Duration::from_millis(2); 4], elapsed: Duration::from_millis(8) });
        let mut report = Report::new("exec");
        report.rows.push(Row::of("posix_spawn", Role::Floor, 1, &series));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["bench"], "exec");
        for field in ["kernel", "cores", "memory_bytes", "load1"] {
            assert!(!json["machine"][field].is_null(), "machine.{field} is missing");
        }
        let row = &json["rows"][0];
        assert_eq!(row["role"], "floor");
        assert_eq!(row["n"], 4);
        assert_eq!(row["in_flight"], 1);
        assert_eq!(row["p50_ms"], 2.0);
        assert_eq!(row["p99_ms"], 2.0);
        assert_eq!(row["per_second"], 500.0);
        assert_eq!(row["note"], "");
    }

    #[test]
    fn a_missed_bar_says_so() {
        let mut report = Report::new("create");
        report.bars.push(Bar::at_most("p50", 3.5, 3.0, " ms"));
        report.bars.push(Bar::at_least("rate", 700.0, 600.0, "/s"));
        report.not_measured.push("docker: not installed".to_owned());
        let mut text = Vec::new();
        report.print(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("MISSED p50: 3.50 ms (bar ≤ 3 ms)"), "{text}");
        assert!(text.contains("met    rate: 700.00/s (bar ≥ 600/s)"), "{text}");
        assert!(text.contains("not measured: docker: not installed"), "{text}");
    }
}
