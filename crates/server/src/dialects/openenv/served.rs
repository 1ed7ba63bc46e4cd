//! The environments that are served, and how.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use hothouse_env::{Arrays, Catalogue, Environment, Era, OpenError, Places, Session, SessionLimits, Terms};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer;
use super::held::HeldSessions;
use super::web;

/// Whose session a request over HTTP is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpSessions {
    /// Nobody's: each has one of its own, which ends with it. As servers of today have it.
    Stateless,
    /// One for all clients. As the first servers had it.
    Shared,
    /// One for each client, known by a cookie.
    PerClient,
}

/// What clients may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All.
    Simulation,
    /// Over HTTP, nothing but call tools.
    Production,
}

/// How environments are served.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Which time's rules and wire hold.
    pub era: Era,
    /// Whose session a request over HTTP is for.
    pub http_sessions: HttpSessions,
    /// What clients may do.
    pub mode: Mode,
    /// Sessions of each environment at once.
    pub capacity: usize,
    /// Clients that wait for a session, of each environment.
    pub queue: usize,
    /// How long they wait.
    pub patience: Duration,
    /// A session that is not used for so long is closed; `None` for never.
    pub idle: Option<Duration>,
    /// Pause after which a quiet client is asked whether it is there; after two it is not.
    pub heartbeat: Duration,
    /// Bytes of the largest message or body.
    pub message_bytes: usize,
    /// Bounds on each session.
    pub limits: SessionLimits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            era: Era::Today,
            http_sessions: HttpSessions::Stateless,
            mode: Mode::Simulation,
            capacity: 16_384,
            queue: 1024,
            patience: Duration::ZERO,
            idle: None,
            heartbeat: Duration::from_secs(20),
            message_bytes: 16 << 20,
            limits: SessionLimits::default(),
        }
    }
}

/// The environments that are served; clones are the same.
#[derive(Debug, Clone)]
pub struct Openenv(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    catalogue: Catalogue,
    settings: Settings,
    /// The one whose paths have no name in them.
    root: Option<String>,
    served: Mutex<HashMap<String, Arc<Served>>>,
    draining: CancellationToken,
    sockets: TaskTracker,
}

/// Those that come with Hothouse, as today's servers serve theirs.
impl Default for Openenv {
    fn default() -> Self {
        Self::new(Catalogue::with_builtins(), Settings::default())
    }
}

impl Openenv {
    /// Serves all of a catalogue, each below its name.
    #[must_use]
    pub fn new(catalogue: Catalogue, settings: Settings) -> Self {
        Self::over(catalogue, settings, None)
    }

    /// Serves one environment by itself.
    #[must_use]
    pub fn only(environment: Arc<Environment>, settings: Settings) -> Self {
        let root = environment.name.clone();
        let catalogue = Catalogue::default();
        catalogue.add(environment);
        Self::over(catalogue, settings, Some(root))
    }

    fn over(catalogue: Catalogue, settings: Settings, root: Option<String>) -> Self {
        let (draining, sockets) = (CancellationToken::new(), TaskTracker::new());
        Self(Arc::new(Shared { catalogue, settings, root, served: Mutex::default(), draining, sockets }))
    }

    pub(super) fn mode(&self) -> Mode {
        self.0.settings.mode
    }

    /// Cancelled when open sockets have to come to an end.
    pub(crate) fn draining(&self) -> &CancellationToken {
        &self.0.draining
    }

    /// Open sockets, which outlive the request that opened them.
    pub(crate) fn sockets(&self) -> &TaskTracker {
        &self.0.sockets
    }

    /// The environments.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.0.catalogue
    }

    fn served(&self, name: &str) -> Option<Arc<Served>> {
        let environment = self.0.catalogue.find(name)?;
        let mut all = self.0.served.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(name) {
            Some(served) if Arc::ptr_eq(&served.environment, &environment) => Some(Arc::clone(served)),
            Some(_) | None => {
                let served = Arc::new(Served::new(environment, self.0.settings));
                all.insert(name.to_owned(), Arc::clone(&served));
                Some(served)
            }
        }
    }
}

/// One environment that is served.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) environment: Arc<Environment>,
    pub(super) settings: Settings,
    pub(super) places: Places,
    /// The session of all requests over HTTP, where they share one.
    pub(super) shared: tokio::sync::Mutex<Option<Session>>,
    /// Sessions that were opened over HTTP.
    pub(super) held: HeldSessions,
    /// What the page's API is about.
    pub(super) page: web::Shared,
}

impl Served {
    fn new(environment: Arc<Environment>, settings: Settings) -> Self {
        let places = Places::new(settings.capacity, settings.queue, settings.patience);
        let held = HeldSessions::new(settings.idle);
        let (shared, page) = (tokio::sync::Mutex::default(), web::Shared::default());
        Self { environment, settings, places, shared, held, page }
    }

    /// A fresh session.
    pub(super) async fn open(&self) -> Result<Session, OpenError> {
        self.open_with(Arrays::Lists).await
    }

    /// A fresh session that tells arrays in this way.
    pub(super) async fn open_with(&self, arrays: Arrays) -> Result<Session, OpenError> {
        let Settings { era, limits, .. } = self.settings;
        Session::open(&self.environment, Terms { era, arrays, limits }).await
    }
}

/// The environment that a request is for.
pub(super) struct For(pub(super) Arc<Served>);

impl FromRequestParts<Openenv> for For {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, openenv: &Openenv) -> Result<Self, Response> {
        let params = RawPathParams::from_request_parts(parts, openenv).await.ok();
        let named = params.as_ref().and_then(|params| params.iter().find(|(key, _)| *key == "environment"));
        let name = named.map(|(_, name)| name).or(openenv.0.root.as_deref()).unwrap_or_default();
        openenv.served(name).map(Self).ok_or_else(|| {
            let known: Vec<String> = openenv.0.catalogue.all().iter().map(|e| e.name.clone()).collect();
            answer::detail(
                StatusCode::NOT_FOUND,
                &format!("there is no environment {name:?} here; there are {}", known.join(", ")),
            )
        })
    }
}
