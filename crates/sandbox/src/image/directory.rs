//! `dir:/path`: a plain root file system in a directory.

use std::path::Path;
use std::sync::Arc;

use super::{DIRECTORIES, Image, Layer, mount_points, path_text};

/// Checks that the directory can serve as a root.
pub(super) fn inspect(path: &str) -> Result<Image, String> {
    let root = Path::new(path);
    let meta = std::fs::metadata(root)
        .map_err(|e| format!("{path}: {e}; give the directory of a root file system"))?;
    if !meta.is_dir() {
        return Err(format!("{path} is not a directory; unpack the root file system first"));
    }
    mount_points::check(&[root.to_owned()])?;
    Ok(Image {
        overlays: vec![("/".to_owned(), vec![Layer::whole(path_text(root)?)])],
        directories: DIRECTORIES.map(str::to_owned).to_vec(),
        config: Arc::default(),
        layers: Vec::new(),
        pin: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_place_of_mount_points_are_refused() {
        for name in ["proc", "dev", "sys", "tmp"] {
            let root = tempfile::tempdir().unwrap();
            std::os::unix::fs::symlink("/etc", root.path().join(name)).unwrap();
            let refused = inspect(root.path().to_str().unwrap()).unwrap_err();
            assert!(refused.contains(&format!("/{name} ")), "{refused}");
        }
    }

    #[test]
    fn what_is_not_a_directory_is_refused_and_an_empty_one_is_not() {
        assert!(inspect("/no/such/root").unwrap_err().contains("No such file"));
        assert!(inspect("/etc/passwd").unwrap_err().contains("not a directory"));
        let root = tempfile::tempdir().unwrap();
        assert_eq!(inspect(root.path().to_str().unwrap()).unwrap().overlays.len(), 1);
    }
}
