//! Places for sessions: so many at once, a bounded queue for those who can wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Server at capacity: {active}/{most} sessions active. Cannot accept new connections.")]
pub struct Full {
    /// Sessions now.
    pub active: usize,
    /// Sessions at most.
    pub most: usize,
}

/// The places of a server; clones are the same ones.
#[derive(Debug, Clone)]
pub struct Places {
    free: Arc<Semaphore>,
    most: usize,
    waiting: Arc<AtomicUsize>,
    queue: usize,
    patience: Duration,
}

/// One session's place, or several; free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    permit: OwnedSemaphorePermit,
}

impl Place {
    /// One place of these, where there are several.
    #[must_use]
    pub fn split_one(&mut self) -> Option<Self> {
        self.permit.split(1).map(|permit| Self { permit })
    }
}

/// Counts one who waits, however that ends.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Places {
    /// So many places; at most `queue` wait for one, each for `patience`.
    #[must_use]
    pub fn new(most: usize, queue: usize, patience: Duration) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(most)), most, waiting: Arc::default(), queue, patience }
    }

    /// Takes `count` places together, waiting for them as long as is allowed.
    ///
    /// # Errors
    /// [`Full`]: there are none, and as many as may wait do, or it took too long.
    pub async fn take(&self, count: usize) -> Result<Place, Full> {
        let wanted = u32::try_from(count).ok().filter(|_| count <= self.most).ok_or_else(|| self.full())?;
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_many_owned(wanted) {
            return Ok(Place { permit });
        }
        if self.patience.is_zero() || self.waiting.fetch_add(1, Ordering::Relaxed) >= self.queue {
            if !self.patience.is_zero() {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            return Err(self.full());
        }
        let _waiting = Waiting(Arc::clone(&self.waiting));
        match tokio::time::timeout(self.patience, Arc::clone(&self.free).acquire_many_owned(wanted)).await {
            Ok(Ok(permit)) => Ok(Place { permit }),
            // The semaphore is never closed; time ran out.
            Ok(Err(_)) | Err(_) => Err(self.full()),
        }
    }

    /// Sessions now.
    #[must_use]
    pub fn active(&self) -> usize {
        self.most - self.free.available_permits()
    }

    /// Sessions at most.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    fn full(&self) -> Full {
        Full { active: self.active(), most: self.most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_finds_none_waits_and_who_cannot_wait_is_told() {
        let places = Places::new(2, 1, Duration::from_secs(5));
        let mut both = places.take(2).await.unwrap();
        let mut waits = tokio::task::JoinSet::new();
        let also = places.clone();
        waits.spawn(async move { also.take(1).await.map(drop) });
        tokio::task::yield_now().await;
        assert_eq!(places.take(1).await.unwrap_err(), Full { active: 2, most: 2 }, "the queue is full");
        drop(both.split_one());
        assert_eq!(waits.join_next().await.unwrap().unwrap(), Ok(()));
        assert!(places.take(3).await.is_err(), "more than there are");
        let _other = places.take(1).await.unwrap();
        assert!(places.take(1).await.is_err(), "it took too long");
        drop(both);
        assert_eq!(places.active(), 1);
        assert!(places.take(1).await.is_ok(), "who gave up left no trace in the queue");
    }
}
