//! Files against the real program.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is a test")]

mod driver;

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use driver::{Answer, Driver, Guest};
use hothouse_guest::frame::Channel;
use hothouse_guest::message::{Ending, FileKind, GuestErrorCode, Reply, Request};
use sha2::{Digest, Sha256};

fn write(driver: &mut Driver, path: &str, bytes: &[u8]) -> Answer {
    upload(driver, &write_request(path), bytes)
}

fn write_request(path: &str) -> Request {
    Request::WriteFile { path: path.to_owned(), mode: None, parents: false, sha256: None }
}

fn upload(driver: &mut Driver, request: &Request, bytes: &[u8]) -> Answer {
    let stream = driver.open(request);
    driver.upload(stream, Channel::File, bytes);
    driver.drain(stream)
}

fn read(driver: &mut Driver, path: &str) -> Answer {
    driver.request(&Request::ReadFile { path: path.to_owned(), offset: 0, length: None })
}

fn tar_in(path: &str) -> Request {
    Request::TarIn { path: path.to_owned(), max_entries: 1000, max_bytes: 10 << 20 }
}

#[test]
fn a_big_file_goes_in_and_comes_back() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let path = guest.path("big");
    let bytes: Vec<u8> =
        (0..20_000_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let sha256: [u8; 32] = Sha256::digest(&bytes).into();
    let answer = write(&mut driver, &path, &bytes);
    assert_eq!(answer.last(), &Reply::Written { size: bytes.len() as u64, sha256 });
    let answer = read(&mut driver, &path);
    assert!(answer.file == bytes);
    assert!(matches!(&answer.replies[0], Reply::Stat(stat) if stat.size == bytes.len() as u64));
    let part = Request::ReadFile { path, offset: 19_999_990, length: Some(5) };
    assert_eq!(driver.request(&part).file, &bytes[19_999_990..19_999_995]);
}

#[test]
fn a_write_keeps_the_mode_and_follows_links_and_is_all_or_nothing() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let path = guest.path("script");
    std::fs::write(&path, "old").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o751)).unwrap();
    let link = guest.path("link");
    std::os::unix::fs::symlink("script", &link).unwrap();
    write(&mut driver, &link, b"new");
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o751);
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());

    let wrong = Request::WriteFile { path: path.clone(), mode: None, parents: false, sha256: Some([1; 32]) };
    assert_eq!(upload(&mut driver, &wrong, b"newer").error().0, GuestErrorCode::Invalid);
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    // A driver that goes away leaves nothing behind.
    let mut gone = guest.connect();
    let stream = gone.open(&write_request(&path));
    gone.send(hothouse_guest::frame::Kind::Data, stream, Channel::File, b"half");
    drop(gone);
    let dir = guest.path("");
    driver::wait_for("the temporary file is gone", || {
        std::fs::read_dir(&dir)
            .unwrap()
            .all(|entry| !entry.unwrap().file_name().to_string_lossy().contains(".part"))
    });
    let deep = guest.path("a/b/c");
    assert_eq!(write(&mut driver, &deep, b"x").error().0, GuestErrorCode::FileNotFound);
    let made = Request::WriteFile { path: deep.clone(), mode: Some(0o600), parents: true, sha256: None };
    assert!(matches!(upload(&mut driver, &made, b"x").last(), Reply::Written { size: 1, .. }));
    assert_eq!(std::fs::metadata(&deep).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let fifo = guest.path("fifo");
    driver.sh(&format!("mkfifo {fifo}"));
    for path in [fifo.as_str(), "/dev/zero", "/dev/tty", &guest.path("")] {
        assert_eq!(read(&mut driver, path).error().0, GuestErrorCode::FileRefused, "{path}");
        assert_eq!(write(&mut driver, path, b"x").error().0, GuestErrorCode::FileRefused, "{path}");
        let patch = Request::Patch { path: path.to_owned(), strip: 0 };
        assert!(matches!(upload(&mut driver, &patch, b"x").last(), Reply::Error { .. }), "{path}");
    }
    assert_eq!(read(&mut driver, "relative").error().0, GuestErrorCode::Invalid);
    assert_eq!(read(&mut driver, "/a\0b").error().0, GuestErrorCode::Invalid);
    assert_eq!(read(&mut driver, "/proc/self/fd/3").error().0, GuestErrorCode::FileRefused);
    assert!(!read(&mut driver, "/proc/meminfo").file.is_empty());
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    if !std::path::Path::new("/dev/full").exists() || !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = guest.path("small");
    let mounted = driver.sh(&format!("mkdir {dir} && mount -t tmpfs -o size=64k none {dir}"));
    if mounted.ending() != &Ending::Exited(0) {
        return;
    }
    let answer = write(&mut driver, &format!("{dir}/f"), &vec![1; 1 << 20]);
    let left = std::fs::read_dir(&dir).unwrap().count();
    driver.sh(&format!("umount {dir}"));
    assert_eq!((answer.error().0, left), (GuestErrorCode::NoSpace, 0));
}

