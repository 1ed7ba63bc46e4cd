//! Directories that are laid below the root of an environment's sandbox.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{CODE, KIT, SITE, Target, kit, site};

/// Files of a package that are no part of its code.
const LEFT_OUT: [&str; 8] =
    [".git", ".venv", "venv", "node_modules", "__pycache__", ".pytest_cache", ".mypy_cache", "outputs"];
/// Bytes of a package's code.
const MOST_CODE: u64 = 1 << 30;

/// Why a layer could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A file could not be written or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The code is too much.
    #[error("{} has more than {MOST_CODE} bytes; leave data out of the package", .0.display())]
    TooLarge(PathBuf),
    /// There is no pip.
    #[error("what the environment requires is installed by pip, which is not here: {0}; install python3-pip")]
    NoPip(String),
    /// It could not be installed.
    #[error("pip could not install {requirements}: {said}")]
    Pip {
        /// What was asked for.
        requirements: String,
        /// Its last words.
        said: String,
    },
}

/// The home of all layers.
#[derive(Debug, Clone)]
pub struct Layers(PathBuf);

pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> LayerError {
    let path = path.to_owned();
    move |source| LayerError::Io { path, source }
}

impl Layers {
    /// Those of a home of Hothouse.
    #[must_use]
    pub fn new(home: &Path) -> Self {
        Self(home.join("envs"))
    }

    /// What a target needs in its sandbox, the topmost first. `python` is the version of the sandbox's interpreter, e.g.
    /// `3.11`.
    ///
    /// # Errors
    /// [`LayerError`]: one of them could not be made.
    pub async fn of(
        &self,
        target: &Target,
        requirements: &[String],
        python: &str,
    ) -> Result<Vec<PathBuf>, LayerError> {
        let mut layers = Vec::new();
        if let Target::Directory { path, manifest } = target {
            layers.push(self.code(path, &manifest.name)?);
        }
        layers.push(self.made(&format!("kit-{}", kit::hash()), |layer| kit::write(&below(layer, KIT)))?);
        if !requirements.is_empty() {
            layers.push(self.site(requirements, python).await?);
        }
        Ok(layers)
    }

    fn code(&self, path: &Path, name: &str) -> Result<PathBuf, LayerError> {
        let mut files = Vec::new();
        let mut left = MOST_CODE;
        walk(path, path, &mut files, &mut left)?;
        files.sort();
        let mut hash = Sha256::new();
        hash.update(name.as_bytes());
        for (inner, contents, mode) in &files {
            hash.update(inner.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update(mode.to_le_bytes());
            hash.update(contents.len().to_le_bytes());
            hash.update(contents);
        }
        self.made(&format!("code-{}", hex(&hash.finalize())), |layer| {
            let root = below(layer, CODE).join(name);
            for (inner, contents, mode) in &files {
                let path = root.join(inner);
                write_file(&path, contents)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).map_err(io_error(&path))?;
            }
            Ok(())
        })
    }

