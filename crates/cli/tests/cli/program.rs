//! The program under test.

use std::process::{Command, Output, Stdio};

use crate::process::{Answer, answer, feed};

/// A command to run the program with a home of its own; nothing of our own environment that it reads is left.
pub(crate) fn hothouse(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hothouse"));
    for name in ["SERVER", "HOME", "CGROUP", "LISTEN", "MAX_SANDBOXES", "ON_EXIT", "LOG", "LOG_FORMAT"] {
        command.env_remove(format!("HOTHOUSE_{name}"));
    }
    command.args(args).env("HOTHOUSE_HOME", home()).env("COLUMNS", "100").stdin(Stdio::null());
    command
}

/// A home that all tests of this run share, as the users of a machine do.
pub(crate) fn home() -> &'static str {
    env!("CARGO_TARGET_TMPDIR")
}

/// Runs the program to its end.
pub(crate) fn run(args: &[&str]) -> Answer {
    answer(&mut hothouse(args))
}

/// Runs the program to its end with this standard input.
pub(crate) fn run_with_input(args: &[&str], input: &[u8]) -> Output {
    feed(&mut hothouse(args), input)
}
