//! What a session says, and how its answers are known to be right.

use std::sync::LazyLock;

use anyhow::{Context as _, bail};
use memchr::memmem::Finder;
use serde_json::{Value, json};

use super::frames::{Kind, Sender, encode};
use super::target::Target;

/// How sessions talk to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// One WebSocket for each session.
    WebSocket,
    /// Requests on a connection that is kept.
    Http,
}

/// What is done in each step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// A text that no other session sends, nor this one in its steps before; it must come back.
    Echo,
    /// This one, always; any observation will do.
    Same(Value),
}

/// Steps until a session begins again with its first text: an answer that comes late is then a wrong one.
const ROUND: usize = 4;

impl Action {
    /// The action that an environment of this name is measured with.
    pub(crate) fn of(environment: &str) -> Option<Self> {
        match environment {
            "echo" | "echo_env" => Some(Self::Echo),
            "grid_world" | "grid_world_env" => Some(Self::Same(json!({ "action": "DOWN" }))),
            _ => None,
        }
    }

    /// The action of a JSON text.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(text).with_context(|| format!("{text} is not JSON"))?;
        if !value.is_object() {
            bail!("an action is a JSON object, which {text} is not");
        }
        Ok(Self::Same(value))
    }
}

/// One step: what is sent, and what must come back.
#[derive(Debug, Clone)]
struct Step {
    request: Vec<u8>,
    echoed: Option<String>,
}

/// All that a session sends, ready for the wire.
#[derive(Debug, Clone)]
pub(super) struct Script {
    upgrade: Vec<u8>,
    reset: Vec<u8>,
    steps: Vec<Step>,
    close: Vec<u8>,
}

/// What an answer to a step says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Episode {
    /// Another step may follow.
    GoesOn,
    /// It is done: a reset comes next.
    Done,
}

impl Script {
    /// The script of the session of this number.
    pub(super) fn new(target: &Target, transport: Transport, action: &Action, session: usize) -> Self {
        let text = |kind, value: &Value| encode(Sender::Client, kind, value.to_string().as_bytes());
        let request = |action: &Value| match transport {
            Transport::WebSocket => text(Kind::Text, &json!({ "type": "step", "data": action })),
            Transport::Http => target.post("/step", &json!({ "action": action }).to_string()),
        };
        let steps = match action {
            Action::Echo => (0..ROUND)
                .map(|at| {
                    let echoed = format!("session {session} says {at}");
                    Step { request: request(&json!({ "message": echoed })), echoed: Some(echoed) }
                })
                .collect(),
            Action::Same(action) => vec![Step { request: request(action), echoed: None }],
        };
        Self {
            upgrade: target.upgrade(None),
            reset: text(Kind::Text, &json!({ "type": "reset", "data": {} })),
            steps,
            // 1000: all is well.
            close: encode(Sender::Client, Kind::Close, &1000_u16.to_be_bytes()),
        }
    }

    /// Asks for a WebSocket.
    pub(super) fn upgrade(&self) -> &[u8] {
        &self.upgrade
    }

    /// Begins an episode.
    pub(super) fn reset(&self) -> &[u8] {
        &self.reset
    }

    /// The step of this number.
    pub(super) fn step(&self, number: usize) -> &[u8] {
        &self.steps[number % self.steps.len()].request
    }

    /// Ends the session.
    pub(super) fn close(&self) -> &[u8] {
        &self.close
    }

    /// Judges the answer to the step of this number.
    ///
    /// # Errors
    /// What it should have said and did not.
    pub(super) fn judge(
        &self,
        number: usize,
        transport: Transport,
        answer: &[u8],
    ) -> anyhow::Result<Episode> {
        let wanted = self.steps[number % self.steps.len()].echoed.as_deref();
        if !seems_right(wanted, transport, answer) {
            is_right(wanted, transport, answer)?;
        }
        Ok(if says(&DONE, answer) { Episode::Done } else { Episode::GoesOn })
    }
}

/// Judges the answer to a reset.
///
/// # Errors
/// When it is not an observation.
pub(super) fn judge_reset(answer: &[u8]) -> anyhow::Result<()> {
    if seems_right(None, Transport::WebSocket, answer) {
        return Ok(());
    }
    is_right(None, Transport::WebSocket, answer)
}

const OVER_WEBSOCKET: &[u8] = br#"{"type":"observation","data":{"observation":{"#;
const OVER_HTTP: &[u8] = br#"{"observation":{"#;
static ECHOED: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br#""echoed_message":""#));
static DONE: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br#""done":true"#));

fn says(what: &Finder<'_>, answer: &[u8]) -> bool {
    what.find(answer).is_some()
}

