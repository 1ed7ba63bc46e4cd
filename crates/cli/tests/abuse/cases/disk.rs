//! T03: disks that are filled with bytes, holes or names.

use hothouse_domain::Resources;

use crate::scene::Scene;

const LITTER: &str = include_str!("../payloads/litter.py");

const MIB: u64 = 1 << 20;

/// Where a sandbox may write; all of it is one quota.
const PLACES: &[&str] = &["/workspace/x", "/tmp/x", "/usr/local/x", "/dev/shm/x", "/var/tmp/x"];

fn ended_early(report: &serde_json::Value) -> bool {
    matches!(report["stopped_by"].as_str(), Some("ENOSPC" | "EDQUOT" | "EFBIG"))
}

pub(super) async fn attack(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let limits =
        Resources { disk_bytes: 32 * MIB, disk_inodes: 2_000, memory_bytes: 1 << 30, ..Resources::default() };
    scene
        .each(PLACES, async |scene: &mut Scene<'_>, place: &&str| {
            let id = scene.sandbox(limits.clone()).await?;
            let report = scene.python(&id, LITTER, &["bytes", place, "128"]).await?;
            scene.limited("disk_limit", &format!("bytes in {place}"), ended_early(&report), &report);
            Ok(())
        })
        .await;
    let id = scene.sandbox(limits.clone()).await?;
    let report = scene.python(&id, LITTER, &["sparse", "/workspace/x", "1048576"]).await?;
    scene.limited("disk_limit", "a sparse file of 1 TiB", ended_early(&report), &report);
    let id = scene.sandbox(limits).await?;
    let report = scene.python(&id, LITTER, &["names", "/workspace/x", "1000000"]).await?;
    scene.limited("inode_limit", "a million empty files", ended_early(&report), &report);
    // Full is not dead.
    let removed =
        scene.shell(&id, "rm -rf /workspace/x && echo freed > /workspace/y && cat /workspace/y").await?;
    scene.found.holds("what is freed can be used again", removed.stdout == "freed\n", format!("{removed:?}"));
    Ok(())
}

pub(super) async fn control(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let limits = Resources {
        disk_bytes: 512 * MIB,
        disk_inodes: 65_536,
        memory_bytes: 1 << 30,
        ..Resources::default()
    };
    let id = scene.sandbox(limits).await?;
    for (kind, most) in [("bytes", "128"), ("names", "10000")] {
        let report = scene.python(&id, LITTER, &[kind, "/workspace/x", most]).await?;
        scene.found.holds(
            format!("with a high limit all {kind} fit"),
            report["stopped_by"].is_null(),
            &report,
        );
    }
    Ok(())
}
