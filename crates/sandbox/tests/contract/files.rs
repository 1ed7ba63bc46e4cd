//! Files.

use hothouse_domain::files::FileKind;
use hothouse_domain::{ErrorCode, SandboxSpec};
use hothouse_sandbox::Sandbox;
use hothouse_sandbox::sandbox::WriteOptions;
use sha2::{Digest as _, Sha256};

use super::{Case, code, content, limited, ok, sh, whole};
use crate::cases;

pub(crate) fn group() -> Vec<Case> {
    cases![
        what_is_written_is_read,
        a_write_makes_parents_and_keeps_the_mode,
        a_wrong_digest_changes_nothing,
        a_write_that_breaks_off_changes_nothing,
        a_large_file_goes_both_ways,
        a_part_of_a_file,
        a_full_disk_is_told_and_changes_nothing(tiny) needs "disk_limit",
        stat_tells_kinds,
        a_directory_is_listed_in_order,
        directories_are_made,
        files_and_directories_are_removed,
        files_and_directories_are_renamed,
        what_is_no_file_is_refused_and_never_waited_for,
        no_path_leaves_the_sandbox,
        paths_are_checked,
    ]
}

async fn write(
    s: &Sandbox,
    path: &str,
    bytes: &[u8],
) -> Result<hothouse_domain::files::FileWritten, hothouse_sandbox::SandboxError> {
    s.write_file(path, WriteOptions::default(), content(bytes, 1000)).await
}

async fn read(s: &Sandbox, path: &str) -> Vec<u8> {
    whole(s.read_file(path, 0, None).await.unwrap()).await
}

async fn what_is_written_is_read(s: Sandbox) {
    for bytes in [b"".as_slice(), b"text\n", b"\0\xff\0bytes", &[7; 100_000]] {
        let written = write(&s, "/workspace/file", bytes).await.unwrap();
        assert_eq!((written.path.as_str(), written.size), ("/workspace/file", bytes.len() as u64));
        let digest: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(written.sha256, digest);
        assert_eq!(read(&s, "/workspace/file").await, bytes);
    }
}

async fn a_write_makes_parents_and_keeps_the_mode(s: Sandbox) {
    let options = WriteOptions { mode: Some(0o750), ..WriteOptions::default() };
    s.write_file("/workspace/a/b/tool", options, content(b"#!/bin/sh\necho run\n", 5)).await.unwrap();
    assert_eq!(ok(&s, "a/b/tool").await, "run\n");
    assert_eq!(s.stat("/workspace/a/b/tool").await.unwrap().mode, 0o750);
    write(&s, "/workspace/a/b/tool", b"#!/bin/sh\necho again\n").await.unwrap();
    assert_eq!(ok(&s, "a/b/tool").await, "again\n", "the mode of what is replaced stays");
    write(&s, "/workspace/fresh", b"x").await.unwrap();
    assert_eq!(s.stat("/workspace/fresh").await.unwrap().mode, 0o644);
}

async fn a_wrong_digest_changes_nothing(s: Sandbox) {
    write(&s, "/workspace/file", b"old").await.unwrap();
    let wrong = WriteOptions { sha256: Some([1; 32]), ..WriteOptions::default() };
    assert!(s.write_file("/workspace/file", wrong, content(b"new", 1)).await.is_err());
    assert_eq!(read(&s, "/workspace/file").await, b"old");
    assert_eq!(ok(&s, "ls -A").await, "file\n", "no temporary file is left");
    let right = WriteOptions { sha256: Some(Sha256::digest(b"new").into()), ..WriteOptions::default() };
    s.write_file("/workspace/file", right, content(b"new", 1)).await.unwrap();
    assert_eq!(read(&s, "/workspace/file").await, b"new");
}

async fn a_write_that_breaks_off_changes_nothing(s: Sandbox) {
    write(&s, "/workspace/file", b"old").await.unwrap();
    let broken = futures::stream::iter([Ok("new".into()), Err(std::io::Error::other("the client left"))]);
    let refused = s.write_file("/workspace/file", WriteOptions::default(), broken).await;
    assert_eq!(code(refused), ErrorCode::InvalidRequest);
    super::until(&s, "test \"$(ls -A)\" = file").await;
    assert_eq!(read(&s, "/workspace/file").await, b"old");
}

