//! Pseudo-terminals.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::spawn::Identity;

/// Both ends of a new terminal of this size, that `identity` owns.
///
/// # Errors
/// When the sandbox has no `/dev/ptmx` or no terminal is left.
pub fn open((rows, cols): (u16, u16), identity: Option<&Identity>) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let master = rustix::fs::openat(CWD, c"/dev/pts/ptmx", flags, Mode::empty())
        .or_else(|_| rustix::fs::openat(CWD, c"/dev/ptmx", flags, Mode::empty()))?;
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    resize(&master, rows, cols)?;
    if let Some(identity) = identity {
        let (uid, gid) = (rustix::fs::Uid::from_raw(identity.uid), rustix::fs::Gid::from_raw(identity.gid));
        rustix::fs::fchown(&terminal, Some(uid), Some(gid))?;
    }
    Ok((master, terminal))
}

/// Changes the size; the kernel tells the foreground processes by SIGWINCH.
///
/// # Errors
/// When `terminal` is none.
pub fn resize(terminal: impl AsFd, rows: u16, cols: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}
