//! One client of the server, from its connection to its end:
//!
//! ```text
//! Connecting ─► Upgrading ─► Resetting ─► Open ─► Stepping ─► Open …
//!      │                         ▲           Over ◄─┘  (the episode is done)
//!      └─ over HTTP ─► Open      └───────────┘        Open ─► Closing ─► End
//! ```

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::connection::{Connection, Language, Message, Received};
use super::script::{Action, Episode, Script, Transport, judge_reset};
use super::target::Target;

/// Where a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    Resetting,
    Open,
    Over,
    Stepping,
    Closing,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    target: Target,
    transport: Transport,
    script: Script,
    connection: Connection,
    stage: Stage,
    steps: usize,
    began: Instant,
    asked: Instant,
}

/// What has come of an event.
#[derive(Debug)]
pub(super) enum Happened {
    /// Nothing yet.
    Nothing,
    /// It is connected: from now on it waits for answers.
    Connected(Duration),
    /// It can step; so long after it was begun.
    Opened(Duration),
    /// A step was answered, so long after it was asked for.
    Stepped(Duration),
    /// A step was answered, but not as it should have been.
    Wrong(Duration, anyhow::Error),
    /// It has ended; so long after it was begun.
    Ended(Duration),
}

impl Session {
    /// Begins the session of this number.
    ///
    /// # Errors
    /// When the machine refuses a connection.
    pub(super) fn begin(
        target: &Target,
        transport: Transport,
        action: &Action,
        number: usize,
    ) -> anyhow::Result<Self> {
        let began = Instant::now();
        Ok(Self {
            target: target.clone(),
            transport,
            script: Script::new(target, transport, action, number),
            connection: Connection::begin(target.address)?,
            stage: Stage::Connecting,
            steps: 0,
            began,
            asked: began,
        })
    }

    /// Begins another one in its place, which says the same.
    ///
    /// # Errors
    /// When the machine refuses a connection.
    pub(super) fn begin_again(&mut self) -> anyhow::Result<()> {
        self.began = Instant::now();
        self.connection = Connection::begin(self.target.address)?;
        self.stage = Stage::Connecting;
        self.steps = 0;
        Ok(())
    }

    /// Asks for the next step, or for the next episode when one is over.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn ask(&mut self) -> anyhow::Result<()> {
        self.asked = Instant::now();
        if self.stage == Stage::Over {
            self.stage = Stage::Resetting;
            return self.connection.send(self.script.reset());
        }
        self.stage = Stage::Stepping;
        self.connection.send(self.script.step(self.steps))
    }

    /// Says that it ends, and waits for the server's word.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn close(&mut self) -> anyhow::Result<()> {
        self.stage = Stage::Closing;
        self.connection.send(self.script.close())
    }

    /// Takes what has come.
    ///
    /// # Errors
    /// When the connection is broken, or the session cannot be opened.
    pub(super) fn handle(&mut self, scratch: &mut [u8]) -> anyhow::Result<Happened> {
        if self.stage == Stage::Connecting {
            return self.connected();
        }
        let Self { stage, script, transport, steps, .. } = self;
        let (stage, transport, steps) = (*stage, *transport, *steps);
        let received =
            self.connection.receive(scratch, |message| judge(stage, script, transport, steps, message));
        let verdict = match received? {
            Received::Nothing => return Ok(Happened::Nothing),
            Received::End if stage == Stage::Closing => return Ok(Happened::Ended(self.began.elapsed())),
            Received::End => {
                bail!("the server ended the connection of a session while it was {}", stage.doing())
            }
            Received::Message(verdict) => verdict,
        };
        match stage {
            Stage::Stepping => Ok(self.stepped(verdict)),
            Stage::Upgrading => {
                verdict?;
                self.connection.speaks(Language::WebSocket);
                self.stage = Stage::Resetting;
                self.connection.send(self.script.reset())?;
                Ok(Happened::Nothing)
            }
            Stage::Resetting => {
                verdict.context("a reset")?;
                self.stage = Stage::Open;
                Ok(Happened::Opened(self.began.elapsed()))
            }
            // An answer that nobody waits for any more.
            Stage::Closing => Ok(Happened::Nothing),
            Stage::Connecting | Stage::Open | Stage::Over => {
                bail!("the server said something that it was not asked")
            }
        }
    }

    fn connected(&mut self) -> anyhow::Result<Happened> {
        self.connection.is_connected()?;
        match self.transport {
            Transport::WebSocket => {
                self.stage = Stage::Upgrading;
                self.connection.send(self.script.upgrade())?;
            }
            Transport::Http => self.stage = Stage::Open,
        }
        Ok(Happened::Connected(self.began.elapsed()))
    }

    fn stepped(&mut self, verdict: anyhow::Result<Episode>) -> Happened {
        let took = self.asked.elapsed();
        self.steps += 1;
        self.stage = Stage::Open;
        match verdict {
            // Over HTTP a server may be without memory: whether a reset helps there nobody knows.
            Ok(Episode::Done) if self.transport == Transport::WebSocket => {
                self.stage = Stage::Over;
                Happened::Stepped(took)
            }
            Ok(_) => Happened::Stepped(took),
            Err(error) => Happened::Wrong(took, error),
        }
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

impl Stage {
    fn doing(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Upgrading => "asking for a WebSocket",
            Self::Resetting => "being reset",
            Self::Open | Self::Over => "idle",
            Self::Stepping => "stepping",
            Self::Closing => "closing",
        }
    }
}

fn judge(
    stage: Stage,
    script: &Script,
    transport: Transport,
    steps: usize,
    message: Message<'_>,
) -> anyhow::Result<Episode> {
    let said = || String::from_utf8_lossy(message.body).chars().take(300).collect::<String>();
    match (stage, message.status) {
        (Stage::Upgrading, Some(101)) => Ok(Episode::GoesOn),
        (_, Some(status)) if status != 200 => bail!("HTTP status {status}: {}", said()),
        (Stage::Upgrading, _) => bail!("asked for a WebSocket, the server answered {}", said()),
        (Stage::Resetting, _) => judge_reset(message.body).map(|()| Episode::GoesOn),
        (Stage::Stepping, _) => script.judge(steps, transport, message.body),
        // What came unasked is not judged.
        (Stage::Connecting | Stage::Open | Stage::Over | Stage::Closing, _) => Ok(Episode::GoesOn),
    }
}
