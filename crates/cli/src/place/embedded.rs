//! A node in this process, on a home of its own that goes with it.
//!
//! ```text
//! $HOTHOUSE_HOME/embedded/.lock             held while a directory is made or the leftovers are looked for
//! $HOTHOUSE_HOME/embedded/<pid>-<time>/     one process's home; images/ leads to the shared images
//! $HOTHOUSE_HOME/embedded/<pid>-<time>.lock held by that process as long as it lives
//! ```
//!
//! Whoever finds a lock that nobody holds knows that its process was killed, and removes what it left.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hothouse_domain::ErrorCode;
use hothouse_domain::capacity::Amounts;
use hothouse_fleet::Fleet;
use hothouse_sandbox::native::WhenOrphaned;
use hothouse_sandbox::node::AtShutdown;
use hothouse_sandbox::{Node, NodeOptions};

use crate::console;
use crate::failure::Failure;
use crate::flags::NodeFlags;

/// Ending many sandboxes takes a while; more than this means that something is stuck.
const CLOSE_LIMIT: Duration = Duration::from_secs(60);

/// Memory that servers leave to the machine.
const SPARE_MEMORY: u64 = 256 << 20;

/// A node in this process.
#[derive(Debug)]
pub(crate) struct Embedded {
    node: Node,
    home: OwnHome,
}

impl Embedded {
    /// Removes what killed processes left, and starts a node on a fresh home.
    pub(crate) async fn start(flags: &NodeFlags, max_sandboxes: usize) -> Result<Self, Failure> {
        Self::start_keeping(flags, max_sandboxes, 0).await
    }

    /// As [`Embedded::start`], and makes no sandbox that would leave the machine less free memory than this; below twice
    /// as much it takes memory back from idle ones.
    async fn start_keeping(flags: &NodeFlags, max_sandboxes: usize, memory: u64) -> Result<Self, Failure> {
        let base = flags.home()?.join("embedded");
        for leftover in OwnHome::leftovers(&base)? {
            sweep(flags, leftover).await;
        }
        let home = OwnHome::make(&base)?;
        // Nobody adopts what this process leaves behind.
        let options = flags.options(home.path.clone(), max_sandboxes, Amounts::new(), WhenOrphaned::End)?;
        let options =
            NodeOptions { min_free_memory: memory, reclaim_below: memory.saturating_mul(2), ..options };
        match Box::pin(Node::start(options)).await {
            Ok(node) => Ok(Self { node, home }),
            Err(error) => {
                home.remove();
                Err(Failure::from(error).hint("`hothouse doctor` shows what this machine lacks"))
            }
        }
    }

    /// The node.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Destroys its sandboxes and removes its home.
    pub(crate) async fn close(self) {
        if tokio::time::timeout(CLOSE_LIMIT, self.node.shutdown(AtShutdown::Destroy)).await.is_err() {
            console::note("hint: sandboxes were left over; the next `hothouse run` removes them");
            return;
        }
        self.home.remove();
    }
}

/// A fleet over a node of this process: for what serves sessions in sandboxes of its own.
#[derive(Debug)]
pub(crate) struct EmbeddedFleet {
    embedded: Embedded,
    fleet: Fleet,
}

impl EmbeddedFleet {
    /// Starts both on a fresh home. Close it in the end.
    pub(crate) async fn start(flags: &NodeFlags, max_sandboxes: usize) -> Result<Self, Failure> {
        let embedded = Embedded::start_keeping(flags, max_sandboxes, SPARE_MEMORY).await?;
        match Fleet::start(embedded.node.clone(), &embedded.home.path).await {
            Ok(fleet) => Ok(Self { embedded, fleet }),
            Err(error) => {
                embedded.close().await;
                Err(Failure::new(ErrorCode::Internal, error.to_string()))
            }
        }
    }

    /// The fleet.
    pub(crate) fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Destroys its sandboxes and removes its home.
    pub(crate) async fn close(self) {
        self.fleet.close().await;
        self.embedded.close().await;
    }
}

