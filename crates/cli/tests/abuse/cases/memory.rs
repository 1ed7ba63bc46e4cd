//! T02: memory of every kind.

use anyhow::Context as _;
use hothouse_domain::{Outcome, Resources};

use crate::scene::{Scene, python};

const HUNGER: &str = include_str!("../payloads/hunger.py");

/// The kinds, and whether they must end in the OOM killer (files and shared memory may end at their own limit first).
const KINDS: &[(&str, bool)] =
    &[("heap", true), ("memfd", true), ("tmpfs", false), ("shm", false), ("sysv", false)];

const MIB: u64 = 1 << 20;

pub(super) async fn attack(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for (kind, must_be_killed) in KINDS {
        let id = scene
            .sandbox(Resources { memory_bytes: 64 * MIB, disk_bytes: 1 << 30, ..Resources::default() })
            .await?;
        let result = scene.exec(&id, python(HUNGER, &[kind, "192"])).await?;
        let killed = result.outcome == Outcome::OomKilled;
        let report = crate::outside::last_json(&result.stdout).ok();
        let stopped = report.as_ref().is_some_and(|report| !report["stopped_by"].is_null());
        let held = killed || (stopped && !must_be_killed);
        let evidence = format!("{:?} {report:?} {}", result.outcome, result.stderr);
        scene.limited("memory_limit", &format!("{kind} ends at the limit"), held, evidence);
    }
    // A sandbox that ran out of memory once is not useless.
    let id = scene.sandbox(Resources { memory_bytes: 64 * MIB, ..Resources::default() }).await?;
    scene.exec(&id, python(HUNGER, &["heap", "192"])).await?;
    let again = scene.shell(&id, "echo still here").await?;
    scene.found.holds("the sandbox works on", again.stdout == "still here\n", format!("{:?}", again.outcome));
    Ok(())
}

pub(super) async fn control(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for (kind, _) in KINDS {
        let id = scene
            .sandbox(Resources { memory_bytes: 512 * MIB, disk_bytes: 1 << 30, ..Resources::default() })
            .await?;
        let report = scene.python(&id, HUNGER, &[kind, "192"]).await?;
        let eaten = report["eaten"].as_u64().context("no number")?;
        scene.found.holds(format!("with a high limit {kind} is eaten"), eaten == 192, &report);
    }
    Ok(())
}
