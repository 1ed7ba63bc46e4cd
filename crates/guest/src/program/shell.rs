//! Shell sessions: a live shell that keeps its directory, variables and functions from command to command.
//!
//! The shell is interactive without a terminal, so that SIGINT aborts a command and not the shell. Each command goes in
//! as one `eval` of a quoted text, with `/dev/null` for input; the line after it reports `$?` on a pipe of its own, with a
//! random mark that the command cannot know: nothing that a command writes can pass for its status.
//!
//! ```text
//!  Starting ──ready──► Idle ──run──► Busy ──status──► Idle
//!                                     │ interrupt: SIGINT; no status within 2 s of a timeout: the shell is killed
//!                                     └─ the shell ends (exit, crash): so does the session
//! ```

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, kill_process};

use super::connection::{Job, Stream, StreamKey};
use super::exec::{Exec, Output, Session};
use super::interrupt::{Awaited, Interrupt};
use super::journal::{Reservation, Serial, digest};
use super::poller::{Interest, Source};
use super::reaper::{Ended, Status, Usage};
use super::refusal::{Refusal, reason};
use super::requests::{MAX_OUTPUT_LIMIT, check_env, check_id, conflict};
use super::server::Server;
use super::spawn::{Command, Orphans};
use super::timers::Owner;
use super::tree;
use super::user::{self, Account};
use super::watch::Watch;
use crate::message::{
    self, GuestErrorCode, OutputMode, Reply, ShellEntry, ShellOpenRequest, ShellRunRequest,
};

/// Sessions at once.
const MAX_SHELLS: usize = 64;
/// How long a shell may take to be ready.
const START: Duration = Duration::from_secs(10);
/// How long a command may take to give way to an interrupt after its timeout.
const GIVE_WAY: Duration = Duration::from_secs(2);
/// After an interrupt, how long the status may take before it is asked for again: the interrupt may have hit the line
/// that reports it.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How often it is checked whether the shell has read a command that is to be interrupted.
const READ_AGAIN: Duration = Duration::from_millis(1);
/// How long after an interrupt it is looked at whether a program has missed it.
const LOOK_AFTER: Duration = Duration::from_millis(15);
/// How long a shell is idle before what its background jobs write is drained.
const IDLE: Duration = Duration::from_millis(20);
/// The longest command that goes through the pipe, in bytes; shells read a pipe byte by byte.
const INLINE: usize = 3000;
/// The longest command, in bytes.
const MAX_COMMAND: usize = 1 << 20;
const BASH: [&str; 3] = ["/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"];
const PLAIN: [&str; 2] = ["/bin/sh", "/usr/bin/sh"];
/// Where a shell's own descriptors are put before they get their numbers there, out of the way of these.
const ASIDE: i32 = 300;

/// Tells a command's status from everything else; no command knows its own.
type Mark = u128;

fn fresh_mark() -> Mark {
    let mut mark = [0; 16];
    // The kernel gives so few bytes whole, and always, once it has booted.
    let _filled = rustix::rand::getrandom(&mut mark, rustix::rand::GetRandomFlags::empty());
    Mark::from_le_bytes(mark)
}

/// What a shell is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// Reads its input byte by byte and takes descriptors of any number.
    Bash,
    /// Reads its input in blocks, which an error or interrupt throws away, and takes only one digit.
    Plain,
}

impl Dialect {
    fn status(self) -> i32 {
        match self {
            Self::Bash => 200,
            Self::Plain => 9,
        }
    }

    fn text(self) -> i32 {
        match self {
            Self::Bash => 201,
            Self::Plain => 8,
        }
    }

    /// The line that reports the status of a command by its mark. The redirection keeps `set -x` quiet.
    /// No quotes: an interrupt can cut it in the middle, and the rest must not wait for a quote to close. The empty line
    /// before it is for bash, which after an unclosed quote in an `eval` takes the next word for no keyword.
    fn report(self, mark: Mark) -> String {
        let builtin = match self {
            Self::Bash => "\\builtin",
            Self::Plain => "command",
        };
        format!("\n{{ {builtin} echo {mark:032x} $? >&{}; }} 2>/dev/null\n", self.status())
    }

    /// The line that runs a command.
    fn run(self, source: &str) -> String {
        let (status, text) = (self.status(), self.text());
        format!("eval {source} 0</dev/null {status}>&- {text}>&-\n")
    }

