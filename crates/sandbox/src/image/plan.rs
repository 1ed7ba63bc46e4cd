//! What an image is made of, found out before anything is unpacked.

use hothouse_domain::{ImageId, ImageName};

use super::digest;
use super::error::Fault;
use super::files::Files;
use super::layer::{Expected, Source};
use super::manifest::{Configuration, Descriptor, Document, Saved, choose_named, choose_platform, json};

/// How a layer's bytes are got at; called in a thread that may wait.
pub(super) type Open = Box<dyn Fn() -> Result<Source, Fault> + Send + Sync>;

/// One layer, the lowest first.
pub(super) struct PlannedLayer {
    pub(super) diff: ImageId,
    pub(super) expected: Expected,
    /// Bytes at the source; 0 where that is not known.
    pub(super) bytes: u64,
    pub(super) open: Open,
}

/// An image that can be unpacked.
pub(super) struct Plan {
    pub(super) id: ImageId,
    pub(super) configuration: Configuration,
    /// As it came.
    pub(super) config: Vec<u8>,
    pub(super) layers: Vec<PlannedLayer>,
    pub(super) names: Vec<ImageName>,
}

fn blob(id: &ImageId) -> String {
    format!("blobs/sha256/{}", id.digits())
}

fn checked(files: &Files, descriptor: &Descriptor) -> Result<Vec<u8>, Fault> {
    let id = descriptor.id()?;
    let bytes = files.document(&blob(&id)).map_err(|fault| fault.within(&id))?;
    let found = digest::of(&bytes);
    if found == id {
        Ok(bytes)
    } else {
        Err(Fault::invalid(format!("blob {id} is corrupt: its digest is {found}")))
    }
}

/// The layers of a manifest with what the configuration calls them.
pub(super) fn pair(
    layers: &[Descriptor],
    configuration: &Configuration,
    open: impl Fn(&Descriptor, ImageId) -> Open,
) -> Result<Vec<PlannedLayer>, Fault> {
    let diffs = configuration.diff_ids()?;
    if diffs.len() != layers.len() {
        let (here, there) = (layers.len(), diffs.len());
        return Err(Fault::invalid(format!(
            "its manifest has {here} layers and its configuration {there}; is it an image at all?"
        )));
    }
    let planned = layers.iter().zip(diffs).map(|(descriptor, diff)| {
        let id = descriptor.id()?;
        let expected = Expected { blob: Some(id.clone()), diff: Some(diff.clone()) };
        Ok(PlannedLayer { diff, expected, bytes: descriptor.size, open: open(descriptor, id) })
    });
    planned.collect()
}

/// An image in OCI's layout.
pub(super) fn oci(files: &Files, name: Option<&str>) -> Result<Plan, Fault> {
    let index = Document::parse(&files.document("index.json")?)?;
    let Document::Index(manifests) = index else {
        return Err(Fault::invalid("index.json is no index"));
    };
    let mut chosen = choose_named(&manifests, name)?;
    for _ in 0..4 {
        match Document::parse(&checked(files, &chosen)?)? {
            Document::Index(manifests) => chosen = choose_platform(&manifests)?,
            Document::Image { config, layers } => {
                let document = checked(files, &config)?;
                let configuration = Configuration::parse(&document)?;
                let open = |_: &Descriptor, id: ImageId| -> Open {
                    let files = files.clone();
                    Box::new(move || files.open(&blob(&id)).map(|(source, _)| source))
                };
                let layers = pair(&layers, &configuration, open)?;
                for layer in &layers {
                    let id = layer.expected.blob.as_ref().unwrap_or(&layer.diff);
                    if !files.has(&blob(id)) {
                        return Err(Fault::invalid(format!("layer {id} is missing")));
                    }
                }
                let (id, names) = (config.id()?, Vec::new());
                return Ok(Plan { id, configuration, config: document, layers, names });
            }
        }
    }
    Err(Fault::invalid("is an index of indexes of indexes"))
}

/// What `docker save` writes.
pub(super) fn saved(files: &Files, name: Option<&str>) -> Result<Plan, Fault> {
    let all: Vec<Saved> = json("manifest.json", &files.document("manifest.json")?)?;
    let names = |saved: &Saved| -> Vec<ImageName> {
        let tags = saved.repo_tags.iter().flatten();
        tags.filter_map(|tag| ImageName::parse(tag).ok()).collect()
    };
    let saved = match (name, all.as_slice()) {
        (Some(name), all) => {
            let wanted = ImageName::parse(name).map_err(Fault::invalid)?;
            all.iter().find(|saved| names(saved).contains(&wanted)).ok_or_else(|| {
                let known: Vec<String> =
                    all.iter().flat_map(names).map(|name| name.familiar()).take(16).collect();
                Fault::missing(format!("has no image named {name:?}; it has {known:?}"))
            })?
        }
        (None, [one]) => one,
        (None, all) => {
            return Err(Fault::invalid(format!("holds {} images; name one with :NAME", all.len())));
        }
    };
    let config = files.document(&saved.config)?;
    let configuration = Configuration::parse(&config)?;
    let diffs = configuration.diff_ids()?;
    if diffs.len() != saved.layers.len() {
        return Err(Fault::invalid("manifest.json and the configuration name different numbers of layers"));
    }
    let mut layers = Vec::with_capacity(diffs.len());
    for (diff, name) in diffs.into_iter().zip(&saved.layers) {
        let (_, bytes) = files.open(name).map_err(|fault| fault.within(format!("layer {diff}")))?;
        let (files, name) = (files.clone(), name.clone());
        let open: Open = Box::new(move || files.open(&name).map(|(source, _)| source));
        let expected = Expected { blob: None, diff: Some(diff.clone()) };
        layers.push(PlannedLayer { diff, expected, bytes, open });
    }
    Ok(Plan { id: digest::of(&config), configuration, config, layers, names: names(saved) })
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("id", &self.id).field("layers", &self.layers.len()).finish()
    }
}

/// The digests of chains of layers, as OCI computes them: that of the lowest layer, then of each with all below it.
pub(super) fn chains(diffs: &[ImageId]) -> Vec<ImageId> {
    let mut chains: Vec<ImageId> = Vec::with_capacity(diffs.len());
    for diff in diffs {
        let chain = match chains.last() {
            Some(below) => digest::of(format!("{below} {diff}").as_bytes()),
            None => diff.clone(),
        };
        chains.push(chain);
    }
    chains
}
