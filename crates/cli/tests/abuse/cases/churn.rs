//! T32: sandboxes come and go, very many of them.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt as _;
use hothouse_domain::SandboxSpec;

use crate::host::HostState;
use crate::scene::Scene;

/// How many, unless `CHURN` says otherwise.
const COUNT: usize = 1_000;
const AT_ONCE: usize = 16;
/// Memory of server and spawner beside which it is flat: what is remembered of endings and events fills up first.
const FLAT_KIB: u64 = 16 << 10;
/// How long the kernel may take with what it takes apart by itself.
const SETTLED: Duration = Duration::from_secs(20);
/// Sandboxes that the control forgets to delete.
const FORGOTTEN: usize = 120;

fn count() -> anyhow::Result<usize> {
    match std::env::var("CHURN") {
        Ok(text) if !text.is_empty() => text.parse().with_context(|| format!("CHURN={text}: use a number")),
        Ok(_) | Err(_) => Ok(COUNT),
    }
}

/// Makes and deletes so many, 16 at once.
async fn churn(scene: &Scene<'_>, count: usize) -> anyhow::Result<()> {
    let api = &scene.world.api;
    let turns = futures::stream::iter(0..count).map(|_| async move {
        let made = api.create(&SandboxSpec::default()).await?;
        let gone = api.delete(made.id.as_str()).await?;
        anyhow::ensure!(gone.status == 204, "{} {}", gone.status, gone.code());
        Ok(())
    });
    let mut turns = turns.buffer_unordered(AT_ONCE);
    while let Some(turn) = turns.next().await {
        turn?;
    }
    Ok(())
}

/// Looks until nothing has grown since `before`, or for as long as that may take.
async fn settled(scene: &Scene<'_>, before: &HostState) -> (HostState, Vec<String>) {
    let until = Instant::now() + SETTLED;
    loop {
        let now = scene.world.host();
        let mut grown = now.grown_since(before);
        if now.resident_kib > before.resident_kib + FLAT_KIB {
            grown.push(format!("resident memory {} → {} KiB", before.resident_kib, now.resident_kib));
        }
        if grown.is_empty() || Instant::now() > until {
            return (now, grown);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(super) async fn attack(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let count = count()?;
    // Pools and allocators have what they need after this.
    churn(scene, (count / 10).max(100)).await?;
    let before = scene.world.host();
    let began = Instant::now();
    let mut quarters = Vec::new();
    for _ in 0..4 {
        churn(scene, count / 4).await?;
        quarters.push(scene.world.host().resident_kib);
    }
    let took = began.elapsed();
    let (after, grown) = settled(scene, &before).await;
    println!(
        "     {count} sandboxes made and deleted as {} in {:.1} s, {:.0}/s; resident {} KiB, after each quarter {:?}, then {}; descriptors {} → {}, mounts \
         {} → {}, of the spawner {} → {}, cgroups {} → {}, network namespaces {} → {}, processes inside {} → {}",
        scene.world.whom,
        took.as_secs_f64(),
        count as f64 / took.as_secs_f64(),
        before.resident_kib,
        quarters,
        after.resident_kib,
        before.fds,
        after.fds,
        before.mounts,
        after.mounts,
        before.spawner_mounts,
        after.spawner_mounts,
        before.cgroups,
        after.cgroups,
        before.netns,
        after.netns,
        before.inmates,
        after.inmates,
    );
    scene.found.holds(format!("{count} come and go and nothing grows"), grown.is_empty(), grown.join(", "));
    Ok(())
}

/// The same with some that nobody deletes: the counts see them.
pub(super) async fn control(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    churn(scene, 100).await?;
    let before = scene.world.host();
    for _ in 0..FORGOTTEN {
        scene.plain().await?;
    }
    let grown = scene.world.host().grown_since(&before).join(", ");
    for what in ["processes in sandboxes", "network namespaces"] {
        scene.found.holds(format!("{what} that are left are seen"), grown.contains(what), &grown);
    }
    Ok(())
}
