//! Images of the Docker daemon of this machine, by its own API.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use futures::StreamExt as _;
use hothouse_domain::{ErrorCode, ImageId, ImageName};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::error::Fault;

const SOCKET: &str = "/var/run/docker.sock";

/// The Docker daemon of this machine.
#[derive(Debug)]
pub(super) struct Daemon {
    http: Client,
    socket: PathBuf,
}

impl Daemon {
    /// The one that `DOCKER_HOST` names, or that of the machine.
    pub(super) fn open() -> Result<Self, Fault> {
        let named = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        let socket = match named.as_deref() {
            None => PathBuf::from(SOCKET),
            Some(host) => match host.strip_prefix("unix://") {
                Some(path) => PathBuf::from(path),
                None => {
                    let reason = format!("DOCKER_HOST is {host:?}; only unix:///path can be reached");
                    return Err(Fault::unavailable(reason));
                }
            },
        };
        let config = crate::tls::trusting_nobody().map_err(|e| Fault::unavailable(e.to_string()))?;
        let http = Client::builder()
            .tls_backend_preconfigured(config)
            .unix_socket(socket.clone())
            .build()
            .map_err(|e| Fault::unavailable(format!("making an HTTP client: {e}")))?;
        Ok(Self { http, socket })
    }

    async fn get(&self, name: &ImageName, what: &str) -> Result<Response, Fault> {
        let at = self.socket.display();
        let url: Url = format!("http://docker/images/{}/{what}", name.familiar())
            .parse()
            .map_err(|e| Fault::invalid(format!("{name}: {e}")))?;
        let response = self.http.get(url).send().await.map_err(|e| {
            Fault::unavailable(format!("no Docker daemon answers at {at} ({e}); start it or set DOCKER_HOST"))
        })?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND => {
                let reason =
                    format!("the Docker daemon at {at} has no such image; `docker images` lists them");
                Err(Fault { code: ErrorCode::ImageNotFound, reason })
            }
            status => Err(Fault::unavailable(format!("the Docker daemon at {at} answered {status}"))),
        }
    }

    /// The id of an image, which changes whenever the image does.
    pub(super) async fn id(&self, name: &ImageName) -> Result<ImageId, Fault> {
        #[derive(Deserialize)]
        struct Inspected {
            #[serde(rename = "Id")]
            id: String,
        }
        let response = self.get(name, "json").await?;
        let bytes = response.bytes().await.map_err(|e| Fault::unavailable(e.to_string()))?;
        let inspected: Inspected = super::manifest::json("what the Docker daemon says", &bytes)?;
        super::digest::parse(&inspected.id)
    }

    /// Writes an image to a file as `docker save` does.
    pub(super) async fn save(
        &self,
        name: &ImageName,
        file: &mut File,
        max_bytes: u64,
        closing: &CancellationToken,
    ) -> Result<(), Fault> {
        let mut chunks = self.get(name, "get").await?.bytes_stream();
        let mut bytes = 0;
        loop {
            let chunk = tokio::select! {
                chunk = chunks.next() => chunk,
                () = closing.cancelled() => return Err(Fault::unavailable("was stopped")),
            };
            let Some(chunk) = chunk else { return Ok(()) };
            let chunk = chunk.map_err(|e| Fault::unavailable(format!("the Docker daemon broke off: {e}")))?;
            bytes += chunk.len() as u64;
            if bytes > max_bytes {
                return Err(Fault::too_large(format!("has more than {max_bytes} bytes")));
            }
            file.write_all(&chunk).map_err(|e| Fault::store("writing what the Docker daemon gives", &e))?;
        }
    }
}
