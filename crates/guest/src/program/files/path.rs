//! Opens paths of the sandbox, confined to its root, never waiting for a FIFO or a device.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::message::GuestErrorCode;
use crate::program::refusal::Refusal;

/// Any mount or rename on the machine makes the kernel ask for a retry of a path with `..` in it.
const MAX_RETRIES: u32 = 1000;
/// The most that a path may have, in bytes.
pub const MAX_PATH: usize = 4095;

/// The root of the sandbox's files.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
}

/// Opens one path below a directory, with a retry when a rename races with `..`.
fn open_below(dir: BorrowedFd<'_>, path: &CStr, how: (OFlags, Mode, ResolveFlags)) -> Result<OwnedFd, Errno> {
    let (flags, mode, resolve) = how;
    // With PATH nothing is opened, and the kernel takes few other flags.
    let terminal = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NOCTTY };
    let flags = flags | OFlags::CLOEXEC | terminal;
    for _ in 0..MAX_RETRIES {
        match rustix::fs::openat2(dir, path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::BUSY)
}

/// Checks a path's form and makes it a C string.
///
/// # Errors
/// [`Refusal`] when it is not absolute, too long or has a NUL byte.
pub fn checked(path: &str) -> Result<CString, Refusal> {
    if !path.starts_with('/') {
        return Err(Refusal::invalid(format!("path {path:?}: not absolute")));
    }
    if path.len() > MAX_PATH {
        return Err(Refusal::invalid(format!("path of {} bytes; at most {MAX_PATH}", path.len())));
    }
    CString::new(path).map_err(|_| Refusal::invalid(format!("path {path:?}: has a NUL byte")))
}

