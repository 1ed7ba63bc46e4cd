//! Memory that is taken back from idle sandboxes, at servers for which there is never enough of it.

use std::fs::File;
use std::io::Write as _;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use rustix::fs::{Advice, fadvise};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::events::Events;
use crate::server::{Server, send};
use crate::wait::until;

/// Always short of memory, and still making sandboxes.
const ALWAYS: &[&str] = &["--min-free-memory", "0", "--reclaim-below", "16T"];
const SIZE: usize = 16 << 20;

/// An image with one big file, of which the kernel remembers nothing: whoever reads it first pays for it.
fn image() -> Result<(TempDir, Value)> {
    let root = tempfile::Builder::new().prefix("hothouse-image-").tempdir()?;
    let mut file = File::create(root.path().join("big"))?;
    file.write_all(&vec![7; SIZE])?;
    file.sync_all()?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    let image = json!(format!("dir:{}", root.path().display()));
    Ok((root, image))
}

/// What a machine can take back: nothing, or something.
async fn takes_back(server: &Server) -> Result<bool> {
    let capabilities = server.get("/v1/capabilities").await?.expect(200)?.json()?;
    let items = capabilities["items"].as_array().context("items")?;
    let levels: Vec<&Value> = items
        .iter()
        .filter(|item| item["name"] == "reclaim" || item["name"] == "freeze")
        .map(|item| &item["level"])
        .collect();
    ensure!(levels.len() == 2, "{capabilities}");
    Ok(levels.iter().all(|level| **level != "missing"))
}

async fn create(server: &Server, body: &Value) -> Result<String> {
    let info = server.post("/v1/sandboxes", body).await?.expect(201)?.json()?;
    Ok(format!("/v1/sandboxes/{}", info["id"].as_str().context("id")?))
}

/// Reads the big file, so that the sandbox has memory that can be read again.
async fn read_big(server: &Server, sandbox: &str) -> Result<()> {
    let answer = server.get(&format!("{sandbox}/files?path=/big")).await?.expect(200)?;
    ensure!(answer.bytes.len() == SIZE);
    Ok(())
}

async fn frozen_by(server: &Server, sandbox: &str, by: &str) -> Result<Value> {
    until(&format!("{sandbox} is frozen by {by}"), async || {
        let info = server.get(sandbox).await?.expect(200)?.json()?;
        Ok((info["phase"] == "frozen" && info["frozen_by"] == by).then_some(info))
    })
    .await
}

#[tokio::test]
async fn an_idle_sandbox_gives_its_memory_back_and_its_next_use_thaws_it() -> Result<()> {
    let server = Server::start_with(ALWAYS).await?;
    if !takes_back(&server).await? {
        return server.stop().await;
    }
    let ((_big, big), (_other, other)) = (image()?, image()?);
    let idle = create(&server, &json!({"id": "idle", "image": big})).await?;
    let unwilling = json!({"id": "unwilling", "image": other, "lease": {"reclaim": "never"}});
    let unwilling = create(&server, &unwilling).await?;
    let busy = create(&server, &json!({"id": "busy"})).await?;
    let shell = create(&server, &json!({"id": "shell"})).await?;
    let sleeps = json!({"shell": "sleep 600", "detach": true});
    server.post(&format!("{busy}/exec"), &sleeps).await?.expect(202)?;
    for sandbox in [&idle, &unwilling] {
        read_big(&server, sandbox).await?;
    }
    server.post(&format!("{shell}/shells"), &json!({})).await?.expect(201)?;

    frozen_by(&server, &idle, "pressure").await?;
    let stats = until("its memory was taken back", async || {
        let stats = server.get("/v1/stats").await?.expect(200)?.json()?;
        Ok((stats["memory"]["reclaims"] != 0).then_some(stats))
    })
    .await?;
    let memory = &stats["memory"];
    ensure!(memory["frozen"] == 1 && memory["thawed"] == 0 && memory["ended"] == 0, "{memory}");
    ensure!(memory["reclaimed_bytes"].as_u64().is_some_and(|bytes| bytes > SIZE as u64 / 2), "{memory}");
    ensure!(memory["reclaim_below_bytes"] == 16_u64 << 40 && memory["available_bytes"].is_u64(), "{memory}");
    for other in [&unwilling, &busy, &shell] {
        ensure!(server.get(other).await?.expect(200)?.json()?["phase"] == "running", "{other}");
    }

    // A look does not thaw it, a use does, and what it had is there.
    ensure!(server.get(&format!("{idle}/stats")).await?.json()?["frozen_by"] == "pressure");
    read_big(&server, &idle).await?;
    let thawed = server.get(&idle).await?.expect(200)?.json()?;
    ensure!(thawed["phase"] == "running" && thawed.get("frozen_by").is_none(), "{thawed}");
    let followed = server.request(Method::GET, "/v1/events?after=0&sandbox_id=idle").send().await?;
    let mut events = Events::of(followed).await?;
    for (name, by) in [("created", Value::Null), ("frozen", json!("pressure")), ("thawed", Value::Null)] {
        let event = events.next().await?.context(name)?;
        ensure!(event.name == name && event.data["frozen_by"] == by, "{event:?}");
    }
    drop(events);
    let metrics = String::from_utf8(server.get("/metrics").await?.expect(200)?.bytes)?;
    for line in [
        "hothouse_memory_reclaims_total{kind=\"freeze\"} 1",
        "hothouse_memory_reclaims_total{kind=\"end\"} 0",
        "hothouse_memory_thawed_total 1",
        "hothouse_memory_frozen 0",
    ] {
        ensure!(metrics.contains(line), "{line} is not in {metrics}");
    }
    server.stop().await
}

