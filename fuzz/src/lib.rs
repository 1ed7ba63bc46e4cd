//! What the targets have in common: archives out of a fuzzer's bytes, and the ground that they are unpacked on.

pub mod archive;
pub mod ground;
pub mod spent;
