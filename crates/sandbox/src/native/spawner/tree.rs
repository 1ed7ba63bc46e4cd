//! Copies the upper layer of an overlay: what a sandbox has written, with what it has removed.
//!
//! What is read is a sandbox's own making. No name of it is ever joined to a path: each is opened in the directory that
//! it was read from, never through a link, and on the same file system.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
    XattrFlags, chmodat, chownat, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, futimens, linkat,
    mkdirat, mknodat, openat2, readlinkat, seek, sendfile, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::contents::Contents;
use super::root::{Step, at};

/// Directories below each other; each takes two descriptors while it is copied.
const MAX_DEPTH: usize = 512;
/// The longest value of an extended attribute.
const MAX_ATTRIBUTE: usize = 64 << 10;
/// By which an overlay knows a directory that hides those below it.
const OPAQUE: &CStr = c"user.overlay.opaque";
/// At most so much is copied by one call.
const CHUNK: usize = 1 << 30;

/// Whose the copies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    /// Those of the original, counted from this id on, as an image's layers have them.
    From(u32),
    /// Those of the original.
    Same,
    /// Ours: there is only one id.
    Ours,
}

/// How much was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

impl Copied {
    /// No bound.
    pub(super) const ALL: Self = Self { bytes: u64::MAX, entries: u64::MAX };

    fn is_within(self, most: Self) -> bool {
        self.bytes <= most.bytes && self.entries <= most.entries
    }
}

