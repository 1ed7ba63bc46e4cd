//! `hothouse top`.

use std::collections::HashMap;
use std::time::Duration;

use hothouse_domain::{FrozenBy, NodeStats, SandboxId, SandboxPhase};
use reqwest::Method;

use super::table::{self, Table};
use crate::console;
use crate::failure::Failure;
use crate::flags::{ServerFlags, duration};
use crate::interrupt::Interrupts;

/// Moves to the top left of the terminal and clears all below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// What pools and sandboxes use, again and again
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hothouse top\n  hothouse top --once --json | jq '.sandboxes[0]'")]
pub(crate) struct TopArgs {
    /// How often to look
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "1s")]
    every: Duration,
    /// Sandboxes to show, those with the most memory
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Look twice, show once, and end
    #[arg(long)]
    once: bool,
    /// Print what is seen as JSON, an object a line
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = duration(text)?;
    if (0.1..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("use 0.1s to 1h".to_owned())
    }
}

/// Shows it until it is told to end.
pub(crate) async fn run(args: TopArgs) -> Result<u8, Failure> {
    let TopArgs { every, limit, once, json, server } = args;
    let client = server.client()?;
    let mut interrupts = Interrupts::listen()?;
    let look = async || {
        let request = client.request(Method::GET, &["v1", "stats"]).query(&[("limit", limit)]);
        client.send_json::<NodeStats>(request).await
    };
    let mut before = look().await?;
    if json && !once {
        console::json_object(&before)?;
    }
    loop {
        tokio::select! {
            _signal = interrupts.next() => return Ok(0),
            () = tokio::time::sleep(every) => {}
        }
        let now = look().await?;
        if json {
            console::json_object(&now)?;
        } else {
            if console::out_is_terminal() && !once {
                console::bytes(CLEAR.as_bytes())?;
            }
            show(&before, &now)?;
        }
        if once {
            return Ok(0);
        }
        before = now;
    }
}

fn show(before: &NodeStats, now: &NodeStats) -> Result<(), Failure> {
    let mut usage = Vec::new();
    for (name, taken) in &now.usage {
        let amount = |value: f64| if name == "memory_bytes" { bytes(value) } else { value.to_string() };
        let of = taken.capacity.map_or_else(String::new, |capacity| format!(" of {}", amount(capacity)));
        usage.push(format!("{name} {}{of}", amount(taken.taken)));
    }
    console::line(&format!("{}; {} wait for room", usage.join(", "), now.waiting))?;
    if !now.pools.is_empty() {
        let mut pools = Table::new(&["POOL", "READY", "MAKING", "CLAIMED", "HITS", "MISSES"]);
        for pool in &now.pools {
            let numbers = [pool.ready, pool.making, pool.claimed]
                .map(u64::from)
                .into_iter()
                .chain([pool.hits, pool.misses]);
            let cells = std::iter::once(pool.spec.name.to_string()).chain(numbers.map(|n| n.to_string()));
            pools.row(cells.collect());
        }
        pools.print()?;
    }
    let cpu: HashMap<&SandboxId, f64> =
        before.sandboxes.iter().filter_map(|stats| Some((&stats.id, stats.cpu_s?))).collect();
    let passed = (now.at_s - before.at_s).max(f64::MIN_POSITIVE);
    let mut table = Table::new(&["ID", "STATE", "CPU", "MEMORY", "PROCESSES"]);
    for stats in &now.sandboxes {
        let used = stats.cpu_s.zip(cpu.get(&stats.id)).map(|(now, before)| (now - before) / passed * 100.0);
        let unknown = || "?".to_owned();
        table.row(vec![
            stats.id.to_string(),
            state(&stats.phase).to_owned(),
            used.map_or_else(unknown, |percent| format!("{:.0}%", percent.max(0.0))),
            stats.memory_bytes.map_or_else(unknown, table::bytes),
            stats.processes.map_or_else(unknown, |count| count.to_string()),
        ]);
    }
    table.print()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an amount of bytes")]
fn bytes(amount: f64) -> String {
    table::bytes(amount.max(0.0) as u64)
}

fn state(phase: &SandboxPhase) -> &'static str {
    match phase {
        SandboxPhase::Creating => "creating",
        SandboxPhase::Running => "running",
        SandboxPhase::Frozen { by: FrozenBy::Client } => "frozen",
        SandboxPhase::Frozen { by: FrozenBy::Pressure } => "frozen for memory",
        SandboxPhase::Dead { .. } => "dead",
        SandboxPhase::Destroying => "destroying",
    }
}
