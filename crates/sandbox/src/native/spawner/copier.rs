//! Copies a sandbox's files out of it: a process of its own for each that has many, which enters the sandbox's mount
//! namespace.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, kill_process, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::lender::mounts_of;
use super::life::pid_of;
use super::root::{Privilege, Step, at};
use super::stock::Stock;
use super::tree::{Copied, Owners, TreeCopy};
use super::{COPIER_EVENT, Spawner};
use crate::native::kernel::{self, Cloned};
use crate::native::wire::{Body, CopyOrder, Report, Then, Ticket};

/// So much is copied at once: it takes a tenth of a millisecond, in which no other order is obeyed.
const SMALL: Copied = Copied { bytes: 128 << 10, entries: 32 };

/// One that is under way.
#[derive(Debug)]
pub(super) struct Copier {
    ticket: Ticket,
    /// Its last words come here.
    line: OwnedFd,
    /// What it fills, on the shelf already.
    layers: Vec<u32>,
}

/// What a copier needs, opened before it is cloned.
struct Plan {
    namespace: OwnedFd,
    /// Where each upper layer goes, with the earlier snapshot's layer that it changes.
    targets: Vec<(OwnedFd, Option<OwnedFd>)>,
    owners: Owners,
}

fn directory(path: &str) -> Result<OwnedFd, Step> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(at(format!("opening {path}")))
}

impl Spawner {
    /// Starts to copy a sandbox's upper layers to directories of the machine.
    pub(super) fn copy(&mut self, ticket: Ticket, body: &Body, order: &CopyOrder) -> Result<(), Step> {
        let plan = self.plan_copy(body, order)?;
        // Most forks have little to copy, for which a process of its own would take longer than all the rest.
        if let Some(Copied { bytes, entries }) = self.copy_now(&plan)? {
            let layers = self.layers_of(order)?;
            self.report(&Report::Copied { ticket, bytes, entries, layers });
            return Ok(());
        }
        let (line, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(at("making a socket pair"))?;
        match kernel::clone_process(0, None).map_err(at("cloning a copier"))? {
            Cloned::Parent(pid) => {
                // While it copies.
                let layers = self.layers_of(order);
                let told = COPIER_EVENT | u64::from(pid.unsigned_abs());
                let watched = self.watch_once(line.as_fd(), told).map_err(at("watching the copier"));
                let layers = layers.and_then(|layers| match watched {
                    Ok(()) => Ok(layers),
                    Err(step) => {
                        self.take_off(&layers);
                        Err(step)
                    }
                });
                match layers {
                    Ok(layers) => {
                        self.copiers.insert(pid, Copier { ticket, line, layers });
                        Ok(())
                    }
                    Err(step) => {
                        // Nobody would hear what it has to say.
                        let _ = kill_process(pid_of(pid), Signal::KILL);
                        Err(step)
                    }
                }
            }
            Cloned::Child => {
                let words = match plan.run() {
                    Ok(Copied { bytes, entries }) => format!("{bytes} {entries}"),
                    Err(step) => format!("{}\0{}", step.name, step.source),
                };
                // If even this fails the parent sees a copier that ended without a word.
                let _ = rustix::io::write(&theirs, words.as_bytes());
                kernel::exit_child(0);
            }
        }
    }

    /// Copies what is little; what is more has not been copied.
    fn copy_now(&self, plan: &Plan) -> Result<Option<Copied>, Step> {
        if plan.targets.iter().any(|(_, base)| base.is_some()) {
            return Ok(None);
        }
        self.world.within(&plan.namespace, || plan.copy(SMALL))
    }

    /// Makes what is to be copied layers where that was ordered, all of it or nothing.
    fn layers_of(&mut self, order: &CopyOrder) -> Result<Vec<u32>, Step> {
        if order.then == Then::Nothing {
            return Ok(Vec::new());
        }
        let mut layers = Vec::with_capacity(order.layers.len());
        for (target, _) in &order.layers {
            match self.world.register(target) {
                Ok(layer) => layers.push(layer),
                Err(step) => {
                    self.take_off(&layers);
                    return Err(step);
                }
            }
        }
        Ok(layers)
    }

    fn plan_copy(&self, body: &Body, order: &CopyOrder) -> Result<Plan, Step> {
        let namespace = mounts_of(body)?;
        let targets = self.world.on_machine(|| {
            let mut targets = Vec::new();
            for (target, base) in &order.layers {
                targets.push((directory(target)?, base.as_deref().map(directory).transpose()?));
            }
            Ok(targets)
        })?;
        let owners = match self.world.privilege {
            Privilege::Root => Owners::From(Stock::first_id(body.slot)),
            Privilege::User => Owners::Ours,
        };
        Ok(Plan { namespace, targets, owners })
    }

    /// A copier has said its last word: who waits for it is told, while its process is about to end.
    pub(super) fn copier_spoke(&mut self, pid: i32) {
        let Some(copier) = self.copiers.get(&pid) else { return };
        let mut words = [0; 4096];
        match rustix::net::recv(&copier.line, &mut words[..], rustix::net::RecvFlags::DONTWAIT) {
            Ok((got, _)) if got > 0 => self.copied(pid, &String::from_utf8_lossy(&words[..got])),
            // It ends without one, and how is known in a moment.
            Ok(_) | Err(_) => {}
        }
    }

    /// A child has ended that was no guest: if it was a copier, and was not heard yet, who waits for it is told.
    pub(super) fn copier_ended(&mut self, pid: i32, how: &str) {
        self.copier_spoke(pid);
        self.copied(pid, &format!("copying its files\0the copier {how}"));
    }

    fn copied(&mut self, pid: i32, words: &str) {
        let Some(Copier { ticket, line: _, layers }) = self.copiers.remove(&pid) else { return };
        let counted = words
            .split_once(' ')
            .and_then(|(bytes, entries)| Some((bytes.parse().ok()?, entries.parse().ok()?)));
        let report = match counted {
            Some((bytes, entries)) => Report::Copied { ticket, bytes, entries, layers },
            None => {
                self.take_off(&layers);
                let (step, reason) = words.split_once('\0').unwrap_or((words, "unknown"));
                Report::Failed { ticket, step: step.to_owned(), reason: reason.to_owned() }
            }
        };
        self.report(&report);
    }
}

impl Plan {
    /// In a process of its own.
    fn run(&self) -> Result<Copied, Step> {
        // A copy that nobody waits for is of no use.
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(at("binding the copier to the spawner"))?;
        move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Mount))
            .map_err(at("entering the sandbox's mount namespace"))?;
        Ok(self.copy(Copied::ALL)?.unwrap_or_default())
    }

    /// In the sandbox's mount namespace; `None` where it is more than `most`.
    fn copy(&self, most: Copied) -> Result<Option<Copied>, Step> {
        let mut all = Copied::default();
        for (number, (target, base)) in self.targets.iter().enumerate() {
            if let Some(base) = base {
                let owners = if self.owners == Owners::Ours { Owners::Ours } else { Owners::Same };
                TreeCopy::run(base.as_fd(), target.as_fd(), owners, Copied::ALL)?;
            }
            // The root of the namespace is the sandbox's writable store.
            let upper = directory(&format!("/u{number}"))?;
            let Some(copied) = TreeCopy::run(upper.as_fd(), target.as_fd(), self.owners, most)? else {
                return Ok(None);
            };
            all.bytes += copied.bytes;
            all.entries += copied.entries;
        }
        Ok(Some(all))
    }
}
