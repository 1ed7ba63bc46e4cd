//! What a fresh process does to become a sandbox's guest. It runs between clone and exec, on a copy of the spawner.
//!
//! What needs no user ids comes first, while the spawner maps them: entering the groups, `/proc`, `/dev`. The rest
//! follows the spawner's word.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, mkdirat, statat};
use rustix::mount::{
    MountFlags, MoveMountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_move,
    mount_remount, move_mount, unmount,
};
use rustix::process::{chdir, chroot};
use rustix::thread::UnshareFlags;

use super::proc_mask::Masks;
use super::root::{Privilege, Step, at, separate};
use crate::native::wire::{CreateOrder, OverlayLayer};
use crate::native::{cgroup, kernel, packet};

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP: what being root of one's own files takes, and
/// what the guest needs to start programs as other users of the sandbox. All of it counts inside only.
const CAPABILITIES: u64 = 0b1_1111_1011;

/// Where the image's layers go until the overlays have them.
const LAYERS: &str = "/l";
/// Where the sandbox's root is put together.
const ROOT: &str = "/s/r";
/// The writable store, and the root in it.
const STORE: &str = "/s";
const ROOT_IN_STORE: &str = "r";
/// Where `/proc` and `/dev` are prepared before there is a root.
const PROC: &str = "/p";
const DEV: &str = "/d";

/// Files that any process of a sandbox may hold open.
const OPEN_FILES: u64 = 4096;

/// Tells the child to go on; copies of its layers come with it, in the order of the plan's layers.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Go {
    /// How many descriptors come with it. Also keeps the packet from being empty, which means the other side is gone.
    pub(super) layers: usize,
}

/// How limits are kept up where there are no control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fallback {
    /// Not needed.
    Groups,
    /// By resource limits: processes of the user namespace, data of each process, and size of each file.
    ResourceLimits,
}

/// Everything that the child needs.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) order: &'a CreateOrder,
    pub(super) privilege: Privilege,
    pub(super) fallback: Fallback,
    pub(super) landlock: u32,
    pub(super) filter: &'a [libc::sock_filter],
    pub(super) masks: &'a Masks,
    pub(super) guest: BorrowedFd<'a>,
    pub(super) listener: BorrowedFd<'a>,
    pub(super) doors: &'a cgroup::Doors,
    pub(super) go: BorrowedFd<'a>,
    /// Distinct trees of all overlays' layers, in order of first use.
    pub(super) layers: &'a [u32],
}

/// Becomes the guest, or says which step failed.
pub(super) fn run(plan: &Plan<'_>, reserved: &mut [OwnedFd]) -> Step {
    match prepare(plan, reserved) {
        Ok(environment) => {
            let source = kernel::execute(plan.guest, c"hothouse-guest", &[&environment]);
            Step { name: "executing the guest".to_owned(), source }
        }
        Err(step) => step,
    }
}

