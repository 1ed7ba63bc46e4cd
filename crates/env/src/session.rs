//! One client's use of an environment: its episode, its steps, and what is out of turn.

use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::environment::{Environment, Maker, Turns};
use crate::game::{Failed, Game, Reset, ToolError};
use crate::instance::{Beside, Instance, OpenError, Shown, Terms};
use crate::model::{Model, Wrong};
use crate::observed::Observed;
use crate::step_log::{Known, StepLog};

/// Bounds on what a session does.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Time for a reset.
    pub reset: Duration,
    /// Time for a step.
    pub step: Duration,
    /// Bytes of an observation, its metadata included.
    pub observation_bytes: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        let (reset, step) = (Duration::from_secs(120), Duration::from_secs(60));
        Self { reset, step, observation_bytes: 64 << 20 }
    }
}

/// Why a reset or a step was refused or failed. Unless it is lost the session goes on as it was.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StepError {
    /// The action, or a field of the reset, is not as its model wants it.
    #[error("Invalid message")]
    Invalid(Vec<Wrong>),
    /// There is no episode.
    #[error("the episode has not begun; reset first")]
    NotReset,
    /// There is none any more.
    #[error("the episode is over; reset to begin another")]
    Over,
    /// The id was given to another step.
    #[error("step_id {0:?} was another action's; give each step an id of its own")]
    StepIdReused(String),
    /// The environment says why.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// It would be too much to send.
    #[error(
        "the observation has {bytes} bytes, more than the {limit} allowed; show less, or raise the limit"
    )]
    TooLarge {
        /// Bytes that it has.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// It took too long. What it does cannot be stopped, so the session is lost.
    #[error("the {what} took longer than {after:?} and was given up; the session is lost, open another")]
    TimedOut {
        /// What took long.
        what: &'static str,
        /// What it had.
        after: Duration,
    },
    /// What played is gone.
    #[error("the session is lost: {0}; open another")]
    Lost(String),
    /// The environment has no such thing.
    #[error("{environment} cannot {what}")]
    NotSupported {
        /// Which.
        environment: String,
        /// What was asked for.
        what: &'static str,
    },
}

impl StepError {
    /// True when the session can do nothing any more.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Lost(_))
    }
}

/// Where an episode is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// None has begun.
    Fresh,
    Playing,
    /// It is over.
    Over,
    /// What played is gone, for this reason.
    Lost(String),
}

/// What plays.
#[derive(Debug)]
enum Player {
    Game { game: Box<dyn Game>, action: Arc<Model> },
    Instance(Box<dyn Instance>),
}

/// What came of a step.
#[derive(Debug)]
pub struct Stepped<'a> {
    /// What is shown.
    pub observed: &'a Observed,
    /// It was taken before, under the same id; nothing was done now.
    pub replayed: bool,
}

/// One client's use of an environment.
#[derive(Debug)]
pub struct Session {
    environment: Arc<Environment>,
    player: Player,
    limits: SessionLimits,
    phase: Phase,
    episode_id: String,
    steps: u64,
    observed: Observed,
    log: StepLog,
}

