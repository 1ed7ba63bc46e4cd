//! Ctrl-C and its kin, so that a command can clean up before it goes.

use hothouse_domain::ErrorCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Listens for INT, TERM and HUP from its making on; without it they end the process at once.
#[derive(Debug)]
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupts {
    /// Starts to listen.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|e| Failure::new(ErrorCode::Internal, format!("listening for signals: {e}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one; its number.
    pub(crate) async fn next(&mut self) -> i32 {
        tokio::select! {
            Some(()) = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            Some(()) = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            Some(()) = self.hangup.recv() => SignalKind::hangup().as_raw_value(),
            else => std::future::pending().await,
        }
    }
}

/// The exit status of a program that a signal ended.
pub(crate) fn status_of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Runs to the end, or ends with `128 + n` when a signal comes first; dropping the work is what stops it.
pub(crate) async fn or_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut interrupts = Interrupts::listen()?;
    tokio::select! {
        result = work => result,
        signal = interrupts.next() => Err(Failure::Quiet(status_of_signal(signal))),
    }
}
