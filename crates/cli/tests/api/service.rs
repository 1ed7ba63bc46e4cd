//! The server itself: health, counters, description, who may call, and its end.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::events::Events;
use crate::process::{answer, output};
use crate::server::{Server, send};
use crate::wait::{client, until};

#[tokio::test]
async fn health_capabilities_and_description_are_there() -> Result<()> {
    let server = Server::start().await?;
    ensure!(server.get("/healthz").await?.expect(200)?.json()?["status"] == "ok");
    ensure!(server.get("/readyz").await?.expect(200)?.json()?["status"] == "ready");
    ensure!(server.get("/").await?.expect(200)?.json()?["name"] == "hothouse");
    let capabilities = server.get("/v1/capabilities").await?.expect(200)?.json()?;
    ensure!(capabilities["backend"] == "native", "{capabilities}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../api/openapi.json");
    let description = server.get("/openapi.json").await?.expect(200)?;
    ensure!(description.bytes == std::fs::read(path)?, "not the checked-in description");
    let printed = output(Command::new(env!("CARGO_BIN_EXE_hothouse")).arg("openapi"));
    ensure!(printed.stdout == description.bytes, "`hothouse openapi` prints something else");
    server.stop().await
}

#[tokio::test]
async fn every_described_operation_is_routed_and_every_other_method_is_refused() -> Result<()> {
    let server = Server::start().await?;
    let description: Value = server.get("/openapi.json").await?.json()?;
    for (path, item) in description["paths"].as_object().context("paths")? {
        if path.contains("/ports/") {
            // It takes every method, for what listens to say what it thinks of it.
            let port = path.replace("{sandbox_id}", "nope").replace("{port}", "80").replace("{path}", "a/b");
            send(server.request(Method::TRACE, &port)).await?.problem(404, "sandbox_not_found")?;
            continue;
        }
        let item = item.as_object().context("methods")?;
        let real = path.replace("{sandbox_id}", "nope").replace("{exec_id}", "e").replace("{shell_id}", "s");
        let real = real.replace("{pool_name}", "p").replace("{template_name}", "t");
        let wrong = server.request(Method::PATCH, &real);
        let refused = send(wrong).await?;
        refused.problem(405, "method_not_allowed").with_context(|| path.clone())?;
        let mut allowed: Vec<String> =
            refused.header("allow").to_lowercase().split(',').map(str::to_owned).collect();
        allowed.retain(|method| method != "head");
        allowed.sort();
        let mut described: Vec<&String> = item.keys().collect();
        described.sort();
        ensure!(allowed.iter().eq(described), "{path}: allowed {allowed:?}");
    }
    let nothing = server.get("/v1/nothing/here").await?.problem(404, "not_found")?;
    ensure!(
        nothing["detail"].as_str().is_some_and(|detail| detail.contains("/v1/nothing/here")),
        "{nothing}"
    );
    server.stop().await
}

#[tokio::test]
async fn counters_count() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    server.shell(&sandbox, "true").await?;
    server.shell(&sandbox, "false").await?;
    server.get("/v1/sandboxes/..%2f").await?.problem(400, "invalid_request")?;
    let answer = server.get("/metrics").await?.expect(200)?;
    ensure!(answer.header("content-type").starts_with("application/openmetrics-text"));
    let text = String::from_utf8(answer.bytes)?;
    for line in [
        "hothouse_sandboxes 1",
        "hothouse_sandbox_creates_total{outcome=\"created\"} 1",
        "hothouse_execs_total{outcome=\"exited_zero\"} 1",
        "hothouse_execs_total{outcome=\"exited_nonzero\"} 1",
        "hothouse_http_requests_total{method=\"POST\",route=\"/v1/sandboxes/{sandbox_id}/exec\",status=\"200\"} 2",
        "hothouse_http_requests_total{method=\"GET\",route=\"/v1/sandboxes/{sandbox_id}\",status=\"400\"} 1",
        "hothouse_http_request_duration_seconds_count{route=\"/v1/sandboxes/{sandbox_id}/exec\"} 2",
        "# EOF",
    ] {
        ensure!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    server.stop().await
}

