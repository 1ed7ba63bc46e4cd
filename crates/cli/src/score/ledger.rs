//! The results file: one line per finished attempt, appended as it finishes.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::verdict::{Record, Verdict};

/// Why a results file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process writes it.
    #[error("{}: another hothouse score writes to it", .0.display())]
    Busy(PathBuf),
    /// It has something else in it.
    #[error("{}:{line}: is not a result: {reason}", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// Why not.
        reason: String,
    },
}

/// An open results file.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    file: File,
    /// The end that the last line lacks, though it is whole.
    before: Option<u8>,
}

/// What a results file had in it when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    /// The last finished record of each key; those that could not be judged are not among them.
    pub(crate) finished: HashMap<String, Record>,
    /// Bytes of a last line that was cut off when its writer was killed; they are gone now.
    pub(crate) torn_bytes: u64,
}

impl Ledger {
    /// Opens a file, makes it when absent, and reads what an earlier run finished.
    pub(crate) fn open(path: &Path) -> Result<(Self, Earlier), LedgerError> {
        let io_error = |source| LedgerError::Io { path: path.to_owned(), source };
        let mut options = File::options();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(path).map_err(io_error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::Busy(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(io_error(error)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io_error)?;
        let mut whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        if !is_torn(&bytes[whole..]) {
            whole = bytes.len();
        }
        let mut earlier = Earlier::default();
        read_records(path, &bytes[..whole], &mut earlier)?;
        // A writer that was killed leaves a line without its end. Its attempt is run again.
        earlier.torn_bytes = (bytes.len() - whole) as u64;
        if earlier.torn_bytes > 0 {
            file.set_len(whole as u64).map_err(io_error)?;
        }
        file.seek(SeekFrom::End(0)).map_err(io_error)?;
        let before = (whole > 0 && bytes[whole - 1] != b'\n').then_some(b'\n');
        Ok((Self { path: path.to_owned(), file, before }, earlier))
    }

    /// Appends one record, whole and at once.
    pub(crate) fn append(&mut self, record: &Record) -> Result<(), LedgerError> {
        let io_error = |source| LedgerError::Io { path: self.path.clone(), source };
        let mut line = self.before.take().map(|byte| vec![byte]).unwrap_or_default();
        serde_json::to_writer(&mut line, record).map_err(|e| io_error(e.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(io_error)
    }
}

impl Drop for Ledger {
    /// The lock goes now, and not when the last copy of the descriptor does: a process that another thread is just
    /// starting holds one until it executes.
    fn drop(&mut self) {
        // Without a lock there is nothing to give back.
        drop(self.file.unlock());
    }
}

/// True for the start of a line of ours. Anything else without an end is somebody's data, not to be cut off.
fn is_torn(tail: &[u8]) -> bool {
    const START: &[u8] = b"{\"task_id\":\"";
    let ours = if tail.len() < START.len() { START.starts_with(tail) } else { tail.starts_with(START) };
    ours && !tail.is_empty() && serde_json::from_slice::<serde_json::Value>(tail).is_err()
}

fn read_records(path: &Path, bytes: &[u8], earlier: &mut Earlier) -> Result<(), LedgerError> {
    for (at, line) in bytes.split(|&b| b == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let record: Record = serde_json::from_slice(line).map_err(|e| LedgerError::Foreign {
            path: path.to_owned(),
            line: at + 1,
            reason: e.to_string().replace(" at line 1 column ", " at column "),
        })?;
        if record.verdict == Verdict::Error {
            earlier.finished.remove(&record.key);
        } else {
            earlier.finished.insert(record.key.clone(), record);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hothouse_domain::Usage;

    use super::*;

    fn record(key: &str, verdict: Verdict) -> Record {
        Record {
            task_id: "t".into(),
            sample: 0,
            key: key.into(),
            verdict,
            reason: String::new(),
            during: String::new(),
            duration_s: 0.5,
            usage: Usage::default(),
            stdout: "a\nb".into(),
            stderr: String::new(),
            contained: true,
            expect: Vec::new(),
            attack: String::new(),
        }
    }

    fn temporary() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        (dir, path)
    }

    #[test]
    fn what_was_finished_is_known_again_and_errors_are_not() {
        let (_dir, path) = temporary();
        let (mut ledger, earlier) = Ledger::open(&path).unwrap();
        assert!(earlier.finished.is_empty());
        for (key, verdict) in [("a", Verdict::Passed), ("b", Verdict::Error), ("c", Verdict::TimedOut)] {
            ledger.append(&record(key, verdict)).unwrap();
        }
        drop(ledger);
        let (_, earlier) = Ledger::open(&path).unwrap();
        let mut keys: Vec<_> = earlier.finished.keys().cloned().collect();
        keys.sort();
        assert_eq!(keys, ["a", "c"]);
        assert_eq!(earlier.finished["c"], record("c", Verdict::TimedOut));
        assert_eq!(earlier.torn_bytes, 0);
    }

    #[test]
    fn a_torn_last_line_is_cut_off_wherever_it_was_torn() {
        let (_dir, path) = temporary();
        let (mut ledger, _) = Ledger::open(&path).unwrap();
        ledger.append(&record("a", Verdict::Passed)).unwrap();
        let first = fs::read(&path).unwrap().len();
        ledger.append(&record("b", Verdict::Passed)).unwrap();
        drop(ledger);
        let whole = fs::read(&path).unwrap();
        for cut in first + 1..whole.len() - 1 {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut ledger, earlier) = Ledger::open(&path).unwrap();
            assert_eq!(earlier.finished.len(), 1, "cut at {cut}");
            assert_eq!(earlier.torn_bytes, (cut - first) as u64);
            ledger.append(&record("b", Verdict::Passed)).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_whole_last_line_without_its_end_is_kept() {
        let (_dir, path) = temporary();
        let (mut ledger, _) = Ledger::open(&path).unwrap();
        ledger.append(&record("a", Verdict::Passed)).unwrap();
        drop(ledger);
        let line = fs::read(&path).unwrap();
        fs::write(&path, &line[..line.len() - 1]).unwrap();
        let (mut ledger, earlier) = Ledger::open(&path).unwrap();
        assert_eq!((earlier.finished.len(), earlier.torn_bytes), (1, 0));
        ledger.append(&record("a", Verdict::Passed)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [line.clone(), line].concat());
    }

    #[test_case::test_case("{\"task_id\": \"a\"}\nhello"; "several lines")]
    #[test_case::test_case("hello"; "no line at all")]
    #[test_case::test_case("{\"task_id\":\"a\"}"; "one line of tasks")]
    #[test_case::test_case("{\"task_id\": \"a\", "; "half a line of tasks")]
    fn a_file_of_something_else_stays_as_it_is(text: &str) {
        let (_dir, path) = temporary();
        fs::write(&path, text).unwrap();
        let error = Ledger::open(&path).unwrap_err().to_string();
        assert!(error.contains("results.jsonl:1: is not a result: "), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn two_writers_are_refused() {
        let (_dir, path) = temporary();
        let (_held, _) = Ledger::open(&path).unwrap();
        assert!(matches!(Ledger::open(&path), Err(LedgerError::Busy(_))));
    }

    #[test]
    fn a_closed_file_is_free_although_a_copy_of_its_descriptor_lives() {
        let (_dir, path) = temporary();
        let (held, _) = Ledger::open(&path).unwrap();
        // What a process that is just being started has of it.
        let _copy = held.file.try_clone().unwrap();
        drop(held);
        Ledger::open(&path).unwrap();
    }
}
