//! What the two sides say: postcard-encoded bodies of `Hello`, `Open` and `Reply` frames.
//!
//! WHEN CHANGING A MESSAGE: raise [`VERSION`]. A guest outlives the server that made it, so a newer server meets older
//! guests; it reads their version from `Hello` and refuses what they do not know.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of these messages.
pub const VERSION: u16 = 3;
/// The first bytes of a `Hello`.
pub const MAGIC: [u8; 4] = *b"HHG\x01";

/// The first frame from each side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// [`VERSION`] of the sender.
    pub version: u16,
}

impl Hello {
    /// This side's hello.
    #[must_use]
    pub fn new() -> Self {
        Self { magic: MAGIC, version: VERSION }
    }
}

impl Default for Hello {
    fn default() -> Self {
        Self::new()
    }
}

/// What a stream is opened for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Run a command. Replies: `Started`, then, unless detached, output as `Data` and `Finished`.
    Exec(ExecRequest),
    /// Follow an exec that was started before. Replies as for `Exec`.
    Attach {
        /// Which.
        exec_id: String,
        /// Byte offset in standard output to begin at (only for [`OutputMode::Follow`]).
        stdout_from: u64,
        /// Byte offset in standard error to begin at.
        stderr_from: u64,
        /// How to send the output.
        output: OutputMode,
    },
    /// Reply: `Status`.
    ExecStatus {
        /// Which.
        exec_id: String,
    },
    /// Reply: `Execs`, oldest first.
    ListExecs,
    /// Read kept output. Reply: `Output`, at most [`MAX_OUTPUT_READ`] bytes.
    ReadOutput {
        /// Which exec.
        exec_id: String,
        /// Which of its outputs.
        from: OutputStream,
        /// First byte.
        offset: u64,
        /// At most so many bytes.
        max: u32,
    },
    /// Feed standard input of an exec opened with `stdin_open`: `Data` on `Stdin`, then `End` on `Stdin`, which ends this
    /// stream (and the exec's input when `close`). Reply: `Done` when all is in the pipe.
    Stdin {
        /// Which exec.
        exec_id: String,
        /// Close the exec's input afterwards.
        close: bool,
    },
    /// Reply: `Done`.
    Signal {
        /// Which exec.
        exec_id: String,
        /// The signal's number.
        signal: i32,
        /// Whom to send it to.
        target: SignalTarget,
    },
    /// End an exec as a timeout would: TERM to the tree, grace, KILL. Reply: `Done` at once.
    Terminate {
        /// Which exec.
        exec_id: String,
        /// Milliseconds from TERM to KILL.
        grace_ms: u64,
    },
    /// Change the size of an exec's terminal. Reply: `Done`.
    Resize {
        /// Which exec.
        exec_id: String,
        /// Lines.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// Start a shell session. Reply: `ShellOpened`.
    ShellOpen(ShellOpenRequest),
    /// Run a command in a shell session. Journaled and answered like `Exec`.
    ShellRun(ShellRunRequest),
    /// Interrupt the command that a shell session runs (SIGINT). Reply: `Done`.
    ShellInterrupt {
        /// Which.
        shell_id: String,
    },
    /// End a shell session and everything started in it that is still its child. Reply: `Done`.
    ShellClose {
        /// Which.
        shell_id: String,
    },
    /// Reply: `Shells`.
    ShellList,
    /// Reply: `Stat`.
    Stat {
        /// Absolute path in the sandbox.
        path: String,
        /// Follow a symbolic link at the end of the path.
        follow: bool,
    },
    /// Entries of a directory, sorted by name, without `.` and `..`. Replies: `Listing` (several), `Done`.
    List {
        /// Absolute path in the sandbox.
        path: String,
    },
    /// Reply: `Done`. An existing directory is not an error when `parents`.
    Mkdir {
        /// Absolute path in the sandbox.
        path: String,
        /// Make missing parents too.
        parents: bool,
        /// Permission bits of what is made.
        mode: u32,
    },
    /// Reply: `Done`.
    Remove {
        /// Absolute path in the sandbox.
        path: String,
        /// Remove a directory with all that is in it. Never crosses into another mount.
        recursive: bool,
    },
    /// Rename within the sandbox; replaces a file. Reply: `Done`.
    Rename {
        /// Absolute path in the sandbox.
        from: String,
        /// Absolute path in the sandbox.
        to: String,
    },
    /// Read a regular file. Replies: `Stat`, `Data` on `File`, `End`, `Done`.
    ReadFile {
        /// Absolute path in the sandbox.
        path: String,
        /// First byte.
        offset: u64,
        /// At most so many bytes; all when absent.
        length: Option<u64>,
    },
    /// Write a regular file: the driver sends `Data` on `File` and `End`. The content goes to a temporary file beside the
    /// target, which is renamed over it when all is there. Reply: `Written`.
    WriteFile {
        /// Absolute path in the sandbox.
        path: String,
        /// Permission bits; those of the file that is replaced, or 0o644, when absent.
        mode: Option<u32>,
        /// Make missing parent directories.
        parents: bool,
        /// Refuse unless the content's SHA-256 is this; nothing is changed then.
        sha256: Option<[u8; 32]>,
    },
    /// A tar archive of a file or directory, names relative to it. Replies: `Data` on `File`, `End`, `Done`.
    TarOut {
        /// Absolute path in the sandbox.
        path: String,
    },
    /// Unpack a tar archive: the driver sends `Data` on `File` and `End`. Reply: `Changed`.
    TarIn {
        /// Absolute path of the directory to unpack into; made when absent.
        path: String,
        /// At most so many entries.
        max_entries: u64,
        /// At most so many bytes of content.
        max_bytes: u64,
    },
    /// Apply a unified diff: the driver sends `Data` on `File` and `End`. All files or none. Reply: `Changed`.
    Patch {
        /// Absolute path of the directory that the names in the patch are relative to.
        path: String,
        /// Leading components to take off the names, as `patch -p`.
        strip: u32,
    },
    /// Reply: `Info`.
    Info,
    /// Start a context. Reply: `ContextOpened`.
    ContextOpen(ContextOpenRequest),
    /// Run code in a context. Journaled and answered like `Exec`, with `Value` before `Finished`.
    ContextRun(ContextRunRequest),
    /// Interrupt the code that a context runs (`KeyboardInterrupt`). Reply: `Done`.
    ContextInterrupt {
        /// Which.
        context_id: String,
    },
    /// End a context's process and start a fresh one in its place, on the same terms. Reply: `ContextOpened`.
    ContextReset {
        /// Which.
        context_id: String,
    },
    /// Branch a context that runs nothing: another one begins with all that it has. Reply: `ContextOpened`.
    ContextFork {
        /// Which.
        context_id: String,
        /// The id of the new one.
        new_id: String,
    },
    /// End a context and everything started in it that is still its child. Reply: `Done`.
    ContextClose {
        /// Which.
        context_id: String,
    },
    /// Reply: `Contexts`.
    ContextList,
    /// Connect to what listens in the sandbox. Reply: `Dialed`; then `Data` on `Socket` both ways, and `End` on `Socket` from
    /// each side that sends no more. The guest closes the stream when both have ended; whoever closes it before breaks the
    /// connection off, but what the driver sent before its `End` still arrives. `Error` after `Dialed`: the other end broke it.
    /// The driver may send before it is answered.
    Dial {
        /// To what.
        target: DialTarget,
        /// Milliseconds to wait while nothing listens there; at most [`MAX_DIAL_WAIT_MS`].
        wait_ms: u64,
    },
}

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DialTarget {
    /// A Unix stream socket, by its absolute path in the sandbox.
    Path(String),
    /// A TCP port of the sandbox's loopback: on 127.0.0.1, or else on ::1.
    Port(u16),
}

