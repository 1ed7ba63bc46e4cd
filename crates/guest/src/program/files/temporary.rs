//! A file that takes its place only when it is whole.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A temporary file beside the file that it will become; removed unless it is put in place.
#[derive(Debug)]
pub struct Temporary {
    dir: OwnedFd,
    name: CString,
    file: OwnedFd,
    placed: bool,
}

/// What a placed file is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// User and group; whoever the guest is, when `None`.
    pub owner: Option<(u32, u32)>,
}

impl Attributes {
    /// Those of a file that is replaced, or of a fresh one.
    #[must_use]
    pub fn like(replaced: Option<&Stat>) -> Self {
        match replaced {
            Some(stat) => Self { mode: stat.st_mode & 0o7777, owner: Some((stat.st_uid, stat.st_gid)) },
            None => Self { mode: 0o644, owner: None },
        }
    }
}

impl Temporary {
    /// A fresh one in this directory.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(dir: OwnedFd) -> Result<Self, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..100 {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = CString::new(format!(".hothouse-{number}.part")).map_err(|_| Errno::INVAL)?;
            match rustix::fs::openat(&dir, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => return Ok(Self { dir, name, file, placed: false }),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EXIST)
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// The kernel's, e.g. that the disk is full.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.file, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Gives it its owner and permissions, and puts it in place of `target`, which may exist.
    ///
    /// # Errors
    /// The kernel's; the temporary file is gone then, and `target` as it was.
    pub fn place(mut self, target: &CStr, attributes: Attributes) -> Result<(), Errno> {
        if let Some((uid, gid)) = attributes.owner {
            rustix::fs::fchown(&self.file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(attributes.mode & 0o7777))?;
        rustix::fs::renameat(&self.dir, &self.name, &self.dir, target)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.placed {
            // Whoever can remove it before the guest does may: it is in their directory.
            let _removed = rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty());
        }
    }
}
