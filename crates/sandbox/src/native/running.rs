//! One sandbox that the native backend made or found again.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hothouse_domain::{Resources, SandboxId};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::backend::Inner;
use super::cgroup::{Controller, Frozen, GroupUsage};
use super::state::State;
use super::wire::{Body, Limits, Order, Report};
use super::{DestroyError, FreezeError, process, state};
use crate::image::Pin;
use crate::terms::Terms;

/// How long the kernel may take to stop every process of a sandbox.
const FREEZE_PATIENCE: Duration = Duration::from_secs(5);
/// How long it is looked without a pause whether they have.
const FREEZE_LOOKS: Duration = Duration::from_micros(300);
/// How long its processes may take to end before the CPU limit is lifted that slows them.
const END_PATIENCE: Duration = Duration::from_millis(500);

/// Who made a sandbox, and so who hears first of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Made by the spawner that runs now, which is its parent.
    Made,
    /// Found alive: nobody tells us of its end.
    Adopted,
}

/// A sandbox that this backend made.
#[derive(Debug)]
pub struct Running {
    pub(super) backend: Arc<Inner>,
    pub(super) id: SandboxId,
    pub(super) body: Body,
    pub(super) created_at: jiff::Timestamp,
    pub(super) origin: Origin,
    pub(super) death: watch::Sender<Option<String>>,
    /// Keeps its image from being removed.
    pub(super) pin: Option<Arc<Pin>>,
}

/// The memory of a sandbox; where the sandbox has ended, of whichever has its control group now.
#[derive(Debug)]
pub(crate) struct GroupMemory {
    backend: Arc<Inner>,
    group: String,
}

impl GroupMemory {
    /// Bytes that are used.
    pub(crate) fn used(&self) -> Option<u64> {
        self.backend.groups.usage(&self.group).memory_bytes
    }

    /// Bytes that may be taken back, where so much room is left in swap.
    pub(crate) fn reclaimable(&self, swap: u64) -> u64 {
        self.backend.groups.reclaimable(&self.group, swap)
    }

    /// Has the kernel take back what it can; how many bytes that were. Blocks while that is under way.
    pub(crate) fn reclaim(&self, swap: u64) -> Result<u64, String> {
        let before = self.used().unwrap_or_default();
        self.backend.groups.reclaim(&self.group, self.reclaimable(swap)).map_err(|e| e.to_string())?;
        Ok(before.saturating_sub(self.used().unwrap_or(before)))
    }
}

impl Running {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &SandboxId {
        &self.id
    }

    /// When it was made.
    #[must_use]
    pub fn created_at(&self) -> jiff::Timestamp {
        self.created_at
    }

    /// What is written down of it.
    pub(super) fn state(&self, terms: Terms) -> State {
        let (boot, body) = (self.backend.boot.clone(), self.body.clone());
        let image_id = self.pin.as_ref().map(|pin| pin.id().clone());
        State { boot, terms, created_at: self.created_at, body, image_id }
    }

    /// Remembers other terms than it was made with. After a failure the old ones are remembered.
    ///
    /// # Errors
    /// An I/O error of the state directory.
    pub fn remember(&self, terms: &Terms) -> io::Result<()> {
        if !self.backend.remembers() {
            return Ok(());
        }
        self.backend.directory.replace(&self.id, &self.state(terms.clone()))
    }

    /// Gives it other limits on memory, processes and CPU time.
    ///
    /// # Errors
    /// Why not; the old ones may hold in part then.
    pub async fn limit(&self, resources: &Resources) -> Result<(), String> {
        let limits = Limits::of(resources);
        let order = |ticket| Order::Limit { ticket, body: self.body.clone(), limits };
        match self.backend.ask(order, None).await? {
            Report::Limited { .. } => Ok(()),
            other => Err(format!("the spawner answered {other:?}")),
        }
    }

    /// What it uses.
    pub(crate) fn usage(&self) -> GroupUsage {
        self.body.group.as_deref().map_or_else(GroupUsage::default, |group| self.backend.groups.usage(group))
    }

    /// Its memory, where this machine counts it.
    pub(crate) fn memory(&self) -> Option<GroupMemory> {
        self.backend.groups.controller(Controller::Memory).ok()?;
        Some(GroupMemory { backend: Arc::clone(&self.backend), group: self.body.group.clone()? })
    }

    /// A fresh connection to its guest.
    ///
    /// # Errors
    /// An I/O error when the guest is gone.
    pub async fn connect(&self) -> io::Result<UnixStream> {
        let connected = state::connect(&self.backend.directory.of(&self.id)).and_then(UnixStream::from_std);
        if connected.is_err() {
            self.notice_end();
        }
        connected
    }

