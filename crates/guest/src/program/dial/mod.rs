//! Connections that a driver makes to what listens in the sandbox.
//!
//! ```text
//!           nobody listens yet            TCP: it is known when the socket is writable
//!  Waiting ◄───────────────────┬────────► Connecting ──────────────► Open ──► gone
//!     │ timer                  │                                      │ the driver has ended and left: what it sent
//!     └──────────────────► attempt                                    ▼ is still written
//!                                                                  (no stream)
//! ```
//!
//! Sockets are watched by edges, so that an open connection costs no call but those that move its bytes: it is read while
//! there is credit, and written to at once; only what the socket does not take is kept, and the driver has credit for no
//! more than that.

mod connect;
mod pipe;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::connection::{BUSY, Job, Stream, StreamKey};
use super::poller::{Event, Hangup, Interest, Source};
use super::refusal::{Refusal, reason};
use super::server::Server;
use super::timers::Owner;
use crate::frame::{Channel, MAX_DATA};
use crate::message::{DialTarget, GuestErrorCode, Reply};
use connect::{Attempt, Loopback, NotYet};
use pipe::{Pipe, Reading, Taken, Writing};

/// Connections at once, those that are waited for included.
pub const MAX_DIALS: usize = 1024;
/// How long one that listens may have no room for a connection, and a TCP connection may take.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);
/// How long what a driver sent may take to be written after it has left.
const LINGER: Duration = Duration::from_secs(30);
/// The pause before the next attempt: an eighth of the wait so far, so that nobody waits much longer than he has to, and
/// between these.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// Bytes moved for one connection in one turn.
const PIECE: usize = 256 << 10;

/// All of them.
#[derive(Debug, Default)]
pub struct Dials {
    by_number: BTreeMap<u64, Dial>,
    next: u64,
}

impl Dials {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_number.len()
    }
}

/// One connection.
#[derive(Debug)]
struct Dial {
    /// Whose it is; `None` when its driver has left.
    key: Option<StreamKey>,
    target: DialTarget,
    since: Instant,
    wait: Duration,
    life: Life,
    /// What the driver has sent, and what is to come of it.
    writing: Writing,
}

/// Whether the poller knows a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    /// It watched it while the connection was made.
    Yes,
    No,
}

#[derive(Debug)]
enum Life {
    /// Nobody listens; it is tried again.
    Waiting,
    /// A TCP connection is being made.
    Connecting(OwnedFd, Loopback),
    Open(Pipe),
}

impl Server {
    /// Opens a stream to what listens at a target.
    ///
    /// # Errors
    /// [`Refusal`] when the target cannot be one, or there are too many.
    pub(super) fn dial(&mut self, key: StreamKey, target: DialTarget, wait_ms: u64) -> Result<(), Refusal> {
        connect::check(&target, wait_ms)?;
        if self.dials.count() >= MAX_DIALS {
            let message = format!("{}: {MAX_DIALS} connections are open already", connect::name(&target));
            return Err(Refusal::new(GuestErrorCode::LimitExceeded, message));
        }
        let number = self.dials.next;
        self.dials.next += 1;
        let wait = Duration::from_millis(wait_ms);
        let (since, life) = (Instant::now(), Life::Waiting);
        let dial = Dial { key: Some(key), target, since, wait, life, writing: Writing::default() };
        if let Some(connection) = self.connections.get_mut(&key.connection) {
            connection.streams.insert(key.stream, Stream::new(Job::Dial(number)));
            self.dials.by_number.insert(number, dial);
            self.try_dial(number);
        }
        Ok(())
    }

    fn try_dial(&mut self, number: u64) {
        let Some(dial) = self.dials.by_number.get(&number) else { return };
        let attempt = connect::attempt(&self.root, &dial.target);
        self.go_on(number, attempt);
    }

    fn go_on(&mut self, number: u64, attempt: Result<Attempt, Refusal>) {
        let Some(dial) = self.dials.by_number.get_mut(&number) else { return };
        match attempt {
            Ok(Attempt::Connected(socket)) => self.open_dial(number, socket, Watched::No),
            Ok(Attempt::UnderWay(socket, at)) => {
                if self.poller.add_edges(&socket, Source::Dial(number), Interest::Write).is_err() {
                    return self.refuse_dial(number, no_memory);
                }
                dial.life = Life::Connecting(socket, at);
                let until = dial.since + dial.wait.max(BUSY_PATIENCE);
                self.timers.set(Owner::Dial(number), Some(until));
            }
            Ok(Attempt::NotYet(why)) => {
                dial.life = Life::Waiting;
                let patience = if why == NotYet::Busy { dial.wait.max(BUSY_PATIENCE) } else { dial.wait };
                let waited = dial.since.elapsed();
                if waited >= patience {
                    return self
                        .refuse_dial(number, |dial| connect::unreachable(&dial.target, why, patience));
                }
                let pause = (waited / 8).clamp(PAUSE.0, PAUSE.1).min(patience - waited);
                self.timers.set(Owner::Dial(number), Some(Instant::now() + pause));
            }
            Err(refusal) => self.refuse_dial(number, |_| refusal),
        }
    }

