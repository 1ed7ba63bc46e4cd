//! Taking memory back from a group. What a program holds and what it wrote to files can only go to swap; what was read
//! from files of an image can be read again.

use super::{CgroupError, Controller, Layout, Tree, Version, read_at};
use std::os::fd::AsFd as _;

/// What can be taken back on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reclaimable {
    /// What was read from files, and what is written to swap.
    All,
    /// Only what was read from files, and why.
    Read { reason: String },
}

impl Layout {
    /// What can be taken back here.
    pub(crate) fn reclaims(&self) -> Result<Reclaimable, String> {
        let tree = self.tree(Controller::Memory).ok_or("there is no memory controller")?;
        let door = door(tree);
        if !tree.has(door) {
            return Err(format!("{} has no {door}", tree.path.display()));
        }
        let reason = if tree.version == Version::V2 {
            // Limits on memory and on swap are apart there, and ours on swap is none.
            "sandboxes use no swap".to_owned()
        } else if swap_is_off() {
            "there is no swap".to_owned()
        } else {
            return Ok(Reclaimable::All);
        };
        Ok(Reclaimable::Read { reason })
    }

    /// Bytes of a group that may be taken back, where so much room is left in swap.
    pub(crate) fn reclaimable(&self, group: &str, swap: u64) -> u64 {
        let Some(tree) = self.tree(Controller::Memory).filter(|tree| tree.has(door(tree))) else { return 0 };
        // A group that is gone has nothing.
        let stat = read_at(tree.directory.as_fd(), &format!("{group}/memory.stat")).unwrap_or_default();
        match tree.version {
            Version::V1 => {
                sum(&stat, &["inactive_file", "active_file"])
                    + sum(&stat, &["inactive_anon", "active_anon"]).min(swap)
            }
            Version::V2 => sum(&stat, &["inactive_file", "active_file"]),
        }
    }

    /// Has the kernel take back what it can of a group. May take long where it is written to swap.
    pub(crate) fn reclaim(&self, group: &str, bytes: u64) -> Result<(), CgroupError> {
        let Some(tree) = self.tree(Controller::Memory) else { return Ok(()) };
        let path = format!("{group}/{}", door(tree));
        let done = match tree.version {
            Version::V1 => tree.write(&path, "0"),
            Version::V2 => tree.write(&path, &bytes.to_string()),
        };
        match done {
            // Less than was asked for: that is what there was.
            Err(error) if matches!(error.source.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => Ok(()),
            done => done,
        }
    }
}

fn door(tree: &Tree) -> &'static str {
    match tree.version {
        Version::V1 => "memory.force_empty",
        Version::V2 => "memory.reclaim",
    }
}

fn swap_is_off() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() <= 1)
}

/// The sum of these lines of a `memory.stat`.
fn sum(stat: &str, names: &[&str]) -> u64 {
    let value = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        names.contains(&name).then(|| value.trim().parse::<u64>().ok())?
    };
    stat.lines().filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_summed_by_their_whole_name() {
        let stat = "cache 9\ninactive_file 3\nactive_file 4\ntotal_active_file 100\nactive_anon x\n";
        assert_eq!(sum(stat, &["inactive_file", "active_file"]), 7);
        assert_eq!(sum(stat, &["active_anon"]), 0);
    }
}
