//! Code that means no good harms its own session's step, and nobody else.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Served, command, run};
use crate::openenv::Client;

/// That a session of somebody else goes on.
async fn check(neighbour: &mut Client) -> Result<()> {
    let shown = run(neighbour, "mine + 1").await?;
    ensure!(shown.is("8", "", 0), "{shown:?}");
    Ok(())
}

#[tokio::test]
async fn two_sessions_see_nothing_of_each_other() -> Result<()> {
    let served = Served::start("coding", &[])?;
    let (mut one, mut other) = (served.connect().await?, served.connect().await?);
    let left = "secret = 7\nopen('/tmp/secret', 'w').write('7')\nopen('/dev/shm/secret', 'w').write('7')\n\
                import subprocess\nchild = subprocess.Popen(['sleep', '601'])";
    ensure!(run(&mut one, left).await?.exit_code == 0);
    let look = "import os, subprocess\n[os.path.exists('/tmp/secret'), os.path.exists('/dev/shm/secret'), 'secret' in globals(),\n\
                '601' in subprocess.run(['ps', 'ax'], capture_output=True, text=True).stdout]";
    // What finds it where it is finds nothing where it is not.
    ensure!(run(&mut one, look).await?.stdout == "[true, true, true, true]");
    let shown = run(&mut other, look).await?;
    ensure!(shown.stdout == "[false, false, false, false]", "{shown:?}");
    let network = "import socket\ntry:\n    socket.create_connection(('127.0.0.1', PORT), 1)\nexcept OSError as e:\n    print(type(e).__name__)";
    let port = served.environment.base.rsplit(':').next().context("a port")?;
    let shown = run(&mut other, &network.replace("PORT", port)).await?;
    ensure!(shown.stdout == "ConnectionRefusedError\n", "{shown:?}");
    Ok(())
}

#[tokio::test]
async fn endless_code_is_interrupted_and_its_session_goes_on() -> Result<()> {
    let served = Served::start("coding", &["--step-timeout", "1"])?;
    let (mut client, mut neighbour) = (served.connect().await?, served.connect().await?);
    run(&mut neighbour, "mine = 7").await?;
    run(&mut client, "x = 5").await?;
    let shown = run(&mut client, "while True: pass").await?;
    ensure!(
        shown.exit_code == 1 && shown.stderr.contains("took longer than 1s and was interrupted"),
        "{shown:?}"
    );
    ensure!(run(&mut client, "x").await?.stdout == "5", "it gave way, so that nothing is lost");
    let stubborn = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass";
    let shown = run(&mut client, stubborn).await?;
    ensure!(shown.exit_code == 1 && shown.stderr.contains("the interpreter ended"), "{shown:?}");
    ensure!(shown.stderr.contains("the next step has a fresh one"), "{shown:?}");
    ensure!(run(&mut client, "'x' in globals()").await?.stdout == "false");
    check(&mut neighbour).await
}

#[tokio::test]
async fn an_interpreter_that_ends_is_followed_by_a_fresh_one() -> Result<()> {
    let served = Served::start("coding", &["--memory", "128M"])?;
    let (mut client, mut neighbour) = (served.connect().await?, served.connect().await?);
    run(&mut neighbour, "mine = 7").await?;
    run(&mut client, "open('/tmp/kept', 'w').write('k')").await?;
    for (code, why) in [
        ("import os\nos._exit(3)", "it exited with status 3"),
        ("import os\nos.kill(os.getpid(), 11)", "signal 11 ended it"),
        ("x = b'x' * (1 << 30)", "the sandbox's memory limit ended it"),
        ("x = []\nwhile True: x.append(b'x' * (1 << 20))", "the sandbox's memory limit ended it"),
    ] {
        if why.contains("memory") && !rustix::process::geteuid().is_root() {
            continue;
        }
        let shown = run(&mut client, code).await?;
        let said = format!("the interpreter ended: {why}; the next step has a fresh one");
        ensure!(shown.exit_code == 1 && shown.stderr.contains(&said), "{code}: {shown:?}");
        let shown = run(&mut client, "open('/tmp/kept').read()").await?;
        ensure!(shown.is("\"k\"", "", 0), "{code}: {shown:?}");
        check(&mut neighbour).await?;
    }
    // One that ends between two steps is told of by the next.
    run(&mut client, "import os, threading\nthreading.Timer(0.05, os._exit, [4]).start()").await?;
    let ended = crate::wait::until("the interpreter to end", async || {
        let shown = run(&mut client, "1").await?;
        Ok((shown.exit_code == 1).then_some(shown))
    });
    ensure!(ended.await?.stderr.contains("status 4"), "it says why");
    ensure!(run(&mut client, "1").await?.is("1", "", 0));
    Ok(())
}

#[tokio::test]
async fn bombs_in_a_step_reach_no_other_session() -> Result<()> {
    let served = Served::start("coding", &["--step-timeout", "3"])?;
    let (mut client, mut neighbour) = (served.connect().await?, served.connect().await?);
    run(&mut neighbour, "mine = 7").await?;
    for bomb in [
        "import os\nwhile True:\n  try: os.fork()\n  except BaseException: pass",
        "import os\nif os.fork() == 0:\n  os.setsid()\n  while True:\n    try: os.fork()\n    except BaseException: pass",
        "import threading\ndef more():\n  while True: threading.Thread(target=more).start()\nmore()",
    ] {
        run(&mut client, bomb).await?;
        check(&mut neighbour).await?;
        // Whatever it has left, the next episode is clean.
        super::reset(&mut client).await?;
        let shown =
            run(&mut client, "import os\nlen([p for p in os.listdir('/proc') if p.isdigit()]) < 8").await?;
        ensure!(shown.stdout == "true", "{bomb}: {shown:?}");
    }
    let shells = Served::start("shell", &["--step-timeout", "10"])?;
    let (mut client, mut neighbour) = (shells.connect().await?, shells.connect().await?);
    command(&mut client, ":(){ :|:& };:").await?;
    ensure!(command(&mut neighbour, "echo fine").await?.is("fine\n", "", 0));
    super::reset(&mut client).await?;
    ensure!(command(&mut client, "echo fine").await?.is("fine\n", "", 0));
    Ok(())
}

#[tokio::test]
async fn what_is_shown_is_bounded() -> Result<()> {
    let served = Served::start("coding", &[])?;
    let mut client = served.connect().await?;
    let shown = run(&mut client, "print('x' * (20 << 20))").await?;
    ensure!(shown.stdout.len() <= 2 << 20, "{} bytes", shown.stdout.len());
    ensure!(shown.stderr.contains("bytes were left out of the middle of stdout"), "{}", shown.stderr);
    let shown = run(&mut client, "'x' * (20 << 20)").await?;
    ensure!(shown.stdout.len() <= 2 << 20 && shown.exit_code == 0, "{} bytes", shown.stdout.len());
    let shown = run(&mut client, "import os\nos.write(1, b'\\xff\\xfe')\nNone").await?;
    ensure!(shown.stdout == "\u{fffd}\u{fffd}", "{shown:?}");
    let action = json!({"type": "step", "data": {"code": "#".repeat(2 << 20)}});
    let refused = client.ask(&action).await?;
    ensure!(crate::openenv::code(&refused) == "EXECUTION_ERROR", "{refused}");
    ensure!(run(&mut client, "1").await?.is("1", "", 0));
    Ok(())
}
