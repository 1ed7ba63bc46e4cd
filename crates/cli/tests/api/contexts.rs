//! Contexts over the API.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::server::{Server, send};
use crate::wait::until;

async fn run(server: &Server, context: &str, code: &str) -> Result<Value> {
    let body = json!({"code": code, "timeout_s": 20});
    server.post(&format!("{context}/run"), &body).await?.expect(200)?.json()
}

/// Opens a context in a fresh sandbox; the path of all, and its own.
async fn context(server: &Server) -> Result<(String, String)> {
    let contexts = format!("{}/contexts", server.sandbox().await?);
    let info = server.post(&contexts, &json!({"context_id": "c"})).await?.expect(201)?.json()?;
    ensure!(info["context_id"] == "c" && info["state"] == "idle", "{info}");
    ensure!(info["python"].as_str().context("python")?.starts_with("3."), "{info}");
    Ok((contexts.clone(), format!("{contexts}/c")))
}

#[tokio::test]
async fn a_context_keeps_its_variables_and_gives_values_and_errors() -> Result<()> {
    let server = Server::start().await?;
    let (contexts, c) = context(&server).await?;
    server.post(&contexts, &json!({"context_id": "c"})).await?.problem(409, "context_exists")?;
    let result = run(&server, &c, "x = {'a': [1, 2.5, None], 'b': 'é'}\nprint('hi')").await?;
    ensure!(
        result["outcome"] == json!({"kind": "exited", "code": 0}) && result["stdout"] == "hi\n",
        "{result}"
    );
    ensure!(result.get("value").is_none() && result.get("error").is_none(), "{result}");
    let result = run(&server, &c, "x").await?;
    ensure!(result["value"]["json"] == json!({"a": [1, 2.5, null], "b": "é"}), "{result}");
    let result = run(&server, &c, "0.1 + 0.2, 2**63, -2**63, 'x' * 3").await?;
    ensure!(result["value"]["json"] == json!([0.1 + 0.2, 1_u64 << 63, i64::MIN, "xxx"]), "{result}");
    let result = run(&server, &c, "2**64").await?;
    ensure!(result["value"] == json!({"repr": "18446744073709551616"}), "{result}");
    let result = run(&server, &c, "import sys\nprint('no', file=sys.stderr)\nx['c']").await?;
    ensure!(result["outcome"]["code"] == 1 && result["stderr"] == "no\n", "{result}");
    ensure!(result["error"]["name"] == "KeyError" && result["error"]["message"] == "'c'", "{result}");
    ensure!(result["error"]["traceback"].as_str().context("traceback")?.contains("line 3"), "{result}");
    let result = run(&server, &c, "class P:\n  def _repr_png_(self): return b'\\x89PNG'\nP()").await?;
    ensure!(result["value"]["mime"] == json!({"image/png": "iVBORw=="}), "{result}");
    let result = run(&server, &c, "'x' * (2 << 20)").await?;
    ensure!(result["value"].get("json").is_none(), "over the limit");
    let result = run(&server, &c, "[list(range(100000))] * 2, 5").await?;
    ensure!(result["value"].get("json").is_none() && result["value"]["repr"].is_string(), "over the limit");
    let listing = server.get(&contexts).await?.expect(200)?.json()?;
    ensure!(listing["items"][0]["context_id"] == "c", "{listing}");
    server.delete(&c).await?.expect(204)?;
    server.delete(&c).await?.problem(404, "context_not_found")?;
    server.get(&c).await?.problem(404, "context_not_found")?;
    server.post(&format!("{c}/run"), &json!({"code": "1"})).await?.problem(404, "context_not_found")?;
    server.stop().await
}