/// As servers write it, without spaces: this costs next to nothing, and what it does not know is read as JSON.
fn seems_right(wanted: Option<&str>, transport: Transport, answer: &[u8]) -> bool {
    let start = match transport {
        Transport::WebSocket => OVER_WEBSOCKET,
        Transport::Http => OVER_HTTP,
    };
    if !answer.starts_with(start) {
        return false;
    }
    let Some(wanted) = wanted else { return true };
    let Some(at) = ECHOED.find(answer) else { return false };
    let said = &answer[at + ECHOED.needle().len()..];
    said.starts_with(wanted.as_bytes()) && said.get(wanted.len()) == Some(&b'"')
}

fn is_right(wanted: Option<&str>, transport: Transport, answer: &[u8]) -> anyhow::Result<()> {
    let said = || String::from_utf8_lossy(answer).chars().take(300).collect::<String>();
    let value: Value =
        serde_json::from_slice(answer).with_context(|| format!("an answer that is not JSON: {}", said()))?;
    let data = match transport {
        Transport::WebSocket if value["type"] != "observation" => bail!("not an observation: {}", said()),
        Transport::WebSocket => &value["data"],
        Transport::Http => &value,
    };
    let observation = &data["observation"];
    if !observation.is_object() {
        bail!("an answer without an observation: {}", said());
    }
    match wanted {
        Some(wanted) if observation["echoed_message"] != wanted => {
            bail!("an echo of {wanted:?} was wanted: {}", said())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    fn script(action: &Action) -> Script {
        Script::new(&Target::at("127.0.0.1:1".parse().unwrap()), Transport::WebSocket, action, 7)
    }

    #[test_case(r#"{"type":"observation","data":{"observation":{"metadata":{},"echoed_message":"session 7 says 1","message_length":16},"reward":1.0,"done":false}}"#, Ok(Episode::GoesOn); "as the reference writes it")]
    #[test_case(r#"{"data": {"observation": {"echoed_message": "session 7 says 1"}, "done": false}, "type": "observation"}"#, Ok(Episode::GoesOn); "as others may")]
    #[test_case(r#"{"type":"observation","data":{"observation":{"echoed_message":"session 7 says 1"},"reward":1.0,"done":true}}"#, Ok(Episode::Done); "the last")]
    #[test_case(r#"{"type":"observation","data":{"observation":{"echoed_message":"session 7 says 0"},"done":false}}"#, Err(()); "the answer before")]
    #[test_case(r#"{"type":"observation","data":{"observation":{"echoed_message":"session 7 says 12"},"done":false}}"#, Err(()); "of another")]
    #[test_case(r#"{"type":"observation","data":{"observation":{}}}"#, Err(()); "no echo")]
    #[test_case(r#"{"type":"error","data":{"message":"session 7 says 1","code":"EXECUTION_ERROR"}}"#, Err(()); "an error")]
    #[test_case("session 7 says 1", Err(()); "not JSON")]
    fn an_echo_is_judged(answer: &str, verdict: Result<Episode, ()>) {
        let found = script(&Action::Echo).judge(5, Transport::WebSocket, answer.as_bytes());
        assert_eq!(found.map_err(drop), verdict);
    }

    #[test_case(
        r#"{"observation":{"echoed_message":"session 7 says 0"},"reward":1.0,"done":false,"metadata":null}"#,
        true
    )]
    #[test_case(r#"{ "observation" : { "echoed_message" : "session 7 says 0" } }"#, true)]
    #[test_case(r#"{"observation":{"echoed_message":"session 8 says 0"}}"#, false)]
    #[test_case(r#"{"detail":"Not Found"}"#, false)]
    fn an_echo_over_http_is_judged(answer: &str, right: bool) {
        let found = script(&Action::Echo).judge(0, Transport::Http, answer.as_bytes());
        assert_eq!(found.is_ok(), right);
    }

    #[test]
    fn of_another_action_any_observation_will_do() {
        let script = script(&Action::parse(r#"{"code":"1"}"#).unwrap());
        let right =
            br#"{"type":"observation","data":{"observation":{"stdout":""},"reward":null,"done":false}}"#;
        assert_eq!(script.judge(3, Transport::WebSocket, right).unwrap(), Episode::GoesOn);
        let wrong = br#"{"type":"error","data":{"message":"step boom","code":"EXECUTION_ERROR"}}"#;
        assert!(script.judge(3, Transport::WebSocket, wrong).is_err());
        assert!(script.judge(3, Transport::Http, b"{}").is_err());
        for wrong in ["", "[1]", "{"] {
            assert!(Action::parse(wrong).is_err());
        }
    }
}
