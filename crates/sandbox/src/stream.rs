//! What flows out of a sandbox while it flows.

use bytes::Bytes;
use hothouse_domain::files::FileInfo;
use hothouse_domain::{ExecId, ExecResult};
use hothouse_guest::frame::Channel;
use hothouse_guest::message::{GuestErrorCode, OutputStream, Reply};
use tracing::Span;

use crate::error::SandboxError;
use crate::exec_result;
use crate::link::{Event, LinkError, LinkStream, Sent, StopAt};
use crate::sandbox::{AfterStdin, Attempt, Sandbox, cut_short, strange, unexpected};

/// One of an exec's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputName {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of kept output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    /// Where the bytes begin: the offset asked for, or later where bytes were not kept.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
    /// Bytes written so far.
    pub total: u64,
    /// True when no more will come after `total`.
    pub ended: bool,
}

/// What happens on a followed exec.
#[derive(Debug, Clone, PartialEq)]
pub enum ExecEvent {
    /// It runs; first event. `replayed` when the id was known and nothing was started now.
    Started {
        /// Its id.
        exec_id: ExecId,
        /// Nothing was started now.
        replayed: bool,
    },
    /// Output as it came.
    Output(OutputName, Bytes),
    /// So many bytes of an output were not kept (only when following from an old offset).
    Skipped(OutputName, u64),
    /// It has ended; last event. `stdout` and `stderr` of the result are empty: they came as events.
    Finished(ExecResult),
}

/// How bytes for a followed exec's standard input travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StdinRoute {
    /// On the stream that follows it.
    SameStream,
    /// By a request of their own: the stream did not start the exec.
    OwnRequest,
    /// It takes none.
    Closed,
}

/// Where a followed exec is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// `Started` was not handed out yet.
    Fresh {
        replayed: bool,
    },
    Running,
    /// `Finished` was handed out, or it failed.
    Over,
}

/// A followed exec. Dropping it stops following, not the exec.
#[derive(Debug)]
pub struct ExecStream {
    sandbox: Sandbox,
    stream: LinkStream,
    exec_id: ExecId,
    stdin: StdinRoute,
    progress: Progress,
    /// Bytes handed out or skipped, to go on from when the connection breaks.
    stdout: u64,
    stderr: u64,
    /// What code of a context came to, until its end is told.
    report: Option<Vec<u8>>,
    /// Ends when nobody follows any more.
    _span: Span,
}

impl ExecStream {
    pub(crate) fn new(
        sandbox: Sandbox,
        stream: LinkStream,
        exec_id: ExecId,
        (replayed, stdin, (stdout, stderr)): (bool, StdinRoute, (u64, u64)),
    ) -> Self {
        let (progress, span) = (Progress::Fresh { replayed }, Span::none());
        Self { sandbox, stream, exec_id, stdin, progress, stdout, stderr, report: None, _span: span }
    }

    /// With a span that lasts as long as it.
    pub(crate) fn within(mut self, span: Span) -> Self {
        self._span = span;
        self
    }

    /// The exec's id.
    #[must_use]
    pub fn exec_id(&self) -> &ExecId {
        &self.exec_id
    }

    /// The next event; `None` after `Finished`. Giving up the wait loses nothing.
    ///
    /// # Errors
    /// [`SandboxError::Dead`] when the sandbox dies, or what the guest refused.
    pub async fn next(&mut self) -> Result<Option<ExecEvent>, SandboxError> {
        match self.progress {
            Progress::Fresh { replayed } => {
                self.progress = Progress::Running;
                return Ok(Some(ExecEvent::Started { exec_id: self.exec_id.clone(), replayed }));
            }
            Progress::Running => {}
            Progress::Over => return Ok(None),
        }
        let outcome = self.next_running().await;
        if !matches!(&outcome, Ok(ExecEvent::Output(..) | ExecEvent::Skipped(..))) {
            self.progress = Progress::Over;
        }
        outcome.map(Some)
    }

    async fn next_running(&mut self) -> Result<ExecEvent, SandboxError> {
        loop {
            let event = match self.stream.next().await {
                Ok(event) => event,
                Err(error) => {
                    self.reconnect(error).await?;
                    continue;
                }
            };
            match event {
                Some(Event::Data(channel, bytes)) => {
                    let bytes = bytes.freeze();
                    let name = match channel {
                        Channel::Stdout => OutputName::Stdout,
                        Channel::Stderr => OutputName::Stderr,
                        Channel::None | Channel::Stdin | Channel::File | Channel::Socket => {
                            return Err(unexpected(&Event::End(channel)));
                        }
                    };
                    self.advance(name, bytes.len() as u64);
                    return Ok(ExecEvent::Output(name, bytes));
                }
                Some(Event::End(_)) => {}
                Some(Event::Reply(reply)) => match *reply {
                    Reply::Skipped { from, bytes } => {
                        let name = match from {
                            OutputStream::Stdout => OutputName::Stdout,
                            OutputStream::Stderr => OutputName::Stderr,
                        };
                        self.advance(name, bytes);
                        return Ok(ExecEvent::Skipped(name, bytes));
                    }
                    Reply::Finished(finished) => {
                        let (replayed, report) = (false, self.report.take());
                        let result = exec_result::result(
                            self.exec_id.clone(),
                            finished,
                            replayed,
                            Default::default(),
                            report.as_deref(),
                        );
                        return Ok(ExecEvent::Finished(result));
                    }
                    Reply::Value(report) => self.report = Some(report),
                    Reply::Error { code, message } => return Err(SandboxError::Guest { code, message }),
                    reply => return Err(strange(&reply)),
                },
                None => return Err(cut_short()),
            }
        }
    }

