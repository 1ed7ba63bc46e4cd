//! T31: PID 1 of the sandbox as the victim.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use hothouse_domain::{ExecSpec, Resources};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};

use crate::host;
use crate::scene::{Scene, python};

const STARVE: &str = include_str!("../payloads/starve.py");
const HUNGER: &str = include_str!("../payloads/hunger.py");

/// A dead sandbox says so within this; it never hangs.
const PROMPT: Duration = Duration::from_secs(5);

pub(super) async fn attack(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    let report = scene.python(&id, STARVE, &[]).await?;
    // It may make the guest the OOM killer's first choice; that ends its own sandbox, see below.
    for what in ["prlimit", "nice", "affinity", "fds"] {
        let refused = matches!(report[what].as_str(), Some("EPERM" | "EACCES" | "ESRCH" | "ENOENT"));
        scene.found.holds(format!("{what} of PID 1 is refused"), refused, &report);
    }
    answers(scene, &id, "after signals to PID 1").await?;

    // Everything at its limit at once: memory, processes, descriptors.
    let small = Resources { memory_bytes: 48 << 20, pids: 32, disk_bytes: 64 << 20, ..Resources::default() };
    let id = scene.sandbox(small).await?;
    let fill = ExecSpec {
        shell: Some(
            "dd if=/dev/zero of=/tmp/fill bs=1M; bomb() { bomb | bomb & }; bomb; sleep 30".to_owned(),
        ),
        timeout_s: Some(1.0),
        grace_s: Some(0.2),
        ..ExecSpec::default()
    };
    let began = Instant::now();
    let starved = tokio::time::timeout(Duration::from_secs(20), scene.world.api.try_exec(&id, &fill)).await;
    scene.found.holds("a starved exec is answered", starved.is_ok(), format!("{:?}", began.elapsed()));
    let hungry = tokio::time::timeout(
        Duration::from_secs(20),
        scene.world.api.try_exec(&id, &python(HUNGER, &["heap", "400"])),
    )
    .await;
    scene.found.holds("and so is the next", hungry.is_ok(), format!("{:?}", began.elapsed()));
    let last = tokio::time::timeout(
        Duration::from_secs(20),
        scene.world.api.try_exec(&id, &python("report()", &[])),
    )
    .await;
    // The sandbox may be dead; then it says so.
    let evidence = format!("{last:?}");
    let told = last.is_ok_and(|answer| {
        answer.is_ok_and(|answer| answer.status == 200 || answer.code() == "sandbox_dead")
    });
    scene.found.holds("it answers, or is dead and says so", told, evidence);

    // The guest as the OOM killer's first choice.
    let id = scene.sandbox(Resources { memory_bytes: 48 << 20, ..Resources::default() }).await?;
    scene.shell(&id, "echo 1000 > /proc/1/oom_score_adj").await?;
    let chosen = tokio::time::timeout(
        Duration::from_secs(20),
        scene.world.api.try_exec(&id, &python(HUNGER, &["heap", "400"])),
    )
    .await;
    let evidence = format!("{chosen:?}");
    let told = chosen.is_ok_and(|answer| {
        answer.is_ok_and(|answer| answer.status == 200 || answer.code() == "sandbox_dead")
    });
    scene.found.holds("an OOM kill of the guest is told", told, evidence);

    // Many at once, while one is stopped.
    let id = scene.plain().await?;
    scene.world.api.exec_detached(&id, python("os.kill(os.getpid(), signal.SIGSTOP)", &[])).await?;
    for _ in 0..50 {
        scene
            .world
            .api
            .exec_detached(
                &id,
                ExecSpec { shell: Some("yes".to_owned()), timeout_s: Some(3.0), ..ExecSpec::default() },
            )
            .await?;
    }
    answers(scene, &id, "beside fifty floods").await
}

async fn answers(scene: &mut Scene<'_>, id: &str, when: &str) -> anyhow::Result<()> {
    let spec = ExecSpec { shell: Some("echo alive".to_owned()), ..ExecSpec::default() };
    let answer = tokio::time::timeout(Duration::from_secs(20), scene.exec(id, spec)).await;
    let evidence = format!("{answer:?}");
    let alive = answer.is_ok_and(|result| result.is_ok_and(|result| result.stdout == "alive\n"));
    scene.found.holds(format!("it answers {when}"), alive, evidence);
    Ok(())
}

/// The guest is killed from outside, where nothing protects it: the attack succeeds, and the server says so at once.
pub(super) async fn control(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let before = host::guests(scene.world.server());
    let id = scene.plain().await?;
    let victim = host::guests(scene.world.server())
        .into_iter()
        .find(|pid| !before.contains(pid))
        .context("no guest")?;
    let running = ExecSpec { shell: Some("sleep 60".to_owned()), ..ExecSpec::default() };
    let kill = async {
        let until = Instant::now() + PROMPT;
        while host::family(victim).len() < 2 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let pid = i32::try_from(victim).ok().and_then(Pid::from_raw).context("a pid")?;
        anyhow::Ok(kill_process(pid, Signal::KILL)?)
    };
    let (cut, killed) =
        tokio::join!(tokio::time::timeout(PROMPT * 2, scene.world.api.try_exec(&id, &running)), kill);
    killed?;
    let evidence = format!("{cut:?}");
    let told = cut.is_ok_and(|answer| {
        answer.is_ok_and(|answer| {
            answer.code() == "sandbox_dead" || String::from_utf8_lossy(&answer.body).contains("\"lost\"")
        })
    });
    scene.found.holds("the exec under it is told at once", told, evidence);
    let next = ExecSpec { shell: Some("true".to_owned()), ..ExecSpec::default() };
    let answer =
        tokio::time::timeout(PROMPT, scene.world.api.try_exec(&id, &next)).await.context("it hangs")??;
    scene.found.holds("the sandbox is dead and says so", answer.code() == "sandbox_dead", answer.code());
    let listed = scene.world.api.send(Method::GET, &format!("/v1/sandboxes/{id}"), Bytes::new()).await?;
    let text = String::from_utf8_lossy(&listed.body).into_owned();
    scene.found.holds("it is listed as dead", text.contains("\"dead\""), text);
    Ok(())
}
