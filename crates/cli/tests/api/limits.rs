//! What one server takes at most: a server in this process, with limits small enough to reach.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hothouse_domain::SandboxSpec;
use hothouse_fleet::Fleet;
use hothouse_sandbox::native::WhenOrphaned;
use hothouse_sandbox::node::AtShutdown;
use hothouse_sandbox::{Node, NodeOptions};
use hothouse_server::dialects::openenv::Openenv;
use hothouse_server::{Server, ServerLimits, ServerOptions};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::server::{own_cgroup, send};
use crate::wait::{client, until, within};

/// A server in this process.
struct Small {
    node: Node,
    address: SocketAddr,
    client: reqwest::Client,
    shutdown: CancellationToken,
    serving: JoinSet<()>,
    _home: TempDir,
}

impl Small {
    async fn start(limits: ServerLimits) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let options = NodeOptions {
            home: home.path().join("home"),
            spawner: Path::new(env!("CARGO_BIN_EXE_hothouse")).to_path_buf(),
            cgroup: own_cgroup(),
            max_sandboxes: 2,
            capacity: BTreeMap::new(),
            min_free_memory: 0,
            reclaim_below: 0,
            images: hothouse_sandbox::ImageLimits::default(),
            when_orphaned: WhenOrphaned::End,
        };
        let node = within("a node", Box::pin(Node::start(options))).await??;
        let fleet = Fleet::start(node.clone(), &home.path().join("home")).await?;
        let options = ServerOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            keys: None,
            tls: None,
            insecure: false,
            limits,
            environments: Openenv::default(),
        };
        let server = Server::bind(fleet, options).await?;
        let address = server.local_addr();
        let shutdown = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(server.serve(shutdown.clone()));
        Ok(Self { node, address, client: client()?, shutdown, serving, _home: home })
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    async fn sandbox(&self) -> Result<String> {
        let sandbox = within("a sandbox", self.node.create(SandboxSpec::default())).await??;
        Ok(format!("/v1/sandboxes/{}", sandbox.id()))
    }

    async fn raw(&self, text: &str) -> Result<TcpStream> {
        let sent = async {
            let mut socket = TcpStream::connect(self.address).await?;
            socket.write_all(text.as_bytes()).await?;
            Ok(socket)
        };
        within("a request to be taken", sent).await?
    }

    async fn stop(mut self) -> Result<()> {
        self.shutdown.cancel();
        let served = async { while self.serving.join_next().await.is_some() {} };
        within("the server to end", served).await?;
        within("the node to end", self.node.shutdown(AtShutdown::Destroy)).await
    }
}

async fn rest(mut socket: TcpStream) -> Result<String> {
    let mut bytes = Vec::new();
    let read = within("the connection to end", socket.read_to_end(&mut bytes)).await?;
    // A reset after the answer is an end too.
    drop(read);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() -> Result<()> {
    let server = Small::start(ServerLimits { max_connections: 2, ..ServerLimits::default() }).await?;
    let ask = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut socket = server.raw(ask).await?;
        let mut byte = [0];
        within("an answer", socket.read_exact(&mut byte)).await??;
        held.push(socket);
    }
    let told = rest(server.raw(ask).await?).await?;
    ensure!(told.starts_with("HTTP/1.1 429 ") && told.contains("\"limit_exceeded\""), "{told}");
    held.pop();
    until("a free place", async || {
        let mut socket = server.raw(ask).await?;
        let mut start = [0; 12];
        within("an answer", socket.read_exact(&mut start)).await??;
        Ok((&start == b"HTTP/1.1 200").then_some(()))
    })
    .await?;
    server.stop().await
}

#[tokio::test]
async fn one_follower_too_many_is_told_so() -> Result<()> {
    let server = Small::start(ServerLimits { max_streams: 1, ..ServerLimits::default() }).await?;
    let exec = format!("{}/exec?stream=true", server.sandbox().await?);
    let body = json!({"argv": ["sleep", "600"]});
    let first = server.request(Method::POST, &exec).json(&body).send().await?;
    let mut events = Events::of(first).await?;
    events.next().await?.context("started")?;
    let second = send(server.request(Method::POST, &exec).json(&body)).await?;
    second.problem(429, "limit_exceeded")?;
    ensure!(second.header("retry-after") == "1");
    drop(events);
    until("a free place", async || {
        let body = json!({"argv": ["true"]});
        let again = server.request(Method::POST, &exec).json(&body).send().await?;
        Ok((again.status() == 200).then_some(()))
    })
    .await?;
    server.stop().await
}

#[tokio::test]
async fn a_full_node_is_told() -> Result<()> {
    let server = Small::start(ServerLimits::default()).await?;
    for _ in 0..2 {
        server.sandbox().await?;
    }
    let third = send(server.request(Method::POST, "/v1/sandboxes")).await?;
    let full = third.problem(429, "capacity_exceeded")?;
    ensure!(
        full["detail"].as_str().is_some_and(|text| text.contains("2 sandboxes") && text.contains("wait_s"))
    );
    ensure!(third.header("retry-after") == "1");
    server.stop().await
}

