//! Makes a tar archive of a file or directory, a piece at a time and never in memory as a whole.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tar::{EntryType, Header};

use super::job::{Download, Piece};
use super::path::Root;
use crate::message::{GuestErrorCode, Reply};
use crate::program::refusal::Refusal;

const BLOCK: usize = 512;
/// Directories open at once.
const MAX_DEPTH: usize = 512;
/// Entries begun in one piece of work.
const PIECE: usize = 64;

/// A directory that is being archived.
#[derive(Debug)]
struct Level {
    dir: OwnedFd,
    /// Its name in the archive, with a slash at the end; empty at the top.
    prefix: Vec<u8>,
    names: std::vec::IntoIter<CString>,
}

/// A file whose content is being archived.
#[derive(Debug)]
struct Content {
    file: OwnedFd,
    /// Bytes still to come.
    left: u64,
    /// Zeros after them.
    padding: usize,
}

/// Sends an archive.
#[derive(Debug)]
pub struct TarOut {
    path: String,
    levels: Vec<Level>,
    content: Option<Content>,
    /// Headers that are made but not sent.
    pending: Vec<u8>,
    ended: bool,
}

impl TarOut {
    /// Begins an archive of what is at a path.
    ///
    /// # Errors
    /// [`Refusal`], also for what is neither a file nor a directory.
    pub fn new(root: &Root, path: &str) -> Result<Self, Refusal> {
        let mut tar = Self {
            path: path.to_owned(),
            levels: Vec::new(),
            content: None,
            pending: Vec::new(),
            ended: false,
        };
        match root.open_dir(path) {
            Ok(dir) => tar.enter(dir, Vec::new()).map_err(|errno| Refusal::file(path, errno))?,
            Err(refusal) => {
                if refusal.code == GuestErrorCode::FileNotFound {
                    return Err(refusal);
                }
                let (file, stat) = root.open_regular(path)?;
                let name = path.rsplit('/').next().unwrap_or(path).as_bytes().to_vec();
                tar.begin_file(&name, file, &stat);
            }
        }
        Ok(tar)
    }

