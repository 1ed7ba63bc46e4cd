//! What becomes of the archives of layers, honest and hostile.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use hothouse_domain::ErrorCode;
use proptest::prelude::*;
use proptest::sample::Index;
use tar::{Builder, EntryType, Header};
use test_case::test_case;

use super::budget::{Budget, ImageLimits};
use super::digest;
use super::error::Fault;
use super::layer::{Expected, unpack};
use super::progress::Progress;
use super::tree::{OPAQUE_ATTRIBUTE, Owners, Tree, Whiteouts, Written};

const SMALL: ImageLimits =
    ImageLimits { max_bytes: 4 << 20, max_entries: 1000, max_path_bytes: 50_000, max_store_bytes: 1 << 30 };

/// A directory that layers are unpacked into, and one beside it that nothing may touch.
struct Place {
    base: tempfile::TempDir,
    budget: Budget,
}

impl Place {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("victim")).unwrap();
        fs::write(base.path().join("victim/file"), "untouched").unwrap();
        Self { base, budget: Budget::new(SMALL, Arc::default()) }
    }

    fn root(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    fn unpack(&self, name: &str, layers: &[Vec<u8>], whiteouts: Whiteouts) -> Result<Written, Fault> {
        let root = self.root(name);
        fs::create_dir_all(&root).unwrap();
        let fd: OwnedFd = fs::File::open(&root).unwrap().into();
        let mut tree = Tree::new(fd, Owners::Ours, whiteouts, &self.budget);
        for layer in layers {
            let source = Box::new(io::Cursor::new(layer.clone()));
            unpack(source, &Expected::default(), &mut tree, &self.budget, &Progress::default())?;
        }
        tree.finish()
    }

    fn keep(&self, layer: &[u8]) -> Result<Written, Fault> {
        self.unpack("layer", &[layer.to_vec()], Whiteouts::Keep)
    }

    fn assert_untouched(&self) {
        let names: BTreeSet<OsString> =
            fs::read_dir(self.base.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let known = ["victim", "layer", "merged", "l0", "l1", "l2", "l3"];
        assert!(names.iter().all(|name| known.iter().any(|known| name == known)), "{names:?}");
        assert_eq!(fs::read_dir(self.base.path().join("victim")).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(self.base.path().join("victim/file")).unwrap(), "untouched");
    }
}

/// One entry as an attacker writes it: no name is checked here.
fn add(archive: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, link: &str, content: &[u8]) {
    let mut header = Header::new_ustar();
    let raw = header.as_old_mut();
    raw.name[..name.len()].copy_from_slice(name.as_bytes());
    raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(content.len() as u64);
    header.set_cksum();
    archive.append(&header, content).unwrap();
}

fn archive(entries: &[(&str, EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (name, kind, link, content) in entries {
        add(&mut archive, name, *kind, link, content);
    }
    archive.into_inner().unwrap()
}

use EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};

#[test_case(&[("../pwned", Regular, "", b"x")], "leads out"; "dots")]
#[test_case(&[("a/../../pwned", Regular, "", b"x")], "leads out"; "dots inside")]
#[test_case(&[("a", Link, "../victim/file", b"")], "leads out"; "hard link out")]
#[test_case(&[("a", Link, "nothing", b"")], "does not have"; "hard link to nothing")]
#[test_case(&[("d", Directory, "", b""), ("a", Link, "d", b"")], "no file"; "hard link to a directory")]
#[test_case(&[(".wh.a", Regular, "", b""), ("b", Link, "a", b"")], "no file"; "hard link to a whiteout")]
#[test_case(&[("a", Symlink, "a", b""), ("a/b", Regular, "", b"x")], "symbolic links"; "loop of links")]
#[test_case(&[("a", Symlink, "", b"")], "links to nothing"; "link to nothing")]
#[test_case(&[("a/.wh..", Regular, "", b"")], "hides nothing"; "whiteout of the directory")]
#[test_case(&[("a/.wh...", Regular, "", b"")], "hides nothing"; "whiteout of the parent")]
#[test_case(&[("./", Symlink, "/etc", b"")], "in place of the root"; "root as a link")]
#[test_case(&[("a", EntryType::new(b'Z'), "", b"")], "0x5a"; "unknown kind")]
fn what_is_hostile_is_refused(entries: &[(&str, EntryType, &str, &[u8])], why: &str) {
    let place = Place::new();
    let fault = place.keep(&archive(entries)).unwrap_err();
    assert!(fault.reason.contains(why), "{}", fault.reason);
    assert_eq!(fault.code, ErrorCode::ImageInvalid);
    place.assert_untouched();
}

#[test]
fn links_lead_nowhere_but_inside() {
    let place = Place::new();
    let victim = place.root("victim");
    let victim = victim.to_str().unwrap();
    let layer = archive(&[
        ("out", Symlink, victim, b""),
        ("out/pwned", Regular, "", b"x"),
        ("up", Symlink, "../victim", b""),
        ("up/pwned", Regular, "", b"x"),
        ("file", Symlink, &format!("{victim}/file"), b""),
        ("file", Regular, "", b"replaced, not written through"),
        ("/absolute/name", Regular, "", b"x"),
        ("set", Symlink, "absolute", b""),
        ("set/through", Regular, "", b"x"),
        (".wh.gone", Regular, "", b""),
        ("out/.wh.file", Regular, "", b""),
    ]);
    // The first link leads to a path that the image does not have.
    let fault = place.keep(&layer).err();
    place.assert_untouched();
    assert!(fault.is_none_or(|fault| fault.code == ErrorCode::ImageInvalid));
}

#[test]
fn devices_are_left_out_and_pipes_and_bits_are_kept() {
    let place = Place::new();
    let mut builder = Builder::new(Vec::new());
    for (name, kind) in [("char", Char), ("block", Block), ("fifo", Fifo)] {
        add(&mut builder, name, kind, "", b"");
    }
    let mut header = Header::new_ustar();
    header.set_path("su").unwrap();
    header.set_mode(0o4755);
    header.set_size(0);
    header.set_cksum();
    builder.append(&header, &b""[..]).unwrap();
    let written = place.keep(&builder.into_inner().unwrap()).unwrap();
    assert_eq!((written.entries, written.left_out), (4, 2));
    let root = place.root("layer");
    assert!(!root.join("char").exists() && !root.join("block").exists());
    assert!(fs::metadata(root.join("fifo")).unwrap().file_type().is_fifo());
    // Nobody but us gets at the store, and sandboxes mount it without them.
    assert_eq!(fs::metadata(root.join("su")).unwrap().mode() & 0o7777, 0o4755);
}

#[test]
fn a_global_header_is_about_all_entries_that_follow() {
    let layer = archive(&[
        ("before", Regular, "", b"x"),
        ("g", EntryType::XGlobalHeader, "", b"15 mtime=12.25\n"),
        ("after", Regular, "", b"x"),
        ("x", EntryType::XHeader, "", b"11 mtime=7\n"),
        ("own", Regular, "", b"x"),
        ("last", Regular, "", b"x"),
    ]);
    let place = Place::new();
    place.keep(&layer).unwrap();
    let times = ["before", "after", "own", "last"].map(|name| {
        let meta = fs::metadata(place.root("layer").join(name)).unwrap();
        (meta.mtime(), meta.mtime_nsec())
    });
    assert_eq!(times, [(0, 0), (12, 250_000_000), (7, 0), (12, 250_000_000)]);
}

#[test]
fn what_is_endless_is_refused() {
    let many: Vec<u8> = {
        let mut builder = Builder::new(Vec::new());
        (0..1001).for_each(|n| add(&mut builder, &format!("f{n}"), Regular, "", b""));
        builder.into_inner().unwrap()
    };
    // One entry each, and 45 directories that no entry is about.
    let implied: Vec<u8> = {
        let mut builder = Builder::new(Vec::new());
        (0..30).for_each(|n| add(&mut builder, &format!("{n}/{}f", "d/".repeat(44)), Regular, "", b""));
        builder.into_inner().unwrap()
    };
    let paths: Vec<u8> = {
        let mut builder = Builder::new(Vec::new());
        (0..600).for_each(|n| add(&mut builder, &format!("{n:0>90}/"), Directory, "", b""));
        builder.into_inner().unwrap()
    };
    let long_name = {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(3 << 30);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let headers_only = {
        let mut builder = Builder::new(Vec::new());
        (0..100).for_each(|_| add(&mut builder, "x", EntryType::XHeader, "", b"11 path=ab\n"));
        builder.into_inner().unwrap()
    };
    let zeros = |encode: fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        bytes
    };
    let gzip = zeros(|out| {
        let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::best());
        encoder.write_all(&vec![0; 64 << 20]).unwrap();
        encoder.finish().unwrap();
    });
    let zstd = zeros(|out| {
        let mut encoder = zstd::Encoder::new(out, 3).unwrap();
        encoder.write_all(&vec![0; 64 << 20]).unwrap();
        encoder.finish().unwrap();
    });
    let sparse = sparse_archive("--format=gnu", 1 << 40);
    for (what, layer, part) in [
        ("entries", many, "more than 1000 entries"),
        ("implied directories", implied, "more than 1000 entries"),
        ("paths", paths, "paths have more than 50000 bytes"),
        ("long name", long_name, "name or header of"),
        ("gzip bomb", gzip, "unpacks to more"),
        ("zstd bomb", zstd, "unpacks to more"),
        ("sparse bomb", sparse, "unpacks to more"),
    ] {
        let place = Place::new();
        let fault = place.keep(&layer).unwrap_err();
        assert!(fault.reason.contains(part), "{what}: {}", fault.reason);
        assert_eq!(fault.code, ErrorCode::TooLarge, "{what}");
    }
    let fault = Place::new().keep(&headers_only).unwrap_err();
    assert!(fault.reason.contains("too many headers"), "{}", fault.reason);
}

#[test]
fn damage_is_told() {
    let good = archive(&[("a", Regular, "", &[7; 3000]), ("b", Regular, "", b"x")]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&good).unwrap();
    let packed = packed.finish().unwrap();
    for bytes in [&good[..2000], &packed[..packed.len() / 2], &[&good[..3], &[9], &good[4..]].concat()[..]] {
        let fault = Place::new().keep(bytes).unwrap_err();
        assert_eq!(fault.code, ErrorCode::ImageInvalid, "{}", fault.reason);
    }
    let place = Place::new();
    fs::create_dir(place.root("layer")).unwrap();
    for (expected, part) in [
        (Expected { blob: Some(digest::of(b"other")), diff: None }, "corrupt"),
        (Expected { blob: None, diff: Some(digest::of(b"other")) }, "not the layer"),
    ] {
        let fd: OwnedFd = fs::File::open(place.root("layer")).unwrap().into();
        let mut tree = Tree::new(fd, Owners::Ours, Whiteouts::Keep, &place.budget);
        let source = Box::new(io::Cursor::new(packed.clone()));
        let fault = unpack(source, &expected, &mut tree, &place.budget, &Progress::default()).unwrap_err();
        assert!(fault.reason.contains(part), "{}", fault.reason);
    }
}

/// What GNU tar makes of a sparse file of this size.
fn sparse_archive(format: &str, size: u64) -> Vec<u8> {
    let base = tempfile::tempdir().unwrap();
    let file = fs::File::create(base.path().join("sparse")).unwrap();
    file.set_len(size).unwrap();
    for n in 0..12 {
        std::os::unix::fs::FileExt::write_all_at(&file, b"data", n * size / 16).unwrap();
    }
    tar(base.path(), &[format, "-S"])
}

/// What GNU tar makes of a directory.
fn tar(directory: &Path, flags: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").args(flags).arg("-C").arg(directory).args(["-c", "."]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test_case(&["--format=gnu", "-S"]; "gnu")]
#[test_case(&["--format=pax", "-S", "--sparse-version=0.0"]; "pax 0.0")]
#[test_case(&["--format=pax", "-S", "--sparse-version=0.1"]; "pax 0.1")]
#[test_case(&["--format=pax", "-S", "--sparse-version=1.0"]; "pax 1.0")]
fn what_gnu_tar_packs_comes_out_as_it_was(flags: &[&str]) {
    let source = tempfile::tempdir().unwrap();
    let root = source.path();
    let long = "n".repeat(200);
    fs::create_dir_all(root.join(&long).join(&long)).unwrap();
    fs::write(root.join(&long).join(&long).join("größe"), "content").unwrap();
    fs::hard_link(root.join(&long).join(&long).join("größe"), root.join("hard")).unwrap();
    std::os::unix::fs::symlink(format!("{long}/{long}/größe"), root.join("soft")).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    for n in 0..30_u64 {
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[b'x'; 5000], n * 32_768 + 7).unwrap();
    }
    sparse
        .set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(981_173_106, 0))
        .unwrap();
    let place = Place::new();
    place.keep(&tar(root, flags)).unwrap();
    let made = place.root("layer");
    let status = Command::new("diff").arg("-r").arg("--no-dereference").args([root, &made]).status().unwrap();
    assert!(status.success());
    assert_eq!(fs::metadata(made.join("hard")).unwrap().nlink(), 2);
    let meta = fs::metadata(made.join("sparse")).unwrap();
    assert_eq!((meta.len(), meta.mtime()), (1 << 20, 981_173_106));
    assert!(meta.blocks() * 512 < 512 << 10, "holes stay holes: {}", meta.blocks());
}

