//! The host as an attack must leave it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::account::{Account, Memory};
use crate::outside::is_root;

/// What is counted: what belongs to the server under test, as far as that can be told apart from other work on the machine.
#[derive(Debug, Clone)]
pub(crate) struct HostState {
    /// See [`Memory`].
    pub(crate) memory: Memory,
    /// Open files of the whole machine and how many of them are descriptors of others; for root, who sees them all.
    pub(crate) files: Option<(u64, u64)>,
    /// Descriptors of the server and its spawner.
    pub(crate) fds: usize,
    /// Resident memory of the server and its spawner, in KiB.
    pub(crate) resident_kib: u64,
    /// Processes inside sandboxes.
    pub(crate) inmates: usize,
    /// Mounts that the host sees.
    pub(crate) mounts: usize,
    /// Mounts in the spawner's own namespace.
    pub(crate) spawner_mounts: usize,
    /// Network namespaces that are in use or pooled.
    pub(crate) netns: usize,
    /// Cgroups below ours.
    pub(crate) cgroups: usize,
}

/// What a machine may gain without anything having leaked: pools refill, others map files that they hold no descriptor of.
const SLACK_FILES: u64 = 2048;
const SLACK_FDS: u64 = 24;
const SLACK_POOL: u64 = 24;

impl HostState {
    /// Takes stock around the server with this pid, whose cgroups have this name.
    pub(crate) fn take(server: u32, cgroup: Option<&str>, account: Option<&Account>) -> Self {
        let family = family(server);
        let here = namespace(std::process::id(), "pid");
        let (ours, inmates): (Vec<u32>, Vec<u32>) =
            family.iter().partition(|pid| namespace(**pid, "pid") == here);
        let mut netns: BTreeSet<String> = family.iter().filter_map(|pid| namespace(*pid, "net")).collect();
        let mut fds = 0;
        for pid in &ours {
            for target in descriptors(*pid) {
                fds += 1;
                let target = target.to_string_lossy().into_owned();
                if target.starts_with("net:[") {
                    netns.insert(target);
                }
            }
        }
        let of_others = || pids().filter(|pid| !family.contains(pid)).map(open_descriptors).sum();
        let spawner_mounts = ours.iter().map(|pid| mounts(&pid.to_string())).max().unwrap_or(0);
        let used = || meminfo("MemTotal:").saturating_sub(meminfo("MemAvailable:"));
        Self {
            memory: account
                .and_then(Account::charged)
                .map_or_else(|| Memory::Machine(used()), Memory::Charged),
            files: is_root().then(|| (first_number("/proc/sys/fs/file-nr"), of_others())),
            fds,
            resident_kib: ours.iter().map(|pid| resident_kib(*pid)).sum(),
            inmates: inmates.len(),
            mounts: mounts("self"),
            spawner_mounts,
            netns: netns.len(),
            cgroups: cgroup.map_or(0, count_cgroups),
        }
    }

    /// What has grown since `before` by more than pools and other programs explain.
    pub(crate) fn grown_since(&self, before: &Self) -> Vec<String> {
        let mut grown: Vec<String> = self.memory.grown_since(before.memory).into_iter().collect();
        let mut check = |name: &str, now: u64, before: u64, slack: u64| {
            if now > before + slack {
                grown.push(format!("{name} {before} → {now}"));
            }
        };
        if let (Some((now, others_now)), Some((then, others_then))) = (self.files, before.files) {
            check("open files", now, then + others_now.saturating_sub(others_then), SLACK_FILES);
        }
        check("descriptors", self.fds as u64, before.fds as u64, SLACK_FDS);
        check("processes in sandboxes", self.inmates as u64, before.inmates as u64, 0);
        check("mounts", self.mounts as u64, before.mounts as u64, 0);
        check("mounts of the spawner", self.spawner_mounts as u64, before.spawner_mounts as u64, 2);
        check("network namespaces", self.netns as u64, before.netns as u64, SLACK_POOL);
        check("cgroups", self.cgroups as u64, before.cgroups as u64, SLACK_POOL * 5);
        grown
    }
}

/// A process and all its descendants.
pub(crate) fn family(root: u32) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for pid in pids() {
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = BTreeSet::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        if found.insert(pid) {
            next.extend(children.remove(&pid).unwrap_or_default());
        }
    }
    found
}

/// The processes that are PID 1 of a sandbox of this server, by the sandbox's host name.
pub(crate) fn guests(server: u32) -> Vec<u32> {
    family(server)
        .into_iter()
        .filter(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| {
                let mut words = line.split_whitespace();
                words.next() == Some("NSpid:") && words.clone().count() > 1 && words.last() == Some("1")
            })
        })
        .collect()
}

/// The peak of a process's resident memory, in KiB.
pub(crate) fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    number_after(&status, "VmHWM:")
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    number_after(&status, "VmRSS:")
}

/// Makes the kernel forget a process's peak so far.
pub(crate) fn forget_peak(pid: u32) -> std::io::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("/proc");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    let mut words = after.split_whitespace();
    // A zombie holds nothing; its parent is late, no more.
    if words.next() == Some("Z") { None } else { words.next()?.parse().ok() }
}

fn namespace(pid: u32, kind: &str) -> Option<String> {
    Some(fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?.to_string_lossy().into_owned())
}

fn descriptors(pid: u32) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect()
}

fn open_descriptors(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64)
}

fn mounts(pid: &str) -> usize {
    fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default().lines().count()
}

fn number_after(text: &str, label: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(label)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn meminfo(label: &str) -> u64 {
    number_after(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), label)
}

fn first_number(path: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn count_cgroups(name: &str) -> usize {
    let Ok(hierarchies) = fs::read_dir("/sys/fs/cgroup") else { return 0 };
    let below = |hierarchy: fs::DirEntry| directories(&hierarchy.path().join(name));
    hierarchies.filter_map(Result::ok).map(below).sum()
}

fn directories(path: &Path) -> usize {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let below =
        entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    1 + below.map(|entry| directories(&entry.path())).sum::<usize>()
}
