//! `adopt`: how long a server takes to be ready again after it was killed with many sandboxes alive.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hyper::Method;
use serde::Deserialize;

use super::growth::make;
use super::report::{Bar, Report, Role, Row};
use super::sample::{Round, Series};
use super::service::{EXEC_TRUE, Service, run_ok};

/// What the bench needs of a page of sandboxes.
#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<serde_json::Value>,
    next: Option<String>,
}

/// Measures it.
pub(super) fn run(alive: usize, rounds: usize) -> anyhow::Result<Report> {
    let mut report = Report::new("adopt");
    report.notes.push(
        "adopt: the server is killed with SIGKILL; from the start of the next one until it is ready, and until a command \
         in a sandbox of the earlier one has ended"
            .to_owned(),
    );
    let mut service = Service::start()?;
    let (mut empty, mut ready, mut first) = (Series::default(), Series::default(), Series::default());
    for _ in 0..rounds {
        empty.push(once(service.kill_and_start_again()?));
    }
    let (ids, _) = make(&service.driver()?, alive)?;
    let one = ids.last().context("no sandbox was made")?;
    for _ in 0..rounds {
        let took = service.kill_and_start_again()?;
        let begin = Instant::now();
        let driver = service.driver()?;
        driver.once(async |connection| {
            run_ok(connection, &format!("/v1/sandboxes/{one}/exec"), EXEC_TRUE).await
        })?;
        ready.push(once(took));
        first.push(once(took + begin.elapsed()));
        let found = driver.once(async |connection| {
            let (mut found, mut after) = (0, String::new());
            loop {
                let path = format!("/v1/sandboxes?limit=1000{after}");
                let page: Page = connection.json(Method::GET, &path, &b""[..]).await?;
                found += page.items.len();
                let Some(next) = page.next else { return Ok(found) };
                after = format!("&after={next}");
            }
        })?;
        ensure!(found == alive, "{found} of {alive} sandboxes were found again");
    }
    service.stop()?;
    let name = format!("hothouse, ready with {alive} found again");
    report.rows.push(Row::of("hothouse, ready with none to find", Role::Hothouse, 1, &empty));
    report.rows.push(Row::of(&name, Role::Hothouse, 1, &ready));
    report.rows.push(Row::of("… and a command has ended in one", Role::Hothouse, 1, &first));
    let bar = format!("ready with {alive} sandboxes after SIGKILL, p50");
    report.bars.push(Bar::at_most(&bar, ready.p50_ms() / 1e3, 2.0, " s"));
    Ok(report)
}

fn once(took: Duration) -> Round {
    Round { latencies: vec![took], elapsed: took }
}
