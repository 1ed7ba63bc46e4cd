//! Execs: run, follow, look up, feed, signal.

use bytes::Bytes;
use hothouse_domain::exec::{DEFAULT_OUTPUT_LIMIT, MAX_OUTPUT_LIMIT};
use hothouse_domain::{ExecId, ExecResult, ExecSpec, ExecState, ExecStatus, Invalid, PtySize};
use hothouse_guest::frame::Channel;
use hothouse_guest::message::{
    self, GuestErrorCode, MAX_OUTPUT_READ, OutputMode, OutputStream, Reply, Request,
};

use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::requests::{Attempt, Repeat, cut_short, strange, unexpected};
use super::{AfterStdin, Sandbox, SignalTarget};
use crate::error::SandboxError;
use crate::exec_request::{self, IdOrigin};
use crate::exec_result::{self, Kept};
use crate::link::{Event, Sent, StopAt, WakeWhen};
use crate::stream::{ExecStream, OutputChunk, OutputName, StdinRoute};

impl Sandbox {
    /// Runs a command to its end and returns what happened. With a known `exec_id`, returns the recorded result, or waits
    /// for the running one.
    ///
    /// # Errors
    /// [`SandboxError`]: invalid spec, frozen, dead, id taken by another body.
    pub async fn exec(&self, mut spec: ExecSpec) -> Result<ExecResult, SandboxError> {
        let (exec_id, origin) = exec_request::exec_id(spec.exec_id.take());
        let limit = spec.output_limit_bytes.unwrap_or(DEFAULT_OUTPUT_LIMIT);
        let request = exec_request::exec(&self.terms().spec, spec, &exec_id, OutputMode::Collect)?;
        let span = self.exec_span(&exec_id);
        let result = self.collect(&request, (&exec_id, origin), limit).instrument(span.clone()).await;
        if let Ok(result) = &result {
            span.record("hothouse.ran_s", result.duration_s);
        }
        result
    }

    /// Starts a command and returns as soon as it is journaled and running.
    ///
    /// # Errors
    /// As for [`Sandbox::exec`].
    pub async fn exec_detached(&self, mut spec: ExecSpec) -> Result<ExecStatus, SandboxError> {
        let exec_id = exec_request::exec_id(spec.exec_id.take()).0;
        let request = exec_request::exec(&self.terms().spec, spec, &exec_id, OutputMode::Detach)?;
        match self.ask(&request, Repeat::Safe).instrument(self.exec_span(&exec_id)).await? {
            Reply::Started { replayed: false } => {
                Ok(ExecStatus { exec_id, state: ExecState::Running, stdout_bytes: 0, stderr_bytes: 0 })
            }
            Reply::Started { replayed: true } => self.exec_status(&exec_id).await,
            reply => Err(strange(&reply)),
        }
    }

    /// Runs a command and follows it live; a slow reader slows it down, nothing is dropped.
    ///
    /// # Errors
    /// As for [`Sandbox::exec`].
    pub async fn exec_stream(&self, mut spec: ExecSpec) -> Result<ExecStream, SandboxError> {
        let exec_id = exec_request::exec_id(spec.exec_id.take()).0;
        let stdin =
            if spec.stdin_open || spec.pty.is_some() { StdinRoute::SameStream } else { StdinRoute::Closed };
        let request = exec_request::exec(&self.terms().spec, spec, &exec_id, OutputMode::Follow)?;
        let span = self.exec_span(&exec_id);
        let stream = self.follow(&request, exec_id, stdin, (0, 0)).instrument(span.clone()).await?;
        Ok(stream.within(span))
    }

    /// For traces: off where nobody collects them. Of what was sent only names may stand here.
    fn exec_span(&self, exec_id: &ExecId) -> Span {
        tracing::debug_span!(target: "hothouse_trace", "exec", hothouse.sandbox = %self.inner.id, hothouse.exec = %exec_id, hothouse.ran_s = Empty)
    }

    /// Follows an exec that was started before, from byte offsets in its outputs.
    ///
    /// # Errors
    /// [`SandboxError`]: no such exec, frozen, dead.
    pub async fn attach(
        &self,
        exec_id: &ExecId,
        stdout_from: u64,
        stderr_from: u64,
    ) -> Result<ExecStream, SandboxError> {
        let from = (stdout_from, stderr_from);
        let request = attach_request(exec_id, from, OutputMode::Follow);
        self.follow(&request, exec_id.clone(), StdinRoute::OwnRequest, from).await
    }

