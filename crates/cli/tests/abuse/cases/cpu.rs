//! T05: more CPU than allowed.

use anyhow::Context as _;
use hothouse_domain::Resources;
use serde_json::Value;

use crate::outside;
use crate::scene::Scene;

const GREED: &str = include_str!("../payloads/greed.py");
/// How long the spinners spin: ten periods of the quota.
const SECONDS: &str = "1";

async fn cores_with(scene: &mut Scene<'_>, cpus: f64) -> anyhow::Result<(f64, Value)> {
    let id = scene.sandbox(Resources { cpus, ..Resources::default() }).await?;
    let report = scene.python(&id, GREED, &[SECONDS]).await?;
    Ok((report["cores"].as_f64().context("no number")?, report))
}

pub(super) async fn attack(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (cores, report) = cores_with(scene, 0.5).await?;
    scene.limited("cpu_limit", "four spinners share half a core", cores < 0.65, format!("{cores:.2} cores"));
    for what in ["fifo", "deadline", "nice", "ioprio_rt"] {
        let refused = matches!(report[what].as_str(), Some("EPERM" | "EACCES" | "EINVAL" | "ENOSYS"));
        scene.found.holds(format!("{what} is refused"), refused, &report);
    }
    Ok(())
}

pub(super) async fn control(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    // A busy machine gives nobody much: what counts is that the sandbox gets what any process gets.
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (unlimited, _) = cores_with(scene, 64.0).await?;
        let bare = outside::python(&[], GREED, &[SECONDS]).await?["cores"].as_f64().context("no number")?;
        seen.push(format!("{unlimited:.2} of {bare:.2}"));
        if unlimited > 0.8 || (bare < 0.8 && unlimited > bare / 2.0) {
            seen.clear();
            break;
        }
    }
    scene.found.holds(
        "without the limit they take what there is",
        seen.is_empty(),
        format!("{seen:?} cores"),
    );
    if outside::is_root() {
        let report = outside::python(&[], GREED, &["0.1"]).await?;
        for what in ["fifo", "nice"] {
            scene.found.holds(format!("outside, {what} is granted"), report[what] == "ok", &report);
        }
    }
    Ok(())
}
