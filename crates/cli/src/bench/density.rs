//! `density`: claims, commands and listings with ever more sandboxes alive, and a plot of them.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use hyper::Method;
use plotters::prelude::*;
use serde::Deserialize;

use super::growth::make;
use super::http::{Connection, Driver};
use super::machine::Meminfo;
use super::report::{Bar, Figure, Report, Role, Row};
use super::sample::{Series, count};
use super::service::{EXEC_TRUE, Service, destroy, run_ok};

/// Sandboxes that are ready in the pool.
const READY: usize = 64;
/// Claims of a round: fewer than are ready.
const CLAIMS: usize = 40;
/// Commands and listings of a round.
const OPS: usize = 200;

/// What was measured with so many alive.
struct Step {
    alive: usize,
    claim: Series,
    exec: Series,
    list: Series,
}

/// What is drawn of a step.
type Curve = fn(&Step) -> &Series;

#[derive(Debug, Deserialize)]
struct Pool {
    ready: usize,
    making: usize,
}

#[derive(Debug, Deserialize)]
struct Claimed {
    id: String,
}

/// Measures it; `plot` is an SVG.
pub(super) fn run(alive: usize, rounds: usize, plot: Option<&Path>) -> anyhow::Result<Report> {
    let mut report = Report::new("density");
    report.notes.push(format!(
        "density: with each number alive, {CLAIMS} claims from a pool of {READY}, {OPS} times `true` each time in another \
         sandbox, and {OPS} listings of 100"
    ));
    let service = Service::start()?;
    let driver = service.driver()?;
    driver.once(make_pool)?;
    let mut ids = Vec::new();
    let mut steps = Vec::new();
    let before = Meminfo::look();
    let mut next = 10;
    loop {
        let target = next.min(alive);
        let (more, _) = make(&driver, target - ids.len())?;
        ids.extend(more);
        steps.push(step(&driver, &ids, rounds)?);
        if target == alive {
            break;
        }
        next *= 10;
    }
    let held = Meminfo::look().held().saturating_sub(before.held());
    driver.round(16, ids.len(), async |connection, at| destroy(connection, &ids[at]).await)?;
    service.stop()?;
    for Step { alive, claim, exec, list } in &steps {
        report.rows.push(Row::of(&format!("claim, {alive} alive"), Role::Hothouse, 1, claim));
        report.rows.push(Row::of(&format!("exec, {alive} alive"), Role::Hothouse, 1, exec));
        report.rows.push(Row::of(&format!("list 100, {alive} alive"), Role::Hothouse, 1, list));
    }
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { bail!("no step was measured") };
    for (what, few, many) in [
        ("claim", &first.claim, &last.claim),
        ("exec", &first.exec, &last.exec),
        ("list", &first.list, &last.list),
    ] {
        let name = format!("{what} p50 with {} alive over that with {}", last.alive, first.alive);
        let ratio = many.p50_ms() / few.p50_ms().max(f64::MIN_POSITIVE);
        report.bars.push(Bar::at_most(&name, ratio, 1.5, " ×"));
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each = held as f64 / 1024.0 / count(ids.len().max(1));
    report.figures.push(Figure {
        name: "held by each that is alive".to_owned(),
        before: None,
        value: each,
        unit: "KiB",
    });
    if let Some(path) = plot {
        draw(&steps, path)?;
        report.notes.push(format!("plot: {}", path.display()));
    }
    Ok(report)
}

fn step(driver: &Driver, ids: &[String], rounds: usize) -> anyhow::Result<Step> {
    let mut step =
        Step { alive: ids.len(), claim: Series::default(), exec: Series::default(), list: Series::default() };
    // The first request to a sandbox opens a connection to its guest; that is part of what is measured.
    for round in 0..rounds {
        fill(driver)?;
        let claimed = RefCell::new(Vec::new());
        step.claim.push(driver.round(1, CLAIMS, async |connection, _| {
            let Claimed { id } = connection.json(Method::POST, "/v1/pools/dense/claim", &b"{}"[..]).await?;
            claimed.borrow_mut().push(id);
            Ok(())
        })?);
        let claimed = claimed.into_inner();
        driver.round(8, claimed.len(), async |connection, at| destroy(connection, &claimed[at]).await)?;
        fill(driver)?;
        step.exec.push(driver.round(1, OPS, async |connection, at| {
            let id = &ids[(at * 7919 + round * 104_729) % ids.len()];
            run_ok(connection, &format!("/v1/sandboxes/{id}/exec"), EXEC_TRUE).await
        })?);
        step.list.push(driver.round(1, OPS, async |connection, at| {
            let after = &ids[(at * 7919) % ids.len()];
            connection.call(Method::GET, &format!("/v1/sandboxes?limit=100&after={after}"), &b""[..]).await?;
            Ok(())
        })?);
    }
    Ok(step)
}

async fn make_pool(connection: &mut Connection) -> anyhow::Result<()> {
    connection.call(Method::PUT, "/v1/templates/dense", &b"{}"[..]).await?;
    let spec = serde_json::json!({"name": "dense", "template": "dense", "min": READY, "max": READY});
    connection.call(Method::POST, "/v1/pools", serde_json::to_vec(&spec).context("writing JSON")?).await?;
    Ok(())
}

/// Waits until the pool is full and at rest.
fn fill(driver: &Driver) -> anyhow::Result<()> {
    for _ in 0..3000 {
        let pool: Pool = driver
            .once(async |connection| connection.json(Method::GET, "/v1/pools/dense", &b""[..]).await)?;
        if pool.ready == READY && pool.making == 0 {
            return Ok(());
        }
        driver.pause(Duration::from_millis(20));
    }
    bail!("the pool is not full after a minute")
}

/// Draws median latencies over the number alive, which is on a logarithmic axis.
fn draw(steps: &[Step], path: &Path) -> anyhow::Result<()> {
    let failed = |error: String| anyhow!("drawing {}: {error}", path.display());
    let most = steps.iter().map(|step| count(step.alive)).fold(10.0, f64::max);
    let lines: [(&str, RGBColor, Curve); 3] = [
        ("claim", RED, |step| &step.claim),
        ("exec", BLUE, |step| &step.exec),
        ("list", BLACK, |step| &step.list),
    ];
    let tallest = steps.iter().flat_map(|s| lines.map(|(.., of)| of(s).p50_ms())).fold(0.0, f64::max);
    let area = SVGBackend::new(path, (720, 420)).into_drawing_area();
    area.fill(&WHITE).map_err(|e| failed(e.to_string()))?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .caption("p50 with so many sandboxes alive", ("sans-serif", 18))
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d((8.0..most * 1.2).log_scale(), 0.0..tallest * 1.2)
        .map_err(|e| failed(e.to_string()))?;
    chart.configure_mesh().x_desc("alive").y_desc("ms").draw().map_err(|e| failed(e.to_string()))?;
    for (name, colour, of) in lines {
        let points = steps.iter().map(|step| (count(step.alive), of(step).p50_ms()));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))
            .map_err(|e| failed(e.to_string()))?
            .label(name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()
        .map_err(|e| failed(e.to_string()))?;
    area.present().map_err(|e| failed(e.to_string()))
}
