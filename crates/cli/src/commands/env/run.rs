//! `hothouse env run`.

use std::sync::Arc;

use hothouse_env::{Beside, Environment, Era, Observed, Session, StepError, Terms};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::stage::{Stage, StageFlags};
use crate::console;
use crate::failure::Failure;

/// Sessions at once.
const SESSIONS: usize = 1;

/// Play an environment by hand or from a file: a JSON action a line on standard input, a JSON result a line back
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  echo '{\"action\": \"DOWN\"}' | hothouse env run grid_world\n  hothouse env run gym:CartPole-v1 --seed 7 < actions.jsonl"
)]
pub(super) struct RunArgs {
    /// Which: as for `hothouse env serve`
    name: String,
    /// Seed of the episode
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Further arguments of the reset, a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    reset: Option<Map<String, Value>>,
    /// Begin another episode when one is over, instead of ending
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    stage: StageFlags,
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("use a JSON object, e.g. '{{\"size\": 5}}' ({error})"))
}

/// Plays until the actions or the episode end.
pub(super) async fn run(args: RunArgs) -> Result<u8, Failure> {
    let opening = Box::pin(Stage::open(&args.name, &args.stage, SESSIONS));
    let (environment, stage) = opening.await?;
    let played = play(&args, &environment).await;
    stage.close().await;
    played
}

async fn play(args: &RunArgs, environment: &Arc<Environment>) -> Result<u8, Failure> {
    let opened = Session::open(environment, Terms::default()).await;
    let mut session = opened.map_err(|error| super::stage::not_opened(&error))?;
    let mut given = args.reset.clone().unwrap_or_default();
    if let Some(seed) = args.seed {
        given.insert("seed".to_owned(), seed.into());
    }
    show(session.reset(given.clone()).await)?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut failed = false;
    while let Some(line) = lines.next_line().await.map_err(|e| Failure::io("reading actions", &e))? {
        if line.trim().is_empty() {
            continue;
        }
        let shown = session.step(&line, None, Beside::default()).await.map(|stepped| stepped.observed);
        failed |= shown.is_err();
        let is_over = shown.as_ref().is_ok_and(|observed| observed.done);
        show(shown)?;
        if session.is_lost() {
            break;
        }
        if is_over {
            if !args.again {
                break;
            }
            show(session.reset(given.clone()).await)?;
        }
    }
    session.close().await;
    Ok(u8::from(failed))
}

/// One line: what was seen, or why nothing was.
fn show(shown: Result<&Observed, StepError>) -> Result<(), Failure> {
    let line = match shown {
        Ok(observed) => {
            let mut out = b"{".to_vec();
            observed.write(Era::Today, observed.reward, &mut out);
            out.push(b'}');
            String::from_utf8_lossy(&out).into_owned()
        }
        Err(StepError::Invalid(wrong)) => {
            serde_json::json!({"error": "invalid action", "errors": wrong}).to_string()
        }
        Err(error) => serde_json::json!({"error": error.to_string()}).to_string(),
    };
    console::line(&line)
}
