//! The spawner's own small world: a mount namespace that holds little, so that copying it for each sandbox is cheap.
//!
//! ```text
//! /l/N        where a child puts layers   /s      where a child mounts its file system
//! /proc       fully visible, or the kernel refuses a child a /proc of its own
//! /empty      an empty directory          /dev    the devices of every sandbox
//! /p, /d      where a child prepares its /proc and /dev
//! ```
//!
//! Beside it is the *shelf*, a copy of it that has the registered layers at `/images/N`: no child ever has a copy of it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, StatVfs, mknodat, statvfs};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind,
    mount_bind_recursive, mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::pivot_root;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::native::kernel::{Cloned, Reach, attr, clone_process, exit_child, set_mount_attributes};

/// At most so many layers in one sandbox.
pub(super) const MAX_LAYERS: usize = 64;

/// Devices of every sandbox: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// A step that failed, with its name.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) source: io::Error,
}

/// Names the step of a failing call.
pub(super) fn at<E: Into<io::Error>>(name: impl Into<String>) -> impl FnOnce(E) -> Step {
    move |source| Step { name: name.into(), source: source.into() }
}

/// Whether the spawner has the machine's own root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Privilege {
    /// It may map any user id.
    Root,
    /// It is root of a user namespace with one id.
    User,
}

/// The spawner's mount namespaces.
#[derive(Debug)]
pub(super) struct World {
    pub(super) privilege: Privilege,
    /// All that the machine has mounted: layers are taken from here.
    machine: OwnedFd,
    /// The registered layers.
    shelf: OwnedFd,
    /// The small one, which we live in.
    small: OwnedFd,
    layers: u32,
    /// Whether layers can be idmapped, found out by doing it.
    pub(super) idmap: Result<(), String>,
    /// Whether what sandboxes have written, which is in memory, can be too.
    store_idmap: Result<(), String>,
}

#[expect(unsafe_code, reason = "rustix marks unshare unsafe because of CLONE_FILES, which is not used here")]
pub(super) fn separate(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: namespaces only; no memory or descriptor of this process changes.
    Ok(unsafe { unshare_unsafe(flags) }?)
}

/// Becomes root of a user namespace that maps us alone.
fn become_root_of_own_namespace() -> Result<(), Step> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    separate(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).map_err(at(
        "making a user namespace (is user.max_user_namespaces 0, or kernel.unprivileged_userns_clone 0?)",
    ))?;
    let write = |path: &str, text: String| fs::write(path, text).map_err(at(format!("writing {path}")));
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))
}

fn mkdir(path: &str) -> Result<(), Step> {
    fs::create_dir(path).map_err(at(format!("making {path}")))
}

impl World {
    /// Leaves the machine's mount namespace for a small one.
    pub(super) fn enter() -> Result<Self, Step> {
        let privilege = if rustix::process::geteuid().is_root() && separate(UnshareFlags::NEWNS).is_ok() {
            Privilege::Root
        } else {
            become_root_of_own_namespace()?;
            Privilege::User
        };
        // What the machine mounts and unmounts later shows here; nothing of ours shows there.
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
            .map_err(at("making mounts private"))?;
        let open_ns =
            || File::open("/proc/self/ns/mnt").map(OwnedFd::from).map_err(at("opening the mount namespace"));
        let machine = open_ns()?;
        separate(UnshareFlags::NEWNS).map_err(at("making a second mount namespace"))?;
        let base = ["/tmp", "/mnt", "/run", "/var"].into_iter().find(|path| Path::new(path).is_dir());
        let base = base.ok_or_else(|| at("looking for /tmp")(io::Error::from(io::ErrorKind::NotFound)))?;
        build(base, privilege)?;
        let (idmap, store_idmap) = try_idmap(privilege, base);
        std::env::set_current_dir(base).map_err(at("entering the small root"))?;
        pivot_root(".", ".").map_err(at("pivot_root to the small root"))?;
        unmount(".", UnmountFlags::DETACH).map_err(at("leaving the machine's root"))?;
        std::env::set_current_dir("/").map_err(at("entering the small root"))?;
        let small = open_ns()?;
        separate(UnshareFlags::NEWNS).map_err(at("making a third mount namespace"))?;
        let shelf = open_ns()?;
        enter(&small)?;
        Ok(Self { privilege, machine, shelf, small, layers: 0, idmap, store_idmap })
    }

