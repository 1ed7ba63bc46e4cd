//! Execs that run while something breaks: each leaves a mark in its sandbox and prints it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use hothouse_domain::{ExecResult, ExecState, ExecStatus, Outcome};
use reqwest::Method;
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::line::Line;

/// The file in each sandbox that marks are appended to.
pub(crate) const MARKS: &str = "/workspace/marks";

/// How a client asks for an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Waits for the result in the answer.
    Waiting,
    /// Is answered when it runs, and looks the result up.
    Detached,
}

/// With which id a request that was not answered is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The same one: it must not run again.
    SameId,
    /// A new one each time, as clients without ids do: it runs again. For the negative control.
    FreshId,
}

/// One exec.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) sandbox: String,
    /// Its mark, and its exec id.
    pub(crate) name: String,
    pub(crate) line: String,
    pub(crate) way: Way,
}

/// What became of a job, as its client knows it.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    pub(crate) job: Job,
    /// The id of the try that was answered.
    pub(crate) exec_id: String,
    /// That the server answered for it, or what was heard last.
    pub(crate) acknowledged: Result<(), String>,
    /// How often it was asked for.
    pub(crate) tries: u32,
}

impl Job {
    /// A job that takes a while: none, or some milliseconds before or after its mark.
    pub(crate) fn random(sandbox: &str, name: String, dice: &mut Dice, longest: Duration) -> Self {
        let pause = dice.time(longest).as_secs_f64();
        let mark = format!("echo {name} >> {MARKS}");
        let line = match dice.below(4) {
            0 => format!("sleep {pause:.3}; {mark}; echo {name}"),
            1 => format!("{mark}; sleep {pause:.3}; echo {name}"),
            _ => format!("{mark}; echo {name}"),
        };
        let way = if dice.percent(25) { Way::Detached } else { Way::Waiting };
        Self { sandbox: sandbox.to_owned(), name, line, way }
    }

    fn body(&self, exec_id: &str) -> Value {
        json!({"exec_id": exec_id, "shell": self.line, "timeout_s": 120, "detach": self.way == Way::Detached})
    }

    /// Asks until it is answered.
    pub(crate) async fn run(self, line: &Line, repeat: Repeat) -> Done {
        let mut tries = 0;
        let mut exec_id = self.name.clone();
        let mut last = "no server".to_owned();
        let path = format!("/v1/sandboxes/{}/exec", self.sandbox);
        let asked = async {
            loop {
                let Ok(api) = line.api().await else { continue };
                tries += 1;
                if repeat == Repeat::FreshId {
                    exec_id = format!("{}-{tries}", self.name);
                }
                match api.send(Method::POST, &path, Some(&self.body(&exec_id))).await {
                    Ok(answer) if matches!(answer.status, 200 | 202) => return answer,
                    Ok(answer) => last = answer.text(),
                    Err(error) => last = format!("{error:#}"),
                }
                line.rest().await;
            }
        };
        let answer = tokio::time::timeout(crate::wait::PATIENCE, asked).await;
        let acknowledged = match answer {
            Ok(answer) if answer.status == 200 => {
                answer.json::<ExecResult>().and_then(|result| check(&result, &self.name))
            }
            Ok(answer) => answer.json::<ExecStatus>().map(drop),
            Err(_) => Err(anyhow::anyhow!("never answered; last heard: {last}")),
        };
        Done { job: self, exec_id, acknowledged: acknowledged.map_err(|e| format!("{e:#}")), tries }
    }
}

/// Runs them all at once.
pub(crate) async fn run_all(jobs: Vec<Job>, line: &Line, repeat: Repeat) -> Vec<Done> {
    join_all(jobs.into_iter().map(|job| job.run(line, repeat))).await
}

/// Fails unless the exec printed its mark and ended well.
fn check(result: &ExecResult, name: &str) -> Result<()> {
    ensure!(result.outcome == Outcome::Exited { code: 0 }, "{name} ended: {result:?}");
    ensure!(result.stdout.trim_end() == name, "{name} printed {:?}", result.stdout);
    Ok(())
}

/// Fails unless the result of an exec can be looked up, and is right.
pub(crate) async fn read_back(line: &Line, done: &Done) -> Result<()> {
    let path = format!("/v1/sandboxes/{}/execs/{}?wait_s=30", done.job.sandbox, done.exec_id);
    let status: ExecStatus = line.api().await?.get(&path).await?.json().context("looking it up")?;
    match status.state {
        ExecState::Finished { result } => check(&result, &done.job.name),
        ExecState::Running => anyhow::bail!("{} still runs", done.exec_id),
    }
}
