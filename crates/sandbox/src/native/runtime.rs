//! Where the directories of live sandboxes are: in memory, where the machine has a place for that.
//!
//! ```text
//! $HOTHOUSE_HOME/sandboxes ─► /run/hothouse-<uid>-<random>/sandboxes     (a symbolic link)
//!                             /run/hothouse-<uid>-<random>/home          (whose it is)
//! ```
//!
//! They need to outlive the server, never the machine: no sandbox does. On a disk's file system three fresh inodes for each
//! sandbox cost as much as all of its mounts, for it looks for ones that were not freed a moment ago.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::statfs;

use super::process;
use super::state::StateDirectory;
use crate::snapshot::FORKS;

/// `TMPFS_MAGIC` of `linux/magic.h`.
const TMPFS: i64 = 0x0102_1994;
/// A place that belongs to no home and is younger than this may be in the making.
const YOUNG: Duration = Duration::from_mins(1);
/// A place with less room than this is somebody else's idea of enough.
const ROOM: u64 = 256 << 20;
const PREFIX: &str = "hothouse-";
const NAME: &str = "sandboxes";
const OWNER: &str = "home";

/// The directory that holds one for each sandbox of this home. Call it with the home's lock held.
pub(super) fn open(home: &Path) -> io::Result<PathBuf> {
    let home = &fs::canonicalize(home)?;
    let link = home.join(NAME);
    match fs::symlink_metadata(&link) {
        Ok(meta) if meta.is_symlink() => {
            let target = fs::read_link(&link)?;
            if let Some(place) = target.parent()
                && is_private(place)
                && is_private(&target)
            {
                // The home may have been moved since. Not written where it is right: a full disk would take it away.
                let owner = place.join(OWNER);
                if fs::read(&owner).ok().as_deref() != Some(home.as_os_str().as_bytes()) {
                    fs::write(owner, home.as_os_str().as_bytes())?;
                }
                return Ok(target);
            }
            // The machine was started anew, or somebody else made what it leads to.
            fs::remove_file(&link)?;
        }
        // A directory on disk that is in use stays.
        Ok(_) if fs::remove_dir(&link).is_err() => return Ok(link),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let memory = if is_memory(home) { None } else { places().into_iter().find(|place| is_memory(place)) };
    if let Some(memory) = memory {
        sweep(&memory);
        // Where this fails, the disk does as well, only slower.
        if let Ok(target) = make(&memory, home, &link) {
            return Ok(target);
        }
    }
    DirBuilder::new().mode(0o700).create(&link)?;
    Ok(link)
}

/// Removes a directory that `open` gave, if it is empty.
pub(super) fn close(home: &Path, target: &Path) {
    let link = home.join(NAME);
    if target != link && discard(target) && leads(home, target) {
        // A link that stays is replaced by the next node of this home.
        drop(fs::remove_file(link));
    }
}

/// Removes a place in memory if no sandbox is in it; what stays of it is swept by the next node of this user.
fn discard(target: &Path) -> bool {
    // It stays where something is in it, and so does what it is in.
    drop(fs::remove_dir(target.join(FORKS)));
    match fs::remove_dir(target) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return false,
        Ok(()) | Err(_) => {}
    }
    if let Some(place) = target.parent() {
        drop(fs::remove_file(place.join(OWNER)));
        drop(fs::remove_dir(place));
    }
    true
}

/// True if this home's sandboxes are in `target`.
fn leads(home: &Path, target: &Path) -> bool {
    fs::read_link(home.join(NAME)).is_ok_and(|link| link == target)
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn places() -> Vec<PathBuf> {
    let own = match user() {
        0 => Some(PathBuf::from("/run")),
        _ => std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
    };
    own.into_iter().chain([PathBuf::from("/dev/shm")]).collect()
}

fn is_memory(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| {
        let block = u64::try_from(fs.f_bsize).unwrap_or(0);
        fs.f_type == TMPFS && fs.f_bavail.saturating_mul(block) >= ROOM
    })
}

/// True for a directory of ours that nobody else may look into.
fn is_private(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == user() && meta.mode() & 0o077 == 0)
}

fn is_young(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|meta| meta.modified()).map(|time| time.elapsed());
    // A time in the future tells nothing.
    age.is_ok_and(|age| age.is_ok_and(|age| age < YOUNG))
}

