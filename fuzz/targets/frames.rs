//! The guest's side of the wire, and the server's: frames out of pieces, bodies out of frames.
#![no_main]

use hothouse_guest::frame::{Decoder, Frame, HEADER_LEN, MAX_PAYLOAD, encode};
use hothouse_guest::message::{Hello, Reply, Request, decode, encode as write};
use libfuzzer_sys::fuzz_target;

/// All frames of what comes in pieces of this size, until something is none.
fn frames(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut decoder, mut found) = (Decoder::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => found.push(again(&frame)),
                Ok(None) => break,
                Err(_) => {
                    assert!(decoder.next_frame().is_err(), "a broken connection stays broken");
                    return (found, true);
                }
            }
        }
        assert!(
            decoder.buffer().len() <= HEADER_LEN + MAX_PAYLOAD + piece.len(),
            "no more is kept than one frame"
        );
    }
    (found, false)
}

/// A frame as it is written, after a look at what it carries.
fn again(frame: &Frame<'_>) -> Vec<u8> {
    body(frame.payload);
    let mut wire = Vec::new();
    encode(&mut wire, frame.kind, frame.stream, frame.channel, frame.payload);
    wire
}

/// What can be read can be written, and means the same again.
fn body(bytes: &[u8]) {
    if let Ok(request) = decode::<Request>("request", bytes) {
        assert_eq!(decode::<Request>("request", &write(&request)).as_ref(), Ok(&request));
    }
    if let Ok(reply) = decode::<Reply>("reply", bytes) {
        assert_eq!(decode::<Reply>("reply", &write(&reply)).as_ref(), Ok(&reply));
    }
    if let Ok(hello) = decode::<Hello>("hello", bytes) {
        assert_eq!(decode::<Hello>("hello", &write(&hello)).as_ref(), Ok(&hello));
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    body(bytes);
    let whole = frames(bytes, bytes.len().max(1));
    assert_eq!(whole, frames(bytes, usize::from(*first) + 1), "pieces make no difference");
    let wire: Vec<u8> = whole.0.concat();
    assert!(bytes.starts_with(&wire), "frames are what came");
});
