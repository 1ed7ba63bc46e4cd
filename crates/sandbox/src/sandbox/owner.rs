//! The one task that owns a sandbox's life: it makes it, watches for its death, freezes, thaws and destroys it, one
//! thing at a time.

use std::time::{Duration, Instant};

use hothouse_domain::{EndCause, EventKind, FrozenBy, ImageRef, SandboxPhase};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{Instrument as _, Span};

use super::Sandbox;
use super::leases::LeaseTimer;
use super::relief::{Relief, Relieved};
use super::snapshots::NewSnapshot;
use crate::endings::{End, Ended};
use crate::error::SandboxError;
use crate::link::{LinkError, SWEEP_EVERY, locked};
use crate::native::{CreateError, SetAside};
use crate::snapshot::SnapshotUse;
use crate::terms::boottime_ms;

/// How long a freeze waits for the guest to read the requests that were sent before.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// Looks that may find a guest silent before it is given up, where it has a core to itself; more in proportion where it has
/// less: what runs in the kernel for long runs into debt that all of the sandbox pay off together.
const SILENT_LOOKS: f64 = 4.0;

/// A step of a sandbox's life that somebody asks for; told when it is done.
#[derive(Debug)]
pub(crate) enum Command {
    Freeze(Asker),
    Thaw(Asker),
    /// As a thaw, of what the node has frozen.
    Wake(Asker),
    /// Gives up memory, if nobody uses it.
    Relieve(Relief, Asker),
    Destroy(End, Asker),
    Snapshot(Box<NewSnapshot>, oneshot::Sender<Result<SnapshotUse, SandboxError>>),
    /// A snapshot with which it ends, if its files can be lent: otherwise nothing comes, and it goes on.
    Lend(Box<NewSnapshot>, End, oneshot::Sender<SetAside>, Asker),
    /// To this image, or to that which it is made of.
    Restore(Option<Box<(ImageRef, SnapshotUse)>>, Asker),
    /// The node ends and leaves the sandbox alive.
    Leave,
}

/// How often an adopted sandbox is looked at, whether it lives.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Where a sandbox comes from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// It is to be made for whoever asks for it in this span; the sender is told how that went.
    Make(Asker, Span),
    /// An earlier node made it; the receiver is told of its death.
    Adopted(watch::Receiver<Option<String>>),
}

/// Who asked for a step.
type Asker = oneshot::Sender<Result<(), SandboxError>>;
/// Who asked, and what to tell them.
type Answer = (Asker, Result<(), SandboxError>);

/// What the owner does after a command.
enum Then {
    GoOn,
    /// It has another body, of whose death this tells.
    Watch(watch::Receiver<Option<String>>),
    /// Nothing more; the sandbox lives on without it.
    Leave,
    /// Nothing more; the sandbox is gone. Who asked is told once it is forgotten too, so that it does not find it again.
    Forget(Option<Answer>),
}

impl Sandbox {
    /// The owner task. Ends when the sandbox is gone or left; `forget` is called then when it is gone.
    pub(crate) async fn own(
        self,
        origin: Origin,
        mut commands: mpsc::Receiver<Command>,
        forget: impl FnOnce(&Self) + Send,
    ) {
        let mut looks = None;
        let mut lease = LeaseTimer::default();
        let mut death = match origin {
            Origin::Adopted(death) => {
                looks = Some(tokio::time::interval(LOOK_EVERY));
                death
            }
            // Boxed, as below: an idle sandbox need not hold the room that its making takes.
            Origin::Make(made, span) => match Box::pin(self.make(made).instrument(span)).await {
                Ok(death) => death,
                Err(failed) => return self.end(forget, failed),
            },
        };
        lease.set(self.due());
        loop {
            let command = tokio::select! {
                biased;
                command = commands.recv() => command,
                reason = died(&mut death), if !self.is_dead() => {
                    self.die(reason);
                    continue;
                }
                () = next_look(&mut looks), if !self.is_dead() => {
                    Box::pin(self.look()).await;
                    continue;
                }
                () = self.inner.silence.notified(), if !self.is_dead() => {
                    self.judge_silence().await;
                    continue;
                }
                () = self.inner.leased.notified() => {
                    lease.set(self.due());
                    continue;
                }
                () = lease.wait() => {
                    if let Some(end) = Box::pin(self.lease_over()).await {
                        if let Err(error) = Box::pin(self.destroy(end)).await {
                            tracing::error!(sandbox = %self.inner.id, %error, "ending a lease left something behind");
                        }
                        return self.end(forget, None);
                    }
                    lease.set(self.due());
                    continue;
                }
            };
            let Some(command) = command else { return };
            match Box::pin(self.obey(command)).await {
                Then::GoOn => {}
                Then::Watch(other) => {
                    death = other;
                    // The spawner that made it is its parent.
                    looks = None;
                    lease.set(self.due());
                }
                Then::Leave => return,
                Then::Forget(asked) => return self.end(forget, asked),
            }
        }
    }