#[test]
fn attributes_are_kept_but_those_of_overlays() {
    let records = |pairs: &[(&str, &str)]| -> Vec<u8> {
        let mut all = Vec::new();
        for (key, value) in pairs {
            let rest = key.len() + value.len() + 3;
            let length = (1..4).find(|digits| (rest + digits).to_string().len() == *digits).unwrap() + rest;
            all.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
        }
        all
    };
    let headers = records(&[
        ("SCHILY.xattr.user.mine", "yes"),
        ("SCHILY.xattr.user.overlay.redirect", "/etc"),
        ("SCHILY.xattr.trusted.overlay.opaque", "y"),
        ("mtime", "-1.25"),
    ]);
    let layer = archive(&[("x", EntryType::XHeader, "", &headers), ("file", Regular, "", b"x")]);
    let place = Place::new();
    let written = place.keep(&layer).unwrap();
    assert_eq!(written.left_out, 2);
    let file = place.root("layer/file");
    let mut value = [0; 16];
    let count = rustix::fs::getxattr(&file, "user.mine", &mut value[..]).unwrap();
    assert_eq!(&value[..count], b"yes");
    assert!(rustix::fs::getxattr(&file, "user.overlay.redirect", &mut value[..]).is_err());
    let meta = fs::metadata(&file).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-2, 750_000_000));
}

