//! What a pool does next: a pure function of what is wanted and what is there.

use hothouse_domain::{PoolPhase, PoolSize};

/// What a pool is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Desired {
    /// How many are kept ready.
    pub size: PoolSize,
    /// Whether any are.
    pub phase: PoolPhase,
}

/// What is there. Sandboxes that somebody has do not occur: no plan can touch them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observed {
    /// Sandboxes of the template's latest version that wait for a claim.
    pub ready: u32,
    /// Sandboxes of an earlier version that wait; they are given to nobody.
    pub outdated: u32,
    /// Sandboxes that are being made.
    pub making: u32,
    /// Claims of late: so many may come again before the next refill.
    pub demand: u32,
    /// Sandboxes that may be in the making at once.
    pub makers: u32,
    /// Sandboxes that the node has room for.
    pub room: u32,
    /// Claims that wait for a sandbox made for them alone: refilling yields to them.
    pub waiting: u32,
    /// How the machine stands.
    pub memory: Memory,
}

/// Whether the machine has memory for sandboxes that nobody needs yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Memory {
    /// It has.
    #[default]
    Enough,
    /// It takes memory back from idle sandboxes.
    Short,
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Begin to make so many.
    Make(u32),
    /// Destroy so many of those that are ready, the oldest first.
    Retire(u32),
    /// Destroy all that are outdated.
    RetireOutdated,
}

/// What to do now. With nothing left to do, the answer is empty.
#[must_use]
pub fn plan(desired: Desired, observed: Observed) -> Vec<Action> {
    let target = target(desired, observed);
    let mut actions = Vec::new();
    if observed.outdated > 0 {
        actions.push(Action::RetireOutdated);
    }
    let coming = observed.ready.saturating_add(observed.making);
    // What is in the making is not called off: it is retired once it is ready.
    let surplus = coming.saturating_sub(target).min(observed.ready);
    if surplus > 0 {
        actions.push(Action::Retire(surplus));
    }
    // One at a time beside claims that wait: they are somebody's present, these are perhaps somebody's future.
    let makers = if observed.waiting > 0 { observed.makers.min(1) } else { observed.makers };
    let missing = target.saturating_sub(coming);
    let make = missing.min(makers.saturating_sub(observed.making)).min(observed.room);
    if make > 0 {
        actions.push(Action::Make(make));
    }
    actions
}

fn target(desired: Desired, observed: Observed) -> u32 {
    let PoolSize { min, max } = desired.size;
    match (desired.phase, observed.memory) {
        (PoolPhase::Active, Memory::Enough) => observed.demand.clamp(min, max.max(min)),
        // What may come again is no reason to take from those who are there.
        (PoolPhase::Active, Memory::Short) => min,
        (PoolPhase::Draining, _) => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn active(min: u32, max: u32) -> Desired {
        Desired { size: PoolSize { min, max }, phase: PoolPhase::Active }
    }

    #[test]
    fn an_empty_pool_is_filled_to_its_least_and_a_busy_one_to_what_is_claimed() {
        let empty = Observed { makers: 4, room: 100, ..Observed::default() };
        assert_eq!(plan(active(3, 10), empty), [Action::Make(3)]);
        assert_eq!(plan(active(8, 10), empty), [Action::Make(4)], "only so many at once");
        let busy = Observed { ready: 2, making: 1, demand: 50, ..empty };
        assert_eq!(plan(active(2, 5), busy), [Action::Make(2)], "never above its most");
        assert_eq!(plan(active(2, 5), Observed { waiting: 1, ..busy }), [], "claims that wait go first");
        assert_eq!(
            plan(active(2, 5), Observed { ready: 5, making: 0, demand: 0, ..empty }),
            [Action::Retire(3)]
        );
    }

    #[test]
    fn a_draining_pool_and_an_old_version_go() {
        let full = Observed {
            ready: 4,
            outdated: 2,
            making: 1,
            demand: 9,
            makers: 4,
            room: 100,
            ..Observed::default()
        };
        let draining = Desired { phase: PoolPhase::Draining, ..active(3, 10) };
        assert_eq!(plan(draining, full), [Action::RetireOutdated, Action::Retire(4)]);
    }

    #[test]
    fn a_machine_short_of_memory_keeps_no_more_ready_than_the_least() {
        let busy = Observed { ready: 9, demand: 50, makers: 4, room: 100, ..Observed::default() };
        let short = Observed { memory: Memory::Short, ..busy };
        assert_eq!(plan(active(2, 10), busy), [Action::Make(1)]);
        assert_eq!(plan(active(2, 10), short), [Action::Retire(7)]);
        assert_eq!(plan(active(2, 10), Observed { ready: 1, ..short }), [Action::Make(1)]);
    }

    prop_compose! {
        fn any_observed()(
            ready in 0_u32..300, outdated in 0_u32..50, making in 0_u32..50, demand in 0_u32..500,
            makers in 0_u32..40, room in 0_u32..400, waiting in 0_u32..3, short in any::<bool>(),
        ) -> Observed {
            let memory = if short { Memory::Short } else { Memory::Enough };
            Observed { ready, outdated, making, demand, makers, room, waiting, memory }
        }
    }

    prop_compose! {
        fn any_desired()(a in 0_u32..200, b in 1_u32..200, draining in any::<bool>()) -> Desired {
            let phase = if draining { PoolPhase::Draining } else { PoolPhase::Active };
            Desired { size: PoolSize { min: a.min(b), max: a.max(b) }, phase }
        }
    }

    fn total(actions: &[Action], of: impl Fn(&Action) -> u32) -> u32 {
        actions.iter().map(of).sum()
    }

    proptest! {
        #[test]
        fn it_never_makes_more_than_the_most_nor_the_room_nor_retires_what_is_not_ready(
            desired in any_desired(), observed in any_observed(),
        ) {
            let actions = plan(desired, observed);
            let made = total(&actions, |action| if let Action::Make(n) = action { *n } else { 0 });
            let retired = total(&actions, |action| if let Action::Retire(n) = action { *n } else { 0 });
            prop_assert!(made <= observed.room && retired <= observed.ready);
            prop_assert!(made == 0 || observed.ready + observed.making + made <= desired.size.max);
            prop_assert!(made == 0 || observed.making + made <= observed.makers);
            prop_assert!(made == 0 || retired == 0, "it does not make and retire at once");
            prop_assert!(desired.phase == PoolPhase::Active || made == 0);
        }

        #[test]
        fn it_comes_to_rest_where_it_was_told_to(desired in any_desired(), begin in any_observed()) {
            let mut now = Observed { waiting: 0, makers: begin.makers.max(1), ..begin };
            let target = target(desired, now);
            let reachable = target.min(now.ready.saturating_add(now.making).saturating_add(now.room));
            let mut steps = 0;
            loop {
                let actions = plan(desired, now);
                if actions.is_empty() && now.making == 0 {
                    break;
                }
                for action in actions {
                    match action {
                        Action::Make(n) => { now.making += n; now.room -= n; }
                        Action::Retire(n) => { now.ready -= n; now.room += n; }
                        Action::RetireOutdated => { now.room += now.outdated; now.outdated = 0; }
                    }
                }
                now.ready += std::mem::take(&mut now.making);
                steps += 1;
                prop_assert!(steps < 1_000, "{now:?}");
            }
            prop_assert!(now.ready >= reachable && now.ready <= target && now.outdated == 0, "{now:?}");
        }
    }
}
