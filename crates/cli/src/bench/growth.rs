//! `growth`: what an idle sandbox costs, whether a command slows down when many are alive, and whether anything is
//! left behind when many have come and gone.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::Context as _;

use super::contest::{Contender, Entry, measure};
use super::footprint::{Footprint, Watched, kib, mib};
use super::http::Driver;
use super::machine::Meminfo;
use super::process::spawn_true;
use super::report::{Bar, Figure, Report, Role, Row};
use super::sample::{Round, Series, count};
use super::service::{EXEC_TRUE, Service, create, destroy, run_ok};

const AT_ONCE: usize = 16;
/// Fields of `/proc/meminfo` that say where the memory of idle sandboxes lies.
const PARTS: [&str; 7] =
    ["AnonPages", "Shmem", "SUnreclaim", "SReclaimable", "KernelStack", "PageTables", "Percpu"];

/// How much to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// Sandboxes alive at once.
    pub(super) alive: usize,
    /// Sandboxes that come and go.
    pub(super) churn: usize,
    /// Rounds of each latency.
    pub(super) rounds: usize,
}

/// Measures it.
pub(super) fn run(extent: Extent) -> anyhow::Result<Report> {
    let mut report = Report::new("growth");
    let service = Service::start()?;
    let driver = service.driver()?;
    let processes = service.processes();
    let home = service.home();
    let watched = Watched { processes: &processes, home: &home, cgroup: service.cgroup() };
    churn(&driver, extent.churn / 10)?;
    let before = settled(&driver, &watched);
    come_and_go(&driver, &watched, extent, &mut report)?;
    stay_alive(&driver, &watched, extent, &mut report)?;
    // The allocator keeps what the first crowd needed; a second one that needs more is a leak.
    let crowded = settled(&driver, &watched);
    crowd(&driver, extent.alive)?;
    let after = settled(&driver, &watched);
    let grown = after.grown_since(&Footprint { rss_bytes: crowded.rss_bytes, ..before });
    report.figures.push(Figure {
        name: format!("resident memory after {} alive at once, and again", extent.alive),
        before: Some(mib(crowded.rss_bytes)),
        value: mib(after.rss_bytes),
        unit: "MiB",
    });
    report.bars.push(Bar {
        name: format!("nothing left of twice {} sandboxes that were alive at once", extent.alive),
        bar: "no growth".to_owned(),
        measured: if grown.is_empty() {
            "no growth".to_owned()
        } else {
            format!("grew: {}", grown.join(", "))
        },
        met: grown.is_empty(),
    });
    service.stop()?;
    Ok(report)
}

fn come_and_go(
    driver: &Driver,
    watched: &Watched<'_>,
    extent: Extent,
    report: &mut Report,
) -> anyhow::Result<()> {
    let before = settled(driver, watched);
    let tenth = (extent.churn / 10).max(1);
    let mut series = Vec::new();
    for _ in 0..10 {
        series.push(churn(driver, tenth)?);
    }
    let after = settled(driver, watched);
    for (name, at) in [("create + destroy, first tenth", 0), ("create + destroy, last tenth", 9)] {
        report.rows.push(Row::of(name, Role::Hothouse, AT_ONCE, &series[at]));
    }
    report.figures.extend(after.since(&before));
    let grown = after.grown_since(&before);
    report.bars.push(Bar {
        name: format!("{} sandboxes come and gone: fds, mounts, cgroups, netns, processes, RSS", tenth * 10),
        bar: "no growth".to_owned(),
        measured: if grown.is_empty() {
            "no growth".to_owned()
        } else {
            format!("grew: {}", grown.join(", "))
        },
        met: grown.is_empty(),
    });
    Ok(())
}

fn stay_alive(
    driver: &Driver,
    watched: &Watched<'_>,
    extent: Extent,
    report: &mut Report,
) -> anyhow::Result<()> {
    let first = driver.once(create)?;
    let alone = exec_latency(driver, std::slice::from_ref(&first), "1 alive", extent.rounds)?;
    settled(driver, watched);
    let empty = Meminfo::look();
    let (guests, own) = (watched.guests_pss(), watched.own_pss());
    let (mut ids, round) = make(driver, extent.alive.saturating_sub(1))?;
    let mut made = Series::default();
    made.push(round);
    report.rows.push(Row::of("create, none destroyed", Role::Hothouse, AT_ONCE, &made));
    settled(driver, watched);
    let full = Meminfo::look();
    let made_each = held_each(&empty, &full, ids.len());
    each_figures(report, &empty, &full, ids.len());
    let share = |bytes: u64, before: u64| kib(bytes.saturating_sub(before)) / count(ids.len().max(1));
    for (name, value) in [
        ("… of that, PSS of its guest", share(watched.guests_pss(), guests)),
        ("… of that, PSS of server and spawner", share(watched.own_pss(), own)),
    ] {
        report.figures.push(Figure { name: name.to_owned(), before: None, value, unit: "KiB" });
    }
    use_each(driver, &ids)?;
    settled(driver, watched);
    let used_each = held_each(&empty, &Meminfo::look(), ids.len());
    report.figures.push(Figure {
        name: "held by each after one command in each".to_owned(),
        before: None,
        value: used_each,
        unit: "KiB",
    });
    let many = exec_latency(driver, std::slice::from_ref(&first), "all alive, same sandbox", extent.rounds)?;
    let spread = exec_latency(driver, &ids, "all alive, each in another", extent.rounds)?;
    ids.push(first);
    driver.round(AT_ONCE, ids.len(), async |connection, at| destroy(connection, &ids[at]).await)?;
    let bar = format!("memory of each of {} idle sandboxes, all counted", extent.alive);
    report.bars.push(Bar::at_most(&bar, made_each / 1024.0, 0.75, " MiB"));
    flat(report, &alone, &many, "the same sandbox");
    flat(report, &alone, &spread, "each time in another");
    for pair in [alone, many, spread] {
        report.rows.extend(pair.map(|entry| entry.row));
    }
    Ok(())
}

