//! T15: archives that leave the directory, carry devices, or never end.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hothouse_domain::Resources;
use reqwest::Method;
use tar::{Builder, EntryType, Header};

use crate::api::Answer;
use crate::outside;
use crate::scene::Scene;

/// One entry as an attacker writes it: no name is checked here.
fn entry(archive: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, link: &str, mode: u32, content: &[u8]) {
    let mut header = Header::new_ustar();
    let raw = header.as_old_mut();
    raw.name[..name.len()].copy_from_slice(name.as_bytes());
    raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    if matches!(kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(1).expect("a ustar header");
        header.set_device_minor(1).expect("a ustar header");
    }
    header.set_cksum();
    archive.append(&header, content).expect("an archive in memory");
}

fn archive(entries: &[(&str, EntryType, &str, &[u8])]) -> Bytes {
    let mut archive = Builder::new(Vec::new());
    for (name, kind, link, content) in entries {
        entry(&mut archive, name, *kind, link, 0o644, content);
    }
    archive.into_inner().expect("an archive in memory").into()
}

async fn unpack(scene: &Scene<'_>, id: &str, at: &str, content: Bytes) -> anyhow::Result<Answer> {
    let target = format!("/v1/sandboxes/{id}/archive?path={at}");
    scene.world.api.send(Method::PUT, &target, content).await
}

/// Archives that try to write outside of the directory that they are unpacked into.
fn escapes() -> Vec<(&'static str, Bytes)> {
    use EntryType::{Link, Regular, Symlink};
    vec![
        ("..", archive(&[("../pwned", Regular, "", b"x")])),
        (".. in the middle", archive(&[("a/../../pwned", Regular, "", b"x")])),
        ("absolute", archive(&[("/workspace/pwned", Regular, "", b"x")])),
        ("symlink then file", archive(&[("a", Symlink, "/workspace", b""), ("a/pwned", Regular, "", b"x")])),
        ("symlink .. then file", archive(&[("a", Symlink, "..", b""), ("a/pwned", Regular, "", b"x")])),
        (
            "symlink to symlink",
            archive(&[("a", Symlink, "b", b""), ("b", Symlink, "..", b""), ("a/pwned", Regular, "", b"x")]),
        ),
        ("symlink as file", archive(&[("a", Symlink, "../pwned", b""), ("a", Regular, "", b"x")])),
        ("hardlink out", archive(&[("a", Link, "../victim", b""), ("a", Regular, "", b"changed")])),
        (
            "hardlink absolute",
            archive(&[("a", Link, "/workspace/victim", b""), ("a", Regular, "", b"changed")]),
        ),
        (
            "hardlink through symlink",
            archive(&[
                ("s", Symlink, "..", b""),
                ("a", Link, "s/victim", b""),
                ("a", Regular, "", b"changed"),
            ]),
        ),
    ]
}

