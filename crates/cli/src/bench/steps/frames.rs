//! WebSocket frames (RFC 6455), as far as a client that measures needs them: frames of its own are made once, masked,
//! and sent again and again; of a server's frames only the length is read.

use std::ops::Range;

use anyhow::bail;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message of text.
    Text,
    /// A message of bytes.
    Binary,
    /// The other side wants to end.
    Close,
    /// The other side wants to know whether we are there.
    Ping,
    /// An answer to a ping.
    Pong,
}

impl Kind {
    const ALL: [(Self, u8); 5] =
        [(Self::Text, 1), (Self::Binary, 2), (Self::Close, 8), (Self::Ping, 9), (Self::Pong, 10)];

    fn of(code: u8) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == code).map(|(kind, _)| *kind)
    }

    fn code(self) -> u8 {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, code)| *code)
    }
}

/// Whose frame it is: a client's is masked, a server's is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// Masked.
    Client,
    /// Plain.
    Server,
}

/// A whole frame at the start of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// What it is.
    pub(super) kind: Kind,
    /// Where its payload lies; masked still, if a client sent it.
    pub(super) payload: Range<usize>,
    /// The key of a client's frame.
    pub(super) mask: [u8; 4],
}

/// Any key will do: nothing lies between this client and the server that could be misled.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The bytes of one unfragmented frame.
pub(super) fn encode(sender: Sender, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 14);
    begin(&mut bytes, sender, kind, payload.len());
    let from = bytes.len();
    bytes.extend_from_slice(payload);
    if sender == Sender::Client {
        mask(&mut bytes[from..], MASK);
    }
    bytes
}

fn begin(bytes: &mut Vec<u8>, sender: Sender, kind: Kind, length: usize) {
    bytes.push(0x80 | kind.code());
    let masked = if sender == Sender::Client { 0x80 } else { 0 };
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => bytes.push(masked | short),
        (_, Ok(medium)) => {
            bytes.push(masked | 126);
            bytes.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            bytes.push(masked | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if sender == Sender::Client {
        bytes.extend_from_slice(&MASK);
    }
}

/// Masks a payload, or takes its mask off.
pub(super) fn mask(payload: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
    // The rest is shorter than eight: its second half begins where the key begins again.
    if let Some(second) = rest.get_mut(4..) {
        for (byte, key) in second.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
}

/// The frame at the start of `bytes`; `None` while it is not whole.
///
/// # Errors
/// When it is none that `sender` may send, or a fragment: no message here needs to be split.
pub(super) fn parse(bytes: &[u8], sender: Sender) -> anyhow::Result<Option<Frame>> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0x80 == 0 || first & 0x0f == 0 {
        bail!("a message in fragments, which this client does not put together");
    }
    if first & 0x70 != 0 {
        bail!("a frame with reserved bits, of an extension that was not asked for");
    }
    let Some(kind) = Kind::of(first & 0x0f) else { bail!("a frame of unknown kind {}", first & 0x0f) };
    if (second & 0x80 != 0) != (sender == Sender::Client) {
        bail!("a frame that is masked on the wrong side");
    }
    let (length, header) = match second & 0x7f {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (usize::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (usize::try_from(u64::from_be_bytes(*length))?, 10),
            None => return Ok(None),
        },
        short => (usize::from(short), 2),
    };
    if length > LONGEST {
        bail!("a frame of {length} bytes, where {LONGEST} are enough for any answer");
    }
    let (mask, from) = match sender {
        Sender::Server => ([0; 4], header),
        Sender::Client => match bytes.get(header..).and_then(<[u8]>::first_chunk::<4>) {
            Some(key) => (*key, header + 4),
            None => return Ok(None),
        },
    };
    let end = from + length;
    Ok((bytes.len() >= end).then_some(Frame { kind, payload: from..end, mask }))
}

/// What the official client takes at most.
const LONGEST: usize = 100 << 20;

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    #[test_case(0)]
    #[test_case(5)]
    #[test_case(125)]
    #[test_case(126)]
    #[test_case(131)]
    #[test_case(65_535)]
    #[test_case(65_536)]
    #[test_case(70_007)]
    fn a_frame_comes_back_whole_and_only_when_it_is(length: usize) {
        let payload: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for sender in [Sender::Client, Sender::Server] {
            let bytes = encode(sender, Kind::Text, &payload);
            for cut in [0, 1, 2, 3, 9, bytes.len() - 1] {
                if cut < bytes.len() {
                    assert_eq!(parse(&bytes[..cut], sender).unwrap(), None, "{cut} of {}", bytes.len());
                }
            }
            let mut more = bytes.clone();
            more.push(0x81);
            let frame = parse(&more, sender).unwrap().unwrap();
            assert_eq!((frame.kind, frame.payload.end), (Kind::Text, bytes.len()));
            let mut found = more[frame.payload].to_vec();
            mask(&mut found, frame.mask);
            assert!(found == payload);
        }
    }

    #[test]
    fn the_example_of_the_standard() {
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(encode(Sender::Client, Kind::Text, b"Hello"), hello);
    }

    #[test_case(&[0x01, 0x00]; "the start of fragments")]
    #[test_case(&[0x80, 0x00]; "the end of fragments")]
    #[test_case(&[0xc1, 0x00]; "compressed")]
    #[test_case(&[0x83, 0x00]; "unknown")]
    #[test_case(&[0x81, 0x80]; "masked by a server")]
    #[test_case(&[0x81, 127, 0, 0, 1, 0, 0, 0, 0, 0]; "far too long")]
    fn what_is_not_understood_is_said(bytes: &[u8]) {
        assert!(parse(bytes, Sender::Server).is_err());
    }
}
