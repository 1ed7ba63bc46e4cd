//! `exec`: `true` in a live sandbox, over HTTP, on keep-alive connections.

use super::contest::{Contender, measure};
use super::http::Driver;
use super::peer::Peers;
use super::process::spawn_true;
use super::report::{Bar, Report, Role};
use super::service::{EXEC_TRUE, Service, create, run_ok};

const MANY: usize = 16;

/// Measures it.
pub(super) fn run(rounds: usize) -> anyhow::Result<Report> {
    let mut report = Report::new("exec");
    report
        .notes
        .push("one operation: POST …/exec of `true`, from request sent to result received".to_owned());
    let service = Service::start()?;
    let driver = service.driver()?;
    let mut paths = Vec::new();
    for _ in 0..MANY {
        let id = driver.once(create)?;
        paths.push(format!("/v1/sandboxes/{id}/exec"));
    }
    let floor = spawn_true()?;
    let peers = Peers::live();
    let mut contenders = vec![
        floor.clone().contender("posix_spawn true", Role::Floor, 1, 400),
        contender(&driver, "hothouse", &paths[..1], 1, 400),
        floor.contender("posix_spawn true", Role::Floor, MANY, 2000),
        contender(&driver, "hothouse, one sandbox", &paths[..1], MANY, 2000),
        contender(&driver, "hothouse, 16 sandboxes", &paths, MANY, 2000),
        health(&driver),
    ];
    contenders.extend(peers.contenders);
    report.not_measured = peers.not_measured;
    let mut entries = measure(&mut contenders, rounds)?;
    drop(contenders);
    service.stop()?;
    let ratio = entries[1].series.p50_over(&entries[0].series);
    for (at, floor, many) in [(1, 0, false), (3, 2, true), (4, 2, true)] {
        entries[at].row.note = if many {
            entries[at].rate_against("posix_spawn", &entries[floor])
        } else {
            entries[at].against("posix_spawn", &entries[floor])
        };
    }
    "an HTTP request that does nothing".clone_into(&mut entries[5].row.note);
    for at in 6..entries.len() {
        entries[at].row.note = entries[at].against("hothouse", &entries[1]);
    }
    report.bars.push(Bar::at_most(
        "exec, p50 over that of posix_spawn",
        ratio.map_or(f64::INFINITY, |ratio| ratio.median),
        2.0,
        " ×",
    ));
    let rate = entries[3].row.per_second.max(entries[4].row.per_second);
    report.bars.push(Bar::at_least("exec, 16 in flight", rate, 2000.0, "/s"));
    report.rows = entries.into_iter().map(|entry| entry.row).collect();
    Ok(report)
}

fn contender<'a>(
    driver: &'a Driver,
    name: &str,
    paths: &'a [String],
    in_flight: usize,
    per_round: usize,
) -> Contender<'a> {
    Contender {
        name: name.to_owned(),
        role: Role::Hothouse,
        in_flight,
        per_round,
        measure: Box::new(move |ops| {
            driver.round(in_flight, ops, async |connection, at| {
                run_ok(connection, &paths[at % paths.len()], EXEC_TRUE).await
            })
        }),
    }
}

fn health(driver: &Driver) -> Contender<'_> {
    Contender {
        name: "GET /healthz".to_owned(),
        role: Role::Floor,
        in_flight: 1,
        per_round: 400,
        measure: Box::new(move |ops| {
            driver.round(1, ops, async |connection, _| {
                connection.call(hyper::Method::GET, "/healthz", &b""[..]).await.map(drop)
            })
        }),
    }
}
