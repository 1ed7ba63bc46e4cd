//! An exec's life: started, running, its leader ended, its outputs drained, recorded.
//!
//! ```text
//!              leader ends          outputs end, or 50 ms pass
//!  Running ─────────────────► Ended ──────────────────────────► recorded in the journal
//!     │ timeout, terminate             ▲ the whole tree is gone
//!     ├──────────► termination ────────┤
//!     └────────────────────────────────┘ ended for want of memory: what is left of its session is gone
//! ```

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::connection::StreamKey;
use super::files::Root;
use super::journal::Serial;
use super::poller::{Interest, Poller, Source};
use super::reaper::{Ended, Status};
use super::refusal::reason;
use super::server::READ_SIZE;
use super::server::Server;
use super::spawn::{Command, Orphans, SpawnError, Step};
use super::stdin::{Item, Stdin};
use super::termination::Termination;
use super::timers::Owner;
use super::user::{self, Account};
use super::watch::Wake;
use crate::message::{Ending, ExecRequest, Finished, OutputMode, Program};

/// How long outputs are drained after the leader's end while something else holds them open.
const DRAIN: Duration = Duration::from_millis(50);
/// How long a new exec's outputs are not watched: most execs have ended by then, which saves four wake-ups.
const YOUNG: Duration = Duration::from_millis(2);
/// Reads from one output when its exec has ended: more than a pipe holds.
const LAST_READS: usize = 20;
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The reading end of one of an exec's outputs.
#[derive(Debug, Default)]
pub struct Output {
    pipe: Option<OwnedFd>,
    armed: bool,
}

