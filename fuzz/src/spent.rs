//! What an archive has cost.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use hothouse_sandbox::ImageLimits;

/// Looks at all that was made, without following a link.
///
/// # Panics
/// When there is more of it than the limits allow.
pub fn assert_within(directory: &Path, limits: ImageLimits) {
    let (mut nodes, mut bytes) = (0, 0);
    let mut rest = vec![directory.to_owned()];
    while let Some(directory) = rest.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            // The path to it may be longer than the kernel takes.
            let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
            nodes += 1;
            if meta.is_dir() {
                rest.push(entry.path());
            } else if meta.is_file() && meta.nlink() == 1 {
                bytes += meta.len();
            }
        }
    }
    assert!(nodes <= limits.max_entries, "{nodes} files and directories of {} entries", limits.max_entries);
    assert!(bytes <= limits.max_bytes, "{bytes} bytes of {}", limits.max_bytes);
}
