//! An exec that is followed live, wherever it runs.

use bytes::Bytes;
use futures::stream::SplitStream;
use futures::{SinkExt as _, StreamExt as _};
use hothouse_domain::{ErrorCode, ExecId, ExecResult, Problem, PtySize, SandboxId};
use hothouse_sandbox::sandbox::{AfterStdin, SignalTarget};
use hothouse_sandbox::{ExecEvent, ExecStream, OutputName, Sandbox};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::client::ApiClient;
use super::events::EventStream;
use crate::failure::Failure;

/// A WebSocket to a terminal.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A followed exec: its events, and a way to talk to it meanwhile.
#[derive(Debug)]
pub(crate) struct Live {
    events: Events,
    input: Input,
}

#[derive(Debug)]
enum Events {
    Here(Box<ExecStream>),
    There(Box<EventStream>),
    Terminal(SplitStream<Socket>),
}

/// A way to talk to a running exec.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// In this process.
    Here(Sandbox, ExecId),
    /// At a server, a request for each thing said.
    There(ApiClient, SandboxId, ExecId),
    /// At a server, over the WebSocket of its terminal; signals go by request.
    Terminal(mpsc::Sender<Message>, ApiClient, SandboxId, ExecId),
}

/// What goes over a terminal's WebSocket as text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Control {
    Resize(PtySize),
    Started { exec_id: ExecId },
    Finished(Box<ExecResult>),
    Problem(Box<Problem>),
    Skipped { bytes: u64 },
}

impl Live {
    pub(crate) fn here(sandbox: Sandbox, id: ExecId, stream: ExecStream) -> Self {
        Self { events: Events::Here(Box::new(stream)), input: Input::Here(sandbox, id) }
    }

    pub(crate) fn there(client: ApiClient, sandbox: SandboxId, id: ExecId, stream: EventStream) -> Self {
        Self { events: Events::There(Box::new(stream)), input: Input::There(client, sandbox, id) }
    }

    pub(crate) fn terminal(client: ApiClient, sandbox: SandboxId, id: ExecId, socket: Socket) -> Self {
        let (mut sink, events) = socket.split();
        let (sender, mut messages) = mpsc::channel::<Message>(16);
        #[expect(clippy::disallowed_methods, reason = "it ends with the last Input, or with the connection")]
        tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                if sink.send(message).await.is_err() {
                    break;
                }
            }
        });
        Self { events: Events::Terminal(events), input: Input::Terminal(sender, client, sandbox, id) }
    }

    /// A way to talk to it while its events are read.
    pub(crate) fn input(&self) -> Input {
        self.input.clone()
    }

    /// The next event; `None` after `Finished`.
    pub(crate) async fn next(&mut self) -> Result<Option<ExecEvent>, Failure> {
        match &mut self.events {
            Events::Here(stream) => Ok(stream.next().await?),
            Events::There(stream) => stream.next().await,
            Events::Terminal(stream) => terminal_event(stream).await,
        }
    }
}

async fn terminal_event(stream: &mut SplitStream<Socket>) -> Result<Option<ExecEvent>, Failure> {
    let broken = |what: &str| {
        Failure::new(ErrorCode::Internal, format!("the connection to the terminal ended: {what}"))
    };
    loop {
        let message = match stream.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(broken(&error.to_string())),
            None => return Err(broken("it was closed")),
        };
        match message {
            Message::Binary(bytes) => return Ok(Some(ExecEvent::Output(OutputName::Stdout, bytes))),
            Message::Text(text) => match serde_json::from_str::<Control>(&text) {
                Ok(Control::Finished(result)) => return Ok(Some(ExecEvent::Finished(*result))),
                Ok(Control::Problem(problem)) => return Err((*problem).into()),
                Ok(Control::Skipped { bytes }) => {
                    return Ok(Some(ExecEvent::Skipped(OutputName::Stdout, bytes)));
                }
                // A newer server may tell more than we know of.
                Ok(Control::Started { .. } | Control::Resize(_)) | Err(_) => {}
            },
            Message::Close(frame) => {
                return Err(broken(frame.as_ref().map_or("it was closed", |frame| frame.reason.as_str())));
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

impl Input {
    fn request(&self, what: &str) -> Option<(&ApiClient, reqwest::RequestBuilder)> {
        match self {
            Self::Here(..) => None,
            Self::There(client, sandbox, id) | Self::Terminal(_, client, sandbox, id) => {
                let path = ["v1", "sandboxes", sandbox.as_str(), "execs", id.as_str(), what];
                Some((client, client.request(Method::POST, &path)))
            }
        }
    }

    /// Feeds its standard input; returns when it has been taken.
    pub(crate) async fn write(&self, bytes: Bytes, after: AfterStdin) -> Result<(), Failure> {
        if let Self::Here(sandbox, id) = self {
            return Ok(sandbox.write_stdin(id, bytes, after).await?);
        }
        if let Self::Terminal(sender, ..) = self {
            // A closed channel means that the connection is gone, which the events tell better.
            _ = sender.send(Message::Binary(bytes)).await;
            return Ok(());
        }
        let Some((client, request)) = self.request("stdin") else { return Ok(()) };
        let request = match after {
            AfterStdin::Close => request.query(&[("close", "true")]),
            AfterStdin::KeepOpen => request,
        };
        client.send(request.body(bytes)).await.map(drop)
    }

    /// Sends it a signal.
    pub(crate) async fn signal(&self, signal: i32, target: SignalTarget) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Body {
            signal: i32,
            target: &'static str,
        }
        if let Self::Here(sandbox, id) = self {
            return Ok(sandbox.signal(id, signal, target).await?);
        }
        let Some((client, request)) = self.request("signal") else { return Ok(()) };
        let target = match target {
            SignalTarget::Leader => "leader",
            SignalTarget::Tree => "tree",
        };
        client.send(request.json(&Body { signal, target })).await.map(drop)
    }

    /// Changes the size of its terminal.
    pub(crate) async fn resize(&self, size: PtySize) -> Result<(), Failure> {
        if let Self::Here(sandbox, id) = self {
            return Ok(sandbox.resize(id, size).await?);
        }
        if let Self::Terminal(sender, ..) = self {
            let text = serde_json::to_string(&Control::Resize(size))?;
            // As for a write.
            _ = sender.send(Message::text(text)).await;
            return Ok(());
        }
        let Some((client, request)) = self.request("resize") else { return Ok(()) };
        client.send(request.json(&size)).await.map(drop)
    }
}
