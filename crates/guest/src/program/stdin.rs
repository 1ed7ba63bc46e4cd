//! Standard input of execs: a queue in front of the pipe, with credit given back as bytes go in.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::connection::StreamKey;
use super::journal::Serial;
use super::poller::{Interest, Source};
use super::refusal::Refusal;
use super::server::Server;
use crate::message::Reply;

/// What a terminal takes for the end of its input.
const END_OF_TRANSMISSION: u8 = 4;

/// Something to do to a standard input, in order.
#[derive(Debug)]
pub enum Item {
    /// Write these.
    Bytes {
        /// The bytes.
        bytes: Vec<u8>,
        /// How many of them are written.
        written: usize,
        /// The stream to give credit back to.
        from: Option<StreamKey>,
    },
    /// Tell this stream that all it sent is written.
    Answer(StreamKey),
    /// End the input.
    Close,
}

/// An exec's standard input.
#[derive(Debug, Default)]
pub struct Stdin {
    /// The pipe or terminal; `None` when it was closed or never was.
    pub pipe: Option<OwnedFd>,
    /// What is to be done to it.
    pub queue: VecDeque<Item>,
    /// The poller watches the pipe.
    pub armed: bool,
    /// It is a terminal.
    pub terminal: bool,
}

impl Server {
    /// Queues something for an exec's standard input and does what can be done at once.
    pub(super) fn push_stdin(&mut self, serial: Serial, item: Item) {
        if let Some(exec) = self.execs.get_mut(&serial) {
            exec.stdin.queue.push_back(item);
        } else if let Item::Bytes { bytes, from: Some(key), .. } = item {
            // Nobody will read them; the driver may send on until it learns of the end.
            self.consumed(key, bytes.len());
            return;
        }
        self.feed(serial);
    }

    /// Writes what an exec's standard input takes now.
    pub(super) fn feed(&mut self, serial: Serial) {
        loop {
            let Some(exec) = self.execs.get_mut(&serial) else { return };
            let stdin = &mut exec.stdin;
            let Some(item) = stdin.queue.front_mut() else {
                if stdin.armed {
                    stdin.armed = false;
                    if let Some(pipe) = &stdin.pipe {
                        // It was added, so this cannot fail; at worst it would wake the loop once more.
                        let _removed = self.poller.remove(pipe);
                    }
                }
                return;
            };
            match item {
                Item::Bytes { bytes, written, from } => {
                    let from = *from;
                    let Some(pipe) = &stdin.pipe else {
                        let unread = bytes.len() - *written;
                        stdin.queue.pop_front();
                        if let Some(key) = from {
                            self.consumed(key, unread);
                        }
                        continue;
                    };
                    match rustix::io::write(pipe, &bytes[*written..]) {
                        Ok(count) => {
                            *written += count;
                            if *written == bytes.len() {
                                stdin.queue.pop_front();
                            }
                            if let Some(key) = from {
                                self.consumed(key, count);
                            }
                        }
                        Err(Errno::INTR) => {}
                        Err(Errno::AGAIN) => {
                            if !stdin.armed {
                                let added = self.poller.add(pipe, Source::Stdin(serial), Interest::Write);
                                stdin.armed = added.is_ok();
                            }
                            return;
                        }
                        // The exec reads no more.
                        Err(_) => self.close_stdin(serial),
                    }
                }
                Item::Answer(key) => {
                    let (key, open) = (*key, stdin.pipe.is_some());
                    stdin.queue.pop_front();
                    let id = &self.journal.get(serial).map_or(String::new(), |r| r.exec_id.clone());
                    let refusal = || Refusal::exec_finished(id);
                    let reply = if open { Reply::Done } else { refusal().reply() };
                    self.answer(key, &reply);
                }
                Item::Close => {
                    stdin.queue.pop_front();
                    if stdin.terminal
                        && let Some(pipe) = &stdin.pipe
                    {
                        // A terminal that takes no more now has input that nobody reads; the end would not be read either.
                        let _written = rustix::io::write(pipe, &[END_OF_TRANSMISSION]);
                    } else {
                        self.close_stdin(serial);
                    }
                }
            }
        }
    }

    /// Ends an exec's standard input.
    pub(super) fn close_stdin(&mut self, serial: Serial) {
        if let Some(exec) = self.execs.get_mut(&serial) {
            exec.stdin.pipe = None;
            exec.stdin.armed = false;
        }
    }
}
