//! Starts a process the quick way: `clone(CLONE_VM | CLONE_VFORK)` on a stack of its own, everything prepared before.
//!
//! The child shares this program's memory until it executes, so it may only make system calls: no allocation, no
//! panic. It tells why it failed by writing to that memory; the parent sleeps meanwhile.

#![allow(unsafe_code, reason = "the only place that forks; the child may run nothing but plain system calls")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

/// Bytes of the child's stack; it only makes system calls.
const STACK: usize = 64 << 10;
const OOM_ADJUSTMENT: &CStr = c"/proc/self/oom_score_adj";

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Other groups.
    pub groups: Vec<u32>,
}

/// Everything about a process to start.
#[derive(Debug)]
pub struct Command<'a> {
    /// Paths to try in this order.
    pub candidates: Vec<CString>,
    /// Arguments, the program's name first.
    pub argv: Vec<CString>,
    /// `NAME=value` each.
    pub env: Vec<CString>,
    /// Working directory.
    pub cwd: CString,
    /// Whom to run as; as the guest when `None`.
    pub identity: Option<Identity>,
    /// What becomes its descriptors, with their numbers there. The lowest numbers come first.
    pub descriptors: Vec<(BorrowedFd<'a>, RawFd)>,
    /// Descriptor 0 is a terminal, which becomes its controlling one.
    pub terminal: bool,
    /// Whose child a process of its tree becomes that has lost its parent.
    pub orphans: Orphans,
}

/// Whose children orphans become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphans {
    /// Those of the process that is started, so that its tree can be found while it lives.
    ToLeader,
    /// The guest's own: the process makes others that are to be known one by one.
    ToGuest,
}

/// What the child was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Making the process.
    Fork,
    /// Its session, terminal or descriptors.
    Setup,
    /// Changing to the working directory.
    Directory,
    /// Becoming the user.
    Identity,
    /// Executing the program.
    Execute,
}

/// Why a process did not start.
#[derive(Debug, thiserror::Error)]
#[error("{step:?}: {source}")]
pub struct SpawnError {
    /// What was being done.
    pub step: Step,
    /// The kernel's answer.
    pub source: io::Error,
}

/// Starts processes; owns the stack that they share one after another.
#[derive(Debug)]
pub struct Spawner {
    /// Room for the first child on, and never cleared: only the pages that a child has used are there.
    stack: Vec<MaybeUninit<u8>>,
}

/// What the child reads and writes.
struct Plan {
    candidates: *const *const c_char,
    argv: *const *const c_char,
    env: *const *const c_char,
    cwd: *const c_char,
    identity: Option<(u32, u32)>,
    groups: *const u32,
    group_count: usize,
    descriptors: *const (RawFd, RawFd),
    descriptor_count: usize,
    /// First number above those of `descriptors`.
    above: c_int,
    terminal: bool,
    adopts: bool,
    step: Step,
    errno: c_int,
}

impl Default for Spawner {
    fn default() -> Self {
        Self::new()
    }
}

impl Spawner {
    /// A spawner.
    #[must_use]
    pub fn new() -> Self {
        Self { stack: Vec::new() }
    }

    /// Starts a process as leader of a new session, and returns its id once it executes the program.
    ///
    /// # Errors
    /// [`SpawnError`]: nothing runs then.
    pub fn spawn(&mut self, command: &Command<'_>) -> Result<i32, SpawnError> {
        let pointers = |strings: &[CString]| -> Vec<*const c_char> {
            strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
        };
        let (candidates, argv, env) =
            (pointers(&command.candidates), pointers(&command.argv), pointers(&command.env));
        let descriptors: Vec<(RawFd, RawFd)> =
            command.descriptors.iter().map(|(fd, number)| (fd.as_raw_fd(), *number)).collect();
        let groups = command.identity.as_ref().map_or(&[][..], |identity| &identity.groups);
        let mut plan = Plan {
            candidates: candidates.as_ptr(),
            argv: argv.as_ptr(),
            env: env.as_ptr(),
            cwd: command.cwd.as_ptr(),
            identity: command.identity.as_ref().map(|identity| (identity.uid, identity.gid)),
            groups: groups.as_ptr(),
            group_count: groups.len(),
            descriptors: descriptors.as_ptr(),
            descriptor_count: descriptors.len(),
            above: descriptors.iter().map(|(_, number)| number + 1).max().unwrap_or(0).max(3),
            terminal: command.terminal,
            adopts: command.orphans == Orphans::ToLeader,
            step: Step::Fork,
            errno: 0,
        };
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let arg = (&raw mut plan).cast::<c_void>();
        self.stack.reserve_exact(STACK);
        // SAFETY: the end of an allocation is a valid place to point at.
        let top = unsafe { self.stack.as_mut_ptr().add(STACK) };
        let top = top.wrapping_sub(top as usize % 16);
        // SAFETY: the stack and all that `plan` points at outlive the child's use of them, for CLONE_VFORK holds this
        // thread, the only one, until the child has executed or exited; all signals are blocked, so no handler runs.
        let pid = unsafe { libc::clone(child, top.cast::<c_void>(), flags, arg) };
        if pid < 0 {
            return Err(SpawnError { step: Step::Fork, source: io::Error::last_os_error() });
        }
        // SAFETY: the child may have written these; the reads must not be taken from before `clone`.
        let errno = unsafe { ptr::read_volatile(&raw const plan.errno) };
        if errno == 0 {
            return Ok(pid);
        }
        // SAFETY: as above.
        let step = unsafe { ptr::read_volatile(&raw const plan.step) };
        // The child that failed has exited; the reaper finds a process that nobody knows, and that is fine.
        Err(SpawnError { step, source: io::Error::from_raw_os_error(errno) })
    }
}

