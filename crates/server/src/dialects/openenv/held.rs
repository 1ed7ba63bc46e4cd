//! Sessions that are kept between requests: opened over HTTP, used by whoever knows their id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hothouse_env::{Place, Session};

/// How often the idle ones are looked for, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A session that is kept.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: String,
    pub(super) session: tokio::sync::Mutex<Session>,
    _place: Option<Place>,
    use_: Mutex<Use>,
}

#[derive(Debug)]
struct Use {
    last: Instant,
    attachment: Attachment,
}

/// Whether a WebSocket uses a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attachment {
    None,
    Attached,
    /// Attached, and to be closed when that ends.
    Closing,
}

impl Held {
    /// Keeps it from being idle for another while.
    pub(super) fn touch(&self) {
        self.use_.lock().unwrap_or_else(PoisonError::into_inner).last = Instant::now();
    }
}

/// What came of closing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    Now,
    /// When the WebSocket that uses it goes.
    Later,
    Unknown,
}

/// Why a WebSocket cannot use a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AttachError {
    #[error("Unknown session_id: {0}")]
    Unknown(String),
    #[error("Session {0} already has an attached WebSocket")]
    Taken(String),
}

/// The kept sessions of one environment.
#[derive(Debug)]
pub(super) struct HeldSessions {
    all: Mutex<HashMap<String, Arc<Held>>>,
    idle: Option<Duration>,
    looked: Mutex<Instant>,
}

impl HeldSessions {
    pub(super) fn new(idle: Option<Duration>) -> Self {
        Self { all: Mutex::default(), idle, looked: Mutex::new(Instant::now()) }
    }

    /// Keeps a session, in a place if it counts; its id.
    pub(super) fn keep(&self, session: Session, place: Option<Place>) -> Arc<Held> {
        let id = uuid::Uuid::new_v4().to_string();
        let use_ = Mutex::new(Use { last: Instant::now(), attachment: Attachment::None });
        let held = Arc::new(Held { id: id.clone(), session: session.into(), _place: place, use_ });
        self.lock().insert(id, Arc::clone(&held));
        held
    }

    /// The one of this id.
    pub(super) fn find(&self, id: &str) -> Option<Arc<Held>> {
        let held = self.lock().get(id).cloned()?;
        held.touch();
        Some(held)
    }

    /// Closes one, now or when its WebSocket goes.
    pub(super) fn close(&self, id: &str) -> Closed {
        let mut all = self.lock();
        let Some(held) = all.get(id) else { return Closed::Unknown };
        let mut used = held.use_.lock().unwrap_or_else(PoisonError::into_inner);
        match used.attachment {
            Attachment::None => {
                drop(used);
                let held = all.remove(id);
                drop(all);
                drop(held);
                Closed::Now
            }
            Attachment::Attached | Attachment::Closing => {
                used.attachment = Attachment::Closing;
                Closed::Later
            }
        }
    }

    /// Lets a WebSocket use one, alone, until [`HeldSessions::detach`].
    pub(super) fn attach(&self, id: &str) -> Result<Arc<Held>, AttachError> {
        let held = self.find(id).ok_or_else(|| AttachError::Unknown(id.to_owned()))?;
        let mut used = held.use_.lock().unwrap_or_else(PoisonError::into_inner);
        if used.attachment != Attachment::None {
            return Err(AttachError::Taken(id.to_owned()));
        }
        used.attachment = Attachment::Attached;
        drop(used);
        Ok(held)
    }

    /// The WebSocket is gone; so is the session if it was to be closed then.
    pub(super) fn detach(&self, held: &Held) {
        let mut used = held.use_.lock().unwrap_or_else(PoisonError::into_inner);
        used.last = Instant::now();
        let closing = std::mem::replace(&mut used.attachment, Attachment::None) == Attachment::Closing;
        drop(used);
        if closing {
            self.lock().remove(&held.id);
        }
    }

    /// Closes those that nobody uses any more. Called whenever a place is wanted, and every while by the server.
    pub(super) fn reap(&self) {
        let Some(idle) = self.idle else { return };
        {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.elapsed() < LOOK_EVERY.min(idle) {
                return;
            }
            *looked = Instant::now();
        }
        let mut gone = Vec::new();
        self.lock().retain(|_, held| {
            let used = held.use_.lock().unwrap_or_else(PoisonError::into_inner);
            let keep = used.attachment != Attachment::None || used.last.elapsed() < idle;
            if !keep {
                gone.push(Arc::clone(held));
            }
            keep
        });
        for held in gone {
            tracing::info!(session = held.id, "closed: nobody used it");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Held>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
