//! Root file systems: what a sandbox's overlays are made of.

mod above;
mod budget;
mod collect;
mod credentials;
mod daemon;
mod digest;
mod directory;
mod error;
mod export;
mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod host;
mod images;
mod import;
mod layer;
mod library;
mod local;
mod manifest;
mod mount_points;
mod pack;
mod plan;
mod progress;
mod registry;
mod remote;
mod remove;
mod skeleton;
mod tar_reader;
#[cfg(test)]
mod tests;
mod transfer;
mod tree;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use hothouse_domain::image::ImageConfig;
use hothouse_domain::{ImageId, ImageRef, LayerRef, PullPolicy, SandboxSpec};

pub use self::budget::ImageLimits;
pub use self::error::ImageError;
pub use self::images::{Images, Pull};
pub(crate) use self::library::Pin;
pub use self::progress::Progress;

use self::library::{ImageRecord, key};
use crate::native::{Borrowed, CreateError};
use crate::snapshot::SnapshotStore;

/// A directory of the node that a sandbox gets to see.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// What the spawner makes known to sandboxes; layers of the store have one together.
    pub(crate) tree: String,
    /// Where in that; empty for all of it.
    pub(crate) below: String,
    /// Instead: what a sandbox has lent, and the layer of which of its overlays.
    pub(crate) lent: Option<(Arc<Borrowed>, usize)>,
}

impl Layer {
    /// A directory of a tree.
    pub(crate) fn within(tree: String, below: String) -> Self {
        Self { tree, below, lent: None }
    }

    /// A directory of its own.
    pub(crate) fn whole(tree: String) -> Self {
        Self::within(tree, String::new())
    }
}

/// A root file system, ready to be mounted.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Mount point in the sandbox and layers of the node, topmost first; `/` is the first.
    pub(crate) overlays: Vec<(String, Vec<Layer>)>,
    /// Directories that must exist in the root before anything is mounted on them.
    pub(crate) directories: Vec<String>,
    /// What it says of how it is used.
    pub(crate) config: Arc<ImageConfig>,
    /// The directories of the node that lie above it: those that a snapshot was made with, and then the sandbox's own.
    pub(crate) layers: Vec<LayerRef>,
    /// Keeps it from being removed.
    pub(crate) pin: Option<Arc<Pin>>,
}

/// Mount points of every sandbox, and what every program expects.
const DIRECTORIES: [&str; 4] = ["/proc", "/dev", "/tmp", "/workspace"];
/// Images whose composition is remembered.
const MAX_COMPOSED: usize = 1024;

/// The images of one node.
#[derive(Debug)]
pub(crate) struct ImageStore {
    host: Image,
    images: Images,
    /// Found out once: an image with this id never changes.
    composed: Mutex<HashMap<ImageId, Image>>,
}

impl ImageStore {
    /// Prepares the `host` image under `home`. `idmapped` tells whether layers' owners can be mapped into sandboxes.
    pub(crate) fn open(home: &Path, idmapped: bool, limits: ImageLimits) -> io::Result<Self> {
        let path = home.join("images");
        let host = host::prepare(&path, idmapped)?;
        Ok(Self { host, images: Images::open(&path, limits)?, composed: Mutex::default() })
    }

    /// Those that are fetched.
    pub(crate) fn images(&self) -> &Images {
        &self.images
    }

    /// The image that a sandbox is to be made from; fetched where that is wanted.
    pub(crate) async fn resolve(
        &self,
        spec: &SandboxSpec,
        snapshots: &SnapshotStore,
    ) -> Result<Image, CreateError> {
        let unusable = |reason| CreateError::Image { image: spec.image.to_string(), reason };
        let (mut base, mut pull) = (spec.image.clone(), spec.pull);
        let (mut changes, mut above) = (Vec::new(), Vec::new());
        while let ImageRef::Snapshot(id) = &base {
            let changed = snapshots.changes(id).map_err(|e| unusable(e.to_string()))?;
            if changes.is_empty() {
                // It has all that the ones before it had.
                above = changed.image_layers;
            }
            changes.push((changed.layers, changed.lent));
            (base, pull) = (changed.image, PullPolicy::Never);
        }
        let mut image = self.base(&base, pull).await?;
        let own: Vec<LayerRef> = spec.layers.iter().filter(|layer| !above.contains(layer)).cloned().collect();
        above.extend(own);
        above::put(&mut image, &above).map_err(unusable)?;
        image.layers = above;
        for (layers, lent) in changes.into_iter().rev() {
            if layers.len() != image.overlays.len() {
                let (has, wants) = (layers.len(), image.overlays.len());
                return Err(unusable(format!("has {has} layers for the {wants} overlays of its image")));
            }
            for (number, ((_, lower), layer)) in image.overlays.iter_mut().zip(layers).enumerate() {
                let lent = lent.clone().map(|lent| (lent, number));
                lower.insert(0, Layer { lent, ..Layer::whole(path_text(&layer).map_err(unusable)?) });
            }
        }
        Ok(image)
    }

    /// An image that is no snapshot.
    pub(crate) async fn base(&self, reference: &ImageRef, pull: PullPolicy) -> Result<Image, CreateError> {
        let invalid = |reason| CreateError::Image { image: reference.to_string(), reason };
        match reference {
            ImageRef::Host => return Ok(self.host.clone()),
            ImageRef::Directory(path) => return directory::inspect(path).map_err(invalid),
            ImageRef::Snapshot(_) => {
                return Err(invalid("is a change of another snapshot; it was damaged".to_owned()));
            }
            _ => {}
        }
        let (pin, record) = self.images.pinned(reference, pull).await?;
        let known = self.composed.lock().unwrap_or_else(PoisonError::into_inner).get(pin.id()).cloned();
        let image = match known {
            Some(image) => image,
            None => {
                let image = self.compose(&record).map_err(invalid)?;
                let mut composed = self.composed.lock().unwrap_or_else(PoisonError::into_inner);
                if composed.len() >= MAX_COMPOSED {
                    composed.clear();
                }
                composed.insert(record.id, image.clone());
                image
            }
        };
        Ok(Image { pin: Some(pin), ..image })
    }

    fn compose(&self, record: &ImageRecord) -> Result<Image, String> {
        let library = &self.images.inner.library;
        let tree = library.layers();
        let mut layers = Vec::with_capacity(record.layers.len());
        for layer in record.layers.iter().rev() {
            layers.push(Layer::within(path_text(&tree)?, key(&layer.digest).to_owned()));
            // It hides all that is below it.
            if layer.opaque {
                break;
            }
        }
        if layers.is_empty() {
            return Err("has no layers, so there is nothing to run".to_owned());
        }
        let directories: Vec<_> = layers.iter().map(|layer| tree.join(&layer.below)).collect();
        mount_points::check(&directories)?;
        Ok(Image {
            overlays: vec![("/".to_owned(), layers)],
            directories: DIRECTORIES.map(str::to_owned).to_vec(),
            config: Arc::new(record.config.clone()),
            layers: Vec::new(),
            pin: None,
        })
    }
}

/// A path as mounts take it.
fn path_text(path: &Path) -> Result<String, String> {
    // A colon separates layers in the options of a mount.
    match path.to_str() {
        Some(text) if !text.contains([':', ',', '\\']) => Ok(text.to_owned()),
        Some(_) | None => Err(format!(
            "{} has a colon, comma, backslash or bytes that are not UTF-8; choose another home",
            path.display()
        )),
    }
}
