//! The images of a home or of a server.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use hothouse_domain::image::{ImageProgress, PruneSpec, Pruned, PullEvent};
use hothouse_domain::{ErrorCode, ImageInfo, ImageName, ImageRef, PullSpec};
use hothouse_sandbox::Images;
use hothouse_sandbox::image::Progress;
use reqwest::{Method, header};
use tokio_util::io::ReaderStream;

use super::client::ApiClient;
use super::events::Lines;
use crate::failure::Failure;
use crate::flags::PlaceFlags;

/// Bytes of an archive that flow at once.
const PIECE: usize = 256 << 10;

/// Where images are.
#[derive(Debug)]
pub(crate) enum ImagePlace {
    /// In this process' own home.
    Here(Images),
    /// At a server.
    There(ApiClient),
}

/// An image that is being exported.
pub(crate) type Archive = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, Failure>> + Send>>;

impl ImagePlace {
    /// The server that the flags name, or the home of this process.
    pub(crate) fn open(flags: &PlaceFlags) -> Result<Self, Failure> {
        if let Some(url) = flags.url() {
            return Ok(Self::There(ApiClient::new(url)?));
        }
        let images = flags.node.home()?.join("images");
        let opened = Images::open(&images, flags.node.image_limits());
        Ok(Self::Here(opened.map_err(|e| Failure::io(format_args!("opening {}", images.display()), &e))?))
    }

    /// Fetches an image.
    pub(crate) async fn pull(
        &self,
        spec: PullSpec,
        mut tell: impl FnMut(ImageProgress),
    ) -> Result<ImageInfo, Failure> {
        match self {
            Self::Here(images) => {
                let pull = images.pull(spec);
                let mut told = pull.progress().watch();
                let mut done = Box::pin(pull.done());
                loop {
                    tokio::select! {
                        biased;
                        outcome = &mut done => return Ok(outcome?),
                        Ok(()) = told.changed() => tell(*told.borrow_and_update()),
                    }
                }
            }
            Self::There(client) => {
                let request = client
                    .request(Method::POST, &["v1", "images", "pull"])
                    .header(header::ACCEPT, "application/x-ndjson")
                    .json(&spec);
                let mut response = client.send(request).await?;
                let mut lines = Lines::default();
                while let Some(bytes) = response.chunk().await.map_err(|e| client.failure(&e))? {
                    lines.put(&bytes);
                    while let Some(line) = lines.take() {
                        match serde_json::from_str(&line)? {
                            PullEvent::Progress(progress) => tell(progress),
                            PullEvent::Done(image) => return Ok(*image),
                            PullEvent::Failed(problem) => return Err((*problem).into()),
                        }
                    }
                }
                let text = format!("{} closed the stream before the image was there", client.base());
                Err(Failure::new(ErrorCode::Internal, text).hint("it goes on there; pull again to see"))
            }
        }
    }

    /// Makes what is in a local file or directory an image.
    pub(crate) async fn import(
        &self,
        path: &Path,
        which: Option<String>,
        names: Vec<ImageName>,
    ) -> Result<ImageInfo, Failure> {
        let failed = |e: &std::io::Error| Failure::io(path.display(), e);
        match self {
            Self::Here(images) => {
                let path = std::path::absolute(path).map_err(|e| failed(&e))?;
                Ok(images.import(&path, which, names, Arc::<Progress>::default()).await?)
            }
            Self::There(client) => {
                if path.is_dir() {
                    let hint = format!("pack it first, e.g. tar -C {} -cf image.tar .", path.display());
                    return Err(
                        Failure::usage("PATH", "is a directory, which a server does not take").hint(hint)
                    );
                }
                let file = tokio::fs::File::open(path).await.map_err(|e| failed(&e))?;
                let body = reqwest::Body::wrap_stream(ReaderStream::with_capacity(file, PIECE));
                let mut query: Vec<(&str, String)> = Vec::new();
                query.extend(names.iter().map(|name| ("name", name.to_string())));
                query.extend(which.map(|which| ("which", which)));
                let request = client
                    .request(Method::POST, &["v1", "images", "import"])
                    .query(&query)
                    .header(header::CONTENT_TYPE, "application/x-tar")
                    .body(body);
                client.send_json(request).await
            }
        }
    }

    /// All images, the newest first.
    pub(crate) async fn list(&self) -> Result<Vec<ImageInfo>, Failure> {
        match self {
            Self::Here(images) => Ok(images.list().await?),
            Self::There(client) => client.items(&["v1", "images"]).await,
        }
    }

    /// One image.
    pub(crate) async fn inspect(&self, image: &ImageRef) -> Result<ImageInfo, Failure> {
        match self {
            Self::Here(images) => Ok(images.inspect(image).await?),
            Self::There(client) => client.image(image).await,
        }
    }

    /// Removes an image, or one of its names.
    pub(crate) async fn remove(&self, image: &ImageRef) -> Result<Pruned, Failure> {
        match self {
            Self::Here(images) => Ok(images.remove(image).await?),
            Self::There(client) => {
                let name = image.to_string();
                client.send_json(client.request(Method::DELETE, &["v1", "images", &name])).await
            }
        }
    }

    /// Removes images that nothing uses.
    pub(crate) async fn prune(&self, spec: PruneSpec) -> Result<Pruned, Failure> {
        match self {
            Self::Here(images) => Ok(images.prune(spec).await?),
            Self::There(client) => {
                client.send_json(client.request(Method::POST, &["v1", "images", "prune"]).json(&spec)).await
            }
        }
    }

    /// An image as an archive.
    pub(crate) async fn export(&self, image: &ImageRef) -> Result<Archive, Failure> {
        match self {
            Self::Here(images) => {
                let archive = images.export(image).await?;
                Ok(Box::pin(archive.map(|piece| {
                    piece.map_err(|e| Failure::new(ErrorCode::Internal, format!("exporting: {e}")))
                })))
            }
            Self::There(client) => {
                let name = image.to_string();
                let request = client.request(Method::GET, &["v1", "images", &name, "archive"]);
                let response = client.send(request).await?;
                let client = client.clone();
                Ok(Box::pin(response.bytes_stream().map(move |piece| piece.map_err(|e| client.failure(&e)))))
            }
        }
    }

    /// Ends what is under way.
    pub(crate) async fn close(self) {
        match self {
            Self::Here(images) => images.close().await,
            Self::There(_) => {}
        }
    }
}
