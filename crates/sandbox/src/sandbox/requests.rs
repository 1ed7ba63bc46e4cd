//! How a request reaches the guest, and what becomes of it when the connection or the sandbox goes away under it.

use std::sync::Arc;
use std::time::Duration;

use hothouse_domain::SandboxPhase;
use hothouse_guest::message::{GuestErrorCode, Reply, Request};

use super::Sandbox;
use crate::error::SandboxError;
use crate::exec_request::encoded;
use crate::link::{Event, Link, LinkError, LinkStream, MAX_STREAMS, WakeWhen, locked};

/// When the connection is gone, how long to wait for word of the sandbox's death.
const DEATH_KNOWN_WITHIN: Duration = Duration::from_secs(3);
/// How often to look for it meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Whether a request whose connection broke is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It only looks, or carries an id by which the guest knows it.
    Safe,
    /// It would be done twice.
    Never,
}

/// Why one attempt at a request failed.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// The connection broke under it.
    Lost(String),
    /// Anything that another attempt would not change.
    Final(SandboxError),
}

impl<E: Into<SandboxError>> From<E> for Attempt {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

impl Sandbox {
    /// Sends a request and returns its stream.
    pub(super) async fn open(
        &self,
        request: &Request,
        wake_when: WakeWhen,
    ) -> Result<LinkStream, SandboxError> {
        let bytes = encoded(request)?;
        // A link may be closed as idle between finding and using it; nothing was sent then.
        for _ in 0..8 {
            let _opening = match self.inner.gate.enter(&self.inner.id) {
                Ok(opening) => opening,
                Err(SandboxError::Frozen(_)) if self.wakes().await? => continue,
                Err(error) => return Err(self.or_gone(error)),
            };
            self.inner.around.owners.used(&self.terms());
            let link = self.link().await?;
            match link.open(&bytes, wake_when) {
                Ok(stream) => return Ok(stream),
                Err(LinkError::TooManyStreams) => {
                    return Err(SandboxError::Guest {
                        code: GuestErrorCode::LimitExceeded,
                        message: format!("{MAX_STREAMS} requests are under way in this sandbox, its limit"),
                    });
                }
                Err(LinkError::Closed | LinkError::Lost(_) | LinkError::Frozen | LinkError::Restored) => {}
            }
        }
        Err(self.lost("connections to its guest do not last".to_owned()).await)
    }

    /// The link to the guest; made when there is none.
    pub(super) async fn link(&self) -> Result<Arc<Link>, SandboxError> {
        if let Some(link) = self.live_link() {
            return Ok(link);
        }
        let _turn = self.inner.connecting.lock().await;
        if let Some(link) = self.live_link() {
            return Ok(link);
        }
        let connected = match self.inner.running.read().await.as_ref() {
            Some(running) => running.connect().await,
            None => return Err(SandboxError::NotFound(self.inner.id.to_string())),
        };
        match connected {
            Ok(socket) => {
                let link = Link::start(socket, &self.inner.around.tasks, Arc::clone(&self.inner.silence));
                *locked(&self.inner.link) = Some(Arc::clone(&link));
                self.inner.around.links.add(&self.inner.link);
                Ok(link)
            }
            Err(error) => Err(self.lost(format!("its guest takes no connection: {error}")).await),
        }
    }

    /// Says how it ended where it is no more.
    fn or_gone(&self, error: SandboxError) -> SandboxError {
        if matches!(error, SandboxError::NotFound(_)) { self.gone() } else { error }
    }

    fn live_link(&self) -> Option<Arc<Link>> {
        locked(&self.inner.link).as_ref().filter(|link| !link.has_ended()).map(Arc::clone)
    }

    /// What a caller is told whose connection broke: that the sandbox is dead, when it is.
    pub(crate) async fn lost(&self, reason: String) -> SandboxError {
        let mut phase = self.inner.gate.watch();
        let word = async {
            loop {
                self.look().await;
                let gone = async {
                    let ended =
                        |p: &SandboxPhase| matches!(p, SandboxPhase::Dead { .. } | SandboxPhase::Destroying);
                    phase.wait_for(ended).await.map(|phase| phase.clone()).ok()
                };
                if let Ok(gone) = tokio::time::timeout(LOOK_EVERY, gone).await {
                    return gone;
                }
            }
        };
        let gone = tokio::time::timeout(DEATH_KNOWN_WITHIN, word).await.ok().flatten();
        let id = self.inner.id.clone();
        match gone.as_ref() {
            Some(SandboxPhase::Dead { reason }) => SandboxError::Dead { id, reason: reason.clone() },
            Some(SandboxPhase::Destroying) => SandboxError::Dead { id, reason: "it was deleted".to_owned() },
            Some(SandboxPhase::Creating | SandboxPhase::Running | SandboxPhase::Frozen { .. }) | None => {
                SandboxError::Guest {
                    code: GuestErrorCode::Internal,
                    message: format!("{reason}; what became of the request is unknown"),
                }
            }
        }
    }

