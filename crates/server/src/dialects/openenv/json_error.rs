//! What Python's `json` says of a text that is no JSON, since users know its words.

/// What is wrong, and at which character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JsonError {
    pub(super) message: &'static str,
    /// Characters before it.
    pub(super) at: usize,
    line: usize,
    column: usize,
}

impl std::fmt::Display for JsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: line {} column {} (char {})", self.message, self.line, self.column, self.at)
    }
}

/// Deeper nesting is refused by all readers.
const DEEPEST: usize = 128;

/// What is wrong with a text that a JSON reader did not take.
pub(super) fn explain(text: &str) -> JsonError {
    let chars: Vec<char> = text.chars().collect();
    let mut scanner = Scanner { chars: &chars, at: 0, depth: 0 };
    let (message, at) = match scanner.document() {
        Err(found) => found,
        // Python takes what others do not, such as NaN and lone surrogates.
        Ok(()) => ("Expecting value", 0),
    };
    let before = &chars[..at.min(chars.len())];
    let line = before.iter().filter(|c| **c == '\n').count() + 1;
    let column = before.iter().rev().take_while(|c| **c != '\n').count() + 1;
    JsonError { message, at, line, column }
}

struct Scanner<'a> {
    chars: &'a [char],
    at: usize,
    depth: usize,
}

type Scanned = Result<(), (&'static str, usize)>;

impl Scanner<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.at += 1;
        }
    }

    fn document(&mut self) -> Scanned {
        self.space();
        self.value()?;
        self.space();
        if self.at == self.chars.len() { Ok(()) } else { Err(("Extra data", self.at)) }
    }

    fn value(&mut self) -> Scanned {
        let start = self.at;
        match self.peek() {
            Some('"') => self.string(),
            Some('{') => self.nested(Self::object),
            Some('[') => self.nested(Self::list),
            Some('-' | '0'..='9') => self.number(),
            _ => {
                for word in ["null", "true", "false", "NaN", "Infinity"] {
                    if self.chars[start..].iter().copied().take(word.len()).eq(word.chars()) {
                        self.at += word.len();
                        return Ok(());
                    }
                }
                Err(("Expecting value", start))
            }
        }
    }

    fn nested(&mut self, scan: fn(&mut Self) -> Scanned) -> Scanned {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(("Nested too deeply", self.at));
        }
        scan(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn object(&mut self) -> Scanned {
        let name = "Expecting property name enclosed in double quotes";
        self.at += 1;
        self.space();
        if self.peek() == Some('}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != Some('"') {
                return Err((name, self.at));
            }
            self.string()?;
            self.space();
            if self.peek() != Some(':') {
                return Err(("Expecting ':' delimiter", self.at));
            }
            self.at += 1;
            self.space();
            self.value()?;
            self.space();
            match self.peek() {
                Some('}') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(',') => self.at += 1,
                _ => return Err(("Expecting ',' delimiter", self.at)),
            }
            self.space();
        }
    }

    fn list(&mut self) -> Scanned {
        self.at += 1;
        self.space();
        if self.peek() == Some(']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value()?;
            self.space();
            match self.peek() {
                Some(']') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(',') => self.at += 1,
                _ => return Err(("Expecting ',' delimiter", self.at)),
            }
            self.space();
        }
    }

    fn string(&mut self) -> Scanned {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(("Unterminated string starting at", start)),
                Some('"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some('\\') => {
                    let escape = self.at;
                    self.at += 1;
                    match self.peek() {
                        None => return Err(("Unterminated string starting at", start)),
                        Some('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => self.at += 1,
                        Some('u') => {
                            let digits = self.chars.get(self.at + 1..self.at + 5);
                            if !digits.is_some_and(|d| d.iter().all(char::is_ascii_hexdigit)) {
                                return Err(("Invalid \\uXXXX escape", escape + 1));
                            }
                            self.at += 5;
                        }
                        Some(_) => return Err(("Invalid \\escape", escape)),
                    }
                }
                Some(c) if c < ' ' => return Err(("Invalid control character at", self.at)),
                Some(_) => self.at += 1,
            }
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some('0'..='9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Scanned {
        let start = self.at;
        if self.peek() == Some('-') {
            self.at += 1;
        }
        if self.peek() == Some('0') {
            self.at += 1;
        } else if self.digits() == 0 {
            self.at = start;
            return Err(("Expecting value", start));
        }
        // What does not belong to the number is left for the next look.
        let whole = self.at;
        if self.peek() == Some('.') {
            self.at += 1;
            if self.digits() == 0 {
                self.at = whole;
                return Ok(());
            }
        }
        let fraction = self.at;
        if matches!(self.peek(), Some('e' | 'E')) {
            self.at += 1;
            if matches!(self.peek(), Some('+' | '-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                self.at = fraction;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    // As CPython 3.11 says it.
    #[test_case("{oops", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)")]
    #[test_case("", "Expecting value: line 1 column 1 (char 0)")]
    #[test_case("{\"a\" 1}", "Expecting ':' delimiter: line 1 column 6 (char 5)")]
    #[test_case("{\"a\": 1 \"b\"}", "Expecting ',' delimiter: line 1 column 9 (char 8)")]
    #[test_case("[1, 2", "Expecting ',' delimiter: line 1 column 6 (char 5)")]
    #[test_case("{}\n{}", "Extra data: line 2 column 1 (char 3)")]
    #[test_case("\"abc", "Unterminated string starting at: line 1 column 1 (char 0)")]
    #[test_case("{\"a\": tru}", "Expecting value: line 1 column 7 (char 6)")]
    #[test_case("[\"\\x\"]", "Invalid \\escape: line 1 column 3 (char 2)")]
    #[test_case("\"a\tb\"", "Invalid control character at: line 1 column 3 (char 2)")]
    #[test_case("01", "Extra data: line 1 column 2 (char 1)")]
    #[test_case("[\u{e9}]", "Expecting value: line 1 column 2 (char 1)")]
    fn as_python_says_it(text: &str, wanted: &str) {
        assert_eq!(explain(text).to_string(), wanted);
    }

    #[test]
    fn depth_is_bounded() {
        assert_eq!(explain(&"[".repeat(100_000)).message, "Nested too deeply");
    }
}
