//! Tables: framed by nothing, aligned, coloured headers on a terminal.

use comfy_table::{Attribute, Cell, ContentArrangement, presets};
use jiff::Timestamp;

use crate::console;
use crate::failure::Failure;

/// A table of text.
#[derive(Debug)]
pub(crate) struct Table {
    inner: comfy_table::Table,
}

impl Table {
    /// An empty one with these headers.
    pub(crate) fn new(headers: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(presets::NOTHING);
        if console::out_is_terminal() {
            inner.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            // For a program or a file: never wrapped.
            inner.set_content_arrangement(ContentArrangement::Disabled);
        }
        if console::colours() {
            inner.enforce_styling();
            inner.set_header(headers.iter().map(|h| Cell::new(h).add_attribute(Attribute::Bold)));
        } else {
            inner.force_no_tty();
            inner.set_header(headers.to_vec());
        }
        Self { inner }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.inner.add_row(cells.into_iter().map(|text| text.replace(|c: char| c.is_control(), " ")));
    }

    /// Adds a row whose cells have colours of their own.
    pub(crate) fn cells(&mut self, cells: Vec<Cell>) {
        self.inner.add_row(cells);
    }

    /// Prints it.
    pub(crate) fn print(&self) -> Result<(), Failure> {
        let text = self.inner.to_string();
        // Cells are padded on both sides; lines of a listing begin and end with text.
        for line in text.lines() {
            console::line(line.strip_prefix(' ').unwrap_or(line).trim_end())?;
        }
        Ok(())
    }
}

/// Bytes for a person: `512M`, `1.5G`.
pub(crate) fn bytes(count: u64) -> String {
    let mut unit = 0;
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut number = count as f64;
    while number >= 1024.0 && unit < 4 {
        number /= 1024.0;
        unit += 1;
    }
    let text = if number >= 100.0 || number.fract() == 0.0 {
        format!("{number:.0}")
    } else {
        format!("{number:.1}")
    };
    format!("{text}{}", ["", "K", "M", "G", "T"][unit])
}

/// How long ago, for a person: `12s`, `3m`, `5h`, `2d`.
pub(crate) fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        86_400.. => format!("{}d", seconds / 86_400),
    }
}

/// Seconds for a person: `850µs`, `1.24ms`, `3.1s`.
pub(crate) fn seconds(s: f64) -> String {
    if s < 1e-3 {
        format!("{:.0}µs", s * 1e6)
    } else if s < 1.0 {
        format!("{:.1}ms", s * 1e3)
    } else {
        format!("{s:.2}s")
    }
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    #[test_case(0 => "0")]
    #[test_case(512 << 20 => "512M")]
    #[test_case(3 << 29 => "1.5G")]
    #[test_case(1000 => "1000")]
    #[test_case(1 << 50 => "1024T")]
    fn bytes_for_a_person(count: u64) -> String {
        bytes(count)
    }

    #[test_case(-5 => "0s")]
    #[test_case(59 => "59s")]
    #[test_case(60 => "1m")]
    #[test_case(7200 => "2h")]
    #[test_case(200_000 => "2d")]
    fn ages(seconds: i64) -> String {
        let then = Timestamp::from_second(1_000_000).unwrap();
        age(Timestamp::from_second(1_000_000 + seconds).unwrap(), then)
    }
}
