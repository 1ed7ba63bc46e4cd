//! `shell`: what lasts for an episode, and what forks of a session have of their own.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Served, command, reset, step};
use crate::openenv::code;

#[tokio::test]
async fn a_shell_lives_for_an_episode() -> Result<()> {
    let served = Served::start("shell", &["--step-timeout", "20"])?;
    let mut client = served.connect().await?;
    reset(&mut client).await?;
    let answer = step(
        &mut client,
        json!({"command": "cd /tmp; X=5; export Y=6; f() { echo f$1; }; echo hi > a; false"}),
    )
    .await?;
    let observation = json!({"metadata": {}, "stdout": "", "stderr": "", "exit_code": 1, "cwd": "/tmp"});
    ensure!(answer["data"] == json!({"observation": observation, "reward": 0.0, "done": false}), "{answer}");
    let shown = command(&mut client, "echo $X; sh -c 'echo $Y'; pwd; f 3; cat a; echo no >&2").await?;
    ensure!(shown.is("5\n6\n/tmp\nf3\nhi\n", "no\n", 0), "{shown:?}");
    let state = client.ask(&json!({"type": "state"})).await?;
    ensure!(state["data"]["step_count"] == 2 && state["data"]["last_exit_code"] == 0, "{state}");
    command(&mut client, "sleep 600 & echo $! > /dev/shm/left").await?;
    reset(&mut client).await?;
    let shown = command(&mut client, "pwd; echo x$X; ls -A /tmp /dev/shm; ps ax | grep -c '[s]leep'").await?;
    ensure!(shown.is("/workspace\nx\n/dev/shm:\n\n/tmp:\n0\n", "", 1), "{shown:?}");
    for action in [json!({}), json!({"command": 5}), json!({"command": "true", "timeout_s": 0})] {
        ensure!(code(&step(&mut client, action).await?) == "VALIDATION_ERROR");
    }
    Ok(())
}

#[tokio::test]
async fn what_takes_too_long_or_ends_its_shell_is_told() -> Result<()> {
    let served = Served::start("shell", &[])?;
    let mut client = served.connect().await?;
    command(&mut client, "X=5; cd /tmp; echo kept > f").await?;
    let late = step(&mut client, json!({"command": "while :; do :; done", "timeout_s": 0.3})).await?;
    let observation = &late["data"]["observation"];
    ensure!(observation["exit_code"] == 124 && observation["cwd"] == "/tmp", "{late}");
    ensure!(observation["stderr"].as_str().context("stderr")?.contains("took longer than 300ms"), "{late}");
    ensure!(command(&mut client, "echo $X").await?.stdout == "5\n", "the shell goes on");
    let exit = command(&mut client, "exit 4").await?;
    ensure!(
        exit.exit_code == 4 && exit.stderr.contains("the shell ended; the next step has a fresh one"),
        "{exit:?}"
    );
    let next = command(&mut client, "echo x$X; cat /tmp/f").await?;
    ensure!(next.is("x\nkept\n", "", 0), "files are as they were: {next:?}");
    Ok(())
}

#[tokio::test]
async fn forks_of_a_shell_have_files_of_their_own() -> Result<()> {
    let served = Served::start("shell", &[])?;
    let mut client = served.environment.connect_ours().await?;
    client.ask(&json!({"type": "open"})).await?;
    let set_up = r#"cd /tmp; X="a b'c"; declare -a A=(1 2 "3 4"); readonly R=9; g() { echo "g $X ${A[2]}"; }
        alias ll='ls -l'; set -u; shopt -s extglob; echo 0 > f"#;
    client.ask(&json!({"type": "step", "session": 0, "data": {"command": set_up}})).await?;
    let forked = client.ask(&json!({"type": "fork", "session": 0, "count": 2})).await?;
    ensure!(forked["data"]["sessions"] == json!([1, 2]), "{forked}");
    let mut seen: Vec<Value> = Vec::new();
    for session in [1, 0, 2] {
        let look =
            format!("pwd; g; echo $R; alias ll; shopt -q extglob && echo extglob; cat f; echo {session} > f");
        let answer =
            client.ask(&json!({"type": "step", "session": session, "data": {"command": look}})).await?;
        seen.push(answer["data"]["observation"].clone());
    }
    for observation in seen {
        let stdout = "/tmp\ng a b'c 3 4\n9\nalias ll='ls -l'\nextglob\n0\n";
        let wanted = json!({"metadata": {}, "stdout": stdout, "stderr": "", "exit_code": 0, "cwd": "/tmp"});
        ensure!(observation == wanted, "{observation}");
    }
    // A fork begins anew as any other does, not with the files that it was forked with.
    client.ask(&json!({"type": "reset", "session": 1})).await?;
    let answer =
        client.ask(&json!({"type": "step", "session": 1, "data": {"command": "ls -A /tmp"}})).await?;
    ensure!(answer["data"]["observation"]["stdout"] == "", "{answer}");
    Ok(())
}
