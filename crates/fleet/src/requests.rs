//! Requests that must not be carried out twice: who repeats one gets what the first has made.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hothouse_domain::{EndCause, GroupId, SandboxId, TenantName};
use hothouse_sandbox::{Claimant, Ended, Node, RequestKey};
use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::error::FleetError;

/// Requests that are remembered.
const KEPT: usize = 65_536;

/// What a request has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Made {
    Sandbox(SandboxId),
    Group(GroupId),
}

/// Whether a request was carried out now or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Now.
    No,
    /// Before; this is what it made then.
    Yes,
}

/// See the module; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    by_key: HashMap<Key, Entry>,
    /// The oldest first; those that failed still stand here.
    order: VecDeque<Key>,
}

type Key = (Option<TenantName>, String);

#[derive(Debug, Clone)]
struct Entry {
    body: String,
    /// `None` while it is carried out; closed without anything when it failed.
    made: watch::Receiver<Option<Made>>,
}

enum Turn {
    Mine(watch::Sender<Option<Made>>),
    Wait(watch::Receiver<Option<Made>>),
}

impl Requests {
    /// Those that an earlier server has carried out, as far as what they made is remembered.
    pub(crate) fn of(node: &Node) -> Self {
        let requests = Self::default();
        let alive =
            node.all().into_iter().map(|sandbox| (sandbox.id().clone(), sandbox.terms().claimant.clone()));
        // Those that the node ended for their group's sake were no part of one that was made.
        let whole = |ended: &Ended| {
            ended
                .ending
                .as_ref()
                .is_some_and(|ending| ending.cause != EndCause::Group || is_deletion(&ending.by))
        };
        let ended = node.endings().into_iter().filter(whole).map(|ended| (ended.id, ended.claimant));
        let all: Vec<(SandboxId, Claimant)> = alive.chain(ended).collect();
        // A group that was half made has made nothing: who asks again gets it whole.
        let mut members: HashMap<_, u32> = HashMap::new();
        for (_, claimant) in &all {
            if let Some(member) = &claimant.group {
                *members.entry((claimant.tenant.clone(), member.group.clone())).or_default() += 1;
            }
        }
        for (id, Claimant { tenant, group, request, environment: _ }) in all {
            if let Some(member) = &group
                && members.get(&(tenant.clone(), member.group.clone())).is_none_or(|there| *there < member.of)
            {
                continue;
            }
            if let Some(RequestKey { key, body }) = request {
                let made = group.map_or(Made::Sandbox(id), |member| Made::Group(member.group));
                // The sender is not needed for what is done.
                let made = watch::Sender::new(Some(made)).subscribe();
                requests.known().remember((tenant, key), Entry { body, made });
            }
        }
        requests
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries a request out, once for its key. It is carried out to its end even if the caller goes away: who has a key
    /// comes back.
    pub(crate) async fn once<F>(
        &self,
        tenant: Option<TenantName>,
        request: RequestKey,
        tasks: &TaskTracker,
        make: F,
    ) -> Result<(Made, Replay), FleetError>
    where
        F: Future<Output = Result<Made, FleetError>> + Send + 'static,
    {
        let key = (tenant, request.key.clone());
        let sender = loop {
            match self.turn(&key, &request)? {
                Turn::Mine(sender) => break sender,
                Turn::Wait(mut made) => {
                    if let Ok(made) = made.wait_for(Option::is_some).await
                        && let Some(made) = made.clone()
                    {
                        return Ok((made, Replay::Yes));
                    }
                    // It failed; this is another try.
                }
            }
        };
        let (told, result) = oneshot::channel();
        let requests = self.clone();
        tasks.spawn(
            async move {
                let outcome = make.await;
                match &outcome {
                    Ok(made) => drop(sender.send_replace(Some(made.clone()))),
                    Err(_) => drop(requests.known().by_key.remove(&key)),
                }
                if let Err(outcome) = told.send(outcome) {
                    tracing::debug!(
                        key = key.1,
                        failed = outcome.is_err(),
                        "a request was carried out whose caller has left"
                    );
                }
            }
            .in_current_span(),
        );
        let made =
            result.await.unwrap_or(Err(FleetError::Sandbox(hothouse_sandbox::SandboxError::ShuttingDown)))?;
        Ok((made, Replay::No))
    }

    fn turn(&self, key: &Key, request: &RequestKey) -> Result<Turn, FleetError> {
        let mut known = self.known();
        match known.by_key.get(key) {
            Some(entry) if entry.body != request.body => Err(FleetError::OtherRequest(request.key.clone())),
            // One whose sender is gone has failed a moment ago, or is of an earlier server and done.
            Some(entry) if entry.made.borrow().is_some() || entry.made.has_changed().is_ok() => {
                Ok(Turn::Wait(entry.made.clone()))
            }
            Some(_) | None => {
                let (sender, made) = watch::channel(None);
                known.remember(key.clone(), Entry { body: request.body.clone(), made });
                Ok(Turn::Mine(sender))
            }
        }
    }
}

/// A group is ended by whoever deletes it; one that was not made whole by the node, or in its own name.
fn is_deletion(by: &str) -> bool {
    by != "node" && !by.starts_with("group ")
}

impl Known {
    fn remember(&mut self, key: Key, entry: Entry) {
        if self.by_key.insert(key.clone(), entry).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.by_key.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: &str) -> RequestKey {
        RequestKey { key: "k".to_owned(), body: body.to_owned() }
    }

    fn made(id: &str) -> Made {
        Made::Sandbox(id.parse().unwrap())
    }

    #[tokio::test]
    async fn one_is_carried_out_and_the_others_get_what_it_made() {
        let (requests, tasks) = (Requests::default(), TaskTracker::new());
        let (go, wait) = oneshot::channel::<()>();
        let slow = async move {
            wait.await.unwrap();
            Ok(made("one"))
        };
        let mut first = Box::pin(requests.once(None, request("a"), &tasks, slow));
        assert!(futures::poll!(first.as_mut()).is_pending());
        let mut second = Box::pin(requests.once(None, request("a"), &tasks, async { Ok(made("two")) }));
        assert!(futures::poll!(second.as_mut()).is_pending());
        let other = requests.once(None, request("b"), &tasks, async { Ok(made("three")) }).await;
        assert!(matches!(other, Err(FleetError::OtherRequest(_))));
        let tenant = Some("t".parse().unwrap());
        let theirs = requests.once(tenant, request("b"), &tasks, async { Ok(made("theirs")) }).await.unwrap();
        assert_eq!(theirs, (made("theirs"), Replay::No), "keys are a tenant's own");
        // Its caller goes away; it is carried out all the same.
        drop(first);
        go.send(()).unwrap();
        assert_eq!(second.await.unwrap(), (made("one"), Replay::Yes));
    }

    #[tokio::test]
    async fn what_failed_may_be_tried_again() {
        let (requests, tasks) = (Requests::default(), TaskTracker::new());
        let failed = requests
            .once(None, request("a"), &tasks, async { Err(FleetError::QueueFull { limit: 1 }) })
            .await;
        assert!(failed.is_err());
        let again = requests.once(None, request("b"), &tasks, async { Ok(made("two")) }).await.unwrap();
        assert_eq!(again, (made("two"), Replay::No));
    }
}