impl Output {
    /// An output that is not watched yet.
    #[must_use]
    pub fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Some(pipe), armed: false }
    }

    /// Has the poller watch it.
    pub fn arm(&mut self, poller: &Poller, source: Source) {
        if let (Some(pipe), false) = (&self.pipe, self.armed) {
            // Without memory for a watch there is none for the exec either: its output ends here.
            if poller.add(pipe, source, Interest::Read).is_ok() {
                self.armed = true;
            } else {
                self.pipe = None;
            }
        }
    }

    /// Has the poller watch it no more.
    pub fn disarm(&mut self, poller: &Poller) {
        if let (Some(pipe), true) = (&self.pipe, self.armed) {
            self.armed = false;
            // It was added, so this cannot fail; at worst it would wake the loop once more.
            let _removed = poller.remove(pipe);
        }
    }

    /// There is nothing left to arm.
    #[must_use]
    pub fn is_armed_or_closed(&self) -> bool {
        self.armed || self.pipe.is_none()
    }

    /// Reads what is there and drops it.
    pub fn discard(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let mut buffer = [0; 8192];
        for _ in 0..LAST_READS {
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => {
                    *self = Self::default();
                    return;
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// Where in its life an exec is.
#[derive(Debug)]
pub enum Life {
    /// Its leader runs.
    Running,
    /// Its leader has ended; what it wrote is being drained.
    Ended {
        /// How the leader ended.
        ended: Ended,
        /// When.
        at: Instant,
        /// When draining stops.
        drain_until: Instant,
    },
}

/// What an exec may be a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// A shell session, of which it is a command.
    Shell(u64),
    /// A context, in which it is a run.
    Context(u64),
}

/// A process and its outputs.
#[derive(Debug)]
pub struct Exec {
    /// Its leader.
    pub pid: i32,
    /// Where in its life it is.
    pub life: Life,
    /// Streams that watch it.
    pub watchers: Vec<StreamKey>,
    /// Its standard input.
    pub stdin: Stdin,
    /// Its end is under way.
    pub termination: Option<Termination>,
    /// A terminal's master, to resize it.
    pub terminal: Option<OwnedFd>,
    /// Its time was up.
    pub timed_out: bool,
    /// A driver has sent it KILL, so that its end is no sign of the memory limit.
    pub killed_by_driver: bool,
    /// Milliseconds from TERM to KILL at its timeout.
    pub grace: Duration,
    /// When its time is up.
    pub deadline: Option<Instant>,
    /// The session that it is a part of: its process is not its own then.
    pub session: Option<Session>,
    outputs: [Output; 2],
    started: Instant,
    young_until: Option<Instant>,
    oom_before: u64,
}

/// What reading an output came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drained {
    /// There was something; there may be more.
    Some,
    /// There is nothing now.
    Empty,
    /// It has ended, or is not there.
    Ended,
    /// A follower has to read first.
    Gated,
}

impl Exec {
    /// An exec that has just been started.
    #[must_use]
    pub fn new(pid: i32, outputs: [Output; 2], oom_before: u64, timeout: Option<Duration>) -> Self {
        let started = Instant::now();
        Self {
            pid,
            life: Life::Running,
            watchers: Vec::new(),
            stdin: Stdin::default(),
            termination: None,
            terminal: None,
            timed_out: false,
            killed_by_driver: false,
            grace: Duration::ZERO,
            deadline: timeout.and_then(|timeout| started.checked_add(timeout)),
            session: None,
            outputs,
            started,
            young_until: Some(started + YOUNG),
            oom_before,
        }
    }

    /// Its outputs are not watched yet.
    #[must_use]
    pub fn is_young(&self) -> bool {
        self.young_until.is_some()
    }
}

impl Server {
    /// Starts an exec that is reserved in the journal.
    ///
    /// # Errors
    /// The reason why it did not start, for [`Ending::FailedToStart`].
    pub(super) fn start_exec(&mut self, serial: Serial, request: &mut ExecRequest) -> Result<(), String> {
        let account = match &request.user {
            None => Account::root(),
            Some(user) => user::look_up(&self.root, user)?,
        };
        let pipe = |flags| rustix::pipe::pipe_with(flags | PipeFlags::CLOEXEC).map_err(no_descriptor);
        let mut ends = Ends::default();
        if let Some(size) = request.pty {
            let (master, terminal) = super::pty::open(size, account.identity.as_ref())
                .map_err(|error| format!("no terminal: {}", reason(&error)))?;
            ends.stdin = Some(master.try_clone().map_err(|_| no_descriptor(Errno::MFILE))?);
            ends.outputs[0] = Some(master.try_clone().map_err(|_| no_descriptor(Errno::MFILE))?);
            ends.master = Some(master);
            ends.child[0] = Some(terminal);
        } else {
            if !request.stdin.is_empty() || request.stdin_open {
                let (read, write) = pipe(PipeFlags::empty())?;
                // Only the guest's end: what an exec gets must block as any pipe does.
                rustix::io::ioctl_fionbio(&write, true).map_err(no_descriptor)?;
                (ends.child[0], ends.stdin) = (Some(read), Some(write));
            }
            for which in [0, 1] {
                let (read, write) = pipe(PipeFlags::empty())?;
                rustix::io::ioctl_fionbio(&read, true).map_err(no_descriptor)?;
                (ends.outputs[which], ends.child[which + 1]) = (Some(read), Some(write));
            }
        }
        let oom_before = self.oom.read();
        let pid = {
            let command = command(request, account, &ends)?;
            self.spawner.spawn(&command).map_err(|error| explain(&error, request, &self.root))?
        };
        drop(ends.child);
        let outputs = ends.outputs.map(|pipe| Output { pipe, armed: false });
        let timeout = request.timeout_ms.map(Duration::from_millis);
        let mut exec = Exec::new(pid, outputs, oom_before, timeout);
        exec.stdin = Stdin { pipe: ends.stdin, terminal: request.pty.is_some(), ..Stdin::default() };
        exec.terminal = ends.master;
        exec.grace = Duration::from_millis(request.grace_ms);
        self.by_pid.insert(pid, Owner::Exec(serial));
        self.execs.insert(serial, exec);
        if request.output == OutputMode::Follow {
            self.arm_outputs(serial);
        }
        self.set_exec_timer(serial);
        let bytes = std::mem::take(&mut request.stdin);
        // A terminal stays open for typing unless its input was given with the request.
        let has_input = !bytes.is_empty();
        if !bytes.is_empty() {
            self.push_stdin(serial, Item::Bytes { bytes, written: 0, from: None });
        }
        if !request.stdin_open && (request.pty.is_none() || has_input) {
            self.push_stdin(serial, Item::Close);
        }
        Ok(())
    }

    /// Has the poller watch the outputs of an exec, except those whose followers have to read first.
    pub(super) fn arm_outputs(&mut self, serial: Serial) {
        for which in [0, 1] {
            if self.room(serial, which) == 0 {
                continue;
            }
            let Some(exec) = self.execs.get_mut(&serial) else { return };
            exec.young_until = None;
            exec.outputs[which].arm(&self.poller, Source::Output(serial, u8::from(which == 1)));
        }
    }

    /// Reads once from an output.
    fn read_output(&mut self, serial: Serial, which: usize) -> Drained {
        let room = self.room(serial, which).min(READ_SIZE);
        let Some(exec) = self.execs.get_mut(&serial) else { return Drained::Ended };
        let output = &mut exec.outputs[which];
        let Some(pipe) = &output.pipe else { return Drained::Ended };
        if room == 0 {
            return Drained::Gated;
        }
        match rustix::io::read(pipe, self.scratch.room(room)) {
            Ok(([], _)) => {}
            Ok((bytes, _)) => {
                if let Some(record) = self.journal.get_mut(serial) {
                    record.outputs[which].push(bytes);
                }
                self.wake_watchers(serial, Wake::Followers);
                return Drained::Some;
            }
            Err(Errno::AGAIN) => return Drained::Empty,
            Err(Errno::INTR) => return Drained::Some,
            // EIO: nobody has the terminal open any more.
            Err(_) => {}
        }
        *output = Output::default();
        Drained::Ended
    }

    /// An output has something, or has ended.
    pub(super) fn on_output(&mut self, serial: Serial, which: usize) {
        if self.read_output(serial, which) == Drained::Gated
            && let Some(exec) = self.execs.get_mut(&serial)
        {
            exec.outputs[which].disarm(&self.poller);
        }
        self.settle(serial);
    }

    /// A follower has read, or is gone: an output that it held up may go on.
    pub(super) fn resume(&mut self, serial: Serial) {
        let Some(exec) = self.execs.get(&serial) else { return };
        if exec.young_until.is_none() {
            self.arm_outputs(serial);
        }
        self.settle(serial);
    }

    /// The leader of an exec has ended.
    pub(super) fn on_leader_end(&mut self, serial: Serial, ended: Ended) {
        let now = Instant::now();
        let life = Life::Ended { ended, at: now, drain_until: now + DRAIN };
        let out_of_memory = self
            .execs
            .get(&serial)
            .is_some_and(|exec| exec.session.is_none() && self.ending(exec, ended) == Ending::OomKilled);
        if !out_of_memory {
            return self.end(serial, life);
        }
        self.begin_session_end(serial);
        self.end(serial, life);
        self.continue_termination(serial, Instant::now());
        self.settle(serial);
    }

    /// A session's command has ended; all that it wrote is in the pipes.
    pub(super) fn end_command(&mut self, serial: Serial, ended: Ended) {
        let now = Instant::now();
        self.end(serial, Life::Ended { ended, at: now, drain_until: now });
    }

    fn end(&mut self, serial: Serial, life: Life) {
        let Some(exec) = self.execs.get_mut(&serial) else { return };
        exec.life = life;
        exec.deadline = None;
        self.settle(serial);
    }

    /// Records an exec whose leader has ended when nothing is left to wait for.
    pub(super) fn settle(&mut self, serial: Serial) {
        let Some(exec) = self.execs.get(&serial) else { return };
        let Life::Ended { ended, at, drain_until } = exec.life else { return };
        if exec.termination.is_some() {
            return;
        }
        let drained = [0, 1].map(|which| {
            let mut drained = Drained::Some;
            for _ in 0..LAST_READS {
                drained = self.read_output(serial, which);
                if drained != Drained::Some {
                    break;
                }
            }
            drained
        });
        let gated = drained.contains(&Drained::Gated);
        let over = drained == [Drained::Ended; 2] || Instant::now() >= drain_until;
        if over && !gated {
            return self.record(serial, ended, at);
        }
        self.arm_outputs(serial);
        self.set_exec_timer(serial);
    }

    fn record(&mut self, serial: Serial, ended: Ended, at: Instant) {
        let Some(mut exec) = self.execs.remove(&serial) else { return };
        let outputs = std::mem::take(&mut exec.outputs);
        let held_open = exec.session.is_none() && outputs.iter().any(|output| output.pipe.is_some());
        match exec.session {
            Some(Session::Shell(shell)) => self.return_outputs(shell, outputs),
            Some(Session::Context(context)) => self.return_context_outputs(context, outputs),
            None => self.leave_outputs(outputs),
        }
        self.timers.set(Owner::Exec(serial), None);
        let ending = self.ending(&exec, ended);
        let wall = at.saturating_duration_since(exec.started);
        let Some(record) = self.journal.get(serial) else { return };
        let finished = Finished {
            ending,
            wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
            user_us: ended.usage.user_us,
            system_us: ended.usage.system_us,
            max_rss: ended.usage.max_rss,
            stdout_total: record.outputs[0].total(),
            stderr_total: record.outputs[1].total(),
            stdout_dropped: record.outputs[0].dropped(),
            stderr_dropped: record.outputs[1].dropped(),
            held_open,
        };
        self.journal.finish(serial, finished);
        let id = self.journal.get(serial).map_or(String::new(), |record| record.exec_id.clone());
        for item in exec.stdin.queue {
            match item {
                Item::Bytes { .. } | Item::Close => {}
                Item::Answer(key) => self.answer(key, &super::refusal::Refusal::exec_finished(&id).reply()),
            }
        }
        for key in exec.watchers {
            self.enqueue(key);
        }
    }

    /// Nobody reads these any more, but somebody may still write to them.
    pub(super) fn leave_outputs(&mut self, outputs: [Output; 2]) {
        for mut output in outputs {
            output.disarm(&self.poller);
            if let Some(pipe) = output.pipe {
                self.keep_leftover(pipe);
            }
        }
    }

    fn ending(&self, exec: &Exec, ended: Ended) -> Ending {
        if exec.timed_out {
            return Ending::TimedOut;
        }
        let by_driver = exec.killed_by_driver;
        match ended.status {
            Status::Exited(137) | Status::Signalled(_) if !by_driver && self.oom.read() > exec.oom_before => {
                Ending::OomKilled
            }
            Status::Exited(code) => Ending::Exited(code),
            Status::Signalled(signal) => Ending::Signalled(signal),
        }
    }

    /// Sets the timer of an exec to what comes first.
    pub(super) fn set_exec_timer(&mut self, serial: Serial) {
        let Some(exec) = self.execs.get(&serial) else { return };
        // A follower that holds it up wakes it by reading; until then there is nothing to wait for.
        let gated = (0..2).any(|which| exec.outputs[which].pipe.is_some() && self.room(serial, which) == 0);
        let drain = match exec.life {
            Life::Ended { drain_until, .. } if exec.termination.is_none() && !gated => Some(drain_until),
            Life::Ended { .. } | Life::Running => None,
        };
        let termination = exec.termination.as_ref().map(Termination::next);
        let at = [exec.young_until, exec.deadline, drain, termination].into_iter().flatten().min();
        self.timers.set(Owner::Exec(serial), at);
    }

    /// An exec's timer is due.
    pub(super) fn on_exec_timer(&mut self, serial: Serial, now: Instant) {
        let Some(exec) = self.execs.get_mut(&serial) else { return };
        if exec.young_until.is_some_and(|at| at <= now) {
            let watchers = exec.watchers.clone();
            self.arm_outputs(serial);
            // It is no short one: its watchers learn now that it has started.
            for key in watchers {
                self.mark_dirty(key.connection);
            }
        }
        let Some(exec) = self.execs.get_mut(&serial) else { return };
        exec.young_until = None;
        if exec.deadline.is_some_and(|at| at <= now) {
            exec.deadline = None;
            exec.timed_out = true;
            let grace = exec.grace;
            match exec.session {
                Some(Session::Shell(shell)) => self.command_timed_out(shell),
                Some(Session::Context(context)) => self.interrupt_context(context, Some(now + grace)),
                None => self.terminate(serial, grace),
            }
        }
        self.continue_termination(serial, now);
        self.settle(serial);
        self.set_exec_timer(serial);
    }
}

/// Both ends of everything that a process is connected to.
#[derive(Debug, Default)]
struct Ends {
    stdin: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
    master: Option<OwnedFd>,
    /// The process's own; on a terminal, the first is all three.
    child: [Option<OwnedFd>; 3],
}

impl Ends {
    fn descriptors(&self) -> Vec<(BorrowedFd<'_>, i32)> {
        let terminal = self.master.is_some();
        (0..3)
            .zip(&self.child)
            .filter_map(|(number, end)| {
                let end = if terminal { self.child[0].as_ref() } else { end.as_ref() };
                Some((end?.as_fd(), number))
            })
            .collect()
    }
}

fn no_descriptor(errno: Errno) -> String {
    format!("no pipe: {}", reason(&errno.into()))
}

fn c_string(what: &str, text: impl Into<Vec<u8>>) -> Result<CString, String> {
    CString::new(text).map_err(|_| format!("{what}: has a NUL byte"))
}

fn command<'a>(request: &ExecRequest, account: Account, ends: &'a Ends) -> Result<Command<'a>, String> {
    let argv: Vec<&str> = match &request.program {
        Program::Argv(argv) => argv.iter().map(String::as_str).collect(),
        Program::Shell(line) => vec!["/bin/sh", "-c", line],
    };
    let path = request.env.iter().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, path)| path);
    let env = environment(&request.env, &account, request.pty.is_some())?;
    Ok(Command {
        candidates: candidates(argv.first().copied().unwrap_or_default(), path)?,
        argv: argv.iter().map(|arg| c_string("an argument", *arg)).collect::<Result<_, _>>()?,
        env,
        cwd: c_string("cwd", request.cwd.as_str())?,
        identity: account.identity,
        descriptors: ends.descriptors(),
        terminal: request.pty.is_some(),
        orphans: Orphans::ToLeader,
    })
}

