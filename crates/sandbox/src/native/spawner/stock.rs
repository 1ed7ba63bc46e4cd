//! What is made ahead: network namespaces, control groups, ranges of user ids.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use super::network;
use super::root::{Step, at};
use crate::native::cgroup::{Group, Layout};
use crate::native::wire::{Body, Limits};

/// Network namespaces kept when sandboxes end.
const KEPT_NETWORKS: usize = 64;
/// Control groups kept when sandboxes end.
const KEPT_GROUPS: usize = 64;
/// The first host id of the first range.
const FIRST_ID: u32 = 0x1000_0000;
/// Ids in a range.
pub(super) const RANGE: u32 = 0x1_0000;
/// Ranges that fit below the ids that mean "none".
const SLOTS: u32 = (u32::MAX - 0xffff - FIRST_ID) / RANGE;

/// Everything that is lent to sandboxes.
#[derive(Debug)]
pub(super) struct Stock {
    pub(super) groups: Layout,
    /// Pieces made ahead of each kind. A network costs half of what a sandbox does, so those that come back serve again
    /// before new ones are made.
    ahead: usize,
    pub(super) networks: network::Pool,
    /// Says why there are no ready networks, once making one failed.
    network_trouble: Option<String>,
    ready_groups: Vec<Group>,
    /// Making groups ahead failed; each create tries for itself and reports it.
    group_trouble: bool,
    /// Begins the name of each of our groups.
    prefix: String,
    next_group: u64,
    /// The limits of the latest sandbox: the next one is likely to want the same.
    latest_limits: Option<Limits>,
    taken_slots: HashSet<u32>,
    next_slot: u32,
}

impl Stock {
    pub(super) fn new(groups: Layout, instance: &str, ahead: usize) -> Self {
        // Nodes on one machine begin in different places, so that their sandboxes rarely share ids.
        let begin = crate::native::stable_hash(instance.as_bytes()) % u64::from(SLOTS);
        let next_slot = u32::try_from(begin).unwrap_or(0);
        Self {
            groups,
            ahead,
            networks: network::Pool::new(ahead, KEPT_NETWORKS),
            network_trouble: None,
            ready_groups: Vec::new(),
            group_trouble: false,
            // A spawner's own: earlier ones on the same home had other PIDs.
            prefix: format!("{instance}-{}-", std::process::id()),
            next_group: 0,
            latest_limits: None,
            taken_slots: HashSet::new(),
            next_slot,
        }
    }

    /// Makes the first network, and says why that failed.
    pub(super) fn network_trouble(&mut self) -> Result<(), String> {
        if let Err(e) = self.networks.refill_one() {
            self.network_trouble = Some(e.to_string());
        }
        self.network_trouble.clone().map_or(Ok(()), Err)
    }

    /// True when a refill would do nothing.
    pub(super) fn is_full(&self) -> bool {
        (self.networks.is_full() || self.network_trouble.is_some())
            && (self.ready_groups.len() >= self.ahead || self.group_trouble || !self.groups.exists())
    }

    /// Makes one piece that is short.
    pub(super) fn refill_one(&mut self) {
        if self.groups.exists() && !self.group_trouble && self.ready_groups.len() < self.ahead {
            match self.new_group() {
                Ok(mut group) => {
                    let limits = self.latest_limits;
                    // Where this fails, taking the group tries again and reports it.
                    drop(limits.map(|limits| self.groups.limit(&mut group, &limits)));
                    self.ready_groups.push(group);
                }
                Err(_) => self.group_trouble = true,
            }
        }
        if let Err(e) = self.networks.refill_one() {
            self.network_trouble = Some(e.to_string());
        }
    }

    fn new_group(&mut self) -> Result<Group, Step> {
        let name = format!("{}{}", self.prefix, self.next_group);
        self.next_group += 1;
        self.groups.make(name).map_err(|e| at("making a control group")(std::io::Error::other(e)))
    }

    /// A group with these limits for a new sandbox, if there are groups at all.
    pub(super) fn take_group(&mut self, limits: &Limits) -> Result<Option<Group>, Step> {
        if !self.groups.exists() {
            return Ok(None);
        }
        self.latest_limits = Some(*limits);
        let mut group = match self.ready_groups.pop() {
            Some(group) => group,
            None => self.new_group()?,
        };
        match self.groups.limit(&mut group, limits) {
            Ok(()) => Ok(Some(group)),
            Err(e) => {
                let reason = match self.groups.remove(&group.name) {
                    Ok(()) => e.to_string(),
                    Err(left) => format!("{e}; and it stays: {left}"),
                };
                Err(at("setting limits")(std::io::Error::other(reason)))
            }
        }
    }

    /// Takes a group back; an error names what is left of it.
    pub(super) fn give_group(&mut self, mut group: Group) -> Result<(), String> {
        if !self.groups.is_empty(&group.name) {
            let left = self.groups.processes(&group.name);
            return Err(format!("processes {left:?} in control group {}", group.name));
        }
        // Those of an earlier spawner are not kept: a sweep tells by its name whether a group is in use.
        let is_ours = group.name.starts_with(&self.prefix);
        if self.ready_groups.len() < KEPT_GROUPS && is_ours && group.is_fit_for_another() {
            group.oom_kills = self.groups.oom_kills(&group.name);
            self.ready_groups.push(group);
            return Ok(());
        }
        self.groups.remove(&group.name).map_err(|e| e.to_string())
    }

    /// A range of ids that no living sandbox of ours has, and that none has had lately.
    pub(super) fn take_slot(&mut self) -> Result<u32, Step> {
        for _ in 0..SLOTS {
            let slot = self.next_slot;
            self.next_slot = (self.next_slot + 1) % SLOTS;
            if self.taken_slots.insert(slot) {
                return Ok(slot);
            }
        }
        let reason = format!("all {SLOTS} ranges are taken");
        Err(at("choosing a range of user ids")(std::io::Error::other(reason)))
    }

    pub(super) fn give_slot(&mut self, slot: u32) {
        self.taken_slots.remove(&slot);
    }

    /// The first host id of a slot.
    pub(super) fn first_id(slot: u32) -> u32 {
        FIRST_ID + slot * RANGE
    }

    /// A sandbox of an earlier spawner keeps its slot.
    pub(super) fn take_over(&mut self, body: &Body) {
        self.taken_slots.insert(body.slot);
    }

    /// Takes back the network of a dead sandbox.
    pub(super) fn give_network(&mut self, network: OwnedFd) {
        if let Err(e) = self.networks.give_back(network) {
            self.network_trouble = Some(e.to_string());
        }
    }

    /// Removes what was made ahead.
    pub(super) fn clear(&mut self) {
        for group in std::mem::take(&mut self.ready_groups) {
            // A group that will not go is swept by the next node on this home.
            drop(self.groups.remove(&group.name));
        }
    }
}
