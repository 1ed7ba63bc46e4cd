//! From order to guest.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, kill_process};

use super::child::{self, Go, Plan};
use super::life::{Sandbox, Stage, pid_of};
use super::root::{MAX_LAYERS, Privilege, Step, at};
use super::stock::{RANGE, Stock};
use super::{STATUS_EVENT, Spawner};
use crate::makings::{CreateStage, SpawnTimes};
use crate::native::cgroup::{Doors, Group};
use crate::native::kernel::{self, Cloned};
use crate::native::packet;
use crate::native::process;
use crate::native::wire::{CreateOrder, Ticket};

/// The parent's and the child's end of the socket between them: "go" one way, a failed step the other. It closes when
/// the guest is executed.
struct Line {
    parent: OwnedFd,
    child: OwnedFd,
}

/// What a create holds before there is a process.
struct Prepared {
    group: Option<Group>,
    doors: Doors,
    slot: u32,
    line: Line,
    oom_before: u64,
}

impl Spawner {
    /// Starts making a sandbox. What comes of it is reported later, unless this fails.
    pub(super) fn create(
        &mut self,
        ticket: Ticket,
        order: &CreateOrder,
        mut fds: Vec<OwnedFd>,
    ) -> Result<(), (CreateStage, Step)> {
        let mut times = SpawnTimes::default();
        let begin = Instant::now();
        let listener = fds.pop().ok_or_else(|| io::Error::other("the order came without it"));
        let unprepared = |step| (CreateStage::Prepare, step);
        let listener = listener.map_err(at("taking the listener")).map_err(unprepared)?;
        let layers = distinct_layers(order).map_err(unprepared)?;
        let prepared = self.prepare(order).map_err(unprepared)?;
        let ready = Instant::now();
        times.prepare = ready - begin;
        let cloned = match kernel::clone_process(
            kernel::NAMESPACES,
            prepared.doors.birthplace.as_ref().map(AsFd::as_fd),
        ) {
            Ok(cloned) => cloned,
            Err(e) => {
                let left = self.undo(prepared.slot, prepared.group, None);
                let left = left.map(|left| format!("; left behind: {left}")).unwrap_or_default();
                let step = at("cloning with namespaces")(io::Error::other(format!("{e}{left}")));
                return Err((CreateStage::Clone, step));
            }
        };
        let pid = match cloned {
            Cloned::Parent(pid) => pid,
            Cloned::Child => self.be_child(order, &layers, &listener, prepared),
        };
        let Prepared { group, slot, line, oom_before, .. } = prepared;
        drop(line.child);
        let cloned = Instant::now();
        times.clone = cloned - ready;
        let mut sandbox = Sandbox { pid, start_time: 0, slot, group, oom_before, stage: Stage::Alive };
        sandbox.stage = match self.send_off(pid, slot, &layers, &line.parent) {
            Ok(()) => {
                let sent_off = Instant::now();
                times.ids = sent_off - cloned;
                Stage::Making { status: line.parent, sent_off, times }
            }
            Err(step) => {
                // It waits for a word that will not come.
                let _ = kill_process(pid_of(pid), Signal::KILL);
                Stage::Failing { at: CreateStage::Ids, step: step.name, reason: step.source.to_string() }
            }
        };
        // While the child mounts.
        match process::began(pid) {
            Ok(Some(began)) => sandbox.start_time = began,
            // It has ended, and is reaped and reported in a moment.
            Ok(None) => {}
            // No later server would know it again.
            Err(e) => {
                let _ = kill_process(pid_of(pid), Signal::KILL);
                let step = "looking when the child began".to_owned();
                sandbox.stage = Stage::Failing { at: CreateStage::Mount, step, reason: e.to_string() };
            }
        }
        if let Stage::Making { status, .. } = &sandbox.stage
            && let Err(e) = self.watch_once(status.as_fd(), STATUS_EVENT | u64::from(pid.unsigned_abs()))
        {
            let _ = kill_process(pid_of(pid), Signal::KILL);
            let (step, reason) = ("watching the child".to_owned(), e.to_string());
            sandbox.stage = Stage::Failing { at: CreateStage::Mount, step, reason };
        }
        self.children.insert(pid, ticket);
        self.sandboxes.insert(ticket, sandbox);
        Ok(())
    }

