//! Files and directories into a sandbox and out of it.

use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures::{Stream, StreamExt as _, stream};
use hothouse_domain::ErrorCode;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

use crate::console;
use crate::failure::Failure;
use crate::place::SandboxHandle;

/// Pieces that flow between a thread that packs or unpacks and the rest.
const PIECE: usize = 256 << 10;
/// So many of them may wait.
const QUEUE: usize = 8;
/// A bar appears when a transfer takes longer.
const PATIENCE: Duration = Duration::from_millis(300);

type Piece = io::Result<Bytes>;

/// Copies a local file or directory to a path in the sandbox, which becomes that file or directory.
pub(super) async fn upload(sandbox: &SandboxHandle, local: &Path, target: &str) -> Result<(), Failure> {
    let failed = |error: &io::Error| Failure::io(local.display(), error);
    let metadata = fs::metadata(local).map_err(|e| failed(&e))?;
    let progress = Progress::start(&format!("{} → {target}", local.display()), Some(metadata.len()));
    if metadata.is_dir() {
        let packed = progress.unsized_now().count(pack(local.to_path_buf()));
        sandbox.tar_in(target, packed).await?;
    } else if metadata.is_file() {
        let file = tokio::fs::File::open(local).await.map_err(|e| failed(&e))?;
        let content = progress.count(ReaderStream::with_capacity(file, PIECE));
        sandbox.write_file(target, metadata.permissions().mode() & 0o7777, content).await?;
    } else {
        return Err(Failure::usage(local.display().to_string(), "is neither a file nor a directory"));
    }
    Ok(())
}

/// Copies a file of the sandbox to a local path, which becomes that file.
pub(super) async fn download_file(
    sandbox: &SandboxHandle,
    path: &str,
    to: &Path,
    (size, mode): (u64, u32),
) -> Result<(), Failure> {
    let progress = Progress::start(&format!("{path} → {}", to.display()), Some(size));
    let mut content = pin(progress.count(sandbox.read_file(path).await?.stream()));
    let directory = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |error: &io::Error| Failure::io(to.display(), error);
    // Beside the target, so that it appears there whole or not at all.
    let temporary = tempfile::Builder::new()
        .prefix(".hothouse-")
        .permissions(fs::Permissions::from_mode(mode & 0o777))
        .tempfile_in(directory)
        .map_err(|e| failed(&e))?;
    let mut file = tokio::fs::File::from_std(temporary.reopen().map_err(|e| failed(&e))?);
    while let Some(bytes) = content.next().await {
        tokio::io::AsyncWriteExt::write_all(&mut file, &bytes?).await.map_err(|e| failed(&e))?;
    }
    tokio::io::AsyncWriteExt::flush(&mut file).await.map_err(|e| failed(&e))?;
    temporary.persist(to).map_err(|e| failed(&e.error))?;
    Ok(())
}

/// Copies a directory of the sandbox to a local path, which becomes that directory.
pub(super) async fn download_directory(
    sandbox: &SandboxHandle,
    path: &str,
    to: &Path,
) -> Result<(), Failure> {
    let progress = Progress::start(&format!("{path} → {}", to.display()), None);
    let mut content = pin(progress.count(sandbox.tar_out(path).await?.stream()));
    let (sender, receiver) = mpsc::channel::<Bytes>(QUEUE);
    let target = to.to_path_buf();
    let unpacking = tokio::task::spawn_blocking(move || unpack(PieceReader::new(receiver), &target));
    let mut failure = None;
    while let Some(bytes) = content.next().await {
        match bytes {
            Ok(bytes) => {
                if sender.send(bytes).await.is_err() {
                    // Unpacking failed, which its own end tells.
                    break;
                }
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    drop(sender);
    let unpacked = unpacking.await;
    if let Some(failure) = failure {
        return Err(failure);
    }
    match unpacked {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::io(format_args!("unpacking to {}", to.display()), &error)),
        Err(error) => Err(Failure::new(ErrorCode::Internal, format!("unpacking: {error}"))),
    }
}

fn pin<S: Stream>(stream: S) -> std::pin::Pin<Box<S>> {
    Box::pin(stream)
}

/// A tar archive of a directory's content as it flows. All of it belongs to root, which in a sandbox is its user.
fn pack(directory: PathBuf) -> impl Stream<Item = Piece> + Send + Unpin + 'static {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let pieces = PieceWriter { sender: sender.clone(), buffer: Vec::with_capacity(PIECE) };
        let mut archive = tar::Builder::new(pieces);
        let packed = pack_entries(&mut archive, &directory, Path::new(""));
        let end = packed.and_then(|()| archive.into_inner()).and_then(|mut pieces| pieces.send());
        if let Err(error) = end {
            // Nobody reads any more when this fails, so nobody wants to know.
            _ = sender.blocking_send(Err(error));
        }
    });
    pin(stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver))))
}