    fn open_dial(&mut self, number: u64, socket: OwnedFd, watched: Watched) {
        let Some(dial) = self.dials.by_number.get_mut(&number) else { return };
        let source = Source::Dial(number);
        let known = match watched {
            Watched::Yes => self.poller.modify_edges(&socket, source, Interest::Read),
            Watched::No => self.poller.add_edges(&socket, source, Interest::Read),
        };
        if known.is_err() {
            return self.refuse_dial(number, no_memory);
        }
        dial.life = Life::Open(Pipe::new(socket));
        self.timers.set(Owner::Dial(number), None);
        if let Some(key) = dial.key
            && let Some(connection) = self.connections.get_mut(&key.connection)
        {
            connection.reply(key.stream, &Reply::Dialed);
            self.mark_dirty(key.connection);
        }
        self.write_dial(number);
    }

    /// Ends a connection with an error.
    fn refuse_dial(&mut self, number: u64, refusal: impl FnOnce(&Dial) -> Refusal) {
        let Some(dial) = self.forget_dial(number) else { return };
        if let Some(key) = dial.key {
            let refusal = refusal(&dial);
            self.refuse(key, refusal);
        }
    }

    fn forget_dial(&mut self, number: u64) -> Option<Dial> {
        self.timers.set(Owner::Dial(number), None);
        self.dials.by_number.remove(&number)
    }

    /// Something has happened to a connection's socket.
    pub(super) fn on_dial(&mut self, number: u64, event: Event) {
        let Some(dial) = self.dials.by_number.get_mut(&number) else { return };
        match &mut dial.life {
            Life::Waiting => {}
            Life::Connecting(..) => self.conclude_dial(number),
            Life::Open(pipe) => {
                pipe.readable |= event.readable || event.hangup != Hangup::None;
                pipe.hangup = pipe.hangup.max(event.hangup);
                if event.writable {
                    self.write_dial(number);
                }
                self.read_dial(number);
            }
        }
    }

    fn conclude_dial(&mut self, number: u64) {
        let Some(dial) = self.dials.by_number.get_mut(&number) else { return };
        let life = std::mem::replace(&mut dial.life, Life::Waiting);
        let (Life::Connecting(socket, at), &DialTarget::Port(port)) = (life, &dial.target) else { return };
        match connect::conclude(socket, port, at) {
            Ok(Attempt::Connected(socket)) => self.open_dial(number, socket, Watched::Yes),
            other => self.go_on(number, other),
        }
    }

    /// A connection's timer is due.
    pub(super) fn on_dial_timer(&mut self, number: u64) {
        let Some(dial) = self.dials.by_number.get(&number) else { return };
        match dial.life {
            Life::Waiting => self.try_dial(number),
            Life::Connecting(..) => self.refuse_dial(number, |dial| {
                connect::unreachable(&dial.target, NotYet::Busy, dial.since.elapsed())
            }),
            // Its driver has left long ago, and the other side takes nothing.
            Life::Open(_) => drop(self.forget_dial(number)),
        }
    }

    /// The driver has sent bytes.
    pub(super) fn dial_data(&mut self, key: StreamKey, number: u64, bytes: &[u8]) {
        let Some(dial) = self.dials.by_number.get_mut(&number) else { return };
        let socket = if let Life::Open(pipe) = &dial.life { Some(&pipe.socket) } else { None };
        let taken = dial.writing.take(socket, bytes);
        self.written_to_dial(number, taken);
        self.consumed(key, taken.bytes);
    }

    /// The driver sends no more.
    pub(super) fn dial_end(&mut self, number: u64) {
        if let Some(dial) = self.dials.by_number.get_mut(&number) {
            dial.writing.end();
            self.write_dial(number);
        }
    }

