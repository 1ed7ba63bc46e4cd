//! Around every request: its id, its span, its counters, and the line in the log.

use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::body::HttpBody as _;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hothouse_domain::id::check_name;
use tracing::{Instrument, Span};

use crate::app::App;
use crate::auth::{self, Auth};
use crate::origin;
use crate::revocable::revocable;
use crate::router::route_name;
use crate::trace;

/// Names a request in the log and in the answer; a client may choose it.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The status that is counted when the client went away before the answer.
const CLIENT_WENT_AWAY: u16 = 499;
/// Bytes of a body that come with the head of their request.
const SHORT: u64 = 4096;
/// The route of requests that fit none.
const NO_ROUTE: &str = "none";

/// Runs one request.
pub(crate) async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = request_id(&app, &request);
    let route = request.extensions().get::<MatchedPath>().and_then(|path| route_name(path.as_str()));
    let route = route.unwrap_or(NO_ROUTE);
    let span = tracing::info_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path(),
    );
    let is_long = has_long_body(&request);
    let traced = span.in_scope(|| trace::span(&request, route, id.to_str().unwrap_or_default()));
    let mut record = Record {
        app: &app,
        method: request.method().clone(),
        route,
        started: Instant::now(),
        span: &span,
        traced: &traced,
        answered: false,
    };
    let answer = async {
        if let Err(refusal) = origin::check(app.exposure, request.headers()) {
            return refusal.into_response();
        }
        match &app.auth {
            None => next.run(request).await,
            Some(auth) => run_for_caller(auth, route, request, next).await,
        }
    };
    let mut response = answer.instrument(traced.clone()).instrument(span.clone()).await;
    response.headers_mut().insert(REQUEST_ID, id);
    if is_long && response.status().is_client_error() {
        // What is left of the body is not read, so the connection serves no other request; a client that is not told
        // would send its next one on it.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    record.answered(response.status().as_u16());
    response
}

/// True for a body that may be on its way still when the request is refused.
fn has_long_body(request: &Request) -> bool {
    request.body().size_hint().upper().is_none_or(|bytes| bytes > SHORT)
}

/// Runs a request for whoever sends it, as long as they may.
async fn run_for_caller(auth: &Auth, route: &str, mut request: Request, next: Next) -> Response {
    let caller = match auth.admit(request.method(), route, request.headers()) {
        Ok(caller) => caller,
        Err(refusal) => return refusal.into_response(),
    };
    trace::tenant(caller.tenant.as_ref());
    let revoked = caller.revoked.clone();
    request.extensions_mut().insert(caller);
    tokio::select! {
        response = next.run(request) => revocable(response, revoked),
        () = revoked.cancelled() => auth::revoked().into_response(),
    }
}

/// The client's id when it is a name, or a new one.
fn request_id(app: &App, request: &Request) -> HeaderValue {
    if let Some(given) = request.headers().get(&REQUEST_ID)
        && given.to_str().is_ok_and(|text| check_name(text).is_ok())
    {
        return given.clone();
    }
    let count = app.request_count.fetch_add(1, Ordering::Relaxed);
    HeaderValue::try_from(format!("{}-{count:x}", app.request_prefix))
        .unwrap_or_else(|_| HeaderValue::from_static("none"))
}

/// Counts and logs the request when it is answered, or when its client goes away before that.
struct Record<'a> {
    app: &'a App,
    method: Method,
    route: &'static str,
    started: Instant,
    span: &'a Span,
    traced: &'a Span,
    answered: bool,
}

impl Record<'_> {
    fn answered(&mut self, status: u16) {
        self.answered = true;
        let took = self.started.elapsed();
        self.app.metrics.request(&self.method, self.route, status, took);
        let latency_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        trace::answered(self.traced, status);
        tracing::info!(parent: self.span, status, latency_us, "answered");
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.answered(CLIENT_WENT_AWAY);
        }
    }
}
