//! A terminal in a sandbox over a WebSocket.
//!
//! Binary messages are bytes, both ways. Text messages are JSON: [`TerminalInput`] from the client, [`TerminalOutput`]
//! from the server. What to run stands in the query, or else in the first text message as an `ExecSpec`. A client that
//! goes away does not end the exec: it can come back with `?attach=EXEC_ID`.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hothouse_domain::{ErrorCode, ExecId, ExecResult, ExecSpec, Problem, PtySize, SandboxId};
use hothouse_sandbox::sandbox::AfterStdin;
use hothouse_sandbox::{ExecEvent, ExecStream, Sandbox};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval, timeout};
use utoipa::ToSchema;

use crate::app::{App, StreamPermit};
use crate::auth::Caller;
use crate::body::from_json;
use crate::execs::{SignalRequest, check_size};
use crate::problem::Refusal;
use crate::query::Query;
use crate::target::InSandbox;

/// Bytes of the largest message that a client may send.
const MAX_MESSAGE: usize = 8 << 20;
/// Time for the client to say what to run.
const FIRST_MESSAGE: Duration = Duration::from_secs(30);
/// The terminal's size when nobody names one.
const DEFAULT_SIZE: PtySize = PtySize { rows: 24, cols: 80 };

/// What a client says in a text message. Exactly the fields that are given are acted upon.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TerminalInput {
    /// The terminal's new size.
    #[serde(default)]
    resize: Option<PtySize>,
    /// A signal to send.
    #[serde(default)]
    signal: Option<SignalRequest>,
    /// End standard input.
    #[serde(default)]
    close_stdin: bool,
}

/// What the server says in a text message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TerminalOutput {
    /// It runs; the first message.
    Started {
        /// The exec, for looking it up or attaching again.
        exec_id: ExecId,
        /// The id was known and nothing was started now.
        replayed: bool,
    },
    /// So many bytes of output were not kept.
    Skipped {
        /// How many.
        bytes: u64,
    },
    /// It has ended; the last message.
    Finished(Box<ExecResult>),
    /// Something went wrong. A wrong message leaves the terminal open; anything else closes it.
    Problem(Box<Problem>),
}

/// What a terminal shows.
#[derive(Debug)]
enum Program {
    /// A new exec.
    Run(Box<ExecSpec>),
    /// An exec that was started before.
    Attach(ExecId),
    /// The first message says it.
    FirstMessage,
}

