//! `fork`: other sandboxes from the files of one, and one set back, beside making a sandbox anew.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use hyper::Method;
use serde::Deserialize;

use super::contest::{Contender, measure};
use super::http::{Connection, Driver};
use super::report::{Bar, Report, Role};
use super::sample::Round;
use super::service::{EXEC_TRUE, Service, create, destroy, run_ok};

/// Members of a fan-out.
const MEMBERS: usize = 64;
/// Changed files: ten of 1 MiB.
const CHANGE: &[u8] =
    br#"{"shell":"for i in 0 1 2 3 4 5 6 7 8 9; do head -c 1048576 /dev/urandom > /workspace/$i; done"}"#;

/// A hundred megabytes.
const LARGE_CHANGE: &[u8] =
    br#"{"shell":"for i in 0 1 2 3 4; do head -c 20M /dev/zero > /workspace/$i; done"}"#;

/// What the bench needs of a sandbox.
#[derive(Debug, Deserialize)]
struct Made {
    id: String,
}

/// What the bench needs of a group.
#[derive(Debug, Deserialize)]
struct Group {
    id: String,
    members: Vec<Made>,
}

/// Measures it.
pub(super) fn run(rounds: usize) -> anyhow::Result<Report> {
    let mut report = Report::new("fork");
    report.notes.push(format!(
        "one operation: the request, from sent to answered; fan-out: {MEMBERS} forks, and `true` run in each of them; \
         what was made is deleted untimed"
    ));
    let service = Service::start()?;
    let driver = service.driver()?;
    let (small, large) = (driver.once(create)?, driver.once(create)?);
    let change = format!("/v1/sandboxes/{large}/exec");
    driver.once(async |connection| run_ok(connection, &change, CHANGE).await)?;
    let (fork_small, fork_large) =
        (format!("/v1/sandboxes/{small}/fork"), format!("/v1/sandboxes/{large}/fork"));
    let restore = format!("/v1/sandboxes/{small}/restore");
    let memory = tempfile::tempdir_in("/dev/shm").context("making a directory in memory")?;
    let mut contenders = vec![
        one(&driver, "hothouse, create", "/v1/sandboxes", Then::Delete),
        one(&driver, "hothouse, fork with nothing changed", &fork_small, Then::Delete),
        one(&driver, "hothouse, fork with 10 MB changed", &fork_large, Then::Delete),
        one(&driver, "hothouse, restore in place", &restore, Then::Stay),
        fan_out(&driver, &small),
        ending(&driver, "hothouse, snapshot at the end, nothing changed", None),
        ending(&driver, "hothouse, snapshot at the end, 100 MB changed", Some(LARGE_CHANGE)),
        copying(memory.path()),
    ];
    let mut entries = measure(&mut contenders, rounds)?;
    drop(contenders);
    service.stop()?;
    for at in 1..4 {
        entries[at].row.note = entries[at].against("create", &entries[0]);
    }
    entries[2].row.note =
        format!("{}, {}", entries[2].row.note, entries[2].against("copying alone", &entries[7]));
    let bars = [
        (1, "fork with nothing changed", 3.0),
        (2, "fork with 10 MB changed", 3.0),
        (3, "restore in place", 5.0),
    ];
    for (at, name, most) in bars {
        report.bars.push(Bar::at_most(&format!("{name}, p50"), entries[at].row.p50_ms, most, " ms"));
    }
    let name = format!("fan-out of {MEMBERS}, p50");
    report.bars.push(Bar::at_most(&name, entries[4].row.p50_ms, 150.0, " ms"));
    entries[6].row.note = entries[6].against("nothing changed", &entries[5]);
    let name = "snapshot at the end, 100 MB changed, p50";
    report.bars.push(Bar::at_most(name, entries[6].row.p50_ms, 3.0, " ms"));
    report.rows = entries.into_iter().map(|entry| entry.row).collect();
    Ok(report)
}

/// What becomes of what an operation has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Delete,
    /// It was there before.
    Stay,
}

