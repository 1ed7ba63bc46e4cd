//! A template's setup: commands that have run before a sandbox is ready.

use hothouse_domain::{ExecSpec, Outcome};
use hothouse_sandbox::Sandbox;

use crate::error::FleetError;

/// How long one command may take, in seconds.
const TIMEOUT_S: f64 = 600.0;
/// Characters of its output that a failure shows.
const SHOWN: usize = 400;

/// Runs the commands one after the other, each once: one that ran before the connection broke is not run again.
pub(crate) async fn run(setup: &[String], sandbox: &Sandbox) -> Result<(), FleetError> {
    for (index, command) in setup.iter().enumerate() {
        let exec_id = format!("setup-{index}").parse().expect("letters, digits and a dash make an id");
        let spec = ExecSpec {
            exec_id: Some(exec_id),
            shell: Some(command.clone()),
            timeout_s: Some(TIMEOUT_S),
            ..ExecSpec::default()
        };
        let result = sandbox.exec(spec).await?;
        let how = match result.outcome {
            Outcome::Exited { code: 0 } => continue,
            Outcome::Exited { code } => format!("exited with code {code}"),
            Outcome::Signalled { signal, .. } => format!("was ended by signal {signal}"),
            Outcome::TimedOut => format!("took longer than {TIMEOUT_S} s"),
            Outcome::OomKilled => "used more memory than its limit".to_owned(),
            Outcome::FailedToStart { reason } => format!("did not start: {reason}"),
            Outcome::Lost { reason } => format!("was lost: {reason}"),
        };
        let said = if result.stderr.is_empty() { &result.stdout } else { &result.stderr };
        let said: Vec<char> = said.trim().chars().collect();
        let said: String = said[said.len().saturating_sub(SHOWN)..].iter().collect();
        return Err(FleetError::Setup { index, how, said });
    }
    Ok(())
}