fn pack_entries(archive: &mut tar::Builder<PieceWriter>, directory: &Path, name: &Path) -> io::Result<()> {
    let named = |path: &Path, e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let mut entries: Vec<_> = fs::read_dir(directory)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(|e| named(directory, e))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = name.join(entry.file_name());
        pack_entry(archive, &path, &name)
            .map_err(|e| if e.to_string().starts_with('/') { e } else { named(&path, e) })?;
    }
    Ok(())
}

fn pack_entry(archive: &mut tar::Builder<PieceWriter>, path: &Path, name: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let mut header = tar::Header::new_gnu();
    header.set_mode(metadata.mode() & 0o7777);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    let kind = metadata.file_type();
    if kind.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        archive.append_data(&mut header, name, io::empty())?;
        pack_entries(archive, path, name)
    } else if kind.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        archive.append_link(&mut header, name, fs::read_link(path)?)
    } else if kind.is_file() {
        let file = fs::File::open(path)?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(metadata.len());
        // A file that shrinks meanwhile must still fill the size that its header promised.
        archive.append_data(
            &mut header,
            name,
            file.take(metadata.len()).chain(io::repeat(0)).take(metadata.len()),
        )
    } else {
        console::note(&format!("warning: {}: left out, it is no file, directory or link", path.display()));
        Ok(())
    }
}

/// Unpacks an archive that a sandbox made, which may be hostile: nothing leaves the target.
fn unpack(content: PieceReader, target: &Path) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let target = target.canonicalize()?;
    let mut archive = tar::Archive::new(content);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        if name.components().all(|part| part == Component::CurDir) {
            continue;
        }
        let kind = entry.header().entry_type();
        if !(kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link()) {
            console::note(&format!("warning: {}: left out, it is no file, directory or link", shown(&name)));
            continue;
        }
        entry.set_preserve_mtime(true);
        if !entry.unpack_in(&target)? {
            console::note(&format!("warning: {}: left out, it leads out of the target", shown(&name)));
        }
    }
    Ok(())
}

/// A name from a sandbox without what could move a terminal's cursor.
fn shown(name: &Path) -> String {
    String::from_utf8_lossy(name.as_os_str().as_bytes()).replace(|c: char| c.is_control(), "?")
}

/// Sends what is written to it as pieces.
struct PieceWriter {
    sender: mpsc::Sender<Piece>,
    buffer: Vec<u8>,
}

impl PieceWriter {
    fn send(&mut self) -> io::Result<()> {
        let bytes = Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE)));
        self.sender.blocking_send(Ok(bytes)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl io::Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads pieces as one flow.
struct PieceReader {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl PieceReader {
    fn new(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self { receiver, current: Bytes::new() }
    }
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(bytes) => self.current = bytes,
                None => return Ok(0),
            }
        }
        let n = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..n]);
        Ok(n)
    }
}

/// A bar on a terminal for what takes long.
#[derive(Debug, Clone)]
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    fn start(what: &str, size: Option<u64>) -> Self {
        if !console::err_is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::hidden();
        if let Some(size) = size {
            bar.set_length(size);
        }
        let form = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}";
        let style = if size.is_some() { form } else { "{spinner} {msg} {bytes} {bytes_per_sec}" };
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what.to_owned());
        Self { bar }
    }

    /// For what has no size that is known beforehand.
    fn unsized_now(self) -> Self {
        self.bar.unset_length();
        let style = ProgressStyle::with_template("{spinner} {msg} {bytes} {bytes_per_sec}");
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self
    }

    /// Counts what flows by; the bar goes with the stream.
    fn count<S, E>(self, content: S) -> impl Stream<Item = Result<Bytes, E>> + Unpin
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let begin = std::time::Instant::now();
        let bar = Clearing(self.bar);
        content.inspect(move |piece| {
            if let Ok(bytes) = piece {
                bar.0.inc(bytes.len() as u64);
            }
            if bar.0.is_hidden() && begin.elapsed() > PATIENCE && console::err_is_terminal() {
                bar.0.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            }
        })
    }
}

/// A bar that leaves no trace.
struct Clearing(ProgressBar);

impl Drop for Clearing {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
