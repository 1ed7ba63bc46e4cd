//! A home of a test's own, and what stands around it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(dead_code, unused_imports, reason = "each test program uses its part")]

mod ordinary_user;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hothouse_domain::{ExecResult, ExecSpec, Outcome, SandboxId};
use hothouse_sandbox::native::{NativeBackend, NativeOptions, WhenOrphaned};
use hothouse_sandbox::node::AtShutdown;
use hothouse_sandbox::{Node, NodeOptions, Sandbox};

use crate::deadline::Deadline;
pub(crate) use ordinary_user::{USER, tests_as_ordinary_user};

/// The spawner, or the copy of it that an ordinary user may execute.
pub(crate) fn spawner() -> PathBuf {
    std::env::var_os("HOTHOUSE_TEST_SPAWNER")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_hothouse-spawner")), PathBuf::from)
}

/// A fresh home below the machine's temporary directory; the test that has it must end in time.
pub(crate) struct Home {
    _deadline: Deadline,
    directory: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("hothouse-test-").tempdir().unwrap();
        Self { _deadline: Deadline::start(), directory }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// A place beside the home.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn options(&self) -> NativeOptions {
        let cgroup = std::env::var("HOTHOUSE_TEST_CGROUP").ok();
        let when_orphaned = WhenOrphaned::LiveOn;
        NativeOptions {
            home: self.path(),
            spawner: spawner(),
            cgroup,
            when_orphaned,
            ahead: 2,
            images: hothouse_sandbox::ImageLimits::default(),
        }
    }

    pub(crate) async fn backend(&self) -> NativeBackend {
        NativeBackend::start(self.options()).await.unwrap()
    }

    pub(crate) async fn node(&self) -> Node {
        let NativeOptions { home, spawner, cgroup, when_orphaned, .. } = self.options();
        let options = NodeOptions {
            home,
            spawner,
            cgroup,
            when_orphaned,
            max_sandboxes: 64,
            capacity: Default::default(),
            min_free_memory: 0,
            reclaim_below: 0,
            images: hothouse_sandbox::ImageLimits::default(),
        };
        Node::start(options).await.unwrap()
    }

    /// Runs with a node, which is shut down at the end.
    pub(crate) async fn with_node<F: Future<Output = ()>>(&self, run: impl FnOnce(Node) -> F) {
        let node = self.node().await;
        run(node.clone()).await;
        node.shutdown(AtShutdown::Destroy).await;
    }

    /// What begins the names of this home's control groups: that of its spawner's `--instance`.
    pub(crate) fn instance(&self) -> String {
        let home = std::fs::canonicalize(self.path()).unwrap();
        let hash =
            home.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
            });
        format!("hh{:012x}", hash & 0xffff_ffff_ffff)
    }

    /// This home's control groups.
    pub(crate) fn groups(&self) -> Vec<String> {
        let instance = self.instance();
        let hierarchies = names(Path::new("/sys/fs/cgroup"));
        let all = hierarchies
            .iter()
            .flat_map(|name| names(&Path::new("/sys/fs/cgroup").join(name).join("hothouse")));
        all.filter(|name| name.starts_with(&instance)).collect()
    }

    /// Ends a sandbox's guest behind the backend's back.
    pub(crate) fn kill_guest(&self, name: &str) {
        let state = std::fs::read(self.path().join("sandboxes").join(name).join("state.json")).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        kill(i32::try_from(state["body"]["pid"].as_i64().unwrap()).unwrap());
    }

    /// Names in the directory of sandboxes.
    pub(crate) fn state_directories(&self) -> Vec<String> {
        names(&self.path().join("sandboxes"))
    }
}

/// Kills one process.
pub(crate) fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

pub(crate) fn id(text: &str) -> SandboxId {
    text.parse().unwrap()
}

/// Runs a shell command to its end.
pub(crate) async fn shell(sandbox: &Sandbox, command: &str) -> ExecResult {
    let spec = ExecSpec { shell: Some(command.to_owned()), timeout_s: Some(60.0), ..ExecSpec::default() };
    sandbox.exec(spec).await.unwrap()
}

/// What a shell command that must succeed prints.
pub(crate) async fn output(sandbox: &Sandbox, command: &str) -> String {
    let result = shell(sandbox, command).await;
    assert_eq!(result.outcome, Outcome::Exited { code: 0 }, "{command}: {} {}", result.stdout, result.stderr);
    result.stdout.trim_end().to_owned()
}

/// What a shell command that must fail says.
pub(crate) async fn refusal(sandbox: &Sandbox, command: &str) -> String {
    let result = shell(sandbox, command).await;
    assert_ne!(result.outcome, Outcome::Exited { code: 0 }, "{command} must fail: {}", result.stdout);
    format!("{}{}", result.stdout, result.stderr)
}

/// Waits for a condition, looking often.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "waited 20 s for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