    /// The source of a command whose text is in the text file.
    fn text_source(self) -> String {
        match self {
            Self::Bash => format!("\"$(</proc/self/fd/{})\"", self.text()),
            Self::Plain => format!("\"$(cat /proc/self/fd/{})\"", self.text()),
        }
    }

    fn set_up(self) -> &'static str {
        match self {
            Self::Bash => "PS1= PS2=; unset HISTFILE; set +o history +o histexpand\n",
            Self::Plain => "PS1= PS2=\n",
        }
    }
}

/// A command that runs in a shell.
#[derive(Debug)]
struct Busy {
    serial: Serial,
    /// Bytes of the report in the pipe behind the command; only these are left once the shell has read the command.
    report_length: u64,
    /// An interrupt waits for the shell to have read the command, or it is to be looked at what one has come to.
    interrupt_at: Option<Instant>,
    /// The last interrupt that was sent.
    interrupt: Option<Interrupt>,
    /// How an interrupted command ended. It is told when the shell has answered once more: an interrupt that came late
    /// must not hit the next command.
    outcome: Option<Ended>,
    /// After an interrupt, when the status is asked for again.
    ask_again: Option<Instant>,
    /// When the shell is killed.
    kill_at: Option<Instant>,
}

#[derive(Debug)]
enum State {
    Starting { key: StreamKey, until: Instant },
    Idle { since: Instant },
    Busy(Busy),
}

/// A shell session.
#[derive(Debug)]
pub struct Shell {
    id: String,
    program: String,
    dialect: Dialect,
    pid: i32,
    commands: OwnedFd,
    commands_armed: bool,
    /// Lines to be written; each waits until the one before is read, where the dialect needs that.
    lines: std::collections::VecDeque<Vec<u8>>,
    written: usize,
    status: OwnedFd,
    status_text: Vec<u8>,
    text: OwnedFd,
    /// While no command runs; a command's exec has them meanwhile.
    outputs: [Output; 2],
    state: State,
    /// Of the command that runs.
    mark: Mark,
    usage: Usage,
}

fn environment(request: &ShellOpenRequest, account: &Account) -> Result<Vec<CString>, String> {
    let mut env = super::exec::environment(&request.env, account, false)?;
    if !request.env.iter().any(|(name, _)| name == "HISTFILE") {
        // An interactive shell reads it when it starts, whatever it is; the first line takes it away again.
        env.push(c"HISTFILE=".to_owned());
    }
    Ok(env)
}

fn quote(command: &str) -> String {
    format!("'{}'", command.replace('\'', "'\\''"))
}

/// What a process has used.
pub(super) fn usage(pid: i32) -> Usage {
    const TICK_US: u64 = 10_000;
    let page = rustix::param::page_size() as u64;
    tree::facts(pid).map_or(Usage::default(), |facts| Usage {
        user_us: facts.user_ticks * TICK_US,
        system_us: facts.system_ticks * TICK_US,
        max_rss: facts.resident_pages * page,
    })
}

impl Server {
    /// Starts a session; the reply comes when the shell is ready.
    pub(super) fn shell_open(&mut self, key: StreamKey, request: &ShellOpenRequest) -> Result<(), Refusal> {
        let id = &request.shell_id;
        check_id("shell id", id)?;
        check_env(&request.env)?;
        super::files::path::checked(&request.cwd)?;
        if self.shells.values().any(|shell| shell.id == *id) {
            return Err(Refusal::new(GuestErrorCode::ShellExists, format!("shell {id}: exists already")));
        }
        if self.shells.len() >= MAX_SHELLS {
            let message = format!("shell {id}: {MAX_SHELLS} shells are open already");
            return Err(Refusal::new(GuestErrorCode::LimitExceeded, message));
        }
        let number = self.next_shell;
        let until = Instant::now() + START;
        let shell = self.start_shell(number, request, State::Starting { key, until })?;
        self.next_shell += 1;
        self.by_pid.insert(shell.pid, Owner::Shell(number));
        self.timers.set(Owner::Shell(number), Some(until));
        self.shells.insert(number, shell);
        if let Some(connection) = self.connections.get_mut(&key.connection) {
            connection.streams.insert(key.stream, Stream::new(Job::Pending));
        }
        self.on_shell_commands(number);
        Ok(())
    }

