//! `hothouse ps`.

use hothouse_domain::{Claim, FrozenBy, SandboxInfo, SandboxPhase};
use jiff::Timestamp;

use super::table::{self, Table};
use crate::console;
use crate::failure::Failure;
use crate::flags::{LabelFlag, ServerFlags};

/// List the sandboxes of a server
#[derive(Debug, clap::Args)]
pub(crate) struct PsArgs {
    /// Only those with this label (repeatable)
    #[arg(long, short = 'l', value_name = "NAME=VALUE")]
    label: Vec<LabelFlag>,
    /// Print ids only
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Print all about them as JSON
    #[arg(long, conflicts_with = "quiet")]
    pub(super) json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

/// Lists them.
pub(crate) async fn run(args: PsArgs) -> Result<u8, Failure> {
    let PsArgs { label, quiet, json, server } = args;
    let labels: Vec<_> = label.into_iter().map(|l| (l.name, l.value)).collect();
    let all = server.client()?.list(&labels).await?;
    if json {
        console::json(&all)?;
    } else if quiet {
        for info in &all {
            console::line(info.id.as_str())?;
        }
    } else {
        let now = Timestamp::now();
        let mut table =
            Table::new(&["ID", "STATE", "AGE", "IMAGE", "MEMORY", "CPUS", "PIDS", "POOL", "LABELS"]);
        for info in &all {
            table.row(row(info, now));
        }
        table.print()?;
    }
    Ok(0)
}

fn row(info: &SandboxInfo, now: Timestamp) -> Vec<String> {
    let resources = &info.spec.resources;
    let labels: Vec<_> = info.spec.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    vec![
        info.id.to_string(),
        phase(&info.phase),
        info.created_at.parse().map_or_else(|_| "?".to_owned(), |made| table::age(now, made)),
        info.spec.image.to_string(),
        table::bytes(resources.memory_bytes),
        resources.cpus.to_string(),
        resources.pids.to_string(),
        info.pool.as_ref().map_or_else(String::new, |place| match place.claim {
            Claim::Preparing => format!("{}, preparing", place.pool),
            Claim::Ready => format!("{}, ready", place.pool),
            Claim::Claimed => place.pool.to_string(),
        }),
        labels.join(","),
    ]
}

fn phase(phase: &SandboxPhase) -> String {
    match phase {
        SandboxPhase::Creating => "creating".to_owned(),
        SandboxPhase::Running => "running".to_owned(),
        SandboxPhase::Frozen { by: FrozenBy::Client } => "frozen".to_owned(),
        SandboxPhase::Frozen { by: FrozenBy::Pressure } => "frozen for memory".to_owned(),
        SandboxPhase::Dead { reason } => format!("dead: {reason}"),
        SandboxPhase::Destroying => "destroying".to_owned(),
    }
}
