//! The negative control: the counters must see what a client without ids does, and what never ran.

use anyhow::{Result, ensure};

use super::{Played, Wanted};
use crate::ledger::Ledger;
use crate::place::Circumstances;
use crate::stage::Stage;
use crate::table::{Expected, Row};
use crate::wait::until;
use crate::work::{Done, Job, MARKS, Repeat, Way, run_all};

/// Execs under way when the server is killed.
const EXECS: usize = 8;

pub(super) async fn play(_wanted: &Wanted) -> Result<Played> {
    let mut stage = Stage::set("control").await?;
    stage.people(1).await?;
    let sandbox = stage.sandboxes[0].clone();
    let job = |at: usize| {
        let name = format!("control-{at}");
        // It has left its mark, and nobody has been answered yet, when the server is killed.
        let line =
            format!("echo {name} >> {MARKS}; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo {name}");
        Job { sandbox: sandbox.clone(), name, line, way: Way::Waiting }
    };
    let (jobs, line) = ((0..EXECS).map(job).collect(), stage.line.clone());
    let running = run_all(jobs, &line, Repeat::FreshId);
    let breaking = async {
        until("every exec to have left its mark", async || {
            let marks = stage.api()?.file(&sandbox, MARKS).await?.lines().count();
            Ok(if marks == EXECS { Ok(()) } else { Err(format!("{marks} marks")) })
        })
        .await?;
        stage.kill().await?;
        stage.restart(Circumstances::Usual).await?;
        let body = serde_json::json!({"argv": ["touch", "/tmp/go"]});
        stage.api()?.post(&format!("/v1/sandboxes/{sandbox}/exec"), &body).await?.expect(&[200])?;
        anyhow::Ok(())
    };
    let (mut done, broke) = tokio::join!(running, breaking);
    broke?;
    let never = Job { name: "control-never".to_owned(), ..done[0].job.clone() };
    done.push(Done { exec_id: never.name.clone(), job: never, acknowledged: Ok(()), tries: 1 });
    let mut ledger = Ledger::default();
    ledger.check(&stage.line, &done).await?;
    ensure!(ledger.doubled == EXECS as u64, "{} of {EXECS} seen twice: {ledger:?}", ledger.doubled);
    ensure!(ledger.lost == 1 && ledger.unreadable == 1, "one never ran: {ledger:?}");
    let notes = vec!["negative control: ids were not repeated, and one answer was made up".to_owned()];
    let rest = stage.strike().await?;
    Ok(Row { faults: 1, ledger, expected: Expected::Broken, rest, notes, ..Row::default() }.into())
}
