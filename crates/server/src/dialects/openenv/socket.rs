//! `/ws`: one session for each connection, messages one at a time and in order.

use std::collections::VecDeque;
use std::num::NonZero;
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::StreamExt as _;
use hothouse_env::{Beside, Place, Session};
use tokio::sync::MutexGuard;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::answer;
use super::held::Held;
use super::many;
use super::mcp;
use super::message::{self, Asked, Codes, Error, Refused};
use super::served::{For, Openenv, Served};

/// Bytes that a connection reads at once. Many connections stand idle, each with its buffers.
const READ_BUFFER: usize = 4 << 10;
/// How long the next message is looked for before the connection sleeps, where there are few. A client in a closed loop
/// answers sooner, and waking up takes longer than the step.
const EAGER: Duration = Duration::from_micros(50);
/// Messages that are read ahead while a step goes on.
const READ_AHEAD: usize = 64;

static CORES: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, NonZero::get));

/// Open the WebSocket.
pub(super) async fn open(
    For(served): For,
    State(openenv): State<Openenv>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    // What is no WebSocket finds nothing here, as with the servers that we replace.
    let Ok(upgrade) = upgrade else { return answer::detail(StatusCode::NOT_FOUND, "Not Found") };
    let upgrade = bounded(upgrade, &served).protocols(many::PROTOCOLS);
    let tasks = openenv.sockets().clone();
    if upgrade.selected_protocol().is_some_and(many::is_spoken) {
        return upgrade.on_upgrade(move |socket| {
            let line = Line::new(socket, &served, &openenv);
            tasks.track_future(many::serve(line, served))
        });
    }
    let attach = query.as_deref().and_then(session_id);
    upgrade.on_upgrade(move |socket| {
        tasks.track_future(async move {
            let line = Line::new(socket, &served, &openenv);
            match attach {
                Some(id) => line.serve_attached(&served, &id).await,
                None => line.serve_own(&served).await,
            }
        })
    })
}

/// A socket that keeps to the server's bounds.
pub(super) fn bounded(upgrade: WebSocketUpgrade, served: &Served) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(served.settings.message_bytes)
        .max_frame_size(served.settings.message_bytes)
}

fn session_id(query: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "session_id")
        .map(|(_, id)| id.into_owned())
}

/// Why a connection comes to an end.
#[derive(Debug)]
pub(super) enum End {
    /// The client is gone or says so.
    Gone,
    /// The server has to; the client is told the code and the reason.
    Closed { code: u16, reason: &'static str },
}

/// What to do after a message.
enum After {
    GoOn,
    Close,
}

/// A session that a connection uses.
enum Seat<'a> {
    Own {
        session: Box<Session>,
        place: Place,
    },
    /// Another one's, for as long as it is attached.
    Held(&'a Arc<Held>),
}

enum Taken<'a> {
    Own(&'a mut Session),
    Held(MutexGuard<'a, Session>),
}

impl Seat<'_> {
    async fn take(&mut self) -> Taken<'_> {
        match self {
            Self::Own { session, .. } => Taken::Own(session),
            Self::Held(held) => Taken::Held(held.session.lock().await),
        }
    }

    fn touch(&self) {
        if let Self::Held(held) = self {
            held.touch();
        }
    }
}

impl std::ops::Deref for Taken<'_> {
    type Target = Session;
    fn deref(&self) -> &Session {
        match self {
            Self::Own(session) => session,
            Self::Held(session) => session,
        }
    }
}

impl std::ops::DerefMut for Taken<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        match self {
            Self::Own(session) => session,
            Self::Held(session) => session,
        }
    }
}

/// A connection, and what is known of its client's life.
pub(super) struct Line {
    socket: WebSocket,
    served: Arc<Served>,
    /// When to look after the client. It is set anew when it is over, not for each message.
    watch: Pin<Box<Sleep>>,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Read while a step went on.
    ahead: VecDeque<Message>,
    heard: Instant,
    used: Instant,
    /// The longest time without use.
    idle: Option<Duration>,
    /// Whether the client has been asked if it is there.
    asked: bool,
    out: Vec<u8>,
}

