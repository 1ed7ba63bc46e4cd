//! One layer, from its blob to a directory: read, hashed and decompressed by one thread, written by another.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use hothouse_domain::ImageId;

use super::budget::Budget;
use super::digest::{Hasher, HashingReader};
use super::error::Fault;
use super::progress::Progress;
use super::tar_reader::TarReader;
use super::tree::Tree;

/// Bytes that go from thread to thread at once.
const CHUNK: usize = 256 << 10;
/// Chunks between the threads.
const CHUNKS: usize = 8;
/// The largest window that zstd may ask for, as a power of two: 128 MiB, which is its own default.
const MAX_WINDOW_LOG: u32 = 27;

/// Where a layer's bytes come from.
pub(super) type Source = Box<dyn Read + Send>;

/// What the bytes must be.
#[derive(Debug, Clone, Default)]
pub(super) struct Expected {
    /// As they are stored.
    pub(super) blob: Option<ImageId>,
    /// Decompressed.
    pub(super) diff: Option<ImageId>,
}

/// What the bytes are.
#[derive(Debug)]
pub(super) struct Digests {
    pub(super) diff: ImageId,
}

/// How bytes are compressed, by how they begin.
fn decompress<'a>(mut source: impl BufRead + Send + 'a) -> Result<Box<dyn Read + Send + 'a>, Fault> {
    let head = source.fill_buf().map_err(|e| Fault::io("reading", &e))?;
    match head {
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(source))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder =
                zstd::Decoder::with_buffer(source).map_err(|e| Fault::io("starting zstd", &e))?;
            decoder.window_log_max(MAX_WINDOW_LOG).map_err(|e| Fault::io("starting zstd", &e))?;
            Ok(Box::new(decoder))
        }
        [b'B', b'Z', b'h', ..] => Err(Fault::invalid("is compressed with bzip2; use gzip or zstd")),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(Fault::invalid("is compressed with xz; use gzip or zstd")),
        _ => Ok(Box::new(source)),
    }
}

/// Counts what is read, for whoever watches.
struct Counted<'a, R> {
    inner: R,
    progress: &'a Progress,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.progress.read(count as u64);
        Ok(count)
    }
}

/// Unpacks a layer into a tree, and checks that it is the one that is wanted.
pub(super) fn unpack(
    source: Source,
    expected: &Expected,
    tree: &mut Tree<'_>,
    budget: &Budget,
    progress: &Progress,
) -> Result<Digests, Fault> {
    std::thread::scope(|scope| {
        let (full, chunks) = sync_channel(CHUNKS);
        let (empty, spare) = channel();
        let reader = scope.spawn(move || read(source, &full, &spare, expected, budget, progress));
        let mut archive = TarReader::new(Chunks { chunks, empty, current: Vec::new(), at: 0 });
        let written = tree.extend(&mut archive);
        let mut rest = archive.into_inner();
        // What comes behind the archive's end counts for its digest.
        let drained = written.and_then(|()| rest.drain());
        drop(rest);
        let read = match reader.join() {
            Ok(read) => read,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        match (drained, read) {
            // What the reader says is the cause.
            (_, Err(Stopped::Fault(fault))) => Err(fault),
            (Err(fault), _) => Err(fault),
            (Ok(()), Ok(diff)) => Ok(Digests { diff }),
            (Ok(()), Err(Stopped::Unheard)) => Err(Fault::invalid("its reader ended early")),
        }
    })
}

/// Why the reading thread ended early.
enum Stopped {
    Fault(Fault),
    /// The writing thread has failed and listens no more.
    Unheard,
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn read(
    source: Source,
    full: &SyncSender<Vec<u8>>,
    spare: &Receiver<Vec<u8>>,
    expected: &Expected,
    budget: &Budget,
    progress: &Progress,
) -> Result<ImageId, Stopped> {
    let mut stored = HashingReader::new(Counted { inner: source, progress });
    let mut diff = Hasher::default();
    {
        let mut plain = decompress(BufReader::with_capacity(CHUNK, &mut stored))?;
        loop {
            if budget.is_stopped() {
                return Err(Stopped::Unheard);
            }
            let mut chunk = spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
            chunk.clear();
            let got = (&mut plain).take(CHUNK as u64).read_to_end(&mut chunk);
            let count = got.map_err(|e| Fault::io("is corrupt", &e))?;
            if count == 0 {
                break;
            }
            budget.unpacked(count as u64)?;
            diff.update(&chunk);
            full.send(chunk).map_err(|_| Stopped::Unheard)?;
        }
    }
    // What a decompressor has not looked at is part of the blob all the same.
    io::copy(&mut stored, &mut io::sink()).map_err(|e| Fault::io("reading", &e))?;
    let blob = stored.hasher.finish();
    if let Some(wanted) = &expected.blob
        && *wanted != blob
    {
        return Err(Fault::invalid(format!("is corrupt: its digest is {blob}, not {wanted}")).into());
    }
    let diff = diff.finish();
    if let Some(wanted) = &expected.diff
        && *wanted != diff
    {
        let reason = format!("is not the layer that the configuration names: it is {diff}, not {wanted}");
        return Err(Fault::invalid(reason).into());
    }
    Ok(diff)
}

/// The chunks as one stream.
struct Chunks {
    chunks: Receiver<Vec<u8>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

impl Chunks {
    fn drain(&mut self) -> Result<(), Fault> {
        loop {
            let count = self.fill_buf().map_err(|e| Fault::io("reading", &e))?.len();
            if count == 0 {
                return Ok(());
            }
            self.consume(count);
        }
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            // The reader has ended when it sends no more.
            let next = self.chunks.recv().unwrap_or_default();
            let used = std::mem::replace(&mut self.current, next);
            self.at = 0;
            // Nobody wants it any more once the reader has ended.
            let _unwanted = self.empty.send(used);
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.fill_buf()?;
        let count = got.len().min(buffer.len());
        buffer[..count].copy_from_slice(&got[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// Decompresses a whole file, for archives that have to be looked into.
pub(super) fn plain(source: Source) -> Result<Source, Fault> {
    decompress(BufReader::with_capacity(CHUNK, source)).map(|reader| reader as Source)
}
