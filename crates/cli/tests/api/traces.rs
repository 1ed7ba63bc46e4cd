//! Traces: what the server sends to a collector, here a listener that keeps what it is sent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::server::{Server, send};
use crate::wait::until;

/// What a client calls its trace, and its own span in it.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT: &str = "b7ad6b7169203331";
/// Stands in everything that is sent to run and comes out of it.
const CANARY: &str = "canary-4711";

/// Takes OTLP over HTTP on a free port.
struct Collector {
    endpoint: String,
    requests: Arc<Mutex<Vec<Sent>>>,
    _tasks: JoinSet<()>,
}

/// One request: its head and its body.
#[derive(Clone)]
struct Sent {
    head: String,
    body: Vec<u8>,
}

impl Collector {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let requests = Arc::<Mutex<Vec<Sent>>>::default();
        let kept = Arc::clone(&requests);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                while let Ok(sent) = take(&mut stream).await {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push(sent);
                }
            }
        });
        Ok(Self { endpoint, requests, _tasks: tasks })
    }

    fn requests(&self) -> Vec<Sent> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every span so far, each with its resource as `resource`.
    fn spans(&self) -> Result<Vec<Value>> {
        let mut spans = Vec::new();
        for sent in self.requests() {
            let body: Value = serde_json::from_slice(&sent.body)?;
            for of_resource in array(&body["resourceSpans"]) {
                for of_scope in array(&of_resource["scopeSpans"]) {
                    for span in array(&of_scope["spans"]) {
                        let mut span = span.clone();
                        span["resource"] = of_resource["resource"].clone();
                        spans.push(span);
                    }
                }
            }
        }
        Ok(spans)
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Takes one request and answers it well.
async fn take(stream: &mut TcpStream) -> Result<Sent> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head)?.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.context("no length")?.trim().parse()?];
    stream.read_exact(&mut body).await?;
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        .await?;
    Ok(Sent { head, body })
}

fn attribute<'a>(of: &'a Value, key: &str) -> Option<&'a Value> {
    let found = array(&of["attributes"]).find(|attribute| attribute["key"] == key)?;
    found["value"].as_object()?.values().next()
}

/// The span of this name in the client's trace; there is one.
fn the<'a>(spans: &'a [Value], name: &str) -> Result<&'a Value> {
    let mut found = spans.iter().filter(|span| span["traceId"] == TRACE && span["name"] == name);
    let names = || spans.iter().map(|span| span["name"].to_string()).collect::<Vec<_>>().join(" ");
    let one = found.next().with_context(|| format!("no span {name:?} in {}", names()))?;
    ensure!(found.next().is_none(), "{name} is there twice");
    Ok(one)
}

fn traced(request: RequestBuilder, key: &str) -> RequestBuilder {
    request.header("traceparent", format!("00-{TRACE}-{CLIENT}-01")).bearer_auth(key)
}