/// The same, uploaded as images: they are unpacked on the host, by the server.
async fn images(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    use EntryType::{Block, Char, Regular, Symlink};
    let mut all = escapes();
    all.extend([
        (
            "link to a directory of the host",
            archive(&[("a", Symlink, "/tmp", b""), ("a/pwned", Regular, "", b"x")]),
        ),
        ("whiteout of the parent", archive(&[("a/.wh..", Regular, "", b"")])),
        ("character device", archive(&[("node", Char, "", b"")])),
        ("block device", archive(&[("node", Block, "", b"")])),
    ]);
    for (name, content) in all {
        let answer = scene.world.api.send(Method::POST, "/v1/images/import?name=evil:1", content).await?;
        let out: Vec<PathBuf> = ["/", "/tmp", "/workspace"].map(|dir| Path::new(dir).join("pwned")).into();
        let mut out: Vec<PathBuf> = out.into_iter().filter(|path| path.exists()).collect();
        let store = scene.world.dir().join("home/images/store");
        strays(&store, &store.join("layers"), &mut out)?;
        let contained = out.is_empty() && (answer.status == 201 || (400..500).contains(&answer.status));
        let seen = format!("{} {} {out:?}", answer.status, answer.code());
        scene.found.holds(format!("image, {name}: stays inside"), contained, seen);
    }
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    bomb.write_all(&archive(&[("z", Regular, "", &[])])[..512])?;
    let mut header = Header::new_gnu();
    header.set_path("endless")?;
    header.set_size(1 << 50);
    header.set_entry_type(Regular);
    header.set_cksum();
    bomb.write_all(header.as_bytes())?;
    let bomb = Bytes::from(bomb.finish()?);
    let answer = scene.world.api.send(Method::POST, "/v1/images/import", bomb).await?;
    scene.found.holds("image, a promise of 1 PiB", (400..500).contains(&answer.status), answer.code());
    let answer =
        scene.world.api.send(Method::POST, "/v1/images/prune", Bytes::from_static(b"{\"all\":true}")).await?;
    scene.found.holds("image, all of it can be removed", answer.status == 200, answer.code());
    let mut left = Vec::new();
    strays(&scene.world.dir().join("home/images/store"), Path::new("/nowhere"), &mut left)?;
    scene.found.holds("image, nothing of it is left", left.is_empty(), format!("{left:?}"));
    Ok(())
}

/// Devices below a directory, and what the attack has made outside of `layers`.
fn strays(directory: &Path, layers: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let meta = std::fs::symlink_metadata(&path)?;
        if meta.rdev() != 0 || (path.ends_with("pwned") && !path.starts_with(layers)) {
            found.push(path.clone());
        }
        if meta.is_dir() {
            strays(&path, layers, found)?;
        }
    }
    Ok(())
}

pub(super) async fn attack(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    images(scene).await?;
    let id = scene.plain().await?;
    scene.shell(&id, "echo untouched > /workspace/victim").await?;
    for (number, (name, content)) in escapes().into_iter().enumerate() {
        let at = format!("/workspace/in{number}");
        let answer = unpack(scene, &id, &at, content).await?;
        let look = scene
            .shell(&id, "cat /workspace/victim; ls /workspace | grep -c '^pwned'; ls / | grep -c pwned")
            .await?;
        let contained = look.stdout == "untouched\n0\n0\n" && answer.status < 500;
        scene.found.holds(
            format!("{name}: stays inside"),
            contained,
            format!("{} {:?}", answer.code(), look.stdout),
        );
    }
    for (name, kind) in [("char", EntryType::Char), ("block", EntryType::Block), ("fifo", EntryType::Fifo)] {
        let answer =
            unpack(scene, &id, &format!("/workspace/{name}"), archive(&[("node", kind, "", b"")])).await?;
        let look = scene.shell(&id, &format!("test -b /workspace/{name}/node -o -c /workspace/{name}/node -o -p /workspace/{name}/node && echo there")).await?;
        let contained = look.stdout.is_empty() && answer.status < 500;
        scene.found.holds(
            format!("a {name} entry makes no node"),
            contained,
            format!("{} {:?}", answer.code(), look.stdout),
        );
    }
    let mut setuid = Builder::new(Vec::new());
    entry(&mut setuid, "su", EntryType::Regular, "", 0o6755, b"#!/bin/sh\n");
    unpack(scene, &id, "/workspace/bits", setuid.into_inner()?.into()).await?;
    let bits = scene.shell(&id, "find /workspace/bits -perm /6000").await?;
    scene.found.holds("setuid bits are dropped", bits.stdout.is_empty(), &bits.stdout);
    bombs(scene).await?;
    for (name, content) in [
        ("no archive", Bytes::from_static(b"not a tar at all, only text\n")),
        ("cut off", archive(&[("f", EntryType::Regular, "", &[7; 4096])]).slice(..1024)),
    ] {
        let answer = unpack(scene, &id, "/workspace/odd", content).await?;
        scene.found.holds(format!("{name} is refused"), (400..500).contains(&answer.status), answer.code());
    }
    Ok(())
}

