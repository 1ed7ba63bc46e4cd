//! Single guests are killed: their sandboxes are dead and say why, their neighbours do not notice, a pool replaces them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hothouse_domain::{Claim, SandboxPhase};
use serde_json::json;

use super::{Played, Wanted};
use crate::ledger::Ledger;
use crate::place::Circumstances;
use crate::stage::{POOL, READY, Stage};
use crate::table::Row;
use crate::wait::until;
use crate::work::{Job, Repeat, run_all};

const EXECS: usize = 60;
const SANDBOXES: usize = 6;
const PAUSE: Duration = Duration::from_millis(200);

pub(super) async fn play(wanted: &Wanted) -> Result<Played> {
    let mut dice = wanted.dice("guests");
    let mut stage = Stage::set("guests").await?;
    stage.fill_pool().await?;
    stage.people(SANDBOXES).await?;
    let (mut ledger, mut all, mut faults) = (Ledger::default(), Vec::new(), 0);
    for round in 0..wanted.by_form(2, 10) {
        // Its neighbours are the rest; in each second round all of them are of an earlier server.
        let victim = stage.sandboxes.remove(usize::try_from(dice.below(SANDBOXES as u64))?);
        let jobs = (0..EXECS).map(|at| {
            let sandbox = dice.pick(&stage.sandboxes).clone();
            Job::random(&sandbox, format!("g{round}-{at}"), &mut dice, PAUSE)
        });
        let (jobs, kill_after) = (jobs.collect(), dice.time(PAUSE));
        let breaking = async {
            tokio::time::sleep(kill_after).await;
            stage.place.guest(&victim)?.kill()?;
            is_told_dead(&stage, &victim).await
        };
        let running = run_all(jobs, &stage.line, Repeat::SameId);
        let (done, broke) = tokio::join!(running, breaking);
        broke.with_context(|| format!("round {round}, {victim}; {}", stage.place.log()))?;
        let repeated = done.iter().filter(|done| done.tries > 1).count();
        ensure!(repeated == 0, "{repeated} execs of neighbours had to be repeated");
        ledger.check(&stage.line, &done).await?;
        all.extend(done);
        stage.all_run().await?;
        stage.api()?.remove(&victim).await?;
        replaced(&stage).await.with_context(|| format!("round {round}; {}", stage.place.log()))?;
        stage.people(1).await?;
        faults += 2;
        if round % 2 == 0 {
            stage.kill().await?;
            stage.restart(Circumstances::Usual).await?;
            faults += 1;
        }
    }
    let rest = stage.strike().await?;
    Ok(Row { faults, ledger, rest, ..Row::default() }.into())
}

/// Waits until a sandbox is dead for a reason, and checks that its execs are refused by that.
async fn is_told_dead(stage: &Stage, id: &str) -> Result<()> {
    let reason = until("the sandbox to be dead", async || {
        Ok(match stage.api()?.sandbox(id).await?.phase {
            SandboxPhase::Dead { reason } => Ok(reason),
            other => Err(format!("{other:?}")),
        })
    })
    .await?;
    ensure!(!reason.is_empty(), "it does not say why it is dead");
    let body = json!({"argv": ["true"]});
    let refused = stage.api()?.post(&format!("/v1/sandboxes/{id}/exec"), &body).await?;
    let problem = refused.problem()?;
    ensure!(
        problem.code.as_str() == "sandbox_dead" && problem.detail.contains(&reason),
        "{}",
        refused.text()
    );
    Ok(())
}

/// Kills one that is ready in the pool: it is replaced, and given to nobody.
async fn replaced(stage: &Stage) -> Result<()> {
    stage.pool_rests().await?;
    let ready = async || {
        let all = stage.api()?.sandboxes(None).await?;
        let is_ready = |place: &hothouse_domain::PoolPlace| place.claim == Claim::Ready;
        let ready = all.into_iter().filter(|info| info.pool.as_ref().is_some_and(is_ready));
        anyhow::Ok(ready.map(|info| info.id.to_string()).collect::<BTreeSet<String>>())
    };
    let before = ready().await?;
    let victim = before.first().context("none is ready")?.clone();
    stage.place.guest(&victim)?.kill()?;
    until("it to be replaced", async || {
        let (now, pool) = (ready().await?, stage.api()?.pool(POOL).await?);
        let full = pool.ready >= READY && pool.making == 0;
        Ok(if full && !now.contains(&victim) { Ok(()) } else { Err(format!("{victim}: {now:?} {pool:?}")) })
    })
    .await?;
    let claimed = stage.api()?.claim(POOL, &json!({})).await?;
    ensure!(claimed != victim, "the dead one was given");
    stage.api()?.remove(&claimed).await
}
