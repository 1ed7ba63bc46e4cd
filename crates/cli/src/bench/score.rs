//! `score`: tasks in HumanEval's shape, scored by warm interpreters and in a fresh sandbox each, against the same tasks as bare `python3`
//! processes at the same concurrency.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use flate2::read::GzDecoder;
use serde::Deserialize;

use super::contest::{Contender, measure};
use super::report::{Bar, Report, Role};
use super::sample::Round;

/// A row in HumanEval's shape.
#[derive(Debug, Clone, Deserialize)]
struct Task {
    task_id: String,
    prompt: String,
    entry_point: String,
    canonical_solution: String,
    test: String,
}

impl Task {
    /// What a harness without isolation runs.
    fn program(&self) -> String {
        let Self { prompt, canonical_solution, test, entry_point, .. } = self;
        format!("{prompt}{canonical_solution}\n{test}\ncheck({entry_point})\n")
    }
}

/// Measures it.
pub(super) fn run(tasks: &Path, concurrency: Option<usize>, rounds: usize) -> anyhow::Result<Report> {
    let mut report = Report::new("score");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let at_once = concurrency.unwrap_or(cores);
    let rows = read(tasks)?;
    let interpreter = Path::new("/usr/bin/python3");
    report.notes.push(format!(
        "one operation: one task; {} tasks, {at_once} at once, canonical solutions, {} in both; the rate counts the \
         whole run of `hothouse score`, its start included",
        rows.len(),
        interpreter.display(),
    ));
    let directory = tempfile::tempdir().context("making a directory for results")?;
    let mut contenders = vec![
        Contender {
            name: "bare python3, not isolated".to_owned(),
            role: Role::Floor,
            in_flight: at_once,
            per_round: rows.len(),
            measure: Box::new(|ops| bare(interpreter, &rows, at_once, ops)),
        },
        Contender {
            name: "hothouse score".to_owned(),
            role: Role::Hothouse,
            in_flight: at_once,
            per_round: rows.len(),
            measure: Box::new(|_| scored(tasks, &[], rows.len(), at_once, directory.path())),
        },
        Contender {
            name: "hothouse score --fresh".to_owned(),
            role: Role::Hothouse,
            in_flight: at_once,
            per_round: rows.len(),
            measure: Box::new(|_| scored(tasks, &["--fresh"], rows.len(), at_once, directory.path())),
        },
    ];
    let mut entries = measure(&mut contenders, rounds)?;
    drop(contenders);
    for (at, what, bar) in [(1, "throughput", 1.5), (2, "… with a fresh sandbox each", 0.7)] {
        entries[at].row.note = entries[at].rate_against("bare python3", &entries[0]);
        let ratio = entries[at].series.rate_over(&entries[0].series).map_or(0.0, |ratio| ratio.median);
        let name = format!("{what} over that of bare python3");
        report.bars.push(Bar::at_least(&name, ratio, bar, " ×"));
    }
    report.rows = entries.into_iter().map(|entry| entry.row).collect();
    Ok(report)
}

fn read(tasks: &Path) -> anyhow::Result<Vec<Task>> {
    let text = text_of(tasks)?;
    let rows = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .enumerate()
        .map(|(at, line)| {
            serde_json::from_str(line).with_context(|| format!("{}:{}", tasks.display(), at + 1))
        })
        .collect::<anyhow::Result<Vec<Task>>>()?;
    if rows.is_empty() {
        bail!("{} has no tasks", tasks.display());
    }
    Ok(rows)
}

fn text_of(file: &Path) -> anyhow::Result<String> {
    let open = || std::fs::File::open(file).with_context(|| format!("opening {}", file.display()));
    let mut text = String::new();
    if file.extension().is_some_and(|end| end == "gz") {
        GzDecoder::new(open()?).read_to_string(&mut text)
    } else {
        open()?.read_to_string(&mut text)
    }
    .with_context(|| format!("reading {}", file.display()))?;
    Ok(text)
}

fn bare(interpreter: &Path, tasks: &[Task], at_once: usize, ops: usize) -> anyhow::Result<Round> {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let worker = || -> anyhow::Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (true, Some(task)) = (at < ops, tasks.get(at)) else { return Ok(latencies) };
            let sent = Instant::now();
            let mut child = Command::new(interpreter)
                .args(["-I", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("starting python3")?;
            let mut stdin = child.stdin.take().context("python3 has no standard input")?;
            stdin.write_all(task.program().as_bytes()).context("writing to python3")?;
            drop(stdin);
            let status = child.wait().context("waiting for python3")?;
            latencies.push(sent.elapsed());
            if !status.success() {
                bail!("{}: its canonical solution ended with {status}", task.task_id);
            }
        }
    };
    let mut latencies = Vec::with_capacity(ops);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            match worker.join() {
                Ok(done) => latencies.extend(done?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    })?;
    Ok(Round { latencies, elapsed: began.elapsed() })
}

/// What the bench needs of a line of results.
#[derive(Debug, Deserialize)]
struct Scored {
    task_id: String,
    verdict: String,
    duration_s: f64,
}

fn scored(
    tasks: &Path,
    flags: &[&str],
    expected: usize,
    at_once: usize,
    directory: &Path,
) -> anyhow::Result<Round> {
    let results = directory.join("results.jsonl");
    // An older file would be resumed; the first round has none.
    match std::fs::remove_file(&results) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("removing old results");
        }
        Ok(()) | Err(_) => {}
    }
    let program = std::env::current_exe().context("finding this program")?;
    let began = Instant::now();
    let output = Command::new(program)
        .arg("score")
        .arg(tasks)
        .args(["--concurrency", &at_once.to_string()])
        .args(flags)
        .arg("--out")
        .arg(&results)
        .env_remove("HOTHOUSE_SERVER")
        .stdin(Stdio::null())
        .output()
        .context("starting hothouse score")?;
    let elapsed = began.elapsed();
    if !output.status.success() {
        bail!("hothouse score ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let text = std::fs::read_to_string(&results).context("reading results")?;
    let mut latencies = Vec::with_capacity(expected);
    for line in text.lines() {
        let row: Scored = serde_json::from_str(line).context("reading a line of results")?;
        if row.verdict != "passed" {
            bail!("{}: {}", row.task_id, row.verdict);
        }
        latencies.push(Duration::try_from_secs_f64(row.duration_s).context("duration of a result")?);
    }
    if latencies.len() != expected {
        bail!("{} results of {expected} tasks", latencies.len());
    }
    Ok(Round { latencies, elapsed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(solution: &str) -> Task {
        Task {
            task_id: "own/1".to_owned(),
            prompt: "def twice(x):\n".to_owned(),
            entry_point: "twice".to_owned(),
            canonical_solution: solution.to_owned(),
            test: "def check(candidate):\n    assert candidate(4) == 8\n".to_owned(),
        }
    }

    #[test]
    fn a_bare_run_tells_right_from_wrong() {
        let python = Path::new("/usr/bin/python3");
        let right = task("    return 2 * x\n");
        assert_eq!(bare(python, &[right.clone(), right], 2, 2).unwrap().latencies.len(), 2);
        assert!(bare(python, &[task("    return x\n")], 1, 1).is_err());
    }
}
