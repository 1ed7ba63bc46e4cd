//! The loop: events in, a bounded piece of every job, bytes out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::connection::{CLOGGED, Connection, Flush, Phase, StreamKey};
use super::context::Contexts;
use super::dial::Dials;
use super::exec::Exec;
use super::files::Root;
use super::journal::{Journal, Serial};
use super::oom::OomCounter;
use super::poller::{Event, Interest, Poller, Source};
use super::reaper;
use super::scratch::Scratch;
use super::shell::Shell;
use super::spawn::Spawner;
use super::timers::{Owner, Timers};

/// The descriptor of the listening socket.
const LISTENER: i32 = 3;
/// The descriptor of the counter of kills for want of memory.
const OOM_COUNTER: i32 = 4;
/// Connections at once.
const MAX_CONNECTIONS: usize = 256;
/// Bytes read from a connection or an output per turn.
pub(super) const READ_SIZE: usize = 64 << 10;
/// Bytes that a connection's buffer has room for before anything is known of its habits.
const FIRST_READ: usize = 8 << 10;
/// How long the requests of one connection may keep the others waiting.
const TURN: Duration = Duration::from_millis(5);
/// Outputs that outlived their exec and are drained to nowhere.
const MAX_LEFTOVERS: usize = 512;

/// The guest.
#[derive(Debug)]
pub struct Server {
    pub(super) poller: Poller,
    listener: OwnedFd,
    signals: OwnedFd,
    /// Given up to accept and drop a connection when no descriptor is left.
    reserve: Option<OwnedFd>,
    pub(super) connections: HashMap<u64, Connection>,
    next_connection: u64,
    dirty: Vec<u64>,
    backlog: Vec<u64>,
    pub(super) work: VecDeque<StreamKey>,
    pub(super) timers: Timers,
    pub(super) journal: Journal,
    pub(super) execs: BTreeMap<Serial, Exec>,
    pub(super) by_pid: HashMap<i32, Owner>,
    pub(super) shells: BTreeMap<u64, Shell>,
    pub(super) next_shell: u64,
    pub(super) contexts: Contexts,
    pub(super) dials: Dials,
    pub(super) root: Root,
    pub(super) spawner: Spawner,
    pub(super) oom: OomCounter,
    pub(super) started: Instant,
    /// What outputs are read into.
    pub(super) scratch: Scratch,
    leftovers: BTreeMap<u64, OwnedFd>,
    next_leftover: u64,
}

impl Server {
    /// Takes over the descriptors and signals that the guest is started with.
    ///
    /// # Errors
    /// When descriptor 3 is missing, or the kernel refuses something basic.
    pub fn start() -> io::Result<Self> {
        let listener =
            reaper::inherited(LISTENER).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        let oom = OomCounter::new(reaper::inherited(OOM_COUNTER));
        let signals = reaper::take_over_signals()?;
        // Execs run as the same user; they must not trace the guest or read its memory.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
        if rustix::process::getpid().as_raw_nonzero().get() != 1 {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        }
        rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
        let flags = rustix::fs::fcntl_getfl(&listener)?;
        rustix::fs::fcntl_setfl(&listener, flags | rustix::fs::OFlags::NONBLOCK)?;
        let poller = Poller::new()?;
        poller.add(&listener, Source::Listener, Interest::Read)?;
        poller.add(&signals, Source::Signals, Interest::Read)?;
        Ok(Self {
            poller,
            listener,
            signals,
            reserve: reserve(),
            connections: HashMap::new(),
            next_connection: 0,
            dirty: Vec::new(),
            backlog: Vec::new(),
            work: VecDeque::new(),
            timers: Timers::default(),
            journal: Journal::default(),
            execs: BTreeMap::new(),
            by_pid: HashMap::new(),
            shells: BTreeMap::new(),
            next_shell: 0,
            contexts: Contexts::default(),
            dials: Dials::default(),
            root: Root::open()?,
            spawner: Spawner::new(),
            oom,
            started: Instant::now(),
            scratch: Scratch::default(),
            leftovers: BTreeMap::new(),
            next_leftover: 0,
        })
    }

    /// Serves until the process is killed.
    ///
    /// # Errors
    /// When waiting for events fails, which leaves nothing to do.
    pub fn serve(mut self) -> io::Result<()> {
        let mut events = Vec::new();
        loop {
            self.turn(&mut events)?;
        }
    }