    /// Takes from the stock and makes what the child needs before it is cloned.
    fn prepare(&mut self, order: &CreateOrder) -> Result<Prepared, Step> {
        self.stock.networks.enter().map_err(at("entering a network namespace"))?;
        let (parent, child) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(at("making a socket pair"))?;
        let line = Line { parent, child };
        let group = self.stock.take_group(&order.limits)?;
        let doors = match &group {
            Some(group) => self
                .stock
                .groups
                .doors(group)
                .map_err(|e| at("opening the control groups")(io::Error::other(e)))?,
            None => Doors::default(),
        };
        let oom_before = group.as_ref().map_or(0, |group| group.oom_kills);
        match self.stock.take_slot() {
            Ok(slot) => Ok(Prepared { group, doors, slot, line, oom_before }),
            Err(step) => {
                if let Some(group) = group {
                    self.stock.give_group(group).map_err(|e| at(step.name.clone())(io::Error::other(e)))?;
                }
                Err(step)
            }
        }
    }

    /// In the child: becomes the guest or tells why not.
    fn be_child(&mut self, order: &CreateOrder, layers: &[u32], listener: &OwnedFd, prepared: Prepared) -> ! {
        let Prepared { doors, line, .. } = prepared;
        drop(line.parent);
        let plan = Plan {
            order,
            privilege: self.world.privilege,
            fallback: self.equipment.fallback,
            landlock: self.equipment.landlock,
            filter: &self.equipment.filter,
            masks: &self.equipment.masks,
            guest: self.equipment.guest.as_fd(),
            listener: listener.as_fd(),
            doors: &doors,
            go: line.child.as_fd(),
            layers,
        };
        let step = child::run(&plan, &mut self.reserved);
        let words = format!("{}\0{}", step.name, step.source);
        // If even this fails the parent sees a child that ended without a word.
        let _ = rustix::io::write(&line.child, words.as_bytes());
        kernel::exit_child(1);
    }

    /// What only the parent can do for the child.
    fn send_off(&self, pid: i32, slot: u32, layers: &[u32], line: &OwnedFd) -> Result<(), Step> {
        let map = match self.world.privilege {
            Privilege::Root => format!("0 {} {RANGE}", Stock::first_id(slot)),
            Privilege::User => "0 0 1".to_owned(),
        };
        for name in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{pid}/{name}"), &map).map_err(at(format!("writing {name}")))?;
        }
        let userns = match self.world.idmap {
            Ok(()) => {
                let userns = File::open(format!("/proc/{pid}/ns/user"));
                Some(userns.map_err(at("opening the user namespace"))?.into())
            }
            Err(_) => None,
        };
        let trees = self.world.copies(layers, userns.as_ref())?;
        let trees: Vec<_> = trees.iter().map(AsFd::as_fd).collect();
        packet::send(line.as_fd(), &Go { layers: trees.len() }, &trees).map_err(at("sending the child off"))
    }
}

/// The trees that the layers of all overlays are in, in order of first use.
fn distinct_layers(order: &CreateOrder) -> Result<Vec<u32>, Step> {
    let mut layers: Vec<u32> = Vec::new();
    for layer in order.overlays.iter().flat_map(|overlay| &overlay.layers) {
        if !layers.contains(&layer.tree) {
            layers.push(layer.tree);
        }
    }
    if layers.len() > MAX_LAYERS {
        let reason = format!("{} layers; at most {MAX_LAYERS}", layers.len());
        return Err(at("counting layers")(io::Error::other(reason)));
    }
    Ok(layers)
}
