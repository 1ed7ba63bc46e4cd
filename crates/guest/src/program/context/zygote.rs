//! Zygotes: interpreters that have imported what is usual, and fork contexts.

use std::ffi::CString;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::pipe::PipeFlags;
use rustix::process::Signal;

use super::super::exec::{candidates, environment};
use super::super::poller::{Interest, Source};
use super::super::reaper::{Ended, Status};
use super::super::refusal::{Refusal, reason};
use super::super::server::Server;
use super::super::shell::signal;
use super::super::spawn::{Command, Orphans, SpawnError, Step};
use super::super::timers::Owner;
use super::super::user::{self, Account};
use super::{Doing, Maker, State};
use crate::message::GuestErrorCode;

/// Zygotes at once; the one that was asked least lately makes room.
const MAX_ZYGOTES: usize = 8;
/// What is kept of what one says, in bytes.
const LOG: usize = 4096;
/// The exit status by which an interpreter says that it is too old.
const TOO_OLD: i32 = 77;
const PROGRAM: &str =
    concat!(include_str!("zygote.py"), "\n", include_str!("interpreter.py"), "\n", include_str!("branch.py"));
/// Reads the program from a descriptor, so that it is no file of the sandbox.
const START: &str = "import sys;sys.version_info>=(3,8) or sys.exit(77);\
    exec(compile(open(4,'rb').read(),'<hothouse>','exec'))";
/// What is imported when no list is given; what begins with `?` may be missing.
const USUAL: [&str; 6] = ["?json", "?re", "?math", "?random", "?collections", "?numpy"];
/// Modules in one list.
const MAX_IMPORTS: usize = 64;

/// What tells zygotes apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origins {
    pub(super) user: Option<String>,
    pub(super) imports: Option<Vec<String>>,
    pub(super) env: Vec<(String, String)>,
}

/// A zygote.
#[derive(Debug)]
pub(super) struct Zygote {
    origins: Origins,
    pid: i32,
    control: OwnedFd,
    log: Option<OwnedFd>,
    said: Vec<u8>,
    /// When it was last asked, counted in contexts.
    asked: u64,
    /// It has made a context: what ends it afterwards is no fault of its own.
    pub(super) proven: bool,
}

/// Checks a list of modules.
pub(super) fn check_imports(imports: &[String]) -> Result<(), Refusal> {
    let is_name = |name: &str| {
        name.len() <= 200
            && name.split('.').all(|part| {
                let starts = part.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
                starts && part.chars().all(|c| c.is_alphanumeric() || c == '_')
            })
    };
    if imports.len() > MAX_IMPORTS {
        return Err(Refusal::invalid(format!("imports: {} modules; at most {MAX_IMPORTS}", imports.len())));
    }
    match imports.iter().find(|name| !is_name(name)) {
        Some(name) => Err(Refusal::invalid(format!("imports: {name:?} is no module's name"))),
        None => Ok(()),
    }
}

fn failed(error: impl Into<std::io::Error>) -> Refusal {
    Refusal::new(GuestErrorCode::Internal, format!("a zygote: {}", reason(&error.into())))
}

/// Sends descriptors with at least one byte.
pub(super) fn send_with(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[OwnedFd],
) -> Result<usize, Errno> {
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(Errno::INVAL);
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags)
}

impl Server {
    /// The zygote for contexts of these origins; started when there is none.
    pub(super) fn zygote_for(&mut self, origins: &Origins) -> Result<u64, Refusal> {
        let asked = self.contexts.next;
        if let Some((number, zygote)) =
            self.contexts.zygotes.iter_mut().find(|(_, zygote)| zygote.origins == *origins)
        {
            zygote.asked = asked;
            return Ok(*number);
        }
        if self.contexts.zygotes.len() >= MAX_ZYGOTES {
            let oldest = self.contexts.zygotes.iter().min_by_key(|(_, zygote)| zygote.asked);
            if let Some(number) = oldest.map(|(number, _)| *number) {
                self.forget_zygote(number);
            }
        }
        let number = self.contexts.next_zygote;
        self.contexts.next_zygote += 1;
        let zygote = self.start_zygote(number, origins, asked)?;
        self.by_pid.insert(zygote.pid, Owner::Zygote(number));
        self.contexts.zygotes.insert(number, zygote);
        Ok(number)
    }

