//! Lines of Python from a terminal: editing, history, and whether one goes on in the next.

use std::borrow::Cow;

use reedline::{
    PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, Signal, ValidationResult,
    Validator,
};

use crate::failure::Failure;

/// What a person entered.
#[derive(Debug)]
pub(super) enum Line {
    /// Code, perhaps of several lines.
    Text(String),
    /// Nothing: Ctrl-C.
    Cleared,
    /// The end: Ctrl-D.
    End,
}

/// The editor of a session.
pub(super) struct Prompt(Reedline);

impl Prompt {
    pub(super) fn new() -> Self {
        Self(Reedline::create().with_validator(Box::new(Completeness)))
    }

    /// Waits for the next line; gives itself back with it.
    pub(super) async fn read(mut self) -> Result<(Line, Self), Failure> {
        let reading = tokio::task::spawn_blocking(move || {
            let signal = self.0.read_line(&Marks);
            (signal, self)
        });
        let (signal, prompt) = reading
            .await
            .map_err(|error| Failure::io("reading a line", &std::io::Error::other(error.to_string())))?;
        let line = match signal.map_err(|error| Failure::io("reading a line", &error))? {
            Signal::Success(text) => Line::Text(text),
            Signal::CtrlD => Line::End,
            // Whatever else may come is no code.
            _ => Line::Cleared,
        };
        Ok((line, prompt))
    }
}

/// The prompts that a Python user knows.
struct Marks;

impl reedline::Prompt for Marks {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed(">>> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("... ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "failing ",
        };
        Cow::Owned(format!("({failing}search: {}) ", search.term))
    }
}

struct Completeness;

impl Validator for Completeness {
    fn validate(&self, text: &str) -> ValidationResult {
        if goes_on(text) { ValidationResult::Incomplete } else { ValidationResult::Complete }
    }
}

/// Whether code goes on in another line, by the rules of thumb of Python's own prompt: something is open, the last line
/// ends in a backslash, or a block has begun and no empty line has ended it.
fn goes_on(code: &str) -> bool {
    let mut open = 0_i32;
    let mut quote: Option<&str> = None;
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        if let Some(end) = quote {
            if let Some(after) = rest.strip_prefix('\\') {
                let skipped = after.chars().next().map_or(0, char::len_utf8);
                rest = &after[skipped..];
            } else if let Some(after) = rest.strip_prefix(end) {
                quote = None;
                rest = after;
            } else {
                if c == '\n' && end.len() == 1 {
                    // A string that its line does not end is an error, which is Python's to tell.
                    quote = None;
                }
                rest = &rest[c.len_utf8()..];
            }
            continue;
        }
        if let Some(mark) = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|mark| rest.starts_with(mark)) {
            quote = Some(mark);
            rest = &rest[mark.len()..];
            continue;
        }
        match c {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open -= 1,
            '#' => {
                rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
                continue;
            }
            _ => {}
        }
        rest = &rest[c.len_utf8()..];
    }
    let mut lines = code.lines().filter(|line| !line.trim_start().starts_with('#'));
    let first_opens = lines.clone().any(opens_block);
    let last = lines.next_back().unwrap_or_default();
    open > 0
        || quote.is_some_and(|mark| mark.len() == 3)
        || last.ends_with('\\')
        || (first_opens && !(code.ends_with('\n') || last.trim().is_empty()))
}

/// Whether a line begins a block, which then ends with an empty line.
fn opens_block(line: &str) -> bool {
    let code = line.split('#').next().unwrap_or_default().trim_end();
    code.ends_with(':') || line.trim_start().starts_with('@')
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::goes_on;

    #[test_case("1 + 1" => false)]
    #[test_case("" => false; "nothing")]
    #[test_case("f(1," => true; "open bracket")]
    #[test_case("f(1,\n2)" => false; "closed bracket")]
    #[test_case("'('" => false; "bracket in a string")]
    #[test_case("# (" => false; "bracket in a comment")]
    #[test_case("'''a" => true; "long string")]
    #[test_case("'''a\n'''" => false; "long string that has ended")]
    #[test_case("'a" => false; "broken string")]
    #[test_case("'\\'('" => false; "escaped quote")]
    #[test_case("x = 1 + \\" => true; "backslash")]
    #[test_case("if x:" => true; "block")]
    #[test_case("if x:\n    y" => true; "block that goes on")]
    #[test_case("if x:\n    y\n" => false; "block that an empty line ends")]
    #[test_case("if x: y" => false; "block in one line")]
    #[test_case("@f" => true; "decorator")]
    #[test_case("x[1:" => true; "slice")]
    #[test_case("x[1:2]" => false; "whole slice")]
    fn lines_go_on(code: &str) -> bool {
        goes_on(code)
    }
}
