//! The terminal that we run in.

use std::io::IsTerminal as _;

use hothouse_domain::PtySize;
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::failure::Failure;

/// Our terminal in raw mode: keys go through as they are. Dropping it brings the old mode back.
#[derive(Debug)]
pub(super) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Switches to raw mode.
    pub(super) fn enter() -> Result<Self, Failure> {
        let failed =
            |error: rustix::io::Errno| Failure::io("switching the terminal to raw mode", &error.into());
        let before = tcgetattr(stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// True when a person sits at both ends.
pub(super) fn present() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// The terminal's size; the usual one when it does not know.
pub(super) fn size() -> PtySize {
    match tcgetwinsize(stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            PtySize { rows: size.ws_row.min(10_000), cols: size.ws_col.min(10_000) }
        }
        Ok(_) | Err(_) => PtySize { rows: 24, cols: 80 },
    }
}