/// The longest that a `Dial` waits for a listener.
pub const MAX_DIAL_WAIT_MS: u64 = 600_000;

/// The most bytes of what a run in a context came to: its value or error, as the interpreter tells it.
pub const MAX_VALUE: usize = (3 << 20) + (64 << 10);

/// The most bytes that one `ReadOutput` returns.
pub const MAX_OUTPUT_READ: u32 = 1 << 20;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Its id, always present here.
    pub exec_id: String,
    /// What to run.
    pub program: Program,
    /// The whole environment; the guest adds `PATH`, `HOME`, `USER` (and `TERM` on a terminal) where absent.
    pub env: Vec<(String, String)>,
    /// Absolute working directory.
    pub cwd: String,
    /// `user` or `user:group`, names or numbers; root when absent.
    pub user: Option<String>,
    /// Inline standard input.
    #[serde(with = "serde_bytes")]
    pub stdin: Vec<u8>,
    /// Keep standard input open after the inline text; it then takes `Data` on `Stdin` on this stream and `Stdin` requests.
    pub stdin_open: bool,
    /// Milliseconds of wall time until the tree gets TERM.
    pub timeout_ms: Option<u64>,
    /// Milliseconds from TERM to KILL.
    pub grace_ms: u64,
    /// Bytes kept per output, half from the start and half from the end.
    pub output_limit: u64,
    /// Rows and columns of a terminal to run it on.
    pub pty: Option<(u16, u16)>,
    /// How to send the output.
    pub output: OutputMode,
}

