//! Follows a program live: its outputs to ours, our input and signals to it.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use hothouse_domain::{ExecResult, ExecSpec};
use hothouse_sandbox::sandbox::{AfterStdin, SignalTarget};
use hothouse_sandbox::{ExecEvent, OutputName};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::stdio;
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::program::{Mode, StandardInput, vanished};
use super::terminal::{self, RawTerminal};
use crate::console;
use crate::failure::{EXIT_PIPE, Failure};
use crate::interrupt::Interrupts;
use crate::place::{Input, Live, SandboxHandle};

/// A program that was told to end gets this long before it is ended for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Standard input is read in pieces of this size.
const PIECE: usize = 64 << 10;
/// Pieces of output that wait for a slow reader of ours.
const QUEUE: usize = 16;

/// How following ended.
#[derive(Debug)]
pub(super) enum End {
    /// The program ended.
    Finished(Box<ExecResult>),
    /// We were told to end, and the program did not go by itself.
    Interrupted(i32),
}

/// Runs a program in the given mode until it ends or we are told to end.
pub(super) async fn follow(
    sandbox: &SandboxHandle,
    spec: ExecSpec,
    mode: Mode,
    interrupts: &mut Interrupts,
) -> Result<End, Failure> {
    match mode {
        Mode::Pipes { input } => {
            let spec = ExecSpec { stdin_open: input == StandardInput::Forwarded, ..spec };
            let live = sandbox.exec_stream(spec).await?;
            Box::pin(Follower::new(live, input).drive(interrupts, Sink::start())).await
        }
        Mode::Json { input: StandardInput::Empty } => {
            tokio::select! {
                result = sandbox.exec(spec) => Ok(End::Finished(Box::new(result?))),
                signal = interrupts.next() => Ok(End::Interrupted(signal)),
            }
        }
        Mode::Json { input } => {
            let live = sandbox.exec_stream(ExecSpec { stdin_open: true, ..spec }).await?;
            Box::pin(Follower::new(live, input).drive(interrupts, Sink::Nowhere)).await
        }
        Mode::Terminal => {
            let mut spec = ExecSpec { pty: Some(terminal::size()), ..spec };
            if let Ok(name) = std::env::var("TERM") {
                spec.env.entry("TERM".to_owned()).or_insert(name);
            }
            let live = sandbox.exec_stream(spec).await?;
            let raw = RawTerminal::enter()?;
            let follower = Follower::new(live, StandardInput::Forwarded).with_resizes()?;
            let end = Box::pin(follower.drive(interrupts, Sink::start())).await;
            drop(raw);
            end
        }
    }
}

/// Follows an exec that was started before: its outputs to ours, from the given offsets on.
pub(super) async fn watch(live: Live, interrupts: &mut Interrupts) -> Result<End, Failure> {
    Box::pin(Follower::new(live, StandardInput::Empty).watching().drive(interrupts, Sink::start())).await
}

/// Follows what was just started: its outputs to ours, signals to us to it.
pub(super) async fn talk_to(live: Live, interrupts: &mut Interrupts) -> Result<End, Failure> {
    Box::pin(Follower::new(live, StandardInput::Empty).drive(interrupts, Sink::start())).await
}

/// What signals to us mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnSignal {
    /// They go to the program first.
    Forward,
    /// They end following; the program stays.
    Stop,
}

struct Follower {
    live: Live,
    input: Input,
    resizes: Option<tokio::signal::unix::Signal>,
    on_signal: OnSignal,
    /// The forwarder of standard input; dropping it stops it.
    _forwarder: JoinSet<()>,
}

impl Follower {
    fn new(live: Live, stdin: StandardInput) -> Self {
        let input = live.input();
        let mut forwarder = JoinSet::new();
        if stdin == StandardInput::Forwarded {
            forwarder.spawn(forward_stdin(input.clone()));
        }
        Self { live, input, resizes: None, on_signal: OnSignal::Forward, _forwarder: forwarder }
    }

    fn with_resizes(mut self) -> Result<Self, Failure> {
        let resizes = signal(SignalKind::window_change());
        self.resizes = Some(resizes.map_err(|e| Failure::io("watching the terminal's size", &e))?);
        Ok(self)
    }

    fn watching(mut self) -> Self {
        self.on_signal = OnSignal::Stop;
        self
    }

