//! What was written in a sandbox, as text.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hothouse_domain::{Encoding, ExecResult, Truncated};

/// Both outputs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// What a command or code wrote; bytes that are no text are replaced.
pub(super) fn of(result: &ExecResult) -> Said {
    let text = |written: &str| match result.encoding {
        Encoding::Utf8 => written.to_owned(),
        Encoding::Base64 => match STANDARD.decode(written) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_no_base64) => written.to_owned(),
        },
    };
    Said { stdout: text(&result.stdout), stderr: text(&result.stderr) }
}

/// Adds a line, or several, to a text.
pub(super) fn line(text: &mut String, line: &str) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    if !line.is_empty() && !line.ends_with('\n') {
        text.push('\n');
    }
}

/// Says what was not kept of the outputs.
pub(super) fn left_out(stderr: &mut String, truncated: &Truncated) {
    for (name, bytes) in
        [("stdout", truncated.stdout_dropped_bytes), ("stderr", truncated.stderr_dropped_bytes)]
    {
        if bytes > 0 {
            let mut told = String::new();
            // Writing to memory does not fail.
            _ = write!(told, "{bytes} bytes were left out of the middle of {name}");
            line(stderr, &told);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_apart_and_what_is_missing_is_told() {
        let mut text = "no end".to_owned();
        line(&mut text, "two\nlines\n");
        line(&mut text, "");
        left_out(&mut text, &Truncated { stdout_dropped_bytes: 7, stderr_dropped_bytes: 0 });
        assert_eq!(text, "no end\ntwo\nlines\n7 bytes were left out of the middle of stdout\n");
    }
}
