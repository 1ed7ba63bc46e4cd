//! Removes a name with all below it, following no link, whatever its permissions say.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Levels that are kept open; what is deeper is moved up to the first: an archive chooses how deep it goes, and a process
/// has only so many descriptors.
const MAX_LEVELS: usize = 64;

/// One directory that is being emptied.
struct Level {
    /// Its name in the one above.
    name: CString,
    entries: Dir,
}

/// Removes a name of a directory; nothing there is no error.
pub(super) fn remove_all(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut levels = vec![enter(parent, name)?];
    let mut moved = 0;
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.entries.next().transpose()? else {
            let level = levels.pop().expect("it was there a moment ago");
            let above = levels.last().map(|above| above.entries.fd()).transpose()?;
            let above = above.unwrap_or(parent);
            match rustix::fs::unlinkat(above, &level.name, AtFlags::REMOVEDIR) {
                Ok(()) => {}
                // Something was moved there meanwhile.
                Err(Errno::NOTEMPTY | Errno::EXIST) if moved > 0 => {
                    let again = enter(above, &level.name)?;
                    levels.push(again);
                }
                Err(errno) => return Err(errno.into()),
            }
            continue;
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let dir = level.entries.fd()?;
        if entry.file_type() != FileType::Directory {
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let inner = enter(dir, name)?;
        if levels.len() < MAX_LEVELS {
            levels.push(inner);
            continue;
        }
        moved += 1;
        let from = levels[MAX_LEVELS - 1].entries.fd()?;
        rustix::fs::renameat(from, name, levels[0].entries.fd()?, format!(".removed-{moved}"))?;
    }
    Ok(())
}

fn enter(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<Level> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(parent, name, flags, Mode::empty());
    let opened = match open() {
        Err(Errno::ACCESS) => {
            // The image said so, and an ordinary user has to obey; what is removed is ours.
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            open()
        }
        other => other,
    };
    let fd = opened?;
    if rustix::fs::fstat(&fd)?.st_mode & 0o700 != 0o700 {
        rustix::fs::fchmod(&fd, Mode::RWXU)?;
    }
    Ok(Level { name: name.to_owned(), entries: Dir::new(fd)? })
}

/// [`remove_all`] of a path.
pub(super) fn remove_path(path: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match rustix::fs::open(parent, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    remove_all(parent.as_fd(), &CString::new(name.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn all_goes_that_is_below_and_nothing_that_is_linked() {
        let base = tempfile::tempdir().unwrap();
        let (tree, kept) = (base.path().join("tree"), base.path().join("kept"));
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        symlink(&kept, tree.join("a/link")).unwrap();
        fs::write(tree.join("a/file"), "x").unwrap();
        fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o500)).unwrap();
        remove_path(&tree).unwrap();
        assert!(!tree.exists());
        assert!(kept.join("file").exists());
        remove_path(&tree).unwrap();
    }

    #[test]
    fn a_deep_tree_goes() {
        let base = tempfile::tempdir().unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut dir = rustix::fs::open(base.path(), flags, Mode::empty()).unwrap();
        for _ in 0..600 {
            rustix::fs::mkdirat(&dir, "d", Mode::RWXU).unwrap();
            dir = rustix::fs::openat(&dir, "d", flags, Mode::empty()).unwrap();
        }
        remove_path(&base.path().join("d")).unwrap();
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }
}