    fn start_shell(
        &mut self,
        number: u64,
        request: &ShellOpenRequest,
        state: State,
    ) -> Result<Shell, Refusal> {
        let id = request.shell_id.clone();
        let exists = |path: &&&str| self.root.open_path(path, rustix::fs::OFlags::PATH).is_ok();
        let (program, dialect) = match (BASH.iter().find(exists), PLAIN.iter().find(exists)) {
            (Some(bash), _) => (*bash, Dialect::Bash),
            (None, Some(plain)) => (*plain, Dialect::Plain),
            (None, None) => {
                let message = format!("shell {id}: this sandbox has neither bash nor sh");
                return Err(Refusal::new(GuestErrorCode::Unsupported, message));
            }
        };
        let failed = |errno: Errno| {
            let message = format!("shell {id}: {}", reason(&errno.into()));
            Refusal::new(GuestErrorCode::Internal, message)
        };
        let account = match &request.user {
            None => Account::root(),
            Some(user) => user::look_up(&self.root, user).map_err(Refusal::invalid)?,
        };
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed);
        let (commands_read, commands) = pipe()?;
        let (status, status_write) = pipe()?;
        let (stdout, stdout_write) = pipe()?;
        let (stderr, stderr_write) = pipe()?;
        for end in [&commands, &status, &stdout, &stderr] {
            rustix::io::ioctl_fionbio(end, true).map_err(failed)?;
        }
        if dialect == Dialect::Plain {
            // One page: it has room again exactly when the shell has read what was in it.
            rustix::pipe::fcntl_setpipe_size(&commands, 4096).map_err(failed)?;
        }
        let text = rustix::fs::memfd_create("command", rustix::fs::MemfdFlags::CLOEXEC).map_err(failed)?;
        let aside = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, ASIDE).map_err(failed);
        let ends = [aside(&commands_read)?, aside(&stdout_write)?, aside(&stderr_write)?];
        let own = [aside(&text)?, aside(&status_write)?];
        let mut descriptors: Vec<_> = (0..3).zip(&ends).map(|(number, end)| (end.as_fd(), number)).collect();
        descriptors.push((own[0].as_fd(), dialect.text()));
        descriptors.push((own[1].as_fd(), dialect.status()));
        let arguments: &[&str] = match dialect {
            Dialect::Bash => &["bash", "--norc", "--noprofile", "--noediting", "-i"],
            Dialect::Plain => &["sh", "-i"],
        };
        let c_string = |text: &str| CString::new(text).map_err(|_| Refusal::invalid("has a NUL byte"));
        let command = Command {
            candidates: vec![c_string(program)?],
            argv: arguments.iter().map(|arg| c_string(arg)).collect::<Result<_, _>>()?,
            env: environment(request, &account).map_err(Refusal::invalid)?,
            cwd: c_string(&request.cwd)?,
            identity: account.identity.clone(),
            descriptors,
            terminal: false,
            orphans: Orphans::ToLeader,
        };
        let pid = self.spawner.spawn(&command).map_err(|error| {
            let what = if error.step == super::spawn::Step::Directory { &request.cwd } else { program };
            Refusal::invalid(format!("shell {id}: {what}: {}", reason(&error.source)))
        })?;
        self.poller.add(&status, Source::ShellStatus(number), Interest::Read).map_err(|error| {
            Refusal::new(GuestErrorCode::Internal, format!("shell {id}: {}", reason(&error)))
        })?;
        let mark = fresh_mark();
        Ok(Shell {
            id,
            program: program.to_owned(),
            dialect,
            pid,
            commands,
            commands_armed: false,
            lines: [dialect.set_up().into(), dialect.report(mark).into()].into(),
            written: 0,
            status,
            status_text: Vec::new(),
            text,
            outputs: [Output::new(stdout), Output::new(stderr)],
            state,
            mark,
            usage: Usage::default(),
        })
    }

    /// Writes command lines as the shell takes them.
    pub(super) fn on_shell_commands(&mut self, number: u64) {
        let Some(shell) = self.shells.get_mut(&number) else { return };
        let mut blocked = false;
        while let Some(line) = shell.lines.front() {
            match rustix::io::write(&shell.commands, &line[shell.written..]) {
                Ok(count) => {
                    shell.written += count;
                    if shell.written == line.len() {
                        shell.lines.pop_front();
                        shell.written = 0;
                        if shell.dialect == Dialect::Plain && !shell.lines.is_empty() {
                            blocked = true;
                            break;
                        }
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    blocked = true;
                    break;
                }
                // The shell is gone; the reaper tells.
                Err(_) => shell.lines.clear(),
            }
        }
        if blocked != shell.commands_armed {
            shell.commands_armed = blocked;
            let source = Source::ShellCommands(number);
            let changed = if blocked {
                self.poller.add(&shell.commands, source, Interest::Write)
            } else {
                self.poller.remove(&shell.commands)
            };
            if changed.is_err() {
                // Without it no command would ever end.
                signal(shell.pid, Signal::KILL);
            }
        }
    }

    /// Runs a command in a session.
    pub(super) fn shell_run(&mut self, key: StreamKey, mut request: ShellRunRequest) -> Result<(), Refusal> {
        check_id("exec id", &request.exec_id)?;
        let mode = std::mem::replace(&mut request.output, OutputMode::Detach);
        let exec_id = std::mem::take(&mut request.exec_id);
        if request.command.contains('\0') || request.command.len() > MAX_COMMAND {
            let message = format!("command: has a NUL byte, or more than {MAX_COMMAND} bytes");
            return Err(Refusal::invalid(message));
        }
        if request.output_limit > MAX_OUTPUT_LIMIT {
            return Err(Refusal::invalid(format!("output limit: at most {MAX_OUTPUT_LIMIT}")));
        }
        let digest = digest(&[b"shell ", &message::encode(&request)[..]].concat());
        let watch = |serial| Watch { serial, mode, positions: [0, 0] };
        match self.journal.look_up(&exec_id, digest) {
            Some(Reservation::Known(serial)) => {
                self.watch(key, watch(serial), true);
                return Ok(());
            }
            Some(Reservation::Conflict) => return Err(conflict(&exec_id)),
            Some(Reservation::New(_)) | None => {}
        }
        let number = self.find_shell(&request.shell_id)?;
        let busy = self.shells.get(&number).is_none_or(|shell| !matches!(shell.state, State::Idle { .. }));
        if busy {
            let message = format!("shell {}: runs another command", request.shell_id);
            return Err(Refusal::new(GuestErrorCode::ShellBusy, message));
        }
        match self.reserve(&exec_id, digest, request.output_limit)? {
            Reservation::New(serial) => {
                self.run_in_shell(number, serial, &request, mode);
                self.watch(key, watch(serial), false);
            }
            Reservation::Known(serial) => self.watch(key, watch(serial), true),
            Reservation::Conflict => return Err(conflict(&exec_id)),
        }
        Ok(())
    }

    fn run_in_shell(&mut self, number: u64, serial: Serial, request: &ShellRunRequest, mode: OutputMode) {
        let oom_before = self.oom.read();
        let Some(shell) = self.shells.get_mut(&number) else { return };
        for output in &mut shell.outputs {
            output.disarm(&self.poller);
        }
        let outputs = std::mem::take(&mut shell.outputs);
        let timeout = request.timeout_ms.map(Duration::from_millis);
        let mut exec = Exec::new(shell.pid, outputs, oom_before, timeout);
        exec.session = Some(Session::Shell(number));
        shell.mark = fresh_mark();
        let quoted = quote(&request.command);
        let source = if quoted.len() <= INLINE {
            quoted
        } else {
            // A shell that cannot have its text runs nothing, and reports that.
            let stored = rustix::fs::ftruncate(&shell.text, 0).is_ok()
                && write_all(&shell.text, request.command.as_bytes());
            if stored {
                shell.dialect.text_source()
            } else {
                "'echo no memory for the command >&2; false'".to_owned()
            }
        };
        shell.lines.push_back(shell.dialect.run(&source).into());
        let report = shell.dialect.report(shell.mark);
        let report_length = report.len() as u64;
        match (shell.dialect, shell.lines.back_mut()) {
            // One write for both.
            (Dialect::Bash, Some(run)) => run.extend(report.into_bytes()),
            (Dialect::Bash | Dialect::Plain, _) => shell.lines.push_back(report.into()),
        }
        let busy = Busy {
            serial,
            report_length,
            interrupt_at: None,
            interrupt: None,
            outcome: None,
            ask_again: None,
            kill_at: None,
        };
        shell.state = State::Busy(busy);
        self.execs.insert(serial, exec);
        self.set_exec_timer(serial);
        self.set_shell_timer(number);
        if mode == OutputMode::Follow {
            self.arm_outputs(serial);
        }
        self.on_shell_commands(number);
    }

    /// A status, or several, has come.
    pub(super) fn on_shell_status(&mut self, number: u64) {
        let Some(shell) = self.shells.get_mut(&number) else { return };
        let mut buffer = [0; 256];
        match rustix::io::read(&shell.status, &mut buffer) {
            Ok(0) => {
                // The shell has become another program, whose end will be the session's.
                let _removed = self.poller.remove(&shell.status);
                return;
            }
            Ok(count) => shell.status_text.extend_from_slice(&buffer[..count]),
            Err(_) => return,
        }
        let mut code: Option<i32> = None;
        while let Some(end) = shell.status_text.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = shell.status_text.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if let Some((of, status)) = line.trim().split_once(' ')
                && Mark::from_str_radix(of, 16) == Ok(shell.mark)
            {
                // A report that was asked for again tells what the one before it came to.
                code = code.or_else(|| status.parse().ok());
            }
        }
        shell.status_text.truncate(256);
        let Some(code) = code else { return };
        let now = Instant::now();
        match std::mem::replace(&mut shell.state, State::Idle { since: now }) {
            State::Starting { key, .. } => {
                for output in &mut shell.outputs {
                    output.discard();
                }
                let program = shell.program.clone();
                self.answer(key, &Reply::ShellOpened { program });
            }
            State::Busy(mut busy) => {
                let used = usage(shell.pid);
                let usage = Usage {
                    user_us: used.user_us.saturating_sub(shell.usage.user_us),
                    system_us: used.system_us.saturating_sub(shell.usage.system_us),
                    max_rss: used.max_rss,
                };
                shell.usage = used;
                let ended = Ended { pid: shell.pid, status: Status::Exited(code), usage };
                if busy.interrupt.is_some() && busy.outcome.is_none() {
                    busy.outcome = Some(ended);
                    // Before it reads on, the shell waits for a program that it had forked.
                    busy.interrupt_at = Some(now + LOOK_AFTER);
                    busy.ask_again = Some(now + ASK_AGAIN);
                    shell.mark = fresh_mark();
                    shell.lines.push_back(shell.dialect.report(shell.mark).into());
                    shell.state = State::Busy(busy);
                    self.on_shell_commands(number);
                } else {
                    self.end_command(busy.serial, busy.outcome.unwrap_or(ended));
                }
            }
            State::Idle { .. } => {}
        }
        self.set_shell_timer(number);
    }

    /// Gives a command's outputs back to its shell.
    pub(super) fn return_outputs(&mut self, number: u64, mut outputs: [Output; 2]) {
        for output in &mut outputs {
            output.disarm(&self.poller);
        }
        if let Some(shell) = self.shells.get_mut(&number) {
            shell.outputs = outputs;
        }
    }

    /// What background jobs write while no command runs goes nowhere.
    pub(super) fn on_shell_output(&mut self, number: u64, which: usize) {
        if let Some(shell) = self.shells.get_mut(&number) {
            shell.outputs[which].discard();
        }
    }

    /// A session's shell has ended.
    pub(super) fn on_shell_end(&mut self, number: u64, ended: Ended) {
        let Some(shell) = self.shells.remove(&number) else { return };
        self.timers.set(Owner::Shell(number), None);
        match shell.state {
            State::Starting { key, .. } => {
                let message = format!("shell {}: {} ended at once", shell.id, shell.program);
                self.refuse(key, Refusal::new(GuestErrorCode::Unsupported, message));
            }
            State::Idle { .. } => {}
            State::Busy(busy) => {
                if let Some(exec) = self.execs.get_mut(&busy.serial) {
                    exec.session = None;
                }
                self.on_leader_end(busy.serial, ended);
            }
        }
    }

    fn set_shell_timer(&mut self, number: u64) {
        let Some(shell) = self.shells.get(&number) else { return };
        let at = match &shell.state {
            State::Starting { until, .. } => Some(*until),
            State::Idle { since } => {
                let drained = shell.outputs.iter().all(Output::is_armed_or_closed);
                (!drained).then(|| *since + IDLE)
            }
            State::Busy(busy) => {
                [busy.interrupt_at, busy.ask_again, busy.kill_at].into_iter().flatten().min()
            }
        };
        self.timers.set(Owner::Shell(number), at);
    }

    /// A session's timer is due.
    pub(super) fn on_shell_timer(&mut self, number: u64, now: Instant) {
        let Some(shell) = self.shells.get_mut(&number) else { return };
        match &mut shell.state {
            State::Starting { until, .. } if *until <= now => signal(shell.pid, Signal::KILL),
            State::Starting { .. } => {}
            State::Idle { since } => {
                if *since + IDLE <= now {
                    for (output, which) in shell.outputs.iter_mut().zip([0, 1]) {
                        output.arm(&self.poller, Source::ShellOutput(number, which));
                    }
                }
            }
            State::Busy(busy) => {
                if busy.kill_at.is_some_and(|at| at <= now) {
                    busy.kill_at = None;
                    busy.ask_again = None;
                    let serial = busy.serial;
                    let note =
                        b"hothouse: the command did not give way to an interrupt; its shell was ended\n";
                    if let Some(record) = self.journal.get_mut(serial) {
                        record.outputs[1].push(note);
                    }
                    self.terminate(serial, Duration::ZERO);
                } else if busy.interrupt_at.is_some_and(|at| at <= now) {
                    if busy.interrupt.is_some() {
                        self.look_after_interrupt(number);
                    } else {
                        self.interrupt(number, None);
                    }
                } else if busy.ask_again.is_some_and(|at| at <= now) {
                    busy.ask_again = Some(now + ASK_AGAIN);
                    let unread = rustix::io::ioctl_fionread(&shell.commands).unwrap_or(1);
                    if shell.lines.is_empty() && unread == 0 {
                        shell.lines.push_back(shell.dialect.report(shell.mark).into());
                        self.on_shell_commands(number);
                    }
                }
            }
        }
        self.set_shell_timer(number);
    }

    /// Interrupts the command of a session; kills the shell when it does not give way until `kill_at`.
    pub(super) fn interrupt(&mut self, number: u64, kill_at: Option<Instant>) {
        let Some(shell) = self.shells.get_mut(&number) else { return };
        let unread = rustix::io::ioctl_fionread(&shell.commands).unwrap_or(0);
        let State::Busy(busy) = &mut shell.state else { return };
        busy.kill_at = [busy.kill_at, kill_at].into_iter().flatten().min();
        let has_begun = match shell.lines.len() {
            _ if busy.outcome.is_some() => true,
            0 => unread <= busy.report_length,
            // The report waits for the shell to have read the command.
            1 => shell.dialect == Dialect::Plain && unread == 0,
            _ => false,
        };
        if !has_begun {
            busy.interrupt_at = Some(Instant::now() + READ_AGAIN);
        } else if busy.outcome.is_none()
            // The shell has given the command up, but waits for what it had started for it.
            || busy.interrupt.as_ref().is_some_and(|sent| sent.awaited(shell.pid) != Awaited::Nothing)
        {
            let sent = Interrupt::send(shell.pid);
            self.interrupted(number, sent);
        }
        self.set_shell_timer(number);
    }

    /// An interrupt was sent to a session, which waits for this now.
    fn interrupted(&mut self, number: u64, (interrupt, awaited): (Interrupt, Awaited)) {
        let Some(shell) = self.shells.get_mut(&number) else { return };
        let State::Busy(busy) = &mut shell.state else { return };
        let now = Instant::now();
        busy.interrupt_at = (awaited != Awaited::Reached).then(|| now + LOOK_AFTER);
        busy.interrupt = Some(interrupt);
        busy.ask_again = Some(now + ASK_AGAIN);
        if busy.outcome.is_some() {
            // Only an answer to what is asked after the interrupt shows that this one cannot hit the next command.
            shell.mark = fresh_mark();
            shell.lines.push_back(shell.dialect.report(shell.mark).into());
            self.on_shell_commands(number);
        }
    }

    /// Looks at what an interrupt has come to, and repeats it where it was missed.
    fn look_after_interrupt(&mut self, number: u64) {
        let Some(shell) = self.shells.get_mut(&number) else { return };
        let State::Busy(busy) = &mut shell.state else { return };
        busy.interrupt_at = None;
        let Some(mut interrupt) = busy.interrupt.take() else { return };
        match (interrupt.look(shell.pid), &busy.outcome) {
            // A shell that has not given the command up and waits for nothing is on its way to the next program.
            (Some(Awaited::Missed), _) | (Some(Awaited::Nothing), None) => {
                let sent = interrupt.repeat(shell.pid);
                self.interrupted(number, sent);
            }
            (Some(Awaited::Nothing), Some(_)) => {
                busy.interrupt_at = Some(Instant::now() + LOOK_AFTER);
                busy.interrupt = Some(interrupt);
            }
            (Some(Awaited::Reached) | None, _) => busy.interrupt = Some(interrupt),
        }
    }

    /// The time of a session's command is up.
    pub(super) fn command_timed_out(&mut self, number: u64) {
        self.interrupt(number, Some(Instant::now() + GIVE_WAY));
    }

    /// Ends an exec on a driver's behalf, be it a process or a session's command.
    pub(super) fn terminate_any(&mut self, serial: Serial, grace: Duration) {
        match self.execs.get(&serial).and_then(|exec| exec.session) {
            Some(session) => self.interrupt_session(session, Some(Instant::now() + grace.min(START))),
            None => self.terminate(serial, grace),
        }
    }

    /// Interrupts what a session runs; ends the session when it does not give way until `kill_at`.
    pub(super) fn interrupt_session(&mut self, session: Session, kill_at: Option<Instant>) {
        match session {
            Session::Shell(shell) => self.interrupt(shell, kill_at),
            Session::Context(context) => self.interrupt_context(context, kill_at),
        }
    }

    fn find_shell(&self, id: &str) -> Result<u64, Refusal> {
        self.shells.iter().find(|(_, shell)| shell.id == id).map(|(number, _)| *number).ok_or_else(|| {
            Refusal::new(GuestErrorCode::ShellNotFound, format!("shell {id}: no such session"))
        })
    }

    /// Interrupts what a session runs.
    pub(super) fn shell_interrupt(&mut self, id: &str) -> Result<Reply, Refusal> {
        let number = self.find_shell(id)?;
        if self.shells.get(&number).is_some_and(|shell| matches!(shell.state, State::Busy(_))) {
            self.interrupt(number, None);
        }
        Ok(Reply::Done)
    }

    /// Ends a session with all that was started in it.
    pub(super) fn shell_close(&mut self, id: &str) -> Result<Reply, Refusal> {
        let number = self.find_shell(id)?;
        let Some(shell) = self.shells.remove(&number) else { return Ok(Reply::Done) };
        self.timers.set(Owner::Shell(number), None);
        match shell.state {
            State::Starting { key, .. } => {
                let message = format!("shell {id}: was closed");
                self.refuse(key, Refusal::new(GuestErrorCode::ShellNotFound, message));
            }
            State::Idle { .. } => {}
            State::Busy(busy) => {
                // From here on it is an exec like any other, which is being ended.
                if let Some(exec) = self.execs.get_mut(&busy.serial) {
                    exec.session = None;
                    self.by_pid.insert(shell.pid, Owner::Exec(busy.serial));
                    self.terminate(busy.serial, Duration::ZERO);
                    return Ok(Reply::Done);
                }
            }
        }
        end_tree(shell.pid);
        Ok(Reply::Done)
    }

    /// The open sessions.
    pub(super) fn shell_list(&self) -> Vec<ShellEntry> {
        let entry = |shell: &Shell| ShellEntry {
            shell_id: shell.id.clone(),
            program: shell.program.clone(),
            busy: matches!(shell.state, State::Busy(_)),
        };
        self.shells.values().map(entry).collect()
    }
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> bool {
    let mut at = 0;
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, at) {
            Ok(count) => {
                at += count as u64;
                bytes = &bytes[count..];
            }
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

pub(super) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended just now, which is what is wanted.
        let _sent = kill_process(pid, signal);
    }
}

/// Kills what descends from the process of an idle session, and then that process, which is stopped meanwhile.
pub(super) fn end_tree(pid: i32) {
    const PASSES: u32 = 50;
    signal(pid, Signal::STOP);
    for _ in 0..PASSES {
        let all = tree::scan();
        let tree = tree::descendants(&all, [pid]);
        let alive: Vec<i32> = all
            .iter()
            .filter(|facts| facts.process.pid != pid && tree.contains(&facts.process.pid) && !facts.is_gone())
            .map(|facts| facts.process.pid)
            .collect();
        if alive.is_empty() {
            break;
        }
        for child in alive {
            signal(child, Signal::KILL);
        }
    }
    signal(pid, Signal::KILL);
}
