//! A node: its sandboxes, their ends, and what outlives it.

#![allow(
    clippy::disallowed_methods,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "the whole program is a test"
)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hothouse_domain::{
    Enforcement, ErrorCode, ExecSpec, ExecState, FrozenBy, Outcome, Resources, SandboxId, SandboxInfo,
    SandboxPhase, SandboxSpec,
};
use hothouse_sandbox::native::WhenOrphaned;
use hothouse_sandbox::node::AtShutdown;
use hothouse_sandbox::{DialStream, DialTarget, Node, NodeOptions, Sandbox, SandboxError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

mod deadline;

use deadline::Deadline;

static HOMES: AtomicU32 = AtomicU32::new(0);

struct Home {
    _deadline: Deadline,
    dir: tempfile::TempDir,
    cgroup: String,
}

impl Home {
    fn new() -> Self {
        let n = HOMES.fetch_add(1, Ordering::Relaxed);
        Self {
            _deadline: Deadline::start(),
            dir: tempfile::tempdir().unwrap(),
            cgroup: format!("hothouse-node-test-{}-{n}", std::process::id()),
        }
    }

    async fn node(&self, max_sandboxes: usize, when_orphaned: WhenOrphaned) -> Node {
        Node::start(NodeOptions {
            home: self.dir.path().to_owned(),
            spawner: PathBuf::from(env!("CARGO_BIN_EXE_hothouse-spawner")),
            cgroup: Some(self.cgroup.clone()),
            max_sandboxes,
            capacity: Default::default(),
            min_free_memory: 0,
            reclaim_below: 0,
            images: hothouse_sandbox::ImageLimits::default(),
            when_orphaned,
        })
        .await
        .unwrap()
    }

    fn sandbox_directories(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("sandboxes")).unwrap().count()
    }
}

fn sh(line: &str) -> ExecSpec {
    ExecSpec { shell: Some(line.to_owned()), ..ExecSpec::default() }
}

fn named(id: &str) -> SandboxSpec {
    SandboxSpec { id: Some(id.parse().unwrap()), ..SandboxSpec::default() }
}