async fn a_large_file_goes_both_ways(s: Sandbox) {
    let bytes: Vec<u8> =
        (0..50_u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let written =
        s.write_file("/workspace/large", WriteOptions::default(), content(&bytes, 100_000)).await.unwrap();
    assert_eq!(written.size, bytes.len() as u64);
    assert_eq!(ok(&s, "sha256sum < large").await.split(' ').next(), Some(written.sha256.as_str()));
    let reader = s.read_file("/workspace/large", 0, None).await.unwrap();
    assert_eq!(reader.info().unwrap().size, bytes.len() as u64);
    assert!(whole(reader).await == bytes);
}

async fn a_part_of_a_file(s: Sandbox) {
    write(&s, "/workspace/file", b"0123456789").await.unwrap();
    let part =
        async |offset, length| whole(s.read_file("/workspace/file", offset, length).await.unwrap()).await;
    assert_eq!(part(3, Some(4)).await, b"3456");
    assert_eq!(part(8, None).await, b"89");
    assert_eq!(part(8, Some(100)).await, b"89");
    assert_eq!(part(100, Some(1)).await, b"");
    assert_eq!(part(0, Some(0)).await, b"");
}

fn tiny() -> SandboxSpec {
    limited(|r| r.disk_bytes = 4 << 20)
}

async fn a_full_disk_is_told_and_changes_nothing(s: Sandbox) {
    write(&s, "/workspace/file", b"old").await.unwrap();
    assert_eq!(code(write(&s, "/workspace/file", &vec![1; 8 << 20]).await), ErrorCode::NoSpace);
    assert_eq!(read(&s, "/workspace/file").await, b"old");
    write(&s, "/workspace/other", &vec![1; 1 << 20]).await.unwrap();
}

async fn stat_tells_kinds(s: Sandbox) {
    ok(&s, "echo hello > file; mkdir dir; ln -s ../etc/passwd link; mkfifo fifo; chmod 4711 file").await;
    let stat = async |path: &str| s.stat(path).await.unwrap();
    let file = stat("/workspace/file").await;
    assert_eq!((file.kind, file.size, file.mode, file.uid), (FileKind::File, 6, 0o4711, 0));
    assert!(file.mtime > 1_700_000_000.0 && file.path == "/workspace/file");
    assert_eq!(stat("/workspace/dir").await.kind, FileKind::Directory);
    let link = stat("/workspace/link").await;
    assert_eq!((link.kind, link.target.as_deref()), (FileKind::Symlink, Some("../etc/passwd")));
    assert_eq!(stat("/workspace/fifo").await.kind, FileKind::Other);
    assert_eq!(stat("/").await.kind, FileKind::Directory);
    assert_eq!(code(s.stat("/workspace/none").await), ErrorCode::FileNotFound);
}

async fn a_directory_is_listed_in_order(s: Sandbox) {
    ok(
        &s,
        "mkdir many; cd many; i=0; while [ $i -lt 3000 ]; do : > f$i; i=$((i+1)); done; mkdir z; ln -s f1 l",
    )
    .await;
    let listed = s.list_dir("/workspace/many").await.unwrap();
    assert_eq!(listed.len(), 3002);
    assert!(listed.is_sorted_by(|a, b| a.path < b.path));
    assert_eq!(listed[0].path, "/workspace/many/f0");
    assert_eq!(listed[3001].kind, FileKind::Directory);
    assert_eq!(s.list_dir("/workspace/many/z").await.unwrap(), []);
    assert_eq!(code(s.list_dir("/workspace/none").await), ErrorCode::FileNotFound);
    assert_eq!(code(s.list_dir("/workspace/many/f0").await), ErrorCode::FileRefused);
}

async fn directories_are_made(s: Sandbox) {
    s.mkdir("/workspace/a/b/c", 0o700).await.unwrap();
    s.mkdir("/workspace/a/b/c", 0o700).await.unwrap();
    assert_eq!(s.stat("/workspace/a/b/c").await.unwrap().mode, 0o700);
    write(&s, "/workspace/file", b"x").await.unwrap();
    assert_eq!(code(s.mkdir("/workspace/file", 0o755).await), ErrorCode::FileRefused);
    assert_eq!(code(s.mkdir("/workspace/file/below", 0o755).await), ErrorCode::FileRefused);
}

async fn files_and_directories_are_removed(s: Sandbox) {
    ok(&s, "mkdir -p dir/sub; : > dir/sub/f; : > file; ln -s /etc dir/link").await;
    s.remove("/workspace/file", false).await.unwrap();
    assert_eq!(code(s.remove("/workspace/file", false).await), ErrorCode::FileNotFound);
    assert_eq!(code(s.remove("/workspace/dir", false).await), ErrorCode::FileRefused);
    s.remove("/workspace/dir", true).await.unwrap();
    assert_eq!(ok(&s, "ls -A; test -e /etc/passwd && echo kept").await, "kept\n", "links are not followed");
}

async fn files_and_directories_are_renamed(s: Sandbox) {
    ok(&s, "echo new > new; echo old > old; mkdir dir").await;
    s.rename("/workspace/new", "/workspace/old").await.unwrap();
    assert_eq!(ok(&s, "cat old; ls").await, "new\ndir\nold\n");
    s.rename("/workspace/dir", "/workspace/other").await.unwrap();
    assert_eq!(code(s.rename("/workspace/none", "/workspace/x").await), ErrorCode::FileNotFound);
    assert_eq!(code(s.rename("/workspace/old", "/workspace/none/x").await), ErrorCode::FileNotFound);
}

async fn what_is_no_file_is_refused_and_never_waited_for(s: Sandbox) {
    ok(&s, "mkfifo fifo; mkdir dir; ln -s fifo link").await;
    for path in ["/workspace/fifo", "/workspace/link", "/workspace/dir", "/dev/zero"] {
        assert_eq!(code(s.read_file(path, 0, None).await), ErrorCode::FileRefused, "{path}");
    }
    for path in ["/workspace/fifo", "/workspace/dir", "/dev/null"] {
        assert_eq!(code(write(&s, path, b"x").await), ErrorCode::FileRefused, "{path}");
    }
    assert!(!read(&s, "/proc/meminfo").await.is_empty(), "files without a size are read to their end");
}

async fn no_path_leaves_the_sandbox(s: Sandbox) {
    ok(&s, "echo inside > /marker; ln -s /marker absolute; ln -s ../../../../marker upward; ln -s /proc/1/root/marker magic").await;
    for path in ["/../../marker", "/workspace/../../../marker", "/workspace/absolute", "/workspace/upward"] {
        assert_eq!(read(&s, path).await, b"inside\n", "{path}");
    }
    assert!(s.read_file("/workspace/magic", 0, None).await.is_err());
    write(&s, "/../../workspace/x", b"x").await.unwrap();
    assert_eq!(ok(&s, "cat x").await, "x");
    let spec = sh("ls /work /root/.cargo 2>&1 | head -1");
    assert!(s.exec(spec).await.unwrap().stdout.contains("No such"), "the machine's own files are not there");
}

async fn paths_are_checked(s: Sandbox) {
    for path in ["", "relative", "./x", "/nul\0byte"] {
        assert_eq!(code(s.stat(path).await), ErrorCode::InvalidRequest, "{path:?}");
        assert_eq!(code(write(&s, path, b"").await), ErrorCode::InvalidRequest, "{path:?}");
        assert_eq!(code(s.tar_out(path).await), ErrorCode::InvalidRequest, "{path:?}");
    }
    let long = format!("/{}", "x".repeat(5000));
    assert_eq!(code(s.stat(&long).await), ErrorCode::InvalidRequest);
    assert_eq!(code(s.mkdir("/workspace/x", 0o10000).await), ErrorCode::InvalidRequest);
}