    async fn site(&self, requirements: &[String], python: &str) -> Result<PathBuf, LayerError> {
        let mut hash = Sha256::new();
        for part in std::iter::once(python).chain(requirements.iter().map(String::as_str)) {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let name = format!("site-{}", hex(&hash.finalize()));
        if let Some(layer) = self.found(&name) {
            return Ok(layer);
        }
        let making = self.begin(&name)?;
        let installed = site::install(requirements, python, &below(&making, SITE)).await;
        self.end(&name, &making, installed)
    }

    /// The layer of this name, made by `make` if it is not there.
    fn made(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> Result<(), LayerError>,
    ) -> Result<PathBuf, LayerError> {
        if let Some(layer) = self.found(name) {
            return Ok(layer);
        }
        let making = self.begin(name)?;
        let made = make(&making);
        self.end(name, &making, made)
    }

    fn found(&self, name: &str) -> Option<PathBuf> {
        let layer = self.0.join(name);
        layer.is_dir().then_some(layer)
    }

    fn begin(&self, name: &str) -> Result<PathBuf, LayerError> {
        let making = self.0.join(format!(".{name}-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&making).map_err(io_error(&making))?;
        Ok(making)
    }

    /// All at once under its name, or not at all.
    fn end(&self, name: &str, making: &Path, made: Result<(), LayerError>) -> Result<PathBuf, LayerError> {
        let layer = self.0.join(name);
        let moved = made.and_then(|()| match fs::rename(making, &layer) {
            Ok(()) => Ok(()),
            // Another process was faster; what it made is the same.
            Err(_) if layer.is_dir() => Ok(()),
            Err(source) => Err(LayerError::Io { path: layer.clone(), source }),
        });
        if let Err(error) = fs::remove_dir_all(making)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %making.display(), %error, "what was left of making a layer stays");
        }
        moved.map(|()| layer)
    }
}

/// A path of the sandbox below a layer.
fn below(layer: &Path, path: &str) -> PathBuf {
    layer.join(path.trim_start_matches('/'))
}

pub(super) fn write_file(path: &Path, contents: &[u8]) -> Result<(), LayerError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io_error(parent))?;
    }
    fs::write(path, contents).map_err(io_error(path))
}

pub(super) fn hex(hash: &[u8]) -> String {
    hash.iter().take(10).map(|byte| format!("{byte:02x}")).collect()
}

/// Files of a package: path within it, contents, permissions. Links are not followed, and left out.
fn walk(
    root: &Path,
    directory: &Path,
    files: &mut Vec<(PathBuf, Vec<u8>, u32)>,
    left: &mut u64,
) -> Result<(), LayerError> {
    for entry in fs::read_dir(directory).map_err(io_error(directory))? {
        let entry = entry.map_err(io_error(directory))?;
        let (path, name) = (entry.path(), entry.file_name());
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let kind = entry.file_type().map_err(io_error(&path))?;
        if kind.is_dir() {
            walk(root, &path, files, left)?;
        } else if kind.is_file() {
            let metadata = entry.metadata().map_err(io_error(&path))?;
            *left = left.checked_sub(metadata.len()).ok_or_else(|| LayerError::TooLarge(root.to_owned()))?;
            let contents = fs::read(&path).map_err(io_error(&path))?;
            let mode = if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            let inner = path.strip_prefix(root).unwrap_or(&path).to_owned();
            files.push((inner, contents, mode));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Manifest;
    use super::super::Runtime;
    use super::*;

    fn package(directory: &Path) -> Target {
        let manifest = Manifest {
            name: "mine".to_owned(),
            version: None,
            description: None,
            app: "server.app:app".to_owned(),
            runtime: Runtime::Hothouse,
        };
        Target::Directory { path: directory.to_owned(), manifest }
    }

    #[tokio::test]
    async fn layers_hold_the_code_as_it_was_and_are_made_once() {
        let home = tempfile::tempdir().unwrap();
        let source = tempfile::tempdir().unwrap();
        fs::create_dir_all(source.path().join("server")).unwrap();
        fs::create_dir_all(source.path().join("__pycache__")).unwrap();
        fs::write(source.path().join("server/app.py"), "one").unwrap();
        fs::write(source.path().join("__pycache__/app.pyc"), "x").unwrap();
        let layers = Layers::new(home.path());
        let first = layers.of(&package(source.path()), &[], "3.11").await.unwrap();
        assert_eq!(layers.of(&package(source.path()), &[], "3.11").await.unwrap(), first);
        let code = first[0].join("opt/hothouse/env/mine");
        assert_eq!(fs::read_to_string(code.join("server/app.py")).unwrap(), "one");
        assert!(!code.join("__pycache__").exists());
        assert!(first[1].join("opt/hothouse/kit/hothouse/worker/__main__.py").exists());
        fs::write(source.path().join("server/app.py"), "two").unwrap();
        let second = layers.of(&package(source.path()), &[], "3.11").await.unwrap();
        assert_ne!(second[0], first[0]);
        assert_eq!(second[1], first[1]);
        let left: Vec<_> =
            fs::read_dir(home.path().join("envs")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
    }
}
