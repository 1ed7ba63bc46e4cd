//! `dial`: a byte there and back, and many one way, to what listens in a sandbox, beside the same program on a plain socket.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hothouse_domain::{ExecSpec, Resources, SandboxSpec};
use hothouse_sandbox::native::WhenOrphaned;
use hothouse_sandbox::node::AtShutdown;
use hothouse_sandbox::{DialTarget, Node, NodeOptions, Sandbox};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;

use super::contest::{Contender, Entry, measure};
use super::report::{Bar, Report, Role};
use super::sample::Round;

/// What listens, here and there: the first byte of a connection says what it does.
const SERVER: &str = r#"
import socket, sys, threading
def serve(peer):
    with peer:
        if peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        kind = peer.recv(1)
        peer.sendall(kind)
        if kind == b"e":
            while data := peer.recv(1 << 16):
                peer.sendall(data)
        elif kind == b"s":
            data = b"x" * (1 << 18)
            try:
                while True:
                    peer.sendall(data)
            except OSError:
                pass
        elif kind == b"d":
            buffer, total = bytearray(1 << 18), 0
            while count := peer.recv_into(buffer):
                total += count
                while total >= 1 << 20:
                    total -= 1 << 20
                    peer.sendall(b"m")
where = sys.argv[1]
if where.startswith("/"):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(where)
    listener.listen(16)
else:
    listener = socket.create_server(("127.0.0.1", int(where)))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
"#;
const PATH: &str = "/tmp/bench.sock";
const PORT: u16 = 8000;
const MIB: usize = 1 << 20;
/// How long the interpreter may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a connection leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    HostPath,
    HostPort,
    Path,
    Port,
}

/// What is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// A byte there and back.
    Echo,
    /// A MiB read.
    Read,
    /// A MiB written.
    Write,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Echo => "1 byte there and back",
            Self::Read => "1 MiB read",
            Self::Write => "1 MiB written",
        }
    }

    fn per_round(self) -> usize {
        match self {
            Self::Echo => 2000,
            Self::Read | Self::Write => 200,
        }
    }
}

/// Measures it.
pub(super) fn run(rounds: usize) -> anyhow::Result<Report> {
    let mut report = Report::new("dial");
    report.notes.push(
        "one operation: on a connection that is open; at the other end, here and there, the same Python program".to_owned(),
    );
    let scene = Scene::set()?;
    let at = &scene;
    let mut contenders = Vec::new();
    for what in [What::Echo, What::Read, What::Write] {
        for (to, name, role) in [
            (To::HostPath, "plain Unix socket", Role::Floor),
            (To::Path, "hothouse, a path", Role::Hothouse),
            (To::HostPort, "plain TCP on loopback", Role::Floor),
            (To::Port, "hothouse, a port", Role::Hothouse),
        ] {
            contenders.push(Contender {
                name: format!("{name}: {}", what.name()),
                role,
                in_flight: 1,
                per_round: what.per_round(),
                measure: Box::new(move |ops| at.round(to, what, ops)),
            });
        }
    }
    let mut entries = measure(&mut contenders, rounds)?;
    drop(contenders);
    scene.strike()?;
    for at in (1..entries.len()).step_by(2) {
        entries[at].row.note = if at < 4 {
            entries[at].against("plain", &entries[at - 1])
        } else {
            entries[at].rate_against("plain", &entries[at - 1])
        };
    }
    let ratio = entries[1].series.p50_over(&entries[0].series);
    let ratio = ratio.map_or(f64::INFINITY, |ratio| ratio.median);
    report.bars.push(Bar::at_most(
        "a byte there and back, p50 over that of a plain Unix socket",
        ratio,
        3.0,
        " ×",
    ));
    let megabytes = |entry: &Entry| entry.row.per_second * super::sample::count(MIB) / 1e6;
    report.bars.push(Bar::at_least("read through a path", megabytes(&entries[5]), 500.0, " MB/s"));
    report.bars.push(Bar::at_least("written through a path", megabytes(&entries[9]), 500.0, " MB/s"));
    report.rows = entries.into_iter().map(|entry| entry.row).collect();
    Ok(report)
}

/// A node in this process, a sandbox of it, and what listens inside and outside.
struct Scene {
    runtime: Runtime,
    node: Node,
    sandbox: Sandbox,
    outside: Vec<Outside>,
    host_port: u16,
    home: TempDir,
}

/// What listens outside; ends when this is dropped.
struct Outside(Child);