#[test]
fn names_are_made_listed_renamed_and_removed() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let dir = guest.path("d/e");
    let mkdir = |path: &str, parents| Request::Mkdir { path: path.to_owned(), parents, mode: 0o750 };
    assert_eq!(driver.request(&mkdir(&dir, false)).error().0, GuestErrorCode::FileNotFound);
    assert_eq!(driver.request(&mkdir(&dir, true)).last(), &Reply::Done);
    assert_eq!(driver.request(&mkdir(&dir, true)).last(), &Reply::Done);
    assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o7777, 0o750);
    driver.sh(&format!("cd {dir}; for i in $(seq 1 2000); do : > f$i; done; ln -s f1 link; mkfifo p"));
    let answer = driver.request(&Request::List { path: dir.clone() });
    let mut entries = Vec::new();
    for reply in &answer.replies {
        match reply {
            Reply::Listing(some) => entries.extend(some.clone()),
            other => assert_eq!(other, &Reply::Done),
        }
    }
    assert_eq!(entries.len(), 2002);
    assert!(entries.is_sorted_by_key(|entry| entry.path.clone()));
    let kind = |name: &str| {
        let path = format!("{dir}/{name}").into_bytes();
        entries.iter().find(|entry| entry.path == path).map(|entry| (entry.kind, entry.target.clone()))
    };
    assert_eq!(kind("link"), Some((FileKind::Symlink, Some(b"f1".to_vec()))));
    assert_eq!(kind("p"), Some((FileKind::Other, None)));
    let stat = |driver: &mut Driver, path: &str, follow| match driver
        .request(&Request::Stat { path: path.to_owned(), follow })
        .replies
        .remove(0)
    {
        Reply::Stat(stat) => Ok(stat.kind),
        Reply::Error { code, .. } => Err(code),
        other => panic!("{other:?}"),
    };
    let link = format!("{dir}/link");
    assert_eq!(stat(&mut driver, &link, false), Ok(FileKind::Symlink));
    assert_eq!(stat(&mut driver, &link, true), Ok(FileKind::File));
    let rename = Request::Rename { from: link.clone(), to: guest.path("moved") };
    assert_eq!(driver.request(&rename).last(), &Reply::Done);
    assert_eq!(stat(&mut driver, &link, false), Err(GuestErrorCode::FileNotFound));
    let top = guest.path("d");
    let remove = |recursive| Request::Remove { path: top.clone(), recursive };
    assert_eq!(driver.request(&remove(false)).error().0, GuestErrorCode::FileRefused);
    driver.sh(&format!("cd {dir}; for i in $(seq 1 200); do mkdir deep; cd deep; : > f; done"));
    assert_eq!(driver.request(&remove(true)).last(), &Reply::Done);
    assert_eq!(driver.request(&remove(true)).error().0, GuestErrorCode::FileNotFound);
}