/// Open a terminal over a WebSocket. Binary messages are bytes both ways; text messages are JSON: `TerminalInput` from
/// the client, `TerminalOutput` from the server. Without `argv`, `shell` and `attach` the first text message is an
/// `ExecSpec`. A client that goes away ends nothing.
#[utoipa::path(get, operation_id = "terminal_open", path = "/v1/sandboxes/{sandbox_id}/terminal", tag = "execs",
    params(
        ("sandbox_id" = SandboxId, Path),
        ("argv" = Option<Vec<String>>, Query, description = "Program and arguments, each its own parameter"),
        ("shell" = Option<String>, Query, description = "A line for `/bin/sh -c`"),
        ("exec_id" = Option<ExecId>, Query, description = "The id of the new exec"),
        ("cwd" = Option<String>, Query, description = "Working directory"),
        ("user" = Option<String>, Query, description = "User of the sandbox"),
        ("timeout_s" = Option<f64>, Query, description = "Wall time"),
        ("rows" = Option<u16>, Query, description = "Lines; 24 when absent"),
        ("cols" = Option<u16>, Query, description = "Characters in a line; 80 when absent"),
        ("attach" = Option<ExecId>, Query, description = "Show this exec instead of starting one"),
        ("from" = Option<u64>, Query, description = "With `attach`: first byte of output to show"),
    ), responses(
    (status = 101, description = "The terminal is open"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn open(
    State(app): State<App>,
    caller: Caller,
    InSandbox(sandbox): InSandbox,
    mut query: Query,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let from = query.number("from", 0..=u64::MAX)?.unwrap_or(0);
    let program = program(&mut query)?;
    query.finish()?;
    let upgrade = upgrade.map_err(|rejection| {
        let detail = format!("{}; this route takes a WebSocket", rejection.body_text());
        Refusal::new(ErrorCode::InvalidRequest, detail).with_status(rejection.status())
    })?;
    let permit = app.stream_permit()?;
    let terminals = app.terminals.clone();
    let session = Session { app, sandbox, from, _permit: permit };
    Ok(upgrade.max_message_size(MAX_MESSAGE).on_upgrade(move |socket| {
        terminals.track_future(async move {
            tokio::select! {
                () = session.run(socket, program) => {}
                // Its program goes on, as when a client is lost.
                () = caller.revoked.cancelled() => {}
            }
        })
    }))
}

fn program(query: &mut Query) -> Result<Program, Refusal> {
    let argv = query.take_all("argv");
    let size = (query.number("rows", 1..=10_000)?, query.number("cols", 1..=10_000)?);
    let mut spec = ExecSpec {
        exec_id: query.parsed("exec_id")?,
        argv: if argv.is_empty() { None } else { Some(argv) },
        shell: query.take("shell")?,
        cwd: query.take("cwd")?,
        user: query.take("user")?,
        timeout_s: query.number("timeout_s", 0.001..=hothouse_domain::exec::MAX_TIMEOUT_S)?,
        ..ExecSpec::default()
    };
    let attach = query.parsed("attach")?;
    if let Some(exec_id) = attach {
        if spec != ExecSpec::default() || size != (None, None) {
            return Err(Refusal::field("attach", "and a new exec exclude each other"));
        }
        return Ok(Program::Attach(exec_id));
    }
    if spec == ExecSpec::default() && size == (None, None) {
        return Ok(Program::FirstMessage);
    }
    spec.pty = Some(PtySize {
        rows: size.0.unwrap_or(DEFAULT_SIZE.rows),
        cols: size.1.unwrap_or(DEFAULT_SIZE.cols),
    });
    spec.validate()?;
    Ok(Program::Run(Box::new(spec)))
}

/// One open terminal.
struct Session {
    app: App,
    sandbox: Sandbox,
    from: u64,
    _permit: StreamPermit,
}

type Outgoing = SplitSink<WebSocket, Message>;
type Incoming = SplitStream<WebSocket>;

/// The client is gone; there is nobody to tell.
struct Gone;

impl Session {
    async fn run(self, socket: WebSocket, program: Program) {
        let (mut outgoing, mut incoming) = socket.split();
        let stream = match self.start(&mut incoming, program).await {
            Ok(stream) => stream,
            Err(refusal) => {
                refuse(&mut outgoing, *refusal.0).await;
                return;
            }
        };
        // Both directions run on their own: a full pipe must not stop the output, nor a slow client the input.
        let (problems, wrong_messages) = tokio::sync::mpsc::channel(4);
        let (announce, exec_id) = tokio::sync::watch::channel(None);
        let mut shown = Show { session: &self, outgoing: &mut outgoing, announce, wrong_messages };
        tokio::select! {
            _gone_or_done = shown.all(stream) => {}
            Gone = self.take_input(&mut incoming, exec_id, problems) => {}
        }
    }

    async fn start(&self, incoming: &mut Incoming, program: Program) -> Result<ExecStream, Refusal> {
        let spec = match program {
            Program::Attach(exec_id) => return Ok(self.sandbox.attach(&exec_id, self.from, 0).await?),
            Program::Run(spec) => *spec,
            Program::FirstMessage => first_message(incoming).await?,
        };
        Ok(self.sandbox.exec_stream(spec).await?)
    }

    /// Takes what the client sends until it is gone.
    async fn take_input(
        &self,
        incoming: &mut Incoming,
        mut exec_id: tokio::sync::watch::Receiver<Option<ExecId>>,
        problems: tokio::sync::mpsc::Sender<Problem>,
    ) -> Gone {
        let id = exec_id.wait_for(Option::is_some).await.ok().and_then(|id| id.clone());
        let Some(id) = id else {
            // The output side ended first; it tells the client why.
            return std::future::pending().await;
        };
        while let Some(Ok(message)) = incoming.next().await {
            let done = match message {
                Message::Binary(bytes) => self.feed(&id, bytes).await,
                Message::Text(text) => self.act(&id, &text).await,
                Message::Close(_) => return Gone,
                Message::Ping(_) | Message::Pong(_) => Ok(()),
            };
            if let Err(refusal) = done
                // What was typed as the program ended: the end itself is told.
                && refusal.0.code != ErrorCode::ExecFinished
                && problems.send(*refusal.0).await.is_err()
            {
                return Gone;
            }
        }
        Gone
    }

    async fn feed(&self, id: &ExecId, bytes: Bytes) -> Result<(), Refusal> {
        Ok(self.sandbox.write_stdin(id, bytes, AfterStdin::KeepOpen).await?)
    }

    async fn act(&self, id: &ExecId, text: &str) -> Result<(), Refusal> {
        let input: TerminalInput = from_json(text.as_bytes())?;
        if let Some(size) = input.resize {
            check_size(size, "resize.")?;
            self.sandbox.resize(id, size).await?;
        }
        if let Some(request) = input.signal {
            self.sandbox.signal(id, request.signal.number(), request.target.into()).await?;
        }
        if input.close_stdin {
            self.sandbox.write_stdin(id, Bytes::new(), AfterStdin::Close).await?;
        }
        Ok(())
    }
}

async fn first_message(incoming: &mut Incoming) -> Result<ExecSpec, Refusal> {
    let first = async {
        loop {
            match incoming.next().await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Text(text))) => return from_json(text.as_bytes()),
                Some(Ok(Message::Binary(_))) => {
                    return Err(Refusal::field("argv", "is missing; the first message is text, an ExecSpec"));
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => {
                    return Err(Refusal::new(ErrorCode::InvalidRequest, "closed before saying what to run"));
                }
            }
        }
    };
    let mut spec: ExecSpec = match timeout(FIRST_MESSAGE, first).await {
        Ok(spec) => spec?,
        Err(_elapsed) => {
            let detail = format!("no message said within {} s what to run", FIRST_MESSAGE.as_secs());
            return Err(Refusal::new(ErrorCode::TimedOut, detail));
        }
    };
    if spec.detach {
        return Err(Refusal::field("detach", "and a terminal exclude each other"));
    }
    spec.pty = spec.pty.or(Some(DEFAULT_SIZE));
    spec.validate()?;
    Ok(spec)
}

