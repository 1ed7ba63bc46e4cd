//! Who gets room next: a bounded queue of those who wait for it, the most urgent first, then the longest waiting.
//!
//! Only the first in the queue tries, so that a big request is not starved by small ones behind it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hothouse_domain::{ErrorCode, Invalid};
use hothouse_sandbox::{CreateStage, Node, SandboxError};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::error::FleetError;

/// The longest wait, in seconds.
pub const MAX_WAIT_S: f64 = 600.0;
/// The most urgent priority; the least urgent is its negative.
pub const MAX_PRIORITY: i32 = 100;
/// Requests that may wait at once.
const MAX_WAITING: usize = 1024;

/// How often the first in the queue looks although nothing was given back.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
    /// Requests whose tenant has to give something back first. They stand in nobody's way: the room is not for them yet.
    aside: usize,
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
        let waiting = queue.waiting.len() + queue.aside;
        QueueInfo { waiting, admitted: queue.waits.0, waited_s: queue.waits.1 }
    }

    /// True while somebody waits for the node's room.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.queue().waiting.is_empty()
    }

    /// Tries until there is room, at most for as long as the caller has patience. Whoever stops waiting leaves the queue.
    pub(crate) async fn admit<T>(
        &self,
        patience: Patience,
        attempt: impl Fn() -> Result<T, SandboxError>,
    ) -> Result<T, FleetError> {
        let span = tracing::debug_span!(target: "hothouse_trace", "admission");
        let admitted = self.wait_for_room(patience, attempt).instrument(span);
        self.node.makings().watch(CreateStage::Admission, FleetError::code, admitted).await
    }

    async fn wait_for_room<T>(
        &self,
        patience: Patience,
        attempt: impl Fn() -> Result<T, SandboxError>,
    ) -> Result<T, FleetError> {
        let begin = Instant::now();
        let deadline = begin + patience.wait;
        let mut freed = self.node.freed();
        let mut place =
            WaitingPlace { admission: self, key: None, stand: Stand::Nowhere, turn: Arc::default() };
        loop {
            freed.mark_unchanged();
            let stood = place.stand;
            let refusal = match place.try_now(patience, &attempt) {
                Ok(admitted) => {
                    if stood != Stand::Nowhere {
                        let waits = &mut self.queue().waits;
                        waits.0 += 1;
                        waits.1 += begin.elapsed().as_secs_f64();
                    }
                    return Ok(admitted);
                }
                Err(refusal) if place.stand == Stand::Nowhere => return Err(refusal),
                Err(refusal) => refusal,
            };
            let more = async {
                match refusal {
                    // Whoever is ahead tells when it leaves.
                    FleetError::QueueAhead { .. } => place.turn.notified().await,
                    // Somebody more urgent may come meanwhile, and is then told. Memory and quotas come back without a word.
                    _ => drop(tokio::time::timeout(LOOK_EVERY, freed.changed()).await),
                }
            };
            if tokio::time::timeout_at(deadline, more).await.is_err() {
                return Err(refusal);
            }
        }
    }
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// It has not waited yet, or waits no more.
    Nowhere,
    InQueue,
    Aside,
}

/// A place in the queue, left when dropped.
struct WaitingPlace<'a> {
    admission: &'a Admission,
    /// Kept when it steps aside: it comes back to where it was.
    key: Option<Place>,
    stand: Stand,
    turn: Arc<Notify>,
}

impl WaitingPlace<'_> {
    /// Tries if nobody is ahead. What was refused for now has a place afterwards, if there is patience for that.
    fn try_now<T>(
        &mut self,
        patience: Patience,
        attempt: impl Fn() -> Result<T, SandboxError>,
    ) -> Result<T, FleetError> {
        // Under the lock: nobody who comes later is served before.
        let mut queue = self.admission.queue();
        let key = self.key.unwrap_or((Reverse(patience.priority), queue.arrivals));
        let ahead = queue.waiting.range(..key).count();
        let (stand, refusal) = if ahead > 0 {
            (Stand::InQueue, FleetError::QueueAhead { waiting: ahead })
        } else {
            match attempt() {
                Ok(admitted) => {
                    self.stand_at(&mut queue, Stand::Nowhere);
                    return Ok(admitted);
                }
                Err(error) => match error.code() {
                    ErrorCode::CapacityExceeded => (Stand::InQueue, error.into()),
                    ErrorCode::QuotaExceeded => (Stand::Aside, error.into()),
                    _ => (Stand::Nowhere, error.into()),
                },
            }
        };
        if patience.wait.is_zero() {
            return Err(refusal);
        }
        if self.stand == Stand::Nowhere && stand != Stand::Nowhere {
            if queue.waiting.len() + queue.aside >= MAX_WAITING {
                return Err(FleetError::QueueFull { limit: MAX_WAITING });
            }
            queue.arrivals += 1;
        }
        self.key = Some(key);
        self.stand_at(&mut queue, stand);
        Err(refusal)
    }

    fn stand_at(&mut self, queue: &mut Queue, stand: Stand) {
        let Some(key) = self.key.filter(|_| stand != self.stand) else { return };
        match self.stand {
            Stand::InQueue => {
                queue.waiting.remove(&key);
                if let Some((_, next)) = queue.waiting.first_key_value() {
                    next.notify_one();
                }
            }
            Stand::Aside => queue.aside -= 1,
            Stand::Nowhere => {}
        }
        match stand {
            Stand::InQueue => drop(queue.waiting.insert(key, Arc::clone(&self.turn))),
            Stand::Aside => queue.aside += 1,
            Stand::Nowhere => {}
        }
        self.stand = stand;
    }
}

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        let mut queue = self.admission.queue();
        self.stand_at(&mut queue, Stand::Nowhere);
    }
}