#[test]
fn a_tree_goes_out_and_in_as_tar() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let (from, to) = (guest.path("from"), guest.path("to"));
    let long = "n".repeat(150);
    driver.sh(&format!(
        "mkdir -p {from}/sub/{long}; cd {from}; head -c 300001 /dev/urandom > sub/big; : > empty; \
         echo x > sub/{long}/{long}; chmod 750 sub/big; ln -s sub/big link; ln -s {long}/{long} longlink; mkfifo fifo"
    ));
    let archive = driver.request(&Request::TarOut { path: from.clone() }).file;
    let answer = upload(&mut driver, &tar_in(&to), &archive);
    match answer.last() {
        Reply::Changed { count, .. } => assert_eq!(*count, 7),
        other => panic!("{other:?}"),
    }
    let answer = driver
        .sh(&format!("rm {from}/fifo; diff -r --no-dereference {from} {to} && stat -c %a {to}/sub/big"));
    assert_eq!(answer.out(), "750\n", "{}", answer.err());
    // The archive is one that others read, and theirs are read here.
    std::fs::write(guest.path("a.tar"), &archive).unwrap();
    let answer = driver.sh(&format!(
        "cd {} && mkdir other && tar xf a.tar -C other && diff -r --no-dereference {from} other",
        guest.path("")
    ));
    assert_eq!(answer.ending(), &Ending::Exited(0), "{}{}", answer.out(), answer.err());
    for format in ["gnu", "pax", "ustar"] {
        let to = guest.path(format);
        driver.sh(&format!("cd {from} && ln -f empty hard; tar c --format={format} --exclude=n* --exclude=longlink -f {}.tar .", to));
        let archive = std::fs::read(format!("{to}.tar")).unwrap();
        upload(&mut driver, &tar_in(&to), &archive);
        let answer = driver.sh(&format!("diff -r --no-dereference -x 'n*' -x longlink {from} {to}"));
        assert_eq!(answer.ending(), &Ending::Exited(0), "{format}: {}", answer.out());
    }
    let one = driver.request(&Request::TarOut { path: format!("{from}/sub/big") }).file;
    assert_eq!(one.len(), 512 + 300_032 + 512 + 1024 - 512);
}

fn archive(entries: &[(&str, tar::EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, link, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o4755);
        header.set_mtime(1);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

#[test]
fn hostile_archives_are_refused_or_contained() {
    use tar::EntryType::{Block, Char, Fifo, Link, Regular, Symlink};
    let guest = Guest::start();
    let mut driver = guest.connect();
    let outside = guest.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(format!("{outside}/secret"), "s").unwrap();
    let to = guest.path("to");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("dots", archive(&[("../x", Regular, "", b"x")])),
        ("dots in the middle", archive(&[("a/../../x", Regular, "", b"x")])),
        ("absolute", archive(&[("/tmp/x", Regular, "", b"x")])),
        ("link then file", archive(&[("l", Symlink, &outside, b""), ("l/x", Regular, "", b"x")])),
        ("hard link out", archive(&[("h", Link, "../outside/secret", b"")])),
        ("hard link through a link", archive(&[("l", Symlink, &outside, b""), ("h", Link, "l/secret", b"")])),
        ("hard link to a link", archive(&[("l", Symlink, &outside, b""), ("h", Link, "l", b"")])),
        ("device", archive(&[("d", Char, "", b"")])),
        ("block device", archive(&[("d", Block, "", b"")])),
        ("fifo", archive(&[("f", Fifo, "", b"")])),
        ("cut off", archive(&[("f", Regular, "", &[1; 5000])])[..2000].to_vec()),
        ("garbage", vec![7; 4096]),
        ("gzip", [&[0x1f, 0x8b][..], &[0; 1000]].concat()),
    ];
    for (name, bytes) in cases {
        let answer = upload(&mut driver, &tar_in(&to), &bytes);
        assert!(matches!(answer.last(), Reply::Error { .. }), "{name}: {answer:?}");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "{name}");
        assert!(!std::path::Path::new(&guest.path("x")).exists(), "{name}");
    }
    // A file in place of a link replaces the link.
    let bytes = archive(&[("w", Symlink, &format!("{outside}/secret"), b""), ("w", Regular, "", b"new")]);
    assert!(matches!(upload(&mut driver, &tar_in(&to), &bytes).last(), Reply::Changed { .. }));
    assert_eq!(std::fs::read_to_string(format!("{outside}/secret")).unwrap(), "s");
    assert_eq!(std::fs::metadata(format!("{to}/w")).unwrap().mode() & 0o7777, 0o755);
    // Bombs.
    let many: Vec<_> = (0..1001).map(|_| ("f", Regular, "", &b""[..])).collect();
    assert_eq!(upload(&mut driver, &tar_in(&to), &archive(&many)).error().0, GuestErrorCode::TooLarge);
    let big = vec![0; (10 << 20) + 1];
    let answer = upload(&mut driver, &tar_in(&to), &archive(&[("f", Regular, "", &big)]));
    assert_eq!(answer.error().0, GuestErrorCode::TooLarge);
}

