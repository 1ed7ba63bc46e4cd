//! `coding`: what code shows, what it is worth, and what lasts for how long.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Served, Shown, reset, run, step};
use crate::openenv::{Client, code};

#[tokio::test]
async fn python_lives_for_an_episode() -> Result<()> {
    let served = Served::start("coding", &[])?;
    let mut client = served.connect().await?;
    let first = run(&mut client, "x = 1\nx").await?;
    ensure!(first.is("1", "", 0), "before any reset: {first:?}");
    reset(&mut client).await?;
    for (code, stdout) in [
        ("print('Hello, World!')", "Hello, World!\n"),
        ("x = 5 + 3\nprint(f'Result: {x}')", "Result: 8\n"),
        ("x*2", "16"),
        ("print('a')\nx", "a\n\n8"),
        ("{'b': [1, 2.0], 'a': None}", r#"{"b": [1, 2.0], "a": null}"#),
        ("'hé'", r#""h\u00e9""#),
        ("{1: float('inf')}", r#"{"1": Infinity}"#),
        ("2**100", "1267650600228229401496703205376"),
        ("object", "<class 'object'>"),
        ("None", ""),
        ("import sys\nsys.exit(0)", ""),
        ("display({'shown': 1})", "{'shown': 1}\n"),
    ] {
        let shown = run(&mut client, code).await?;
        ensure!(shown.is(stdout, "", 0), "{code}: {shown:?}");
    }
    let failed = run(&mut client, "import sys\nprint('said', file=sys.stderr)\n1/0").await?;
    ensure!(failed.exit_code == 1 && failed.stdout.is_empty(), "{failed:?}");
    ensure!(failed.stderr.starts_with("said\nTraceback (most recent call last):\n"), "{failed:?}");
    ensure!(failed.stderr.ends_with("ZeroDivisionError: division by zero\n"), "{failed:?}");
    let state = client.ask(&json!({"type": "state"})).await?;
    ensure!(state["data"]["last_exit_code"] == 1 && state["data"]["step_count"] == 13, "{state}");
    let exit = run(&mut client, "sys.exit('bye')").await?;
    ensure!(exit.is("", "bye\n", 1), "{exit:?}");

    reset(&mut client).await?;
    let state = client.ask(&json!({"type": "state"})).await?;
    ensure!(state["data"]["last_exit_code"] == 0 && state["data"]["step_count"] == 0, "{state}");
    let gone = run(&mut client, "x").await?;
    ensure!(gone.stderr.contains("NameError"), "{gone:?}");
    for action in [json!({}), json!({"code": 5}), json!({"code": "1", "speed": 2})] {
        ensure!(code(&step(&mut client, action).await?) == "VALIDATION_ERROR");
    }
    Ok(())
}

#[tokio::test]
async fn an_episode_begins_with_nothing_of_the_one_before() -> Result<()> {
    let served = Served::start("coding", &["--warm", "1"])?;
    let mut client = served.connect().await?;
    let node = "import os; os.stat('/').st_dev";
    for (left, look) in [
        ("x = 1", "'x' in globals()"),
        ("open('/tmp/left', 'w').write('1')", "__import__('os').path.exists('/tmp/left')"),
        ("open('/etc/left', 'w').write('1')", "__import__('os').path.exists('/etc/left')"),
        ("open('/dev/shm/left', 'w').write('1')", "__import__('os').path.exists('/dev/shm/left')"),
        (
            "import subprocess\nleft = subprocess.Popen(['sleep', '600'], start_new_session=True)",
            "'sleep' in __import__('subprocess').run(['ps', 'ax'], capture_output=True, text=True).stdout",
        ),
        (
            "import ctypes\nassert ctypes.CDLL(None).shmget(77, 4096, 0o1666) >= 0",
            "__import__('ctypes').CDLL(None).shmget(77, 4096, 0o666) >= 0",
        ),
    ] {
        reset(&mut client).await?;
        let done = run(&mut client, left).await?;
        ensure!(done.exit_code == 0, "{left}: {done:?}");
        let there = run(&mut client, look).await?;
        ensure!(there.stdout == "true", "{left} is seen while it is there: {there:?}");
        reset(&mut client).await?;
        let there = run(&mut client, look).await?;
        ensure!(there.stdout == "false", "{left} is left: {there:?}");
    }
    // What has left nothing but variables goes on in the same sandbox, which is quicker.
    reset(&mut client).await?;
    let before = run(&mut client, node).await?.stdout;
    run(&mut client, "import decimal, asyncio, unittest.mock\nx = 1").await?;
    reset(&mut client).await?;
    let stayed = run(&mut client, node).await?.stdout == before;
    // Where nobody counts processes it is not known that none is left.
    ensure!(stayed || !rustix::process::geteuid().is_root(), "it moved without need");

    let fresh = Served::start("coding", &["--warm", "1", "--resets", "fresh"])?;
    let mut client = fresh.connect().await?;
    let before = run(&mut client, node).await?.stdout;
    reset(&mut client).await?;
    ensure!(run(&mut client, node).await?.stdout != before, "each in a sandbox of its own");
    Ok(())
}

/// What the first clients' servers answered, one session for all of them.
#[tokio::test]
async fn the_first_clients_find_what_they_know() -> Result<()> {
    let served = Served::start("coding", &["--era", "seed"])?;
    let environment = &served.environment;
    let step = async |code: &str| -> Result<Value> {
        let body = json!({"action": {"code": code}, "timeout_s": 15});
        let (status, answer) = environment.post("/step", &body).await?;
        ensure!(status == 200, "{code}: {status} {answer}");
        Ok(answer)
    };
    let shown = |stdout: &str| json!({"observation": {"stdout": stdout, "stderr": "", "exit_code": 0}, "reward": 0.0, "done": false});
    ensure!(environment.post("/reset", &json!({})).await?.1 == shown(""));
    for (code, stdout) in [
        ("print('Hello, World!')", "Hello, World!\n"),
        ("x = 5 + 3\nprint(f'Result: {x}')", "Result: 8\n"),
        ("x*2", ""),
        ("print(x)", "8\n"),
        ("{'a':[1,2]}", ""),
        ("class A:\n    def __init__(self):\n        self.v=1\na=A()\na.v", ""),
        ("print('a');print('b')", "a\nb\n"),
    ] {
        let answer = step(code).await?;
        ensure!(answer == shown(stdout), "{code}: {answer}");
    }
    for code in ["1/0", "print(undef)", "print('Hello'", "raise ValueError('boom')"] {
        let answer = step(code).await?;
        ensure!(
            answer["observation"]["exit_code"] == 1 && answer["reward"] == json!(0.0),
            "{code}: {answer}"
        );
    }
    let state = environment.get("/state").await?.1;
    ensure!(state["step_count"] == 11 && state["last_exit_code"] == 1, "{state}");
    ensure!(environment.post("/reset", &json!({})).await?.1 == shown(""));
    ensure!(step("print(x)").await? == shown("8\n"), "variables outlive a reset");
    Ok(())
}

#[tokio::test]
async fn code_is_worth_what_it_looks_like() -> Result<()> {
    let served = Served::start("coding", &[])?;
    let mut client = served.connect().await?;
    let long = "#".repeat(120);
    for (code, reward, violation) in [
        ("print('Hello')".to_owned(), 0.1, None),
        (format!("{long}\nprint(1)"), 0.0, None),
        ("1/0".to_owned(), 0.1, None),
        ("print('Hello'".to_owned(), -0.1, None),
        (format!("{long}\nprint('Hello'"), -0.2, None),
        ("if True:\nx".to_owned(), -0.1, None),
        // Python, although it cannot be compiled; and Python that finds what is none when it runs.
        ("return 5".to_owned(), 0.1, None),
        ("compile('1 +', 'x', 'eval')".to_owned(), 0.1, None),
        ("import os".to_owned(), -0.9, Some(r"import\s+os")),
        (format!("import os\n{long}"), -1.0, Some(r"import\s+os")),
        ("# eval(\nprint(1)".to_owned(), -0.9, Some(r"eval\(")),
        ("open('/etc/passwd').read()[:0]".to_owned(), -0.9, Some(r"open\(")),
    ] {
        let answer = step(&mut client, json!({"code": code})).await?;
        ensure!(answer["data"]["reward"].as_f64() == Some(reward), "{code}: {answer}");
        let mut metadata = json!({"last_code": code});
        if let Some(violation) = violation {
            metadata["safety_violation"] = violation.into();
        }
        ensure!(answer["data"]["metadata"] == metadata, "{code}: {answer}");
    }
    let plain = Served::start("coding", &["--transform", "none"])?;
    let mut client = plain.connect().await?;
    let answer = step(&mut client, json!({"code": "import os"})).await?;
    ensure!(answer["data"]["reward"].as_f64() == Some(0.0), "{answer}");
    Ok(())
}

/// Recordings of the server whose clients are served. They are not ours to ship; they are looked for beside the
/// repository or where `HOTHOUSE_SHARED` says.
fn recorded(test: &str) -> Result<Option<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("the root")?;
    let shared = std::env::var_os("HOTHOUSE_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let path = shared.join("data/openenv/ws_0.10_coding.txt");
    if let Ok(text) = std::fs::read_to_string(&path) {
        return Ok(Some(text));
    }
    let reason = format!("data: {test}: no {}; set HOTHOUSE_SHARED", path.display());
    if let Some(skips) = std::env::var_os("HOTHOUSE_SKIPS") {
        let mut skips = std::fs::File::options().append(true).create(true).open(skips)?;
        writeln!(skips, "{reason}")?;
    }
    Ok(None)
}

#[tokio::test]
async fn recorded_code_shows_and_is_worth_the_same() -> Result<()> {
    let Some(text) = recorded("recorded_code_shows_and_is_worth_the_same")? else { return Ok(()) };
    let served = Served::start("coding", &[])?;
    let mut client = served.connect().await?;
    reset(&mut client).await?;
    let mut compared = 0;
    for line in text.lines() {
        // What is not a step, or was cut.
        let Some((_, answer)) = line.split_once(" -> ") else { continue };
        let Ok(recorded) = serde_json::from_str::<Value>(answer) else { continue };
        let Some(code) = recorded["data"]["metadata"]["last_code"].as_str() else { continue };
        let there = Shown::of(&recorded).context("an observation")?;
        let here = step(&mut client, json!({"code": code})).await?;
        ensure!(here["data"]["metadata"] == recorded["data"]["metadata"], "{code}: {here}");
        let here = Shown::of(&here).context("an observation")?;
        ensure!(here.reward == there.reward, "{code}: {here:?}");
        if there.exit_code == 0 {
            ensure!(here == there, "{code}: {here:?}, recorded {there:?}");
        }
        compared += 1;
    }
    ensure!(compared >= 12, "only {compared} recordings were found");
    Ok(())
}

/// What code of one of a connection's sessions writes.
async fn run_in(client: &mut Client, session: u32, code: &str) -> Result<String> {
    let answer = client.ask(&json!({"type": "step", "session": session, "data": {"code": code}})).await?;
    Ok(answer["data"]["observation"]["stdout"].as_str().with_context(|| answer.to_string())?.to_owned())
}

#[tokio::test]
async fn forks_of_a_session_have_variables_of_their_own_and_files_in_common() -> Result<()> {
    let served = Served::start("coding", &[])?;
    let mut client = served.environment.connect_ours().await?;
    client.ask(&json!({"type": "open"})).await?;
    run_in(&mut client, 0, "x = [1]\nopen('/tmp/f', 'w').write('0')").await?;
    let forked = client.ask(&json!({"type": "fork", "session": 0, "count": 2})).await?;
    ensure!(forked["data"]["sessions"] == json!([1, 2]), "{forked}");
    let kept = client.ask(&json!({"type": "checkpoint", "session": 1})).await?;
    for session in 0..3 {
        run_in(&mut client, session, &format!("x.append({session})")).await?;
    }
    for session in 0..3 {
        let seen = run_in(&mut client, session, "x").await?;
        ensure!(seen == format!("[1, {session}]"), "session {session}: {seen}");
    }
    run_in(&mut client, 1, "open('/tmp/f', 'w').write('one')").await?;
    ensure!(run_in(&mut client, 2, "open('/tmp/f').read()").await? == "\"one\"", "files are in common");
    // One that begins anew moves out; what the others have stays.
    client.ask(&json!({"type": "reset", "session": 1})).await?;
    let checkpoint = json!({"checkpoint_id": kept["data"]["checkpoint_id"]});
    client.ask(&json!({"type": "restore", "session": 2, "data": checkpoint})).await?;
    let look = "('x' in globals() and x, __import__('os').path.exists('/tmp/f'))";
    let mut seen = Vec::new();
    for session in 0..3 {
        seen.push(run_in(&mut client, session, look).await?);
    }
    ensure!(seen == ["[[1, 0], true]", "[false, false]", "[[1], true]"], "{seen:?}");
    Ok(())
}
