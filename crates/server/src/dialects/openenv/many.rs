//! Our own additions to `/ws`, for clients that ask for the subprotocol: many sessions on a connection, ids of requests,
//! steps taken exactly once, batches, forks and checkpoints. `docs/environments.md` describes the messages.
//!
//! A session is either here, idle, or on its way with one job; further jobs for it wait in its queue. What plays in
//! memory is never on its way: its jobs are done at once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use axum::extract::ws::close_code;
use axum::http::HeaderValue;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hothouse_env::{Arrays, Beside, Place, Session};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::message::{self, Codes, Error};
use super::served::Served;
use super::socket::{End, Line};

mod batch;
mod incoming;

use batch::Batches;
use incoming::{Incoming, Order};

/// What clients ask for, best first.
pub(super) const PROTOCOLS: [&str; 1] = ["hothouse.env.v1"];
/// Jobs that wait for one session.
const QUEUE: usize = 256;
/// Checkpoints that a connection keeps.
const CHECKPOINTS: usize = 1024;
/// Steps in memory between looks at what else there is to do.
const STEPS_AT_ONCE: usize = 1024;

/// True when the client asked for this.
pub(super) fn is_spoken(protocol: &HeaderValue) -> bool {
    PROTOCOLS.iter().any(|known| protocol == known)
}

/// What to do with a session.
#[derive(Debug)]
enum Job {
    Reset(Map<String, Value>),
    Step { action: String, step_id: Option<String> },
    State,
    Fork(usize),
    Checkpoint,
    Restore(Arc<Mutex<Session>>),
}

/// Who is to be told.
#[derive(Debug, Clone)]
enum Reply {
    /// The client, by a message with this `request_id`, if any.
    Single(Option<Arc<str>>),
    /// A batch, at this place in it.
    Batch { batch: u64, at: usize },
}

/// What came of a job.
#[derive(Debug)]
enum Outcome {
    /// An observation, as JSON.
    Observed {
        json: Vec<u8>,
        replayed: bool,
    },
    State(Vec<u8>),
    Forked(Vec<Session>),
    Kept(Box<Session>),
    Restored,
    Failed(Error),
}

struct Done {
    number: u32,
    session: Box<Session>,
    outcome: Outcome,
    reply: Reply,
}

/// A session of the connection.
struct Slot {
    /// `None` while it is on its way.
    session: Option<Box<Session>>,
    waiting: VecDeque<(Job, Reply)>,
    /// To be closed when it comes back, and who is to be told.
    closing: Option<Reply>,
    place: Place,
}

struct Many {
    line: Line,
    served: Arc<Served>,
    slots: BTreeMap<u32, Slot>,
    next: u32,
    kept: HashMap<String, Arc<Mutex<Session>>>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    batches: Batches,
    out: Vec<u8>,
}

/// Answers a client that asked for the subprotocol.
pub(super) async fn serve(line: Line, served: Arc<Served>) {
    let mut many = Many {
        line,
        served,
        slots: BTreeMap::new(),
        next: 0,
        kept: HashMap::new(),
        running: FuturesUnordered::new(),
        batches: Batches::default(),
        out: Vec::new(),
    };
    let end = many.run().await;
    let Many { line, slots, running, .. } = many;
    // What is on its way has nobody to come back to.
    drop(running);
    for session in slots.into_values().filter_map(|slot| slot.session) {
        session.close().await;
    }
    line.say_goodbye(end).await;
}

