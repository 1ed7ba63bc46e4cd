//! Removes a directory with all that is in it, in pieces.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::job::{Download, Piece};
use super::path::Root;
use crate::message::Reply;
use crate::program::refusal::{Refusal, reason};

/// Entries removed in one piece of work.
const PIECE: usize = 256;
/// Directories open at once; deeper ones are moved up first.
const MAX_DEPTH: usize = 64;

/// A directory that is being emptied.
#[derive(Debug)]
struct Level {
    dir: OwnedFd,
    /// Its name in the level above.
    name: CString,
}

/// Removes a tree.
#[derive(Debug)]
pub struct Remove {
    path: String,
    parent: OwnedFd,
    levels: Vec<Level>,
    /// Numbers directories that are moved up.
    moved: u64,
}

fn open_dir(dir: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve)
}

impl Remove {
    /// Begins to remove what is at a path.
    ///
    /// # Errors
    /// [`Refusal`] with the path.
    pub fn new(root: &Root, path: &str) -> Result<Self, Refusal> {
        let (parent, name) = root.open_parent(path)?;
        let mut remove = Self { path: path.to_owned(), parent, levels: Vec::new(), moved: 0 };
        let parent = remove.parent.try_clone().map_err(|error| Refusal::file(path, error))?;
        remove.remove_entry(&parent, &name).map_err(|errno| remove.refusal(errno))?;
        Ok(remove)
    }

    fn refusal(&self, errno: Errno) -> Refusal {
        let path = &self.path;
        match errno {
            Errno::XDEV => {
                let code = crate::message::GuestErrorCode::FileRefused;
                Refusal::new(code, format!("{path}: another file system is mounted in it"))
            }
            Errno::NOENT => Refusal::file(path, errno),
            _ => {
                let why = reason(&errno.into());
                Refusal::new(Refusal::file(path, errno).code, format!("{path}: something in it: {why}"))
            }
        }
    }

    /// Removes an entry, or makes it the next level when it is a directory with something in it.
    fn remove_entry(&mut self, dir: impl AsFd, name: &CStr) -> Result<(), Errno> {
        match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            other => return other,
        }
        match rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            other => return other,
        }
        if self.levels.len() >= MAX_DEPTH {
            // Moved up to the top, where it is found as any other entry.
            let up = CString::new(format!(".hothouse-removed-{}", self.moved)).map_err(|_| Errno::INVAL)?;
            self.moved += 1;
            return rustix::fs::renameat(&dir, name, &self.levels[0].dir, &up);
        }
        let level = Level { dir: open_dir(&dir, name)?, name: name.to_owned() };
        self.levels.push(level);
        Ok(())
    }

    fn remove_some(&mut self) -> Result<(), Errno> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let depth = self.levels.len();
        let dir = level.dir.try_clone().map_err(|_| Errno::MFILE)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
            if names.len() >= PIECE {
                break;
            }
        }
        if names.is_empty() {
            let Some(level) = self.levels.pop() else { return Ok(()) };
            let above = self.levels.last().map_or(self.parent.as_fd(), |above| above.dir.as_fd());
            return match rustix::fs::unlinkat(above, &level.name, AtFlags::REMOVEDIR) {
                // Somebody wrote to it or removed it meanwhile; the former is found again from above.
                Err(Errno::NOENT) => Ok(()),
                other => other,
            };
        }
        for name in names {
            match self.remove_entry(&dir, &name) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
            if self.levels.len() > depth {
                break;
            }
        }
        Ok(())
    }
}

impl Download for Remove {
    fn step(&mut self, _room: usize, _buffer: &mut Vec<u8>) -> Result<Piece, Refusal> {
        if self.levels.is_empty() {
            return Ok(Piece::Done(Reply::Done));
        }
        self.remove_some().map_err(|errno| self.refusal(errno))?;
        Ok(Piece::Nothing)
    }
}
