//! What a claim binds to a ready sandbox: secrets and limits.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Server, send};
use crate::wait::until;

async fn with_pool(template: &Value) -> Result<Server> {
    let server = Server::start().await?;
    send(server.request(Method::PUT, "/v1/templates/py").json(template)).await?.expect(200)?;
    server
        .post("/v1/pools", &json!({"name": "p", "template": "py", "min": 1, "max": 1}))
        .await?
        .expect(201)?;
    until(
        "one is ready",
        async || Ok((server.get("/v1/pools/p").await?.json()?["ready"] == 1).then_some(())),
    )
    .await?;
    Ok(server)
}

async fn claim(server: &Server, body: &Value) -> Result<(String, Value)> {
    let info = server.post("/v1/pools/p/claim", body).await?.expect(201)?.json()?;
    Ok((format!("/v1/sandboxes/{}", info["id"].as_str().context("id")?), info))
}

#[tokio::test]
async fn a_secret_reaches_who_asks_for_it_and_nobody_else() -> Result<()> {
    const VALUE: &str = "s3cr3t-value";
    let server = with_pool(&json!({})).await?;
    let (path, info) = claim(&server, &json!({"secrets": {"TOKEN": VALUE, "OTHER": "x"}})).await?;
    ensure!(info["spec"]["secrets"] == json!({"TOKEN": "***", "OTHER": "***"}), "{info}");
    let exec = format!("{path}/exec");
    let asked = json!({"shell": "echo $TOKEN-$OTHER", "secrets": ["TOKEN"], "exec_id": "asked"});
    let said = server.post(&exec, &asked).await?.expect(200)?.json()?;
    ensure!(said["stdout"] == format!("{VALUE}-\n"), "{said}");
    // Not in the next one's variables, nor in a place where it could look.
    let look = format!(
        "env; grep -ral {VALUE} /proc/[0-9]*/environ /proc/[0-9]*/cmdline /tmp /workspace /run /etc; true"
    );
    let said = server.shell(&path, &look.replace(VALUE, "s3cr3t-[v]alue")).await?;
    ensure!(
        !said["stdout"].as_str().is_some_and(|text| text.contains("s3cr3t") || text.contains("/proc")),
        "{said}"
    );
    let wrong = server.post(&exec, &json!({"shell": "true", "secrets": ["TOKEN", "NOPE"]})).await?;
    let problem = wrong.problem(400, "invalid_request")?;
    ensure!(
        problem["field"] == "secrets[1]"
            && problem["detail"].as_str().is_some_and(|t| t.contains("OTHER, TOKEN"))
    );
    let shell = json!({"shell_id": "sh", "secrets": ["TOKEN"]});
    server.post(&format!("{path}/shells"), &shell).await?.expect(201)?;
    let said = server
        .post(&format!("{path}/shells/sh/run"), &json!({"command": "echo $TOKEN"}))
        .await?
        .expect(200)?;
    ensure!(said.json()?["stdout"] == format!("{VALUE}\n"));

    // The next server knows it, and nothing that is shown or written down for people holds it.
    let server = server.killed_and_started_again().await?;
    let again = json!({"shell": "echo $TOKEN", "secrets": ["TOKEN"]});
    ensure!(server.post(&exec, &again).await?.expect(200)?.json()?["stdout"] == format!("{VALUE}\n"));
    for shown in [
        path.clone(),
        "/v1/sandboxes".into(),
        format!("{path}/execs"),
        "/v1/events?after=x".into(),
        "/metrics".into(),
    ] {
        let text = String::from_utf8_lossy(&server.get(&shown).await?.bytes).into_owned();
        ensure!(!text.contains(VALUE), "{shown} shows it");
    }
    ensure!(!server.log().contains(VALUE), "the log shows it");
    let long = json!({"secrets": {"A=B": VALUE}});
    let refused = server.post("/v1/sandboxes", &long).await?.problem(400, "invalid_request")?;
    ensure!(refused["field"] == "secrets.A=B" && !refused.to_string().contains(VALUE), "{refused}");
    server.stop().await
}

