//! What can be left in a sandbox: files, processes, shared memory.

use std::path::PathBuf;

use hothouse_domain::files::FileInfo;
use hothouse_sandbox::{Node, Sandbox, SandboxError};

/// What the kernel says of System V shared memory, queues and semaphores.
const IPC: [&str; 3] = ["/proc/sysvipc/shm", "/proc/sysvipc/msg", "/proc/sysvipc/sem"];

/// What is in a sandbox, as seen from outside: two that are equal have nothing that the other has not.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Traces {
    /// Processes and threads; `None` where nobody counts them.
    processes: Option<u32>,
    /// Paths that are other than in the image.
    changes: Vec<String>,
    /// What is in the one directory that is no part of that.
    shared: Vec<FileInfo>,
    ipc: [Vec<u8>; 3],
}

impl Traces {
    /// What is in it now. Nothing may run in it.
    pub(super) async fn of(node: &Node, sandbox: &Sandbox) -> Result<Self, SandboxError> {
        let processes = sandbox.stats().await.processes;
        let (shared, [a, b, c]) = (sandbox.list_dir("/dev/shm"), IPC.map(|path| read(sandbox, path)));
        let (shared, a, b, c) = tokio::join!(shared, a, b, c);
        // Last: it stops what runs, and what it would find then could not be made anew.
        let (_files, entries) = node.changes(sandbox, PathBuf::from("/")).await?;
        let changes = entries.into_iter().map(|entry| entry.change.path).collect();
        Ok(Self { processes, changes, shared: shared?, ipc: [a?, b?, c?] })
    }

    /// Whether all that can be left shows. A file that was changed before can be changed again, unseen.
    pub(super) fn tell_all(&self) -> bool {
        self.processes.is_some() && self.changes.is_empty()
    }
}

async fn read(sandbox: &Sandbox, path: &str) -> Result<Vec<u8>, SandboxError> {
    let mut reader = sandbox.read_file(path, 0, None).await?;
    let mut all = Vec::new();
    while let Some(bytes) = reader.next().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}