fn fresh_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl Session {
    /// Opens one.
    ///
    /// # Errors
    /// [`OpenError`]: what plays could not be made.
    pub async fn open(environment: &Arc<Environment>, terms: Terms) -> Result<Self, OpenError> {
        let Terms { era, limits, .. } = terms;
        let player = match &environment.maker {
            Maker::Game { action, make } => Player::Game { game: make(era), action: Arc::clone(action) },
            Maker::Host(host) => Player::Instance(host.open(terms).await?),
        };
        let phase = match environment.turns {
            Turns::AtOnce | Turns::ItsOwn => Phase::Playing,
            Turns::FromReset => Phase::Fresh,
        };
        let environment = Arc::clone(environment);
        let (observed, log) = (Observed::default(), StepLog::default());
        Ok(Self { environment, player, limits, phase, episode_id: fresh_id(), steps: 0, observed, log })
    }

    /// Begins an episode. `seed` (a whole number) and `episode_id` are known everywhere, all else is the environment's.
    ///
    /// # Errors
    /// [`StepError`]: a field is not as it has to be, or the environment failed; the episode of before goes on.
    pub async fn reset(&mut self, given: Map<String, Value>) -> Result<&Observed, StepError> {
        self.check_alive()?;
        let is_game = matches!(self.player, Player::Game { .. });
        let episode_id = match given.get("episode_id") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(other) if is_game => {
                return Err(wrong("episode_id", "string_type", "a valid string", other));
            }
            Some(_its_own) => None,
        };
        let seed = match given.get("seed") {
            None | Some(Value::Null) => None,
            // A generator is seeded by 64 bits; which ones a negative number means is its own affair.
            Some(Value::Number(number)) if number.is_i64() || number.is_u64() => {
                number.as_u64().or_else(|| number.as_i64().map(i64::cast_unsigned))
            }
            Some(other) if is_game => return Err(wrong("seed", "int_type", "a valid integer", other)),
            Some(_its_own) => None,
        };
        let how = Reset { seed, given };
        match &mut self.player {
            Player::Game { game, .. } => game.reset(&how, &mut self.observed)?,
            Player::Instance(instance) => {
                let observed = within("reset", self.limits.reset, instance.reset(&how)).await;
                self.observed = note_loss(&mut self.phase, observed)?;
            }
        }
        self.check_size()?;
        self.episode_id = episode_id.unwrap_or_else(fresh_id);
        self.steps = 0;
        self.log.clear();
        self.settle();
        Ok(&self.observed)
    }

    /// Does what an action, a JSON object, says; once for each `step_id`.
    ///
    /// # Errors
    /// [`StepError`]: it is out of turn, not as its model wants it, or the environment failed.
    pub async fn step(
        &mut self,
        action: &str,
        step_id: Option<&str>,
        beside: Beside<'_>,
    ) -> Result<Stepped<'_>, StepError> {
        self.check_alive()?;
        if let Some(id) = step_id {
            match self.log.look(id, action) {
                Known::Nothing => {}
                Known::Taken(observed) => {
                    self.observed.clone_from(observed);
                    return Ok(Stepped { observed: &self.observed, replayed: true });
                }
                Known::Reused => return Err(StepError::StepIdReused(id.to_owned())),
            }
        }
        if self.environment.turns != Turns::ItsOwn {
            match self.phase {
                Phase::Playing | Phase::Lost(_) => {}
                Phase::Fresh => return Err(self.out_of_turn(action, StepError::NotReset)),
                Phase::Over => return Err(self.out_of_turn(action, StepError::Over)),
            }
        }
        match &mut self.player {
            Player::Game { game, action: model } => game.step(action, model, &mut self.observed)?,
            Player::Instance(instance) => {
                let most = beside.within.map_or(self.limits.step, |limit| limit.min(self.limits.step));
                let most = most.saturating_add(instance.overtime());
                let observed = within("step", most, instance.step(action, beside)).await;
                self.observed = note_loss(&mut self.phase, observed)?;
            }
        }
        self.steps += 1;
        self.settle();
        self.check_size()?;
        if let Some(id) = step_id {
            self.log.keep(id, action, &self.observed);
        }
        Ok(Stepped { observed: &self.observed, replayed: false })
    }

    /// `episode_id`, `step_count` and what the environment adds, as a JSON object.
    ///
    /// # Errors
    /// [`StepError`]: the environment failed.
    pub async fn state(&mut self) -> Result<Vec<u8>, StepError> {
        self.check_alive()?;
        let more = match &mut self.player {
            Player::Game { game, .. } => game.state(),
            Player::Instance(instance) => {
                let shown = within("state", self.limits.step, instance.state()).await;
                match note_loss(&mut self.phase, shown)? {
                    Shown::Whole(whole) => return Ok(whole),
                    Shown::Beside(fields) => Some(fields),
                }
            }
        };
        let mut state = String::with_capacity(96);
        // Writing to memory does not fail.
        _ = write!(
            state,
            "{{\"episode_id\":{},\"step_count\":{}",
            Value::from(&*self.episode_id),
            self.steps
        );
        let mut state = state.into_bytes();
        match more.as_deref() {
            None | Some(b"{}") => state.push(b'}'),
            Some(fields) => {
                state.push(b',');
                state.extend_from_slice(&fields[1..]);
            }
        }
        Ok(state)
    }

    /// Calls one of the environment's tools, which is no step; the result as MCP has it.
    ///
    /// # Errors
    /// [`ToolError`]: there is no such tool, or it failed.
    pub async fn call_tool(
        &mut self,
        name: &str,
        arguments: &Map<String, Value>,
    ) -> Result<Value, ToolError> {
        match &mut self.player {
            Player::Game { game, .. } => game.call_tool(name, arguments),
            Player::Instance(instance) => instance.call_tool(name, arguments).await,
        }
    }

    /// Another session in the same state, in an episode of its own, from now on apart.
    ///
    /// # Errors
    /// [`StepError::NotSupported`]: the environment cannot; others: it failed.
    pub async fn fork(&mut self) -> Result<Self, StepError> {
        self.check_alive()?;
        let player = match &mut self.player {
            Player::Game { game, action } => Player::Game { game: game.copy(), action: Arc::clone(action) },
            Player::Instance(instance) => {
                let copy = within("fork", self.limits.reset, instance.copy()).await;
                Player::Instance(note_loss(&mut self.phase, copy)?)
            }
        };
        Ok(Self {
            environment: Arc::clone(&self.environment),
            player,
            limits: self.limits,
            phase: self.phase.clone(),
            episode_id: fresh_id(),
            steps: self.steps,
            observed: self.observed.clone(),
            log: StepLog::default(),
        })
    }

    /// Goes back to where another session, a fork kept for this, is. The episode's id stays.
    ///
    /// # Errors
    /// [`StepError`]: as for [`Session::fork`]; this one is as it was then.
    pub async fn restore(&mut self, kept: &mut Self) -> Result<(), StepError> {
        let copy = kept.fork().await?;
        let episode_id = std::mem::take(&mut self.episode_id);
        let before = std::mem::replace(self, Self { episode_id, ..copy });
        before.close().await;
        Ok(())
    }

    /// Ends it in order.
    pub async fn close(self) {
        match self.player {
            Player::Game { .. } => {}
            Player::Instance(instance) => instance.close().await,
        }
    }

    /// What it is a session of.
    #[must_use]
    pub fn environment(&self) -> &Arc<Environment> {
        &self.environment
    }

    /// Steps of this episode.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// True when it can do nothing any more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self.phase, Phase::Lost(_))
    }

    /// True when a step takes no time: it never waits for anything.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        matches!(self.player, Player::Game { .. })
    }

    /// What is wrong with the action itself comes before that it is out of turn.
    fn out_of_turn(&self, action: &str, error: StepError) -> StepError {
        let Player::Game { action: model, .. } = &self.player else { return error };
        let checked = serde_json::from_str(action).map(|given| model.check(given));
        match checked {
            Ok(Err(wrong)) => StepError::Invalid(wrong),
            Ok(Ok(_)) | Err(_) => error,
        }
    }

    fn check_alive(&self) -> Result<(), StepError> {
        match &self.phase {
            Phase::Lost(why) => Err(StepError::Lost(why.clone())),
            Phase::Fresh | Phase::Playing | Phase::Over => Ok(()),
        }
    }

    fn check_size(&mut self) -> Result<(), StepError> {
        let (bytes, limit) = (self.observed.size(), self.limits.observation_bytes);
        if bytes <= limit {
            return Ok(());
        }
        // It would be held for as long as the session stands still.
        self.observed = Observed::default();
        Err(StepError::TooLarge { bytes, limit })
    }

    fn settle(&mut self) {
        self.phase = if self.observed.done { Phase::Over } else { Phase::Playing };
    }
}

