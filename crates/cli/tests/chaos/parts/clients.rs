//! Clients go away: in the middle of a stream that they follow, of an answer that they wait for, of a file that they send.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::try_join_all;
use serde_json::json;

use super::{Played, Wanted};
use crate::api::{Api, IDLE};
use crate::dice::Dice;
use crate::host::descriptors;
use crate::ledger::Ledger;
use crate::stage::Stage;
use crate::table::Row;
use crate::wait::{until, within};
use crate::work::{Done, Job, MARKS, Way};

/// Clients of a round; each has a connection of its own.
const CLIENTS: usize = 60;
const SANDBOXES: usize = 4;
/// The longest that a client stays.
const STAY: Duration = Duration::from_millis(250);
/// Descriptors that a server may have more than before: pools of its own grow to what they are used for.
const SLACK: usize = 16;

pub(super) async fn play(wanted: &Wanted) -> Result<Played> {
    let mut dice = wanted.dice("clients");
    let mut stage = Stage::set("clients").await?;
    stage.fill_pool().await?;
    stage.people(SANDBOXES).await?;
    // A link to each guest, which stays, and some connections.
    for id in &stage.sandboxes {
        stage.api()?.file(id, MARKS).await?;
    }
    let before = descriptors(stage.server()?.pid());
    let mut ledger = Ledger::default();
    let rounds = wanted.by_form(2, 8);
    for round in 0..rounds {
        let clients = (0..CLIENTS).map(|at| {
            let sandbox = stage.sandboxes[at % SANDBOXES].clone();
            (sandbox, format!("c{round}-{at}"), Dice::new(dice.below(u64::MAX), "client"))
        });
        let clients: Vec<_> = clients.collect();
        let base = stage.api()?.base.clone();
        let gone = clients.into_iter().map(|(sandbox, name, dice)| visit(&base, sandbox, name, dice));
        let gone: Vec<Option<Done>> = within("clients to go away", try_join_all(gone)).await??;
        // Whoever follows or waits again gets all of it; ids are known or run now.
        let mut all: Vec<Done> = gone.into_iter().flatten().collect();
        for done in &mut all {
            done.acknowledged = ask_again(&stage, done).await.map_err(|error| format!("{error:#}"));
        }
        ledger.check(&stage.line, &all).await?;
        stage.all_run().await?;
        nothing_leaks(&stage, before).await?;
    }
    let rest = stage.strike().await?;
    Ok(Row { faults: rounds * CLIENTS as u64, ledger, rest, ..Row::default() }.into())
}

/// A client that goes away at some moment; the exec that it asked for, if it did.
async fn visit(base: &str, sandbox: String, name: String, mut dice: Dice) -> Result<Option<Done>> {
    let api = Api::new(base)?;
    let (kind, stay) = (dice.below(3), dice.time(STAY));
    let line =
        format!("echo {name} >> {MARKS}; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.02; done; echo {name}");
    let body = json!({"exec_id": name, "shell": line});
    let path = format!("{}/v1/sandboxes/{sandbox}", api.base);
    let visit = async {
        let response = match kind {
            0 => api.http.post(format!("{path}/exec?stream=true")).json(&body).send().await?,
            1 => api.http.post(format!("{path}/exec")).json(&body).send().await?,
            _ => {
                // As long as the client stays, there is more to come.
                let slow = futures::stream::repeat(()).then(|()| async {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Ok::<_, std::io::Error>(Bytes::from_static(&[7; 4096]))
                });
                let request = api.http.put(format!("{path}/files?path=/workspace/{name}"));
                request.body(reqwest::Body::wrap_stream(slow)).send().await?
            }
        };
        let mut events = response.bytes_stream();
        while let Some(piece) = events.next().await {
            piece?;
        }
        anyhow::Ok(())
    };
    if let Ok(ended) = tokio::time::timeout(stay, visit).await {
        ended.with_context(|| name.clone())?;
    }
    let job = Job { sandbox, name: name.clone(), line, way: Way::Waiting };
    let acknowledged = Err("not asked again".to_owned());
    Ok((kind < 2).then_some(Done { job, exec_id: name, acknowledged, tries: 2 }))
}

/// The same request again, as the client that went away would repeat it.
async fn ask_again(stage: &Stage, done: &Done) -> Result<()> {
    let body = json!({"exec_id": done.exec_id, "shell": done.job.line});
    let answer = stage.api()?.post(&format!("/v1/sandboxes/{}/exec", done.job.sandbox), &body).await?;
    let result: hothouse_domain::ExecResult = answer.json()?;
    ensure!(result.stdout.trim_end() == done.job.name, "{result:?}");
    Ok(())
}

/// Waits until streams, connections and descriptors are what they were, and no file is half there.
async fn nothing_leaks(stage: &Stage, before: usize) -> Result<()> {
    let (api, pid) = (stage.api()?, stage.server()?.pid());
    until("streams, connections and descriptors to be given back", async || {
        let streams = api.gauge("hothouse_streams ").await?;
        let connections = api.gauge("hothouse_http_connections ").await?;
        let now = descriptors(pid);
        let back = streams == 0 && connections <= IDLE as u64 + 1 && now <= before + SLACK;
        let state =
            format!("{streams} streams, {connections} connections, {now} descriptors, {before} before");
        Ok(if back { Ok(()) } else { Err(state) })
    })
    .await?;
    for id in &stage.sandboxes {
        let answer = api.get(&format!("/v1/sandboxes/{id}/files/list?path=/workspace")).await?;
        let listed: serde_json::Value = answer.json()?;
        let names: Vec<&str> = listed["items"]
            .as_array()
            .with_context(|| listed.to_string())?
            .iter()
            .filter_map(|entry| entry["path"].as_str())
            .collect();
        ensure!(names == [MARKS], "files that nobody finished in {id}: {names:?}");
    }
    Ok(())
}
