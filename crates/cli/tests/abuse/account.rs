//! Memory that the server under test and its sandboxes are charged for, so that other work on the machine does not blur it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::outside::is_root;
use crate::world::hierarchies;

/// The control groups that everything of one world is charged to.
#[derive(Debug)]
pub(crate) struct Account {
    /// Where the server and its spawner are; a user's sandboxes without groups of their own too.
    server: PathBuf,
    /// Where its sandboxes' groups are, if they get any.
    sandboxes: Option<PathBuf>,
}

/// What was found in use, in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Memory {
    /// By this world alone: programs, files in memory, and what the kernel keeps for it.
    Charged(u64),
    /// By the whole machine, where nothing can be told apart.
    Machine(u64),
}

impl Memory {
    /// How much more that is than before, and than what other programs may have taken meanwhile.
    pub(crate) fn grown_since(self, before: Self) -> Option<String> {
        let (now, before, slack) = match (self, before) {
            (Self::Charged(now), Self::Charged(before)) => (now, before, 64 << 10),
            (Self::Machine(now), Self::Machine(before)) => (now, before, 256 << 10),
            (Self::Charged(_), Self::Machine(_)) | (Self::Machine(_), Self::Charged(_)) => {
                return Some("memory was counted in two ways".to_owned());
            }
        };
        (now > before + slack).then(|| format!("{self:?} KiB, {before} before"))
    }
}

impl Account {
    /// Opens an account in the name of a world; `None` for an ordinary user, who cannot.
    pub(crate) fn open(name: &str, sandboxes: Option<&str>) -> anyhow::Result<Option<Self>> {
        if !is_root() {
            return Ok(None);
        }
        let hierarchies = hierarchies();
        let memory = hierarchies
            .iter()
            .find(|path| path.ends_with("memory"))
            .or(hierarchies.first())
            .context("no hierarchy of control groups")?;
        let server = memory.join(name);
        fs::create_dir(&server).with_context(|| server.display().to_string())?;
        Ok(Some(Self { server, sandboxes: sandboxes.map(|name| memory.join(name)) }))
    }

    /// The file by which a process enters it.
    pub(crate) fn door(&self) -> PathBuf {
        self.server.join("cgroup.procs")
    }

    /// What is charged to it, in KiB; `None` while its files cannot be read.
    pub(crate) fn charged(&self) -> Option<u64> {
        let of = |group: &Path| {
            let stat = fs::read_to_string(group.join("memory.stat")).ok()?;
            let sum = |names: &[&str]| names.iter().map(|name| number(&stat, name)).sum::<u64>();
            let kernel = fs::read_to_string(group.join("memory.kmem.usage_in_bytes"));
            // The page cache is the machine's: it goes when somebody needs the room.
            Some(match kernel {
                Ok(kernel) => sum(&["total_rss", "total_shmem"]) + kernel.trim().parse::<u64>().ok()?,
                Err(_) => sum(&["anon", "shmem", "kernel"]),
            })
        };
        let sandboxes = match &self.sandboxes {
            // The server makes it when it starts.
            Some(group) => of(group)?,
            None => 0,
        };
        Some((of(&self.server)? + sandboxes) >> 10)
    }

    /// Closes it. Whoever was in it must be gone: the spawner ends after the server.
    pub(crate) async fn close(&self) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match fs::remove_dir(&self.server) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > until => {
                    let left = fs::read_to_string(self.door()).unwrap_or_default();
                    let left = left.split_whitespace().collect::<Vec<_>>().join(", ");
                    return Err(error).with_context(|| format!("processes of the server live on: {left}"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

fn number(stat: &str, name: &str) -> u64 {
    let words = stat.lines().filter_map(|line| line.split_once(' '));
    words.into_iter().find(|(word, _)| *word == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}
