//! The sessions of one thread: one epoll, answers taken as they come, the next steps sent back to back.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::connection::PATIENCE;
use super::script::{Action, Transport};
use super::session::{Happened, Session};
use super::target::Target;

/// What was measured, and what it took.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// How long each operation took.
    pub(super) latencies: Vec<Duration>,
    /// From the start to the last answer.
    pub(super) elapsed: Duration,
    /// Answers that were not as they should have been.
    pub(super) wrong: usize,
    /// The first of those.
    pub(super) first_wrong: Option<String>,
    /// Processor time of the threads that made the load.
    pub(super) cpu: Duration,
}

impl Tally {
    /// Adds what another thread has measured meanwhile.
    pub(super) fn join(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.wrong += other.wrong;
        self.first_wrong = self.first_wrong.take().or(other.first_wrong);
        self.cpu += other.cpu;
    }

    fn note(&mut self, error: &anyhow::Error) {
        self.wrong += 1;
        self.first_wrong.get_or_insert_with(|| format!("{error:#}"));
    }
}

/// Sessions to open.
#[derive(Debug, Clone)]
pub(super) struct Wanted<'a> {
    /// Where.
    pub(super) target: &'a Target,
    /// How they talk.
    pub(super) transport: Transport,
    /// What they do.
    pub(super) action: &'a Action,
    /// Their numbers.
    pub(super) numbers: Range<usize>,
    /// How many are being opened at one time.
    pub(super) at_once: usize,
}

/// The sessions of one thread.
#[derive(Debug)]
pub(super) struct Lane {
    epoll: OwnedFd,
    sessions: Vec<Session>,
    /// Those that something has come for.
    woken: Vec<usize>,
    scratch: Vec<u8>,
}

/// Answers taken from one look at the epoll.
const EVENTS: usize = 1024;
const SCRATCH: usize = 256 << 10;