#[test]
fn a_patch_changes_all_files_or_none() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let dir = guest.path("p");
    driver.sh(&format!("mkdir -p {dir}/s; cd {dir}; printf 'a\\nb\\nc\\n' > one; printf 'x\\ny\\n' > s/two; echo gone > old; chmod 750 one"));
    let good = "--- a/one\n+++ b/one\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n\
                --- a/s/two\n+++ b/s/two\n@@ -1,2 +1,3 @@\n x\n y\n+z\n\
                --- /dev/null\n+++ b/new/file\n@@ -0,0 +1 @@\n+fresh\n\
                --- a/old\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n";
    let bad = good.replace(" x\n y\n", " x\n Q\n");
    let request = Request::Patch { path: dir.clone(), strip: 1 };
    assert_eq!(upload(&mut driver, &request, bad.as_bytes()).error().0, GuestErrorCode::PatchRejected);
    assert_eq!(std::fs::read_to_string(format!("{dir}/one")).unwrap(), "a\nb\nc\n");
    assert!(!std::path::Path::new(&format!("{dir}/new")).exists());
    let answer = upload(&mut driver, &request, good.as_bytes());
    match answer.last() {
        Reply::Changed { paths, count, .. } => {
            assert_eq!((paths.join(" "), *count), ("new/file old one s/two".to_owned(), 4));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read_to_string(format!("{dir}/one")).unwrap(), "a\nB\nc\n");
    assert_eq!(std::fs::metadata(format!("{dir}/one")).unwrap().mode() & 0o777, 0o750);
    assert_eq!(std::fs::read_to_string(format!("{dir}/s/two")).unwrap(), "x\ny\nz\n");
    assert_eq!(std::fs::read_to_string(format!("{dir}/new/file")).unwrap(), "fresh\n");
    assert!(!std::path::Path::new(&format!("{dir}/old")).exists());
    for hostile in
        [good.replace("b/one", "b/../../x").replace("a/one", "b/../../x"), String::new(), "no patch".into()]
    {
        assert_eq!(
            upload(&mut driver, &request, hostile.as_bytes()).error().0,
            GuestErrorCode::PatchRejected
        );
    }
    let git = "diff --git a/one b/run.sh\nsimilarity index 50%\nrename from one\nrename to run.sh\nold mode 100644\nnew mode 100755\n\
               --- a/one\n+++ b/run.sh\n@@ -1,3 +1,3 @@\n a\n-B\n+b\n c\n";
    let answer = upload(&mut driver, &request, git.as_bytes());
    assert!(matches!(answer.last(), Reply::Changed { .. }), "{answer:?}");
    assert_eq!(std::fs::read_to_string(format!("{dir}/run.sh")).unwrap(), "a\nb\nc\n");
    assert!(!std::path::Path::new(&format!("{dir}/one")).exists());
    assert_eq!(std::fs::metadata(format!("{dir}/run.sh")).unwrap().mode() & 0o111, 0o111);
}

#[test]
fn an_archive_of_everything_leaves_the_kernels_files_out() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let (parent, proc) = (guest.path("all"), guest.path("all/proc"));
    let mounted = driver.sh(&format!("mkdir -p {proc} && echo x > {parent}/f && mount -t proc proc {proc}"));
    if mounted.ending() != &Ending::Exited(0) {
        return;
    }
    let archive = driver.request(&Request::TarOut { path: parent });
    driver.sh(&format!("umount {proc}"));
    assert_eq!((archive.last(), archive.file.len()), (&Reply::Done, 512 + 512 + 512 + 1024));
}

#[test]
fn a_long_download_starves_nobody() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let tar = driver.open(&Request::TarOut { path: "/usr/share".to_owned() });
    let answer = driver.sh("echo quick");
    assert_eq!(answer.out(), "quick\n");
    driver.send(hothouse_guest::frame::Kind::Close, tar, Channel::None, &[]);
    assert_eq!(driver.sh("echo again").out(), "again\n");
}
