//! The HTTP API of a node.
//!
//! This crate checks requests, converts them to calls of [`hothouse_fleet`] and [`hothouse_sandbox`], and writes the answers; it holds no logic
//! of its own. Every error is an RFC 9457 problem document with a stable code. One file per noun: `sandboxes`, `execs`,
//! `streams` (server-sent events), `terminal` (a PTY over a WebSocket), `shells`, `ports`, `files`, `archives`, `images`, `templates`, `pools`, `groups`, `events`.
//!
//! [`Server::bind`] opens the socket, [`Server::serve`] runs until it is told to stop.

mod app;
mod archives;
mod asked;
mod auth;
mod body;
mod changes;
mod connection;
mod contexts;
pub mod dialects;
mod door;
mod env_server;
mod events;
mod execs;
mod files;
mod groups;
mod health;
mod images;
pub mod keyring;
mod limits;
mod linger;
mod listener;
mod metrics;
mod openapi;
mod origin;
mod owners;
mod pools;
mod ports;
mod problem;
mod query;
mod revocable;
mod router;
mod sandboxes;
mod server;
mod shells;
mod snapshots;
mod span;
mod stats;
mod streams;
mod target;
mod templates;
mod terminal;
pub mod tls;
mod trace;

pub use env_server::{EnvServer, EnvServerOptions};
pub use limits::ServerLimits;
pub use openapi::openapi_json;
pub use server::{BindError, Server, ServerOptions};
