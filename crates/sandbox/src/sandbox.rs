//! A handle to one live sandbox.

use bytes::Bytes;
use futures::Stream;
use hothouse_domain::files::{FileInfo, FileWritten, FilesChanged};
use hothouse_domain::shell::{ShellCommand, ShellInfo, ShellSpec};
use hothouse_domain::{ExecId, ExecResult, ExecSpec, ExecStatus, PtySize, SandboxId, SandboxInfo, ShellId};

use crate::error::SandboxError;
use crate::stream::{ExecStream, FileReader, OutputChunk, OutputName};

/// What happens to an exec's standard input after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterStdin {
    /// It stays open.
    KeepOpen,
    /// It ends.
    Close,
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalTarget {
    /// The process that the exec started.
    Leader,
    /// That process and all its descendants.
    Tree,
}

/// How to write a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Permission bits; those of the file that is replaced, or 0o644, when absent.
    pub mode: Option<u32>,
    /// Refuse unless the content's SHA-256 is this.
    pub sha256: Option<[u8; 32]>,
}

/// Bounds on an archive that is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Entries.
    pub max_entries: u64,
    /// Bytes of content.
    pub max_bytes: u64,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self { max_entries: 100_000, max_bytes: 4 << 30 }
    }
}

/// A handle to one sandbox; clones are handles to the same one. Dropping handles does not end it.
#[derive(Debug, Clone)]
pub struct Sandbox {}

/// Content that flows into a sandbox.
pub trait Content: Stream<Item = std::io::Result<Bytes>> + Send + Unpin {}
impl<S: Stream<Item = std::io::Result<Bytes>> + Send + Unpin> Content for S {}

#[allow(unused_variables, clippy::unimplemented, reason = "signatures first; the bodies follow")]
impl Sandbox {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &SandboxId {
        unimplemented!()
    }
    /// What it is and where it is in its life.
    #[must_use]
    pub fn info(&self) -> SandboxInfo {
        unimplemented!()
    }

    /// Runs a command to its end and returns what happened. With a known `exec_id`, returns the recorded result, or waits
    /// for the running one.
    ///
    /// # Errors
    /// [`SandboxError`]: invalid spec, frozen, dead, id taken by another body.
    pub async fn exec(&self, spec: ExecSpec) -> Result<ExecResult, SandboxError> {
        unimplemented!()
    }
    /// Starts a command and returns as soon as it is journaled and running.
    ///
    /// # Errors
    /// As for [`Sandbox::exec`].
    pub async fn exec_detached(&self, spec: ExecSpec) -> Result<ExecStatus, SandboxError> {
        unimplemented!()
    }
    /// Runs a command and follows it live; a slow reader slows it down, nothing is dropped.
    ///
    /// # Errors
    /// As for [`Sandbox::exec`].
    pub async fn exec_stream(&self, spec: ExecSpec) -> Result<ExecStream, SandboxError> {
        unimplemented!()
    }
    /// Follows an exec that was started before, from byte offsets in its outputs.
    ///
    /// # Errors
    /// [`SandboxError`]: no such exec, frozen, dead.
    pub async fn attach(
        &self,
        exec_id: &ExecId,
        stdout_from: u64,
        stderr_from: u64,
    ) -> Result<ExecStream, SandboxError> {
        unimplemented!()
    }
    /// Waits for an exec's end and returns its result with the kept output.
    ///
    /// # Errors
    /// As for [`Sandbox::attach`].
    pub async fn wait_exec(&self, exec_id: &ExecId) -> Result<ExecResult, SandboxError> {
        unimplemented!()
    }
    /// Looks an exec up; a finished one comes with its kept output.
    ///
    /// # Errors
    /// As for [`Sandbox::attach`].
    pub async fn exec_status(&self, exec_id: &ExecId) -> Result<ExecStatus, SandboxError> {
        unimplemented!()
    }
    /// The execs in the journal, oldest first, without output.
    ///
    /// # Errors
    /// [`SandboxError`]: frozen, dead.
    pub async fn execs(&self) -> Result<Vec<ExecStatus>, SandboxError> {
        unimplemented!()
    }
    /// Reads kept output of a running or finished exec; at most 1 MiB at once.
    ///
    /// # Errors
    /// As for [`Sandbox::attach`].
    pub async fn read_output(
        &self,
        exec_id: &ExecId,
        from: OutputName,
        offset: u64,
        max: u32,
    ) -> Result<OutputChunk, SandboxError> {
        unimplemented!()
    }
    /// Feeds an exec's standard input; returns when all is in its pipe.
    ///
    /// # Errors
    /// [`SandboxError`]: no such exec, ended, takes no input.
    pub async fn write_stdin(
        &self,
        exec_id: &ExecId,
        bytes: Bytes,
        after: AfterStdin,
    ) -> Result<(), SandboxError> {
        unimplemented!()
    }
    /// Sends a signal (1 to 64).
    ///
    /// # Errors
    /// [`SandboxError`]: no such exec, ended, no such signal.
    pub async fn signal(
        &self,
        exec_id: &ExecId,
        signal: i32,
        target: SignalTarget,
    ) -> Result<(), SandboxError> {
        unimplemented!()
    }
    /// Changes the size of an exec's terminal.
    ///
    /// # Errors
    /// [`SandboxError`]: no such exec, ended, no terminal.
    pub async fn resize(&self, exec_id: &ExecId, size: PtySize) -> Result<(), SandboxError> {
        unimplemented!()
    }

