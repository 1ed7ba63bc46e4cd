//! HTTP and WebSockets to what listens in a sandbox.

use anyhow::{Context, Result, ensure};
use futures::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::keys::Keys;
use crate::server::{Server, send};
use crate::wait::{client, until, within};

const APP: &str = include_str!("ports/app.py");
const HOSTILE: &str = include_str!("ports/hostile.py");

/// Starts a program in a sandbox that listens on its port 8000; the port's path, once it does.
async fn listening(server: &Server, sandbox: &str, program: &str) -> Result<String> {
    let body = json!({"argv": ["python3", "-c", program], "detach": true, "exec_id": "app"});
    server.post(&format!("{sandbox}/exec"), &body).await?.expect(202)?;
    let port = format!("{sandbox}/ports/8000");
    let first = server.request(Method::GET, &format!("{port}/nothing")).header("Hothouse-Wait-S", "60");
    let first = send(first).await?;
    ensure!(first.status == 200 || first.json()?["code"] == "connection_broken", "{}", first.status);
    Ok(port)
}

async fn app(server: &Server) -> Result<String> {
    let sandbox = server.sandbox().await?;
    listening(server, &sandbox, APP).await
}

/// What the app has seen of a request.
fn header(seen: &Value, name: &str) -> Vec<String> {
    let all = seen["headers"].as_array().into_iter().flatten();
    let named = all.filter(|pair| pair[0].as_str().is_some_and(|given| given.eq_ignore_ascii_case(name)));
    named.filter_map(|pair| pair[1].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn requests_go_in_and_answers_come_out_as_they_are() -> Result<()> {
    let server = Server::start().await?;
    let port = app(&server).await?;
    for (method, path) in
        [("GET", "/a/%2Fb//c?x=1&y=%41"), ("DELETE", "/"), ("PATCH", ""), ("PROPFIND", "/two//slashes")]
    {
        let answer = send(server.request(method.parse()?, &format!("{port}{path}"))).await?.expect(200)?;
        let seen = answer.json()?;
        let expected = if path.is_empty() { "/" } else { path };
        ensure!(seen["method"] == method && seen["path"] == expected, "{seen}");
        ensure!(
            answer.header("hothouse-port") == "8000" && answer.header("content-type") == "application/json"
        );
        ensure!(answer.header("content-security-policy") == "sandbox allow-scripts");
        ensure!(!answer.header("x-request-id").is_empty());
    }
    let missing = server.get(&format!("{port}/missing")).await?.expect(404)?;
    ensure!(missing.bytes == b"the app has no such page" && missing.header("hothouse-port") == "8000");
    let head = send(server.request(Method::HEAD, &format!("{port}/"))).await?.expect(200)?;
    ensure!(head.header("content-length") == "1000000" && head.bytes.is_empty());
    // Its own paths, seen from outside.
    let followed = server.get(&format!("{port}/redirect")).await?.expect(200)?.json()?;
    ensure!(followed["path"] == "/seen?after=redirect", "{followed}");
    server.stop().await
}

#[tokio::test]
async fn what_is_of_this_server_stays_here() -> Result<()> {
    let server = Server::start().await?;
    let port = app(&server).await?;
    let request = server
        .request(Method::GET, &format!("{port}/"))
        .bearer_auth("hh_secret")
        .header("Hothouse-Authorization", "Basic for-the-app")
        .header("Cookie", "jupyter=secret")
        .header("X-Forwarded-For", "10.0.0.1")
        .header("Connection", "X-Hop")
        .header("X-Hop", "1")
        .header("X-Mine", "kept");
    let seen = send(request).await?.expect(200)?.json()?;
    ensure!(header(&seen, "authorization") == ["Basic for-the-app"], "{seen}");
    ensure!(header(&seen, "host") == ["localhost:8000"] && header(&seen, "x-mine") == ["kept"], "{seen}");
    ensure!(header(&seen, "x-forwarded-prefix") == [port.as_str()], "{seen}");
    for gone in ["cookie", "x-forwarded-for", "x-hop", "hothouse-authorization", "transfer-encoding"] {
        ensure!(header(&seen, gone).is_empty(), "{gone}: {seen}");
    }
    let cookie = server.get(&format!("{port}/cookie")).await?.expect(200)?;
    let set = cookie.header("set-cookie").to_owned();
    ensure!(set.starts_with("hothouse~") && set.ends_with(&format!("; Path={port}/")), "{set}");
    ensure!(
        cookie.header("strict-transport-security").is_empty() && cookie.header("hothouse-port") == "8000"
    );
    let given = set.split(';').next().unwrap_or_default();
    let back = server.request(Method::GET, &format!("{port}/")).header("Cookie", format!("a=b; {given}"));
    let seen = send(back).await?.expect(200)?.json()?;
    ensure!(header(&seen, "cookie") == ["session=42"], "{seen}");
    server.stop().await
}

#[tokio::test]
async fn bodies_flow_both_ways_as_they_come() -> Result<()> {
    let server = Server::start().await?;
    let port = app(&server).await?;
    let content: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let pieces: Vec<std::io::Result<Vec<u8>>> =
        content.chunks(70_000).map(|piece| Ok(piece.to_vec())).collect();
    for body in
        [reqwest::Body::from(content.clone()), reqwest::Body::wrap_stream(futures::stream::iter(pieces))]
    {
        let answer =
            send(server.request(Method::POST, &format!("{port}/echo")).body(body)).await?.expect(200)?;
        ensure!(answer.bytes == content, "{} bytes came back", answer.bytes.len());
    }
    let large = server.get(&format!("{port}/large")).await?.expect(200)?;
    ensure!(large.bytes.len() == 30 << 20 && large.bytes.iter().all(|byte| *byte == b'x'));

    let mut steps = server.request(Method::GET, &format!("{port}/steps")).send().await?;
    let first = within("the first piece", steps.chunk()).await??;
    ensure!(first.as_deref() == Some(b"first"), "{first:?}");
    let sandbox = port.trim_end_matches("/ports/8000");
    server.shell(sandbox, "touch /tmp/go").await?;
    let last = within("the last piece", steps.chunk()).await??;
    ensure!(last.as_deref() == Some(b"last"), "{last:?}");
    ensure!(within("the end", steps.chunk()).await??.is_none());

    // What the app says before it has read all is the answer.
    let early = server.request(Method::POST, &format!("{port}/early")).body(content).send().await?;
    ensure!(early.status() == 413 && early.headers()["hothouse-port"] == "8000", "{early:?}");

    // Nothing of all that was an error to the app.
    let app = server.get(&format!("{sandbox}/execs/app/output?stream=stderr")).await?.expect(200)?;
    ensure!(app.bytes.is_empty(), "{}", String::from_utf8_lossy(&app.bytes));
    server.stop().await
}

#[tokio::test]
async fn a_websocket_is_carried() -> Result<()> {
    let server = Server::start().await?;
    let port = app(&server).await?;
    let url = format!("{}{port}/socket?x=1", server.base.replacen("http", "ws", 1));
    let (mut socket, answer) = within("the WebSocket", Box::pin(connect_async(url.as_str()))).await??;
    ensure!(answer.headers()["hothouse-port"] == "8000");
    for n in 0..100 {
        for message in [Message::text(format!("message {n}")), Message::binary(vec![7; n * 600])] {
            within("sending", socket.send(message.clone())).await??;
            let back = within("the echo", socket.next()).await?.context("it ended")??;
            ensure!(back == message, "{n}");
        }
    }
    within("closing", socket.close(None)).await??;
    while let Some(Ok(message)) = within("the end", socket.next()).await? {
        ensure!(matches!(message, Message::Close(_)), "{message:?}");
    }
    // An app that has none says so itself.
    let none = connect_async(url.replace("/socket", "/missing")).await;
    let Err(tungstenite::Error::Http(answer)) = none else { anyhow::bail!("{none:?}") };
    ensure!(answer.status() == 404, "{answer:?}");

    // One that is open ends with the server.
    let (mut open, _) = within("the WebSocket", Box::pin(connect_async(url.as_str()))).await??;
    server.terminate()?;
    while let Some(Ok(_)) = within("the end of the server", open.next()).await? {}
    server.ended().await
}

#[tokio::test]
async fn what_does_not_listen_is_named_and_waited_for() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let none = server.get(&format!("{sandbox}/ports/8000/")).await?;
    let problem = none.problem(502, "not_listening")?;
    ensure!(problem["detail"] == "port 8000: nothing listens there", "{problem}");
    ensure!(none.header("hothouse-port").is_empty());
    let patient = |wait: &str| {
        server.request(Method::GET, &format!("{sandbox}/ports/8000/")).header("Hothouse-Wait-S", wait)
    };
    let problem = send(patient("0.2")).await?.problem(502, "not_listening")?;
    ensure!(problem["detail"] == "port 8000: nothing listens there, after 0.2 s", "{problem}");
    let (answer, started) = tokio::join!(send(patient("60")), async {
        server.shell(&sandbox, "sleep 0.3").await?;
        let body =
            json!({"argv": ["python3", "-m", "http.server", "8000", "-b", "127.0.0.1"], "detach": true});
        server.post(&format!("{sandbox}/exec"), &body).await
    });
    started?.expect(202)?;
    ensure!(answer?.expect(200)?.bytes.starts_with(b"<!DOCTYPE"), "a listing of the directory");
    for port in ["0", "65536", "-1", "x", "80x"] {
        let problem =
            server.get(&format!("{sandbox}/ports/{port}/")).await?.problem(400, "invalid_request")?;
        ensure!(problem["field"] == "port", "{problem}");
    }
    for (header, value) in [
        ("Hothouse-Wait-S", "601"),
        ("Hothouse-Wait-S", "x"),
        ("Hothouse-Timeout-S", "0"),
        ("Hothouse-Timeout-S", "NaN"),
    ] {
        let request = server.request(Method::GET, &format!("{sandbox}/ports/8000/")).header(header, value);
        let problem = send(request).await?.problem(400, "invalid_request")?;
        ensure!(problem["field"] == header, "{problem}");
    }
    server.get("/v1/sandboxes/nosuch/ports/80/").await?.problem(404, "sandbox_not_found")?;
    server.stop().await
}

#[tokio::test]
async fn what_listens_with_ill_will_harms_nobody() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let port = listening(&server, &sandbox, HOSTILE).await?;
    for path in [
        "/garbage",
        "/nine",
        "/nothing",
        "/half-a-head",
        "/two-lengths",
        "/status",
        "/many-headers",
        "/upgraded",
        "/newline",
        "/reset",
        "/head-flood",
        "/line-flood",
    ] {
        let answer = server.get(&format!("{port}{path}")).await?;
        let problem = answer.problem(502, "connection_broken").with_context(|| path.to_owned())?;
        ensure!(
            problem["detail"].as_str().is_some_and(|text| text.starts_with("port 8000: ")),
            "{path}: {problem}"
        );
        ensure!(answer.header("hothouse-port").is_empty());
    }
    for path in ["/never", "/interim-flood"] {
        let request =
            server.request(Method::GET, &format!("{port}{path}")).header("Hothouse-Timeout-S", "0.5");
        send(request).await?.problem(504, "timed_out").with_context(|| path.to_owned())?;
    }
    for path in ["/half-a-body", "/half-a-chunk", "/bad-chunk"] {
        // Its head may have come or not; what matters is that it does not seem whole.
        let request = server.request(Method::GET, &format!("{port}{path}"));
        let whole = within("the body's end", async { request.send().await?.bytes().await }).await?;
        ensure!(whole.is_err(), "{path}: a body that broke off seems whole: {whole:?}");
    }
    let more = server.get(&format!("{port}/more-than-said")).await?.expect(200)?;
    ensure!(more.bytes == b"ok", "{}", String::from_utf8_lossy(&more.bytes));

    // A client that reads nothing costs no memory, and its leaving ends the flood.
    let memory = || -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()?.as_raw_nonzero()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS")).context("VmRSS")?;
        Ok(line.split_whitespace().nth(1).context("kB")?.parse()?)
    };
    let before = memory()?;
    let mut floods = Vec::new();
    for _ in 0..8 {
        // Each with a connection of its own, which nobody reads from any more.
        let mut flood = client()?.get(format!("{}{port}/body-flood", server.base)).send().await?;
        within("the flood", flood.chunk()).await??.context("a piece")?;
        floods.push(flood);
    }
    for _ in 0..20 {
        server.shell(&sandbox, "true").await?;
    }
    let grown = memory()?.saturating_sub(before);
    ensure!(grown < 64 << 10, "the server grew by {grown} kB");
    drop(floods);
    for path in ["/head-flood", "/line-flood", "/interim-flood", "/body-flood"] {
        until("the end of a flood", async || {
            let there = server.shell(&sandbox, &format!("test -e /tmp/ended{path}")).await?;
            Ok((there["outcome"]["code"] == 0).then_some(()))
        })
        .await?;
    }
    server.stop().await
}

