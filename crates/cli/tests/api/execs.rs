//! Execs over the API.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Server, send};

#[tokio::test]
async fn a_command_runs_and_its_result_says_what_happened() -> Result<()> {
    let server = Server::start().await?;
    let exec = format!("{}/exec", server.sandbox().await?);
    let run = async |body: Value| server.post(&exec, &body).await?.expect(200)?.json();

    let result = run(json!({"shell": "echo out; echo err >&2; exit 3", "env": {"A": "1"}})).await?;
    ensure!(result["outcome"] == json!({"kind": "exited", "code": 3}), "{result}");
    ensure!(result["stdout"] == "out\n" && result["stderr"] == "err\n", "{result}");
    ensure!(result["encoding"] == "utf-8" && result["replayed"] == false, "{result}");

    let result = run(json!({"argv": ["cat"], "stdin": "AP9i", "stdin_encoding": "base64"})).await?;
    ensure!(result["stdout"] == "AP9i" && result["encoding"] == "base64", "{result}");

    let result = run(json!({"argv": ["/no/such/program"]})).await?;
    ensure!(result["outcome"]["kind"] == "failed_to_start", "{result}");

    let result = run(json!({"shell": "echo early; sleep 60", "timeout_s": 0.2})).await?;
    ensure!(result["outcome"]["kind"] == "timed_out" && result["stdout"] == "early\n", "{result}");

    let result = run(json!({"shell": "seq 1 100000", "output_limit_bytes": 1000})).await?;
    ensure!(result["truncated"]["stdout_dropped_bytes"] == 588_895 - 1000, "{}", result["truncated"]);
    server.stop().await
}

#[tokio::test]
async fn an_id_makes_a_repeat_safe() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let exec = format!("{sandbox}/exec");
    let body = json!({"shell": "echo x >> /tmp/count; cat /tmp/count", "exec_id": "once"});
    let first = server.post(&exec, &body).await?.expect(200)?.json()?;
    let again = server.post(&exec, &body).await?.expect(200)?.json()?;
    ensure!(first["stdout"] == "x\n" && again["stdout"] == "x\n", "{again}");
    ensure!(first["replayed"] == false && again["replayed"] == true, "{again}");
    let other = json!({"shell": "true", "exec_id": "once"});
    server.post(&exec, &other).await?.problem(409, "exec_conflict")?;
    server.stop().await
}

#[tokio::test]
async fn a_detached_command_is_looked_up_fed_signalled_and_read_again() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let body = json!({"argv": ["cat"], "exec_id": "cat", "detach": true, "stdin_open": true});
    let status = server.post(&format!("{sandbox}/exec"), &body).await?.expect(202)?.json()?;
    ensure!(status["exec_id"] == "cat" && status["state"] == "running", "{status}");
    let at = format!("{sandbox}/execs/cat");
    let feed = |query: &str, bytes: &'static str| {
        send(server.request(Method::POST, &format!("{at}/stdin{query}")).body(bytes))
    };
    feed("", "hello ").await?.expect(204)?;
    ensure!(server.get(&format!("{at}?wait_s=0.05")).await?.json()?["state"] == "running");
    feed("?close=true", "world").await?.expect(204)?;
    let status = server.get(&format!("{at}?wait_s=10")).await?.expect(200)?.json()?;
    ensure!(status["state"] == "finished" && status["result"]["stdout"] == "hello world", "{status}");
    ensure!(status["stdout_bytes"] == 11, "{status}");

    let piece = server.get(&format!("{at}/output?offset=6&max=3")).await?.expect(200)?;
    ensure!(piece.bytes == b"wor" && piece.header("content-type") == "application/octet-stream");
    ensure!(piece.header("hothouse-offset") == "6" && piece.header("hothouse-total") == "11");
    ensure!(piece.header("hothouse-ended") == "true", "{:?}", piece.headers);
    let request = server.request(Method::GET, &format!("{at}/output?offset=6"));
    let piece = send(request.header("accept", "application/json")).await?.expect(200)?.json()?;
    let wanted = json!({"offset": 6, "total": 11, "ended": true, "data": "world", "encoding": "utf-8"});
    ensure!(piece == wanted, "{piece}");
    ensure!(server.get(&format!("{at}/output?stream=stderr")).await?.expect(200)?.bytes.is_empty());

    feed("", "late").await?.problem(409, "exec_finished")?;
    server.post(&format!("{at}/signal"), &json!({"signal": "TERM"})).await?.problem(409, "exec_finished")?;
    let listing = server.get(&format!("{sandbox}/execs")).await?.expect(200)?.json()?;
    ensure!(listing["items"].as_array().is_some_and(|items| items.len() == 1), "{listing}");
    server.stop().await
}

#[tokio::test]
async fn signals_go_by_name_and_number() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    for (id, request, number) in [
        ("name", json!({"signal": "SIGUSR1", "target": "leader"}), 10),
        ("number", json!({"signal": 12}), 12),
        ("tree", json!({"signal": "KILL", "target": "tree"}), 9),
    ] {
        let body = json!({"argv": ["sleep", "600"], "exec_id": id, "detach": true});
        server.post(&format!("{sandbox}/exec"), &body).await?.expect(202)?;
        server.post(&format!("{sandbox}/execs/{id}/signal"), &request).await?.expect(204)?;
        let status = server.get(&format!("{sandbox}/execs/{id}?wait_s=10")).await?.expect(200)?.json()?;
        let outcome = &status["result"]["outcome"];
        ensure!(*outcome == json!({"kind": "signalled", "signal": number}), "{id}: {status}");
    }
    server.stop().await
}

#[tokio::test]
async fn a_client_that_goes_away_ends_nothing() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    // It ends only when it is told to, so that the client is surely gone before.
    let body = json!({"shell": "while [ ! -e /tmp/go ]; do sleep 0.02; done; echo done", "exec_id": "left"});
    let request = server.request(Method::POST, &format!("{sandbox}/exec")).json(&body);
    let cut_off = request.timeout(Duration::from_millis(300)).send().await;
    ensure!(cut_off.is_err_and(|error| error.is_timeout()), "the client was answered");
    ensure!(server.get(&format!("{sandbox}/execs/left")).await?.expect(200)?.json()?["state"] == "running");
    server.put(&format!("{sandbox}/files?path=/tmp/go"), "").await?.expect(200)?;
    let status = server.get(&format!("{sandbox}/execs/left?wait_s=10")).await?.expect(200)?.json()?;
    ensure!(status["result"]["stdout"] == "done\n", "{status}");
    server.stop().await
}

#[tokio::test]
async fn what_no_sandbox_or_exec_has_is_not_found() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let missing = format!("{sandbox}/execs/nope");
    for path in ["", "?wait_s=5", "/output", "/stream"] {
        server.get(&format!("{missing}{path}")).await?.problem(404, "exec_not_found").context(path)?;
    }
    let size = json!({"rows": 5, "cols": 5});
    server.post(&format!("{missing}/resize"), &size).await?.problem(404, "exec_not_found")?;
    server.post(&format!("{missing}/signal"), &json!({"signal": 9})).await?.problem(404, "exec_not_found")?;
    server.post_nothing(&format!("{missing}/stdin")).await?.problem(404, "exec_not_found")?;
    let body = json!({"argv": ["true"]});
    server.post("/v1/sandboxes/nope/exec", &body).await?.problem(404, "sandbox_not_found")?;
    server.stop().await
}
