//! PID 1 of a sandbox. See [`hothouse_guest::program`].

use std::process::ExitCode;

fn main() -> ExitCode {
    hothouse_guest::program::run()
}
