//! Memory that outputs are read into, one after another.

use std::mem::MaybeUninit;

use super::server::READ_SIZE;

/// Room for one read. It is never cleared beforehand: pages that no output has reached cost nothing, in each of thousands
/// of idle guests.
#[derive(Debug, Default)]
pub struct Scratch(Vec<u8>);

impl Scratch {
    /// The first `bytes` of it, at most 64 KiB.
    pub fn room(&mut self, bytes: usize) -> &mut [MaybeUninit<u8>] {
        self.0.reserve_exact(READ_SIZE);
        &mut self.0.spare_capacity_mut()[..bytes.min(READ_SIZE)]
    }
}
