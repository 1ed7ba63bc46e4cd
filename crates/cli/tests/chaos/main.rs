//! Faults on purpose: the server, its spawner and its guests are killed, its disk and its descriptors used up, its clients
//! gone, its clock another, while hundreds of execs run. Each exec must be answered, done once, and its result readable;
//! afterwards nothing may be left: no process, control group, mount, directory or place in a pool.
//!
//! `cargo test -p hothouse-cli --test chaos -- [--long] [PART …]`; `ROUNDS` and `SEED` in the environment.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

mod api;
mod dice;
mod host;
mod ledger;
mod line;
mod parts;
mod place;
mod stage;
mod table;
mod wait;
mod work;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

use crate::parts::{Form, Part, Played, Wanted};
use crate::table::Row;

/// Kills of the server in either form, unless `ROUNDS` says otherwise.
const ROUNDS: (u64, u64) = (6, 300);
/// The time within which its rounds begin.
const BUDGET: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(600));

fn main() -> Result<ExitCode> {
    let wanted = wanted()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(play(&wanted)))
}

/// A number from the environment; make passes an empty one where none was given.
fn number(name: &str) -> Result<Option<u64>> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.parse().map(Some).with_context(|| format!("{name}={text}: use a number"))
        }
        Ok(_) | Err(_) => Ok(None),
    }
}

fn wanted() -> Result<Wanted> {
    let mut form = Form::Short;
    let mut parts = Vec::new();
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--long" => form = Form::Long,
            name if parts::ALL.iter().any(|part| part.name == name) => parts.push(arg),
            other => {
                let known: Vec<&str> = parts::ALL.iter().map(|part| part.name).collect();
                bail!("no part {other}; there are {}", known.join(", "));
            }
        }
    }
    let (rounds, budget) = match form {
        Form::Short => (ROUNDS.0, BUDGET.0),
        Form::Long => (ROUNDS.1, BUDGET.1),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = number("SEED")?.unwrap_or(now.as_secs());
    Ok(Wanted { form, seed, rounds: number("ROUNDS")?.unwrap_or(rounds), budget, parts })
}

async fn play(wanted: &Wanted) -> ExitCode {
    println!("SEED={} repeats these choices\n{}", wanted.seed, table::head());
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let is_wanted =
        |part: &&Part| wanted.parts.is_empty() || wanted.parts.iter().any(|name| name == part.name);
    for part in parts::ALL.iter().filter(is_wanted) {
        let began = Instant::now();
        let row = match (part.play)(wanted).await {
            Ok(Played::Row(row)) => *row,
            Ok(Played::Skipped(reason)) => {
                skipped += 1;
                failed += u32::from(skip(part.name, &reason).is_err());
                continue;
            }
            Err(error) => Row { broken: Some(format!("{error:#}")), ..Row::default() },
        };
        let row = Row { part: part.name, took: began.elapsed(), ..row };
        println!("{row}");
        if row.is_clean() { passed += 1 } else { failed += 1 }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    if failed > 0 {
        println!("repeat with SEED={} ROUNDS={}", wanted.seed, wanted.rounds);
    }
    println!("test result: {word}. {passed} passed; {failed} failed; {skipped} ignored");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says what was not played, here and to `make test`.
fn skip(part: &str, reason: &str) -> Result<()> {
    let line = format!("chaos {part}: {reason}");
    println!("skipped: {line}");
    let Some(path) = std::env::var_os("HOTHOUSE_SKIPS") else { return Ok(()) };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    Ok(writeln!(file, "{line}")?)
}
