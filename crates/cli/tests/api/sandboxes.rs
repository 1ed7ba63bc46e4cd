//! Sandboxes over the API.

use std::fs;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::server::Server;
use crate::wait::until;

#[tokio::test]
async fn a_sandbox_is_made_found_and_deleted() -> Result<()> {
    let server = Server::start().await?;
    let spec = json!({"id": "first", "env": {"SECRET": "hunter2"}, "labels": {"team": "red"}, "resources": {"pids": 64}});
    let made = server.post("/v1/sandboxes", &spec).await?.expect(201)?;
    ensure!(made.header("location") == "/v1/sandboxes/first", "{:?}", made.headers);
    let info = made.json()?;
    ensure!(info["id"] == "first" && info["phase"] == "running", "{info}");
    ensure!(info["spec"]["resources"]["pids"] == 64 && info["spec"]["image"] == "host", "{info}");
    ensure!(info["spec"]["env"]["SECRET"] == "***", "{info}");
    ensure!(info["isolation"]["items"].as_array().is_some_and(|items| !items.is_empty()), "{info}");
    ensure!(server.get("/v1/sandboxes/first").await?.expect(200)?.json()? == info);

    server.post("/v1/sandboxes", &json!({"id": "first"})).await?.problem(409, "sandbox_exists")?;
    server.delete("/v1/sandboxes/first").await?.expect(204)?;
    server.get("/v1/sandboxes/first").await?.problem(410, "sandbox_ended")?;
    server.delete("/v1/sandboxes/first").await?.problem(410, "sandbox_ended")?;
    server.stop().await
}

#[tokio::test]
async fn listings_go_page_by_page_and_by_label() -> Result<()> {
    let server = Server::start().await?;
    for at in 1..=5 {
        let parity = if at % 2 == 0 { "even" } else { "odd" };
        let spec = json!({"id": format!("s{at}"), "labels": {"parity": parity, "all": "yes"}});
        server.post("/v1/sandboxes", &spec).await?.expect(201)?;
    }
    let mut pages = Vec::new();
    let mut path = "/v1/sandboxes?limit=2".to_owned();
    loop {
        let page = server.get(&path).await?.expect(200)?.json()?;
        let ids: Vec<String> = page["items"]
            .as_array()
            .context("items")?
            .iter()
            .map(|info| info["id"].as_str().unwrap_or_default().to_owned())
            .collect();
        pages.push(ids.join(" "));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/sandboxes?limit=2&after={next}");
    }
    ensure!(pages == ["s1 s2", "s3 s4", "s5"], "{pages:?}");
    let count = async |query: &str| {
        let page = server.get(&format!("/v1/sandboxes?{query}")).await?.expect(200)?.json()?;
        anyhow::Ok(page["items"].as_array().context("items")?.len())
    };
    ensure!(count("label=parity%3Deven").await? == 2);
    ensure!(count("label=parity%3Dodd&label=all%3Dyes").await? == 3);
    ensure!(count("label=parity%3Dodd&label=all%3Dno").await? == 0);
    ensure!(count("after=s9").await? == 0);
    ensure!(count("limit=1000").await? == 5);
    server.stop().await
}

#[tokio::test]
async fn a_frozen_sandbox_says_so_until_it_is_thawed() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let frozen = server.post_nothing(&format!("{sandbox}/freeze")).await?;
    if frozen.status == 501 {
        // This machine has no freezer for us, and says so.
        frozen.problem(501, "unsupported")?;
        return server.stop().await;
    }
    ensure!(frozen.expect(200)?.json()?["phase"] == "frozen");
    let body = json!({"argv": ["true"]});
    server.post(&format!("{sandbox}/exec"), &body).await?.problem(409, "sandbox_frozen")?;
    let thawed = server.post_nothing(&format!("{sandbox}/thaw")).await?.expect(200)?.json()?;
    ensure!(thawed["phase"] == "running", "{thawed}");
    ensure!(server.shell(&sandbox, "echo back").await?["stdout"] == "back\n");
    server.stop().await
}

