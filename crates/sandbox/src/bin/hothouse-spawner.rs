//! The spawner alone, for this crate's tests; `hothouse spawner` is the one that ships.

use std::process::ExitCode;

fn main() -> ExitCode {
    hothouse_sandbox::native::spawner_main()
}
