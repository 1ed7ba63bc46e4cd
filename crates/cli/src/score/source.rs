//! Reading JSONL: plain or gzip, a file or standard input, with every error at its line.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

/// More problems than this are counted, not shown.
const MAX_SHOWN: usize = 20;
/// The longest line, in bytes.
const MAX_LINE: usize = 64 << 20;

/// One line of a file as an object.
#[derive(Debug)]
pub(crate) struct Line {
    /// Its number, from 1.
    pub(crate) number: usize,
    pub(crate) object: Map<String, Value>,
}

/// All that is wrong with the input, each with its file and line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems(Vec<String>);

impl Problems {
    /// Notes one.
    pub(crate) fn add(&mut self, file: &str, line: usize, what: impl fmt::Display) {
        self.0.push(format!("{file}:{line}: {what}"));
    }

    /// Notes one that is about the whole file.
    pub(crate) fn add_whole(&mut self, file: &str, what: impl fmt::Display) {
        self.0.push(format!("{file}: {what}"));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first of them, one to a line, and how many more there are.
    pub(crate) fn shown(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.0.iter().take(MAX_SHOWN).cloned().collect();
        if self.0.len() > MAX_SHOWN {
            lines.push(format!("and {} more like these", self.0.len() - MAX_SHOWN));
        }
        lines
    }
}

/// The name of a source in messages.
pub(crate) fn display_name(path: &str) -> String {
    if path == "-" { "standard input".to_owned() } else { path.to_owned() }
}

/// Reads all lines of a file (`-` is standard input); what cannot be read is noted and left out.
pub(crate) fn read_lines(path: &str, problems: &mut Problems) -> Vec<Line> {
    let name = display_name(path);
    match read_all(path) {
        Ok(bytes) => parse_lines(&name, &bytes, problems),
        Err(error) => {
            problems.add_whole(&name, error);
            Vec::new()
        }
    }
}

fn read_all(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path == "-" {
        io::stdin().lock().read_to_end(&mut bytes)?;
    } else {
        bytes = fs::read(path)?;
    }
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut plain)?;
    Ok(plain)
}

fn parse_lines(name: &str, bytes: &[u8], problems: &mut Problems) -> Vec<Line> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines = Vec::new();
    for (at, line) in bytes.split(|&b| b == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        if line.len() > MAX_LINE {
            problems.add(name, at + 1, format_args!("has {} bytes; at most {MAX_LINE}", line.len()));
            continue;
        }
        match serde_json::from_slice::<Value>(line) {
            Ok(Value::Object(object)) => lines.push(Line { number: at + 1, object }),
            Ok(other) => problems.add(name, at + 1, format_args!("is {}, not a JSON object", kind(&other))),
            Err(error) => problems.add(name, at + 1, format_args!("bad JSON: {}", without_line(&error))),
        }
    }
    lines
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The parser counts lines within the row, which is always 1.
fn without_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn every_bad_line_is_named_and_good_ones_are_kept() {
        let text = b"\xef\xbb\xbf{\"a\": 1}\n\n{\"a\": \n[1]\n7\n\xff\n{\"b\": 2}";
        let mut problems = Problems::default();
        let lines = parse_lines("t.jsonl", text, &mut problems);
        assert_eq!(lines.iter().map(|l| l.number).collect::<Vec<_>>(), [1, 7]);
        let shown = problems.shown();
        assert_eq!(shown[0], "t.jsonl:3: bad JSON: EOF while parsing a value at column 6");
        assert_eq!(shown[1], "t.jsonl:4: is a list, not a JSON object");
        assert_eq!(shown[2], "t.jsonl:5: is a number, not a JSON object");
        assert!(shown[3].starts_with("t.jsonl:6: bad JSON: "), "{}", shown[3]);
        assert_eq!(shown.len(), 4);
    }

    #[test]
    fn many_problems_are_counted() {
        let mut problems = Problems::default();
        assert!(parse_lines("t", "x\n".repeat(25).as_bytes(), &mut problems).is_empty());
        assert_eq!(problems.shown().len(), MAX_SHOWN + 1);
        assert_eq!(problems.shown()[MAX_SHOWN], "and 5 more like these");
    }

    #[test]
    fn gzip_is_seen_by_its_first_bytes() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"{\"a\": 1}\n{\"a\": 2}\n").unwrap();
        let mut packed = packed.finish().unwrap();
        file.write_all(&packed).unwrap();
        let mut problems = Problems::default();
        assert_eq!(read_lines(file.path().to_str().unwrap(), &mut problems).len(), 2);
        assert!(problems.is_empty());
        packed.truncate(packed.len() - 6);
        fs::write(file.path(), &packed).unwrap();
        assert!(read_lines(file.path().to_str().unwrap(), &mut problems).is_empty());
        assert_eq!(problems.shown().len(), 1);
        read_lines("/nonexistent/x.jsonl", &mut problems);
        assert!(
            problems.shown()[1].starts_with("/nonexistent/x.jsonl: No such file"),
            "{:?}",
            problems.shown()
        );
    }
}