/// Copies one tree over another.
#[derive(Debug)]
pub(super) struct TreeCopy<'a> {
    root: BorrowedFd<'a>,
    owners: Owners,
    /// Where the first name of a file went that has several, by its inode.
    links: HashMap<u64, Vec<u8>>,
    copied: Copied,
    most: Copied,
    /// Room for the names of attributes.
    names: Vec<u8>,
    contents: Contents,
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn open(dir: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(dir, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

impl<'a> TreeCopy<'a> {
    /// Copies what is in the directory `from` into `to`, over what is there: as an overlay shows an upper layer over a
    /// lower one, so that the two are one layer then. `None` where that is more than `most`; a part of it is there then,
    /// over which it can be copied once more.
    pub(super) fn run(
        from: BorrowedFd<'_>,
        to: BorrowedFd<'a>,
        owners: Owners,
        most: Copied,
    ) -> Result<Option<Copied>, Step> {
        let (links, names, copied) = (HashMap::new(), Vec::new(), Copied::default());
        let contents = Contents::default();
        let mut copy = Self { root: to, owners, links, copied, most, names, contents };
        copy.directory(from, to, &mut Vec::new(), 0)?;
        copy.finish_files()?;
        copy.attributes(from, to).map_err(at("copying the attributes of the root"))?;
        copy.finish_directory(from, to).map_err(at("copying the times of the root"))?;
        Ok(copy.copied.is_within(most).then_some(copy.copied))
    }

    fn directory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Step> {
        let shown = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        if depth > MAX_DEPTH {
            let reason = io::Error::other(format!("is more than {MAX_DEPTH} directories deep"));
            return Err(at(format!("copying {}", shown(path)))(reason));
        }
        let entries = Dir::read_from(from).map_err(at(format!("reading {}", shown(path))))?;
        for entry in entries {
            let entry = entry.map_err(at(format!("reading {}", shown(path))))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if !self.copied.is_within(self.most) {
                // Nobody takes what is there by then.
                break;
            }
            let above = path.len();
            if above > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name.to_bytes());
            self.entry(from, to, name, path, depth)?;
            path.truncate(above);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Step> {
        let step = format!("copying {}", String::from_utf8_lossy(path));
        let stat = match statat(from, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed meanwhile, where nothing could be stopped.
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(at(step)(e)),
        };
        self.copied.entries += 1;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let held = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        let with_it = Copied { bytes: self.copied.bytes.saturating_add(held), ..self.copied };
        if kind == FileType::RegularFile && !with_it.is_within(self.most) {
            self.copied = with_it;
            return Ok(());
        }
        if kind == FileType::Directory {
            let from = open(from, name, DIRECTORY).map_err(at(step.clone()))?;
            let to = self.make_directory(from.as_fd(), to, name).map_err(at(step.clone()))?;
            self.directory(from.as_fd(), to.as_fd(), path, depth + 1)?;
            let done =
                self.own(to.as_fd(), &stat).and_then(|()| self.finish_directory(from.as_fd(), to.as_fd()));
            return done.map_err(at(step));
        }
        remove(to, name).map_err(at(step.clone()))?;
        if stat.st_nlink > 1 && !is_whiteout(&stat) {
            if let Some(first) = self.links.get(&stat.st_ino) {
                let linked = CString::new(first.clone())
                    .map_err(io::Error::from)
                    .and_then(|first| Ok(linkat(self.root, first.as_c_str(), to, name, AtFlags::empty())?));
                // A path that is too long for the kernel: a copy of its own has the same content.
                if linked.is_ok() {
                    return Ok(());
                }
            } else {
                self.links.insert(stat.st_ino, path.clone());
            }
        }
        match kind {
            FileType::RegularFile => return self.file(from, to, name, &stat, step),
            FileType::Symlink => self.link(from, to, name, &stat),
            FileType::CharacterDevice if stat.st_rdev == 0 => {
                mknodat(to, name, FileType::CharacterDevice, Mode::empty(), 0).map_err(io::Error::from)
            }
            FileType::Fifo => self.fifo(to, name, &stat),
            // A socket has no meaning without who listens, and no sandbox can make a device.
            FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
                Ok(())
            }
            FileType::Directory => Ok(()),
        }
        .map_err(at(step))
    }

    /// The directory of this name, made where there is none; what is in it goes where the upper one hides it.
    fn make_directory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
    ) -> io::Result<OwnedFd> {
        let there = statat(to, name, AtFlags::SYMLINK_NOFOLLOW);
        let is_directory =
            |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory && !is_opaque(from);
        let hides = match there {
            Ok(stat) if is_directory(&stat) => false,
            Ok(_) => {
                remove(to, name)?;
                mkdirat(to, name, Mode::RWXU)?;
                true
            }
            Err(Errno::NOENT) => {
                mkdirat(to, name, Mode::RWXU)?;
                false
            }
            Err(e) => return Err(e.into()),
        };
        let made = open(to, name, DIRECTORY)?;
        self.attributes(from, made.as_fd())?;
        if hides {
            // What it replaces has hidden a directory of the image, or may have.
            fsetxattr(&made, OPAQUE, b"y", XattrFlags::empty())?;
        }
        Ok(made)
    }

    fn file(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        step: String,
    ) -> Result<(), Step> {
        let opened = || -> io::Result<(OwnedFd, OwnedFd)> {
            let source = open(from, name, OFlags::RDONLY | OFlags::NONBLOCK)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok((source, rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?))
        };
        let (source, target) = opened().map_err(at(step.clone()))?;
        self.attributes(source.as_fd(), target.as_fd()).map_err(at(step.clone()))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if Contents::is_large(size) {
            let added = self.contents.add(source, target, *stat, step.clone());
            self.copied.bytes += added.map_err(at(step))?;
            return if self.contents.is_full() { self.finish_files() } else { Ok(()) };
        }
        self.copied.bytes += copy_content(&source, &target, size).map_err(at(step.clone()))?;
        self.finish_file(target.as_fd(), stat).map_err(at(step))
    }

    /// Copies the content of large files.
    fn finish_files(&mut self) -> Result<(), Step> {
        for file in self.contents.copy()? {
            self.finish_file(file.target.as_fd(), &file.stat).map_err(at(file.step))?;
        }
        Ok(())
    }

    /// After its content is written, which takes bits of these away.
    fn finish_file(&self, target: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
        self.own(target, stat)?;
        Ok(futimens(target, &times(stat))?)
    }

    fn link(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
        let target = readlinkat(from, name, Vec::new())?;
        symlinkat(&target, to, name)?;
        if let Some((uid, gid)) = self.ids(stat) {
            chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn fifo(&self, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
        mknodat(to, name, FileType::Fifo, Mode::from_raw_mode(stat.st_mode & 0o777), 0)?;
        if let Some((uid, gid)) = self.ids(stat) {
            chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        // It is ours and new, and nobody else can reach where it is.
        Ok(chmodat(to, name, Mode::from_raw_mode(stat.st_mode & 0o777), AtFlags::empty())?)
    }

    /// Owner and permissions, in this order: the first takes bits of the second away.
    fn own(&self, target: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
        if let Some((uid, gid)) = self.ids(stat) {
            fchown(target, Some(uid), Some(gid))?;
        }
        Ok(fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777))?)
    }

    fn ids(&self, stat: &Stat) -> Option<(Uid, Gid)> {
        /// `nobody`: what is not of the sandbox's range has no owner in it either.
        const NOBODY: u32 = 65_534;
        let counted = |id: u32, first: u32| match id.checked_sub(first) {
            Some(id) if id < super::stock::RANGE => id,
            Some(_) | None => NOBODY,
        };
        let (uid, gid) = match self.owners {
            Owners::From(first) => (counted(stat.st_uid, first), counted(stat.st_gid, first)),
            Owners::Same => (stat.st_uid, stat.st_gid),
            Owners::Ours => return None,
        };
        Some((Uid::from_raw(uid), Gid::from_raw(gid)))
    }

    fn finish_directory(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        let stat = rustix::fs::fstat(from)?;
        Ok(futimens(to, &times(&stat))?)
    }

    /// Extended attributes that users may set, and what the overlay needs of its own.
    fn attributes(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        self.names.resize(MAX_ATTRIBUTE, 0);
        let length = match flistxattr(from, &mut self.names[..]) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        for name in self.names[..length].split_inclusive(|&byte| byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
            if !is_kept(name.to_bytes()) {
                continue;
            }
            let mut value = vec![0; MAX_ATTRIBUTE];
            let length = fgetxattr(from, name, &mut value[..])?;
            fsetxattr(to, name, &value[..length], XattrFlags::empty())?;
        }
        Ok(())
    }
}

/// The rest of the overlay's own say where in the lower layers something came from, which is of no use elsewhere.
fn is_kept(name: &[u8]) -> bool {
    match name.strip_prefix(b"user.overlay.") {
        Some(own) => own == b"opaque" || own.starts_with(b"overlay."),
        None => name.starts_with(b"user."),
    }
}

fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    let mut value = [MaybeUninit::uninit(); 1];
    fgetxattr(directory, OPAQUE, &mut value).is_ok_and(|(value, _)| *value == [b'y'])
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or_default(),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Copies what is not a hole; gives how many bytes that were.
fn copy_content(source: &OwnedFd, target: &OwnedFd, size: u64) -> io::Result<u64> {
    let mut copied = 0;
    let mut position = 0;
    while position < size {
        let begin = match seek(source, SeekFrom::Data(position)) {
            Ok(begin) => begin,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let end = seek(source, SeekFrom::Hole(begin))?.min(size);
        seek(target, SeekFrom::Start(begin))?;
        let mut from = begin;
        while from < end {
            let most = usize::try_from(end - from).unwrap_or(CHUNK).min(CHUNK);
            let sent = sendfile(target, source, Some(&mut from), most)?;
            if sent == 0 {
                // It has become shorter meanwhile.
                break;
            }
            copied += sent as u64;
        }
        position = end.max(begin + 1);
    }
    rustix::fs::ftruncate(target, size)?;
    Ok(copied)
}

/// Removes what has this name, with all that is in it; nothing is no error.
fn remove(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(e) => return Err(e.into()),
    }
    let inner = open(dir, name, DIRECTORY)?;
    for entry in Dir::read_from(&inner)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            remove(inner.as_fd(), entry.file_name())?;
        }
    }
    Ok(unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}