async fn bombs(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let small = Resources { disk_bytes: 8 << 20, disk_inodes: 1000, ..Resources::default() };
    let id = scene.sandbox(small).await?;
    let answer = unpack(
        scene,
        &id,
        "/workspace/big",
        archive(&[("zeros", EntryType::Regular, "", &vec![0; 32 << 20])]),
    )
    .await?;
    scene.limited(
        "disk_limit",
        "more bytes than the disk has",
        matches!(answer.code().as_str(), "no_space" | "too_large"),
        answer.code(),
    );
    // A header that promises 8 EiB, and nothing behind it.
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..1].copy_from_slice(b"z");
    header
        .as_old_mut()
        .size
        .copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    let answer = unpack(scene, &id, "/workspace/eib", Bytes::copy_from_slice(header.as_bytes())).await?;
    scene.found.holds(
        "a promise of 8 EiB",
        (400..500).contains(&answer.status) || answer.status == 507,
        answer.code(),
    );
    let id = scene
        .sandbox(Resources { disk_inodes: 1 << 21, memory_bytes: 2 << 30, ..Resources::default() })
        .await?;
    let target = format!("/v1/sandboxes/{id}/archive?path=/workspace/many");
    let many = reqwest::Body::wrap_stream(futures::stream::iter((0..1000).map(thousand_files)));
    let answer = scene.world.api.put_stream(&target, many).await;
    // The server may hang up on an upload that it has refused.
    let held = answer.as_ref().map_or(true, |answer| (400..500).contains(&answer.status));
    scene.found.holds("1e6 entries", held, format!("{answer:?}"));
    let alive = scene.shell(&id, "echo alive").await?;
    scene.found.holds("the sandbox works on", alive.stdout == "alive\n", format!("{alive:?}"));
    Ok(())
}

/// The entries of a thousand empty files, the so many-th of an archive.
fn thousand_files(number: usize) -> std::io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(512 * 1000);
    for file in 0..1000 {
        let mut header = Header::new_ustar();
        header.set_path(format!("f{number}-{file}"))?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
    }
    Ok(bytes.into())
}

pub(super) async fn control(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    // What an unpacker does that trusts names: each of these lands outside of `in`.
    for (name, content) in escapes() {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("in"))?;
        std::fs::write(dir.path().join("victim"), "untouched\n")?;
        let file = dir.path().join("a.tar");
        // Absolute names are written for the sandbox; here they lead to this directory.
        let text: Vec<u8> = content.to_vec();
        std::fs::File::create(&file)?.write_all(&text)?;
        let payload = "import sys, tarfile\nbase, name = sys.argv[1:]\n\
             for member in (archive := tarfile.open(base + '/a.tar')):\n\
             \x20   swap = lambda path: path.replace('/workspace', base)\n\
             \x20   member.name, member.linkname = swap(member.name), swap(member.linkname)\n\
             \x20   target = os.path.join(base, 'in', member.name)\n\
             \x20   link = member.linkname if member.issym() else os.path.join(base, 'in', member.linkname)\n\
             \x20   if member.issym(): os.symlink(member.linkname, target)\n\
             \x20   elif member.islnk(): os.link(link, target)\n\
             \x20   else: os.makedirs(os.path.dirname(target), exist_ok=True); open(target, 'wb').write(archive.extractfile(member).read())\n\
             report(pwned=os.path.exists(base + '/pwned'), victim=open(base + '/victim').read())";
        let report = outside::python(&[], payload, &[&dir.path().display().to_string(), name]).await?;
        let escaped = report["pwned"] == true || report["victim"] != "untouched\n";
        scene.found.holds(format!("{name}: an unpacker that trusts names is led out"), escaped, &report);
    }
    Ok(())
}
