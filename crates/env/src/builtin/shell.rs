//! `shell`: a live shell in a sandbox, which keeps its directory and variables for an episode.
//!
//! A reset sets the sandbox back: no file and no process of before is left. A copy is a sandbox of its own with the same
//! files, in which another shell has the same directory, variables, functions and options; what runs in the background
//! is not copied.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hothouse_domain::exec::DEFAULT_OUTPUT_LIMIT;
use hothouse_domain::shell::{ShellCommand, ShellSpec};
use hothouse_domain::{ErrorCode, ExecResult, Outcome, ShellId};
use hothouse_sandbox::{Sandbox, SandboxError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Metadata;
use super::said::{self, Said};
use crate::environment::{About, Environment, Models, Turns};
use crate::game::{Failed, Reset, ToolError, fields, read};
use crate::instance::{Beside, Host, Instance, OpenError, Shown, Terms};
use crate::model::{Field, Kind, Model};
use crate::observed::{Observed, Reward};
use crate::sandboxes::{Fitting, Housing, Sandboxes, step_error};
use crate::session::StepError;

/// The shell that a fitted sandbox has.
const NAME: &str = "session";
/// What a step may take beyond its time: interrupting the command, and another shell if need be.
const OVERTIME: Duration = Duration::from_secs(20);
/// Time for what is asked of a shell beside the commands of steps.
const ASIDE_S: f64 = 5.0;
/// Statuses that `timeout` and shells give for what was ended.
const TIMED_OUT: i32 = 124;
const KILLED: i32 = 128 + 9;

/// What it is.
pub(super) const ABOUT: About = About {
    name: "shell",
    class: "ShellEnvironment",
    description: "A live shell in a sandbox, clean for each episode; no step is worth anything",
    version: "1.0.0",
};

/// Tells where the shell is.
const WHERE: &str = r#"command printf %s "$PWD""#;

/// Says all that bash keeps, as commands; in a process of its own, so that nothing of this stays. What is bash's own
/// cannot be set: trying to would end the commands there. Nor is set how commands are edited, by which a shell loses
/// its input.
const SAY_ALL: &str = r#"(
alias -p
printf 'umask %s\ncd -- %q\n' "$(umask)" "$PWD"
while IFS= read -r __hothouse_name; do
  case $__hothouse_name in
    BASH*|COMP_*|DIRSTACK|EPOCH*|EUID|FUNCNAME|GROUPS|HISTCMD|HOSTNAME|LINENO|PIPESTATUS|PPID|*RANDOM|SECONDS|SHELLOPTS|UID|_|__hothouse*) ;;
    *) declare -p "$__hothouse_name" ;;
  esac
done < <(compgen -v)
declare -f
while IFS= read -r __hothouse_name; do
  case $__hothouse_name in
    *emacs|*vi|*monitor|*history|*onecmd|*noexec|*privileged) ;;
    *) printf '%s\n' "$__hothouse_name" ;;
  esac
done < <(set +o)
) 2>/dev/null"#;
/// How bash reads commands, which has to be so before it reads those.
const SAY_SYNTAX: &str = "shopt -p 2>/dev/null";
/// The same for other shells: what they export, and where they are.
const SAY_MOST: &str = "{ export -p; printf 'umask %s\\n' \"$(umask)\"; printf 'cd -- \"'; printf %s \"$PWD\" | sed 's/[\"$`\\\\]/\\\\&/g'; printf '\"\\n'; } 2>/dev/null";

fn models() -> Models {
    let action = vec![
        Field::new("command", Kind::Text, "What to run"),
        Field::new(
            "timeout_s",
            Kind::Optional(Box::new(Kind::Positive)),
            "Time until it is interrupted, in seconds",
        )
        .or(json!(null)),
    ];
    let status = Kind::Integer { least: None, most: None };
    let place = Kind::Optional(Box::new(Kind::Text));
    let observation = vec![
        Field::new("stdout", Kind::Text, "What was written to standard output").or(""),
        Field::new("stderr", Kind::Text, "What was written to standard error").or(""),
        Field::new("exit_code", status.clone(), "The shell's $?; 124 for what took too long").or(0),
        Field::new("cwd", place, "Where the shell is").or(json!(null)),
    ];
    let last = Field::new("last_exit_code", status, "Of the last step").or(0);
    Models {
        action: Model::action("ShellAction", "A command to run.", action),
        observation: Model::observation("ShellObservation", "What came of the command.", observation),
        state: Model::state("ShellState", "Where the episode is.", vec![last]),
    }
}

/// The environment, over these sandboxes.
pub(super) fn environment(sandboxes: Sandboxes) -> Environment {
    let models = models();
    let host = Shells { sandboxes, action: Arc::new(models.action.clone()) };
    Environment::elsewhere(ABOUT, &models, Turns::AtOnce, Arc::new(host))
}

/// A shell for a session.
#[derive(Debug)]
pub(super) struct LiveShell;

