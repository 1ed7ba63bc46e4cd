//! Shell sessions over the API.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::server::Server;
use crate::wait::until;

#[tokio::test]
async fn a_shell_keeps_its_directory_and_variables() -> Result<()> {
    let server = Server::start().await?;
    let shells = format!("{}/shells", server.sandbox().await?);
    let info =
        server.post(&shells, &json!({"shell_id": "mine", "env": {"A": "1"}})).await?.expect(201)?.json()?;
    ensure!(info["shell_id"] == "mine" && info["busy"] == false, "{info}");
    server.post(&shells, &json!({"shell_id": "mine"})).await?.problem(409, "shell_exists")?;
    let run = async |command: &str| {
        let body = json!({"command": command, "timeout_s": 10});
        server.post(&format!("{shells}/mine/run"), &body).await?.expect(200)?.json()
    };
    let result = run("cd /tmp; B=$((A+1)); false").await?;
    ensure!(result["outcome"] == json!({"kind": "exited", "code": 1}), "{result}");
    let result = run("echo $PWD $A $B").await?;
    ensure!(result["stdout"] == "/tmp 1 2\n", "{result}");
    server.delete(&format!("{shells}/mine")).await?.expect(204)?;
    let body = json!({"command": "true"});
    server.post(&format!("{shells}/mine/run"), &body).await?.problem(404, "shell_not_found")?;
    server.delete(&format!("{shells}/mine")).await?.problem(404, "shell_not_found")?;
    let none = server.get(&shells).await?.expect(200)?.json()?;
    ensure!(none == json!({"items": []}), "{none}");
    server.stop().await
}

#[tokio::test]
async fn a_busy_shell_says_so_and_can_be_interrupted() -> Result<()> {
    let server = Server::start().await?;
    let shells = format!("{}/shells", server.sandbox().await?);
    let info = server.post_nothing(&shells).await?.expect(201)?.json()?;
    let mine = format!("{shells}/{}", info["shell_id"].as_str().context("shell_id")?);
    let body = json!({"command": "sleep 600; echo not here"});
    let run_path = format!("{mine}/run");
    let long = server.post(&run_path, &body);
    let interrupting = async {
        until("the shell to be busy", async || {
            let listing = server.get(&shells).await?.expect(200)?.json()?;
            Ok((listing["items"][0]["busy"] == true).then_some(()))
        })
        .await?;
        server.post(&run_path, &json!({"command": "true"})).await?.problem(409, "shell_busy")?;
        server.post_nothing(&format!("{mine}/interrupt")).await?.expect(204)
    };
    let (result, interrupted) = tokio::join!(long, interrupting);
    interrupted?;
    let result = result?.expect(200)?.json()?;
    ensure!(result["outcome"]["code"] == 130 || result["outcome"]["kind"] == "signalled", "{result}");
    let after = server.post(&run_path, &json!({"command": "echo still here"})).await?.expect(200)?.json()?;
    ensure!(after["stdout"] == "still here\n", "{after}");
    server.stop().await
}

#[tokio::test]
async fn a_command_of_a_shell_can_be_followed() -> Result<()> {
    let server = Server::start().await?;
    let shells = format!("{}/shells", server.sandbox().await?);
    server.post(&shells, &json!({"shell_id": "s"})).await?.expect(201)?;
    let request = server.request(reqwest::Method::POST, &format!("{shells}/s/run?stream=1"));
    let response = request.json(&json!({"command": "echo a; echo b >&2"})).send().await?;
    let events = crate::events::Events::of(response).await?.rest().await?;
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    ensure!(names.first() == Some(&"started") && names.last() == Some(&"finished"), "{names:?}");
    ensure!(names.contains(&"stdout") && names.contains(&"stderr"), "{names:?}");
    server.stop().await
}
