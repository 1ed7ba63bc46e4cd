//! Answers over HTTP, byte for byte as these servers give them.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hothouse_env::model::Wrong;
use hothouse_env::{Era, Observed, OpenError, StepError};
use serde_json::{Value, json};

/// Where pydantic explains a kind of mistake; the version is that of the servers that we were compared with.
const EXPLAINED: &str = "https://errors.pydantic.dev/2.14/v/";

/// A JSON body.
pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A JSON value.
pub(super) fn value(status: StatusCode, value: &Value) -> Response {
    json(status, value.to_string().into_bytes())
}

/// `{"detail": …}`.
pub(super) fn detail(status: StatusCode, detail: &str) -> Response {
    value(status, &json!({"detail": detail}))
}

/// `{"detail": [mistakes]}`.
pub(super) fn mistakes(mistakes: &[Value]) -> Response {
    value(StatusCode::UNPROCESSABLE_ENTITY, &json!({"detail": mistakes}))
}

/// A mistake with where it is explained.
pub(super) fn explained(wrong: &Wrong) -> Value {
    let mut value = serde_json::to_value(wrong).unwrap_or_default();
    value["url"] = format!("{EXPLAINED}{}", wrong.kind).into();
    value
}

/// What the first servers say when anything at all goes wrong.
pub(super) fn internal() -> Response {
    let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (StatusCode::INTERNAL_SERVER_ERROR, plain, "Internal Server Error").into_response()
}

/// What came of a reset or a step.
pub(super) fn observed(observed: &Observed, era: Era) -> Response {
    let mut body = Vec::with_capacity(observed.size() * 2 + 96);
    body.push(b'{');
    observed.write(era, observed.reward.coerced(), &mut body);
    if era == Era::Today {
        body.extend_from_slice(b",\"metadata\":");
        body.extend_from_slice(observed.metadata().unwrap_or(b"null"));
    }
    body.push(b'}');
    json(StatusCode::OK, body)
}

/// Why a step or a reset gave nothing.
pub(super) fn failed(error: &StepError, era: Era) -> Response {
    if era == Era::Seed {
        tracing::debug!(%error, "answered as internal server error");
        return internal();
    }
    let status = match error {
        StepError::Invalid(wrong) => return mistakes(&wrong.iter().map(explained).collect::<Vec<_>>()),
        StepError::NotReset | StepError::Over | StepError::StepIdReused(_) => StatusCode::CONFLICT,
        StepError::NotSupported { .. } => StatusCode::NOT_IMPLEMENTED,
        StepError::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        StepError::Failed(_) | StepError::TooLarge { .. } | StepError::Lost(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    detail(status, &with_traceback(error))
}

/// The reason, and where in the author's code it came from.
pub(super) fn with_traceback(error: &StepError) -> String {
    match error {
        StepError::Failed(failed) => {
            if let Some(traceback) = &failed.traceback {
                tracing::warn!(error = failed.message, traceback, "an environment failed");
            }
            failed.message.clone()
        }
        other => other.to_string(),
    }
}

/// Why no session could be opened.
pub(super) fn not_opened(error: &OpenError, era: Era) -> Response {
    tracing::warn!(%error, traceback = error.traceback.as_deref().unwrap_or_default(), "no session");
    if era == Era::Seed {
        return internal();
    }
    let mut body = json!({"detail": error.message});
    if let Some(traceback) = &error.traceback {
        body["traceback"] = traceback.as_str().into();
    }
    value(StatusCode::INTERNAL_SERVER_ERROR, &body)
}
