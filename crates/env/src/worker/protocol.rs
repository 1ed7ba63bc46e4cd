//! Frames between the server and a worker; `docs/worker-protocol.md` describes them. All integers are little-endian.

use serde::Deserialize;
use serde_json::Value;

use crate::environment::{Environment, Maker, Schemas, Tool, Turns};
use crate::game::Failed;
use crate::model::Wrong;
use crate::observed::{Observed, Reward};
use crate::session::StepError;
use crate::tasks::{TaskError, TaskQuery};

/// The version that is spoken here.
const PROTOCOL: u32 = 1;
/// Bytes of the head of a frame to a worker: length, request, session, kind.
const ASK_HEAD: usize = 13;
/// Bytes of the head of a frame from a worker: length, request, kind.
const TELL_HEAD: usize = 9;
/// Bytes of the longest frame from a worker.
const LONGEST: usize = 256 << 20;

/// What is asked of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Ask {
    Open = 1,
    Reset = 2,
    Step = 3,
    State = 4,
    Close = 5,
    Mcp = 6,
    Checkpoint = 7,
    Restore = 8,
    Tasks = 9,
    StepWith = 10,
}

/// Appends a frame to a worker.
pub(super) fn write(out: &mut Vec<u8>, request: u32, session: u32, ask: Ask, payload: &[u8]) {
    // A payload comes from a message, which is shorter by far.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.reserve(ASK_HEAD + payload.len());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&request.to_le_bytes());
    out.extend_from_slice(&session.to_le_bytes());
    out.push(ask as u8);
    out.extend_from_slice(payload);
}

/// What a worker tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Hello(Vec<u8>),
    Done(Vec<u8>),
    Invalid(Vec<u8>),
    Failed(Vec<u8>),
}

/// A frame from a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) request: u32,
    pub(super) told: Told,
}

/// Bytes from a worker that are no whole frame yet.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) buffer: Vec<u8>,
    at: usize,
}

impl Reader {
    /// The next whole frame, if it is there.
    ///
    /// # Errors
    /// What is wrong with what came.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, String> {
        let rest = &self.buffer[self.at..];
        let Some((head, rest)) = rest.split_at_checked(TELL_HEAD) else {
            self.compact();
            return Ok(None);
        };
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let length = usize::try_from(number(0)).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(format!("a frame of {length} bytes, more than the {LONGEST} allowed"));
        }
        if rest.len() < length {
            self.compact();
            return Ok(None);
        }
        let payload = rest[..length].to_vec();
        let told = match head[8] {
            0 => Told::Hello(payload),
            1 => Told::Done(payload),
            2 => Told::Invalid(payload),
            3 => Told::Failed(payload),
            kind => return Err(format!("a frame of the unknown kind {kind}")),
        };
        let request = number(4);
        self.at += TELL_HEAD + length;
        Ok(Some(Frame { request, told }))
    }

    fn compact(&mut self) {
        self.buffer.drain(..self.at);
        self.at = 0;
    }
}

/// What an environment says of itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Hello {
    name: String,
    class: String,
    version: String,
    description: String,
    #[serde(default)]
    readme: Option<String>,
    schema: HelloSchemas,
    /// Tools, where it has some.
    #[serde(default)]
    tools: Option<Vec<HelloTool>>,
    #[serde(default)]
    checkpoints: bool,
    /// Sessions that one process can play.
    #[serde(default)]
    pub(super) max_sessions: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
struct HelloSchemas {
    action: Value,
    observation: Value,
    state: Value,
    #[serde(default)]
    reset_observation: Option<Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HelloTool {
    name: String,
    #[serde(default)]
    description: String,
    input_schema: Value,
    #[serde(default)]
    output_schema: Value,
}

#[derive(Deserialize)]
struct Greeting {
    protocol: u32,
    environment: Hello,
}

impl Hello {
    /// What a greeting says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, String> {
        let greeting: Greeting = serde_json::from_slice(payload)
            .map_err(|error| format!("its greeting cannot be read: {error}"))?;
        if greeting.protocol != PROTOCOL {
            return Err(format!(
                "it speaks protocol {}, not {PROTOCOL}; install the same version",
                greeting.protocol
            ));
        }
        Ok(greeting.environment)
    }

