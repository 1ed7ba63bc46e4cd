//! The page's API: one session of the environment for all who ask, and a WebSocket that tells them what happens in it.
//!
//! ```text
//! POST web/reset {fields}    POST web/step {"action": {…}} or the action itself    GET web/state
//! WS   ws/ui                 {"type":"state_update","episode_state":{…}} at once and whenever something happened
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use hothouse_env::{Beside, Era, Observed, Session, StepError};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::dialects::openenv::answer;
use crate::dialects::openenv::request;
use crate::dialects::openenv::served::{For, Openenv, Served};
use crate::dialects::openenv::socket::{self, End, Line};

/// Steps that are remembered.
const MOST_STEPS: usize = 1000;
/// Bytes of what is remembered; the last step is, however large.
const MOST_BYTES: usize = 4 << 20;

/// The session that all who use the page's API share.
#[derive(Debug)]
pub(in crate::dialects::openenv) struct Shared {
    session: tokio::sync::Mutex<Option<Session>>,
    episode: Mutex<Episode>,
    /// What is told to those who follow.
    told: watch::Sender<Arc<str>>,
}

impl Default for Shared {
    fn default() -> Self {
        let told = watch::Sender::new(Arc::from(""));
        Self { session: tokio::sync::Mutex::default(), episode: Mutex::default(), told }
    }
}

/// What is known of the episode, as JSON texts.
#[derive(Debug, Default)]
struct Episode {
    id: Option<String>,
    steps: u64,
    observation: Option<Box<RawValue>>,
    log: VecDeque<Arc<str>>,
    log_bytes: usize,
    at: At,
}

/// Where the episode is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At its beginning.
    #[default]
    Reset,
    Step,
}

/// What a session says of its episode.
#[derive(Debug, Default, Deserialize)]
struct Place {
    #[serde(default)]
    episode_id: Option<String>,
    #[serde(default)]
    step_count: u64,
}

/// The observation among what is sent.
#[derive(Deserialize)]
struct Sent<'a> {
    #[serde(borrow)]
    observation: &'a RawValue,
}

impl Episode {
    fn begin(&mut self, place: Place, observation: Option<Box<RawValue>>) {
        *self = Self { id: place.episode_id, steps: place.step_count, observation, ..Self::default() };
    }

