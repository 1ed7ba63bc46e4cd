//! `hothouse serve`.

use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use hothouse_domain::{ErrorCode, SandboxSpec};
use hothouse_env::builtin::{Resets, Sandboxed, SandboxedOptions, Transform};
use hothouse_env::{Catalogue, Sandboxes, Stocked};
use hothouse_fleet::Fleet;
use hothouse_sandbox::native::WhenOrphaned;
use hothouse_sandbox::node::AtShutdown;
use hothouse_sandbox::{Node, NodeOptions};
use hothouse_server::dialects::openenv::{Openenv, Settings};
use hothouse_server::tls::TlsFiles;
use hothouse_server::{BindError, Server, ServerLimits, ServerOptions};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::keys;
use crate::console;
use crate::failure::Failure;
use crate::flags::{AmountFlag, NodeFlags, size};
use crate::interrupt::Interrupts;

/// Sandboxes that an environment keeps ready, and how long it does when no session is opened.
const WARM: usize = 2;
const KEPT_WARM: Duration = Duration::from_secs(600);

/// Serve the HTTP API
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hothouse serve\n  hothouse serve --listen 127.0.0.1:0 --json --on-exit destroy"
)]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8700", value_parser = address,
        env = "HOTHOUSE_LISTEN",
        hide_env_values = true
    )]
    listen: SocketAddr,
    /// At most so many sandboxes at once
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        default_value_t = 4096,
        env = "HOTHOUSE_MAX_SANDBOXES",
        hide_env_values = true
    )]
    max_sandboxes: u32,
    /// What else it has to give, e.g. cpus=8, memory_bytes=24G, pids=20000, or any name that sandboxes may need, such as
    /// gpus=2 (repeatable). Sandboxes over it wait or are refused
    #[arg(long, value_name = "NAME=AMOUNT")]
    capacity: Vec<AmountFlag>,
    /// Memory that has to be left on the machine for another sandbox to be made: before it swaps, or its OOM killer chooses
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256M", env = "HOTHOUSE_MIN_FREE_MEMORY", hide_env_values = true)]
    min_free_memory: u64,
    /// Memory below which it is taken back from idle sandboxes: they are frozen until they are used, or ended where their
    /// lease says so; 0 for never [default: twice --min-free-memory]
    #[arg(long, value_name = "SIZE", value_parser = size, env = "HOTHOUSE_RECLAIM_BELOW", hide_env_values = true)]
    reclaim_below: Option<u64>,
    /// What happens to the sandboxes when the server ends: the next server on this home finds those that are left
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "leave",
        env = "HOTHOUSE_ON_EXIT",
        hide_env_values = true
    )]
    on_exit: OnExit,
    /// The file of API keys; `hothouse keys` makes it [default: keys.json in the home, where there is one]
    #[arg(long, value_name = "FILE", env = "HOTHOUSE_KEYS", hide_env_values = true)]
    keys: Option<PathBuf>,
    /// Speak TLS with this certificate (PEM, the chain after it)
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        env = "HOTHOUSE_TLS_CERT",
        hide_env_values = true
    )]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        env = "HOTHOUSE_TLS_KEY",
        hide_env_values = true
    )]
    tls_key: Option<PathBuf>,
    /// Listen on an address that other machines reach, although nothing there asks who they are
    #[arg(long)]
    insecure: bool,
    /// How logs on standard error look
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        env = "HOTHOUSE_LOG_FORMAT",
        hide_env_values = true
    )]
    pub(super) log_format: LogFormat,
    /// Say where it listens as JSON: {"url", "pid"}
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    node: NodeFlags,
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "use IP:PORT, e.g. 127.0.0.1:8700, [::1]:8700 or 127.0.0.1:0 for a free port")
}

/// What happens to the sandboxes when the server ends.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnExit {
    /// They live on
    Leave,
    /// They are destroyed
    Destroy,
}

/// How logs look.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum LogFormat {
    /// For a person
    Text,
    /// One JSON object a line
    Json,
}

impl From<OnExit> for AtShutdown {
    fn from(on_exit: OnExit) -> Self {
        match on_exit {
            OnExit::Leave => Self::Leave,
            OnExit::Destroy => Self::Destroy,
        }
    }
}

/// What a program learns when the server is ready.
#[derive(Debug, Serialize)]
struct Ready {
    url: String,
    pid: u32,
}

