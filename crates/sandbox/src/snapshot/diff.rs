//! What a snapshot changes of its image, path by path.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use hothouse_domain::{Change, Difference};

/// One overlay: what it changes, and the layers below, topmost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Where in the sandbox it is.
    pub target: PathBuf,
    /// The layer of the snapshot.
    pub upper: PathBuf,
    /// The layers of the image.
    pub lower: Vec<PathBuf>,
}

/// A path that differs, and where its content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// How it differs.
    pub change: Change,
    /// Where it is now; `None` when it was deleted.
    pub new: Option<PathBuf>,
    /// Where it was before; `None` when it was added.
    pub old: Option<PathBuf>,
}

/// Everything that differs, sorted by path.
pub(crate) fn entries(overlays: &[Changed]) -> io::Result<Vec<Entry>> {
    let mut found = BTreeMap::new();
    for overlay in overlays {
        Walk { overlay, found: &mut found }.directory(Path::new(""), Below::Visible)?;
    }
    Ok(found.into_values().collect())
}

/// Whether a directory shows what the image has in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    Visible,
    Hidden,
}

struct Walk<'a> {
    overlay: &'a Changed,
    found: &'a mut BTreeMap<PathBuf, Entry>,
}

impl Walk<'_> {
    fn directory(&mut self, at: &Path, below: Below) -> io::Result<()> {
        let path = self.overlay.upper.join(at);
        let below = if is_opaque(&path)? { Below::Hidden } else { below };
        if below == Below::Hidden {
            self.hidden(at)?;
        }
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            let at = at.join(entry.file_name());
            let (new, meta) = (entry.path(), entry.metadata()?);
            let old = self.overlay.lookup(&at)?;
            if is_whiteout(&meta) {
                if let Some((old, _)) = old {
                    self.note(&at, Difference::Deleted, 0, None, Some(old));
                }
                continue;
            }
            let size = if meta.is_file() { meta.len() } else { 0 };
            let inner = match &old {
                Some((_, before)) if before.is_dir() => below,
                Some(_) | None => Below::Visible,
            };
            match old {
                None => self.note(&at, Difference::Added, size, Some(new), None),
                Some((old, before)) => {
                    if !is_same(&new, &meta, &old, &before)? {
                        self.note(&at, Difference::Modified, size, Some(new), Some(old));
                    }
                }
            }
            if meta.is_dir() {
                self.directory(&at, inner)?;
            }
        }
        Ok(())
    }

    /// What the image has in a directory that hides it, and the snapshot has not.
    fn hidden(&mut self, at: &Path) -> io::Result<()> {
        for layer in &self.overlay.lower {
            let Ok(listing) = fs::read_dir(layer.join(at)) else { continue };
            for entry in listing {
                let at = at.join(entry?.file_name());
                let there = fs::symlink_metadata(self.overlay.upper.join(&at)).is_ok();
                if let (false, Some((old, _))) = (there, self.overlay.lookup(&at)?) {
                    self.note(&at, Difference::Deleted, 0, None, Some(old));
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, at: &Path, change: Difference, size: u64, new: Option<PathBuf>, old: Option<PathBuf>) {
        let path = self.overlay.target.join(at);
        let change = Change { path: path.to_string_lossy().into_owned(), change, size };
        self.found.insert(path, Entry { change, new, old });
    }
}

impl Changed {
    /// What the image has at a path, as the overlay of its layers shows it.
    fn lookup(&self, at: &Path) -> io::Result<Option<(PathBuf, Metadata)>> {
        'layers: for layer in &self.lower {
            let mut path = layer.clone();
            let mut last_of_all = false;
            let mut components = at.components().peekable();
            while let Some(Component::Normal(name)) = components.next() {
                path.push(name);
                let meta = match fs::symlink_metadata(&path) {
                    Ok(meta) => meta,
                    Err(e) if e.kind() == io::ErrorKind::NotFound && last_of_all => return Ok(None),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue 'layers,
                    Err(e) => return Err(e),
                };
                if is_whiteout(&meta) {
                    return Ok(None);
                }
                if components.peek().is_none() {
                    return Ok(Some((path, meta)));
                }
                if !meta.is_dir() {
                    return Ok(None);
                }
                last_of_all |= is_opaque(&path)?;
            }
        }
        Ok(None)
    }
}

fn is_whiteout(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn is_opaque(path: &Path) -> io::Result<bool> {
    let mut value = [0; 1];
    match rustix::fs::lgetxattr(path, c"user.overlay.opaque", &mut value[..]) {
        Ok(length) => Ok(length == 1 && value == *b"y"),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// True when nothing that matters differs: an overlay copies a file up as soon as it is opened for writing.
fn is_same(new: &Path, after: &Metadata, old: &Path, before: &Metadata) -> io::Result<bool> {
    if after.file_type() != before.file_type() || after.mode() != before.mode() {
        return Ok(false);
    }
    if after.is_symlink() {
        return Ok(fs::read_link(new)? == fs::read_link(old)?);
    }
    if !after.is_file() {
        return Ok(true);
    }
    Ok(after.len() == before.len() && has_same_content(new, old)?)
}

fn has_same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut first, mut second) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let read = one.read(&mut first)?;
        if read == 0 {
            return Ok(true);
        }
        match other.read_exact(&mut second[..read]) {
            Ok(()) if first[..read] == second[..read] => {}
            Ok(()) => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(e),
        }
    }
}