/// What a layer has at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Has {
    Directory,
    File(u8),
}

/// A layer: what it has, and what it hides of those below.
#[derive(Debug, Clone, Default)]
struct Model {
    entries: BTreeMap<String, Has>,
    whiteouts: BTreeSet<String>,
    opaque: BTreeSet<String>,
    order: Vec<Index>,
}

fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(vec!["a", "b", "c"]), 1..4).prop_map(|p| p.join("/"))
}

fn layer() -> impl Strategy<Value = Model> {
    let has = prop_oneof![Just(Has::Directory), any::<u8>().prop_map(Has::File)];
    let entries = proptest::collection::btree_map(path(), has, 0..6);
    let hidden = proptest::collection::btree_set(path(), 0..3);
    let opaque = proptest::collection::btree_set(path(), 0..2);
    let order = proptest::collection::vec(any::<Index>(), 12);
    (entries, hidden, opaque, order).prop_map(|(all, mut whiteouts, mut opaque, order)| {
        // No honest layer has something below a file of its own.
        let file = |path: &str| matches!(all.get(path), Some(Has::File(_)));
        let fits = |path: &str| !ancestors(path).any(file);
        let entries =
            all.iter().filter(|(path, _)| fits(path)).map(|(path, has)| (path.clone(), *has)).collect();
        whiteouts.retain(|path| fits(path));
        opaque.retain(|path| fits(path) && !file(path));
        // Nor below what it hides itself, unless it has that too.
        Model { entries, whiteouts, opaque, order }
    })
}

