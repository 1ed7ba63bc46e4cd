//! Files over the API.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::server::{Server, send};

/// Bytes that no compression or repetition hides a gap in.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_big_file_goes_in_and_comes_out_unchanged() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let content = noise(48 << 20);
    let digest = hex(&Sha256::digest(&content));
    let path = format!("{sandbox}/files?path=/data/deep/big.bin");
    let written = server.put(&format!("{path}&mode=640&sha256={digest}"), content.clone()).await?;
    let written = written.expect(200)?.json()?;
    ensure!(written["size"] == content.len() && written["sha256"] == digest, "{written}");
    let read = server.get(&path).await?.expect(200)?;
    ensure!(read.header("hothouse-mode") == "640", "{:?}", read.headers);
    ensure!(read.header("content-length") == content.len().to_string(), "{:?}", read.headers);
    ensure!(read.bytes == content, "the bytes differ");

    let mut wrong = content.clone();
    wrong[0] ^= 1;
    let refused = server.put(&format!("{path}&sha256={digest}"), wrong).await?;
    ensure!(refused.status.is_client_error(), "{}", refused.status);
    ensure!(server.get(&path).await?.bytes == content, "the old content is gone");

    let size = content.len();
    for (range, first, last) in [
        ("bytes=100-199", 100, 199),
        ("bytes=-5", size - 5, size - 1),
        ("bytes=50331640-", 50_331_640, size - 1),
    ] {
        let part = send(server.request(Method::GET, &path).header("range", range)).await?.expect(206)?;
        ensure!(part.bytes == content[first..=last], "{range}");
        let wanted = format!("bytes {first}-{last}/{size}");
        ensure!(part.header("content-range") == wanted, "{range}: {:?}", part.headers);
    }
    let beyond = send(server.request(Method::GET, &path).header("range", "bytes=60000000-")).await?;
    ensure!(beyond.problem(416, "invalid_request")?["field"] == "Range");
    ensure!(beyond.header("content-range") == format!("bytes */{size}"));
    let part = server.get(&format!("{path}&offset=10&length=20")).await?.expect(200)?;
    ensure!(part.bytes == content[10..30]);
    server.stop().await
}

#[tokio::test]
async fn files_are_listed_moved_and_removed() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let files = format!("{sandbox}/files");
    server.post(&format!("{files}/mkdir"), &json!({"path": "/w/a/b", "mode": "750"})).await?.expect(204)?;
    server.post(&format!("{files}/mkdir"), &json!({"path": "/w/a/b"})).await?.expect(204)?;
    server.put(&format!("{files}?path=/w/a/x.txt"), "x").await?.expect(200)?;
    server.shell(&sandbox, "ln -s x.txt /w/a/link; mkfifo /w/a/fifo").await?;
    let listing = server.get(&format!("{files}/list?path=/w/a")).await?.expect(200)?.json()?;
    let items = listing["items"].as_array().context("items")?;
    let shown: Vec<String> = items
        .iter()
        .map(|item| format!("{} {}", item["path"].as_str().unwrap_or("?"), item["kind"]))
        .collect();
    let wanted =
        ["/w/a/b \"directory\"", "/w/a/fifo \"other\"", "/w/a/link \"symlink\"", "/w/a/x.txt \"file\""];
    ensure!(shown == wanted, "{shown:?}");
    let stat = server.get(&format!("{files}/stat?path=/w/a/link")).await?.expect(200)?.json()?;
    ensure!(stat["kind"] == "symlink" && stat["target"] == "x.txt", "{stat}");

    let rename = json!({"from": "/w/a/x.txt", "to": "/w/y.txt"});
    server.post(&format!("{files}/rename"), &rename).await?.expect(204)?;
    ensure!(server.get(&format!("{files}?path=/w/y.txt")).await?.expect(200)?.bytes == b"x");
    server.post(&format!("{files}/rename"), &rename).await?.problem(404, "file_not_found")?;
    // A FIFO is never opened, so nothing waits for its other end.
    server.get(&format!("{files}?path=/w/a/fifo")).await?.problem(409, "file_refused")?;
    server.get(&format!("{files}?path=/w/a")).await?.problem(409, "file_refused")?;
    server.delete(&format!("{files}?path=/w/a")).await?.problem(409, "file_refused")?;
    server.delete(&format!("{files}?path=/w/a&recursive=true")).await?.expect(204)?;
    server.get(&format!("{files}/stat?path=/w/a")).await?.problem(404, "file_not_found")?;
    // The way up ends at the sandbox's own root.
    let host = server.get(&format!("{files}?path=/w/../../../../etc/hostname")).await?;
    ensure!(host.status == 200 || host.status == 404, "{}", host.status);
    if let Ok(own) = std::fs::read("/proc/sys/kernel/hostname") {
        ensure!(host.bytes != own, "that is the host's name");
    }
    server.stop().await
}

#[tokio::test]
async fn archives_and_patches_change_many_files_at_once() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in [("src/a.txt", "one\ntwo\n"), ("src/b.txt", "bee\n")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, text.as_bytes())?;
    }
    let archive = builder.into_inner()?;
    let path = format!("{sandbox}/archive?path=/w/tree");
    let changed = server.put(&path, archive).await?.expect(200)?.json()?;
    ensure!(changed["bytes"] == 12, "{changed}");
    let patch = "--- a/src/a.txt\n+++ b/src/a.txt\n@@ -1,2 +1,2 @@\n one\n-two\n+TWO\n";
    let at = format!("{sandbox}/patch?path=/w/tree");
    let apply = |text: &'static str| send(server.request(Method::POST, &at).body(text));
    let changed = apply(patch).await?.expect(200)?.json()?;
    ensure!(changed["paths"] == json!(["/w/tree/src/a.txt"]), "{changed}");
    apply(patch).await?.problem(409, "patch_rejected")?;

    let answer = server.get(&path).await?.expect(200)?;
    ensure!(answer.header("content-type") == "application/x-tar");
    let mut archive = tar::Archive::new(answer.bytes.as_slice());
    let mut found = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.display().to_string();
        if entry.header().entry_type().is_file() {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text)?;
            found.push((name.trim_start_matches("./").to_owned(), text));
        }
    }
    found.sort();
    let wanted = [("src/a.txt", "one\nTWO\n"), ("src/b.txt", "bee\n")];
    ensure!(found.iter().map(|(name, text)| (name.as_str(), text.as_str())).eq(wanted), "{found:?}");
    let broken = server.put(&path, "this is no archive".repeat(100)).await?;
    ensure!(broken.status.is_client_error(), "{}", broken.status);
    server.stop().await
}
