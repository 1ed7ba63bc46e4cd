//! The spawner: the only privileged part. One thread, one loop, no runtime, small, so that cloning it is cheap.
//!
//! ```text
//!  order ──► clone ──► map ids, attach groups ──► "go" ──► (child mounts, restricts itself, executes the guest)
//!                                                              │ its status pipe closes          │ or carries a failed step
//!                                                              ▼                                 ▼
//!                                                           Created                        reaped, undone, Failed
//! ```
//!
//! It holds nothing for an idle sandbox but a few words of memory: no descriptor, no thread. When it dies its sandboxes
//! live on; the next spawner is told of them (`Adopt`) and ends them through pidfds instead of as their parent.

mod child;
mod contents;
mod copier;
mod create;
mod lender;
mod life;
mod network;
mod proc_mask;
mod root;
mod seccomp;
mod stock;
mod tree;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};

use self::child::Fallback;
use self::copier::Copier;
use self::life::{Sandbox, Stage};
use self::proc_mask::Masks;
use self::root::{Privilege, Step, World, at};
use self::stock::Stock;
use super::cgroup::{Controller, Layout};
use super::wire::{Abilities, MAX_PACKET, Order, Report, Ticket};
use super::{SpawnerArguments, WhenOrphaned, kernel, packet};

/// The guest's program.
static GUEST: &[u8] = include_bytes!(env!("HOTHOUSE_GUEST"));

/// Descriptors that a child hands to the guest: kept free of everything else here.
const RESERVED: std::ops::Range<i32> = 3..5;
/// Descriptors of ours are made from here on where they could take a reserved number.
const FREE_FROM: i32 = 16;

const SOCKET_EVENT: u64 = 0;
const CHILD_EVENT: u64 = 1;
/// With this bit an event's data is the PID of a child whose line has something for us, …
const STATUS_EVENT: u64 = 1 << 62;
/// … with this one the PID of a copier whose line has, …
const COPIER_EVENT: u64 = 1 << 61;
/// … and with this one the key of an adopted sandbox whose pidfd has.
const PIDFD_EVENT: u64 = 1 << 63;
/// How often adopted guests are looked at.
const LOOK_EVERY: rustix::time::Timespec = rustix::time::Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// What is prepared once and lent to every child.
#[derive(Debug)]
struct Equipment {
    guest: OwnedFd,
    filter: Vec<libc::sock_filter>,
    masks: Masks,
    landlock: u32,
    fallback: Fallback,
}

#[derive(Debug)]
struct Spawner {
    socket: OwnedFd,
    epoll: OwnedFd,
    signals: OwnedFd,
    reserved: Vec<OwnedFd>,
    world: World,
    equipment: Equipment,
    stock: Stock,
    sandboxes: HashMap<Ticket, Sandbox>,
    /// The sandbox of each child that is not reaped yet, by PID.
    children: HashMap<i32, Ticket>,
    /// Processes that copy files out of sandboxes, by PID.
    copiers: HashMap<i32, Copier>,
    /// Sandboxes that are alive and not our children.
    adopted: Vec<Ticket>,
    /// Where in `adopted` to look next.
    next_look: usize,
    when_orphaned: WhenOrphaned,
}

/// Runs the spawner: never returns until its driver is gone. Call it from a single-threaded program only, with the
/// arguments after [`SPAWNER_COMMAND`](super::SPAWNER_COMMAND).
pub fn spawner_main() -> ExitCode {
    let Some(arguments) = SpawnerArguments::from_command_line() else {
        return ExitCode::from(2);
    };
    let Some(socket) = take_socket() else {
        return ExitCode::from(2);
    };
    match Spawner::start(socket, &arguments) {
        Ok(mut spawner) => spawner.run(),
        Err((socket, step)) => {
            let reason = format!("{}: {}", step.name, step.source);
            // Nobody else to tell when the backend is gone too.
            drop(packet::send(socket.as_fd(), &Report::Unable { reason }, &[]));
            ExitCode::FAILURE
        }
    }
}

/// Standard input, which is the backend's socket, moved out of the way.
fn take_socket() -> Option<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), FREE_FROM).ok()?;
    let null = open_null().ok()?;
    rustix::stdio::dup2_stdin(null).ok()?;
    // Somebody who runs us by hand has no socket there.
    rustix::net::sockopt::socket_domain(&socket).ok()?;
    Some(socket)
}

