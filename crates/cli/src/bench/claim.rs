//! `claim`: take a ready sandbox from a pool and run `true` in it, over HTTP; then a burst of claims.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper::Method;
use serde::Deserialize;

use super::contest::{Contender, measure};
use super::http::{Connection, Driver};
use super::process::spawn_true;
use super::report::{Bar, Figure, Report, Role};
use super::sample::{Round, count};
use super::service::{EXEC_TRUE, Service, create, destroy, run_ok};

const POOL: &str = "/v1/pools/bench";
/// Sandboxes that are ready before each round.
const READY: u32 = 128;
/// Claims of a round, one after the other: fewer than are ready, for a miss is another figure.
const ONE_BY_ONE: usize = 60;
/// Commands of a round, while a pool refills: that takes about as long.
const EXECS: usize = 120;
/// Claims at once.
const BURST: usize = 100;

/// What the bench needs of a claimed sandbox.
#[derive(Debug, Deserialize)]
struct Claimed {
    id: String,
}

/// What the bench needs of a pool.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Pool {
    ready: u32,
    making: u32,
    hits: u64,
    misses: u64,
}

/// Measures it.
pub(super) fn run(rounds: usize) -> anyhow::Result<Report> {
    let mut report = Report::new("claim");
    report.notes.push(format!(
        "claim: POST {POOL}/claim of a pool that is full before each round and refills during it; then exec `true`; \
         from request sent to result received"
    ));
    let service = Service::start()?;
    let driver = service.driver()?;
    driver.once(make_pool)?;
    let floor = spawn_true()?;
    let other = driver.once(create)?;
    let binding = binding()?;
    let mut contenders = vec![
        floor.contender("posix_spawn true", Role::Floor, 1, 200),
        contender("hothouse, claim + exec", 1, ONE_BY_ONE, |ops| warm(&driver, 1, ops, Then::Exec)),
        contender("hothouse, create + exec, no pool", 1, ONE_BY_ONE, |ops| cold(&driver, ops)),
        contender("hothouse, burst of claims", BURST, BURST, |ops| warm(&driver, BURST, ops, Then::Nothing)),
        contender("hothouse, claim with 10 variables and a file of 100 KB", 1, ONE_BY_ONE, |ops| {
            bound(&driver, ops, &binding)
        }),
        contender("hothouse, exec, pool at rest", 1, EXECS, |ops| quiet(&driver, &other, ops)),
        contender("hothouse, exec while the pool refills", 1, EXECS, |ops| refilling(&driver, &other, ops)),
    ];
    let entries = measure(&mut contenders, rounds)?;
    drop(contenders);
    let pool = driver.once(look)?;
    service.stop()?;
    report.figures.push(Figure {
        name: "claims that found none ready".to_owned(),
        before: None,
        value: count(usize::try_from(pool.misses).unwrap_or(usize::MAX)),
        unit: "",
    });
    let [spawn, claim, create, burst, bound, quiet, refill] = entries.as_slice() else {
        bail!("seven contenders have seven entries")
    };
    let mut rows: Vec<_> = entries.iter().map(|entry| entry.row.clone()).collect();
    rows[1].note = claim.against("posix_spawn", spawn);
    rows[2].note = create.against("claim + exec", claim);
    rows[3].note = format!("{} hits in all", pool.hits);
    rows[6].note = refill.against("pool at rest", quiet);
    report.rows = rows;
    report.bars.push(Bar::at_most("claim + exec, p50", claim.row.p50_ms, 1.2, " ms"));
    report.bars.push(Bar::at_most("claim + exec, p99", claim.row.p99_ms, 5.0, " ms"));
    report.bars.push(Bar::at_most("burst of 100 claims, p99", burst.row.p99_ms, 100.0, " ms"));
    report.bars.push(Bar::at_most(
        "claim with 10 variables and a file of 100 KB, p50",
        bound.row.p50_ms,
        5.0,
        " ms",
    ));
    let slowed = refill.row.p99_ms / quiet.row.p99_ms.max(f64::MIN_POSITIVE);
    report.bars.push(Bar::at_most("exec p99 while the pool refills over that at rest", slowed, 2.0, " ×"));
    Ok(report)
}

/// The body of a claim that binds much.
fn binding() -> anyhow::Result<Vec<u8>> {
    let env: BTreeMap<String, String> =
        (0..10).map(|n| (format!("NAME_{n}"), format!("value {n}"))).collect();
    let file = serde_json::json!({"path": "/workspace/big", "content": "x".repeat(100_000)});
    serde_json::to_vec(&serde_json::json!({"env": env, "files": [file]})).context("writing JSON")
}

