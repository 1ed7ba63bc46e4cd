//! T31: PID 1 of the sandbox as the victim.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use hothouse_domain::{ExecSpec, Resources};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};

use super::MOB;
use crate::api::Answer;
use crate::host;
use crate::scene::{Scene, python};

const STARVE: &str = include_str!("../payloads/starve.py");
const HUNGER: &str = include_str!("../payloads/hunger.py");

/// A dead sandbox says so within this; it never hangs.
const PROMPT: Duration = Duration::from_secs(5);
/// A guest that is starved is given up within this.
const GIVEN_UP: Duration = Duration::from_secs(40);

/// Ways to get at the guest.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Signals and limits from inside.
    Directly,
    /// Everything at its limit at once: memory, processes, files.
    Exhaustion,
    /// A crowd that leaves its exec behind and fights for memory for ever.
    Mob,
    /// The guest as the OOM killer's first choice.
    FirstChoice,
    /// Many floods at once, while a program is stopped.
    Floods,
    /// Code of a context that talks to it in its interpreter's place.
    Contexts,
}

pub(super) async fn attack(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let ways = [Way::Directly, Way::Exhaustion, Way::Mob, Way::FirstChoice, Way::Floods, Way::Contexts];
    scene
        .each(ways, async |scene: &mut Scene<'_>, way| match way {
            Way::Directly => directly(scene).await,
            Way::Exhaustion => exhaustion(scene).await,
            Way::Mob => mob(scene).await,
            Way::FirstChoice => first_choice(scene).await,
            Way::Floods => floods(scene).await,
            Way::Contexts => super::contexts::speak_to_the_guest(scene).await,
        })
        .await;
    Ok(())
}

async fn directly(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    let report = scene.python(&id, STARVE, &[]).await?;
    // It may make the guest the OOM killer's first choice; that ends its own sandbox, see below.
    for what in ["prlimit", "nice", "affinity", "fds"] {
        let refused = matches!(report[what].as_str(), Some("EPERM" | "EACCES" | "ESRCH" | "ENOENT"));
        scene.found.holds(format!("{what} of PID 1 is refused"), refused, &report);
    }
    answers(scene, &id, "after signals to PID 1").await
}

async fn exhaustion(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.sandbox(little()).await?;
    let fill = "dd if=/dev/zero of=/tmp/fill bs=1M; bomb() { bomb | bomb & }; bomb; sleep 30";
    let fill = ExecSpec {
        shell: Some(fill.to_owned()),
        timeout_s: Some(1.0),
        grace_s: Some(0.2),
        ..ExecSpec::default()
    };
    told(scene, &id, "a starved exec", &fill).await;
    told(scene, &id, "and the next", &short(python(HUNGER, &["heap", "400"]))).await;
    told(scene, &id, "and one that needs little", &short(python("report()", &[]))).await;
    Ok(())
}

async fn mob(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.sandbox(Resources { cpus: 1.0, ..little() }).await?;
    let mob =
        ExecSpec { argv: Some(leave_behind(python(MOB, &["20", "8", "forever"]))), ..ExecSpec::default() };
    told(scene, &id, "who brings the mob", &short(mob)).await;
    for round in 1..=3 {
        let echo = ExecSpec { shell: Some("echo alive".to_owned()), ..ExecSpec::default() };
        told(scene, &id, &format!("exec {round} beside a mob"), &short(echo)).await;
    }
    Ok(())
}

async fn first_choice(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.sandbox(Resources { memory_bytes: 48 << 20, ..Resources::default() }).await?;
    scene.shell(&id, "echo 1000 > /proc/1/oom_score_adj").await?;
    told(scene, &id, "an OOM kill of the guest", &python(HUNGER, &["heap", "400"])).await;
    Ok(())
}

async fn floods(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    scene.world.api.exec_detached(&id, python("os.kill(os.getpid(), signal.SIGSTOP)", &[])).await?;
    for _ in 0..50 {
        let flood = ExecSpec { shell: Some("yes".to_owned()), timeout_s: Some(3.0), ..ExecSpec::default() };
        scene.world.api.exec_detached(&id, flood).await?;
    }
    answers(scene, &id, "beside fifty floods").await
}

fn little() -> Resources {
    Resources { memory_bytes: 48 << 20, pids: 32, disk_bytes: 64 << 20, ..Resources::default() }
}

fn short(spec: ExecSpec) -> ExecSpec {
    ExecSpec { timeout_s: Some(2.0), grace_s: Some(0.2), ..spec }
}

/// The same command in the background, in a session of its own.
fn leave_behind(spec: ExecSpec) -> Vec<String> {
    let mut words: Vec<String> =
        ["/bin/sh", "-c", "setsid \"$@\" >/dev/null 2>&1 &", "sh"].map(String::from).into();
    words.extend(spec.argv.unwrap_or_default());
    words
}

/// Notes whether a request is answered in time: by its result, or by the news that the sandbox is dead.
async fn told(scene: &mut Scene<'_>, id: &str, what: &str, spec: &ExecSpec) {
    let began = Instant::now();
    let answer = tokio::time::timeout(GIVEN_UP, scene.world.api.try_exec(id, spec)).await;
    let evidence = format!("{answer:?} after {:?}", began.elapsed());
    let ok = |answer: &Answer| answer.status == 200 || answer.code() == "sandbox_dead";
    let told = answer.is_ok_and(|answer| answer.is_ok_and(|answer| ok(&answer)));
    scene.found.holds(format!("{what} is answered, or the sandbox is dead and says so"), told, evidence);
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