fn code<T>(result: Result<T, SandboxError>) -> ErrorCode {
    match result {
        Ok(_) => panic!("it is not refused"),
        Err(error) => error.code(),
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it happens within 30 s")
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The pid of a sandbox's guest.
fn guest(home: &Path, sandbox: &Sandbox) -> i32 {
    let path = home.join("sandboxes").join(sandbox.id().as_str()).join("state.json");
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    i32::try_from(state["body"]["pid"].as_i64().unwrap()).unwrap()
}

/// Kills a sandbox's guest from outside.
fn kill_guest(home: &Path, sandbox: &Sandbox) {
    signal_guest(home, sandbox, rustix::process::Signal::KILL);
}

fn signal_guest(home: &Path, sandbox: &Sandbox, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(guest(home, sandbox)).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Clock ticks that the children of a process have spent in the kernel.
fn kernel_ticks_of_children(parent: i32) -> u64 {
    let children =
        std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let ticks = |child: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(12)?.parse::<u64>().ok()
    };
    children.split_whitespace().filter_map(ticks).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sandboxes_are_made_found_listed_and_deleted() {
    let home = Home::new();
    let node = home.node(100, WhenOrphaned::End).await;
    let (one, two) = (
        node.create(SandboxSpec::default()).await.unwrap(),
        node.create(SandboxSpec::default()).await.unwrap(),
    );
    assert_ne!(one.id(), two.id());
    assert!(one.id() < two.id() && one.id().as_str().starts_with("sb-"), "sorted by age");
    let info = one.info();
    assert_eq!(info.phase, SandboxPhase::Running);
    assert_eq!(info.spec.workdir.as_deref(), Some("/workspace"));
    assert_eq!(info.spec.id.as_ref(), Some(one.id()));
    assert!(info.create_s > 0.0 && info.create_s < 30.0);
    assert!(info.created_at.ends_with('Z'), "{}", info.created_at);
    assert_eq!(node.get(one.id()).unwrap().id(), one.id());

    let begin = Instant::now();
    let (outcome, deleted) = tokio::join!(one.exec(sh("sleep 1000")), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        node.delete(one.id()).await
    });
    deleted.unwrap();
    assert_eq!(code(outcome), ErrorCode::SandboxDead, "what ran in it is told");
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert_eq!(code(node.get(one.id())), ErrorCode::SandboxEnded);
    assert_eq!(code(one.exec(sh("true")).await), ErrorCode::SandboxEnded);
    assert_eq!(code(one.freeze().await), ErrorCode::SandboxEnded);
    assert_eq!(code(node.delete(one.id()).await), ErrorCode::SandboxEnded);
    assert_eq!((node.len(), home.sandbox_directories()), (1, 1));
    soon(node.shutdown(AtShutdown::Destroy)).await;
    assert_eq!((node.len(), home.sandbox_directories()), (0, 0));
    assert_eq!(code(node.create(SandboxSpec::default()).await), ErrorCode::ShuttingDown);
    assert_eq!(code(two.exec(sh("true")).await), ErrorCode::SandboxEnded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_taken_once_and_the_limit_holds_under_a_rush() {
    let home = Home::new();
    let node = home.node(4, WhenOrphaned::End).await;
    let rush = (0..8).map(|_| node.create(named("same")));
    let results = futures::future::join_all(rush).await;
    assert_eq!(results.iter().filter(|made| made.is_ok()).count(), 1);
    for refused in results.into_iter().filter(Result::is_err) {
        assert_eq!(code(refused), ErrorCode::SandboxExists);
    }
    let rush = (0..8).map(|_| node.create(SandboxSpec::default()));
    let results = futures::future::join_all(rush).await;
    assert_eq!(results.iter().filter(|made| made.is_ok()).count(), 3);
    for refused in results.into_iter().filter(Result::is_err) {
        assert_eq!(code(refused), ErrorCode::CapacityExceeded);
    }
    node.delete(&"same".parse().unwrap()).await.unwrap();
    node.create(named("same")).await.unwrap();
    let wrong = SandboxSpec { workdir: Some("relative".to_owned()), ..SandboxSpec::default() };
    assert_eq!(code(node.create(wrong).await), ErrorCode::InvalidRequest);
    node.shutdown(AtShutdown::Destroy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_made_leaves_nothing() {
    let home = Home::new();
    let node = home.node(4, WhenOrphaned::End).await;
    let image = "dir:/no/such/root".parse().unwrap();
    assert_eq!(
        code(node.create(SandboxSpec { image, ..SandboxSpec::default() }).await),
        ErrorCode::ImageInvalid
    );
    let workdir = Some("/etc/passwd".to_owned());
    assert_eq!(code(node.create(SandboxSpec { workdir, ..named("a") }).await), ErrorCode::CreateFailed);
    until("nothing is left", || node.is_empty() && home.sandbox_directories() == 0).await;
    node.create(named("a")).await.unwrap();
    node.shutdown(AtShutdown::Destroy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_whose_caller_leaves_leaves_nothing() {
    let home = Home::new();
    let node = home.node(100, WhenOrphaned::End).await;
    for n in 0..10 {
        let mut create = Box::pin(node.create(SandboxSpec::default()));
        // Given up at different moments of its making.
        let patience = Duration::from_micros(300 * n);
        let _given_up = tokio::time::timeout(patience, &mut create).await.map(|made| {
            made.map(|s| {
                let (node, id) = (node.clone(), s.id().clone());
                tokio::spawn(async move { node.delete(&id).await.unwrap() })
            })
        });
    }
    until("nothing is left", || node.is_empty() && home.sandbox_directories() == 0).await;
    node.shutdown(AtShutdown::Destroy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listing_pages_and_labels() {
    let home = Home::new();
    let node = home.node(100, WhenOrphaned::End).await;
    for n in 0..7 {
        let label = |name: &str, value: String| (name.to_owned(), value);
        let labels = [label("team", "a".to_owned()), label("odd", (n % 2).to_string())].into();
        node.create(SandboxSpec { labels, ..named(&format!("s{n}")) }).await.unwrap();
    }
    let ids = |page: Vec<SandboxInfo>| page.into_iter().map(|i| i.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(node.list(None, 3, |_| true)), ["s0", "s1", "s2"]);
    let after: SandboxId = "s2".parse().unwrap();
    assert_eq!(ids(node.list(Some(&after), 100, |_| true)), ["s3", "s4", "s5", "s6"]);
    let odd = [("odd".to_owned(), "1".to_owned()), ("team".to_owned(), "a".to_owned())];
    assert_eq!(ids(node.list(None, 2, |s| s.has_labels(&odd))), ["s1", "s3"]);
    let other = [("team".to_owned(), "b".to_owned())];
    assert_eq!(ids(node.list(None, 10, |s| s.has_labels(&other))), Vec::<String>::new());
    node.shutdown(AtShutdown::Destroy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_sandbox_says_so_and_can_only_be_deleted() {
    let home = Home::new();
    let node = home.node(100, WhenOrphaned::LiveOn).await;
    let sandbox = node.create(SandboxSpec::default()).await.unwrap();
    let neighbour = node.create(SandboxSpec::default()).await.unwrap();
    let mut stream = sandbox.exec_stream(sh("echo up; sleep 1000")).await.unwrap();
    assert!(stream.next().await.is_ok());
    let killed = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        kill_guest(home.dir.path(), &sandbox);
    };
    let (waiting, ()) = soon(async { tokio::join!(sandbox.exec(sh("sleep 1000")), killed) }).await;
    assert_eq!(code(waiting), ErrorCode::SandboxDead);
    let end = soon(async {
        loop {
            if let Err(error) = stream.next().await {
                return error;
            }
        }
    });
    assert_eq!(end.await.code(), ErrorCode::SandboxDead);
    assert_eq!(code(soon(sandbox.exec(sh("true"))).await), ErrorCode::SandboxDead);
    assert_eq!(code(soon(sandbox.stat("/")).await), ErrorCode::SandboxDead);
    assert_eq!(code(soon(sandbox.freeze()).await), ErrorCode::SandboxDead);
    assert_eq!(code(soon(sandbox.thaw()).await), ErrorCode::SandboxDead);
    let SandboxPhase::Dead { reason } = sandbox.info().phase else { panic!("{:?}", sandbox.info().phase) };
    assert!(!reason.is_empty());
    assert_eq!(neighbour.exec(sh("echo fine")).await.unwrap().stdout, "fine\n");
    node.delete(sandbox.id()).await.unwrap();
    assert_eq!(home.sandbox_directories(), 1);
    node.shutdown(AtShutdown::Destroy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_does_not_answer_is_given_up_and_one_that_is_only_silent_is_not() {
    let home = Home::new();
    let node = home.node(100, WhenOrphaned::LiveOn).await;
    let stopped = node.create(SandboxSpec::default()).await.unwrap();
    let silent = node.create(SandboxSpec::default()).await.unwrap();
    stopped.exec(sh("true")).await.unwrap();
    signal_guest(home.dir.path(), &stopped, rustix::process::Signal::STOP);
    let begin = Instant::now();
    let quiet = silent.exec(ExecSpec { timeout_s: Some(32.0), ..sh("sleep 1000") });
    let hopeless = async {
        let timed = ExecSpec { timeout_s: Some(1.0), ..sh("true") };
        let refused = code(stopped.exec(timed).await);
        (refused, begin.elapsed())
    };
    let both = async { tokio::join!(quiet, hopeless) };
    let (quiet, (refused, took)) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    assert_eq!(quiet.unwrap().outcome, Outcome::TimedOut, "half a minute without a word is no sin");
    assert_eq!(refused, ErrorCode::SandboxDead);
    assert!(took > Duration::from_secs(15), "{took:?}");
    let SandboxPhase::Dead { reason } = stopped.info().phase else { panic!("{:?}", stopped.info().phase) };
    assert!(reason.starts_with("starved"), "{reason}");
    soon(node.delete(stopped.id())).await.unwrap();
    assert_eq!(home.sandbox_directories(), 1);
    node.shutdown(AtShutdown::Destroy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_used_more_cpu_than_it_may_ends_at_once_all_the_same() {
    let home = Home::new();
    let node = home.node(100, WhenOrphaned::LiveOn).await;
    let (mib, cpus) = (1 << 20, 0.01);
    let resources =
        Resources { cpus, memory_bytes: 1024 * mib, disk_bytes: 800 * mib, ..Resources::default() };
    let sandbox = node.create(SandboxSpec { resources, ..SandboxSpec::default() }).await.unwrap();
    if sandbox.isolation().get("cpu_limit") == Some(&Enforcement::Enforced) {
        // One call that the kernel does not interrupt: a tenth of a second of it is ten seconds of this sandbox's share.
        sandbox.exec_detached(sh("exec dd if=/dev/zero of=/tmp/x bs=600M count=1")).await.unwrap();
        let pid = guest(home.dir.path(), &sandbox);
        until("it is in debt", || kernel_ticks_of_children(pid) >= 10).await;
    }
    let begin = Instant::now();
    node.delete(sandbox.id()).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    node.shutdown(AtShutdown::Destroy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sandboxes_outlive_their_node_and_the_next_one_adopts_them() {
    let home = Home::new();
    let node = home.node(100, WhenOrphaned::LiveOn).await;
    let labels = [("team".to_owned(), "a".to_owned())].into();
    let env = [("SECRET".to_owned(), "value".to_owned())].into();
    let sandbox = node.create(SandboxSpec { labels, env, ..named("survivor") }).await.unwrap();
    node.create(named("doomed")).await.unwrap();
    let freezes = sandbox.isolation().get("freeze") == Some(&Enforcement::Enforced);
    let frozen = node.create(named("frozen")).await.unwrap();
    if freezes {
        frozen.freeze().await.unwrap();
    }
    let created_at = sandbox.info().created_at;
    let line = "echo before; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo after";
    let spec = ExecSpec { exec_id: Some("long".parse().unwrap()), ..sh(line) };
    sandbox.exec_detached(spec.clone()).await.unwrap();
    node.create(named("deleted")).await.unwrap();
    soon(node.shutdown(AtShutdown::Leave)).await;
    // A node that was killed while it ended a sandbox has written down that it would.
    let ending = r#"{"id": "deleted", "ending": {"cause": "deleted", "by": "client", "at": "2026-01-01T00:00:00Z", "why": "it was"}}"#;
    let written = std::fs::OpenOptions::new().append(true).open(home.dir.path().join("endings.jsonl"));
    std::io::Write::write_all(&mut written.unwrap(), format!("{ending}\n").as_bytes()).unwrap();
    assert!(sandbox.exec(sh("true")).await.is_err());
    drop((node, sandbox, frozen));

    let node = home.node(100, WhenOrphaned::LiveOn).await;
    until("what was begun to be ended is", || node.len() == 3).await;
    assert_eq!(code(node.get(&"deleted".parse().unwrap())), ErrorCode::SandboxEnded);
    let sandbox = node.get(&"survivor".parse().unwrap()).unwrap();
    // At once: whoever looks as soon as the node has started must not take it for one in the making.
    let info = sandbox.info();
    assert_eq!(info.phase, SandboxPhase::Running);
    assert_eq!((info.created_at, info.spec.labels["team"].as_str()), (created_at, "a"));
    assert_eq!(sandbox.exec(sh("echo $SECRET")).await.unwrap().stdout, "value\n");
    let id = "long".parse().unwrap();
    assert_eq!(sandbox.exec_status(&id).await.unwrap().state, ExecState::Running);
    sandbox.exec(sh("touch /tmp/go")).await.unwrap();
    let result = soon(sandbox.exec(spec)).await.unwrap();
    assert_eq!((result.outcome, result.stdout.as_str()), (Outcome::Exited { code: 0 }, "before\nafter\n"));
    assert!(result.replayed);

    if freezes {
        let frozen = node.get(&"frozen".parse().unwrap()).unwrap();
        assert_eq!(frozen.info().phase, SandboxPhase::Frozen { by: FrozenBy::Client });
        assert_eq!(code(soon(frozen.exec(sh("true"))).await), ErrorCode::SandboxFrozen);
        frozen.thaw().await.unwrap();
        assert_eq!(soon(frozen.exec(sh("echo thawed"))).await.unwrap().stdout, "thawed\n");
    }
    let doomed = node.get(&"doomed".parse().unwrap()).unwrap();
    kill_guest(home.dir.path(), &doomed);
    assert_eq!(code(soon(doomed.exec(sh("true"))).await), ErrorCode::SandboxDead);
    soon(node.shutdown(AtShutdown::Destroy)).await;
    assert_eq!((node.len(), home.sandbox_directories()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dialled_connection_breaks_with_its_sandbox_and_with_its_node() {
    let home = Home::new();
    let node = home.node(100, WhenOrphaned::LiveOn).await;
    let program =
        "import socket; l = socket.create_server(('127.0.0.1', 8000)); p = [l.accept() for _ in range(99)]";
    let dialled = async |node: &Node, name: &str| {
        let sandbox = node.create(named(name)).await.unwrap();
        let argv = Some(["python3", "-c", program].map(str::to_owned).to_vec());
        sandbox.exec_detached(ExecSpec { argv, ..ExecSpec::default() }).await.unwrap();
        let stream = sandbox.dial(&DialTarget::Port(8000), Duration::from_secs(60)).await.unwrap();
        (sandbox, stream)
    };
    let broken = async |mut stream: DialStream| {
        let error = soon(stream.read_u8()).await.unwrap_err();
        assert!(soon(stream.write_all(b"x")).await.is_err());
        assert!(soon(stream.read_u8()).await.is_err(), "it stays broken");
        *error.into_inner().unwrap().downcast::<SandboxError>().unwrap()
    };
    let (sandbox, stream) = dialled(&node, "killed").await;
    kill_guest(home.dir.path(), &sandbox);
    assert_eq!(broken(stream).await.code(), ErrorCode::SandboxDead);
    let refused = soon(sandbox.dial(&DialTarget::Port(8000), Duration::ZERO)).await;
    assert_eq!(code(refused), ErrorCode::SandboxDead);
    drop(sandbox);

    let (sandbox, stream) = dialled(&node, "left").await;
    soon(node.shutdown(AtShutdown::Leave)).await;
    let error = broken(stream).await;
    assert!(error.to_string().contains("what became of the request is unknown"), "{error}");
    drop((node, sandbox));

    let node = home.node(100, WhenOrphaned::LiveOn).await;
    let sandbox = node.get(&"left".parse().unwrap()).unwrap();
    soon(sandbox.dial(&DialTarget::Port(8000), Duration::ZERO)).await.expect("what listens there lives on");
    soon(node.shutdown(AtShutdown::Destroy)).await;
}

/// Listens on the path that it is given and says hello to whoever connects.
const HELLO: &str = "import socket, sys\n\
    l = socket.socket(socket.AF_UNIX); l.bind(sys.argv[1]); l.listen()\n\
    while True: p = l.accept()[0]; p.sendall(b'hello'); p.close()";

async fn says_hello(sandbox: &Sandbox, path: &str) -> Result<(), SandboxError> {
    let target = DialTarget::Path(path.to_owned());
    let mut stream = soon(sandbox.dial(&target, Duration::from_secs(20))).await?;
    let mut said = String::new();
    soon(stream.read_to_string(&mut said)).await.unwrap();
    assert_eq!(said, "hello", "{path}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_leads_nowhere_but_inside_and_to_sockets_of_all_its_users() {
    let home = Home::new();
    let node = home.node(100, WhenOrphaned::End).await;
    let sandbox = node.create(SandboxSpec::default()).await.unwrap();
    let has_users = sandbox.isolation().get("uid_range") == Some(&Enforcement::Enforced);
    let line = "mkdir -m 700 /tmp/private; chown 1000:1000 /tmp/private; cd /tmp; \
        ln -s ../../../../../../tmp/private/s up; ln -s /proc/self/root/tmp/private/s magic; ln -s /run/outside.sock outside";
    sandbox.exec(sh(line)).await.unwrap();
    let argv = Some(["python3", "-c", HELLO, "/tmp/private/s"].map(str::to_owned).to_vec());
    let user = has_users.then(|| "1000".to_owned());
    sandbox.exec_detached(ExecSpec { argv, user, ..ExecSpec::default() }).await.unwrap();
    for path in ["/tmp/private/s", "/../../tmp/private/s", "/tmp/up"] {
        says_hello(&sandbox, path).await.unwrap();
    }
    let refused = async |path: &str| {
        let target = DialTarget::Path(path.to_owned());
        code(soon(sandbox.dial(&target, Duration::ZERO)).await)
    };
    assert_eq!(refused("/tmp/magic").await, ErrorCode::FileRefused);
    // What listens on the machine at the same path is not to be had.
    let outside = home.dir.path().join("outside.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&outside).unwrap();
    assert_eq!(refused(outside.to_str().unwrap()).await, ErrorCode::FileNotFound);
    assert_eq!(refused("/tmp/outside").await, ErrorCode::FileNotFound);
    soon(node.shutdown(AtShutdown::Destroy)).await;
}
