//! The files of an image that lies in a directory or in a tar archive.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Fault;
use super::layer::Source;
use super::manifest::MAX_DOCUMENT;
use super::tar_reader::{Kind, TarReader};

/// The most files of an archive of an image; each layer is a few.
const MAX_FILES: usize = 65_536;

/// The files of an image.
#[derive(Debug, Clone)]
pub(super) enum Files {
    Directory(PathBuf),
    Archive { file: Arc<File>, index: Arc<HashMap<String, Place>> },
}

/// Where in an archive a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Bytes { at: u64, length: u64 },
    Link(String),
}

/// Opens a regular file; a FIFO in its place would have us wait for ever.
pub(super) fn open_regular(path: &Path) -> Result<File, Fault> {
    let failed = |e: io::Error| Fault::io(path.display(), &e);
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(nonblocking).open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_file() {
        Ok(file)
    } else {
        Err(Fault::invalid(format!("{} is no regular file", path.display())))
    }
}

/// A part of a file, which several may read at once.
struct Section {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

fn clean(name: &str) -> String {
    let parts = name.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/")
}

/// What a link in an archive leads to, as a name of the archive.
fn target(name: &str, link: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in link.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

impl Files {
    /// Looks into an archive that is not compressed.
    pub(super) fn archive(mut file: File) -> Result<Self, Fault> {
        let failed = |e: io::Error| Fault::io("reading the archive", &e);
        let mut index = HashMap::new();
        let mut base = 0;
        loop {
            // What is not looked at is not read.
            file.seek(SeekFrom::Start(base)).map_err(failed)?;
            let mut reader = TarReader::new(BufReader::with_capacity(4096, &file));
            let Some(entry) = reader.next()? else { break };
            let (at, name) = (base + reader.position(), clean(&String::from_utf8_lossy(&entry.path)));
            base = at.saturating_add(entry.stored.div_ceil(512).saturating_mul(512));
            let place = match entry.kind {
                Kind::File => Place::Bytes { at, length: entry.stored },
                Kind::Symlink(link) => Place::Link(target(&name, &String::from_utf8_lossy(&link))),
                Kind::HardLink(link) => Place::Link(clean(&String::from_utf8_lossy(&link))),
                _ => continue,
            };
            index.insert(name, place);
            if index.len() > MAX_FILES {
                return Err(Fault::too_large(format!("is an archive of more than {MAX_FILES} files")));
            }
        }
        Ok(Self::Archive { file: Arc::new(file), index: Arc::new(index) })
    }

    /// True when there is such a file.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Directory(path) => path.join(name).is_file(),
            Self::Archive { index, .. } => index.contains_key(name),
        }
    }

    /// A file, and how long it is.
    pub(super) fn open(&self, name: &str) -> Result<(Source, u64), Fault> {
        match self {
            Self::Directory(path) => {
                let file = open_regular(&path.join(name))?;
                let length = file.metadata().map_err(|e| Fault::io(name, &e))?.len();
                Ok((Box::new(file), length))
            }
            Self::Archive { file, index } => {
                let mut name = clean(name);
                // Docker's older archives have a layer once, and links to it.
                for _ in 0..8 {
                    match index.get(&name) {
                        Some(Place::Bytes { at, length }) => {
                            let section = Section { file: Arc::clone(file), at: *at, left: *length };
                            return Ok((Box::new(section), *length));
                        }
                        Some(Place::Link(to)) => name.clone_from(to),
                        None => break,
                    }
                }
                let short: String = name.chars().take(120).collect();
                Err(Fault::invalid(format!("{short:?} is missing in the archive")))
            }
        }
    }

    /// A whole small file.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>, Fault> {
        let (source, length) = self.open(name)?;
        if length > MAX_DOCUMENT {
            return Err(Fault::too_large(format!("{name} has {length} bytes; at most {MAX_DOCUMENT}")));
        }
        let mut bytes = Vec::new();
        source.take(MAX_DOCUMENT).read_to_end(&mut bytes).map_err(|e| Fault::io(name, &e))?;
        Ok(bytes)
    }
}