/// The environment of a process, with what every program expects.
pub(super) fn environment(
    given: &[(String, String)],
    account: &Account,
    terminal: bool,
) -> Result<Vec<CString>, String> {
    let defaults = [
        ("PATH", DEFAULT_PATH),
        ("HOME", account.home.as_str()),
        ("USER", account.name.as_str()),
        ("TERM", "xterm-256color"),
    ];
    let defaults = &defaults[..if terminal { 4 } else { 3 }];
    let mut env = Vec::with_capacity(given.len() + defaults.len());
    for (name, value) in given {
        env.push(c_string(name, format!("{name}={value}"))?);
    }
    for (name, value) in defaults {
        if !given.iter().any(|(other, _)| other == name) {
            env.push(c_string(name, format!("{name}={value}"))?);
        }
    }
    Ok(env)
}

/// Where a program may be.
pub(super) fn candidates(program: &str, path: &str) -> Result<Vec<CString>, String> {
    if program.contains('/') {
        return Ok(vec![c_string("the program", program)?]);
    }
    path.split(':')
        .map(|dir| c_string("PATH", format!("{}/{program}", if dir.is_empty() { "." } else { dir })))
        .collect()
}

/// Why an exec did not start, in words that name what is wrong.
fn explain(error: &SpawnError, request: &ExecRequest, root: &Root) -> String {
    let why = reason(&error.source);
    let errno = error.source.raw_os_error().unwrap_or(0);
    let program = match &request.program {
        Program::Argv(argv) => argv.first().map_or("", String::as_str),
        Program::Shell(_) => "/bin/sh",
    };
    match (error.step, errno) {
        (Step::Fork, libc::EAGAIN) => "no process: the sandbox is at its limit of processes".to_owned(),
        (Step::Fork, _) => format!("no process: {why}"),
        (Step::Setup, _) => format!("session, terminal and descriptors: {why}"),
        (Step::Directory, libc::ENOENT) => format!("cwd {}: no such directory", request.cwd),
        (Step::Directory, _) => format!("cwd {}: {why}", request.cwd),
        (Step::Identity, _) => format!(
            "user {}: {why}; this sandbox may have no such user number",
            request.user.as_deref().unwrap_or("root")
        ),
        (Step::Execute, libc::ENOENT) if !program.contains('/') => {
            format!("{program}: no such program in PATH")
        }
        (Step::Execute, libc::ENOENT) if program.starts_with('/') && exists(root, program) => {
            format!("{program}: its interpreter or loader is missing")
        }
        (Step::Execute, libc::ENOENT) => format!("{program}: no such program"),
        (Step::Execute, libc::EACCES) => format!("{program}: not executable"),
        (Step::Execute, libc::ENOEXEC) => format!("{program}: not a program, and has no #! line"),
        (Step::Execute, libc::E2BIG) => format!("{program}: arguments and environment are too long"),
        (Step::Execute, _) => format!("{program}: {why}"),
    }
}

fn exists(root: &Root, path: &str) -> bool {
    root.open_path(path, rustix::fs::OFlags::PATH).is_ok()
}
