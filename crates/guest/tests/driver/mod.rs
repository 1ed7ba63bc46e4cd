//! A real guest as an ordinary process, and a blocking driver for it.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of the driver")]
#![allow(clippy::unwrap_used, reason = "this is test code, outside of a test function")]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hothouse_guest::frame::{self, Channel, Decoder, Kind};
use hothouse_guest::message::{
    self, Ending, ExecRequest, Finished, GuestErrorCode, Hello, OutputMode, Program, Reply, Request,
};
use hothouse_guest::program::tree;

/// The guest program: of this test run, or, for an example, of the same profile.
fn program() -> std::path::PathBuf {
    option_env!("CARGO_BIN_EXE_hothouse-guest").map_or_else(
        || std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("hothouse-guest"),
        Into::into,
    )
}

/// How long anything may take before a test gives up. Far more than it takes, since a busy machine is no mistake.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running guest; ends with all its processes when dropped.
pub struct Guest {
    child: Child,
    dir: tempfile::TempDir,
}

impl Guest {
    pub fn start() -> Self {
        Self::start_by("exec \"$0\" 3<&0 0</dev/null 1>/dev/null 2>/dev/null")
    }

    /// Starts it by a shell line, whose `$0` is the program and whose standard input the listening socket.
    pub fn start_by(line: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("guest.sock")).unwrap();
        let child = Command::new("/bin/sh")
            .args(["-c", line])
            .arg(program())
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Where the guest listens.
    pub fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("guest.sock")
    }

    /// A path for the test's files.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn connect(&self) -> Driver {
        let stream = UnixStream::connect(self.socket()).unwrap();
        // These end silence; what never stops talking is ended by the deadline of whoever listens.
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut driver =
            Driver { stream, decoder: Decoder::new(), next: 1, waiting: VecDeque::new(), grants: true };
        driver.send(Kind::Hello, 0, Channel::None, &message::encode(&Hello::new()));
        let hello = driver.frame().expect("the guest says hello");
        assert_eq!(hello.kind, Kind::Hello);
        driver
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let pid = self.pid();
        for pid in tree::descendants(&tree::scan(), [pid]) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _sent = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        self.child.wait().unwrap();
    }
}

/// A frame that owns its payload.
#[derive(Debug, Clone)]
pub struct Owned {
    pub kind: Kind,
    pub stream: u32,
    pub channel: Channel,
    pub payload: Vec<u8>,
}

pub struct Driver {
    pub stream: UnixStream,
    decoder: Decoder,
    next: u32,
    waiting: VecDeque<Owned>,
    /// Credit is granted for what comes.
    pub grants: bool,
}

/// All that came on a stream.
#[derive(Debug, Default)]
pub struct Answer {
    pub replies: Vec<Reply>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub file: Vec<u8>,
}

impl Answer {
    pub fn finished(&self) -> &Finished {
        self.replies
            .iter()
            .find_map(|reply| if let Reply::Finished(finished) = reply { Some(finished) } else { None })
            .unwrap_or_else(|| panic!("no end in {self:?}"))
    }

    pub fn ending(&self) -> &Ending {
        &self.finished().ending
    }

    /// What a run in a context came to, as its interpreter told it.
    pub fn value(&self) -> String {
        let value = |reply: &Reply| match reply {
            Reply::Value(value) => Some(String::from_utf8_lossy(value).into_owned()),
            _ => None,
        };
        self.replies.iter().find_map(value).unwrap_or_else(|| panic!("no value in {self:?}"))
    }

    pub fn replayed(&self) -> bool {
        matches!(self.replies.first(), Some(Reply::Started { replayed: true }))
    }

    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    pub fn error(&self) -> (GuestErrorCode, String) {
        match self.replies.last() {
            Some(Reply::Error { code, message }) => (*code, message.clone()),
            other => panic!("no error but {other:?}"),
        }
    }

    pub fn last(&self) -> &Reply {
        self.replies.last().unwrap()
    }
}