/// What an exec runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// Program, looked up in `PATH`, and arguments.
    Argv(Vec<String>),
    /// A line for `/bin/sh -c`.
    Shell(String),
}

/// How a stream gets an exec's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputMode {
    /// Not at all: the stream ends with `Started`.
    Detach,
    /// What was kept, once, when it has ended: `Data`, then `Finished`.
    Collect,
    /// As it comes and all of it; a slow reader slows the exec down. A gap is announced by `Skipped`.
    Follow,
}

/// One of an exec's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignalTarget {
    /// The process that the exec started.
    Leader,
    /// That process and all its descendants.
    Tree,
}

/// A shell session to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellOpenRequest {
    /// Its id.
    pub shell_id: String,
    /// As for an exec.
    pub env: Vec<(String, String)>,
    /// Absolute working directory.
    pub cwd: String,
    /// As for an exec.
    pub user: Option<String>,
}

/// A command for a shell session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellRunRequest {
    /// Which session.
    pub shell_id: String,
    /// Its id, always present here.
    pub exec_id: String,
    /// The command line; may span lines.
    pub command: String,
    /// Milliseconds until it is interrupted.
    pub timeout_ms: Option<u64>,
    /// Bytes kept per output.
    pub output_limit: u64,
    /// How to send the output.
    pub output: OutputMode,
}

/// A context to start: a live Python interpreter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextOpenRequest {
    /// Its id.
    pub context_id: String,
    /// Modules that its zygote has imported; the usual ones when absent.
    pub imports: Option<Vec<String>>,
    /// As for an exec. Contexts with the same one share a zygote, which has it too.
    pub env: Vec<(String, String)>,
    /// More variables, which the context alone gets.
    pub secrets: Vec<(String, String)>,
    /// Absolute working directory.
    pub cwd: String,
    /// As for an exec.
    pub user: Option<String>,
    /// Bytes of data that it may have, beside the sandbox's own limit.
    pub memory_bytes: Option<u64>,
}

/// Code for a context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextRunRequest {
    /// Which context.
    pub context_id: String,
    /// Its id, always present here.
    pub exec_id: String,
    /// The code.
    pub code: String,
    /// Milliseconds until it is interrupted.
    pub timeout_ms: Option<u64>,
    /// Milliseconds from the interrupt to KILL.
    pub grace_ms: u64,
    /// Bytes kept per output.
    pub output_limit: u64,
    /// How to send the output.
    pub output: OutputMode,
}

