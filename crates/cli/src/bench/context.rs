//! `context`: a live interpreter, opened, asked and forked over HTTP, beside `python3` started anew.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use hyper::Method;
use serde::Deserialize;

use super::contest::{Contender, measure};
use super::http::{Connection, Driver};
use super::process::{CommandLine, spawn_true};
use super::report::{Bar, Report, Role};
use super::sample::Round;
use super::service::{EXEC_TRUE, Service, create, run_ok};

/// What a context has loaded when it begins.
const IMPORTS: &str =
    "import json, re, math, random, collections\ntry: import numpy\nexcept ImportError: pass";
const EVAL: &[u8] = br#"{"code":"1+1"}"#;
/// Live data of the context that is forked: every page written.
const FILL: &[u8] = br#"{"code":"x = bytearray(50 << 20)\nx[::4096] = b'x' * (len(x) // 4096)"}"#;

/// What the bench needs of an opened context.
#[derive(Debug, Deserialize)]
struct Opened {
    context_id: String,
}

/// What the bench needs of forks.
#[derive(Debug, Deserialize)]
struct Forks {
    items: Vec<Opened>,
}

/// Measures it.
pub(super) fn run(rounds: usize) -> anyhow::Result<Report> {
    let mut report = Report::new("context");
    report.notes.push(
        "one operation: the request, from sent to answered; a context that is opened or forked is closed untimed".to_owned(),
    );
    let service = Service::start()?;
    let driver = service.driver()?;
    let sandbox = driver.once(create)?;
    let exec = format!("/v1/sandboxes/{sandbox}/exec");
    let contexts = format!("/v1/sandboxes/{sandbox}/contexts");
    let eval = format!("{}/run", open(&driver, &contexts)?);
    let large = open(&driver, &contexts)?;
    let (fill, fork) = (format!("{large}/run"), format!("{large}/fork"));
    driver.once(async |connection| run_ok(connection, &fill, FILL).await)?;
    let python = CommandLine::installed("/usr/bin/python3", &["-c", IMPORTS])
        .or_else(|| CommandLine::installed("python3", &["-c", IMPORTS]))
        .context("this machine has no python3 in PATH")?;
    let mut contenders = vec![
        python.contender("python3 -c, the same imports", Role::Floor, 1, 20),
        made(&driver, "hothouse, new context", &contexts, Made::Opened),
        spawn_true()?.contender("posix_spawn true", Role::Floor, 1, 200),
        asked(&driver, "hothouse, exec of `true`", &exec, EXEC_TRUE),
        asked(&driver, "hothouse, eval of 1+1", &eval, EVAL),
        made(&driver, "hothouse, fork with 50 MB", &fork, Made::Forked),
    ];
    let mut entries = measure(&mut contenders, rounds)?;
    drop(contenders);
    service.stop()?;
    for (at, floor, name) in [(1, 0, "python3 -c"), (4, 3, "exec of `true`"), (5, 0, "python3 -c")] {
        entries[at].row.note = entries[at].against(name, &entries[floor]);
    }
    let beyond = entries[4].row.p50_ms - entries[3].row.p50_ms;
    report.bars.push(Bar::at_most("new context, p50", entries[1].row.p50_ms, 5.0, " ms"));
    report.bars.push(Bar::at_most("eval of 1+1, p50 beyond that of exec", beyond, 0.3, " ms"));
    report.bars.push(Bar::at_most("fork of a context with 50 MB, p50", entries[5].row.p50_ms, 5.0, " ms"));
    report.rows = entries.into_iter().map(|entry| entry.row).collect();
    Ok(report)
}

/// Opens a context; its path.
fn open(driver: &Driver, contexts: &str) -> anyhow::Result<String> {
    let opened: Opened =
        driver.once(async |connection| connection.json(Method::POST, contexts, &b"{}"[..]).await)?;
    Ok(format!("{contexts}/{}", opened.context_id))
}

fn asked<'a>(driver: &'a Driver, name: &str, path: &'a str, body: &'static [u8]) -> Contender<'a> {
    Contender {
        name: name.to_owned(),
        role: Role::Hothouse,
        in_flight: 1,
        per_round: 200,
        measure: Box::new(move |ops| {
            driver.round(1, ops, async |connection, _| run_ok(connection, path, body).await)
        }),
    }
}

/// How a context comes to be.
#[derive(Debug, Clone, Copy)]
enum Made {
    Opened,
    Forked,
}

impl Made {
    async fn one(self, connection: &mut Connection, path: &str) -> anyhow::Result<String> {
        match self {
            Self::Opened => Ok(connection.json::<Opened>(Method::POST, path, &b"{}"[..]).await?.context_id),
            Self::Forked => {
                let forks: Forks = connection.json(Method::POST, path, &b"{}"[..]).await?;
                ensure!(forks.items.len() == 1, "{} forks instead of one", forks.items.len());
                Ok(forks.items.into_iter().map(|fork| fork.context_id).collect())
            }
        }
    }
}

fn made<'a>(driver: &'a Driver, name: &str, path: &'a str, how: Made) -> Contender<'a> {
    let contexts = path.split_once("/contexts").map_or(path, |(sandbox, _)| sandbox);
    Contender {
        name: name.to_owned(),
        role: Role::Hothouse,
        in_flight: 1,
        per_round: 50,
        measure: Box::new(move |ops| {
            driver.once(async |connection| {
                let mut latencies = Vec::with_capacity(ops);
                for _ in 0..ops {
                    let sent = Instant::now();
                    let id = how.one(connection, path).await?;
                    latencies.push(sent.elapsed());
                    let made = format!("{contexts}/contexts/{id}");
                    connection.call(Method::DELETE, &made, &b""[..]).await?;
                }
                let elapsed = latencies.iter().sum();
                Ok(Round { latencies, elapsed })
            })
        }),
    }
}