#[tokio::test]
async fn web_pages_of_other_sites_and_rebound_names_are_refused() -> Result<()> {
    let server = Server::start().await?;
    for (header, value) in [("origin", "https://evil.example"), ("origin", "null"), ("host", "evil.example")]
    {
        let request = server.request(Method::GET, "/v1/sandboxes").header(header, value);
        send(request).await?.problem(403, "forbidden").with_context(|| value.to_owned())?;
    }
    let own = server.request(Method::GET, "/v1/sandboxes").header("origin", &server.base);
    send(own).await?.expect(200)?;
    server.stop().await
}

#[tokio::test]
async fn a_request_has_an_id_in_the_answer_and_in_the_log() -> Result<()> {
    let server = Server::start().await?;
    let request = server.request(Method::GET, "/v1/sandboxes/nope").header("x-request-id", "my-id-1");
    ensure!(send(request).await?.header("x-request-id") == "my-id-1");
    let first = server.get("/healthz").await?.header("x-request-id").to_owned();
    let second = server.get("/healthz").await?.header("x-request-id").to_owned();
    ensure!(!first.is_empty() && first != second, "{first} {second}");
    let forged = server.request(Method::GET, "/healthz").header("x-request-id", "a b\"c");
    ensure!(send(forged).await?.header("x-request-id") != "a b\"c");
    until("the id in the log", async || Ok(server.log().contains("my-id-1").then_some(()))).await?;
    server.stop().await
}

#[tokio::test]
async fn at_its_end_running_requests_finish_followers_are_told_and_new_ones_refused() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let line = "touch /tmp/running; while [ ! -e /tmp/go ]; do sleep 0.02; done; sleep 0.3; echo finished";
    let exec_path = format!("{sandbox}/exec");
    let body = json!({"shell": line});
    let running = server.post(&exec_path, &body);
    let ending = async {
        until("the command to run", async || {
            let stat = server.get(&format!("{sandbox}/files/stat?path=/tmp/running")).await?;
            Ok((stat.status == 200).then_some(()))
        })
        .await?;
        let request = server.request(Method::POST, &format!("{sandbox}/exec?stream=true"));
        let response = request.json(&json!({"argv": ["sleep", "600"]})).send().await?;
        let mut events = Events::of(response).await?;
        events.next().await?.context("started")?;
        server.put(&format!("{sandbox}/files?path=/tmp/go"), "").await?.expect(200)?;
        server.terminate()?;
        let rest = events.rest().await?;
        let last = rest.last().context("an event")?;
        ensure!(last.name == "error" && last.data["code"] == "shutting_down", "{last:?}");
        let fresh = client()?;
        until("new connections to be refused", async || {
            let answer = fresh.get(format!("{}/healthz", server.base)).send().await;
            Ok(answer.is_err().then_some(()))
        })
        .await
    };
    let (answer, ended) = tokio::join!(running, ending);
    ended?;
    ensure!(answer?.expect(200)?.json()?["stdout"] == "finished\n");
    server.ended().await
}

#[test]
fn an_address_that_others_reach_is_refused_unless_insecure() -> Result<()> {
    let home = tempfile::tempdir()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_hothouse"));
    command.args(["serve", "--listen", "0.0.0.0:0", "--home"]).arg(home.path().join("home"));
    command.args(crate::server::own_cgroup().iter().flat_map(|name| ["--cgroup", name]));
    let refused = answer(&mut command);
    ensure!(refused.status != 0, "it serves");
    let text = refused.stderr;
    ensure!(text.contains("0.0.0.0") && text.contains("--insecure") && text.contains("127.0.0.1"), "{text}");
    Ok(())
}
