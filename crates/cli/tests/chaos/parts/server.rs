//! The server is killed while execs, creates, claims and deletes are under way, again and again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use reqwest::Method;
use serde_json::json;

use super::{Played, Wanted};
use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::line::Line;
use crate::place::Circumstances;
use crate::stage::{POOL, Stage};
use crate::table::Row;
use crate::work::{Done, Job, Repeat, run_all};

/// Execs of a round, all at once.
const EXECS: usize = 200;
const SANDBOXES: usize = 8;
/// Rounds with the same sandboxes: their guests remember 1,024 results each.
const ROTATION: u64 = 30;
/// The longest pause inside an exec.
const PAUSE: Duration = Duration::from_millis(300);
/// Sandboxes that are made, used and deleted in each round, beside those that stay.
const PASSERS: u64 = 2;

pub(super) async fn play(wanted: &Wanted) -> Result<Played> {
    let began = Instant::now();
    let mut dice = wanted.dice("server");
    let mut stage = Stage::set("server").await?;
    stage.fill_pool().await?;
    stage.people(SANDBOXES).await?;
    let mut ledger = Ledger::default();
    let mut of_these: Vec<Done> = Vec::new();
    let mut round = 0;
    // How long a round took without its kill: the kill comes at any moment of it.
    let mut span = PAUSE;
    while round < wanted.rounds && began.elapsed() < wanted.budget {
        if round > 0 && round % ROTATION == 0 {
            // The journal has all of them still.
            ledger.check(&stage.line, &std::mem::take(&mut of_these)).await?;
            stage.clear().await?;
            stage.people(SANDBOXES).await?;
        }
        let begin = Instant::now();
        let (done, down) = play_round(&mut stage, round, &mut dice, span).await?;
        span = begin.elapsed().saturating_sub(down).max(PAUSE);
        of_these.extend(done);
        stage.all_run().await?;
        round += 1;
        if !of_these.iter().all(|done| done.acknowledged.is_ok()) {
            break;
        }
    }
    ledger.check(&stage.line, &of_these).await?;
    stage.pool_rests().await?;
    let mut notes = Vec::new();
    if round < wanted.rounds {
        notes.push(format!("{round} of {} rounds within {:?}", wanted.rounds, wanted.budget));
    }
    let rest = stage.strike().await?;
    Ok(Row { faults: round, ledger, rest, notes, ..Row::default() }.into())
}

/// One round: what its execs came to, and how long there was no server.
async fn play_round(
    stage: &mut Stage,
    round: u64,
    dice: &mut Dice,
    span: Duration,
) -> Result<(Vec<Done>, Duration)> {
    let jobs = (0..EXECS).map(|at| {
        let sandbox = stage.sandboxes[at % stage.sandboxes.len()].clone();
        Job::random(&sandbox, format!("r{round}-{at}"), dice, PAUSE)
    });
    let (jobs, line) = (jobs.collect(), stage.line.clone());
    let kill_after = dice.time(span);
    let passing = try_join_all((0..PASSERS).map(|at| pass(&line, round, at)));
    let running = run_all(jobs, &line, Repeat::SameId);
    let breaking = async {
        // At a random moment: that is the point.
        tokio::time::sleep(kill_after).await;
        stage.kill().await?;
        let down = Instant::now();
        stage.restart(Circumstances::Usual).await?;
        anyhow::Ok(down.elapsed())
    };
    let (done, passed, down) = tokio::join!(running, passing, breaking);
    let down = down.with_context(|| format!("round {round}, killed after {kill_after:?}"))?;
    passed.with_context(|| format!("round {round}, killed after {kill_after:?}; {}", stage.place.log()))?;
    forget_strays(stage, round).await?;
    Ok((done, down))
}

/// Makes a sandbox, runs something in it, and deletes it; or claims one and deletes that.
async fn pass(line: &Line, round: u64, at: u64) -> Result<()> {
    let id = format!("pass-{round}-{at}");
    let body = json!({"id": id, "labels": {"round": round.to_string()}});
    // Whoever repeats a create may find that it was done.
    line.insist(Method::POST, "/v1/sandboxes", Some(&body), &[201, 409]).await?;
    let path = format!("/v1/sandboxes/{id}");
    let exec = json!({"exec_id": "only", "argv": ["true"]});
    line.insist(Method::POST, &format!("{path}/exec"), Some(&exec), &[200]).await?;
    line.insist(Method::DELETE, &path, None, &[204, 404, 410]).await?;
    line.insist(Method::GET, &path, None, &[410]).await?;
    let claim = json!({"labels": {"round": round.to_string()}, "env": {"AT": at.to_string()}});
    let (claimed, _) =
        line.insist(Method::POST, &format!("/v1/pools/{POOL}/claim"), Some(&claim), &[201]).await?;
    let claimed: hothouse_domain::SandboxInfo = claimed.json()?;
    let path = format!("/v1/sandboxes/{}", claimed.id);
    // A claim that was answered is one after any kill.
    let (found, _) = line.insist(Method::GET, &path, None, &[200, 404, 410]).await?;
    let found: hothouse_domain::SandboxInfo = found.json()?;
    ensure!(found.pool == claimed.pool, "{} was {:?}, now {:?}", claimed.id, claimed.pool, found.pool);
    let exec = json!({"exec_id": "only", "shell": "echo $AT"});
    let (said, _) = line.insist(Method::POST, &format!("{path}/exec"), Some(&exec), &[200]).await?;
    let said: hothouse_domain::ExecResult = said.json()?;
    ensure!(said.stdout == format!("{at}\n"), "{} was claimed with AT={at}: {said:?}", claimed.id);
    line.insist(Method::DELETE, &path, None, &[204, 404, 410]).await?;
    Ok(())
}

/// Deletes what was claimed and never answered: claims carry no id, so their labels find it.
async fn forget_strays(stage: &Stage, round: u64) -> Result<()> {
    for stray in stage.api()?.sandboxes(Some(&format!("round={round}"))).await? {
        ensure!(!stray.id.as_str().starts_with("pass-"), "{} was deleted and is there", stray.id);
        stage.api()?.remove(stray.id.as_str()).await?;
    }
    Ok(())
}
