//! Packages that somebody wrote, served in sandboxes by the real program.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::openenv::{Environment, code};
use crate::process::{Answer, answer};

fn hothouse(home: &Path, arguments: &[&str]) -> Answer {
    answer(Command::new(env!("CARGO_BIN_EXE_hothouse")).args(arguments).env("HOTHOUSE_HOME", home))
}

/// A package with these rules; `hothouse env init` writes the rest of it.
fn package(home: &Path, rules: &str) -> Result<String> {
    let path = home.join("mine");
    let made = hothouse(home, &["env", "init", "mine", "--output", &home.display().to_string()]);
    assert_eq!(made.status, 0, "{made:?}");
    if !rules.is_empty() {
        fs::write(path.join("server/environment.py"), rules)?;
    }
    Ok(path.display().to_string())
}

/// Dies when it is told 13, and says in which process it is.
const MORTAL: &str = r#"
import os
from hothouse.env import Environment
from models import MineObservation, MineState

class MineEnvironment(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True
    def __init__(self):
        super().__init__()
        self._state = MineState()
    def reset(self, seed=None, episode_id=None):
        self._state = MineState(episode_id=episode_id, step_count=0)
        return MineObservation(hint=str(os.getpid()), guesses_left=0)
    def step(self, action):
        if action.number == 13:
            os._exit(1)
        self._state.step_count += 1
        return MineObservation(hint=os.uname().nodename, guesses_left=os.getuid())
    @property
    def state(self):
        return self._state
"#;

#[tokio::test]
async fn what_init_makes_is_valid_and_plays() -> Result<()> {
    let home = tempfile::tempdir()?;
    let path = package(home.path(), "")?;
    let valid = hothouse(home.path(), &["env", "validate", &path]);
    assert_eq!(valid.status, 0, "{valid:?}");
    assert!(valid.stdout.contains("8 of 8 checks hold"), "{valid:?}");
    let environment = Environment::serve(&path, &["--home", &home.path().display().to_string()])?;
    let mut client = environment.connect().await?;
    let begun = client.ask(&json!({"type": "reset", "data": {"seed": 7}})).await?;
    assert_eq!(begun["data"]["observation"]["guesses_left"], 7);
    let (mut low, mut high) = (1, 100);
    loop {
        let number = i32::midpoint(low, high);
        let told = client.ask(&json!({"type": "step", "data": {"number": number}})).await?;
        match told["data"]["observation"]["hint"].as_str() {
            Some("Higher.") => low = number + 1,
            Some("Lower.") => high = number - 1,
            other => {
                assert_eq!((other, &told["data"]["reward"]), (Some("That is it."), &json!(1.0)));
                break;
            }
        }
    }
    let wrong = client.ask(&json!({"type": "step", "data": {"number": "many"}})).await?;
    assert_eq!(code(&wrong), "VALIDATION_ERROR");
    assert_eq!(wrong["data"]["errors"][0]["loc"], json!(["number"]));
    let failed = client.ask(&json!({"type": "step", "data": {"number": 500}})).await?;
    assert_eq!(
        (code(&failed), &failed["data"]["message"]),
        ("EXECUTION_ERROR", &json!("500 is not between 1 and 100"))
    );
    Ok(())
}

#[tokio::test]
async fn a_worker_that_dies_takes_its_own_sessions_with_a_reason() -> Result<()> {
    let home = tempfile::tempdir()?;
    let path = package(home.path(), MORTAL)?;
    let flags = ["--home", &home.path().display().to_string(), "--processes", "2"];
    let environment = Environment::serve(&path, &flags)?;
    let (mut one, mut other) = (environment.connect().await?, environment.connect().await?);
    let first = one.ask(&json!({"type": "reset"})).await?;
    let second = other.ask(&json!({"type": "reset"})).await?;
    assert_ne!(first["data"]["observation"]["hint"], second["data"]["observation"]["hint"], "two processes");
    let lost = one.ask(&json!({"type": "step", "data": {"number": 13}})).await?;
    assert_eq!(code(&lost), "SESSION_ERROR");
    assert!(lost["data"]["message"].as_str().unwrap_or_default().contains("process ended"), "{lost}");
    one.closed().await?;
    let goes_on = other.ask(&json!({"type": "step", "data": {"number": 1}})).await?;
    let host = goes_on["data"]["observation"]["hint"].as_str().unwrap_or_default();
    assert!(host.starts_with("sb-"), "it runs in a sandbox: {goes_on}");
    let mut next = environment.connect().await?;
    assert_eq!(next.ask(&json!({"type": "reset"})).await?["type"], "observation");
    Ok(())
}

#[test]
fn an_author_reads_why_a_package_cannot_be_served() -> Result<()> {
    let home = tempfile::tempdir()?;
    let path = package(home.path(), "import nothing_of_this_name\n")?;
    let refused = hothouse(home.path(), &["env", "serve", &path, "--port", "0"]);
    assert_ne!(refused.status, 0, "{refused:?}");
    assert!(refused.stderr.contains("server/environment.py\", line 1"), "the traceback: {refused:?}");
    assert!(refused.stderr.contains("nothing_of_this_name"), "{refused:?}");
    fs::write(home.path().join("mine/openenv.yaml"), "name: mine\nruntime: java\n")?;
    let refused = hothouse(home.path(), &["env", "serve", &path, "--port", "0"]);
    assert!(refused.stderr.contains("openenv.yaml") && refused.stderr.contains("java"), "{refused:?}");
    let twice =
        hothouse(home.path(), &["env", "init", "mine", "--output", &home.path().display().to_string()]);
    assert!(twice.status != 0 && twice.stderr.contains("is there already"), "{twice:?}");
    Ok(())
}

#[test]
fn an_author_measures_a_package() -> Result<()> {
    let home = tempfile::tempdir()?;
    let path = package(home.path(), MORTAL)?;
    let file = home.path().join("figures.json");
    let short = ["--seconds", "1", "--rounds", "1", "--sessions", "1,3"];
    let known = ["--action", r#"{"number": 5}"#, "--json", &file.display().to_string()];
    let done = hothouse(home.path(), &[&["env", "bench", &path][..], &short, &known].concat());
    assert_eq!(done.status, 0, "{done:?}");
    let figures: Value = serde_json::from_slice(&fs::read(&file)?)?;
    let rows = figures["rows"].as_array().context("rows")?;
    assert_eq!(rows.iter().map(|row| &row["in_flight"]).collect::<Vec<_>>(), [1, 3]);
    assert!(rows.iter().all(|row| row["per_second"].as_f64() > Some(1.0)), "{figures}");
    let refused = hothouse(home.path(), &["env", "bench", "./none"]);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.stderr.contains("no such directory"), "{refused:?}");
    Ok(())
}

/// Has three tasks, and cannot count them.
const TASKED: &str = r#"
from hothouse.env import Environment
from models import MineObservation, MineState

TASKS = [{"number": 1}, {"number": 2}, {"number": 3}]

class MineEnvironment(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True
    def reset(self, seed=None, episode_id=None):
        return MineObservation(hint="", guesses_left=0)
    def step(self, action):
        return MineObservation(hint="", guesses_left=0)
    @property
    def state(self):
        return MineState()
    def list_splits(self):
        return ["train", {"name": "hard", "type": "test"}]
    async def list_tasks(self, split):
        if split not in ("train", "hard"):
            raise ValueError(f"no split {split!r}")
        return TASKS
    def get_task(self, split, index):
        return TASKS[index]
    def get_task_range(self, split, start, stop):
        return TASKS[start:stop]
"#;

#[tokio::test]
async fn tasks_of_a_package_are_told() -> Result<()> {
    let home = tempfile::tempdir()?;
    let path = package(home.path(), TASKED)?;
    let environment = Environment::serve(&path, &["--home", &home.path().display().to_string()])?;
    assert_eq!(environment.get("/list_environments").await?.1, json!(["mine"]));
    let splits = json!([{"name": "train", "type": "train"}, {"name": "hard", "type": "test"}]);
    assert_eq!(environment.get("/MINE/splits").await?.1, splits);
    let tasks = json!([{"number": 1}, {"number": 2}, {"number": 3}]);
    for (path, body, status, wanted) in [
        ("/mine/tasks", json!({"split": "train"}), 200, json!({"tasks": tasks, "env_name": "mine"})),
        ("/mine/task", json!({"split": "train", "index": 1}), 200, json!({"task": {"number": 2}})),
        ("/mine/task", json!({"split": "train", "index": 9}), 400, json!({"detail": "Invalid task index"})),
        (
            "/mine/task_range",
            json!({"split": "train", "start": 1}),
            200,
            json!({"tasks": [{"number": 2}, {"number": 3}]}),
        ),
        (
            "/mine/num_tasks",
            json!({"split": "train"}),
            501,
            json!({"detail": "num_tasks is not supported for this environment"}),
        ),
        ("/mine/tasks", json!({"split": "none"}), 500, json!({"detail": "no split 'none'"})),
        ("/other/tasks", json!({"split": "train"}), 404, json!({"detail": "unknown environment 'other'"})),
    ] {
        let (answered, told) = environment.post(path, &body).await?;
        assert_eq!((answered.as_u16(), told), (status, wanted), "{path} {body}");
    }
    let (status, told) = environment.post("/mine/task", &json!({"split": 1})).await?;
    assert_eq!(status, 422, "{told}");
    assert_eq!(
        (&told["detail"][0]["loc"], &told["detail"][1]["loc"]),
        (&json!(["body", "split"]), &json!(["body", "index"]))
    );
    Ok(())
}

/// Says what its step was given beside the action.
const CURIOUS: &str = r#"
from hothouse.env import Environment
from models import MineObservation, MineState

class MineEnvironment(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True
    def reset(self, seed=None, episode_id=None, **more):
        return MineObservation(hint=f"{seed} {episode_id} {sorted(more.items())}", guesses_left=0)
    def step(self, action, timeout_s=None, difficulty="easy"):
        return MineObservation(hint=f"{action.number} {timeout_s} {difficulty}", guesses_left=0)
    @property
    def state(self):
        return MineState()
"#;

#[tokio::test]
async fn what_stands_beside_an_action_reaches_a_step_that_takes_it() -> Result<()> {
    let home = tempfile::tempdir()?;
    let path = package(home.path(), CURIOUS)?;
    let environment = Environment::serve(&path, &["--home", &home.path().display().to_string()])?;
    for (path, body, wanted) in [
        ("/step", json!({"action": {"number": 1}}), "1 None easy"),
        ("/step", json!({"action": {"number": 2}, "difficulty": "hard", "unknown": 1}), "2 None hard"),
        ("/step", json!({"action": {"number": 3}, "timeout_s": 9.5, "request_id": "r"}), "3 9.5 easy"),
        ("/reset", json!({"seed": 4, "level": [1, 2]}), "4 None [('level', [1, 2])]"),
    ] {
        let (_, told) = environment.post(path, &body).await?;
        assert_eq!(told["observation"]["hint"], wanted, "{body}: {told}");
    }
    Ok(())
}
