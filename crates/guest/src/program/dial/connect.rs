//! From a target to a socket, without ever waiting.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};

use crate::message::{DialTarget, GuestErrorCode, MAX_DIAL_WAIT_MS};
use crate::program::files::Root;
use crate::program::files::path::checked;
use crate::program::refusal::{Refusal, reason};

/// Which loopback address of a port is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loopback {
    /// 127.0.0.1, the first.
    V4,
    /// ::1.
    V6,
}

/// What one attempt came to.
#[derive(Debug)]
pub(super) enum Attempt {
    /// It is connected.
    Connected(OwnedFd),
    /// The socket becomes writable when it is known.
    UnderWay(OwnedFd, Loopback),
    /// Nobody takes connections there, which may change.
    NotYet(NotYet),
}

/// Why nobody takes connections yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotYet {
    /// There is no such path.
    NoSuchPath,
    /// Nothing listens.
    Refused,
    /// More connections wait there than it lets wait.
    Busy,
}

/// Checks the form of a target.
///
/// # Errors
/// [`Refusal`] names what is wrong.
pub(super) fn check(target: &DialTarget, wait_ms: u64) -> Result<(), Refusal> {
    if wait_ms > MAX_DIAL_WAIT_MS {
        return Err(Refusal::invalid(format!("wait of {wait_ms} ms; at most {MAX_DIAL_WAIT_MS}")));
    }
    match target {
        DialTarget::Path(path) => checked(path).map(drop),
        DialTarget::Port(0) => Err(Refusal::invalid("port 0: not one of 1 to 65535")),
        DialTarget::Port(_) => Ok(()),
    }
}

/// A target as messages name it.
#[must_use]
pub(super) fn name(target: &DialTarget) -> String {
    match target {
        DialTarget::Path(path) => path.clone(),
        DialTarget::Port(port) => format!("port {port}"),
    }
}

/// Tries to connect once.
///
/// # Errors
/// [`Refusal`]: another attempt would not help.
pub(super) fn attempt(root: &Root, target: &DialTarget) -> Result<Attempt, Refusal> {
    match target {
        DialTarget::Path(path) => attempt_path(root, path),
        DialTarget::Port(port) => attempt_port(*port, Loopback::V4),
    }
}

fn attempt_path(root: &Root, path: &str) -> Result<Attempt, Refusal> {
    // Found first, and connected to as what was found: the kernel would follow links out of the root, and takes only 107
    // bytes of a path.
    let found = match root.open_path(path, OFlags::PATH) {
        Ok(found) => found,
        Err(refusal) if refusal.code == GuestErrorCode::FileNotFound => {
            return Ok(Attempt::NotYet(NotYet::NoSuchPath));
        }
        Err(refusal) => return Err(refusal),
    };
    let stat = rustix::fs::fstat(&found).map_err(|errno| Refusal::file(path, errno))?;
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => None,
        FileType::RegularFile => Some("is a file, not a socket"),
        FileType::Directory => Some("is a directory, not a socket"),
        _ => Some("is not a socket"),
    };
    if let Some(what) = what {
        return Err(Refusal::new(GuestErrorCode::FileRefused, format!("{path}: {what}")));
    }
    let socket = new_socket(AddressFamily::UNIX).map_err(|errno| no_socket(path, errno))?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", found.as_raw_fd()));
    let address = address.map_err(|errno| Refusal::file(path, errno))?;
    match retried(|| connect(&socket, &address)) {
        Ok(()) => Ok(Attempt::Connected(socket)),
        Err(Errno::CONNREFUSED) => Ok(Attempt::NotYet(NotYet::Refused)),
        Err(Errno::AGAIN) => Ok(Attempt::NotYet(NotYet::Busy)),
        Err(Errno::NOENT) => Ok(Attempt::NotYet(NotYet::NoSuchPath)),
        Err(Errno::PROTOTYPE) => {
            let message = format!("{path}: is a socket, but not a stream");
            Err(Refusal::new(GuestErrorCode::FileRefused, message))
        }
        Err(errno) => Err(Refusal::file(path, errno)),
    }
}

/// Tries to connect to a port at one of its addresses, and at the next where nothing listens.
///
/// # Errors
/// As for [`attempt`].
pub(super) fn attempt_port(port: u16, at: Loopback) -> Result<Attempt, Refusal> {
    let (family, address) = match at {
        Loopback::V4 => (AddressFamily::INET, SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        Loopback::V6 => (AddressFamily::INET6, SocketAddr::from((Ipv6Addr::LOCALHOST, port))),
    };
    let socket = match new_socket(family) {
        Ok(socket) => socket,
        // What counts is what was said at the first address.
        Err(Errno::AFNOSUPPORT) if at == Loopback::V6 => return Ok(Attempt::NotYet(NotYet::Refused)),
        Err(errno) => return Err(no_socket(&format!("port {port}"), errno)),
    };
    // Each piece goes out as it comes. Where this fails it is only slower.
    let _slower = sockopt::set_tcp_nodelay(&socket, true);
    match retried(|| connect(&socket, &address)) {
        Ok(()) => Ok(Attempt::Connected(socket)),
        Err(Errno::INPROGRESS) => Ok(Attempt::UnderWay(socket, at)),
        Err(errno) => after_failure(port, at, errno),
    }
}

/// What comes after an attempt at an address that failed.
fn after_failure(port: u16, at: Loopback, errno: Errno) -> Result<Attempt, Refusal> {
    match at {
        Loopback::V4 => attempt_port(port, Loopback::V6),
        Loopback::V6 if errno == Errno::CONNREFUSED || errno == Errno::ADDRNOTAVAIL => {
            Ok(Attempt::NotYet(NotYet::Refused))
        }
        Loopback::V6 => {
            let message = format!("port {port}: {}", reason(&errno.into()));
            Err(Refusal::new(GuestErrorCode::NotListening, message))
        }
    }
}

/// What an attempt that was under way has come to.
///
/// # Errors
/// As for [`attempt`].
pub(super) fn conclude(socket: OwnedFd, port: u16, at: Loopback) -> Result<Attempt, Refusal> {
    match sockopt::socket_error(&socket) {
        Ok(Ok(())) => Ok(Attempt::Connected(socket)),
        Ok(Err(errno)) | Err(errno) => after_failure(port, at, errno),
    }
}

fn new_socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

fn no_socket(name: &str, errno: Errno) -> Refusal {
    Refusal::new(GuestErrorCode::LimitExceeded, format!("{name}: no socket: {}", reason(&errno.into())))
}

fn retried(mut call: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Why nobody could be reached.
#[must_use]
pub(super) fn unreachable(target: &DialTarget, why: NotYet, waited: Duration) -> Refusal {
    let (code, what) = match why {
        NotYet::NoSuchPath => (GuestErrorCode::FileNotFound, "no such file or directory"),
        NotYet::Refused => (GuestErrorCode::NotListening, "nothing listens there"),
        NotYet::Busy => (GuestErrorCode::NotListening, "what listens there takes no connections"),
    };
    let name = name(target);
    let message = if waited.is_zero() {
        format!("{name}: {what}")
    } else {
        format!("{name}: {what}, after {:.1} s", waited.as_secs_f64())
    };
    Refusal::new(code, message)
}