    /// Waits for an exec's end and returns its result with the kept output.
    ///
    /// # Errors
    /// As for [`Sandbox::attach`].
    pub async fn wait_exec(&self, exec_id: &ExecId) -> Result<ExecResult, SandboxError> {
        self.collect(
            &attach_request(exec_id, (0, 0), OutputMode::Collect),
            (exec_id, IdOrigin::Caller),
            MAX_OUTPUT_LIMIT,
        )
        .await
    }

    /// Looks an exec up; a finished one comes with its kept output.
    ///
    /// # Errors
    /// As for [`Sandbox::attach`].
    pub async fn exec_status(&self, exec_id: &ExecId) -> Result<ExecStatus, SandboxError> {
        let request = Request::ExecStatus { exec_id: exec_id.to_string() };
        let entry = match self.ask(&request, Repeat::Safe).await? {
            Reply::Status(entry) => entry,
            reply => return Err(strange(&reply)),
        };
        let mut status = exec_result::status(entry).ok_or_else(cut_short)?;
        if let ExecState::Finished { result } = &mut status.state {
            **result = self.wait_exec(exec_id).await?;
        }
        Ok(status)
    }

    /// The execs in the journal, oldest first, without output.
    ///
    /// # Errors
    /// [`SandboxError`]: frozen, dead.
    pub async fn execs(&self) -> Result<Vec<ExecStatus>, SandboxError> {
        match self.ask(&Request::ListExecs, Repeat::Safe).await? {
            Reply::Execs(entries) => Ok(entries.into_iter().filter_map(exec_result::status).collect()),
            reply => Err(strange(&reply)),
        }
    }

    /// Reads kept output of a running or finished exec; at most 1 MiB at once.
    ///
    /// # Errors
    /// As for [`Sandbox::attach`].
    pub async fn read_output(
        &self,
        exec_id: &ExecId,
        from: OutputName,
        offset: u64,
        max: u32,
    ) -> Result<OutputChunk, SandboxError> {
        let from = match from {
            OutputName::Stdout => OutputStream::Stdout,
            OutputName::Stderr => OutputStream::Stderr,
        };
        let max = max.min(MAX_OUTPUT_READ);
        let request = Request::ReadOutput { exec_id: exec_id.to_string(), from, offset, max };
        match self.ask(&request, Repeat::Safe).await? {
            Reply::Output { offset, bytes, total, ended } => {
                Ok(OutputChunk { offset, bytes: bytes.into(), total, ended })
            }
            reply => Err(strange(&reply)),
        }
    }

    /// Feeds an exec's standard input; returns when all is in its pipe.
    ///
    /// # Errors
    /// [`SandboxError`]: no such exec, ended, takes no input.
    pub async fn write_stdin(
        &self,
        exec_id: &ExecId,
        bytes: Bytes,
        after: AfterStdin,
    ) -> Result<(), SandboxError> {
        let close = after == AfterStdin::Close;
        let request = Request::Stdin { exec_id: exec_id.to_string(), close };
        self.attempts(Repeat::Never, || async {
            let mut stream = self.open(&request, WakeWhen::Any).await?;
            let sent = stream.send(Channel::Stdin, &bytes, StopAt::AnyReply).await;
            if sent.map_err(|e| self.failed(e))? == Sent::All {
                stream.end(Channel::Stdin);
            }
            match self.reply(&mut stream).await? {
                Reply::Done => Ok(()),
                reply => Err(strange(&reply).into()),
            }
        })
        .await
    }

    /// Sends a signal (1 to 64).
    ///
    /// # Errors
    /// [`SandboxError`]: no such exec, ended, no such signal.
    pub async fn signal(
        &self,
        exec_id: &ExecId,
        signal: i32,
        target: SignalTarget,
    ) -> Result<(), SandboxError> {
        if !(1..=64).contains(&signal) {
            return Err(Invalid::new("signal", format!("is {signal}; use 1 to 64")).into());
        }
        let target = match target {
            SignalTarget::Leader => message::SignalTarget::Leader,
            SignalTarget::Tree => message::SignalTarget::Tree,
        };
        let request = Request::Signal { exec_id: exec_id.to_string(), signal, target };
        self.tell(&request, Repeat::Never).await
    }