    /// Follows to the end.
    async fn drive(mut self, interrupts: &mut Interrupts, mut sink: Sink) -> Result<End, Failure> {
        let mut waiting: Option<Piece> = None;
        let mut told: Option<(i32, Instant)> = None;
        let result = loop {
            let deadline = told.map_or_else(Instant::now, |(_, until)| until);
            tokio::select! {
                event = self.live.next(), if waiting.is_none() => match event? {
                    Some(ExecEvent::Output(name, bytes)) => waiting = Some((name, bytes)),
                    Some(ExecEvent::Skipped(name, bytes)) => note_skipped(name, bytes),
                    Some(ExecEvent::Started { .. }) => {}
                    Some(ExecEvent::Finished(result)) => break result,
                    None => return Err(vanished()),
                },
                () = sink.put(&mut waiting), if waiting.is_some() => {}
                signal = interrupts.next() => {
                    if told.is_some() || self.on_signal == OnSignal::Stop {
                        return Ok(End::Interrupted(signal));
                    }
                    told = Some((signal, Instant::now() + PATIENCE));
                    // It may have ended just now, which its last event tells.
                    _ = self.input.signal(signal, SignalTarget::Tree).await;
                }
                () = sleep_until(deadline), if told.is_some() => {
                    return Ok(End::Interrupted(told.map_or(0, |(signal, _)| signal)));
                }
                () = resized(&mut self.resizes) => {
                    // As for the signal above.
                    _ = self.input.resize(terminal::size()).await;
                }
            }
            if sink.is_broken() {
                return Err(Failure::Quiet(EXIT_PIPE));
            }
        };
        let mut drained = pin!(sink.drain());
        tokio::select! {
            ok = &mut drained => if !ok { return Err(Failure::Quiet(EXIT_PIPE)) },
            signal = interrupts.next() => return Ok(End::Interrupted(signal)),
        }
        Ok(End::Finished(Box::new(result)))
    }
}

async fn resized(resizes: &mut Option<tokio::signal::unix::Signal>) {
    match resizes {
        Some(resizes) => _ = resizes.recv().await,
        None => std::future::pending().await,
    }
}

fn note_skipped(name: OutputName, bytes: u64) {
    let name = match name {
        OutputName::Stdout => "output",
        OutputName::Stderr => "error output",
    };
    console::note(&format!("hint: {bytes} bytes of the {name} were not kept"));
}

/// Reads our standard input and feeds it to the program, until either ends.
async fn forward_stdin(input: Input) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; PIECE];
    loop {
        match stdin.read(&mut buffer).await {
            Ok(0) => break,
            // A program that takes no more input is its own business: its events tell how it goes on.
            Ok(n)
                if input.write(Bytes::copy_from_slice(&buffer[..n]), AfterStdin::KeepOpen).await.is_err() =>
            {
                return;
            }
            Ok(_) => {}
            Err(error) => {
                console::note(&format!("warning: reading standard input: {error}"));
                break;
            }
        }
    }
    // As above.
    _ = input.write(Bytes::new(), AfterStdin::Close).await;
}

type Piece = (OutputName, Bytes);

/// Where outputs go: a thread that writes, so that a slow reader of ours slows the program down and nothing else.
enum Sink {
    Nowhere,
    Thread { pieces: mpsc::Sender<Piece>, thread: std::thread::JoinHandle<io::Result<()>> },
}

impl Sink {
    fn start() -> Self {
        let (pieces, mut queue) = mpsc::channel::<Piece>(QUEUE);
        let thread = std::thread::spawn(move || {
            while let Some((name, bytes)) = queue.blocking_recv() {
                match name {
                    OutputName::Stdout => write_all(stdio::stdout(), &bytes)?,
                    OutputName::Stderr => write_all(stdio::stderr(), &bytes)?,
                }
            }
            Ok(())
        });
        Self::Thread { pieces, thread }
    }

    /// Takes the piece when there is room for it.
    async fn put(&mut self, waiting: &mut Option<Piece>) {
        match self {
            Self::Nowhere => *waiting = None,
            Self::Thread { pieces, .. } => {
                // A closed queue is seen by `is_broken`.
                if let Ok(room) = pieces.reserve().await
                    && let Some(piece) = waiting.take()
                {
                    room.send(piece);
                }
            }
        }
    }

    fn is_broken(&self) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Thread { pieces, .. } => pieces.is_closed(),
        }
    }

    /// Waits until all is written; false when it could not be.
    async fn drain(self) -> bool {
        match self {
            Self::Nowhere => true,
            Self::Thread { pieces, thread } => {
                drop(pieces);
                let join = tokio::task::spawn_blocking(move || thread.join());
                matches!(join.await, Ok(Ok(Ok(()))))
            }
        }
    }
}

/// Writes all bytes, also to a descriptor that somebody set to non-blocking.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => _ = poll(&mut [PollFd::new(&to, PollFlags::OUT)], None)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
