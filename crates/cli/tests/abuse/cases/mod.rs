//! The attacks.

mod archives;
mod churn;
mod contexts;
mod control_plane;
mod cpu;
mod disk;
mod files;
mod guest;
mod images;
mod kernel;
mod memory;
mod observation;
mod output;
mod pools;
mod processes;
mod walls;

use std::time::Duration;

use crate::scene::Scene;

/// The payload that counts who is alive.
pub(crate) const CENSUS: &str = include_str!("../payloads/census.py");

/// The payload in which many processes are greedy at once.
const MOB: &str = include_str!("../payloads/mob.py");

/// How long processes have to vanish.
const VANISH: Duration = Duration::from_secs(1);

/// One attack of the threat model.
#[derive(Debug)]
pub(crate) struct Case {
    /// Its number there.
    pub(crate) id: &'static str,
    /// What it tries.
    pub(crate) title: &'static str,
}

/// All of them.
pub(crate) const ALL: &[Case] = &[
    Case { id: "T01", title: "fork bomb, thread bomb" },
    Case { id: "T02", title: "memory bomb: heap, tmpfs, memfd, shm" },
    Case { id: "T03", title: "disk fill, sparse files, empty files" },
    Case { id: "T05", title: "CPU spin, real-time priority, nice -20" },
    Case { id: "T06", title: "output flood, 1 GB line, NULs, tiny writes" },
    Case { id: "T07", title: "grandchild holds stdout open" },
    Case { id: "T08", title: "SIGTERM ignored, stopped at timeout" },
    Case { id: "T09", title: "daemons, nohup, subreaper, respawners" },
    Case { id: "T10", title: "10,000 zombies" },
    Case { id: "T11", title: "overwrite /proc/self/exe, /proc/1/exe" },
    Case { id: "T12", title: "leaked descriptors, working directory" },
    Case { id: "T13", title: "images: links, files, FIFOs as mount points" },
    Case { id: "T14", title: "file API traversal, links, FIFO, device" },
    Case { id: "T15", title: "archives: zip-slip, links, devices, bombs" },
    Case { id: "T16", title: "ptrace, process_vm, /proc/PID/mem" },
    Case { id: "T17", title: "kill(-1), TIOCSTI on the terminal" },
    Case { id: "T18", title: "kernel keyring: read and flood" },
    Case { id: "T19", title: "mount, fsopen, pivot_root, unshare" },
    Case { id: "T20", title: "cgroup files: own limits, release_agent" },
    Case { id: "T22", title: "sandbox to sandbox: network, files, layers" },
    Case { id: "T23", title: "setuid binary, file capabilities" },
    Case { id: "T24", title: "seccomp bypass: x32, int 0x80, io_uring" },
    Case { id: "T25", title: "leaks: kallsyms, /sys, dmesg, mountinfo" },
    Case { id: "T26", title: "reuse: files, IPC, daemons, variables" },
    Case { id: "T27", title: "forks: random numbers, ids" },
    Case { id: "T28", title: "secrets in variables, arguments, files, lists" },
    Case { id: "T30", title: "control plane: others' things, replays, floods" },
    Case { id: "T31", title: "kill or starve the guest" },
    Case { id: "T32", title: "very many come and go" },
];

/// Runs the attack against the defence.
pub(crate) async fn attack(case: &Case, scene: &mut Scene<'_>) -> anyhow::Result<()> {
    match case.id {
        "T01" => processes::crowd(scene).await,
        "T02" => memory::attack(scene).await,
        "T03" => disk::attack(scene).await,
        "T05" => cpu::attack(scene).await,
        "T06" => output::flood(scene).await,
        "T07" => output::held_open(scene).await,
        "T08" => processes::stubborn(scene).await,
        "T09" => processes::survivors(scene).await,
        "T10" => processes::zombies(scene).await,
        "T11" => observation::overwrite(scene).await,
        "T12" => observation::inherited(scene).await,
        "T13" => images::attack(scene).await,
        "T14" => files::attack(scene).await,
        "T15" => archives::attack(scene).await,
        "T16" => observation::trace(scene).await,
        "T17" => kernel::signals_and_terminals(scene).await,
        "T18" => kernel::keyring(scene).await,
        "T19" => kernel::mounts(scene).await,
        "T20" => kernel::cgroups(scene).await,
        "T22" => walls::attack(scene).await,
        "T23" => kernel::setuid(scene).await,
        "T24" => kernel::calls(scene).await,
        "T25" => observation::leaks(scene).await,
        "T26" => {
            pools::reuse(scene).await?;
            pools::set_back(scene).await
        }
        "T27" => {
            contexts::forks(scene).await?;
            walls::forks(scene).await
        }
        "T28" => pools::secrets(scene).await,
        "T30" => control_plane::attack(scene).await,
        "T31" => guest::attack(scene).await,
        "T32" => churn::attack(scene).await,
        other => anyhow::bail!("no attack is written for {other}"),
    }
}

/// Runs the same attack with the defence off: a limit raised, or no sandbox around it. Here "holds" means that the attack
/// succeeds.
pub(crate) async fn control(case: &Case, scene: &mut Scene<'_>) -> anyhow::Result<()> {
    match case.id {
        "T01" => processes::crowd_unlimited(scene).await,
        "T02" => memory::control(scene).await,
        "T03" => disk::control(scene).await,
        "T05" => cpu::control(scene).await,
        "T06" => output::flood_unbounded(scene).await,
        "T07" => output::held_open_to_the_end(scene).await,
        "T08" => processes::stubborn_with_term_alone(scene).await,
        "T09" => processes::survivors_of_the_leader(scene).await,
        "T10" => processes::zombies_unreaped(scene).await,
        "T11" => observation::overwrite_outside(scene).await,
        "T12" => observation::inherited_outside(scene).await,
        "T13" => images::control(scene).await,
        "T14" => files::control(scene).await,
        "T15" => archives::control(scene).await,
        "T16" => observation::trace_outside(scene).await,
        "T17" => kernel::signals_and_terminals_outside(scene).await,
        "T18" => kernel::keyring_outside(scene).await,
        "T19" => kernel::mounts_outside(scene).await,
        "T20" => kernel::cgroups_outside(scene).await,
        "T22" => walls::within_one(scene).await,
        "T23" => kernel::setuid_outside(scene).await,
        "T24" => kernel::calls_outside(scene).await,
        "T25" => observation::leaks_outside(scene).await,
        "T26" => pools::reuse_unwiped(scene).await,
        "T27" => contexts::forks_as_they_are(scene).await,
        "T28" => pools::secrets_as_variables(scene).await,
        "T30" => control_plane::control(scene).await,
        "T31" => guest::control(scene).await,
        "T32" => churn::control(scene).await,
        other => anyhow::bail!("no control is written for {other}"),
    }
}
