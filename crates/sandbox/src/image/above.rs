//! Directories of the node that lie above an image: `dir:/path`.

use std::fs;
use std::io;
use std::path::Path;

use hothouse_domain::LayerRef;

use super::{Image, Layer, mount_points, path_text};

/// Puts layers above all that an image has, each above the ones before it.
pub(super) fn put(image: &mut Image, layers: &[LayerRef]) -> Result<(), String> {
    for layer in layers {
        put_one(image, layer).map_err(|reason| format!("layer {layer}: {reason}"))?;
    }
    if !layers.is_empty() {
        let root = image.overlays.iter().find(|(target, _)| target == "/");
        let layers = root.into_iter().flat_map(|(_, layers)| layers);
        mount_points::check(
            &layers.map(|layer| Path::new(&layer.tree).join(&layer.below)).collect::<Vec<_>>(),
        )?;
    }
    Ok(())
}

fn put_one(image: &mut Image, layer: &LayerRef) -> Result<(), String> {
    let path = Path::new(layer.path());
    let tree = path_text(path)?;
    let meta = fs::metadata(path).map_err(|e| format!("{e}; give a directory of this node"))?;
    if !meta.is_dir() {
        return Err("is not a directory".to_owned());
    }
    for (target, below) in &mut image.overlays {
        let inner = target.trim_start_matches('/');
        if inner.is_empty() {
            check_links(path, below)?;
            below.insert(0, Layer::whole(tree.clone()));
        } else if has_directory(path, inner)? {
            // What the image has a mount of its own for is hidden in the root.
            below.insert(0, Layer::within(tree.clone(), inner.to_owned()));
        }
    }
    Ok(())
}

/// Whether a layer has this directory; it may have nothing there, but no link, which would lead the mount elsewhere.
fn has_directory(layer: &Path, inner: &str) -> Result<bool, String> {
    let mut path = layer.to_owned();
    for component in inner.split('/') {
        path.push(component);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(format!("/{inner} in it is not a plain directory, as the image has there")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(format!("{}: {e}", path.display())),
        }
    }
    Ok(true)
}

/// Refuses a directory in the place of a link: whoever has `lib` for `usr/lib` would hide all of the image's libraries.
fn check_links(layer: &Path, below: &[Layer]) -> Result<(), String> {
    let entries = fs::read_dir(layer).map_err(|e| e.to_string())?;
    for entry in entries {
        let entry = entry.map_err(|e| e.to_string())?;
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name();
        let there = below.iter().find_map(|lower| {
            let path = Path::new(&lower.tree).join(&lower.below).join(&name);
            fs::symlink_metadata(&path).ok().map(|meta| (path, meta))
        });
        if let Some((path, meta)) = there
            && meta.is_symlink()
        {
            let target = fs::read_link(&path).unwrap_or_default();
            return Err(format!(
                "/{} in it is a directory, and a link to {} in the image; put its content there",
                name.display(),
                target.display()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use super::*;

    struct Scene {
        base: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Self {
            let base = tempfile::tempdir().unwrap();
            for directory in ["root/etc", "usr/bin", "a/opt/env", "a/usr/lib", "b/opt/env"] {
                fs::create_dir_all(base.path().join(directory)).unwrap();
            }
            symlink("usr/bin", base.path().join("root/bin")).unwrap();
            Self { base }
        }

        fn path(&self, name: &str) -> String {
            self.base.path().join(name).to_str().unwrap().to_owned()
        }

        fn image(&self) -> Image {
            let overlay = |target: &str, name: &str| (target.to_owned(), vec![Layer::whole(self.path(name))]);
            Image {
                overlays: vec![overlay("/", "root"), overlay("/usr", "usr")],
                directories: Vec::new(),
                config: Arc::default(),
                layers: Vec::new(),
                pin: None,
            }
        }

        fn put(&self, names: &[&str]) -> Result<Vec<Vec<String>>, String> {
            let mut image = self.image();
            let layers: Vec<LayerRef> =
                names.iter().map(|name| format!("dir:{}", self.path(name)).parse().unwrap()).collect();
            put(&mut image, &layers)?;
            let base = format!("{}/", self.base.path().display());
            let text = |layer: &Layer| format!("{}|{}", layer.tree.replace(&base, ""), layer.below);
            Ok(image.overlays.iter().map(|(_, layers)| layers.iter().map(text).collect()).collect())
        }
    }

    #[test]
    fn each_lies_above_the_ones_before_it_and_in_every_mount_that_it_has_something_for() {
        let scene = Scene::new();
        let stacked = scene.put(&["a", "b"]).unwrap();
        assert_eq!(stacked, [vec!["b|", "a|", "root|"], vec!["a|usr", "usr|"]]);
        assert_eq!(scene.put(&[]).unwrap(), [vec!["root|"], vec!["usr|"]]);
    }

    #[test]
    fn what_would_lead_elsewhere_or_hide_the_image_is_refused() {
        let scene = Scene::new();
        fs::create_dir_all(scene.base.path().join("c/bin")).unwrap();
        assert!(scene.put(&["c"]).unwrap_err().contains("a link to usr/bin in the image"));
        fs::create_dir(scene.base.path().join("d")).unwrap();
        symlink("/etc", scene.base.path().join("d/usr")).unwrap();
        assert!(scene.put(&["d"]).unwrap_err().contains("/usr in it is not a plain directory"));
        fs::create_dir(scene.base.path().join("e")).unwrap();
        symlink("/etc", scene.base.path().join("e/proc")).unwrap();
        assert!(scene.put(&["e"]).unwrap_err().contains("/proc in it is not a plain directory"));
        fs::write(scene.base.path().join("file"), "").unwrap();
        assert!(scene.put(&["file"]).unwrap_err().contains("is not a directory"));
        assert!(scene.put(&["none"]).unwrap_err().contains("give a directory of this node"));
        fs::create_dir(scene.base.path().join("with,comma")).unwrap();
        assert!(scene.put(&["with,comma"]).unwrap_err().contains("comma"));
    }
}