fn one<'a>(driver: &'a Driver, name: &str, path: &'a str, then: Then) -> Contender<'a> {
    Contender {
        name: name.to_owned(),
        role: Role::Hothouse,
        in_flight: 1,
        per_round: 50,
        measure: Box::new(move |ops| {
            driver.once(async |connection| {
                let mut latencies = Vec::with_capacity(ops);
                for _ in 0..ops {
                    let sent = Instant::now();
                    let made: Made = connection.json(Method::POST, path, &b"{}"[..]).await?;
                    latencies.push(sent.elapsed());
                    if then == Then::Delete {
                        destroy(connection, &made.id).await?;
                    }
                }
                let elapsed = latencies.iter().sum();
                Ok(Round { latencies, elapsed })
            })
        }),
    }
}

fn fan_out<'a>(driver: &'a Driver, origin: &str) -> Contender<'a> {
    let body = serde_json::json!({"count": MEMBERS, "fork_of": origin}).to_string();
    Contender {
        name: format!("hothouse, fan-out of {MEMBERS}"),
        role: Role::Hothouse,
        in_flight: 1,
        per_round: 3,
        measure: Box::new(move |ops| {
            let mut latencies = Vec::with_capacity(ops);
            for _ in 0..ops {
                let sent = Instant::now();
                let group = driver.once(async |connection| forks(connection, &body).await)?;
                ensure!(group.members.len() == MEMBERS, "{} forks", group.members.len());
                driver.round(16, MEMBERS, async |connection, at| {
                    run_ok(connection, &format!("/v1/sandboxes/{}/exec", group.members[at].id), EXEC_TRUE)
                        .await
                })?;
                latencies.push(sent.elapsed());
                let path = format!("/v1/groups/{}", group.id);
                driver.once(async |connection| {
                    connection.call(Method::DELETE, &path, &b""[..]).await.map(drop)
                })?;
            }
            let elapsed = latencies.iter().sum();
            Ok(Round { latencies, elapsed })
        }),
    }
}

/// A snapshot with which a sandbox ends; it is made and changed, and the snapshot deleted, untimed.
fn ending<'a>(driver: &'a Driver, name: &str, change: Option<&'static [u8]>) -> Contender<'a> {
    Contender {
        name: name.to_owned(),
        role: Role::Hothouse,
        in_flight: 1,
        per_round: 10,
        measure: Box::new(move |ops| {
            driver.once(async |connection| {
                let mut latencies = Vec::with_capacity(ops);
                for _ in 0..ops {
                    let id = create(connection).await?;
                    if let Some(change) = change {
                        run_ok(connection, &format!("/v1/sandboxes/{id}/exec"), change).await?;
                    }
                    let path = format!("/v1/sandboxes/{id}/snapshot");
                    let sent = Instant::now();
                    let taken: Made =
                        connection.json(Method::POST, &path, &br#"{"afterwards":"end"}"#[..]).await?;
                    latencies.push(sent.elapsed());
                    let path = format!("/v1/snapshots/{}", taken.id);
                    connection.call(Method::DELETE, &path, &b""[..]).await?;
                }
                let elapsed = latencies.iter().sum();
                Ok(Round { latencies, elapsed })
            })
        }),
    }
}

/// What it takes to copy the ten megabytes, in memory, and nothing else.
fn copying(directory: &Path) -> Contender<'_> {
    Contender {
        name: "copying 10 MB from memory to memory".to_owned(),
        role: Role::Floor,
        in_flight: 1,
        per_round: 50,
        measure: Box::new(move |ops| {
            let content: Vec<u8> = (0..1 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
            let file = |number: usize| directory.join(number.to_string());
            for number in 0..10 {
                std::fs::write(file(number), &content).context("writing what is to be copied")?;
            }
            let mut latencies = Vec::with_capacity(ops);
            for op in 0..ops {
                // Kept until the round is over: what was freed a moment ago is faster to write to than what was not.
                let into = directory.join(format!("copy{op}"));
                let sent = Instant::now();
                std::fs::create_dir(&into).context("making a directory")?;
                for number in 0..10 {
                    std::fs::copy(file(number), into.join(number.to_string())).context("copying")?;
                }
                latencies.push(sent.elapsed());
            }
            for op in 0..ops {
                std::fs::remove_dir_all(directory.join(format!("copy{op}"))).context("removing copies")?;
            }
            let elapsed = latencies.iter().sum();
            Ok(Round { latencies, elapsed })
        }),
    }
}

async fn forks(connection: &mut Connection, body: &str) -> anyhow::Result<Group> {
    connection.json(Method::POST, "/v1/groups", body.to_owned()).await
}