    /// Changes the size of an exec's terminal.
    ///
    /// # Errors
    /// [`SandboxError`]: no such exec, ended, no terminal.
    pub async fn resize(&self, exec_id: &ExecId, size: PtySize) -> Result<(), SandboxError> {
        size.validate()?;
        let request = Request::Resize { exec_id: exec_id.to_string(), rows: size.rows, cols: size.cols };
        self.tell(&request, Repeat::Safe).await
    }

    /// Runs a request to its end and puts the result together.
    pub(super) async fn collect(
        &self,
        request: &Request,
        (exec_id, origin): (&ExecId, IdOrigin),
        limit: u64,
    ) -> Result<ExecResult, SandboxError> {
        let mut result = self.attempts(Repeat::Safe, || self.collect_once(request, exec_id, limit)).await?;
        if origin == IdOrigin::Here {
            // A second attempt finds what the first has started; to the caller it is one.
            result.replayed = false;
        }
        Ok(result)
    }

    async fn collect_once(
        &self,
        request: &Request,
        exec_id: &ExecId,
        limit: u64,
    ) -> Result<ExecResult, Attempt> {
        let mut stream = self.open(request, WakeWhen::Over).await?;
        let (mut stdout, mut stderr) = (Kept::default(), Kept::default());
        let mut replayed = false;
        let mut report = None;
        loop {
            match stream.next().await.map_err(|e| self.failed(e))? {
                Some(Event::Data(channel, bytes)) => {
                    let kept = if channel == Channel::Stdout { &mut stdout } else { &mut stderr };
                    // A guest that was taken over must not fill this process.
                    if (kept.bytes.len() + bytes.len()) as u64 > limit {
                        return Err(SandboxError::Guest {
                            code: GuestErrorCode::Internal,
                            message: format!("the guest sent more output than the limit of {limit} bytes"),
                        }
                        .into());
                    }
                    kept.bytes.extend_from_slice(&bytes);
                }
                Some(Event::End(_)) => {}
                Some(Event::Reply(reply)) => match *reply {
                    Reply::Started { replayed: was } => replayed = was,
                    Reply::Skipped { from: OutputStream::Stdout, .. } => {
                        stdout.seam = Some(stdout.bytes.len())
                    }
                    Reply::Skipped { from: OutputStream::Stderr, .. } => {
                        stderr.seam = Some(stderr.bytes.len())
                    }
                    Reply::Finished(finished) => {
                        return Ok(exec_result::result(
                            exec_id.clone(),
                            finished,
                            replayed,
                            (stdout, stderr),
                            report.as_deref(),
                        ));
                    }
                    Reply::Value(told) => report = Some(told),
                    Reply::Error { code, message } => {
                        return Err(SandboxError::Guest { code, message }.into());
                    }
                    reply => return Err(unexpected(&Event::Reply(Box::new(reply))).into()),
                },
                None => return Err(cut_short().into()),
            }
        }
    }

    /// Opens a request that is followed live, and waits for word that it runs.
    pub(super) async fn follow(
        &self,
        request: &Request,
        exec_id: ExecId,
        stdin: StdinRoute,
        offsets: (u64, u64),
    ) -> Result<ExecStream, SandboxError> {
        let (stream, replayed) = self
            .attempts(Repeat::Safe, || async {
                let mut stream = self.open(request, WakeWhen::Any).await?;
                match self.reply(&mut stream).await? {
                    Reply::Started { replayed } => Ok((stream, replayed)),
                    reply => Err(strange(&reply).into()),
                }
            })
            .await?;
        Ok(ExecStream::new(self.clone(), stream, exec_id, (replayed, stdin, offsets)))
    }

    /// Follows an exec again whose connection broke.
    pub(crate) async fn follow_again(
        &self,
        exec_id: &ExecId,
        offsets: (u64, u64),
    ) -> Result<crate::link::LinkStream, SandboxError> {
        let request = attach_request(exec_id, offsets, OutputMode::Follow);
        self.attempts(Repeat::Never, || async {
            let mut stream = self.open(&request, WakeWhen::Any).await?;
            match self.reply(&mut stream).await? {
                Reply::Started { .. } => Ok(stream),
                reply => Err(strange(&reply).into()),
            }
        })
        .await
    }
}

fn attach_request(exec_id: &ExecId, (stdout_from, stderr_from): (u64, u64), output: OutputMode) -> Request {
    Request::Attach { exec_id: exec_id.to_string(), stdout_from, stderr_from, output }
}