    fn end(&self, forget: impl FnOnce(&Self), asked: Option<Answer>) {
        self.inner.around.owners.remove(&self.terms());
        self.let_image_go();
        forget(self);
        // Whoever hears of it finds that it is gone and its room free.
        if let Some(ending) = self.inner.ending.get() {
            self.note(EventKind::Ended { ending: ending.clone() });
        }
        if let Some((asker, result)) = asked {
            self.answer(asker, result);
        }
    }

    /// Has the backend look whether the guest lives: nobody tells it of the end of one that an earlier node made.
    pub(super) async fn look(&self) {
        if let Some(running) = self.inner.running.read().await.as_ref() {
            drop(running.death());
        }
    }

    /// Makes it and hands it over; an error when that failed, with whom to tell, or when nobody wants it any more.
    async fn make(&self, made: Asker) -> Result<watch::Receiver<Option<String>>, Option<Answer>> {
        let begin = Instant::now();
        let backend = &self.inner.around.backend;
        let mut terms = (*self.terms()).clone();
        let mut making = backend.makings().begin(&self.inner.id, &terms);
        let created = async {
            let image = backend.image(&mut terms.spec).await?;
            // What the image says is part of it from now on, and no lease counts while it is fetched.
            terms.leased_ms = boottime_ms();
            self.set_terms(terms.clone());
            backend.create_on(&self.inner.id, &terms, &image, &mut making).await
        };
        let created = created.await;
        making.ended(created.as_ref().map(drop).map_err(CreateError::code));
        let running = match created {
            Ok(running) => running,
            Err(error) => {
                self.step(SandboxPhase::Destroying);
                return Err(Some((made, Err(error.into()))));
            }
        };
        let death = running.death();
        // Each of these is set once: this is the only task that sets them.
        let _only = self.inner.created_at.set(running.created_at());
        *self.inner.running.write().await = Some(running);
        self.step(SandboxPhase::Running);
        let _only = self.inner.create_s.set(begin.elapsed().as_secs_f64());
        self.note(EventKind::Created);
        // A caller that went away will never learn the id, so nobody would ever delete it.
        if made.send(Ok(())).is_err() {
            let end = End::new(EndCause::Abandoned, "node", "who asked for it went away before the answer");
            if let Err(error) = self.destroy(end).await {
                tracing::error!(sandbox = %self.inner.id, %error, "a sandbox that nobody wants left something behind");
            }
            return Err(None);
        }
        Ok(death)
    }

