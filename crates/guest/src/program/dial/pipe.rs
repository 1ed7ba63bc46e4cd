//! The two directions of an open connection.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, Shutdown, send, shutdown, sockopt};

use crate::program::poller::{Hangup, Interest};

/// Kept room for bytes that wait; a burst must not keep its memory for the life of a connection.
const KEPT: usize = 16 << 10;

/// From the socket to the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// More may come.
    Open,
    /// All was read.
    Ended,
}

/// A connected socket.
#[derive(Debug)]
pub(super) struct Pipe {
    /// The socket.
    pub(super) socket: OwnedFd,
    /// From it to the driver.
    pub(super) reading: Reading,
    /// There may be something to read: an edge has told so, and no read has found nothing since.
    pub(super) readable: bool,
    /// What the other side has given up.
    pub(super) hangup: Hangup,
    /// What the poller watches it for.
    pub(super) interest: Interest,
}

impl Pipe {
    /// A socket that was connected just now.
    #[must_use]
    pub(super) fn new(socket: OwnedFd) -> Self {
        let (reading, hangup, interest) = (Reading::Open, Hangup::None, Interest::Read);
        Self { socket, reading, readable: false, hangup, interest }
    }

    /// Has the end of this connection be no orderly one, where its kind knows such a thing.
    pub(super) fn break_off(&self) {
        if sockopt::socket_domain(&self.socket).is_ok_and(|family| family != AddressFamily::UNIX) {
            // Where it fails the other side sees an early end instead of a reset.
            let _orderly = sockopt::set_socket_linger(&self.socket, Some(std::time::Duration::ZERO));
        }
    }
}

/// Whether the driver sends more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// It may.
    #[default]
    Open,
    /// It does not: what waits is the last.
    Ending,
    /// The socket was told so.
    Ended,
    /// The other side takes no more; bytes may be lost.
    Failed,
}

/// From the driver to the socket.
#[derive(Debug, Default)]
pub(super) struct Writing {
    state: State,
    /// What the socket did not take yet. The driver's credit bounds it.
    waiting: Vec<u8>,
    written: usize,
}

/// What offering bytes to a socket came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Bytes that are gone, written or dropped: the driver may send as many more.
    pub(super) bytes: usize,
    /// The socket takes no more now, though some wait.
    pub(super) full: bool,
}

impl Writing {
    /// Takes bytes of the driver; writes them at once where there is a socket and nothing waits before them.
    pub(super) fn take(&mut self, socket: Option<&OwnedFd>, bytes: &[u8]) -> Taken {
        if self.state != State::Open {
            return Taken { bytes: bytes.len(), full: false };
        }
        let mut at = 0;
        if let (Some(socket), true) = (socket, self.waiting.is_empty()) {
            match write(socket, bytes) {
                Ok(count) => at = count,
                Err(_) => return Taken { bytes: self.fail() + bytes.len(), full: false },
            }
        }
        self.waiting.extend_from_slice(&bytes[at..]);
        Taken { bytes: at, full: socket.is_some() && !self.waiting.is_empty() }
    }

    /// Writes what waits, and tells the socket of the end when that was the last.
    pub(super) fn flush(&mut self, socket: &OwnedFd) -> Taken {
        let mut taken = Taken { bytes: 0, full: false };
        if self.written < self.waiting.len() {
            match write(socket, &self.waiting[self.written..]) {
                Ok(count) => taken.bytes = count,
                Err(_) => return Taken { bytes: self.fail(), full: false },
            }
            self.written += taken.bytes;
            if self.written < self.waiting.len() {
                taken.full = true;
                return taken;
            }
            self.clear();
        }
        if self.state == State::Ending {
            self.state = State::Ended;
            // A socket whose other side is gone says so when it is read.
            let _gone = shutdown(socket, Shutdown::Write);
        }
        taken
    }

    /// The driver sends no more.
    pub(super) fn end(&mut self) {
        if self.state == State::Open {
            self.state = State::Ending;
        }
    }

    /// The other side takes no more. Gives the bytes that are lost by that.
    pub(super) fn fail(&mut self) -> usize {
        let lost = self.waiting.len() - self.written;
        self.clear();
        self.state = State::Failed;
        lost
    }

    /// Nothing more will be written.
    #[must_use]
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Ended | State::Failed)
    }

    /// The other side has not taken all that was sent.
    #[must_use]
    pub(super) fn is_cut_short(&self) -> bool {
        self.state == State::Failed || !self.waiting.is_empty()
    }

    /// The driver has said its last, and the socket has still to take it.
    #[must_use]
    pub(super) fn is_ending(&self) -> bool {
        self.state == State::Ending
    }

    /// The driver may send more.
    #[must_use]
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    fn clear(&mut self) {
        self.written = 0;
        self.waiting.clear();
        if self.waiting.capacity() > KEPT {
            self.waiting = Vec::new();
        }
    }
}

/// Writes what the socket takes now.
fn write(socket: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    let mut at = 0;
    while at < bytes.len() {
        match send(&socket, &bytes[at..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(count) => at += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (OwnedFd, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours.into(), theirs)
    }

    #[test]
    fn what_a_full_socket_does_not_take_waits_and_keeps_its_order() {
        let (ours, mut theirs) = pair();
        let content: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut writing = Writing::default();
        let mut gone = 0;
        for piece in content.chunks(50_000) {
            gone += writing.take(Some(&ours), piece).bytes;
        }
        writing.end();
        assert!(writing.is_ending() && gone < content.len());
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).unwrap();
            got
        });
        while !writing.is_over() {
            gone += writing.flush(&ours).bytes;
        }
        assert_eq!(gone, content.len());
        assert!(reader.join().unwrap() == content);
    }

    #[test]
    fn what_came_before_there_is_a_socket_is_written_when_there_is() {
        let (ours, mut theirs) = pair();
        let mut writing = Writing::default();
        assert_eq!(writing.take(None, b"early"), Taken { bytes: 0, full: false });
        assert_eq!(writing.flush(&ours).bytes, 5);
        let mut got = [0; 5];
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"early");
    }

    #[test]
    fn a_socket_that_takes_no_more_costs_no_credit_and_is_known() {
        let (ours, theirs) = pair();
        drop(theirs);
        let mut writing = Writing::default();
        assert_eq!(writing.take(Some(&ours), b"lost"), Taken { bytes: 4, full: false });
        assert!(writing.is_over() && writing.is_cut_short());
        assert_eq!(writing.take(Some(&ours), b"more").bytes, 4);
    }
}
