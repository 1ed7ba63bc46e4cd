//! The HTTP API of the real program: `hothouse serve` on a free port, real sandboxes, no part of it played.

#![expect(clippy::tests_outside_test_module, reason = "the whole program is a test")]

mod admission;
mod bad_input;
mod binding;
mod contexts;
mod environment_page;
mod environments;
mod events;
mod execs;
mod files;
mod images;
mod keys;
mod leases;
mod lent_snapshots;
mod limits;
mod metrics;
mod openenv;
mod packages;
mod pools;
mod ports;
mod pressure;
#[path = "../process/mod.rs"]
mod process;
mod sandboxes;
mod server;
mod service;
mod shells;
mod snapshots;
mod terminal;
#[cfg(feature = "otel")]
mod traces;
mod wait;
