//! Floors and peers that are processes: spawned, waited for, timed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, bail};

use super::contest::Contender;
use super::report::Role;
use super::sample::Round;

/// A command line to time.
#[derive(Debug, Clone)]
pub(super) struct CommandLine {
    program: PathBuf,
    args: Vec<String>,
}

impl CommandLine {
    /// A program, looked up in `PATH`, with its arguments; `None` when it is not installed.
    pub(super) fn installed(program: &str, args: &[&str]) -> Option<Self> {
        let program = find(program)?;
        Some(Self { program, args: args.iter().map(|&arg| arg.to_owned()).collect() })
    }

    /// Runs it once to its end.
    ///
    /// # Errors
    /// When it cannot be run or fails; with the first line of what it wrote to standard error.
    pub(super) fn try_once(&self) -> anyhow::Result<String> {
        let output = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("running {}", self.program.display()))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("{}: {}", output.status, stderr.lines().next().unwrap_or("no message"));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs it `ops` times, `in_flight` at once. The standard library uses posix_spawn here: no hook runs between fork
    /// and exec.
    pub(super) fn round(&self, in_flight: usize, ops: usize) -> anyhow::Result<Round> {
        let next = AtomicUsize::new(0);
        let began = Instant::now();
        let worker = || -> anyhow::Result<Vec<_>> {
            let mut command = Command::new(&self.program);
            command.args(&self.args);
            let mut latencies = Vec::new();
            while next.fetch_add(1, Ordering::Relaxed) < ops {
                let sent = Instant::now();
                let status = command.status()?;
                latencies.push(sent.elapsed());
                if !status.success() {
                    bail!("{} ended with {status}", self.program.display());
                }
            }
            Ok(latencies)
        };
        let mut latencies = Vec::with_capacity(ops);
        if in_flight == 1 {
            latencies = worker()?;
        } else {
            std::thread::scope(|scope| -> anyhow::Result<()> {
                let workers: Vec<_> = (0..in_flight).map(|_| scope.spawn(worker)).collect();
                for worker in workers {
                    match worker.join() {
                        Ok(done) => latencies.extend(done?),
                        Err(panic) => std::panic::resume_unwind(panic),
                    }
                }
                Ok(())
            })?;
        }
        Ok(Round { latencies, elapsed: began.elapsed() })
    }

    /// This command line as a contender.
    pub(super) fn contender(
        self,
        name: &str,
        role: Role,
        in_flight: usize,
        per_round: usize,
    ) -> Contender<'static> {
        Contender {
            name: name.to_owned(),
            role,
            in_flight,
            per_round,
            measure: Box::new(move |ops| self.round(in_flight, ops)),
        }
    }
}

/// The floor of every bench: posix_spawn of the machine's own `true`.
pub(super) fn spawn_true() -> anyhow::Result<CommandLine> {
    CommandLine::installed("true", &[]).context("this machine has no `true` in PATH")
}

/// Where a program lies in `PATH`.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_counted_once() {
        for in_flight in [1, 4] {
            let round = spawn_true().unwrap().round(in_flight, 10).unwrap();
            assert_eq!(round.latencies.len(), 10);
        }
    }

    #[test]
    fn a_program_that_fails_is_an_error_and_not_a_fast_figure() {
        let fails = CommandLine::installed("false", &[]).unwrap();
        assert!(fails.round(1, 3).is_err());
        assert!(fails.try_once().is_err());
    }

    #[test]
    fn what_is_not_installed_is_none() {
        assert!(CommandLine::installed("no-such-program-here", &[]).is_none());
    }
}