impl Line {
    pub(super) fn new(socket: WebSocket, served: &Arc<Served>, openenv: &Openenv) -> Self {
        Self::over(socket, served, openenv, served.settings.idle)
    }

    /// One that uses no session, and so is not idle.
    pub(super) fn without_session(socket: WebSocket, served: &Arc<Served>, openenv: &Openenv) -> Self {
        Self::over(socket, served, openenv, None)
    }

    fn over(socket: WebSocket, served: &Arc<Served>, openenv: &Openenv, idle: Option<Duration>) -> Self {
        let now = Instant::now();
        let first = now + served.settings.heartbeat.min(idle.unwrap_or(Duration::MAX));
        let watch = Box::pin(tokio::time::sleep_until(first.into()));
        let draining = Box::pin(openenv.draining().clone().cancelled_owned());
        let (served, ahead, out) = (Arc::clone(served), VecDeque::new(), Vec::new());
        Self { socket, served, watch, draining, ahead, heard: now, used: now, idle, asked: false, out }
    }

    /// A session of the connection's own, closed with it.
    async fn serve_own(mut self, served: &Arc<Served>) {
        served.held.reap();
        // Who gives up waiting leaves the queue. What is said meanwhile is for later.
        let taken = match self.while_listening(served.places.take(1)).await {
            Ok(taken) => taken,
            Err(end) => return self.say_goodbye(end).await,
        };
        let place = match taken {
            Ok(place) => place,
            Err(full) => return self.refuse(&full.into()).await,
        };
        // A client whose ping is not answered while a server starts for it gives its session up.
        let session = match self.while_listening(served.open()).await {
            Ok(Ok(session)) => Box::new(session),
            Err(end) => return self.say_goodbye(end).await,
            Ok(Err(error)) => {
                let error = message::open_error(&error, &served.environment.class);
                return self.refuse(&error).await;
            }
        };
        let mut seat = Seat::Own { session, place };
        let end = self.run(&mut seat).await;
        if let Seat::Own { session, place } = seat {
            session.close().await;
            // Free before the client hears that it is closed, since it may come back at once.
            drop(place);
        }
        self.say_goodbye(end).await;
    }

    /// A session that was opened before, which outlives the connection.
    async fn serve_attached(mut self, served: &Arc<Served>, id: &str) {
        let held = match served.held.attach(id) {
            Ok(held) => held,
            Err(error) => return self.refuse(&Error::session(error.to_string())).await,
        };
        // Detached even if this task is dropped.
        let attached = Attached { served, held: &held };
        let end = self.run(&mut Seat::Held(attached.held)).await;
        drop(attached);
        self.say_goodbye(end).await;
    }

    async fn run(&mut self, seat: &mut Seat<'_>) -> End {
        loop {
            let text = match self.next().await {
                Ok(text) => text,
                Err(end) => return end,
            };
            seat.touch();
            match self.answer(seat, &text).await {
                Ok(After::GoOn) => {}
                Ok(After::Close) => return End::Closed { code: close_code::NORMAL, reason: "" },
                Err(end) => return end,
            }
            self.touch();
            seat.touch();
        }
    }

    /// The next text of the client.
    pub(super) async fn next(&mut self) -> Result<Utf8Bytes, End> {
        loop {
            match self.next_message().await? {
                Message::Text(text) => return Ok(text),
                Message::Binary(_) => {
                    self.send(Error::session("'text'").text()).await?;
                    return Err(End::Closed { code: close_code::NORMAL, reason: "" });
                }
                // Pings are answered by the socket.
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Close(_) => return Err(End::Gone),
            }
        }
    }

