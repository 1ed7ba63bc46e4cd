//! `create`: make a sandbox, run `true` in it, destroy it, over HTTP, without a pool.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::contest::{Contender, Entry, measure};
use super::http::Driver;
use super::peer::Peers;
use super::process::spawn_true;
use super::report::{Bar, Report, Role, Row};
use super::sample::{Round, Series};
use super::service::{EXEC_TRUE, Service, create, destroy, run_ok};

const MANY: usize = 16;

/// How long the three requests of an operation took.
#[derive(Debug, Default)]
struct Phases {
    create: Vec<Duration>,
    exec: Vec<Duration>,
    destroy: Vec<Duration>,
}

impl Phases {
    fn rows(self, in_flight: usize) -> Vec<Row> {
        [("create", self.create), ("exec", self.exec), ("destroy", self.destroy)]
            .into_iter()
            .map(|(name, latencies)| {
                let mut series = Series::default();
                let elapsed = latencies.iter().sum();
                series.push(Round { latencies, elapsed });
                let mut row = Row::of(&format!("  of which {name}"), Role::Hothouse, in_flight, &series);
                "part of the row above it".clone_into(&mut row.note);
                row
            })
            .collect()
    }
}

/// Measures it.
pub(super) fn run(rounds: usize) -> anyhow::Result<Report> {
    let mut report = Report::new("create");
    report.notes.push(
        "one operation: create + exec `true` + destroy; image host (warm), network none, no pool; \
         from request sent to result received"
            .to_owned(),
    );
    let service = Service::start()?;
    let driver = service.driver()?;
    let phases = [RefCell::<Phases>::default(), RefCell::default()];
    let floor = spawn_true()?;
    let peers = Peers::one_shot(&[1, MANY]);
    let mut contenders = vec![
        floor.clone().contender("posix_spawn true", Role::Floor, 1, 200),
        contender(&driver, &phases[0], 1, 200),
        floor.contender("posix_spawn true", Role::Floor, MANY, 1000),
        contender(&driver, &phases[1], MANY, 600),
    ];
    contenders.extend(peers.contenders);
    report.not_measured = peers.not_measured;
    let entries = measure(&mut contenders, rounds)?;
    drop(contenders);
    service.stop()?;
    let [one, many] = phases.map(RefCell::into_inner);
    fill(&mut report, &entries, [one, many]);
    Ok(report)
}

fn contender<'a>(
    driver: &'a Driver,
    phases: &'a RefCell<Phases>,
    in_flight: usize,
    per_round: usize,
) -> Contender<'a> {
    Contender {
        name: "hothouse".to_owned(),
        role: Role::Hothouse,
        in_flight,
        per_round,
        measure: Box::new(move |ops| {
            driver.round(in_flight, ops, async |connection, _| {
                let began = Instant::now();
                let id = create(connection).await?;
                let created = began.elapsed();
                run_ok(connection, &format!("/v1/sandboxes/{id}/exec"), EXEC_TRUE).await?;
                let ran = began.elapsed();
                destroy(connection, &id).await?;
                let gone = began.elapsed();
                let mut phases = phases.borrow_mut();
                phases.create.push(created);
                phases.exec.push(ran.saturating_sub(created));
                phases.destroy.push(gone.saturating_sub(ran));
                Ok(())
            })
        }),
    }
}

fn fill(report: &mut Report, entries: &[Entry], phases: [Phases; 2]) {
    let [floor_one, one, floor_many, many, peers @ ..] = entries else { return };
    let [phases_one, phases_many] = phases;
    let mut one_row = one.row.clone();
    one_row.note = one.against("posix_spawn", floor_one);
    let mut many_row = many.row.clone();
    many_row.note = many.rate_against("posix_spawn", floor_many);
    report.rows.extend([floor_one.row.clone(), one_row]);
    report.rows.extend(phases_one.rows(1));
    report.rows.extend([floor_many.row.clone(), many_row]);
    report.rows.extend(phases_many.rows(MANY));
    for peer in peers {
        let mut row = peer.row.clone();
        let ours = if row.in_flight == 1 { one } else { many };
        row.note = peer.against("hothouse", ours);
        report.rows.push(row);
    }
    report.bars.push(Bar::at_most("create + exec + destroy, p50", one.row.p50_ms, 3.0, " ms"));
    report.bars.push(Bar::at_least(
        "create + exec + destroy, 16 in flight",
        many.row.per_second,
        600.0,
        "/s",
    ));
}
