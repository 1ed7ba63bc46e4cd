//! A sandbox's life, from the first word of its process to the last of its control group.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, pidfd_open, pidfd_send_signal,
    waitid, waitpid,
};

use super::{PIDFD_EVENT, Spawner};
use crate::makings::{CreateStage, SpawnTimes};
use crate::native::cgroup::{Frozen, Group};
use crate::native::process::is_alive;
use crate::native::wire::{Body, Limits, Report, Ticket};

/// One process that is, or is to be, a guest.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) pid: i32,
    pub(super) start_time: u64,
    pub(super) slot: u32,
    pub(super) group: Option<Group>,
    /// OOM kills that its group had seen when it began.
    pub(super) oom_before: u64,
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Between clone and exec.
    Making { status: OwnedFd, sent_off: Instant, times: SpawnTimes },
    /// A step failed; it is about to end.
    Failing { at: CreateStage, step: String, reason: String },
    /// Its guest runs.
    Alive,
    /// Its guest runs and is not our child: an earlier spawner made it.
    Adopted,
    /// Its guest has ended by itself; it waits to be destroyed.
    Dead,
    /// It was told to end. The network is kept to see whether it can serve again.
    Ending { ticket: Ticket, network: Option<OwnedFd> },
    /// An adopted one that was told to end; the pidfd tells when it has.
    EndingAdopted { ticket: Ticket, pidfd: OwnedFd },
}

pub(super) fn pid_of(pid: i32) -> Pid {
    Pid::from_raw(pid).expect("a PID is positive")
}

/// How many adopted guests are looked at in one go.
const LOOKS: usize = 256;

