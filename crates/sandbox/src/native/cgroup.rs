//! Control groups, v1 and v2: made ahead, reused when empty.
//!
//! A *tree* is one directory of ours in one hierarchy; a group has one directory of the same name in each tree. On v2
//! there is one tree. On v1 there is one for each controller, and where the hybrid layout has a v2 hierarchy beside them
//! its tree freezes and kills. Trees are held open as directories, so they work where `/sys` is not mounted.

mod reclaim;

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::wire::Limits;

pub(crate) use reclaim::Reclaimable;

/// The period of the CPU quota, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// More of a control file than any of ours needs.
const FILE_LIMIT: usize = 64 << 10;

/// A step on a control group that failed.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub(crate) struct CgroupError {
    pub(crate) path: String,
    source: io::Error,
}

/// What a tree does for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controller {
    Memory,
    Pids,
    Cpu,
    Freezer,
}

impl Controller {
    const ALL: [Self; 4] = [Self::Memory, Self::Pids, Self::Cpu, Self::Freezer];

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
            Self::Freezer => "freezer",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

#[derive(Debug)]
struct Tree {
    directory: OwnedFd,
    path: PathBuf,
    version: Version,
    controllers: Vec<Controller>,
}

/// Where the groups of this node are.
#[derive(Debug)]
pub(crate) struct Layout {
    trees: Vec<Tree>,
    missing: Vec<(Controller, String)>,
    swap: Result<(), String>,
}

/// One group that a sandbox lives in.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    limits: Option<Limits>,
    /// OOM kills that it has seen before its present sandbox.
    pub(crate) oom_kills: u64,
    files: Files,
}

/// What becomes of the memory that a sandbox's files take, when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    /// It is free.
    Freed,
    /// Others are made of them, as long as which it counts for the group.
    Lent,
}

impl Group {
    /// What its sandbox has written outlives it.
    pub(crate) fn lends(&mut self) {
        self.files = Files::Lent;
    }

    /// Whether another sandbox may have it, which would pay for memory that is not its own.
    pub(crate) fn is_fit_for_another(&self) -> bool {
        self.files == Files::Freed
    }

    /// A group whose limits we did not set.
    pub(crate) fn of_earlier_spawner(name: String, oom_kills: u64) -> Self {
        Self { name, limits: None, oom_kills, files: Files::Freed }
    }
}

/// What a new process needs to be in its group from the start.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    /// The directory to be born into (`CLONE_INTO_CGROUP`), where there is v2.
    pub(crate) birthplace: Option<OwnedFd>,
    /// Files that the process writes `0` to, first of all. A thread that moves itself needs no lock of the whole
    /// machine's, unlike a process that is moved, which may wait a millisecond for it.
    pub(crate) enter: Vec<OwnedFd>,
    /// The file whose line `oom_kill N` counts OOM kills.
    pub(crate) oom_events: Option<OwnedFd>,
}

/// What a group uses; `None` for what nothing counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct GroupUsage {
    /// Since the group was made.
    pub(crate) cpu_us: Option<u64>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) processes: Option<u64>,
}

/// Which way to set a freezer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frozen {
    Yes,
    No,
}

/// One mounted hierarchy.
#[derive(Debug)]
struct Mounted {
    path: PathBuf,
    version: Version,
    options: Vec<String>,
}

/// The hierarchies that are mounted.
fn hierarchies() -> Vec<Mounted> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let path = PathBuf::from(left.split(' ').nth(4)?.replace("\\040", " "));
        let mut right = right.split(' ');
        let version = match right.next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let options = right.nth(1)?.split(',').map(str::to_owned).collect();
        Some(Mounted { path, version, options })
    };
    text.lines().filter_map(parse).collect()
}

/// Our own group's path in a hierarchy; the v2 one for an empty name.
fn own_path(controller: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        controllers.split(',').any(|c| c == controller).then(|| path.trim_start_matches('/').to_owned())
    })
}

