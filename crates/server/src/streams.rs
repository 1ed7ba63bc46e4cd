//! Followed execs as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::Stream;
use hothouse_domain::{Encoding, ErrorCode, ExecId, Problem};
use hothouse_sandbox::{ExecEvent, ExecStream, OutputName, SandboxError};
use serde::Serialize;

use crate::app::{App, StreamPermit};
use crate::problem::Refusal;

/// Bytes of the outputs that a follower has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    pub(crate) stdout: u64,
    pub(crate) stderr: u64,
}

impl Offsets {
    /// The offsets in `Last-Event-ID`, which a browser sends when it connects again.
    pub(crate) fn resumed(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(id) = headers.get("last-event-id") else { return Ok(None) };
        let parsed = id.to_str().ok().and_then(|id| {
            let (stdout, stderr) = id.split_once('-')?;
            Some(Self { stdout: stdout.parse().ok()?, stderr: stderr.parse().ok()? })
        });
        parsed.map(Some).ok_or_else(|| {
            Refusal::field("Last-Event-ID", "is not an event's id; they look like 120-0 (stdout-stderr)")
        })
    }

    fn of(&mut self, name: OutputName) -> &mut u64 {
        match name {
            OutputName::Stdout => &mut self.stdout,
            OutputName::Stderr => &mut self.stderr,
        }
    }

    fn id(self) -> String {
        format!("{}-{}", self.stdout, self.stderr)
    }
}

#[derive(Serialize)]
struct Started {
    exec_id: ExecId,
    replayed: bool,
}

#[derive(Serialize)]
struct Output {
    data: String,
    encoding: Encoding,
}

#[derive(Serialize)]
struct Skipped {
    stream: &'static str,
    bytes: u64,
}

/// Bytes as text when they are UTF-8, else as base64.
pub(crate) fn text_or_base64(bytes: &[u8]) -> (String, Encoding) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), Encoding::Utf8),
        Err(_) => (BASE64.encode(bytes), Encoding::Base64),
    }
}

/// The bytes of an unfinished character at the end of what came so far.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    /// Takes bytes and gives back all but an unfinished character at their end.
    fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.0);
        all.extend_from_slice(bytes);
        if let Err(error) = std::str::from_utf8(&all)
            && error.error_len().is_none()
        {
            self.0 = all.split_off(error.valid_up_to());
        }
        all
    }
}

/// A follower on its way to the client.
struct Follower {
    app: App,
    stream: ExecStream,
    /// Where the client is: what it would ask for to go on.
    at: Offsets,
    stdout: Tail,
    stderr: Tail,
    ready: VecDeque<Event>,
    ended: bool,
    _permit: StreamPermit,
}

/// The answer that carries an exec's events. Dropping it (the client went away) ends the following, not the exec.
pub(crate) fn follow(app: &App, permit: StreamPermit, stream: ExecStream, at: Offsets) -> Response {
    let heartbeat: Duration = app.limits.heartbeat;
    let follower = Follower {
        app: app.clone(),
        stream,
        at,
        stdout: Tail::default(),
        stderr: Tail::default(),
        ready: VecDeque::new(),
        ended: false,
        _permit: permit,
    };
    Sse::new(events(follower)).keep_alive(KeepAlive::new().interval(heartbeat).text("alive")).into_response()
}

fn events(follower: Follower) -> impl Stream<Item = Result<Event, Infallible>> {
    futures::stream::unfold(follower, |mut follower| async move {
        loop {
            if let Some(event) = follower.ready.pop_front() {
                return Some((Ok(event), follower));
            }
            if follower.ended {
                return None;
            }
            follower.advance().await;
        }
    })
}

impl Follower {
    /// Waits for what happens next and makes events of it.
    async fn advance(&mut self) {
        let next = tokio::select! {
            biased;
            () = self.app.draining.cancelled() => {
                let detail = "the server is shutting down; the exec goes on, follow it again later";
                self.fail(&Problem::new(ErrorCode::ShuttingDown, detail));
                return;
            }
            next = self.stream.next() => next,
        };
        match next {
            Ok(Some(event)) => self.take(event),
            Ok(None) => self.ended = true,
            Err(error) => self.fail(&SandboxError::problem(&error)),
        }
    }

    fn take(&mut self, event: ExecEvent) {
        match event {
            ExecEvent::Started { exec_id, replayed } => self.send("started", &Started { exec_id, replayed }),
            ExecEvent::Output(name, bytes) => {
                let whole = self.tail(name).push(&bytes);
                self.output(name, &whole);
            }
            ExecEvent::Skipped(name, bytes) => {
                self.flush(name);
                *self.at.of(name) += bytes;
                self.send("skipped", &Skipped { stream: output_name(name), bytes });
            }
            ExecEvent::Finished(result) => {
                self.flush(OutputName::Stdout);
                self.flush(OutputName::Stderr);
                self.app.metrics.exec(&result);
                self.send("finished", &result);
                self.ended = true;
            }
        }
    }

    fn fail(&mut self, problem: &Problem) {
        self.flush(OutputName::Stdout);
        self.flush(OutputName::Stderr);
        self.send("error", problem);
        self.ended = true;
    }

    fn tail(&mut self, name: OutputName) -> &mut Tail {
        match name {
            OutputName::Stdout => &mut self.stdout,
            OutputName::Stderr => &mut self.stderr,
        }
    }

    /// Sends what is left of an unfinished character.
    fn flush(&mut self, name: OutputName) {
        let rest = std::mem::take(&mut self.tail(name).0);
        self.output(name, &rest);
    }

    fn output(&mut self, name: OutputName, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        *self.at.of(name) += bytes.len() as u64;
        let (data, encoding) = text_or_base64(bytes);
        self.send(output_name(name), &Output { data, encoding });
    }

    fn send(&mut self, name: &'static str, data: &impl Serialize) {
        match serde_json::to_string(data) {
            Ok(json) => self.ready.push_back(Event::default().event(name).id(self.at.id()).data(json)),
            Err(error) => {
                // No type of this file can fail to be written; a stream without the event would be a lie.
                tracing::error!(%error, event = name, "an event could not be written as JSON");
                self.ended = true;
            }
        }
    }
}

fn output_name(name: OutputName) -> &'static str {
    match name {
        OutputName::Stdout => "stdout",
        OutputName::Stderr => "stderr",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_cut_in_two_stays_text() {
        let mut tail = Tail::default();
        let bytes = "aé€".as_bytes();
        let mut all = Vec::new();
        for byte in bytes {
            let piece = tail.push(&[*byte]);
            assert!(std::str::from_utf8(&piece).is_ok());
            all.extend(piece);
        }
        assert_eq!(all, bytes);
        assert!(tail.0.is_empty());
    }

    #[test]
    fn bytes_that_are_no_text_come_at_once_as_base64() {
        let piece = Tail::default().push(&[b'a', 0xff, b'b']);
        assert_eq!(text_or_base64(&piece), ("Yf9i".to_owned(), Encoding::Base64));
    }

    #[test]
    fn an_event_id_is_read_back() {
        let at = Offsets { stdout: 120, stderr: 7 };
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", at.id().parse().unwrap());
        assert_eq!(Offsets::resumed(&headers).unwrap(), Some(at));
        for wrong in ["", "12", "1-2-3", "-1-0", "a-b"] {
            headers.insert("last-event-id", wrong.parse().unwrap());
            assert!(Offsets::resumed(&headers).is_err(), "{wrong}");
        }
    }
}
