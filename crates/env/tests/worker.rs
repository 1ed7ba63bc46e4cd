//! Environments in Python, played by a real worker over a real socket.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "the whole program is a test")]

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use hothouse_env::package::{Layers, Target};
use hothouse_env::worker::{Dial, Stream, Worker};
use hothouse_env::{Beside, Environment, Era, Session, StepError, Terms};
use serde_json::{Map, Value, json};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// Far more than it takes, since a busy machine is no mistake.
const PATIENCE: Duration = Duration::from_secs(60);

/// An author's module: it counts, fails, dies and waits as it is told.
const MODULE: &str = r#"
import os, time
from dataclasses import dataclass
from hothouse.env import Action, Environment, Observation, State

@dataclass(kw_only=True)
class CountAction(Action):
    do: str
    by: int = 1

@dataclass(kw_only=True)
class CountObservation(Observation):
    total: int = 0
    pid: int = 0

@dataclass(kw_only=True)
class CountState(State):
    total: int = 0

class Count(Environment):
    """Counts."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self._state = CountState()

    def reset(self, seed=None, episode_id=None):
        self._state = CountState(episode_id=episode_id or "E", total=seed or 0)
        return self._show()

    def step(self, action: CountAction) -> CountObservation:
        if action.do == "fail":
            raise ValueError("told to fail")
        if action.do == "die":
            os._exit(7)
        if action.do == "wait":
            while not os.path.exists(os.environ["GO"]):
                time.sleep(0.01)
        if action.do == "nan":
            return CountObservation(total=self._state.total, reward=float("nan"))
        self._state.step_count += 1
        self._state.total += action.by
        return self._show()

    def _show(self):
        total = self._state.total
        return CountObservation(total=total, pid=os.getpid(), reward=float(total), done=total >= 100, metadata={"by": "us"})

    @property
    def state(self):
        return self._state
"#;

struct Started {
    environment: Arc<Environment>,
    directory: tempfile::TempDir,
    _zygote: Child,
}

async fn start(module: &str, processes: usize) -> Result<Started, hothouse_env::OpenError> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("author.py"), module).unwrap();
    let target = Target::Gymnasium("none".to_owned());
    let layers = Layers::new(directory.path()).of(&target, &[], "3").await.unwrap();
    let kit = layers[0].join("opt/hothouse/kit");
    let socket = directory.path().join("worker.sock");
    let mut command = Command::new("python3");
    command
        .args(["-m", "hothouse.worker", "author:Count", "--socket"])
        .arg(&socket)
        .env("PYTHONPATH", format!("{}:{}", kit.display(), directory.path().display()))
        .env("GO", directory.path().join("go"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let zygote = command.spawn().unwrap();
    let environment = Worker::environment(dial(&socket), processes).await?;
    Ok(Started { environment: Arc::new(environment), directory, _zygote: zygote })
}

fn dial(socket: &Path) -> Dial {
    let socket = socket.to_owned();
    Arc::new(move || {
        let socket = socket.clone();
        async move {
            let connected = async {
                loop {
                    match UnixStream::connect(&socket).await {
                        Ok(stream) => return Box::new(stream) as Box<dyn Stream>,
                        Err(_not_yet) => tokio::time::sleep(Duration::from_millis(10)).await,
                    }
                }
            };
            tokio::time::timeout(PATIENCE, connected).await.map_err(|_| "it never listens".to_owned())
        }
        .boxed()
    })
}

async fn session(started: &Started) -> Session {
    let opened = Session::open(&started.environment, Terms::default());
    tokio::time::timeout(PATIENCE, opened).await.unwrap().unwrap()
}

async fn step(session: &mut Session, action: Value) -> Result<Value, StepError> {
    let action = action.to_string();
    let stepped =
        tokio::time::timeout(PATIENCE, session.step(&action, None, Beside::default())).await.unwrap()?;
    let mut out = b"{".to_vec();
    stepped.observed.write(Era::Today, stepped.observed.reward, &mut out);
    out.push(b'}');
    Ok(serde_json::from_slice(&out).unwrap())
}

#[tokio::test]
async fn sessions_share_a_process_and_nothing_else() {
    let started = start(MODULE, 1).await.unwrap();
    assert_eq!(started.environment.schemas.action["properties"]["do"]["type"], "string");
    let (mut one, mut other) = (session(&started).await, session(&started).await);
    for session in [&mut one, &mut other] {
        session.reset(json!({"seed": 40}).as_object().unwrap().clone()).await.unwrap();
    }
    let first = step(&mut one, json!({"do": "add", "by": 2})).await.unwrap();
    let second = step(&mut other, json!({"do": "add"})).await.unwrap();
    assert_eq!((&first["observation"]["total"], &second["observation"]["total"]), (&json!(42), &json!(41)));
    assert_eq!(first["observation"]["pid"], second["observation"]["pid"]);
    assert_eq!((&first["reward"], &first["done"]), (&json!(42.0), &json!(false)));
    assert_eq!(first["observation"]["metadata"], json!({"by": "us"}));
    let state: Value = serde_json::from_slice(&one.state().await.unwrap()).unwrap();
    assert_eq!(state, json!({"episode_id": "E", "step_count": 1, "total": 42}));
}

#[tokio::test]
async fn what_is_wrong_or_fails_is_told_and_the_session_goes_on() {
    let started = start(MODULE, 1).await.unwrap();
    let mut session = session(&started).await;
    session.reset(Map::new()).await.unwrap();
    let StepError::Invalid(wrong) = step(&mut session, json!({"do": 5, "more": 1})).await.unwrap_err() else {
        panic!("it is wrong")
    };
    let told: Vec<_> = wrong.iter().map(|wrong| (wrong.kind.as_ref(), wrong.loc.clone())).collect();
    assert_eq!(told, [("string_type", vec![json!("do")]), ("extra_forbidden", vec![json!("more")])]);
    let StepError::Failed(failed) = step(&mut session, json!({"do": "fail"})).await.unwrap_err() else {
        panic!("it fails")
    };
    assert_eq!(failed.message, "told to fail");
    assert!(failed.traceback.unwrap_or_default().contains("author.py"), "the author sees where");
    assert_eq!(step(&mut session, json!({"do": "nan"})).await.unwrap()["reward"], Value::Null);
    assert_eq!(step(&mut session, json!({"do": "add"})).await.unwrap()["observation"]["total"], 1);
}

#[tokio::test]
async fn a_process_that_dies_takes_its_own_sessions_alone() {
    let started = start(MODULE, 2).await.unwrap();
    let (mut one, mut other) = (session(&started).await, session(&started).await);
    one.reset(Map::new()).await.unwrap();
    other.reset(Map::new()).await.unwrap();
    let lost = step(&mut one, json!({"do": "die"})).await.unwrap_err();
    assert!(matches!(lost, StepError::Lost(_)), "{lost}");
    assert!(one.is_lost());
    assert!(matches!(step(&mut one, json!({"do": "add"})).await, Err(StepError::Lost(_))));
    assert_eq!(step(&mut other, json!({"do": "add"})).await.unwrap()["observation"]["total"], 1);
    let mut next = session(&started).await;
    next.reset(Map::new()).await.unwrap();
    assert_eq!(step(&mut next, json!({"do": "add"})).await.unwrap()["observation"]["total"], 1);
}

#[tokio::test]
async fn a_slow_step_delays_nobody_else() {
    let started = start(MODULE, 1).await.unwrap();
    let (mut slow, mut other) = (session(&started).await, session(&started).await);
    slow.reset(Map::new()).await.unwrap();
    other.reset(Map::new()).await.unwrap();
    let waits = step(&mut slow, json!({"do": "wait"}));
    let goes_on = async {
        for total in 1..50 {
            assert_eq!(step(&mut other, json!({"do": "add"})).await.unwrap()["observation"]["total"], total);
        }
        // Only now may the slow one end.
        std::fs::write(started.directory.path().join("go"), "").unwrap();
    };
    let (waited, ()) = tokio::join!(waits, goes_on);
    assert_eq!(waited.unwrap()["observation"]["total"], 1);
}

#[tokio::test]
async fn copies_go_their_own_ways() {
    let started = start(MODULE, 1).await.unwrap();
    let mut session = session(&started).await;
    session.reset(Map::new()).await.unwrap();
    step(&mut session, json!({"do": "add", "by": 5})).await.unwrap();
    let mut copy = session.fork().await.unwrap();
    assert_eq!(step(&mut copy, json!({"do": "add"})).await.unwrap()["observation"]["total"], 6);
    assert_eq!(step(&mut session, json!({"do": "add", "by": 2})).await.unwrap()["observation"]["total"], 7);
}

#[tokio::test]
async fn an_author_sees_why_a_module_cannot_be_imported() {
    let error = start("import nothing_of_this_name\n", 1).await.err().expect("it cannot be imported");
    assert!(error.message.contains("nothing_of_this_name"), "{error:?}");
    assert!(error.traceback.unwrap_or_default().contains("author.py"), "the author sees where");
}
