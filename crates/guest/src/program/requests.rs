//! Frames from a driver, and what each request does.

use std::time::Duration;

use super::connection::{Job, MAX_STREAMS, Phase, Stream, StreamKey};
use super::exec::Life;
use super::files::job::{Download, Piece, Upload};
use super::journal::{Reservation, Serial, digest};
use super::refusal::Refusal;
use super::server::Server;
use super::stdin::Item;
use super::tree;
use super::watch::Watch;
use crate::frame::{Channel, Frame, Kind, MAX_DATA};
use crate::message::{
    self, Ending, ExecRequest, Finished, GuestErrorCode, GuestInfo, Hello, MAGIC, MAX_OUTPUT_READ,
    OutputMode, Program, Reply, Request, SignalTarget,
};

/// Execs that may run at once.
pub const MAX_RUNNING: usize = 512;
/// The most output that may be kept per stream, in bytes.
pub const MAX_OUTPUT_LIMIT: u64 = 16 << 20;
const MAX_ID: usize = 128;

/// The driver broke the protocol: its connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation;

impl Server {
    /// Handles one frame.
    ///
    /// # Errors
    /// [`Violation`] when no honest driver sends it.
    pub(super) fn on_frame(&mut self, id: u64, frame: Frame<'_>) -> Result<(), Violation> {
        let key = StreamKey { connection: id, stream: frame.stream };
        let connection = self.connections.get_mut(&id).ok_or(Violation)?;
        if connection.phase == Phase::Fresh {
            let hello: Hello = message::decode("hello", frame.payload).map_err(|_| Violation)?;
            if frame.kind != Kind::Hello || hello.magic != MAGIC {
                return Err(Violation);
            }
            connection.phase = Phase::Open;
            return Ok(());
        }
        match frame.kind {
            Kind::Hello | Kind::Reply => Err(Violation),
            Kind::Open => {
                if frame.stream == 0 || connection.streams.contains_key(&frame.stream) {
                    return Err(Violation);
                }
                if connection.streams.len() >= MAX_STREAMS {
                    let message = format!("more than {MAX_STREAMS} streams on one connection");
                    self.refuse(key, Refusal::new(GuestErrorCode::LimitExceeded, message));
                    return Ok(());
                }
                match message::decode("request", frame.payload) {
                    Ok(request) => {
                        if let Err(refusal) = self.on_request(key, request) {
                            self.refuse(key, refusal);
                        }
                    }
                    Err(malformed) => self.refuse(key, Refusal::invalid(malformed.to_string())),
                }
                Ok(())
            }
            Kind::Data => {
                // A stream that the guest has closed may still get what was under way.
                let Some(stream) = connection.streams.get_mut(&frame.stream) else { return Ok(()) };
                if !stream.receive(frame.payload.len()) {
                    return Err(Violation);
                }
                self.on_data(key, frame.channel, frame.payload);
                Ok(())
            }
            Kind::End => {
                self.on_end(key, frame.channel);
                Ok(())
            }
            Kind::Credit => {
                let bytes: [u8; 4] = frame.payload.try_into().map_err(|_| Violation)?;
                if let Some(stream) = connection.streams.get_mut(&frame.stream) {
                    stream.credit = stream.credit.saturating_add(u64::from(u32::from_le_bytes(bytes)));
                    self.enqueue(key);
                }
                Ok(())
            }
            Kind::Close => {
                self.end_stream(key);
                Ok(())
            }
        }
    }

    fn on_data(&mut self, key: StreamKey, channel: Channel, bytes: &[u8]) {
        let Some(stream) = self.stream(key) else { return };
        match (&mut stream.job, channel) {
            (Job::Watch(Watch { serial, .. }) | Job::Feed { serial, .. }, Channel::Stdin) => {
                let serial = *serial;
                let item = Item::Bytes { bytes: bytes.to_vec(), written: 0, from: Some(key) };
                self.push_stdin(serial, item);
            }
            (Job::Upload(upload), Channel::File) => {
                let taken = upload.take(bytes);
                match taken {
                    Ok(()) => self.consumed(key, bytes.len()),
                    Err(refusal) => self.refuse(key, refusal),
                }
            }
            (Job::Dial(number), Channel::Socket) => {
                let number = *number;
                self.dial_data(key, number, bytes);
            }
            // Nobody wants it; the driver may go on.
            _ => self.consumed(key, bytes.len()),
        }
    }