impl Lane {
    fn new() -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("making an epoll")?;
        Ok(Self { epoll, sessions: Vec::new(), woken: Vec::with_capacity(EVENTS), scratch: vec![0; SCRATCH] })
    }

    /// Opens sessions: connects, asks for a WebSocket, resets. The latencies are those of each as a whole.
    ///
    /// # Errors
    /// When one of them cannot be opened.
    pub(super) fn open(wanted: &Wanted<'_>, start: Instant) -> anyhow::Result<(Self, Tally)> {
        let used = cpu_of_this_thread();
        let mut lane = Self::new()?;
        let mut tally = Tally::default();
        let mut numbers = wanted.numbers.clone();
        for number in numbers.by_ref().take(wanted.at_once.max(1)) {
            lane.begin(wanted, number)?;
        }
        while tally.latencies.len() < wanted.numbers.len() {
            let mut opened = 0;
            lane.wait("to be opened")?;
            for at in lane.woken.clone() {
                match lane.sessions[at].handle(&mut lane.scratch)? {
                    Happened::Connected(took) => {
                        lane.listen(at)?;
                        if wanted.transport == Transport::Http {
                            tally.latencies.push(took);
                            opened += 1;
                        }
                    }
                    Happened::Opened(took) => {
                        tally.latencies.push(took);
                        opened += 1;
                    }
                    _ => {}
                }
            }
            for number in numbers.by_ref().take(opened) {
                lane.begin(wanted, number)?;
            }
        }
        tally.elapsed = start.elapsed();
        tally.cpu = cpu_of_this_thread().saturating_sub(used);
        Ok((lane, tally))
    }

    /// Steps all sessions, each again as soon as it is answered, until this moment; then takes the last answers.
    ///
    /// # Errors
    /// When a connection breaks or no answer comes any more.
    pub(super) fn step(&mut self, start: Instant, until: Instant) -> anyhow::Result<Tally> {
        let used = cpu_of_this_thread();
        let mut tally = Tally::default();
        let mut ready: Vec<usize> = (0..self.sessions.len()).collect();
        let mut asked = 0;
        loop {
            if Instant::now() < until {
                asked += ready.len();
                for at in ready.drain(..) {
                    self.sessions[at].ask()?;
                }
            }
            if asked == 0 {
                break;
            }
            self.wait("to be answered")?;
            for woken in 0..self.woken.len() {
                let at = self.woken[woken];
                match self.sessions[at].handle(&mut self.scratch)? {
                    Happened::Stepped(took) => tally.latencies.push(took),
                    // A new episode has begun.
                    Happened::Opened(_) => {}
                    Happened::Wrong(took, error) => {
                        tally.latencies.push(took);
                        tally.note(&error);
                    }
                    Happened::Nothing | Happened::Connected(_) | Happened::Ended(_) => continue,
                }
                asked -= 1;
                ready.push(at);
            }
        }
        tally.elapsed = start.elapsed();
        tally.cpu = cpu_of_this_thread().saturating_sub(used);
        Ok(tally)
    }

    /// Sessions that connect, are reset, step once and close, one after the other at each place, until this moment. The
    /// latencies are those of whole sessions.
    ///
    /// # Errors
    /// When one of them fails.
    pub(super) fn churn(wanted: &Wanted<'_>, start: Instant, until: Instant) -> anyhow::Result<Tally> {
        let used = cpu_of_this_thread();
        let mut lane = Self::new()?;
        let mut tally = Tally::default();
        for number in wanted.numbers.clone() {
            lane.begin(wanted, number)?;
        }
        let mut living = lane.sessions.len();
        while living > 0 {
            lane.wait("to come and go")?;
            for at in lane.woken.clone() {
                match lane.sessions[at].handle(&mut lane.scratch)? {
                    Happened::Nothing => {}
                    Happened::Connected(_) => lane.listen(at)?,
                    Happened::Opened(_) => lane.sessions[at].ask()?,
                    Happened::Stepped(_) => lane.sessions[at].close()?,
                    Happened::Wrong(_, error) => {
                        tally.note(&error);
                        lane.sessions[at].close()?;
                    }
                    Happened::Ended(took) => {
                        tally.latencies.push(took);
                        if Instant::now() < until {
                            lane.sessions[at].begin_again()?;
                            lane.watch(at)?;
                        } else {
                            epoll::delete(&lane.epoll, &lane.sessions[at]).context("leaving an epoll")?;
                            living -= 1;
                        }
                    }
                }
            }
        }
        tally.elapsed = start.elapsed();
        tally.cpu = cpu_of_this_thread().saturating_sub(used);
        Ok(tally)
    }

    /// Closes all sessions and waits until the server has ended them.
    ///
    /// # Errors
    /// When a connection breaks or the server does not end one.
    pub(super) fn close(mut self, transport: Transport) -> anyhow::Result<()> {
        if transport == Transport::Http {
            return Ok(());
        }
        for session in &mut self.sessions {
            session.close()?;
        }
        let mut living = self.sessions.len();
        while living > 0 {
            self.wait("to be closed")?;
            for at in self.woken.clone() {
                if let Happened::Ended(_) = self.sessions[at].handle(&mut self.scratch)? {
                    epoll::delete(&self.epoll, &self.sessions[at]).context("leaving an epoll")?;
                    living -= 1;
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, wanted: &Wanted<'_>, number: usize) -> anyhow::Result<()> {
        let session = Session::begin(wanted.target, wanted.transport, wanted.action, number)
            .with_context(|| format!("session {number}"))?;
        self.sessions.push(session);
        self.watch(self.sessions.len() - 1)
    }

    /// Waits for the connection of a session; one that was there before has left the epoll with its descriptor.
    fn watch(&self, at: usize) -> anyhow::Result<()> {
        let data = epoll::EventData::new_u64(at as u64);
        epoll::add(&self.epoll, &self.sessions[at], data, epoll::EventFlags::OUT).context("joining an epoll")
    }

    /// Waits for what the server says to a session.
    fn listen(&self, at: usize) -> anyhow::Result<()> {
        let data = epoll::EventData::new_u64(at as u64);
        epoll::modify(&self.epoll, &self.sessions[at], data, epoll::EventFlags::IN)
            .context("waiting for answers")
    }

    /// Waits until something has come.
    fn wait(&mut self, what: &str) -> anyhow::Result<()> {
        let patience = Timespec::try_from(PATIENCE).context("a timeout")?;
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        self.woken.clear();
        match epoll::wait(&self.epoll, &mut events[..], Some(&patience)) {
            Ok(([], _)) => bail!("sessions waited {} s {what}, and nothing came", PATIENCE.as_secs()),
            Ok((events, _)) => {
                for event in events {
                    let data = event.data;
                    self.woken.push(usize::try_from(data.u64()).context("a session's number")?);
                }
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(error) => Err(anyhow!(error).context("waiting for answers")),
        }
    }
}

/// Processor time that this thread has used.
pub(super) fn cpu_of_this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // A thread's time is never negative.
    Duration::try_from(time).unwrap_or_default()
}
