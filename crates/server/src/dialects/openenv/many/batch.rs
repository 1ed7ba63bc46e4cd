//! Batches: one message for many sessions, one answer.

use std::collections::HashMap;
use std::sync::Arc;

use hothouse_env::{Beside, Session};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::incoming::Given;
use super::{Job, Many, Outcome, Reply, STEPS_AT_ONCE, envelope_end};
use crate::dialects::openenv::message::{self, Codes, Error};
use crate::dialects::openenv::socket::End;

/// Batches that wait for some of their sessions.
#[derive(Debug, Default)]
pub(super) struct Batches {
    open: HashMap<u64, Batch>,
    next: u64,
}

#[derive(Debug)]
struct Batch {
    results: Vec<Option<Vec<u8>>>,
    left: usize,
    request_id: Option<Arc<str>>,
}

/// A message, but for its end, and the request that it answers.
type Complete = (Vec<u8>, Option<Arc<str>>);

impl Batches {
    fn begin(&mut self, size: usize, request_id: Option<Arc<str>>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open.insert(number, Batch { results: vec![None; size], left: size, request_id });
        number
    }

    /// What came of one of them; the answer when it was the last.
    pub(super) fn put(&mut self, number: u64, at: usize, outcome: Outcome) -> Option<Complete> {
        let batch = self.open.get_mut(&number)?;
        let result = match outcome {
            Outcome::Observed { json, .. } => json,
            Outcome::Failed(error) => failed(&error),
            // A batch orders nothing else.
            Outcome::State(_) | Outcome::Forked(_) | Outcome::Kept(_) | Outcome::Restored => return None,
        };
        batch.results[at] = Some(result);
        batch.left -= 1;
        if batch.left > 0 {
            return None;
        }
        let batch = self.open.remove(&number)?;
        let mut out = begin_answer(batch.results.len());
        for (at, result) in batch.results.into_iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&result.unwrap_or_default());
        }
        out.push(b']');
        Some((out, batch.request_id))
    }
}

fn begin_answer(size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + size * 96);
    out.extend_from_slice(br#"{"type":"observations","data":["#);
    out
}

fn failed(error: &Error) -> Vec<u8> {
    format!(r#"{{"error":{}}}"#, error.data()).into_bytes()
}

impl Many {
    /// Resets them all.
    pub(super) async fn reset_batch(
        &mut self,
        numbers: Vec<u32>,
        given: Given,
        request_id: Option<Arc<str>>,
    ) -> Result<(), End> {
        let given = match each(given, numbers.len()) {
            Ok(given) => given,
            Err(error) => return self.tell_error(&error, None, request_id.as_deref()).await,
        };
        let jobs = numbers.into_iter().zip(given.into_iter().map(Job::Reset)).collect();
        self.batch(jobs, request_id).await
    }

    /// Steps them all; resets those without an action.
    pub(super) async fn step_batch(
        &mut self,
        numbers: &[u32],
        actions: &[Option<&RawValue>],
        request_id: Option<Arc<str>>,
    ) -> Result<(), End> {
        let here = |number: &u32| {
            self.slots.get(number).is_some_and(|slot| slot.session.as_ref().is_some_and(|s| s.is_in_memory()))
        };
        if !numbers.iter().all(here) {
            let job = |action: &Option<&RawValue>| match action {
                Some(action) => Job::Step { action: action.get().to_owned(), step_id: None },
                None => Job::Reset(Map::new()),
            };
            let jobs = numbers.iter().copied().zip(actions.iter().map(job)).collect();
            return self.batch(jobs, request_id).await;
        }
        let mut out = begin_answer(numbers.len());
        for (at, (number, action)) in numbers.iter().zip(actions).enumerate() {
            if at > 0 {
                out.push(b',');
            }
            if at % STEPS_AT_ONCE == STEPS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            let session = self.slots.get_mut(number).and_then(|slot| slot.session.as_mut());
            match session {
                Some(session) => step_here(session, action.map(RawValue::get), &mut out).await,
                None => out.extend_from_slice(&failed(&super::unknown(*number))),
            }
        }
        out.push(b']');
        envelope_end(&mut out, None, false, request_id.as_deref());
        self.send(out).await
    }

    async fn batch(&mut self, jobs: Vec<(u32, Job)>, request_id: Option<Arc<str>>) -> Result<(), End> {
        if jobs.is_empty() {
            let mut out = begin_answer(0);
            out.push(b']');
            envelope_end(&mut out, None, false, request_id.as_deref());
            return self.send(out).await;
        }
        let batch = self.batches.begin(jobs.len(), request_id);
        for (at, (number, job)) in jobs.into_iter().enumerate() {
            self.order(Some(number), job, Reply::Batch { batch, at }).await?;
        }
        Ok(())
    }
}

/// Steps or resets what plays in memory, and writes what came of it.
async fn step_here(session: &mut Session, action: Option<&str>, out: &mut Vec<u8>) {
    let done = match action {
        Some(action) => session.step(action, None, Beside::default()).await.map(|stepped| stepped.observed),
        None => session.reset(Map::new()).await,
    };
    match done {
        Ok(observed) => message::result(observed, out),
        Err(error) => out.extend_from_slice(&failed(&message::step_error(&error, Codes::Ours))),
    }
}

/// What each reset is given.
fn each(given: Given, count: usize) -> Result<Vec<Map<String, Value>>, Error> {
    match given {
        Given::Each(each) if each.len() == count => Ok(each),
        Given::Each(each) => {
            Err(Error::new("VALIDATION_ERROR", format!("data has {} items for {count} sessions", each.len())))
        }
        Given::Same(same) => {
            let seed = same.get("seed").and_then(Value::as_u64);
            let of = |at: usize| {
                let mut given = same.clone();
                if let Some(seed) = seed {
                    given.insert("seed".to_owned(), seed.wrapping_add(at as u64).into());
                }
                given
            };
            Ok((0..count).map(of).collect())
        }
    }
}
