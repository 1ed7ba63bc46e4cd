//! The protocol between a sandbox's guest and whoever drives it.
//!
//! The guest listens on a unix socket. A driver connects, both sides say [`message::Hello`], and then the driver opens
//! numbered streams, one per request. Frames of all streams share the connection; each stream has its own credit, so
//! that a slow reader of one holds up nobody else. See [`frame`] for the bytes and [`message`] for the requests.
//!
//! The protocol has no I/O: the guest program (`program`, a feature) drives it from a poll loop, `hothouse-sandbox`
//! from tokio.

pub mod frame;
pub mod message;
#[cfg(feature = "program")]
pub mod program;
