//! Whole images in archives: a layout's or `docker save`'s documents, and the layers that they name.
#![no_main]

use std::fs::File;
use std::io::Write as _;

use hothouse_fuzz::{archive, ground::Ground, spent};
use hothouse_sandbox::ImageLimits;
use hothouse_sandbox::image::fuzzing::{Archive, document, import};
use libfuzzer_sys::fuzz_target;

const LIMITS: ImageLimits =
    ImageLimits { max_bytes: 1 << 20, max_entries: 64, max_path_bytes: 1 << 20, max_store_bytes: 1 << 30 };

fuzz_target!(|input: &[u8]| {
    let Some((how, bytes)) = input.split_first() else { return };
    let _refused = document(bytes);
    let image = if how & 1 == 0 { archive::image(bytes) } else { archive::repaired(bytes) };
    let kind = if how & 2 == 0 { Archive::Oci } else { Archive::Docker };
    let name = (how & 4 != 0).then_some("a");
    let ground = Ground::new();
    let path = ground.layer().with_extension("tar");
    let mut file = File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
    file.write_all(&image).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _refused = import(file, kind, name, &ground.layer(), LIMITS);
    ground.assert_untouched();
    spent::assert_within(&ground.layer(), LIMITS);
});
