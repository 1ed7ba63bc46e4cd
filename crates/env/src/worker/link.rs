//! A connection to one worker process, shared by its sessions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use super::protocol::{self, Ask, Frame, Hello, Reader, Told};
use super::{Dial, Stream};
use crate::instance::OpenError;
use crate::session::StepError;

/// Time for a worker to say what it plays: it imports the author's module first.
const GREETING: Duration = Duration::from_secs(120);
/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// A connection to one worker process.
#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
    hello: Hello,
    next_session: AtomicU32,
    sessions: AtomicUsize,
    /// Reads and writes; ended with the link.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    wake: Notify,
}

#[derive(Debug)]
struct State {
    outgoing: Vec<u8>,
    waiting: HashMap<u32, oneshot::Sender<Told>>,
    next_request: u32,
    /// Why it is of no use any more.
    lost: Option<String>,
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody gets an answer any more.
    fn lose(&self, why: impl Into<String>) {
        let mut state = self.lock();
        if state.lost.is_none() {
            let why = why.into();
            tracing::warn!(why, waiting = state.waiting.len(), "a worker is lost");
            state.lost = Some(why);
        }
        state.waiting.clear();
        drop(state);
        self.wake.notify_one();
    }
}

impl Link {
    /// Connects, and waits for the greeting.
    pub(super) async fn open(dial: &Dial) -> Result<Self, OpenError> {
        let failed = |message: String| OpenError { message, traceback: None };
        let stream =
            dial().await.map_err(|error| failed(format!("the worker cannot be reached: {error}")))?;
        let (mut read, write) = tokio::io::split(stream);
        let mut reader = Reader::default();
        let greeting = tokio::time::timeout(GREETING, first(&mut read, &mut reader)).await;
        let greeting = greeting
            .map_err(|_| failed(format!("the worker did not say what it plays within {GREETING:?}")))?
            .map_err(|error| failed(format!("the worker: {error}")))?;
        let hello = match greeting.told {
            Told::Hello(payload) => Hello::parse(&payload).map_err(failed)?,
            Told::Failed(payload) => {
                let reason = protocol::failed(&payload);
                return Err(OpenError { message: reason.message, traceback: reason.traceback });
            }
            Told::Done(_) | Told::Invalid(_) => {
                return Err(failed("the worker's first word is no greeting".to_owned()));
            }
        };
        let state = State { outgoing: Vec::new(), waiting: HashMap::new(), next_request: 1, lost: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), wake: Notify::new() });
        let mut tasks = JoinSet::new();
        tasks.spawn(read_all(read, reader, Arc::clone(&shared)));
        tasks.spawn(write_all(write, Arc::clone(&shared)));
        let (next_session, sessions) = (AtomicU32::new(1), AtomicUsize::new(0));
        Ok(Self { shared, hello, next_session, sessions, _tasks: tasks })
    }

    pub(super) fn hello(&self) -> &Hello {
        &self.hello
    }

    pub(super) fn is_alive(&self) -> bool {
        self.shared.lock().lost.is_none()
    }

    /// Sessions that it plays.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// A number for another session.
    pub(super) fn admit(&self) -> u32 {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    /// A session is over. Nobody waits for the answer.
    pub(super) fn dismiss(&self, session: u32) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        // What is lost has closed it already.
        _ = self.send(session, Ask::Close, b"{}");
    }

    /// Asks something, and waits for the answer.
    pub(super) async fn ask(&self, session: u32, ask: Ask, payload: &[u8]) -> Result<Told, StepError> {
        let answer = self.send(session, ask, payload)?;
        answer.await.map_err(|_closed| {
            let why = self.shared.lock().lost.clone();
            StepError::Lost(why.unwrap_or_else(|| "its worker went away".to_owned()))
        })
    }

    fn send(&self, session: u32, ask: Ask, payload: &[u8]) -> Result<oneshot::Receiver<Told>, StepError> {
        let (answer, answered) = oneshot::channel();
        let mut state = self.shared.lock();
        if let Some(why) = &state.lost {
            return Err(StepError::Lost(why.clone()));
        }
        let request = state.next_request;
        // 0 is for what nobody asked for.
        state.next_request = request.checked_add(1).unwrap_or(1);
        state.waiting.insert(request, answer);
        protocol::write(&mut state.outgoing, request, session, ask, payload);
        drop(state);
        self.shared.wake.notify_one();
        Ok(answered)
    }
}

async fn first(read: &mut ReadHalf<Box<dyn Stream>>, reader: &mut Reader) -> Result<Frame, String> {
    loop {
        if let Some(frame) = reader.next()? {
            return Ok(frame);
        }
        match read.read_buf(&mut reader.buffer).await {
            Ok(0) => return Err("it ended before it said what it plays".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

async fn read_all(mut read: ReadHalf<Box<dyn Stream>>, mut reader: Reader, shared: Arc<Shared>) {
    loop {
        loop {
            match reader.next() {
                Ok(Some(frame)) => {
                    let waiting = shared.lock().waiting.remove(&frame.request);
                    // A session that is gone meanwhile waits for nothing.
                    _ = waiting.map(|waiting| waiting.send(frame.told));
                }
                Ok(None) => break,
                Err(error) => return shared.lose(format!("its worker sent {error}")),
            }
        }
        reader.buffer.reserve(CHUNK);
        match read.read_buf(&mut reader.buffer).await {
            Ok(0) => return shared.lose("its worker process ended"),
            Ok(_) => {}
            Err(error) => return shared.lose(format!("its worker process is gone: {error}")),
        }
    }
}

async fn write_all(mut write: WriteHalf<Box<dyn Stream>>, shared: Arc<Shared>) {
    let mut writing = Vec::new();
    loop {
        {
            let mut state = shared.lock();
            if state.lost.is_some() {
                return;
            }
            std::mem::swap(&mut writing, &mut state.outgoing);
        }
        if writing.is_empty() {
            shared.wake.notified().await;
            continue;
        }
        let written = async {
            write.write_all(&writing).await?;
            write.flush().await
        };
        if let Err(error) = written.await {
            return shared.lose(format!("its worker process takes nothing any more: {error}"));
        }
        writing.clear();
    }
}
