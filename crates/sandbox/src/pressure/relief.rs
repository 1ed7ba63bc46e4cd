//! Which sandboxes give up memory: a pure function of how they stand and how much is short.

use std::cmp::Reverse;

use hothouse_domain::Reclaim;

/// Nothing is taken from a sandbox that was used within this time.
pub(crate) const IDLE_MS: u64 = 5_000;
/// What a freeze has to bring at least to be worth the wait of whoever uses the sandbox next.
pub(crate) const WORTH: u64 = 1 << 20;

/// How a sandbox stands when memory is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) used: Use,
    pub(crate) allowed: Reclaim,
    /// Bytes that the kernel could take back while it is frozen.
    pub(crate) by_freezing: u64,
    /// Bytes that its end would bring.
    pub(crate) by_ending: u64,
}

/// Whether somebody uses a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Busy,
    /// For so many milliseconds.
    Idle {
        ms: u64,
    },
}

/// What is done to a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// It is frozen and what can be taken back is.
    Freeze,
    End,
}

/// What to do, by place in `candidates`, so that `short` bytes more are there. The longest idle go first; none is ended
/// while freezing others is enough.
pub(crate) fn relief(short: u64, candidates: &[Candidate]) -> Vec<(usize, Act)> {
    let mut idle: Vec<(u64, usize, &Candidate)> = candidates
        .iter()
        .enumerate()
        .filter_map(|(place, candidate)| match candidate.used {
            Use::Idle { ms } if ms >= IDLE_MS => Some((ms, place, candidate)),
            Use::Idle { .. } | Use::Busy => None,
        })
        .collect();
    idle.sort_by_key(|&(ms, place, _)| (Reverse(ms), place));
    let mut acts = Vec::new();
    let mut got = 0_u64;
    for &(_, place, candidate) in &idle {
        if got >= short {
            return acts;
        }
        if candidate.allowed != Reclaim::Never && candidate.by_freezing >= WORTH {
            acts.push((place, Act::Freeze));
            got = got.saturating_add(candidate.by_freezing);
        }
    }
    for &(_, place, candidate) in &idle {
        if got >= short {
            break;
        }
        if candidate.allowed != Reclaim::End || candidate.by_ending == 0 {
            continue;
        }
        // What its end brings has what freezing it would bring in it.
        if let Some(at) = acts.iter().position(|act| *act == (place, Act::Freeze)) {
            acts.remove(at);
            got = got.saturating_sub(candidate.by_freezing);
        }
        acts.push((place, Act::End));
        got = got.saturating_add(candidate.by_ending);
    }
    acts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn idle(ms: u64, allowed: Reclaim, by_freezing: u64, by_ending: u64) -> Candidate {
        Candidate { used: Use::Idle { ms }, allowed, by_freezing, by_ending }
    }

    #[test]
    fn the_longest_idle_go_first_and_none_is_ended_while_freezing_is_enough() {
        let candidates = [
            idle(6_000, Reclaim::Freeze, 10 * MIB, 20 * MIB),
            idle(9_000, Reclaim::End, 10 * MIB, 50 * MIB),
            idle(8_000, Reclaim::Never, 90 * MIB, 90 * MIB),
            idle(4_999, Reclaim::Freeze, 90 * MIB, 90 * MIB),
        ];
        assert_eq!(relief(0, &candidates), []);
        assert_eq!(relief(5 * MIB, &candidates), [(1, Act::Freeze)]);
        assert_eq!(relief(20 * MIB, &candidates), [(1, Act::Freeze), (0, Act::Freeze)]);
        assert_eq!(relief(21 * MIB, &candidates), [(0, Act::Freeze), (1, Act::End)]);
        assert_eq!(relief(u64::MAX, &candidates), [(0, Act::Freeze), (1, Act::End)]);
        assert_eq!(relief(1, &[idle(9_000, Reclaim::Freeze, WORTH - 1, MIB)]), [], "for too little");
    }

    prop_compose! {
        fn any_candidate()(
            busy in any::<bool>(), ms in 0_u64..20_000, allowed in 0..3, by_freezing in 0_u64..40 * MIB, more in 0_u64..40 * MIB,
        ) -> Candidate {
            let allowed = [Reclaim::Never, Reclaim::Freeze, Reclaim::End][usize::try_from(allowed).unwrap()];
            let used = if busy { Use::Busy } else { Use::Idle { ms } };
            Candidate { used, allowed, by_freezing, by_ending: by_freezing + more }
        }
    }

    fn gain((place, act): (usize, Act), candidates: &[Candidate]) -> u64 {
        match act {
            Act::Freeze => candidates[place].by_freezing,
            Act::End => candidates[place].by_ending,
        }
    }

    proptest! {
        #[test]
        fn it_touches_no_busy_sandbox_none_against_its_lease_and_no_more_than_needed(
            candidates in prop::collection::vec(any_candidate(), 0..40), short in 0_u64..400 * MIB,
        ) {
            let acts = relief(short, &candidates);
            for &(place, act) in &acts {
                let candidate = &candidates[place];
                let idle = matches!(candidate.used, Use::Idle { ms } if ms >= IDLE_MS);
                prop_assert!(idle, "{candidate:?}");
                match act {
                    Act::Freeze => prop_assert!(candidate.allowed != Reclaim::Never && candidate.by_freezing >= WORTH),
                    Act::End => prop_assert_eq!(candidate.allowed, Reclaim::End),
                }
            }
            let mut places: Vec<usize> = acts.iter().map(|(place, _)| *place).collect();
            places.sort_unstable();
            places.dedup();
            prop_assert_eq!(places.len(), acts.len(), "each once");
            // Without the last one it would not be enough.
            let all_but_last: u64 = acts.iter().rev().skip(1).map(|&act| gain(act, &candidates)).sum();
            prop_assert!(acts.is_empty() || all_but_last < short);
        }

        #[test]
        fn it_is_enough_or_nothing_is_left_to_do(
            candidates in prop::collection::vec(any_candidate(), 0..40), short in 0_u64..400 * MIB,
        ) {
            let acts = relief(short, &candidates);
            let got: u64 = acts.iter().map(|&act| gain(act, &candidates)).sum();
            let left = candidates.iter().enumerate().any(|(place, candidate)| {
                let act = acts.iter().find(|(at, _)| *at == place).map(|(_, act)| *act);
                let idle = matches!(candidate.used, Use::Idle { ms } if ms >= IDLE_MS);
                idle && match candidate.allowed {
                    Reclaim::Never => false,
                    Reclaim::Freeze => act.is_none() && candidate.by_freezing >= WORTH,
                    Reclaim::End => act != Some(Act::End) && candidate.by_ending > 0,
                }
            });
            prop_assert!(got >= short || !left);
        }
    }
}