    /// Gives a driver credit back for bytes that are consumed.
    pub(super) fn consumed(&mut self, key: StreamKey, bytes: usize) {
        if let Some(connection) = self.connections.get_mut(&key.connection)
            && connection.consumed(key.stream, bytes)
        {
            self.mark_dirty(key.connection);
        }
    }

    fn on_end(&mut self, key: StreamKey, channel: Channel) {
        let Some(stream) = self.stream(key) else { return };
        match (&stream.job, channel) {
            (Job::Watch(Watch { serial, .. }), Channel::Stdin) => {
                let serial = *serial;
                self.push_stdin(serial, Item::Close);
            }
            (Job::Feed { serial, close }, Channel::Stdin) => {
                let (serial, close) = (*serial, *close);
                stream.job = Job::Pending;
                if !self.execs.contains_key(&serial) {
                    let id = self.journal.get(serial).map_or("", |record| &record.exec_id).to_owned();
                    return self.refuse(key, Refusal::exec_finished(&id));
                }
                self.push_stdin(serial, Item::Answer(key));
                if close {
                    self.push_stdin(serial, Item::Close);
                }
            }
            (Job::Upload(_), Channel::File) => {
                let Job::Upload(upload) = std::mem::replace(&mut stream.job, Job::Pending) else { return };
                match upload.finish() {
                    Ok(reply) => self.answer(key, &reply),
                    Err(refusal) => self.refuse(key, refusal),
                }
            }
            (Job::Dial(number), Channel::Socket) => {
                let number = *number;
                self.dial_end(number);
            }
            _ => {}
        }
    }

    /// Sends the reply that ends a stream.
    pub(super) fn answer(&mut self, key: StreamKey, reply: &Reply) {
        let Some(connection) = self.connections.get_mut(&key.connection) else { return };
        connection.reply(key.stream, reply);
        connection.close(key.stream);
        self.mark_dirty(key.connection);
        self.end_stream(key);
    }

    /// Ends a stream with an error.
    pub(super) fn refuse(&mut self, key: StreamKey, refusal: Refusal) {
        self.answer(key, &refusal.reply());
    }

    /// Forgets a stream.
    pub(super) fn end_stream(&mut self, key: StreamKey) {
        let stream = self.connections.get_mut(&key.connection).and_then(|c| c.streams.remove(&key.stream));
        if let Some(stream) = stream {
            self.job_ends(key, &stream.job);
        }
    }

    /// A stream's job is over or no longer wanted.
    pub(super) fn job_ends(&mut self, key: StreamKey, job: &Job) {
        match job {
            Job::Watch(watch) => {
                self.journal.unpin(watch.serial);
                if let Some(watchers) = self.watchers(watch.serial) {
                    watchers.retain(|other| *other != key);
                    // It holds the exec up no more.
                    self.resume(watch.serial);
                }
            }
            Job::Dial(number) => self.dial_left(*number),
            Job::Feed { .. } | Job::Upload(_) | Job::Download(_) | Job::Pending => {}
        }
    }

    /// Does a piece of a stream's job.
    pub(super) fn work_on(&mut self, key: StreamKey) {
        let Some(stream) = self.stream(key) else { return };
        stream.queued = false;
        match &stream.job {
            Job::Watch(watch) => {
                let watch = *watch;
                self.work_on_watch(key, watch);
            }
            Job::Download(_) => self.work_on_download(key),
            Job::Dial(number) => {
                let number = *number;
                self.read_dial(number);
            }
            Job::Feed { .. } | Job::Upload(_) | Job::Pending => {}
        }
    }

