//! Network namespaces, made ahead: a fresh one costs more than all the rest of a sandbox.
//!
//! They belong to the user namespace of the spawner, so a sandbox has no say over the one that it is in. One that a dead
//! sandbox never sent a packet in is as it was made, and serves again; any other is thrown away.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::native::kernel;

/// Settings that are made through one `/proc` before it is replaced.
const SETTINGS_OF_A_PROC: u32 = 64;

/// Ready namespaces.
#[derive(Debug)]
pub(super) struct Pool {
    ready: VecDeque<OwnedFd>,
    settings: Settings,
    /// Made ahead when there are fewer.
    wanted: usize,
    /// Taken back only while there are fewer.
    most: usize,
}

impl Pool {
    /// An empty pool that makes `wanted` ahead and keeps at most `most`.
    pub(super) fn new(wanted: usize, most: usize) -> Self {
        Self { ready: VecDeque::new(), settings: Settings::default(), wanted, most }
    }

    /// True when a refill would do nothing.
    pub(super) fn is_full(&self) -> bool {
        self.ready.len() >= self.wanted
    }

    /// Makes one namespace if the pool is short of them.
    pub(super) fn refill_one(&mut self) -> io::Result<()> {
        if !self.is_full() {
            let made = make(&mut self.settings)?;
            self.ready.push_back(made);
        }
        Ok(())
    }

    /// Moves the spawner into a namespace for the next child to inherit.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        // make() leaves us inside the new one.
        let Some(namespace) = self.ready.pop_front() else {
            return make(&mut self.settings).map(drop);
        };
        Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// Takes back the namespace of a dead sandbox if it is provably as it was made.
    pub(super) fn give_back(&mut self, namespace: OwnedFd) -> io::Result<()> {
        if self.ready.len() >= self.most {
            return Ok(());
        }
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        if is_untouched()? {
            self.ready.push_back(namespace);
        }
        Ok(())
    }
}

/// The current namespace has only a loopback that never carried a packet.
fn is_untouched() -> io::Result<bool> {
    let text = fs::read_to_string("/proc/thread-self/net/dev")?;
    let mut interfaces = 0;
    for line in text.lines().skip(2) {
        let Some((_, counters)) = line.split_once(':') else { return Ok(false) };
        interfaces += 1;
        if counters.split_whitespace().any(|counter| counter != "0") {
            return Ok(false);
        }
    }
    Ok(interfaces == 1)
}

/// A fresh namespace with its loopback up; the caller ends up inside it.
fn make(settings: &mut Settings) -> io::Result<OwnedFd> {
    unshare_network()?;
    kernel::loopback_up()?;
    // Nothing else can bind here, so every port is free for any user of the sandbox.
    settings.set("sys/net/ipv4/ip_unprivileged_port_start", "0")?;
    // Its own root may use ping without raw sockets.
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// A `/proc` to change settings through, mounted nowhere.
///
/// The kernel's cache keeps a setting of each living namespace under the same name of the same `/proc`, and every look
/// goes through all of them: with thousands of sandboxes, one long-lived `/proc` would take longer than all the rest of
/// a create.
#[derive(Debug, Default)]
struct Settings {
    proc: Option<OwnedFd>,
    used: u32,
}

impl Settings {
    fn set(&mut self, path: &str, value: &str) -> io::Result<()> {
        if self.used.is_multiple_of(SETTINGS_OF_A_PROC) {
            // A user's own root may not mount one; it has the machine's.
            self.proc = detached_proc().ok();
        }
        self.used = self.used.wrapping_add(1);
        let Some(proc) = &self.proc else { return fs::write(format!("/proc/{path}"), value) };
        let file = rustix::fs::openat(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(file, value.as_bytes())?;
        Ok(())
    }
}

fn detached_proc() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

#[expect(unsafe_code, reason = "rustix marks unshare unsafe because of CLONE_FILES, which is not used here")]
fn unshare_network() -> io::Result<()> {
    // SAFETY: CLONE_NEWNET changes no memory or descriptor of this process.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}
