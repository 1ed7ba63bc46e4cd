//! What clients of the subprotocol ask.

use std::borrow::Cow;
use std::sync::Arc;

use hothouse_env::Arrays;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::json_error::explain;
use super::super::message::Error;

/// Sessions that are opened or forked at once.
const MOST_AT_ONCE: usize = 16_384;
/// The longest id of a step or a request, in bytes.
const LONGEST_ID: usize = 255;

/// A message.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    pub(super) order: Order<'a>,
    /// As JSON.
    pub(super) request_id: Option<Arc<str>>,
}

/// What is asked.
#[derive(Debug)]
pub(super) enum Order<'a> {
    Open { count: usize, arrays: Arrays },
    Reset { session: Option<u32>, given: Map<String, Value> },
    Step { session: Option<u32>, action: &'a str, step_id: Option<String> },
    State { session: Option<u32> },
    Close { session: Option<u32> },
    Fork { session: Option<u32>, count: usize },
    Checkpoint { session: Option<u32> },
    Restore { session: Option<u32>, checkpoint_id: String },
    ResetBatch { sessions: Option<Vec<u32>>, given: Given },
    StepBatch { sessions: Option<Vec<u32>>, actions: Vec<Option<&'a RawValue>> },
}

/// What a batch of resets is given.
#[derive(Debug)]
pub(super) enum Given {
    /// The same for all; a seed is counted up from session to session.
    Same(Map<String, Value>),
    Each(Vec<Map<String, Value>>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    session: Option<u32>,
    #[serde(default)]
    sessions: Option<Vec<u32>>,
    #[serde(default)]
    count: Option<usize>,
    #[serde(borrow, default)]
    arrays: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    step_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    request_id: Option<&'a RawValue>,
}

type Unread = (Error, Option<Arc<str>>);

/// Reads a message; what is wrong with it, and the request's id if that can be read.
pub(super) fn parse(text: &str) -> Result<Incoming<'_>, Unread> {
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| unread(text, &error))?;
    let mut request_id = None;
    if let Some(id) = fields.request_id {
        let id = id.get();
        if id.len() > LONGEST_ID || !(id.starts_with('"') || id.parse::<i64>().is_ok()) {
            let message =
                format!("request_id has to be a text or a whole number of at most {LONGEST_ID} bytes");
            return Err((invalid(message), None));
        }
        request_id = Some(Arc::from(id));
    }
    match order(fields) {
        Ok(order) => Ok(Incoming { order, request_id }),
        Err(error) => Err((error, request_id)),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new("VALIDATION_ERROR", message)
}

fn unread(text: &str, error: &serde_json::Error) -> Unread {
    if error.is_data() {
        let id = serde_json::from_str::<Value>(text)
            .ok()
            .and_then(|mut value| value.get_mut("request_id").map(Value::take));
        let id = id.filter(|id| id.is_string() || id.is_i64()).map(|id| Arc::from(id.to_string()));
        return (invalid(error.to_string()), id);
    }
    (Error::new("INVALID_JSON", format!("Invalid JSON: {}", explain(text))), None)
}

fn order(fields: Fields<'_>) -> Result<Order<'_>, Error> {
    let Fields { kind, data, session, sessions, count, arrays, step_id, request_id: _ } = fields;
    let object = |data: Option<&RawValue>| match data {
        None => Ok(Map::new()),
        Some(data) => serde_json::from_str(data.get()).map_err(|error| invalid(format!("data: {error}"))),
    };
    let count = || match count {
        None => Ok(1),
        Some(count) if (1..=MOST_AT_ONCE).contains(&count) => Ok(count),
        Some(count) => Err(invalid(format!("count is {count}; use 1 to {MOST_AT_ONCE}"))),
    };
    Ok(match &*kind {
        "open" => {
            let arrays = match arrays.as_deref() {
                None | Some("lists") => Arrays::Lists,
                Some("packed") => Arrays::Packed,
                Some(other) => {
                    return Err(invalid(format!("arrays is {other:?}; use \"lists\" or \"packed\"")));
                }
            };
            Order::Open { count: count()?, arrays }
        }
        "reset" => Order::Reset { session, given: object(data)? },
        "step" => {
            let action = data.ok_or_else(|| invalid("data, the action, is missing"))?.get();
            if !action.starts_with('{') {
                return Err(invalid("data, the action, is no object"));
            }
            let step_id = step_id.map(Cow::into_owned);
            if step_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > LONGEST_ID) {
                return Err(invalid(format!("step_id has to have 1 to {LONGEST_ID} bytes")));
            }
            Order::Step { session, action, step_id }
        }
        "state" => Order::State { session },
        "close" => Order::Close { session },
        "fork" => Order::Fork { session, count: count()? },
        "checkpoint" => Order::Checkpoint { session },
        "restore" => match object(data)?.remove("checkpoint_id") {
            Some(Value::String(checkpoint_id)) => Order::Restore { session, checkpoint_id },
            Some(_) | None => return Err(invalid("data.checkpoint_id, a text, is missing")),
        },
        "reset_batch" => Order::ResetBatch { sessions, given: given(data)? },
        "step_batch" => {
            let data = data.ok_or_else(|| invalid("data, a list of actions, is missing"))?;
            let actions =
                serde_json::from_str(data.get()).map_err(|error| invalid(format!("data: {error}")))?;
            Order::StepBatch { sessions, actions }
        }
        other => return Err(Error::new("UNKNOWN_TYPE", format!("Unknown message type: {other}"))),
    })
}

fn given(data: Option<&RawValue>) -> Result<Given, Error> {
    let Some(data) = data else { return Ok(Given::Same(Map::new())) };
    let wrong = |error| invalid(format!("data: {error}"));
    if data.get().starts_with('[') {
        let each: Vec<Option<Map<String, Value>>> = serde_json::from_str(data.get()).map_err(wrong)?;
        return Ok(Given::Each(each.into_iter().map(Option::unwrap_or_default).collect()));
    }
    serde_json::from_str(data.get()).map(Given::Same).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    #[test_case("[", "INVALID_JSON")]
    #[test_case("[]", "VALIDATION_ERROR")]
    #[test_case(r#"{"type":"dance"}"#, "UNKNOWN_TYPE")]
    #[test_case(r#"{"type":"open","count":0}"#, "VALIDATION_ERROR")]
    #[test_case(r#"{"type":"open","count":100000}"#, "VALIDATION_ERROR")]
    #[test_case(r#"{"type":"open","count":-1}"#, "VALIDATION_ERROR")]
    #[test_case(r#"{"type":"open","arrays":"pickled"}"#, "VALIDATION_ERROR")]
    #[test_case(r#"{"type":"step","session":1}"#, "VALIDATION_ERROR")]
    #[test_case(r#"{"type":"step","data":{},"step_id":""}"#, "VALIDATION_ERROR")]
    #[test_case(r#"{"type":"state","request_id":{}}"#, "VALIDATION_ERROR")]
    #[test_case(r#"{"type":"state","other":1}"#, "VALIDATION_ERROR")]
    #[test_case(r#"{"type":"restore","data":{}}"#, "VALIDATION_ERROR")]
    #[test_case(r#"{"type":"step_batch","data":{}}"#, "VALIDATION_ERROR")]
    fn what_is_wrong_has_its_code(text: &str, code: &str) {
        assert_eq!(parse(text).unwrap_err().0.code, code, "{text}");
    }

    #[test]
    fn ids_come_back_as_they_came() {
        for id in ["\"a\"", "7", "-7"] {
            let text = format!(r#"{{"type":"state","request_id":{id}}}"#);
            assert_eq!(parse(&text).unwrap().request_id.as_deref(), Some(id));
        }
        let (_, id) = parse(r#"{"type":"state","request_id":"x","other":1}"#).unwrap_err();
        assert_eq!(id.as_deref(), Some("\"x\""), "also of a message that is wrong");
    }
}
