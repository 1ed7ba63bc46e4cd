//! What a server and its sandboxes hold of the machine: counted from outside, in `/proc` and the cgroup trees.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::report::Figure;
use super::sample::count;

/// Things that must not grow with the number of sandboxes that have come and gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footprint {
    /// Open descriptors of the server and its spawner.
    pub(super) fds: usize,
    /// Mounts that the server and its spawner see.
    pub(super) mounts: usize,
    /// Directories under the server's own cgroups, in all hierarchies.
    pub(super) cgroups: usize,
    /// Network namespaces that the server, its spawner and their children are in or hold open.
    pub(super) netns: usize,
    /// Processes below the spawner.
    pub(super) children: usize,
    /// Entries in the directory of sandboxes.
    pub(super) state_dirs: usize,
    /// Resident memory of the server and its spawner.
    pub(super) rss_bytes: u64,
}

/// Where to look.
#[derive(Debug, Clone)]
pub(super) struct Watched<'a> {
    /// The server, then its spawner.
    pub(super) processes: &'a [u32],
    /// The server's home.
    pub(super) home: &'a Path,
    /// The name of its cgroup directory.
    pub(super) cgroup: &'a str,
}

impl Watched<'_> {
    /// Counts now.
    pub(super) fn look(&self) -> Footprint {
        let children = self.guests();
        let mut netns = BTreeSet::new();
        for pid in self.processes.iter().chain(&children) {
            netns.extend(fs::read_link(format!("/proc/{pid}/ns/net")).ok());
        }
        let mut fds = 0;
        for pid in self.processes {
            for fd in entries(Path::new(&format!("/proc/{pid}/fd"))) {
                fds += 1;
                let target = fs::read_link(fd).unwrap_or_default();
                if target.to_string_lossy().starts_with("net:[") {
                    netns.insert(target);
                }
            }
        }
        Footprint {
            fds,
            mounts: self.processes.iter().map(|pid| lines(&format!("/proc/{pid}/mountinfo"))).sum(),
            cgroups: entries(Path::new("/sys/fs/cgroup"))
                .map(|hierarchy| directories(&hierarchy.join(self.cgroup)))
                .sum::<usize>()
                + directories(&Path::new("/sys/fs/cgroup").join(self.cgroup)),
            netns: netns.len(),
            children: children.len(),
            state_dirs: entries(&self.home.join("sandboxes")).count(),
            rss_bytes: self.processes.iter().map(|pid| field(&format!("/proc/{pid}/status"), "VmRSS:")).sum(),
        }
    }

    /// Proportional share of memory of the server and its spawner.
    pub(super) fn own_pss(&self) -> u64 {
        self.processes.iter().map(|pid| pss(*pid)).sum()
    }

    /// Proportional share of memory of all guests.
    pub(super) fn guests_pss(&self) -> u64 {
        self.guests().iter().map(|pid| pss(*pid)).sum()
    }

    /// Children of the server and of its spawner, those two aside.
    fn guests(&self) -> Vec<u32> {
        let mut found: Vec<u32> = self.processes.iter().flat_map(|pid| children(*pid)).collect();
        found.retain(|pid| !self.processes.contains(pid));
        found
    }
}

/// Direct children of a process; none when it has gone.
pub(super) fn children(pid: u32) -> Vec<u32> {
    entries(Path::new(&format!("/proc/{pid}/task")))
        .flat_map(|task| {
            let list = fs::read_to_string(task.join("children")).unwrap_or_default();
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

impl Footprint {
    /// The growth from `before` to `self`, one figure for each thing counted.
    pub(super) fn since(&self, before: &Self) -> Vec<Figure> {
        let counts = [
            ("descriptors of server and spawner", before.fds, self.fds),
            ("mounts that server and spawner see", before.mounts, self.mounts),
            ("cgroup directories", before.cgroups, self.cgroups),
            ("network namespaces in use or held", before.netns, self.netns),
            ("processes below the spawner", before.children, self.children),
            ("state directories", before.state_dirs, self.state_dirs),
        ];
        let mut figures: Vec<Figure> = counts
            .into_iter()
            .map(|(name, before, after)| Figure {
                name: name.to_owned(),
                before: Some(count(before)),
                value: count(after),
                unit: "",
            })
            .collect();
        figures.push(Figure {
            name: "resident memory of server and spawner".to_owned(),
            before: Some(mib(before.rss_bytes)),
            value: mib(self.rss_bytes),
            unit: "MiB",
        });
        figures
    }

    /// What has grown since `before` beyond the slack that pools and the allocator need; empty when nothing has.
    pub(super) fn grown_since(&self, before: &Self) -> Vec<&'static str> {
        // A pool may stand a few entries fuller or emptier than before.
        const POOL: usize = 64;
        const RSS: u64 = 8 << 20;
        let mut grown = Vec::new();
        for (name, before, after, slack) in [
            ("fds", before.fds, self.fds, POOL),
            ("mounts", before.mounts, self.mounts, 0),
            ("cgroups", before.cgroups, self.cgroups, POOL * 5),
            ("netns", before.netns, self.netns, POOL),
            ("processes", before.children, self.children, 0),
            ("state directories", before.state_dirs, self.state_dirs, 0),
        ] {
            if after > before + slack {
                grown.push(name);
            }
        }
        if self.rss_bytes > before.rss_bytes + RSS {
            grown.push("resident memory");
        }
        grown
    }
}

/// Bytes as MiB.
pub(super) fn mib(bytes: u64) -> f64 {
    kib(bytes) / 1024.0
}

/// Bytes as KiB.
pub(super) fn kib(bytes: u64) -> f64 {
    count(usize::try_from(bytes).unwrap_or(usize::MAX)) / 1024.0
}

fn entries(directory: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    // What has gone meanwhile has no entries.
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn directories(root: &Path) -> usize {
    entries(root).filter(|path| path.is_dir()).map(|path| 1 + directories(&path)).sum()
}

fn lines(path: &str) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

/// Proportional share of memory of a process; 0 when it has gone.
pub(super) fn pss(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// A field in kB of a file in `/proc`, in bytes; 0 when the process has gone.
fn field(path: &str, name: &str) -> u64 {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0)
        << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Footprint = Footprint {
        fds: 20,
        mounts: 30,
        cgroups: 8,
        netns: 4,
        children: 0,
        state_dirs: 0,
        rss_bytes: 10 << 20,
    };

    #[test]
    fn a_leak_is_named_and_a_fuller_pool_is_not() {
        assert!(NOTHING.grown_since(&NOTHING).is_empty());
        let fuller = Footprint { fds: 60, netns: 40, ..NOTHING };
        assert!(fuller.grown_since(&NOTHING).is_empty());
        let leaks = Footprint { mounts: 31, children: 1, rss_bytes: 30 << 20, ..NOTHING };
        assert_eq!(leaks.grown_since(&NOTHING), ["mounts", "processes", "resident memory"]);
    }

    #[test]
    fn this_process_holds_something() {
        let own = [std::process::id()];
        let home = tempfile::tempdir().unwrap();
        let found = Watched { processes: &own, home: home.path(), cgroup: "no-such-group" }.look();
        assert!(found.fds > 0 && found.mounts > 0 && found.netns == 1 && found.rss_bytes > 0, "{found:?}");
        assert_eq!((found.cgroups, found.state_dirs), (0, 0));
    }
}
