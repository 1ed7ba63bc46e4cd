//! Templates, pools, and claims from them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Server, send};
use crate::wait::until;

const POOL: &str = "/v1/pools/warm";

/// A server with the template `py` and the pool `warm` of it, filled.
async fn with_pool(min: u32, max: u32) -> Result<Server> {
    let server = Server::start().await?;
    put_template(&server, &json!({"env": {"WHO": "template", "KEPT": "yes"}, "labels": {"kind": "py"}}))
        .await?;
    let spec = json!({"name": "warm", "template": "py", "min": min, "max": max});
    let made = server.post("/v1/pools", &spec).await?.expect(201)?.json()?;
    ensure!(made["spec"] == spec && made["phase"] == "active", "{made}");
    ready(&server, min).await?;
    Ok(server)
}

async fn put_template(server: &Server, spec: &Value) -> Result<Value> {
    send(server.request(Method::PUT, "/v1/templates/py").json(spec)).await?.expect(200)?.json()
}

/// Waits until so many are ready and none is in the making.
async fn ready(server: &Server, count: u32) -> Result<Value> {
    until(&format!("{count} ready"), async || {
        let pool = server.get(POOL).await?.expect(200)?.json()?;
        Ok((pool["ready"] == count && pool["making"] == 0).then_some(pool))
    })
    .await
}

async fn claim(server: &Server, body: &Value) -> Result<Value> {
    server.post(&format!("{POOL}/claim"), body).await?.expect(201)?.json()
}

fn path_of(sandbox: &Value) -> Result<String> {
    Ok(format!("/v1/sandboxes/{}", sandbox["id"].as_str().context("id")?))
}

/// The ids of all sandboxes.
async fn ids(server: &Server) -> Result<BTreeSet<String>> {
    let page = server.get("/v1/sandboxes?limit=1000").await?.expect(200)?.json()?;
    let items = page["items"].as_array().context("items")?;
    Ok(items.iter().filter_map(|item| item["id"].as_str().map(str::to_owned)).collect())
}

#[tokio::test]
async fn a_claim_gets_a_ready_sandbox_and_binds_to_it() -> Result<()> {
    let server = with_pool(2, 4).await?;
    let before = ids(&server).await?;
    let body = json!({"env": {"WHO": "claim", "SECRET": "x1"}, "labels": {"job": "7"}});
    let claimed = claim(&server, &body).await?;
    ensure!(before.contains(claimed["id"].as_str().context("id")?), "it was ready before: {claimed}");
    ensure!(claimed["pool"]["pool"] == "warm" && claimed["pool"]["claim"] == "claimed", "{claimed}");
    ensure!(claimed["spec"]["env"]["SECRET"] == "***", "values of variables are not shown: {claimed}");
    let said = server.shell(&path_of(&claimed)?, "echo $WHO $KEPT $SECRET").await?;
    ensure!(said["stdout"] == "claim yes x1\n", "{said}");
    let labelled = server.get("/v1/sandboxes?label=job%3D7").await?.json()?;
    ensure!(labelled["items"].as_array().map(Vec::len) == Some(1), "{labelled}");
    let pool = until("refilled", async || {
        let pool = server.get(POOL).await?.json()?;
        Ok((pool["ready"].as_u64() >= Some(2)).then_some(pool))
    })
    .await?;
    ensure!(pool["hits"] == 1 && pool["misses"] == 0 && pool["claimed"] == 1, "{pool}");
    let metrics = String::from_utf8(server.get("/metrics").await?.expect(200)?.bytes)?;
    for line in ["hothouse_pool_hits_total{pool=\"warm\"} 1", "hothouse_pool_claimed{pool=\"warm\"} 1"] {
        ensure!(metrics.contains(line), "{line} is not in {metrics}");
    }
    server.stop().await
}

