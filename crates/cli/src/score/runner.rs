//! Runs attempts: sandboxes are made ahead, used once, and removed behind.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::StreamExt as _;
use hothouse_domain::{ImageRef, Resources, SandboxId, SandboxSpec};
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use super::plan::{Attempt, Solution, Task};
use super::program::{Trial, Users};
use super::python::{Harness, Job};
use super::row::{Bounds, FunctionTask};
use super::verdict::{Judgement, Record, Verdict};
use super::warm::{Fit, Warm};
use crate::failure::Failure;
use crate::place::{Place, SandboxHandle};

/// Whether a sandbox judges several attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reuse {
    /// When an attempt has provably left nothing.
    WhenClean,
    /// Never: each attempt has a fresh one.
    Never,
}

impl Reuse {
    /// Whether a task is judged by a warm interpreter, where there can be one.
    pub(super) fn serves(self, task: &Task) -> bool {
        self == Self::WhenClean && matches!(task, Task::Function(_))
    }
}

/// What all attempts of one run share.
#[derive(Debug)]
pub(super) struct Runner<'a> {
    place: &'a Place,
    image: ImageRef,
    concurrency: usize,
    /// Compiled once per run; the text says why it could not be.
    harness: OnceCell<Result<Harness, String>>,
    users: OnceCell<Result<Users, String>>,
    /// How each attempt gets its sandbox.
    reuse: Reuse,
    /// Sandboxes that wait for another attempt, with the limits that they have.
    idle: Mutex<Vec<(Resources, Warm)>>,
    /// Sandboxes that are not being removed yet.
    live: Mutex<HashMap<SandboxId, SandboxHandle>>,
    removals: TaskTracker,
    /// Bounds how many sandboxes wait for their removal.
    backlog: Arc<Semaphore>,
    finished: mpsc::Sender<Record>,
}

impl<'a> Runner<'a> {
    /// How many sandboxes exist at once, at most.
    pub(super) fn most_sandboxes(concurrency: usize) -> usize {
        // In use, made ahead, on their way, being removed, and those for the compiler.
        concurrency + ahead(concurrency) + 2 + 2 * concurrency + 2
    }

    /// A runner that sends what is finished into a channel. The harness may have been compiled already.
    pub(super) fn new(
        place: &'a Place,
        image: ImageRef,
        concurrency: usize,
        harness: Option<Harness>,
        reuse: Reuse,
        finished: mpsc::Sender<Record>,
    ) -> Self {
        Self {
            place,
            image,
            concurrency,
            harness: harness.map_or_else(OnceCell::new, |harness| OnceCell::new_with(Some(Ok(harness)))),
            users: OnceCell::new(),
            reuse,
            idle: Mutex::default(),
            live: Mutex::default(),
            removals: TaskTracker::new(),
            backlog: Arc::new(Semaphore::new(2 * concurrency)),
            finished,
        }
    }

    /// Runs all attempts; returns when every record is sent.
    pub(super) async fn run(&self, attempts: Vec<Attempt>) {
        let (ready, mut taken) = mpsc::channel(1);
        // Driven beside the attempts: a stream of their own would stand still while all of them are busy.
        let make = async {
            let made = futures::stream::iter(attempts).map(|attempt| async move {
                let sandbox = match self.reuse.serves(&attempt.task) {
                    true => None,
                    false => Some(self.create(attempt.bounds.resources.clone()).await),
                };
                (attempt, sandbox)
            });
            let mut made = pin!(made.buffered(ahead(self.concurrency)));
            while let Some(one) = made.next().await {
                // The receiver goes first only when the run is over.
                _ = ready.send(one).await;
            }
            drop(ready);
        };
        let judge = futures::stream::poll_fn(|context| taken.poll_recv(context))
            .map(|(attempt, sandbox)| self.place(attempt, sandbox))
            .buffer_unordered(self.concurrency)
            .for_each(|()| std::future::ready(()));
        tokio::join!(make, judge);
        for (_, warm) in self.take_idle() {
            self.remove(warm.sandbox().clone());
        }
        self.removals.close();
        self.removals.wait().await;
    }