    fn turn(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let busy = !self.work.is_empty() || !self.backlog.is_empty();
        let timeout = if busy {
            Some(Duration::ZERO)
        } else {
            self.timers.next().map(|at| at.saturating_duration_since(Instant::now()))
        };
        self.poller.wait(timeout, events)?;
        for event in events.iter() {
            self.on_event(*event);
        }
        if self.timers.next().is_some() {
            let now = Instant::now();
            while let Some(owner) = self.timers.take_due(now) {
                match owner {
                    Owner::Exec(serial) => self.on_exec_timer(serial, now),
                    Owner::Shell(shell) => self.on_shell_timer(shell, now),
                    Owner::Context(context) => self.on_context_timer(context, now),
                    Owner::Dial(dial) => self.on_dial_timer(dial),
                    // It has none: it lives as long as it likes.
                    Owner::Zygote(_) => {}
                }
            }
        }
        for connection in std::mem::take(&mut self.backlog) {
            self.take_frames(connection);
        }
        // Only what is queued now: a job that queues itself again waits for the next turn.
        for _ in 0..self.work.len() {
            if let Some(key) = self.work.pop_front() {
                self.work_on(key);
            }
        }
        for connection in std::mem::take(&mut self.dirty) {
            self.flush(connection);
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event) {
        match event.source {
            Source::Listener => self.accept(),
            Source::Signals => self.reap(),
            Source::Connection(id) => {
                if event.writable {
                    self.flush(id);
                }
                if event.readable {
                    self.read(id);
                }
            }
            Source::Output(serial, which) => self.on_output(serial, usize::from(which)),
            Source::Stdin(serial) => self.feed(serial),
            Source::Leftover(number) => self.drain_leftover(number),
            Source::ShellOutput(shell, which) => self.on_shell_output(shell, usize::from(which)),
            Source::ShellStatus(shell) => self.on_shell_status(shell),
            Source::ShellCommands(shell) => self.on_shell_commands(shell),
            Source::ContextOutput(context, which) => self.on_context_output(context, usize::from(which)),
            Source::ContextControl(context) => {
                if event.writable {
                    self.send_to_context(context);
                }
                if event.readable {
                    self.on_context_control(context);
                }
            }
            Source::ZygoteLog(zygote) => self.on_zygote_log(zygote),
            Source::Dial(dial) => self.on_dial(dial, event),
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::accept_with(&self.listener, flags) {
            Ok(socket) => {
                let id = self.next_connection;
                if self.connections.len() >= MAX_CONNECTIONS
                    || self.poller.add(&socket, Source::Connection(id), Interest::Read).is_err()
                {
                    // Dropping it is the answer: the driver sees the end.
                    return;
                }
                self.next_connection += 1;
                self.connections.insert(id, Connection::new(socket));
                self.mark_dirty(id);
            }
            Err(Errno::MFILE | Errno::NFILE) => {
                // Without this, the pending connection would wake the loop for ever.
                self.reserve = None;
                drop(rustix::net::accept_with(&self.listener, flags));
                self.reserve = reserve();
            }
            // Nobody is there any more.
            Err(_) => {}
        }
    }

    fn reap(&mut self) {
        let mut signals = [0; 512];
        // What it says does not matter: all children that have ended are taken below.
        let _ended = rustix::io::read(&self.signals, &mut signals);
        let mut any = false;
        while let Some(ended) = reaper::reap() {
            any = true;
            match self.by_pid.remove(&ended.pid) {
                Some(Owner::Exec(serial)) => self.on_leader_end(serial, ended),
                Some(Owner::Shell(shell)) => self.on_shell_end(shell, ended),
                Some(Owner::Context(context)) => self.on_context_end(context, ended),
                Some(Owner::Zygote(zygote)) => self.on_zygote_end(zygote, ended),
                // No process is a connection's.
                Some(Owner::Dial(_)) | None => {}
            }
        }
        if any {
            self.look_after_terminations();
        }
    }

    fn read(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.phase == Phase::Backlog {
            return;
        }
        let buffer = connection.decoder.buffer();
        if buffer.capacity() - buffer.len() < FIRST_READ {
            buffer.reserve(if buffer.capacity() == 0 { FIRST_READ } else { READ_SIZE });
        }
        match rustix::io::read(&connection.socket, rustix::buffer::spare_capacity(buffer)) {
            Ok(0) => self.drop_connection(id),
            Ok(_) => self.take_frames(id),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.drop_connection(id),
        }
    }

    /// Handles the frames that have come, unless the driver does not read what it is answered.
    fn take_frames(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let mut decoder = std::mem::take(&mut connection.decoder);
        let mut violated = false;
        let (mut clogged, mut late) = (false, false);
        let since = Instant::now();
        loop {
            let Some(connection) = self.connections.get(&id) else { return };
            clogged |= connection.waiting() > CLOGGED;
            if clogged || late {
                break;
            }
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    if self.on_frame(id, frame).is_err() {
                        violated = true;
                        break;
                    }
                    late = since.elapsed() > TURN;
                }
                Ok(None) => break,
                Err(_) => {
                    violated = true;
                    break;
                }
            }
        }
        if violated {
            return self.drop_connection(id);
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.decoder = decoder;
            if clogged || late {
                connection.phase = Phase::Backlog;
            } else if connection.phase == Phase::Backlog {
                connection.phase = Phase::Open;
            }
            if late && !clogged {
                self.backlog.push(id);
            }
        }
    }

