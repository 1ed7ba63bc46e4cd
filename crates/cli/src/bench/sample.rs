//! Latencies of one contender, round by round, and what is quoted from them.

use std::time::Duration;

/// One round: how long each operation took, and how long the round did.
#[derive(Debug, Clone, Default)]
pub(super) struct Round {
    /// Each operation, from request sent to result received.
    pub(super) latencies: Vec<Duration>,
    /// The whole round; with several operations in flight less than their sum.
    pub(super) elapsed: Duration,
}

/// All rounds of one contender.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    rounds: Vec<Round>,
}

/// The ratio of two contenders, measured pair by pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ratio {
    /// The median of the rounds' ratios.
    pub(super) median: f64,
    /// The least of them.
    pub(super) low: f64,
    /// The greatest of them.
    pub(super) high: f64,
}

impl Round {
    /// The latency, in milliseconds, that so many of a thousand operations did not exceed.
    pub(super) fn per_mille_ms(&self, per_mille: usize) -> f64 {
        nearest_rank(self.latencies.clone(), per_mille)
    }

    /// Operations per second.
    pub(super) fn per_second(&self) -> f64 {
        if self.elapsed.is_zero() {
            return 0.0;
        }
        count(self.latencies.len()) / self.elapsed.as_secs_f64()
    }
}

impl Series {
    /// Adds a round.
    pub(super) fn push(&mut self, round: Round) {
        self.rounds.push(round);
    }

    /// Operations in all rounds.
    pub(super) fn len(&self) -> usize {
        self.rounds.iter().map(|round| round.latencies.len()).sum()
    }

    /// The median latency over all rounds, in milliseconds.
    pub(super) fn p50_ms(&self) -> f64 {
        nearest_rank(self.pooled(), 500)
    }

    /// The 99th percentile over all rounds, in milliseconds.
    pub(super) fn p99_ms(&self) -> f64 {
        nearest_rank(self.pooled(), 990)
    }

    /// The median of the rounds' rates: one disturbed round does not move it.
    pub(super) fn per_second(&self) -> f64 {
        median(self.rounds.iter().map(Round::per_second).collect())
    }

    /// How long a round took, the median.
    pub(super) fn median_elapsed(&self) -> Duration {
        let seconds = median(self.rounds.iter().map(|round| round.elapsed.as_secs_f64()).collect());
        // What was made of durations is one.
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }

    /// How many times longer the median operation of `self` takes than that of `floor`, round by round.
    pub(super) fn p50_over(&self, floor: &Self) -> Option<Ratio> {
        Ratio::of_pairs(
            self.rounds
                .iter()
                .zip(&floor.rounds)
                .map(|(own, base)| (own.per_mille_ms(500), base.per_mille_ms(500))),
        )
    }

    /// How many times as many operations a second `self` does as `floor`, round by round.
    pub(super) fn rate_over(&self, floor: &Self) -> Option<Ratio> {
        Ratio::of_pairs(
            self.rounds.iter().zip(&floor.rounds).map(|(own, base)| (own.per_second(), base.per_second())),
        )
    }

    fn pooled(&self) -> Vec<Duration> {
        self.rounds.iter().flat_map(|round| round.latencies.iter().copied()).collect()
    }
}

impl Ratio {
    fn of_pairs(pairs: impl Iterator<Item = (f64, f64)>) -> Option<Self> {
        let mut ratios: Vec<f64> =
            pairs.filter(|(_, base)| *base > 0.0).map(|(own, base)| own / base).collect();
        ratios.sort_by(f64::total_cmp);
        Some(Self { median: median(ratios.clone()), low: *ratios.first()?, high: *ratios.last()? })
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2}–{:.2})", self.median, self.low, self.high)
    }
}

/// The middle value; of an even number the mean of the middle two. 0 when there is none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let Some(upper) = values.get(values.len() / 2) else { return 0.0 };
    if values.len() % 2 == 1 { *upper } else { f64::midpoint(values[values.len() / 2 - 1], *upper) }
}

/// A count as a number to divide by.
#[expect(clippy::cast_precision_loss, reason = "counts here stay far below 2^52")]
pub(super) fn count(n: usize) -> f64 {
    n as f64
}

/// A duration in milliseconds.
pub(super) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn nearest_rank(mut latencies: Vec<Duration>, per_mille: usize) -> f64 {
    if latencies.is_empty() {
        return 0.0;
    }
    latencies.sort_unstable();
    let rank = (latencies.len() * per_mille).div_ceil(1000).max(1);
    ms(latencies[rank - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(latencies_ms: &[u64], elapsed_ms: u64) -> Round {
        Round {
            latencies: latencies_ms.iter().map(|ms| Duration::from_millis(*ms)).collect(),
            elapsed: Duration::from_millis(elapsed_ms),
        }
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let hundred: Vec<u64> = (1..=100).rev().collect();
        let mut series = Series::default();
        series.push(round(&hundred, 1000));
        assert!((series.p50_ms() - 50.0).abs() < 1e-9);
        assert!((series.p99_ms() - 99.0).abs() < 1e-9);
        assert_eq!(series.len(), 100);
    }

    #[test]
    fn one_sample_is_every_percentile_and_none_is_zero() {
        let mut series = Series::default();
        assert!(series.p50_ms().abs() < 1e-9);
        series.push(round(&[7], 7));
        assert!((series.p50_ms() - 7.0).abs() < 1e-9);
        assert!((series.p99_ms() - 7.0).abs() < 1e-9);
    }

    #[test]
    fn a_disturbed_round_does_not_move_the_rate() {
        let mut series = Series::default();
        series.push(round(&[1; 10], 10));
        series.push(round(&[90; 10], 900));
        series.push(round(&[1; 10], 10));
        assert!((series.per_second() - 1000.0).abs() < 1e-6);
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        // Both slow down in the second round: the ratio stays.
        let (mut own, mut floor) = (Series::default(), Series::default());
        for slow in [1, 5, 1] {
            own.push(round(&[4 * slow], 4 * slow));
            floor.push(round(&[2 * slow], 2 * slow));
        }
        let ratio = own.p50_over(&floor).unwrap();
        assert_eq!(ratio, Ratio { median: 2.0, low: 2.0, high: 2.0 });
        let rates = own.rate_over(&floor).unwrap();
        assert!((rates.median - 0.5).abs() < 1e-9);
    }

    #[test]
    fn no_floor_no_ratio() {
        assert_eq!(Series::default().p50_over(&Series::default()), None);
    }
}
