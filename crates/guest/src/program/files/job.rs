//! Long work on files, done in bounded pieces so that it keeps nobody waiting.

use std::fmt;

use crate::message::Reply;
use crate::program::refusal::Refusal;

/// Takes content that the driver sends.
pub trait Upload: fmt::Debug {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Refusal`] ends it; nothing half-done may stay behind.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Refusal>;

    /// All has come.
    ///
    /// # Errors
    /// [`Refusal`]; nothing half-done may stay behind.
    fn finish(self: Box<Self>) -> Result<Reply, Refusal>;
}

/// What a piece of work came to.
#[derive(Debug)]
pub enum Piece {
    /// Bytes of the `File` channel were put into the buffer.
    Data,
    /// A reply to send; there is more to do.
    Reply(Reply),
    /// Nothing to send yet; there is more to do.
    Nothing,
    /// The content is over: end the channel, send this, close the stream.
    EndOfContent(Reply),
    /// It is done: send this, close the stream.
    Done(Reply),
}

/// Sends content, or does something long without any.
pub trait Download: fmt::Debug {
    /// Does the next piece: puts at most `room` bytes into `buffer`, which is empty. With `room` 0 it only does what
    /// needs no credit.
    ///
    /// # Errors
    /// [`Refusal`] ends it.
    fn step(&mut self, room: usize, buffer: &mut Vec<u8>) -> Result<Piece, Refusal>;
}
