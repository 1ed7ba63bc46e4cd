//! Images from registries.

use std::sync::Arc;

use hothouse_domain::image::{PullPolicy, PullSpec};
use hothouse_domain::{ImageId, ImageName};
use tokio::runtime::Handle;

use super::error::Fault;
use super::images::Images;
use super::import::import;
use super::layer::Source;
use super::library::ImageRecord;
use super::manifest::{Configuration, Descriptor, Document, choose_platform};
use super::plan::{Open, Plan, pair};
use super::progress::Progress;
use super::registry::{Blob, Registry};

impl Images {
    pub(super) async fn fetch_from_registry(
        &self,
        name: &ImageName,
        spec: &PullSpec,
        progress: &Arc<Progress>,
    ) -> Result<ImageRecord, Fault> {
        let closed = self.inner.closed.clone();
        let registry = Registry::open(name, spec.credentials.clone(), spec.plain_http, closed).await?;
        let registry = Arc::new(registry);
        if spec.pull == PullPolicy::Always
            && let Some(record) = self.unchanged(&registry, name).await?
        {
            return Ok(record);
        }
        let wanted = name.digest().map(ImageId::as_str).or(name.tag()).unwrap_or("latest");
        let (bytes, first) = registry.manifest(wanted).await?;
        let mut document = Document::parse(&bytes)?;
        let mut digests = vec![first];
        for _ in 0..4 {
            let Document::Index(manifests) = &document else { break };
            let chosen = choose_platform(manifests)?.id()?;
            let (bytes, digest) = registry.manifest(chosen.as_str()).await?;
            document = Document::parse(&bytes)?;
            digests.push(digest);
        }
        let Document::Image { config, layers } = document else {
            return Err(Fault::invalid("is an index of indexes of indexes"));
        };
        let id = config.id()?;
        let config = registry.document(&id).await?;
        let configuration = Configuration::parse(&config)?;
        // The tag without the digest is not what was asked for: it may have moved on.
        let tag = if name.digest().is_none() { name.tagged() } else { None };
        let names: Vec<ImageName> = tag.into_iter().chain(digests.into_iter().map(|d| name.at(d))).collect();
        let (images, runtime, budget, progress) =
            (self.clone(), Handle::current(), self.budget(), Arc::clone(progress));
        self.in_store(move |library| {
            let open = |descriptor: &Descriptor, id: ImageId| -> Open {
                let (registry, runtime, images) = (Arc::clone(&registry), runtime.clone(), images.clone());
                let size = descriptor.size;
                Box::new(move || {
                    let path = images.inner.library.path("blobs", &format!("{}.partial", id.digits()));
                    let mut blob = Blob::take(path)?;
                    runtime.block_on(registry.fetch(&id, size, &mut blob))?;
                    blob.read().map(|blob| Box::new(blob) as Source)
                })
            };
            let layers = pair(&layers, &configuration, open)?;
            let plan = Plan { id, configuration, config, layers, names };
            import(library, plan, &[], &budget, &progress)
        })
        .await
    }

    /// The image that the store has under this name, if the registry has the same.
    async fn unchanged(&self, registry: &Registry, name: &ImageName) -> Result<Option<ImageRecord>, Fault> {
        let library = &self.inner.library;
        let Some(known) = library.named(name)? else { return Ok(None) };
        if name.digest().is_some() {
            return Ok(Some(known));
        }
        let Some(digest) = registry.head(name.tag().unwrap_or("latest")).await? else { return Ok(None) };
        Ok(library.named(&name.at(digest))?.filter(|record| record.id == known.id))
    }
}