#[tokio::test]
async fn a_client_s_trace_goes_on_through_claim_create_and_exec_and_carries_names_only() -> Result<()> {
    let collector = Collector::start().await?;
    let directory = tempfile::tempdir()?;
    let keys = directory.path().join("keys.json").display().to_string();
    let made = Command::new(env!("CARGO_BIN_EXE_hothouse"))
        .args(["keys", "create", "--tenant", "team-a", "--role", "admin", "--json", "--keys", &keys])
        .output()
        .await?;
    let made: Value = serde_json::from_slice(&made.stdout)?;
    let key = made["key"].as_str().context("a key")?;
    let server = Server::start_where(
        &["--keys", &keys],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_SERVICE_NAME", "hothouse-under-test"),
        ],
    )
    .await?;
    let admin = |method: Method, path: &str| server.request(method, path).bearer_auth(key);
    let template = json!({"setup": ["true"], "env": {"OF_TEMPLATE": CANARY}});
    send(admin(Method::PUT, "/v1/templates/py").json(&template)).await?.expect(200)?;
    let pool = json!({"name": "warm", "template": "py", "min": 1, "max": 1});
    send(admin(Method::POST, "/v1/pools").json(&pool)).await?.expect(201)?;
    until("a ready one", async || {
        let pool = send(admin(Method::GET, "/v1/pools/warm")).await?.expect(200)?.json()?;
        Ok((pool["ready"] == 1).then_some(()))
    })
    .await?;
    let claim = json!({
        "env": {"MINE": CANARY}, "secrets": {"TOKEN": CANARY}, "labels": {"label": CANARY},
        "files": [{"path": format!("/workspace/{CANARY}"), "content": CANARY}],
    });
    let request = traced(server.request(Method::POST, "/v1/pools/warm/claim"), key).json(&claim);
    let claimed = send(request).await?.expect(201)?.json()?;
    let id = claimed["id"].as_str().context("id")?;
    let exec = json!({
        "argv": ["sh", "-c", format!("echo {CANARY}; echo $TOKEN")], "secrets": ["TOKEN"],
        "stdin": CANARY, "env": {"E": CANARY}, "exec_id": "exec-1",
    });
    let request = traced(server.request(Method::POST, &format!("/v1/sandboxes/{id}/exec")), key).json(&exec);
    send(request).await?.expect(200)?;
    let request =
        traced(server.request(Method::GET, &format!("/v1/sandboxes/{id}/files?path={CANARY}")), key);
    send(request).await?;
    let create = json!({"env": {"MINE": CANARY}, "id": "alone"});
    let request = traced(server.request(Method::POST, "/v1/sandboxes"), key)
        .header("Idempotency-Key", CANARY)
        .json(&create);
    send(request).await?.expect(201)?;
    // Nothing waits for the collector but the server's end.
    server.stop().await?;

    let spans = collector.spans()?;
    let http = the(&spans, "POST /v1/pools/{pool_name}/claim")?;
    ensure!(http["parentSpanId"] == CLIENT, "{http}");
    ensure!(attribute(http, "hothouse.tenant").context("tenant")? == "team-a", "{http}");
    ensure!(attribute(http, "http.response.status_code").context("status")? == "201", "{http}");
    let service = attribute(&http["resource"], "service.name");
    ensure!(service.is_some_and(|name| name == "hothouse-under-test"), "{http}");
    let claim = the(&spans, "claim")?;
    ensure!(claim["parentSpanId"] == http["spanId"], "{claim} is not in {http}");
    for (name, value) in [
        ("hothouse.sandbox", id),
        ("hothouse.pool", "warm"),
        ("hothouse.template", "py"),
        ("hothouse.tenant", "team-a"),
        ("hothouse.claim", "hit"),
    ] {
        ensure!(attribute(claim, name).is_some_and(|found| found == value), "{name} in {claim}");
    }
    let http = the(&spans, "POST /v1/sandboxes/{sandbox_id}/exec")?;
    let exec = the(&spans, "exec")?;
    ensure!(
        exec["parentSpanId"] == http["spanId"] && http["parentSpanId"] == CLIENT,
        "{exec} is not in {http}"
    );
    ensure!(attribute(exec, "hothouse.sandbox").is_some_and(|found| found == id), "{exec}");
    ensure!(attribute(exec, "hothouse.exec").is_some_and(|found| found == "exec-1"), "{exec}");
    let (http, create) = (the(&spans, "POST /v1/sandboxes")?, the(&spans, "create")?);
    ensure!(create["parentSpanId"] == http["spanId"], "{create} is not in {http}");
    ensure!(attribute(create, "hothouse.sandbox").is_some_and(|found| found == "alone"), "{create}");
    ensure!(attribute(create, "mount_us").is_some_and(|took| took != "0"), "{create}");
    // What the pool makes of its own accord is a trace of its own, the setup's exec in it.
    let setup = spans.iter().find(|span| span["name"] == "setup").context("no setup")?;
    let ran = spans.iter().find(|span| span["name"] == "exec" && span["parentSpanId"] == setup["spanId"]);
    ensure!(ran.is_some() && setup["traceId"] != TRACE, "{setup}");
    for sent in collector.requests() {
        let body = String::from_utf8_lossy(&sent.body);
        ensure!(!body.contains(CANARY), "what was sent to run, or came of it: {body}");
        ensure!(!body.contains(key), "a key: {body}");
    }
    Ok(())
}

#[tokio::test]
async fn traces_are_sent_as_protobuf_unless_told_otherwise_and_flushed_at_the_end() -> Result<()> {
    let collector = Collector::start().await?;
    let server = Server::start_where(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)]).await?;
    send(traced(server.request(Method::POST, "/v1/sandboxes"), "none")).await?.expect(201)?;
    server.stop().await?;
    let id: Vec<u8> =
        (0..16).map(|at| u8::from_str_radix(&TRACE[2 * at..2 * at + 2], 16)).collect::<Result<_, _>>()?;
    let sent = collector.requests();
    let with_it = sent.iter().find(|sent| sent.body.windows(id.len()).any(|bytes| bytes == id));
    let head = &with_it.context("the trace was not sent")?.head;
    ensure!(head.starts_with("post /v1/traces "), "{head}");
    ensure!(head.contains("content-type: application/x-protobuf"), "{head}");
    Ok(())
}

#[tokio::test]
async fn a_collector_that_takes_nothing_costs_spans_and_no_request() -> Result<()> {
    // The kernel takes the connection, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", silent.local_addr()?);
    let refused = {
        let gone = TcpListener::bind("127.0.0.1:0").await?;
        format!("http://{}", gone.local_addr()?)
    };
    for endpoint in [endpoint, refused] {
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "16"),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ];
        let server = Server::start_where(&[], &env).await?;
        let sandbox = server.sandbox().await?;
        let told = async || {
            let lines = server.log().lines().filter(|line| line.contains("are lost; requests go on")).count();
            Ok((lines > 0).then_some(lines))
        };
        for _ in 0..40 {
            ensure!(server.shell(&sandbox, "true").await?["outcome"]["code"] == 0);
        }
        until("the loss in the log", told).await?;
        for _ in 0..40 {
            ensure!(server.shell(&sandbox, "true").await?["outcome"]["code"] == 0);
        }
        ensure!(told().await? == Some(1), "told once: {}", server.log());
        let begin = Instant::now();
        server.terminate()?;
        let all = until("the sum in the log", async || {
            Ok(server.log().lines().find(|line| line.contains("were lost in all")).map(str::to_owned))
        })
        .await?;
        ensure!(all.contains("lost=") && !all.contains("lost=0"), "{all}");
        server.ended().await?;
        let took = begin.elapsed();
        ensure!(took < Duration::from_secs(15), "the end took {took:?}");
    }
    Ok(())
}