    /// Starts a shell session.
    ///
    /// # Errors
    /// [`SandboxError`]: id taken, no shell in the image, too many.
    pub async fn shell_open(&self, spec: ShellSpec) -> Result<ShellInfo, SandboxError> {
        unimplemented!()
    }
    /// Runs a command in a shell session to its end.
    ///
    /// # Errors
    /// [`SandboxError`]: no such session, busy.
    pub async fn shell_run(
        &self,
        shell_id: &ShellId,
        command: ShellCommand,
    ) -> Result<ExecResult, SandboxError> {
        unimplemented!()
    }
    /// Runs a command in a shell session and follows it live.
    ///
    /// # Errors
    /// As for [`Sandbox::shell_run`].
    pub async fn shell_stream(
        &self,
        shell_id: &ShellId,
        command: ShellCommand,
    ) -> Result<ExecStream, SandboxError> {
        unimplemented!()
    }
    /// Interrupts the command that a shell session runs.
    ///
    /// # Errors
    /// [`SandboxError`]: no such session.
    pub async fn shell_interrupt(&self, shell_id: &ShellId) -> Result<(), SandboxError> {
        unimplemented!()
    }
    /// Ends a shell session.
    ///
    /// # Errors
    /// [`SandboxError`]: no such session.
    pub async fn shell_close(&self, shell_id: &ShellId) -> Result<(), SandboxError> {
        unimplemented!()
    }
    /// The open shell sessions.
    ///
    /// # Errors
    /// [`SandboxError`]: frozen, dead.
    pub async fn shells(&self) -> Result<Vec<ShellInfo>, SandboxError> {
        unimplemented!()
    }

    /// What is at a path (a link at its end is not followed).
    ///
    /// # Errors
    /// [`SandboxError`]: no such file, path not absolute.
    pub async fn stat(&self, path: &str) -> Result<FileInfo, SandboxError> {
        unimplemented!()
    }
    /// The entries of a directory, sorted by name.
    ///
    /// # Errors
    /// [`SandboxError`]: no such directory.
    pub async fn list_dir(&self, path: &str) -> Result<Vec<FileInfo>, SandboxError> {
        unimplemented!()
    }
    /// Makes a directory and missing parents; one that exists is fine.
    ///
    /// # Errors
    /// [`SandboxError`]: something else is in the way, no space.
    pub async fn mkdir(&self, path: &str, mode: u32) -> Result<(), SandboxError> {
        unimplemented!()
    }
    /// Removes a file, or a directory with all in it when `recursive`.
    ///
    /// # Errors
    /// [`SandboxError`]: no such file, directory not empty.
    pub async fn remove(&self, path: &str, recursive: bool) -> Result<(), SandboxError> {
        unimplemented!()
    }
    /// Renames a file or directory; an existing file at the target is replaced.
    ///
    /// # Errors
    /// [`SandboxError`]: no such file, across mounts.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), SandboxError> {
        unimplemented!()
    }
    /// Reads a regular file from an offset, at most `length` bytes.
    ///
    /// # Errors
    /// [`SandboxError`]: no such file, not a regular file.
    pub async fn read_file(
        &self,
        path: &str,
        offset: u64,
        length: Option<u64>,
    ) -> Result<FileReader, SandboxError> {
        unimplemented!()
    }
    /// Writes a regular file atomically, making missing parents.
    ///
    /// # Errors
    /// [`SandboxError`]: no space, not a regular file, digest differs; the old content stays then.
    pub async fn write_file(
        &self,
        path: &str,
        options: WriteOptions,
        content: impl Content,
    ) -> Result<FileWritten, SandboxError> {
        unimplemented!()
    }
    /// A tar archive of a file or directory.
    ///
    /// # Errors
    /// [`SandboxError`]: no such file.
    pub async fn tar_out(&self, path: &str) -> Result<FileReader, SandboxError> {
        unimplemented!()
    }
    /// Unpacks a tar archive into a directory, which is made when absent.
    ///
    /// # Errors
    /// [`SandboxError`]: not a tar, a name that leaves the directory, over a limit.
    pub async fn tar_in(
        &self,
        path: &str,
        limits: ArchiveLimits,
        content: impl Content,
    ) -> Result<FilesChanged, SandboxError> {
        unimplemented!()
    }
    /// Applies a unified diff; all of it or nothing.
    ///
    /// # Errors
    /// [`SandboxError`]: a hunk does not fit.
    pub async fn patch(
        &self,
        directory: &str,
        strip: u32,
        content: impl Content,
    ) -> Result<FilesChanged, SandboxError> {
        unimplemented!()
    }

    /// Stops every process in it; they keep their memory.
    ///
    /// # Errors
    /// [`SandboxError`]: this machine has no freezer, dead.
    pub async fn freeze(&self) -> Result<(), SandboxError> {
        unimplemented!()
    }
    /// Lets its processes run again.
    ///
    /// # Errors
    /// As for [`Sandbox::freeze`].
    pub async fn thaw(&self) -> Result<(), SandboxError> {
        unimplemented!()
    }
}
