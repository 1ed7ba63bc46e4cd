//! One connection to a guest and the task that reads it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hothouse_guest::frame::{self, Channel, Decoder, Frame, Kind};
use hothouse_guest::message::{self, Hello, MAGIC, Reply, Request, VERSION};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::LinkError;
use super::inbox::{Inbox, Intake, WakeWhen, Wakers};
use super::stream::LinkStream;

/// The guest takes at most so many streams on one connection.
pub(crate) const MAX_STREAMS: usize = 2048;
/// Unsent bytes above which new data waits for the socket.
const OUT_HIGH_WATER: usize = 1 << 20;
/// How long a fresh guest may take to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(60);
/// How long a caller may leave replies unread before the link is given up.
const UNREAD_FOR: Duration = Duration::from_secs(60);
/// Room for a read: the first figure, doubled up to the second while reads fill it.
const READ_ROOM: (usize, usize) = (16 << 10, 256 << 10);

/// A stream as the pump sees it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) inbox: Mutex<Inbox>,
    /// Told when the caller has taken something while the inbox was full.
    pub(crate) drained: Notify,
}

impl Slot {
    pub(crate) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        locked(&self.inbox)
    }
}

#[derive(Debug)]
struct Streams {
    open: HashMap<u32, Arc<Slot>>,
    last: u32,
    /// Why no stream can be opened any more.
    failed: Option<LinkError>,
}

#[derive(Debug, Default)]
struct Out {
    /// Bytes that the socket did not take yet.
    pending: Vec<u8>,
    sent: usize,
    broken: bool,
    /// Who waits until most of it is sent.
    waiting: Vec<Waker>,
}

/// One connection to a guest.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedWriteHalf,
    streams: Mutex<Streams>,
    out: Mutex<Out>,
    /// There is something in `out` that the pump has to send.
    out_waiting: Notify,
    /// The link has failed or was closed.
    ended: Notify,
    started: Instant,
    /// Milliseconds after `started` at which the last stream ended.
    idle_since: AtomicU64,
    /// Something has come since the last look.
    heard: AtomicBool,
    /// Looks in a row that found requests open and nothing come.
    silent: AtomicU32,
    /// Told by each of those.
    silence: Arc<Notify>,
}

