//! The abuse matrix: every attack of the threat model that concerns one machine, run against the real program.
//!
//! Each case runs an attack in a sandbox and asserts three things: what the attack itself got, that the host is as it
//! was, and that a neighbour sandbox was served before, during and after. Each case has a negative control, the same
//! attack with the defence off, which must succeed; an attack that fails everywhere proves nothing. All of it runs for
//! root, for an ordinary user to whom cgroups are delegated, and for one without.
//!
//! `cargo test -p hothouse-cli --test abuse -- [T01 …] [--as root|delegated|user]…`; `HOTHOUSE_PROGRAM` names another
//! program than the one that cargo built.

#![expect(clippy::print_stdout, reason = "the matrix is what this program is for")]

mod account;
mod api;
mod cases;
mod companion;
mod findings;
mod host;
mod matrix;
mod neighbour;
mod outside;
mod scene;
mod world;

use std::process::ExitCode;

use anyhow::Context as _;

use crate::matrix::Matrix;
use crate::world::{Whom, World};

/// What the command line asks for.
struct Wanted {
    cases: Vec<String>,
    whoms: Vec<Whom>,
}

fn wanted() -> anyhow::Result<Wanted> {
    let mut cases = Vec::new();
    let mut whoms = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--as" {
            let name = args.next().unwrap_or_default();
            whoms.push(
                Whom::parse(&name).with_context(|| format!("--as {name}: use root, delegated or user"))?,
            );
        } else if cases::ALL.iter().any(|case| case.id == arg) {
            cases.push(arg);
        } else {
            anyhow::bail!("no case {arg}");
        }
    }
    if whoms.is_empty() {
        whoms = Whom::ALL.to_vec();
    }
    Ok(Wanted { cases, whoms })
}

fn main() -> anyhow::Result<ExitCode> {
    let wanted = wanted()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(run(&wanted)))
}

async fn run(wanted: &Wanted) -> ExitCode {
    let mut matrix = Matrix::default();
    for whom in &wanted.whoms {
        if let Some(reason) = whom.cannot_be() {
            matrix.skip(*whom, &reason);
            continue;
        }
        match World::start(*whom).await {
            Ok(mut world) => {
                for case in cases::ALL
                    .iter()
                    .filter(|case| wanted.cases.is_empty() || wanted.cases.iter().any(|id| id == case.id))
                {
                    let mut row = Box::pin(scene::play(&mut world, case)).await;
                    if row.is_only_slow() {
                        println!(
                            "{}\n     once more, since other programs may have been in the way:",
                            row.line()
                        );
                        row = Box::pin(scene::play(&mut world, case)).await;
                    }
                    println!("{}", row.line());
                    matrix.push(row);
                }
                if let Err(error) = world.stop().await {
                    matrix.broken(*whom, &format!("the server did not end cleanly: {error:#}"));
                }
            }
            Err(error) => matrix.broken(*whom, &format!("no server: {error:#}")),
        }
    }
    println!("{matrix}");
    matrix.verdict()
}
