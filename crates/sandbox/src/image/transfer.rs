//! Archives of images that flow in and out.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use hothouse_domain::{ImageId, ImageInfo, ImageName, ImageRef};
use tokio::sync::mpsc;

use super::error::{Fault, ImageError};
use super::export;
use super::images::{Images, find};
use super::import::Import;
use super::progress::Progress;

/// Pieces of an archive that wait for whoever reads it.
const QUEUE: usize = 4;
const PIECE: usize = 256 << 10;

impl Images {
    /// [`import`](Self::import) of an archive that flows in. `name` is which of several, `names` what it is called here.
    ///
    /// # Errors
    /// [`ImageError`]: as there, or it broke off; nothing of it is kept.
    pub async fn receive(
        &self,
        mut content: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
        name: Option<String>,
        names: Vec<ImageName>,
        progress: Arc<Progress>,
    ) -> Result<ImageInfo, ImageError> {
        let uploaded = |fault: Fault| fault.of("upload");
        let library = &self.inner.library;
        let scratch = Import::begin(library, &[]).map_err(uploaded)?;
        let path = scratch.path().join("upload");
        let kept = |e: io::Error| Fault::store("keeping the archive", &e).of("upload");
        let mut file = File::create(&path).map_err(kept)?;
        let mut bytes = 0;
        while let Some(piece) = content.next().await {
            let piece = piece.map_err(|e| Fault::invalid(format!("broke off: {e}")).of("upload"))?;
            bytes += piece.len() as u64;
            if bytes > library.limits.max_bytes {
                let most = library.limits.max_bytes;
                return Err(Fault::too_large(format!("has more than {most} bytes")).of("upload"));
            }
            // A page cache takes it in microseconds.
            file.write_all(&piece).map_err(kept)?;
        }
        drop(file);
        let imported = self.import(&path, name, names, progress).await;
        imported.map_err(|error| ImageError { image: "upload".to_owned(), ..error })
    }

    /// An image as an archive: what `docker save` writes, and an OCI layout too. An error comes in its middle as one of
    /// the stream's.
    ///
    /// # Errors
    /// [`ImageError`]: there is none.
    pub async fn export(
        &self,
        image: &ImageRef,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + Unpin + use<>, ImageError> {
        let (wanted, shown) = (image.clone(), image.to_string());
        let (record, names) = self
            .blocking(shown.clone(), move |library| {
                let record = find(library, &wanted)?;
                let names = library.names()?;
                let is_own = |(name, id): &(ImageName, ImageId)| *id == record.id && name.tag().is_some();
                let own: Vec<ImageName> = names.into_iter().filter(is_own).map(|(name, _)| name).collect();
                Ok((record, own))
            })
            .await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let images = self.clone();
        // Ends when all is written, or nobody reads any more.
        drop(tokio::task::spawn_blocking(move || {
            let pieces = Pieces { sender: sender.clone(), buffer: Vec::with_capacity(PIECE) };
            if let Err(fault) = export::export(&images.inner.library, &record, &names, pieces) {
                // Nobody reads any more when this fails, so nobody wants to know.
                drop(sender.blocking_send(Err(io::Error::other(fault.of(shown)))));
            }
        }));
        Ok(Box::pin(futures::stream::unfold(receiver, async |mut receiver| {
            Some((receiver.recv().await?, receiver))
        })))
    }
}

/// Collects small writes into pieces.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE)));
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        if piece.is_empty() { Ok(()) } else { self.sender.blocking_send(Ok(piece)).map_err(|_| gone()) }
    }
}