    fn work_on_download(&mut self, key: StreamKey) {
        let Some(connection) = self.connections.get_mut(&key.connection) else { return };
        let busy = connection.waiting() > super::connection::BUSY;
        let Some(stream) = connection.streams.get_mut(&key.stream) else { return };
        if busy {
            stream.paused = true;
            return;
        }
        let Job::Download(download) = &mut stream.job else { return };
        let room = usize::try_from(stream.credit).unwrap_or(usize::MAX).min(MAX_DATA);
        let mut buffer = Vec::new();
        match download.step(room, &mut buffer) {
            Ok(Piece::Data) => {
                if buffer.is_empty() {
                    // It waits for credit, which queues it again.
                    return;
                }
                connection.data(key.stream, Channel::File, &buffer);
                self.mark_dirty(key.connection);
                self.enqueue(key);
            }
            Ok(Piece::Reply(reply)) => {
                connection.reply(key.stream, &reply);
                self.mark_dirty(key.connection);
                self.enqueue(key);
            }
            Ok(Piece::Nothing) => self.enqueue(key),
            Ok(Piece::EndOfContent(reply)) => {
                connection.end(key.stream, Channel::File);
                self.answer(key, &reply);
            }
            Ok(Piece::Done(reply)) => self.answer(key, &reply),
            Err(refusal) => self.refuse(key, refusal),
        }
    }

    /// Opens a stream that sends content or does something long.
    pub(super) fn start_download(&mut self, key: StreamKey, download: impl Download + 'static) {
        if let Some(connection) = self.connections.get_mut(&key.connection) {
            connection.streams.insert(key.stream, Stream::new(Job::Download(Box::new(download))));
            self.enqueue(key);
        }
    }

    /// Opens a stream that takes content.
    pub(super) fn start_upload(&mut self, key: StreamKey, upload: impl Upload + 'static) {
        if let Some(connection) = self.connections.get_mut(&key.connection) {
            connection.streams.insert(key.stream, Stream::new(Job::Upload(Box::new(upload))));
        }
    }

    fn on_request(&mut self, key: StreamKey, request: Request) -> Result<(), Refusal> {
        let reply = match request {
            Request::Exec(request) => return self.exec(key, request),
            Request::Attach { exec_id, stdout_from, stderr_from, output } => {
                let serial = self.find(&exec_id)?;
                let positions = match output {
                    OutputMode::Follow => [stdout_from, stderr_from],
                    OutputMode::Collect | OutputMode::Detach => [0, 0],
                };
                self.watch(key, Watch { serial, mode: output, positions }, true);
                return Ok(());
            }
            Request::ExecStatus { exec_id } => {
                let serial = self.find(&exec_id)?;
                let record = self.journal.get(serial).ok_or_else(|| Refusal::no_exec(&exec_id))?;
                Reply::Status(record.entry())
            }
            Request::ListExecs => Reply::Execs(self.journal.records().map(|r| r.entry()).collect()),
            Request::ReadOutput { exec_id, from, offset, max } => {
                let serial = self.find(&exec_id)?;
                let record = self.journal.get(serial).ok_or_else(|| Refusal::no_exec(&exec_id))?;
                read_output(record, from, offset, max)
            }
            Request::Stdin { exec_id, close } => return self.stdin(key, &exec_id, close),
            Request::Signal { exec_id, signal, target } => self.signal(&exec_id, signal, target)?,
            Request::Terminate { exec_id, grace_ms } => {
                let serial = self.find_running(&exec_id)?;
                self.terminate_any(serial, Duration::from_millis(grace_ms));
                Reply::Done
            }
            Request::Resize { exec_id, rows, cols } => {
                let serial = self.find_running(&exec_id)?;
                let terminal = self.execs.get(&serial).and_then(|exec| exec.terminal.as_ref());
                let terminal = terminal
                    .ok_or_else(|| Refusal::invalid(format!("exec {exec_id}: runs on no terminal")))?;
                super::pty::resize(terminal, rows, cols).map_err(|error| Refusal::file(&exec_id, error))?;
                Reply::Done
            }
            Request::ShellOpen(request) => return self.shell_open(key, &request),
            Request::ShellRun(request) => return self.shell_run(key, request),
            Request::ShellInterrupt { shell_id } => self.shell_interrupt(&shell_id)?,
            Request::ShellClose { shell_id } => self.shell_close(&shell_id)?,
            Request::ShellList => Reply::Shells(self.shell_list()),
            Request::ContextOpen(request) => return self.context_open(key, request),
            Request::ContextRun(request) => return self.context_run(key, request),
            Request::ContextInterrupt { context_id } => self.context_interrupt(&context_id)?,
            Request::ContextReset { context_id } => return self.context_reset(key, &context_id),
            Request::ContextFork { context_id, new_id } => {
                return self.context_fork(key, &context_id, new_id);
            }
            Request::ContextClose { context_id } => self.context_close(&context_id)?,
            Request::ContextList => Reply::Contexts(self.context_list()),
            Request::Dial { target, wait_ms } => return self.dial(key, target, wait_ms),
            Request::Info => Reply::Info(self.info()),
            Request::Stat { .. }
            | Request::List { .. }
            | Request::Mkdir { .. }
            | Request::Remove { .. }
            | Request::Rename { .. }
            | Request::ReadFile { .. }
            | Request::WriteFile { .. }
            | Request::TarOut { .. }
            | Request::TarIn { .. }
            | Request::Patch { .. } => return self.on_file_request(key, request),
        };
        self.answer(key, &reply);
        Ok(())
    }

