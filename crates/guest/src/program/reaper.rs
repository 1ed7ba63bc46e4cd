//! Children that have ended: the signal descriptor that tells of them, and `wait4`, which takes them away.

#![allow(unsafe_code, reason = "rustix has neither signalfd nor wait4 with usage")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It called exit with this status.
    Exited(i32),
    /// This signal ended it.
    Signalled(i32),
}

/// What a child used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user mode, in microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, in microseconds.
    pub system_us: u64,
    /// Largest resident set, in bytes.
    pub max_rss: u64,
}

/// A child that was reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its process id.
    pub pid: i32,
    /// How it ended.
    pub status: Status,
    /// What it used.
    pub usage: Usage,
}

/// Blocks every signal, puts every disposition back to its default (an exec inherits what is ignored), and returns a
/// descriptor that is readable when a child has ended.
///
/// # Errors
/// When the kernel gives no signal descriptor.
pub fn take_over_signals() -> io::Result<OwnedFd> {
    for signal in 1_i32..=64 {
        // The kernel's `struct sigaction`, all zero: SIG_DFL, no flags. Raw, because glibc refuses its own two signals.
        let default = [0_u64; 4];
        // SAFETY: setting SIG_DFL installs no handler. KILL and STOP are refused, which is right.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0_usize, 8_usize) };
    }
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `all` is a sigset_t to be filled.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: `all` was filled.
    let refused = unsafe { libc::sigprocmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut()) };
    if refused != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut child = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `child` is a sigset_t to be emptied.
    unsafe { libc::sigemptyset(child.as_mut_ptr()) };
    // SAFETY: `child` was emptied.
    unsafe { libc::sigaddset(child.as_mut_ptr(), libc::SIGCHLD) };
    // SAFETY: `child` is an initialised set.
    let fd = unsafe { libc::signalfd(-1, child.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: signalfd just gave it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes one ended child; `None` when there is none now.
#[must_use]
pub fn reap() -> Option<Ended> {
    loop {
        let mut status = 0;
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: both pointers are to memory of the right types.
        let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
        if pid < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
            continue;
        }
        if pid <= 0 {
            return None;
        }
        // SAFETY: zeroed bytes are a rusage, and the kernel has filled it in.
        let usage = unsafe { usage.assume_init() };
        let status = if libc::WIFSIGNALED(status) {
            Status::Signalled(libc::WTERMSIG(status))
        } else {
            Status::Exited(libc::WEXITSTATUS(status))
        };
        let micros = |t: libc::timeval| u64::try_from(t.tv_sec * 1_000_000 + t.tv_usec).unwrap_or(0);
        return Some(Ended {
            pid,
            status,
            usage: Usage {
                user_us: micros(usage.ru_utime),
                system_us: micros(usage.ru_stime),
                max_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
            },
        });
    }
}

/// Sends a signal of any number, 1 to 64, to a process.
///
/// # Errors
/// The kernel's, e.g. that there is no such signal or process.
pub fn send(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: a plain system call. Ids below 1 would mean groups, and 0 as a signal nothing.
    let refused = pid < 1 || signal < 1 || unsafe { libc::kill(pid, signal) } != 0;
    if refused { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes over a descriptor that the program was started with; `None` when there is none of this number.
#[must_use]
pub fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_SETFD changes a flag, or fails when the number is no open descriptor.
    let found = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == 0;
    // SAFETY: it is open, and the start contract gives it to this program alone; this is called once for each number.
    found.then(|| unsafe { OwnedFd::from_raw_fd(number) })
}