    fn go_on(&mut self, place: Place, observation: Option<Box<RawValue>>, action: &str, sent: &str) {
        (self.steps, self.observation, self.at) = (place.step_count, observation, At::Step);
        self.id = place.episode_id;
        let now = jiff::Timestamp::now();
        let entry =
            format!(r#"{{"timestamp":"{now}","action":{action},{sent},"step_count":{}}}"#, self.steps);
        self.log_bytes += entry.len();
        self.log.push_back(entry.into());
        while self.log.len() > MOST_STEPS || (self.log_bytes > MOST_BYTES && self.log.len() > 1) {
            let forgotten = self.log.pop_front().map_or(0, |entry| entry.len());
            self.log_bytes -= forgotten;
        }
    }

    fn told(&self) -> Arc<str> {
        let id = Value::from(self.id.as_deref());
        let observation = self.observation.as_ref().map_or("null", |observation| observation.get());
        let log: Vec<&str> = self.log.iter().map(AsRef::as_ref).collect();
        let is_reset = self.at == At::Reset;
        format!(
            r#"{{"type":"state_update","episode_state":{{"episode_id":{id},"step_count":{},"current_observation":{observation},"action_logs":[{}],"is_reset":{is_reset}}}}}"#,
            self.steps,
            log.join(",")
        )
        .into()
    }
}

impl Shared {
    fn episode(&self) -> std::sync::MutexGuard<'_, Episode> {
        self.episode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what happened, and tells those who follow.
    fn note(&self, note: impl FnOnce(&mut Episode)) {
        let mut episode = self.episode();
        note(&mut episode);
        // A long log is put together for somebody only.
        if self.told.receiver_count() > 0 {
            self.told.send_replace(episode.told());
        }
    }
}

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
    in_session(&served, async |session| {
        let (response, sent) = match session.reset(given).await {
            Ok(observed) => (answer::observed(observed, era), sent(observed, era)),
            Err(error) => return failed(&error, era),
        };
        let place = place(session).await;
        served.page.note(|episode| episode.begin(place, observation(&sent)));
        response
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
    let action = match request::object(&body, &headers, era) {
        Ok(given) => action(given),
        Err(refusal) => return *refusal,
    };
    in_session(&served, async |session| {
        let (response, sent) = match session.step(&action, None, Beside::default()).await {
            Ok(stepped) => (answer::observed(stepped.observed, era), sent(stepped.observed, era)),
            Err(error) => return failed(&error, era),
        };
        let place = place(session).await;
        served.page.note(|episode| episode.go_on(place, observation(&sent), &action, &sent));
        response
    })
    .await
}

/// Where the episode is.
pub(super) async fn state(For(served): For) -> Response {
    in_session(&served, async |session| match session.state().await {
        Ok(state) => answer::json(StatusCode::OK, state),
        Err(error) => answer::detail(StatusCode::CONFLICT, &answer::with_traceback(&error)),
    })
    .await
}

/// Be told what happens.
pub(super) async fn follow(
    For(served): For,
    State(openenv): State<Openenv>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else { return answer::detail(StatusCode::NOT_FOUND, "Not Found") };
    let tasks = openenv.sockets().clone();
    socket::bounded(upgrade, &served).on_upgrade(move |socket| {
        tasks.track_future(async move {
            let mut line = Line::without_session(socket, &served, &openenv);
            let end = tell(&mut line, &served.page).await;
            line.say_goodbye(end).await;
        })
    })
}

async fn tell(line: &mut Line, page: &Shared) -> End {
    // Before the first look, so that nothing happens in between.
    let mut told = page.told.subscribe();
    let mut now = page.episode().told();
    loop {
        if let Err(end) = line.send(now.as_ref().to_owned()).await {
            return end;
        }
        now = loop {
            tokio::select! {
                // What the client says is of no meaning here; it shows that it is there.
                heard = line.next() => if let Err(end) = heard { return end },
                Ok(()) = told.changed() => break told.borrow_and_update().clone(),
            }
        };
    }
}

/// Does something with the session, opening it if need be.
async fn in_session(served: &Arc<Served>, act: impl AsyncFnOnce(&mut Session) -> Response) -> Response {
    let mut shared = served.page.session.lock().await;
    if shared.as_ref().is_none_or(Session::is_lost) {
        match served.open().await {
            Ok(session) => *shared = Some(session),
            Err(error) => return answer::not_opened(&error, served.settings.era),
        }
        served.page.note(|episode| *episode = Episode::default());
    }
    match shared.as_mut() {
        Some(session) => act(session).await,
        None => answer::internal(),
    }
}

/// The action of a step: in `action`, or all that was sent.
fn action(given: Map<String, Value>) -> String {
    match given.get("action") {
        Some(action @ Value::Object(_)) => action.to_string(),
        _ => Value::Object(given).to_string(),
    }
}

/// An action that cannot be taken is a failure of the server's here, as it was with OpenEnv's page; what is wrong is said.
fn failed(error: &StepError, era: Era) -> Response {
    let mut response = answer::failed(error, era);
    if matches!(error, StepError::Invalid(_)) {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    response
}

/// `"observation":…,"reward":…,"done":…`.
fn sent(observed: &Observed, era: Era) -> String {
    let mut sent = Vec::with_capacity(observed.size() + 64);
    observed.write(era, observed.reward.coerced(), &mut sent);
    String::from_utf8(sent).unwrap_or_default()
}

fn observation(sent: &str) -> Option<Box<RawValue>> {
    let sent = format!("{{{sent}}}");
    serde_json::from_str(&sent).ok().map(|Sent { observation }| observation.to_owned())
}

/// Where the episode is, as far as the environment says.
async fn place(session: &mut Session) -> Place {
    let state = match session.state().await {
        Ok(state) => state,
        Err(error) => {
            tracing::debug!(%error, "the page is not told where the episode is");
            return Place::default();
        }
    };
    serde_json::from_slice(&state).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(step_count: u64) -> Place {
        Place { episode_id: Some("e".to_owned()), step_count }
    }

    fn step(episode: &mut Episode, number: u64, text: &str) {
        let sent = format!(r#""observation":{{"text":"{text}"}},"reward":1.0,"done":false"#);
        episode.go_on(place(number), observation(&sent), "{}", &sent);
    }

    fn told(episode: &Episode) -> Value {
        serde_json::from_str::<Value>(&episode.told()).unwrap()["episode_state"].take()
    }

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_in_bytes() {
        let mut episode = Episode::default();
        for number in 1..=1500 {
            step(&mut episode, number, "x");
        }
        let log = told(&episode)["action_logs"].as_array().unwrap().clone();
        assert_eq!(
            (log.len(), &log[0]["step_count"], &log[999]["step_count"]),
            (1000, &501.into(), &1500.into())
        );
        let large = "x".repeat(MOST_BYTES / 2);
        for number in 1501..=1504 {
            step(&mut episode, number, &large);
            assert!(episode.log_bytes <= MOST_BYTES);
            assert_eq!(episode.log_bytes, episode.log.iter().map(|entry| entry.len()).sum::<usize>());
        }
        step(&mut episode, 1505, &"x".repeat(MOST_BYTES * 2));
        assert_eq!(told(&episode)["action_logs"].as_array().unwrap().len(), 1, "the last one is there");
    }

    #[test]
    fn an_episode_is_told_as_it_is() {
        let mut episode = Episode::default();
        let fresh = told(&episode);
        assert!(fresh["episode_id"].is_null() && fresh["current_observation"].is_null(), "{fresh}");
        episode.begin(place(0), observation(r#""observation":{"a":1},"reward":null,"done":false"#));
        assert_eq!(told(&episode)["current_observation"]["a"], 1);
        assert_eq!(told(&episode)["is_reset"], true);
        step(&mut episode, 1, "é");
        let after = told(&episode);
        assert_eq!((&after["is_reset"], &after["step_count"]), (&false.into(), &1.into()));
        assert_eq!(after["action_logs"][0]["observation"]["text"], "é");
        assert_eq!(after["action_logs"][0]["reward"], 1.0);
    }

    #[test]
    fn an_action_may_come_by_itself() {
        let of = |text: &str| action(serde_json::from_str(text).unwrap());
        assert_eq!(of(r#"{"action":{"message":"x"}}"#), r#"{"message":"x"}"#);
        assert_eq!(of(r#"{"message":"x"}"#), r#"{"message":"x"}"#);
        assert_eq!(
            of(r#"{"action":"UP"}"#),
            r#"{"action":"UP"}"#,
            "grid_world's action has a field of that name"
        );
    }
}
