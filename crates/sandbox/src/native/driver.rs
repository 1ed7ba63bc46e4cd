//! The server's end of a spawner: its process, its socket, and what waits for its answers.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::lent::Lent;
use super::wire::{Abilities, Body, MAX_PACKET, Order, Report, Ticket};
use super::{SpawnerArguments, packet};
use crate::link::locked;

/// How long the spawner may take to come up.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// A tree of layers that the spawner has on its shelf.
#[derive(Debug, Clone, Copy)]
struct Tree {
    number: u32,
    /// Device and inode, which stay its own as long as it is on the shelf: another directory may come to have its path.
    identity: (u64, u64),
}

/// One spawner process.
#[derive(Debug)]
pub(super) struct Spawner {
    socket: AsyncFd<OwnedFd>,
    next: AtomicU64,
    waiting: Mutex<HashMap<Ticket, oneshot::Sender<Report>>>,
    trees: tokio::sync::Mutex<HashMap<String, Tree>>,
    process: tokio::sync::Mutex<tokio::process::Child>,
    pub(super) pid: u32,
}

impl Spawner {
    /// Starts a spawner and hears what it can do.
    pub(super) async fn start(
        program: &Path,
        arguments: &SpawnerArguments,
    ) -> Result<(Self, Abilities), String> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|e| format!("making a socket pair: {e}"))?;
        let process =
            spawn(program, arguments, theirs).map_err(|e| format!("starting {}: {e}", program.display()))?;
        let socket = watch_socket(ours).map_err(|e| format!("watching the spawner: {e}"))?;
        let spawner = Self {
            pid: process.id().unwrap_or(0),
            socket,
            next: AtomicU64::new(first_ticket()),
            waiting: Mutex::default(),
            trees: tokio::sync::Mutex::default(),
            process: tokio::sync::Mutex::new(process),
        };
        let hello = tokio::time::timeout(START_PATIENCE, spawner.receive(&mut vec![0; MAX_PACKET])).await;
        match hello {
            Ok(Ok(Some(Report::Ready { abilities }))) => Ok((spawner, abilities)),
            Ok(Ok(Some(Report::Unable { reason }))) => Err(reason),
            Ok(Ok(Some(other))) => Err(format!("the spawner began with {other:?}")),
            Ok(Ok(None)) => {
                let ended = spawner.process.lock().await.wait().await;
                Err(format!("the spawner ended at once: {ended:?}"))
            }
            Ok(Err(e)) => Err(format!("hearing from the spawner: {e}")),
            Err(_) => {
                if let Err(error) = spawner.process.lock().await.start_kill() {
                    tracing::error!(%error, "ending a spawner that says nothing");
                }
                Err(format!("the spawner said nothing for {START_PATIENCE:?}"))
            }
        }
    }

    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Report>> {
        let got = self
            .socket
            .async_io(Interest::READABLE, |socket| packet::receive::<Report>(socket.as_fd(), buffer))
            .await?;
        Ok(got.map(|(report, _)| report))
    }

    pub(super) async fn send(&self, order: &Order, fd: Option<&OwnedFd>) -> io::Result<()> {
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        self.socket.async_io(Interest::WRITABLE, |socket| packet::send(socket.as_fd(), order, &fds)).await
    }

    /// Sends an order and waits for its answer. `Err` says what happened to the order.
    pub(super) async fn ask(
        &self,
        order: impl FnOnce(Ticket) -> Order,
        fd: Option<&OwnedFd>,
    ) -> Result<Report, String> {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        locked(&self.waiting).insert(ticket, sender);
        if let Err(e) = self.send(&order(ticket), fd).await {
            locked(&self.waiting).remove(&ticket);
            return Err(format!("telling the spawner: {e}"));
        }
        match answer.await {
            Ok(Report::Failed { step, reason, .. }) => Err(format!("{step}: {reason}")),
            Ok(report) => Ok(report),
            Err(_) => Err("the spawner ended before it answered".to_owned()),
        }
    }

    /// Hands an answer to whoever waits for it; gives it back when nobody does.
    pub(super) fn answer(&self, ticket: Ticket, report: Report) -> Option<Report> {
        match locked(&self.waiting).remove(&ticket) {
            Some(sender) => sender.send(report).err(),
            None => Some(report),
        }
    }

    /// Tells those who wait that no answer will come.
    pub(super) fn give_up(&self) {
        locked(&self.waiting).clear();
    }

    /// Has a sandbox destroyed, and waits for nothing.
    pub(super) async fn dispose(&self, body: Body) -> io::Result<()> {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        self.send(&Order::Destroy { ticket, body }, None).await
    }

    /// No sandbox will be made of this tree any more.
    pub(super) async fn forget_layer(&self, path: &str) -> io::Result<()> {
        match self.trees.lock().await.remove(path) {
            Some(tree) => self.send(&Order::Unregister { layer: tree.number }, None).await,
            None => Ok(()),
        }
    }

    /// Says that the spawner knows the directory at a path as a layer of this number.
    pub(super) async fn knows(&self, path: &str, number: u32) {
        // Gone already: nobody will ask for it.
        let Ok(found) = std::fs::metadata(path) else { return };
        let tree = Tree { number, identity: (found.dev(), found.ino()) };
        self.trees.lock().await.insert(path.to_owned(), tree);
    }

    /// The number that what a sandbox has lent has as a layer: the one of this overlay.
    pub(super) async fn lent(&self, lent: &Lent, overlay: usize) -> Result<u32, String> {
        let mut trees = self.trees.lock().await;
        if let Some(tree) = trees.get(&lent.name(overlay)) {
            return Ok(tree.number);
        }
        let (body, overlays) = (lent.body().clone(), lent.overlays());
        let layers = match self.ask(|ticket| Order::Lend { ticket, body, overlays }, None).await? {
            Report::Lent { layers, .. } => layers,
            other => return Err(format!("the spawner answered {other:?}")),
        };
        note_lent(&mut trees, lent, &layers);
        let number = layers.get(overlay).copied();
        number.ok_or_else(|| format!("the sandbox has lent {} layers", layers.len()))
    }

    /// Says under which numbers the spawner has what a sandbox has lent.
    pub(super) async fn knows_lent(&self, lent: &Lent, layers: &[u32]) {
        note_lent(&mut *self.trees.lock().await, lent, layers);
    }

    /// The number of a tree of layers, which is put on the shelf the first time.
    pub(super) async fn tree(&self, path: &str) -> Result<u32, String> {
        let found = std::fs::metadata(path).map_err(|e| format!("{path}: {e}"))?;
        let identity = (found.dev(), found.ino());
        let mut trees = self.trees.lock().await;
        match trees.get(path) {
            Some(tree) if tree.identity == identity => return Ok(tree.number),
            Some(&Tree { number, .. }) => {
                trees.remove(path);
                let told = self.send(&Order::Unregister { layer: number }, None).await;
                told.map_err(|e| format!("telling the spawner: {e}"))?;
            }
            None => {}
        }
        let path = path.to_owned();
        match self.ask(|ticket| Order::Register { ticket, path: path.clone() }, None).await? {
            Report::Registered { layer, .. } => {
                trees.insert(path, Tree { number: layer, identity });
                Ok(layer)
            }
            other => Err(format!("the spawner answered {other:?}")),
        }
    }
}

fn note_lent(trees: &mut HashMap<String, Tree>, lent: &Lent, layers: &[u32]) {
    for (overlay, &number) in layers.iter().enumerate() {
        // No other directory can come to have its name.
        trees.insert(lent.name(overlay), Tree { number, identity: (0, 0) });
    }
}

#[expect(
    unsafe_code,
    reason = "the safe constructor was deprecated for types that lend out a foreign descriptor"
)]
fn watch_socket(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd gives its own descriptor, the same one all its life, and closes it only when dropped.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

/// Starts the program with our socket as its standard input, which takes no code between fork and exec.
fn spawn(program: &Path, arguments: &SpawnerArguments, socket: OwnedFd) -> io::Result<tokio::process::Child> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments.to_arguments()).stdin(socket).stdout(Stdio::null()).current_dir("/");
    // Signals for the server's terminal are not for the spawner: the server tells it what to do.
    command.process_group(0);
    command.spawn()
}

/// Tickets name sandboxes, also those that a later backend finds: each begins where no earlier one has been.
fn first_ticket() -> Ticket {
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(1)
}