impl Spawner {
    fn start(socket: OwnedFd, arguments: &SpawnerArguments) -> Result<Self, (OwnedFd, Step)> {
        let fail = |socket, step| Err((socket, step));
        let null = match open_null() {
            Ok(null) => null,
            Err(step) => return fail(socket, step),
        };
        let reserved = match reserve(null.as_fd()) {
            Ok(reserved) => reserved,
            Err(step) => return fail(socket, step),
        };
        match Self::assemble(arguments) {
            Ok((world, equipment, stock, epoll, signals)) => Ok(Self {
                socket,
                epoll,
                signals,
                reserved,
                world,
                equipment,
                stock,
                sandboxes: HashMap::new(),
                children: HashMap::new(),
                copiers: HashMap::new(),
                adopted: Vec::new(),
                next_look: 0,
                when_orphaned: arguments.when_orphaned,
            }),
            Err(step) => fail(socket, step),
        }
    }

    fn assemble(arguments: &SpawnerArguments) -> Result<(World, Equipment, Stock, OwnedFd, OwnedFd), Step> {
        // Detected before the mount namespace changes: the small root has no /sys.
        let groups = Layout::detect(arguments.cgroup.as_deref());
        let guest = kernel::sealed_program("hothouse-guest", GUEST).map_err(at("loading the guest"))?;
        let world = World::enter()?;
        let fallback = match (groups.controller(Controller::Pids), groups.controller(Controller::Memory)) {
            (Ok(()), Ok(())) => Fallback::Groups,
            _ => Fallback::ResourceLimits,
        };
        let equipment = Equipment {
            guest,
            filter: seccomp::filter(),
            masks: Masks::find(),
            landlock: kernel::landlock_version().unwrap_or(0),
            fallback,
        };
        // Who runs a command has somebody waiting; a sandbox in the making, above all a pool's, mostly has not. Where this
        // fails it competes as before.
        drop(kernel::take_turns(kernel::Turns::Yielding));
        let stock = Stock::new(groups, &arguments.instance, arguments.ahead);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(at("making an epoll"))?;
        let signals = kernel::child_signals().map_err(at("listening for children"))?;
        Ok((world, equipment, stock, epoll, signals))
    }

