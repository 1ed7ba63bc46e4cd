//! Tests that cannot run here say so by name.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::Write as _;

/// Notes that a test cannot run, for whoever counts them.
pub(crate) fn skip(test: &str, reason: &str) {
    let text = format!("{test}: {reason}\n");
    // Not by a macro, whose text the harness would keep to itself.
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    let Some(path) = std::env::var_os("HOTHOUSE_SKIPS") else { return };
    let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Where a program lies, if it is installed.
pub(crate) fn installed(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    places.map(|dir| dir.join(program)).find(|file| file.is_file())
}
