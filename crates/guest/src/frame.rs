//! The bytes on the wire.
//!
//! ```text
//!  0        4        8      9         10        12
//!  ┌────────┬────────┬──────┬─────────┬─────────┬─────────────┐
//!  │ length │ stream │ kind │ channel │    0    │ payload …   │   integers little-endian, length = payload bytes
//!  └────────┴────────┴──────┴─────────┴─────────┴─────────────┘
//! ```
//!
//! `Data` may be sent on a stream only against credit: each side of a stream starts with [`INITIAL_CREDIT`] bytes for
//! all its channels together and gets more by `Credit` frames. The other kinds need none.

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 12;
/// The longest payload, in bytes. Requests with inline arguments are the longest frames.
pub const MAX_PAYLOAD: usize = 4 << 20;
/// The longest payload of a `Data` frame, in bytes.
pub const MAX_DATA: usize = 64 << 10;
/// Bytes of `Data` that a side may send on a fresh stream before it gets `Credit`.
pub const INITIAL_CREDIT: u32 = 256 << 10;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Stream 0, once from each side, first: a [`Hello`](crate::message::Hello).
    Hello = 1,
    /// From the driver: opens a stream with a [`Request`](crate::message::Request).
    Open = 2,
    /// From the guest: a [`Reply`](crate::message::Reply) on a stream.
    Reply = 3,
    /// Bytes of a channel.
    Data = 4,
    /// A channel has ended.
    End = 5,
    /// A little-endian u32: so many more bytes of `Data` may be sent on the stream.
    Credit = 6,
    /// From the guest: the stream is over. From the driver: it wants no more of it.
    Close = 7,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Open,
            3 => Self::Reply,
            4 => Self::Data,
            5 => Self::End,
            6 => Self::Credit,
            7 => Self::Close,
            _ => return None,
        })
    }
}

/// Which bytes of a stream a `Data` or `End` frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Channel {
    /// No channel: every kind but `Data` and `End`.
    None = 0,
    /// Standard input of an exec, towards the guest.
    Stdin = 1,
    /// Standard output of an exec or shell command.
    Stdout = 2,
    /// Standard error of an exec or shell command.
    Stderr = 3,
    /// The content of a file, archive or patch, in either direction.
    File = 4,
    /// The bytes of a dialled connection, in either direction.
    Socket = 5,
}

impl Channel {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::None,
            1 => Self::Stdin,
            2 => Self::Stdout,
            3 => Self::Stderr,
            4 => Self::File,
            5 => Self::Socket,
            _ => return None,
        })
    }
}

/// A decoded frame, borrowing its payload from the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// The stream that it belongs to; 0 for `Hello`.
    pub stream: u32,
    /// The channel, for `Data` and `End`.
    pub channel: Channel,
    /// The payload.
    pub payload: &'a [u8],
}

/// Bytes that are no frame. The connection is beyond repair then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length over the limit.
    #[error("frame of {length} bytes; at most {limit}")]
    TooLong {
        /// What the header says.
        length: usize,
        /// The limit for this kind.
        limit: usize,
    },
    /// An unknown kind.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// An unknown channel.
    #[error("unknown channel {0}")]
    Channel(u8),
    /// Reserved bytes that are not zero.
    #[error("reserved header bytes are not zero")]
    Reserved,
}

/// Appends one frame to `out`.
///
/// # Panics
/// If the payload is longer than [`MAX_PAYLOAD`] (or [`MAX_DATA`] for `Data`): the caller splits.
pub fn encode(out: &mut Vec<u8>, kind: Kind, stream: u32, channel: Channel, payload: &[u8]) {
    assert!(payload.len() <= limit(kind), "a frame's payload is split before it is encoded");
    let length = u32::try_from(payload.len()).expect("the limit is below 4 GiB");
    out.reserve(HEADER_LEN + payload.len());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&stream.to_le_bytes());
    out.extend_from_slice(&[kind as u8, channel as u8, 0, 0]);
    out.extend_from_slice(payload);
}

fn limit(kind: Kind) -> usize {
    match kind {
        Kind::Data => MAX_DATA,
        Kind::Credit => 4,
        Kind::End | Kind::Close => 0,
        Kind::Hello | Kind::Open | Kind::Reply => MAX_PAYLOAD,
    }
}

/// Cuts frames out of a byte stream that arrives in pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that have been given out.
    taken: usize,
}

impl Decoder {
    /// An empty decoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.compact();
        self.buffer.extend_from_slice(bytes);
    }

    /// Room for a reader to fill directly: the buffer, to be appended to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.compact();
        &mut self.buffer
    }

    fn compact(&mut self) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        // A burst must not keep its memory for the life of an idle sandbox.
        if self.buffer.is_empty() && self.buffer.capacity() > MAX_DATA * 2 {
            self.buffer = Vec::new();
        }
    }

    /// The next whole frame; `None` until more bytes are pushed.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes are no frame; every later call fails too.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let pending = &self.buffer[self.taken..];
        let Some((header, rest)) = pending.split_first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let kind = Kind::from_byte(header[8]).ok_or(FrameError::Kind(header[8]))?;
        let channel = Channel::from_byte(header[9]).ok_or(FrameError::Channel(header[9]))?;
        if header[10..12] != [0, 0] {
            return Err(FrameError::Reserved);
        }
        let length = word(0) as usize;
        if length > limit(kind) {
            return Err(FrameError::TooLong { length, limit: limit(kind) });
        }
        if rest.len() < length {
            return Ok(None);
        }
        let start = self.taken + HEADER_LEN;
        self.taken = start + length;
        Ok(Some(Frame { kind, stream: word(4), channel, payload: &self.buffer[start..start + length] }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind_and_payload() -> impl Strategy<Value = (Kind, Vec<u8>)> {
        prop_oneof![
            (Just(Kind::Data), prop::collection::vec(any::<u8>(), 0..2000)),
            (Just(Kind::Reply), prop::collection::vec(any::<u8>(), 0..2000)),
            (Just(Kind::Credit), prop::collection::vec(any::<u8>(), 4..=4)),
            (Just(Kind::Close), Just(Vec::new())),
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(
            frames in prop::collection::vec((kind_and_payload(), any::<u32>()), 1..8),
            cuts in prop::collection::vec(1_usize..500, 1..50),
        ) {
            let mut wire = Vec::new();
            for ((kind, payload), stream) in &frames {
                encode(&mut wire, *kind, *stream, Channel::File, payload);
            }
            let mut decoder = Decoder::new();
            let mut got = Vec::new();
            let (mut at, mut cut) = (0, cuts.iter().cycle());
            while at < wire.len() {
                let end = wire.len().min(at + cut.next().unwrap());
                decoder.push(&wire[at..end]);
                at = end;
                while let Some(frame) = decoder.next_frame().unwrap() {
                    got.push(((frame.kind, frame.payload.to_vec()), frame.stream));
                }
            }
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn garbage_never_panics_and_never_buffers_past_the_limit(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let mut decoder = Decoder::new();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_arrive() {
        let mut decoder = Decoder::new();
        let mut header = Vec::new();
        header.extend_from_slice(&u32::try_from(MAX_DATA + 1).unwrap().to_le_bytes());
        header.extend_from_slice(&[1, 0, 0, 0, Kind::Data as u8, 0, 0, 0]);
        decoder.push(&header);
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLong { length: MAX_DATA + 1, limit: MAX_DATA }));
    }
}
