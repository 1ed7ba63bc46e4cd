//! Standard output and error, for people and for programs.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::failure::Failure;

/// Prints a line.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Prints a value as JSON for a program: one line, or indented for a person's terminal.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text =
        if out_is_terminal() { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    line(&text?)
}

/// Prints a value as JSON in one line, of which there will be more.
pub(crate) fn json_object(value: &impl Serialize) -> Result<(), Failure> {
    line(&serde_json::to_string(value)?)
}

/// Tells a person something beside the result.
pub(crate) fn note(text: &str) {
    // Nothing can be done when nobody reads standard error.
    _ = writeln!(io::stderr().lock(), "{text}");
}

/// True when a person looks at standard output.
pub(crate) fn out_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// True when a person looks at standard error.
pub(crate) fn err_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// True when colours are wanted on standard output.
pub(crate) fn colours() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    out_is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Prints bytes as they are.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Prints bytes as they are to standard error.
pub(crate) fn err_bytes(bytes: &[u8]) {
    // As for a note.
    _ = io::stderr().lock().write_all(bytes);
}