/// What the guest answers on a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The exec is journaled and running, or was before.
    Started {
        /// True when the id was known: nothing was started now.
        replayed: bool,
    },
    /// The next `Data` of this output begins later: what lies between was not kept.
    Skipped {
        /// Which output.
        from: OutputStream,
        /// How many bytes are missing.
        bytes: u64,
    },
    /// The exec has ended.
    Finished(Finished),
    /// Answers `ExecStatus`.
    Status(ExecEntry),
    /// Answers `ListExecs`.
    Execs(Vec<ExecEntry>),
    /// Answers `ReadOutput`.
    Output {
        /// Where the bytes begin: the offset asked for, or later where bytes were not kept.
        offset: u64,
        /// The bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
        /// Bytes written so far.
        total: u64,
        /// True when no more will come after `total`.
        ended: bool,
    },
    /// It is done.
    Done,
    /// Answers `ShellOpen`.
    ShellOpened {
        /// The shell's path.
        program: String,
    },
    /// Answers `ShellList`.
    Shells(Vec<ShellEntry>),
    /// Answers `Stat`, and precedes a file's content.
    Stat(FileStat),
    /// Some entries of a directory.
    Listing(Vec<FileStat>),
    /// A file was written.
    Written {
        /// Bytes.
        size: u64,
        /// Of the content.
        sha256: [u8; 32],
    },
    /// Answers `TarIn` and `Patch`.
    Changed {
        /// At most the first 1,000.
        paths: Vec<String>,
        /// How many there were.
        count: u64,
        /// Bytes written.
        bytes: u64,
    },
    /// Answers `Info`.
    Info(GuestInfo),
    /// It failed; the stream is over.
    Error {
        /// What kind of failure.
        code: GuestErrorCode,
        /// A lowercase fragment with the path or id.
        message: String,
    },
    /// Answers `ContextOpen`, `ContextReset` and `ContextFork`.
    ContextOpened(ContextEntry),
    /// Answers `ContextList`.
    Contexts(Vec<ContextEntry>),
    /// What a run in a context came to, as its interpreter tells it: JSON, unless the interpreter lies. Precedes
    /// `Finished`; at most [`MAX_VALUE`] bytes.
    Value(#[serde(with = "serde_bytes")] Vec<u8>),
    /// A `Dial` is through.
    Dialed,
}

/// How an exec ended, with what it used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// How.
    pub ending: Ending,
    /// Wall time in nanoseconds.
    pub wall_ns: u64,
    /// CPU time in user mode in microseconds.
    pub user_us: u64,
    /// CPU time in the kernel in microseconds.
    pub system_us: u64,
    /// Largest resident set in bytes.
    pub max_rss: u64,
    /// Bytes written to standard output, kept or not.
    pub stdout_total: u64,
    /// Bytes written to standard error, kept or not.
    pub stderr_total: u64,
    /// Bytes of standard output that were not kept.
    pub stdout_dropped: u64,
    /// Bytes of standard error that were not kept.
    pub stderr_dropped: u64,
    /// A process that outlived the leader still held an output open.
    pub held_open: bool,
}

/// How an exec ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The leader's exit status.
    Exited(i32),
    /// The signal that ended the leader.
    Signalled(i32),
    /// Its time was up.
    TimedOut,
    /// The memory limit ended it.
    OomKilled,
    /// It never ran.
    FailedToStart(String),
}

/// One exec in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecEntry {
    /// Its id.
    pub exec_id: String,
    /// Bytes of standard output so far.
    pub stdout_total: u64,
    /// Bytes of standard error so far.
    pub stderr_total: u64,
    /// How it ended; `None` while it runs.
    pub finished: Option<Finished>,
}

