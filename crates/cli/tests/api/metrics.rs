//! Counters for Prometheus: each of these does the thing and finds it counted.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Server, send};
use crate::wait::until;

/// Stages that a create without pool, setup and files goes through.
const MADE: [&str; 8] = ["image", "directory", "handover", "prepare", "clone", "ids", "mount", "record"];

/// All that `/metrics` says: values by name and labels.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    async fn of(server: &Server) -> Result<Self> {
        let text = String::from_utf8(server.get("/metrics").await?.expect(200)?.bytes)?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let value = |line: &str| {
            let (series, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            Ok((series.to_owned(), value.parse().with_context(|| line.to_owned())?))
        };
        Ok(Self(lines.map(value).collect::<Result<_>>()?))
    }

    fn value(&self, series: &str) -> Result<f64> {
        let found = self.0.get(series).copied();
        found.with_context(|| format!("{series} is not in {:?}", self.0.keys().collect::<Vec<_>>()))
    }

    fn is(&self, series: &str, value: f64) -> Result<()> {
        let found = self.value(series)?;
        ensure!((found - value).abs() < 1e-9, "{series} is {found}, not {value}");
        Ok(())
    }

    fn stage(&self, stage: &str, count: u32) -> Result<()> {
        let series = format!("hothouse_create_stage_seconds_count{{stage=\"{stage}\"}}");
        self.is(&series, count.into()).with_context(|| format!("stage {stage}"))
    }

    fn stage_sum(&self, stage: &str) -> Result<f64> {
        self.value(&format!("hothouse_create_stage_seconds_sum{{stage=\"{stage}\"}}"))
    }
}

async fn template(server: &Server, name: &str, spec: &Value) -> Result<()> {
    send(server.request(Method::PUT, &format!("/v1/templates/{name}")).json(spec)).await?.expect(200)?;
    Ok(())
}

async fn pool(server: &Server, spec: &Value) -> Result<()> {
    server.post("/v1/pools", spec).await?.expect(201)?;
    Ok(())
}

#[tokio::test]
async fn a_create_is_told_stage_by_stage_and_the_stages_are_all_of_it() -> Result<()> {
    let server = Server::start().await?;
    let before = Scrape::of(&server).await?;
    before.is("hothouse_create_seconds_count", 0.0)?;
    for stage in MADE.into_iter().chain(["admission", "setup", "bind", "files"]) {
        before.stage(stage, 0)?;
    }
    for _ in 0..3 {
        server.sandbox().await?;
    }
    let after = Scrape::of(&server).await?;
    after.is("hothouse_create_seconds_count", 3.0)?;
    after.is("hothouse_sandbox_creates_total{outcome=\"created\"}", 3.0)?;
    after.stage("admission", 3)?;
    let mut stages = 0.0;
    for stage in MADE {
        after.stage(stage, 3)?;
        let sum = after.stage_sum(stage)?;
        ensure!(sum > 0.0, "{stage} took no time");
        stages += sum;
    }
    let whole = after.value("hothouse_create_seconds_sum")?;
    ensure!((whole - stages).abs() < 1e-4, "the stages took {stages} s of {whole} s");
    after.stage("setup", 0)?;
    server.stop().await
}

#[tokio::test]
async fn claims_hits_misses_setup_and_files_are_counted() -> Result<()> {
    let server = Server::start().await?;
    template(&server, "prepared", &json!({"setup": ["sleep 0.05; touch /workspace/set-up"]})).await?;
    pool(&server, &json!({"name": "warm", "template": "prepared", "min": 1, "max": 1})).await?;
    template(&server, "bare", &json!({})).await?;
    pool(&server, &json!({"name": "cold", "template": "bare", "min": 0, "max": 1})).await?;
    let filled = until("a ready one", async || {
        let scrape = Scrape::of(&server).await?;
        Ok((scrape.value("hothouse_pool_ready{pool=\"warm\"}").ok() == Some(1.0)).then_some(scrape))
    })
    .await?;
    filled.stage("setup", 1)?;
    ensure!(filled.stage_sum("setup")? >= 0.05);
    // One for the setup, and one of what it left.
    filled.is("hothouse_create_seconds_count", 2.0)?;
    filled.is("hothouse_sandboxes_in_phase{phase=\"running\"}", 1.0)?;

    let files = json!({"files": [{"path": "/workspace/mine", "content": "x"}]});
    server.post("/v1/pools/warm/claim", &files).await?.expect(201)?;
    server.post("/v1/pools/cold/claim", &json!({})).await?.expect(201)?;
    server.post("/v1/pools/none/claim", &json!({})).await?.problem(404, "pool_not_found")?;
    let claimed = Scrape::of(&server).await?;
    claimed.stage("bind", 1)?;
    claimed.stage("files", 1)?;
    for (series, value) in [
        ("hothouse_claims_total{outcome=\"claimed\"}", 2.0),
        ("hothouse_claims_total{outcome=\"pool_not_found\"}", 1.0),
        ("hothouse_pool_hits_total{pool=\"warm\"}", 1.0),
        ("hothouse_pool_misses_total{pool=\"warm\"}", 0.0),
        ("hothouse_pool_misses_total{pool=\"cold\"}", 1.0),
        ("hothouse_pool_claimed{pool=\"warm\"}", 1.0),
    ] {
        claimed.is(series, value)?;
    }
    server.stop().await
}