impl Model {
    /// As an archive, in some order.
    fn archive(&self) -> Vec<u8> {
        let mut parts: Vec<(String, Has)> = self.entries.iter().map(|(p, has)| (p.clone(), *has)).collect();
        for path in &self.whiteouts {
            let (parent, name) = path.rsplit_once('/').map_or(("", path.as_str()), |(p, n)| (p, n));
            parts.push((format!("{parent}/.wh.{name}"), Has::File(0)));
        }
        parts.extend(self.opaque.iter().map(|path| (format!("{path}/.wh..wh..opq"), Has::File(0))));
        let mut builder = Builder::new(Vec::new());
        for at in &self.order {
            if parts.is_empty() {
                break;
            }
            let (name, has) = parts.remove(at.index(parts.len()));
            match has {
                Has::Directory => add(&mut builder, &name, Directory, "", b""),
                Has::File(byte) => add(&mut builder, &name, Regular, "", &[byte]),
            }
        }
        builder.into_inner().unwrap()
    }

    /// What the layers below become under this one, by the words of OCI's specification.
    fn over(&self, below: &mut BTreeMap<String, Has>) {
        let under = |path: &str, top: &str| path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
        for top in &self.whiteouts {
            below.retain(|path, _| path != top && !under(path, top));
        }
        for top in &self.opaque {
            below.retain(|path, _| !under(path, top));
        }
        let opaque = self.opaque.iter().map(|path| (path, Has::Directory));
        let entries = self.entries.iter().map(|(path, has)| (path, *has)).chain(opaque);
        for (path, has) in entries {
            if let Has::File(_) = has {
                below.retain(|other, _| !under(other, path));
            }
            below.insert(path.clone(), has);
        }
        // Whatever stands above something is a directory.
        let hidden = self.whiteouts.iter().chain(&self.opaque);
        for path in self.entries.keys().chain(hidden) {
            for above in ancestors(path) {
                below.insert(above.to_owned(), Has::Directory);
            }
        }
    }
}