    /// Removes the sandboxes that an interrupted run left.
    pub(super) async fn clean_up(&self) {
        self.removals.close();
        let left: Vec<_> = self.live.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
        let removal = async |(_, sandbox): (SandboxId, SandboxHandle)| {
            // Best effort: an embedded node removes all of its own when it closes.
            if let Err(error) = sandbox.delete().await {
                tracing::warn!(sandbox = %sandbox.id(), %error, "not removed");
            }
        };
        futures::stream::iter(left).for_each_concurrent(8, removal).await;
        self.removals.wait().await;
    }

    async fn create(&self, resources: Resources) -> Result<SandboxHandle, Failure> {
        let labels = [("made-by".to_owned(), "score".to_owned())].into();
        let spec = SandboxSpec { image: self.image.clone(), resources, labels, ..SandboxSpec::default() };
        let sandbox = self.place.create(spec).await?;
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.insert(sandbox.id().clone(), sandbox.clone());
        Ok(sandbox)
    }

    fn take_idle(&self) -> Vec<(Resources, Warm)> {
        std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Judges an attempt where it belongs: in a sandbox of its own, or in one that waits for it.
    async fn place(&self, attempt: Attempt, sandbox: Option<Result<SandboxHandle, Failure>>) {
        if let Some(sandbox) = sandbox {
            return self.attempt(attempt, sandbox).await;
        }
        let began = Instant::now();
        match self.warm(&attempt.bounds.resources).await {
            Ok(Some(mut warm)) => {
                if let Some((judged, fit)) = self.judge_warm(&attempt, &mut warm).await {
                    let record = record(&attempt, judged, began.elapsed().as_secs_f64());
                    return self.keep_or_remove(record, warm, fit, &attempt.bounds.resources).await;
                }
                // It was not to blame; a fresh one judges it.
                self.remove(warm.sandbox().clone());
            }
            Ok(None) => {}
            Err(failure) => {
                tracing::warn!(%failure, "no warm interpreter; a fresh sandbox judges the attempt")
            }
        }
        let sandbox = self.create(attempt.bounds.resources.clone()).await;
        self.attempt(attempt, sandbox).await;
    }

    /// A sandbox with a warm interpreter; `None` where solutions cannot be apart from it.
    async fn warm(&self, resources: &Resources) -> Result<Option<Warm>, Failure> {
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = idle.iter().position(|(has, _)| has == resources) {
                return Ok(Some(idle.swap_remove(at).1));
            }
        }
        let sandbox = self.create(resources.clone()).await?;
        let warm = Warm::prepare(sandbox.clone()).await;
        if !matches!(warm, Ok(Some(_))) {
            self.remove(sandbox);
        }
        warm
    }

    async fn judge_warm(&self, attempt: &Attempt, warm: &mut Warm) -> Option<(Judgement, Fit)> {
        let (Task::Function(task), Solution::Source(source)) = (&*attempt.task, &attempt.solution) else {
            return None;
        };
        match warm.judge(&job(task, source, &attempt.bounds)).await {
            Ok((judged, _)) if judged.verdict == Verdict::Error => None,
            Ok(judged) => Some(judged),
            Err(failure) => {
                tracing::debug!(%failure, "a warm interpreter could not judge");
                None
            }
        }
    }

    async fn keep_or_remove(&self, mut record: Record, warm: Warm, fit: Fit, resources: &Resources) {
        match fit {
            Fit::Again => {
                record.contained = true;
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((resources.clone(), warm));
                // The receiver goes first only when the run is over.
                _ = self.finished.send(record).await;
            }
            Fit::Gone(why) => {
                tracing::debug!(task = record.task_id, why, "a solution left something; its sandbox goes");
                self.remove_and_tell(warm.sandbox().clone(), record).await;
            }
        }
    }

