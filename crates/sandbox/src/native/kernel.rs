//! The system calls that no library wraps, each behind a safe function.
#![allow(unsafe_code, reason = "raw system calls; the only place of this crate that makes them")]

use std::ffi::CStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Which side of a clone we are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cloned {
    Child,
    Parent(i32),
}

/// The namespaces of every sandbox, but for the network's.
pub(crate) const NAMESPACES: u64 =
    (libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC)
        as u64;

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// fork with namespaces and, on cgroup v2, straight into a group. Only for single-threaded callers: the child goes on
/// with a copy of everything, allocator included.
pub(crate) fn clone_process(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut args = CloneArgs { flags: namespaces, exit_signal: libc::SIGCHLD as u64, ..CloneArgs::default() };
    if let Some(group) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(group.as_raw_fd()).expect("descriptors are not negative");
    }
    // SAFETY: the arguments are a valid clone_args without a stack, so the child runs on a copy of ours, as after fork.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) })?;
    Ok(if pid == 0 { Cloned::Child } else { Cloned::Parent(i32::try_from(pid).expect("a PID fits")) })
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Mount attributes that we set.
pub(crate) mod attr {
    pub(crate) const READ_ONLY: u64 = 0x1;
    pub(crate) const IDMAP: u64 = 0x0010_0000;
}

/// Which mounts get attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The one that is named.
    One,
    /// That and all below it.
    Tree,
}

/// Sets attributes of the mount that `mount` refers to; `userns` for [`attr::IDMAP`].
pub(crate) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    reach: Reach,
    attributes: u64,
    userns: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let userns_fd =
        userns.map_or(0, |fd| u64::try_from(fd.as_raw_fd()).expect("descriptors are not negative"));
    let recursive = match reach {
        Reach::One => 0,
        Reach::Tree => libc::AT_RECURSIVE,
    };
    let args = MountAttr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd };
    // SAFETY: an empty path with AT_EMPTY_PATH and a valid mount_attr of the size given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const args,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// Installs a seccomp filter on this thread and all its future children.
pub(crate) fn install_seccomp(filter: &[libc::sock_filter]) -> io::Result<()> {
    const SECCOMP_SET_MODE_FILTER: libc::c_long = 1;
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).expect("the filter is short"),
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the program points to `len` instructions that live through the call; the kernel only reads them.
    check(unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0_usize, &raw const program) })?;
    Ok(())
}

/// prctl with plain numbers.
pub(crate) fn process_control(option: i32, value: u64) -> io::Result<()> {
    // SAFETY: only options whose arguments are numbers are used in this crate; no pointer is passed.
    check(libc::c_long::from(unsafe { libc::prctl(option, value, 0_u64, 0_u64, 0_u64) }))?;
    Ok(())
}

/// How a process takes its turns on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turns {
    /// As any other.
    Usual,
    /// Long ones, and later: what wakes up for a short one need not wait for their end. It gets no less in all.
    Yielding,
}

/// The longest turn that a process may ask for.
const LONG_TURN_NS: u64 = 100_000_000;

/// Has this process, and those that it clones, take their turns so. Takes no privilege; a kernel before 6.12 does not
/// know of it and goes on as before.
pub(crate) fn take_turns(turns: Turns) -> io::Result<()> {
    let size = u32::try_from(size_of::<libc::sched_attr>()).map_err(io::Error::other)?;
    // SAFETY: a structure of numbers, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most as many bytes as it is told, which the structure has.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
    attributes.size = size;
    attributes.sched_flags = 0;
    attributes.sched_runtime = match turns {
        Turns::Usual => 0,
        Turns::Yielding => LONG_TURN_NS,
    };
    // SAFETY: the kernel reads as many bytes as the structure's first field says.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })?;
    Ok(())
}

/// Drops every capability outside `keep` (a bit mask) from the bounding set, and the other sets down to `keep`.
pub(crate) fn keep_capabilities(keep: u64) -> io::Result<()> {
    const LAST_KNOWN: u32 = 40;
    for capability in 0..64_u32 {
        if keep & (1 << capability) != 0 {
            continue;
        }
        match process_control(libc::PR_CAPBSET_DROP, u64::from(capability)) {
            Ok(()) => {}
            // Past the last capability of this kernel.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) && capability > LAST_KNOWN => break,
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => continue,
            Err(e) => return Err(e),
        }
    }
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    let halves = |mask: u64| [(mask & 0xffff_ffff) as u32, (mask >> 32) as u32];
    let [low, high] = halves(keep);
    // effective, permitted, inheritable; low words first.
    let data: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: a version 3 header and its two data structures.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    Ok(())
}

/// Replaces this process by the program behind a descriptor.
pub(crate) fn execute(program: BorrowedFd<'_>, argument: &CStr, environment: &[&CStr]) -> io::Error {
    let arguments = [argument.as_ptr(), std::ptr::null()];
    let mut variables: Vec<*const libc::c_char> = environment.iter().map(|v| v.as_ptr()).collect();
    variables.push(std::ptr::null());
    // SAFETY: NUL-terminated strings in NULL-terminated arrays, all alive through the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            variables.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Ends this process without running destructors or flushing: for forked children.
pub(crate) fn exit_child(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Brings the loopback interface of the current network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).expect("small flags");
    // SAFETY: SIOCSIFFLAGS reads the ifreq that we pass.
    check(libc::c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    }))?;
    Ok(())
}

