//! Messages of the WebSocket: what clients ask, and what they are answered.

use hothouse_env::model::Wrong;
use hothouse_env::{Era, Full, Observed, OpenError, StepError};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::answer::{explained, with_traceback};
use super::json_error::explain;

/// What a client asks.
#[derive(Debug)]
pub(super) enum Asked {
    Reset(Map<String, Value>),
    /// The action, a JSON object.
    Step(String),
    State,
    Close,
    /// A JSON-RPC request.
    Mcp(Value),
}

/// Why a message was not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// The session goes on.
    Error(Error),
    /// It does not.
    Fatal(Error),
}

/// An error, as clients are told it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Error {
    pub(super) code: &'static str,
    pub(super) message: String,
    /// Further fields.
    pub(super) more: Vec<(&'static str, Value)>,
}

impl Error {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), more: Vec::new() }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.more.push((name, value.into()));
        self
    }

    pub(super) fn invalid(wrong: &[Wrong]) -> Self {
        let errors: Vec<Value> = wrong.iter().map(explained).collect();
        Self::new("VALIDATION_ERROR", "Invalid message").with("errors", errors)
    }

    pub(super) fn session(message: impl Into<String>) -> Self {
        Self::new("SESSION_ERROR", message)
    }

    /// What is in `data`, as JSON: the message and the code first, as people read it.
    pub(super) fn data(&self) -> String {
        use std::fmt::Write as _;
        let mut data = format!("{{\"message\":{},\"code\":\"{}\"", Value::from(&*self.message), self.code);
        for (name, value) in &self.more {
            // Writing to memory does not fail.
            _ = write!(data, ",\"{name}\":{value}");
        }
        data.push('}');
        data
    }

    pub(super) fn text(&self) -> String {
        format!("{{\"type\":\"error\",\"data\":{}}}", self.data())
    }
}

impl From<Full> for Error {
    fn from(full: Full) -> Self {
        Self::new("CAPACITY_REACHED", full.to_string())
            .with("active_sessions", full.active)
            .with("max_sessions", full.most)
    }
}

/// Whether a client knows the codes that are ours alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codes {
    Known,
    Ours,
}

/// Why a reset or a step gave nothing.
pub(super) fn step_error(error: &StepError, codes: Codes) -> Error {
    let message = with_traceback(error);
    let code = match (error, codes) {
        (StepError::Invalid(wrong), _) => return Error::invalid(wrong),
        (StepError::NotReset | StepError::Over, Codes::Ours) => "OUT_OF_TURN",
        (StepError::StepIdReused(_), _) => "STEP_ID_REUSED",
        (StepError::NotSupported { .. }, _) => "NOT_SUPPORTED",
        (StepError::TimedOut { .. }, _) => "TIMEOUT",
        (StepError::Lost(_), Codes::Ours) => "SESSION_LOST",
        (StepError::Lost(_), Codes::Known) => "SESSION_ERROR",
        (StepError::NotReset | StepError::Over | StepError::Failed(_) | StepError::TooLarge { .. }, _) => {
            "EXECUTION_ERROR"
        }
    };
    Error::new(code, message)
}

/// Why no session could be opened.
pub(super) fn open_error(error: &OpenError, factory: &str) -> Error {
    tracing::warn!(factory, %error, traceback = error.traceback.as_deref().unwrap_or_default(), "no session");
    let message = format!("Environment factory '{factory}' failed to create instance.");
    let mut told = Error::new("FACTORY_ERROR", message).with("factory_name", factory);
    told = told.with("reason", error.message.as_str());
    match &error.traceback {
        Some(traceback) => told.with("traceback", traceback.as_str()),
        None => told,
    }
}

/// An observation in its envelope, but for the last brace; what else is said goes before that.
pub(super) fn observation(observed: &Observed, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"observation","data":"#);
    result(observed, out);
}