#[tokio::test]
async fn a_run_carries_an_id_and_outlives_the_server_that_was_asked() -> Result<()> {
    let server = Server::start().await?;
    let (_, c) = context(&server).await?;
    run(&server, &c, "n = 0").await?;
    let sandbox = c.split("/contexts").next().context("the sandbox's path")?.to_owned();
    let body = json!({"exec_id": "once", "code":
        "import time\nn += 1\nprint('begun', flush=True)\nwhile not __import__('os').path.exists('/tmp/go'): time.sleep(0.01)\nn"});
    // The first asker dies with the server in the middle of the run.
    let mut asking = tokio::task::JoinSet::new();
    let request = server.request(reqwest::Method::POST, &format!("{c}/run")).json(&body);
    asking.spawn(async move { request.send().await.map(drop) });
    until("the code to run", async || {
        let status = server.get(&format!("{sandbox}/execs/once")).await?;
        Ok((status.status == 200 && status.json()?["stdout_bytes"] == 6).then_some(()))
    })
    .await?;
    let server = server.killed_and_started_again().await?;
    // It was cut off: that is what it is for.
    while let Some(asked) = asking.join_next().await {
        _ = asked?;
    }
    ensure!(server.get(&c).await?.expect(200)?.json()?["state"] == "busy", "it goes on");
    server.post(&format!("{c}/run"), &json!({"code": "1"})).await?.problem(409, "context_busy")?;
    let path = format!("{c}/run");
    let repeat = server.post(&path, &body);
    let going = server.shell(&sandbox, "touch /tmp/go");
    let (repeated, gone) = tokio::join!(repeat, going);
    gone?;
    let result = repeated?.expect(200)?.json()?;
    ensure!(result["value"]["json"] == 1 && result["stdout"] == "begun\n", "{result}");
    ensure!(result["replayed"] == true, "{result}");
    // Once more, and by the lookup of an exec.
    let again = server.post(&format!("{c}/run"), &body).await?.expect(200)?.json()?;
    ensure!(again["value"] == result["value"] && again["replayed"] == true, "{again}");
    let looked_up = server.get(&format!("{sandbox}/execs/once")).await?.expect(200)?.json()?;
    ensure!(looked_up["result"]["value"] == result["value"], "{looked_up}");
    ensure!(run(&server, &c, "n").await?["value"]["json"] == 1, "it ran once");
    let other = json!({"exec_id": "once", "code": "2"});
    server.post(&format!("{c}/run"), &other).await?.problem(409, "exec_conflict")?;
    server.stop().await
}

#[tokio::test]
async fn code_is_interrupted_timed_out_and_reset() -> Result<()> {
    let server = Server::start().await?;
    let (_, c) = context(&server).await?;
    run(&server, &c, "keep = 7").await?;
    let body = json!({"code": "import time\ntime.sleep(600)"});
    let run_path = format!("{c}/run");
    let long = server.post(&run_path, &body);
    let interrupting = async {
        until("the context to be busy", async || {
            Ok((server.get(&c).await?.expect(200)?.json()?["state"] == "busy").then_some(()))
        })
        .await?;
        server.post_nothing(&format!("{c}/fork")).await?.problem(409, "context_busy")?;
        server.post_nothing(&format!("{c}/interrupt")).await?.expect(204)
    };
    let (result, interrupted) = tokio::join!(long, interrupting);
    interrupted?;
    let result = result?.expect(200)?.json()?;
    ensure!(result["error"]["name"] == "KeyboardInterrupt", "{result}");
    let body = json!({"code": "while True: pass", "timeout_s": 0.3});
    let result = server.post(&run_path, &body).await?.expect(200)?.json()?;
    ensure!(result["outcome"]["kind"] == "timed_out", "{result}");
    ensure!(run(&server, &c, "keep").await?["value"]["json"] == 7, "it lives");
    let result = run(&server, &c, "import os\nos.kill(os.getpid(), 11)").await?;
    ensure!(result["outcome"] == json!({"kind": "signalled", "signal": 11}), "{result}");
    let died = json!({"name": "ContextEnded", "message": "signal 11 ended it", "traceback": ""});
    ensure!(result["error"] == died, "{result}");
    let problem = server.post(&run_path, &json!({"code": "1"})).await?.problem(410, "context_ended")?;
    ensure!(problem["detail"].as_str().context("detail")?.contains("signal 11"), "{problem}");
    let info = server.get(&c).await?.expect(200)?.json()?;
    ensure!(info["state"] == "ended" && info["reason"] == "signal 11 ended it", "{info}");
    let info = server.post_nothing(&format!("{c}/reset")).await?.expect(200)?.json()?;
    ensure!(info["state"] == "idle", "{info}");
    ensure!(run(&server, &c, "keep").await?["error"]["name"] == "NameError", "it is fresh");
    server.stop().await
}

