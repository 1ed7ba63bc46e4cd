//! Files of a sandbox.

use bytes::Bytes;
use futures::StreamExt as _;
use hothouse_domain::Invalid;
use hothouse_domain::files::{FileInfo, FileKind, FileWritten, FilesChanged};
use hothouse_domain::sandbox::check_path;
use hothouse_guest::frame::Channel;
use hothouse_guest::message::{self, FileStat, GuestErrorCode, Reply, Request};

use super::requests::{Attempt, Repeat, cut_short, strange, unexpected};
use super::{ArchiveLimits, Content, Sandbox, WriteOptions};
use crate::error::SandboxError;
use crate::link::{Event, Sent, StopAt, WakeWhen};
use crate::stream::FileReader;

/// The longest directory that is listed, in entries.
const MAX_LISTING: usize = 1_000_000;

impl Sandbox {
    /// What is at a path (a link at its end is not followed).
    ///
    /// # Errors
    /// [`SandboxError`]: no such file, path not absolute.
    pub async fn stat(&self, path: &str) -> Result<FileInfo, SandboxError> {
        let request = Request::Stat { path: checked("path", path)?, follow: false };
        match self.ask(&request, Repeat::Safe).await? {
            Reply::Stat(stat) => Ok(file_info(stat)),
            reply => Err(strange(&reply)),
        }
    }

    /// The entries of a directory, sorted by name.
    ///
    /// # Errors
    /// [`SandboxError`]: no such directory, more than 1,000,000 entries.
    pub async fn list_dir(&self, path: &str) -> Result<Vec<FileInfo>, SandboxError> {
        let request = Request::List { path: checked("path", path)? };
        self.attempts(Repeat::Safe, || async {
            let mut stream = self.open(&request, WakeWhen::Any).await?;
            let mut entries = Vec::new();
            loop {
                match self.reply(&mut stream).await? {
                    Reply::Listing(some) => entries.extend(some.into_iter().map(file_info)),
                    Reply::Done => return Ok(entries),
                    reply => return Err(strange(&reply).into()),
                }
                if entries.len() > MAX_LISTING {
                    return Err(SandboxError::Guest {
                        code: GuestErrorCode::TooLarge,
                        message: format!("{path} has over {MAX_LISTING} entries; list it with a command"),
                    }
                    .into());
                }
            }
        })
        .await
    }

    /// Makes a directory and missing parents; one that exists is fine.
    ///
    /// # Errors
    /// [`SandboxError`]: something else is in the way, no space.
    pub async fn mkdir(&self, path: &str, mode: u32) -> Result<(), SandboxError> {
        let mode = checked_mode(mode)?;
        self.tell(&Request::Mkdir { path: checked("path", path)?, parents: true, mode }, Repeat::Safe).await
    }

    /// Removes a file, or a directory with all in it when `recursive`.
    ///
    /// # Errors
    /// [`SandboxError`]: no such file, directory not empty.
    pub async fn remove(&self, path: &str, recursive: bool) -> Result<(), SandboxError> {
        self.tell(&Request::Remove { path: checked("path", path)?, recursive }, Repeat::Never).await
    }

