//! `hothouse doctor`.

use std::time::Instant;

use comfy_table::{Cell, Color};
use hothouse_domain::{Capabilities, Capability, Enforcement, ExecSpec, Outcome, Resources, SandboxSpec};
use serde::Serialize;

use super::table::{self, Table};
use crate::console;
use crate::failure::Failure;
use crate::flags::PlaceFlags;
use crate::place::Place;

/// Show what this machine can enforce, and how to get what is missing
///
/// Makes a sandbox and runs a program in it to prove it; the exit status is 0 when that works.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Print it as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    place: PlaceFlags,
}

/// What the doctor found.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    capabilities: Capabilities,
    proof: Proof,
}

/// One sandbox that was made to see whether it works.
#[derive(Debug, Serialize)]
struct Proof {
    create_s: f64,
    exec_s: f64,
    delete_s: f64,
    outcome: Outcome,
}

impl Proof {
    fn holds(&self) -> bool {
        self.outcome == Outcome::Exited { code: 0 }
    }
}

/// Examines this machine.
pub(crate) async fn run(args: DoctorArgs) -> Result<u8, Failure> {
    let DoctorArgs { json, place } = args;
    let report = Place::inside(&place, 1, async |place: &Place| {
        let capabilities = place.capabilities().await?;
        Ok(Report { capabilities, proof: prove(place).await? })
    });
    let report = Box::pin(report).await?;
    if json {
        console::json(&report)?
    } else {
        print(&report)?
    }
    Ok(u8::from(!report.proof.holds()))
}

async fn prove(place: &Place) -> Result<Proof, Failure> {
    let begin = Instant::now();
    let resources = Resources { memory_bytes: 64 << 20, ..Resources::default() };
    let sandbox = place.create(SandboxSpec { resources, ..SandboxSpec::default() }).await?;
    let created = begin.elapsed();
    let spec = ExecSpec { argv: Some(vec!["true".to_owned()]), timeout_s: Some(10.0), ..ExecSpec::default() };
    let result = sandbox.exec(spec).await;
    let ran = begin.elapsed();
    sandbox.delete().await?;
    let deleted = begin.elapsed();
    Ok(Proof {
        create_s: created.as_secs_f64(),
        exec_s: (ran - created).as_secs_f64(),
        delete_s: (deleted - ran).as_secs_f64(),
        outcome: result?.outcome,
    })
}

fn print(report: &Report) -> Result<(), Failure> {
    let Report { capabilities, proof } = report;
    let mut table = Table::new(&["", "PROTECTION", "WHAT IT DOES"]);
    for item in &capabilities.items {
        let (mark, colour) = match item.enforcement {
            Enforcement::Enforced => ("✓", Color::Green),
            Enforcement::Partial { .. } => ("~", Color::Yellow),
            Enforcement::Missing { .. } => ("✗", Color::Red),
        };
        table.cells(vec![Cell::new(mark).fg(colour), Cell::new(&item.name), Cell::new(&item.what)]);
    }
    table.print()?;
    for item in &capabilities.items {
        explain(item)?;
    }
    console::line("")?;
    if proof.holds() {
        console::line(&format!(
            "Sandboxes work here ({} backend): made one in {}, ran a program in it in {}, removed it in {}.",
            capabilities.backend,
            table::seconds(proof.create_s),
            table::seconds(proof.exec_s),
            table::seconds(proof.delete_s),
        ))
    } else {
        console::line(&format!("A sandbox was made, but `true` did not run in it: {:?}", proof.outcome))
    }
}

/// Why a protection does not hold in full, and what to do.
fn explain(item: &Capability) -> Result<(), Failure> {
    let (mark, reason, fix) = match &item.enforcement {
        Enforcement::Enforced => return Ok(()),
        Enforcement::Partial { reason, fix } => ("~", reason, fix),
        Enforcement::Missing { reason, fix } => ("✗", reason, fix),
    };
    console::line(&format!("\n{mark} {}: {reason}", item.name))?;
    if fix.is_empty() { Ok(()) } else { console::line(&format!("  fix: {fix}")) }
}