async fn within<T>(
    what: &'static str,
    most: Duration,
    doing: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    match tokio::time::timeout(most, doing).await {
        Ok(done) => done,
        Err(_elapsed) => Err(StepError::TimedOut { what, after: most }),
    }
}

/// Keeps in mind that what played is gone.
fn note_loss<T>(phase: &mut Phase, done: Result<T, StepError>) -> Result<T, StepError> {
    match &done {
        Err(StepError::Lost(why)) => *phase = Phase::Lost(why.clone()),
        Err(StepError::TimedOut { what, after }) => {
            *phase = Phase::Lost(format!("a {what} took longer than {after:?}"));
        }
        Ok(_) | Err(_) => {}
    }
    done
}

fn wrong(field: &str, kind: &'static str, wanted: &str, input: &Value) -> StepError {
    let msg = format!("Input should be {wanted}");
    StepError::Invalid(vec![Wrong {
        kind: kind.into(),
        loc: vec![field.into()],
        msg,
        input: input.clone(),
        ctx: None,
    }])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::builtin;
    use crate::environment::Era;

    async fn session(name: &str) -> Session {
        let limits = SessionLimits { observation_bytes: 4096, ..SessionLimits::default() };
        Session::open(&builtin::find(name).unwrap(), Terms { limits, ..Terms::default() }).await.unwrap()
    }

    fn sent(observed: &Observed, era: Era) -> Value {
        let mut out = b"{".to_vec();
        observed.write(era, observed.reward, &mut out);
        out.push(b'}');
        serde_json::from_slice(&out).unwrap()
    }

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    async fn state(session: &mut Session) -> Value {
        serde_json::from_slice(&session.state().await.unwrap()).unwrap()
    }

    async fn step(session: &mut Session, action: Value) -> Result<Value, StepError> {
        session
            .step(&action.to_string(), None, Beside::default())
            .await
            .map(|stepped| sent(stepped.observed, Era::Today))
    }

    #[tokio::test]
    async fn steps_are_counted_from_each_reset() {
        let mut session = session("echo").await;
        let first = state(&mut session).await["episode_id"].clone();
        step(&mut session, json!({"message": "before any reset"})).await.unwrap();
        assert_eq!(state(&mut session).await["step_count"], 1);
        session.reset(Map::new()).await.unwrap();
        assert_eq!(state(&mut session).await["step_count"], 0);
        assert_ne!(state(&mut session).await["episode_id"], first);
        let observed = step(&mut session, json!({"message": "h\u{e9}\u{2713}"})).await.unwrap();
        assert_eq!(
            observed,
            json!({"observation": {"metadata": {"original_message": "h\u{e9}\u{2713}", "step": 1},
                "echoed_message": "h\u{e9}\u{2713}", "message_length": 3}, "reward": 0.30000000000000004, "done": false})
        );
        assert_eq!(sent(&session.observed, Era::Seed)["observation"].as_object().unwrap().len(), 2);
        session.reset(map(&json!({"episode_id": "mine", "seed": 7}))).await.unwrap();
        assert_eq!(state(&mut session).await, json!({"episode_id": "mine", "step_count": 0}));
    }

    #[tokio::test]
    async fn what_is_out_of_turn_or_wrong_changes_nothing() {
        let mut session = session("grid_world").await;
        assert_eq!(step(&mut session, json!({"action": "UP"})).await, Err(StepError::NotReset));
        session.reset(Map::new()).await.unwrap();
        assert!(matches!(step(&mut session, json!({"action": "BACK"})).await, Err(StepError::Invalid(_))));
        assert_eq!(session.steps(), 0);
        for way in ["RIGHT", "DOWN"].repeat(4) {
            step(&mut session, json!({"action": way})).await.unwrap();
        }
        assert_eq!(step(&mut session, json!({"action": "UP"})).await, Err(StepError::Over));
        assert!(matches!(session.reset(map(&json!({"seed": "zz"}))).await, Err(StepError::Invalid(_))));
        assert_eq!(session.steps(), 8, "the episode of before is as it was");
    }

    #[tokio::test]
    async fn a_step_with_an_id_is_taken_once() {
        let mut session = session("echo").await;
        let action = json!({"message": "x"}).to_string();
        for replayed in [false, true, true] {
            assert_eq!(session.step(&action, Some("a"), Beside::default()).await.unwrap().replayed, replayed);
        }
        assert_eq!(session.steps(), 1);
        let other = json!({"message": "y"}).to_string();
        let reused = session.step(&other, Some("a"), Beside::default()).await.unwrap_err();
        assert_eq!(reused, StepError::StepIdReused("a".to_owned()));
        assert!(!session.step(&other, Some("b"), Beside::default()).await.unwrap().replayed);
        session.reset(Map::new()).await.unwrap();
        assert!(
            !session.step(&other, Some("b"), Beside::default()).await.unwrap().replayed,
            "another episode"
        );
    }

    #[tokio::test]
    async fn forks_go_their_own_ways_and_a_kept_one_is_gone_back_to() {
        let mut session = session("grid_world").await;
        session.reset(Map::new()).await.unwrap();
        step(&mut session, json!({"action": "DOWN"})).await.unwrap();
        let mut kept = session.fork().await.unwrap();
        let before = state(&mut session).await;
        step(&mut session, json!({"action": "RIGHT"})).await.unwrap();
        assert_eq!(state(&mut session).await["agent_y"], 1);
        assert_eq!(state(&mut kept).await["agent_y"], 0);
        session.restore(&mut kept).await.unwrap();
        assert_eq!(state(&mut session).await, before);
    }

    #[tokio::test]
    async fn what_is_too_much_is_not_kept() {
        let mut session = session("echo").await;
        let error = step(&mut session, json!({"message": "x".repeat(5000)})).await.unwrap_err();
        assert!(matches!(error, StepError::TooLarge { limit: 4096, .. }) && !error.is_fatal(), "{error}");
        assert_eq!(session.observed.size(), 0);
        step(&mut session, json!({"message": "x"})).await.unwrap();
    }
}
