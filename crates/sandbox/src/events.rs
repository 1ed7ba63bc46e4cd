//! The latest events of a node, for those who follow them from any point.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use hothouse_domain::{Event, EventKind, SandboxId};
use tokio::sync::watch;

use crate::link::locked;
use crate::terms::Terms;

/// Events that are kept for followers that come late or are slow.
const KEPT: usize = 8192;

/// See the module; clones are the same.
#[derive(Debug, Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    kept: Mutex<VecDeque<Arc<Event>>>,
    /// The number of the latest event.
    latest: watch::Sender<u64>,
}

/// What a follower gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Events between where the follower was and the first of these: they are kept no more.
    pub missed: u64,
    /// In their order.
    pub events: Vec<Arc<Event>>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { inner: Arc::new(Inner { kept: Mutex::default(), latest: watch::Sender::new(0) }) }
    }

    pub(crate) fn note(&self, sandbox_id: &SandboxId, terms: &Terms, kind: EventKind) {
        let mut kept = locked(&self.inner.kept);
        let seq = *self.inner.latest.borrow() + 1;
        let event = Event {
            seq,
            at: jiff::Timestamp::now().to_string(),
            sandbox_id: sandbox_id.clone(),
            kind,
            pool: terms.pool.as_ref().map(|place| place.pool.clone()),
            group: terms.claimant.group.as_ref().map(|member| member.group.clone()),
            tenant: terms.claimant.tenant.clone(),
        };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::new(event));
        // Under the lock, so that numbers go up for everybody.
        self.inner.latest.send_replace(seq);
    }

    /// The number of the latest event; 0 when there was none.
    #[must_use]
    pub fn latest(&self) -> u64 {
        *self.inner.latest.borrow()
    }

    /// Waits for events after this number; at most `max` of them.
    pub async fn after(&self, seq: u64, max: usize) -> Batch {
        let mut latest = self.inner.latest.subscribe();
        // The sender lives in `self`.
        drop(latest.wait_for(|latest| *latest > seq).await);
        let kept = locked(&self.inner.kept);
        let first = kept.front().map_or(seq + 1, |event| event.seq);
        let events: Vec<_> = kept.iter().filter(|event| event.seq > seq).take(max).cloned().collect();
        Batch { missed: first.saturating_sub(seq + 1), events }
    }
}

#[cfg(test)]
mod tests {
    use hothouse_domain::FrozenBy;

    use super::*;

    #[tokio::test]
    async fn a_follower_gets_all_from_where_it_was_and_is_told_what_it_missed() {
        let events = Events::new();
        let id: SandboxId = "a".parse().unwrap();
        let mut waiting = Box::pin(events.after(0, 10));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        events.note(&id, &Terms::default(), EventKind::Created);
        let batch = waiting.await;
        assert_eq!((batch.missed, batch.events[0].seq), (0, 1));
        for _ in 0..KEPT + 4 {
            events.note(&id, &Terms::default(), EventKind::Frozen { by: FrozenBy::Client });
        }
        let batch = events.after(1, 3).await;
        assert_eq!(batch.missed, 4);
        assert_eq!(batch.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [6, 7, 8]);
        assert_eq!(events.latest(), KEPT as u64 + 5);
    }
}