    fn start_zygote(&mut self, number: u64, origins: &Origins, asked: u64) -> Result<Zygote, Refusal> {
        let account = match &origins.user {
            None => Account::root(),
            Some(user) => user::look_up(&self.root, user).map_err(Refusal::invalid)?,
        };
        let flags = SocketFlags::CLOEXEC;
        let (control, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
                .map_err(failed)?;
        let (log, says) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        rustix::io::ioctl_fionbio(&log, true).map_err(failed)?;
        let program = rustix::fs::memfd_create("zygote", rustix::fs::MemfdFlags::CLOEXEC).map_err(failed)?;
        let written = rustix::io::pwrite(&program, PROGRAM.as_bytes(), 0).map_err(failed)?;
        if written != PROGRAM.len() {
            return Err(failed(Errno::NOSPC));
        }
        let names: Vec<&str> = match &origins.imports {
            Some(imports) => imports.iter().map(String::as_str).collect(),
            None => USUAL.to_vec(),
        };
        let c_string = |text: &str| CString::new(text).map_err(|_| Refusal::invalid("has a NUL byte"));
        let argv = ["python3", "-c", START].into_iter().chain(names);
        let default = super::super::exec::DEFAULT_PATH;
        let path = origins.env.iter().find(|(name, _)| name == "PATH").map_or(default, |(_, path)| path);
        // Out of the way of the numbers that they get there.
        let aside = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, ASIDE).map_err(failed);
        let (says, theirs, program) = (aside(&says)?, aside(&theirs)?, aside(&program)?);
        let command = Command {
            candidates: candidates("python3", path).map_err(Refusal::invalid)?,
            argv: argv.map(c_string).collect::<Result<_, _>>()?,
            env: environment(&origins.env, &account, false).map_err(Refusal::invalid)?,
            cwd: c_string("/")?,
            identity: account.identity.clone(),
            descriptors: vec![
                (says.as_fd(), 1),
                (says.as_fd(), 2),
                (theirs.as_fd(), 3),
                (program.as_fd(), 4),
            ],
            terminal: false,
            orphans: Orphans::ToGuest,
        };
        let pid = self.spawner.spawn(&command).map_err(|error| cannot_start(&error, origins))?;
        self.poller.add(&log, Source::ZygoteLog(number), Interest::Read).map_err(failed)?;
        let origins = origins.clone();
        Ok(Zygote { origins, pid, control, log: Some(log), said: Vec::new(), asked, proven: false })
    }

    /// Has a zygote fork a context on these descriptors.
    pub(super) fn ask_zygote(&mut self, number: u64, descriptors: &[OwnedFd]) -> Result<(), Errno> {
        let zygote = self.contexts.zygotes.get(&number).ok_or(Errno::PIPE)?;
        send_with(zygote.control.as_fd(), b"f", descriptors).map(drop)
    }

    /// Lets a zygote go: closing its socket ends it once it has done what it was asked.
    pub(super) fn forget_zygote(&mut self, number: u64) {
        if let Some(zygote) = self.contexts.zygotes.remove(&number)
            && let Some(log) = zygote.log
        {
            self.keep_leftover_of(log);
        }
    }

    fn keep_leftover_of(&mut self, log: OwnedFd) {
        // It was added, so this cannot fail; at worst it would wake the loop once more.
        let _removed = self.poller.remove(&log);
        self.keep_leftover(log);
    }

    /// Ends a zygote that takes too long.
    pub(super) fn kill_zygote(&mut self, number: u64) {
        if let Some(zygote) = self.contexts.zygotes.get(&number) {
            signal(zygote.pid, Signal::KILL);
        }
    }

    /// What a zygote says explains why it ended; what comes after that is dropped.
    pub(in super::super) fn on_zygote_log(&mut self, number: u64) {
        let Some(zygote) = self.contexts.zygotes.get_mut(&number) else { return };
        let Some(log) = &zygote.log else { return };
        let mut buffer = [0; LOG];
        match rustix::io::read(log, &mut buffer) {
            Ok(0) => zygote.log = None,
            Ok(count) => {
                zygote.said.extend_from_slice(&buffer[..count]);
                let surplus = zygote.said.len().saturating_sub(LOG);
                zygote.said.drain(..surplus);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => zygote.log = None,
        }
    }

    /// A zygote has ended; its contexts live on, those that it had not made yet do not come.
    pub(in super::super) fn on_zygote_end(&mut self, number: u64, ended: Ended) {
        self.on_zygote_log(number);
        let Some(zygote) = self.contexts.zygotes.remove(&number) else { return };
        let (code, why) = match ended.status {
            Status::Exited(TOO_OLD) => (
                GuestErrorCode::Unsupported,
                "the python3 of this sandbox is older than 3.8, the oldest that will do".to_owned(),
            ),
            Status::Exited(status) => {
                let said = String::from_utf8_lossy(&zygote.said);
                let last = said.lines().last().unwrap_or_default();
                (GuestErrorCode::Unsupported, format!("python3 ended with status {status}: {last}"))
            }
            Status::Signalled(signal) => (
                GuestErrorCode::Internal,
                format!("python3 was ended by signal {signal} before it was ready"),
            ),
        };
        let is_of_it = |doing: &Doing| matches!(doing, Doing::Starting { maker: Maker::Zygote(of), .. } if *of == number);
        let waiting: Vec<u64> = self
            .contexts
            .all
            .iter()
            .filter(|(_, context)| match &context.state {
                State::Alive(process) => process.identity.is_none() && is_of_it(&process.doing),
                State::Ended(_) => false,
            })
            .map(|(number, _)| *number)
            .collect();
        let another_may_do = zygote.proven && matches!(ended.status, Status::Signalled(_));
        for context in waiting {
            // Perhaps it said itself why there is none.
            self.on_context_control(context);
            if another_may_do {
                self.begin_again(context);
            } else {
                self.give_up_start(context, code, &why);
            }
        }
    }
}

/// Where a zygote's own descriptors are put before they get their numbers there.
const ASIDE: i32 = 300;

fn cannot_start(error: &SpawnError, origins: &Origins) -> Refusal {
    let why = reason(&error.source);
    match error.step {
        Step::Fork | Step::Setup | Step::Directory => {
            Refusal::new(GuestErrorCode::LimitExceeded, format!("no process for python3: {why}"))
        }
        Step::Identity => {
            let user = origins.user.as_deref().unwrap_or("root");
            Refusal::invalid(format!("user {user}: {why}; this sandbox may have no such user number"))
        }
        Step::Execute => Refusal::new(
            GuestErrorCode::Unsupported,
            "this sandbox has no python3 in its PATH; contexts need one of 3.8 or newer",
        ),
    }
}