    /// Writes what waits for a socket.
    fn write_dial(&mut self, number: u64) {
        let Some(dial) = self.dials.by_number.get_mut(&number) else { return };
        let Life::Open(pipe) = &dial.life else { return };
        let (taken, key) = (dial.writing.flush(&pipe.socket), dial.key);
        self.written_to_dial(number, taken);
        if let Some(key) = key {
            self.consumed(key, taken.bytes);
        }
    }

    /// Has the poller tell of room when some is wanted.
    fn written_to_dial(&mut self, number: u64, taken: Taken) {
        let Some(dial) = self.dials.by_number.get_mut(&number) else { return };
        let Life::Open(pipe) = &mut dial.life else { return };
        let interest = if taken.full { Interest::Both } else { Interest::Read };
        if interest != pipe.interest {
            pipe.interest = interest;
            if self.poller.modify_edges(&pipe.socket, Source::Dial(number), interest).is_err() {
                return self.refuse_dial(number, no_memory);
            }
        }
        self.settle_dial(number);
    }

    /// Sends the driver what there is to read, as far as it has given credit.
    pub(super) fn read_dial(&mut self, number: u64) {
        let Some(dial) = self.dials.by_number.get_mut(&number) else { return };
        let (Life::Open(pipe), Some(key)) = (&mut dial.life, dial.key) else { return };
        let Some(connection) = self.connections.get_mut(&key.connection) else { return };
        let mut left = PIECE;
        let mut broken = None;
        while pipe.readable && pipe.reading == Reading::Open {
            let busy = connection.waiting() > BUSY;
            let Some(stream) = connection.streams.get_mut(&key.stream) else { return };
            stream.paused = busy;
            let room = usize::try_from(stream.credit).unwrap_or(usize::MAX).min(left).min(MAX_DATA);
            if busy || room == 0 {
                break;
            }
            match recv(&pipe.socket, self.scratch.room(room), RecvFlags::DONTWAIT) {
                Ok((_, 0)) => {
                    pipe.reading = Reading::Ended;
                    connection.end(key.stream, Channel::Socket);
                }
                Ok(((bytes, _), _)) => {
                    connection.data(key.stream, Channel::Socket, bytes);
                    left -= bytes.len();
                    // What comes later is another edge; an end that was told with these bytes is not.
                    pipe.readable = bytes.len() == room || pipe.hangup != Hangup::None;
                }
                Err(Errno::AGAIN) => pipe.readable = false,
                Err(Errno::INTR) => {}
                Err(errno) => {
                    broken = Some(errno);
                    break;
                }
            }
        }
        let unread = left == 0 && pipe.readable;
        self.mark_dirty(key.connection);
        if let Some(errno) = broken {
            return self.refuse_dial(number, |dial| cut(dial, &reason(&errno.into())));
        }
        if unread {
            self.enqueue(key);
        }
        self.settle_dial(number);
    }

    /// Ends a connection when nothing more will be moved.
    fn settle_dial(&mut self, number: u64) {
        let Some(dial) = self.dials.by_number.get_mut(&number) else { return };
        let Life::Open(pipe) = &dial.life else { return };
        let Some(key) = dial.key else {
            if dial.writing.is_over() {
                self.forget_dial(number);
            }
            return;
        };
        let futile = dial.writing.is_over() || pipe.hangup == Hangup::Both;
        if pipe.reading == Reading::Open || !futile {
            return;
        }
        if dial.writing.is_cut_short() {
            return self.refuse_dial(number, |dial| cut(dial, "it was closed before all was taken"));
        }
        self.forget_dial(number);
        if let Some(connection) = self.connections.get_mut(&key.connection) {
            connection.close(key.stream);
            self.mark_dirty(key.connection);
        }
        self.end_stream(key);
    }

    /// The driver wants no more of a connection.
    pub(super) fn dial_left(&mut self, number: u64) {
        let Some(dial) = self.dials.by_number.get_mut(&number) else { return };
        if let Life::Open(pipe) = &dial.life {
            if dial.writing.is_ending() {
                dial.key = None;
                return self.timers.set(Owner::Dial(number), Some(Instant::now() + LINGER));
            }
            if dial.writing.is_open() {
                pipe.break_off();
            }
        }
        self.forget_dial(number);
    }
}

fn no_memory(dial: &Dial) -> Refusal {
    let message = format!("{}: no memory to watch another socket", connect::name(&dial.target));
    Refusal::new(GuestErrorCode::LimitExceeded, message)
}

fn cut(dial: &Dial, why: &str) -> Refusal {
    Refusal::new(GuestErrorCode::DialBroken, format!("{}: {why}", connect::name(&dial.target)))
}
