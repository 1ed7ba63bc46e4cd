//! A sandbox's directory: what a later server needs to find it again.
//!
//! ```text
//! $HOTHOUSE_HOME/sandboxes/<id>/guest.sock   the guest listens here
//! $HOTHOUSE_HOME/sandboxes/<id>/state.json   written once, when the guest runs
//! $HOTHOUSE_HOME/sandboxes/.beside-<id>-…/   the same of a body that takes, or has lost, that place
//! ```

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use hothouse_domain::{ImageId, SandboxId};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, renameat_with};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use super::runtime;
use super::wire::Body;
use crate::terms::Terms;

const SOCKET: &str = "guest.sock";
const STATE: &str = "state.json";
/// Stays only where the process was killed while it replaced the state.
const NEXT_STATE: &str = "state.json.next";
/// Begins the names of what is beside sandboxes; no id begins so.
const BESIDE: &str = ".beside-";
/// Connections that may wait for the guest to accept them.
const BACKLOG: i32 = 256;

/// What `state.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    /// Which boot of the machine it was made in: its process is not of any other.
    #[serde(default)]
    pub(super) boot: String,
    #[serde(flatten)]
    pub(super) terms: Terms,
    pub(super) created_at: jiff::Timestamp,
    pub(super) body: Body,
    /// The image of the store that it is made from, which must not be removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image_id: Option<ImageId>,
}

/// Names this boot of the machine.
pub(super) fn boot() -> String {
    // Where there is none, all boots look the same and start times alone decide.
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The directory of all sandboxes.
#[derive(Debug, Clone)]
pub(super) struct StateDirectory {
    path: PathBuf,
}

impl StateDirectory {
    pub(super) fn open(home: &Path) -> io::Result<Self> {
        let path = runtime::open(home)?;
        // Sockets in it lead into sandboxes.
        rustix::fs::chmod(&path, Mode::from_raw_mode(0o700))?;
        Ok(Self { path })
    }

    /// The one at this path.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Removes it if it is empty: nothing of it is needed then.
    pub(super) fn close(&self, home: &Path) {
        runtime::close(home, &self.path);
    }

    pub(super) fn of(&self, id: &SandboxId) -> PathBuf {
        self.path.join(id.as_str())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A place beside that of a sandbox, for the body that is to take it; no id leads there.
    pub(super) fn beside(&self, id: &SandboxId) -> PathBuf {
        self.path.join(format!("{BESIDE}{id}-{}", uuid::Uuid::new_v4().simple()))
    }

    /// What was beside sandboxes when the last node was killed: bodies that nobody needs any more.
    pub(super) fn all_beside(&self) -> io::Result<Vec<PathBuf>> {
        let is_beside =
            |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(BESIDE.as_bytes());
        Ok(fs::read_dir(&self.path)?
            .filter_map(Result::ok)
            .filter(is_beside)
            .map(|entry| entry.path())
            .collect())
    }

    /// Makes a sandbox's directory and the socket that its guest will listen on.
    pub(super) fn make(&self, id: &SandboxId) -> io::Result<OwnedFd> {
        self.make_at(&self.of(id))
    }

    pub(super) fn make_at(&self, dir: &Path) -> io::Result<OwnedFd> {
        fs::create_dir(dir)?;
        listen(dir).inspect_err(|_| {
            // The error that is reported is the first one.
            drop(fs::remove_dir_all(dir));
        })
    }

    pub(super) fn save(&self, id: &SandboxId, state: &State) -> io::Result<()> {
        self.save_at(&self.of(id), state)
    }

    pub(super) fn save_at(&self, dir: &Path, state: &State) -> io::Result<()> {
        let text = serde_json::to_vec(state)?;
        fs::write(dir.join(STATE), text)
    }

    /// Puts what is in `place` where the sandbox is, and the other way round: whoever looks finds the one or the other.
    pub(super) fn exchange(&self, id: &SandboxId, place: &Path) -> io::Result<()> {
        Ok(renameat_with(CWD, place, CWD, self.of(id), RenameFlags::EXCHANGE)?)
    }

    /// Moves what is of a sandbox to this place: nothing is where it was.
    pub(super) fn set_aside(&self, id: &SandboxId, place: &Path) -> io::Result<()> {
        fs::rename(self.of(id), place)
    }

    /// Writes another state over one that may be read at any moment: whoever reads it finds the old one or the new one.
    pub(super) fn replace(&self, id: &SandboxId, state: &State) -> io::Result<()> {
        let dir = self.of(id);
        let text = serde_json::to_vec(state)?;
        fs::write(dir.join(NEXT_STATE), text)?;
        fs::rename(dir.join(NEXT_STATE), dir.join(STATE))
    }

    pub(super) fn load(&self, id: &SandboxId) -> io::Result<State> {
        self.load_at(&self.of(id))
    }

    pub(super) fn load_at(&self, dir: &Path) -> io::Result<State> {
        let text = fs::read(dir.join(STATE))?;
        Ok(serde_json::from_slice(&text)?)
    }

    pub(super) fn remove(&self, id: &SandboxId) -> io::Result<()> {
        self.remove_at(&self.of(id))
    }

    pub(super) fn remove_at(&self, dir: &Path) -> io::Result<()> {
        for name in [SOCKET, STATE, NEXT_STATE] {
            match fs::remove_file(dir.join(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                Ok(()) | Err(_) => {}
            }
        }
        match fs::remove_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// The ids of all directories.
    pub(super) fn ids(&self) -> io::Result<Vec<SandboxId>> {
        let mut ids: Vec<SandboxId> = fs::read_dir(&self.path)?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        ids.sort();
        Ok(ids)
    }
}

/// A name for the socket that fits the 108 bytes of a socket address however long the home is.
fn short_name(dir: &Path) -> io::Result<(OwnedFd, String)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, Mode::empty())?;
    let name = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
    Ok((dir, name))
}

fn listen(dir: &Path) -> io::Result<OwnedFd> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let (_dir, name) = short_name(dir)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(name)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Connects to the guest of the sandbox in `dir`.
pub(super) fn connect(dir: &Path) -> io::Result<std::os::unix::net::UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let (_dir, name) = short_name(dir)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(name)?)?;
    Ok(socket.into())
}
