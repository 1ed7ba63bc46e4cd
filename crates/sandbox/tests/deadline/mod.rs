//! The end of a test that hangs.
//!
//! These tests wait for a kernel, a spawner, guests and a node in a great many places. One deadline for all of a test
//! leaves none out, and ends also what blocks a thread.

use std::io::Write as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// How long a test may take. Far more than it takes, since a busy machine is no mistake.
const WITHIN: Duration = Duration::from_secs(180);

/// Ends the whole test program, and tells for which test, unless it is dropped in time.
///
/// Nothing gentler reaches a thread that is blocked; what the program's sandboxes leave behind is for the reader of the
/// failure to remove.
#[derive(Debug)]
pub(crate) struct Deadline {
    _done: Sender<()>,
}

impl Deadline {
    /// For the test on whose thread this runs.
    pub(crate) fn start() -> Self {
        let test = thread::current().name().unwrap_or("unnamed").to_owned();
        let (done, ended) = channel();
        thread::spawn(move || {
            if ended.recv_timeout(WITHIN) == Err(RecvTimeoutError::Timeout) {
                // Not by a macro, whose text the harness would keep for a report that never comes.
                let told =
                    writeln!(std::io::stderr(), "\ntest {test} is not done after {WITHIN:?}: given up");
                drop(told);
                std::process::abort();
            }
        });
        Self { _done: done }
    }
}