/// The same without an envelope.
pub(super) fn result(observed: &Observed, out: &mut Vec<u8>) {
    out.push(b'{');
    observed.write(Era::Today, observed.reward, out);
    if let Some(metadata) = observed.metadata() {
        out.extend_from_slice(b",\"metadata\":");
        out.extend_from_slice(metadata);
    }
    out.push(b'}');
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// What a text asks for.
pub(super) fn parse(text: &str) -> Result<Asked, Refused> {
    // Nearly all messages are steps that are just as they should be; the others are looked at again, for what is wrong
    // with them.
    if let Ok(Plain { kind: "step", data: Some(data) }) = serde_json::from_str(text)
        && data.get().starts_with('{')
    {
        return Ok(Asked::Step(data.get().to_owned()));
    }
    let error = |error| Err(Refused::Error(error));
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return error(Error::new("INVALID_JSON", format!("Invalid JSON: {}", explain(text))));
    };
    let mut message = match value {
        Value::Object(message) => message,
        other => return Err(Refused::Fatal(no_object(&other))),
    };
    let kind = match message.remove("type") {
        None => String::new(),
        Some(Value::String(kind)) => kind,
        Some(other) => other.to_string(),
    };
    let data = message.remove("data");
    let takes_data = matches!(kind.as_str(), "reset" | "step" | "mcp");
    if !takes_data && !matches!(kind.as_str(), "state" | "close") {
        return error(Error::new("UNKNOWN_TYPE", format!("Unknown message type: {kind}")));
    }
    let mut wrong = Vec::new();
    let data = match data {
        None => {
            if matches!(kind.as_str(), "step" | "mcp") {
                let mut input = message.clone();
                input.insert("type".to_owned(), kind.as_str().into());
                wrong.push(Wrong::missing(vec!["data".into()], Value::Object(input)));
            }
            Map::new()
        }
        Some(data) if !takes_data => {
            wrong.push(Wrong::extra(vec!["data".into()], data));
            Map::new()
        }
        Some(Value::Object(data)) => data,
        Some(other) => {
            wrong.push(Wrong::no_object(vec!["data".into()], other));
            Map::new()
        }
    };
    wrong.extend(message.into_iter().map(|(name, value)| Wrong::extra(vec![name.into()], value)));
    if !wrong.is_empty() {
        return error(Error::invalid(&wrong));
    }
    Ok(match kind.as_str() {
        "reset" => Asked::Reset(data),
        "step" => Asked::Step(Value::Object(data).to_string()),
        "mcp" => Asked::Mcp(Value::Object(data)),
        "state" => Asked::State,
        _ => Asked::Close,
    })
}

/// What a Python server says of a message that is JSON, but no object.
fn no_object(value: &Value) -> Error {
    let name = match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    };
    Error::session(format!("'{name}' object has no attribute 'get'"))
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    #[test_case(r#"{oops"#, "INVALID_JSON")]
    #[test_case(r#"{"type":"bogus"}"#, "UNKNOWN_TYPE")]
    #[test_case(r#"{}"#, "UNKNOWN_TYPE")]
    #[test_case(r#"{"type":3}"#, "UNKNOWN_TYPE")]
    #[test_case(r#"{"type":"step"}"#, "VALIDATION_ERROR")]
    #[test_case(r#"{"type":"step","data":[]}"#, "VALIDATION_ERROR")]
    #[test_case(r#"{"type":"step","data":{},"request_id":"r1"}"#, "VALIDATION_ERROR")]
    #[test_case(r#"{"type":"state","data":{}}"#, "VALIDATION_ERROR")]
    #[test_case(r#"[]"#, "SESSION_ERROR")]
    #[test_case(r#"null"#, "SESSION_ERROR")]
    fn what_is_wrong_has_its_code(text: &str, code: &str) {
        let (Refused::Error(error) | Refused::Fatal(error)) = parse(text).unwrap_err();
        assert_eq!(error.code, code);
    }

    #[test]
    fn what_is_right_is_taken() {
        assert!(matches!(parse(r#"{"type":"reset"}"#), Ok(Asked::Reset(data)) if data.is_empty()));
        assert!(
            matches!(parse(r#"{"type":"reset","data":{"seed":-5}}"#), Ok(Asked::Reset(data)) if data["seed"] == -5)
        );
        for text in [r#"{"type":"step","data":{"a":1}}"#, r#"{"data":{"a":1},"\u0074ype":"step"}"#] {
            assert!(matches!(parse(text), Ok(Asked::Step(action)) if action == r#"{"a":1}"#), "{text}");
        }
    }
}