impl Many {
    async fn run(&mut self) -> End {
        loop {
            let step = tokio::select! {
                biased;
                Some(done) = self.running.next() => self.finish(done).await,
                text = self.line.next() => match text {
                    Ok(text) => {
                        self.line.touch();
                        self.take(&text).await
                    }
                    Err(end) => Err(end),
                },
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Does what a message says, or sees to it that it is done.
    async fn take(&mut self, text: &str) -> Result<(), End> {
        let Incoming { order, request_id } = match incoming::parse(text) {
            Ok(incoming) => incoming,
            Err((error, request_id)) => return self.tell_error(&error, None, request_id.as_deref()).await,
        };
        let reply = Reply::Single(request_id.clone());
        match order {
            Order::Open { count, arrays } => self.open(count, arrays, request_id.as_deref()).await,
            Order::Reset { session, given } => self.order(session, Job::Reset(given), reply).await,
            Order::Step { session, action, step_id } => {
                self.order(session, Job::Step { action: action.to_owned(), step_id }, reply).await
            }
            Order::State { session } => self.order(session, Job::State, reply).await,
            Order::Fork { session, count } => self.order(session, Job::Fork(count), reply).await,
            Order::Checkpoint { session } => self.order(session, Job::Checkpoint, reply).await,
            Order::Restore { session, checkpoint_id } => match self.kept.get(&checkpoint_id) {
                Some(kept) => {
                    let job = Job::Restore(Arc::clone(kept));
                    self.order(session, job, reply).await
                }
                None => {
                    let message = format!("this connection has no checkpoint {checkpoint_id:?}");
                    let error = Error::new("UNKNOWN_CHECKPOINT", message);
                    self.tell_error(&error, session, request_id.as_deref()).await
                }
            },
            Order::Close { session } => self.close(session, request_id).await,
            Order::ResetBatch { sessions, given } => match self.several(sessions) {
                Ok(numbers) => self.reset_batch(numbers, given, request_id).await,
                Err(error) => self.tell_error(&error, None, request_id.as_deref()).await,
            },
            Order::StepBatch { sessions, actions } => match self.several(sessions) {
                Ok(numbers) if numbers.len() == actions.len() => {
                    self.step_batch(&numbers, &actions, request_id).await
                }
                Ok(numbers) => {
                    let message = format!("{} actions for {} sessions", actions.len(), numbers.len());
                    let error = Error::new("VALIDATION_ERROR", message);
                    self.tell_error(&error, None, request_id.as_deref()).await
                }
                Err(error) => self.tell_error(&error, None, request_id.as_deref()).await,
            },
        }
    }

    /// Opens all of them or none.
    async fn open(&mut self, count: usize, arrays: Arrays, request_id: Option<&str>) -> Result<(), End> {
        self.served.held.reap();
        let served = Arc::clone(&self.served);
        let taken = self.line.while_listening(served.places.take(count)).await?;
        let mut places = match taken {
            Ok(places) => places,
            Err(full) => return self.tell_error(&full.into(), None, request_id).await,
        };
        let opening = (0..count).map(|_| served.open_with(arrays));
        // In order, so many at once: what is made elsewhere takes a while.
        let opening = futures::stream::iter(opening).buffered(16).collect::<Vec<_>>();
        let opened = self.line.while_listening(opening).await?;
        let mut sessions = Vec::with_capacity(count);
        let mut failure = None;
        for result in opened {
            match result {
                Ok(session) => sessions.push(session),
                Err(error) => failure = Some(message::open_error(&error, &self.served.environment.class)),
            }
        }
        if let Some(error) = failure {
            for session in sessions {
                session.close().await;
            }
            return self.tell_error(&error, None, request_id).await;
        }
        let numbers = self.seat(sessions, &mut places);
        self.tell_opened(&numbers, request_id).await
    }

    fn seat(&mut self, sessions: Vec<Session>, places: &mut Place) -> Vec<u32> {
        let mut numbers = Vec::with_capacity(sessions.len());
        for session in sessions {
            // There is one for each.
            let Some(place) = places.split_one() else { break };
            let slot =
                Slot { session: Some(Box::new(session)), waiting: VecDeque::new(), closing: None, place };
            self.slots.insert(self.next, slot);
            numbers.push(self.next);
            self.next += 1;
        }
        numbers
    }

    /// The session that is meant, where only one can be.
    fn one(&self, session: Option<u32>) -> Result<u32, Error> {
        match session {
            Some(number) if self.slots.contains_key(&number) => Ok(number),
            Some(number) => Err(unknown(number)),
            None => match (self.slots.len(), self.slots.keys().next()) {
                (1, Some(only)) => Ok(*only),
                (0, _) => {
                    Err(Error::new("UNKNOWN_SESSION", "no session is open; send {\"type\":\"open\"} first"))
                }
                (many, _) => Err(Error::new(
                    "UNKNOWN_SESSION",
                    format!("{many} sessions are open; say which with \"session\""),
                )),
            },
        }
    }

    fn several(&self, sessions: Option<Vec<u32>>) -> Result<Vec<u32>, Error> {
        let Some(numbers) = sessions else { return Ok(self.slots.keys().copied().collect()) };
        let mut seen = std::collections::HashSet::with_capacity(numbers.len());
        for number in &numbers {
            if !self.slots.contains_key(number) {
                return Err(unknown(*number));
            }
            if !seen.insert(*number) {
                return Err(Error::new("VALIDATION_ERROR", format!("session {number} is named twice")));
            }
        }
        Ok(numbers)
    }

    async fn order(&mut self, session: Option<u32>, job: Job, reply: Reply) -> Result<(), End> {
        let number = match self.one(session) {
            Ok(number) => number,
            Err(error) => return self.answer(session, Outcome::Failed(error), reply).await,
        };
        match self.start(number, job, reply) {
            Started::Running => Ok(()),
            Started::Refused(error, reply) => self.answer(Some(number), Outcome::Failed(error), reply).await,
            Started::Inline(session, job, reply) => {
                let mut session = session;
                let outcome = perform(&mut session, job).await;
                self.finish(Done { number, session, outcome, reply }).await
            }
        }
    }

    /// Sends a session on its way with a job, or lets the job wait for it.
    fn start(&mut self, number: u32, job: Job, reply: Reply) -> Started {
        let Some(slot) = self.slots.get_mut(&number) else { return Started::Refused(unknown(number), reply) };
        if slot.closing.is_some() {
            return Started::Refused(unknown(number), reply);
        }
        match slot.session.take() {
            None if slot.waiting.len() < QUEUE => {
                slot.waiting.push_back((job, reply));
                Started::Running
            }
            None => {
                let message =
                    format!("{QUEUE} messages wait for session {number} already; wait for its answers");
                Started::Refused(Error::new("TOO_MANY_REQUESTS", message), reply)
            }
            Some(session) if session.is_in_memory() => Started::Inline(session, job, reply),
            Some(mut session) => {
                self.running.push(Box::pin(async move {
                    let outcome = perform(&mut session, job).await;
                    Done { number, session, outcome, reply }
                }));
                Started::Running
            }
        }
    }

    /// A session is back.
    async fn finish(&mut self, done: Done) -> Result<(), End> {
        let Done { number, session, outcome, reply } = done;
        let is_lost = session.is_lost();
        let mut next = None;
        let mut closing = None;
        match self.slots.get_mut(&number) {
            Some(slot) => {
                slot.session = Some(session);
                closing = slot.closing.take();
                next = slot.waiting.pop_front();
            }
            // Its slot was given up with the connection's; nobody waits for it.
            None => session.close().await,
        }
        self.answer(Some(number), outcome, reply).await?;
        if is_lost {
            self.lose(number, next).await?;
        } else if let Some((job, reply)) = next {
            Box::pin(self.order(Some(number), job, reply)).await?;
        }
        if let Some(Reply::Single(request_id)) = closing {
            self.close_idle(number).await;
            self.tell_closed(number, request_id.as_deref()).await?;
        }
        Ok(())
    }

    /// A session can do nothing any more: its place is free, and whoever waits for it is told.
    async fn lose(&mut self, number: u32, next: Option<(Job, Reply)>) -> Result<(), End> {
        let Some(slot) = self.slots.remove(&number) else { return Ok(()) };
        for (_, reply) in next.into_iter().chain(slot.waiting) {
            let error = Error::new("SESSION_LOST", format!("session {number} was lost before this was done"));
            self.answer(Some(number), Outcome::Failed(error), reply).await?;
        }
        Ok(())
    }

    async fn close(&mut self, session: Option<u32>, request_id: Option<Arc<str>>) -> Result<(), End> {
        if session.is_none() && self.slots.len() != 1 {
            return Err(End::Closed { code: close_code::NORMAL, reason: "" });
        }
        let number = match self.one(session) {
            Ok(number) => number,
            Err(error) => return self.tell_error(&error, session, request_id.as_deref()).await,
        };
        if let Some(slot) = self.slots.get_mut(&number)
            && slot.session.is_none()
        {
            slot.closing = Some(Reply::Single(request_id));
            return Ok(());
        }
        self.close_idle(number).await;
        self.tell_closed(number, request_id.as_deref()).await
    }

    async fn close_idle(&mut self, number: u32) {
        if let Some(Slot { session: Some(session), place, .. }) = self.slots.remove(&number) {
            session.close().await;
            drop(place);
        }
    }

    /// Tells what came of a job.
    async fn answer(&mut self, number: Option<u32>, outcome: Outcome, reply: Reply) -> Result<(), End> {
        let request_id = match reply {
            Reply::Batch { batch, at } => {
                return match self.batches.put(batch, at, outcome) {
                    Some((text, request_id)) => {
                        let mut out = text;
                        envelope_end(&mut out, None, false, request_id.as_deref());
                        self.send(out).await
                    }
                    None => Ok(()),
                };
            }
            Reply::Single(request_id) => request_id,
        };
        let request_id = request_id.as_deref();
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let mut was_replayed = false;
        match outcome {
            Outcome::Observed { json, replayed } => {
                out.extend_from_slice(br#"{"type":"observation","data":"#);
                out.extend_from_slice(&json);
                was_replayed = replayed;
            }
            Outcome::State(state) => {
                out.extend_from_slice(br#"{"type":"state","data":"#);
                out.extend_from_slice(&state);
            }
            Outcome::Failed(error) => return self.tell_error(&error, number, request_id).await,
            Outcome::Forked(sessions) => return self.tell_forked(sessions, number, request_id).await,
            Outcome::Kept(session) => {
                if self.kept.len() >= CHECKPOINTS {
                    let message =
                        format!("{CHECKPOINTS} checkpoints are kept already, the most of a connection");
                    let error = Error::new("TOO_MANY_REQUESTS", message);
                    return self.tell_error(&error, number, request_id).await;
                }
                let id = uuid::Uuid::new_v4().to_string();
                out.extend_from_slice(
                    format!(r#"{{"type":"checkpoint","data":{{"checkpoint_id":"{id}"}}"#).as_bytes(),
                );
                self.kept.insert(id, Arc::new(Mutex::new(*session)));
            }
            Outcome::Restored => out.extend_from_slice(br#"{"type":"restored""#),
        }
        envelope_end(&mut out, number, was_replayed, request_id);
        self.send(out).await
    }

    async fn tell_forked(
        &mut self,
        sessions: Vec<Session>,
        number: Option<u32>,
        request_id: Option<&str>,
    ) -> Result<(), End> {
        match self.served.places.take(sessions.len()).await {
            Ok(mut places) => {
                let numbers = self.seat(sessions, &mut places);
                self.tell_opened(&numbers, request_id).await
            }
            Err(full) => {
                for session in sessions {
                    session.close().await;
                }
                self.tell_error(&full.into(), number, request_id).await
            }
        }
    }

    async fn tell_opened(&mut self, numbers: &[u32], request_id: Option<&str>) -> Result<(), End> {
        let numbers = serde_json::json!(numbers);
        let mut out = format!(r#"{{"type":"opened","data":{{"sessions":{numbers}}}"#).into_bytes();
        envelope_end(&mut out, None, false, request_id);
        self.send(out).await
    }

    async fn tell_closed(&mut self, number: u32, request_id: Option<&str>) -> Result<(), End> {
        let mut out = format!(r#"{{"type":"closed","data":{{"session":{number}}}"#).into_bytes();
        envelope_end(&mut out, None, false, request_id);
        self.send(out).await
    }

    async fn tell_error(
        &mut self,
        error: &Error,
        number: Option<u32>,
        request_id: Option<&str>,
    ) -> Result<(), End> {
        let mut out = format!(r#"{{"type":"error","data":{}"#, error.data()).into_bytes();
        envelope_end(&mut out, number, false, request_id);
        self.send(out).await
    }

    async fn send(&mut self, text: Vec<u8>) -> Result<(), End> {
        let sent = self.line.send_bytes(&text).await;
        self.out = text;
        sent
    }
}

/// What became of an order.
enum Started {
    /// It is on its way, or waits.
    Running,
    /// It is to be done here and now.
    Inline(Box<Session>, Job, Reply),
    Refused(Error, Reply),
}

fn unknown(number: u32) -> Error {
    Error::new(
        "UNKNOWN_SESSION",
        format!("this connection has no session {number}; it was closed, or never opened"),
    )
}

/// Ends a message: whose it is, and which request it answers.
fn envelope_end(out: &mut Vec<u8>, number: Option<u32>, replayed: bool, request_id: Option<&str>) {
    use std::io::Write as _;
    // Writing to memory does not fail.
    if let Some(number) = number {
        _ = write!(out, ",\"session\":{number}");
    }
    if replayed {
        out.extend_from_slice(b",\"replayed\":true");
    }
    if let Some(id) = request_id {
        _ = write!(out, ",\"request_id\":{id}");
    }
    out.push(b'}');
}

/// Does a job.
async fn perform(session: &mut Session, job: Job) -> Outcome {
    let failed = |error| Outcome::Failed(message::step_error(&error, Codes::Ours));
    match job {
        Job::Reset(given) => match session.reset(given).await {
            Ok(observed) => {
                let mut json = Vec::with_capacity(observed.size() * 2 + 64);
                message::result(observed, &mut json);
                Outcome::Observed { json, replayed: false }
            }
            Err(error) => failed(error),
        },
        Job::Step { action, step_id } => {
            match session.step(&action, step_id.as_deref(), Beside::default()).await {
                Ok(stepped) => {
                    let mut json = Vec::with_capacity(stepped.observed.size() * 2 + 64);
                    message::result(stepped.observed, &mut json);
                    Outcome::Observed { json, replayed: stepped.replayed }
                }
                Err(error) => failed(error),
            }
        }
        Job::State => session.state().await.map_or_else(failed, Outcome::State),
        Job::Fork(count) => {
            let mut copies = Vec::with_capacity(count);
            while copies.len() < count {
                match session.fork().await {
                    Ok(copy) => copies.push(copy),
                    Err(error) => {
                        for copy in copies {
                            copy.close().await;
                        }
                        return failed(error);
                    }
                }
            }
            Outcome::Forked(copies)
        }
        Job::Checkpoint => session.fork().await.map_or_else(failed, |copy| Outcome::Kept(Box::new(copy))),
        Job::Restore(kept) => {
            let mut kept = kept.lock().await;
            session.restore(&mut kept).await.map_or_else(failed, |()| Outcome::Restored)
        }
    }
}