#[tokio::test]
async fn bodies_over_the_limit_are_413_announced_or_not() -> Result<()> {
    let limits =
        ServerLimits { json_bytes: 1000, file_bytes: 1000, patch_bytes: 1000, ..ServerLimits::default() };
    let server = Small::start(limits).await?;
    let sandbox = server.sandbox().await?;
    let json_body = json!({"shell": "x".repeat(1001)}).to_string();
    for (method, path, media_type) in [
        (Method::POST, "/exec", "application/json"),
        (Method::PUT, "/files?path=/tmp/x", "application/octet-stream"),
        (Method::POST, "/patch?path=/tmp", "text/x-diff"),
    ] {
        let path = format!("{sandbox}{path}");
        let request = || server.request(method.clone(), &path).header("content-type", media_type);
        let announced = send(request().body(json_body.clone())).await?;
        ensure!(announced.problem(413, "too_large")?["field"] == "body", "{path}");
        let chunk = std::io::Result::Ok(json_body.clone());
        let stream = reqwest::Body::wrap_stream(futures::stream::iter([chunk]));
        send(request().body(stream)).await?.problem(413, "too_large").with_context(|| path.clone())?;
    }
    send(server.request(Method::GET, &format!("{sandbox}/files/stat?path=/tmp/x")))
        .await?
        .problem(404, "file_not_found")?;
    let fits = server.request(Method::PUT, &format!("{sandbox}/files?path=/tmp/x")).body("y".repeat(1000));
    send(fits).await?.expect(200)?;
    server.stop().await
}

#[tokio::test]
async fn slow_heads_and_bodies_are_ended() -> Result<()> {
    let brief = Duration::from_millis(200);
    let limits = ServerLimits { head_timeout: brief, body_timeout: brief, ..ServerLimits::default() };
    let server = Small::start(limits).await?;
    let sandbox = server.sandbox().await?;
    // A head that never ends: closed.
    rest(server.raw("GET /healthz HTTP/1.1\r\nHost: local").await?).await?;
    // Bodies that never end: told so.
    for (method, path) in
        [("POST", "/exec"), ("PUT", "/files?path=/tmp/slow"), ("PUT", "/archive?path=/tmp/tree")]
    {
        let head = format!(
            "{method} {sandbox}{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: 100\r\nConnection: close\r\n\r\n{{"
        );
        let told = rest(server.raw(&head).await?).await?;
        ensure!(told.starts_with("HTTP/1.1 408 ") && told.contains("\"timed_out\""), "{path}: {told:?}");
    }
    // One that pauses less than that is taken, however long it takes as a whole.
    let pieces = futures::stream::unfold(0, |count| async move {
        if count == 8 {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        Some((std::io::Result::Ok("piece"), count + 1))
    });
    let path = format!("{sandbox}/files?path=/tmp/slow");
    let request = server.request(Method::PUT, &path).body(reqwest::Body::wrap_stream(pieces));
    ensure!(send(request).await?.expect(200)?.json()?["size"] == 40);
    server.stop().await
}

#[tokio::test]
async fn an_upload_that_breaks_off_changes_nothing() -> Result<()> {
    let server = Small::start(ServerLimits::default()).await?;
    let sandbox = server.sandbox().await?;
    let path = format!("{sandbox}/files?path=/tmp/kept");
    send(server.request(Method::PUT, &path).body("old")).await?.expect(200)?;
    let head =
        format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nnew but not all");
    drop(server.raw(&head).await?);
    let list = format!("{sandbox}/files/list?path=/tmp");
    until("the upload's traces to be gone", async || {
        let listing = send(server.request(Method::GET, &list)).await?.expect(200)?.json()?;
        Ok((listing["items"].as_array().map(Vec::len) == Some(1)).then_some(()))
    })
    .await?;
    ensure!(send(server.request(Method::GET, &path)).await?.expect(200)?.bytes == b"old");
    server.stop().await
}

#[tokio::test]
async fn the_grace_ends() -> Result<()> {
    let limits = ServerLimits { grace: Duration::from_millis(100), ..ServerLimits::default() };
    let server = Small::start(limits).await?;
    let exec = format!("{}/exec", server.sandbox().await?);
    let request =
        server.request(Method::POST, &exec).json(&json!({"argv": ["sleep", "600"], "exec_id": "long"}));
    let mut asking = JoinSet::new();
    asking.spawn(request.send());
    until("the command to run", async || {
        let path = exec.replace("/exec", "/execs/long");
        let answer = send(server.request(Method::GET, &path)).await?;
        Ok((answer.status == 200).then_some(()))
    })
    .await?;
    server.stop().await?;
    let cut_off = within("the request to end", asking.join_next()).await?.context("the request")??;
    ensure!(cut_off.is_err(), "it was answered although its command runs on");
    Ok(())
}
