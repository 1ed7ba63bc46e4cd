//! When a lease is over. Pure but for the table of owners.

use std::collections::HashMap;
use std::sync::Mutex;

use hothouse_domain::{EndCause, Lease, OwnerName, TenantName};

use crate::link::locked;
use crate::terms::{Terms, boottime_ms};

/// What a lease is measured by; milliseconds since the machine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clocks {
    pub(crate) now: u64,
    /// Since when the lease counts.
    pub(crate) leased: u64,
    /// When the sandbox was used last.
    pub(crate) used: u64,
    /// When there was word of the owner.
    pub(crate) owner: u64,
}

/// How a lease stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Standing {
    /// Nothing but a delete ends it.
    Endless,
    /// It is not over before this moment.
    Until(u64),
    /// It is over, for the first of the causes that hold, after so many seconds.
    Over(EndCause, f64),
}

/// How this lease stands now.
pub(crate) fn standing(lease: &Lease, clocks: Clocks) -> Standing {
    let terms = [
        (EndCause::Lifetime, lease.lifetime_s, clocks.leased),
        (EndCause::OwnerGone, lease.owner_s, clocks.owner),
        (EndCause::Idle, lease.idle_s, clocks.used),
    ];
    let mut until = None;
    for (cause, seconds, since) in terms {
        let Some(seconds) = seconds else { continue };
        let due = since.saturating_add(milliseconds(seconds));
        if due <= clocks.now {
            return Standing::Over(cause, seconds);
        }
        until = Some(until.map_or(due, |first: u64| first.min(due)));
    }
    until.map_or(Standing::Endless, Standing::Until)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "validated: 0.1 s to a year")]
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).ceil() as u64
}

/// Owners of leases, each within its tenant.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    heard: Mutex<HashMap<Owner, Heard>>,
}

type Owner = (Option<TenantName>, OwnerName);

#[derive(Debug)]
struct Heard {
    sandboxes: usize,
    at: u64,
}

fn owner(terms: &Terms) -> Option<Owner> {
    Some((terms.claimant.tenant.clone(), terms.spec.lease.owner.clone()?))
}

impl Owners {
    /// There is one more sandbox of its owner, who was just heard of.
    pub(crate) fn add(&self, terms: &Terms) {
        if let Some(owner) = owner(terms) {
            let mut heard = locked(&self.heard);
            let entry = heard.entry(owner).or_insert(Heard { sandboxes: 0, at: 0 });
            entry.sandboxes += 1;
            entry.at = boottime_ms();
        }
    }

    /// There is one less; an owner without any is forgotten.
    pub(crate) fn remove(&self, terms: &Terms) {
        if let Some(owner) = owner(terms) {
            let mut heard = locked(&self.heard);
            if let Some(entry) = heard.get_mut(&owner) {
                entry.sandboxes -= 1;
                if entry.sandboxes == 0 {
                    heard.remove(&owner);
                }
            }
        }
    }

    /// The owner of this sandbox uses it.
    pub(crate) fn used(&self, terms: &Terms) {
        if terms.spec.lease.owner.is_some()
            && let Some(owner) = owner(terms)
        {
            self.renew(&owner);
        }
    }

    /// There was word of an owner; says how many sandboxes it has.
    pub(crate) fn renew(&self, owner: &Owner) -> usize {
        let mut heard = locked(&self.heard);
        heard.get_mut(owner).map_or(0, |entry| {
            entry.at = boottime_ms();
            entry.sandboxes
        })
    }

    /// When there was word of the owner of this sandbox; now, when it has none.
    pub(crate) fn heard_of(&self, terms: &Terms) -> u64 {
        let known = owner(terms).and_then(|owner| locked(&self.heard).get(&owner).map(|entry| entry.at));
        known.unwrap_or_else(boottime_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLOCKS: Clocks = Clocks { now: 10_000, leased: 1_000, used: 9_000, owner: 8_000 };

    fn lease(lifetime_s: Option<f64>, owner_s: Option<f64>, idle_s: Option<f64>) -> Lease {
        Lease { lifetime_s, idle_s, owner_s, owner: owner_s.map(|_| "o".parse().unwrap()), reclaim: None }
    }

    #[test]
    fn the_first_that_is_over_counts_and_else_the_earliest_that_is_due() {
        for (lease, expected) in [
            (lease(None, None, None), Standing::Endless),
            (lease(Some(9.0), Some(1.0), Some(0.5)), Standing::Over(EndCause::Lifetime, 9.0)),
            (lease(Some(9.1), Some(2.0), Some(0.5)), Standing::Over(EndCause::OwnerGone, 2.0)),
            (lease(Some(9.1), Some(3.0), Some(1.0)), Standing::Over(EndCause::Idle, 1.0)),
            (lease(Some(9.5), Some(3.0), Some(1.2)), Standing::Until(10_200)),
            (lease(Some(9.1), Some(3.0), Some(1.2)), Standing::Until(10_100)),
        ] {
            assert_eq!(standing(&lease, CLOCKS), expected);
        }
    }

    proptest! {
        #[test]
        fn it_is_over_exactly_when_it_was_said_to_be(
            lifetime_s in prop::option::of(0.1_f64..100.0),
            owner_s in prop::option::of(0.1_f64..100.0),
            idle_s in prop::option::of(0.1_f64..100.0),
            leased in 0_u64..100_000, used in 0_u64..100_000, owner in 0_u64..100_000, now in 0_u64..100_000,
        ) {
            let lease = lease(lifetime_s, owner_s, idle_s);
            let clocks = Clocks { now, leased, used, owner };
            if let Standing::Until(due) = standing(&lease, clocks) {
                prop_assert!(due > now);
                let just_before = standing(&lease, Clocks { now: due - 1, ..clocks });
                prop_assert!(matches!(just_before, Standing::Until(at) if at == due));
                let then = standing(&lease, Clocks { now: due, ..clocks });
                prop_assert!(matches!(then, Standing::Over(..)));
            }
        }
    }

    #[test]
    fn an_owner_is_known_as_long_as_it_has_a_sandbox() {
        let owners = Owners::default();
        let spec = hothouse_domain::SandboxSpec { lease: lease(None, Some(1.0), None), ..Default::default() };
        let terms = Terms { spec, ..Terms::default() };
        let owner = owner(&terms).unwrap();
        assert_eq!(owners.renew(&owner), 0);
        owners.add(&terms);
        owners.add(&terms);
        assert_eq!(owners.renew(&owner), 2);
        owners.remove(&terms);
        owners.used(&terms);
        assert_eq!(owners.renew(&owner), 1);
        owners.remove(&terms);
        assert_eq!(owners.renew(&owner), 0);
    }
}
