//! Archives out of a fuzzer's bytes. Checksums and digests are put right, or all but the first few comparisons would
//! never be seen from inside.

use std::io::Write as _;

use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

const BLOCK: usize = 512;
/// Between layers, and between the files of an image.
const BREAK: &[u8] = b"\xff\xfe~\n";

/// Bytes as pieces.
fn pieces(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some(at) = bytes.windows(BREAK.len()).position(|window| window == BREAK) {
        pieces.push(&bytes[..at]);
        bytes = &bytes[at + BREAK.len()..];
    }
    pieces.push(bytes);
    pieces
}

/// A tar archive whose headers have the checksums that they should have, as far as it can be followed.
#[must_use]
pub fn repaired(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(block) = bytes.get_mut(at..at + BLOCK) {
        if block.iter().any(|byte| *byte != 0) {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let header = Header::from_byte_slice(block);
        let follows = match header.entry_type() {
            EntryType::Link | EntryType::Symlink => 0,
            _ => header.entry_size().unwrap_or(0),
        };
        let Some(next) = usize::try_from(follows)
            .ok()
            .and_then(|size| size.checked_next_multiple_of(BLOCK))
            .and_then(|size| (at + BLOCK).checked_add(size))
        else {
            break;
        };
        at = next;
    }
    bytes
}

fn packed(how: u8, bytes: Vec<u8>) -> Vec<u8> {
    match how {
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&bytes).unwrap();
            encoder.finish().unwrap()
        }
        2 => zstd::encode_all(bytes.as_slice(), 1).unwrap(),
        _ => bytes,
    }
}

/// Layers: `how` says how they are compressed, and whether they are put right before.
#[must_use]
pub fn layers(how: u8, bytes: &[u8]) -> Vec<Vec<u8>> {
    let layer = |piece: &[u8]| if how & 4 == 0 { repaired(piece) } else { piece.to_vec() };
    pieces(bytes).into_iter().take(4).map(|piece| packed(how & 3, layer(piece))).collect()
}

/// The files of an image: a line with the name, and then the content. In names, and in content that begins with a brace
/// or bracket, `@N` is the digest of file N; other content is a tar archive and put right.
#[must_use]
pub fn image(bytes: &[u8]) -> Vec<u8> {
    let mut digests: Vec<String> = Vec::new();
    let mut archive = Builder::new(Vec::new());
    for piece in pieces(bytes).into_iter().take(32) {
        let end = piece.iter().position(|byte| *byte == b'\n').unwrap_or(piece.len());
        let (name, content) = (&piece[..end], piece.get(end + 1..).unwrap_or_default());
        let content = match content.first() {
            Some(b'{' | b'[') => filled(content, &digests),
            _ => repaired(content),
        };
        digests.push(Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect());
        let name = filled(name, &digests);
        let mut header = Header::new_ustar();
        let raw = header.as_old_mut();
        // `LINK>TARGET`, as Docker's older archives have them.
        let (name, link) = match name.iter().position(|byte| *byte == b'>') {
            Some(at) => (&name[..at], &name[at + 1..]),
            None => (name.as_slice(), &[][..]),
        };
        let (length, link_length) = (name.len().min(100), link.len().min(100));
        raw.name[..length].copy_from_slice(&name[..length]);
        raw.linkname[..link_length].copy_from_slice(&link[..link_length]);
        header.set_entry_type(if link.is_empty() { EntryType::Regular } else { EntryType::Symlink });
        header.set_mode(0o644);
        let content = if link.is_empty() { content } else { Vec::new() };
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// Text with the digests that it asks for.
fn filled(text: &[u8], digests: &[String]) -> Vec<u8> {
    let mut filled = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        let number = bytes
            .as_slice()
            .first()
            .filter(|_| *byte == b'@')
            .and_then(|digit| char::from(*digit).to_digit(10));
        match number.and_then(|number| digests.get(number as usize)) {
            Some(digest) => {
                filled.extend_from_slice(digest.as_bytes());
                bytes.next();
            }
            None => filled.push(*byte),
        }
    }
    filled
}