    fn watch(&self, fd: BorrowedFd<'_>, data: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(data);
        Ok(epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)?)
    }

    /// Watches for a single event. Children that are cloned meanwhile hold copies of a line until they execute, and a
    /// copy keeps a closed descriptor in the epoll: without this it would wake us over and over.
    fn watch_once(&self, fd: BorrowedFd<'_>, data: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(data);
        Ok(epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN | epoll::EventFlags::ONESHOT)?)
    }

    fn run(&mut self) -> ExitCode {
        let begun =
            self.watch(self.socket.as_fd(), SOCKET_EVENT).and(self.watch(self.signals.as_fd(), CHILD_EVENT));
        let ready = Report::Ready { abilities: self.abilities() };
        if begun.is_err() || self.tell(&ready).is_err() {
            return ExitCode::FAILURE;
        }
        let mut events = Vec::with_capacity(64);
        let mut packets = vec![0; MAX_PACKET];
        loop {
            // Stock is refilled one piece at a time, and only when nobody waits.
            let patience = match (self.stock.is_full(), self.adopted.is_empty()) {
                (false, _) => Some(rustix::time::Timespec::default()),
                (true, false) => Some(LOOK_EVERY),
                (true, true) => None,
            };
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), patience.as_ref()) {
                Ok(0) if self.stock.is_full() => self.look_after_adopted(),
                Ok(0) => self.stock.refill_one(),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return ExitCode::FAILURE,
            }
            let mut orphaned = false;
            // Lines first: an ended child's last words are read before it is reaped.
            events.sort_by_key(|event: &epoll::Event| std::cmp::Reverse(event.data.u64()));
            for event in &events {
                match event.data.u64() {
                    SOCKET_EVENT => orphaned = !self.take_orders(&mut packets),
                    CHILD_EVENT => self.reap(),
                    data if data & PIDFD_EVENT != 0 => self.adopted_ended(data & !PIDFD_EVENT),
                    data if data & COPIER_EVENT != 0 => self.copier_spoke(pid_in(data)),
                    data => self.status(pid_in(data)),
                }
            }
            if orphaned {
                return self.finish();
            }
        }
    }

    /// Takes every order that has arrived; false when the backend is gone.
    fn take_orders(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            match packet::receive::<Order>(self.socket.as_fd(), buffer) {
                Ok(Some((order, fds))) => self.obey(order, fds),
                Ok(None) => return false,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // A message that we cannot read: another version's backend. It is as good as gone.
                Err(_) => return false,
            }
        }
    }

    fn obey(&mut self, order: Order, fds: Vec<OwnedFd>) {
        match order {
            Order::Register { ticket, path } => {
                let report = match self.world.register(&path) {
                    Ok(layer) => Report::Registered { ticket, layer },
                    Err(step) => failed(ticket, &step),
                };
                self.report(&report);
            }
            Order::Create { ticket, order } => {
                if let Err((stage, step)) = self.create(ticket, &order, fds) {
                    let (step, reason) = (step.name, step.source.to_string());
                    self.report(&Report::NotCreated { ticket, stage, step, reason });
                }
            }
            Order::Adopt { body } => self.adopt(body),
            Order::Destroy { ticket, body } => self.destroy(ticket, &body),
            Order::Limit { ticket, body, limits } => self.limit(ticket, &body, &limits),
            Order::Copy { ticket, body, order } => {
                if let Err(step) = self.copy(ticket, &body, &order) {
                    self.report(&failed(ticket, &step));
                }
            }
            Order::Lend { ticket, body, overlays } => {
                let report = self.lend(ticket, &body, overlays).unwrap_or_else(|step| failed(ticket, &step));
                self.report(&report);
            }
            Order::Unregister { layer } => self.world.unregister(layer),
            Order::Hasten { key } => self.hasten(key),
        }
    }

    fn tell(&self, report: &Report) -> io::Result<()> {
        loop {
            match packet::send(self.socket.as_fd(), report, &[]) {
                // The backend reads all the time; wait for it rather than lose a report.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let mut poll = [rustix::event::PollFd::new(&self.socket, rustix::event::PollFlags::OUT)];
                    rustix::event::poll(&mut poll, None)?;
                }
                other => return other,
            }
        }
    }

    fn report(&self, report: &Report) {
        // A backend that is gone shows as the end of its orders, in the next turn of the loop.
        drop(self.tell(report));
    }

    /// The backend is gone.
    fn finish(&mut self) -> ExitCode {
        match self.when_orphaned {
            WhenOrphaned::End => self.end(|_| true),
            // What the backend has not heard of, no later one would find.
            WhenOrphaned::LiveOn => {
                self.end(|stage| !matches!(stage, Stage::Alive | Stage::Adopted | Stage::Dead))
            }
        }
        self.stock.clear();
        ExitCode::SUCCESS
    }

    fn abilities(&mut self) -> Abilities {
        let privileged = self.world.privilege == Privilege::Root;
        let range = "only the machine's root may map a range of user ids; this sandbox user is you";
        Abilities {
            uid_range: if privileged { Ok(()) } else { Err(range.to_owned()) },
            memory: self.stock.groups.controller(Controller::Memory),
            swap: self.stock.groups.swap(),
            pids: self.stock.groups.controller(Controller::Pids),
            cpu: self.stock.groups.controller(Controller::Cpu),
            freeze: self.stock.groups.controller(Controller::Freezer),
            network: self.stock.network_trouble(),
            idmap: self.world.idmap.clone(),
            landlock: match self.equipment.landlock {
                0 => Err("the kernel has no landlock, or it is not enabled".to_owned()),
                version => Ok(version),
            },
        }
    }
}

fn pid_in(data: u64) -> i32 {
    i32::try_from(data & 0xffff_ffff).expect("PIDs are positive")
}

fn failed(ticket: Ticket, step: &Step) -> Report {
    Report::Failed { ticket, step: step.name.clone(), reason: step.source.to_string() }
}

fn open_null() -> Result<OwnedFd, Step> {
    let opened = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    // Out of the way of the reserved numbers.
    opened.and_then(|null| rustix::io::fcntl_dupfd_cloexec(null, FREE_FROM)).map_err(at("opening /dev/null"))
}

/// Holds descriptors 3 and 4, so that nothing else gets these numbers.
#[expect(unsafe_code, reason = "descriptors are made by number")]
fn reserve(null: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Step> {
    RESERVED
        .map(|number| {
            // SAFETY: the number is ours: what was opened so far is above it, or moved there.
            let made = unsafe { libc::dup3(null.as_raw_fd(), number, libc::O_CLOEXEC) };
            if made < 0 {
                return Err(at("reserving descriptors")(io::Error::last_os_error()));
            }
            // SAFETY: dup3 has just made it.
            Ok(unsafe { OwnedFd::from_raw_fd(made) })
        })
        .collect()
}