#[tokio::test]
async fn what_could_not_be_made_is_counted_where_it_failed() -> Result<()> {
    let server = Server::start_with(&["--max-sandboxes", "2"]).await?;
    // A working directory that its process cannot make, for it is below a file.
    let body = json!({"workdir": "/etc/passwd/below"});
    server.post("/v1/sandboxes", &body).await?.problem(500, "create_failed")?;
    template(&server, "failing", &json!({"setup": ["exit 3"]})).await?;
    pool(&server, &json!({"name": "failing", "template": "failing", "min": 0, "max": 1})).await?;
    server.post("/v1/pools/failing/claim", &json!({})).await?.problem(500, "setup_failed")?;
    // Its keeper may try for the next claim.
    server.delete("/v1/pools/failing").await?.expect(204)?;
    server.sandbox().await?;
    let second = server.sandbox().await?;
    server.post_nothing("/v1/sandboxes").await?.problem(429, "capacity_exceeded")?;
    let scrape = Scrape::of(&server).await?;
    let failures = |stage: &str, code: &str| {
        scrape.value(&format!("hothouse_create_failures_total{{stage=\"{stage}\",code=\"{code}\"}}"))
    };
    ensure!(failures("mount", "create_failed")? < 1.5);
    ensure!(failures("admission", "capacity_exceeded")? < 1.5);
    ensure!(failures("setup", "setup_failed")? > 0.5);
    for code in ["create_failed", "capacity_exceeded"] {
        scrape.is(&format!("hothouse_sandbox_creates_total{{outcome=\"{code}\"}}"), 1.0)?;
    }
    scrape.is("hothouse_claims_total{outcome=\"setup_failed\"}", 1.0)?;
    // What has failed has no place in the histogram of its stage.
    scrape.stage("setup", 0)?;
    let made = scrape.value("hothouse_create_seconds_count")?;
    scrape.is("hothouse_create_stage_seconds_count{stage=\"mount\"}", made)?;
    scrape.is("hothouse_create_stage_seconds_count{stage=\"directory\"}", made + 1.0)?;

    // Waiting for room is a stage, and the queue's depth and waits are told.
    scrape.is("hothouse_queue_waiting", 0.0)?;
    let waits = server.post_nothing("/v1/sandboxes?wait_s=60");
    let free = async {
        until("a wait", async || {
            Ok((Scrape::of(&server).await?.value("hothouse_queue_waiting")? > 0.5).then_some(()))
        })
        .await?;
        server.delete(&second).await?.expect(204)
    };
    let (made, _) = tokio::try_join!(waits, free)?;
    made.expect(201)?;
    let waited = Scrape::of(&server).await?;
    waited.is("hothouse_queue_admitted_total", 1.0)?;
    let wait = waited.value("hothouse_queue_wait_seconds_total")?;
    let admission = waited.stage_sum("admission")? - scrape.stage_sum("admission")?;
    ensure!(wait > 0.0 && (admission - wait).abs() < 0.005, "waited {wait} s, in its stage {admission} s");
    waited.is("hothouse_sandbox_endings_total{cause=\"deleted\"}", 1.0)?;
    server.stop().await
}

#[tokio::test]
async fn execs_and_phases_are_counted() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let result = server.shell(&sandbox, "sleep 0.1").await?;
    let scrape = Scrape::of(&server).await?;
    scrape.is("hothouse_exec_duration_seconds_count", 1.0)?;
    let duration = scrape.value("hothouse_exec_duration_seconds_sum")?;
    ensure!(Some(duration) == result["duration_s"].as_f64(), "{duration}: {result}");
    scrape.is("hothouse_exec_overhead_seconds_count", 1.0)?;
    ensure!(scrape.value("hothouse_exec_overhead_seconds_sum")? > 0.0);
    let again = json!({"shell": "true", "exec_id": "once"});
    for _ in 0..2 {
        server.post(&format!("{sandbox}/exec"), &again).await?.expect(200)?;
    }
    let repeated = Scrape::of(&server).await?;
    repeated.is("hothouse_exec_duration_seconds_count", 2.0).context("a repeat is no exec")?;
    repeated.is("hothouse_exec_overhead_seconds_count", 2.0).context("a repeat is no exec")?;

    server.post_nothing(&format!("{sandbox}/freeze")).await?.expect(200)?;
    server.sandbox().await?;
    let phases = Scrape::of(&server).await?;
    for (phase, count) in
        [("creating", 0.0), ("running", 1.0), ("frozen", 1.0), ("dead", 0.0), ("destroying", 0.0)]
    {
        phases.is(&format!("hothouse_sandboxes_in_phase{{phase=\"{phase}\"}}"), count)?;
    }
    phases.is("hothouse_sandboxes", 2.0)?;
    let lease = json!({"lease": {"lifetime_s": 0.1}});
    server.post("/v1/sandboxes", &lease).await?.expect(201)?;
    until("the end of a lease", async || {
        let scrape = Scrape::of(&server).await?;
        Ok(scrape.value("hothouse_sandbox_endings_total{cause=\"lifetime\"}").ok())
    })
    .await?;
    server.stop().await
}
