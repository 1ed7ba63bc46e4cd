//! The disk with the home and the directories of sandboxes is full.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::{Played, Wanted};
use crate::host::mounts;
use crate::ledger::Ledger;
use crate::place::{Circumstances, Place, is_root};
use crate::stage::{POOL, READY, Stage};
use crate::table::Row;
use crate::work::{Job, Repeat, run_all};

const DISK: u64 = 24 << 20;
const EXECS: usize = 60;
const SANDBOXES: usize = 4;
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn play(wanted: &Wanted) -> Result<Played> {
    if !is_root() {
        return Ok(Played::Skipped("mounting a small disk needs root".to_owned()));
    }
    let mut dice = wanted.dice("disk");
    let place = Place::on_disk("disk", DISK)?;
    let mut stage = Stage::set_in(place, mounts()).await?;
    stage.fill_pool().await?;
    stage.people(SANDBOXES).await?;
    ensure!(stage.place.states().starts_with(stage.place.home()), "sandboxes are on another disk");
    let (mut ledger, mut notes) = (Ledger::default(), Vec::new());
    let rounds = wanted.by_form(1, 5);
    for round in 0..rounds {
        // What it makes now would else fail later, and be missed then.
        stage.pool_rests().await?;
        let filling = stage.place.home().join("filling");
        fill(&filling)?;
        let jobs = (0..EXECS).map(|at| {
            let sandbox = stage.sandboxes[at % SANDBOXES].clone();
            Job::random(&sandbox, format!("d{round}-{at}"), &mut dice, PAUSE)
        });
        let jobs = jobs.collect();
        let running = run_all(jobs, &stage.line, Repeat::SameId);
        let (done, refused) = tokio::join!(running, is_refused(&stage));
        refused.with_context(|| format!("round {round}; {}", stage.place.log()))?;
        let repeated = done.iter().filter(|done| done.tries > 1).count();
        ensure!(
            repeated == 0,
            "{repeated} execs had to be repeated, though sandboxes have disks of their own"
        );
        ledger.check(&stage.line, &done).await?;
        stage.all_run().await?;
        if round == 0 {
            notes.push(restart_on_full_disk(&mut stage, &filling).await?);
        } else {
            std::fs::remove_file(&filling)?;
        }
        // All of it works again, and what was there is there.
        stage.all_run().await?;
        let guests: Result<Vec<_>> = stage.sandboxes.iter().map(|id| stage.place.guest(id)).collect();
        guests.context("what is written down of sandboxes")?;
        let made = stage.api()?.create().await?;
        stage.api()?.remove(&made).await?;
        stage.pool_rests().await?;
        let claimed = stage.api()?.claim(POOL, &json!({})).await?;
        stage.api()?.remove(&claimed).await?;
        ledger.check(&stage.line, &run_all(again(&stage, round), &stage.line, Repeat::SameId).await).await?;
    }
    let rest = stage.strike().await?;
    Ok(Row { faults: rounds, ledger, rest, notes, ..Row::default() }.into())
}

fn again(stage: &Stage, round: u64) -> Vec<Job> {
    let line = |name: &str| format!("echo {name} >> {}; echo {name}", crate::work::MARKS);
    let job = |(at, sandbox): (usize, &String)| {
        let name = format!("again-{round}-{at}");
        Job { sandbox: sandbox.clone(), line: line(&name), name, way: crate::work::Way::Waiting }
    };
    stage.sandboxes.iter().enumerate().map(job).collect()
}

/// Takes all the room that there is.
fn fill(path: &Path) -> Result<()> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    for size in [1 << 20, 4096, 1] {
        let piece = vec![b'x'; size];
        let refused = loop {
            if let Err(error) = file.write_all(&piece) {
                break error;
            }
        };
        ensure!(refused.kind() == std::io::ErrorKind::StorageFull, "filling {}: {refused}", path.display());
    }
    Ok(())
}

/// Whatever must be written down is refused, and the problem says that there is no space.
async fn is_refused(stage: &Stage) -> Result<()> {
    let api = stage.api()?;
    let claimed = api.pool(POOL).await?.claimed;
    let template = json!({"env": {"A": "x".repeat(20_000)}});
    let refused = [
        ("create", api.post("/v1/sandboxes", &json!({})).await?),
        ("template", api.put("/v1/templates/big", &template).await?),
        ("claim", api.post(&format!("/v1/pools/{POOL}/claim"), &json!({})).await?),
    ];
    for (what, answer) in refused {
        let problem = answer.problem().with_context(|| format!("{what} on a full disk"))?;
        let says_so = problem.detail.contains("No space left");
        ensure!(says_so && problem.status >= 500, "{what} on a full disk: {}", answer.text());
    }
    let pool = api.pool(POOL).await?;
    ensure!(
        pool.ready >= READY && pool.claimed == claimed,
        "the claim cost the pool what was ready: {pool:?}"
    );
    Ok(())
}

/// A server that is killed while the disk is full: the next one either serves at once, or says why not, and serves when
/// there is room.
async fn restart_on_full_disk(stage: &mut Stage, filling: &Path) -> Result<String> {
    stage.kill().await?;
    fill(filling).context("filling what the killed server left")?;
    let note = match stage.restart(Circumstances::Usual).await {
        Ok(()) => {
            stage.all_run().await?;
            "a server started on the full disk".to_owned()
        }
        Err(error) => {
            let text = format!("{error:#}");
            if !text.contains("No space left") {
                bail!("a server that does not start on a full disk must say why: {text}");
            }
            "a server on the full disk said that there is no space".to_owned()
        }
    };
    std::fs::remove_file(filling)?;
    if stage.server().is_err() {
        stage.restart(Circumstances::Usual).await?;
    }
    Ok(note)
}
