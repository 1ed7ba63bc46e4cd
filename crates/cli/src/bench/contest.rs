//! Contenders measured in one run, interleaved: A B A B, so that drift of the machine hits all alike.

use anyhow::Context as _;

use super::report::{Role, Row};
use super::sample::{Round, Series};

/// Does so many operations and says how long they took.
pub(super) type Measure<'a> = Box<dyn FnMut(usize) -> anyhow::Result<Round> + 'a>;

/// One thing to measure.
pub(super) struct Contender<'a> {
    /// Its name in the table.
    pub(super) name: String,
    /// What it stands for.
    pub(super) role: Role,
    /// Operations at once.
    pub(super) in_flight: usize,
    /// Operations in one round.
    pub(super) per_round: usize,
    /// How it is measured.
    pub(super) measure: Measure<'a>,
}

impl std::fmt::Debug for Contender<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contender").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The outcome of one contender.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its row in the report.
    pub(super) row: Row,
    /// Its rounds.
    pub(super) series: Series,
}

impl Entry {
    /// A note that compares median latencies, round by round.
    pub(super) fn against(&self, name: &str, other: &Self) -> String {
        self.series.p50_over(&other.series).map_or_else(String::new, |ratio| format!("p50 {ratio} × {name}"))
    }

    /// A note that compares rates, round by round.
    pub(super) fn rate_against(&self, name: &str, other: &Self) -> String {
        self.series
            .rate_over(&other.series)
            .map_or_else(String::new, |ratio| format!("rate {ratio} × {name}"))
    }
}

/// Warms each contender up with a tenth of a round, then measures round after round, each contender once a round.
pub(super) fn measure(contenders: &mut [Contender<'_>], rounds: usize) -> anyhow::Result<Vec<Entry>> {
    for contender in contenders.iter_mut() {
        let few = (contender.per_round / 10).max(1);
        (contender.measure)(few).with_context(|| format!("warming up {}", contender.name))?;
    }
    let mut series = vec![Series::default(); contenders.len()];
    for _ in 0..rounds {
        for (contender, series) in contenders.iter_mut().zip(&mut series) {
            let round = (contender.measure)(contender.per_round)
                .with_context(|| format!("measuring {}", contender.name))?;
            series.push(round);
        }
    }
    Ok(contenders
        .iter()
        .zip(series)
        .map(|(contender, series)| Entry {
            row: Row::of(&contender.name, contender.role, contender.in_flight, &series),
            series,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::*;

    #[test]
    fn rounds_are_interleaved_after_a_short_warm_up() {
        let log = RefCell::new(Vec::new());
        let order = &log;
        let contender = |name: &'static str| Contender {
            name: name.to_owned(),
            role: Role::Floor,
            in_flight: 1,
            per_round: 20,
            measure: Box::new(move |ops| {
                order.borrow_mut().push((name, ops));
                Ok(Round { latencies: vec![Duration::from_millis(1); ops], elapsed: Duration::from_secs(1) })
            }),
        };
        let entries = measure(&mut [contender("a"), contender("b")], 2).unwrap();
        assert_eq!(*order.borrow(), [("a", 2), ("b", 2), ("a", 20), ("b", 20), ("a", 20), ("b", 20)]);
        assert_eq!(entries[1].row.n, 40);
    }
}
