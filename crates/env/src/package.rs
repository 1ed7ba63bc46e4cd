//! Packages of environments: a directory with an `openenv.yaml`, or a name of Gymnasium's or PettingZoo's, and what it
//! takes to run it in a sandbox, as directories that are laid below its root.
//!
//! ```text
//! $HOTHOUSE_HOME/envs/kit-<hash>/opt/hothouse/kit/…        our own Python, from this program
//! $HOTHOUSE_HOME/envs/site-<hash>/opt/hothouse/site/…      what the environment requires, by pip
//! $HOTHOUSE_HOME/envs/code-<hash>/opt/hothouse/env/NAME/…  its code, as it was when it was served
//! ```
//!
//! Each is made once for its content, and never changed after.

mod asgi;
mod description;
mod home;
mod kit;
mod layers;
mod manifest;
mod running;
mod site;

use std::path::{Path, PathBuf};

pub use layers::{LayerError, Layers};
pub use manifest::{Manifest, ManifestError, Runtime};
pub use running::{PackageOptions, environment};

/// Where an environment's code lies in its sandbox.
pub const CODE: &str = "/opt/hothouse/env";
/// Where what it requires lies.
pub const SITE: &str = "/opt/hothouse/site";
/// Where our own Python lies.
pub const KIT: &str = "/opt/hothouse/kit";

/// What is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A directory.
    Directory {
        /// Which.
        path: PathBuf,
        /// What it says of itself.
        manifest: Manifest,
    },
    /// A Gymnasium environment, `gym:ID`.
    Gymnasium(String),
    /// A PettingZoo environment, `pettingzoo:FAMILY/NAME`.
    PettingZoo(String),
}

impl Target {
    /// What a name means, if it is none of the environments that come with Hothouse.
    ///
    /// # Errors
    /// [`ManifestError`]: it is a directory that cannot be served.
    pub fn parse(name: &str) -> Result<Option<Self>, ManifestError> {
        if let Some(id) = name.strip_prefix("gym:").filter(|id| !id.is_empty()) {
            return Ok(Some(Self::Gymnasium(id.to_owned())));
        }
        if let Some(id) = name.strip_prefix("pettingzoo:").filter(|id| !id.is_empty()) {
            return Ok(Some(Self::PettingZoo(id.to_owned())));
        }
        let path = Path::new(name);
        if !path.is_dir() {
            return Ok(None);
        }
        let path =
            path.canonicalize().map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
        let manifest = Manifest::read(&path)?;
        Ok(Some(Self::Directory { path, manifest }))
    }

    /// What a worker is told to play.
    #[must_use]
    pub fn for_worker(&self) -> String {
        match self {
            Self::Directory { manifest, .. } => manifest.app.clone(),
            Self::Gymnasium(id) => format!("gym:{id}"),
            Self::PettingZoo(id) => format!("pettingzoo:{id}"),
        }
    }

    /// What it requires, as pip takes it.
    ///
    /// # Errors
    /// [`ManifestError`]: that cannot be read.
    pub fn requirements(&self) -> Result<Vec<String>, ManifestError> {
        match self {
            Self::Directory { path, manifest } => manifest.requirements(path),
            Self::Gymnasium(_) => Ok(vec!["gymnasium>=1,<2".to_owned()]),
            Self::PettingZoo(_) => Ok(vec!["pettingzoo>=1.24".to_owned()]),
        }
    }

    /// Whether it is a server of its own, or played by our worker.
    #[must_use]
    pub fn runtime(&self) -> Runtime {
        match self {
            Self::Directory { manifest, .. } => manifest.runtime,
            Self::Gymnasium(_) | Self::PettingZoo(_) => Runtime::Hothouse,
        }
    }

    /// Where its code lies in the sandbox, first what is looked through first. That it is a package beside others comes last:
    /// many are called as the library that they play with.
    #[must_use]
    pub fn python_path(&self) -> String {
        match self {
            Self::Directory { manifest, .. } => format!("{CODE}/{}:{KIT}:{SITE}:{CODE}", manifest.name),
            Self::Gymnasium(_) | Self::PettingZoo(_) => format!("{KIT}:{SITE}"),
        }
    }
}
