//! What `fuzz/` gets hold of: the readers of images as an import uses them, without the store around them.

use std::fs::File;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use super::budget::{Budget, ImageLimits};
use super::error::Fault;
use super::files::Files;
use super::layer::{self, Expected, Source};
use super::manifest::{Configuration, Document, choose_named, choose_platform};
use super::plan::{self, Plan};
use super::progress::Progress;
use super::tree::{Owners, Tree, Whiteouts};

/// What becomes of whiteouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// A directory for each layer: they are kept.
    Apart,
    /// One directory for all: they are carried out.
    Merged,
}

/// What kind of archive an image is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// An OCI layout.
    Oci,
    /// What `docker save` writes.
    Docker,
}

fn budget(limits: ImageLimits) -> Budget {
    Budget::new(limits, Arc::default())
}

fn into_tree(
    sources: impl Iterator<Item = Result<(Source, Expected), Fault>>,
    directory: &Path,
    stack: Stack,
    budget: &Budget,
) -> Result<(), Fault> {
    let whiteouts = match stack {
        Stack::Apart => Whiteouts::Keep,
        Stack::Merged => Whiteouts::Apply,
    };
    let root = File::open(directory).map_err(|e| Fault::io(directory.display(), &e))?;
    let mut tree = Tree::new(root.into(), Owners::Ours, whiteouts, budget);
    for source in sources {
        let (source, expected) = source?;
        layer::unpack(source, &expected, &mut tree, budget, &Progress::default())?;
    }
    tree.finish().map(drop)
}

/// Unpacks layers over each other into a directory.
///
/// # Errors
/// Why they are refused.
pub fn unpack(layers: &[Vec<u8>], directory: &Path, stack: Stack, limits: ImageLimits) -> Result<(), String> {
    let sources = layers.iter().map(|layer| {
        let source: Source = Box::new(Cursor::new(layer.clone()));
        Ok((source, Expected::default()))
    });
    into_tree(sources, directory, stack, &budget(limits)).map_err(|fault| fault.reason)
}

/// Plans the image in an archive, and unpacks its layers into one directory.
///
/// # Errors
/// Why it is refused.
pub fn import(
    archive: File,
    kind: Archive,
    name: Option<&str>,
    directory: &Path,
    limits: ImageLimits,
) -> Result<(), String> {
    let imported = || {
        let files = Files::archive(archive)?;
        let Plan { layers, configuration, .. } = match kind {
            Archive::Oci => plan::oci(&files, name)?,
            Archive::Docker => plan::saved(&files, name)?,
        };
        drop(configuration.usage());
        let sources = layers.into_iter().map(|layer| Ok(((layer.open)()?, layer.expected)));
        into_tree(sources, directory, Stack::Merged, &budget(limits))
    };
    imported().map_err(|fault: Fault| fault.reason)
}

/// Reads a manifest, an index or a configuration as far as a registry's would be.
///
/// # Errors
/// Why neither of them can be read.
pub fn document(bytes: &[u8]) -> Result<(), String> {
    let configuration = Configuration::parse(bytes).and_then(|configuration| {
        drop(configuration.usage());
        configuration.diff_ids()
    });
    let document = Document::parse(bytes).and_then(|document| match document {
        Document::Index(manifests) => {
            choose_named(&manifests, Some("a")).or_else(|_| choose_platform(&manifests))?.id()
        }
        Document::Image { config, layers } => {
            layers.iter().try_for_each(|layer| layer.id().map(drop))?;
            config.id()
        }
    });
    configuration.map(drop).or(document.map(drop)).map_err(|fault| fault.reason)
}
