//! Images from this machine: files, directories, the Docker daemon.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hothouse_domain::image::{FileFormat, ImageFile};
use hothouse_domain::{ImageName, ImageRef};

use super::budget::Budget;
use super::daemon::Daemon;
use super::error::Fault;
use super::files::{Files, open_regular};
use super::images::Images;
use super::import::{Import, import, import_root};
use super::layer::{self, Source};
use super::library::{ImageRecord, Library};
use super::plan;
use super::progress::Progress;
use super::{pack, tree};

/// Tells whether a file or a layout is another one than before.
pub(super) fn stamp(path: &Path) -> Result<String, Fault> {
    let failed = |e: io::Error| Fault::io(path.display(), &e);
    let meta = std::fs::metadata(path).map_err(failed)?;
    let meta = match meta.is_dir() {
        true => std::fs::metadata(path.join("index.json"))
            .map_err(|e| Fault::io(format_args!("{} is no image layout: index.json", path.display()), &e))?,
        false => meta,
    };
    let (changed, nanos) = (meta.ctime(), meta.ctime_nsec());
    Ok(format!("{}:{} {} {changed}.{nanos}", meta.dev(), meta.ino(), meta.len()))
}

/// An archive that may be looked into: as it is, or decompressed into a file of the import.
fn seekable(path: &Path, import: &Import<'_>, budget: &Budget) -> Result<File, Fault> {
    let file = open_regular(path)?;
    let failed = |e: io::Error| Fault::io(path.display(), &e);
    let mut head = [0; 4];
    let count = file.try_clone().and_then(|mut file| file.read(&mut head)).map_err(failed)?;
    let compressed = matches!(head[..count], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]);
    io::Seek::rewind(&mut &file).map_err(failed)?;
    if !compressed {
        return Ok(file);
    }
    let mut plain = layer::plain(Box::new(file))?;
    let target = import.path().join("archive.tar");
    let kept = |e: io::Error| Fault::store(target.display(), &e);
    let mut whole = File::options().create_new(true).read(true).write(true).open(&target).map_err(kept)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = plain.read(&mut buffer).map_err(|e| Fault::io("decompressing", &e))?;
        if count == 0 {
            return Ok(whole);
        }
        budget.unpacked(count as u64)?;
        io::Write::write_all(&mut whole, &buffer[..count]).map_err(kept)?;
    }
}

/// Makes an image in a file of this machine one of the store.
fn from_file(
    library: &Library,
    file: &ImageFile,
    names: &[ImageName],
    budget: &Budget,
    progress: &Progress,
) -> Result<ImageRecord, Fault> {
    let (path, name) = (Path::new(&file.path), file.name.as_deref());
    let scratch = Import::begin(library, &[])?;
    let planned = match file.format {
        FileFormat::Oci => plan::oci(&Files::Directory(path.to_owned()), name)?,
        FileFormat::OciArchive => plan::oci(&Files::archive(seekable(path, &scratch, budget)?)?, name)?,
        FileFormat::DockerArchive => plan::saved(&Files::archive(seekable(path, &scratch, budget)?)?, name)?,
        FileFormat::Tarball => {
            let source = open_regular(path)?;
            let bytes = source.metadata().map_or(0, |meta| meta.len());
            return import_root(library, Box::new(source), bytes, names, budget, progress);
        }
    };
    import(library, planned, names, budget, progress)
}

/// How the image in a file lies there.
fn format_of(path: &Path, scratch: &Import<'_>, budget: &Budget) -> Result<(FileFormat, PathBuf), Fault> {
    if path.is_dir() {
        return Ok((FileFormat::Oci, path.to_owned()));
    }
    let plain = seekable(path, scratch, budget)?;
    let unpacked = scratch.path().join("archive.tar");
    let path = if unpacked.exists() { unpacked } else { path.to_owned() };
    let files = Files::archive(plain)?;
    let format = if files.has("manifest.json") {
        FileFormat::DockerArchive
    } else if files.has("index.json") && files.has("oci-layout") {
        FileFormat::OciArchive
    } else {
        FileFormat::Tarball
    };
    Ok((format, path))
}

