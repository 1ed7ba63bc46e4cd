//! Snapshots with which their sandboxes end: of use at once, and written later.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::server::Server;
use crate::snapshots::{CHANGES, LOOK, text};
use crate::wait::until;

/// So much that writing it takes longer than to make a sandbox.
const MUCH: &str = "for i in 1 2 3 4 5; do head -c 30M /dev/zero > /var/tmp/$i; done";

/// As [`LOOK`] tells, but for a gigabyte of holes, which takes seconds to read.
async fn look(server: &Server, path: &str) -> Result<String> {
    text(server, path, &LOOK.replace("md5sum < /workspace/sparse; ", "")).await
}

/// The files that say which snapshots are still to be written.
fn unwritten(server: &Server) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(server.home().join("snapshots"))?;
    Ok(entries.flatten().map(|entry| entry.path().join("lent.json")).filter(|path| path.exists()).collect())
}

/// Bodies that have no sandbox.
fn aside(server: &Server) -> Result<usize> {
    let entries = std::fs::read_dir(server.home().join("sandboxes"))?;
    let beside = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".beside-");
    Ok(entries.flatten().filter(beside).count())
}

async fn written(server: &Server) -> Result<()> {
    until("every snapshot is written, and no body is left that had one", async || {
        Ok((unwritten(server)?.is_empty() && aside(server)? == 0).then_some(()))
    })
    .await
}

/// A sandbox with all kinds of changes, and what they look like.
async fn changed(server: &Server, id: &str) -> Result<String> {
    server.post("/v1/sandboxes", &json!({"id": id})).await?.expect(201)?;
    let path = format!("/v1/sandboxes/{id}");
    server.shell(&path, CHANGES).await?;
    server.shell(&path, MUCH).await?;
    look(server, &path).await
}

async fn end_with(server: &Server, id: &str, snapshot: &str) -> Result<()> {
    let body = json!({"id": snapshot, "afterwards": "end", "labels": {"of": id}});
    let taken = server.post(&format!("/v1/sandboxes/{id}/snapshot"), &body).await?.expect(201)?.json()?;
    ensure!(taken["labels"]["of"] == id && taken["image"] == "host", "{taken}");
    ensure!(taken["entries"].as_u64() > Some(3), "what it holds is known at once: {taken}");
    server.get(&format!("/v1/sandboxes/{id}")).await?.problem(410, "sandbox_ended")?;
    Ok(())
}

async fn make(server: &Server, id: &str, snapshot: &str) -> Result<()> {
    let spec = json!({"id": id, "image": format!("snapshot:{snapshot}")});
    server.post("/v1/sandboxes", &spec).await?.expect(201)?;
    Ok(())
}

#[tokio::test]
async fn what_a_sandbox_leaves_is_of_use_before_it_is_written() -> Result<()> {
    let server = Server::start().await?;
    let before = changed(&server, "origin").await?;
    end_with(&server, "origin", "one").await?;
    make(&server, "a", "one").await?;
    make(&server, "b", "one").await?;
    // Neither sees what the other does, nor does a third.
    server
        .shell("/v1/sandboxes/a", "echo of a > /workspace/new; rm /workspace/link; rm -r /opt/deep")
        .await?;
    assert_eq!(look(&server, "/v1/sandboxes/b").await?, before);
    let other = look(&server, "/v1/sandboxes/a").await?;
    ensure!(!other.contains("workspace/link"), "{other}");
    // One over the other, while neither need be written.
    end_with(&server, "a", "two").await?;
    make(&server, "c", "two").await?;
    make(&server, "d", "one").await?;
    assert_eq!(look(&server, "/v1/sandboxes/c").await?, other);
    assert_eq!(look(&server, "/v1/sandboxes/d").await?, before);
    // What is written is the same.
    written(&server).await?;
    for (id, snapshot, as_before) in [("e", "one", &before), ("f", "two", &other)] {
        make(&server, id, snapshot).await?;
        assert_eq!(look(&server, &format!("/v1/sandboxes/{id}")).await?, *as_before, "{snapshot}");
        let info = server.get(&format!("/v1/snapshots/{snapshot}")).await?.expect(200)?.json()?;
        ensure!(info["sandboxes"].as_u64() > Some(0) && info["image"] == "host", "{info}");
    }
    // Those that were made before live on what was lent to them.
    assert_eq!(look(&server, "/v1/sandboxes/b").await?, before);
    for id in ["b", "c", "d", "e", "f"] {
        server.delete(&format!("/v1/sandboxes/{id}")).await?.expect(204)?;
    }
    for snapshot in ["one", "two"] {
        server.delete(&format!("/v1/snapshots/{snapshot}")).await?.expect(204)?;
    }
    server.stop().await
}