/// Claims that bind much.
fn bound(driver: &Driver, ops: usize, body: &[u8]) -> anyhow::Result<Round> {
    fill(driver)?;
    let claimed = RefCell::new(Vec::with_capacity(ops));
    let round = driver.round(1, ops, async |connection, _| {
        let path = format!("{POOL}/claim");
        let Claimed { id } = connection.json(Method::POST, &path, body.to_vec()).await?;
        claimed.borrow_mut().push(id);
        Ok(())
    })?;
    clear(driver, &claimed.into_inner())?;
    Ok(round)
}

fn quiet(driver: &Driver, other: &str, ops: usize) -> anyhow::Result<Round> {
    fill(driver)?;
    execs(driver, other, ops)
}

/// Commands in another sandbox, right after a burst has emptied most of the pool.
fn refilling(driver: &Driver, other: &str, ops: usize) -> anyhow::Result<Round> {
    fill(driver)?;
    let claimed = RefCell::new(Vec::with_capacity(BURST));
    driver.round(16, BURST, async |connection, _| {
        let Claimed { id } = connection.json(Method::POST, &format!("{POOL}/claim"), &b"{}"[..]).await?;
        claimed.borrow_mut().push(id);
        Ok(())
    })?;
    let round = execs(driver, other, ops)?;
    clear(driver, &claimed.into_inner())?;
    Ok(round)
}

fn execs(driver: &Driver, id: &str, ops: usize) -> anyhow::Result<Round> {
    let path = format!("/v1/sandboxes/{id}/exec");
    driver.round(1, ops, async |connection, _| run_ok(connection, &path, EXEC_TRUE).await)
}

fn contender<'a>(
    name: &str,
    in_flight: usize,
    per_round: usize,
    measure: impl FnMut(usize) -> anyhow::Result<Round> + 'a,
) -> Contender<'a> {
    Contender {
        name: name.to_owned(),
        role: Role::Hothouse,
        in_flight,
        per_round,
        measure: Box::new(measure),
    }
}

/// What comes after a claim, in the time that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Exec,
    Nothing,
}

/// Claims from the full pool; what was claimed goes when the clock has stopped.
fn warm(driver: &Driver, in_flight: usize, ops: usize, then: Then) -> anyhow::Result<Round> {
    fill(driver)?;
    let claimed = RefCell::new(Vec::with_capacity(ops));
    let round = driver.round(in_flight, ops, async |connection, _| {
        let path = format!("{POOL}/claim");
        let Claimed { id } = connection.json(Method::POST, &path, &b"{}"[..]).await?;
        if then == Then::Exec {
            run_ok(connection, &format!("/v1/sandboxes/{id}/exec"), EXEC_TRUE).await?;
        }
        claimed.borrow_mut().push(id);
        Ok(())
    })?;
    clear(driver, &claimed.into_inner())?;
    Ok(round)
}

/// The same without a pool.
fn cold(driver: &Driver, ops: usize) -> anyhow::Result<Round> {
    fill(driver)?;
    let made = RefCell::new(Vec::with_capacity(ops));
    let round = driver.round(1, ops, async |connection, _| {
        let id = create(connection).await?;
        run_ok(connection, &format!("/v1/sandboxes/{id}/exec"), EXEC_TRUE).await?;
        made.borrow_mut().push(id);
        Ok(())
    })?;
    clear(driver, &made.into_inner())?;
    Ok(round)
}

fn clear(driver: &Driver, ids: &[String]) -> anyhow::Result<()> {
    driver.round(8, ids.len(), async |connection, at| destroy(connection, &ids[at]).await)?;
    Ok(())
}

async fn make_pool(connection: &mut Connection) -> anyhow::Result<()> {
    connection.call(Method::PUT, "/v1/templates/bench", &b"{}"[..]).await?;
    let spec = serde_json::json!({"name": "bench", "template": "bench", "min": READY, "max": READY});
    let body = serde_json::to_vec(&spec).context("writing JSON")?;
    connection.call(Method::POST, "/v1/pools", body).await?;
    Ok(())
}

async fn look(connection: &mut Connection) -> anyhow::Result<Pool> {
    connection.json(Method::GET, POOL, &b""[..]).await
}

/// Waits until the pool is full and at rest.
fn fill(driver: &Driver) -> anyhow::Result<()> {
    for _ in 0..3000 {
        let pool = driver.once(look)?;
        if pool.ready == READY && pool.making == 0 {
            return Ok(());
        }
        driver.pause(Duration::from_millis(20));
    }
    bail!("the pool is not full after a minute")
}
