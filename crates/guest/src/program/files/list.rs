//! The entries of a directory.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::Dir;
use rustix::io::Errno;

use super::job::{Download, Piece};
use super::meta::describe_entry;
use super::path::Root;
use crate::message::Reply;
use crate::program::refusal::Refusal;

/// Names read, and entries described, in one piece of work.
const PIECE: usize = 512;
/// Bytes of names and targets in one reply.
const REPLY_BYTES: usize = 256 << 10;

/// Sends the entries of a directory, sorted by name.
#[derive(Debug)]
pub struct List {
    path: String,
    dir: OwnedFd,
    /// While names are being read.
    reading: Option<Dir>,
    names: Vec<CString>,
    sorted: std::vec::IntoIter<CString>,
}

impl List {
    /// Opens a directory.
    ///
    /// # Errors
    /// [`Refusal`] with the path.
    pub fn new(root: &Root, path: &str) -> Result<Self, Refusal> {
        let dir = root.open_dir(path)?;
        let reading = Dir::read_from(&dir).map_err(|errno| Refusal::file(path, errno))?;
        Ok(Self {
            path: path.trim_end_matches('/').to_owned(),
            dir,
            reading: Some(reading),
            names: Vec::new(),
            sorted: Vec::new().into_iter(),
        })
    }
}

impl Download for List {
    fn step(&mut self, _room: usize, _buffer: &mut Vec<u8>) -> Result<Piece, Refusal> {
        if let Some(reading) = &mut self.reading {
            for _ in 0..PIECE {
                match reading.read() {
                    Some(Ok(entry)) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                    Some(Ok(entry)) => self.names.push(entry.file_name().to_owned()),
                    Some(Err(errno)) => return Err(Refusal::file(&self.path, errno)),
                    None => {
                        self.reading = None;
                        self.names.sort_unstable();
                        self.sorted = std::mem::take(&mut self.names).into_iter();
                        break;
                    }
                }
            }
            return Ok(Piece::Nothing);
        }
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for name in self.sorted.by_ref().take(PIECE) {
            let path = [self.path.as_bytes(), b"/", name.to_bytes()].concat();
            match describe_entry(&self.dir, &name, path) {
                Ok(stat) => {
                    bytes += stat.path.len() + stat.target.as_ref().map_or(0, Vec::len);
                    entries.push(stat);
                }
                // Removed since its name was read.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(Refusal::file(&self.path, errno)),
            }
            if bytes > REPLY_BYTES {
                break;
            }
        }
        if entries.is_empty() && self.sorted.len() == 0 {
            return Ok(Piece::Done(Reply::Done));
        }
        Ok(Piece::Reply(Reply::Listing(entries)))
    }
}