impl Spawner {
    /// A child's line has closed, or carries the step that failed.
    pub(super) fn status(&mut self, pid: i32) {
        let Some(&key) = self.children.get(&pid) else { return };
        if self.hear_last_words(key) {
            return;
        }
        let Some(sandbox) = self.sandboxes.get_mut(&key) else { return };
        let Stage::Making { sent_off, times, .. } = &sandbox.stage else { return };
        let times = SpawnTimes { mount: sent_off.elapsed(), ..*times };
        // Closed by exec or by death? A dead one is reaped in a moment, and reported then.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if matches!(waitid(WaitId::Pid(pid_of(pid)), look), Ok(Some(_))) {
            let (step, reason) = ("becoming the guest".to_owned(), "the process ended".to_owned());
            sandbox.stage = Stage::Failing { at: CreateStage::Mount, step, reason };
            return;
        }
        sandbox.stage = Stage::Alive;
        let body = Body {
            key,
            pid,
            start_time: sandbox.start_time,
            group: sandbox.group.as_ref().map(|group| group.name.clone()),
            oom_before: sandbox.oom_before,
            slot: sandbox.slot,
        };
        self.report(&Report::Created { ticket: key, body, times });
    }

    /// Reads the step that failed, if the child has told of one.
    fn hear_last_words(&mut self, key: Ticket) -> bool {
        let Some(Sandbox { stage, .. }) = self.sandboxes.get_mut(&key) else { return false };
        let Stage::Making { status, .. } = stage else { return false };
        let mut words = [0; 4096];
        let got = match rustix::net::recv(status, &mut words[..], rustix::net::RecvFlags::DONTWAIT) {
            Ok((got, _)) => got,
            Err(_) => 0,
        };
        if got == 0 {
            return false;
        }
        let text = String::from_utf8_lossy(&words[..got]).into_owned();
        let (step, reason) = text.split_once('\0').unwrap_or((&text, "unknown"));
        *stage = Stage::Failing { at: CreateStage::Mount, step: step.to_owned(), reason: reason.to_owned() };
        true
    }

    /// Some children have ended.
    pub(super) fn reap(&mut self) {
        let mut note = [0; 128 * 8];
        while rustix::io::read(&self.signals, &mut note).is_ok_and(|n| n > 0) {}
        while let Ok(Some((pid, status))) = waitpid(None, WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            match self.children.remove(&pid) {
                Some(key) => self.ended(key, status),
                None => self.copier_ended(pid, &how(status)),
            }
        }
    }

    fn ended(&mut self, key: Ticket, status: rustix::process::WaitStatus) {
        // Its last words, if both came at once.
        self.hear_last_words(key);
        let Some(mut sandbox) = self.sandboxes.remove(&key) else { return };
        match sandbox.stage {
            Stage::Making { .. } => {
                self.undo(sandbox.slot, sandbox.group, None);
                let (step, reason) =
                    ("becoming the guest".to_owned(), format!("the process {}", how(status)));
                self.report(&Report::NotCreated { ticket: key, stage: CreateStage::Mount, step, reason });
            }
            Stage::Failing { at, step, reason } => {
                self.undo(sandbox.slot, sandbox.group, None);
                self.report(&Report::NotCreated { ticket: key, stage: at, step, reason });
            }
            Stage::Ending { ticket, network } => {
                let leftover = self.undo(sandbox.slot, sandbox.group, network);
                self.report(&Report::Destroyed { ticket, leftover });
            }
            Stage::Alive | Stage::Adopted => {
                let reason = self.reason_of_death(&sandbox, &how(status));
                sandbox.stage = Stage::Dead;
                self.sandboxes.insert(key, sandbox);
                self.report(&Report::Died { key, reason });
            }
            Stage::Dead | Stage::EndingAdopted { .. } => {
                self.sandboxes.insert(key, sandbox);
            }
        }
    }

    fn reason_of_death(&self, sandbox: &Sandbox, how: &str) -> String {
        let kills = sandbox.group.as_ref().map_or(0, |group| self.stock.groups.oom_kills(&group.name));
        if kills > sandbox.oom_before {
            format!("oom: its memory limit was reached and the guest {how}")
        } else {
            format!("the guest {how}")
        }
    }

    /// Gives everything back; says what could not be.
    pub(super) fn undo(
        &mut self,
        slot: u32,
        group: Option<Group>,
        network: Option<OwnedFd>,
    ) -> Option<String> {
        if let Some(network) = network {
            self.stock.give_network(network);
        }
        self.stock.give_slot(slot);
        group.and_then(|group| self.stock.give_group(group).err())
    }

    /// Takes a sandbox of an earlier spawner into our care.
    pub(super) fn adopt(&mut self, body: Body) {
        self.stock.take_over(&body);
        let group = body.group.map(|name| Group::of_earlier_spawner(name, body.oom_before));
        let sandbox = Sandbox {
            pid: body.pid,
            start_time: body.start_time,
            slot: body.slot,
            group,
            oom_before: body.oom_before,
            stage: Stage::Adopted,
        };
        self.sandboxes.insert(body.key, sandbox);
        self.adopted.push(body.key);
    }

    /// Looks whether adopted guests live, some at a time: nobody tells us of their end.
    pub(super) fn look_after_adopted(&mut self) {
        let looks = LOOKS.min(self.adopted.len());
        for _ in 0..looks {
            self.next_look %= self.adopted.len();
            let key = self.adopted[self.next_look];
            let state = self.sandboxes.get(&key).map(|sandbox| {
                // What cannot be told now is looked at again.
                let alive = is_alive(sandbox.pid, sandbox.start_time).unwrap_or(true);
                (matches!(sandbox.stage, Stage::Adopted), alive)
            });
            match state {
                Some((true, true)) => self.next_look += 1,
                Some((true, false)) => {
                    self.adopted.swap_remove(self.next_look);
                    let Some(sandbox) = self.sandboxes.get_mut(&key) else { continue };
                    sandbox.stage = Stage::Dead;
                    let reason = self
                        .sandboxes
                        .get(&key)
                        .map(|s| self.reason_of_death(s, "ended"))
                        .unwrap_or_default();
                    self.report(&Report::Died { key, reason });
                }
                Some((false, _)) | None => drop(self.adopted.swap_remove(self.next_look)),
            }
            if self.adopted.is_empty() {
                return;
            }
        }
    }

    /// Ends a sandbox, ours or an earlier spawner's.
    pub(super) fn destroy(&mut self, ticket: Ticket, body: &Body) {
        if !self.sandboxes.contains_key(&body.key) {
            self.adopt(body.clone());
        }
        let Some(sandbox) = self.sandboxes.get_mut(&body.key) else { return };
        let group = sandbox.group.as_ref().map(|group| group.name.clone());
        match sandbox.stage {
            Stage::Alive => {
                // Opened before it ends: afterwards there is no name for it.
                let network = File::open(format!("/proc/{}/ns/net", body.pid)).ok().map(OwnedFd::from);
                sandbox.stage = Stage::Ending { ticket, network };
                // Not reaped yet, so the PID is still its own; at worst it has just ended by itself.
                let _ = kill_process(pid_of(sandbox.pid), Signal::KILL);
                self.thaw_for_death(group.as_deref());
            }
            Stage::Dead => self.gone(ticket, body.key),
            Stage::Adopted => self.destroy_adopted(ticket, body.key, group.as_deref()),
            Stage::Making { .. }
            | Stage::Failing { .. }
            | Stage::Ending { .. }
            | Stage::EndingAdopted { .. } => {
                let reason = "it is being made or ended already".to_owned();
                self.report(&Report::Failed { ticket, step: "ending the guest".to_owned(), reason });
            }
        }
    }

    /// Gives a sandbox other limits, ours or an earlier spawner's. Its group remembers them for the one after it.
    pub(super) fn limit(&mut self, ticket: Ticket, body: &Body, limits: &Limits) {
        if !self.sandboxes.contains_key(&body.key) {
            self.adopt(body.clone());
        }
        let Some(sandbox) = self.sandboxes.get_mut(&body.key) else { return };
        let limited = match &mut sandbox.group {
            Some(group) => self.stock.groups.limit(group, limits).map_err(|e| e.to_string()),
            None => Err("it has no control group".to_owned()),
        };
        self.report(&match limited {
            Ok(()) => Report::Limited { ticket },
            Err(reason) => Report::Failed { ticket, step: "setting its limits".to_owned(), reason },
        });
    }

    /// Lets the processes of a sandbox that was told to end do so at once, whatever CPU they have used.
    pub(super) fn hasten(&mut self, key: Ticket) {
        let Some(Sandbox { stage: Stage::Ending { .. } | Stage::EndingAdopted { .. }, group, .. }) =
            self.sandboxes.get_mut(&key)
        else {
            return;
        };
        if let Some(group) = group {
            // Where that fails they end later.
            drop(self.stock.groups.lift_cpu_limit(group));
        }
    }

    /// A frozen process of the v1 freezer does not even die.
    fn thaw_for_death(&self, group: Option<&str>) {
        if let Some(group) = group
            && self.stock.groups.is_frozen(group)
        {
            // Killed and frozen ends as soon as it is thawed; where that fails, the wait for its end shows it.
            drop(self.stock.groups.set_frozen(group, Frozen::No));
        }
    }

    fn destroy_adopted(&mut self, ticket: Ticket, key: Ticket, group: Option<&str>) {
        match self.end_adopted(key) {
            Ok(Some(pidfd)) => {
                if let Some(sandbox) = self.sandboxes.get_mut(&key) {
                    sandbox.stage = Stage::EndingAdopted { ticket, pidfd };
                }
                self.thaw_for_death(group);
            }
            Ok(None) => self.gone(ticket, key),
            Err(e) => {
                let (step, reason) = ("ending the guest".to_owned(), e.to_string());
                self.report(&Report::Failed { ticket, step, reason });
            }
        }
    }

    /// Kills an adopted guest; `None` when it is gone already.
    fn end_adopted(&self, key: Ticket) -> io::Result<Option<OwnedFd>> {
        let Some(sandbox) = self.sandboxes.get(&key) else { return Ok(None) };
        let Ok(pidfd) = pidfd_open(pid_of(sandbox.pid), PidfdFlags::empty()) else { return Ok(None) };
        // Looked at after opening: before, the PID may have become somebody else's.
        if !is_alive(sandbox.pid, sandbox.start_time)? {
            return Ok(None);
        }
        pidfd_send_signal(&pidfd, Signal::KILL)?;
        self.watch(pidfd.as_fd(), PIDFD_EVENT | key)?;
        Ok(Some(pidfd))
    }

    /// The pidfd of an adopted guest says that it has ended.
    pub(super) fn adopted_ended(&mut self, key: Ticket) {
        if let Some(Sandbox { stage: Stage::EndingAdopted { ticket, pidfd }, .. }) = self.sandboxes.get(&key)
        {
            // Fails only when it is not watched any more.
            let _ = rustix::event::epoll::delete(&self.epoll, pidfd);
            let ticket = *ticket;
            self.gone(ticket, key);
        }
    }

    /// Forgets a sandbox without processes.
    fn gone(&mut self, ticket: Ticket, key: Ticket) {
        let leftover = self.sandboxes.remove(&key).and_then(|s| self.undo(s.slot, s.group, None));
        self.report(&Report::Destroyed { ticket, leftover });
    }

    /// Ends every sandbox of ours that `which` holds for, and waits for the last.
    pub(super) fn end(&mut self, which: fn(&Stage) -> bool) {
        let mut left = 0;
        for sandbox in self.sandboxes.values().filter(|sandbox| which(&sandbox.stage)) {
            left += 1;
            // Those that have ended already are reaped below like the rest.
            let _ = kill_process(pid_of(sandbox.pid), Signal::KILL);
            self.thaw_for_death(sandbox.group.as_ref().map(|group| group.name.as_str()));
        }
        while left > 0
            && let Ok(Some((pid, _))) = waitpid(None, WaitOptions::empty())
        {
            let key = self.children.remove(&pid.as_raw_nonzero().get());
            if let Some(sandbox) = key.and_then(|key| self.sandboxes.remove(&key)) {
                left -= i32::from(which(&sandbox.stage));
                // Nobody is there to be told of leftovers; the next backend sweeps them.
                drop(self.undo(sandbox.slot, sandbox.group, None));
            }
        }
    }
}

/// How a process ended, in words.
fn how(status: rustix::process::WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (_, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
