//! The server has no descriptor left: hundreds of connections hold them all.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::json;
use tokio::net::TcpStream;

use super::{Form, Played, Wanted};
use crate::api::Api;
use crate::host::descriptors;
use crate::ledger::Ledger;
use crate::place::Clocks;
use crate::stage::Stage;
use crate::table::Row;
use crate::wait::until;
use crate::work::{Job, Repeat, run_all};

const EXECS: usize = 100;
const SANDBOXES: usize = 6;
const PAUSE: Duration = Duration::from_millis(100);
/// Descriptors beyond those that an idle server has.
const ROOM: usize = 16;
const CONNECTIONS: usize = 300;
/// How often the next spawner fails to start while there are no descriptors for it.
const FAILED_STARTS: usize = 6;

pub(super) async fn play(wanted: &Wanted) -> Result<Played> {
    let mut dice = wanted.dice("descriptors");
    let mut stage = Stage::set("descriptors").await?;
    stage.fill_pool().await?;
    stage.people(SANDBOXES).await?;
    let mut ledger = Ledger::default();
    let rounds = wanted.by_form(1, 4);
    for round in 0..rounds {
        // The next server has no connection to any guest yet, and no client one to it.
        stage.kill().await?;
        stage.restart(Clocks::Real).await?;
        let pid = stage.server()?.pid();
        let kept = Api::new(&stage.api()?.base)?;
        kept.get("/healthz").await?.expect(&[200])?;
        set_limit(pid, descriptors(pid) + ROOM)?;
        let address = stage.api()?.base.trim_start_matches("http://").to_owned();
        let idle = try_join_all((0..CONNECTIONS).map(|_| TcpStream::connect(&address))).await?;
        is_full(pid).await?;
        let jobs = (0..EXECS).map(|at| {
            let sandbox = stage.sandboxes[at % SANDBOXES].clone();
            Job::random(&sandbox, format!("f{round}-{at}"), &mut dice, PAUSE)
        });
        let (jobs, line) = (jobs.collect(), stage.line.clone());
        let starved = async {
            no_sandbox_is_given_up(&stage, &kept).await?;
            let spawner = stage.server()?.spawner().context("no spawner")?;
            kill_process(spawner, Signal::KILL)?;
            if wanted.form == Form::Long {
                until("the next spawner not to start", async || {
                    let failed = stage.place.log().matches("starting the spawner").count();
                    Ok(if failed >= FAILED_STARTS { Ok(()) } else { Err(format!("{failed} failures")) })
                })
                .await?;
            }
            // There is room again.
            drop(idle);
            anyhow::Ok(())
        };
        let (done, starved) = tokio::join!(run_all(jobs, &line, Repeat::SameId), starved);
        starved.with_context(|| format!("round {round}; {}", stage.place.log()))?;
        ledger.check(&stage.line, &done).await?;
        drop(kept);
        stage.all_run().await?;
        let made = stage.line.insist(reqwest::Method::POST, "/v1/sandboxes", Some(&json!({})), &[201]).await;
        let (made, _) = made.with_context(|| stage.place.log())?;
        stage.api()?.remove(made.json::<hothouse_domain::SandboxInfo>()?.id.as_str()).await?;
    }
    let pid = stage.server()?.pid();
    set_limit(pid, usize::try_from(getrlimit(Resource::Nofile).current.unwrap_or(1024))?)?;
    stage.pool_rests().await?;
    let rest = stage.strike().await?;
    Ok(Row { faults: rounds * 2, ledger, rest, ..Row::default() }.into())
}

/// Lowers or raises how many descriptors a process may have; the most that it could raise that to stays.
fn set_limit(pid: Pid, limit: usize) -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: Some(limit as u64), maximum };
    prlimit(Some(pid), Resource::Nofile, limit).context("prlimit")?;
    Ok(())
}

/// Waits until the server has as many descriptors as it may: no connection is taken any more.
async fn is_full(pid: Pid) -> Result<()> {
    let mut last = 0;
    until("all descriptors to be in use", async || {
        let now = descriptors(pid);
        let full = now > ROOM && now == last;
        last = now;
        Ok(if full { Ok(()) } else { Err(format!("{now} in use")) })
    })
    .await
}

/// Asks for an exec in each sandbox on a connection that was there before. The server may have no descriptor to reach the
/// guest with, and must not take that for the guest's death.
async fn no_sandbox_is_given_up(stage: &Stage, kept: &Api) -> Result<()> {
    let mut failed = 0;
    for id in &stage.sandboxes {
        let body = json!({"exec_id": "starved", "argv": ["true"]});
        let answer = kept.post(&format!("/v1/sandboxes/{id}/exec"), &body).await?;
        if answer.status != 200 {
            let problem = answer.problem()?;
            ensure!(problem.code.as_str() != "sandbox_dead", "{id} lives: {}", answer.text());
            failed += 1;
        }
        let phase = kept.sandbox(id).await?.phase;
        ensure!(phase == hothouse_domain::SandboxPhase::Running, "{id} lives, and is told to be {phase:?}");
    }
    ensure!(failed > 0, "there was a descriptor for everything");
    Ok(())
}
