//! `session`: a command in a live shell session, over HTTP.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use hyper::Method;
use serde::Deserialize;

use super::contest::{Contender, measure};
use super::http::Driver;
use super::process::spawn_true;
use super::report::{Bar, Report, Role};
use super::sample::Round;
use super::service::{Service, create, run_ok};

const BUILTIN: &[u8] = br#"{"command":"true"}"#;
const PROGRAM: &[u8] = br#"{"command":"/bin/true"}"#;

/// What the bench needs of an opened session.
#[derive(Debug, Deserialize)]
struct Opened {
    shell_id: String,
}

/// Measures it.
pub(super) fn run(rounds: usize) -> anyhow::Result<Report> {
    let mut report = Report::new("session");
    report.notes.push(
        "one operation: POST …/shells/{id}/run, from request sent to result received; one session throughout"
            .to_owned(),
    );
    let service = Service::start()?;
    let driver = service.driver()?;
    let sandbox = driver.once(create)?;
    let shells = format!("/v1/sandboxes/{sandbox}/shells");
    let opened: Opened =
        driver.once(async |connection| connection.json(Method::POST, &shells, &b"{}"[..]).await)?;
    let run = format!("{shells}/{}/run", opened.shell_id);
    let mut bash = Bash::start()?;
    let mut contenders = vec![
        spawn_true()?.contender("posix_spawn true", Role::Floor, 1, 200),
        Contender {
            name: "bash on two pipes, builtin `true`".to_owned(),
            role: Role::Floor,
            in_flight: 1,
            per_round: 200,
            measure: Box::new(move |ops| bash.round("true", ops)),
        },
        contender(&driver, "hothouse, builtin `true`", &run, BUILTIN),
        contender(&driver, "hothouse, program /bin/true", &run, PROGRAM),
    ];
    let mut entries = measure(&mut contenders, rounds)?;
    drop(contenders);
    service.stop()?;
    for (at, floor, name) in [(2, 1, "bash on pipes"), (3, 0, "posix_spawn")] {
        entries[at].row.note = entries[at].against(name, &entries[floor]);
    }
    report.bars.push(Bar::at_most("shell-session command, p50", entries[2].row.p50_ms, 2.0, " ms"));
    report.bars.push(Bar::at_most("… that runs a program, p50", entries[3].row.p50_ms, 2.0, " ms"));
    report.rows = entries.into_iter().map(|entry| entry.row).collect();
    report
        .not_measured
        .push("swe-rex: not driven by this bench; its medians stand in the notes on peers".to_owned());
    Ok(report)
}

fn contender<'a>(driver: &'a Driver, name: &str, path: &'a str, body: &'static [u8]) -> Contender<'a> {
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

/// The least that any session costs: a shell of this machine, a line in, a line out.
#[derive(Debug)]
struct Bash {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Bash {
    fn start() -> anyhow::Result<Self> {
        let mut child = Command::new("bash")
            .args(["--norc", "--noprofile"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting bash")?;
        let input = child.stdin.take().context("bash has no standard input")?;
        let output = child.stdout.take().context("bash has no standard output")?;
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    fn round(&mut self, command: &str, ops: usize) -> anyhow::Result<Round> {
        let began = Instant::now();
        let mut latencies = Vec::with_capacity(ops);
        let line = format!("{command}\necho $?\n");
        let mut answer = String::new();
        for _ in 0..ops {
            let sent = Instant::now();
            self.input.write_all(line.as_bytes()).context("writing to bash")?;
            answer.clear();
            self.output.read_line(&mut answer).context("reading from bash")?;
            latencies.push(sent.elapsed());
            if answer != "0\n" {
                bail!("bash answered {answer:?}");
            }
        }
        Ok(Round { latencies, elapsed: began.elapsed() })
    }
}

impl Drop for Bash {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