    /// Removes a sandbox that no record waits for.
    fn remove(&self, sandbox: SandboxHandle) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(sandbox.id());
        self.removals.spawn(async move {
            if let Err(error) = sandbox.delete().await {
                tracing::warn!(sandbox = %sandbox.id(), %error, "not removed");
            }
        });
    }

    /// Judges one attempt and sends its record as soon as its sandbox is gone.
    async fn attempt(&self, attempt: Attempt, sandbox: Result<SandboxHandle, Failure>) {
        let began = Instant::now();
        let judged = match &sandbox {
            Ok(sandbox) => self.judge(&attempt, sandbox).await,
            Err(failure) => Ok(Judgement::new(Verdict::Error, one_line(failure))),
        };
        let judged = judged.unwrap_or_else(|e| Judgement::new(Verdict::Error, one_line(&e)));
        let record = record(&attempt, judged, began.elapsed().as_secs_f64());
        match sandbox {
            Ok(sandbox) => self.remove_and_tell(sandbox, record).await,
            // The receiver goes first only when the run is over.
            Err(_) => _ = self.finished.send(record).await,
        }
    }

    async fn remove_and_tell(&self, sandbox: SandboxHandle, mut record: Record) {
        let finished = self.finished.clone();
        let permit = Arc::clone(&self.backlog).acquire_owned().await;
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(sandbox.id());
        self.removals.spawn(async move {
            match sandbox.delete().await {
                Ok(()) => record.contained = true,
                Err(error) => tracing::warn!(sandbox = %sandbox.id(), %error, "not removed"),
            }
            drop(permit);
            // The receiver goes first only when the run is over.
            _ = finished.send(record).await;
        });
    }

    async fn judge(&self, attempt: &Attempt, sandbox: &SandboxHandle) -> Result<Judgement, Failure> {
        match &*attempt.task {
            Task::Function(task) => self.judge_function(attempt, task, sandbox).await,
            Task::Program(task) => {
                let users = match self.users().await {
                    Ok(users) => *users,
                    Err(why) => return Ok(Judgement::new(Verdict::Error, why)),
                };
                let harness = match task.tests.as_ref().and_then(|tests| tests.python.as_ref()) {
                    Some(_) => match self.harness().await {
                        Ok(harness) => Some(harness),
                        Err(why) => return Ok(Judgement::new(Verdict::Error, why)),
                    },
                    None => None,
                };
                let Attempt { solution, bounds, .. } = attempt;
                let trial = Trial { sandbox, task, solution, bounds, users, harness };
                Box::pin(trial.judge()).await
            }
        }
    }

    async fn judge_function(
        &self,
        attempt: &Attempt,
        task: &FunctionTask,
        sandbox: &SandboxHandle,
    ) -> Result<Judgement, Failure> {
        let harness = match self.harness().await {
            Ok(harness) => harness,
            Err(why) => return Ok(Judgement::new(Verdict::Error, why)),
        };
        let Solution::Source(source) = &attempt.solution else {
            return Ok(Judgement::new(Verdict::Error, "a function task has a solution that is no program"));
        };
        harness.judge(sandbox, &job(task, source, &attempt.bounds)).await
    }

    async fn harness(&self) -> Result<&Harness, &str> {
        let make = || self.apart(async |sandbox: &SandboxHandle| Harness::compile(sandbox).await);
        self.harness.get_or_init(make).await.as_ref().map_err(String::as_str)
    }

    async fn users(&self) -> Result<&Users, &str> {
        let make = || self.apart(async |sandbox: &SandboxHandle| Users::of(sandbox).await);
        self.users.get_or_init(make).await.as_ref().map_err(String::as_str)
    }

    /// Does something in a sandbox that no solution ever sees.
    async fn apart<T>(&self, work: impl AsyncFn(&SandboxHandle) -> Result<T, Failure>) -> Result<T, String> {
        let sandbox = self.create(Resources::default()).await.map_err(|e| one_line(&e))?;
        let result = work(&sandbox).await.map_err(|e| one_line(&e));
        self.remove(sandbox);
        result
    }
}

fn job<'a>(task: &'a FunctionTask, source: &'a str, bounds: &Bounds) -> Job<'a> {
    Job {
        prompt: Some(&task.prompt),
        source: Some(source),
        entry_point: Some(&task.entry_point),
        directory: None,
        timeout_s: bounds.timeout_s,
        tests: &task.test,
        modules: Vec::new(),
    }
}

/// How many sandboxes are made ahead.
fn ahead(concurrency: usize) -> usize {
    concurrency.div_ceil(2)
}

fn one_line(failure: &Failure) -> String {
    let text = failure.to_string();
    text.strip_prefix("error: ").unwrap_or(&text).replace('\n', "; ")
}

fn record(attempt: &Attempt, judged: Judgement, duration_s: f64) -> Record {
    Record {
        task_id: attempt.task.id().to_owned(),
        sample: attempt.sample,
        key: attempt.key.clone(),
        verdict: judged.verdict,
        reason: judged.reason,
        during: judged.during,
        duration_s,
        usage: judged.usage,
        stdout: judged.stdout,
        stderr: judged.stderr,
        contained: false,
        expect: attempt.expect.clone(),
        attack: attempt.attack.clone(),
    }
}
