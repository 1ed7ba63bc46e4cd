//! Server-sent events of a followed exec.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Buf as _, Bytes, BytesMut};
use hothouse_domain::{Encoding, ErrorCode, ExecId, ExecResult, Problem};
use hothouse_sandbox::{ExecEvent, OutputName};
use reqwest::Response;
use serde::Deserialize;

use super::client::ApiClient;
use crate::failure::Failure;

/// A line longer than this is no event of ours.
const MAX_LINE: usize = 64 << 20;

/// The events of an exec as they come from a server.
#[derive(Debug)]
pub(crate) struct EventStream {
    client: ApiClient,
    response: Response,
    lines: Lines,
    name: String,
    data: String,
    ended: bool,
}

#[derive(Debug, Deserialize)]
struct StartedData {
    exec_id: ExecId,
    #[serde(default)]
    replayed: bool,
}

#[derive(Debug, Deserialize)]
struct OutputData {
    data: String,
    #[serde(default)]
    encoding: Encoding,
}

#[derive(Debug, Deserialize)]
struct SkippedData {
    stream: String,
    bytes: u64,
}

impl EventStream {
    /// Reads the body of this response.
    pub(crate) fn new(client: ApiClient, response: Response) -> Self {
        let lines = Lines::default();
        Self { client, response, lines, name: String::new(), data: String::new(), ended: false }
    }

    /// The next event; `None` after `Finished`.
    pub(crate) async fn next(&mut self) -> Result<Option<ExecEvent>, Failure> {
        while !self.ended {
            while let Some(line) = self.lines.take() {
                if let Some(event) = self.feed(&line)? {
                    self.ended = matches!(event, ExecEvent::Finished(_));
                    return Ok(Some(event));
                }
            }
            match self.response.chunk().await.map_err(|e| self.client.failure(&e))? {
                Some(_) if self.lines.buffered() > MAX_LINE => return Err(not_understood("an endless line")),
                Some(bytes) => self.lines.put(&bytes),
                None => {
                    return Err(Failure::new(
                        ErrorCode::Internal,
                        format!("{} closed the stream before the end", self.client.base()),
                    )
                    .hint("the command may still run; `hothouse logs` shows it"));
                }
            }
        }
        Ok(None)
    }

    /// Takes one line; the event that it completes.
    fn feed(&mut self, line: &str) -> Result<Option<ExecEvent>, Failure> {
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            return if data.is_empty() { Ok(None) } else { event(&name, &data) };
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => self.data.push_str(value),
            // Comments and fields that we do not use.
            _ => {}
        }
        Ok(None)
    }
}

fn event(name: &str, data: &str) -> Result<Option<ExecEvent>, Failure> {
    fn parse<'a, T: Deserialize<'a>>(data: &'a str) -> Result<T, Failure> {
        serde_json::from_str(data).map_err(|e| not_understood(&e.to_string()))
    }
    Ok(Some(match name {
        "started" => {
            let StartedData { exec_id, replayed } = parse(data)?;
            ExecEvent::Started { exec_id, replayed }
        }
        "stdout" => ExecEvent::Output(OutputName::Stdout, parse::<OutputData>(data)?.bytes()?),
        "stderr" => ExecEvent::Output(OutputName::Stderr, parse::<OutputData>(data)?.bytes()?),
        "skipped" => {
            let SkippedData { stream, bytes } = parse(data)?;
            let from = if stream == "stderr" { OutputName::Stderr } else { OutputName::Stdout };
            ExecEvent::Skipped(from, bytes)
        }
        "finished" => ExecEvent::Finished(parse::<ExecResult>(data)?),
        "error" => return Err(parse::<Problem>(data)?.into()),
        // A newer server may tell more than we know of.
        _ => return Ok(None),
    }))
}

impl OutputData {
    fn bytes(self) -> Result<Bytes, Failure> {
        decode(self.data, self.encoding).map(Bytes::from)
    }
}

/// The bytes of a text that came in JSON.
pub(crate) fn decode(text: String, encoding: Encoding) -> Result<Vec<u8>, Failure> {
    match encoding {
        Encoding::Utf8 => Ok(text.into_bytes()),
        Encoding::Base64 => BASE64_STANDARD.decode(text).map_err(|e| not_understood(&e.to_string())),
    }
}

fn not_understood(what: &str) -> Failure {
    Failure::new(ErrorCode::Internal, format!("the server sent an event that is not understood: {what}"))
        .hint("are client and server of the same version?")
}

/// Cuts a flow of bytes into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: BytesMut,
    /// So many bytes at its start are known to have no line end.
    searched: usize,
}

impl Lines {
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn buffered(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn take(&mut self) -> Option<String> {
        let Some(found) = self.buffer[self.searched..].iter().position(|&b| b == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let mut line = self.buffer.split_to(self.searched + found);
        self.buffer.advance(1);
        self.searched = 0;
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        Some(String::from_utf8_lossy(&line).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_the_bytes_are_cut() {
        let text = b"event: stdout\ndata: {}\r\n\n: beat\nrest";
        for step in 1..text.len() {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for piece in text.chunks(step) {
                lines.put(piece);
                got.extend(std::iter::from_fn(|| lines.take()));
            }
            assert_eq!(got, ["event: stdout", "data: {}", "", ": beat"], "in pieces of {step}");
        }
    }

    #[test]
    fn events_keep_their_bytes() {
        let utf8 = event("stdout", r#"{"data":"h\u00e9\n","encoding":"utf-8"}"#).unwrap().unwrap();
        assert_eq!(utf8, ExecEvent::Output(OutputName::Stdout, Bytes::from_static("hé\n".as_bytes())));
        let raw = event("stderr", r#"{"data":"/wA=","encoding":"base64"}"#).unwrap().unwrap();
        assert_eq!(raw, ExecEvent::Output(OutputName::Stderr, Bytes::from_static(b"\xff\0")));
        assert!(event("stderr", r#"{"data":"?","encoding":"base64"}"#).is_err());
        assert_eq!(event("later", "{}").unwrap(), None);
    }
}