#[tokio::test]
async fn a_claim_sets_the_limits_of_a_running_sandbox() -> Result<()> {
    let server =
        with_pool(&json!({"resources": {"memory_bytes": 64 << 20, "disk_bytes": 16 << 20, "pids": 64}}))
            .await?;
    let limits = server.get("/v1/capabilities").await?.expect(200)?.json()?;
    let change = json!({"memory_bytes": 256 << 20, "pids": 12, "cpus": 0.5});
    let before = server.get("/v1/sandboxes").await?.json()?["items"][0]["id"].clone();
    let (path, info) = claim(&server, &json!({"resources": change})).await?;
    ensure!(info["id"] == before, "no cold start");
    let resources = &info["spec"]["resources"];
    ensure!(
        resources["memory_bytes"] == 256 << 20 && resources["pids"] == 12 && resources["cpus"] == 0.5,
        "{info}"
    );
    ensure!(resources["disk_bytes"] == 16 << 20, "as much room for files as was made: {info}");
    let enforced = limits.to_string().contains("enforced");
    ensure!(enforced, "this machine enforces something: {limits}");
    // 128 MiB would have been too much before, and 20 processes would have been few.
    let big = "python3 -c 'x = bytearray(128 << 20); print(len(x))'";
    let said = server.shell(&path, big).await?;
    ensure!(said["stdout"] == format!("{}\n", 128 << 20), "{said}");
    let many = "for i in $(seq 20); do sleep 5 & done 2>&1; wait";
    let said = server
        .post(&format!("{path}/exec"), &json!({"shell": many, "timeout_s": 3}))
        .await?
        .expect(200)?
        .json()?;
    let text = format!("{}{}", said["stdout"], said["stderr"]);
    ensure!(text.contains("fork"), "the limit on processes holds: {said}");
    // The one that comes after it in the same group has its own limits.
    server.delete(&path).await?.expect(204)?;
    let (next, info) = claim(&server, &json!({})).await?;
    ensure!(info["spec"]["resources"]["pids"] == 64, "{info}");
    let said = server.shell(&next, "for i in $(seq 20); do sleep 0.1 & done; wait; echo fine").await?;
    ensure!(said["stdout"] == "fine\n", "{said}");
    for (change, field) in [
        (json!({"memory_bytes": 17 << 20}), "resources.memory_bytes"),
        (json!({"pids": 1}), "resources.pids"),
        (json!({"cpus": -1}), "resources.cpus"),
        (json!({"disk_bytes": 1 << 30}), "resources.disk_bytes"),
    ] {
        let answer = server.post("/v1/pools/p/claim", &json!({"resources": change})).await?;
        ensure!(answer.problem(400, "invalid_request")?["field"] == field, "{change}: {}", answer.json()?);
    }
    server.stop().await
}

#[tokio::test]
async fn a_template_s_setup_has_run_before_a_sandbox_is_ready() -> Result<()> {
    let setup =
        json!({"env": {"WHO": "setup"}, "setup": ["echo $WHO > /workspace/made", "cat made > copied"]});
    let server = with_pool(&setup).await?;
    let (path, _) = claim(&server, &json!({"env": {"WHO": "claim"}})).await?;
    ensure!(server.shell(&path, "cat copied").await?["stdout"] == "setup\n");
    // One that fails is told of, and none of it is ready.
    let broken = json!({"setup": ["true", "echo why >&2; exit 3"]});
    send(server.request(Method::PUT, "/v1/templates/py").json(&broken)).await?.expect(200)?;
    let failure = until("the failure", async || {
        let pool = server.get("/v1/pools/p").await?.json()?;
        Ok(pool["last_failure"].as_str().map(str::to_owned))
    })
    .await?;
    ensure!(
        failure.contains("setup[1]") && failure.contains("code 3") && failure.contains("why"),
        "{failure}"
    );
    let refused = server.post("/v1/pools/p/claim", &json!({})).await?;
    let refused = refused.problem(500, "setup_failed")?;
    ensure!(refused["detail"].as_str().is_some_and(|text| text.contains("setup[1]")), "{refused}");
    until("nothing is left of it", async || {
        let all = server.get("/v1/sandboxes").await?.json()?["items"].clone();
        Ok((all.as_array().map(Vec::len) == Some(1)).then_some(()))
    })
    .await?;
    let wrong = json!({"setup": ["a\u{0}b"]});
    let answer = send(server.request(Method::PUT, "/v1/templates/py").json(&wrong)).await?;
    ensure!(answer.problem(400, "invalid_request")?["field"] == "setup[0]");
    server.stop().await
}

