//! What every handler shares.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use hothouse_domain::ErrorCode;
use hothouse_fleet::Fleet;
use hothouse_sandbox::Node;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Auth;
use crate::door::Door;
use crate::limits::ServerLimits;
use crate::metrics::Metrics;
use crate::problem::Refusal;

/// The shared state; clones are the same one.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

/// The parts of the shared state.
pub(crate) struct Shared {
    pub(crate) node: Node,
    pub(crate) fleet: Fleet,
    pub(crate) limits: ServerLimits,
    pub(crate) metrics: Metrics,
    /// Cancelled when the server takes no more work; followers end then, running requests get a grace.
    pub(crate) draining: CancellationToken,
    /// Terminals and WebSockets of ports, which outlive the request that opened them.
    pub(crate) terminals: TaskTracker,
    /// Where web pages and DNS names are checked; see `origin`.
    pub(crate) exposure: Exposure,
    /// `None` where nobody is asked who they are.
    pub(crate) auth: Option<Auth>,
    /// Begins the ids of this server's requests.
    pub(crate) request_prefix: String,
    pub(crate) request_count: AtomicU64,
    streams: Arc<Semaphore>,
}

/// Who can reach the listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exposure {
    /// Programs of this machine.
    Loopback,
    /// Other machines too.
    Network,
}

impl Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    /// The state of a new server.
    pub(crate) fn new(fleet: Fleet, limits: ServerLimits, exposure: Exposure, auth: Option<Auth>) -> Self {
        let streams = Arc::new(Semaphore::new(limits.max_streams));
        // Time and process number tell servers apart in shared logs; the ids are names, not secrets.
        let now = jiff::Timestamp::now().as_millisecond();
        Self(Arc::new(Shared {
            node: fleet.node().clone(),
            metrics: Metrics::new(fleet.node()),
            fleet,
            limits,
            draining: CancellationToken::new(),
            terminals: TaskTracker::new(),
            exposure,
            auth,
            request_prefix: format!("{:x}-{:x}", now & 0xffff_ffff, std::process::id()),
            request_count: AtomicU64::new(0),
            streams,
        }))
    }

    /// What takes its connections.
    pub(crate) fn door(&self) -> Door {
        Door {
            limits: self.limits.clone(),
            draining: self.draining.clone(),
            upgraded: self.terminals.clone(),
            open: self.metrics.connections.clone(),
            refused: self.metrics.connections_refused.clone(),
        }
    }

    /// A place among the followed execs, terminals and ports; it is free again when the permit is dropped.
    pub(crate) fn stream_permit(&self) -> Result<StreamPermit, Refusal> {
        if self.draining.is_cancelled() {
            return Err(Refusal::new(ErrorCode::ShuttingDown, "the server is shutting down"));
        }
        let Ok(permit) = Arc::clone(&self.streams).try_acquire_owned() else {
            let limit = self.limits.max_streams;
            return Err(Refusal::new(
                ErrorCode::LimitExceeded,
                format!(
                    "{limit} execs, terminals and ports are followed already, the server's limit; try again later"
                ),
            ));
        };
        self.metrics.streams.inc();
        Ok(StreamPermit { _permit: permit, app: self.clone() })
    }
}

/// One place among the followed execs, terminals and ports.
pub(crate) struct StreamPermit {
    _permit: OwnedSemaphorePermit,
    app: App,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.app.metrics.streams.dec();
    }
}
