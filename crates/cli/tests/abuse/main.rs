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

mod api;
mod cases;
mod findings;
mod host;
mod matrix;
mod neighbour;
mod outside;
mod scene;
mod world;

use std::process::ExitCode;

use crate::matrix::Matrix;
use crate::world::{Whom, World};

/// What the command line asks for.
struct Wanted {
    cases: Vec<String>,
    whoms: Vec<Whom>,
}

fn wanted() -> Wanted {
    let mut cases = Vec::new();
    let mut whoms = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--as" {
            whoms.extend(args.next().as_deref().and_then(Whom::parse));
        } else if arg.starts_with('T') {
            cases.push(arg);
        }
    }
    if whoms.is_empty() {
        whoms = Whom::ALL.to_vec();
    }
    Wanted { cases, whoms }
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(&wanted()))
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
                    let row = Box::pin(scene::play(&mut world, case)).await;
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