#[tokio::test]
async fn a_claim_brings_files_or_spends_nothing() -> Result<()> {
    let server = with_pool(1, 1).await?;
    let files = json!([
        {"path": "/workspace/deep/run.sh", "content": "#!/bin/sh\necho ran\n", "mode": "755"},
        {"path": "/workspace/bytes", "content": "AAEC/w==", "encoding": "base64"},
        {"path": "/workspace/big", "content": "x".repeat(100 << 10)},
    ]);
    let claimed = claim(&server, &json!({"files": files})).await?;
    let look = "deep/run.sh; od -An -tx1 bytes; wc -c < big";
    let said = server.shell(&path_of(&claimed)?, look).await?;
    ensure!(said["stdout"] == "ran\n 00 01 02 ff\n102400\n", "{said}");

    ready(&server, 1).await?;
    let before = ids(&server).await?;
    let wrong = [
        (json!([{"path": "relative", "content": ""}]), "files[0].path"),
        (json!([{"path": "/a", "content": "", "mode": "9"}]), "files[0].mode"),
        (json!([{"path": "/a", "content": "?", "encoding": "base64"}]), "files[0].content"),
        (json!(vec![json!({"path": "/a", "content": ""}); 257]), "files"),
    ];
    for (files, field) in wrong {
        let answer = server.post(&format!("{POOL}/claim"), &json!({"files": files})).await?;
        ensure!(answer.problem(400, "invalid_request")?["field"] == field, "{field}");
    }
    ensure!(ids(&server).await? == before, "no sandbox was spent");
    // What cannot be written is told, and the sandbox is not left claimed.
    let refused = json!({"files": [{"path": "/proc/1/nothing", "content": ""}]});
    let answer = server.post(&format!("{POOL}/claim"), &refused).await?;
    ensure!(answer.status.is_client_error(), "{}: {:?}", answer.status, answer.json()?);
    let pool = ready(&server, 1).await?;
    ensure!(pool["claimed"] == 1, "only the first: {pool}");
    server.stop().await
}

#[tokio::test]
async fn a_claim_on_an_empty_pool_makes_one_and_is_counted_apart() -> Result<()> {
    let server = with_pool(0, 1).await?;
    let claimed = claim(&server, &json!({"env": {"WHO": "miss"}})).await?;
    ensure!(server.shell(&path_of(&claimed)?, "echo $WHO").await?["stdout"] == "miss\n");
    let pool = server.get(POOL).await?.json()?;
    ensure!(pool["hits"] == 0 && pool["misses"] == 1 && pool["claimed"] == 1, "{pool}");
    server.stop().await
}

#[tokio::test]
async fn claims_at_once_get_a_sandbox_each() -> Result<()> {
    let server = with_pool(4, 8).await?;
    let claims = (0..12)
        .map(|_| async { claim(&server, &json!({})).await?["id"].as_str().map(str::to_owned).context("id") });
    let given: Vec<String> = futures::future::try_join_all(claims).await?;
    ensure!(given.iter().collect::<BTreeSet<_>>().len() == 12, "each has its own: {given:?}");
    let pool = server.get(POOL).await?.json()?;
    let (hits, misses) = (pool["hits"].as_u64().context("hits")?, pool["misses"].as_u64().context("misses")?);
    ensure!(hits >= 4 && hits + misses == 12 && pool["claimed"] == 12, "{pool}");
    server.stop().await
}

#[tokio::test]
async fn a_new_version_replaces_what_is_ready_and_the_same_again_does_not() -> Result<()> {
    let server = with_pool(2, 2).await?;
    let old = ids(&server).await?;
    let spec = json!({"env": {"WHO": "second"}});
    ensure!(put_template(&server, &spec).await?["version"] == 2);
    ensure!(put_template(&server, &spec).await?["version"] == 2, "the same again is no new version");
    until("all of them replaced", async || Ok(ids(&server).await?.is_disjoint(&old).then_some(()))).await?;
    let pool = ready(&server, 2).await?;
    ensure!(pool["template_version"] == 2, "{pool}");
    let claimed = claim(&server, &json!({})).await?;
    ensure!(claimed["pool"]["version"] == 2, "{claimed}");
    ensure!(server.shell(&path_of(&claimed)?, "echo $WHO").await?["stdout"] == "second\n");
    server.stop().await
}

#[tokio::test]
async fn a_pool_is_scaled_drained_and_deleted() -> Result<()> {
    let server = with_pool(1, 1).await?;
    let scaled =
        send(server.request(Method::PUT, &format!("{POOL}/size")).json(&json!({"min": 3, "max": 3})));
    ensure!(scaled.await?.expect(200)?.json()?["spec"]["min"] == 3);
    ready(&server, 3).await?;
    let claimed = claim(&server, &json!({})).await?;
    let in_use = server.delete(POOL).await?.problem(409, "pool_in_use")?;
    ensure!(
        in_use["detail"].as_str().is_some_and(|text| text.contains("1 of them") && text.contains("drain"))
    );
    ensure!(server.post_nothing(&format!("{POOL}/drain")).await?.expect(200)?.json()?["phase"] == "draining");
    ready(&server, 0).await?;
    server.post_nothing(&format!("{POOL}/claim")).await?.problem(409, "pool_draining")?;
    server.delete(POOL).await?.expect(204)?;
    server.get(POOL).await?.problem(404, "pool_not_found")?;
    ensure!(
        server.shell(&path_of(&claimed)?, "echo alive").await?["stdout"] == "alive\n",
        "claimed ones live on"
    );
    ensure!(ids(&server).await?.len() == 1, "and nothing else is left");
    server.delete("/v1/templates/py").await?.expect(204)?;
    server.stop().await
}

