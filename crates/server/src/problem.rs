//! A problem on its way out: everything that a handler can fail with becomes a problem document here.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hothouse_domain::{ErrorCode, Invalid, Problem};
use hothouse_fleet::FleetError;
use hothouse_sandbox::{ImageError, SandboxError};

/// The media type of problem documents.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was not answered as asked.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Box<Problem>, Option<Duration>);

impl Refusal {
    /// A refusal with a code and a sentence for a person.
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(code, detail)), None)
    }

    /// A field of the request, and what is wrong with it.
    pub(crate) fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Invalid::new(field, reason).into()
    }

    /// Names the field that the refusal is about.
    pub(crate) fn about(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Says when to try again.
    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.1 = Some(wait);
        self
    }

    /// A status other than the code's own, where HTTP has a finer word.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status.as_u16();
        self
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem), None)
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self(Box::new(invalid.into()), None)
    }
}

impl From<SandboxError> for Refusal {
    fn from(error: SandboxError) -> Self {
        Self(Box::new(error.problem()), None)
    }
}

impl From<ImageError> for Refusal {
    fn from(error: ImageError) -> Self {
        Self(Box::new(error.problem()), None)
    }
}

impl From<FleetError> for Refusal {
    fn from(error: FleetError) -> Self {
        Self(Box::new(error.problem()), None)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(problem, wait) = self;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::warn!(code = problem.code.as_str(), detail = %problem.detail, "request failed");
        } else {
            tracing::debug!(code = problem.code.as_str(), detail = %problem.detail, "request refused");
        }
        let mut response = json_response(status, &*problem);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if matches!(
            problem.code,
            ErrorCode::LimitExceeded
                | ErrorCode::CapacityExceeded
                | ErrorCode::QuotaExceeded
                | ErrorCode::ShuttingDown
        ) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(wait) = wait {
            // Whole seconds, and never too early.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        }
        if problem.code == ErrorCode::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON answer.
pub(crate) fn json_response(status: StatusCode, body: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            *response.status_mut() = status;
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            // Only a map with keys that are no strings or a failing Serialize gets here; the API has neither.
            tracing::error!(%error, "an answer could not be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The answer for a path that is no route.
pub(crate) async fn no_route(uri: axum::http::Uri) -> Refusal {
    let path: String = uri.path().chars().take(200).collect();
    Refusal::new(ErrorCode::NotFound, format!("no route {path}; GET /openapi.json lists them"))
}

/// The answer for a method that a route does not have; axum adds the `Allow` header.
pub(crate) async fn no_method(method: axum::http::Method, uri: axum::http::Uri) -> Refusal {
    let path: String = uri.path().chars().take(200).collect();
    Refusal::new(
        ErrorCode::MethodNotAllowed,
        format!("{path} does not take {method}; the Allow header lists what it takes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_problem_document_with_the_codes_status() {
        let response = Refusal::from(Invalid::new("resources.cpus", "is -1")).into_response();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        assert!(response.headers().get(header::RETRY_AFTER).is_none());
    }

    #[test]
    fn a_limit_says_when_to_try_again() {
        let response = Refusal::new(ErrorCode::LimitExceeded, "full").into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
