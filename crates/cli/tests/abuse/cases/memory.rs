//! T02: memory of every kind.

use anyhow::Context as _;
use hothouse_domain::{Outcome, Resources};

use super::MOB;
use crate::scene::{Scene, python};

const HUNGER: &str = include_str!("../payloads/hunger.py");

/// The kinds, and whether they must end in the OOM killer (files and shared memory may end at their own limit first).
const KINDS: &[(&str, bool)] =
    &[("heap", true), ("memfd", true), ("tmpfs", false), ("shm", false), ("sysv", false)];

const MIB: u64 = 1 << 20;
/// What each kind is asked for; thrice the limit.
const HUNGRY: &str = "192";

fn little() -> Resources {
    Resources { memory_bytes: 64 * MIB, disk_bytes: 1 << 30, ..Resources::default() }
}

pub(super) async fn attack(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let enforced = scene.world.missing("memory_limit").is_none();
    scene
        .each(KINDS, async |scene: &mut Scene<'_>, (kind, must_be_killed): &(&str, bool)| {
            let id = scene.sandbox(little()).await?;
            let result = scene.exec(&id, python(HUNGER, &[kind, HUNGRY])).await?;
            let killed = result.outcome == Outcome::OomKilled;
            let report = crate::outside::last_json(&result.stdout).ok();
            let stopped = report.as_ref().is_some_and(|report| !report["stopped_by"].is_null());
            // Without a limit on the memory of all, what one process takes ends at limits of its own.
            let held = killed || (stopped && !(enforced && *must_be_killed));
            let evidence = format!("{:?} {report:?} {}", result.outcome, result.stderr);
            scene.found.holds(format!("{kind} ends at the limit"), held, evidence);
            Ok(())
        })
        .await;
    // Many processes, each below the limit.
    let id = scene.sandbox(little()).await?;
    let result = scene.exec(&id, python(MOB, &["6", "40"])).await?;
    let report = crate::outside::last_json(&result.stdout).ok();
    let all_hold = report.as_ref().is_some_and(|report| report["holding"] == 6);
    scene.limited(
        "memory_limit",
        "six of 40 MiB do not fit into 64",
        !all_hold,
        format!("{:?} {report:?}", result.outcome),
    );
    if !enforced {
        // What bounds the damage then: the machine's own killer takes them before anything else of this user's.
        let score = scene.shell(&id, "cat /proc/self/oom_score_adj").await?;
        scene.found.holds("the machine's OOM killer takes it first", score.stdout == "1000\n", score.stdout);
    }
    // A sandbox that ran out of memory once is not useless.
    let id = scene.sandbox(little()).await?;
    scene.exec(&id, python(HUNGER, &["heap", HUNGRY])).await?;
    let again = scene.shell(&id, "echo still here").await?;
    scene.found.holds("the sandbox works on", again.stdout == "still here\n", format!("{:?}", again.outcome));
    Ok(())
}

pub(super) async fn control(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let kinds = KINDS.iter().map(|(kind, _)| *kind);
    scene
        .each(kinds, async |scene: &mut Scene<'_>, kind: &str| {
            let id = scene
                .sandbox(Resources { memory_bytes: 512 * MIB, disk_bytes: 1 << 30, ..Resources::default() })
                .await?;
            let report = scene.python(&id, HUNGER, &[kind, HUNGRY]).await?;
            let eaten = report["eaten"].as_u64().context("no number")?;
            scene.found.holds(format!("with a high limit {kind} is eaten"), eaten == 192, &report);
            Ok(())
        })
        .await;
    let id = scene.sandbox(Resources { memory_bytes: 512 * MIB, ..Resources::default() }).await?;
    let result = scene.exec(&id, python(MOB, &["6", "40"])).await?;
    let report = crate::outside::last_json(&result.stdout)?;
    scene.found.holds("with a high limit six of 40 MiB fit", report["holding"] == 6, &report);
    Ok(())
}