    async fn obey(&self, command: Command) -> Then {
        match command {
            Command::Freeze(done) => {
                let result = self.freeze_now().await;
                self.answer(done, result);
                Then::GoOn
            }
            Command::Thaw(done) => {
                let result = self.thaw_now().await;
                self.answer(done, result);
                Then::GoOn
            }
            Command::Wake(done) => {
                let result = self.wake_now().await;
                self.answer(done, result);
                Then::GoOn
            }
            Command::Relieve(relief, done) => match self.relieve(relief).await {
                Relieved::Stays(result) => {
                    self.answer(done, result);
                    Then::GoOn
                }
                Relieved::Ended(result) => Then::Forget(Some((done, result))),
            },
            Command::Destroy(end, done) => {
                let result = self.destroy(end).await;
                Then::Forget(Some((done, result)))
            }
            Command::Snapshot(new, done) => {
                // Without anybody to hear of it, one that passes is gone again.
                if let Err(Err(error)) = done.send(self.snapshot_now(*new).await) {
                    tracing::warn!(sandbox = %self.inner.id, %error, "a snapshot failed whose caller has left");
                }
                Then::GoOn
            }
            Command::Lend(new, end, lent, done) => match self.lend_now(*new, end).await {
                Ok(Some(aside)) => {
                    // Whoever asked has left where this fails; the next node goes on with it.
                    if let Err(aside) = lent.send(aside) {
                        tracing::warn!(sandbox = %self.inner.id, snapshot = %aside.snapshot, "nobody waits for a snapshot");
                    }
                    Then::Forget(Some((done, Ok(()))))
                }
                Ok(None) => {
                    self.answer(done, Ok(()));
                    Then::GoOn
                }
                Err(error) => {
                    self.answer(done, Err(error));
                    Then::GoOn
                }
            },
            Command::Restore(image, done) => match self.restore_now(image.map(|image| *image)).await {
                Ok(death) => {
                    self.answer(done, Ok(()));
                    Then::Watch(death)
                }
                Err(error) => {
                    self.answer(done, Err(error));
                    Then::GoOn
                }
            },
            Command::Leave => {
                self.fail_link("the node is shutting down");
                // The backend finds it again by what is on disk.
                *self.inner.running.write().await = None;
                Then::Leave
            }
        }
    }

    async fn freeze_now(&self) -> Result<(), SandboxError> {
        match self.inner.gate.phase() {
            SandboxPhase::Frozen { by: FrozenBy::Client } => return Ok(()),
            SandboxPhase::Frozen { by: FrozenBy::Pressure } => return self.keep_frozen().await,
            SandboxPhase::Running => {}
            SandboxPhase::Dead { .. } | SandboxPhase::Creating | SandboxPhase::Destroying => {
                return self.inner.gate.enter(&self.inner.id).map(drop);
            }
        }
        // What is left of an earlier freeze would tell a later node that it may thaw this one.
        self.remember_frozen_by(None).await?;
        self.step(SandboxPhase::Frozen { by: FrozenBy::Client });
        let read = async {
            self.inner.gate.quiet().await;
            self.settle().await
        };
        let all_read = matches!(tokio::time::timeout(READ_WITHIN, read).await, Ok(Ok(())));
        self.stop_processes().await?;
        let link = locked(&self.inner.link).clone();
        if let (false, Some(link)) = (all_read, link) {
            link.fail_unanswered();
        }
        self.note(EventKind::Frozen { by: FrozenBy::Client });
        Ok(())
    }

    /// Stops what runs in it; it is running again where that fails.
    pub(super) async fn stop_processes(&self) -> Result<(), SandboxError> {
        let stopped = match self.inner.running.read().await.as_ref() {
            Some(running) => running.freeze().await.map_err(SandboxError::from),
            None => Err(SandboxError::NotFound(self.inner.id.to_string())),
        };
        if stopped.is_err() {
            self.step(SandboxPhase::Running);
        }
        stopped
    }

    pub(super) async fn thaw_now(&self) -> Result<(), SandboxError> {
        match self.inner.gate.phase() {
            SandboxPhase::Running => return Ok(()),
            SandboxPhase::Frozen { .. } => {}
            SandboxPhase::Dead { .. } | SandboxPhase::Creating | SandboxPhase::Destroying => {
                return self.inner.gate.enter(&self.inner.id).map(drop);
            }
        }
        match self.inner.running.read().await.as_ref() {
            Some(running) => running.thaw().await?,
            None => return Err(SandboxError::NotFound(self.inner.id.to_string())),
        }
        if let Some(link) = &*locked(&self.inner.link) {
            link.excuse();
        }
        self.step(SandboxPhase::Running);
        self.note(EventKind::Thawed);
        Ok(())
    }

    pub(super) async fn destroy(&self, end: End) -> Result<(), SandboxError> {
        self.step(SandboxPhase::Destroying);
        // Written down before it is begun: a node that comes after a kill makes it good.
        self.note_end(self.ended(end));
        self.fail_link("the sandbox was deleted");
        match self.inner.running.write().await.take() {
            Some(running) => Ok(running.destroy().await?),
            None => Ok(()),
        }
    }

    /// That it ends so, now.
    pub(super) fn ended(&self, end: End) -> Ended {
        let claimant = self.terms().claimant.clone();
        Ended { id: self.inner.id.clone(), ending: Some(end.now()), claimant }
    }

