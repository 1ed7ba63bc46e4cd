//! T01, T08, T09, T10: processes that are too many, too stubborn, or left behind.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use hothouse_domain::{ExecSpec, ExecState, Outcome, Resources};
use reqwest::Method;

use super::VANISH;
use crate::outside;
use crate::scene::{Scene, python};

const CROWD: &str = include_str!("../payloads/crowd.py");
const SURVIVOR: &str = include_str!("../payloads/survivor.py");
const UNDEAD: &str = include_str!("../payloads/undead.py");
const UNREAPED: &str = include_str!("../payloads/unreaped.py");
const UNTERMED: &str = include_str!("../payloads/untermed.py");

const PIDS: u32 = 64;

fn few_processes() -> Resources {
    Resources { pids: PIDS, ..Resources::default() }
}

pub(super) async fn crowd(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for kind in ["fork", "thread"] {
        let id = scene.sandbox(few_processes()).await?;
        let report = scene.python(&id, CROWD, &[kind, "400"]).await?;
        let made = report["made"].as_u64().context("no number")?;
        let held = made < u64::from(PIDS) && report["stopped_by"] == "EAGAIN";
        scene.limited("pids_limit", &format!("{kind}s end at the limit"), held, &report);
    }
    let id = scene.sandbox(few_processes()).await?;
    // The leader starts the bomb and needs no further process itself, so that it is there until its time is up.
    let bomb = "import subprocess\nsubprocess.Popen(['sh', '-c', 'bomb() { bomb | bomb & }; bomb'], stderr=subprocess.DEVNULL)\ntime.sleep(60)";
    let bomb = ExecSpec { timeout_s: Some(1.0), grace_s: Some(0.2), ..python(bomb, &[]) };
    let began = Instant::now();
    let result = scene.exec(&id, bomb).await?;
    let took = began.elapsed();
    scene.found.holds(
        "the bomb is timed out",
        result.outcome == Outcome::TimedOut,
        format!("{:?}", result.outcome),
    );
    scene.found.holds(
        "the answer comes ≤ 1 s after the kill",
        took < Duration::from_millis(2200),
        format!("{took:?}"),
    );
    let left = scene.survivors(&id, VANISH).await?;
    scene.found.holds("nothing is left of the bomb", left == (0, 0), format!("{left:?}"));
    Ok(())
}

pub(super) async fn crowd_unlimited(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for kind in ["fork", "thread"] {
        let id =
            scene.sandbox(Resources { pids: 2000, memory_bytes: 1 << 30, ..Resources::default() }).await?;
        let report = scene.python(&id, CROWD, &[kind, "400"]).await?;
        scene.found.holds("with a high limit the crowd grows", report["made"] == 400, &report);
    }
    Ok(())
}

pub(super) async fn stubborn(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let ignore = "trap '' TERM INT HUP; echo partial; while :; do sleep 60; done";
    let stopped = "echo partial; kill -STOP $$";
    let family = "trap '' TERM; echo partial; for i in 1 2 3 4; do sh -c \"trap '' TERM; kill -STOP \\$\\$\" & done; wait; sleep 60";
    let pause = "echo partial; setsid sh -c \"trap '' TERM; sleep 60\" & kill -STOP $$";
    let ways = [("ignores TERM", ignore), ("stopped", stopped), ("family", family), ("session", pause)];
    scene
        .each(ways, async |scene: &mut Scene<'_>, (name, script)| {
            let id = scene.plain().await?;
            let spec = ExecSpec {
                shell: Some(script.to_owned()),
                timeout_s: Some(0.5),
                grace_s: Some(0.5),
                ..ExecSpec::default()
            };
            let began = Instant::now();
            let result = scene.exec(&id, spec).await?;
            let took = began.elapsed();
            let timed_out = result.outcome == Outcome::TimedOut && result.stdout == "partial\n";
            scene.found.holds(format!("{name}: timed out, output kept"), timed_out, format!("{result:?}"));
            scene.found.holds(
                format!("{name}: ends in time"),
                took < Duration::from_secs(2),
                format!("{took:?}"),
            );
            let left = scene.survivors(&id, VANISH).await?;
            scene.found.holds(format!("{name}: everything is dead"), left == (0, 0), format!("{left:?}"));
            Ok(())
        })
        .await;
    Ok(())
}

