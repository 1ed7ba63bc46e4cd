//! Layers into a directory: nothing outside it is touched, and what is in it is no more than was allowed.
#![no_main]

use hothouse_fuzz::{archive, ground::Ground, spent};
use hothouse_sandbox::ImageLimits;
use hothouse_sandbox::image::fuzzing::{Stack, unpack};
use libfuzzer_sys::fuzz_target;

const LIMITS: ImageLimits =
    ImageLimits { max_bytes: 1 << 20, max_entries: 64, max_path_bytes: 1 << 20, max_store_bytes: 1 << 30 };

fuzz_target!(|input: &[u8]| {
    let Some((how, bytes)) = input.split_first() else { return };
    let stack = if how & 1 == 0 { Stack::Apart } else { Stack::Merged };
    let layers = archive::layers(*how >> 1, bytes);
    let ground = Ground::new();
    // Whether it is refused is its own affair.
    let _refused = unpack(&layers, &ground.layer(), stack, LIMITS);
    ground.assert_untouched();
    spent::assert_within(&ground.layer(), LIMITS);
});