    pub(super) fn note_end(&self, ended: Ended) {
        if let Some(ending) = ended.ending.clone() {
            // Told when it is over.
            let _only = self.inner.ending.set(ending);
        }
        self.inner.around.endings.note(ended);
    }

    fn die(&self, reason: String) {
        tracing::info!(sandbox = %self.inner.id, reason, "sandbox died");
        self.step(SandboxPhase::Dead { reason: reason.clone() });
        self.note(EventKind::Died { reason });
        self.fail_link("the sandbox died");
    }

    /// Gives a sandbox up whose guest has said nothing for too long: what runs in it has starved it, and nobody would be
    /// answered any more, nor any timeout kept.
    async fn judge_silence(&self) {
        let Some(link) = locked(&self.inner.link).clone() else { return };
        if f64::from(link.silent_looks()) < SILENT_LOOKS / self.terms().spec.resources.cpus.min(1.0) {
            return;
        }
        {
            let running = self.inner.running.read().await;
            let Some(running) = running.as_ref() else { return };
            // Frozen by whomever, it has an excuse.
            if self.inner.gate.phase() != SandboxPhase::Running || running.is_frozen() {
                return link.excuse();
            }
            if let Err(error) = running.kill() {
                tracing::error!(sandbox = %self.inner.id, %error, "ending a guest that does not answer");
            }
        }
        let silence = SWEEP_EVERY * link.silent_looks();
        self.die(format!("starved: its guest has not answered for {} s", silence.as_secs()));
    }

    fn is_dead(&self) -> bool {
        matches!(self.inner.gate.phase(), SandboxPhase::Dead { .. })
    }

    pub(super) fn fail_link(&self, reason: &str) {
        let link = locked(&self.inner.link).take();
        if let Some(link) = link {
            link.fail(&LinkError::Lost(reason.to_owned()));
        }
    }

    /// Takes a step that this task, the only one to take steps, knows to be legal.
    pub(super) fn step(&self, next: SandboxPhase) {
        if let Err(error) = self.inner.gate.step(next) {
            tracing::error!(sandbox = %self.inner.id, %error, "illegal step");
            debug_assert!(false, "{error}");
        }
    }

    fn answer(&self, done: Asker, result: Result<(), SandboxError>) {
        if let Err(Err(error)) = done.send(result) {
            tracing::warn!(sandbox = %self.inner.id, %error, "a step failed whose caller has left");
        }
    }

    /// Stops every process in it; they keep their memory. One that is frozen stays so.
    ///
    /// # Errors
    /// [`SandboxError`]: this machine has no freezer, dead.
    pub async fn freeze(&self) -> Result<(), SandboxError> {
        self.command(Command::Freeze).await
    }

    /// Lets its processes run again. One that runs goes on.
    ///
    /// # Errors
    /// As for [`Sandbox::freeze`].
    pub async fn thaw(&self) -> Result<(), SandboxError> {
        self.command(Command::Thaw).await
    }

    /// Asks the owner for a step and waits until it is done.
    pub(crate) async fn command(&self, command: impl FnOnce(Asker) -> Command) -> Result<(), SandboxError> {
        let (done, result) = oneshot::channel();
        let gone = || self.gone();
        self.inner.commands.send(command(done)).await.map_err(|_| gone())?;
        result.await.unwrap_or_else(|_| Err(gone()))
    }

    /// What is said of one that is no more.
    pub(crate) fn gone(&self) -> SandboxError {
        SandboxError::gone(&self.inner.id, &self.inner.around.endings)
    }

    pub(super) fn note(&self, kind: EventKind) {
        self.inner.around.events.note(&self.inner.id, &self.terms(), kind);
    }

    /// Lets go of it without ending it.
    pub(crate) async fn leave(&self) {
        // An owner that has ended has nothing to let go of.
        let _gone = self.inner.commands.send(Command::Leave).await;
    }
}

/// Waits for the reason of a death.
async fn died(death: &mut watch::Receiver<Option<String>>) -> String {
    match death.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or_default(),
        Err(_) => "its backend is gone".to_owned(),
    }
}

async fn next_look(looks: &mut Option<tokio::time::Interval>) {
    match looks {
        Some(looks) => {
            looks.tick().await;
        }
        None => std::future::pending().await,
    }
}