fn make(memory: &Path, home: &Path, link: &Path) -> io::Result<PathBuf> {
    let name = format!("{PREFIX}{}-{}", user(), uuid::Uuid::new_v4().simple());
    let (place, private) = (memory.join(name), || {
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder
    });
    private().create(&place)?;
    let target = place.join(NAME);
    let made = private()
        .create(&target)
        .and_then(|()| fs::write(place.join(OWNER), home.as_os_str().as_bytes()))
        .and_then(|()| symlink(&target, link));
    if let Err(e) = made {
        discard(&target);
        return Err(e);
    }
    Ok(target)
}

/// Removes what homes left that are gone: a server's that was killed and whose home was deleted then.
fn sweep(memory: &Path) {
    let own = format!("{PREFIX}{}-", user());
    // Nothing here is worth failing for; what stays is tried again by the next node.
    let Ok(entries) = fs::read_dir(memory) else { return };
    for entry in entries.flatten() {
        let place = entry.path();
        if !entry.file_name().as_bytes().starts_with(own.as_bytes()) || !is_private(&place) {
            continue;
        }
        let target = place.join(NAME);
        // Without this file it was left half made or half removed.
        let owner = fs::read(place.join(OWNER)).ok();
        let used = owner.is_some_and(|home| leads(Path::new(OsStr::from_bytes(&home)), &target));
        if used || is_young(&place) {
            continue;
        }
        let directory = StateDirectory::at(target.clone());
        for id in directory.ids().unwrap_or_default() {
            let alive = directory
                .load(&id)
                .is_ok_and(|state| process::is_alive(state.body.pid, state.body.start_time).unwrap_or(true));
            if !alive {
                drop(directory.remove(&id));
            }
        }
        // Nobody is left who is made of them.
        if directory.ids().is_ok_and(|ids| ids.is_empty()) {
            drop(fs::remove_dir_all(target.join(FORKS)));
        }
        discard(&target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    /// What `open` does where the memory is that of the test.
    fn opened(memory: &Path, home: &Path) -> PathBuf {
        make(memory, home, &home.join(NAME)).unwrap()
    }

    #[test]
    fn a_home_finds_its_directory_again() {
        let (memory, home) = (temporary(), temporary());
        let target = opened(memory.path(), home.path());
        fs::create_dir(target.join("sb-1")).unwrap();
        assert_eq!(open(home.path()).unwrap(), target);
        assert!(home.path().join("sandboxes/sb-1").is_dir());
        close(home.path(), &target);
        assert!(target.is_dir(), "what is in use stays");
        fs::remove_dir(target.join("sb-1")).unwrap();
        close(home.path(), &target);
        assert_eq!(fs::read_dir(memory.path()).unwrap().count(), 0);
        assert!(fs::symlink_metadata(home.path().join(NAME)).is_err());
    }

    #[test]
    fn a_lost_or_foreign_directory_is_replaced() {
        let (memory, home) = (temporary(), temporary());
        let lost = memory.path().join("hothouse-lost/sandboxes");
        symlink(&lost, home.path().join(NAME)).unwrap();
        let target = open(home.path()).unwrap();
        assert_ne!(target, lost);
        assert!(is_private(&target));
        close(home.path(), &target);

        fs::create_dir_all(&lost).unwrap();
        fs::set_permissions(&lost, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        symlink(&lost, home.path().join(NAME)).unwrap();
        let target = open(home.path()).unwrap();
        assert_ne!(target, lost, "others may look into that one");
        close(home.path(), &target);
    }

    #[test]
    fn a_directory_on_disk_stays_while_it_is_in_use() {
        let home = temporary();
        let disk = home.path().join(NAME);
        fs::create_dir_all(disk.join("sb-1")).unwrap();
        assert_eq!(open(home.path()).unwrap(), disk);
    }

    #[test]
    fn what_a_deleted_home_left_is_swept_and_what_others_use_is_not() {
        let (memory, gone, used) = (temporary(), temporary(), temporary());
        let left = opened(memory.path(), gone.path());
        fs::create_dir(left.join("sb-dead")).unwrap();
        let half_made = memory.path().join(format!("{PREFIX}{}-half", user()));
        DirBuilder::new().mode(0o700).create(&half_made).unwrap();
        let kept = opened(memory.path(), used.path());
        drop(gone);
        sweep(memory.path());
        assert!(left.exists() && half_made.exists(), "these may be in the making");

        for place in [left.parent().unwrap(), &half_made, kept.parent().unwrap()] {
            fs::File::open(place).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }
        sweep(memory.path());
        assert!(!left.exists() && !half_made.exists());
        assert!(kept.is_dir());
    }
}
