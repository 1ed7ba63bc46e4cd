//! What is kept of one output of an exec: its head and its tail, by absolute byte offset. Pure.
//!
//! ```text
//!  0          head.len()           tail_start            total
//!  ├── head ──┤ … not kept, counted … ├────── tail ──────┤
//! ```
//!
//! While the exec runs, the tail keeps at least [`WINDOW`] bytes, so that a live follower of an exec with a tiny limit
//! has something to read from. [`Retained::seal`] cuts it down to the limit.

use std::collections::VecDeque;

/// The least that the tail keeps while the exec runs, in bytes.
pub const WINDOW: usize = 64 << 10;

/// Head and tail of a byte stream.
#[derive(Debug, Clone)]
pub struct Retained {
    head_limit: usize,
    tail_limit: usize,
    window: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

/// Some kept bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Absolute offset of the first byte: the one asked for, or later when that was not kept.
    pub offset: u64,
    /// The bytes; empty at the end.
    pub bytes: &'a [u8],
}

impl Retained {
    /// Keeps `limit` bytes: half from the start, half from the end.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self {
            head_limit: limit / 2,
            tail_limit: limit - limit / 2,
            window: WINDOW,
            head: Vec::new(),
            tail: VecDeque::new(),
            total: 0,
        }
    }

    fn tail_capacity(&self) -> usize {
        self.tail_limit.max(self.window)
    }

    fn tail_start(&self) -> u64 {
        self.total - self.tail.len() as u64
    }

    /// Adds bytes at the end.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let into_head = bytes.len().min(self.head_limit - self.head.len());
        let (first, mut rest) = bytes.split_at(into_head);
        self.head.extend_from_slice(first);
        let capacity = self.tail_capacity();
        if rest.len() > capacity {
            rest = &rest[rest.len() - capacity..];
        }
        let surplus = (self.tail.len() + rest.len()).saturating_sub(capacity);
        self.tail.drain(..surplus);
        self.tail.extend(rest);
    }

    /// Bytes pushed so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that are not kept under the limit.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.total - (self.head.len() + self.tail.len().min(self.tail_limit)) as u64
    }

    /// Bytes of memory in use for it.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// How many bytes may be pushed before some at or after `position`, which are still unread, would be lost.
    #[must_use]
    pub fn room(&self, position: u64) -> usize {
        let unread_from = position.max(self.head.len() as u64).max(self.tail_start());
        let unread = self.total.saturating_sub(unread_from);
        self.tail_capacity().saturating_sub(usize::try_from(unread).unwrap_or(usize::MAX))
    }

    /// Kept bytes that begin at `position`, or at the next offset that is kept.
    #[must_use]
    pub fn piece(&self, position: u64) -> Piece<'_> {
        let head_len = self.head.len() as u64;
        if position < head_len {
            let at = usize::try_from(position).expect("below the length of a vector");
            return Piece { offset: position, bytes: &self.head[at..] };
        }
        if position >= self.total {
            return Piece { offset: position, bytes: &[] };
        }
        let offset = position.max(self.tail_start());
        let at = usize::try_from(offset - self.tail_start()).expect("below the length of a deque");
        let (front, back) = self.tail.as_slices();
        let bytes = if at < front.len() { &front[at..] } else { &back[at - front.len()..] };
        Piece { offset, bytes }
    }

    /// As [`Retained::piece`], but only of what the limit allows, though more may still be there.
    #[must_use]
    pub fn limited_piece(&self, position: u64) -> Piece<'_> {
        let first = self.total - self.tail.len().min(self.tail_limit) as u64;
        if position < self.head.len() as u64 { self.piece(position) } else { self.piece(position.max(first)) }
    }

    /// No more will come: cuts the tail down to the limit and gives spare memory back.
    pub fn seal(&mut self) {
        self.window = 0;
        let surplus = self.tail.len().saturating_sub(self.tail_limit);
        self.tail.drain(..surplus);
        self.tail.shrink_to_fit();
        self.head.shrink_to_fit();
    }

    /// Keeps nothing any more; the count stays.
    pub fn forget(&mut self) {
        self.head = Vec::new();
        self.tail = VecDeque::new();
        self.head_limit = 0;
        self.tail_limit = 0;
        self.window = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The byte at an offset, so that a misplaced one shows.
    fn pattern(at: usize) -> u8 {
        u8::try_from(at % 251).unwrap()
    }

    fn read_all(kept: &Retained) -> Vec<(u64, Vec<u8>)> {
        let (mut pieces, mut at) = (Vec::new(), 0);
        loop {
            let piece = kept.piece(at);
            if piece.bytes.is_empty() {
                return pieces;
            }
            at = piece.offset + piece.bytes.len() as u64;
            pieces.push((piece.offset, piece.bytes.to_vec()));
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_the_head_and_the_tail(
            limit in 0_u64..5000,
            pushes in prop::collection::vec(0_usize..3000, 0..20),
        ) {
            let whole: Vec<u8> = (0..pushes.iter().sum::<usize>()).map(pattern).collect();
            let mut kept = Retained::new(limit);
            let mut at = 0;
            for push in pushes {
                kept.push(&whole[at..at + push]);
                at += push;
            }
            let mut limited = 0;
            let mut next = kept.limited_piece(0);
            while !next.bytes.is_empty() {
                limited += next.bytes.len() as u64;
                next = kept.limited_piece(next.offset + next.bytes.len() as u64);
            }
            prop_assert_eq!(limited, limit.min(whole.len() as u64));
            kept.seal();
            prop_assert_eq!(kept.total(), whole.len() as u64);
            let mut bytes = 0;
            for (offset, piece) in read_all(&kept) {
                let offset = usize::try_from(offset).unwrap();
                prop_assert_eq!(&whole[offset..offset + piece.len()], &piece[..]);
                bytes += piece.len() as u64;
            }
            prop_assert_eq!(bytes, limit.min(whole.len() as u64));
            prop_assert_eq!(kept.dropped(), whole.len() as u64 - bytes);
        }

        #[test]
        fn a_follower_who_respects_the_room_misses_nothing(
            limit in 0_u64..300_000,
            steps in prop::collection::vec((0_usize..100_000, 0_usize..100_000), 0..30),
        ) {
            let mut kept = Retained::new(limit);
            let (mut position, mut next) = (0_u64, 0_usize);
            for (push, read) in steps {
                let push = push.min(kept.room(position));
                let bytes: Vec<u8> = (next..next + push).map(pattern).collect();
                kept.push(&bytes);
                next += push;
                let piece = kept.piece(position);
                prop_assert_eq!(piece.offset, position);
                let read = read.min(piece.bytes.len());
                for (i, byte) in piece.bytes[..read].iter().enumerate() {
                    prop_assert_eq!(*byte, pattern(usize::try_from(position).unwrap() + i));
                }
                position += read as u64;
            }
        }
    }

    #[test]
    fn forgetting_keeps_the_count() {
        let mut kept = Retained::new(100);
        kept.push(&[7; 60]);
        kept.seal();
        kept.forget();
        assert_eq!((kept.total(), kept.dropped(), kept.kept()), (60, 60, 0));
        assert_eq!(kept.piece(0), Piece { offset: 60, bytes: &[] });
    }
}