    /// Runs attempts until one ends otherwise than by a broken connection; two at most.
    pub(super) async fn attempts<T, F: Future<Output = Result<T, Attempt>>>(
        &self,
        repeat: Repeat,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, SandboxError> {
        let reason = match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(Attempt::Final(error)) => return Err(error),
            Err(Attempt::Lost(reason)) => reason,
        };
        if repeat == Repeat::Never || !self.lives() {
            return Err(self.lost(reason).await);
        }
        tracing::debug!(sandbox = %self.inner.id, reason, "the connection to the guest broke; asking again");
        match attempt().await {
            Ok(answer) => Ok(answer),
            Err(Attempt::Final(error)) => Err(error),
            Err(Attempt::Lost(reason)) => Err(self.lost(reason).await),
        }
    }

    /// Waits until the guest has read every request that was sent before: it takes them in their order.
    pub(super) async fn settle(&self) -> Result<(), Attempt> {
        let Some(link) = self.live_link() else { return Ok(()) };
        let request = hothouse_guest::message::encode(&Request::Info);
        let mut stream = link.open(&request, WakeWhen::Any).map_err(|e| self.failed(e))?;
        self.reply(&mut stream).await.map(drop)
    }

    fn lives(&self) -> bool {
        matches!(self.inner.gate.phase(), SandboxPhase::Running | SandboxPhase::Frozen { .. })
    }

    /// Translates a link's failure.
    pub(crate) fn failed(&self, error: LinkError) -> Attempt {
        match error {
            LinkError::Frozen => Attempt::Final(SandboxError::Frozen(self.inner.id.clone())),
            LinkError::Restored => Attempt::Final(SandboxError::Restored(self.inner.id.clone())),
            LinkError::Lost(reason) => Attempt::Lost(reason),
            LinkError::Closed => Attempt::Lost("the connection was closed".to_owned()),
            LinkError::TooManyStreams => Attempt::Lost("too many streams".to_owned()),
        }
    }

    /// Sends a request that has one reply and returns that.
    pub(super) async fn ask(&self, request: &Request, repeat: Repeat) -> Result<Reply, SandboxError> {
        self.attempts(repeat, || async {
            let mut stream = self.open(request, WakeWhen::Any).await?;
            self.reply(&mut stream).await
        })
        .await
    }

    /// The next reply on a stream that carries replies only.
    pub(super) async fn reply(&self, stream: &mut LinkStream) -> Result<Reply, Attempt> {
        match stream.next().await {
            Ok(Some(Event::Reply(reply))) => match *reply {
                Reply::Error { code, message } => Err(SandboxError::Guest { code, message }.into()),
                reply => Ok(reply),
            },
            Ok(Some(event)) => Err(unexpected(&event).into()),
            Ok(None) => Err(cut_short().into()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Sends a request that is answered by `Done`.
    pub(super) async fn tell(&self, request: &Request, repeat: Repeat) -> Result<(), SandboxError> {
        match self.ask(request, repeat).await? {
            Reply::Done => Ok(()),
            reply => Err(strange(&reply)),
        }
    }
}

/// The guest answered with a reply that does not belong to the request.
pub(crate) fn strange(reply: &Reply) -> SandboxError {
    // Only its kind: a reply may carry a program's output.
    let text = format!("{reply:?}");
    let kind = text.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
    SandboxError::Guest {
        code: GuestErrorCode::Internal,
        message: format!("the guest answered with {kind}, which does not belong there"),
    }
}

pub(crate) fn unexpected(event: &Event) -> SandboxError {
    match event {
        Event::Reply(reply) => strange(reply),
        Event::Data(channel, _) | Event::End(channel) => SandboxError::Guest {
            code: GuestErrorCode::Internal,
            message: format!("the guest sent {channel:?}, which does not belong there"),
        },
    }
}

pub(crate) fn cut_short() -> SandboxError {
    SandboxError::Guest {
        code: GuestErrorCode::Internal,
        message: "the guest ended its answer early".to_owned(),
    }
}