    /// Notes that a connection has something to write at the end of this turn.
    pub(super) fn mark_dirty(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(id);
        }
    }

    fn flush(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.dirty = false;
        let outcome = connection.flush();
        let interest = match outcome {
            Flush::Gone => return self.drop_connection(id),
            Flush::Empty => Interest::Read,
            // Not reading a driver that does not read bounds what it can make the guest keep.
            Flush::Full if connection.waiting() > CLOGGED => Interest::Write,
            Flush::Full => Interest::Both,
        };
        if connection.phase == Phase::Backlog
            && connection.waiting() <= CLOGGED
            && !self.backlog.contains(&id)
        {
            self.backlog.push(id);
        }
        if interest != connection.interest {
            connection.interest = interest;
            if self.poller.modify(&connection.socket, Source::Connection(id), interest).is_err() {
                return self.drop_connection(id);
            }
        }
        if outcome == Flush::Empty {
            // Jobs that paused because too much was waiting.
            let paused: Vec<u32> = match self.connections.get(&id) {
                Some(connection) if !connection.streams.is_empty() => {
                    connection.streams.iter().filter(|(_, s)| s.paused).map(|(number, _)| *number).collect()
                }
                _ => return,
            };
            for stream in paused {
                self.enqueue(StreamKey { connection: id, stream });
            }
        }
    }

    /// Queues a stream's job for a piece of work.
    pub(super) fn enqueue(&mut self, key: StreamKey) {
        if let Some(stream) = self.stream(key)
            && !stream.queued
        {
            stream.queued = true;
            stream.paused = false;
            self.work.push_back(key);
        }
    }

    /// An open stream.
    pub(super) fn stream(&mut self, key: StreamKey) -> Option<&mut super::connection::Stream> {
        self.connections.get_mut(&key.connection)?.streams.get_mut(&key.stream)
    }

    /// Forgets a connection. Its execs go on.
    pub(super) fn drop_connection(&mut self, id: u64) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        for (number, stream) in std::mem::take(&mut connection.streams) {
            self.job_ends(StreamKey { connection: id, stream: number }, &stream.job);
        }
    }

    /// Keeps an output open that something else still writes to, so that the writer gets no SIGPIPE.
    pub(super) fn keep_leftover(&mut self, pipe: OwnedFd) {
        let number = self.next_leftover;
        if self.poller.add(&pipe, Source::Leftover(number), Interest::Read).is_err() {
            return;
        }
        self.next_leftover += 1;
        self.leftovers.insert(number, pipe);
        if self.leftovers.len() > MAX_LEFTOVERS {
            self.leftovers.pop_first();
        }
    }

    fn drain_leftover(&mut self, number: u64) {
        let Some(pipe) = self.leftovers.get(&number) else { return };
        match rustix::io::read(pipe, self.scratch.room(READ_SIZE)) {
            Ok(([], _)) => drop(self.leftovers.remove(&number)),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => drop(self.leftovers.remove(&number)),
        }
    }
}

fn reserve() -> Option<OwnedFd> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).ok()
}
