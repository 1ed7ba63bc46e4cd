//! What flows out of a sandbox while it flows.

use bytes::Bytes;
use hothouse_domain::ExecResult;
use hothouse_domain::files::FileInfo;

use crate::error::SandboxError;

/// One of an exec's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputName {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of kept output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    /// Where the bytes begin: the offset asked for, or later where bytes were not kept.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
    /// Bytes written so far.
    pub total: u64,
    /// True when no more will come after `total`.
    pub ended: bool,
}

/// What happens on a followed exec.
#[derive(Debug, Clone, PartialEq)]
pub enum ExecEvent {
    /// It runs; first event. `replayed` when the id was known and nothing was started now.
    Started {
        /// Its id.
        exec_id: hothouse_domain::ExecId,
        /// Nothing was started now.
        replayed: bool,
    },
    /// Output as it came.
    Output(OutputName, Bytes),
    /// So many bytes of an output were not kept (only when following from an old offset).
    Skipped(OutputName, u64),
    /// It has ended; last event. `stdout` and `stderr` of the result are empty: they came as events.
    Finished(ExecResult),
}

/// A followed exec. Dropping it stops following, not the exec.
#[derive(Debug)]
pub struct ExecStream {}

impl ExecStream {
    /// The next event; `None` after `Finished`.
    ///
    /// # Errors
    /// [`SandboxError::Dead`] when the sandbox dies, or what the guest refused.
    pub async fn next(&mut self) -> Result<Option<ExecEvent>, SandboxError> {
        unimplemented!()
    }

    /// Writes to the exec's standard input; waits while its pipe is full.
    ///
    /// # Errors
    /// [`SandboxError`] when the exec has ended or was not opened with `stdin_open` or a pty.
    pub async fn write_stdin(&mut self, _bytes: Bytes) -> Result<(), SandboxError> {
        unimplemented!()
    }

    /// Ends the exec's standard input.
    ///
    /// # Errors
    /// [`SandboxError`] as for `write_stdin`.
    pub async fn close_stdin(&mut self) -> Result<(), SandboxError> {
        unimplemented!()
    }
}

/// The content of a file or archive as it flows out of a sandbox.
#[derive(Debug)]
pub struct FileReader {}

impl FileReader {
    /// The file that is read; `None` for archives.
    #[must_use]
    pub fn info(&self) -> Option<&FileInfo> {
        unimplemented!()
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`SandboxError`] when the sandbox dies or reading fails midway.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SandboxError> {
        unimplemented!()
    }
}