pub(super) async fn stubborn_with_term_alone(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    // What `timeout` without --kill-after does: TERM, and hope.
    let report = outside::python(&[], UNTERMED, &[]).await?;
    scene.found.holds("TERM alone does not end it", report["rest"] == "finished\n", &report);
    Ok(())
}

/// A library that starts a daemon in every program that loads it.
const RESPAWNER: &str = r#"cat > /tmp/respawn.c <<'C'
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) static void respawn(void) {
  if (getenv("RESPAWNED")) return;
  setenv("RESPAWNED", "1", 1);
  if (fork() == 0) { setsid(); if (fork() == 0) { signal(SIGTERM, SIG_IGN); execl("/bin/sleep", "sleep", "300", (char *)0); } _exit(0); }
  unsetenv("RESPAWNED");
}
C
cc -shared -fPIC -o /tmp/respawn.so /tmp/respawn.c"#;

const PRELOAD: &str = "LD_PRELOAD";
const WAYS: &[&str] = &["double_fork", "nohup", "subreaper", "respawn", "stopped"];

pub(super) async fn survivors(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let ways = WAYS.iter().chain([&PRELOAD]);
    scene
        .each(ways, async |scene: &mut Scene<'_>, way: &&str| {
            let id = scene.sandbox(Resources { memory_bytes: 1 << 30, ..Resources::default() }).await?;
            let play = if *way == PRELOAD {
                let built = scene.shell(&id, RESPAWNER).await?;
                anyhow::ensure!(built.outcome == (Outcome::Exited { code: 0 }), "no respawner: {built:?}");
                ExecSpec {
                    shell: Some("for i in 1 2 3; do /bin/true; done; echo ready; sleep 60".to_owned()),
                    env: [("LD_PRELOAD".to_owned(), "/tmp/respawn.so".to_owned())].into(),
                    ..ExecSpec::default()
                }
            } else {
                python(SURVIVOR, &[way])
            };
            let spec = ExecSpec { timeout_s: Some(1.0), grace_s: Some(0.2), ..play };
            let result = scene.exec(&id, spec).await?;
            let played = result.outcome == Outcome::TimedOut && result.stdout == "ready\n";
            scene.found.holds(format!("{way}: plays and is timed out"), played, format!("{result:?}"));
            let left = scene.survivors(&id, VANISH).await?;
            scene.found.holds(format!("{way}: no survivors"), left == (0, 0), format!("{left:?}"));
            Ok(())
        })
        .await;
    Ok(())
}

pub(super) async fn survivors_of_the_leader(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    scene
        .each(WAYS, async |scene: &mut Scene<'_>, way: &&str| {
            let id = scene.plain().await?;
            let started = scene.world.api.exec_detached(&id, python(SURVIVOR, &[way])).await?;
            let exec_id = started.exec_id.to_string();
            let until = Instant::now() + Duration::from_secs(10);
            while scene.census(&id).await?.0 < 2 && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let path = format!("/v1/sandboxes/{id}/execs/{exec_id}/signal");
            let body = Bytes::from_static(br#"{"signal": "KILL", "target": "leader"}"#);
            let answer = scene.world.api.send(Method::POST, &path, body).await?;
            scene.found.holds("the signal is sent", answer.status < 300, answer.code());
            while matches!(scene.world.api.exec_status(&id, &exec_id).await?.state, ExecState::Running)
                && Instant::now() < until
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let (alive, _) = scene.census(&id).await?;
            scene.found.holds(format!("{way}: killing the leader alone leaves survivors"), alive > 0, alive);
            Ok(())
        })
        .await;
    Ok(())
}

pub(super) async fn zombies(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.sandbox(Resources { pids: 12_000, memory_bytes: 2 << 30, ..Resources::default() }).await?;
    let report = scene.python(&id, UNDEAD, &["10000"]).await?;
    scene.found.holds("10,000 children are made", report["made"] == 10_000, &report);
    let left = scene.survivors(&id, VANISH).await?;
    scene.found.holds("all are reaped", left == (0, 0), format!("{left:?}"));
    Ok(())
}

pub(super) async fn zombies_unreaped(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let report = outside::python(outside::OWN_PIDS, UNREAPED, &[]).await?;
    let zombies = report["zombies"].as_u64().unwrap_or(0);
    scene.found.holds("under a PID 1 that does not reap they stay", zombies >= 100, &report);
    Ok(())
}
