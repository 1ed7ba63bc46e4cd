//! Contexts: live Python interpreters that keep their variables from run to run.
//!
//! A *zygote* is the image's own `python3` with the usual modules imported; it forks a context in a millisecond or two.
//! There is one for each user, list of modules and environment, started when the first such context is opened. A context
//! is the guest's own child (its zygote forks twice), which tells of its end as that of any other. So is its fork; this is
//! why a context, other than an exec's leader, adopts no orphans: what its code makes a daemon of outlives it, and ends with
//! the sandbox.
//!
//! ```text
//!  guest ──3 descriptors──► zygote ──fork──► context: hello ──► terms ──► opened
//!                                               ▲                            │
//!                                               └── 3 descriptors ── fork ◄──┤ Idle ──run──► Busy ──done──► Idle
//!                                                                            │
//!                       its interpreter is gone: Ended, until it is closed or reset
//! ```
//!
//! Each context has a socket of its own, on which nothing but frames of bounded length counts (`link`). Whatever code of a
//! context does to its end of it harms that context alone: the process behind it is known by what the kernel says.

mod begin;
mod end;
mod link;
mod run;
mod zygote;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::connection::StreamKey;
use super::exec::Output;
use super::reaper::Usage;
use super::refusal::Refusal;
use super::tree;
use crate::message::{ContextEntry, ContextState, GuestErrorCode};
use link::Link;
use run::Busy;
use zygote::{Origins, Zygote};

/// Contexts at once, those that have ended and were not closed included.
const MAX_CONTEXTS: usize = 64;
/// How long a context may take to be ready; its zygote may have much to import.
const START: Duration = Duration::from_secs(60);
/// How long a context is idle before what its threads write is drained.
const IDLE: Duration = Duration::from_millis(20);

/// All contexts, and what makes them.
#[derive(Debug, Default)]
pub struct Contexts {
    all: BTreeMap<u64, Context>,
    next: u64,
    zygotes: BTreeMap<u64, Zygote>,
    next_zygote: u64,
}

/// What a context was opened with, which a reset starts it with again.
#[derive(Debug)]
struct Terms {
    origins: Origins,
    secrets: Vec<(String, String)>,
    cwd: String,
    memory_bytes: Option<u64>,
}

/// One context.
#[derive(Debug)]
struct Context {
    id: String,
    terms: Rc<Terms>,
    version: String,
    forked_from: Option<String>,
    state: State,
}

#[derive(Debug)]
enum State {
    Alive(Box<Process>),
    /// Its interpreter is gone, for this reason.
    Ended(String),
}

/// The process of a context.
#[derive(Debug)]
struct Process {
    link: Link,
    /// While no code runs; a run's exec has them meanwhile.
    outputs: [Output; 2],
    /// Who it is, by what the kernel says; `None` until its hello.
    identity: Option<tree::Process>,
    /// What it had used when the last run ended.
    usage: Usage,
    oom_before: u64,
    /// Why the guest ended it.
    fault: Option<String>,
    /// It has hung up; when it is ended for that, unless it is on its way out already.
    hung_up: Option<Instant>,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    /// Until it says that it is ready. What is made of a zygote takes terms, a branch has them.
    Starting {
        key: StreamKey,
        until: Instant,
        maker: Maker,
    },
    Idle {
        since: Instant,
    },
    Busy(Busy),
}

/// What forks a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    Zygote(u64),
    Context,
}

impl Context {
    fn entry(&self) -> ContextEntry {
        let state = match &self.state {
            State::Ended(reason) => ContextState::Ended(reason.clone()),
            State::Alive(process) => match process.doing {
                Doing::Starting { .. } => ContextState::Starting,
                Doing::Idle { .. } => ContextState::Idle,
                Doing::Busy(_) => ContextState::Busy,
            },
        };
        ContextEntry {
            context_id: self.id.clone(),
            version: self.version.clone(),
            forked_from: self.forked_from.clone(),
            state,
        }
    }

    fn process(&mut self) -> Option<&mut Process> {
        match &mut self.state {
            State::Alive(process) => Some(process),
            State::Ended(_) => None,
        }
    }

    /// Refuses unless it waits for code.
    fn check_idle(&self) -> Result<(), Refusal> {
        let id = &self.id;
        let (code, message) = match &self.state {
            State::Ended(reason) => {
                (GuestErrorCode::ContextEnded, format!("context {id}: has ended: {reason}"))
            }
            State::Alive(process) => match process.doing {
                Doing::Idle { .. } => return Ok(()),
                Doing::Starting { .. } => {
                    (GuestErrorCode::ContextBusy, format!("context {id}: is being made"))
                }
                Doing::Busy(_) => (GuestErrorCode::ContextBusy, format!("context {id}: runs other code")),
            },
        };
        Err(Refusal::new(code, message))
    }
}

impl Contexts {
    fn process(&mut self, number: u64) -> Option<&mut Process> {
        self.all.get_mut(&number)?.process()
    }

    fn find(&self, id: &str) -> Result<u64, Refusal> {
        self.all.iter().find(|(_, context)| context.id == id).map(|(number, _)| *number).ok_or_else(|| {
            Refusal::new(GuestErrorCode::ContextNotFound, format!("context {id}: no such context"))
        })
    }

    /// Makes sure that one more may be there, if need be by forgetting the oldest that has ended.
    fn make_room(&mut self, id: &str) -> Result<(), Refusal> {
        if self.all.values().any(|context| context.id == id) {
            let message = format!("context {id}: exists already");
            return Err(Refusal::new(GuestErrorCode::ContextExists, message));
        }
        if self.all.len() < MAX_CONTEXTS {
            return Ok(());
        }
        let ended = self.all.iter().find(|(_, context)| matches!(context.state, State::Ended(_)));
        match ended.map(|(number, _)| *number) {
            Some(number) => {
                self.all.remove(&number);
                Ok(())
            }
            None => {
                let message = format!("context {id}: {MAX_CONTEXTS} contexts are open already");
                Err(Refusal::new(GuestErrorCode::LimitExceeded, message))
            }
        }
    }
}
