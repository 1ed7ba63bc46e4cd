//! Resets, steps and states over HTTP.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use hothouse_env::Session;

use super::answer;
use super::held::Held;
use super::request;
use super::served::{For, HttpSessions, Served};

/// The cookie by which a client's session is known.
const COOKIE: &str = "openenv_session";

/// Begin an episode.
pub(super) async fn reset(For(served): For, headers: HeaderMap, body: Body) -> Response {
    let era = served.settings.era;
    let body = match request::read(body, served.settings.message_bytes).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let given = match request::reset(&body, &headers, era) {
        Ok(given) => given,
        Err(refusal) => return *refusal,
    };
    with_session(&served, &headers, async |session| match session.reset(given).await {
        Ok(observed) => answer::observed(observed, era),
        Err(error) => answer::failed(&error, era),
    })
    .await
}

/// Take a step.
pub(super) async fn step(For(served): For, headers: HeaderMap, body: Body) -> Response {
    let era = served.settings.era;
    let body = match request::read(body, served.settings.message_bytes).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let step = match request::step(&body, &headers, era) {
        Ok(step) => step,
        Err(refusal) => return *refusal,
    };
    with_session(&served, &headers, async |session| {
        match session.step(&step.action, None, step.beside()).await {
            Ok(stepped) => answer::observed(stepped.observed, era),
            Err(error) => answer::failed(&error, era),
        }
    })
    .await
}

/// Where the episode is.
pub(super) async fn state(For(served): For, headers: HeaderMap) -> Response {
    let era = served.settings.era;
    with_session(&served, &headers, async |session| match session.state().await {
        Ok(state) => answer::json(StatusCode::OK, state),
        Err(error) => answer::failed(&error, era),
    })
    .await
}

/// Does something with the session that a request is for.
async fn with_session(
    served: &Arc<Served>,
    headers: &HeaderMap,
    act: impl AsyncFnOnce(&mut Session) -> Response,
) -> Response {
    let era = served.settings.era;
    match served.settings.http_sessions {
        HttpSessions::Stateless => match served.open().await {
            Ok(mut session) => {
                let response = act(&mut session).await;
                session.close().await;
                response
            }
            Err(error) => answer::not_opened(&error, era),
        },
        HttpSessions::Shared => {
            let mut shared = served.shared.lock().await;
            if shared.as_ref().is_none_or(Session::is_lost) {
                match served.open().await {
                    Ok(session) => *shared = Some(session),
                    Err(error) => return answer::not_opened(&error, era),
                }
            }
            match shared.as_mut() {
                Some(session) => act(session).await,
                None => answer::internal(),
            }
        }
        HttpSessions::PerClient => {
            served.held.reap();
            let known = cookie(headers).and_then(|id| served.held.find(id));
            let (held, is_new) = match known {
                Some(held) => (held, false),
                None => match open_for_client(served).await {
                    Ok(held) => (held, true),
                    Err(refusal) => return *refusal,
                },
            };
            let mut session = held.session.lock().await;
            let mut response = act(&mut session).await;
            if session.is_lost() {
                served.held.close(&held.id);
            } else if is_new
                && let Ok(cookie) = HeaderValue::try_from(format!("{COOKIE}={}; Path=/; HttpOnly", held.id))
            {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            drop(session);
            held.touch();
            response
        }
    }
}

async fn open_for_client(served: &Arc<Served>) -> Result<Arc<Held>, Box<Response>> {
    let place = served.places.take(1).await.map_err(|full| {
        let mut response = answer::detail(StatusCode::SERVICE_UNAVAILABLE, &full.to_string());
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        Box::new(response)
    })?;
    let opened = served.open().await;
    let session = opened.map_err(|error| Box::new(answer::not_opened(&error, served.settings.era)))?;
    Ok(served.held.keep(session, Some(place)))
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|line| line.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}

/// The answer for a path that is no route.
pub(super) async fn no_route(State(_): State<super::Openenv>, headers: HeaderMap) -> Response {
    if headers.contains_key(header::UPGRADE) {
        return answer::detail(StatusCode::FORBIDDEN, "there is no WebSocket at this path");
    }
    answer::detail(StatusCode::NOT_FOUND, "Not Found")
}

/// The answer for a method that a route does not have; axum adds the `Allow` header.
pub(super) async fn no_method(State(_): State<super::Openenv>) -> Response {
    answer::detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

/// A HEAD is no GET with these servers.
pub(super) async fn without_head(request: Request, next: Next) -> Response {
    let is_head = request.method() == Method::HEAD;
    let mut response = next.run(request).await;
    if is_head && response.status().is_success() {
        response = answer::detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    } else if response.headers().get(header::ALLOW).is_some_and(|allow| allow == "GET,HEAD") {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    }
    response
}