#[tokio::test]
async fn a_sandbox_that_goes_takes_its_connections_with_it() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let port = listening(&server, &sandbox, HOSTILE).await?;
    let mut flood = client()?.get(format!("{}{port}/body-flood", server.base)).send().await?;
    let never_path = format!("{port}/never");
    let (never, deleted) = tokio::join!(server.get(&never_path), async {
        within("the flood", flood.chunk()).await??;
        server.delete(&sandbox).await
    });
    deleted?.expect(204)?;
    let never = never?;
    ensure!(never.status == 410, "{} {}", never.status, String::from_utf8_lossy(&never.bytes));
    let broken = async {
        while flood.chunk().await?.is_some() {}
        Ok::<_, reqwest::Error>(())
    };
    ensure!(within("the flood's end", broken).await?.is_err(), "an answer that broke off seems whole");
    server.get(&format!("{port}/never")).await?.problem(410, "sandbox_ended")?;

    let frozen = server.sandbox().await?;
    if server.post_nothing(&format!("{frozen}/freeze")).await?.status == 200 {
        server.get(&format!("{frozen}/ports/80/")).await?.problem(409, "sandbox_frozen")?;
    }
    server.stop().await
}

#[tokio::test]
async fn ports_are_for_those_who_may_use_the_sandbox() -> Result<()> {
    let keys = Keys::new()?;
    let (a, b) = (keys.create("a", &[]).await?, keys.create("b", &[]).await?);
    let server = keys.server().await?;
    a.post(&server, "/v1/sandboxes", &json!({"id": "mine"})).await?.expect(201)?;
    let body = json!({"argv": ["python3", "-c", APP], "detach": true});
    a.post(&server, "/v1/sandboxes/mine/exec", &body).await?.expect(202)?;
    let port = "/v1/sandboxes/mine/ports/8000";
    server.get(&format!("{port}/")).await?.problem(401, "unauthorized")?;
    b.get(&server, &format!("{port}/")).await?.problem(404, "sandbox_not_found")?;
    let seen = a.request(&server, Method::GET, &format!("{port}/")).header("Hothouse-Wait-S", "60");
    let seen = send(seen).await?.expect(200)?;
    ensure!(!String::from_utf8_lossy(&seen.bytes).contains("hh_"), "the key does not go in");
    // A page of another site, or of a sandbox, gets nothing.
    for origin in ["null", "https://evil.example"] {
        let request = a.request(&server, Method::POST, &format!("{port}/echo")).header("Origin", origin);
        send(request).await?.problem(403, "forbidden")?;
    }

    // Whose key is taken away is cut off.
    let mut steps = a.request(&server, Method::GET, &format!("{port}/steps")).send().await?;
    let first = within("the first piece", steps.chunk()).await??;
    ensure!(first.as_deref() == Some(b"first"), "{first:?}");
    keys.revoke(&a).await?;
    ensure!(within("the end", steps.chunk()).await?.is_err(), "an answer that was cut seems whole");
    server.stop().await
}
