//! Writes the entries of a layer's archive into a directory, and never anywhere else.
//!
//! Every parent is opened with the layer's directory as its root, so that a link in the archive leads nowhere but
//! inside, as it does for Docker; the last name is never followed, and files are made afresh. What an overlay
//! understands is what is written: whiteouts become character devices 0:0, opaque directories get an attribute.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{CString, OsStr};
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::budget::Budget;
use super::error::Fault;
use super::remove::remove_all;
use super::tar_reader::{Entry, Kind, TarReader};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What aufs kept beside the files; nothing of it is content.
const AUFS: &[u8] = b".wh..wh.";
/// What the overlays of sandboxes read.
pub(super) const OPAQUE_ATTRIBUTE: &str = "user.overlay.opaque";

/// Whose the files on disk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    /// The image's own users: sandboxes see them through a map.
    Image,
    /// Ours: an ordinary user may give files to nobody else.
    Ours,
}

/// What becomes of whiteouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whiteouts {
    /// They are kept, in the way of overlays.
    Keep,
    /// They are carried out: several layers become one.
    Apply,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) entries: u64,
    /// Bytes on disk, in whole pages.
    pub(super) bytes: u64,
    pub(super) left_out: u64,
    /// The layer hides all that is below it.
    pub(super) opaque: bool,
}

/// What a directory gets when all is in it.
#[derive(Debug, Clone, Copy)]
struct Finish {
    mode: u32,
    mtime: Option<(i64, u32)>,
}

/// A directory that a layer is written into.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    root: OwnedFd,
    owners: Owners,
    whiteouts: Whiteouts,
    budget: &'a Budget,
    /// The directory that the last entry went to: most entries have neighbours.
    cached: Option<(Vec<u8>, OwnedFd)>,
    directories: BTreeMap<Vec<u8>, Finish>,
    /// What this layer has made, where that matters: its own whiteouts do not hide it.
    made: HashSet<Vec<u8>>,
    written: Written,
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(200).collect()
}

fn refused(path: &[u8], why: &str) -> Fault {
    Fault::invalid(format!("entry {:?}: {why}", shown(path)))
}

fn failed(path: &[u8], errno: Errno) -> Fault {
    match errno {
        Errno::LOOP => refused(path, "a chain of symbolic links is in the way"),
        Errno::XDEV => refused(path, "a symbolic link leads out of the image"),
        _ => Fault::io(format_args!("entry {:?}", shown(path)), &errno.into()),
    }
}

fn c_string(name: &[u8]) -> CString {
    // The reader refuses names with NUL bytes.
    CString::new(name).unwrap_or_default()
}

