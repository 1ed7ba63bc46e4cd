//! Bodies of requests, checked as FastAPI checks them for today's servers, and as little as for the first ones.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use hothouse_env::model::{Field, Kind, Model, Wrong};
use hothouse_env::{Beside, Era};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::answer;
use super::json_error::explain;

/// Time for a whole body.
const BODY_TIME: Duration = Duration::from_secs(60);

fn optional(kind: Kind) -> Kind {
    Kind::Optional(Box::new(kind))
}

static RESET: LazyLock<Model> = LazyLock::new(|| {
    let seed = optional(Kind::Integer { least: Some(0), most: None });
    Model::request(
        "ResetRequest",
        vec![
            Field::new("seed", seed, "Random seed for reproducible episodes").or(Value::Null),
            Field::new("episode_id", optional(Kind::ShortText(255)), "Custom episode identifier")
                .or(Value::Null),
        ],
    )
});

static STEP: LazyLock<Model> = LazyLock::new(|| {
    Model::request(
        "StepRequest",
        vec![
            Field::new(
                "action",
                Kind::Object,
                "Action to execute, must conform to the environment's action schema",
            ),
            Field::new("timeout_s", optional(Kind::Positive), "Seconds that the step may take")
                .or(Value::Null),
            Field::new("request_id", optional(Kind::ShortText(255)), "Names the request").or(Value::Null),
        ],
    )
});

/// The models of requests, for those who describe the API.
pub(super) fn schemas() -> [(&'static str, Value); 2] {
    [("ResetRequest", RESET.schema()), ("StepRequest", STEP.schema())]
}

/// An answer that refuses a request.
type Refusal = Box<Response>;

/// Reads a body of at most so many bytes.
pub(super) async fn read(body: Body, most: usize) -> Result<Bytes, Refusal> {
    let read = tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, most)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_too_long_or_broken)) => {
            let detail = format!("the body is longer than {most} bytes, or broke off");
            Err(Box::new(answer::detail(StatusCode::PAYLOAD_TOO_LARGE, &detail)))
        }
        Err(_elapsed) => {
            Err(Box::new(answer::detail(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")))
        }
    }
}

/// What a reset asks for.
pub(super) fn reset(body: &Bytes, headers: &HeaderMap, era: Era) -> Result<Map<String, Value>, Refusal> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    let value = parse(body, headers, era)?;
    match era {
        // All that is asked is that it be an object; nothing of it is looked at.
        Era::Seed if value.is_object() => Ok(Map::new()),
        Era::Seed => Err(not_an_object(&value, "dict_type", "Input should be a valid dictionary")),
        Era::Today => {
            let given: Vec<String> =
                value.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default();
            let mut checked = check(&RESET, value)?;
            // What was not given is not passed on.
            checked.retain(|name, _| given.contains(name));
            Ok(checked)
        }
    }
}

/// What a step asks for.
pub(super) struct Step<'a> {
    pub(super) action: Cow<'a, str>,
    within: Option<Duration>,
    /// All else that stands beside the action, by name: for environments whose step takes it.
    kwargs: Map<String, Value>,
}

impl Step<'_> {
    /// What is said beside the action.
    pub(super) fn beside(&self) -> Beside<'_> {
        Beside { within: self.within, kwargs: Some(&self.kwargs) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainStep<'a> {
    #[serde(borrow)]
    action: &'a RawValue,
}

/// What a step asks for.
pub(super) fn step<'a>(body: &'a Bytes, headers: &HeaderMap, era: Era) -> Result<Step<'a>, Refusal> {
    if body.is_empty() {
        let missing = json!({"type": "missing", "loc": ["body"], "msg": "Field required", "input": null});
        return Err(Box::new(answer::mistakes(&[missing])));
    }
    // Nearly all requests are just as they should be; what is not is looked at again, for what is wrong with it.
    if is_json(headers)
        && let Ok(plain) = serde_json::from_slice::<PlainStep<'a>>(body)
        && plain.action.get().starts_with('{')
    {
        return Ok(Step { action: plain.action.get().into(), within: None, kwargs: Map::new() });
    }
    let value = parse(body, headers, era)?;
    match era {
        Era::Seed => match value {
            Value::Object(mut fields) => match fields.remove("action") {
                Some(action) => {
                    // The first clients send it with each step.
                    let within = fields.get("timeout_s").and_then(Value::as_f64).filter(|given| *given > 0.0);
                    let within = within.and_then(seconds);
                    Ok(Step { action: action.to_string().into(), within, kwargs: Map::new() })
                }
                None => Err(Box::new(answer::internal())),
            },
            other => Err(not_an_object(&other, "dict_type", "Input should be a valid dictionary")),
        },
        Era::Today => {
            let given: Vec<String> =
                value.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default();
            let mut kwargs = check(&STEP, value)?;
            let action = kwargs.remove("action").map(|action| action.to_string()).unwrap_or_default();
            let within = kwargs.get("timeout_s").and_then(Value::as_f64).and_then(seconds);
            // What was not given is not passed on.
            kwargs.retain(|name, _| given.contains(name));
            Ok(Step { action: action.into(), within, kwargs })
        }
    }
}