#[tokio::test]
async fn the_sandbox_s_memory_limit_ends_a_context_and_not_the_sandbox() -> Result<()> {
    let server = Server::start().await?;
    let spec = json!({"resources": {"memory_bytes": 128 << 20}});
    let info = server.post("/v1/sandboxes", &spec).await?.expect(201)?.json()?;
    let enforced = info["isolation"]["memory"]["state"] == "enforced" || rustix::process::geteuid().is_root();
    let sandbox = format!("/v1/sandboxes/{}", info["id"].as_str().context("id")?);
    let contexts = format!("{sandbox}/contexts");
    server.post(&contexts, &json!({"context_id": "c", "memory_bytes": 64 << 20})).await?.expect(201)?;
    server.post(&contexts, &json!({"context_id": "d"})).await?.expect(201)?;
    let (c, d) = (format!("{contexts}/c"), format!("{contexts}/d"));
    let result = run(&server, &c, "x = b'x' * (100 << 20)").await?;
    ensure!(result["error"]["name"] == "MemoryError", "{result}");
    ensure!(run(&server, &c, "1 + 1").await?["value"]["json"] == 2, "it lives");
    if enforced {
        let result = run(&server, &d, "x = b'x' * (500 << 20)").await?;
        ensure!(result["outcome"]["kind"] == "oom_killed", "{result}");
        let info = server.get(&d).await?.expect(200)?.json()?;
        ensure!(info["reason"] == "the sandbox's memory limit ended it", "{info}");
    }
    ensure!(server.shell(&sandbox, "echo alive").await?["stdout"] == "alive\n", "the sandbox lives");
    server.post_nothing(&format!("{d}/reset")).await?.expect(200)?;
    ensure!(run(&server, &d, "1 + 1").await?["value"]["json"] == 2, "it is made again");
    server.stop().await
}

#[tokio::test]
async fn forks_branch_variables_and_are_all_or_none() -> Result<()> {
    let server = Server::start().await?;
    let (contexts, c) = context(&server).await?;
    run(&server, &c, "import random, uuid\nx = []").await?;
    let body = json!({"context_id": "f", "count": 3});
    let forks = server.post(&format!("{c}/fork"), &body).await?.expect(201)?.json()?;
    let ids: Vec<&str> =
        forks["items"].as_array().context("items")?.iter().filter_map(|i| i["context_id"].as_str()).collect();
    ensure!(ids == ["f-1", "f-2", "f-3"] && forks["items"][0]["forked_from"] == "c", "{forks}");
    let mut numbers = HashSet::new();
    for id in ids.iter().copied().chain(["c"]) {
        let code = format!("x.append({id:?})\nx, random.random(), str(uuid.uuid4())");
        let value = run(&server, &format!("{contexts}/{id}"), &code).await?["value"]["json"].clone();
        ensure!(value[0] == json!([id]), "{value}");
        ensure!(numbers.insert(value[1].to_string()) && numbers.insert(value[2].to_string()), "{value}");
    }
    // One id is taken: none of the others stays.
    server.delete(&format!("{contexts}/f-1")).await?.expect(204)?;
    server.delete(&format!("{contexts}/f-3")).await?.expect(204)?;
    server.post(&format!("{c}/fork"), &body).await?.problem(409, "context_exists")?;
    let listing = server.get(&contexts).await?.expect(200)?.json()?;
    let mut left: Vec<&str> = listing["items"]
        .as_array()
        .context("items")?
        .iter()
        .filter_map(|i| i["context_id"].as_str())
        .collect();
    left.sort_unstable();
    ensure!(left == ["c", "f-2"], "{listing}");
    let one = server.post_nothing(&format!("{c}/fork")).await?.expect(201)?.json()?;
    ensure!(one["items"].as_array().context("items")?.len() == 1, "{one}");
    server.stop().await
}

#[tokio::test]
async fn a_run_can_be_followed_and_its_value_comes_with_the_end() -> Result<()> {
    let server = Server::start().await?;
    let (_, c) = context(&server).await?;
    let request = server.request(reqwest::Method::POST, &format!("{c}/run?stream=1"));
    let response = request.json(&json!({"code": "for i in range(3): print(i)\n'end'"})).send().await?;
    let events = crate::events::Events::of(response).await?.rest().await?;
    let text: String =
        events.iter().filter(|e| e.name == "stdout").filter_map(|e| e.data["data"].as_str()).collect();
    let last = events.last().context("events")?;
    ensure!(
        text == "0\n1\n2\n" && last.name == "finished" && last.data["value"]["json"] == "end",
        "{events:?}"
    );
    server.stop().await
}

