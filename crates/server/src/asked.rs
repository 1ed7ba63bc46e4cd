//! How a request asks for sandboxes: once for a key, with patience.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use hothouse_fleet::{Asked, Patience, Replay};
use hothouse_sandbox::RequestKey;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::auth::Caller;
use crate::problem::{Refusal, json_response};
use crate::query::Query;

/// Names a request: who repeats it gets what the first has made.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// `true` in the answer to such a repeat.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key, in bytes.
const MAX_KEY: usize = 255;

/// The `Idempotency-Key` of a request, if it has one.
pub(crate) struct IdempotencyKey(Option<String>);

impl FromRequestParts<App> for IdempotencyKey {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Refusal> {
        let mut keys = parts.headers.get_all(&KEY).iter();
        let Some(key) = keys.next() else { return Ok(Self(None)) };
        if keys.next().is_some() {
            return Err(Refusal::field("Idempotency-Key", "is given more than once"));
        }
        match key.to_str() {
            Ok(text) if (1..=MAX_KEY).contains(&text.len()) => Ok(Self(Some(text.to_owned()))),
            Ok(_) | Err(_) => {
                let reason = format!("is not 1 to {MAX_KEY} printable ASCII characters; a UUID will do");
                Err(Refusal::field("Idempotency-Key", reason))
            }
        }
    }
}

impl IdempotencyKey {
    /// How this request asks: what it asks for is `operation` with `body`. Takes `wait_s` and `priority` of the query.
    pub(crate) fn asked(
        self,
        caller: &Caller,
        query: &mut Query,
        operation: &str,
        body: &impl Serialize,
    ) -> Result<Asked, Refusal> {
        let wait_s = query.parsed::<f64>("wait_s")?.unwrap_or_default();
        let priority = query.parsed::<i32>("priority")?.unwrap_or_default();
        let patience = Patience::new(wait_s, priority)?;
        let request = self.0.map(|key| RequestKey { key, body: hash(operation, body) });
        Ok(Asked { tenant: caller.tenant.clone(), request, patience, environment: None })
    }
}

/// How long it waits and how urgent it is are not part of what is asked for.
fn hash(operation: &str, body: &impl Serialize) -> String {
    let mut hash = Sha256::new();
    hash.update(operation.as_bytes());
    hash.update([0]);
    // What has been read from JSON can be written as JSON.
    hash.update(serde_json::to_vec(body).unwrap_or_default());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The answer to a request that has made something.
pub(crate) fn made(body: &impl Serialize, location: &str, replay: Replay) -> Response {
    let mut response = json_response(StatusCode::CREATED, body);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(axum::http::header::LOCATION, location);
    }
    if replay == Replay::Yes {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_tells_operations_and_bodies_apart() {
        assert_eq!(hash("a", &1), hash("a", &1));
        assert_ne!(hash("a", &1), hash("a", &2));
        assert_ne!(hash("a", &1), hash("b", &1));
        assert_eq!(hash("a", &1).len(), 64);
    }
}