    /// Nobody tells us when a guest ends that is not our spawner's child: it is looked up when it does not answer.
    fn notice_end(&self) {
        // That it cannot be told, for want of a descriptor, is no end.
        if matches!(process::is_alive(self.body.pid, self.body.start_time), Ok(false)) {
            self.death.send_if_modified(|reason| {
                let first = reason.is_none();
                reason.get_or_insert_with(|| "the guest is gone".to_owned());
                first
            });
        }
    }

    /// Becomes `Some(reason)` when its guest is gone.
    #[must_use]
    pub fn death(&self) -> watch::Receiver<Option<String>> {
        if self.origin == Origin::Adopted {
            self.notice_end();
        }
        self.death.subscribe()
    }

    /// Stops every process in it; they keep their memory.
    ///
    /// # Errors
    /// [`FreezeError`].
    pub async fn freeze(&self) -> Result<(), FreezeError> {
        let group = self.group()?;
        self.set_frozen(group, Frozen::Yes)?;
        // Writing the file only asks; processes stop when they next leave the kernel.
        let begin = Instant::now();
        while !self.backend.groups.is_frozen(group) {
            match begin.elapsed() {
                // Most have stopped before a timer, which counts in milliseconds, would have gone off once.
                waited if waited < FREEZE_LOOKS => tokio::task::yield_now().await,
                waited if waited < FREEZE_PATIENCE => tokio::time::sleep(Duration::from_micros(500)).await,
                _ => {
                    self.set_frozen(group, Frozen::No)?;
                    let reason =
                        format!("not all processes stopped within {FREEZE_PATIENCE:?}; thawed again");
                    return Err(FreezeError::Refused { id: self.id.clone(), reason });
                }
            }
        }
        Ok(())
    }

    /// Lets its processes run again.
    ///
    /// # Errors
    /// [`FreezeError`].
    pub async fn thaw(&self) -> Result<(), FreezeError> {
        self.set_frozen(self.group()?, Frozen::No)
    }

    /// True when its processes are stopped, by whomever.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.group().is_ok_and(|group| self.backend.groups.is_frozen(group))
    }

    /// Kills its guest, and with it every process in it. What else it has goes with [`Running::destroy`].
    ///
    /// # Errors
    /// The kernel's; none when the guest is gone.
    pub fn kill(&self) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.body.pid) else { return Ok(()) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // Looked at after opening: before, the PID may have become somebody else's.
        if !process::is_alive(self.body.pid, self.body.start_time)? {
            return Ok(());
        }
        match pidfd_send_signal(&pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn group(&self) -> Result<&str, FreezeError> {
        self.backend.groups.controller(Controller::Freezer).map_err(FreezeError::Unsupported)?;
        self.body
            .group
            .as_deref()
            .ok_or_else(|| FreezeError::Unsupported("the sandbox has no control group".to_owned()))
    }

    fn set_frozen(&self, group: &str, frozen: Frozen) -> Result<(), FreezeError> {
        let refused = |reason| FreezeError::Refused { id: self.id.clone(), reason };
        self.backend.groups.set_frozen(group, frozen).map_err(refused)
    }

    /// Kills every process in it and removes its files and cgroups. Works on a dead or frozen one too.
    ///
    /// # Errors
    /// [`DestroyError`] names what is left.
    pub async fn destroy(self) -> Result<(), DestroyError> {
        let place = self.backend.directory.of(&self.id);
        self.destroy_at(&place).await
    }

    /// [`destroy`](Self::destroy) where its directory is in this place.
    pub(super) async fn destroy_at(self, place: &std::path::Path) -> Result<(), DestroyError> {
        let failed = |reason: String| DestroyError { id: self.id.clone(), reason };
        let body = self.body.clone();
        // Forgotten first: its end is no death.
        self.backend.forget(self.body.key);
        let mut answer = self.end(&body).await;
        if answer.is_err() {
            // The spawner may have ended in between; the next one finds what is left.
            answer = self.end(&body).await;
        }
        let leftover = match answer {
            Ok(Report::Destroyed { leftover, .. }) => leftover,
            Ok(other) => return Err(failed(format!("the spawner answered {other:?}"))),
            Err(reason) => return Err(failed(reason)),
        };
        // Its guest is gone, so nobody needs the directory, whatever else is left.
        self.backend
            .directory
            .remove_at(place)
            .map_err(|e| failed(format!("removing its directory: {e}")))?;
        leftover.map_or(Ok(()), |left| Err(failed(left)))
    }

    /// Has the spawner end it. Processes that have used up more CPU than they may would only end when that is made up for.
    async fn end(&self, body: &Body) -> Result<Report, String> {
        let answer = self.backend.ask(|ticket| Order::Destroy { ticket, body: body.clone() }, None);
        tokio::pin!(answer);
        if let Ok(answer) = tokio::time::timeout(END_PATIENCE, &mut answer).await {
            return answer;
        }
        if let Err(error) = self.backend.tell(&Order::Hasten { key: body.key }).await {
            tracing::warn!(sandbox = %self.id, error, "having the end of a sandbox hastened");
        }
        answer.await
    }
}
