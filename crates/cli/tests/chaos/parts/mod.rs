//! What is broken on purpose, one file each.

mod clients;
mod clock;
mod control;
mod descriptors;
mod disk;
mod guests;
mod server;
mod spawner;

use std::time::Duration;

use anyhow::Result;
use futures::future::LocalBoxFuture;

use crate::dice::Dice;
use crate::table::Row;

/// How thoroughly it is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As a step of `make test`.
    Short,
    /// As `make chaos`.
    Long,
}

/// What the command line and the environment ask for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) form: Form,
    pub(crate) seed: u64,
    /// Rounds of the part `server`; those of the others follow from the form.
    pub(crate) rounds: u64,
    /// No new round of the part `server` begins after this.
    pub(crate) budget: Duration,
    /// Empty for all of them.
    pub(crate) parts: Vec<String>,
}

impl Wanted {
    /// The choices of one part.
    pub(crate) fn dice(&self, part: &str) -> Dice {
        Dice::new(self.seed, part)
    }

    /// One number for each form.
    pub(crate) fn by_form(&self, short: u64, long: u64) -> u64 {
        match self.form {
            Form::Short => short,
            Form::Long => long,
        }
    }
}

/// How a part went.
pub(crate) enum Played {
    Row(Box<Row>),
    /// It could not be played here.
    Skipped(String),
}

impl From<Row> for Played {
    fn from(row: Row) -> Self {
        Self::Row(Box::new(row))
    }
}

/// One part.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) play: for<'a> fn(&'a Wanted) -> LocalBoxFuture<'a, Result<Played>>,
}

/// All parts; SPECIFICATION.md names them.
pub(crate) const ALL: &[Part] = &[
    Part { name: "control", play: |wanted| Box::pin(control::play(wanted)) },
    Part { name: "server", play: |wanted| Box::pin(server::play(wanted)) },
    Part { name: "spawner", play: |wanted| Box::pin(spawner::play(wanted)) },
    Part { name: "guests", play: |wanted| Box::pin(guests::play(wanted)) },
    Part { name: "disk", play: |wanted| Box::pin(disk::play(wanted)) },
    Part { name: "descriptors", play: |wanted| Box::pin(descriptors::play(wanted)) },
    Part { name: "clients", play: |wanted| Box::pin(clients::play(wanted)) },
    Part { name: "clock", play: |wanted| Box::pin(clock::play(wanted)) },
];