/// Makes our directory in a hierarchy and proves that a group can be made in it.
fn usable(mount: &Path, controller: &str, name: Option<&str>) -> Result<(OwnedFd, PathBuf), String> {
    let path = match name {
        Some(name) => mount.join(name),
        // Root takes a place of its own; others what they stand in, if it was given to them.
        None if rustix::process::geteuid().is_root() => mount.join("hothouse"),
        None => mount.join(own_path(controller).unwrap_or_default()).join("hothouse"),
    };
    let explain = |what: &str, e: io::Error| format!("{what} {}: {e}", path.display());
    if !path.is_dir() {
        fs::create_dir_all(&path).map_err(|e| explain("cannot make", e))?;
    }
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let directory =
        rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| explain("cannot open", e.into()))?;
    let probe =
        format!("probe-{}-{}", std::process::id(), std::thread::current().name().unwrap_or("x").len());
    let mode = Mode::from_raw_mode(0o755);
    match rustix::fs::mkdirat(&directory, probe.as_str(), mode) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(explain("cannot make a group in", e.into())),
    }
    match rustix::fs::unlinkat(&directory, probe.as_str(), AtFlags::REMOVEDIR) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok((directory, path)),
        Err(e) => Err(explain("cannot remove a group from", e.into())),
    }
}

/// Whether a process of ours may go into a directory of a v2 hierarchy. Owning the directory is not enough: the kernel asks
/// for write access to the `cgroup.procs` of what our own group and that directory have in common.
fn reachable(mount: &Path, path: &Path) -> Result<(), String> {
    let own = mount.join(own_path("").unwrap_or_default());
    let common = path.ancestors().find(|ancestor| own.starts_with(ancestor)).unwrap_or(mount);
    let door = common.join("cgroup.procs");
    rustix::fs::accessat(CWD, &door, rustix::fs::Access::WRITE_OK, AtFlags::EACCESS)
        .map_err(|e| format!("no process may move below {}: {}: {e}", common.display(), door.display()))
}