/// A lock is never poisoned here for long: no code that can panic runs under one.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Takes a fresh connection over. The hello goes out with the first request. `silence` is told of looks that find the
    /// guest silent.
    pub(crate) fn start(socket: UnixStream, tasks: &TaskTracker, silence: Arc<Notify>) -> Arc<Self> {
        let (read, write) = socket.into_split();
        let mut pending = Vec::with_capacity(256);
        frame::encode(&mut pending, Kind::Hello, 0, Channel::None, &message::encode(&Hello::new()));
        let link = Arc::new(Self {
            socket: write,
            streams: Mutex::new(Streams { open: HashMap::new(), last: 0, failed: None }),
            out: Mutex::new(Out { pending, ..Out::default() }),
            out_waiting: Notify::new(),
            ended: Notify::new(),
            started: Instant::now(),
            idle_since: AtomicU64::new(0),
            heard: AtomicBool::new(false),
            silent: AtomicU32::new(0),
            silence,
        });
        tasks.spawn(Arc::clone(&link).pump(read));
        link
    }

    /// Opens a stream with an encoded request.
    pub(crate) fn open(
        self: &Arc<Self>,
        request: &[u8],
        wake_when: WakeWhen,
    ) -> Result<LinkStream, LinkError> {
        let slot = Arc::new(Slot { inbox: Mutex::new(Inbox::new(wake_when)), drained: Notify::new() });
        let id = {
            let mut streams = locked(&self.streams);
            if streams.failed.is_some() {
                return Err(LinkError::Closed);
            }
            if streams.open.len() >= MAX_STREAMS {
                return Err(LinkError::TooManyStreams);
            }
            loop {
                streams.last = streams.last.wrapping_add(1);
                if streams.last != 0 && !streams.open.contains_key(&streams.last) {
                    break;
                }
            }
            let id = streams.last;
            streams.open.insert(id, Arc::clone(&slot));
            id
        };
        self.write(Kind::Open, id, Channel::None, request);
        Ok(LinkStream::new(Arc::clone(self), id, slot))
    }

    /// Queues a frame and sends as much as the socket takes now.
    pub(crate) fn write(&self, kind: Kind, stream: u32, channel: Channel, payload: &[u8]) {
        let mut out = locked(&self.out);
        if out.broken {
            return;
        }
        let waiting_already = out.sent > 0;
        frame::encode(&mut out.pending, kind, stream, channel, payload);
        if !waiting_already && self.flush(&mut out) == Flushed::Rest {
            self.out_waiting.notify_one();
        }
    }

    fn flush(&self, out: &mut Out) -> Flushed {
        while out.sent < out.pending.len() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(self.socket.as_ref(), &out.pending[out.sent..], flags) {
                Ok(n) => out.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // `sent > 0` is also the sign that the pump is at it; see `write`.
                    if out.sent > OUT_HIGH_WATER {
                        let sent = out.sent;
                        out.pending.drain(..sent);
                        out.sent = 0;
                    }
                    return Flushed::Rest;
                }
                Err(_) => {
                    // The pump's read sees the end of the connection and says why.
                    out.broken = true;
                    out.pending = Vec::new();
                    out.sent = 0;
                    return Flushed::All;
                }
            }
        }
        out.sent = 0;
        out.pending.clear();
        if out.pending.capacity() > OUT_HIGH_WATER / 16 {
            out.pending = Vec::new();
        }
        Flushed::All
    }

    /// Waits until the socket has taken most of what was queued.
    pub(crate) fn poll_roomy(&self, cx: &Context<'_>) -> Poll<()> {
        let mut out = locked(&self.out);
        if out.broken || out.pending.len() - out.sent < OUT_HIGH_WATER {
            return Poll::Ready(());
        }
        if !out.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            out.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Wakes those who wait to send more.
    fn wake_senders(&self) {
        let waiting = std::mem::take(&mut locked(&self.out).waiting);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Forgets a stream whose caller is done with it.
    pub(crate) fn forget(&self, id: u32, slot: &Slot) {
        let last = {
            let mut streams = locked(&self.streams);
            streams.open.remove(&id);
            streams.open.is_empty()
        };
        if last {
            self.idle_since.store(self.now_ms(), Ordering::Relaxed);
        }
        if !slot.inbox().is_over() {
            self.write(Kind::Close, id, Channel::None, &[]);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long no stream has been open, in milliseconds; `None` while one is.
    pub(crate) fn idle_ms(&self) -> Option<u64> {
        if !locked(&self.streams).open.is_empty() {
            return None;
        }
        Some(self.now_ms().saturating_sub(self.idle_since.load(Ordering::Relaxed)))
    }

    /// Closes the link if no stream is open.
    pub(crate) fn close_if_idle(&self) -> bool {
        let mut streams = locked(&self.streams);
        if !streams.open.is_empty() {
            return false;
        }
        if streams.failed.is_none() {
            streams.failed = Some(LinkError::Closed);
        }
        drop(streams);
        self.ended.notify_one();
        true
    }

    /// Looks whether the guest has said anything since the last look while requests are open. One that has not is asked for
    /// a word: long commands are silent too, but a guest that can run at all answers.
    pub(crate) fn look(self: &Arc<Self>) {
        let heard = self.heard.swap(false, Ordering::Relaxed);
        if heard || self.idle_ms().is_some() {
            return self.silent.store(0, Ordering::Relaxed);
        }
        // Whoever cannot be asked is not blamed for saying nothing. The stream is dropped at once: any byte will do.
        if self.open(&message::encode(&Request::Info), WakeWhen::Over).is_ok() {
            self.silent.fetch_add(1, Ordering::Relaxed);
            self.silence.notify_one();
        }
    }

    /// How many looks in a row have found the guest silent.
    pub(crate) fn silent_looks(&self) -> u32 {
        self.silent.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Counts silence from now on: the guest could not have spoken before.
    pub(crate) fn excuse(&self) {
        self.heard.store(true, Ordering::Relaxed);
        self.silent.store(0, Ordering::Relaxed);
    }

    /// True when no stream can be opened any more.
    pub(crate) fn has_ended(&self) -> bool {
        locked(&self.streams).failed.is_some()
    }

    /// Fails every open stream and takes no new ones.
    pub(crate) fn fail(&self, error: &LinkError) {
        let slots: Vec<Arc<Slot>> = {
            let mut streams = locked(&self.streams);
            if streams.failed.is_none() {
                streams.failed = Some(error.clone());
            }
            streams.open.values().cloned().collect()
        };
        for slot in slots {
            Self::fail_slot(&slot, error);
        }
        locked(&self.out).broken = true;
        self.wake_senders();
        self.ended.notify_one();
    }

    /// Fails the streams on which the guest has said nothing: it was frozen before it read them.
    pub(crate) fn fail_unanswered(&self) {
        let slots: Vec<Arc<Slot>> = locked(&self.streams).open.values().cloned().collect();
        for slot in slots {
            if !slot.inbox().answered() {
                Self::fail_slot(&slot, &LinkError::Frozen);
            }
        }
    }

    fn fail_slot(slot: &Slot, error: &LinkError) {
        let wakers = slot.inbox().fail(error.clone());
        slot.drained.notify_one();
        wakers.wake();
    }

    async fn pump(self: Arc<Self>, read: OwnedReadHalf) {
        let reason = {
            let send = self.send_rest();
            tokio::pin!(send);
            tokio::select! {
                biased;
                reason = self.read(read) => reason,
                () = self.ended.notified() => "the link was closed".to_owned(),
                () = &mut send => "writing failed".to_owned(),
            }
        };
        self.fail(&LinkError::Lost(reason));
    }

    /// Sends what callers could not; never returns while the connection stands.
    async fn send_rest(&self) {
        loop {
            self.out_waiting.notified().await;
            loop {
                if self.socket.writable().await.is_err() {
                    return;
                }
                // tokio has to see the socket refuse, or `writable` would return at once for ever.
                let tried = self.socket.as_ref().try_io(tokio::io::Interest::WRITABLE, || {
                    match self.flush(&mut locked(&self.out)) {
                        Flushed::All => Ok(()),
                        Flushed::Rest => Err(std::io::ErrorKind::WouldBlock.into()),
                    }
                });
                self.wake_senders();
                if tried.is_ok() {
                    break;
                }
            }
        }
    }

    /// Reads until the connection ends; says why it did.
    async fn read(&self, mut read: OwnedReadHalf) -> String {
        let mut decoder = Decoder::new();
        let mut greeted = false;
        let mut room = READ_ROOM.0;
        loop {
            let buffer = decoder.buffer();
            buffer.reserve(room);
            let got = if greeted {
                read.read_buf(buffer).await
            } else {
                match tokio::time::timeout(HELLO_WITHIN, read.read_buf(buffer)).await {
                    Ok(got) => got,
                    Err(_) => return "the guest does not answer".to_owned(),
                }
            };
            match got {
                Ok(0) => return "the guest closed the connection".to_owned(),
                Ok(n) if n >= room => room = READ_ROOM.1.min(room * 2),
                Ok(_) => room = READ_ROOM.0,
                Err(error) => return format!("reading from the guest: {error}"),
            }
            self.heard.store(true, Ordering::Relaxed);
            let full = match self.sort(&mut decoder, &mut greeted) {
                Ok(full) => full,
                Err(reason) => return reason,
            };
            if let Some(slot) = full {
                while slot.inbox().is_full() {
                    if tokio::time::timeout(UNREAD_FOR, slot.drained.notified()).await.is_err() {
                        return "replies were left unread".to_owned();
                    }
                }
            }
        }
    }

    /// Sorts whole frames into inboxes; returns a stream that must be read before more is taken in.
    fn sort(&self, decoder: &mut Decoder, greeted: &mut bool) -> Result<Option<Arc<Slot>>, String> {
        let mut full = None;
        loop {
            let frame = match decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(full),
                Err(error) => return Err(format!("the guest sent no frame: {error}")),
            };
            if !*greeted {
                check_hello(&frame)?;
                *greeted = true;
                continue;
            }
            if let Some(slot) = self.deliver(&frame)? {
                full = Some(slot);
            }
        }
    }

    fn deliver(&self, frame: &Frame<'_>) -> Result<Option<Arc<Slot>>, String> {
        let slot = {
            let mut streams = locked(&self.streams);
            match (streams.open.get(&frame.stream), frame.kind) {
                // The caller has left; what was under way is dropped.
                (None, _) => return Ok(None),
                // Out of the table at once, so that the number of open streams is what the guest counts.
                (Some(_), Kind::Close) => streams.open.remove(&frame.stream),
                (Some(slot), _) => Some(Arc::clone(slot)),
            }
        };
        let Some(slot) = slot else { return Ok(None) };
        let mut intake = Intake::Open;
        let wakers: Wakers = {
            let breach = |breach| format!("the guest broke the protocol: {breach}");
            let mut inbox = slot.inbox();
            match frame.kind {
                Kind::Data => inbox.data(frame.channel, frame.payload).map_err(breach)?,
                Kind::End => inbox.end(frame.channel).map_err(breach)?,
                Kind::Reply => {
                    let reply: Reply = message::decode("reply", frame.payload).map_err(|e| e.to_string())?;
                    let (wakers, now) = inbox.reply(reply, frame.payload.len());
                    intake = now;
                    wakers
                }
                Kind::Credit => {
                    let bytes: [u8; 4] =
                        frame.payload.try_into().map_err(|_| "the guest sent a short credit".to_owned())?;
                    inbox.add_credit(u32::from_le_bytes(bytes))
                }
                Kind::Close => inbox.close(),
                Kind::Hello | Kind::Open => return Err(format!("the guest sent {:?}", frame.kind)),
            }
        };
        if frame.kind == Kind::Close {
            self.idle_since.store(self.now_ms(), Ordering::Relaxed);
        }
        wakers.wake();
        Ok((intake == Intake::Full).then_some(slot))
    }
}

fn check_hello(frame: &Frame<'_>) -> Result<(), String> {
    if frame.kind != Kind::Hello {
        return Err("the guest did not say hello".to_owned());
    }
    let hello: Hello = message::decode("hello", frame.payload).map_err(|e| e.to_string())?;
    if hello.magic != MAGIC {
        return Err("the other side is no guest".to_owned());
    }
    if hello.version != VERSION {
        return Err(format!(
            "its guest speaks protocol {}, this program {VERSION}: it was made by another version",
            hello.version
        ));
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flushed {
    All,
    /// The socket took no more.
    Rest,
}
