//! Root file systems: what a sandbox's overlays are made of.

mod directory;
mod host;
mod skeleton;

use std::io;
use std::path::Path;

use hothouse_domain::ImageRef;

use crate::native::CreateError;
use crate::snapshot::SnapshotStore;

/// A root file system, ready to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// Mount point in the sandbox and layers of the node, topmost first; `/` is the first.
    pub(crate) overlays: Vec<(String, Vec<String>)>,
    /// Directories that must exist in the root before anything is mounted on them.
    pub(crate) directories: Vec<String>,
}

/// Mount points of every sandbox, and what every program expects.
const DIRECTORIES: [&str; 4] = ["/proc", "/dev", "/tmp", "/workspace"];

/// The images of one node.
#[derive(Debug)]
pub(crate) struct ImageStore {
    host: Image,
}

impl ImageStore {
    /// Prepares the `host` image under `home`. `idmapped` tells whether layers' owners can be mapped into sandboxes.
    pub(crate) fn open(home: &Path, idmapped: bool) -> io::Result<Self> {
        Ok(Self { host: host::prepare(&home.join("images"), idmapped)? })
    }

    /// The image behind a reference.
    pub(crate) fn resolve(
        &self,
        reference: &ImageRef,
        snapshots: &SnapshotStore,
    ) -> Result<Image, CreateError> {
        let unusable = |reason| CreateError::Image { image: reference.to_string(), reason };
        match reference {
            ImageRef::Host => Ok(self.host.clone()),
            ImageRef::Directory(path) => directory::inspect(path).map_err(unusable),
            ImageRef::Snapshot(id) => {
                let (image, layers) = snapshots.layers(id).map_err(|e| unusable(e.to_string()))?;
                if matches!(image, ImageRef::Snapshot(_)) {
                    return Err(unusable("is a change of another snapshot; it was damaged".to_owned()));
                }
                let mut image = self.resolve(&image, snapshots)?;
                if layers.len() != image.overlays.len() {
                    let (has, wants) = (layers.len(), image.overlays.len());
                    return Err(unusable(format!("has {has} layers for the {wants} overlays of its image")));
                }
                for ((_, lower), layer) in image.overlays.iter_mut().zip(layers) {
                    lower.insert(0, host::path_text(&layer).map_err(|e| unusable(e.to_string()))?);
                }
                Ok(image)
            }
        }
    }
}
