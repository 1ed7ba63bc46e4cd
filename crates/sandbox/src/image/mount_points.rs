//! What stands where sandboxes mount something: a link there would lead the mount elsewhere (CVE-2025-31133).

use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;

const NAMES: [&str; 5] = ["proc", "dev", "sys", "tmp", "workspace"];

/// Refuses layers, topmost first, that together have something else than a directory at a mount point.
pub(super) fn check(layers: &[PathBuf]) -> Result<(), String> {
    for name in NAMES {
        // What the topmost layer that has it says is what counts.
        let found = layers.iter().find_map(|layer| std::fs::symlink_metadata(layer.join(name)).ok());
        if let Some(meta) = found
            && !meta.is_dir()
            // A whiteout: there is nothing.
            && !meta.file_type().is_char_device()
        {
            return Err(format!("/{name} in it is not a plain directory, which is unsafe; remove it"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_layer_counts() {
        let base = tempfile::tempdir().unwrap();
        let (top, low) = (base.path().join("top"), base.path().join("low"));
        std::fs::create_dir_all(top.join("dev")).unwrap();
        std::fs::create_dir_all(&low).unwrap();
        std::os::unix::fs::symlink("/etc", low.join("dev")).unwrap();
        check(&[top.clone(), low.clone()]).unwrap();
        assert!(check(&[low.clone(), top.clone()]).unwrap_err().contains("/dev "));
        std::os::unix::fs::symlink("/etc", low.join("proc")).unwrap();
        assert!(check(&[top, low]).unwrap_err().contains("/proc "));
    }
}
