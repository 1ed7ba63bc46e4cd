//! `hothouse env validate`.

use std::sync::Arc;

use hothouse_env::{Beside, Environment, Session, Terms};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::stage::{Stage, StageFlags};
use crate::console;
use crate::failure::Failure;

/// Sessions at once.
const SESSIONS: usize = 2;

/// Check that an environment does what clients need
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hothouse env validate ./my_env\n  hothouse env validate http://127.0.0.1:8000"
)]
pub(super) struct ValidateArgs {
    /// Which: as for `hothouse env serve`, or the address of a server
    name: String,
    /// Print the checks as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    stage: StageFlags,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    why: String,
}

impl Check {
    fn of(check: &'static str, done: Result<(), String>) -> Self {
        Self { check, ok: done.is_ok(), why: done.err().unwrap_or_default() }
    }
}

/// Checks it; 1 when something is not as it should be.
pub(super) async fn run(args: ValidateArgs) -> Result<u8, Failure> {
    let checks = if args.name.starts_with("http://") || args.name.starts_with("https://") {
        of_server(args.name.trim_end_matches('/')).await?
    } else {
        let opening = Box::pin(Stage::open(&args.name, &args.stage, SESSIONS));
        let (environment, stage) = opening.await?;
        let checks = of_environment(&environment).await;
        stage.close().await;
        checks
    };
    let failed = checks.iter().filter(|check| !check.ok).count();
    if args.json {
        console::json(&checks)?;
    } else {
        for check in &checks {
            let mark = if check.ok { "ok    " } else { "FAILED" };
            let why = if check.why.is_empty() { String::new() } else { format!(": {}", check.why) };
            console::line(&format!("{mark} {}{why}", check.check))?;
        }
        console::line(&format!("{} of {} checks hold", checks.len() - failed, checks.len()))?;
    }
    Ok(u8::from(failed > 0))
}

fn is_schema(schema: &Value, what: &str) -> Result<(), String> {
    if schema["type"] != "object" {
        return Err(format!("the schema of the {what} describes no object"));
    }
    if !schema["properties"].is_object() {
        return Err(format!("the schema of the {what} has no properties"));
    }
    Ok(())
}