/// Sets this process's user and group ids, all of them.
pub(crate) fn become_root_inside() -> io::Result<()> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, 0, 0, 0) })?;
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, 0, 0, 0) })?;
    Ok(())
}

/// Drops all supplementary groups.
pub(crate) fn drop_groups() -> io::Result<()> {
    // SAFETY: an empty list needs no memory.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0_usize, std::ptr::null::<libc::gid_t>()) })?;
    Ok(())
}

/// Sets a resource limit, never above the hard limit that we have.
pub(crate) fn limit_resource(resource: libc::__rlimit_resource_t, wanted: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the rlimit.
    check(libc::c_long::from(unsafe { libc::getrlimit(resource, &raw mut limit) }))?;
    limit.rlim_cur = wanted.min(limit.rlim_max);
    limit.rlim_max = limit.rlim_cur;
    // SAFETY: the kernel reads the rlimit.
    check(libc::c_long::from(unsafe { libc::setrlimit(resource, &raw const limit) }))?;
    Ok(())
}

/// Blocks SIGCHLD and gives a descriptor that becomes readable when children end.
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: an all-zero sigset is a valid place for sigemptyset to write.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is ours.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: the set is initialised.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
    // SAFETY: the set is initialised; the old mask is not wanted.
    check(libc::c_long::from(unsafe {
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())
    }))?;
    // SAFETY: the set is initialised; -1 asks for a fresh descriptor.
    let fd = check(libc::c_long::from(unsafe {
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    }))?;
    // SAFETY: the descriptor is fresh and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor fits")) })
}

/// Unblocks every signal and gives SIGPIPE its default back, in a child that goes on to execute a program.
pub(crate) fn reset_signals() {
    // SAFETY: an all-zero sigset is a valid place for sigemptyset to write.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is ours.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: the set is initialised. It cannot fail with a valid `how`.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
    // SAFETY: Rust's runtime ignores SIGPIPE; the default disposition has no handler that could run here.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Has every descriptor from `first` on closed when a program is executed.
pub(crate) fn close_at_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: plain numbers; no descriptor is closed now.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    match check(result) {
        // Before Linux 5.11; there everything of ours is close-on-exec anyway.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => Ok(()),
        other => other.map(drop),
    }
}

/// Forbids this thread and its children to make device nodes, and from version 6 on to signal processes or connect to
/// abstract sockets outside; what namespaces forbid, forbidden once more. Other rights are not touched, so that they
/// cost nothing.
pub(crate) fn restrict_by_landlock(version: u32) -> io::Result<()> {
    const MAKE_CHAR: u64 = 1 << 6;
    const MAKE_BLOCK: u64 = 1 << 11;
    const REFER: u64 = 1 << 13;
    const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
    const SCOPE_SIGNAL: u64 = 1 << 1;
    const LANDLOCK_RULE_PATH_BENEATH: u32 = 1;
    #[repr(C)]
    struct Ruleset {
        filesystem: u64,
        network: u64,
        scoped: u64,
    }
    #[repr(C, packed)]
    struct PathBeneath {
        allowed: u64,
        parent: i32,
    }
    // Moving files between directories is denied by any ruleset, unless it says otherwise.
    let refer = if version >= 2 { REFER } else { 0 };
    let scoped = if version >= 6 { SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL } else { 0 };
    let ruleset = Ruleset { filesystem: MAKE_CHAR | MAKE_BLOCK | refer, network: 0, scoped };
    let size: usize = match version {
        0..=3 => 8,
        4 | 5 => 16,
        _ => 24,
    };
    // SAFETY: the ruleset is at least `size` bytes and lives through the call.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size, 0_u32) })?;
    // SAFETY: the descriptor is fresh and ours.
    let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor fits")) };
    if refer != 0 {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, rustix::fs::Mode::empty())?;
        let rule = PathBeneath { allowed: refer, parent: root.as_raw_fd() };
        // SAFETY: the rule lives through the call, and its descriptor is open.
        check(unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                fd.as_raw_fd(),
                LANDLOCK_RULE_PATH_BENEATH,
                &raw const rule,
                0_u32,
            )
        })?;
    }
    // SAFETY: plain numbers; the caller has set no_new_privs.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, fd.as_raw_fd(), 0_u32) })?;
    Ok(())
}

/// The version of landlock that this kernel speaks.
pub(crate) fn landlock_version() -> io::Result<u32> {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_long = 1;
    // SAFETY: asking for the version takes no ruleset.
    let version = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    })?;
    Ok(u32::try_from(version).unwrap_or(0))
}

/// The guest, in a sealed file of its own: nothing can reach the program on disk through it (CVE-2019-5736).
pub(crate) fn sealed_program(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels that enforce vm.memfd_noexec want to be told; older ones do not know the flag.
    let fd = memfd_create(name, flags | MemfdFlags::EXEC).or_else(|_| memfd_create(name, flags))?;
    let mut rest = content;
    while !rest.is_empty() {
        let written = rustix::io::write(&fd, rest)?;
        rest = &rest[written..];
    }
    fcntl_add_seals(&fd, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(fd)
}
