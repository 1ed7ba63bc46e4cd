//! One driver's connection: its frames in, its bytes out, its streams and their credit.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use super::files::job::{Download, Upload};
use super::poller::Interest;
use super::watch::Watch;
use crate::frame::{self, Channel, Decoder, INITIAL_CREDIT, Kind};
use crate::message::{self, Reply};

/// Streams that may be open on a connection.
pub const MAX_STREAMS: usize = 2048;
/// Bytes waiting to be written above which no more `Data` is made.
pub const BUSY: usize = 256 << 10;
/// Bytes waiting to be written above which no more requests are taken.
pub const CLOGGED: usize = 1 << 20;
/// Consumed bytes from which on they are granted again.
const GRANT: u32 = INITIAL_CREDIT / 4;

/// A stream, from anywhere in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// Its connection.
    pub connection: u64,
    /// Its number there.
    pub stream: u32,
}

/// What an open stream is for.
#[derive(Debug)]
pub enum Job {
    /// Sends an exec's output.
    Watch(Watch),
    /// Feeds an exec's standard input.
    Feed {
        /// The exec.
        serial: super::journal::Serial,
        /// Close the input at the end.
        close: bool,
    },
    /// Takes the content of a file, archive or patch.
    Upload(Box<dyn Upload>),
    /// Sends the content of a file or archive, or does something long.
    Download(Box<dyn Download>),
    /// Moves the bytes of a dialled connection.
    Dial(u64),
    /// Waits for something that answers and closes it.
    Pending,
}

/// An open stream.
#[derive(Debug)]
pub struct Stream {
    /// What it is for.
    pub job: Job,
    /// Bytes of `Data` that may be sent.
    pub credit: u64,
    /// Bytes of `Data` that may still come.
    window: u32,
    /// Bytes that were consumed but not yet granted again.
    owed: u32,
    /// It stands in the work queue.
    pub queued: bool,
    /// It has more to send, but too much is waiting to be written.
    pub paused: bool,
}

impl Stream {
    /// A fresh stream.
    #[must_use]
    pub fn new(job: Job) -> Self {
        Self {
            job,
            credit: u64::from(INITIAL_CREDIT),
            window: INITIAL_CREDIT,
            owed: 0,
            queued: false,
            paused: false,
        }
    }

    /// Counts bytes that came; false when they are more than were granted.
    #[must_use]
    pub fn receive(&mut self, bytes: usize) -> bool {
        match u32::try_from(bytes).ok().and_then(|bytes| self.window.checked_sub(bytes)) {
            Some(window) => {
                self.window = window;
                true
            }
            None => false,
        }
    }

    /// Counts bytes that were consumed; returns how many to grant now.
    fn consume(&mut self, bytes: u32) -> Option<u32> {
        self.owed += bytes;
        if self.owed < GRANT {
            return None;
        }
        let grant = std::mem::take(&mut self.owed);
        self.window += grant;
        Some(grant)
    }
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The driver has not said hello.
    Fresh,
    /// Requests are taken as they come.
    Open,
    /// Frames wait in the decoder for room in `out`, or for their turn.
    Backlog,
}

/// A driver's connection.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub socket: OwnedFd,
    /// Cuts frames out of what comes.
    pub decoder: Decoder,
    /// How far it is.
    pub phase: Phase,
    /// Something in `out` is to be written at the end of this turn.
    pub dirty: bool,
    /// What the socket is watched for.
    pub interest: Interest,
    /// Open streams.
    pub streams: HashMap<u32, Stream>,
    out: Vec<u8>,
    written: usize,
}

/// What writing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// All is written.
    Empty,
    /// The socket takes no more now.
    Full,
    /// The driver is gone.
    Gone,
}

impl Connection {
    /// A connection on this socket, with the guest's hello waiting to be written.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        let mut connection = Self {
            socket,
            decoder: Decoder::new(),
            phase: Phase::Fresh,
            dirty: false,
            interest: Interest::Read,
            streams: HashMap::new(),
            out: Vec::new(),
            written: 0,
        };
        connection.put(Kind::Hello, 0, Channel::None, &message::encode(&message::Hello::new()));
        connection
    }

    /// Bytes waiting to be written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.out.len() - self.written
    }

    fn put(&mut self, kind: Kind, stream: u32, channel: Channel, payload: &[u8]) {
        frame::encode(&mut self.out, kind, stream, channel, payload);
    }

    /// Sends a reply.
    pub fn reply(&mut self, stream: u32, reply: &Reply) {
        let mut body = message::encode(reply);
        if body.len() > frame::MAX_PAYLOAD {
            let code = message::GuestErrorCode::TooLarge;
            body = message::encode(&Reply::Error { code, message: "the reply is too long".to_owned() });
        }
        self.put(Kind::Reply, stream, Channel::None, &body);
    }

    /// Sends bytes of a channel and takes them off the stream's credit.
    pub fn data(&mut self, stream: u32, channel: Channel, bytes: &[u8]) {
        for chunk in bytes.chunks(frame::MAX_DATA) {
            self.put(Kind::Data, stream, channel, chunk);
        }
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.credit = stream.credit.saturating_sub(bytes.len() as u64);
        }
    }

    /// Ends a channel.
    pub fn end(&mut self, stream: u32, channel: Channel) {
        self.put(Kind::End, stream, channel, &[]);
    }

    /// Tells the driver that a stream is over.
    pub fn close(&mut self, stream: u32) {
        self.put(Kind::Close, stream, Channel::None, &[]);
    }

    /// Gives credit back for bytes that a stream has consumed; true when there is something to write.
    pub fn consumed(&mut self, number: u32, bytes: usize) -> bool {
        let Some(stream) = self.streams.get_mut(&number) else { return false };
        let Some(grant) = stream.consume(u32::try_from(bytes).unwrap_or(u32::MAX)) else { return false };
        self.put(Kind::Credit, number, Channel::None, &grant.to_le_bytes());
        true
    }

    /// Writes what waits.
    pub fn flush(&mut self) -> Flush {
        use rustix::net::SendFlags;
        while self.written < self.out.len() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::send(&self.socket, &self.out[self.written..], flags) {
                Ok(written) => self.written += written,
                Err(rustix::io::Errno::AGAIN) => {
                    self.compact();
                    return Flush::Full;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Flush::Gone,
            }
        }
        self.compact();
        Flush::Empty
    }

    fn compact(&mut self) {
        if self.written == self.out.len() {
            self.out.clear();
            // A burst must not keep its memory for the life of an idle sandbox.
            if self.out.capacity() > 64 << 10 {
                self.out = Vec::new();
            }
        } else if self.written > BUSY {
            self.out.drain(..self.written);
        } else {
            return;
        }
        self.written = 0;
    }
}