#[tokio::test]
async fn a_killed_server_is_followed_by_one_that_knows_all_of_it() -> Result<()> {
    let server = with_pool(3, 3).await?;
    let claimed = claim(&server, &json!({"env": {"WHO": "before"}, "labels": {"job": "8"}})).await?;
    ready(&server, 3).await?;
    let before = ids(&server).await?;

    let server = server.killed_and_started_again().await?;
    let pool = ready(&server, 3).await?;
    let after = ids(&server).await?;
    ensure!(
        after == before,
        "the same sandboxes, none more, none less: {before:?}, then {after:?}; {}",
        server.log()
    );
    ensure!(pool["claimed"] == 1 && pool["spec"]["max"] == 3 && pool["template_version"] == 1, "{pool}");
    let found = server.get(&path_of(&claimed)?).await?.expect(200)?.json()?;
    ensure!(found["pool"]["claim"] == "claimed" && found["spec"]["labels"]["job"] == "8", "{found}");
    ensure!(server.shell(&path_of(&claimed)?, "echo $WHO").await?["stdout"] == "before\n");
    let next = claim(&server, &json!({})).await?;
    ensure!(next["id"] != claimed["id"], "what is claimed is given to nobody else");
    ensure!(before.contains(next["id"].as_str().context("id")?), "what was ready still is");
    server.stop().await
}

#[tokio::test]
async fn a_ready_sandbox_that_died_is_replaced_and_given_to_nobody() -> Result<()> {
    let server = with_pool(1, 1).await?;
    let victim = ids(&server).await?.into_iter().next().context("one")?;
    // Its own root may end its guest only by using up its memory; from outside it is a delete.
    server.delete(&format!("/v1/sandboxes/{victim}")).await?.expect(204)?;
    let claimed = claim(&server, &json!({})).await?;
    ensure!(claimed["id"] != victim.as_str());
    ready(&server, 1).await?;
    server.stop().await
}

#[tokio::test]
async fn what_is_wrong_is_named() -> Result<()> {
    let server = with_pool(0, 1).await?;
    let pool = async |body: Value| {
        server.post("/v1/pools", &body).await.and_then(|answer| Ok((answer.status, answer.json()?)))
    };
    let wrong = [
        (json!({"name": "warm", "template": "py", "min": 0, "max": 1}), "pool_exists", None),
        (json!({"name": "other", "template": "nope", "min": 0, "max": 1}), "template_not_found", None),
        (json!({"name": "a/b", "template": "py", "min": 0, "max": 1}), "invalid_request", Some("name")),
        (json!({"name": "big", "template": "py", "min": 0, "max": 5000}), "invalid_request", Some("max")),
        (json!({"name": "none", "template": "py", "min": 0, "max": 0}), "invalid_request", Some("max")),
        (json!({"name": "odd", "template": "py", "min": 2, "max": 1}), "invalid_request", Some("min")),
        (json!({"name": "neg", "template": "py", "min": -1, "max": 1}), "invalid_request", Some("min")),
        (
            json!({"name": "x", "template": "py", "min": 0, "max": 1, "mix": 2}),
            "invalid_request",
            Some("mix"),
        ),
    ];
    for (body, code, field) in wrong {
        let (status, problem) = pool(body.clone()).await?;
        ensure!(status.is_client_error() && problem["code"] == code, "{body}: {problem}");
        ensure!(field.is_none() || problem["field"] == field.unwrap_or_default(), "{body}: {problem}");
    }
    server.delete("/v1/templates/py").await?.problem(409, "template_in_use")?;
    server.get("/v1/templates/nope").await?.problem(404, "template_not_found")?;
    server.delete("/v1/pools/nope").await?.problem(404, "pool_not_found")?;
    server.post("/v1/pools/nope/claim", &json!({})).await?.problem(404, "pool_not_found")?;
    let claim = async |body: Value| {
        server.post(&format!("{POOL}/claim"), &body).await?.problem(400, "invalid_request")
    };
    ensure!(claim(json!({"env": {"A=B": "x"}})).await?["field"] == "env.A=B");
    ensure!(claim(json!({"labels": {"a b": "x"}})).await?["field"] == "labels.a b");
    ensure!(claim(json!({"image": "host"})).await?["field"] == "image");
    let info = server.get(POOL).await?.json()?;
    ensure!(info["hits"] == 0 && info["misses"] == 0, "no sandbox was spent: {info}");
    server.stop().await
}
