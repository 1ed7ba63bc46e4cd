//! Where sandboxes are: embedded in this process, or at a server. Commands do not care which.

mod client;
mod contexts;
mod embedded;
mod events;
mod handle;
mod images;
mod live;
pub(crate) mod tls;

pub(crate) use client::ApiClient;
pub(crate) use embedded::EmbeddedFleet;
pub(crate) use events::decode;
pub(crate) use handle::{SandboxHandle, fresh_exec_id};
pub(crate) use images::ImagePlace;
pub(crate) use live::{Input, Live};

use embedded::Embedded;
use hothouse_domain::{Capabilities, ImageInfo, ImageRef, SandboxSpec};

use crate::failure::Failure;
use crate::flags::{PlaceFlags, ServerFlags};
use crate::interrupt;

/// A place that makes sandboxes.
#[derive(Debug)]
pub(crate) enum Place {
    /// A node in this process; what it made goes when it closes.
    Embedded(Embedded),
    /// A server, by HTTP.
    Remote(ApiClient),
}

impl Place {
    /// The server that the flags name, or a node of this process for at most so many sandboxes. Close it in the end.
    pub(crate) async fn open(flags: &PlaceFlags, max_sandboxes: usize) -> Result<Self, Failure> {
        match flags.url() {
            Some(url) => Ok(Self::Remote(ApiClient::new(url)?)),
            None => Ok(Self::Embedded(Embedded::start(&flags.node, max_sandboxes).await?)),
        }
    }

    /// Opens a place, works in it, and closes it whatever happens; INT, TERM and HUP stop the work.
    pub(crate) async fn inside<T>(
        flags: &PlaceFlags,
        max_sandboxes: usize,
        work: impl AsyncFnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let place = Box::pin(Self::open(flags, max_sandboxes)).await?;
        let result = Box::pin(interrupt::or_interrupted(work(&place))).await;
        place.close().await;
        result
    }

    /// Makes a sandbox.
    pub(crate) async fn create(&self, spec: SandboxSpec) -> Result<SandboxHandle, Failure> {
        match self {
            Self::Embedded(embedded) => {
                let sandbox = embedded.node().create(spec).await?;
                Ok(SandboxHandle::here(embedded.node().clone(), sandbox))
            }
            Self::Remote(client) => {
                let info = client.create(&spec).await?;
                Ok(SandboxHandle::there(client.clone(), info.id))
            }
        }
    }

    /// An image that sandboxes are made from there.
    pub(crate) async fn image(&self, image: &ImageRef) -> Result<ImageInfo, Failure> {
        match self {
            Self::Embedded(embedded) => Ok(embedded.node().images().inspect(image).await?),
            Self::Remote(client) => client.image(image).await,
        }
    }

    /// What is enforced there.
    pub(crate) async fn capabilities(&self) -> Result<Capabilities, Failure> {
        match self {
            Self::Embedded(embedded) => Ok(embedded.node().capabilities().clone()),
            Self::Remote(client) => client.capabilities().await,
        }
    }

    /// Ends an embedded node with all that it made; a server stays as it is.
    pub(crate) async fn close(self) {
        match self {
            Self::Embedded(embedded) => embedded.close().await,
            Self::Remote(_) => {}
        }
    }
}

impl ServerFlags {
    /// The server that the flags name, or the default one.
    pub(crate) fn client(&self) -> Result<ApiClient, Failure> {
        ApiClient::new(self.url().unwrap_or(ApiClient::DEFAULT_URL))
    }
}