impl Driver {
    pub fn send(&mut self, kind: Kind, stream: u32, channel: Channel, payload: &[u8]) {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, kind, stream, channel, payload);
        self.stream.write_all(&bytes).unwrap();
    }

    /// Sends to a guest that may have hung up.
    pub fn send_if_possible(&mut self, kind: Kind, stream: u32, channel: Channel, payload: &[u8]) {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, kind, stream, channel, payload);
        drop(self.stream.write_all(&bytes));
    }

    /// The next frame of any stream; `None` when the guest has closed the connection.
    pub fn frame(&mut self) -> Option<Owned> {
        if let Some(frame) = self.waiting.pop_front() {
            return Some(frame);
        }
        self.receive(Instant::now() + PATIENCE)
    }

    /// Reads on until the guest closes the connection.
    pub fn until_closed(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        self.waiting.clear();
        while self.receive(deadline).is_some() {}
    }

    fn receive(&mut self, deadline: Instant) -> Option<Owned> {
        loop {
            assert!(Instant::now() < deadline, "frames came for {PATIENCE:?}, but not what is waited for");
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                let owned = Owned {
                    kind: frame.kind,
                    stream: frame.stream,
                    channel: frame.channel,
                    payload: frame.payload.to_vec(),
                };
                if owned.kind == Kind::Data && self.grants {
                    let bytes = u32::try_from(owned.payload.len()).unwrap();
                    self.grant(owned.stream, bytes);
                }
                return Some(owned);
            }
            let mut buffer = [0; 65536];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.decoder.push(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing from the guest: {error}"),
            }
        }
    }

    pub fn grant(&mut self, stream: u32, bytes: u32) {
        self.send(Kind::Credit, stream, Channel::None, &bytes.to_le_bytes());
    }

    /// The next frame of one stream; those of others wait.
    pub fn frame_of(&mut self, stream: u32) -> Owned {
        self.frame_by(Instant::now() + PATIENCE, stream)
    }

    fn frame_by(&mut self, deadline: Instant, stream: u32) -> Owned {
        if let Some(at) = self.waiting.iter().position(|frame| frame.stream == stream) {
            return self.waiting.remove(at).unwrap();
        }
        loop {
            let frame = self.receive(deadline).expect("the connection lives");
            if frame.stream == stream {
                return frame;
            }
            self.waiting.push_back(frame);
        }
    }

    pub fn open(&mut self, request: &Request) -> u32 {
        let stream = self.next;
        self.next += 1;
        self.send(Kind::Open, stream, Channel::None, &message::encode(request));
        stream
    }

    pub fn reply_of(&mut self, stream: u32) -> Reply {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let frame = self.frame_by(deadline, stream);
            match frame.kind {
                Kind::Reply => return message::decode("reply", &frame.payload).unwrap(),
                Kind::Credit => {}
                other => panic!("{other:?} instead of a reply"),
            }
        }
    }

    /// All of a stream until it closes.
    pub fn drain(&mut self, stream: u32) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        let mut answer = Answer::default();
        loop {
            let frame = self.frame_by(deadline, stream);
            match (frame.kind, frame.channel) {
                (Kind::Close, _) => return answer,
                (Kind::Reply, _) => answer.replies.push(message::decode("reply", &frame.payload).unwrap()),
                (Kind::Data, Channel::Stdout) => answer.stdout.extend(frame.payload),
                (Kind::Data, Channel::Stderr) => answer.stderr.extend(frame.payload),
                (Kind::Data, _) => answer.file.extend(frame.payload),
                (Kind::End | Kind::Credit, _) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    pub fn request(&mut self, request: &Request) -> Answer {
        let stream = self.open(request);
        self.drain(stream)
    }

    /// Sends content with regard to credit, then the end of the channel.
    pub fn upload(&mut self, stream: u32, channel: Channel, bytes: &[u8]) {
        let deadline = Instant::now() + PATIENCE;
        let mut credit = frame::INITIAL_CREDIT as usize;
        let mut at = 0;
        while at < bytes.len() {
            while credit == 0 {
                let frame = self.receive(deadline).expect("the connection lives");
                if frame.stream == stream && frame.kind == Kind::Credit {
                    credit += u32::from_le_bytes(frame.payload.try_into().unwrap()) as usize;
                } else {
                    let over = frame.stream == stream && frame.kind == Kind::Close;
                    self.waiting.push_back(frame);
                    if over {
                        return;
                    }
                }
            }
            let length = credit.min(frame::MAX_DATA).min(bytes.len() - at);
            self.send(Kind::Data, stream, channel, &bytes[at..at + length]);
            credit -= length;
            at += length;
        }
        self.send(Kind::End, stream, channel, &[]);
    }

    pub fn exec(&mut self, request: ExecRequest) -> Answer {
        self.request(&Request::Exec(request))
    }

    pub fn sh(&mut self, line: &str) -> Answer {
        self.exec(sh(line))
    }
}

/// A request that runs a line in `/bin/sh` and collects its output.
pub fn sh(line: &str) -> ExecRequest {
    ExecRequest { program: Program::Shell(line.to_owned()), ..argv(&[]) }
}

/// A request that runs a program and collects its output.
pub fn argv(argv: &[&str]) -> ExecRequest {
    ExecRequest {
        exec_id: fresh_id(),
        program: Program::Argv(argv.iter().map(|arg| (*arg).to_owned()).collect()),
        env: Vec::new(),
        cwd: "/".to_owned(),
        user: None,
        stdin: Vec::new(),
        stdin_open: false,
        timeout_ms: None,
        grace_ms: 500,
        output_limit: 1 << 20,
        pty: None,
        output: OutputMode::Collect,
    }
}

pub fn fresh_id() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("e{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until a condition holds.
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::yield_now();
    }
}

/// True while the process runs (a zombie does not).
pub fn is_alive(pid: i32) -> bool {
    tree::facts(pid).is_some_and(|facts| !facts.is_gone())
}
