//! T22, and the part of T27 that goes by sandboxes: what sandboxes of one image, and forks of one sandbox, have in common.

use std::collections::HashMap;

use anyhow::Context as _;
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use crate::scene::Scene;

const WALLS: &str = include_str!("../payloads/walls.py");
/// Whatever two of them must not have in common.
const DRAW: &str = "import platform, random, secrets, tempfile, uuid\n\
    files = dict(machine='/etc/machine-id', boot='/proc/sys/kernel/random/uuid', host='/proc/sys/kernel/hostname')\n\
    read = {name: open(path).read() for name, path in files.items() if os.path.exists(path)}\n\
    report(random=str(random.random()), uuid4=str(uuid.uuid4()), urandom=os.urandom(8).hex(), token=secrets.token_hex(8),\n\
    name=next(tempfile._get_candidate_names()), node=platform.node(), **read)";
const FORKS: usize = 4;

async fn fork_group(scene: &mut Scene<'_>, origin: &str, id: &str) -> anyhow::Result<Vec<String>> {
    let body = json!({"id": id, "count": FORKS, "fork_of": origin});
    let answer = scene.world.api.send(Method::POST, "/v1/groups", Bytes::from(body.to_string())).await?;
    anyhow::ensure!(answer.status < 300, "forking: {} {}", answer.status, answer.code());
    let group: Value = serde_json::from_slice(&answer.body)?;
    let members = group["members"].as_array().context("a group without members")?;
    let ids: Vec<String> =
        members.iter().filter_map(|member| member["id"].as_str().map(str::to_owned)).collect();
    anyhow::ensure!(ids.len() == FORKS, "{group}");
    for id in &ids {
        scene.owns(id.clone());
    }
    Ok(ids)
}

/// One leaves something everywhere; neither its neighbour nor one that comes later meets it, and a fork meets its files
/// alone, as copies.
pub(super) async fn attack(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (one, other) = (scene.plain().await?, scene.plain().await?);
    let planted = scene.python(&one, WALLS, &["plant"]).await?;
    let listens = planted["said"].as_str().is_some_and(|said| said.contains("listening"));
    scene.found.holds("it has room to leave something", listens, &planted);
    let later = scene.plain().await?;
    for (who, id) in [("its neighbour", &other), ("one that comes later", &later)] {
        let seen = scene.python(id, WALLS, &["look"]).await?;
        scene.found.holds(format!("{who} meets nothing"), seen["found"] == json!([]), &seen);
    }
    let forks = fork_group(scene, &one, "t22").await?;
    for fork in &forks {
        let seen = scene.python(fork, WALLS, &["look", "fork"]).await?;
        scene.found.holds("a fork meets no socket, object or process", seen["found"] == json!([]), &seen);
    }
    let before = scene.python(&one, WALLS, &["have"]).await?;
    let changed = scene.python(&forks[0], WALLS, &["change", "first"]).await?;
    scene.found.holds("a fork changes its files", changed["files"] == json!(["of-fork"]), &changed);
    for (who, id) in [("its origin", &one), ("its sibling", &forks[1])] {
        let has = scene.python(id, WALLS, &["have"]).await?;
        scene.found.holds(
            format!("that reaches not {who}"),
            has == before,
            format!("{has}, before {before}"),
        );
    }
    scene.python(&one, WALLS, &["change", "origin"]).await?;
    let has = scene.python(&forks[1], WALLS, &["have"]).await?;
    scene.found.holds("nor does the origin's change reach a fork", has == before, &has);
    Ok(())
}

/// Two who share a sandbox meet everywhere.
pub(super) async fn within_one(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    scene.python(&id, WALLS, &["plant"]).await?;
    let seen = scene.python(&id, WALLS, &["look"]).await?;
    let found = seen["found"].as_array().context("a list")?;
    scene.found.holds("who shares a sandbox meets all that is left", found.len() >= 13, &seen);
    Ok(())
}

/// Forks of one sandbox, and it: whatever they draw, and whoever they are, is their own.
pub(super) async fn forks(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let origin = scene.plain().await?;
    scene.python(&origin, DRAW, &[]).await?;
    let mut all = fork_group(scene, &origin, "t27").await?;
    all.push(origin);
    let mut seen: HashMap<(String, String), String> = HashMap::new();
    for id in &all {
        let drawn = scene.python(id, DRAW, &[]).await?;
        for (what, value) in drawn.as_object().context("nothing was drawn")? {
            let before = seen.insert((what.clone(), value.to_string()), id.clone());
            scene.found.holds(
                format!("{what} is a fork's own"),
                before.is_none(),
                format!("{value} of {id} was that of {before:?} too"),
            );
        }
    }
    Ok(())
}
