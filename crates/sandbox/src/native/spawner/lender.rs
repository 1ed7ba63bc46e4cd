//! Lends what a sandbox has written to others, as layers.

use std::fs::File;
use std::os::fd::OwnedFd;

use super::Spawner;
use super::root::{Step, at};
use crate::native::process::is_alive;
use crate::native::wire::{Body, Report, Ticket};

impl Spawner {
    /// Puts the upper layers of a sandbox on the shelf. They are there, whatever becomes of the sandbox, until they are
    /// taken off and nothing is made of them.
    pub(super) fn lend(&mut self, ticket: Ticket, body: &Body, overlays: u32) -> Result<Report, Step> {
        self.world.can_lend()?;
        let namespace = mounts_of(body)?;
        let (trees, store) = self.world.upper_layers(&namespace, overlays)?;
        let mut layers = Vec::with_capacity(trees.len());
        for (number, tree) in trees.iter().enumerate() {
            match self.world.shelve(tree, &format!("u{number} of a sandbox")) {
                Ok(layer) => layers.push(layer),
                Err(step) => {
                    self.take_off(&layers);
                    return Err(step);
                }
            }
        }
        if let Some(group) = self.sandboxes.get_mut(&body.key).and_then(|sandbox| sandbox.group.as_mut()) {
            group.lends();
        }
        let bytes = store.f_blocks.saturating_sub(store.f_bfree).saturating_mul(store.f_frsize);
        let entries = store.f_files.saturating_sub(store.f_ffree);
        Ok(Report::Lent { ticket, bytes, entries, layers })
    }

    pub(super) fn take_off(&self, layers: &[u32]) {
        for &layer in layers {
            self.world.unregister(layer);
        }
    }
}

/// The mount namespace of a sandbox that lives.
pub(super) fn mounts_of(body: &Body) -> Result<OwnedFd, Step> {
    let namespace = File::open(format!("/proc/{}/ns/mnt", body.pid))
        .map_err(at("opening the sandbox's mount namespace"))?;
    // Looked at after opening: before, the PID may have become somebody else's.
    if !is_alive(body.pid, body.start_time).map_err(at("looking for its guest"))? {
        return Err(at("looking for its guest")(std::io::Error::other("it is gone")));
    }
    Ok(namespace.into())
}
