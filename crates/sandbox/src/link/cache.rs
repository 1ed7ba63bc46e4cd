//! Which sandboxes of a node have a link now, so that idle ones can be closed: a node may hold more sandboxes than it
//! may hold file descriptors.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::pump::{Link, locked};

/// Links that a node keeps; above that, idle ones are closed, longest idle first.
pub(crate) const MAX_LINKS: usize = 4096;
/// An idle link is closed after this time.
const IDLE_MS: u64 = 10_000;
/// How often idle links and silent guests are looked for.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How many are closed at once when there are too many.
const EVICT: usize = 64;

/// The place in which a sandbox keeps its link.
pub(crate) type LinkPlace = Arc<Mutex<Option<Arc<Link>>>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LinkCache {
    /// By address of the place, which the entry keeps alive.
    places: Mutex<HashMap<usize, LinkPlace>>,
}

impl LinkCache {
    /// Notes that `place` holds a link now.
    pub(crate) fn add(&self, place: &LinkPlace) {
        let crowded = {
            let mut places = locked(&self.places);
            places.insert(Arc::as_ptr(place).addr(), Arc::clone(place));
            places.len() > MAX_LINKS
        };
        if crowded {
            self.evict(EVICT);
        }
    }

    /// Closes idle links and looks for silent guests, for as long as the node lives.
    pub(crate) async fn sweep_forever(&self) {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        // After a pause of the whole machine guests get their time to speak too.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sweep(IDLE_MS);
            self.look();
        }
    }

    fn look(&self) {
        let links: Vec<Arc<Link>> =
            locked(&self.places).values().filter_map(|place| locked(place).clone()).collect();
        for link in links {
            link.look();
        }
    }

    /// Closes links that have been idle for so long, and forgets those that have ended.
    pub(crate) fn sweep(&self, idle_ms: u64) {
        locked(&self.places).retain(|_, place| !close(place, idle_ms));
    }

    fn evict(&self, count: usize) {
        let mut idle: Vec<(u64, usize)> = locked(&self.places)
            .iter()
            .filter_map(|(key, place)| {
                let idle_ms = locked(place).as_ref().map_or(Some(u64::MAX), |link| link.idle_ms())?;
                Some((idle_ms, *key))
            })
            .collect();
        idle.sort_unstable_by(|a, b| b.cmp(a));
        for (_, key) in idle.into_iter().take(count) {
            let mut places = locked(&self.places);
            if places.get(&key).is_some_and(|place| close(place, 0)) {
                places.remove(&key);
            }
        }
    }
}

/// Closes the link in a place if it has been idle for so long; true when the place has no live link any more.
fn close(place: &LinkPlace, idle_ms: u64) -> bool {
    let mut place = locked(place);
    let Some(link) = place.as_ref() else { return true };
    if link.has_ended() || (link.idle_ms().is_some_and(|idle| idle >= idle_ms) && link.close_if_idle()) {
        *place = None;
        return true;
    }
    false
}
