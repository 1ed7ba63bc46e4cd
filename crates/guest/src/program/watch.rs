//! Sends an exec's output to a driver: live against credit, or what was kept once it has ended.

use super::connection::{BUSY, Job, Stream, StreamKey};
use super::journal::Serial;
use super::server::Server;
use crate::frame::{Channel, MAX_DATA};
use crate::message::{OutputMode, OutputStream, Reply};

/// Bytes sent for one watcher in one piece of work.
const PIECE: usize = 256 << 10;
const CHANNELS: [(Channel, OutputStream); 2] =
    [(Channel::Stdout, OutputStream::Stdout), (Channel::Stderr, OutputStream::Stderr)];

/// A stream that sends an exec's output.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// The exec.
    pub serial: Serial,
    /// How.
    pub mode: OutputMode,
    /// Offset of the next byte to send of each output.
    pub positions: [u64; 2],
}

impl Server {
    /// Opens a stream that sends an exec's output; `replayed` when the exec was there before.
    pub(super) fn watch(&mut self, key: StreamKey, watch: Watch, replayed: bool) {
        let Some(connection) = self.connections.get_mut(&key.connection) else { return };
        connection.reply(key.stream, &Reply::Started { replayed });
        if watch.mode == OutputMode::Detach {
            connection.close(key.stream);
            return self.mark_dirty(key.connection);
        }
        connection.streams.insert(key.stream, Stream::new(Job::Watch(watch)));
        self.journal.pin(watch.serial);
        // A collector of a short exec needs nothing before the end: its `Started` goes out with the rest, in one write.
        let takes_input = self.execs.get(&watch.serial).is_some_and(|exec| exec.stdin.pipe.is_some());
        let young = self.execs.get(&watch.serial).is_some_and(super::exec::Exec::is_young);
        if watch.mode == OutputMode::Follow || takes_input || !young {
            self.mark_dirty(key.connection);
        }
        if let Some(watchers) = self.watchers(watch.serial) {
            watchers.push(key);
            if watch.mode == OutputMode::Follow {
                self.arm_outputs(watch.serial);
                self.enqueue(key);
            }
        } else {
            self.enqueue(key);
        }
    }

    /// The streams that watch a running exec.
    pub(super) fn watchers(&mut self, serial: Serial) -> Option<&mut Vec<StreamKey>> {
        self.execs.get_mut(&serial).map(|exec| &mut exec.watchers)
    }

    /// Something new is there for those who watch an exec.
    pub(super) fn wake_watchers(&mut self, serial: Serial, who: Wake) {
        let Some(exec) = self.execs.get(&serial) else { return };
        if exec.watchers.is_empty() {
            return;
        }
        for key in exec.watchers.clone() {
            let follows = matches!(
                self.stream(key).map(|stream| &stream.job),
                Some(Job::Watch(Watch { mode: OutputMode::Follow, .. }))
            );
            if follows || who == Wake::All {
                self.enqueue(key);
            }
        }
    }

    /// How many bytes of an output may be read before a follower would miss some; no follower, no limit.
    pub(super) fn room(&self, serial: Serial, which: usize) -> usize {
        let (Some(exec), Some(record)) = (self.execs.get(&serial), self.journal.get(serial)) else {
            return usize::MAX;
        };
        let mut room = usize::MAX;
        for key in &exec.watchers {
            let stream = self.connections.get(&key.connection).and_then(|c| c.streams.get(&key.stream));
            if let Some(Stream { job: Job::Watch(watch), .. }) = stream
                && watch.mode == OutputMode::Follow
            {
                room = room.min(record.outputs[which].room(watch.positions[which]));
            }
        }
        room
    }

    /// Sends a piece of an exec's output.
    pub(super) fn work_on_watch(&mut self, key: StreamKey, mut watch: Watch) {
        let Some(connection) = self.connections.get_mut(&key.connection) else { return };
        let Some(record) = self.journal.get(watch.serial) else { return };
        if watch.mode == OutputMode::Collect && record.finished().is_none() {
            return;
        }
        let credit = connection.streams.get(&key.stream).map_or(0, |stream| stream.credit);
        let mut credit = usize::try_from(credit).unwrap_or(usize::MAX);
        let mut left = PIECE;
        let mut behind = false;
        let mut sent = false;
        for (which, (channel, name)) in CHANNELS.into_iter().enumerate() {
            let output = &record.outputs[which];
            loop {
                let piece = match watch.mode {
                    OutputMode::Follow => output.piece(watch.positions[which]),
                    OutputMode::Collect | OutputMode::Detach => output.limited_piece(watch.positions[which]),
                };
                let gap = piece.offset.min(output.total()).saturating_sub(watch.positions[which]);
                if gap > 0 {
                    connection.reply(key.stream, &Reply::Skipped { from: name, bytes: gap });
                    watch.positions[which] += gap;
                    sent = true;
                }
                if piece.bytes.is_empty() {
                    break;
                }
                let length = piece.bytes.len().min(credit).min(left).min(MAX_DATA);
                if length == 0 || connection.waiting() > BUSY {
                    behind = true;
                    break;
                }
                connection.data(key.stream, channel, &piece.bytes[..length]);
                watch.positions[which] += length as u64;
                credit -= length;
                left -= length;
                sent = true;
            }
        }
        let busy = connection.waiting() > BUSY;
        let finished = if behind { None } else { record.finished().cloned() };
        if let Some(finished) = finished {
            if let (Some(value), true) = (record.value(), watch.mode != OutputMode::Detach) {
                connection.reply(key.stream, &Reply::Value(value.to_vec()));
            }
            connection.reply(key.stream, &Reply::Finished(finished));
            connection.close(key.stream);
            self.mark_dirty(key.connection);
            self.end_stream(key);
            return;
        }
        if let Some(stream) = connection.streams.get_mut(&key.stream) {
            stream.job = Job::Watch(watch);
            stream.paused = behind && busy;
        }
        if sent {
            self.mark_dirty(key.connection);
            self.resume(watch.serial);
        }
        if behind && !busy && credit > 0 {
            self.enqueue(key);
        }
    }
}

/// Who is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Those who follow live.
    Followers,
    /// Those who wait for the end too.
    All,
}
