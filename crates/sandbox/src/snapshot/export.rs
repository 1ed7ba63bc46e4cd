//! What a snapshot changes, for elsewhere: as a layer of an OCI image, or as a patch.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use hothouse_domain::Difference;

use super::diff::Entry;

/// Files that are longer are no text that somebody would want in a patch.
const LONGEST: u64 = 16 << 20;

/// Writes a tar archive in the form of an OCI image's layer: what was deleted is an empty file `.wh.NAME`.
/// Source: OCI image specification, "Image Layer Filesystem Changeset".
pub fn write_layer(entries: &[Entry], into: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(into);
    archive.follow_symlinks(false);
    for entry in entries {
        let path = Path::new(entry.change.path.trim_start_matches('/'));
        let failed = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", entry.change.path));
        match (&entry.new, entry.change.change) {
            (Some(new), _) => {
                let meta = fs::symlink_metadata(new).map_err(failed)?;
                if meta.is_dir() {
                    archive.append_dir(path, new).map_err(failed)?;
                } else if meta.is_file() || meta.is_symlink() {
                    archive.append_path_with_name(new, path).map_err(failed)?;
                }
            }
            (None, Difference::Deleted | Difference::Modified | Difference::Added) => {
                let Some(name) = path.file_name() else { continue };
                let mut marker = std::ffi::OsString::from(".wh.");
                marker.push(name);
                let mut header = tar::Header::new_gnu();
                header.set_size(0);
                header.set_mode(0o644);
                header.set_entry_type(tar::EntryType::Regular);
                archive.append_data(&mut header, path.with_file_name(marker), io::empty()).map_err(failed)?;
            }
        }
    }
    archive.into_inner()?.flush()
}

/// Writes a unified diff of all text files that differ, with names that `patch -p1` and `git apply` take, and a line for
/// each other file.
pub fn write_patch(entries: &[Entry], mut into: impl Write) -> io::Result<()> {
    for entry in entries {
        let path = entry.change.path.trim_start_matches('/');
        let failed = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", entry.change.path));
        let (old, new) =
            (text(entry.old.as_deref()).map_err(failed)?, text(entry.new.as_deref()).map_err(failed)?);
        match (old, new) {
            (Content::None, Content::None) => {}
            (Content::Binary, _) | (_, Content::Binary) => {
                writeln!(into, "Binary files a/{path} and b/{path} differ")?;
            }
            (old, new) => {
                let mut options = diffy::DiffOptions::new();
                options.set_original_filename(old.name('a', path));
                options.set_modified_filename(new.name('b', path));
                let patch = options.create_patch(old.text(), new.text());
                if !patch.hunks().is_empty() {
                    write!(into, "{patch}")?;
                }
            }
        }
    }
    into.flush()
}

enum Content {
    /// No regular file.
    None,
    Text(String),
    Binary,
}

impl Content {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::None | Self::Binary => "",
        }
    }

    fn name(&self, side: char, path: &str) -> String {
        match self {
            Self::None => "/dev/null".to_owned(),
            Self::Text(_) | Self::Binary => format!("{side}/{path}"),
        }
    }
}

fn text(path: Option<&Path>) -> io::Result<Content> {
    let Some(path) = path else { return Ok(Content::None) };
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_file() {
        return Ok(Content::None);
    }
    if meta.len() > LONGEST {
        return Ok(Content::Binary);
    }
    Ok(String::from_utf8(fs::read(path)?).map_or(Content::Binary, |text| {
        if text.contains('\0') { Content::Binary } else { Content::Text(text) }
    }))
}
