//! How many claims there were of late.

/// Seconds that count as of late.
const HORIZON: usize = 10;

/// Claims per second, for as many seconds as count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demand {
    /// By second, modulo the horizon.
    claims: [u32; HORIZON],
    /// The latest second that was noted or asked for.
    latest: u64,
}

impl Demand {
    /// Notes a claim in this second. Seconds count from any moment that does not change.
    pub(crate) fn note(&mut self, second: u64) {
        self.forget(second);
        self.claims[slot(second)] = self.claims[slot(second)].saturating_add(1);
    }

    /// Claims of the last seconds, this one included.
    pub(crate) fn of_late(&mut self, second: u64) -> u32 {
        self.forget(second);
        self.claims.iter().fold(0, |sum, claims| sum.saturating_add(*claims))
    }

    /// Empties the seconds that have begun since.
    fn forget(&mut self, second: u64) {
        if second > self.latest {
            for begun in (self.latest + 1..=second).rev().take(self.claims.len()) {
                self.claims[slot(begun)] = 0;
            }
            self.latest = second;
        }
    }
}

fn slot(second: u64) -> usize {
    usize::try_from(second % HORIZON as u64).expect("a remainder is small")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_counts_the_horizon_and_nothing_before(mut seconds in prop::collection::vec(0_u64..60, 0..200)) {
            seconds.sort_unstable();
            let mut demand = Demand::default();
            for (at, second) in seconds.iter().enumerate() {
                demand.note(*second);
                let expected = seconds[..=at].iter().filter(|earlier| **earlier + HORIZON as u64 > *second).count();
                prop_assert_eq!(demand.of_late(*second) as usize, expected);
            }
            let last = seconds.last().copied().unwrap_or_default();
            prop_assert_eq!(demand.of_late(last + HORIZON as u64), 0);
        }
    }
}
