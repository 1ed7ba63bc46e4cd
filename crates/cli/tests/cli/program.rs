//! The program under test.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A command to run the program with a home of its own; nothing of our own environment that it reads is left.
pub(crate) fn hothouse(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hothouse"));
    for name in ["SERVER", "HOME", "CGROUP", "LISTEN", "MAX_SANDBOXES", "ON_EXIT", "LOG", "LOG_FORMAT"] {
        command.env_remove(format!("HOTHOUSE_{name}"));
    }
    command.args(args).env("HOTHOUSE_HOME", home()).env("COLUMNS", "100").stdin(Stdio::null());
    command
}

/// A home that all tests of this run share, as the users of a machine do.
pub(crate) fn home() -> &'static str {
    env!("CARGO_TARGET_TMPDIR")
}

/// What the program answered.
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

/// Runs the program to its end.
pub(crate) fn run(args: &[&str]) -> Answer {
    hothouse(args).output().expect("starting hothouse").into()
}

/// Runs the program to its end with this standard input.
pub(crate) fn run_with_input(args: &[&str], input: &[u8]) -> Output {
    feed(hothouse(args), input)
}

/// Runs a command to its end with this standard input.
pub(crate) fn feed(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starting hothouse");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("waiting for hothouse");
    // A program that does not read all of it is no mistake of the test.
    _ = writer.join().expect("the writer");
    output
}

/// Waits until something holds; tells what did not, after 20 seconds.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "not so after 20 s: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A running program that is ended with the test.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Starts it with piped outputs.
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().expect("starting hothouse"))
    }

    /// Reads its standard output until it has this text, for at most a minute.
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        let out = self.0.stdout.as_mut().expect("standard output is a pipe");
        let mut all = Vec::new();
        let mut byte = [0];
        let minute = Timespec { tv_sec: 60, tv_nsec: 0 };
        while !String::from_utf8_lossy(&all).contains(text) {
            let ready =
                poll(&mut [PollFd::new(&*out, PollFlags::IN)], Some(&minute)).expect("waiting for it");
            assert!(ready > 0, "no {text:?} in a minute, but {:?}", String::from_utf8_lossy(&all));
            match out.read(&mut byte).expect("reading standard output") {
                0 => panic!("ended before {text:?}: {:?}", String::from_utf8_lossy(&all)),
                _ => all.push(byte[0]),
            }
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.0.id().to_string()]).status();
        assert!(status.expect("kill").success());
    }

    /// Waits for its end.
    pub(crate) fn answer(mut self) -> Answer {
        let mut stdout = Vec::new();
        let mut stderr = Vec::new();
        if let Some(mut out) = self.0.stdout.take() {
            out.read_to_end(&mut stdout).expect("reading standard output");
        }
        if let Some(mut err) = self.0.stderr.take() {
            err.read_to_end(&mut stderr).expect("reading standard error");
        }
        let status = self.0.wait().expect("waiting for hothouse");
        Output { status, stdout, stderr }.into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            // In order, so that a server takes its sandboxes along. Gone meanwhile is as good.
            _ = Command::new("kill").arg(self.0.id().to_string()).status();
            let begin = Instant::now();
            while matches!(self.0.try_wait(), Ok(None)) && begin.elapsed() < Duration::from_secs(20) {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            _ = self.0.kill();
            _ = self.0.wait();
        }
    }
}