    /// The next message of the client.
    async fn next_message(&mut self) -> Result<Message, End> {
        if let Some(message) = self.ahead.pop_front() {
            return Ok(message);
        }
        if self.is_eager() {
            let until = self.used + EAGER;
            while Instant::now() < until {
                let polled = futures::poll!(self.socket.next());
                if let Poll::Ready(message) = polled {
                    return self.heard(message);
                }
                tokio::task::yield_now().await;
            }
        }
        loop {
            tokio::select! {
                biased;
                message = self.socket.recv() => return self.heard(message),
                () = self.draining.as_mut() => {
                    return Err(End::Closed { code: close_code::AWAY, reason: "the server is shutting down" });
                }
                () = self.watch.as_mut() => self.look().await?,
            }
        }
    }

    fn heard(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<Message, End> {
        let message = message.ok_or(End::Gone)?.map_err(|error| broken(&error))?;
        self.heard = Instant::now();
        self.asked = false;
        Ok(message)
    }

    /// True where the client may speak again at once, and nobody else wants this core.
    fn is_eager(&self) -> bool {
        self.served.places.active() <= *CORES
    }

    /// The session was used just now.
    pub(super) fn touch(&mut self) {
        self.used = Instant::now();
    }

    /// Looks whether the client is there and uses its session, and says when to look again.
    async fn look(&mut self) -> Result<(), End> {
        let heartbeat = self.served.settings.heartbeat;
        if let Some(idle) = self.idle
            && self.used.elapsed() >= idle
        {
            let message =
                format!("the session was not used for {idle:?} and is closed; connect to open another");
            self.send(Error::session(message).text()).await?;
            return Err(End::Closed { code: close_code::AWAY, reason: "idle" });
        }
        let mut quiet_since = self.heard;
        if quiet_since.elapsed() >= heartbeat {
            if self.asked {
                return Err(End::Closed { code: close_code::AWAY, reason: "no answer to a ping" });
            }
            self.asked = true;
            self.send_message(Message::Ping(Vec::new().into())).await?;
            quiet_since = Instant::now();
        }
        let heard = quiet_since + heartbeat;
        let used = self.idle.map(|idle| self.used + idle);
        let next = used.map_or(heard, |used| used.min(heard));
        self.watch.as_mut().reset(next.into());
        Ok(())
    }

    async fn answer(&mut self, seat: &mut Seat<'_>, text: &str) -> Result<After, End> {
        let asked = match message::parse(text) {
            Ok(asked) => asked,
            Err(Refused::Error(error)) => {
                self.send(error.text()).await?;
                return Ok(After::GoOn);
            }
            Err(Refused::Fatal(error)) => {
                self.send(error.text()).await?;
                return Ok(After::Close);
            }
        };
        if matches!(asked, Asked::Close) {
            return Ok(After::Close);
        }
        let mut session = seat.take().await;
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let is_in_memory = session.is_in_memory();
        let fatal = {
            let doing = act(&mut session, asked, &mut out);
            if is_in_memory { doing.await } else { self.while_listening(doing).await? }
        };
        drop(session);
        let sent = self.send_bytes(&out).await;
        self.out = out;
        sent?;
        Ok(if fatal { After::Close } else { After::GoOn })
    }

    /// Does something that takes a while. A client that goes meanwhile ends it; its pings are answered.
    pub(super) async fn while_listening<T>(&mut self, doing: impl Future<Output = T>) -> Result<T, End> {
        let mut doing = pin!(doing);
        loop {
            tokio::select! {
                biased;
                done = doing.as_mut() => return Ok(done),
                message = self.socket.recv(), if self.ahead.len() < READ_AHEAD => match message {
                    Some(Ok(Message::Close(_))) | None => return Err(End::Gone),
                    Some(Ok(message)) => {
                        self.heard = Instant::now();
                        if !matches!(message, Message::Ping(_) | Message::Pong(_)) {
                            self.ahead.push_back(message);
                        }
                    }
                    Some(Err(error)) => return Err(broken(&error)),
                },
            }
        }
    }

    async fn refuse(mut self, error: &Error) {
        if self.send(error.text()).await.is_ok() {
            self.say_goodbye(End::Closed { code: close_code::NORMAL, reason: "" }).await;
        }
    }

    pub(super) async fn send(&mut self, text: String) -> Result<(), End> {
        self.send_message(Message::Text(text.into())).await
    }

    pub(super) async fn send_bytes(&mut self, text: &[u8]) -> Result<(), End> {
        let text = Utf8Bytes::try_from(text.to_vec());
        debug_assert!(text.is_ok(), "JSON is UTF-8");
        self.send_message(Message::Text(text.unwrap_or_default())).await
    }

    pub(super) async fn send_message(&mut self, message: Message) -> Result<(), End> {
        // A client that reads nothing holds no session for ever.
        let limit = self.served.settings.heartbeat * 2;
        match tokio::time::timeout(limit, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(broken(&error)),
            Err(_elapsed) => Err(End::Gone),
        }
    }

    pub(super) async fn say_goodbye(mut self, end: End) {
        let frame = match &end {
            End::Gone => CloseFrame { code: close_code::NORMAL, reason: Utf8Bytes::default() },
            End::Closed { code, reason } => {
                CloseFrame { code: *code, reason: Utf8Bytes::from_static(reason) }
            }
        };
        // A client that is gone hears nothing; there is nobody else to tell.
        _ = self.send_message(Message::Close(Some(frame))).await;
        let is_cut_short = matches!(end, End::Closed { code: close_code::SIZE, .. });
        let gone = async {
            while let Some(Ok(_)) = self.socket.recv().await {}
            if is_cut_short {
                // The rest of the message is on its way, and cannot be read. To close now would be to throw the frame away.
                std::future::pending::<()>().await;
            }
        };
        // Until the client has seen it, for otherwise the kernel may throw away what was sent.
        _ = tokio::time::timeout(Duration::from_secs(1), gone).await;
    }
}

/// Ends an attachment however its connection ends.
struct Attached<'a> {
    served: &'a Served,
    held: &'a Arc<Held>,
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        self.served.held.detach(self.held);
    }
}