#[tokio::test]
async fn a_dead_guest_is_sandbox_dead_and_never_a_hang() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let other = server.sandbox().await?;
    let marker = json!({"argv": ["sleep", "3600"], "exec_id": "long", "detach": true});
    server.post(&format!("{sandbox}/exec"), &marker).await?.expect(202)?;
    let guest = guest_of(&server, "3600")?;
    // One request waits in it while it dies.
    let lookup = format!("{sandbox}/execs/long?wait_s=15");
    let waiting = server.get(&lookup);
    let killing = async {
        // The lookup is sent before this is polled again; whether it arrived first makes no difference to its answer.
        tokio::task::yield_now().await;
        kill_process(guest, Signal::KILL).context("killing the guest")
    };
    let (waited, killed) = tokio::join!(waiting, killing);
    killed?;
    waited?.problem(410, "sandbox_dead")?;
    until("the sandbox to be dead", async || {
        let info = server.get(&sandbox).await?.expect(200)?.json()?;
        Ok((info["phase"] == "dead" && info["reason"].is_string()).then_some(()))
    })
    .await?;
    let metrics = String::from_utf8(server.get("/metrics").await?.expect(200)?.bytes)?;
    for line in ["in_phase{phase=\"dead\"} 1\n", "in_phase{phase=\"running\"} 1\n"] {
        ensure!(metrics.contains(line), "{line} is not in {metrics}");
    }
    for (path, body) in [
        ("exec", json!({"argv": ["true"]})),
        ("shells", json!({})),
        ("files/mkdir", json!({"path": "/tmp/x"})),
    ] {
        server.post(&format!("{sandbox}/{path}"), &body).await?.problem(410, "sandbox_dead")?;
    }
    server.get(&format!("{sandbox}/files?path=/etc/passwd")).await?.problem(410, "sandbox_dead")?;
    server.put(&format!("{sandbox}/files?path=/tmp/x"), "x").await?.problem(410, "sandbox_dead")?;
    ensure!(server.shell(&other, "echo alive").await?["stdout"] == "alive\n", "the neighbour is not served");
    server.delete(&sandbox).await?.expect(204)?;
    server.get(&sandbox).await?.problem(410, "sandbox_ended")?;
    server.stop().await
}

/// The guest that has a child with this argument, as the host sees it: the process that is number 1 in its namespace.
fn guest_of(server: &Server, argument: &str) -> Result<Pid> {
    for pid in descendants(server.pid()?.as_raw_nonzero().get()) {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if !arguments.split(|byte| *byte == 0).any(|word| word == argument.as_bytes()) {
            continue;
        }
        let mut ancestor = pid;
        while let Some(parent) = status(ancestor, "PPid:").and_then(|text| text.parse().ok()) {
            let numbers = status(parent, "NSpid:").unwrap_or_default();
            if numbers.split_whitespace().count() > 1 && numbers.split_whitespace().last() == Some("1") {
                return Pid::from_raw(parent).context("a process number");
            }
            ancestor = parent;
        }
    }
    anyhow::bail!("no guest with {argument}: {}", server.log())
}

fn descendants(root: i32) -> Vec<i32> {
    let mut all = vec![root];
    let mut at = 0;
    while let Some(&pid) = all.get(at) {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        }
        at += 1;
    }
    all
}

fn status(pid: i32, key: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned())
}

#[tokio::test]
async fn stats_tell_what_a_sandbox_and_the_node_use() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let looked = server.get(&format!("{sandbox}/stats")).await?.expect(200)?.json()?;
    ensure!(
        looked["phase"] == "running" && looked["id"].as_str().is_some_and(|id| sandbox.ends_with(id)),
        "{looked}"
    );
    let limits = server.get("/v1/capabilities").await?.json()?.to_string();
    server
        .shell(&sandbox, "python3 -c 'while True: pass' & python3 -c 'x = bytearray(64 << 20); print(1)'")
        .await?;
    let node = until("use that is seen", async || {
        let node = server.get("/v1/stats").await?.expect(200)?.json()?;
        let one = &node["sandboxes"][0];
        // A machine that counts nothing says so by leaving it out.
        let grown = one["processes"].as_u64().is_none_or(|count| count >= 2)
            && one["cpu_s"]
                .as_f64()
                .is_none_or(|seconds| seconds > looked["cpu_s"].as_f64().unwrap_or_default());
        Ok(grown.then_some(node))
    })
    .await?;
    ensure!(node["usage"]["sandboxes"] == json!({"taken": 1.0, "capacity": 4096.0}), "{node} on {limits}");
    ensure!(node["waiting"] == 0 && node["pools"] == json!([]), "{node}");
    server.get("/v1/stats?limit=0").await?.problem(400, "invalid_request")?;
    server.stop().await
}