    fn find(&self, exec_id: &str) -> Result<Serial, Refusal> {
        self.journal.find(exec_id).ok_or_else(|| Refusal::no_exec(exec_id))
    }

    fn find_running(&self, exec_id: &str) -> Result<Serial, Refusal> {
        let serial = self.find(exec_id)?;
        let ended = self.journal.get(serial).is_none_or(|record| record.finished().is_some());
        if ended { Err(Refusal::exec_finished(exec_id)) } else { Ok(serial) }
    }

    fn exec(&mut self, key: StreamKey, mut request: ExecRequest) -> Result<(), Refusal> {
        check(&request)?;
        let mode = std::mem::replace(&mut request.output, OutputMode::Detach);
        let exec_id = std::mem::take(&mut request.exec_id);
        let digest = digest(&message::encode(&request));
        request.output = mode;
        let watch = |serial| Watch { serial, mode, positions: [0, 0] };
        match self.reserve(&exec_id, digest, request.output_limit)? {
            Reservation::Known(serial) => self.watch(key, watch(serial), true),
            Reservation::Conflict => return Err(conflict(&exec_id)),
            Reservation::New(serial) => {
                if let Err(reason) = self.start_exec(serial, &mut request) {
                    self.journal.finish(serial, never_ran(reason));
                }
                self.watch(key, watch(serial), false);
            }
        }
        Ok(())
    }

    /// Reserves an id in the journal unless too much runs.
    pub(super) fn reserve(
        &mut self,
        exec_id: &str,
        digest: super::journal::BodyDigest,
        output_limit: u64,
    ) -> Result<Reservation, Refusal> {
        if let Some(known) = self.journal.look_up(exec_id, digest) {
            return Ok(known);
        }
        if self.execs.len() >= MAX_RUNNING {
            let message = format!("exec {exec_id}: {MAX_RUNNING} execs run already");
            return Err(Refusal::new(GuestErrorCode::LimitExceeded, message));
        }
        Ok(self.journal.reserve(exec_id, digest, output_limit))
    }

    fn stdin(&mut self, key: StreamKey, exec_id: &str, close: bool) -> Result<(), Refusal> {
        let serial = self.find_running(exec_id)?;
        let takes_input = self.execs.get(&serial).is_some_and(|exec| exec.stdin.pipe.is_some());
        if !takes_input {
            let message = format!("exec {exec_id}: takes no input");
            return Err(Refusal::new(GuestErrorCode::ExecFinished, message));
        }
        if let Some(connection) = self.connections.get_mut(&key.connection) {
            connection.streams.insert(key.stream, Stream::new(Job::Feed { serial, close }));
        }
        Ok(())
    }