/// Makes so many sandboxes.
pub(super) fn make(driver: &Driver, n: usize) -> anyhow::Result<(Vec<String>, Round)> {
    let ids = RefCell::new(Vec::with_capacity(n + 1));
    let round = driver.round(AT_ONCE, n, async |connection, _| {
        let id = create(connection).await?;
        ids.borrow_mut().push(id);
        Ok(())
    })?;
    Ok((ids.into_inner(), round))
}

/// Runs one command in each.
fn use_each(driver: &Driver, ids: &[String]) -> anyhow::Result<Round> {
    driver.round(AT_ONCE, ids.len(), async |connection, at| {
        run_ok(connection, &format!("/v1/sandboxes/{}/exec", ids[at]), EXEC_TRUE).await
    })
}

/// Makes, uses and destroys as many sandboxes as were alive before.
fn crowd(driver: &Driver, n: usize) -> anyhow::Result<()> {
    let (ids, _) = make(driver, n)?;
    use_each(driver, &ids)?;
    driver.round(AT_ONCE, ids.len(), async |connection, at| destroy(connection, &ids[at]).await)?;
    Ok(())
}

/// Compares latencies that were measured minutes apart: each as a multiple of the floor beside it.
fn flat(report: &mut Report, alone: &[Entry; 2], many: &[Entry; 2], what: &str) {
    let over = |pair: &[Entry; 2]| pair[1].series.p50_over(&pair[0].series).map_or(0.0, |ratio| ratio.median);
    let absolute = many[1].row.p50_ms / alone[1].row.p50_ms.max(f64::MIN_POSITIVE);
    let relative = over(many) / over(alone).max(f64::MIN_POSITIVE);
    let mut bar =
        Bar::at_most(&format!("exec p50 with all alive over that with one, {what}"), relative, 1.5, " ×");
    bar.measured = format!("{relative:.2} × (of posix_spawn beside it; {absolute:.2} × in time)");
    report.bars.push(bar);
}

fn exec_latency(driver: &Driver, ids: &[String], name: &str, rounds: usize) -> anyhow::Result<[Entry; 2]> {
    let paths: Vec<String> = ids.iter().map(|id| format!("/v1/sandboxes/{id}/exec")).collect();
    let mut contenders = vec![
        spawn_true()?.contender("posix_spawn true", Role::Floor, 1, 200),
        Contender {
            name: format!("exec, {name}"),
            role: Role::Hothouse,
            in_flight: 1,
            per_round: 200,
            measure: Box::new(|ops| {
                driver.round(1, ops, async |connection, at| {
                    run_ok(connection, &paths[at % paths.len()], EXEC_TRUE).await
                })
            }),
        },
    ];
    let entries = measure(&mut contenders, rounds)?;
    entries.try_into().ok().context("two contenders have two entries")
}

fn churn(driver: &Driver, ops: usize) -> anyhow::Result<Series> {
    let mut series = Series::default();
    series.push(driver.round(AT_ONCE, ops.max(1), async |connection, _| {
        let id = create(connection).await?;
        destroy(connection, &id).await
    })?);
    Ok(series)
}

/// The footprint when asynchronous teardown has come to rest: five equal counts in a row, for at most 15 s.
fn settled(driver: &Driver, watched: &Watched<'_>) -> Footprint {
    let still =
        |a: &Footprint, b: &Footprint| Footprint { rss_bytes: 0, ..*a } == Footprint { rss_bytes: 0, ..*b };
    let mut last = watched.look();
    let mut equal = 0;
    for _ in 0..75 {
        driver.pause(Duration::from_millis(200));
        let now = watched.look();
        equal = if still(&now, &last) { equal + 1 } else { 0 };
        last = now;
        if equal == 5 {
            break;
        }
    }
    last
}

fn held_each(before: &Meminfo, after: &Meminfo, n: usize) -> f64 {
    kib(after.held().saturating_sub(before.held())) / count(n.max(1))
}

fn each_figures(report: &mut Report, before: &Meminfo, after: &Meminfo, n: usize) {
    report.figures.push(Figure {
        name: format!("held by each of {n} idle sandboxes, all counted"),
        before: None,
        value: held_each(before, after, n),
        unit: "KiB",
    });
    for part in PARTS {
        let (then, now) = (before.get(part), after.get(part));
        let grown = mib(now) - mib(then);
        report.figures.push(Figure {
            name: format!("… {part}"),
            before: None,
            value: grown * 1024.0 / count(n.max(1)),
            unit: "KiB",
        });
    }
}