#[tokio::test]
async fn a_setup_runs_once_and_what_it_left_goes_with_its_template() -> Result<()> {
    let setup =
        |name: &str| json!({"setup": ["cat /proc/sys/kernel/random/uuid > drawn", format!("touch {name}")]});
    let server = with_pool(&setup("first")).await?;
    let drawn = async |server: &Server| {
        let (path, _) = claim(server, &json!({"env": {"A": "b"}})).await?;
        let said = server.shell(&path, "cat drawn; rm drawn").await?;
        anyhow::Ok((path, said["stdout"].as_str().context("stdout")?.to_owned()))
    };
    // One that waited, one that was made for its claim, and one of another server.
    let (path, first) = drawn(&server).await?;
    ensure!(first.len() == 37, "{first:?}");
    assert_eq!(drawn(&server).await?.1, first);
    let snapshots = async |server: &Server| {
        let listed = server.get("/v1/snapshots").await?.expect(200)?.json()?;
        anyhow::Ok(listed["items"].as_array().context("items")?.clone())
    };
    let kept = snapshots(&server).await?;
    ensure!(kept.len() == 1 && kept[0]["template"] == "py", "{kept:?}");
    let id = kept[0]["id"].as_str().context("id")?;
    server.delete(&format!("/v1/snapshots/{id}")).await?.problem(409, "snapshot_in_use")?;
    let server = server.killed_and_started_again().await?;
    assert_eq!(drawn(&server).await?.1, first);
    // Set back, it is as the setup left it, and what it changes is its own alone.
    server.post(&format!("{path}/restore"), &json!({})).await?.expect(200)?;
    ensure!(server.shell(&path, "cat drawn").await?["stdout"] == first);
    server.shell(&path, "touch mine").await?;
    let diff = server.get(&format!("{path}/diff")).await?.expect(200)?.json()?;
    ensure!(diff["count"] == 1 && diff["changes"][0]["path"] == "/workspace/mine", "{diff}");

    let put = send(server.request(Method::PUT, "/v1/templates/py").json(&setup("second")));
    put.await?.expect(200)?;
    let (other, second) = drawn(&server).await?;
    ensure!(second != first && server.shell(&other, "ls").await?["stdout"] == "second\n");
    ensure!(server.shell(&path, "ls").await?["stdout"] == "drawn\nfirst\nmine\n", "it lives on");
    server.post_nothing("/v1/pools/p/drain").await?.expect(200)?;
    server.delete("/v1/pools/p").await?.expect(204)?;
    server.delete("/v1/templates/py").await?.expect(204)?;
    ensure!(server.shell(&path, "cat drawn").await?["stdout"] == first);
    let all = server.get("/v1/sandboxes").await?.json()?["items"].clone();
    for sandbox in all.as_array().context("items")? {
        let id = sandbox["id"].as_str().context("id")?;
        server.delete(&format!("/v1/sandboxes/{id}")).await?.expect(204)?;
    }
    ensure!(snapshots(&server).await?.is_empty());
    let files = server.home().join("snapshots");
    until("its files are gone", async || Ok((std::fs::read_dir(&files)?.count() == 0).then_some(()))).await?;
    server.stop().await
}
