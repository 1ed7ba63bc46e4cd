//! What `fuzz/` gets hold of: what reads the bytes of a worker.

use super::protocol::{Hello, Reader, Told, failed, invalid, observed};

/// Reads all frames of what comes in pieces of this size, and what each of them says; how many there were, and why the
/// reader ended where it did.
///
/// # Errors
/// Bytes that are no frame, with the number of frames before them.
///
/// # Panics
/// When frames that were given out are kept.
pub fn read(bytes: &[u8], piece: usize) -> Result<usize, (usize, String)> {
    let (mut reader, mut count) = (Reader::default(), 0);
    for piece in bytes.chunks(piece) {
        reader.buffer.extend_from_slice(piece);
        while let Some(frame) = reader.next().map_err(|error| (count, error))? {
            match frame.told {
                Told::Hello(payload)
                | Told::Done(payload)
                | Told::Invalid(payload)
                | Told::Failed(payload) => {
                    body(&payload);
                }
            }
            count += 1;
        }
    }
    // Told all, it holds no more than what is no whole frame yet.
    assert!(reader.buffer.len() <= bytes.len(), "what was given out is gone");
    Ok(count)
}

/// Reads a payload as each of the things that one can be.
pub fn body(payload: &[u8]) {
    // Whether it is refused is its own affair.
    let _hello = Hello::parse(payload).map(|hello| hello.has_checkpoints());
    let _observed = observed(payload);
    drop(invalid(payload));
    drop(failed(payload));
}
