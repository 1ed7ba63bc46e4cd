//! What takes connections: its bounds, its counters, and when it closes.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::ServerLimits;

/// What the connections of a server share; clones are the same one.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) limits: ServerLimits,
    /// Cancelled when no more work is taken.
    pub(crate) draining: CancellationToken,
    /// What outlives the request that opened it: terminals, sockets.
    pub(crate) upgraded: TaskTracker,
    /// Connections now.
    pub(crate) open: Gauge,
    /// Connections that were one too many.
    pub(crate) refused: Counter,
}
