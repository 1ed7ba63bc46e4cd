//! A copy of a tree's directories without its files.
//!
//! Where owners cannot be mapped, the image's directories belong to nobody and cannot be written to. This layer above
//! them has the same directories with owners of ours, and in an overlay the topmost directory's owner counts: files can
//! then be made, replaced and removed there. A machine has tens of thousands of directories, and each costs a block of
//! disk and some time here, so only those are copied that programs get installed into: the upper levels, and all of the
//! trees of Python and of `local`.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// So many levels are copied of every tree.
const LEVELS: usize = 2;
/// More directories than any sensible installation has in the trees that are copied whole.
const MAX_DIRECTORIES: usize = 8192;

/// Copies the directories for installing below `source` to `target`, which is made whole or not at all.
pub(super) fn copy(source: &Path, target: &Path) -> io::Result<()> {
    if target.is_dir() {
        return Ok(());
    }
    let unfinished = target.with_extension(format!("unfinished-{}", std::process::id()));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::DirBuilder::new().mode(0o755).create(&unfinished)?;
    let mut pending: Vec<PathBuf> = vec![PathBuf::new()];
    let mut made = 0;
    while let Some(below) = pending.pop() {
        // A directory that we may not read stays as it is in the image.
        let Ok(entries) = fs::read_dir(source.join(&below)) else { continue };
        for entry in entries {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let below = below.join(entry.file_name());
            if !is_for_installing(&below) || made >= MAX_DIRECTORIES {
                continue;
            }
            made += 1;
            let mode = entry.metadata()?.permissions().mode() & 0o7777;
            fs::DirBuilder::new().mode(mode | 0o700).create(unfinished.join(&below))?;
            pending.push(below);
        }
    }
    match fs::rename(&unfinished, target) {
        // Another process was faster.
        Err(_) if target.is_dir() => fs::remove_dir_all(&unfinished),
        other => other,
    }
}

fn is_for_installing(below: &Path) -> bool {
    let whole = |name: &std::ffi::OsStr| name == "local" || name.as_encoded_bytes().starts_with(b"python");
    below.components().count() <= LEVELS || below.iter().any(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_trees_are_copied_where_programs_get_installed() {
        for (path, copied) in [
            ("lib/x86_64-linux-gnu", true),
            ("lib/x86_64-linux-gnu/perl", false),
            ("lib/python3/dist-packages/pip/_vendor/rich", true),
            ("local/lib/python3.11/dist-packages", true),
            ("share/doc/bash/examples", false),
        ] {
            assert_eq!(is_for_installing(Path::new(path)), copied, "{path}");
        }
    }

    #[test]
    fn directories_are_copied_and_files_are_not() {
        let base = tempfile::tempdir().unwrap();
        let (source, target) = (base.path().join("source"), base.path().join("target"));
        fs::create_dir_all(source.join("a/b")).unwrap();
        fs::write(source.join("a/file"), "x").unwrap();
        copy(&source, &target).unwrap();
        assert!(target.join("a/b").is_dir());
        assert!(!target.join("a/file").exists());
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 2, "nothing unfinished stays");
        copy(&source, &target).unwrap();
    }
}
