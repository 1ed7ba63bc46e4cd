//! Who gets room next: a bounded queue of those who wait for it, the most urgent first, then the longest waiting.
//!
//! Only the first in the queue tries, so that a big request is not starved by small ones behind it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hothouse_domain::{ErrorCode, Invalid};
use hothouse_sandbox::{Node, SandboxError};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::FleetError;

/// The longest wait, in seconds.
pub const MAX_WAIT_S: f64 = 600.0;
/// The most urgent priority; the least urgent is its negative.
pub const MAX_PRIORITY: i32 = 100;
/// Requests that may wait at once.
const MAX_WAITING: usize = 1024;

/// How long a request may wait for room.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Patience {
    wait: Duration,
    priority: i32,
}

impl Patience {
    /// Waits so many seconds, before those of a lower priority.
    ///
    /// # Errors
    /// [`Invalid`] names `wait_s` or `priority` and what is allowed.
    pub fn new(wait_s: f64, priority: i32) -> Result<Self, Invalid> {
        if !(wait_s.is_finite() && (0.0..=MAX_WAIT_S).contains(&wait_s)) {
            return Err(Invalid::new("wait_s", format!("is {wait_s}; use 0 to {MAX_WAIT_S} seconds")));
        }
        if !(-MAX_PRIORITY..=MAX_PRIORITY).contains(&priority) {
            let range = format!("is {priority}; use -{MAX_PRIORITY} to {MAX_PRIORITY}, more is sooner");
            return Err(Invalid::new("priority", range));
        }
        Ok(Self { wait: Duration::from_secs_f64(wait_s), priority })
    }
}

/// The queue of a node; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    node: Node,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<Place, Arc<Notify>>,
    arrivals: u64,
    /// Times that requests waited until they were admitted, since the server started: how many, and seconds in all.
    waits: (u64, f64),
}

/// Sorts by urgency, then by arrival.
type Place = (Reverse<i32>, u64);

/// How the queue stands.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct QueueInfo {
    /// Requests that wait now.
    pub waiting: usize,
    /// Requests that have waited and were admitted, since the server started.
    pub admitted: u64,
    /// Seconds that those have waited in all.
    pub waited_s: f64,
}

impl Admission {
    pub(crate) fn new(node: Node) -> Self {
        Self { node, queue: Arc::default() }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn info(&self) -> QueueInfo {
        let queue = self.queue();
        QueueInfo { waiting: queue.waiting.len(), admitted: queue.waits.0, waited_s: queue.waits.1 }
    }

    /// Tries until there is room, at most for as long as the caller has patience. Whoever stops waiting leaves the queue.
    pub(crate) async fn admit<T>(
        &self,
        patience: Patience,
        attempt: impl Fn() -> Result<T, SandboxError>,
    ) -> Result<T, FleetError> {
        let begin = Instant::now();
        let place = {
            let mut queue = self.queue();
            let key = (Reverse(patience.priority), queue.arrivals);
            let is_first = queue.waiting.first_key_value().is_none_or(|(first, _)| key < *first);
            if is_first {
                // Under the lock: nobody who comes later is served before.
                match attempt() {
                    Err(error) if is_shortage(&error) && !patience.wait.is_zero() => {}
                    done => return done.map_err(FleetError::Sandbox),
                }
            } else if patience.wait.is_zero() {
                return Err(FleetError::QueueAhead { waiting: queue.waiting.len() });
            }
            if queue.waiting.len() >= MAX_WAITING {
                return Err(FleetError::QueueFull { limit: MAX_WAITING });
            }
            queue.arrivals += 1;
            let turn = Arc::new(Notify::new());
            queue.waiting.insert(key, Arc::clone(&turn));
            WaitingPlace { admission: self, key, turn }
        };
        let deadline = begin + patience.wait;
        let mut freed = self.node.freed();
        loop {
            freed.mark_unchanged();
            let mut shortage = None;
            if place.is_first() {
                match attempt() {
                    Err(error) if is_shortage(&error) => shortage = Some(error),
                    Ok(admitted) => {
                        let waits = &mut self.queue().waits;
                        waits.0 += 1;
                        waits.1 += begin.elapsed().as_secs_f64();
                        return Ok(admitted);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            let more = async {
                if shortage.is_some() {
                    // The node lives as long as this does. Somebody more urgent may come meanwhile, and is then told.
                    drop(freed.changed().await);
                } else {
                    place.turn.notified().await;
                }
            };
            if tokio::time::timeout_at(deadline, more).await.is_err() {
                return Err(match shortage {
                    Some(error) => error.into(),
                    None => FleetError::QueueAhead { waiting: self.queue().waiting.len() - 1 },
                });
            }
        }
    }
}

/// True when it may be otherwise in a while.
fn is_shortage(error: &SandboxError) -> bool {
    matches!(error.code(), ErrorCode::CapacityExceeded | ErrorCode::QuotaExceeded)
}

/// A place in the queue, left when dropped.
struct WaitingPlace<'a> {
    admission: &'a Admission,
    key: Place,
    turn: Arc<Notify>,
}

impl WaitingPlace<'_> {
    fn is_first(&self) -> bool {
        self.admission.queue().waiting.first_key_value().is_some_and(|(first, _)| *first == self.key)
    }
}

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        let mut queue = self.admission.queue();
        queue.waiting.remove(&self.key);
        if let Some((_, next)) = queue.waiting.first_key_value() {
            next.notify_one();
        }
    }
}
