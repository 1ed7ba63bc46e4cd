//! Clients that ask too early, too much at once, what cannot be read, or are gone before the answer.

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Served, Shown, command, reset};
use crate::openenv::{Client, Environment, code};
use crate::wait::within;

#[tokio::test]
async fn what_is_asked_during_a_step_is_done_after_it_in_order() -> Result<()> {
    let served = Served::start("shell", &[])?;
    let mut client = served.connect().await?;
    reset(&mut client).await?;
    for said in [
        r#"{"type":"step","data":{"command":"sleep 0.2; echo first > mark; echo first"}}"#,
        r#"{"type":"reset"}"#,
        r#"{"type":"reset","data":{"seed":1}}"#,
        r#"{"type":"step","data":{"command":"cat mark || echo none"}}"#,
        r#"{"type":"state"}"#,
    ] {
        client.say(said).await?;
    }
    let first = client.hear().await?;
    assert_eq!(Shown::of(&first).context("an observation")?.stdout, "first\n");
    for _ in 0..2 {
        let begun = client.hear().await?;
        assert!(Shown::of(&begun).is_some_and(|shown| shown.is("", "", 0)), "{begun}");
    }
    let last = client.hear().await?;
    assert_eq!(
        Shown::of(&last).context("an observation")?.stdout,
        "none\n",
        "the episode of the step is over"
    );
    assert_eq!(client.hear().await?["data"]["step_count"], 1);
    Ok(())
}

#[tokio::test]
async fn many_sessions_at_once_over_one_shared_http_session_are_one_after_the_other() -> Result<()> {
    let environment = Environment::serve("grid_world", &["--http-session", "shared"])?;
    environment.post("/reset", &json!({})).await?;
    let resets = try_join_all((0..20).map(async |_| environment.post("/reset", &json!({})).await));
    assert!(resets.await?.iter().all(|(status, _)| *status == 200));
    let up = json!({"action": {"action": "UP"}});
    let steps = try_join_all((0..20).map(async |_| environment.post("/step", &up).await)).await?;
    assert!(steps.iter().all(|(status, _)| *status == 200), "{steps:?}");
    assert_eq!(environment.get("/state").await?.1["step_count"], 20, "none is lost, none is counted twice");
    Ok(())
}

#[tokio::test]
async fn a_client_that_vanishes_during_a_step_leaves_its_place() -> Result<()> {
    let flags = ["--capacity", "1", "--queue", "4", "--wait", "60", "--step-timeout", "300"];
    let served = Served::start("shell", &flags)?;
    let mut gone = served.connect().await?;
    reset(&mut gone).await?;
    gone.say(r#"{"type":"step","data":{"command":"sleep 250"}}"#).await?;
    drop(gone);
    let mut next = served.connect().await?;
    reset(&mut next).await?;
    assert!(command(&mut next, "pgrep sleep || echo nothing").await?.is("nothing\n", "", 0));
    Ok(())
}

#[tokio::test]
async fn a_thousand_clients_that_come_at_once_all_play() -> Result<()> {
    let environment = Environment::serve("echo", &["--capacity", "1000"])?;
    let one = async |number: usize| -> Result<Client> {
        let mut client = environment.connect().await?;
        let message = format!("I am {number}");
        let heard = client.ask(&json!({"type": "step", "data": {"message": message}})).await?;
        assert_eq!(heard["data"]["observation"]["echoed_message"], message);
        Ok(client)
    };
    let clients: Vec<Client> =
        futures::stream::iter(0..1000).map(one).buffer_unordered(1000).try_collect().await?;
    let mut late = environment.connect().await?;
    assert_eq!(code(&late.hear().await?), "CAPACITY_REACHED");
    drop(clients);
    // All of them gone at once: each place is free again.
    let again: Vec<Client> = futures::stream::iter(0..1000)
        .map(async |number| {
            loop {
                match one(number).await {
                    Err(error) if error.to_string().contains("ended") => {}
                    done => break done,
                }
            }
        })
        .buffer_unordered(50)
        .try_collect()
        .await?;
    assert_eq!(again.len(), 1000);
    Ok(())
}

#[tokio::test]
async fn a_text_that_is_no_utf_8_ends_its_session_alone() -> Result<()> {
    let environment = Environment::serve("echo", &[])?;
    let mut other = environment.connect().await?;
    let address = environment.base.strip_prefix("http://").context("an address")?;
    let mut socket = TcpStream::connect(address).await?;
    let upgrade = format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: aG90aG91c2UgbWVhc3VyZQ==\r\n\r\n"
    );
    socket.write_all(upgrade.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("the head", socket.read_u8()).await??);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    // A whole text, masked with zeros, of two bytes that no UTF-8 has.
    socket.write_all(&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe]).await?;
    let mut heard = Vec::new();
    within("the end", socket.read_to_end(&mut heard)).await??;
    assert_eq!(
        (heard[0], &heard[2..4]),
        (0x88, &1007_u16.to_be_bytes()[..]),
        "a close frame, and why: {heard:?}"
    );
    assert_eq!(other.ask(&json!({"type": "reset"})).await?["type"], "observation");
    Ok(())
}