    fn advance(&mut self, name: OutputName, bytes: u64) {
        match name {
            OutputName::Stdout => self.stdout += bytes,
            OutputName::Stderr => self.stderr += bytes,
        }
    }

    /// Follows on where the connection broke, if the guest lives.
    async fn reconnect(&mut self, error: LinkError) -> Result<(), SandboxError> {
        match self.sandbox.failed(error) {
            Attempt::Final(error) => Err(error),
            Attempt::Lost(_) => {
                self.stream = self.sandbox.follow_again(&self.exec_id, (self.stdout, self.stderr)).await?;
                if self.stdin == StdinRoute::SameStream {
                    self.stdin = StdinRoute::OwnRequest;
                }
                Ok(())
            }
        }
    }

    /// Writes to the exec's standard input; waits while its pipe is full.
    ///
    /// # Errors
    /// [`SandboxError`] when the exec has ended or was not opened with `stdin_open` or a pty.
    pub async fn write_stdin(&mut self, bytes: Bytes) -> Result<(), SandboxError> {
        match self.stdin {
            StdinRoute::SameStream => {
                let sent = self.stream.send(Channel::Stdin, &bytes, StopAt::Over).await;
                match sent.map_err(|e| self.sandbox.failed(e)) {
                    Ok(Sent::All) => Ok(()),
                    Ok(Sent::Answered) => Err(self.takes_no_input()),
                    Err(Attempt::Final(error)) => Err(error),
                    Err(Attempt::Lost(reason)) => Err(self.sandbox.lost(reason).await),
                }
            }
            StdinRoute::OwnRequest => {
                self.sandbox.write_stdin(&self.exec_id, bytes, AfterStdin::KeepOpen).await
            }
            StdinRoute::Closed => Err(self.takes_no_input()),
        }
    }

    /// Ends the exec's standard input.
    ///
    /// # Errors
    /// [`SandboxError`] as for `write_stdin`.
    pub async fn close_stdin(&mut self) -> Result<(), SandboxError> {
        let route = std::mem::replace(&mut self.stdin, StdinRoute::Closed);
        match route {
            StdinRoute::SameStream if self.stream.is_over() => Err(self.takes_no_input()),
            StdinRoute::SameStream => {
                self.stream.end(Channel::Stdin);
                Ok(())
            }
            StdinRoute::OwnRequest => {
                self.sandbox.write_stdin(&self.exec_id, Bytes::new(), AfterStdin::Close).await
            }
            StdinRoute::Closed => Err(self.takes_no_input()),
        }
    }

    fn takes_no_input(&self) -> SandboxError {
        SandboxError::Guest {
            code: GuestErrorCode::ExecFinished,
            message: format!("exec {} has ended or takes no input", self.exec_id),
        }
    }
}

/// The content of a file or archive as it flows out of a sandbox.
#[derive(Debug)]
pub struct FileReader {
    sandbox: Sandbox,
    /// `None` when all was read.
    stream: Option<LinkStream>,
    info: Option<FileInfo>,
    first: Option<Bytes>,
}

impl FileReader {
    pub(crate) fn new(
        sandbox: Sandbox,
        stream: LinkStream,
        info: Option<FileInfo>,
        first: Option<Bytes>,
    ) -> Self {
        Self { sandbox, stream: Some(stream), info, first }
    }

    /// The file that is read; `None` for archives.
    #[must_use]
    pub fn info(&self) -> Option<&FileInfo> {
        self.info.as_ref()
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`SandboxError`] when the sandbox dies or reading fails midway.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SandboxError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(stream) = &mut self.stream else { return Ok(None) };
        loop {
            let event = match stream.next().await {
                Ok(event) => event,
                Err(error) => {
                    self.stream = None;
                    return Err(match self.sandbox.failed(error) {
                        Attempt::Final(error) => error,
                        Attempt::Lost(reason) => self.sandbox.lost(reason).await,
                    });
                }
            };
            let failure = match event {
                Some(Event::Data(Channel::File, bytes)) => return Ok(Some(bytes.freeze())),
                Some(Event::End(Channel::File)) => continue,
                Some(Event::Reply(reply)) => match *reply {
                    Reply::Done => {
                        self.stream = None;
                        return Ok(None);
                    }
                    Reply::Error { code, message } => SandboxError::Guest { code, message },
                    reply => strange(&reply),
                },
                Some(event) => unexpected(&event),
                None => cut_short(),
            };
            self.stream = None;
            return Err(failure);
        }
    }
}
