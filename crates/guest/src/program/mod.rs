//! The guest program: PID 1 of a sandbox.
//!
//! One thread, one epoll loop ([`server`]). A turn takes events, does a bounded piece of every job, and writes what came
//! of it; nothing blocks, and no job keeps another waiting for longer than a piece takes. [`journal`], [`output`],
//! [`timers`] and the decisions of [`termination`] are pure and tested as such; [`spawn`] is the only place that forks.

pub mod connection;
pub mod context;
pub mod dial;
pub mod exec;
pub mod files;
pub mod interrupt;
pub mod journal;
pub mod oom;
pub mod output;
pub mod poller;
pub mod pty;
pub mod reaper;
pub mod refusal;
pub mod requests;
pub mod scratch;
pub mod server;
pub mod shell;
pub mod spawn;
pub mod stdin;
pub mod termination;
pub mod timers;
pub mod tree;
pub mod user;
pub mod watch;

use std::process::ExitCode;

/// Runs the guest: serves drivers on descriptor 3 until the machine or the sandbox ends.
#[must_use]
pub fn run() -> ExitCode {
    match server::Server::start().and_then(server::Server::serve) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads its standard error; the status is all that its maker sees.
        Err(error) => ExitCode::from(u8::try_from(error.raw_os_error().unwrap_or(1)).unwrap_or(1)),
    }
}
