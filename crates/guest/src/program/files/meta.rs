//! What paths are, and changes to names.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::path::{Root, checked};
use crate::message::{FileKind, FileStat, GuestErrorCode};
use crate::program::refusal::Refusal;

/// Describes a file.
#[must_use]
pub fn describe(path: Vec<u8>, stat: &Stat, target: Option<Vec<u8>>) -> FileStat {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    };
    let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    FileStat {
        path,
        kind,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime_ns: stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(nanos),
        target,
    }
}

/// Describes an entry of a directory, without following it.
///
/// # Errors
/// The kernel's, e.g. that it is gone.
pub fn describe_entry(dir: impl AsFd, name: &CStr, path: Vec<u8>) -> Result<FileStat, Errno> {
    let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let target = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => Some(rustix::fs::readlinkat(&dir, name, Vec::new())?.into_bytes()),
        _ => None,
    };
    Ok(describe(path, &stat, target))
}

impl Root {
    /// What is at a path.
    ///
    /// # Errors
    /// [`Refusal`] with the path.
    pub fn stat(&self, path: &str, follow: bool) -> Result<FileStat, Refusal> {
        let no_follow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let file = self.open_path(path, OFlags::PATH | no_follow)?;
        let stat = rustix::fs::fstat(&file).map_err(|errno| Refusal::file(path, errno))?;
        let target = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&file, c"", Vec::new());
                Some(target.map_err(|errno| Refusal::file(path, errno))?.into_bytes())
            }
            _ => None,
        };
        Ok(describe(path.as_bytes().to_vec(), &stat, target))
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// [`Refusal`], also when it exists.
    pub fn make_dir(&self, path: &str, mode: u32) -> Result<(), Refusal> {
        let (parent, name) = self.open_parent(path)?;
        let mode = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::mkdirat(&parent, &name, mode).map_err(|errno| Refusal::file(path, errno))?;
        // The umask took bits away.
        let made = rustix::fs::openat(&parent, &name, OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
        made.and_then(|made| rustix::fs::fchmod(&made, mode)).map_err(|errno| Refusal::file(path, errno))
    }

    /// Makes a directory and its missing parents; one that exists is fine.
    ///
    /// # Errors
    /// [`Refusal`], also when something else is in the way.
    pub fn make_dirs(&self, path: &str, mode: u32) -> Result<(), Refusal> {
        checked(path)?;
        if self.open_path(path, OFlags::PATH | OFlags::DIRECTORY).is_ok() {
            return Ok(());
        }
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends.filter(|end| *end > 0) {
            let prefix = &path[..end];
            match self.open_path(prefix, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(_) => {}
                Err(refusal) if refusal.code == GuestErrorCode::FileNotFound => {
                    self.make_dir(prefix, if end == path.len() { mode } else { 0o755 })?;
                }
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(())
    }

    /// Makes the missing directories above a path.
    ///
    /// # Errors
    /// As for [`Root::make_dirs`].
    pub fn make_parents(&self, path: &str) -> Result<(), Refusal> {
        match path.trim_end_matches('/').rsplit_once('/') {
            Some((parent, _)) if !parent.is_empty() => self.make_dirs(parent, 0o755),
            _ => Ok(()),
        }
    }

    /// Removes a file, a link or an empty directory.
    ///
    /// # Errors
    /// [`Refusal`] with the path.
    pub fn remove(&self, path: &str) -> Result<(), Refusal> {
        let (parent, name) = self.open_parent(path)?;
        match rustix::fs::unlinkat(&parent, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR),
            other => other,
        }
        .map_err(|errno| Refusal::file(path, errno))
    }

    /// Renames within the sandbox.
    ///
    /// # Errors
    /// [`Refusal`] with both paths.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), Refusal> {
        let (from_dir, from_name) = self.open_parent(from)?;
        let (to_dir, to_name) = self.open_parent(to)?;
        rustix::fs::renameat(&from_dir, &from_name, &to_dir, &to_name)
            .map_err(|errno| Refusal::file(&format!("{from} to {to}"), errno))
    }
}