    pub(super) fn has_checkpoints(&self) -> bool {
        self.checkpoints
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn into_environment(self, turns: Turns, maker: Maker) -> Environment {
        let HelloSchemas { action, observation, state, reset_observation } = self.schema;
        let tool = |tool: HelloTool| Tool {
            name: tool.name,
            description: tool.description,
            input_schema: tool.input_schema,
            output_schema: tool.output_schema,
        };
        let reset_observation = reset_observation.unwrap_or_else(|| observation.clone());
        Environment {
            name: self.name,
            class: self.class,
            description: self.description,
            version: self.version,
            readme: self.readme,
            schemas: Schemas { action, observation, state, reset_observation },
            tools: self.tools.map(|tools| tools.into_iter().map(tool).collect()),
            turns,
            maker,
        }
    }
}

/// What came of a reset or a step: fields, reward, done and metadata, a line each.
///
/// # Errors
/// [`Failed`]: they are not there, or not what they should be.
pub(super) fn observed(payload: &[u8]) -> Result<Observed, Failed> {
    let text = std::str::from_utf8(payload).map_err(|_| Failed::new("the worker's answer is no UTF-8"))?;
    let mut lines = text.split('\n');
    let mut line = || lines.next().ok_or_else(|| Failed::new("the worker's answer is cut short"));
    let (fields, reward, done, metadata) = (line()?, line()?, line()?, line()?);
    let done = match done {
        "true" => true,
        "false" => false,
        other => return Err(Failed::new(format!("done is {other}, neither true nor false"))),
    };
    Observed::from_json(fields, Reward::parse(reward)?, done, metadata)
}

/// What is wrong with an action or a reset.
pub(super) fn invalid(payload: &[u8]) -> StepError {
    match serde_json::from_slice::<Vec<Wrong>>(payload) {
        Ok(wrong) => StepError::Invalid(wrong),
        Err(error) => Failed::new(format!("the worker refused it, and cannot say why: {error}")).into(),
    }
}

/// An exception in the worker.
#[derive(Deserialize)]
struct Reason {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    traceback: Option<String>,
}

/// Why it failed.
pub(super) fn failed(payload: &[u8]) -> Failed {
    match serde_json::from_slice::<Reason>(payload) {
        Ok(Reason { kind, message, traceback }) => {
            let message = if message.is_empty() { kind } else { message };
            Failed { message, traceback: traceback.filter(|text| !text.is_empty()) }
        }
        Err(error) => Failed::new(format!("the worker failed, and cannot say why: {error}")),
    }
}

/// Why it has no answer about tasks.
pub(super) fn no_tasks(query: &TaskQuery, payload: &[u8]) -> TaskError {
    let kind = serde_json::from_slice::<Reason>(payload).map(|reason| reason.kind);
    match kind.as_deref() {
        Ok("NotSupported" | "NotImplementedError") => TaskError::NotSupported(query.method()),
        Ok("IndexError") => TaskError::Index,
        // Also one that cannot be read.
        _ => failed(payload).into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(frame: &Frame) -> Vec<u8> {
        let (kind, payload) = match &frame.told {
            Told::Hello(payload) => (0, payload),
            Told::Done(payload) => (1, payload),
            Told::Invalid(payload) => (2, payload),
            Told::Failed(payload) => (3, payload),
        };
        let mut bytes = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend_from_slice(&frame.request.to_le_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let told =
            (0..4_u8, prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(kind, payload)| match kind {
                0 => Told::Hello(payload),
                1 => Told::Done(payload),
                2 => Told::Invalid(payload),
                _ => Told::Failed(payload),
            });
        prop::collection::vec((any::<u32>(), told).prop_map(|(request, told)| Frame { request, told }), 0..9)
    }

    proptest! {
        #[test]
        fn frames_are_read_however_they_are_cut(frames in frames(), cuts in prop::collection::vec(1..64_usize, 1..99)) {
            let bytes: Vec<u8> = frames.iter().flat_map(told).collect();
            let mut reader = Reader::default();
            let (mut read, mut rest, mut cuts) = (Vec::new(), bytes.as_slice(), cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (part, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                reader.buffer.extend_from_slice(part);
                rest = after;
                while let Some(frame) = reader.next().unwrap() {
                    read.push(frame);
                }
            }
            prop_assert_eq!(read, frames);
            prop_assert!(reader.buffer.is_empty(), "nothing is kept for ever");
        }

        #[test]
        fn whatever_comes_is_refused_or_waited_for(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader { buffer: bytes, at: 0 };
            while let Ok(Some(_)) = reader.next() {}
            _ = (observed(&reader.buffer), invalid(&reader.buffer), failed(&reader.buffer));
        }
    }

    #[test]
    fn what_came_of_a_step_is_four_lines() {
        let shown = observed(b"{\"x\":1}\n0.5\ntrue\nnull").unwrap();
        assert_eq!(
            (shown.fields(), shown.reward, shown.done),
            (&b"{\"x\":1}"[..], Reward::Number(0.5), true)
        );
        for wrong in
            ["{}", "[]\n1\ntrue\nnull", "{}\n\"x\"\ntrue\nnull", "{}\n1\nTrue\nnull", "{}\n1\ntrue\n3"]
        {
            assert!(observed(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }
}
