//! Code that runs, and what is said of how it ended.

use std::time::Duration;

use hothouse_domain::exec::DEFAULT_OUTPUT_LIMIT;
use hothouse_domain::{ContextCode, ErrorCode, ExecResult, Outcome, Raised};

use super::reward::Parses;
use super::{Coding, Interpreter, python_json};
use crate::builtin::said::{self, Said};
use crate::environment::Era;
use crate::game::Failed;
use crate::sandboxes::step_error;
use crate::session::StepError;

/// Time from the interrupt of code that took too long to the end of an interpreter that does not give way.
const GRACE_S: f64 = 1.0;
/// Time for what is asked of an interpreter beside the code of steps.
const ASIDE_S: f64 = 5.0;

/// What came of code.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) exit_code: i32,
    pub(super) parses: Parses,
}

impl Coding {
    /// Sees to it that there is an interpreter.
    pub(super) async fn make_sure(&mut self) -> Result<(), StepError> {
        if self.seat.interpreter == Interpreter::Gone {
            self.replace().await?;
        }
        Ok(())
    }

    /// Begins a fresh interpreter, in another sandbox if need be; what is lost with the one of before.
    async fn replace(&mut self) -> Result<&'static str, StepError> {
        let Err(error) = self.seat.renew().await else {
            return Ok("the next step has a fresh one, without the variables of before");
        };
        if let lost @ StepError::Lost(_) = step_error(&error) {
            return Err(lost);
        }
        tracing::debug!(sandbox = %self.seat.sandbox().id(), %error, "no interpreter can begin in it");
        self.move_out().await?;
        Ok("the next step has a fresh one in a fresh sandbox, without the variables and files of before")
    }

    /// Runs code.
    pub(super) async fn run(&mut self, code: &str, limit: Duration) -> Result<Ran, StepError> {
        self.make_sure().await?;
        let run = ContextCode {
            exec_id: None,
            code: code.to_owned(),
            timeout_s: Some(limit.as_secs_f64()),
            grace_s: Some(GRACE_S),
            output_limit_bytes: Some(DEFAULT_OUTPUT_LIMIT),
        };
        let result = match self.seat.sandbox().context_run(&self.seat.context, run).await {
            Ok(result) => result,
            Err(error) if matches!(error.code(), ErrorCode::ContextEnded | ErrorCode::ContextNotFound) => {
                let then = self.replace().await?;
                let stderr = format!("nothing was run: {error}; {then}\n");
                return Ok(Ran { stdout: String::new(), stderr, exit_code: 1, parses: Parses::Yes });
            }
            Err(error) => return Err(step_error(&error)),
        };
        self.told(code, limit, result).await
    }

    async fn told(&mut self, code: &str, limit: Duration, result: ExecResult) -> Result<Ran, StepError> {
        let Said { mut stdout, mut stderr } = said::of(&result);
        for display in &result.displays {
            if let Some(text) = display.get("text/plain") {
                stdout.push_str(text);
                stdout.push('\n');
            }
        }
        let mut exit_code = match &result.outcome {
            Outcome::Exited { code } => *code,
            Outcome::Lost { reason } => return Err(StepError::Lost(reason.clone())),
            Outcome::FailedToStart { reason } => return Err(Failed::new(reason.clone()).into()),
            Outcome::Signalled { .. } | Outcome::TimedOut | Outcome::OomKilled => 1,
        };
        let mut parses = Parses::Yes;
        let ended = result.error.as_deref().filter(|raised| is_end(raised));
        if let Some(raised) = result.error.as_deref().filter(|raised| !is_end(raised)) {
            // As Python itself does, which prints what it exits with and no more.
            if raised.name != "SystemExit" {
                said::line(&mut stderr, &raised.traceback);
            }
            if is_no_code(raised) {
                parses = self.parses(code).await;
            }
        }
        if matches!(result.outcome, Outcome::TimedOut) {
            said::line(&mut stderr, &format!("the step took longer than {limit:?} and was interrupted"));
        }
        if let Some(ended) = ended {
            exit_code = 1;
            let why = ended.message.clone();
            let then = self.replace().await?;
            said::line(&mut stderr, &format!("the interpreter ended: {why}; {then}"));
        } else if self.era == Era::Today
            && let Some(value) = &result.value
        {
            let text = match &value.json {
                Some(json) => python_json::dumps(json),
                None => self.dumps().await.unwrap_or_else(|| value.repr.clone()),
            };
            if !stdout.is_empty() {
                stdout.push('\n');
            }
            stdout.push_str(&text);
        }
        said::left_out(&mut stderr, &result.truncated);
        Ok(Ran { stdout, stderr, exit_code, parses })
    }

    /// What `json.dumps` makes of the last value, where it takes more than JSON has: other keys, infinities.
    async fn dumps(&self) -> Option<String> {
        let code = r#"print(__import__("json").dumps(_), end="")"#;
        let result = self.aside(code).await?;
        let whole = result.truncated.stdout_dropped_bytes == 0;
        (result.outcome == Outcome::Exited { code: 0 } && whole).then_some(result.stdout)
    }

    /// Whether code that cannot be compiled is Python all the same, as `return` outside of a function is.
    async fn parses(&self, code: &str) -> Parses {
        // A string of JSON is one of Python.
        let code = format!(r#"__import__("ast").parse({}) and None"#, serde_json::Value::from(code));
        match self.aside(&code).await {
            Some(result) if result.outcome == Outcome::Exited { code: 0 } => Parses::Yes,
            Some(_) | None => Parses::No,
        }
    }

    /// Asks the interpreter something beside the code of steps.
    async fn aside(&self, code: &str) -> Option<ExecResult> {
        let run = ContextCode {
            code: code.to_owned(),
            timeout_s: Some(ASIDE_S),
            grace_s: Some(GRACE_S),
            output_limit_bytes: Some(DEFAULT_OUTPUT_LIMIT),
            ..ContextCode::default()
        };
        match self.seat.sandbox().context_run(&self.seat.context, run).await {
            Ok(result) => Some(result),
            // The next step finds out, and tells.
            Err(error) => {
                tracing::debug!(sandbox = %self.seat.sandbox().id(), %error, "an interpreter says nothing");
                None
            }
        }
    }
}

/// Whether this is the guest's word that the interpreter ended.
fn is_end(raised: &Raised) -> bool {
    raised.name == "ContextEnded" && raised.traceback.is_empty()
}

/// Whether code could not be compiled: what is raised then has no place where it was.
fn is_no_code(raised: &Raised) -> bool {
    let is_syntax = matches!(raised.name.as_str(), "SyntaxError" | "IndentationError" | "TabError");
    is_syntax && !raised.traceback.contains("Traceback (most recent call last)")
}
