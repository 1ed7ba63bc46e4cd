//! Archives.

use std::io::Read as _;

use hothouse_domain::ErrorCode;
use hothouse_sandbox::Sandbox;
use hothouse_sandbox::sandbox::ArchiveLimits;
use tar::{Builder, EntryType, Header};

use super::{Case, code, content, ok, whole};
use crate::cases;

pub(crate) fn group() -> Vec<Case> {
    cases![
        a_tree_goes_out_and_in_again,
        one_file_goes_out,
        names_that_leave_the_directory_are_refused,
        links_do_not_lead_out,
        devices_are_refused_and_set_id_bits_dropped,
        limits_hold,
        what_is_no_archive_is_refused,
    ]
}

struct Entry<'a> {
    kind: EntryType,
    name: &'a str,
    link: Option<&'a str>,
    mode: u32,
    bytes: &'a [u8],
}

fn file<'a>(name: &'a str, bytes: &'a [u8]) -> Entry<'a> {
    Entry { kind: EntryType::Regular, name, link: None, mode: 0o644, bytes }
}

/// An archive with names that the `tar` crate itself would refuse to write.
fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_size(entry.bytes.len() as u64);
        header.as_old_mut().name[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        if let Some(link) = entry.link {
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_cksum();
        builder.append(&header, entry.bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

async fn unpack(
    s: &Sandbox,
    bytes: &[u8],
) -> Result<hothouse_domain::files::FilesChanged, hothouse_sandbox::SandboxError> {
    s.tar_in("/workspace/into", ArchiveLimits::default(), content(bytes, 700)).await
}

async fn a_tree_goes_out_and_in_again(s: Sandbox) {
    let long = "d".repeat(90);
    ok(
        &s,
        &format!(
            "mkdir -p tree/sub/{long}/{long}; echo one > tree/one; chmod 741 tree/one; echo é > tree/sub/{long}/{long}/é; \
             ln -s ../one tree/sub/link; ln -s /etc/passwd tree/absolute; head -c 3000000 /dev/urandom > tree/large; mkdir tree/empty"
        ),
    )
    .await;
    let packed = whole(s.tar_out("/workspace/tree").await.unwrap()).await;
    let changed = unpack(&s, &packed).await.unwrap();
    assert!(changed.count >= 8, "{changed:?}");
    assert!(changed.bytes >= 3_000_000);
    assert_eq!(
        ok(&s, "diff -r --no-dereference tree into && stat -c %a into/one && readlink into/absolute").await,
        "741\n/etc/passwd\n"
    );
}

/// Name and content of an archive's first entry.
fn first_entry(packed: &[u8]) -> (String, String) {
    let mut archive = tar::Archive::new(packed);
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let name = entry.path().unwrap().to_str().unwrap().to_owned();
    let mut text = String::new();
    entry.read_to_string(&mut text).unwrap();
    (name, text)
}

async fn one_file_goes_out(s: Sandbox) {
    ok(&s, "echo hello > file").await;
    let packed = whole(s.tar_out("/workspace/file").await.unwrap()).await;
    assert_eq!(first_entry(&packed), ("file".to_owned(), "hello\n".to_owned()));
    assert_eq!(code(s.tar_out("/workspace/none").await), ErrorCode::FileNotFound);
}

async fn names_that_leave_the_directory_are_refused(s: Sandbox) {
    for name in ["../outside", "a/../../outside", "/outside", "a/../../../outside"] {
        let refused = unpack(&s, &archive(&[file("fine", b"x"), file(name, b"bad")])).await;
        assert!(matches!(code(refused), ErrorCode::InvalidRequest | ErrorCode::FileRefused), "{name}");
    }
    assert_eq!(ok(&s, "find / -xdev -name outside -not -path '/proc/*'").await, "");
}

async fn links_do_not_lead_out(s: Sandbox) {
    let link = |name, target, kind| Entry { kind, name, link: Some(target), mode: 0o777, bytes: b"" };
    ok(&s, "mkdir /elsewhere; echo secret > /elsewhere/secret").await;
    for target in ["/elsewhere", "../../elsewhere", "../.."] {
        let through = archive(&[link("way", target, EntryType::Symlink), file("way/planted", b"bad")]);
        let refused = unpack(&s, &through).await;
        assert!(matches!(code(refused), ErrorCode::InvalidRequest | ErrorCode::FileRefused), "{target}");
        let hard =
            archive(&[link("way", target, EntryType::Symlink), link("hard", "way/secret", EntryType::Link)]);
        assert!(unpack(&s, &hard).await.is_err(), "{target}");
    }
    assert!(unpack(&s, &archive(&[link("hard", "/elsewhere/secret", EntryType::Link)])).await.is_err());
    assert!(unpack(&s, &archive(&[link("hard", "../../elsewhere/secret", EntryType::Link)])).await.is_err());
    assert_eq!(ok(&s, "ls /elsewhere; stat -c %h /elsewhere/secret").await, "secret\n1\n");
    let within = archive(&[file("a", b"same"), link("b", "a", EntryType::Link)]);
    unpack(&s, &within).await.unwrap();
    assert_eq!(ok(&s, "cat into/b; stat -c %h into/b").await, "same2\n");
}

async fn devices_are_refused_and_set_id_bits_dropped(s: Sandbox) {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let device = Entry { kind, name: "device", link: None, mode: 0o666, bytes: b"" };
        assert!(unpack(&s, &archive(&[device])).await.is_err(), "{kind:?}");
    }
    unpack(&s, &archive(&[Entry { mode: 0o6755, ..file("tool", b"x") }])).await.unwrap();
    assert_eq!(ok(&s, "stat -c %a into/tool; ls into").await, "755\ntool\n");
}

async fn limits_hold(s: Sandbox) {
    let three = archive(&[file("a", b"12345"), file("b", b"12345"), file("c", b"12345")]);
    let with = async |max_entries, max_bytes| {
        s.tar_in("/workspace/into", ArchiveLimits { max_entries, max_bytes }, content(&three, 512)).await
    };
    assert_eq!(code(with(2, 100).await), ErrorCode::TooLarge);
    assert_eq!(code(with(3, 14).await), ErrorCode::TooLarge);
    let changed = with(3, 15).await.unwrap();
    assert_eq!((changed.count, changed.bytes), (3, 15));
    assert_eq!(changed.paths, ["/workspace/into/a", "/workspace/into/b", "/workspace/into/c"]);
}

async fn what_is_no_archive_is_refused(s: Sandbox) {
    assert_eq!(code(unpack(&s, &[b'x'; 5000]).await), ErrorCode::InvalidRequest);
    let cut = archive(&[file("a", &[1; 5000])]);
    assert_eq!(code(unpack(&s, &cut[..3000]).await), ErrorCode::InvalidRequest);
}
