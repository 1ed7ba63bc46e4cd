//! Images: upload, list, look, pull with progress, prune, export, and who may do what.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Server, send};

/// The archive of a root file system: a static program under two names.
fn root() -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut file = std::fs::File::open("/bin/busybox").context("busybox-static is installed")?;
    archive.append_file("bin/sh", &mut file)?;
    Ok(archive.into_inner()?)
}

async fn import(server: &Server, query: &str) -> Result<Value> {
    let request = server.request(Method::POST, &format!("/v1/images/import{query}")).body(root()?);
    send(request).await?.expect(201)?.json()
}

#[tokio::test]
async fn an_uploaded_image_makes_sandboxes_and_is_removed_when_they_are_gone() -> Result<()> {
    let server = Server::start().await?;
    let info = import(&server, "?name=mine:1&name=mine:2").await?;
    ensure!(info["names"] == json!(["mine:1", "mine:2"]), "{info}");
    let list = server.get("/v1/images").await?.expect(200)?.json()?;
    ensure!(list["items"][0]["id"] == info["id"], "{list}");
    ensure!(server.get("/v1/images/mine:1").await?.expect(200)?.json()?["in_use"] == false, "nobody uses it");

    let sandbox = server.post("/v1/sandboxes", &json!({"image": "mine:1"})).await?.expect(201)?.json()?;
    let path = format!("/v1/sandboxes/{}", sandbox["id"].as_str().context("id")?);
    ensure!(server.shell(&path, "echo here").await?["stdout"] == "here\n", "it runs");
    let id = info["id"].as_str().context("id")?;
    server.delete(&format!("/v1/images/{id}")).await?.problem(409, "image_in_use")?;
    // One of two names is only a name.
    ensure!(server.delete("/v1/images/mine:2").await?.expect(200)?.json()?["images"] == json!([]), "a name");
    server.get("/v1/images/mine:2").await?.problem(404, "image_not_found")?;
    server.delete("/v1/images/mine:1").await?.problem(409, "image_in_use")?;
    let pruned = server.post("/v1/images/prune", &json!({"all": true})).await?.expect(200)?.json()?;
    ensure!(pruned["images"] == json!([]), "{pruned}");

    // A server that is killed leaves its sandboxes and what they are made of.
    let server = server.killed_and_started_again().await?;
    server.delete(&format!("/v1/images/{id}")).await?.problem(409, "image_in_use")?;
    ensure!(server.shell(&path, "echo still").await?["stdout"] == "still\n", "it runs on");
    server.delete(&path).await?.expect(204)?;

    let archive = server.get("/v1/images/mine:1/archive").await?.expect(200)?;
    ensure!(archive.header("content-type") == "application/x-tar", "{:?}", archive.headers);
    let names: Vec<String> = tar::Archive::new(&*archive.bytes)
        .entries()?
        .map(|entry| Ok(entry?.path()?.display().to_string()))
        .collect::<Result<_>>()?;
    ensure!(
        names.contains(&"manifest.json".to_owned()) && names.contains(&"index.json".to_owned()),
        "{names:?}"
    );
    ensure!(server.delete("/v1/images/mine:1").await?.expect(200)?.json()?["layers"] == 1, "all of it goes");
    server.get("/v1/images/mine:1").await?.problem(404, "image_not_found")?;
    server.stop().await
}

