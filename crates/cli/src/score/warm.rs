//! A sandbox whose interpreter is warm: it judges one attempt after another, each in a fork of one context.
//!
//! That context is root there and holds no solution and no test, ever: its forks read them from a file. A solution runs as
//! the unprivileged user, in a process that a fork of the context forks; it can reach neither. After each attempt `clean` ends every process of that
//! user, removes its scratch directory, and compares everything else that it could have left with what was there before the
//! first one: the sandbox judges another attempt only when nothing differs.

use bytes::Bytes;
use hothouse_domain::{ContextCode, ContextId, ContextSpec, ErrorCode, ExecResult, Outcome};

use super::feed::{self, Ran};
use super::python::{BACKSTOP_S, Job, judgement};
use super::verdict::{Judgement, Verdict};
use crate::failure::Failure;
use crate::place::SandboxHandle;

const SOURCE: &str =
    concat!("WARM = True\n", include_str!("harness.py"), "\n\n", include_str!("warm.py"), "\n\nprepare()\n");
/// What solutions usually import, and what the harness needs.
const IMPORTS: &[&str] = &[
    "base64",
    "bisect",
    "collections",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "json",
    "math",
    "operator",
    "random",
    "re",
    "resource",
    "select",
    "statistics",
    "string",
    "typing",
];
/// As in `warm.py`.
const JOBS: &str = "/.score";
/// How long preparing and cleaning may take, in seconds.
const CARE_S: f64 = 30.0;

/// The sandbox, ready for an attempt.
#[derive(Debug)]
pub(super) struct Warm {
    sandbox: SandboxHandle,
    base: ContextId,
    judged: u64,
}

/// What a sandbox is good for after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fit {
    /// For another one: nothing is left of the last.
    Again,
    /// For nothing, for this reason.
    Gone(String),
}

impl Warm {
    /// Prepares a fresh sandbox; `None` where solutions cannot be a user apart from the interpreter.
    pub(super) async fn prepare(sandbox: SandboxHandle) -> Result<Option<Self>, Failure> {
        let spec = ContextSpec {
            imports: Some(IMPORTS.iter().map(|&name| name.to_owned()).collect()),
            cwd: Some("/".to_owned()),
            ..ContextSpec::default()
        };
        let base = sandbox.context_open(spec).await?.context_id;
        let warm = Self { sandbox, base, judged: 0 };
        let apart: bool = warm.ask(SOURCE).await?;
        Ok(apart.then_some(warm))
    }

    /// Its sandbox.
    pub(super) fn sandbox(&self) -> &SandboxHandle {
        &self.sandbox
    }

    /// Asks the context for a value.
    async fn ask<T: serde::de::DeserializeOwned>(&self, code: &str) -> Result<T, Failure> {
        let code = ContextCode { code: code.to_owned(), timeout_s: Some(CARE_S), ..ContextCode::default() };
        let mut result = self.sandbox.context_run(&self.base, code).await?;
        match result.value.take().and_then(|value| value.json) {
            Some(value) => Ok(serde_json::from_value(serde_json::to_value(value)?)?),
            None => Err(no_answer(result)),
        }
    }

    /// Judges an attempt, and looks at what it left.
    pub(super) async fn judge(&mut self, job: &Job<'_>) -> Result<(Judgement, Fit), Failure> {
        self.judged += 1;
        let name = self.judged.to_string();
        let path = format!("{JOBS}/{name}");
        let [first, second] = job.parts();
        let content = Bytes::from([first.frame(), second.frame()].concat());
        self.sandbox.write_file(&path, 0o600, futures::stream::iter([Ok(content)])).await?;
        let code = ContextCode {
            code: format!("attempt({name:?}, {:?})", job.timeout_s + BACKSTOP_S),
            timeout_s: Some(job.timeout_s + BACKSTOP_S + CARE_S),
            ..ContextCode::default()
        };
        let mut result = self.sandbox.context_run(&self.base, code).await?;
        let value = result.value.take().and_then(|value| value.json);
        let Some(value) = value else { return Err(no_answer(result)) };
        let (ended, left, changed): (Option<i32>, Vec<String>, Vec<String>) =
            serde_json::from_value(serde_json::to_value(value)?)?;
        result.outcome = match ended {
            None => Outcome::TimedOut,
            // The memory limit, perhaps: a sandbox of its own will tell.
            Some(-9) => Outcome::Lost { reason: "killed".to_owned() },
            Some(signal) if signal < 0 => Outcome::Signalled { signal: signal.saturating_neg() },
            Some(code) => Outcome::Exited { code },
        };
        let judged = judgement(&ran(result));
        let fit = match left.is_empty() && changed.is_empty() {
            true => Fit::Again,
            false => Fit::Gone(changed.join("; ")),
        };
        let left = left.join(", ");
        let judged = match (judged.verdict, left.is_empty()) {
            (Verdict::Passed, false) => Judgement {
                verdict: Verdict::Failed,
                reason: format!("left processes behind: {left}"),
                ..judged
            },
            _ => judged,
        };
        Ok((judged, fit))
    }
}

fn no_answer(result: ExecResult) -> Failure {
    let why = match result.error {
        Some(error) => format!("{}{}: {}", error.traceback, error.name, error.message),
        None => super::python::describe(&result.outcome),
    };
    Failure::new(ErrorCode::Internal, format!("a warm interpreter gave no answer: {why}"))
}

/// What a run did, as a command would have.
fn ran(mut result: ExecResult) -> Ran {
    let stdout = feed::bytes_of(std::mem::take(&mut result.stdout), result.encoding);
    let stderr = feed::bytes_of(std::mem::take(&mut result.stderr), result.encoding);
    Ran { result, stdout, stderr }
}
