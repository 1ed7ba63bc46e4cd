//! Unpacks a tar archive as it comes.
//!
//! Nothing leaves the target directory: names with `..` or a leading slash are refused, parents are opened without
//! following any link, and files are made afresh, never written through what is there. Devices and FIFOs are refused,
//! set-user-id bits taken off, everything belongs to root. What was unpacked before a refusal stays.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;
use tar::{EntryType, Header};

use super::job::Upload;
use super::path::Root;
use crate::message::{GuestErrorCode, Reply};
use crate::program::refusal::{Refusal, reason};

const BLOCK: usize = 512;
/// The longest name, link target or extended header, in bytes.
const MAX_META: u64 = 64 << 10;
/// The names that the reply carries.
const MAX_NAMES: usize = 1000;

/// What the bytes that come next are.
#[derive(Debug)]
enum State {
    /// A header; so much of it is there.
    Header(Vec<u8>),
    /// A long name, link target or extended header.
    Meta { kind: EntryType, bytes: Vec<u8>, left: u64 },
    /// A file's content.
    Content { file: OwnedFd, name: String, left: u64, mtime: u64 },
    /// Zeros up to the next block.
    Padding(u64),
    /// Whatever follows the end.
    Ended,
}

/// What extended headers say of the next entry.
#[derive(Debug, Default)]
struct Overrides {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

/// An archive that is being unpacked.
#[derive(Debug)]
pub struct TarIn {
    path: String,
    dir: OwnedFd,
    /// The directory that the last entry went to: most entries have neighbours.
    cached: Option<(String, OwnedFd)>,
    state: State,
    overrides: Overrides,
    max_entries: u64,
    max_bytes: u64,
    entries: u64,
    announced: u64,
    names: Vec<String>,
    written: u64,
}

fn beneath(dir: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

impl TarIn {
    /// Begins to unpack into a directory, which is made when absent.
    ///
    /// # Errors
    /// [`Refusal`] with the path.
    pub fn new(root: &Root, path: &str, max_entries: u64, max_bytes: u64) -> Result<Self, Refusal> {
        root.make_dirs(path, 0o755)?;
        Ok(Self {
            path: path.to_owned(),
            dir: root.open_dir(path)?,
            cached: None,
            state: State::Header(Vec::with_capacity(BLOCK)),
            overrides: Overrides::default(),
            max_entries,
            max_bytes,
            entries: 0,
            announced: 0,
            names: Vec::new(),
            written: 0,
        })
    }

    fn refused(&self, name: &str, why: &str) -> Refusal {
        Refusal::new(GuestErrorCode::FileRefused, format!("{}: entry {name:?}: {why}", self.path))
    }

    fn failed(&self, name: &str, errno: Errno) -> Refusal {
        let code = Refusal::file(name, errno).code;
        let why = match errno {
            Errno::LOOP => "a symbolic link is in the way".to_owned(),
            _ => reason(&errno.into()),
        };
        // An entry that the archive itself lacks is no missing file of the caller's.
        let code = if code == GuestErrorCode::FileNotFound { GuestErrorCode::FileRefused } else { code };
        Refusal::new(code, format!("{}: entry {name:?}: {why}", self.path))
    }

    fn invalid(&self, why: &str) -> Refusal {
        Refusal::invalid(format!("{}: archive: {why}", self.path))
    }

    /// The directory of an entry, made when absent, and the entry's last name.
    fn parent(&mut self, name: &str) -> Result<(OwnedFd, CString), Refusal> {
        let (parent, last) = name.rsplit_once('/').unwrap_or(("", name));
        let last = CString::new(last).map_err(|_| self.refused(name, "has a NUL byte"))?;
        if let Some((cached, dir)) = &self.cached
            && cached == parent
        {
            return Ok((dir.try_clone().map_err(|_| self.failed(name, Errno::MFILE))?, last));
        }
        let dir = self.open_or_make(parent).map_err(|errno| self.failed(name, errno))?;
        let clone = dir.try_clone().map_err(|_| self.failed(name, Errno::MFILE))?;
        self.cached = Some((parent.to_owned(), clone));
        Ok((dir, last))
    }

    fn open_or_make(&self, parent: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        if parent.is_empty() {
            return beneath(&self.dir, ".", flags);
        }
        match beneath(&self.dir, parent, flags) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let mut dir = beneath(&self.dir, ".", flags)?;
        for component in parent.split('/') {
            match rustix::fs::mkdirat(&dir, component, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            dir = beneath(&dir, component, flags)?;
        }
        Ok(dir)
    }

    fn on_header(&mut self, block: &[u8]) -> Result<State, Refusal> {
        if block.iter().all(|b| *b == 0) {
            return Ok(State::Ended);
        }
        if block.starts_with(&[0x1f, 0x8b]) && self.entries == 0 {
            return Err(self.invalid("is compressed; send a plain tar"));
        }
        let header = Header::from_byte_slice(block);
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum::<u32>()
            - block[148..156].iter().map(|b| u32::from(*b)).sum::<u32>()
            + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(self.invalid("is no tar archive, or is damaged"));
        }
        let size = header.entry_size().map_err(|_| self.invalid("an entry's size is broken"))?;
        let kind = header.entry_type();
        match kind {
            EntryType::GNULongName
            | EntryType::GNULongLink
            | EntryType::XHeader
            | EntryType::XGlobalHeader => {
                if size > MAX_META {
                    let message = format!("{}: archive: a name or header of {size} bytes", self.path);
                    return Err(Refusal::new(GuestErrorCode::TooLarge, message));
                }
                return Ok(State::Meta { kind, bytes: Vec::new(), left: size });
            }
            _ => {}
        }
        let overrides = std::mem::take(&mut self.overrides);
        let name = overrides.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let name = self.clean(&name)?;
        let link = overrides.link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let size = overrides.size.unwrap_or(size);
        self.entries += 1;
        if self.entries > self.max_entries {
            let message = format!("{}: archive: more than {} entries", self.path, self.max_entries);
            return Err(Refusal::new(GuestErrorCode::TooLarge, message));
        }
        let mode = header.mode().unwrap_or(0o644) & 0o777;
        let mtime = header.mtime().unwrap_or(0);
        if name.is_empty() {
            // The directory itself.
            return Ok(skip(size));
        }
        let state = match kind {
            EntryType::Directory => {
                self.directory(&name, mode)?;
                skip(size)
            }
            EntryType::Regular | EntryType::Continuous => {
                self.announced = self.announced.saturating_add(size);
                if self.announced > self.max_bytes {
                    let message = format!("{}: archive: more than {} bytes", self.path, self.max_bytes);
                    return Err(Refusal::new(GuestErrorCode::TooLarge, message));
                }
                let file = self.file(&name, mode)?;
                State::Content { file, name: name.clone(), left: size, mtime }
            }
            EntryType::Symlink => {
                self.symlink(&name, &link.unwrap_or_default())?;
                skip(size)
            }
            EntryType::Link => {
                let target = self.clean(&link.unwrap_or_default())?;
                self.hard_link(&name, &target)?;
                skip(size)
            }
            EntryType::Char | EntryType::Block => return Err(self.refused(&name, "is a device")),
            EntryType::Fifo => return Err(self.refused(&name, "is a FIFO")),
            _ => return Err(self.refused(&name, "is of a kind that is not supported")),
        };
        if self.names.len() < MAX_NAMES {
            self.names.push(name);
        }
        Ok(state)
    }

    /// A name without `.` and empty components; refuses those that would lead elsewhere.
    fn clean(&self, name: &[u8]) -> Result<String, Refusal> {
        let text = String::from_utf8_lossy(name).into_owned();
        let Ok(exact) = std::str::from_utf8(name) else {
            return Err(self.refused(&text, "the name is not UTF-8"));
        };
        if exact.starts_with('/') {
            return Err(self.refused(exact, "the name is absolute"));
        }
        let mut clean = String::with_capacity(exact.len());
        for component in exact.split('/').filter(|c| !c.is_empty() && *c != ".") {
            if component == ".." {
                return Err(self.refused(exact, "the name leads out of the directory"));
            }
            if !clean.is_empty() {
                clean.push('/');
            }
            clean.push_str(component);
        }
        Ok(clean)
    }

    fn directory(&mut self, name: &str, mode: u32) -> Result<(), Refusal> {
        let (dir, last) = self.parent(name)?;
        match rustix::fs::mkdirat(&dir, &last, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.failed(name, errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&dir, &last, flags, Mode::empty())
            .and_then(|made| rustix::fs::fchmod(&made, Mode::from_raw_mode(mode)))
            .map_err(|errno| self.failed(name, errno))
    }

    /// Takes away what an entry replaces; a directory stays, and the entry then fails.
    fn clear(&self, dir: &OwnedFd, last: &CStr, name: &str) -> Result<(), Refusal> {
        match rustix::fs::unlinkat(dir, last, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed(name, errno)),
        }
    }

    fn file(&mut self, name: &str, mode: u32) -> Result<OwnedFd, Refusal> {
        let (dir, last) = self.parent(name)?;
        self.clear(&dir, &last, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        let file = rustix::fs::openat(&dir, &last, flags, mode).map_err(|errno| self.failed(name, errno))?;
        rustix::fs::fchmod(&file, mode).map_err(|errno| self.failed(name, errno))?;
        Ok(file)
    }

    fn symlink(&mut self, name: &str, target: &[u8]) -> Result<(), Refusal> {
        let target = CString::new(target).map_err(|_| self.refused(name, "has a NUL byte"))?;
        let (dir, last) = self.parent(name)?;
        self.clear(&dir, &last, name)?;
        rustix::fs::symlinkat(&target, &dir, &last).map_err(|errno| self.failed(name, errno))
    }

    fn hard_link(&mut self, name: &str, target: &str) -> Result<(), Refusal> {
        let (from_parent, from_last) = target.rsplit_once('/').unwrap_or((".", target));
        let from = beneath(&self.dir, from_parent, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|errno| self.failed(name, errno))?;
        let stat = rustix::fs::statat(&from, from_last, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|_| self.refused(name, "links to what is not in the directory"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.refused(name, "links to what is no regular file"));
        }
        let (dir, last) = self.parent(name)?;
        if name == target {
            return Ok(());
        }
        self.clear(&dir, &last, name)?;
        rustix::fs::linkat(&from, from_last, &dir, &last, AtFlags::empty())
            .map_err(|errno| self.failed(name, errno))
    }

    fn on_meta(&mut self, kind: EntryType, mut bytes: Vec<u8>) {
        match kind {
            EntryType::GNULongName | EntryType::GNULongLink => {
                if let Some(end) = bytes.iter().position(|b| *b == 0) {
                    bytes.truncate(end);
                }
                let field = if kind == EntryType::GNULongName {
                    &mut self.overrides.name
                } else {
                    &mut self.overrides.link
                };
                *field = Some(bytes);
            }
            EntryType::XHeader => {
                for (key, value) in records(&bytes) {
                    match key {
                        b"path" => self.overrides.name = Some(value.to_vec()),
                        b"linkpath" => self.overrides.link = Some(value.to_vec()),
                        b"size" => {
                            let text = std::str::from_utf8(value).ok();
                            self.overrides.size = text.and_then(|text| text.parse().ok());
                        }
                        _ => {}
                    }
                }
            }
            // Global headers carry comments.
            _ => {}
        }
    }
}

/// The records of a pax header: `LENGTH KEY=VALUE\n` each.
fn records(mut bytes: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut found = Vec::new();
    while let Some(space) = bytes.iter().position(|b| *b == b' ') {
        let length = std::str::from_utf8(&bytes[..space]).ok().and_then(|text| text.parse::<usize>().ok());
        let Some(length) = length.filter(|length| *length > space + 1 && *length <= bytes.len()) else {
            break;
        };
        let record = &bytes[space + 1..length];
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        if let Some(equals) = record.iter().position(|b| *b == b'=') {
            found.push((&record[..equals], &record[equals + 1..]));
        }
        bytes = &bytes[length..];
    }
    found
}

fn skip(size: u64) -> State {
    match size.div_ceil(BLOCK as u64) * BLOCK as u64 {
        0 => State::Header(Vec::with_capacity(BLOCK)),
        padded => State::Padding(padded),
    }
}

/// Takes at most `left` bytes off the front of `bytes`.
fn split<'a>(bytes: &mut &'a [u8], left: u64) -> &'a [u8] {
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

impl TarIn {
    /// Goes on from one state with the next bytes.
    fn advance(&mut self, state: State, bytes: &mut &[u8]) -> Result<State, Refusal> {
        Ok(match state {
            State::Header(mut block) => {
                block.extend_from_slice(split(bytes, (BLOCK - block.len()) as u64));
                if block.len() < BLOCK { State::Header(block) } else { self.on_header(&block)? }
            }
            State::Meta { kind, bytes: mut meta, mut left } => {
                let taken = split(bytes, left);
                meta.extend_from_slice(taken);
                left -= taken.len() as u64;
                if left > 0 {
                    State::Meta { kind, bytes: meta, left }
                } else {
                    let size = meta.len() as u64;
                    self.on_meta(kind, meta);
                    rest_of_block(size)
                }
            }
            State::Content { file, name, mut left, mtime } => {
                let mut taken = split(bytes, left);
                left -= taken.len() as u64;
                self.written += taken.len() as u64;
                while !taken.is_empty() {
                    match rustix::io::write(&file, taken) {
                        Ok(count) => taken = &taken[count..],
                        Err(Errno::INTR) => {}
                        Err(errno) => return Err(self.failed(&name, errno)),
                    }
                }
                if left > 0 {
                    State::Content { file, name, left, mtime }
                } else {
                    let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
                    let times = Timestamps { last_access: time, last_modification: time };
                    rustix::fs::futimens(&file, &times).map_err(|errno| self.failed(&name, errno))?;
                    let size = rustix::fs::fstat(&file).map_err(|errno| self.failed(&name, errno))?.st_size;
                    rest_of_block(u64::try_from(size).unwrap_or(0))
                }
            }
            State::Padding(mut left) => {
                left -= split(bytes, left).len() as u64;
                if left > 0 { State::Padding(left) } else { State::Header(Vec::with_capacity(BLOCK)) }
            }
            State::Ended => {
                *bytes = &[];
                State::Ended
            }
        })
    }
}

/// What follows so many bytes of content.
fn rest_of_block(size: u64) -> State {
    match (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64 {
        0 => State::Header(Vec::with_capacity(BLOCK)),
        left => State::Padding(left),
    }
}

impl Upload for TarIn {
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Refusal> {
        loop {
            let state = std::mem::replace(&mut self.state, State::Ended);
            self.state = self.advance(state, &mut bytes)?;
            // An empty file or header needs no bytes to be over.
            let over = matches!(&self.state, State::Content { left: 0, .. } | State::Meta { left: 0, .. });
            if bytes.is_empty() && !over {
                return Ok(());
            }
        }
    }

    fn finish(self: Box<Self>) -> Result<Reply, Refusal> {
        match &self.state {
            State::Ended => {}
            State::Header(block) if block.is_empty() => {}
            _ => return Err(self.invalid("is cut off")),
        }
        Ok(Reply::Changed { paths: self.names, count: self.entries, bytes: self.written })
    }
}