#[tokio::test]
async fn a_pull_tells_how_far_it_is_and_how_it_ends() -> Result<()> {
    let server = Server::start().await?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("root.tar");
    std::fs::write(&file, root()?)?;
    let image = format!("tarball:{}", file.display());
    let pull = |image: &str| {
        let body = json!({"image": image, "name": "pulled:1"});
        server.request(Method::POST, "/v1/images/pull").header("accept", "application/x-ndjson").json(&body)
    };
    let lines = |bytes: &[u8]| -> Result<Vec<Value>> {
        bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| Ok(serde_json::from_slice(line)?))
            .collect()
    };
    let answer = send(pull(&image)).await?.expect(200)?;
    let told = lines(&answer.bytes)?;
    ensure!(
        told.iter().any(|line| line["progress"]["stage"] == "unpacking" || line["progress"].is_object()),
        "{told:?}"
    );
    let last = told.last().context("a last line")?;
    ensure!(last["done"]["names"] == json!(["pulled:1"]), "{last}");

    let told = lines(&send(pull("tarball:/nothing/there")).await?.expect(200)?.bytes)?;
    ensure!(told.last().context("a last line")?["failed"]["code"] == "image_invalid", "{told:?}");
    // Without following it is an answer like any other.
    server.post("/v1/images/pull", &json!({"image": "none:1"})).await?.problem(404, "image_not_found")?;
    server
        .post("/v1/images/pull", &json!({"image": "docker://127.0.0.1:9/x"}))
        .await?
        .problem(502, "image_unavailable")?;
    server.stop().await
}

#[tokio::test]
async fn what_is_no_image_is_refused_and_leaves_nothing() -> Result<()> {
    let server = Server::start().await?;
    for body in [&b"not a tar at all"[..], &[0x1f, 0x8b, 8, 0, 1, 2, 3][..]] {
        let request = server.request(Method::POST, "/v1/images/import").body(body.to_vec());
        send(request).await?.problem(422, "image_invalid")?;
    }
    server.post("/v1/sandboxes", &json!({"image": "none:1"})).await?.problem(404, "image_not_found")?;
    server.post("/v1/images/pull", &json!({"image": "UPPER"})).await?.problem(400, "invalid_request")?;
    ensure!(server.get("/v1/images").await?.json()?["items"] == json!([]), "nothing is kept");
    server.stop().await
}

#[test]
fn the_command_line_keeps_images_with_and_without_a_server() -> Result<()> {
    let home = tempfile::tempdir()?;
    let hothouse = |args: &[&str]| -> Result<(bool, String)> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hothouse"));
        let output = command
            .args(args)
            .env("HOTHOUSE_HOME", home.path().join("home"))
            .env_remove("HOTHOUSE_SERVER")
            .output()?;
        Ok((
            output.status.success(),
            format!("{}{}", String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?),
        ))
    };
    let file = home.path().join("root.tar");
    std::fs::write(&file, root()?)?;
    let path = file.display().to_string();
    let (good, said) = hothouse(&["image", "import", &path, "--name", "mine:1"])?;
    ensure!(good && said.starts_with("sha256:"), "{said}");
    ensure!(hothouse(&["image", "ls"])?.1.contains("mine:1"), "it is listed");
    let (good, said) = hothouse(&["run", "--image", "mine:1", "--", "/bin/sh", "-c", "echo in it"])?;
    ensure!(good && said == "in it\n", "{said}");
    let (good, said) = hothouse(&["run", "--image", "mine:1"])?;
    ensure!(!good && said.contains("COMMAND"), "{said}");
    let exported = home.path().join("out.tar").display().to_string();
    ensure!(hothouse(&["image", "export", "mine:1", "-o", &exported])?.0, "it is exported");
    ensure!(hothouse(&["image", "rm", "mine:1"])?.0, "it is removed");
    let (good, said) = hothouse(&["run", "--image", "mine:1", "--", "/bin/sh", "-c", "true"])?;
    ensure!(!good && said.contains("is not in the store"), "{said}");
    let (good, said) = hothouse(&["image", "pull", &format!("docker-archive:{exported}")])?;
    ensure!(good, "{said}");
    ensure!(hothouse(&["run", "--image", "mine:1", "--", "/bin/sh", "-c", "true"])?.0, "its name came back");
    let (good, said) = hothouse(&["image", "prune", "--all", "--json"])?;
    let pruned: Value = serde_json::from_str(&said)?;
    ensure!(good && pruned["layers"] == 1, "{said}");
    Ok(())
}
