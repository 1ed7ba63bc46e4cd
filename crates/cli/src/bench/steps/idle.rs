//! Memory of sessions that nobody steps.

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Plan;
use super::server::Server;
use super::swarm::Swarm;
use super::target::Target;
use crate::bench::footprint::kib;
use crate::bench::report::{Bar, Figure, Report};
use crate::bench::sample::count;

/// Descriptors that server and load need beside those of their sessions.
const OTHERS: usize = 300;
/// Sessions that are being opened at one time.
const AT_ONCE: usize = 256;

/// Lets this process, and those that it starts, have as many descriptors as the machine allows; says how many.
pub(super) fn raise_descriptors() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // A refusal leaves the limit as it is, which is what then counts.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let raised = getrlimit(Resource::Nofile).current.or(current);
    raised.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Opens so many sessions, or as many as descriptors allow, resets each once, and looks at the server's memory.
///
/// # Errors
/// When the server refuses a session or its memory cannot be read.
pub(super) fn run(report: &mut Report, plan: &Plan, wanted: usize, descriptors: usize) -> anyhow::Result<()> {
    if !plan.is_own() {
        bail!("the case `idle` needs a server of its own; leave out --url");
    }
    let sessions = wanted.min(descriptors.saturating_sub(OTHERS));
    if sessions < wanted {
        report.notes.push(format!(
            "idle: {sessions} sessions, not {wanted}: a process may have {descriptors} descriptors"
        ));
    }
    let server = Server::hothouse("echo", &plan.placement)?;
    let load = plan.load(Target::at(server.address()));
    let memory = || server.watch().memory().filter(|bytes| *bytes > 0).context("reading the server's memory");
    // What the first sessions bring with them stays, and is not theirs.
    Swarm::open(&load, AT_ONCE, AT_ONCE)?.0.close()?;
    let before = memory()?;
    let (swarm, opening) = Swarm::open(&load, sessions, AT_ONCE)?;
    let after = memory()?;
    swarm.close()?;
    let each = kib(after.saturating_sub(before)) / count(sessions);
    report.figures.push(Figure {
        name: format!("the server's memory (PSS), {sessions} idle sessions"),
        before: Some(kib(before)),
        value: kib(after),
        unit: "KiB",
    });
    report.figures.push(Figure {
        name: "… of each session".to_owned(),
        before: None,
        value: each,
        unit: "KiB",
    });
    report.figures.push(Figure {
        name: format!("… all opened, {AT_ONCE} at a time, after"),
        before: None,
        value: opening.elapsed.as_secs_f64(),
        unit: "s",
    });
    report.bars.push(Bar::at_most("memory of an idle session", each, 32.0, " KiB"));
    Ok(())
}
