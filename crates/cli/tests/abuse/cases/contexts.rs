//! T27, and the part of T31 that goes by contexts: what forks share, and code that talks to the guest in its interpreter's
//! place.

use std::collections::HashMap;

use anyhow::Context as _;
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use crate::scene::{Scene, python};

/// What nobody else may have, by every way to come by it.
const DRAW: &str = "import os, random, secrets, tempfile, uuid\n\
    dict(random=str(random.random()), uuid4=str(uuid.uuid4()), urandom=os.urandom(8).hex(), token=secrets.token_hex(8),\n\
    name=next(tempfile._get_candidate_names()), process=os.getpid())";

/// Writes to every socket that its process has.
const SPEAK: &str = "import os, stat\n\
    for fd in range(3, 200):\n    try:\n        if stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, BYTES)\n    \
    except OSError: pass\n";

async fn post(scene: &Scene<'_>, path: &str, body: &Value) -> anyhow::Result<Value> {
    let answer = scene.world.api.send(Method::POST, path, Bytes::from(body.to_string())).await?;
    anyhow::ensure!(answer.status < 300, "{path}: {} {}", answer.status, answer.code());
    serde_json::from_slice(&answer.body).context("an answer that is no JSON")
}

async fn run(scene: &Scene<'_>, context: &str, code: &str) -> anyhow::Result<Value> {
    post(scene, &format!("{context}/run"), &json!({"code": code, "timeout_s": 60})).await
}

/// Contexts of one zygote, their forks, and forks of those: whatever they draw is their own.
pub(super) async fn forks(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    let contexts = format!("/v1/sandboxes/{id}/contexts");
    let mut all = Vec::new();
    for name in ["a", "b"] {
        post(scene, &contexts, &json!({"context_id": name})).await?;
        // Before they are forked: a state that is there to be shared.
        run(scene, &format!("{contexts}/{name}"), DRAW).await?;
        post(scene, &format!("{contexts}/{name}/fork"), &json!({"context_id": name, "count": 4})).await?;
        post(scene, &format!("{contexts}/{name}-1/fork"), &json!({"context_id": format!("{name}-x")}))
            .await?;
        all.push(name.to_owned());
        all.extend((1..=4).map(|number| format!("{name}-{number}")));
        all.push(format!("{name}-x"));
    }
    let mut seen: HashMap<(String, String), String> = HashMap::new();
    for name in &all {
        let result = run(scene, &format!("{contexts}/{name}"), DRAW).await?;
        let drawn = result["value"]["json"].as_object().context("nothing was drawn")?.clone();
        for (what, value) in drawn {
            let before = seen.insert((what.clone(), value.to_string()), name.clone());
            scene.found.holds(
                format!("{what} of {name} is its own"),
                before.is_none(),
                format!("{value} was that of {before:?} too"),
            );
        }
    }
    Ok(())
}

/// A fork as the system makes it, with a generator that nobody seeds anew: both draw the same.
pub(super) async fn forks_as_they_are(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    let payload = "import random\nown = random.Random()\nr, w = os.pipe()\nif os.fork() == 0:\n    \
        os.write(w, repr(own.random()).encode())\n    os._exit(0)\nos.wait()\nreport(same=os.read(r, 99).decode() == repr(own.random()))";
    let result = scene.exec(&id, python(payload, &[])).await?;
    scene.found.holds(
        "a plain fork draws what its parent draws",
        result.stdout.contains("true"),
        &result.stdout,
    );
    Ok(())
}

/// Code that takes its interpreter's place on the guest's socket ends its own context at most.
pub(super) async fn speak_to_the_guest(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    let contexts = format!("/v1/sandboxes/{id}/contexts");
    post(scene, &contexts, &json!({"context_id": "good"})).await?;
    run(scene, &format!("{contexts}/good"), "keep = 7").await?;
    let bad = format!("{contexts}/bad");
    for bytes in [
        "b'\\xff' * 65536",
        "b'd\\xff\\xff\\xff\\xff' + b'x' * 4096",
        "b'h\\x04\\x00\\x00\\x003.99'",
        "b'o\\x00\\x00\\x00\\x00' * 1000",
        "b'p\\x00\\x00\\x00\\x00' * 1000",
        "b'f\\x04\\x00\\x00\\x00gone'",
        "b'd\\x05\\x00\\x00\\x00\\x00lies' * 1000",
        "b'd\\x00\\x00\\x30\\x00' + b'[' * (3 << 20)",
    ] {
        post(scene, &contexts, &json!({"context_id": "bad"})).await?;
        let told = run(scene, &bad, &SPEAK.replace("BYTES", bytes)).await;
        scene.found.holds(format!("{bytes} is answered"), told.is_ok(), format!("{told:?}"));
        scene.world.api.send(Method::DELETE, &bad, Bytes::new()).await?;
        let good = run(scene, &format!("{contexts}/good"), "keep").await?;
        scene.found.holds("another context goes on", good["value"]["json"] == 7, &good);
    }
    // Its own zygote is the sandbox's, to be ended by whoever is root there; the next context gets another.
    let kill = "import os, signal\nfor name in os.listdir('/proc'):\n    if name.isdigit() and int(name) not in (1, os.getpid()):\n        os.kill(int(name), signal.SIGKILL)";
    post(scene, &contexts, &json!({"context_id": "bad"})).await?;
    run(scene, &bad, kill).await?;
    post(scene, &contexts, &json!({"context_id": "next"})).await?;
    let next = run(scene, &format!("{contexts}/next"), "1 + 1").await?;
    scene.found.holds("a killed zygote is followed by another", next["value"]["json"] == 2, &next);
    Ok(())
}