impl Fitting for LiveShell {
    fn fit<'a>(&'a self, sandbox: &'a Sandbox) -> BoxFuture<'a, Result<(), SandboxError>> {
        Box::pin(async move {
            let shell_id = Some(id()?);
            sandbox.shell_open(ShellSpec { shell_id, ..ShellSpec::default() }).await.map(drop)
        })
    }
}

fn id() -> Result<ShellId, SandboxError> {
    let invalid = |e: hothouse_domain::InvalidId| hothouse_domain::Invalid::new("shell_id", e.to_string());
    Ok(NAME.parse().map_err(invalid)?)
}

async fn run(sandbox: &Sandbox, command: &str, timeout_s: f64) -> Result<ExecResult, SandboxError> {
    let command = ShellCommand {
        exec_id: None,
        command: command.to_owned(),
        timeout_s: Some(timeout_s),
        output_limit_bytes: Some(DEFAULT_OUTPUT_LIMIT),
    };
    sandbox.shell_run(&id()?, command).await
}

/// Makes them.
#[derive(Debug)]
struct Shells {
    sandboxes: Sandboxes,
    action: Arc<Model>,
}

impl Host for Shells {
    fn open(&self, terms: Terms) -> BoxFuture<'_, Result<Box<dyn Instance>, OpenError>> {
        let limits = terms.limits;
        Box::pin(async move {
            let housing = self.sandboxes.take().await?;
            let action = Arc::clone(&self.action);
            let shell = Shell { housing, action, limit: limits.step, last_exit_code: 0 };
            Ok(Box::new(shell) as Box<dyn Instance>)
        })
    }
}

/// One session's.
#[derive(Debug)]
struct Shell {
    housing: Housing,
    action: Arc<Model>,
    /// Time for a step.
    limit: Duration,
    last_exit_code: i32,
}

/// A time that is longer than none.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct Seconds(f64);

impl TryFrom<f64> for Seconds {
    type Error = &'static str;
    fn try_from(seconds: f64) -> Result<Self, Self::Error> {
        if seconds > 0.0 { Ok(Self(seconds)) } else { Err("a time is greater than 0") }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    command: String,
    #[serde(default)]
    timeout_s: Option<Seconds>,
    #[serde(default, rename = "metadata")]
    _metadata: Metadata,
}

#[derive(Serialize)]
struct Observation {
    stdout: String,
    stderr: String,
    exit_code: i32,
    cwd: Option<String>,
}

#[derive(Serialize)]
struct State {
    last_exit_code: i32,
}

impl Shell {
    fn show(&mut self, observation: &Observation) -> Result<Observed, StepError> {
        self.last_exit_code = observation.exit_code;
        let mut observed = Observed::default();
        observed.show(observation, Reward::Number(0.0), false)?;
        Ok(observed)
    }

    async fn begin_anew(&mut self) -> Result<(), StepError> {
        if !self.housing.restore().await {
            let taken = self.housing.home().take().await;
            self.housing = taken.map_err(|OpenError { message, traceback }| Failed { message, traceback })?;
        }
        Ok(())
    }

    /// Begins another shell in the same sandbox, or in another one if need be; what is lost with the one of before.
    async fn replace(&mut self) -> Result<&'static str, StepError> {
        let Err(error) = LiveShell.fit(self.housing.sandbox()).await else {
            return Ok("the next step has a fresh one, without the variables and the directory of before");
        };
        if let lost @ StepError::Lost(_) = step_error(&error) {
            return Err(lost);
        }
        tracing::debug!(sandbox = %self.housing.sandbox().id(), %error, "no shell can begin in it");
        self.begin_anew().await?;
        Ok("the next step has a fresh one in a clean sandbox, without the files of before")
    }

    /// Where the shell is; `None` when it says nothing of use.
    async fn place(&self) -> Result<Option<String>, SandboxError> {
        let result = run(self.housing.sandbox(), WHERE, ASIDE_S).await?;
        let is_path = matches!(result.outcome, Outcome::Exited { .. }) && result.stdout.starts_with('/');
        Ok(is_path.then_some(result.stdout))
    }

