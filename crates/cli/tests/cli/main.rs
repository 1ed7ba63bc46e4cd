//! The command line as a person or a program uses it: the real program, its real outputs and exit statuses.

#![expect(clippy::tests_outside_test_module, reason = "this crate is a test module")]

mod build;
#[path = "../../../sandbox/tests/images/dockerd.rs"]
mod dockerd;
mod help;
#[path = "../process/mod.rs"]
mod process;
mod program;
mod programs;
mod repl;
mod service;
#[path = "../../../sandbox/tests/images/skip.rs"]
mod skip;
mod terminals;
mod usage;
