//! The clocks since boot jump between one server and the next, forwards and back: a machine that was suspended, moved, or a
//! container with clocks of its own. When processes began, by which they are known again, is told by these clocks.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::process::Command;

use super::{Played, Wanted};
use crate::ledger::Ledger;
use crate::place::{Circumstances, is_root};
use crate::stage::Stage;
use crate::table::Row;
use crate::work::{Job, Repeat, run_all};

const EXECS: usize = 60;
const SANDBOXES: usize = 4;
/// Execs of a jump run as long, so that the next server finds them running.
const PAUSE: Duration = Duration::from_millis(600);
/// Twelve days, in seconds.
const JUMP: u32 = 1_000_000;

pub(super) async fn play(wanted: &Wanted) -> Result<Played> {
    if let Err(reason) = can_shift().await {
        return Ok(Played::Skipped(format!("{reason:#}")));
    }
    let mut dice = wanted.dice("clock");
    let mut stage = Stage::set("clock").await?;
    stage.fill_pool().await?;
    stage.people(SANDBOXES).await?;
    let (mut ledger, mut all) = (Ledger::default(), Vec::new());
    let jumps =
        [Circumstances::ClocksAhead(JUMP), Circumstances::ClocksAhead(JUMP / 2), Circumstances::Usual];
    for (round, under) in jumps.into_iter().enumerate() {
        let jobs = (0..EXECS).map(|at| {
            let sandbox = stage.sandboxes[at % stage.sandboxes.len()].clone();
            Job::random(&sandbox, format!("t{round}-{at}"), &mut dice, PAUSE)
        });
        let (jobs, line) = (jobs.collect(), stage.line.clone());
        let breaking = async {
            tokio::time::sleep(PAUSE / 2).await;
            let guests = stage.sandboxes.iter().map(|id| stage.place.guest(id));
            let guests = guests.collect::<Result<Vec<_>>>()?;
            stage.kill().await?;
            stage.restart(under).await?;
            let alive = guests.iter().filter(|guest| guest.is_alive()).count();
            ensure!(alive == guests.len(), "{alive} of {} guests survived", guests.len());
            stage.all_run().await
        };
        let (done, broke) = tokio::join!(run_all(jobs, &line, Repeat::SameId), breaking);
        broke.with_context(|| format!("{under:?}; {}", stage.place.log()))?;
        all.extend(done);
        // One that is made under these clocks has to be known under the next.
        stage.people(2).await?;
        let body = json!({"argv": ["true"], "timeout_s": 10});
        let last = stage.sandboxes.last().context("a sandbox")?;
        stage.api()?.post(&format!("/v1/sandboxes/{last}/exec"), &body).await?.expect(&[200])?;
    }
    ledger.check(&stage.line, &all).await?;
    stage.pool_rests().await?;
    let rest = stage.strike().await?;
    Ok(Row { faults: jumps.len() as u64, ledger, rest, ..Row::default() }.into())
}

/// Why this machine cannot give a program other clocks.
async fn can_shift() -> Result<()> {
    ensure!(is_root(), "other clocks for a server need root");
    let mut command = Command::new("unshare");
    command.args(["--time", "--monotonic=1", "--boottime=1", "--fork", "--", "true"]);
    let tried = command.stdin(Stdio::null()).output().await.context("unshare")?;
    ensure!(tried.status.success(), "unshare --time: {}", String::from_utf8_lossy(&tried.stderr).trim());
    Ok(())
}