impl Images {
    pub(super) async fn fetch_from_file(
        &self,
        file: ImageFile,
        reference: &ImageRef,
        progress: &Arc<Progress>,
    ) -> Result<ImageRecord, Fault> {
        let (budget, progress, source) = (self.budget(), Arc::clone(progress), reference.to_string());
        self.in_store(move |library| {
            // Before it is read: a change meanwhile is another image.
            let stamp = stamp(Path::new(&file.path))?;
            let record = from_file(library, &file, &[], &budget, &progress)?;
            library.note_source(&source, &stamp, &record.id)?;
            Ok(record)
        })
        .await
    }

    /// Makes whatever image is in a file or directory one of the store: OCI's layout, `docker save`, or the archive or
    /// directory of a root file system. `name` is which of several, `names` what it is called here.
    ///
    /// # Errors
    /// [`ImageError`](super::ImageError): it is none, or there is no room for it; nothing of it is kept.
    pub async fn import(
        &self,
        path: &Path,
        name: Option<String>,
        names: Vec<ImageName>,
        progress: Arc<Progress>,
    ) -> Result<hothouse_domain::ImageInfo, super::ImageError> {
        let shown = path.display().to_string();
        let (budget, path) = (self.budget(), path.to_owned());
        self.blocking(shown, move |library| {
            let record = if path.is_dir() && !path.join("index.json").exists() {
                from_directory(library, &path, &names, &budget, &progress)?
            } else {
                let scratch = Import::begin(library, &[])?;
                let (format, path) = format_of(&path, &scratch, &budget)?;
                let path = path.to_string_lossy().into_owned();
                let file = ImageFile { format, path, name };
                from_file(library, &file, &names, &budget, &progress)?
            };
            super::collect::shrink(library, &record.id)?;
            Ok(library.info(&record, &library.names()?))
        })
        .await
    }

    pub(super) async fn fetch_from_directory(
        &self,
        path: String,
        progress: &Arc<Progress>,
    ) -> Result<ImageRecord, Fault> {
        let (budget, progress) = (self.budget(), Arc::clone(progress));
        self.in_store(move |library| from_directory(library, Path::new(&path), &[], &budget, &progress)).await
    }

    pub(super) async fn fetch_from_daemon(
        &self,
        name: &ImageName,
        progress: &Arc<Progress>,
    ) -> Result<ImageRecord, Fault> {
        let daemon = Daemon::open()?;
        let id = daemon.id(name).await?;
        let source = format!("docker-daemon:{name}");
        let library = &self.inner.library;
        if let Some(record) = library.source(&source, id.as_str())? {
            return Ok(record);
        }
        let scratch = Import::begin(library, &[])?;
        let path = scratch.path().join("saved.tar");
        let mut file = File::create(&path).map_err(|e| Fault::store(path.display(), &e))?;
        daemon.save(name, &mut file, library.limits.max_bytes, &self.inner.closed).await?;
        drop(file);
        let (budget, progress, name) = (self.budget(), Arc::clone(progress), name.clone());
        let record = self
            .in_store(move |library| {
                let path = path.to_string_lossy().into_owned();
                let file =
                    ImageFile { format: FileFormat::DockerArchive, path, name: Some(name.to_string()) };
                from_file(library, &file, &[], &budget, &progress)
            })
            .await?;
        library.note_source(&source, id.as_str(), &record.id)?;
        Ok(record)
    }
}

fn from_directory(
    library: &Library,
    path: &Path,
    names: &[ImageName],
    budget: &Budget,
    progress: &Progress,
) -> Result<ImageRecord, Fault> {
    if !path.is_dir() {
        return Err(Fault::invalid(format!("{} is not a directory", path.display())));
    }
    std::thread::scope(|scope| {
        let (reader, writer) = io::pipe().map_err(|e| Fault::store("making a pipe", &e))?;
        let packing =
            scope.spawn(move || pack::pack(path, io::BufWriter::new(writer), pack::Whiteouts::AsFiles));
        let source: Source = Box::new(reader);
        let made = import_root(library, source, 0, names, budget, progress);
        let packed = match packing.join() {
            Ok(packed) => packed,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        match (made, packed) {
            // A reader that has failed breaks the pipe of the writer.
            (Err(fault), _) => Err(fault),
            (Ok(record), Ok(())) => Ok(record),
            (Ok(_), Err(e)) => Err(Fault::io(path.display(), &e)),
        }
    })
}

/// The attribute that makes a directory opaque, for whoever packs layers.
pub(super) const OPAQUE: &str = tree::OPAQUE_ATTRIBUTE;