    /// Makes a directory of the machine a layer; gives its number.
    pub(super) fn register(&mut self, path: &str) -> Result<u32, Step> {
        let tree = self.within(&self.machine, || {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            open_tree(CWD, path, flags)
                // In a user namespace, mounts below ours may not be left out.
                .or_else(|_| open_tree(CWD, path, flags | OpenTreeFlags::AT_RECURSIVE))
                .map_err(at(format!("opening layer {path}")))
        })?;
        self.shelve(&tree, path)
    }

    /// Puts a detached tree on the shelf; gives its number.
    pub(super) fn shelve(&mut self, tree: &OwnedFd, name: &str) -> Result<u32, Step> {
        // Of no use to an overlay, which never writes to them; a second lock on what lies below a sandbox's root.
        set_mount_attributes(tree.as_fd(), Reach::Tree, attr::READ_ONLY, None)
            .map_err(at(format!("making layer {name} read-only")))?;
        let number = self.layers;
        let target = format!("/images/{number}");
        self.within(&self.shelf, || {
            mkdir(&target)?;
            move_mount(tree, "", CWD, &target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .map_err(at(format!("mounting layer {name}")))
        })?;
        self.layers += 1;
        Ok(number)
    }

    /// Whether others can have what a sandbox has written, as their own.
    pub(super) fn can_lend(&self) -> Result<(), Step> {
        match (self.privilege, &self.idmap, &self.store_idmap) {
            // There is only one id.
            (Privilege::User, _, _) | (Privilege::Root, Ok(()), Ok(())) => Ok(()),
            (Privilege::Root, Err(reason), _) | (Privilege::Root, Ok(()), Err(reason)) => {
                Err(at("lending what it has written")(io::Error::other(reason.clone())))
            }
        }
    }

    /// Detached copies of what is mounted in a sandbox's mount namespace, one for the upper layer of each of its overlays,
    /// and how full the store is that they are in.
    pub(super) fn upper_layers(
        &self,
        namespace: &OwnedFd,
        overlays: u32,
    ) -> Result<(Vec<OwnedFd>, StatVfs), Step> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        self.within(namespace, || {
            // The root of the namespace is the sandbox's writable store, of which its own root is a part: nothing in the
            // sandbox reaches these names.
            let open = |number| open_tree(CWD, format!("/u{number}"), flags);
            let trees = (0..overlays).map(open).collect::<Result<_, _>>();
            let trees = trees.map_err(at("opening what it has written"))?;
            Ok((trees, statvfs("/").map_err(at("looking how much it has written"))?))
        })
    }

    /// Detached copies of layers, whose owners are mapped by `userns` where there is one.
    pub(super) fn copies(&self, layers: &[u32], userns: Option<&OwnedFd>) -> Result<Vec<OwnedFd>, Step> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let copy = |&layer: &u32| {
            let path = format!("/images/{layer}");
            let tree = open_tree(CWD, &path, flags)
                .or_else(|_| open_tree(CWD, &path, flags | OpenTreeFlags::AT_RECURSIVE))
                .map_err(at("copying a layer's mount"))?;
            if let Some(userns) = userns {
                set_mount_attributes(tree.as_fd(), Reach::One, attr::IDMAP, Some(userns.as_fd()))
                    .map_err(at("idmapping a layer"))?;
            }
            Ok(tree)
        };
        self.within(&self.shelf, || layers.iter().map(copy).collect())
    }

    /// Takes a layer off the shelf that no sandbox will be made of any more; those that are made of it keep it.
    pub(super) fn unregister(&self, layer: u32) {
        let path = format!("/images/{layer}");
        let taken = self.within(&self.shelf, || {
            unmount(path.as_str(), UnmountFlags::DETACH).map_err(at(format!("taking off {path}")))?;
            fs::remove_dir(&path).map_err(at(format!("removing {path}")))
        });
        // It costs a little memory where it stays, until the spawner ends.
        drop(taken);
    }

    /// Does something where all is that the machine has mounted.
    pub(super) fn on_machine<T>(&self, what: impl FnOnce() -> Result<T, Step>) -> Result<T, Step> {
        self.within(&self.machine, what)
    }

    /// Does something in another mount namespace.
    pub(super) fn within<T>(
        &self,
        namespace: &OwnedFd,
        what: impl FnOnce() -> Result<T, Step>,
    ) -> Result<T, Step> {
        enter(namespace)?;
        let done = what();
        enter(&self.small)?;
        done
    }
}

fn enter(namespace: &OwnedFd) -> Result<(), Step> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
        .map_err(at("changing mount namespace"))
}

