//! T30: clients that want what is another's, say the same twice and differently, and hold the server up.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use hothouse_domain::{ExecSpec, Outcome, SandboxSpec};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::api::Api;
use crate::companion::{Companion, Keys};
use crate::scene::Scene;

/// Connections that say a little and then nothing, heads and bodies each, and idle event streams: below what this program
/// may have open in all, and half of what the server takes.
const SLOW: usize = 600;
/// Connections of each kind that a client with few descriptors opens.
const RESERVE: u64 = 400;
/// Followed execs whose client goes away.
const DYING: usize = 40;
/// The other tenant is answered within this, whatever is held open.
const SERVED: Duration = Duration::from_secs(2);
/// The server has let go of all that within this.
const SETTLED: Duration = Duration::from_secs(20);

fn body(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

fn sh(line: &str) -> ExecSpec {
    ExecSpec { shell: Some(line.to_owned()), timeout_s: Some(60.0), ..ExecSpec::default() }
}

async fn create(api: &Api, id: &str) -> anyhow::Result<String> {
    let spec = SandboxSpec { id: Some(id.parse()?), ..SandboxSpec::default() };
    Ok(api.create(&spec).await?.id.to_string())
}

pub(super) async fn attack(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let companion = Companion::start(scene.world, "t30", Keys::Asked).await?;
    // Pools have what they need after this.
    let bob = companion.bob()?;
    for _ in 0..8 {
        let made = bob.create(&SandboxSpec::default()).await?;
        bob.delete(made.id.as_str()).await?;
    }
    let before = companion.host();
    let sandbox = create(&bob, "of-bob").await?;
    of_others(scene, &companion, &sandbox).await?;
    replays(scene, &companion).await?;
    oversize(scene, &companion).await?;
    held_up(scene, &companion, &sandbox).await?;
    dying(scene, &companion, &sandbox).await?;
    let companion = killed(scene, companion, &sandbox).await?;

    let bob = companion.bob()?;
    bob.delete(&sandbox).await?;
    let operator = companion.operator()?;
    let until = Instant::now() + SETTLED;
    loop {
        let grown = companion.host().grown_since(&before);
        let taken = counted(&operator, "hothouse_node_taken{of=\"sandboxes\"}").await?;
        let streams = counted(&operator, "hothouse_streams").await?;
        if (grown.is_empty() && taken == 0.0 && streams == 0.0) || Instant::now() > until {
            scene.found.holds("nothing is left on the host", grown.is_empty(), grown.join(", "));
            scene.found.holds("no room is left taken", taken == 0.0, taken);
            scene.found.holds("no stream is left", streams == 0.0, streams);
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    companion.stop().await
}

/// What the server says that it counts.
async fn counted(operator: &Api, name: &str) -> anyhow::Result<f64> {
    let metrics = operator.send(Method::GET, "/metrics", Bytes::new()).await?;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.with_context(|| format!("no {name} in {text}"))
}

/// What one tenant tries on another's sandbox: method, rest of the path, body.
fn tries() -> Vec<(Method, &'static str, Value)> {
    vec![
        (Method::GET, "", Value::Null),
        (Method::POST, "/exec", json!({"shell": "touch /workspace/mallory"})),
        (Method::GET, "/execs", Value::Null),
        (Method::GET, "/execs/of-bob", Value::Null),
        (Method::GET, "/files?path=/workspace/secret", Value::Null),
        (Method::PUT, "/files?path=/workspace/mallory", json!({})),
        (Method::GET, "/files/list?path=/", Value::Null),
        (Method::GET, "/archive?path=/workspace", Value::Null),
        (Method::POST, "/shells", json!({})),
        (Method::GET, "/stats", Value::Null),
        (Method::POST, "/freeze", json!({})),
        (Method::POST, "/thaw", json!({})),
        (Method::DELETE, "", Value::Null),
    ]
}

async fn of_others(scene: &mut Scene<'_>, companion: &Companion<'_>, sandbox: &str) -> anyhow::Result<()> {
    let (mallory, bob, nobody) = (companion.mallory()?, companion.bob()?, companion.nobody()?);
    let forged =
        Api::with_key(&companion.nobody()?.base, Some("hh_forged_0123456789abcdef0123456789abcdef"))?;
    let run = ExecSpec { exec_id: Some("of-bob".parse()?), ..sh("echo bobs > /workspace/secret") };
    bob.exec(sandbox, &run).await?;
    for (method, rest, value) in tries() {
        let content = if value.is_null() { Bytes::new() } else { body(&value) };
        let path = format!("/v1/sandboxes/{sandbox}{rest}");
        for (who, api, wanted) in
            [("mallory", &mallory, 404), ("nobody", &nobody, 401), ("a forged key", &forged, 401)]
        {
            let answer = api.send(method.clone(), &path, content.clone()).await?;
            let told = String::from_utf8_lossy(&answer.body).into_owned();
            let held = answer.status == wanted && !told.contains("bobs");
            scene.found.holds(format!("{method} {rest} by {who}"), held, format!("{} {told}", answer.status));
        }
    }
    for path in ["/v1/sandboxes", "/v1/stats"] {
        let listed = mallory.send(Method::GET, path, Bytes::new()).await?;
        let listed = String::from_utf8_lossy(&listed.body).into_owned();
        scene.found.holds(format!("{path} hides it"), !listed.contains(sandbox), &listed);
    }
    let shared = mallory.send(Method::GET, "/metrics", Bytes::new()).await?;
    scene.found.holds("counters of all are an administrator's", shared.status == 403, shared.code());
    // Her own comes after his in the stream of events: what was before it she would have seen.
    let own = create(&mallory, "of-mallory").await?;
    let mut events = mallory.begin(Method::GET, "/v1/events?after=0", Bytes::new()).await?;
    let mut seen = String::new();
    while !seen.contains(&own) {
        let chunk = tokio::time::timeout(SETTLED, events.chunk()).await.context("no event")??;
        seen.push_str(&String::from_utf8_lossy(&chunk.context("the events ended")?));
    }
    scene.found.holds("events hide it", !seen.contains(sandbox), &seen);
    drop(events);
    mallory.delete(&own).await?;
    let same = create(&mallory, "of-bob").await.err().map(|error| format!("{error:#}")).unwrap_or_default();
    scene.found.holds("an id that is taken gives nobody another's sandbox", !same.contains("bobs"), &same);
    let kept = bob.exec(sandbox, &sh("ls /workspace; cat /workspace/secret")).await?;
    scene.found.holds("it is as it was", kept.stdout == "secret\nbobs\n", format!("{kept:?}"));
    Ok(())
}

async fn replays(scene: &mut Scene<'_>, companion: &Companion<'_>) -> anyhow::Result<()> {
    let (mallory, bob) = (companion.mallory()?, companion.bob()?);
    let id = create(&mallory, "replays").await?;
    let run = |line: &str| ExecSpec { exec_id: "once".parse().ok(), ..sh(line) };
    let first = run("echo x >> /workspace/ran");
    let again = join_all((0..8).map(|_| mallory.exec(&id, &first))).await;
    scene.found.holds("repeats are answered", again.iter().all(Result::is_ok), format!("{again:?}"));
    let other = mallory.try_exec(&id, &run("echo y >> /workspace/ran")).await?;
    scene.found.holds("another body under a known id", other.status == 409, other.code());
    let ran = mallory.exec(&id, &sh("cat /workspace/ran")).await?;
    scene.found.holds("it ran once", ran.stdout == "x\n", format!("{ran:?}"));
    mallory.delete(&id).await?;

    let spec = body(&json!({"labels": {"key": "once"}}));
    let made = try_join_all((0..8).map(|_| mallory.once("k1", "/v1/sandboxes", spec.clone()))).await?;
    let id_of = |answer: &crate::api::Answer| {
        serde_json::from_slice::<Value>(&answer.body)
            .ok()
            .and_then(|info| Some(info["id"].as_str()?.to_owned()))
    };
    let mut ids: Vec<Option<String>> = made.iter().map(id_of).collect();
    ids.dedup();
    scene.found.holds("one sandbox for one key", ids.len() == 1 && ids[0].is_some(), format!("{ids:?}"));
    let other = mallory.once("k1", "/v1/sandboxes", body(&json!({"labels": {"key": "twice"}}))).await?;
    scene.found.holds("another body under a known key", other.status == 409, other.code());
    let of_bob = bob.once("k1", "/v1/sandboxes", spec).await?;
    let differs = of_bob.status == 201 && id_of(&of_bob) != ids[0];
    scene.found.holds("a tenant's keys are its own", differs, format!("{} {ids:?}", of_bob.code()));
    for (api, id) in [(&mallory, ids[0].clone()), (&bob, id_of(&of_bob))] {
        api.delete(&id.context("an id")?).await?;
    }
    Ok(())
}

async fn oversize(scene: &mut Scene<'_>, companion: &Companion<'_>) -> anyhow::Result<()> {
    let mallory = companion.mallory()?;
    let long = "x".repeat(9 << 20);
    let deep = format!("{{\"labels\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let many: serde_json::Map<String, Value> = (0..100_000).map(|n| (format!("n{n}"), json!(""))).collect();
    for (what, content, wanted) in [
        ("9 MiB of JSON", body(&json!({"labels": {"a": long}})), 413),
        ("100,000 brackets", Bytes::from(deep), 400),
        ("100,000 labels", body(&json!({"labels": many})), 400),
    ] {
        let answer = mallory.send(Method::POST, "/v1/sandboxes", content).await?;
        scene.found.holds(what, answer.status == wanted, format!("{} {}", answer.status, answer.code()));
    }
    let head = format!("/v1/sandboxes?label={}", "x".repeat(300 << 10));
    let answer = mallory.send_raw("GET", &head).await;
    // Closed while it is still being sent is a refusal too.
    let refused = answer.as_ref().map_or(true, |answer| matches!(answer.status, 401 | 414 | 431));
    scene.found.holds("a head of 300 KiB", refused, format!("{answer:?}"));
    Ok(())
}

/// How many connections of one kind this program may open.
fn affordable() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let open = match rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let each = open.unwrap_or(u64::MAX).saturating_sub(RESERVE) / 3;
    usize::try_from(each).unwrap_or(SLOW).min(SLOW)
}

async fn held_up(scene: &mut Scene<'_>, companion: &Companion<'_>, sandbox: &str) -> anyhow::Result<()> {
    let (mallory, bob) = (companion.mallory()?, companion.bob()?);
    let count = affordable();
    let address = companion.address().to_owned();
    let slow = async |text: &str| -> anyhow::Result<TcpStream> {
        let mut socket = TcpStream::connect(&address).await?;
        socket.write_all(text.as_bytes()).await?;
        Ok(socket)
    };
    let head = "POST /v1/sandboxes HTTP/1.1\r\nHost: x\r\nX-Slow: ";
    let whole = "POST /v1/sandboxes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4096\r\n\r\n{";
    let mut sockets = Vec::new();
    for _ in 0..count {
        sockets.push(slow(head).await?);
        sockets.push(slow(whole).await?);
    }
    let idle = (0..count).map(|_| mallory.begin(Method::GET, "/v1/events?sandbox_id=none", Bytes::new()));
    let mut streams = Vec::new();
    for stream in idle {
        let stream = stream.await?;
        // Over their limit they are told so; both is an answer.
        let status = stream.status().as_u16();
        scene.found.holds("an idle stream is served or refused", matches!(status, 200 | 429), status);
        streams.push(stream);
    }
    // Dribbled, a byte at a time, while the other tenant works.
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        for socket in &mut sockets {
            // One that the server has closed meanwhile is what a slow client deserves.
            drop(socket.write_all(b"x").await);
        }
        let began = Instant::now();
        let result = bob.exec(sandbox, &sh("true")).await?;
        anyhow::ensure!(result.outcome == Outcome::Exited { code: 0 }, "{result:?}");
        slowest = slowest.max(began.elapsed());
    }
    let what =
        format!("the other tenant is served beside {} held connections", sockets.len() + streams.len());
    scene.found.holds(what, slowest <= SERVED, format!("{slowest:?}"));
    drop((sockets, streams));
    Ok(())
}

async fn dying(scene: &mut Scene<'_>, companion: &Companion<'_>, sandbox: &str) -> anyhow::Result<()> {
    let bob = companion.bob()?;
    let run = body(&json!({"shell": "yes flood | head -c 20000000; sleep 600", "timeout_s": 600}));
    let path = format!("/v1/sandboxes/{sandbox}/exec?stream=true");
    let begun = (0..DYING).map(|_| bob.begin(Method::POST, &path, run.clone()));
    let mut streams = try_join_all(begun).await?;
    for stream in &mut streams {
        stream.chunk().await?.context("the start of a stream")?;
    }
    drop(streams);
    let operator = companion.operator()?;
    let until = Instant::now() + SETTLED;
    loop {
        let left = counted(&operator, "hothouse_streams").await?;
        if left == 0.0 || Instant::now() > until {
            scene.found.holds("the streams of clients that died are let go", left == 0.0, left);
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let result = bob.exec(sandbox, &sh("echo served")).await?;
    scene.found.holds("their sandbox serves on", result.stdout == "served\n", format!("{result:?}"));
    Ok(())
}

/// The server is killed while an exec runs; the next one finds it, and a repeat gets its result.
async fn killed<'a>(
    scene: &mut Scene<'_>,
    companion: Companion<'a>,
    sandbox: &str,
) -> anyhow::Result<Companion<'a>> {
    let bob = companion.bob()?;
    let run = ExecSpec {
        exec_id: "outlives".parse().ok(),
        ..sh("echo began >> /workspace/outlives; sleep 2; echo ended")
    };
    bob.exec_detached(sandbox, run.clone()).await?;
    let companion = companion.killed_and_started_again().await?;
    let bob = companion.bob()?;
    let result = bob.exec(sandbox, &run).await?;
    let kept = result.stdout == "ended\n" && result.replayed;
    scene.found.holds("an exec outlives its server", kept, format!("{result:?}"));
    let began = bob.exec(sandbox, &sh("cat /workspace/outlives")).await?;
    scene.found.holds("and ran once", began.stdout == "began\n", format!("{began:?}"));
    let mallory = companion.mallory()?;
    let other = mallory.try_exec(sandbox, &sh("true")).await?;
    scene.found.holds("the next server knows whose it is", other.status == 404, other.code());
    Ok(companion)
}

/// A server that asks nobody for a key, and execs without ids.
pub(super) async fn control(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let companion = Companion::start(scene.world, "t30-open", Keys::Off).await?;
    let (mallory, bob) = (companion.mallory()?, companion.bob()?);
    let sandbox = create(&bob, "of-bob").await?;
    bob.exec(&sandbox, &sh("echo bobs > /workspace/secret")).await?;
    let path = format!("/v1/sandboxes/{sandbox}/files?path=/workspace/secret");
    let read = mallory.send(Method::GET, &path, Bytes::new()).await?;
    scene.found.holds("without keys it is everybody's", &read.body[..] == b"bobs\n", read.status);
    for _ in 0..2 {
        mallory.exec(&sandbox, &sh("echo x >> /workspace/ran")).await?;
    }
    let ran = mallory.exec(&sandbox, &sh("cat /workspace/ran")).await?;
    scene.found.holds("without an id it runs twice", ran.stdout == "x\nx\n", &ran.stdout);
    let deleted = mallory.delete(&sandbox).await?;
    scene.found.holds("anybody deletes it", deleted.status == 204, deleted.code());
    companion.stop().await
}
