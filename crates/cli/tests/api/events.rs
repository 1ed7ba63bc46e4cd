//! Followed execs: server-sent events.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::server::Server;
use crate::wait::{PATIENCE, by};

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
}

/// Events as they come.
pub(crate) struct Events {
    response: Response,
    text: Vec<u8>,
}

impl Events {
    /// Reads the body of this answer, which must be an event stream.
    pub(crate) async fn of(response: Response) -> Result<Self> {
        let media_type =
            response.headers().get("content-type").map_or("", |value| value.to_str().unwrap_or(""));
        if !media_type.starts_with("text/event-stream") {
            bail!("{}: {}", response.status(), response.text().await?);
        }
        Ok(Self { response, text: Vec::new() })
    }

    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>> {
        self.next_by(Instant::now() + PATIENCE).await
    }

    async fn next_by(&mut self, deadline: Instant) -> Result<Option<Event>> {
        loop {
            if let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                match parse(std::str::from_utf8(&block)?)? {
                    Some(event) => return Ok(Some(event)),
                    // A heartbeat, which is not what anybody waits for.
                    None => continue,
                }
            }
            let chunk = by(deadline, "an event", self.response.chunk()).await??;
            let Some(chunk) = chunk else { return Ok(None) };
            self.text.extend_from_slice(&chunk);
        }
    }

    /// All that are left.
    pub(crate) async fn rest(mut self) -> Result<Vec<Event>> {
        let deadline = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        loop {
            match self.next_by(deadline).await {
                Ok(Some(event)) => all.push(event),
                Ok(None) => return Ok(all),
                Err(error) => {
                    return Err(error.context(format!("after {} events, {:?}", all.len(), all.last())));
                }
            }
        }
    }
}

fn parse(block: &str) -> Result<Option<Event>> {
    let field = |name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_start)
    };
    let Some(name) = field("event") else { return Ok(None) };
    let data = serde_json::from_str(field("data").context("data")?)?;
    Ok(Some(Event { name: name.to_owned(), id: field("id").unwrap_or_default().to_owned(), data }))
}

/// The text of one output, put together.
fn text_of(events: &[Event], name: &str) -> String {
    let pieces = events.iter().filter(|event| event.name == name);
    pieces.map(|event| event.data["data"].as_str().unwrap_or_default()).collect()
}

async fn follow(server: &Server, sandbox: &str, body: &Value) -> Result<Events> {
    let request = server.request(Method::POST, &format!("{sandbox}/exec?stream=true")).json(body);
    Events::of(request.send().await?).await
}

#[tokio::test]
async fn events_come_in_order_and_live() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let line = "echo one; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo two >&2; echo thr€e; exit 7";
    let mut events = follow(&server, &sandbox, &json!({"shell": line, "exec_id": "live"})).await?;
    let started = events.next().await?.context("started")?;
    ensure!(started.name == "started" && started.data == json!({"exec_id": "live", "replayed": false}));
    let first = events.next().await?.context("stdout")?;
    ensure!(
        first.name == "stdout" && first.data == json!({"data": "one\n", "encoding": "utf-8"}),
        "{first:?}"
    );
    ensure!(first.id == "4-0", "{first:?}");
    // It waits for the file, so the event above came while it ran.
    server.put(&format!("{sandbox}/files?path=/tmp/go"), "").await?.expect(200)?;
    let rest = events.rest().await?;
    ensure!(text_of(&rest, "stdout") == "thr€e\n" && text_of(&rest, "stderr") == "two\n", "{rest:?}");
    let last = rest.last().context("finished")?;
    ensure!(
        last.name == "finished" && last.data["outcome"] == json!({"kind": "exited", "code": 7}),
        "{last:?}"
    );
    ensure!(last.data["stdout"] == "" && last.id == "12-4", "{last:?}");
    server.stop().await
}

#[tokio::test]
async fn bytes_that_are_no_text_come_as_base64() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let events = follow(&server, &sandbox, &json!({"shell": "printf '\\377\\000'"})).await?.rest().await?;
    let output = events.iter().find(|event| event.name == "stdout").context("stdout")?;
    ensure!(output.data == json!({"data": "/wA=", "encoding": "base64"}), "{output:?}");
    server.stop().await
}

#[tokio::test]
async fn a_big_output_comes_whole_although_little_of_it_is_kept() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let body = json!({"shell": "seq 1 300000", "output_limit_bytes": 1000});
    let events = follow(&server, &sandbox, &body).await?.rest().await?;
    let wanted: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    ensure!(text_of(&events, "stdout") == wanted, "the output is not whole");
    server.stop().await
}

#[tokio::test]
async fn a_follower_goes_on_where_it_broke_off() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let line = "echo one; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo two";
    let mut events = follow(&server, &sandbox, &json!({"shell": line, "exec_id": "resumed"})).await?;
    events.next().await?.context("started")?;
    let first = events.next().await?.context("stdout")?;
    drop(events);
    server.put(&format!("{sandbox}/files?path=/tmp/go"), "").await?.expect(200)?;
    let at = format!("{sandbox}/execs/resumed/stream");
    let request = server.request(Method::GET, &at).header("last-event-id", &first.id);
    let rest = Events::of(request.send().await?).await?.rest().await?;
    ensure!(text_of(&rest, "stdout") == "two\n", "{rest:?}");
    ensure!(rest.last().is_some_and(|event| event.name == "finished"), "{rest:?}");
    // From the start, after its end.
    let all = Events::of(server.request(Method::GET, &at).send().await?).await?.rest().await?;
    ensure!(text_of(&all, "stdout") == "one\ntwo\n", "{all:?}");
    let part = server.request(Method::GET, &format!("{at}?stdout_from=2")).send().await?;
    ensure!(text_of(&Events::of(part).await?.rest().await?, "stdout") == "e\ntwo\n");
    server.stop().await
}

#[tokio::test]
async fn what_was_not_kept_is_announced() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let body = json!({"shell": "seq 1 100000", "output_limit_bytes": 1000, "exec_id": "short"});
    server.post(&format!("{sandbox}/exec"), &body).await?.expect(200)?;
    let response = server.request(Method::GET, &format!("{sandbox}/execs/short/stream")).send().await?;
    let events = Events::of(response).await?.rest().await?;
    let skipped = events.iter().find(|event| event.name == "skipped").context("skipped")?;
    ensure!(skipped.data == json!({"stream": "stdout", "bytes": 588_895 - 1000}), "{skipped:?}");
    ensure!(text_of(&events, "stdout").len() == 1000);
    ensure!(events.last().is_some_and(|event| event.id == "588895-0"), "{:?}", events.last());
    server.stop().await
}

#[tokio::test]
async fn deletion_and_death_end_the_stream_with_a_reason() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let mut events = follow(&server, &sandbox, &json!({"argv": ["sleep", "600"]})).await?;
    events.next().await?.context("started")?;
    server.delete(&sandbox).await?.expect(204)?;
    let rest = events.rest().await?;
    let last = rest.last().context("an event")?;
    let told = last.name == "error" && last.data["code"].is_string()
        || last.name == "finished" && last.data["outcome"]["kind"] == "lost";
    ensure!(told, "{last:?}");
    server.stop().await
}