fn prepare(plan: &Plan<'_>, reserved: &mut [OwnedFd]) -> Result<CString, Step> {
    kernel::reset_signals();
    rustix::process::umask(Mode::empty());
    cgroup::enter(&plan.doors.enter).map_err(at("entering the control groups"))?;
    // Now, not with the clone: the group that we are in becomes the root of what the sandbox sees.
    separate(UnshareFlags::NEWCGROUP).map_err(at("making a cgroup namespace"))?;
    let settings = mount_proc(plan.masks)?;
    // Read-only, as the template is.
    mount_bind_recursive("/dev", DEV).map_err(at("copying the devices"))?;
    let trees = wait_for_go(plan.go)?;
    if plan.privilege == Privilege::Root {
        kernel::drop_groups().map_err(at("dropping supplementary groups"))?;
    }
    kernel::become_root_inside().map_err(at("becoming root of the user namespace"))?;
    mount_files(plan, &trees)?;
    mount_terminals(plan.privilege)?;
    mount_move(PROC, format!("{ROOT}/proc")).map_err(at("placing /proc"))?;
    mount_move(DEV, format!("{ROOT}/dev")).map_err(at("placing /dev"))?;
    limit_shared_memory(&settings, plan.order.limits.memory_bytes);
    let host_name: String = plan.order.id.chars().take(63).collect();
    rustix::system::sethostname(host_name.as_bytes()).map_err(at("setting the host name"))?;

    enter_root()?;
    if let Some(workdir) = &plan.order.workdir {
        make_workdir(workdir)?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    hand_over_descriptors(plan, reserved)?;
    limit_resources(plan)?;
    // Where this fails it has failed in the spawner too, and nothing was changed.
    drop(kernel::take_turns(kernel::Turns::Usual));
    kernel::process_control(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(at("setting no_new_privs"))?;
    if plan.landlock > 0 {
        kernel::restrict_by_landlock(plan.landlock).map_err(at("restricting by landlock"))?;
    }
    kernel::keep_capabilities(CAPABILITIES).map_err(at("dropping capabilities"))?;
    kernel::install_seccomp(plan.filter).map_err(at("installing the seccomp filter"))?;
    let id = format!("HOTHOUSE_SANDBOX_ID={}", plan.order.id);
    CString::new(id).map_err(at("naming the sandbox"))
}

/// Makes the writable store the root of the mount namespace, and its directory of the finished root ours.
///
/// Not `pivot_root`: it looks at each process of the machine, while it holds their lock. What that would detach, the
/// store covers here: nobody without `CAP_SYS_ADMIN` over this namespace can take it off, and nothing in a sandbox has
/// that, nor `CAP_SYS_CHROOT` to leave its root. What is outside of it is the sandbox's own upper layer. No layer is
/// mounted there any more, and none can be written to where it is.
fn enter_root() -> Result<(), Step> {
    chdir(STORE).map_err(at("entering the writable store"))?;
    mount_move(".", "/").map_err(at("making the writable store the root"))?;
    chroot(ROOT_IN_STORE).map_err(at("entering the root"))?;
    chdir("/").map_err(at("entering the root"))
}

fn wait_for_go(socket: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Step> {
    match packet::receive::<Go>(socket, &mut [0; 64]).map_err(at("waiting for the id map"))? {
        Some((go, layers)) if go.layers == layers.len() => Ok(layers),
        Some((go, layers)) => {
            let reason = format!("{} layers came instead of {}", layers.len(), go.layers);
            Err(at("waiting for the id map")(io::Error::other(reason)))
        }
        None => Err(at("waiting for the id map")(io::Error::from(io::ErrorKind::UnexpectedEof))),
    }
}

/// The writable store, and the overlays on top of the image's layers.
fn mount_files(plan: &Plan<'_>, trees: &[OwnedFd]) -> Result<(), Step> {
    // A mount of our own to have them on: the one that we were born with cannot be taken off.
    mount_bind(LAYERS, LAYERS).map_err(at("making a place for layers"))?;
    for (number, tree) in trees.iter().enumerate() {
        move_mount(tree, "", CWD, format!("{LAYERS}/{number}"), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(at("placing a layer"))?;
    }
    let directory = |layer: &OverlayLayer| {
        let number = plan.layers.iter().position(|&tree| tree == layer.tree);
        let number = number.ok_or_else(|| at("naming the layers")(io::Error::other("one did not come")))?;
        let tree = format!("{LAYERS}/{number}");
        Ok(if layer.below.is_empty() { tree } else { format!("{tree}/{}", layer.below) })
    };
    let limits = &plan.order.limits;
    // Some inodes are ours: the roots of the upper and work directories.
    let ours = 8 + 4 * plan.order.overlays.len() as u64;
    let options = format!("mode=755,size={},nr_inodes={}", limits.disk_bytes, limits.disk_inodes + ours);
    let options = CString::new(options).map_err(at("sizing the writable store"))?;
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", "/s", "tmpfs", safe, options.as_c_str()).map_err(at("mounting the writable store"))?;
    make_directory("/s/shm", 0o1777)?;
    make_directory(ROOT, 0o755)?;
    for (number, overlay) in plan.order.overlays.iter().enumerate() {
        let (upper, work) = (format!("/s/u{number}"), format!("/s/w{number}"));
        make_directory(&upper, 0o755)?;
        make_directory(&work, 0o700)?;
        let lower: Vec<String> = overlay.layers.iter().map(directory).collect::<Result<_, Step>>()?;
        // Without an index: where a kernel has one by default, it refuses layers that another sandbox has lent.
        let lower = lower.join(":");
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work},userxattr,index=off");
        let options = CString::new(options).map_err(at("describing the overlay"))?;
        if number > 0 {
            // A layer that somebody else can write to may have become another since it was looked at.
            make_inside(&overlay.target)?;
        }
        let target = format!("{ROOT}{}", overlay.target.trim_end_matches('/'));
        mount("overlay", &target, "overlay", safe, options.as_c_str())
            .map_err(at(format!("mounting the overlay at {}", overlay.target)))?;
        if number == 0 {
            for path in &plan.order.directories {
                make_inside(path)?;
            }
        }
    }
    // The overlays have mounts of their own.
    unmount(LAYERS, UnmountFlags::DETACH).map_err(at("taking off the layers"))
}

/// Makes a directory of the image's root that may exist; every component is a real directory afterwards, or this fails:
/// a link here would lead our mounts out of the root (CVE-2025-31133).
fn make_inside(path: &str) -> Result<(), Step> {
    let mut whole = ROOT.to_owned();
    for component in path.split('/').filter(|c| !c.is_empty()) {
        whole.push('/');
        whole.push_str(component);
        match statat(CWD, &whole, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
            Ok(_) => {
                let reason = io::Error::other("the image has something there that is not a directory");
                return Err(at(format!("making {path}"))(reason));
            }
            Err(_) => make_directory(&whole, if component == "tmp" { 0o1777 } else { 0o755 })?,
        }
    }
    Ok(())
}

/// The working directory, in the sandbox's own root: a link leads nowhere but inside.
fn make_workdir(path: &str) -> Result<(), Step> {
    std::fs::create_dir_all(path).map_err(at(format!("making the working directory {path}")))
}

fn make_directory(path: &str, mode: u32) -> Result<(), Step> {
    mkdirat(CWD, path, Mode::from_raw_mode(mode)).map_err(at(format!("making {path}")))
}

/// A `/proc` of the sandbox's own PID namespace, without what tells of the machine. Gives its settings, which can be
/// written through this descriptor alone.
fn mount_proc(masks: &Masks) -> Result<OwnedFd, Step> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", PROC, "proc", flags, None).map_err(at("mounting /proc"))?;
    let settings = rustix::fs::open(
        format!("{PROC}/sys"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(at("opening /proc/sys"))?;
    for (cover, name) in &masks.covered {
        mount_bind(*cover, format!("{PROC}/{name}")).map_err(at(format!("masking /proc/{name}")))?;
    }
    for name in &masks.read_only {
        let path = format!("{PROC}/{name}");
        let step = || at(format!("making /proc/{name} read-only"));
        mount_bind(&path, &path).map_err(step())?;
        mount_remount(&path, MountFlags::BIND | MountFlags::RDONLY | flags, "").map_err(step())?;
    }
    Ok(settings)
}

/// Terminals and shared memory of its own.
fn mount_terminals(privilege: Privilege) -> Result<(), Step> {
    // Group 5 is `tty`; a map of a single id does not have it.
    let options = match privilege {
        Privilege::Root => c"newinstance,ptmxmode=0666,mode=0620,gid=5",
        Privilege::User => c"newinstance,ptmxmode=0666,mode=0620",
    };
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", format!("{DEV}/pts"), "devpts", flags, options).map_err(at("mounting /dev/pts"))?;
    // The same store as all other files, so that one limit holds for both.
    mount_bind("/s/shm", format!("{DEV}/shm")).map_err(at("mounting /dev/shm"))
}

/// System V shared memory outlives its makers, so its total stays below the memory limit.
///
/// `settings` is of the sandbox's own `/proc`. In one that lives on, such as the spawner's, each sandbox's setting would
/// stay in the kernel's cache under the same name, and looking it up take longer with each.
fn limit_shared_memory(settings: &OwnedFd, memory_bytes: u64) {
    let pages = (memory_bytes / 2 / 4096).to_string();
    let set = || -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let limit = rustix::fs::openat(settings, "kernel/shmall", flags, Mode::empty())?;
        rustix::io::write(limit, pages.as_bytes())?;
        Ok(())
    };
    // Where the kernel keeps this setting to the machine's own root, the memory limit alone bounds it.
    drop(set());
}

/// 0, 1, 2: nothing. 3: the listener. 4: the OOM counter. All else is closed by exec.
fn hand_over_descriptors(plan: &Plan<'_>, reserved: &mut [OwnedFd]) -> Result<(), Step> {
    let step = || at::<rustix::io::Errno>("handing over descriptors");
    // The sandbox's own device: a descriptor of the machine's would lead to the machine's mounts.
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(step())?;
    rustix::stdio::dup2_stdin(&null).map_err(step())?;
    rustix::stdio::dup2_stdout(&null).map_err(step())?;
    rustix::stdio::dup2_stderr(&null).map_err(step())?;
    let [third, fourth, ..] = reserved else {
        return Err(at("handing over descriptors")(io::Error::other("descriptors 3 and 4 are not reserved")));
    };
    rustix::io::dup2(plan.listener, third).map_err(step())?;
    if let Some(events) = &plan.doors.oom_events {
        rustix::io::dup2(events.as_fd(), fourth).map_err(step())?;
    }
    kernel::close_at_exec_from(5).map_err(at("closing descriptors"))
}

fn limit_resources(plan: &Plan<'_>) -> Result<(), Step> {
    let step = || at::<io::Error>("setting resource limits");
    kernel::limit_resource(libc::RLIMIT_CORE, 0).map_err(step())?;
    kernel::limit_resource(libc::RLIMIT_NOFILE, OPEN_FILES).map_err(step())?;
    kernel::limit_resource(libc::RLIMIT_MSGQUEUE, 819_200).map_err(step())?;
    if plan.fallback == Fallback::ResourceLimits {
        kernel::limit_resource(libc::RLIMIT_NPROC, plan.order.limits.pids.into()).map_err(step())?;
        kernel::limit_resource(libc::RLIMIT_DATA, plan.order.limits.memory_bytes).map_err(step())?;
        // A file that has no name, and so no place on the limited disk, is memory too.
        kernel::limit_resource(libc::RLIMIT_FSIZE, plan.order.limits.memory_bytes).map_err(step())?;
    }
    Ok(())
}
