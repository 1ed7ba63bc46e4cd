//! Environments that play in sandboxes, `coding` and `shell`, of the real program: served by themselves with a node of
//! their own, and by `hothouse serve` over its fleet.

mod abuse;
mod coding;
mod lives;
mod misuse;
mod shell;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::openenv::{Client, Environment};
use crate::server::own_cgroup;

/// An environment that is served by itself, on a home of its own.
struct Served {
    environment: Environment,
    home: TempDir,
}

impl Served {
    fn start(name: &str, flags: &[&str]) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("hothouse-api-").tempdir()?;
        let environment = Self::start_in(&home, name, flags)?;
        Ok(Self { environment, home })
    }

    /// Another one on the same home.
    fn start_in(home: &TempDir, name: &str, flags: &[&str]) -> Result<Environment> {
        let path = home.path().to_str().context("a path")?;
        let mut all = vec!["--home", path];
        let cgroup = own_cgroup();
        if let Some(cgroup) = &cgroup {
            all.extend(["--cgroup", cgroup]);
        }
        all.extend(flags);
        Environment::serve(name, &all)
    }

    async fn connect(&self) -> Result<Client> {
        self.environment.connect().await
    }

    /// Homes of nodes that are there or were left.
    fn homes(&self) -> Result<usize> {
        let entries = std::fs::read_dir(self.home.path().join("embedded"))?;
        let entries: Vec<_> = entries.collect::<Result<_, _>>()?;
        Ok(entries.iter().filter(|entry| entry.path().is_dir()).count())
    }
}

/// What a step shows: the whole answer.
async fn step(client: &mut Client, action: Value) -> Result<Value> {
    client.ask(&json!({"type": "step", "data": action})).await
}

/// What code shows: the observation without its metadata.
async fn run(client: &mut Client, code: &str) -> Result<Shown> {
    let answer = step(client, json!({"code": code})).await?;
    Shown::of(&answer).with_context(|| format!("{code}: {answer}"))
}

/// What a command shows.
async fn command(client: &mut Client, command: &str) -> Result<Shown> {
    let answer = step(client, json!({"command": command})).await?;
    Shown::of(&answer).with_context(|| format!("{command}: {answer}"))
}

async fn reset(client: &mut Client) -> Result<()> {
    let answer = client.ask(&json!({"type": "reset"})).await?;
    let shown = Shown::of(&answer).with_context(|| answer.to_string())?;
    anyhow::ensure!(shown.is("", "", 0), "{shown:?}");
    Ok(())
}

/// An observation of either.
#[derive(Debug, Clone, PartialEq)]
struct Shown {
    stdout: String,
    stderr: String,
    exit_code: i64,
    reward: f64,
}

impl Shown {
    fn of(answer: &Value) -> Option<Self> {
        let (data, observation) = (&answer["data"], &answer["data"]["observation"]);
        Some(Self {
            stdout: observation["stdout"].as_str()?.to_owned(),
            stderr: observation["stderr"].as_str()?.to_owned(),
            exit_code: observation["exit_code"].as_i64()?,
            reward: data["reward"].as_f64()?,
        })
    }

    fn is(&self, stdout: &str, stderr: &str, exit_code: i64) -> bool {
        (self.stdout.as_str(), self.stderr.as_str(), self.exit_code) == (stdout, stderr, exit_code)
    }
}
