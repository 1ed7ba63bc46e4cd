//! What happens to the sandboxes of a server, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use hothouse_domain::{Event, GroupId, PoolName, Problem, SandboxId, TenantName};
use serde_json::json;

use crate::app::{App, StreamPermit};
use crate::auth::Caller;
use crate::problem::Refusal;
use crate::query::Query;

/// Events that are taken at once.
const BATCH: usize = 256;

/// Which events a follower wants: those that fit all that is named.
#[derive(Debug, Default)]
struct Filter {
    sandbox: Option<SandboxId>,
    pool: Option<PoolName>,
    group: Option<GroupId>,
    /// Whose.
    tenant: Option<TenantName>,
}

impl Filter {
    fn fits(&self, event: &Event) -> bool {
        self.sandbox.as_ref().is_none_or(|id| *id == event.sandbox_id)
            && self.pool.as_ref().is_none_or(|name| event.pool.as_ref() == Some(name))
            && self.tenant.as_ref().is_none_or(|name| event.tenant.as_ref() == Some(name))
            && self.group.as_ref().is_none_or(|id| event.group.as_ref() == Some(id))
    }
}

struct Follower {
    app: App,
    filter: Filter,
    /// The number of the last event that it has.
    at: u64,
    ready: VecDeque<Message>,
    _permit: StreamPermit,
}

/// Follow what happens to sandboxes: created, adopted, claimed, frozen, thawed, died, ended.
///
/// Begins with what happens next, or, with `Last-Event-ID` or `after`, behind that event. What is kept no more, or was of an
/// earlier server, is told of by an event `missed`; list the sandboxes then.
#[utoipa::path(get, operation_id = "events", path = "/v1/events", tag = "events", params(
    ("after" = Option<String>, Query, description = "The id of an event; `0` for the oldest that is kept"),
    ("sandbox_id" = Option<SandboxId>, Query, description = "Only of this sandbox"),
    ("pool" = Option<PoolName>, Query, description = "Only of this pool"),
    ("group" = Option<GroupId>, Query, description = "Only of this group"),
), responses(
    (status = 200, description = "Events", body = Event, content_type = "text/event-stream"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn follow(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, Refusal> {
    let after: Option<String> = query.parsed("after")?;
    let filter = Filter {
        sandbox: query.parsed("sandbox_id")?,
        pool: query.parsed("pool")?,
        group: query.parsed("group")?,
        tenant: caller.scope().cloned(),
    };
    query.finish()?;
    let resumed = match headers.get("last-event-id") {
        Some(id) => Some(("Last-Event-ID", id.to_str().unwrap_or_default().to_owned())),
        None => after.map(|id| ("after", id)),
    };
    let mut ready = VecDeque::new();
    let at = match resumed {
        None => app.node.events().latest(),
        Some((_, id)) if id == "0" => 0,
        Some((field, id)) => {
            let parsed = id.rsplit_once('-').and_then(|(server, seq)| Some((server, seq.parse().ok()?)));
            let Some((server, seq)) = parsed else {
                return Err(Refusal::field(
                    field,
                    "is not the id of an event; give one back as it came, or 0",
                ));
            };
            if server == app.request_prefix {
                seq
            } else {
                ready.push_back(missed(None));
                0
            }
        }
    };
    let permit = app.stream_permit()?;
    let heartbeat = app.limits.heartbeat;
    let follower = Follower { app, filter, at, ready, _permit: permit };
    Ok(Sse::new(messages(follower))
        .keep_alive(KeepAlive::new().interval(heartbeat).text("alive"))
        .into_response())
}

/// What tells a follower that it has not seen all.
fn missed(events: Option<u64>) -> Message {
    let body = match events {
        Some(count) => json!({ "events": count }),
        None => json!({ "reason": "another server has started since" }),
    };
    Message::default().event("missed").data(body.to_string())
}

fn messages(follower: Follower) -> impl Stream<Item = Result<Message, Infallible>> {
    futures::stream::unfold(follower, |mut follower| async move {
        loop {
            if let Some(message) = follower.ready.pop_front() {
                return Some((Ok(message), follower));
            }
            let events = follower.app.node.events().clone();
            let batch = tokio::select! {
                batch = events.after(follower.at, BATCH) => batch,
                () = follower.app.draining.cancelled() => return None,
            };
            if batch.missed > 0 {
                follower.ready.push_back(missed(Some(batch.missed)));
            }
            for event in batch.events {
                follower.at = event.seq;
                if follower.filter.fits(&event) {
                    follower.ready.push_back(message(&follower.app, &event));
                }
            }
        }
    })
}

fn message(app: &App, event: &Event) -> Message {
    let message =
        Message::default().event(event.kind.as_str()).id(format!("{}-{}", app.request_prefix, event.seq));
    match serde_json::to_string(event) {
        Ok(text) => message.data(text),
        Err(error) => {
            tracing::error!(%error, seq = event.seq, "an event could not be written as JSON");
            message.data("{}")
        }
    }
}