/// What is in a directory.
fn tree(root: &Path) -> BTreeMap<String, Has> {
    let mut found = BTreeMap::new();
    walk(&[root.to_owned()], "", &mut found);
    found
}

/// What an overlay of these directories, topmost first, shows.
fn walk(stack: &[PathBuf], at: &str, found: &mut BTreeMap<String, Has>) {
    let names: BTreeSet<OsString> = stack
        .iter()
        .flat_map(|dir| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()))
        .collect();
    for name in names {
        let mut directories = Vec::new();
        let mut top = None;
        for dir in stack {
            let path = dir.join(&name);
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if !meta.is_dir() {
                if directories.is_empty() && !meta.file_type().is_char_device() {
                    top = Some(Has::File(fs::read(&path).unwrap()[0]));
                }
                break;
            }
            let opaque = rustix::fs::getxattr(&path, OPAQUE_ATTRIBUTE, &mut [0_u8; 8][..]).is_ok();
            directories.push(path);
            if opaque {
                break;
            }
        }
        let whole = format!("{at}{}", String::from_utf8_lossy(name.as_bytes()));
        if directories.is_empty() {
            found.extend(top.map(|has| (whole, has)));
        } else {
            found.insert(whole.clone(), Has::Directory);
            walk(&directories, &format!("{whole}/"), found);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Stacked and merged, layers are what OCI's specification says.
    #[test]
    fn whiteouts_hide_what_is_below_and_nothing_else(layers in proptest::collection::vec(layer(), 1..4)) {
        let place = Place::new();
        let archives: Vec<Vec<u8>> = layers.iter().map(Model::archive).collect();
        let mut expected = BTreeMap::new();
        layers.iter().for_each(|layer| layer.over(&mut expected));
        let mut stack = Vec::new();
        for (number, archive) in archives.iter().enumerate() {
            let name = format!("l{number}");
            place.unpack(&name, std::slice::from_ref(archive), Whiteouts::Keep).unwrap();
            stack.insert(0, place.root(&name));
        }
        let mut stacked = BTreeMap::new();
        walk(&stack, "", &mut stacked);
        prop_assert_eq!(&stacked, &expected, "stacked");
        place.unpack("merged", &archives, Whiteouts::Apply).unwrap();
        prop_assert_eq!(tree(&place.root("merged")), expected, "merged");
        place.assert_untouched();
    }

    /// Archives that an attacker builds end well or are refused, and touch nothing outside.
    #[test]
    fn no_archive_gets_out(
        entries in proptest::collection::vec(
            (
                "(\\.\\./|/|a/|b/|\\./|\\.wh\\.){0,4}(a|b|victim|file|\\.\\.|\\.wh\\.a|\\.wh\\.\\.wh\\.\\.opq|)",
                0..9_u8,
                "(\\.\\./|/|a/|b/){0,4}(victim|file|a|b|\\.\\.)?",
            ),
            0..12,
        ),
        merged in any::<bool>(),
    ) {
        let mut builder = Builder::new(Vec::new());
        for (name, kind, link) in &entries {
            let kind = [Regular, Directory, Symlink, Link, Fifo, Char, Regular, Symlink, Directory][usize::from(*kind)];
            add(&mut builder, name, kind, link, if kind == Regular { b"x" } else { b"" });
        }
        let bytes = builder.into_inner().unwrap();
        let place = Place::new();
        let whiteouts = if merged { Whiteouts::Apply } else { Whiteouts::Keep };
        // Either is well; what it must not do is looked at below.
        let _ = place.unpack("layer", &[bytes.clone(), bytes], whiteouts);
        place.assert_untouched();
        super::remove::remove_path(&place.root("layer")).unwrap();
        place.assert_untouched();
    }

    /// Bytes that are no archive at all, or a damaged one.
    #[test]
    fn garbage_is_refused_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        at in any::<Index>(),
        flip in 1..=255_u8,
    ) {
        let place = Place::new();
        let _ = place.keep(&bytes);
        let mut damaged = archive(&[("a", Regular, "", b"xyz"), ("d", Directory, "", b""), ("l", Symlink, "a", b"")]);
        let at = at.index(damaged.len());
        damaged[at] ^= flip;
        let _ = place.keep(&damaged);
        place.assert_untouched();
    }
}
