//! What of `/proc` a sandbox does not see, or sees but cannot write.

use std::path::Path;

/// Files that tell of the machine or act on it.
const FILES: [&str; 7] =
    ["kcore", "keys", "latency_stats", "timer_list", "sched_debug", "sysrq-trigger", "kallsyms"];
/// Directories that do.
const DIRECTORIES: [&str; 2] = ["scsi", "acpi"];
/// Directories that stay, without their say.
const READ_ONLY: [&str; 4] = ["sys", "bus", "fs", "irq"];

/// What this kernel's `/proc` has of them: found out once, since it is the same in every sandbox.
#[derive(Debug)]
pub(super) struct Masks {
    /// What is bound on top, and the name in `/proc`.
    pub(super) covered: Vec<(&'static str, &'static str)>,
    pub(super) read_only: Vec<&'static str>,
}

impl Masks {
    /// Looks at the `/proc` of the spawner.
    pub(super) fn find() -> Self {
        let exists = |name: &&&'static str| Path::new("/proc").join(**name).exists();
        let cover = |with: &'static str| move |name: &&'static str| (with, *name);
        let files = FILES.iter().filter(exists).map(cover("/dev/null"));
        let directories = DIRECTORIES.iter().filter(exists).map(cover("/empty"));
        Self {
            covered: files.chain(directories).collect(),
            read_only: READ_ONLY.iter().filter(exists).copied().collect(),
        }
    }
}