extern "C" fn child(arg: *mut c_void) -> c_int {
    let plan = arg.cast::<Plan>();
    // SAFETY: `arg` is the plan of `spawn`, which nobody else touches while this runs.
    let plan = unsafe { &mut *plan };
    // SAFETY: this is the child of a vfork; these functions only make system calls.
    let errno = unsafe { prepare(plan) };
    let errno = if errno == 0 {
        plan.step = Step::Execute;
        // SAFETY: as above.
        unsafe { execute(plan) }
    } else {
        errno
    };
    plan.errno = errno;
    // SAFETY: ends the child alone, without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

/// Returns an errno, or 0.
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a straight line of system calls with one argument for all"
)]
unsafe fn prepare(plan: &mut Plan) -> c_int {
    // SAFETY: all pointers of the plan are valid, see `spawn`; only system calls are made.
    unsafe {
        plan.step = Step::Setup;
        // The kernel's killer is to take execs, not the guest. Not worth failing for: without it the order is the kernel's.
        let adjustment = libc::open(OOM_ADJUSTMENT.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if adjustment >= 0 {
            libc::write(adjustment, c"1000".as_ptr().cast(), 4);
        }
        if libc::setsid() < 0 {
            return errno();
        }
        // Orphans of this tree come to its leader, so that the tree can be found.
        if plan.adopts && libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0 {
            return errno();
        }
        if let Some(errno) = connect(plan) {
            return errno;
        }
        if plan.terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
            return errno();
        }
        plan.step = Step::Directory;
        if libc::chdir(plan.cwd) < 0 {
            return errno();
        }
        plan.step = Step::Identity;
        // EINVAL or EPERM: it is not there to be dropped.
        libc::prctl(libc::PR_CAPBSET_DROP, CAP_SETPCAP, 0, 0, 0);
        if let Some((uid, gid)) = plan.identity {
            // Raw calls: glibc's wrappers would tell other threads, of which it has a list in the parent's memory.
            if libc::syscall(libc::SYS_setgroups, plan.group_count, plan.groups) < 0
                || libc::syscall(libc::SYS_setresgid, gid, gid, gid) < 0
                || libc::syscall(libc::SYS_setresuid, uid, uid, uid) < 0
            {
                return errno();
            }
        }
        plan.step = Step::Setup;
        libc::syscall(libc::SYS_close_range, plan.above, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        let none = [0_u64; 1];
        // The kernel's set is 8 bytes.
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            none.as_ptr(),
            ptr::null::<u64>(),
            8_usize,
        );
        0
    }
}

const CAP_SETPCAP: c_int = 8;

/// Puts the descriptors where they belong.
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "as in `prepare`")]
unsafe fn connect(plan: &Plan) -> Option<c_int> {
    // SAFETY: the array has `descriptor_count` elements; only system calls are made.
    unsafe {
        for at in 0..plan.descriptor_count {
            let (from, to) = *plan.descriptors.add(at);
            let result = if from == to { libc::fcntl(to, libc::F_SETFD, 0) } else { libc::dup2(from, to) };
            if result < 0 {
                return Some(errno());
            }
        }
        None
    }
}

/// Returns only when no candidate could be executed.
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "as in `prepare`")]
unsafe fn execute(plan: &Plan) -> c_int {
    // SAFETY: the arrays end with a null pointer; only system calls are made.
    unsafe {
        let mut last = libc::ENOENT;
        let mut candidate = plan.candidates;
        while !(*candidate).is_null() {
            // Most are not there, and the kernel builds a whole address space before it looks.
            if (*candidate.add(1)).is_null()
                || libc::access(*candidate, libc::F_OK) == 0
                || errno() != libc::ENOENT
            {
                libc::execve(*candidate, plan.argv, plan.env);
            }
            match errno() {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => last = libc::EACCES,
                errno => return errno,
            }
            candidate = candidate.add(1);
        }
        last
    }
}

unsafe fn errno() -> c_int {
    // SAFETY: takes the address of this thread's errno, which the child shares with its sleeping parent.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: glibc keeps it valid as long as the thread lives.
    unsafe { *location }
}

/// Kills every process but the caller, which must be PID 1 of a sandbox.
pub fn kill_everything() {
    if std::process::id() == 1 {
        // SAFETY: a plain system call; -1 reaches only this PID namespace.
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}
