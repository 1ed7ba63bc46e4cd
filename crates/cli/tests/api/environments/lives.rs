//! Sandboxes of sessions: when they are there, and when they end.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Served, run};
use crate::openenv::{Client, Environment};
use crate::process::answer;
use crate::server::Server;
use crate::wait::until;

async fn sandboxes(server: &Server) -> Result<Vec<Value>> {
    let listing = server.get("/v1/sandboxes").await?.expect(200)?.json()?;
    Ok(listing["items"].as_array().context("items")?.clone())
}

/// The id of the sandbox that a client's session is in, by a file that it writes.
async fn sandbox_of(server: &Server, client: &mut Client) -> Result<String> {
    run(client, "open('/tmp/here', 'w').write('1')").await?;
    for sandbox in sandboxes(server).await? {
        let id = sandbox["id"].as_str().context("id")?.to_owned();
        if server.get(&format!("/v1/sandboxes/{id}/files?path=/tmp/here")).await?.status == 200 {
            return Ok(id);
        }
    }
    anyhow::bail!("no sandbox has the file")
}

async fn wait_for_end(server: &Server, id: &str) -> Result<Value> {
    until("the sandbox to end", async || {
        let answer = server.get(&format!("/v1/sandboxes/{id}")).await?;
        if answer.status == 200 {
            return Ok(None);
        }
        Ok(Some(answer.problem(410, "sandbox_ended")?["ending"].clone()))
    })
    .await
}

#[tokio::test]
async fn a_server_of_all_has_sandboxes_for_sessions_from_the_first_one_on() -> Result<()> {
    let server = Server::start().await?;
    ensure!(sandboxes(&server).await?.is_empty(), "none before anybody asks");
    let base = format!("{}/openenv/coding", server.base);
    let mut client = Client::open(&base, "/ws", None).await?;
    let id = sandbox_of(&server, &mut client).await?;
    let info = server.get(&format!("/v1/sandboxes/{id}")).await?.expect(200)?.json()?;
    ensure!(info["spec"]["labels"]["environment"] == "coding" && info["spec"]["network"] == "none", "{info}");
    let ready = || async { Ok((sandboxes(&server).await?.len() == 3).then_some(())) };
    until("two to be ready", ready).await?;
    let schema = server.get("/openenv/shell/schema").await?.expect(200)?.json()?;
    ensure!(schema["action"]["properties"]["command"]["type"] == "string", "{schema}");

    // A client that vanishes in the middle of a step.
    client.say(json!({"type": "step", "data": {"code": "while True: pass"}}).to_string()).await?;
    until("the step to run", async || {
        let contexts = server.get(&format!("/v1/sandboxes/{id}/contexts")).await?.expect(200)?.json()?;
        Ok((contexts["items"][0]["state"] == "busy").then_some(()))
    })
    .await?;
    drop(client);
    let ending = wait_for_end(&server, &id).await?;
    ensure!(ending["cause"] == "session" && ending["by"] == "environment coding", "{ending}");

    // One whose sandbox somebody deletes.
    let mut client = Client::open(&base, "/ws", None).await?;
    let id = sandbox_of(&server, &mut client).await?;
    server.delete(&format!("/v1/sandboxes/{id}")).await?.expect(204)?;
    let lost = client.ask(&json!({"type": "step", "data": {"code": "1"}})).await?;
    ensure!(lost["data"]["message"].as_str().context("message")?.contains("the session is lost"), "{lost}");
    client.closed().await?;
    server.stop().await
}

#[tokio::test]
async fn no_sandbox_of_a_session_outlives_its_server() -> Result<()> {
    let server = Server::start().await?;
    let base = format!("{}/openenv/coding", server.base);
    let mut client = Client::open(&base, "/ws", None).await?;
    let id = sandbox_of(&server, &mut client).await?;
    // One that is nobody's session stays.
    let other = server.sandbox().await?;
    let server = server.killed_and_started_again().await?;
    let ending = wait_for_end(&server, &id).await?;
    ensure!(ending["cause"] == "session" && ending["by"] == "node", "{ending}");
    let left = sandboxes(&server).await?;
    ensure!(left.len() == 1 && other.ends_with(left[0]["id"].as_str().context("id")?), "{left:?}");
    server.stop().await
}

#[tokio::test]
async fn nothing_is_left_of_an_environment_served_by_itself() -> Result<()> {
    let served = Served::start("coding", &["--warm", "2"])?;
    let mut client = served.connect().await?;
    run(&mut client, "x = 1").await?;
    ensure!(served.homes()? == 1);
    served.environment.running.signal("TERM");
    client.closed().await?;
    let Served { environment, home } = served;
    let ended = environment.running.answer();
    ensure!(ended.status == 0, "{ended:?}");
    let embedded = home.path().join("embedded");
    let left = || {
        std::fs::read_dir(&embedded).map(|entries| entries.flatten().filter(|e| e.path().is_dir()).count())
    };
    ensure!(left()? == 0, "of one that was told to end");

    let killed = Served::start_in(&home, "coding", &["--warm", "1"])?;
    let mut client = killed.connect().await?;
    run(&mut client, "x = 1").await?;
    killed.running.signal("KILL");
    drop(killed);
    ensure!(left()? == 1, "of one that was killed");
    let next = Served::start_in(&home, "coding", &[])?;
    ensure!(left()? == 1, "the next one has removed it and has its own");
    next.running.signal("TERM");
    ensure!(next.running.answer().status == 0);
    ensure!(left()? == 0);
    Ok(())
}

#[tokio::test]
async fn what_plays_in_memory_starts_no_node() -> Result<()> {
    let home = tempfile::tempdir()?;
    let path = home.path().join("home");
    let path = path.to_str().context("a path")?;
    let environment = Environment::serve("pong", &["--home", path])?;
    let mut client = environment.connect().await?;
    let reset = client.ask(&json!({"type": "reset", "data": {"seed": 42}})).await?;
    let obs = json!([0.5, 0.5, 0.018176570534706116, 0.008343399502336979, 0.5, 0.5, 0.0, 0.0]);
    ensure!(reset["data"]["observation"]["obs"] == obs, "{reset}");
    ensure!(!home.path().join("home").exists());
    for (flags, said) in [
        (&["pong", "--warm", "3"][..], "pong plays in memory"),
        (&["pong", "--memory", "1G"], "pong plays in memory"),
        (&["shell", "--transform", "none"], "is for coding only"),
        (&["nothing"], "coding, connect4"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hothouse"));
        let refused = answer(command.args(["env", "serve"]).args(flags));
        ensure!(refused.status != 0 && refused.stderr.contains(said), "{flags:?}: {refused:?}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_hothouse"));
    let listed: Value = serde_json::from_str(&answer(command.args(["env", "ls", "--json"])).stdout)?;
    let of = |sandbox: bool| -> Vec<&str> {
        let all = listed.as_array().into_iter().flatten();
        all.filter(|one| one["sandbox"] == sandbox).filter_map(|one| one["name"].as_str()).collect()
    };
    ensure!(of(true) == ["coding", "shell"] && of(false).contains(&"pong"), "{listed}");
    Ok(())
}
