//! T26 and T28: what one user of a pool leaves for the next, and who gets at secrets.

use anyhow::Context as _;
use bytes::Bytes;
use hothouse_domain::{ExecSpec, SandboxInfo, SandboxSpec, Secret};
use reqwest::Method;
use serde_json::{Value, json};

use crate::scene::{Scene, python};

const MARKS: &str = include_str!("../payloads/marks.py");
const VALUE: &str = "abuse-s3cr3t-value";
/// Users of the pool, one after the other: more than there are sandboxes, groups and networks in stock.
const USERS: usize = 24;

fn body(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

async fn ask(scene: &Scene<'_>, method: Method, path: &str, value: &Value) -> anyhow::Result<Bytes> {
    let answer = scene.world.api.send(method, path, body(value)).await?;
    anyhow::ensure!(answer.status < 300, "{path}: {} {}", answer.status, answer.code());
    Ok(answer.body)
}

/// One after the other claims, leaves marks everywhere, and goes; the next one looks for them.
pub(super) async fn reuse(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    ask(scene, Method::PUT, "/v1/templates/t26", &json!({})).await?;
    let pool = json!({"name": "t26", "template": "t26", "min": 2, "max": 2});
    ask(scene, Method::POST, "/v1/pools", &pool).await?;
    let used = use_in_turn(scene).await;
    ask(scene, Method::POST, "/v1/pools/t26/drain", &json!({})).await?;
    scene.world.api.send(Method::DELETE, "/v1/pools/t26", Bytes::new()).await?;
    scene.world.api.send(Method::DELETE, "/v1/templates/t26", Bytes::new()).await?;
    used
}

async fn use_in_turn(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for user in 0..USERS {
        let whose = format!("user-{user}");
        let claim = json!({"env": {"WHOSE": whose}});
        let claimed = ask(scene, Method::POST, "/v1/pools/t26/claim", &claim).await?;
        let claimed: SandboxInfo = serde_json::from_slice(&claimed).context("a claimed sandbox")?;
        let id = claimed.id.to_string();
        scene.owns(id.clone());
        let seen = scene.python(&id, MARKS, &["look", &whose]).await?;
        scene.found.holds(format!("user {user} finds nothing of another"), seen["found"] == json!([]), &seen);
        let planted = scene.python(&id, MARKS, &["plant"]).await?;
        scene.found.holds("it has room to leave something", planted["planted"].is_array(), &planted);
        scene.world.api.delete(&id).await?;
    }
    Ok(())
}

/// One that is set back is as good as new.
pub(super) async fn set_back(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let env = [("WHOSE".to_owned(), "next".to_owned())].into();
    let id = scene.world.api.create(&SandboxSpec { env, ..SandboxSpec::default() }).await?.id.to_string();
    scene.owns(id.clone());
    for _ in 0..3 {
        scene.python(&id, MARKS, &["plant"]).await?;
        ask(scene, Method::POST, &format!("/v1/sandboxes/{id}/restore"), &json!({})).await?;
        let seen = scene.python(&id, MARKS, &["look", "next"]).await?;
        scene.found.holds("nothing is left after a restore", seen["found"] == json!([]), &seen);
    }
    Ok(())
}

/// The same sandbox given to two: the second one finds all that the first has left.
pub(super) async fn reuse_unwiped(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    scene.python(&id, MARKS, &["plant"]).await?;
    let seen = scene.python(&id, MARKS, &["look", "second"]).await?;
    let found = seen["found"].as_array().context("a list")?;
    scene.found.holds("a sandbox that is given to another shows the marks", found.len() >= 6, &seen);
    let ipc = seen.to_string().contains("System V shm");
    scene.found.holds("System V objects outlive who made them", ipc, &seen);
    Ok(())
}

async fn with_secret(scene: &mut Scene<'_>) -> anyhow::Result<String> {
    let secrets = [("TOKEN".to_owned(), Secret::new(VALUE.to_owned()))].into();
    let spec = SandboxSpec { secrets, ..SandboxSpec::default() };
    let id = scene.world.api.create(&spec).await?.id.to_string();
    scene.owns(id.clone());
    Ok(id)
}

/// Where a secret could be found by who did not ask for it: variables, arguments, files, and a core.
const SEARCH: &str = "env; for f in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do tr '\\0' '\\n' < $f; done 2>/dev/null; \
                      ulimit -c unlimited 2>/dev/null; (kill -SEGV $(sh -c 'echo $PPID')) 2>/dev/null; \
                      grep -ra 's3cr3t-[v]alue' / --include='*' -s --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr \
                      --exclude-dir=lib --exclude-dir=bin | head -c 300; true";

pub(super) async fn secrets(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = with_secret(scene).await?;
    let asked = ExecSpec {
        shell: Some("test \"$TOKEN\" && echo got it".to_owned()),
        secrets: vec!["TOKEN".to_owned()],
        ..ExecSpec::default()
    };
    let got = scene.exec(&id, asked).await?;
    scene.found.holds("who asks for it gets it", got.stdout == "got it\n", format!("{got:?}"));
    let looked = scene.shell(&id, SEARCH).await?;
    let said = format!("{}{}", looked.stdout, looked.stderr);
    scene.found.holds("who does not ask finds nothing", !said.contains(VALUE), &said);
    for path in [
        format!("/v1/sandboxes/{id}"),
        "/v1/sandboxes".to_owned(),
        format!("/v1/sandboxes/{id}/execs"),
        "/metrics".to_owned(),
    ] {
        let shown = scene.world.api.send(Method::GET, &path, Bytes::new()).await?;
        let text = String::from_utf8_lossy(&shown.body).into_owned();
        scene.found.holds(format!("{path} does not show it"), !text.contains(VALUE), &text);
    }
    Ok(())
}

/// The same value as a variable of the sandbox: everybody has it.
pub(super) async fn secrets_as_variables(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let env = [("TOKEN".to_owned(), VALUE.to_owned())].into();
    let spec = SandboxSpec { env, ..SandboxSpec::default() };
    let id = scene.world.api.create(&spec).await?.id.to_string();
    scene.owns(id.clone());
    let looked = scene.shell(&id, SEARCH).await?;
    scene.found.holds("a variable is everybody's", looked.stdout.contains(VALUE), &looked.stdout);
    let report = scene.exec(&id, python("report(value=os.environ.get('TOKEN'))", &[])).await?;
    scene.found.holds("and every program's", report.stdout.contains(VALUE), &report.stdout);
    Ok(())
}
