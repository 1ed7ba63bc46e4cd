//! A context's socket: frames of a kind, a length and bytes, in both directions.
//!
//! ```text
//!  0      1        5
//!  ┌──────┬────────┬───────────┐
//!  │ kind │ length │ payload … │   the length little-endian
//!  └──────┴────────┴───────────┘
//! ```
//!
//! What comes is hostile: a kind or length that no context of ours sends is the end of it.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};

use super::zygote::send_with;
use crate::message::MAX_VALUE;

const HEADER: usize = 5;
/// Bytes read at once.
const READ: usize = 64 << 10;
/// Reads at once.
const READS: usize = 16;
/// The most bytes of a text.
const TEXT: usize = 64 << 10;

/// What a context says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It is there: its interpreter's version.
    Hello(String),
    /// It is ready.
    Opened,
    /// It cannot be made.
    Failed(String),
    /// The code has ended: exit status, and what it came to.
    Done(u8, Vec<u8>),
    /// It has read all that was sent before.
    Pong,
}

/// What it is told.
#[derive(Debug)]
pub(super) enum Tell<'a> {
    /// Begin, on these terms.
    Terms(&'a [&'a [u8]]),
    /// Begin, as the branch that it is.
    Branch,
    /// Run this.
    Run(&'a str),
    /// Fork, on these descriptors.
    Fork(Vec<OwnedFd>),
    /// Answer.
    Ping,
}

#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    written: usize,
    descriptors: Vec<OwnedFd>,
}

/// The guest's end.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) socket: OwnedFd,
    inbox: Vec<u8>,
    outbox: VecDeque<Packet>,
    /// The poller watches for room too.
    pub(super) full: bool,
    /// Nothing more will come.
    pub(super) over: bool,
}

/// Bytes that no context sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Link {
    /// A link, and the context's end of it.
    pub(super) fn new() -> Result<(Self, OwnedFd), Errno> {
        let flags = SocketFlags::CLOEXEC;
        let (socket, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        // The kernel then says with each message who sent it.
        rustix::net::sockopt::set_socket_passcred(&socket, true)?;
        let link = Self { socket, inbox: Vec::new(), outbox: VecDeque::new(), full: false, over: false };
        Ok((link, theirs))
    }

    /// Queues something to be sent.
    pub(super) fn tell(&mut self, what: Tell<'_>) {
        let mut descriptors = Vec::new();
        let mut fields = Vec::new();
        let (kind, payload): (u8, &[u8]) = match what {
            Tell::Terms(parts) => {
                for part in parts {
                    let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
                    fields.extend_from_slice(&length.to_le_bytes());
                    fields.extend_from_slice(part);
                }
                (b'c', &fields)
            }
            Tell::Branch => (b'n', &[]),
            Tell::Run(code) => (b'r', code.as_bytes()),
            Tell::Fork(ends) => {
                descriptors = ends;
                (b'k', &[])
            }
            Tell::Ping => (b'p', &[]),
        };
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.push(kind);
        bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(payload);
        self.outbox.push_back(Packet { bytes, written: 0, descriptors });
    }

    /// Sends what can be sent; true when there is more.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(packet) = self.outbox.front_mut() {
            // Descriptors go with the first byte, once.
            let ends: &[OwnedFd] = if packet.written == 0 { &packet.descriptors } else { &[] };
            match send_with(self.socket.as_fd(), &packet.bytes[packet.written..], ends) {
                Ok(count) => {
                    packet.written += count;
                    packet.descriptors.clear();
                    if packet.written == packet.bytes.len() {
                        self.outbox.pop_front();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                // It is gone; the reaper tells.
                Err(_) => self.outbox.clear(),
            }
        }
        false
    }

    /// Reads what is there. Who sent the last of it, as the kernel says; malformed when that is not who is expected: a
    /// child of the code's, say, that has the socket too.
    pub(super) fn receive(&mut self, expected: Option<i32>) -> Result<Option<i32>, Malformed> {
        let mut sender = None;
        for _ in 0..READS {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let at = self.inbox.len();
            self.inbox.resize(at + READ, 0);
            let room = &mut self.inbox[at..];
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let received =
                rustix::net::recvmsg(&self.socket, &mut [IoSliceMut::new(room)], &mut ancillary, flags);
            let count = received.as_ref().map_or(0, |message| message.bytes);
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmCredentials(credentials) = message {
                    sender = Some(credentials.pid.as_raw_nonzero().get());
                    if count > 0 && expected.is_some() && expected != sender {
                        return Err(Malformed);
                    }
                }
            }
            self.inbox.truncate(at + count);
            match received {
                Ok(_) if count == 0 => self.over = true,
                Ok(_) => {
                    if count < READ {
                        break;
                    }
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                Err(_) => self.over = true,
            }
            break;
        }
        Ok(sender)
    }

    /// Nothing that it says counts any more, what was read and not looked at included.
    pub(super) fn silence(&mut self) {
        self.inbox.clear();
        self.over = true;
    }

    /// The next whole frame of what was read.
    pub(super) fn next(&mut self) -> Result<Option<Said>, Malformed> {
        let Some((header, rest)) = self.inbox.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [kind, length @ ..] = *header;
        let length = u32::from_le_bytes(length) as usize;
        let limit = match kind {
            b'h' | b'f' => TEXT,
            b'd' => 1 + MAX_VALUE,
            b'o' | b'p' => 0,
            _ => return Err(Malformed),
        };
        if length > limit {
            return Err(Malformed);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let payload = &rest[..length];
        let text = |most: usize| -> String {
            String::from_utf8_lossy(payload).chars().filter(|c| !c.is_control()).take(most).collect()
        };
        let said = match kind {
            b'h' => Said::Hello(text(32)),
            b'f' => Said::Failed(text(2000)),
            b'o' => Said::Opened,
            b'p' => Said::Pong,
            _ => {
                let (status, report) = payload.split_first().ok_or(Malformed)?;
                Said::Done(*status, report.to_vec())
            }
        };
        self.inbox.drain(..HEADER + length);
        if self.inbox.is_empty() && self.inbox.capacity() > READ {
            // A burst must not keep its memory for the life of an idle context.
            self.inbox = Vec::new();
        }
        Ok(Some(said))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn link_with(bytes: &[u8]) -> Link {
        let (mut link, _theirs) = Link::new().unwrap();
        link.inbox = bytes.to_vec();
        link
    }

    #[test]
    fn a_frame_is_taken_once_it_is_whole() {
        let mut link = link_with(b"d\x03\0\0\0\x01{");
        assert_eq!(link.next(), Ok(None));
        link.inbox.extend_from_slice(b"}p\0\0\0\0");
        assert_eq!(link.next(), Ok(Some(Said::Done(1, b"{}".to_vec()))));
        assert_eq!(link.next(), Ok(Some(Said::Pong)));
        assert_eq!(link.next(), Ok(None));
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_arrive() {
        let length = u32::try_from(MAX_VALUE + 2).unwrap().to_le_bytes();
        let mut link = link_with(&[b"d".as_slice(), &length].concat());
        assert_eq!(link.next(), Err(Malformed));
        assert_eq!(link_with(b"o\x01\0\0\0").next(), Err(Malformed));
        assert_eq!(link_with(b"d\0\0\0\0").next(), Err(Malformed));
    }

    proptest! {
        #[test]
        fn whatever_a_context_sends_is_a_frame_or_malformed(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut link = link_with(&bytes);
            while let Ok(Some(_)) = link.next() {}
            prop_assert!(link.inbox.len() <= bytes.len());
        }
    }
}