async fn of_environment(environment: &Arc<Environment>) -> Vec<Check> {
    let schemas = &environment.schemas;
    let mut checks = vec![
        Check::of("the schema of actions is one", is_schema(&schemas.action, "action")),
        Check::of("the schema of observations is one", is_schema(&schemas.observation, "observation")),
        Check::of("the schema of states is one", is_schema(&schemas.state, "state")),
    ];
    let terms = Terms::default();
    let opened = (Session::open(environment, terms).await, Session::open(environment, terms).await);
    let (mut one, mut other) = match opened {
        (Ok(one), Ok(other)) => (one, other),
        (one, other) => {
            let why = [one.err(), other.err()].into_iter().flatten().map(|error| error.message).next();
            checks.push(Check::of("two sessions open", Err(why.unwrap_or_default())));
            return checks;
        }
    };
    checks.push(Check::of("two sessions open", Ok(())));
    let begun = one.reset(Map::new()).await.map(|_| ()).map_err(|error| error.to_string());
    checks.push(Check::of("an episode begins", begun));
    let ids = (state(&mut one).await, again(&mut one).await);
    let new_id = match ids {
        (Ok(before), Ok(after)) if before["episode_id"] == after["episode_id"] => {
            Err(format!("the episode_id stays {}", after["episode_id"]))
        }
        (Ok(_), Ok(after)) if after["step_count"] != 0 => {
            Err(format!("step_count is {} after a reset", after["step_count"]))
        }
        (Ok(_), Ok(_)) => Ok(()),
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    checks.push(Check::of("another episode has another episode_id, and no steps", new_id));
    let nonsense = json!({"surely_no_field_of_yours": 1}).to_string();
    let refused = match one.step(&nonsense, None, Beside::default()).await {
        Ok(_) => Err("an action with a field that the schema does not have is taken".to_owned()),
        Err(error) if error.is_fatal() => Err(error.to_string()),
        Err(_) => state(&mut one).await.map(|_| ()),
    };
    checks.push(Check::of("an action that is wrong is refused, and the session goes on", refused));
    let named = json!({"episode_id": "hothouse-validate"});
    let kept = match other.reset(named.as_object().cloned().unwrap_or_default()).await {
        Err(error) => Err(error.to_string()),
        Ok(_) => match (state(&mut other).await, state(&mut one).await) {
            (Ok(own), Ok(first)) if own["episode_id"] == first["episode_id"] => {
                Err("one session's reset is another one's too".to_owned())
            }
            (Ok(_), Ok(_)) => Ok(()),
            (Err(error), _) | (_, Err(error)) => Err(error),
        },
    };
    checks.push(Check::of("sessions do not see each other", kept));
    one.close().await;
    other.close().await;
    checks
}

async fn state(session: &mut Session) -> Result<Value, String> {
    let state = session.state().await.map_err(|error| error.to_string())?;
    let state: Value =
        serde_json::from_slice(&state).map_err(|error| format!("the state is no JSON: {error}"))?;
    for name in ["episode_id", "step_count"] {
        if state.get(name).is_none() {
            return Err(format!("the state has no {name}"));
        }
    }
    Ok(state)
}

async fn again(session: &mut Session) -> Result<Value, String> {
    session.reset(Map::new()).await.map_err(|error| error.to_string())?;
    state(session).await
}

/// What `openenv validate` asks of a server.
async fn of_server(base: &str) -> Result<Vec<Check>, Failure> {
    let client = reqwest::Client::builder().build();
    let client =
        client.map_err(|error| Failure::new(hothouse_domain::ErrorCode::Internal, error.to_string()))?;
    let get = async |path: &str| -> Result<Value, String> {
        let answer = client.get(format!("{base}{path}")).send().await.map_err(|error| error.to_string())?;
        let answer = answer.error_for_status().map_err(|error| error.to_string())?;
        answer.json().await.map_err(|error| format!("the answer to GET {path} is no JSON: {error}"))
    };
    let has = |value: &Value, names: &[&str]| match names.iter().find(|name| value.get(**name).is_none()) {
        Some(missing) => Err(format!("there is no {missing:?} in it")),
        None => Ok(()),
    };
    let mut checks = Vec::new();
    let api = get("/openapi.json").await;
    let version = api.as_ref().map_err(Clone::clone).and_then(|api| has(&api["info"], &["version"]));
    checks.push(Check::of("openapi.json says its version", version));
    let health = get("/health").await.and_then(|health| match health["status"].as_str() {
        Some("healthy") => Ok(()),
        other => Err(format!("the status is {other:?}")),
    });
    checks.push(Check::of("it is healthy", health));
    let metadata = get("/metadata").await.and_then(|metadata| has(&metadata, &["name", "description"]));
    checks.push(Check::of("metadata says what it is", metadata));
    let schema = get("/schema").await.and_then(|schema| has(&schema, &["action", "observation", "state"]));
    checks.push(Check::of("the schemas are there", schema));
    let mcp = async {
        let sent = client.post(format!("{base}/mcp")).json(&json!({})).send().await;
        let answer: Value =
            sent.map_err(|error| error.to_string())?.json().await.map_err(|error| error.to_string())?;
        if answer["jsonrpc"] == "2.0" { Ok(()) } else { Err(format!("it answers {answer}")) }
    };
    checks.push(Check::of("mcp speaks JSON-RPC 2.0", mcp.await));
    let modes = api.and_then(|api| {
        let there = ["/reset", "/step", "/state"].map(|path| api["paths"].get(path).is_some());
        if there.iter().all(|is| *is) || there.iter().all(|is| !*is) {
            return Ok(());
        }
        Err("of /reset, /step and /state only some are there".to_owned())
    });
    checks.push(Check::of("it is wholly in simulation or in production", modes));
    Ok(checks)
}
