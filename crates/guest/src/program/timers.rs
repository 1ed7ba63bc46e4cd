//! When something is to be looked at again. Pure.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use super::journal::Serial;

/// Whose timer it is; each has at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// An exec.
    Exec(Serial),
    /// A shell session.
    Shell(u64),
    /// A context.
    Context(u64),
    /// A zygote.
    Zygote(u64),
    /// A dialled connection.
    Dial(u64),
}

/// Timers by owner and time.
#[derive(Debug, Default)]
pub struct Timers {
    queue: BTreeSet<(Instant, Owner)>,
    by_owner: HashMap<Owner, Instant>,
}

impl Timers {
    /// Sets or clears an owner's timer.
    pub fn set(&mut self, owner: Owner, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.by_owner.insert(owner, at),
            None => self.by_owner.remove(&owner),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.queue.remove(&(before, owner));
        }
        if let Some(at) = at {
            self.queue.insert((at, owner));
        }
    }

    /// The next time at which one is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes one that is due.
    pub fn take_due(&mut self, now: Instant) -> Option<Owner> {
        let &(at, owner) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.remove(&(at, owner));
        self.by_owner.remove(&owner);
        Some(owner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_owner_has_one_timer_and_they_come_due_in_order() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.set(Owner::Exec(1), Some(at(30)));
        timers.set(Owner::Exec(2), Some(at(20)));
        timers.set(Owner::Exec(1), Some(at(10)));
        timers.set(Owner::Exec(3), Some(at(5)));
        timers.set(Owner::Exec(3), None);
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.take_due(at(9)), None);
        assert_eq!(timers.take_due(at(50)), Some(Owner::Exec(1)));
        assert_eq!(timers.take_due(at(50)), Some(Owner::Exec(2)));
        assert_eq!(timers.take_due(at(50)), None);
    }
}