/// Any object, be it a step or an action by itself.
pub(super) fn object(body: &Bytes, headers: &HeaderMap, era: Era) -> Result<Map<String, Value>, Refusal> {
    match parse(body, headers, era)? {
        Value::Object(fields) => Ok(fields),
        other => Err(not_an_object(&other, "dict_type", "Input should be a valid dictionary")),
    }
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

/// What a body says that has to be just like this.
pub(super) fn checked(
    model: &Model,
    body: &Bytes,
    headers: &HeaderMap,
    era: Era,
) -> Result<Map<String, Value>, Refusal> {
    if body.is_empty() {
        let missing = json!({"type": "missing", "loc": ["body"], "msg": "Field required", "input": null});
        return Err(Box::new(answer::mistakes(&[missing])));
    }
    check(model, parse(body, headers, era)?)
}

fn check(model: &Model, value: Value) -> Result<Map<String, Value>, Refusal> {
    if !value.is_object() {
        let msg = "Input should be a valid dictionary or object to extract fields from";
        return Err(not_an_object(&value, "model_attributes_type", msg));
    }
    let in_body = |mut wrong: Wrong| {
        wrong.loc.insert(0, "body".into());
        serde_json::to_value(&wrong).unwrap_or_default()
    };
    model.check(value).map_err(|wrong| {
        let mistakes: Vec<Value> = wrong.into_iter().map(in_body).collect();
        Box::new(answer::mistakes(&mistakes))
    })
}

fn not_an_object(input: &Value, kind: &str, msg: &str) -> Refusal {
    Box::new(answer::mistakes(&[json!({"type": kind, "loc": ["body"], "msg": msg, "input": input})]))
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

/// The body as JSON; as a text where it does not say that it is JSON, which nothing takes.
fn parse(body: &Bytes, headers: &HeaderMap, era: Era) -> Result<Value, Refusal> {
    let text = String::from_utf8_lossy(body);
    if era == Era::Today && !is_json(headers) {
        return Ok(Value::String(text.into_owned()));
    }
    serde_json::from_str(&text).map_err(|_no_json| {
        let error = explain(&text);
        Box::new(answer::mistakes(&[json!({
            "type": "json_invalid", "loc": ["body", error.at], "msg": "JSON decode error", "input": {},
            "ctx": {"error": error.message},
        })]))
    })
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    #[test_case(Era::Seed, r#"{"action":{"a":1}}"#, None, &[]; "seed, an action alone")]
    #[test_case(Era::Seed, r#"{"action":{"a":1},"timeout_s":2.5}"#, Some(2.5), &[]; "seed, with a time")]
    #[test_case(Era::Seed, r#"{"action":{"a":1},"timeout_s":-1}"#, None, &[]; "seed, no time at all")]
    #[test_case(Era::Today, r#"{"action":{"a":1}}"#, None, &[]; "today, an action alone")]
    #[test_case(Era::Today, r#"{"action":{"a":1},"timeout_s":2.5,"x":1}"#, Some(2.5), &["timeout_s", "x"]; "today, with more")]
    fn what_stands_beside_an_action_is_read(era: Era, body: &str, within: Option<f64>, kwargs: &[&str]) {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json"));
        let body = Bytes::copy_from_slice(body.as_bytes());
        let Ok(step) = step(&body, &headers, era) else { panic!("refused: {body:?}") };
        assert_eq!(step.action, r#"{"a":1}"#);
        assert_eq!(step.within.map(|within| within.as_secs_f64()), within);
        let mut names: Vec<&str> = step.kwargs.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, kwargs);
    }
}