fn read_at(directory: BorrowedFd<'_>, path: &str) -> io::Result<String> {
    let file = rustix::fs::openat(directory, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    fs::File::from(file).take(FILE_LIMIT as u64).read_to_string(&mut text)?;
    Ok(text)
}

impl Tree {
    fn failed<E: Into<io::Error>>(&self, path: &str) -> impl FnOnce(E) -> CgroupError {
        let path = self.path.join(path).display().to_string();
        move |source| CgroupError { path, source: source.into() }
    }

    fn write(&self, path: &str, value: &str) -> Result<(), CgroupError> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let write = || {
            let file = rustix::fs::openat(&self.directory, path, flags, Mode::empty())?;
            rustix::io::write(file, value.as_bytes())
        };
        write().map(drop).map_err(self.failed(path))
    }

    fn has(&self, path: &str) -> bool {
        rustix::fs::accessat(&self.directory, path, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    fn does(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }
}

impl Layout {
    /// Finds out what there is and what we may use. `name` is the directory to work under.
    pub(crate) fn detect(name: Option<&str>) -> Self {
        let mounted = hierarchies();
        let mut layout = Self { trees: Vec::new(), missing: Vec::new(), swap: Ok(()) };
        if let [only] = &mounted[..]
            && only.version == Version::V2
        {
            match detect_v2(&only.path, name) {
                Ok(tree) => layout.trees.push(tree),
                Err(reason) => layout.missing = Controller::ALL.map(|c| (c, reason.clone())).to_vec(),
            }
        } else {
            for controller in Controller::ALL {
                if let Err(reason) = layout.detect_v1(&mounted, controller, name) {
                    layout.missing.push((controller, reason));
                }
            }
        }
        layout.swap = layout.find_swap();
        layout
    }

    fn detect_v1(
        &mut self,
        mounted: &[Mounted],
        controller: Controller,
        name: Option<&str>,
    ) -> Result<(), String> {
        // Freezing and killing is better in the v2 hierarchy of the hybrid layout, where there is one for us.
        if controller == Controller::Freezer
            && let Some(unified) = mounted.iter().find(|m| m.version == Version::V2)
            && let Ok((directory, path)) = usable(&unified.path, "", name)
            && reachable(&unified.path, &path).is_ok()
        {
            let controllers = vec![controller];
            self.trees.push(Tree { directory, path, version: Version::V2, controllers });
            return Ok(());
        }
        let is_for =
            |m: &&Mounted| m.version == Version::V1 && m.options.iter().any(|o| o == controller.name());
        let Some(hierarchy) = mounted.iter().find(is_for) else {
            return Err(format!("no {} hierarchy is mounted", controller.name()));
        };
        let (directory, path) = usable(&hierarchy.path, controller.name(), name)?;
        // One hierarchy may hold several controllers.
        match self.trees.iter_mut().find(|tree| tree.path == path) {
            Some(tree) => tree.controllers.push(controller),
            None => {
                let controllers = vec![controller];
                self.trees.push(Tree { directory, path, version: Version::V1, controllers });
            }
        }
        Ok(())
    }

    fn tree(&self, controller: Controller) -> Option<&Tree> {
        self.trees.iter().find(|tree| tree.does(controller))
    }

    fn find_swap(&self) -> Result<(), String> {
        let off = fs::read_to_string("/proc/swaps").is_ok_and(|t| t.lines().count() <= 1);
        match self.tree(Controller::Memory) {
            Some(tree) if tree.version == Version::V2 || off => Ok(()),
            Some(tree) if tree.has("memory.memsw.limit_in_bytes") => Ok(()),
            Some(_) => Err("the kernel does not account swap (swapaccount=0)".to_owned()),
            None => Err("there is no memory controller".to_owned()),
        }
    }

    /// Why a controller is not usable; `Ok` when it is.
    pub(crate) fn controller(&self, controller: Controller) -> Result<(), String> {
        match self.missing.iter().find(|(missing, _)| *missing == controller) {
            Some((_, reason)) => Err(reason.clone()),
            None => Ok(()),
        }
    }

    /// Whether swap is limited together with memory.
    pub(crate) fn swap(&self) -> Result<(), String> {
        self.swap.clone()
    }

    /// True when sandboxes get groups at all.
    pub(crate) fn exists(&self) -> bool {
        !self.trees.is_empty()
    }

    /// Makes a group.
    pub(crate) fn make(&self, name: String) -> Result<Group, CgroupError> {
        for tree in &self.trees {
            match rustix::fs::mkdirat(&tree.directory, name.as_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(tree.failed(&name)(e)),
            }
        }
        Ok(Group { name, limits: None, oom_kills: 0, files: Files::Freed })
    }

    /// Sets the limits that differ from those that the group has.
    pub(crate) fn limit(&self, group: &mut Group, limits: &Limits) -> Result<(), CgroupError> {
        let old = group.limits.take();
        let changed = |f: fn(&Limits) -> u64| old.as_ref().map(f) != Some(f(limits));
        if changed(|l| l.memory_bytes)
            && let Some(tree) = self.tree(Controller::Memory)
        {
            limit_memory(tree, &group.name, limits.memory_bytes)?;
        }
        if changed(|l| l.pids.into())
            && let Some(tree) = self.tree(Controller::Pids)
        {
            tree.write(&format!("{}/pids.max", group.name), &limits.pids.to_string())?;
        }
        if changed(|l| l.cpu_quota_us)
            && let Some(tree) = self.tree(Controller::Cpu)
        {
            let quota = limits.cpu_quota_us;
            match tree.version {
                Version::V1 => tree.write(&format!("{}/cpu.cfs_quota_us", group.name), &quota.to_string())?,
                Version::V2 => {
                    tree.write(&format!("{}/cpu.max", group.name), &format!("{quota} {CPU_PERIOD_US}"))?
                }
            }
        }
        group.limits = Some(*limits);
        Ok(())
    }

    /// Lifts the CPU limit of a group whose processes are to end.
    pub(crate) fn lift_cpu_limit(&self, group: &mut Group) -> Result<(), CgroupError> {
        // Whoever has the group next sets all its limits anew.
        group.limits = None;
        match self.tree(Controller::Cpu) {
            Some(tree) if tree.version == Version::V1 => {
                tree.write(&format!("{}/cpu.cfs_quota_us", group.name), "-1")
            }
            Some(tree) => tree.write(&format!("{}/cpu.max", group.name), "max"),
            None => Ok(()),
        }
    }

    /// Opens what a new process of the group needs.
    pub(crate) fn doors(&self, group: &Group) -> Result<Doors, CgroupError> {
        let mut doors = Doors::default();
        for tree in &self.trees {
            let open = |path: &str, flags: OFlags| {
                rustix::fs::openat(&tree.directory, path, flags | OFlags::CLOEXEC, Mode::empty())
                    .map_err(tree.failed(path))
            };
            let name = &group.name;
            match tree.version {
                Version::V1 => doors.enter.push(open(&format!("{name}/tasks"), OFlags::WRONLY)?),
                Version::V2 => doors.birthplace = Some(open(name, OFlags::DIRECTORY | OFlags::RDONLY)?),
            }
            if tree.does(Controller::Memory) {
                doors.oom_events = Some(open(&oom_events(tree, name), OFlags::RDONLY)?);
            }
        }
        Ok(doors)
    }

    /// How many OOM kills the group has seen.
    pub(crate) fn oom_kills(&self, group: &str) -> u64 {
        self.tree(Controller::Memory).map_or(0, |tree| {
            // A group that cannot be read has not told of any.
            count_oom_kills(&read_at(tree.directory.as_fd(), &oom_events(tree, group)).unwrap_or_default())
        })
    }

    /// Freezes or thaws; returns once the write is done, `is_frozen` tells when it holds.
    pub(crate) fn set_frozen(&self, group: &str, frozen: Frozen) -> Result<(), String> {
        self.controller(Controller::Freezer)?;
        let tree = self.tree(Controller::Freezer).ok_or("there is no freezer")?;
        let (file, value) = match (tree.version, frozen) {
            (Version::V2, Frozen::Yes) => ("cgroup.freeze", "1"),
            (Version::V2, Frozen::No) => ("cgroup.freeze", "0"),
            (Version::V1, Frozen::Yes) => ("freezer.state", "FROZEN"),
            (Version::V1, Frozen::No) => ("freezer.state", "THAWED"),
        };
        tree.write(&format!("{group}/{file}"), value).map_err(|e| e.to_string())
    }

    /// True when every process of the group is stopped.
    pub(crate) fn is_frozen(&self, group: &str) -> bool {
        let Some(tree) = self.tree(Controller::Freezer) else { return false };
        let (file, frozen) = match tree.version {
            Version::V2 => ("cgroup.events", "frozen 1"),
            Version::V1 => ("freezer.state", "FROZEN"),
        };
        read_at(tree.directory.as_fd(), &format!("{group}/{file}")).is_ok_and(|text| text.contains(frozen))
    }

    /// What the group uses, as far as anything counts it.
    pub(crate) fn usage(&self, group: &str) -> GroupUsage {
        let read = |tree: &Tree, file: &str| read_at(tree.directory.as_fd(), &format!("{group}/{file}")).ok();
        let number = |text: String| text.trim().parse::<u64>().ok();
        let file = |controller, v1: &str, v2: &str| {
            let tree = self.tree(controller)?;
            read(tree, if tree.version == Version::V1 { v1 } else { v2 }).and_then(number)
        };
        // A v2 tree counts CPU time whatever its controllers are.
        let cpu_us = self.trees.iter().filter(|tree| tree.version == Version::V2).find_map(|tree| {
            let text = read(tree, "cpu.stat")?;
            text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok())
        });
        GroupUsage {
            cpu_us,
            memory_bytes: file(Controller::Memory, "memory.usage_in_bytes", "memory.current"),
            processes: file(Controller::Pids, "pids.current", "pids.current"),
        }
    }

    /// Processes in the group's directories.
    pub(crate) fn processes(&self, group: &str) -> Vec<i32> {
        let mut pids: Vec<i32> = Vec::new();
        for tree in &self.trees {
            let text = read_at(tree.directory.as_fd(), &format!("{group}/cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// True when the group is empty, as far as one cheap look tells. One that is gone, swept after its spawner ended, is.
    pub(crate) fn is_empty(&self, group: &str) -> bool {
        self.trees.first().is_none_or(|tree| {
            match read_at(tree.directory.as_fd(), &format!("{group}/cgroup.procs")) {
                Ok(text) => text.is_empty(),
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            }
        })
    }

    /// Removes an empty group.
    pub(crate) fn remove(&self, group: &str) -> Result<(), CgroupError> {
        for tree in &self.trees {
            match rustix::fs::unlinkat(&tree.directory, group, AtFlags::REMOVEDIR) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(e) => return Err(tree.failed(group)(e)),
            }
        }
        Ok(())
    }

    /// Names of the groups that begin with `prefix`.
    pub(crate) fn groups(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for tree in &self.trees {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
            let Ok(directory) = rustix::fs::openat(&tree.directory, ".", flags, Mode::empty()) else {
                continue;
            };
            let Ok(entries) = rustix::fs::Dir::new(directory) else { continue };
            let names_here =
                entries.filter_map(|entry| entry.ok()?.file_name().to_str().map(str::to_owned).ok());
            names.extend(names_here.filter(|name| name.starts_with(prefix)));
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn detect_v2(mount: &Path, name: Option<&str>) -> Result<Tree, String> {
    const WANTED: &str = "+memory +pids +cpu";
    let (directory, path) = usable(mount, "", name)?;
    reachable(mount, &path)?;
    let has_all = |dir: &Path| {
        fs::read_to_string(dir.join("cgroup.subtree_control")).is_ok_and(|text| {
            ["memory", "pids", "cpu"].iter().all(|c| text.split_whitespace().any(|word| word == *c))
        })
    };
    // From the mount down to ours, each level hands the controllers to the next.
    let below = path.strip_prefix(mount).map_err(|e| e.to_string())?;
    let mut level = mount.to_owned();
    for component in below.components().map(Some).chain([None]) {
        if !has_all(&level) {
            fs::write(level.join("cgroup.subtree_control"), WANTED)
                .map_err(|e| format!("cannot hand controllers down from {}: {e}", level.display()))?;
        }
        if let Some(component) = component {
            level.push(component);
        }
    }
    Ok(Tree { directory, path, version: Version::V2, controllers: Controller::ALL.to_vec() })
}

fn oom_events(tree: &Tree, group: &str) -> String {
    match tree.version {
        Version::V1 => format!("{group}/memory.oom_control"),
        Version::V2 => format!("{group}/memory.events"),
    }
}

/// The count in the line `oom_kill N`.
fn count_oom_kills(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// Memory and swap together.
fn limit_memory(tree: &Tree, group: &str, bytes: u64) -> Result<(), CgroupError> {
    let value = bytes.to_string();
    if tree.version == Version::V2 {
        tree.write(&format!("{group}/memory.max"), &value)?;
        let swap = format!("{group}/memory.swap.max");
        return if tree.has(&swap) { tree.write(&swap, "0") } else { Ok(()) };
    }
    let (memory, total) =
        (format!("{group}/memory.limit_in_bytes"), format!("{group}/memory.memsw.limit_in_bytes"));
    if !tree.has(&total) {
        return tree.write(&memory, &value);
    }
    // The kernel keeps memory ≤ memory and swap at all times, so the order depends on the direction.
    match tree.write(&memory, &value) {
        Ok(()) => tree.write(&total, &value),
        Err(_) => {
            tree.write(&total, &value)?;
            tree.write(&memory, &value)
        }
    }
}

/// Enters the groups whose doors these are. For the process itself, while it has one thread.
pub(crate) fn enter(doors: &[OwnedFd]) -> io::Result<()> {
    for door in doors {
        rustix::io::write(door, b"0")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oom_kills_are_counted_in_both_versions_files() {
        assert_eq!(count_oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), 7);
        assert_eq!(count_oom_kills("low 0\nhigh 0\nmax 31\noom 2\noom_kill 2\noom_group_kill 0\n"), 2);
        assert_eq!(count_oom_kills(""), 0);
    }
}
