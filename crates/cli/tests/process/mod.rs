//! Programs that a test starts. Every wait for one has an end: it fails with what was not seen and what was said instead.

#![allow(dead_code, reason = "each test program uses its part")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The longest wait for anything. Far more than it takes, since a busy machine is no mistake.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a program may take to end once it is told to, at the end of a test.
const LAST_GRACE: Duration = Duration::from_secs(20);

/// What a program answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let signalled = || output.status.signal().map_or(-1, |signal| -signal);
        Self {
            status: output.status.code().unwrap_or_else(signalled),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a program to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    Running::start(command).output()
}

/// Runs a program to its end; what it answered, as text.
pub(crate) fn answer(command: &mut Command) -> Answer {
    output(command).into()
}

/// Runs a program to its end with this standard input.
pub(crate) fn feed(command: &mut Command, input: &[u8]) -> Output {
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut stdin = running.stdin();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = running.output();
    // A program that does not read all of it is no mistake of the test.
    _ = writer.join().expect("the writer");
    output
}

/// Waits until something holds; tells what did not.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "not so after {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Waits until one of them has something to read, or its other end is gone: which those are, none at the deadline.
pub(crate) fn readable(descriptors: &[&OwnedFd], until: Instant) -> Vec<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("a minute fits");
        let mut polled: Vec<PollFd<'_>> =
            descriptors.iter().map(|descriptor| PollFd::new(*descriptor, PollFlags::IN)).collect();
        match poll(&mut polled, Some(&left)) {
            Ok(_) => return polled.iter().map(|one| !one.revents().is_empty()).collect(),
            Err(Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}

/// One output of a program.
#[derive(Debug)]
struct Said {
    /// None at its end.
    pipe: Option<OwnedFd>,
    /// What came and nobody has taken yet.
    unread: Vec<u8>,
}

impl Said {
    fn new(pipe: Option<impl Into<OwnedFd>>) -> Self {
        Self { pipe: pipe.map(Into::into), unread: Vec::new() }
    }

    /// Takes what is there, without waiting for more.
    fn take(&mut self) {
        let Some(pipe) = self.pipe.take() else { return };
        let mut pipe = File::from(pipe);
        let mut buffer = vec![0; 65536];
        let count = pipe.read(&mut buffer).expect("reading what a program says");
        self.unread.extend_from_slice(&buffer[..count]);
        if count > 0 {
            self.pipe = Some(pipe.into());
        }
    }
}

/// A running program that is ended with the test.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Its arguments, to tell it from others.
    line: String,
    ended: OwnedFd,
    stdout: Said,
    stderr: Said,
}

impl Running {
    /// Starts it with piped outputs.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_with(command, Stdio::piped())
    }

    /// Starts it with this standard output.
    pub(crate) fn start_with(command: &mut Command, stdout: impl Into<Stdio>) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let child = command.stdout(stdout).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("starting {line}: {error}"));
        let ended =
            pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("a descriptor of our child");
        let stdout = Said::new(child.stdout.take());
        let stderr = Said::new(child.stderr.take());
        Self { child, line, ended, stdout, stderr }
    }

    /// Its process number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, where that is a pipe.
    pub(crate) fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().expect("standard input is a pipe")
    }

    /// Nobody reads its standard output any more.
    pub(crate) fn close_stdout(&mut self) {
        self.stdout.pipe = None;
    }

    /// Reads its standard output until it has this text, and leaves the rest.
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let found = |bytes: &[u8]| bytes.windows(text.len()).position(|window| window == text.as_bytes());
        loop {
            if let Some(at) = found(&self.stdout.unread) {
                let taken = self.stdout.unread.drain(..at + text.len()).collect::<Vec<u8>>();
                return String::from_utf8_lossy(&taken).into_owned();
            }
            assert!(self.stdout.pipe.is_some(), "it ended its output without {text:?}: {}", self.story());
            assert!(self.hear(deadline), "no {text:?} within {PATIENCE:?}: {}", self.story());
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.id().to_string()]).status();
        assert!(status.expect("kill").success());
    }

    /// True once it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends_by(Instant::now())
    }

    /// Waits for its end; what it answered since, as text.
    pub(crate) fn answer(self) -> Answer {
        self.output().into()
    }

    /// Waits for its end; what it said since.
    pub(crate) fn output(self) -> Output {
        self.output_within(PATIENCE)
    }

    /// As [`Self::output`], for what is expected to take long.
    pub(crate) fn output_within(mut self, limit: Duration) -> Output {
        let deadline = Instant::now() + limit;
        while self.stdout.pipe.is_some() || self.stderr.pipe.is_some() {
            assert!(self.hear(deadline), "its outputs are open after {limit:?}: {}", self.story());
        }
        assert!(self.ends_by(deadline), "it has not ended after {limit:?}: {}", self.story());
        Output {
            status: self.child.wait().expect("waiting for what has ended"),
            stdout: std::mem::take(&mut self.stdout.unread),
            stderr: std::mem::take(&mut self.stderr.unread),
        }
    }

    /// Takes what comes next; false when nothing comes by then.
    fn hear(&mut self, deadline: Instant) -> bool {
        let mut open: Vec<&mut Said> =
            [&mut self.stdout, &mut self.stderr].into_iter().filter(|said| said.pipe.is_some()).collect();
        let pipes: Vec<&OwnedFd> = open.iter().filter_map(|said| said.pipe.as_ref()).collect();
        let ready = readable(&pipes, deadline);
        for (said, _) in open.iter_mut().zip(&ready).filter(|(_, ready)| **ready) {
            said.take();
        }
        ready.contains(&true)
    }

    fn ends_by(&self, deadline: Instant) -> bool {
        readable(&[&self.ended], deadline) == [true]
    }

    /// What a failed test has to tell of it.
    pub(crate) fn story(&self) -> String {
        let end = if self.has_ended() { "has ended" } else { "still runs" };
        let text = |said: &Said| {
            let from = said.unread.len().saturating_sub(2000);
            String::from_utf8_lossy(&said.unread[from..]).into_owned()
        };
        format!(
            "`{}` {end}; unread standard output {:?}, standard error {:?}",
            self.line,
            text(&self.stdout),
            text(&self.stderr)
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended() {
            // In order, so that a server takes its sandboxes along. Gone meanwhile is as good.
            _ = Command::new("kill").arg(self.id().to_string()).status();
            if !self.ends_by(Instant::now() + LAST_GRACE) {
                _ = self.child.kill();
            }
        }
        _ = self.child.wait();
    }
}