impl Drop for Outside {
    fn drop(&mut self) {
        // It never ends by itself; if it has, that is what is wanted.
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

impl Scene {
    fn set() -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("hothouse-bench-").tempdir().context("making a home")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("starting the runtime")?;
        let root = rustix::process::geteuid().is_root();
        let options = NodeOptions {
            home: home.path().join("home"),
            spawner: std::env::current_exe().context("finding this program")?,
            cgroup: root.then(|| format!("hothouse-bench-{}", std::process::id())),
            max_sandboxes: 1,
            capacity: Default::default(),
            min_free_memory: 0,
            reclaim_below: 0,
            when_orphaned: WhenOrphaned::End,
            images: hothouse_sandbox::ImageLimits::default(),
        };
        let (host_path, host_port) = (home.path().join("s"), "0".to_owned());
        let mut outside = Vec::new();
        let mut ports = Vec::new();
        for at in [host_path.display().to_string(), host_port] {
            let mut child = Command::new("python3")
                .args(["-c", SERVER, &at])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .context("starting python3, which has to be in PATH")?;
            let stdout = child.stdout.take().context("python3 has no standard output")?;
            let mut line = String::new();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
            ports.push(line.trim().to_owned());
            outside.push(Outside(child));
        }
        let host_port = ports[1].parse().context("reading the port of the program outside")?;
        let (node, sandbox) = runtime.block_on(async {
            let node = Node::start(options).await.context("starting a node")?;
            let resources = Resources { cpus: 4.0, ..Resources::default() };
            let sandbox = node.create(SandboxSpec { resources, ..SandboxSpec::default() }).await?;
            for at in [PATH.to_owned(), PORT.to_string()] {
                let argv = ["python3", "-c", SERVER, &at].map(str::to_owned).to_vec();
                sandbox.exec_detached(ExecSpec { argv: Some(argv), ..ExecSpec::default() }).await?;
            }
            anyhow::Ok((node, sandbox))
        })?;
        Ok(Self { runtime, node, sandbox, outside, host_port, home })
    }

    fn round(&self, to: To, what: What, ops: usize) -> anyhow::Result<Round> {
        self.runtime.block_on(async {
            match to {
                To::HostPath => {
                    let stream = UnixStream::connect(self.home.path().join("s")).await?;
                    spawned(stream, what, ops).await
                }
                To::HostPort => {
                    let stream = TcpStream::connect(("127.0.0.1", self.host_port)).await?;
                    stream.set_nodelay(true)?;
                    spawned(stream, what, ops).await
                }
                To::Path => {
                    let target = DialTarget::Path(PATH.to_owned());
                    spawned(self.sandbox.dial(&target, PATIENCE).await?, what, ops).await
                }
                To::Port => {
                    spawned(self.sandbox.dial(&DialTarget::Port(PORT), PATIENCE).await?, what, ops).await
                }
            }
        })
    }

    /// Ends all of it.
    fn strike(self) -> anyhow::Result<()> {
        let Self { runtime, node, sandbox, outside, home, .. } = self;
        drop(sandbox);
        runtime.block_on(node.shutdown(AtShutdown::Destroy));
        drop(node);
        drop(outside);
        home.close().context("removing the home")
    }
}

/// On a worker, as everything in a server is: the thread that waits for the runtime has a way of its own to be woken.
async fn spawned<S>(stream: S, what: What, ops: usize) -> anyhow::Result<Round>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut set = tokio::task::JoinSet::new();
    set.spawn(operations(stream, what, ops));
    set.join_next().await.context("the round has ended")??
}

async fn operations<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    what: What,
    ops: usize,
) -> anyhow::Result<Round> {
    let kind = match what {
        What::Echo => b'e',
        What::Read => b's',
        What::Write => b'd',
    };
    stream.write_all(&[kind]).await?;
    ensure!(stream.read_u8().await? == kind, "the program at the other end is another");
    let mut buffer = vec![7; MIB];
    let mut latencies = Vec::with_capacity(ops);
    let began = Instant::now();
    for _ in 0..ops {
        let sent = Instant::now();
        match what {
            What::Echo => {
                stream.write_all(b"x").await?;
                stream.read_u8().await?;
            }
            What::Read => {
                stream.read_exact(&mut buffer).await?;
            }
            What::Write => stream.write_all(&buffer).await?,
        }
        latencies.push(sent.elapsed());
    }
    if what == What::Write {
        // All of it has arrived when each MiB was acknowledged.
        stream.read_exact(&mut buffer[..ops]).await?;
    }
    Ok(Round { latencies, elapsed: began.elapsed() })
}
