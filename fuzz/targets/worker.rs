//! What a worker tells the server: frames out of pieces, and what they say.
#![no_main]

use hothouse_env::worker::fuzzing::{body, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    body(bytes);
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(whole, read(bytes, usize::from(*first) + 1), "pieces make no difference");
});
