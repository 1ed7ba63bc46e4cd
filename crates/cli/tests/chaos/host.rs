//! What the host has of a place: processes, control groups, mounts, directories.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::place::Place;
use crate::wait::until;

/// PID 1 of a sandbox, as the host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Guest {
    pub(crate) pid: i32,
    /// When it began, in ticks of this process's clock: PIDs are used again.
    began: u64,
}

impl Guest {
    /// The one that is written down in a sandbox's directory.
    pub(crate) fn of(directory: &Path) -> Result<Self> {
        let path = directory.join("state.json");
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        let state: Value = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        let pid =
            state["body"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).context("body.pid")?;
        let began = stat(pid).and_then(|stat| stat.began).with_context(|| format!("{pid} is not alive"))?;
        Ok(Self { pid, began })
    }

    pub(crate) fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.began == Some(self.began))
    }

    /// Kills it, and with it all that runs in its sandbox.
    pub(crate) fn kill(&self) -> Result<()> {
        let pid = Pid::from_raw(self.pid).context("a guest's PID")?;
        kill_process(pid, Signal::KILL).with_context(|| format!("killing guest {}", self.pid))
    }
}

/// The guests that are written down in a state directory and alive.
pub(crate) fn guests(states: &Path) -> BTreeSet<Guest> {
    let entries = fs::read_dir(states).into_iter().flatten().flatten();
    entries.filter_map(|entry| Guest::of(&entry.path()).ok()).collect()
}

struct Stat {
    parent: i32,
    /// `None` for a zombie, which holds nothing.
    began: Option<u64>,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = text.rsplit_once(')')?;
    let words: Vec<&str> = after.split_whitespace().collect();
    let began = words.get(19).and_then(|word| word.parse().ok()).filter(|_| words[0] != "Z");
    Some(Stat { parent: words.get(1)?.parse().ok()?, began })
}

fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The living children of a process.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().get();
    let is_child = |pid: &i32| stat(*pid).is_some_and(|stat| stat.parent == parent && stat.began.is_some());
    pids().into_iter().filter(is_child).filter_map(Pid::from_raw).collect()
}

/// The command line of a process.
pub(crate) fn arguments(pid: Pid) -> Vec<String> {
    let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// How many descriptors a process has open.
pub(crate) fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).map_or(0, |entries| entries.count())
}

/// Mounts that the host sees.
pub(crate) fn mounts() -> usize {
    fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines().count()
}

/// What is left of a place, each thing by name.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    pub(crate) processes: Vec<String>,
    pub(crate) cgroups: Vec<String>,
    pub(crate) mounts: usize,
    pub(crate) directories: Vec<String>,
}

impl Leftovers {
    /// Looks once.
    pub(crate) fn of(place: &Place, mounts_before: usize) -> Self {
        Self {
            processes: processes(place),
            cgroups: place.cgroup.as_deref().map(groups).unwrap_or_default(),
            mounts: mounts().saturating_sub(mounts_before),
            directories: directories(place),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.processes.is_empty()
            && self.cgroups.is_empty()
            && self.mounts == 0
            && self.directories.is_empty()
    }

    /// Looks until nothing is left, or for as long as anything may take: what ends is still seen for a moment.
    pub(crate) async fn at_rest(place: &Place, mounts_before: usize) -> Self {
        let mut last = Self::default();
        let rest = until("nothing to be left", async || {
            last = Self::of(place, mounts_before);
            Ok(if last.is_empty() { Ok(()) } else { Err(format!("{last:?}")) })
        });
        // What did not go is in `last`, which is what the caller wants to know.
        let _told_below = rest.await;
        last
    }
}

/// The server, its spawner, and all that is in its control groups or was noted as a guest.
fn processes(place: &Place) -> Vec<String> {
    let home = place.home().to_string_lossy().into_owned();
    let seen = place.seen();
    let belongs = |pid: i32| {
        let arguments = Pid::from_raw(pid).map(arguments).unwrap_or_default();
        let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        arguments.contains(&home)
            || place.cgroup.as_ref().is_some_and(|name| {
                arguments.contains(&format!("--cgroup={name}")) || group.contains(&format!("/{name}/"))
            })
    };
    let mut found: BTreeSet<i32> =
        seen.iter().filter(|guest| guest.is_alive()).map(|guest| guest.pid).collect();
    found.extend(
        pids().into_iter().filter(|pid| stat(*pid).is_some_and(|stat| stat.began.is_some()) && belongs(*pid)),
    );
    let told = |pid: &i32| format!("{pid} {:?}", Pid::from_raw(*pid).map(arguments).unwrap_or_default());
    found.iter().map(told).collect()
}

fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let entries = fs::read_dir(&root).into_iter().flatten().flatten();
    std::iter::once(root).chain(entries.map(|entry| entry.path())).collect()
}

/// The control groups of sandboxes: a server's own group stays for the next one.
fn groups(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        let entries = fs::read_dir(hierarchy.join(name)).into_iter().flatten().flatten();
        let names = entries.filter(|entry| entry.file_name().as_bytes().starts_with(b"hh"));
        found.extend(names.map(|entry| entry.path().display().to_string()));
    }
    found
}

/// Removes a server's own, empty groups.
pub(crate) fn remove_groups(name: &str) {
    for hierarchy in hierarchies() {
        let ours = hierarchy.join(name);
        let entries = fs::read_dir(&ours).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            // One that is in use was counted as a leftover before.
            let _counted = fs::remove_dir(entry.path());
        }
        let _counted = fs::remove_dir(&ours);
    }
}

/// What is left of sandboxes in the home, and directories elsewhere that belong to this home.
fn directories(place: &Place) -> Vec<String> {
    let home = place.home();
    let mut found: Vec<String> = ["sandboxes", "embedded"]
        .iter()
        .flat_map(|name| fs::read_dir(home.join(name)).into_iter().flatten().flatten())
        .map(|entry| entry.path().display().to_string())
        .collect();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let memories = ["/run", "/dev/shm"].map(PathBuf::from).into_iter().chain(runtime);
    for memory in memories {
        let entries = fs::read_dir(memory).into_iter().flatten().flatten();
        let ours = entries.filter(|entry| {
            entry.file_name().as_bytes().starts_with(b"hothouse-")
                && fs::read(entry.path().join("home")).is_ok_and(|owner| owner == home.as_os_str().as_bytes())
        });
        found.extend(ours.map(|entry| entry.path().display().to_string()));
    }
    found
}