    fn enter(&mut self, dir: OwnedFd, prefix: Vec<u8>) -> Result<(), Errno> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort_unstable();
        self.levels.push(Level { dir, prefix, names: names.into_iter() });
        Ok(())
    }

    fn header(&mut self, name: &[u8], kind: EntryType, stat: &Stat, link: Option<&[u8]>) {
        for (long, bytes) in [(EntryType::GNULongName, Some(name)), (EntryType::GNULongLink, link)] {
            if let Some(bytes) = bytes.filter(|bytes| bytes.len() > 100) {
                let mut header = Header::new_gnu();
                header.set_entry_type(long);
                header.set_size(bytes.len() as u64 + 1);
                header.set_mode(0o644);
                header.set_uid(0);
                header.set_gid(0);
                header.set_mtime(0);
                put_name(&mut header.as_old_mut().name, b"././@LongLink");
                header.set_cksum();
                self.pending.extend_from_slice(header.as_bytes());
                self.pending.extend_from_slice(bytes);
                self.pending.resize(self.pending.len() + BLOCK - bytes.len() % BLOCK, 0);
            }
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        let size = if kind == EntryType::Regular { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        header.set_size(size);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(u64::from(stat.st_uid));
        header.set_gid(u64::from(stat.st_gid));
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        put_name(&mut header.as_old_mut().name, name);
        if let Some(link) = link {
            put_name(&mut header.as_old_mut().linkname, link);
        }
        header.set_cksum();
        self.pending.extend_from_slice(header.as_bytes());
    }

    fn begin_file(&mut self, name: &[u8], file: OwnedFd, stat: &Stat) {
        self.header(name, EntryType::Regular, stat, None);
        let left = u64::try_from(stat.st_size).unwrap_or(0);
        let over = usize::try_from(left % BLOCK as u64).unwrap_or(0);
        self.content = Some(Content { file, left, padding: (BLOCK - over) % BLOCK });
    }

    /// Begins the next entry; false when there is none.
    fn next_entry(&mut self) -> Result<bool, Errno> {
        let depth = self.levels.len();
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        let Some(name) = level.names.next() else {
            self.levels.pop();
            return Ok(true);
        };
        let path = [&level.prefix[..], name.to_bytes()].concat();
        let dir = level.dir.as_fd();
        let stat = match rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed since its name was read.
            Err(Errno::NOENT) => return Ok(true),
            Err(errno) => return Err(errno),
        };
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if depth >= MAX_DEPTH => return Err(Errno::NAMETOOLONG),
            FileType::Directory => {
                let dir = rustix::fs::openat(dir, &name, flags | OFlags::DIRECTORY, Mode::empty())?;
                let prefix = [&path[..], b"/"].concat();
                let other = rustix::fs::fstat(level_dir(&self.levels)?)?.st_dev != stat.st_dev;
                self.header(&prefix, EntryType::Directory, &stat, None);
                if !(other && is_of_the_kernel(&dir)?) {
                    self.enter(dir, prefix)?;
                }
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, &name, Vec::new())?;
                self.header(&path, EntryType::Symlink, &stat, Some(target.as_bytes()));
            }
            FileType::RegularFile => {
                let file = rustix::fs::openat(dir, &name, flags, Mode::empty())?;
                // What was opened may be another file than what was looked at.
                let stat = rustix::fs::fstat(&file)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                    self.begin_file(&path, file, &stat);
                }
            }
            // FIFOs, sockets and devices have no content to carry.
            _ => {}
        }
        Ok(true)
    }

    /// Appends content to `buffer` up to `room` bytes in all.
    fn read_content(&mut self, room: usize, buffer: &mut Vec<u8>) -> Result<(), Errno> {
        let Some(content) = &mut self.content else { return Ok(()) };
        let free = room - buffer.len();
        if content.left > 0 {
            let start = buffer.len();
            let length = free.min(usize::try_from(content.left).unwrap_or(usize::MAX));
            buffer.resize(start + length, 0);
            let count = match rustix::io::read(&content.file, &mut buffer[start..]) {
                Err(Errno::INTR) => return Ok(()),
                other => other?,
            };
            // A file that has shrunk is filled up with zeros: its size is already told.
            let count = if count == 0 { length } else { count };
            buffer.truncate(start + count);
            content.left -= count as u64;
        } else {
            let length = free.min(content.padding);
            buffer.resize(buffer.len() + length, 0);
            content.padding -= length;
            if content.padding == 0 {
                self.content = None;
            }
        }
        Ok(())
    }
}

fn level_dir(levels: &[Level]) -> Result<&OwnedFd, Errno> {
    levels.last().map(|level| &level.dir).ok_or(Errno::NOENT)
}

/// A file system that shows the kernel's state: its files are nothing to carry elsewhere.
fn is_of_the_kernel(dir: &OwnedFd) -> Result<bool, Errno> {
    const PROC: i64 = 0x9fa0;
    const SYSFS: i64 = 0x6265_6572;
    const DEVPTS: i64 = 0x1cd1;
    const CGROUP: i64 = 0x0027_e0eb;
    const CGROUP2: i64 = 0x6367_7270;
    let kind = rustix::fs::fstatfs(dir)?.f_type;
    Ok([PROC, SYSFS, DEVPTS, CGROUP, CGROUP2].contains(&kind))
}

fn put_name(field: &mut [u8; 100], name: &[u8]) {
    let length = name.len().min(field.len());
    field.fill(0);
    field[..length].copy_from_slice(&name[..length]);
}

impl Download for TarOut {
    fn step(&mut self, room: usize, buffer: &mut Vec<u8>) -> Result<Piece, Refusal> {
        if self.ended && self.pending.is_empty() {
            return Ok(Piece::EndOfContent(Reply::Done));
        }
        let mut entries = 0;
        while buffer.len() < room {
            if !self.pending.is_empty() {
                let length = self.pending.len().min(room - buffer.len());
                buffer.extend(self.pending.drain(..length));
            } else if self.content.is_some() {
                self.read_content(room, buffer).map_err(|errno| Refusal::file(&self.path, errno))?;
            } else if self.ended || entries == PIECE {
                break;
            } else {
                entries += 1;
                let more = self.next_entry().map_err(|errno| Refusal::file(&self.path, errno))?;
                if !more {
                    self.ended = true;
                    self.pending.resize(2 * BLOCK, 0);
                }
            }
        }
        if room > 0 && buffer.is_empty() { Ok(Piece::Nothing) } else { Ok(Piece::Data) }
    }
}