/// The direction towards the client.
struct Show<'a> {
    session: &'a Session,
    outgoing: &'a mut Outgoing,
    announce: tokio::sync::watch::Sender<Option<ExecId>>,
    wrong_messages: tokio::sync::mpsc::Receiver<Problem>,
}

/// Why showing goes on or not.
enum Next {
    Message(Message),
    Last(Message, &'static str),
}

impl Show<'_> {
    /// Shows everything until the exec ends or the client is gone.
    async fn all(&mut self, stream: ExecStream) -> Result<(), Gone> {
        let app = &self.session.app;
        let mut heartbeat = interval(app.limits.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.tick().await;
        // One future for each event, kept over the turns of the loop: the stream need not bear being dropped halfway.
        let events = futures::stream::unfold(Some(stream), |stream| async {
            let mut stream = stream?;
            match stream.next().await {
                Ok(Some(event)) => Some((Ok(event), Some(stream))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        let mut events = std::pin::pin!(events);
        loop {
            let next = tokio::select! {
                () = app.draining.cancelled() => {
                    let detail = "the server is shutting down; the exec goes on, attach to it again later";
                    let problem = Problem::new(ErrorCode::ShuttingDown, detail);
                    Next::Last(text(&TerminalOutput::Problem(Box::new(problem))), "the server is shutting down")
                }
                event = events.next() => match event {
                    Some(Ok(event)) => self.message(event),
                    Some(Err(error)) => {
                        Next::Last(text(&TerminalOutput::Problem(Box::new(error.problem()))), "failed")
                    }
                    None => return self.close(close_code::NORMAL, "the output ended").await,
                },
                Some(problem) = self.wrong_messages.recv() => {
                    Next::Message(text(&TerminalOutput::Problem(Box::new(problem))))
                }
                _tick = heartbeat.tick() => Next::Message(Message::Ping(Bytes::new())),
            };
            match next {
                Next::Message(message) => self.send(message).await?,
                Next::Last(message, reason) => {
                    self.send(message).await?;
                    return self.close(close_code::NORMAL, reason).await;
                }
            }
        }
    }

    fn message(&mut self, event: ExecEvent) -> Next {
        match event {
            ExecEvent::Started { exec_id, replayed } => {
                self.announce.send_replace(Some(exec_id.clone()));
                Next::Message(text(&TerminalOutput::Started { exec_id, replayed }))
            }
            // On a terminal both outputs are one; without one they are shown as they come.
            ExecEvent::Output(_, bytes) => Next::Message(Message::Binary(bytes)),
            ExecEvent::Skipped(_, bytes) => Next::Message(text(&TerminalOutput::Skipped { bytes })),
            ExecEvent::Finished(result) => {
                self.session.app.metrics.exec(&result);
                Next::Last(text(&TerminalOutput::Finished(Box::new(result))), "finished")
            }
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), Gone> {
        self.outgoing.send(message).await.map_err(|_| Gone)
    }

    async fn close(&mut self, code: u16, reason: &'static str) -> Result<(), Gone> {
        self.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await
    }
}

fn text(output: &TerminalOutput) -> Message {
    match serde_json::to_string(output) {
        Ok(json) => Message::Text(json.into()),
        Err(error) => {
            // No part of these types can fail to be written.
            tracing::error!(%error, "a terminal's message could not be written as JSON");
            Message::Close(None)
        }
    }
}

/// Tells the client why there is no terminal.
async fn refuse(outgoing: &mut Outgoing, problem: Problem) {
    let frame = CloseFrame { code: close_code::POLICY, reason: problem.code.as_str().into() };
    for message in [text(&TerminalOutput::Problem(Box::new(problem))), Message::Close(Some(frame))] {
        if outgoing.send(message).await.is_err() {
            // The client is gone; there is nobody to tell.
            return;
        }
    }
}