/// Idmaps copies of /usr and of the tmpfs at `base` by a user namespace made for the purpose.
fn try_idmap(privilege: Privilege, base: &str) -> (Result<(), String>, Result<(), String>) {
    let both = |reason: String| (Err(reason.clone()), Err(reason));
    if privilege == Privilege::User {
        return both("only the machine's root may idmap its mounts".to_owned());
    }
    let parent = rustix::process::getpid();
    let cloned = match clone_process(0x1000_0000, None) {
        Ok(cloned) => cloned,
        Err(e) => return both(format!("making a user namespace: {e}")),
    };
    let Cloned::Parent(pid) = cloned else {
        // Lives until it is killed below, or the spawner is: it holds a copy of the socket by whose end the backend sees
        // that a spawner is gone.
        let bound = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        if bound.is_ok() && rustix::process::getppid() == Some(parent) {
            rustix::event::pause();
        }
        exit_child(0);
    };
    let map = || -> io::Result<OwnedFd> {
        fs::write(format!("/proc/{pid}/uid_map"), "0 268435456 65536")?;
        fs::write(format!("/proc/{pid}/gid_map"), "0 268435456 65536")?;
        Ok(File::open(format!("/proc/{pid}/ns/user"))?.into())
    };
    let attempt = |userns: &OwnedFd, path: &str| -> Result<(), String> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(CWD, path, flags)
            .map_err(io::Error::from)
            .and_then(|tree| {
                set_mount_attributes(tree.as_fd(), Reach::One, attr::IDMAP, Some(userns.as_fd()))
            })
            .map_err(|e| format!("the kernel or the file system of {path} cannot idmap: {e}"))
    };
    let outcome = match map() {
        Ok(userns) => (attempt(&userns, "/usr"), attempt(&userns, base)),
        Err(e) => both(format!("mapping the ids of a user namespace: {e}")),
    };
    let child = rustix::process::Pid::from_raw(pid).expect("a PID is positive");
    // It waits for nothing but this.
    let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
    let _ = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty());
    outcome
}

/// Fills the small root on a fresh tmpfs at `base`.
fn build(base: &str, privilege: Privilege) -> Result<(), Step> {
    let nothing = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", base, "tmpfs", nothing, c"mode=755,size=4m,nr_inodes=65536")
        .map_err(at("mounting the small root"))?;
    for name in ["images", "l", "s", "p", "d", "dev", "proc", "empty"] {
        mkdir(&format!("{base}/{name}"))?;
    }
    for layer in 0..MAX_LAYERS {
        mkdir(&format!("{base}/l/{layer}"))?;
    }
    let proc = format!("{base}/proc");
    match privilege {
        Privilege::Root => mount("proc", &proc, "proc", nothing | MountFlags::NOEXEC, None),
        Privilege::User => mount_bind_recursive("/proc", &proc),
    }
    .map_err(at("mounting /proc in the small root"))?;
    // Lent to every sandbox: as an ordinary user's root, one could write there for all others to read.
    let empty = format!("{base}/empty");
    mount_bind(&empty, &empty)
        .and_then(|()| mount_remount(&empty, MountFlags::BIND | MountFlags::RDONLY | nothing, ""))
        .map_err(at("making the empty directory read-only"))?;
    build_devices(&format!("{base}/dev"), privilege)
}

fn build_devices(dev: &str, privilege: Privilege) -> Result<(), Step> {
    // No NODEV: the nodes below must work.
    mount("tmpfs", dev, "tmpfs", MountFlags::NOSUID, c"mode=755,size=64k,nr_inodes=64")
        .map_err(at("mounting the device template"))?;
    for (name, major, minor) in DEVICES {
        let path = format!("{dev}/{name}");
        let mode = Mode::from_raw_mode(0o666);
        match privilege {
            Privilege::Root => {
                let number = rustix::fs::makedev(major, minor);
                mknodat(CWD, &path, FileType::CharacterDevice, mode, number)
                    .map_err(at(format!("making {path}")))?;
                rustix::fs::chmod(&path, mode).map_err(at(format!("opening up {path}")))?;
            }
            Privilege::User => {
                File::create(&path).map_err(at(format!("making {path}")))?;
                mount_bind(format!("/dev/{name}"), &path).map_err(at(format!("binding {path}")))?;
            }
        }
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdir(&format!("{dev}/{name}"))?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        std::os::unix::fs::symlink(target, format!("{dev}/{name}"))
            .map_err(at(format!("linking {dev}/{name}")))?;
    }
    // Copies of it are read-only too. Devices work on read-only mounts.
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID;
    mount_remount(dev, flags, "").map_err(at("making the device template read-only"))
}
