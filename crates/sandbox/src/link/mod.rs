//! The driver's side of the guest protocol over one connection.
//!
//! ```text
//!  caller ── open ─► [ out buffer ] ──send(2) at once, rest by the pump──► guest
//!  caller ◄─ next ── [ inbox of its stream ] ◄── pump: read, cut, sort ─── guest
//! ```
//!
//! A request is written to the socket from its caller's task; only what the socket does not take at once is left to the
//! pump, the one task of a link. The pump sorts what arrives into the streams' inboxes. An inbox never holds more than the
//! credit that was granted, so a slow reader costs at most [`INITIAL_CREDIT`](hothouse_guest::frame::INITIAL_CREDIT) bytes.

mod cache;
mod inbox;
mod pump;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use cache::{LinkCache, LinkPlace, SWEEP_EVERY};
pub(crate) use inbox::{Event, WakeWhen};
pub(crate) use pump::{Link, MAX_STREAMS, locked};
pub(crate) use stream::{LinkStream, Sent, StopAt};

/// Why a stream or link is of no more use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkError {
    /// The link was closed before anything of the request was sent.
    Closed,
    /// The connection broke; what the request did is unknown.
    Lost(String),
    /// The sandbox was frozen before the guest answered.
    Frozen,
    /// The sandbox was set back to an earlier state before the guest answered.
    Restored,
    /// The guest has too many streams of ours.
    TooManyStreams,
}