/// Ends the sandboxes of a process that was killed, and removes its home.
async fn sweep(flags: &NodeFlags, home: OwnHome) {
    let path = home.path.display().to_string();
    let options = match flags.options(home.path.clone(), usize::MAX, Amounts::new(), WhenOrphaned::End) {
        Ok(options) => options,
        Err(error) => return console::note(&format!("warning: leftovers in {path}: {error}")),
    };
    match Node::start(options).await {
        Ok(node) => {
            node.shutdown(AtShutdown::Destroy).await;
            home.remove();
        }
        // Left for the next try, which may have what this one lacks; the node to come says what that is.
        Err(error) => tracing::debug!(path, %error, "leftovers stay"),
    }
}

/// A home directory that this process alone uses.
#[derive(Debug)]
struct OwnHome {
    path: PathBuf,
    /// Held while this value lives.
    _lock: File,
}

impl OwnHome {
    /// Makes a fresh one.
    fn make(base: &Path) -> Result<Self, Failure> {
        let failed = |path: &Path, error: &io::Error| {
            Failure::io(format_args!("making {}", path.display()), error)
                .hint("pass a directory that you may write to: --home DIR or HOTHOUSE_HOME")
        };
        fs::create_dir_all(base).map_err(|e| failed(base, &e))?;
        let _all = lock_all(base)?;
        let now = jiff::Timestamp::now().as_nanosecond();
        let path = base.join(format!("{}-{now}", std::process::id()));
        let lock = File::create_new(lock_of(&path)).map_err(|e| failed(&path, &e))?;
        lock.lock().map_err(|e| failed(&path, &e))?;
        DirBuilder::new().mode(0o700).create(&path).map_err(|e| failed(&path, &e))?;
        let images = base.parent().unwrap_or(base).join("images");
        fs::create_dir_all(&images).map_err(|e| failed(&images, &e))?;
        symlink(&images, path.join("images")).map_err(|e| failed(&path, &e))?;
        Ok(Self { path, _lock: lock })
    }

    /// Those whose process is gone.
    fn leftovers(base: &Path) -> Result<Vec<Self>, Failure> {
        let entries = match fs::read_dir(base) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::io(format_args!("reading {}", base.display()), &error)),
        };
        let _all = lock_all(base)?;
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let at = entry.path();
            let Some(path) = at.to_str().and_then(|name| name.strip_suffix(".lock")).map(PathBuf::from)
            else {
                continue;
            };
            if path.file_name().is_none_or(std::ffi::OsStr::is_empty) {
                continue;
            }
            // One that vanished meanwhile was removed by its owner.
            let Ok(lock) = File::open(&at) else { continue };
            match lock.try_lock() {
                Ok(()) if path.exists() => found.push(Self { path, _lock: lock }),
                Ok(()) => _ = fs::remove_file(&at), // its owner was killed between its two removals
                Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
            }
        }
        Ok(found)
    }

    /// Removes it.
    fn remove(self) {
        // The link goes first: what it leads to is shared.
        let removed = fs::remove_file(self.path.join("images")).and_then(|()| fs::remove_dir_all(&self.path));
        match removed {
            Ok(()) => _ = fs::remove_file(lock_of(&self.path)), // without its directory a lock means nothing
            Err(error) => console::note(&format!("warning: removing {}: {error}", self.path.display())),
        }
    }
}

fn lock_of(path: &Path) -> PathBuf {
    path.with_added_extension("lock")
}

/// Keeps others from making or sweeping homes as long as the result lives.
fn lock_all(base: &Path) -> Result<File, Failure> {
    let path = base.join(".lock");
    let open = File::options().create(true).truncate(false).write(true).open(&path);
    open.and_then(|file| file.lock().map(|()| file))
        .map_err(|e| Failure::io(format_args!("locking {}", path.display()), &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_in_use_is_no_leftover_and_one_that_was_left_is() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().join("embedded");
        let used = OwnHome::make(&base).unwrap();
        let left = OwnHome::make(&base).unwrap();
        let left_path = left.path.clone();
        drop(left);
        let found = OwnHome::leftovers(&base).unwrap();
        assert_eq!(found.iter().map(|home| &home.path).collect::<Vec<_>>(), [&left_path]);
        found.into_iter().for_each(OwnHome::remove);
        assert!(!left_path.exists());
        assert!(used.path.exists());
        used.remove();
        assert!(base.parent().unwrap().join("images").is_dir());
        let rest: Vec<_> = fs::read_dir(&base).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(rest, [".lock"]);
    }
}
