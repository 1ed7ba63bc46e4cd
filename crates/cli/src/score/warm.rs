//! A sandbox whose interpreter is warm: it judges one attempt after another, each in a fork of one context.
//!
//! That context is root there and holds no solution and no test, ever. A solution runs as the unprivileged user, in a
//! process that a fork of the context forks; it can reach neither. After each attempt `clean` ends every process of that
//! user, removes its scratch directory, and compares everything else that it could have left with what was there before the
//! first one: the sandbox judges another attempt only when nothing differs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hothouse_domain::{ContextCode, ContextForkSpec, ContextId, ContextSpec, ErrorCode, ExecResult, Outcome};

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
        let result = self.sandbox.context_run(&self.base, code).await?;
        match result.value.and_then(|value| value.json) {
            Some(value) => Ok(serde_json::from_value(serde_json::to_value(value)?)?),
            None => {
                let why = result.error.map_or_else(String::new, |error| error.traceback + &error.message);
                Err(Failure::new(ErrorCode::Internal, format!("a warm interpreter gave no answer: {why}")))
            }
        }
    }

    /// Judges an attempt, and looks at what it left.
    pub(super) async fn judge(&mut self, job: &Job<'_>) -> Result<(Judgement, Fit), Failure> {
        self.judged += 1;
        let spec = ContextForkSpec { context_id: None, count: None };
        let fork = self.sandbox.context_fork(&self.base, spec).await?.context_id;
        let [first, second] = job.parts();
        let call = |name: &str, bytes: &[u8]| {
            let code = format!("{name}(base64.b64decode('{}'))", STANDARD.encode(bytes));
            let timeout_s = Some(job.timeout_s + BACKSTOP_S);
            ContextCode {
                code: format!("import base64\n{code}"),
                timeout_s,
                grace_s: Some(0.0),
                ..ContextCode::default()
            }
        };
        let begun = self.sandbox.context_run(&fork, call("begin", first.bytes())).await?;
        if let Some(error) = begun.error {
            let why = format!("an attempt did not begin: {}: {}", error.name, error.message);
            return Err(Failure::new(ErrorCode::Internal, why));
        }
        let result = self.sandbox.context_run(&fork, call("judge", second.bytes())).await?;
        let judged = judgement(&ran(result));
        let (left, fit) = self.clean().await;
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

    /// Removes what an attempt left: the names of its processes, and whether anything is not as it was.
    async fn clean(&self) -> (String, Fit) {
        match self.ask::<(Vec<String>, Vec<String>)>("clean()").await {
            Ok((left, changed)) if left.is_empty() && changed.is_empty() => (String::new(), Fit::Again),
            Ok((left, changed)) => (left.join(", "), Fit::Gone(changed.join("; "))),
            Err(error) => (String::new(), Fit::Gone(error.to_string())),
        }
    }
}

/// What a run did, as of a command: its end is the harness' exit.
fn ran(mut result: ExecResult) -> Ran {
    let stdout = feed::bytes_of(std::mem::take(&mut result.stdout), result.encoding);
    let stderr = feed::bytes_of(std::mem::take(&mut result.stderr), result.encoding);
    if result.error.as_ref().is_none_or(|error| error.name != "ContextEnded")
        && matches!(result.outcome, Outcome::Exited { .. })
    {
        // It came back instead of ending: that is no verdict, whatever its status.
        result.outcome = Outcome::Lost { reason: "the harness came back".to_owned() };
    }
    Ran { result, stdout, stderr }
}
