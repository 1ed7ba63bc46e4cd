//! A directory as a tar archive, as the tools of images write them: links, times and attributes as they are.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

/// What becomes of an overlay's whiteouts and opaque directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whiteouts {
    /// There are none: a device is a device.
    AsFiles,
    /// They become the names that images have for them.
    Translate,
}

struct Packer<W> {
    out: W,
    whiteouts: Whiteouts,
    /// Files with several names, by their inode: the name that came first.
    links: HashMap<(u64, u64), Vec<u8>>,
}

/// Writes a directory as an archive; the same directory gives the same bytes.
pub(super) fn pack(root: &Path, out: impl Write, whiteouts: Whiteouts) -> io::Result<()> {
    let mut packer = Packer { out, whiteouts, links: HashMap::new() };
    packer.entry(root, b"./")?;
    let mut pending: Vec<(PathBuf, Vec<u8>)> = vec![(root.to_owned(), Vec::new())];
    while let Some((path, name)) = pending.pop() {
        let mut children = fs::read_dir(&path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>())
            .map_err(|e| named(&path, &e))?;
        children.sort();
        for child in children {
            let path = path.join(&child);
            let mut name = name.clone();
            name.extend_from_slice(child.as_bytes());
            if fs::symlink_metadata(&path)?.is_dir() {
                name.push(b'/');
                packer.entry(&path, &name)?;
                pending.push((path, name));
            } else {
                packer.entry(&path, &name)?;
            }
        }
    }
    packer.out.write_all(&[0; 1024])?;
    packer.out.flush()
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    // The length counts its own digits.
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut list = vec![0_u8; 64 << 10];
    // A file system without attributes has none.
    let Ok(count) = rustix::fs::llistxattr(path, &mut list[..]) else { return Vec::new() };
    let names = list[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut found = Vec::new();
    for name in names {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let mut value = vec![0_u8; 64 << 10];
        if let Ok(count) = rustix::fs::lgetxattr(path, name, &mut value[..]) {
            value.truncate(count);
            found.push((name.to_owned(), value));
        }
    }
    found.sort();
    found
}

impl<W: Write> Packer<W> {
    fn entry(&mut self, path: &Path, name: &[u8]) -> io::Result<()> {
        let meta = fs::symlink_metadata(path).map_err(|e| named(path, &e))?;
        let kind = meta.file_type();
        let translate = self.whiteouts == Whiteouts::Translate;
        if translate && kind.is_char_device() && meta.rdev() == 0 {
            return self.empty(&whiteout_name(name), &meta);
        }
        let mut records = Vec::new();
        let mut opaque = false;
        if !meta.is_symlink() {
            for (key, value) in attributes(path) {
                if key == super::local::OPAQUE {
                    opaque = translate;
                } else if (key.starts_with("user.") && !key.starts_with("user.overlay."))
                    || key == "security.capability"
                {
                    record(&mut records, format!("SCHILY.xattr.{key}").as_bytes(), &value);
                }
            }
        }
        let mut header = header_of(&meta);
        let mut link = None;
        let mut size = 0;
        let entry = if meta.is_dir() {
            EntryType::Directory
        } else if meta.is_symlink() {
            link = Some(fs::read_link(path)?.as_os_str().as_bytes().to_owned());
            EntryType::Symlink
        } else if kind.is_fifo() {
            EntryType::Fifo
        } else if meta.is_file() {
            let first = (meta.nlink() > 1).then(|| self.links.get(&(meta.dev(), meta.ino())).cloned());
            match first {
                Some(Some(first)) => {
                    link = Some(first);
                    EntryType::Link
                }
                Some(None) => {
                    self.links.insert((meta.dev(), meta.ino()), name.to_owned());
                    size = meta.len();
                    EntryType::Regular
                }
                None => {
                    size = meta.len();
                    EntryType::Regular
                }
            }
        } else if kind.is_socket() {
            return Ok(());
        } else {
            header.set_device_major(rustix::fs::major(meta.rdev()))?;
            header.set_device_minor(rustix::fs::minor(meta.rdev()))?;
            if kind.is_char_device() { EntryType::Char } else { EntryType::Block }
        };
        header.set_entry_type(entry);
        header.set_size(size);
        set_text(&mut header.as_old_mut().name, name, b"path", &mut records);
        if let Some(link) = &link {
            set_text(&mut header.as_old_mut().linkname, link, b"linkpath", &mut records);
        }
        if size >= 1 << 33 {
            record(&mut records, b"size", size.to_string().as_bytes());
        }
        if meta.mtime_nsec() != 0 || meta.mtime() < 0 {
            record(&mut records, b"mtime", time(meta.mtime(), meta.mtime_nsec()).as_bytes());
        }
        self.extended(&records)?;
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        if size > 0 {
            let file = super::files::open_regular(path).map_err(|fault| io::Error::other(fault.reason))?;
            let copied = io::copy(&mut file.take(size), &mut self.out)?;
            if copied != size {
                return Err(io::Error::other(format!("{} became shorter while it was read", path.display())));
            }
            self.pad(size)?;
        }
        if opaque {
            self.empty(&[name, b".wh..wh..opq"].concat(), &meta)?;
        }
        Ok(())
    }

    fn empty(&mut self, name: &[u8], meta: &fs::Metadata) -> io::Result<()> {
        let mut header = header_of(meta);
        header.set_mode(0o600);
        header.set_size(0);
        header.set_entry_type(EntryType::Regular);
        let mut records = Vec::new();
        set_text(&mut header.as_old_mut().name, name, b"path", &mut records);
        self.extended(&records)?;
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    fn extended(&mut self, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(records.len() as u64);
        header.set_mode(0o644);
        header.as_old_mut().name[..12].copy_from_slice(b"PaxHeaders.0");
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(records)?;
        self.pad(records.len() as u64)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let rest = usize::try_from((512 - size % 512) % 512).unwrap_or(0);
        self.out.write_all(&[0; 512][..rest])
    }
}

fn header_of(meta: &fs::Metadata) -> Header {
    let mut header = Header::new_ustar();
    header.set_mode(meta.mode() & 0o7777);
    header.set_uid(meta.uid().into());
    header.set_gid(meta.gid().into());
    header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
    header
}

fn set_text(field: &mut [u8; 100], text: &[u8], key: &[u8], records: &mut Vec<u8>) {
    let count = text.len().min(field.len());
    field[..count].copy_from_slice(&text[..count]);
    if text.len() > field.len() || !text.is_ascii() {
        record(records, key, text);
    }
}

fn whiteout_name(name: &[u8]) -> Vec<u8> {
    let at = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    [&name[..at], b".wh.", &name[at..]].concat()
}

fn time(seconds: i64, nanos: i64) -> String {
    // A fraction counts away from zero.
    if seconds < 0 && nanos > 0 {
        return format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos);
    }
    format!("{seconds}.{nanos:09}")
}