    async fn run(&mut self, command: &str, limit: Duration) -> Result<Observation, StepError> {
        let result = match run(self.housing.sandbox(), command, limit.as_secs_f64()).await {
            Ok(result) => result,
            Err(error) if error.code() == ErrorCode::ShellNotFound => {
                let stderr = format!("nothing was run: the shell had ended; {}\n", self.replace().await?);
                let cwd = self.place().await.map_err(|error| step_error(&error))?;
                return Ok(Observation { stdout: String::new(), stderr, exit_code: 1, cwd });
            }
            Err(error) => return Err(step_error(&error)),
        };
        let Said { stdout, mut stderr } = said::of(&result);
        let exit_code = match result.outcome {
            Outcome::Exited { code } => code,
            Outcome::Signalled { signal } => 128 + signal,
            Outcome::TimedOut => {
                said::line(&mut stderr, &format!("the step took longer than {limit:?} and was interrupted"));
                TIMED_OUT
            }
            Outcome::OomKilled => {
                said::line(&mut stderr, "the sandbox's memory limit ended it");
                KILLED
            }
            Outcome::FailedToStart { reason } => return Err(Failed::new(reason).into()),
            Outcome::Lost { reason } => return Err(StepError::Lost(reason)),
        };
        let cwd = match self.place().await {
            Ok(place) => place,
            Err(error) if error.code() == ErrorCode::ShellNotFound => {
                let then = self.replace().await?;
                said::line(&mut stderr, &format!("the shell ended; {then}"));
                self.place().await.map_err(|error| step_error(&error))?
            }
            Err(error) => return Err(step_error(&error)),
        };
        said::left_out(&mut stderr, &result.truncated);
        Ok(Observation { stdout, stderr, exit_code, cwd })
    }

    /// All that the shell keeps, as commands for another one, to be run one after another.
    async fn say_all(&self) -> Result<Vec<String>, StepError> {
        let sandbox = self.housing.sandbox();
        let told = |error: SandboxError| step_error(&error);
        let shells = sandbox.shells().await.map_err(told)?;
        let is_bash =
            shells.iter().any(|shell| shell.shell_id.as_str() == NAME && shell.program.ends_with("bash"));
        let mut said = Vec::new();
        for ask in if is_bash { &[SAY_SYNTAX, SAY_ALL][..] } else { &[SAY_MOST] } {
            let result = run(sandbox, ask, ASIDE_S).await.map_err(told)?;
            if !matches!(result.outcome, Outcome::Exited { .. }) || result.truncated.stdout_dropped_bytes > 0
            {
                let message =
                    format!("the shell keeps more than {DEFAULT_OUTPUT_LIMIT} bytes, or does not say what");
                return Err(Failed::new(message).into());
            }
            said.push(result.stdout);
        }
        Ok(said)
    }
}

impl Instance for Shell {
    fn reset<'a>(&'a mut self, _: &'a Reset) -> BoxFuture<'a, Result<Observed, StepError>> {
        Box::pin(async move {
            self.begin_anew().await?;
            let cwd = self.place().await.map_err(|error| step_error(&error))?;
            self.show(&Observation { stdout: String::new(), stderr: String::new(), exit_code: 0, cwd })
        })
    }

    fn step<'a>(
        &'a mut self,
        action: &'a str,
        beside: Beside<'a>,
    ) -> BoxFuture<'a, Result<Observed, StepError>> {
        Box::pin(async move {
            let Action { command, timeout_s, _metadata } = read(action, &self.action)?;
            let own = timeout_s.and_then(|Seconds(seconds)| Duration::try_from_secs_f64(seconds).ok());
            let limit = [own, beside.within].into_iter().flatten().fold(self.limit, Duration::min);
            let observation = self.run(&command, limit).await?;
            self.show(&observation)
        })
    }

    fn overtime(&self) -> Duration {
        OVERTIME
    }

    fn state(&mut self) -> BoxFuture<'_, Result<Shown, StepError>> {
        let state = fields(&State { last_exit_code: self.last_exit_code }).unwrap_or_else(|| b"{}".to_vec());
        Box::pin(std::future::ready(Ok(Shown::Beside(state))))
    }

    fn copy(&mut self) -> BoxFuture<'_, Result<Box<dyn Instance>, StepError>> {
        Box::pin(async move {
            let kept = self.say_all().await?;
            let housing = self.housing.fork().await?;
            for commands in kept {
                let again = format!("{{ {commands}\n}} >/dev/null 2>&1");
                run(housing.sandbox(), &again, ASIDE_S).await.map_err(|error| step_error(&error))?;
            }
            let (action, limit, last_exit_code) = (Arc::clone(&self.action), self.limit, self.last_exit_code);
            let copy = Self { housing, action, limit, last_exit_code };
            Ok(Box::new(copy) as Box<dyn Instance>)
        })
    }

    fn call_tool<'a>(
        &'a mut self,
        _: &'a str,
        _: &'a Map<String, Value>,
    ) -> BoxFuture<'a, Result<Value, ToolError>> {
        Box::pin(std::future::ready(Err(ToolError::None)))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        // Its sandbox ends in the background; nobody waits for that.
        drop(self);
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::tests::actions;

    #[test]
    fn an_action_is_taken_exactly_when_its_model_takes_it() {
        let model = models().action;
        for action in actions(&model) {
            let checked = model.check(serde_json::from_str(&action).unwrap());
            match (checked, read::<Action>(&action, &model)) {
                (Ok(_), Ok(_)) => {}
                (Err(wrong), Err(StepError::Invalid(told))) => assert_eq!(wrong, told),
                (checked, taken) => panic!("{action}: {checked:?} {taken:?}"),
            }
        }
    }
}