    fn signal(&mut self, exec_id: &str, number: i32, target: SignalTarget) -> Result<Reply, Refusal> {
        let serial = self.find_running(exec_id)?;
        if !(1..=64).contains(&number) {
            return Err(Refusal::invalid(format!("signal {number}: not one of 1 to 64")));
        }
        let Some(exec) = self.execs.get_mut(&serial) else {
            return Err(Refusal::exec_finished(exec_id));
        };
        if !matches!(exec.life, Life::Running) {
            return Err(Refusal::exec_finished(exec_id));
        }
        exec.killed_by_driver |= number == libc::SIGKILL;
        let (leader, session) = (exec.pid, exec.session);
        if let (Some(session), libc::SIGINT) = (session, number) {
            self.interrupt_session(session, None);
            return Ok(Reply::Done);
        }
        // What runs in a session is what its shell or interpreter has started; that itself is no target.
        let target = if session.is_some() { SignalTarget::Tree } else { target };
        let pids = match target {
            SignalTarget::Leader => vec![leader],
            SignalTarget::Tree => tree::descendants(&tree::scan(), [leader]).into_iter().collect::<Vec<_>>(),
        };
        for pid in pids.into_iter().filter(|pid| session.is_none() || *pid != leader) {
            // It may have ended just now; the exec's end tells.
            let _sent = super::reaper::send(pid, number);
        }
        Ok(Reply::Done)
    }

    fn info(&self) -> GuestInfo {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        GuestInfo {
            version: message::VERSION,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            running: count(self.execs.len()),
            journaled: count(self.journal.len()),
            shells: count(self.shell_list().len()),
            processes: count(tree::count()),
            dials: count(self.dials.count()),
        }
    }
}

/// The id is taken.
#[must_use]
pub fn conflict(exec_id: &str) -> Refusal {
    let message = format!("exec {exec_id}: the id was used with another body");
    Refusal::new(GuestErrorCode::ExecConflict, message)
}

fn never_ran(reason: String) -> Finished {
    Finished {
        ending: Ending::FailedToStart(reason),
        wall_ns: 0,
        user_us: 0,
        system_us: 0,
        max_rss: 0,
        stdout_total: 0,
        stderr_total: 0,
        stdout_dropped: 0,
        stderr_dropped: 0,
        held_open: false,
    }
}

fn read_output(record: &super::journal::Record, from: message::OutputStream, offset: u64, max: u32) -> Reply {
    let output = record.output(from);
    let mut bytes = Vec::new();
    let first = output.piece(offset).offset.min(output.total());
    let mut left = max.min(MAX_OUTPUT_READ) as usize;
    let mut at = first;
    while left > 0 {
        let piece = output.piece(at);
        if piece.bytes.is_empty() || piece.offset != at {
            break;
        }
        let length = piece.bytes.len().min(left);
        bytes.extend_from_slice(&piece.bytes[..length]);
        at += length as u64;
        left -= length;
    }
    Reply::Output { offset: first, bytes, total: output.total(), ended: record.finished().is_some() }
}

/// Checks the form of an id.
///
/// # Errors
/// [`Refusal`] when it is empty, too long or not printable ASCII.
pub fn check_id(what: &str, id: &str) -> Result<(), Refusal> {
    if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Refusal::invalid(format!("{what} {id:?}: not 1 to {MAX_ID} printable characters")));
    }
    Ok(())
}

/// Checks an environment.
///
/// # Errors
/// [`Refusal`] names the variable.
pub fn check_env(env: &[(String, String)]) -> Result<(), Refusal> {
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Refusal::invalid(format!("env {name:?}: not a variable")));
        }
    }
    Ok(())
}

fn check(request: &ExecRequest) -> Result<(), Refusal> {
    check_id("exec id", &request.exec_id)?;
    check_env(&request.env)?;
    super::files::path::checked(&request.cwd)?;
    match &request.program {
        Program::Argv(argv) if argv.first().is_none_or(String::is_empty) => {
            return Err(Refusal::invalid("argv: is empty"));
        }
        Program::Argv(argv) if argv.iter().any(|arg| arg.contains('\0')) => {
            return Err(Refusal::invalid("argv: has a NUL byte"));
        }
        Program::Shell(line) if line.contains('\0') => {
            return Err(Refusal::invalid("shell: has a NUL byte"));
        }
        Program::Argv(_) | Program::Shell(_) => {}
    }
    if request.output_limit > MAX_OUTPUT_LIMIT {
        let limit = request.output_limit;
        return Err(Refusal::invalid(format!("output limit {limit}: at most {MAX_OUTPUT_LIMIT}")));
    }
    Ok(())
}
