//! The content of a file.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::job::{Download, Piece};
use super::meta::describe;
use super::path::Root;
use crate::message::{FileStat, Reply};
use crate::program::refusal::Refusal;

/// Sends a regular file, or a part of it.
#[derive(Debug)]
pub struct ReadFile {
    path: String,
    file: OwnedFd,
    /// To be sent first.
    stat: Option<FileStat>,
    offset: u64,
    left: u64,
}

impl ReadFile {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Refusal`], also for everything that is no regular file.
    pub fn new(root: &Root, path: &str, offset: u64, length: Option<u64>) -> Result<Self, Refusal> {
        let (file, stat) = root.open_regular(path)?;
        let stat = Some(describe(path.as_bytes().to_vec(), &stat, None));
        Ok(Self { path: path.to_owned(), file, stat, offset, left: length.unwrap_or(u64::MAX) })
    }
}

impl Download for ReadFile {
    fn step(&mut self, room: usize, buffer: &mut Vec<u8>) -> Result<Piece, Refusal> {
        if let Some(stat) = self.stat.take() {
            return Ok(Piece::Reply(Reply::Stat(stat)));
        }
        if self.left == 0 {
            return Ok(Piece::EndOfContent(Reply::Done));
        }
        if room == 0 {
            return Ok(Piece::Data);
        }
        buffer.resize(room.min(usize::try_from(self.left).unwrap_or(usize::MAX)), 0);
        let count = loop {
            match rustix::io::pread(&self.file, &mut buffer[..], self.offset) {
                Ok(count) => break count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Refusal::file(&self.path, errno)),
            }
        };
        buffer.truncate(count);
        if count == 0 {
            return Ok(Piece::EndOfContent(Reply::Done));
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(Piece::Data)
    }
}
