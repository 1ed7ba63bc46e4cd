//! The spawner is killed while execs run and sandboxes are made.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{Played, Wanted};
use crate::ledger::Ledger;
use crate::stage::{POOL, Stage};
use crate::table::Row;
use crate::wait::until;
use crate::work::{Job, Repeat, run_all};

const EXECS: usize = 100;
const SANDBOXES: usize = 6;
const PAUSE: Duration = Duration::from_millis(200);
/// Sandboxes made, and claims, while it is killed.
const CREATES: u64 = 4;
/// Kills in a row with nothing made in between.
const IN_A_ROW: u64 = 6;

pub(super) async fn play(wanted: &Wanted) -> Result<Played> {
    let mut dice = wanted.dice("spawner");
    let mut stage = Stage::set("spawner").await?;
    stage.fill_pool().await?;
    stage.people(SANDBOXES).await?;
    let guests = guests_of(&stage)?;
    let (mut ledger, mut all) = (Ledger::default(), Vec::new());
    let rounds = wanted.by_form(2, 9);
    for round in 0..rounds {
        let jobs = (0..EXECS).map(|at| {
            let sandbox = stage.sandboxes[at % SANDBOXES].clone();
            Job::random(&sandbox, format!("s{round}-{at}"), &mut dice, PAUSE)
        });
        let (jobs, kill_after) = (jobs.collect(), dice.time(PAUSE));
        let running = run_all(jobs, &stage.line, Repeat::SameId);
        let making = try_join_all((0..CREATES).map(|at| make(&stage, round, at)));
        let breaking = async {
            tokio::time::sleep(kill_after).await;
            kill(&stage, None).await
        };
        let (done, made, broke) = tokio::join!(running, making, breaking);
        let at = || format!("round {round}, killed after {kill_after:?}; {}", stage.place.log());
        broke.with_context(at)?;
        made.with_context(at)?;
        all.extend(done);
    }
    // Nothing that is made tells the server that things go well again.
    let mut last = None;
    for _ in 0..IN_A_ROW {
        last = Some(kill(&stage, last).await?);
    }
    make(&stage, rounds, 0).await.with_context(|| stage.place.log())?;
    stage.all_run().await?;
    ensure!(guests_of(&stage)? == guests, "the guests are not the same as before");
    let repeated = all.iter().filter(|done| done.tries > 1).count();
    ensure!(repeated == 0, "{repeated} execs had to be repeated, though the spawner is not on their way");
    ledger.check(&stage.line, &all).await?;
    stage.pool_rests().await?;
    let rest = stage.strike().await?;
    Ok(Row { faults: rounds + IN_A_ROW, ledger, rest, ..Row::default() }.into())
}

fn guests_of(stage: &Stage) -> Result<Vec<crate::host::Guest>> {
    stage.sandboxes.iter().map(|id| stage.place.guest(id)).collect()
}

/// Kills the spawner, once it is another one than this.
async fn kill(stage: &Stage, last: Option<Pid>) -> Result<Pid> {
    let pid = until("a spawner", async || {
        let found = stage.server()?.spawner().filter(|pid| Some(*pid) != last);
        Ok(found.ok_or_else(|| stage.place.log()))
    })
    .await?;
    kill_process(pid, Signal::KILL).context("killing the spawner")?;
    Ok(pid)
}

/// Makes a sandbox, uses it and deletes it, and claims another; a create that the spawner took with it may be repeated.
async fn make(stage: &Stage, round: u64, at: u64) -> Result<()> {
    let line = &stage.line;
    let body = json!({"id": format!("made-{round}-{at}")});
    line.insist(Method::POST, "/v1/sandboxes", Some(&body), &[201]).await?;
    let claim = format!("/v1/pools/{POOL}/claim");
    let (claimed, _) = line.insist(Method::POST, &claim, Some(&json!({})), &[201]).await?;
    let claimed: hothouse_domain::SandboxInfo = claimed.json()?;
    for id in [format!("made-{round}-{at}"), claimed.id.to_string()] {
        let path = format!("/v1/sandboxes/{id}");
        let exec = json!({"exec_id": "only", "argv": ["true"]});
        line.insist(Method::POST, &format!("{path}/exec"), Some(&exec), &[200]).await?;
        line.insist(Method::DELETE, &path, None, &[204, 404, 410]).await?;
    }
    Ok(())
}
