//! The contract suite against the native backend.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "the whole program is a test"
)]

mod contract;
mod deadline;
mod native_home;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use contract::{Case, Place};
use hothouse_domain::SandboxSpec;
use hothouse_sandbox::node::AtShutdown;
use hothouse_sandbox::{Node, NodeOptions, Sandbox};

struct Native {
    node: Node,
}

impl Place for Native {
    async fn make(&self, spec: SandboxSpec) -> Sandbox {
        self.node.create(spec).await.unwrap()
    }

    async fn remove(&self, sandbox: Sandbox) {
        self.node.delete(sandbox.id()).await.unwrap();
    }
}

static NODES: AtomicU32 = AtomicU32::new(0);

async fn run(cases: Vec<Case>) {
    let _deadline = deadline::Deadline::start();
    let home = tempfile::tempdir().unwrap();
    let name = format!("hothouse-contract-{}-{}", std::process::id(), NODES.fetch_add(1, Ordering::Relaxed));
    let node = Node::start(NodeOptions {
        home: home.path().to_owned(),
        spawner: native_home::spawner(),
        cgroup: Some(name),
        max_sandboxes: 100,
        capacity: Default::default(),
        min_free_memory: 0,
        reclaim_below: 0,
        images: hothouse_sandbox::ImageLimits::default(),
        when_orphaned: hothouse_sandbox::native::WhenOrphaned::End,
    })
    .await
    .unwrap();
    let place = Arc::new(Native { node: node.clone() });
    let result = tokio::spawn(contract::run(Arc::clone(&place), cases)).await;
    assert_eq!(node.len(), 0, "every case removed its sandbox");
    node.shutdown(AtShutdown::Destroy).await;
    if let Err(panic) = result {
        std::panic::resume_unwind(panic.into_panic());
    }
}

macro_rules! groups {
    ($($group:ident),+ $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $group() {
            run(contract::$group::group()).await;
        })+
    };
}

/// The same promises with one user id and, mostly, without cgroups; what these cannot grant is skipped by name.
#[test]
fn an_ordinary_user_is_promised_the_same() {
    if let Some(said) = native_home::tests_as_ordinary_user(&["--skip", "an_ordinary_user"]) {
        said.lines().filter(|line| line.contains(": skipped, ")).for_each(|line| println!("{line}"));
    }
}

groups![archives, dials, execs, files, input, journal, life, output, patches, shells, terminals];