#[tokio::test]
async fn a_killed_server_loses_nothing_of_what_is_to_be_written() -> Result<()> {
    let server = Server::start().await?;
    let before = changed(&server, "origin").await?;
    end_with(&server, "origin", "one").await?;
    make(&server, "a", "one").await?;
    end_with(&server, "a", "two").await?;
    let server = server.killed_and_started_again().await?;
    for id in ["origin", "a"] {
        server.get(&format!("/v1/sandboxes/{id}")).await?.problem(410, "sandbox_ended")?;
    }
    for (id, snapshot) in [("b", "one"), ("c", "two")] {
        make(&server, id, snapshot).await?;
        assert_eq!(look(&server, &format!("/v1/sandboxes/{id}")).await?, before, "{snapshot}");
    }
    written(&server).await?;
    for (id, snapshot) in [("d", "one"), ("e", "two")] {
        make(&server, id, snapshot).await?;
        assert_eq!(look(&server, &format!("/v1/sandboxes/{id}")).await?, before, "{snapshot}");
    }
    server.stop().await
}

/// The process that makes sandboxes for the server.
fn spawner(server: &Server) -> Result<Pid> {
    let pid = server.pid()?.as_raw_nonzero();
    for child in std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?.split_whitespace() {
        let arguments = std::fs::read_to_string(format!("/proc/{child}/cmdline"))?;
        if arguments.split('\0').any(|argument| argument == "spawner") {
            return Pid::from_raw(child.parse()?).context("a PID");
        }
    }
    anyhow::bail!("the server has no spawner")
}

#[tokio::test]
async fn a_killed_spawner_loses_nothing_of_it_either() -> Result<()> {
    let server = Server::start().await?;
    let before = changed(&server, "origin").await?;
    end_with(&server, "origin", "one").await?;
    kill_process(spawner(&server)?, Signal::KILL)?;
    until("another spawner makes a sandbox of it", async || {
        let spec = json!({"id": "a", "image": "snapshot:one"});
        Ok((server.post("/v1/sandboxes", &spec).await?.expect(201).is_ok()).then_some(()))
    })
    .await?;
    assert_eq!(look(&server, "/v1/sandboxes/a").await?, before);
    written(&server).await?;
    make(&server, "b", "one").await?;
    assert_eq!(look(&server, "/v1/sandboxes/b").await?, before);
    server.stop().await
}

#[tokio::test]
async fn what_is_deleted_before_it_is_written_leaves_nothing() -> Result<()> {
    let server = Server::start().await?;
    changed(&server, "origin").await?;
    end_with(&server, "origin", "one").await?;
    server.delete("/v1/snapshots/one").await?.expect(204)?;
    server.get("/v1/snapshots/one").await?.problem(404, "snapshot_not_found")?;
    until("neither files nor a body are left", async || {
        let files = std::fs::read_dir(server.home().join("snapshots"))?.count();
        Ok((files == 0 && aside(&server)? == 0).then_some(()))
    })
    .await?;
    // Its id is free.
    server.post("/v1/sandboxes", &json!({"id": "origin"})).await?.expect(201)?;
    server.post("/v1/sandboxes/origin/snapshot", &json!({"id": "one"})).await?.expect(201)?;
    server.stop().await
}

#[tokio::test]
async fn what_was_changed_can_be_carried_away_at_once() -> Result<()> {
    let server = Server::start().await?;
    changed(&server, "origin").await?;
    end_with(&server, "origin", "one").await?;
    let layer = server.get("/v1/snapshots/one/layer").await?.expect(200)?;
    let mut names = Vec::new();
    for entry in tar::Archive::new(&*layer.bytes).entries()? {
        names.push(entry?.path()?.to_string_lossy().into_owned());
    }
    for name in ["usr/bin/mine", "etc/.wh.hostname", "var/tmp/5"] {
        ensure!(names.iter().any(|found| found == name), "{name} is not in {names:?}");
    }
    server.stop().await
}

/// A directory that is mounted on itself, so that it cannot be moved.
struct Pinned(PathBuf);

impl Pinned {
    fn pin(path: PathBuf) -> Result<Self> {
        let status = Command::new("mount").arg("--bind").args([&path, &path]).status()?;
        ensure!(status.success(), "mounting {}", path.display());
        Ok(Self(path))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // What is left is seen by whoever removes the home.
        drop(Command::new("umount").arg(&self.0).status());
    }
}

#[tokio::test]
async fn a_sandbox_that_cannot_be_put_aside_goes_on() -> Result<()> {
    let server = Server::start().await?;
    let before = changed(&server, "origin").await?;
    let pinned = Pinned::pin(server.home().join("sandboxes").canonicalize()?.join("origin"))?;
    let body = json!({"id": "one", "afterwards": "end"});
    let refused = server.post("/v1/sandboxes/origin/snapshot", &body).await?;
    ensure!(refused.status.is_server_error(), "{}", refused.status);
    server.get("/v1/snapshots/one").await?.problem(404, "snapshot_not_found")?;
    assert_eq!(look(&server, "/v1/sandboxes/origin").await?, before, "it has lost nothing, and runs");
    drop(pinned);
    end_with(&server, "origin", "one").await?;
    make(&server, "a", "one").await?;
    assert_eq!(look(&server, "/v1/sandboxes/a").await?, before);
    server.stop().await
}
