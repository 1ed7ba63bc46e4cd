//! T06, T07: output that never ends, and output that somebody else holds open.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use hothouse_domain::{Encoding, ExecSpec, Outcome, Resources};

use crate::host;
use crate::outside;
use crate::scene::Scene;

/// The server may grow by so much while a flood passes.
const GROWTH_KIB: u64 = 48 << 10;
const MIB: u64 = 1 << 20;
const LIMIT: u64 = 1 << 20;

/// A flood, the exact number of bytes that it writes, and its exit status.
const FLOODS: &[(&str, &str, u64, i32)] = &[
    ("10 GB of NULs", "head -c 10000000000 /dev/zero; exit 7", 10_000_000_000, 7),
    ("a line of 1 GB", "head -c 1000000000 /dev/zero | tr '\\0' x; exit 3", 1_000_000_000, 3),
    (
        "1e6 tiny writes",
        "exec python3 -c 'import os\nfor _ in range(1000000): os.write(1, b\"x\")'",
        1_000_000,
        0,
    ),
];

pub(super) async fn flood(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let server = scene.world.server();
    host::forget_peak(server)?;
    let before = host::peak_kib(server);
    scene
        .each(FLOODS, async |scene: &mut Scene<'_>, (name, script, bytes, code): &(&str, &str, u64, i32)| {
            let id = scene
                .sandbox(Resources { memory_bytes: 64 * MIB, cpus: 2.0, ..Resources::default() })
                .await?;
            let spec = ExecSpec {
                shell: Some((*script).to_owned()),
                output_limit_bytes: Some(LIMIT),
                timeout_s: Some(150.0),
                ..ExecSpec::default()
            };
            let result = scene.exec(&id, spec).await?;
            let intact = result.outcome == Outcome::Exited { code: *code };
            scene.found.holds(format!("{name}: exit status intact"), intact, format!("{:?}", result.outcome));
            let kept = result.stdout.len() as u64;
            let dropped = result.truncated.stdout_dropped_bytes;
            let counted = kept <= LIMIT && kept + dropped == *bytes;
            scene.found.holds(
                format!("{name}: kept or counted"),
                counted,
                format!("{kept} kept, {dropped} dropped"),
            );
            Ok(())
        })
        .await;
    let grown = host::peak_kib(server).saturating_sub(before);
    scene.found.holds("server memory in all floods", grown < GROWTH_KIB, format!("{grown} KiB more"));
    let id = scene.plain().await?;
    let odd = scene.shell(&id, "printf '\\377\\376a\\000b'; printf 'e\\303\\050' >&2").await?;
    let exact = odd.encoding == Encoding::Base64 && odd.stdout == "//5hAGI=" && odd.stderr == "ZcMo";
    scene.found.holds("bytes that are not UTF-8 come back exactly", exact, format!("{odd:?}"));
    Ok(())
}

pub(super) async fn flood_unbounded(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let collect = "import resource, subprocess\n\
                   made = subprocess.run(['head', '-c', '200000000', '/dev/zero'], capture_output=True).stdout\n\
                   report(kept=len(made), peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)";
    let report = outside::python(&[], collect, &[]).await?;
    let peak = report["peak"].as_u64().context("no number")?;
    scene.found.holds("a reader without a limit grows", peak > 4 * GROWTH_KIB, &report);
    Ok(())
}

pub(super) async fn held_open(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for script in ["sleep 30 & echo first", "(setsid sh -c 'sleep 30; echo late' &) ; echo first; exit 0"] {
        let id = scene.plain().await?;
        let began = Instant::now();
        let result = scene.shell(&id, script).await?;
        let took = began.elapsed();
        let right = result.outcome == (Outcome::Exited { code: 0 }) && result.stdout == "first\n";
        scene.found.holds("the output until then", right, format!("{result:?}"));
        scene.found.holds("returns with the leader", took < Duration::from_secs(1), format!("{took:?}"));
        scene.found.holds("says that output was held open", result.output_held_open, format!("{result:?}"));
    }
    let id = scene.plain().await?;
    let clean = scene.shell(&id, "sleep 30 >/dev/null 2>&1 & echo first").await?;
    scene.found.holds("says nothing where it was not", !clean.output_held_open, format!("{clean:?}"));
    Ok(())
}

pub(super) async fn held_open_to_the_end(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let wait = "import subprocess\n\
                began = time.monotonic()\n\
                subprocess.run(['sh', '-c', 'sleep 1 & echo first'], capture_output=True)\n\
                report(took=time.monotonic() - began)";
    let report = outside::python(&[], wait, &[]).await?;
    let took = report["took"].as_f64().context("no number")?;
    scene.found.holds("a reader that waits for the end hangs", took > 0.9, took);
    Ok(())
}