#[tokio::test]
async fn what_a_client_froze_stays_frozen_and_who_froze_it_is_known_after_a_kill() -> Result<()> {
    let server = Server::start_with(ALWAYS).await?;
    if !takes_back(&server).await? {
        return server.stop().await;
    }
    let images = [image()?, image()?, image()?];
    let mut sandboxes = Vec::new();
    for (name, (_, image)) in ["node", "both", "client"].iter().zip(&images) {
        sandboxes.push(create(&server, &json!({"id": name, "image": image})).await?);
    }
    let [node, both, client] = &sandboxes[..] else { anyhow::bail!("three") };
    server.post_nothing(&format!("{client}/freeze")).await?.expect(200)?;
    for sandbox in [node, both] {
        read_big(&server, sandbox).await?;
        frozen_by(&server, sandbox, "pressure").await?;
    }
    let info = server.post_nothing(&format!("{both}/freeze")).await?.expect(200)?.json()?;
    ensure!(info["frozen_by"] == "client", "{info}");

    let server = server.killed_and_started_again().await?;
    frozen_by(&server, node, "pressure").await?;
    for sandbox in [both, client] {
        frozen_by(&server, sandbox, "client").await?;
        let refused = server.get(&format!("{sandbox}/files?path=/big")).await?;
        refused.problem(409, "sandbox_frozen")?;
    }
    read_big(&server, node).await?;
    // A client may freeze what was thawed for it, and nothing thaws that, after a kill neither.
    server.post_nothing(&format!("{node}/freeze")).await?.expect(200)?;
    let server = server.killed_and_started_again().await?;
    frozen_by(&server, node, "client").await?;
    server.get(&format!("{node}/files?path=/big")).await?.problem(409, "sandbox_frozen")?;
    server.post_nothing(&format!("{node}/thaw")).await?.expect(200)?;
    read_big(&server, node).await?;
    server.stop().await
}

#[tokio::test]
async fn an_idle_sandbox_is_ended_for_its_memory_where_its_lease_says_so() -> Result<()> {
    let server = Server::start_with(ALWAYS).await?;
    if !takes_back(&server).await? {
        return server.stop().await;
    }
    let busy = create(&server, &json!({"id": "busy", "lease": {"reclaim": "end"}})).await?;
    let sleeps = json!({"shell": "sleep 600", "detach": true});
    server.post(&format!("{busy}/exec"), &sleeps).await?.expect(202)?;
    let given = create(&server, &json!({"id": "given", "lease": {"reclaim": "end"}})).await?;
    let answer = until("the end of the idle one", async || {
        let answer = server.get(&given).await?;
        Ok((answer.status != 200).then_some(answer))
    })
    .await?;
    let ending = answer.problem(410, "sandbox_ended")?["ending"].clone();
    ensure!(ending["cause"] == "memory_pressure" && ending["by"] == "pressure", "{ending}");
    ensure!(ending["why"].as_str().is_some_and(|why| why.contains("--reclaim-below")), "{ending}");
    ensure!(ending["at"].is_string(), "{ending}");
    let stats = server.get("/v1/stats").await?.expect(200)?.json()?;
    ensure!(stats["memory"]["ended"] == 1, "{stats}");
    ensure!(server.get(&busy).await?.expect(200)?.json()?["phase"] == "running");
    server.stop().await
}

#[tokio::test]
async fn a_pool_keeps_no_more_ready_than_its_least_while_memory_is_short() -> Result<()> {
    let server = Server::start_with(ALWAYS).await?;
    send(server.request(Method::PUT, "/v1/templates/t").json(&json!({}))).await?.expect(200)?;
    server
        .post("/v1/pools", &json!({"name": "p", "template": "t", "min": 1, "max": 8}))
        .await?
        .expect(201)?;
    for _ in 0..4 {
        server.post("/v1/pools/p/claim", &json!({})).await?.expect(201)?;
    }
    let ready = async || {
        let pool = server.get("/v1/pools/p").await?.expect(200)?.json()?;
        ensure!(pool["claimed"] == 4, "{pool}");
        Ok(pool["ready"].as_u64().context("ready")? + pool["making"].as_u64().context("making")?)
    };
    until("the least is ready", async || Ok((ready().await? == 1).then_some(()))).await?;
    // With enough memory these claims would have it keep four, for ten seconds; it looks every second.
    let clock = create(&server, &json!({"lease": {"lifetime_s": 2.5}})).await?;
    until("longer than two looks", async || {
        ensure!(ready().await? == 1);
        Ok((server.get(&clock).await?.status == 410).then_some(()))
    })
    .await?;
    server.stop().await
}