fn broken(error: &axum::Error) -> End {
    tracing::debug!(%error, "a WebSocket broke");
    let text = error.to_string();
    if text.contains("too long") || text.contains("Space limit exceeded") {
        return End::Closed { code: close_code::SIZE, reason: "the message is longer than the server takes" };
    }
    if text.contains("UTF-8") {
        return End::Closed { code: close_code::INVALID, reason: "the text is no UTF-8" };
    }
    End::Gone
}

/// Does what is asked of a session; whether it can do nothing any more.
async fn act(session: &mut Session, asked: Asked, out: &mut Vec<u8>) -> bool {
    let done = match asked {
        Asked::Reset(given) => match session.reset(given).await {
            Ok(observed) => {
                message::observation(observed, out);
                out.push(b'}');
                Ok(())
            }
            Err(error) => Err(error),
        },
        Asked::Step(action) => match session.step(&action, None, Beside::default()).await {
            Ok(stepped) => {
                message::observation(stepped.observed, out);
                out.push(b'}');
                Ok(())
            }
            Err(error) => Err(error),
        },
        Asked::State => match session.state().await {
            Ok(state) => {
                out.extend_from_slice(br#"{"type":"state","data":"#);
                out.extend_from_slice(&state);
                out.push(b'}');
                Ok(())
            }
            Err(error) => Err(error),
        },
        Asked::Mcp(request) => {
            let answer = mcp::answer_in_session(session, &request).await;
            out.extend_from_slice(br#"{"type":"mcp","data":"#);
            out.extend_from_slice(answer.as_bytes());
            out.push(b'}');
            Ok(())
        }
        Asked::Close => Ok(()),
    };
    match done {
        Ok(()) => false,
        Err(error) => {
            out.extend_from_slice(message::step_error(&error, Codes::Known).text().as_bytes());
            error.is_fatal()
        }
    }
}
