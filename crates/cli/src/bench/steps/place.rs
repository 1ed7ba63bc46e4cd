//! Which cores server and load are on.

use std::process::{Child, Command};

use anyhow::{Context as _, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where server and load run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Wherever the kernel puts them.
    Anywhere,
    /// Never on the same core.
    Apart {
        /// The server's.
        server: Vec<usize>,
        /// One for each thread that makes load.
        load: Vec<usize>,
    },
}

impl Placement {
    /// The last cores for the threads that make load, those before for the server.
    ///
    /// # Errors
    /// When there are not enough cores for both.
    pub(super) fn apart(threads: usize) -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None).context("asking for the allowed cores")?;
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
        if cores.len() <= threads {
            bail!(
                "--pin needs a core for the server beside {threads} for the load, and this process may use {}",
                cores.len()
            );
        }
        let (server, load) = cores.split_at(cores.len() - threads);
        Ok(Self::Apart { server: server.to_vec(), load: load.to_vec() })
    }

    /// Starts a server on its cores: a process has those of the thread that started it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start_server(&self, command: &mut Command) -> anyhow::Result<Child> {
        let own = sched_getaffinity(None).context("asking for the allowed cores")?;
        self.keep_server()?;
        let child = command.spawn();
        sched_setaffinity(None, &own).context("going back to the allowed cores")?;
        child.context("starting it")
    }

    /// Keeps this thread to the server's cores.
    ///
    /// # Errors
    /// When the machine refuses.
    pub(super) fn keep_server(&self) -> anyhow::Result<()> {
        match self {
            Self::Anywhere => Ok(()),
            Self::Apart { server, .. } => keep(server),
        }
    }

    /// Keeps this thread to the core of this one of the threads that make load.
    ///
    /// # Errors
    /// When the machine refuses.
    pub(super) fn keep_load(&self, thread: usize) -> anyhow::Result<()> {
        match self {
            Self::Anywhere => Ok(()),
            Self::Apart { load, .. } => keep(&load[thread % load.len()..][..1]),
        }
    }
}

fn keep(cores: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    sched_setaffinity(None, &set).with_context(|| format!("keeping a thread to the cores {cores:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_and_load_share_no_core() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        assert!(Placement::apart(cores).is_err());
        if cores < 2 {
            return;
        }
        let placement = Placement::apart(1).unwrap();
        let Placement::Apart { server, load } = &placement else { panic!("{placement:?}") };
        assert!(server.iter().all(|core| !load.contains(core)) && load.len() == 1, "{placement:?}");
        std::thread::scope(|scope| {
            let pinned = scope.spawn(|| {
                placement.keep_load(0).unwrap();
                let mut child = placement.start_server(&mut Command::new("true")).unwrap();
                child.wait().unwrap();
                std::thread::available_parallelism().map_or(0, usize::from)
            });
            assert_eq!(pinned.join().unwrap(), 1);
        });
    }
}
