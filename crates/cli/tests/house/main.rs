//! The rules of the house that no lint knows: which crate may use which, how large a file may be and what it may be
//! called, what may come in from outside, and that every promise names a test that exists.

mod edges;
mod promises;
mod sources;
mod supply;

use std::path::{Path, PathBuf};

use cargo_metadata::Metadata;

/// The root of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("crates/cli lies two levels under the root").to_path_buf()
}

/// The whole dependency graph as Cargo.lock has it.
fn metadata() -> Metadata {
    cargo_metadata::MetadataCommand::new()
        .current_dir(root())
        .features(cargo_metadata::CargoOpt::AllFeatures)
        .other_options(vec!["--locked".to_owned()])
        .exec()
        .expect("cargo metadata")
}