/// One shell session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellEntry {
    /// Its id.
    pub shell_id: String,
    /// The shell's path.
    pub program: String,
    /// A command runs in it.
    pub busy: bool,
}

/// One context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextEntry {
    /// Its id.
    pub context_id: String,
    /// The interpreter's version, as it says.
    pub version: String,
    /// The context that it was forked from.
    pub forked_from: Option<String>,
    /// What it is doing.
    pub state: ContextState,
}

/// What a context is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContextState {
    /// It is being made.
    Starting,
    /// It waits for code.
    Idle,
    /// It runs code.
    Busy,
    /// Its interpreter is gone; its name stays until it is closed or reset.
    Ended(String),
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO, socket or device.
    Other,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    /// Absolute path.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// What it is.
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Target of a symbolic link.
    #[serde(with = "serde_bytes")]
    pub target: Option<Vec<u8>>,
}

/// How the guest is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestInfo {
    /// Its protocol version.
    pub version: u16,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Execs that run.
    pub running: u32,
    /// Execs in the journal.
    pub journaled: u32,
    /// Open shell sessions.
    pub shells: u32,
    /// Processes in the sandbox, the guest included.
    pub processes: u32,
    /// Connections by `Dial`, those that are still waited for included.
    pub dials: u32,
}

/// Kinds of failure of a guest request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestErrorCode {
    /// The request is malformed or breaks a rule.
    Invalid,
    /// The journal has no such exec.
    ExecNotFound,
    /// The exec id is taken by another body.
    ExecConflict,
    /// The exec has ended or takes no input.
    ExecFinished,
    /// No such shell session.
    ShellNotFound,
    /// The shell session exists.
    ShellExists,
    /// The shell session runs another command.
    ShellBusy,
    /// ENOENT.
    FileNotFound,
    /// Any other refusal of the file system, and everything that is no regular file where one is needed.
    FileRefused,
    /// ENOSPC, EDQUOT.
    NoSpace,
    /// A hunk does not fit.
    PatchRejected,
    /// Over a limit.
    TooLarge,
    /// Too many streams, execs or shells at once.
    LimitExceeded,
    /// This sandbox cannot do it, e.g. it has no shell.
    Unsupported,
    /// Anything else.
    Internal,
    /// No such context.
    ContextNotFound,
    /// The context exists.
    ContextExists,
    /// The context runs other code, or is being made.
    ContextBusy,
    /// The context's interpreter is gone.
    ContextEnded,
    /// Nothing listens where a `Dial` leads, or it takes no connection.
    NotListening,
    /// The other end of a `Dial` broke the connection off.
    DialBroken,
}

/// Encodes a body.
///
/// # Panics
/// Never for the types of this module: postcard writes every one of them.
#[must_use]
pub fn encode<T: Serialize>(body: &T) -> Vec<u8> {
    postcard::to_stdvec(body).expect("every message type can be written")
}

/// A body that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}: {reason}")]
pub struct MalformedBody {
    /// Which body, e.g. `request`.
    pub what: &'static str,
    /// Why.
    pub reason: String,
}

/// Decodes a body; bytes after its end are refused.
///
/// # Errors
/// [`MalformedBody`] when the bytes are not exactly one body of this type.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, MalformedBody> {
    let malformed = |reason: String| MalformedBody { what, reason };
    let (body, rest) = postcard::take_from_bytes(bytes).map_err(|e| malformed(e.to_string()))?;
    if rest.is_empty() { Ok(body) } else { Err(malformed(format!("{} bytes too many", rest.len()))) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn garbage_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _request = decode::<Request>("request", &bytes);
            let _reply = decode::<Reply>("reply", &bytes);
            let _hello = decode::<Hello>("hello", &bytes);
        }
    }

    #[test]
    fn a_body_with_trailing_bytes_is_refused() {
        let mut bytes = encode(&Request::Info);
        bytes.push(0);
        assert!(decode::<Request>("request", &bytes).is_err());
    }
}