/// Serves until a signal comes.
pub(crate) async fn run(args: ServeArgs) -> Result<u8, Failure> {
    let ServeArgs {
        listen,
        max_sandboxes,
        capacity,
        min_free_memory,
        reclaim_below,
        on_exit,
        keys,
        tls_cert,
        tls_key,
        insecure,
        log_format: _,
        json,
        node,
    } = args;
    let mut interrupts = Interrupts::listen()?;
    let descriptors = raise_descriptors();
    let home = node.home()?;
    let _lock = lock(&home)?;
    let capacity = capacity.into_iter().map(|limit| (limit.name, limit.amount)).collect();
    let max_sandboxes = usize::try_from(max_sandboxes).unwrap_or(usize::MAX);
    let options = NodeOptions {
        min_free_memory,
        reclaim_below: mark(reclaim_below, min_free_memory)?,
        ..node.options(home.clone(), max_sandboxes, capacity, WhenOrphaned::LiveOn)?
    };
    let started = Box::pin(Node::start(options)).await;
    let node =
        started.map_err(|e| Failure::from(e).hint("`hothouse doctor` shows what this machine lacks"))?;
    let fleet = match Fleet::start(node.clone(), &home).await {
        Ok(fleet) => fleet,
        Err(error) => {
            node.shutdown(AtShutdown::Leave).await;
            return Err(Failure::new(ErrorCode::Internal, error.to_string()));
        }
    };
    let keys = keys.or_else(|| Some(home.join(keys::DEFAULT_FILE)).filter(|path| path.exists()));
    let tls = tls_cert.zip(tls_key).map(|(certificate, key)| TlsFiles { certificate, key });
    let limits = ServerLimits::default().within(descriptors);
    let (environments, sandboxes) = environments(&fleet);
    let options = ServerOptions { listen, keys, tls, insecure, limits, environments };
    let server = match Server::bind(fleet.clone(), options).await {
        Ok(server) => server,
        Err(error) => {
            fleet.close().await;
            node.shutdown(AtShutdown::Leave).await;
            return Err(refused(&error));
        }
    };
    let shutdown = CancellationToken::new();
    let url = format!("{}://{}", server.scheme(), server.local_addr());
    let serving = pin!(Box::pin(server.serve(shutdown.clone())));
    tell_ready(url, json)?;
    tokio::select! {
        () = serving => {}
        () = until_told_twice(&mut interrupts, &shutdown) => {
            tracing::warn!("told to end again: running requests are cut off");
        }
    }
    // Sessions end with the server, whatever becomes of the other sandboxes.
    for sandboxes in sandboxes {
        sandboxes.close().await;
    }
    fleet.close().await;
    node.shutdown(on_exit.into()).await;
    Ok(0)
}

/// The environments that come with Hothouse, with sandboxes of this fleet for those that need some.
fn environments(fleet: &Fleet) -> (Openenv, Vec<Sandboxes>) {
    let catalogue = Catalogue::with_builtins();
    let over = |which: Sandboxed| {
        let options = SandboxedOptions {
            spec: SandboxSpec::default(),
            warm: WARM,
            stocked: Stocked::WhileUsed(KEPT_WARM),
            transform: Transform::default(),
            resets: Resets::default(),
        };
        let (environment, sandboxes) = which.over(fleet.clone(), options);
        catalogue.add(Arc::new(environment));
        sandboxes
    };
    let sandboxes = Sandboxed::ALL.map(over).into();
    (Openenv::new(catalogue, Settings::default()), sandboxes)
}

/// The mark below which memory is taken back: of no use where nothing can be made any more.
fn mark(asked: Option<u64>, floor: u64) -> Result<u64, Failure> {
    match asked {
        None => Ok(floor.saturating_mul(2)),
        Some(mark) if mark > 0 && mark < floor => Err(Failure::usage(
            "--reclaim-below",
            format!(
                "is {mark} bytes, less than the {floor} of --min-free-memory, below which no sandbox is made"
            ),
        )
        .hint("give it as much or more, or 0 for never")),
        Some(mark) => Ok(mark),
    }
}

/// Allows as many open files as the administrator does, not as few as suit programs that use select(2); how many.
pub(super) fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::warn!(%error, "raising the limit on open files");
            limit.current.unwrap_or(u64::MAX)
        }
    }
}

/// Tells the server to end at the first signal; comes back at the second.
pub(super) async fn until_told_twice(interrupts: &mut Interrupts, shutdown: &CancellationToken) {
    let signal = interrupts.next().await;
    tracing::info!(signal, "ending: running requests get a while to finish");
    shutdown.cancel();
    interrupts.next().await;
}

/// Says where it listens. Connections are taken from the bind on, so this is no promise too early.
fn tell_ready(url: String, json: bool) -> Result<(), Failure> {
    tracing::info!(url, "ready");
    if json {
        return console::json(&Ready { url, pid: std::process::id() });
    }
    console::line(&format!("Hothouse listens on {url}"))
}

fn refused(error: &BindError) -> Failure {
    match error {
        BindError::Exposed(address) => Failure::usage(
            "--listen",
            format!("{address} is reached from other machines, and nobody there is asked who they are"),
        )
        .hint(
            "make a key with `hothouse keys create`, listen on 127.0.0.1, or pass --insecure when only trusted machines \
             reach this address",
        ),
        BindError::Keys(_) | BindError::Tls(_) => Failure::new(ErrorCode::InvalidRequest, error.to_string()),
        BindError::Listen { address, source } => Failure::io(format_args!("listening on {address}"), source)
            .hint("choose another --listen IP:PORT"),
    }
}

/// Keeps a second server from adopting the sandboxes of a running one.
fn lock(home: &Path) -> Result<File, Failure> {
    let path = home.join("serve.lock");
    let failed = |error: &io::Error| {
        Failure::io(path.display(), error)
            .hint("pass a directory that you may write to: --home DIR or HOTHOUSE_HOME")
    };
    std::fs::create_dir_all(home).map_err(|e| failed(&e))?;
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(|e| failed(&e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::new(ErrorCode::LimitExceeded, format!("another server uses {}", home.display()))
                .hint("end it first, or give this one a home of its own: --home DIR"))
        }
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}
