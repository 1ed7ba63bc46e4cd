//! The one epoll instance, and what its events are about.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{Timespec, epoll};

use super::journal::Serial;

/// Events taken per turn.
const BATCH: usize = 64;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A driver wants to connect.
    Listener,
    /// Children have ended.
    Signals,
    /// A driver's connection.
    Connection(u64),
    /// An output of an exec: 0 is standard output, 1 standard error.
    Output(Serial, u8),
    /// Standard input of an exec has room.
    Stdin(Serial),
    /// An output that outlived its exec.
    Leftover(u64),
    /// An output of a shell session.
    ShellOutput(u64, u8),
    /// The status pipe of a shell session.
    ShellStatus(u64),
    /// The command pipe of a shell session has room.
    ShellCommands(u64),
    /// An output of a context.
    ContextOutput(u64, u8),
    /// The socket of a context.
    ContextControl(u64),
    /// What a zygote says while it starts.
    ZygoteLog(u64),
    /// The socket of a dialled connection; watched by edges.
    Dial(u64),
}

impl Source {
    fn token(self) -> u64 {
        let (kind, number) = match self {
            Self::Listener => (0, 0),
            Self::Signals => (1, 0),
            Self::Connection(number) => (2, number),
            Self::Output(serial, which) => (3 + u64::from(which), serial),
            Self::Stdin(serial) => (5, serial),
            Self::Leftover(number) => (6, number),
            Self::ShellOutput(number, which) => (7 + u64::from(which), number),
            Self::ShellStatus(number) => (9, number),
            Self::ShellCommands(number) => (10, number),
            Self::ContextOutput(number, which) => (11 + u64::from(which), number),
            Self::ContextControl(number) => (13, number),
            Self::ZygoteLog(number) => (14, number),
            Self::Dial(number) => (15, number),
        };
        kind << 56 | number
    }

    fn from_token(token: u64) -> Option<Self> {
        let number = token & ((1 << 56) - 1);
        Some(match token >> 56 {
            0 => Self::Listener,
            1 => Self::Signals,
            2 => Self::Connection(number),
            3 => Self::Output(number, 0),
            4 => Self::Output(number, 1),
            5 => Self::Stdin(number),
            6 => Self::Leftover(number),
            7 => Self::ShellOutput(number, 0),
            8 => Self::ShellOutput(number, 1),
            9 => Self::ShellStatus(number),
            10 => Self::ShellCommands(number),
            11 => Self::ContextOutput(number, 0),
            12 => Self::ContextOutput(number, 1),
            13 => Self::ContextControl(number),
            14 => Self::ZygoteLog(number),
            15 => Self::Dial(number),
            _ => return None,
        })
    }
}

/// What a descriptor is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to read, or the end.
    Read,
    /// Room to write.
    Write,
    /// Both.
    Both,
}

impl Interest {
    fn flags(self) -> epoll::EventFlags {
        match self {
            Self::Read => epoll::EventFlags::IN,
            Self::Write => epoll::EventFlags::OUT,
            Self::Both => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        }
    }
}

/// One event.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// What it is about.
    pub source: Source,
    /// There is something to read, or the other side is gone.
    pub readable: bool,
    /// There is room to write, or the other side is gone.
    pub writable: bool,
    /// What the other side has given up.
    pub hangup: Hangup,
}

/// What the other side of a socket has given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hangup {
    /// Nothing.
    #[default]
    None,
    /// It sends no more; told only of what is watched by edges.
    Sending,
    /// It neither sends nor takes any more.
    Both,
}

/// The epoll instance.
pub struct Poller {
    epoll: OwnedFd,
    buffer: Vec<epoll::Event>,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

impl Poller {
    /// A poller that watches nothing.
    ///
    /// # Errors
    /// When the kernel gives no epoll instance.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, buffer: Vec::with_capacity(BATCH) })
    }

    /// Watches a descriptor. Closing it ends that.
    ///
    /// # Errors
    /// When the kernel refuses, e.g. for want of memory.
    pub fn add(&self, fd: impl AsFd, source: Source, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(source.token()), interest.flags())?)
    }

    /// Watches a descriptor for something else.
    ///
    /// # Errors
    /// When it is not watched.
    pub fn modify(&self, fd: impl AsFd, source: Source, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(source.token()), interest.flags())?)
    }

    /// Watches a socket by edges: one event for each thing that happens to it, none for what stays as it is. Closing it
    /// ends that.
    ///
    /// # Errors
    /// When the kernel refuses, e.g. for want of memory.
    pub fn add_edges(&self, fd: impl AsFd, source: Source, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(source.token()), edges(interest))?)
    }

    /// Watches for something else; what is so now is an edge.
    ///
    /// # Errors
    /// When it is not watched.
    pub fn modify_edges(&self, fd: impl AsFd, source: Source, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(source.token()), edges(interest))?)
    }

    /// Watches a descriptor no more.
    ///
    /// # Errors
    /// When it is not watched.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Waits for events.
    ///
    /// # Errors
    /// When epoll fails for another reason than a signal.
    pub fn wait(&mut self, timeout: Option<std::time::Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        events.clear();
        self.buffer.clear();
        // Rounded up to milliseconds: a timer that is early would spin.
        let timeout = timeout.map(|t| {
            let ms = i64::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX).min(3_600_000);
            Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 }
        });
        let spare = rustix::buffer::spare_capacity(&mut self.buffer);
        match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let gone = epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        for event in &self.buffer {
            let (flags, data) = (event.flags, event.data);
            if let Some(source) = Source::from_token(data.u64()) {
                let hangup = match (flags.intersects(gone), flags.contains(epoll::EventFlags::RDHUP)) {
                    (true, _) => Hangup::Both,
                    (false, true) => Hangup::Sending,
                    (false, false) => Hangup::None,
                };
                events.push(Event {
                    source,
                    readable: flags.intersects(epoll::EventFlags::IN | gone),
                    writable: flags.intersects(epoll::EventFlags::OUT | gone),
                    hangup,
                });
            }
        }
        Ok(())
    }
}

fn edges(interest: Interest) -> epoll::EventFlags {
    interest.flags() | epoll::EventFlags::ET | epoll::EventFlags::RDHUP
}