impl Root {
    /// The root directory of this process.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open() -> std::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { dir: rustix::fs::open("/", flags, Mode::empty())? })
    }

    /// Opens a path. Links are followed inside the root, `..` stops at it.
    ///
    /// # Errors
    /// [`Refusal`] with the path and the kernel's answer.
    pub fn open_path(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Refusal> {
        let name = checked(path)?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        open_below(self.dir.as_fd(), &name, (flags, Mode::empty(), resolve))
            .map_err(|errno| Refusal::file(path, errno))
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// As for [`Root::open_path`].
    pub fn open_dir(&self, path: &str) -> Result<OwnedFd, Refusal> {
        self.open_path(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens a regular file to read.
    ///
    /// # Errors
    /// [`Refusal`], also for everything that is no regular file.
    pub fn open_regular(&self, path: &str) -> Result<(OwnedFd, Stat), Refusal> {
        // Look before opening: opening some devices does something.
        let seen = self.open_path(path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&seen).map_err(|errno| Refusal::file(path, errno))?;
        require_regular(path, &stat)?;
        let file = self.open_path(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let stat = rustix::fs::fstat(&file).map_err(|errno| Refusal::file(path, errno))?;
        require_regular(path, &stat)?;
        require_not_ours(path, &file)?;
        Ok((file, stat))
    }

    /// Opens the directory that holds a path, and returns the path's last name.
    ///
    /// # Errors
    /// [`Refusal`], also for a path without a last name, such as `/` or `/a/..`.
    pub fn open_parent(&self, path: &str) -> Result<(OwnedFd, CString), Refusal> {
        checked(path)?;
        let (parent, name) = split(path)?;
        let dir = self.open_path(parent, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok((dir, name))
    }

    /// Reads a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Refusal`], also when it is longer.
    pub fn read_whole(&self, path: &str, limit: usize) -> Result<Vec<u8>, Refusal> {
        let (file, stat) = self.open_regular(path)?;
        let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).min(limit) + 1);
        loop {
            if bytes.len() == bytes.capacity() {
                bytes.reserve(64 << 10);
            }
            match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
                Ok(0) => return Ok(bytes),
                Ok(_) if bytes.len() > limit => {
                    let message = format!("{path}: longer than {limit} bytes");
                    return Err(Refusal::new(GuestErrorCode::TooLarge, message));
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Refusal::file(path, errno)),
            }
        }
    }
}

/// Refuses what `/proc` shows of this process: what no exec may read of the guest (its memory, its environment) is not
/// to be had by asking the guest for it.
fn require_not_ours(path: &str, file: &OwnedFd) -> Result<(), Refusal> {
    let system = rustix::fs::fstatfs(file).map_err(|errno| Refusal::file(path, errno))?;
    if system.f_type != rustix::fs::PROC_SUPER_MAGIC {
        return Ok(());
    }
    let real = rustix::fs::readlink(format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new())
        .map_err(|errno| Refusal::file(path, errno))?;
    let ours = format!("/proc/{}/", rustix::process::getpid());
    if real.as_bytes().starts_with(ours.as_bytes()) {
        return Err(Refusal::new(GuestErrorCode::FileRefused, format!("{path}: belongs to the guest")));
    }
    Ok(())
}

/// Parent and last name of an absolute path.
fn split(path: &str) -> Result<(&str, CString), Refusal> {
    let trimmed = path.trim_end_matches('/');
    let (parent, name) = trimmed
        .rsplit_once('/')
        .filter(|(_, name)| !name.is_empty() && *name != "." && *name != "..")
        .ok_or_else(|| Refusal::invalid(format!("path {path:?}: names no entry of a directory")))?;
    let parent = if parent.is_empty() { "/" } else { parent };
    let name = CString::new(name).map_err(|_| Refusal::invalid(format!("path {path:?}: has a NUL byte")))?;
    Ok((parent, name))
}

/// Refuses everything that is no regular file.
///
/// # Errors
/// [`Refusal`] that says what it is.
pub fn require_regular(path: &str, stat: &Stat) -> Result<(), Refusal> {
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "is a directory",
        FileType::Fifo => "is a FIFO, not a regular file",
        FileType::Socket => "is a socket, not a regular file",
        FileType::CharacterDevice | FileType::BlockDevice => "is a device, not a regular file",
        FileType::Symlink | FileType::Unknown => "is not a regular file",
    };
    Err(Refusal::new(GuestErrorCode::FileRefused, format!("{path}: {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_into_parent_and_name() {
        let parts = |path| split(path).map(|(parent, name)| (parent.to_owned(), name.into_string().unwrap()));
        assert_eq!(parts("/a/b"), Ok(("/a".into(), "b".into())));
        assert_eq!(parts("/a"), Ok(("/".into(), "a".into())));
        assert_eq!(parts("/a/b//"), Ok(("/a".into(), "b".into())));
        for path in ["/", "//", "/a/..", "/a/."] {
            assert!(parts(path).is_err(), "{path}");
        }
    }

    #[test]
    fn the_form_of_a_path_is_checked() {
        assert!(checked("a").is_err());
        assert!(checked("/a\0b").is_err());
        assert!(checked(&"/x".repeat(3000)).is_err());
    }

    #[test]
    fn the_guests_own_entries_in_proc_are_refused_and_others_are_not() {
        let root = Root::open().unwrap();
        for path in
            ["/proc/self/environ", "/proc/thread-self/mem", &format!("/proc/{}/maps", std::process::id())]
        {
            assert_eq!(root.open_regular(path).unwrap_err().code, GuestErrorCode::FileRefused, "{path}");
        }
        root.open_regular("/proc/meminfo").unwrap();
        root.open_regular("/proc/sys/kernel/ostype").unwrap();
    }

    #[test]
    fn devices_are_refused_and_dots_stop_at_the_root() {
        let root = Root::open().unwrap();
        assert_eq!(root.open_regular("/dev/null").unwrap_err().code, GuestErrorCode::FileRefused);
        root.open_regular("/../../../../etc/passwd").unwrap();
        assert_eq!(root.open_regular("/no/such").unwrap_err().code, GuestErrorCode::FileNotFound);
    }
}