/// The components of a path without `.` and empty ones; refuses those that would lead elsewhere.
fn clean(path: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut clean = Vec::with_capacity(path.len());
    for component in path.split(|byte| *byte == b'/').filter(|c| !c.is_empty() && *c != b".") {
        if component == b".." {
            return Err(refused(path, "the name leads out of the image"));
        }
        if component.len() > 255 {
            return Err(refused(path, "a name is longer than 255 bytes"));
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(component);
    }
    Ok(clean)
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(4096) * 4096
}

/// Opens a path with the tree's directory as its root; any rename on the machine may make the kernel ask for a retry.
fn open_in(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(path) };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..1000 {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::BUSY)
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: OwnedFd, owners: Owners, whiteouts: Whiteouts, budget: &'a Budget) -> Self {
        let directories = [(Vec::new(), Finish { mode: 0o755, mtime: None })].into();
        let (cached, made, written) = (None, HashSet::new(), Written::default());
        Self { root, owners, whiteouts, budget, cached, directories, made, written }
    }

    /// Writes all entries of an archive.
    pub(super) fn extend<R: BufRead>(&mut self, archive: &mut TarReader<R>) -> Result<(), Fault> {
        self.made.clear();
        while let Some(entry) = archive.next()? {
            self.budget.entry()?;
            self.entry(&entry, archive)?;
        }
        Ok(())
    }

    fn entry<R: BufRead>(&mut self, entry: &Entry, archive: &mut TarReader<R>) -> Result<(), Fault> {
        let path = clean(&entry.path)?;
        if path.is_empty() {
            return match entry.kind {
                Kind::Directory => self.directory(&path, entry),
                _ => Err(refused(&entry.path, "stands in place of the root")),
            };
        }
        let (parent, last) = split(&path);
        if last == OPAQUE {
            return self.opaque(parent);
        }
        // Also what lies in aufs' own directories.
        if path.split(|byte| *byte == b'/').any(|name| name.starts_with(AUFS)) {
            return Ok(());
        }
        if let Some(hidden) = last.strip_prefix(WHITEOUT) {
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(refused(&entry.path, "hides nothing"));
            }
            return self.whiteout(parent, hidden);
        }
        self.written.entries += 1;
        match &entry.kind {
            Kind::Directory => self.directory(&path, entry)?,
            Kind::File => self.file(&path, entry, None, archive)?,
            Kind::Sparse { pieces, size } => self.file(&path, entry, Some((pieces, *size)), archive)?,
            Kind::Symlink(target) => self.symlink(&path, entry, target)?,
            Kind::HardLink(target) => self.hard_link(&path, &entry.path, target)?,
            Kind::Fifo => self.fifo(&path, entry)?,
            // Sandboxes have devices of their own, and could use no others.
            Kind::Device => self.written.left_out += 1,
        }
        if self.whiteouts == Whiteouts::Apply {
            self.note_made(path)?;
        }
        Ok(())
    }

    fn note_made(&mut self, path: Vec<u8>) -> Result<(), Fault> {
        let mut parent = split(&path).0;
        while !parent.is_empty() && !self.made.contains(parent) {
            self.budget.path(parent)?;
            self.made.insert(parent.to_vec());
            parent = split(parent).0;
        }
        if !path.is_empty() && !self.made.contains(&path) {
            self.budget.path(&path)?;
            self.made.insert(path);
        }
        Ok(())
    }

    /// The directory that an entry goes into, made when absent.
    fn parent(&mut self, path: &[u8]) -> Result<OwnedFd, Fault> {
        if let Some((cached, dir)) = &self.cached
            && cached == path
        {
            return dir.try_clone().map_err(|e| Fault::io(shown(path), &e));
        }
        let dir = self.open_or_make(path)?;
        let clone = dir.try_clone().map_err(|e| Fault::io(shown(path), &e))?;
        self.cached = Some((path.to_vec(), clone));
        Ok(dir)
    }

    fn open_or_make(&mut self, path: &[u8]) -> Result<OwnedFd, Fault> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let failed = |errno| failed(path, errno);
        match open_in(self.root.as_fd(), path, flags) {
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            other => return other.map_err(failed),
        }
        let mut end = 0;
        let mut dir = open_in(self.root.as_fd(), b"", flags).map_err(failed)?;
        while end < path.len() {
            let start = if end == 0 { 0 } else { end + 1 };
            end = path[start..].iter().position(|byte| *byte == b'/').map_or(path.len(), |at| start + at);
            let so_far = &path[..end];
            dir = match open_in(self.root.as_fd(), so_far, flags) {
                Ok(next) => next,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    // One name may imply two thousand of them, so they count as if they were listed.
                    self.budget.entry()?;
                    let name = c_string(&path[start..end]);
                    self.make_directory(dir.as_fd(), &name).map_err(failed)?;
                    self.remember(so_far, Finish { mode: 0o755, mtime: None })?;
                    open_in(self.root.as_fd(), so_far, flags).map_err(failed)?
                }
                Err(errno) => return Err(failed(errno)),
            };
        }
        Ok(dir)
    }

    /// Makes a directory in place of whatever is not one. Over a whiteout it hides what is below.
    fn make_directory(&mut self, dir: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(0o700);
        match rustix::fs::mkdirat(dir, name, mode) {
            Err(Errno::EXIST) => {}
            other => return other.inspect(|()| self.written.bytes += 4096),
        }
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(());
        }
        let hides = is_whiteout(&stat);
        rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        rustix::fs::mkdirat(dir, name, mode)?;
        self.written.bytes += 4096;
        if hides { set_opaque(dir, name) } else { Ok(()) }
    }

    fn directory(&mut self, path: &[u8], entry: &Entry) -> Result<(), Fault> {
        let failed = |errno| failed(path, errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = if path.is_empty() {
            open_in(self.root.as_fd(), path, flags).map_err(failed)?
        } else {
            let (parent, last) = split(path);
            let (dir, name) = (self.parent(parent)?, c_string(last));
            self.make_directory(dir.as_fd(), &name).map_err(failed)?;
            rustix::fs::openat(&dir, &name, flags, Mode::empty()).map_err(failed)?
        };
        self.own(&made, entry).map_err(failed)?;
        self.attributes(&made, entry)?;
        self.remember(path, Finish { mode: entry.mode, mtime: Some(entry.mtime) })
    }

    /// What a directory gets in the end.
    fn remember(&mut self, path: &[u8], finish: Finish) -> Result<(), Fault> {
        if let Some(known) = self.directories.get_mut(path) {
            *known = finish;
            return Ok(());
        }
        self.budget.path(path)?;
        self.directories.insert(path.to_vec(), finish);
        Ok(())
    }

    fn own(&self, fd: &OwnedFd, entry: &Entry) -> Result<(), Errno> {
        match self.owners {
            Owners::Image if entry.uid == 0 && entry.gid == 0 => Ok(()),
            Owners::Image => rustix::fs::fchown(
                fd,
                Some(Uid::from_raw(entry.uid.min(u32::MAX - 1))),
                Some(Gid::from_raw(entry.gid.min(u32::MAX - 1))),
            ),
            Owners::Ours => Ok(()),
        }
    }

    /// Extended attributes that mean something in a sandbox; those that an overlay would read are not the image's to set.
    fn attributes(&mut self, fd: &OwnedFd, entry: &Entry) -> Result<(), Fault> {
        for (name, value) in &entry.xattrs {
            let text = std::str::from_utf8(name).unwrap_or_default();
            let wanted = text.starts_with("user.") && !text.starts_with("user.overlay.");
            if !wanted && (text != "security.capability" || self.owners == Owners::Ours) {
                self.written.left_out += 1;
                continue;
            }
            match rustix::fs::fsetxattr(fd, text, value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::NOTSUP | Errno::PERM | Errno::INVAL) => self.written.left_out += 1,
                Err(errno) => return Err(failed(&entry.path, errno)),
            }
        }
        Ok(())
    }

    /// Runs `make`, and again once what stands in its place is gone.
    fn in_place_of<T>(
        &mut self,
        dir: &OwnedFd,
        name: &CString,
        path: &[u8],
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Fault> {
        match make() {
            Err(Errno::EXIST) => {
                self.clear(dir, name, path)?;
                make()
            }
            other => other,
        }
        .map_err(|errno| failed(path, errno))
    }

    fn clear(&mut self, dir: &OwnedFd, name: &CString, path: &[u8]) -> Result<(), Fault> {
        // It may be below what goes.
        self.cached = None;
        remove_all(dir.as_fd(), name).map_err(|e| Fault::io(format_args!("entry {:?}", shown(path)), &e))
    }

    fn file<R: BufRead>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        sparse: Option<(&Vec<(u64, u64)>, u64)>,
        archive: &mut TarReader<R>,
    ) -> Result<(), Fault> {
        let (parent, last) = split(path);
        let (dir, name) = (self.parent(parent)?, c_string(last));
        self.budget.bytes(sparse.map_or(entry.stored, |(_, size)| size))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || rustix::fs::openat(&dir, &name, flags, Mode::from_raw_mode(0o600));
        let file = self.in_place_of(&dir, &name, path, make)?;
        let failed = |errno| failed(path, errno);
        match sparse {
            None => copy(archive, &file, entry.stored).map_err(|e| e.within(shown(path)))?,
            Some((pieces, size)) => {
                rustix::fs::ftruncate(&file, size).map_err(failed)?;
                for (offset, length) in pieces {
                    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(*offset)).map_err(failed)?;
                    copy(archive, &file, *length).map_err(|e| e.within(shown(path)))?;
                }
            }
        }
        self.written.bytes += pages(entry.stored);
        self.own(&file, entry).map_err(failed)?;
        // After the owner: a change of owner takes set-user-id bits off, and attributes too.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode)).map_err(failed)?;
        if !entry.xattrs.is_empty() {
            self.attributes(&file, entry)?;
        }
        rustix::fs::futimens(&file, &times(entry.mtime)).map_err(failed)
    }

    fn symlink(&mut self, path: &[u8], entry: &Entry, target: &[u8]) -> Result<(), Fault> {
        if target.is_empty() {
            return Err(refused(path, "links to nothing"));
        }
        let (parent, last) = split(path);
        let (dir, name, target) = (self.parent(parent)?, c_string(last), c_string(target));
        self.in_place_of(&dir, &name, path, || rustix::fs::symlinkat(&target, &dir, &name))?;
        self.finish_node(&dir, &name, path, entry)?;
        self.written.left_out += entry.xattrs.len() as u64;
        Ok(())
    }

    fn fifo(&mut self, path: &[u8], entry: &Entry) -> Result<(), Fault> {
        let (parent, last) = split(path);
        let (dir, name) = (self.parent(parent)?, c_string(last));
        let mode = Mode::from_raw_mode(entry.mode);
        let make = || rustix::fs::mknodat(&dir, &name, FileType::Fifo, mode, 0);
        self.in_place_of(&dir, &name, path, make)?;
        self.finish_node(&dir, &name, path, entry)?;
        rustix::fs::chmodat(&dir, &name, mode, AtFlags::empty()).map_err(|errno| failed(path, errno))
    }

    /// Owner and time of what has no content.
    fn finish_node(&self, dir: &OwnedFd, name: &CString, path: &[u8], entry: &Entry) -> Result<(), Fault> {
        if self.owners == Owners::Image {
            let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
            rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| failed(path, errno))?;
        }
        rustix::fs::utimensat(dir, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed(path, errno))
    }

    fn hard_link(&mut self, path: &[u8], whole: &[u8], target: &[u8]) -> Result<(), Fault> {
        let target = clean(target)?;
        if target == path {
            return Ok(());
        }
        let (from_parent, from_last) = split(&target);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let missing =
            || refused(whole, &format!("links to {:?}, which its layer does not have", shown(&target)));
        let from = open_in(self.root.as_fd(), from_parent, flags).map_err(|_| missing())?;
        let from_name = c_string(from_last);
        let stat = rustix::fs::statat(&from, &from_name, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| missing())?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory || is_whiteout(&stat) {
            return Err(refused(whole, "is a hard link to what is no file"));
        }
        let (parent, last) = split(path);
        let (dir, name) = (self.parent(parent)?, c_string(last));
        self.in_place_of(&dir, &name, path, || {
            rustix::fs::linkat(&from, &from_name, &dir, &name, AtFlags::empty())
        })
    }

    /// Hides a name of the layers below.
    fn whiteout(&mut self, parent: &[u8], hidden: &[u8]) -> Result<(), Fault> {
        let whole = [parent, b"/", hidden].concat();
        if self.whiteouts == Whiteouts::Apply {
            let path = if parent.is_empty() { hidden.to_vec() } else { whole };
            if self.made.contains(&path) {
                return self.hide_older(&path);
            }
            let dir = self.parent(parent)?;
            self.note_made(parent.to_vec())?;
            return self.clear(&dir, &c_string(hidden), &path);
        }
        let (dir, name) = (self.parent(parent)?, c_string(hidden));
        match rustix::fs::mknodat(&dir, &name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                // What this layer has itself stays, and a directory of it hides the one below.
                let stat = rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|errno| failed(&whole, errno))?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    set_opaque(dir.as_fd(), &name).map_err(|errno| cannot_hide(&whole, errno))?;
                }
                Ok(())
            }
            Err(errno) => Err(cannot_hide(&whole, errno)),
        }
    }

    /// Hides all that the layers below have in a directory.
    fn opaque(&mut self, path: &[u8]) -> Result<(), Fault> {
        if self.whiteouts == Whiteouts::Apply {
            self.parent(path)?;
            self.note_made(path.to_vec())?;
            return self.hide_older(path);
        }
        if path.is_empty() {
            // An overlay takes no notice of such an attribute on a layer's own root.
            self.written.opaque = true;
            return Ok(());
        }
        let dir = self.parent(path)?;
        set_opaque(dir.as_fd(), &c_string(b".")).map_err(|errno| cannot_hide(path, errno))
    }

    /// Removes what older layers have put into a directory.
    fn hide_older(&mut self, path: &[u8]) -> Result<(), Fault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        // Where no older layer has it, nothing has to be hidden.
        let Ok(dir) = open_in(self.root.as_fd(), path, flags) else { return Ok(()) };
        let names: Vec<CString> = rustix::fs::Dir::read_from(&dir)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name().to_owned())).collect())
            .map_err(|errno: Errno| failed(path, errno))?;
        for name in names {
            if matches!(name.as_bytes(), b"." | b"..") {
                continue;
            }
            let mut whole = path.to_vec();
            if !whole.is_empty() {
                whole.push(b'/');
            }
            whole.extend_from_slice(name.as_bytes());
            if !self.made.contains(&whole) {
                self.clear(&dir, &name, &whole)?;
            } else if self.directories.contains_key(&whole) {
                self.hide_older(&whole)?;
            }
        }
        Ok(())
    }

    /// Gives the directories what they get when all is in them, the deepest first.
    pub(super) fn finish(mut self) -> Result<Written, Fault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for (path, finish) in std::mem::take(&mut self.directories).into_iter().rev() {
            // One that a later entry has replaced is finished as what it is now.
            let Ok(dir) = open_in(self.root.as_fd(), &path, flags) else { continue };
            let failed = |errno| failed(&path, errno);
            if let Some(mtime) = finish.mtime {
                rustix::fs::futimens(&dir, &times(mtime)).map_err(failed)?;
            }
            // Its root is only moved about by who may write to it, and what a sandbox sees is another one.
            let ours = if path.is_empty() { 0o700 } else { 0 };
            rustix::fs::fchmod(&dir, Mode::from_raw_mode(finish.mode | ours)).map_err(failed)?;
        }
        Ok(self.written)
    }
}

fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn set_opaque(dir: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    rustix::fs::fsetxattr(&made, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty())
}

fn cannot_hide(path: &[u8], errno: Errno) -> Fault {
    let fault = failed(path, errno);
    match errno {
        Errno::NOTSUP | Errno::PERM => Fault {
            reason: format!(
                "{}: the file system of the store takes no whiteouts or user attributes; use another home",
                fault.reason
            ),
            ..fault
        },
        _ => fault,
    }
}

/// So much of an entry's content into a file.
fn copy<R: BufRead>(archive: &mut TarReader<R>, file: &OwnedFd, mut left: u64) -> Result<(), Fault> {
    while left > 0 {
        let piece = archive.content()?;
        if piece.is_empty() {
            return Err(Fault::invalid("its content is cut off"));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        let count = match rustix::io::write(file, &piece[..most]) {
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Fault::io("writing", &errno.into())),
        };
        archive.consume(count);
        left -= count as u64;
    }
    Ok(())
}
