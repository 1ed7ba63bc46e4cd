//! Our own Python: what an author's module imports, and the worker.

use std::path::Path;

use include_dir::{Dir, include_dir};
use sha2::{Digest as _, Sha256};

use super::layers::{LayerError, write_file};

static ENV: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../python/src/hothouse/env");
static WORKER: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../python/src/hothouse/worker");
/// In a sandbox there is no client of a server, so the package is no more than these two.
const INIT: &str = "\"\"\"The part of Hothouse's Python that environments need in their sandbox.\"\"\"\n";

/// Its files, by path in the package.
fn files() -> impl Iterator<Item = (String, &'static [u8])> {
    let of = |name: &'static str, dir: &'static Dir<'static>| {
        let mut all = Vec::new();
        collect(name, dir, &mut all);
        all.into_iter()
    };
    std::iter::once(("__init__.py".to_owned(), INIT.as_bytes()))
        .chain(of("env", &ENV))
        .chain(of("worker", &WORKER))
}

fn collect(name: &str, dir: &'static Dir<'static>, all: &mut Vec<(String, &'static [u8])>) {
    for file in dir.files() {
        if file.path().extension().is_some_and(|extension| extension == "py") {
            all.push((format!("{name}/{}", file.path().display()), file.contents()));
        }
    }
    for inner in dir.dirs() {
        collect(name, inner, all);
    }
}

/// Names this version of it.
pub(super) fn hash() -> String {
    let mut hash = Sha256::new();
    for (path, contents) in files() {
        hash.update(path.as_bytes());
        hash.update([0]);
        hash.update(contents);
        hash.update([0]);
    }
    super::layers::hex(&hash.finalize())
}

/// Writes it below a directory.
pub(super) fn write(directory: &Path) -> Result<(), LayerError> {
    for (path, contents) in files() {
        write_file(&directory.join("hothouse").join(path), contents)?;
    }
    Ok(())
}