#[tokio::test]
async fn a_sandbox_without_python_and_secrets_of_contexts() -> Result<()> {
    let server = Server::start().await?;
    let spec = json!({"env": {"PATH": "/nowhere"}});
    let info = server.post("/v1/sandboxes", &spec).await?.expect(201)?.json()?;
    let contexts = format!("/v1/sandboxes/{}/contexts", info["id"].as_str().context("id")?);
    let problem = server.post(&contexts, &json!({})).await?.problem(501, "unsupported")?;
    ensure!(problem["detail"].as_str().context("detail")?.contains("no python3"), "{problem}");
    let spec = json!({"secrets": {"TOKEN": "hush-hush"}});
    let info = server.post("/v1/sandboxes", &spec).await?.expect(201)?.json()?;
    let sandbox = format!("/v1/sandboxes/{}", info["id"].as_str().context("id")?);
    let contexts = format!("{sandbox}/contexts");
    server.post(&contexts, &json!({"context_id": "a", "secrets": ["TOKEN"]})).await?.expect(201)?;
    server.post(&contexts, &json!({"context_id": "b"})).await?.expect(201)?;
    let code = "import os; os.environ.get('TOKEN')";
    ensure!(run(&server, &format!("{contexts}/a"), code).await?["value"]["json"] == "hush-hush", "asked for");
    ensure!(run(&server, &format!("{contexts}/b"), code).await?.get("value").is_none(), "not asked for");
    // In no process' environment, not even the one's that the contexts are forked from.
    let line = "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -c hush-hush";
    ensure!(server.shell(&sandbox, line).await?["stdout"] == "0\n", "it is in an environment");
    server.stop().await
}

#[tokio::test]
async fn what_is_wrong_with_a_context_is_named() -> Result<()> {
    let server = Server::start().await?;
    let (contexts, c) = context(&server).await?;
    for (path, body, field) in [
        (&contexts, json!({"context_id": "a/b"}), "context_id"),
        (&contexts, json!({"imports": ["os; x"]}), "imports[0]"),
        (&contexts, json!({"imports": "os"}), "imports"),
        (&contexts, json!({"imports": vec!["os"; 65]}), "imports"),
        (&contexts, json!({"memory_bytes": 5}), "memory_bytes"),
        (&contexts, json!({"secrets": ["NONE"]}), "secrets[0]"),
        (&contexts, json!({"cwd": "tmp"}), "cwd"),
        (&contexts, json!({"language": "r"}), "language"),
        (&format!("{c}/run"), json!({"code": 5}), "code"),
        (&format!("{c}/run"), json!({"code": "1", "timeout_s": 0}), "timeout_s"),
        (&format!("{c}/run"), json!({"code": "1", "output_limit_bytes": 1 << 30}), "output_limit_bytes"),
        (&format!("{c}/run"), json!({"code": "#".repeat((1 << 20) + 1)}), "code"),
        (&format!("{c}/run"), json!({"code": "1", "exec_id": ""}), "exec_id"),
        (&format!("{c}/fork"), json!({"count": 64}), "count"),
        (&format!("{c}/fork"), json!({"count": 2, "context_id": "x".repeat(128)}), "context_id"),
    ] {
        let problem = server.post(path, &body).await?.problem(400, "invalid_request")?;
        ensure!(problem["field"] == field, "{body:.60}: {problem}");
    }
    for (body, part) in [
        (json!({"imports": ["no_such_module"]}), "no_such_module"),
        (json!({"cwd": "/nope"}), "/nope"),
        (json!({"user": "eve"}), "eve"),
    ] {
        let problem = server.post(&contexts, &body).await?.problem(400, "invalid_request")?;
        ensure!(problem["detail"].as_str().context("detail")?.contains(part), "{problem}");
    }
    // What is no UTF-8, and half a character, never get as far as the interpreter.
    for code in [b"{\"code\": \"\xff\"}".as_slice(), br#"{"code": "\ud800"}"#] {
        let request = server.request(reqwest::Method::POST, &format!("{c}/run"));
        let request = request.header("content-type", "application/json").body(code.to_vec());
        send(request).await?.problem(400, "invalid_request")?;
    }
    server.get(&format!("{contexts}/a%20b")).await?.problem(400, "invalid_request")?;
    for number in 1..64 {
        server.post(&contexts, &json!({"context_id": format!("n{number}")})).await?.expect(201)?;
    }
    server.post(&contexts, &json!({})).await?.problem(429, "limit_exceeded")?;
    // One that has ended makes room.
    run(&server, &format!("{contexts}/n5"), "import os; os._exit(0)").await?;
    server.post(&contexts, &json!({})).await?.expect(201)?;
    server.get(&format!("{contexts}/n5")).await?.problem(404, "context_not_found")?;
    server.stop().await
}