    /// Renames a file or directory; an existing file at the target is replaced.
    ///
    /// # Errors
    /// [`SandboxError`]: no such file, across mounts.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), SandboxError> {
        let request = Request::Rename { from: checked("from", from)?, to: checked("to", to)? };
        self.tell(&request, Repeat::Never).await
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
        let request = Request::ReadFile { path: checked("path", path)?, offset, length };
        self.attempts(Repeat::Safe, || async {
            let mut stream = self.open(&request, WakeWhen::Any).await?;
            match self.reply(&mut stream).await? {
                Reply::Stat(stat) => Ok(FileReader::new(self.clone(), stream, Some(file_info(stat)), None)),
                reply => Err(strange(&reply).into()),
            }
        })
        .await
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
        let path = checked("path", path)?;
        let mode = options.mode.map(checked_mode).transpose()?;
        let request = Request::WriteFile { path: path.clone(), mode, parents: true, sha256: options.sha256 };
        match self.upload(&request, content).await? {
            Reply::Written { size, sha256 } => Ok(FileWritten { path, size, sha256: hex(&sha256) }),
            reply => Err(strange(&reply)),
        }
    }

    /// A tar archive of a file or directory.
    ///
    /// # Errors
    /// [`SandboxError`]: no such file.
    pub async fn tar_out(&self, path: &str) -> Result<FileReader, SandboxError> {
        let request = Request::TarOut { path: checked("path", path)? };
        self.attempts(Repeat::Safe, || async {
            let mut stream = self.open(&request, WakeWhen::Any).await?;
            // A refusal comes before the first bytes.
            let first = match stream.next().await.map_err(|e| self.failed(e))? {
                Some(Event::Data(Channel::File, bytes)) => Some(bytes.freeze()),
                Some(Event::End(Channel::File)) => None,
                Some(Event::Reply(reply)) => match *reply {
                    Reply::Error { code, message } => {
                        return Err(SandboxError::Guest { code, message }.into());
                    }
                    reply => return Err(strange(&reply).into()),
                },
                Some(event) => return Err(unexpected(&event).into()),
                None => return Err(cut_short().into()),
            };
            Ok(FileReader::new(self.clone(), stream, None, first))
        })
        .await
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
        let request = Request::TarIn {
            path: checked("path", path)?,
            max_entries: limits.max_entries,
            max_bytes: limits.max_bytes,
        };
        changed(path, self.upload(&request, content).await?)
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
        let request = Request::Patch { path: checked("path", directory)?, strip };
        changed(directory, self.upload(&request, content).await?)
    }

    /// Sends content behind a request and returns the one reply, which may come before all was sent.
    async fn upload(&self, request: &Request, content: impl Content) -> Result<Reply, SandboxError> {
        // Never twice: the content can be read only once.
        match self.upload_once(request, content).await {
            Ok(reply) => Ok(reply),
            Err(Attempt::Final(error)) => Err(error),
            Err(Attempt::Lost(reason)) => Err(self.lost(reason).await),
        }
    }

    async fn upload_once(&self, request: &Request, mut content: impl Content) -> Result<Reply, Attempt> {
        let mut stream = self.open(request, WakeWhen::Any).await?;
        loop {
            let piece: Bytes = match content.next().await {
                None => {
                    stream.end(Channel::File);
                    break;
                }
                Some(Ok(piece)) => piece,
                // Leaving without an end makes the guest throw away what it has.
                Some(Err(error)) => {
                    return Err(Invalid::new("body", format!("ended early: {error}")).into());
                }
            };
            let sent = stream.send(Channel::File, &piece, StopAt::AnyReply).await;
            if sent.map_err(|e| self.failed(e))? == Sent::Answered {
                break;
            }
        }
        self.reply(&mut stream).await
    }
}

fn checked(field: &str, path: &str) -> Result<String, Invalid> {
    check_path(field, path)?;
    Ok(path.to_owned())
}

fn checked_mode(mode: u32) -> Result<u32, Invalid> {
    if mode > 0o7777 {
        return Err(Invalid::new("mode", format!("is {mode:#o}; at most 0o7777")));
    }
    Ok(mode)
}

/// The guest names files relative to the directory of the request.
fn changed(directory: &str, reply: Reply) -> Result<FilesChanged, SandboxError> {
    let directory = directory.trim_end_matches('/');
    match reply {
        Reply::Changed { paths, count, bytes } => {
            let paths = paths.into_iter().map(|name| format!("{directory}/{name}")).collect();
            Ok(FilesChanged { paths, count, bytes })
        }
        reply => Err(strange(&reply)),
    }
}

fn file_info(stat: FileStat) -> FileInfo {
    let text = |bytes: Vec<u8>| match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    FileInfo {
        path: text(stat.path),
        kind: match stat.kind {
            message::FileKind::File => FileKind::File,
            message::FileKind::Directory => FileKind::Directory,
            message::FileKind::Symlink => FileKind::Symlink,
            message::FileKind::Other => FileKind::Other,
        },
        size: stat.size,
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        mtime: mtime(stat.mtime_ns),
        target: stat.target.map(text),
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds as a float are good to a microsecond until 2242")]
fn mtime(ns: i64) -> f64 {
    ns as f64 / 1e9
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string succeeds");
        text
    })
}
