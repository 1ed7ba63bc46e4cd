//! `pong`: the field of [`crate::pong`], played from the left against an opponent that the reset chooses, or against
//! whoever says what the right paddle does.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Metadata;
use crate::environment::{About, Environment, Models, Turns};
use crate::game::{Failed, Reset, Rules, Typed, fields};
use crate::model::{Field, Kind, Model};
use crate::numpy::Generator;
use crate::observed::{Observed, Reward};
use crate::pong::{Move, NoMove, Played, Pong, Standing};

/// What it is.
pub(super) fn environment() -> Environment {
    let step = || Kind::Integer { least: Some(0), most: Some(2) };
    let action = vec![
        Field::new("action", step(), "The left paddle: 0 up, 1 stay, 2 down"),
        Field::new(
            "opponent_action",
            Kind::Optional(Box::new(step())),
            "The right paddle, in place of what the opponent would do",
        )
        .or(json!(null)),
    ];
    let count = || Kind::Integer { least: Some(0), most: None };
    let numbers = |of| Kind::List(Box::new(of));
    let scores = || Field::new("scores", numbers(count()), "Points of left and right").or(json!([]));
    let seen = "Ball x and y, its velocity x and y, left and right paddle, left and right score";
    let observation = vec![Field::new("obs", numbers(Kind::Number), seen).or(json!([])), scores()];
    let opponent = Field::new("opponent", Kind::OneOf(OPPONENTS), "Who plays the right paddle").or("track");
    let about = About {
        name: "pong",
        class: "PongEnvironment",
        description: "Pong from the left paddle: a point is worth 1, one of the opponent's costs 1; 11 points or 1,000 steps end it",
        version: "1.0.0",
    };
    let models = Models {
        action: Model::action("PongAction", "What the paddles do.", action),
        observation: Model::observation("PongObservation", "The field.", observation),
        state: Model::state("PongState", "Where the game is.", vec![scores(), opponent]),
    };
    Environment::in_memory(about, models, Turns::FromReset, |_| Box::new(Typed(Court::default())))
}

const OPPONENTS: &[&str] = &["track", "random", "stay"];

/// Who plays the right paddle.
#[derive(Debug, Clone, PartialEq)]
enum Opponent {
    /// Runs after the ball.
    Track,
    /// Does anything, by numbers of its own: those of the field stay the same whoever plays.
    Random(Generator),
    Stay,
}

#[derive(Debug, Clone)]
struct Court {
    game: Pong,
    opponent: Opponent,
}

impl Default for Court {
    fn default() -> Self {
        Self { game: Pong::new(0), opponent: Opponent::Track }
    }
}

/// A move as a number.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
struct Numbered(Move);

impl TryFrom<i64> for Numbered {
    type Error = NoMove;
    fn try_from(number: i64) -> Result<Self, NoMove> {
        Move::try_from(number).map(Self)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    action: Numbered,
    #[serde(default)]
    opponent_action: Option<Numbered>,
    #[serde(default, rename = "metadata")]
    _metadata: Metadata,
}

#[derive(Serialize)]
struct Observation {
    obs: [f64; 8],
    scores: [u32; 2],
}

#[derive(Serialize)]
struct State {
    scores: [u32; 2],
    opponent: &'static str,
}

#[derive(Serialize)]
struct End {
    terminated: bool,
    truncated: bool,
}

impl Opponent {
    fn named(name: &str, seed: u64) -> Option<Self> {
        match name {
            "track" => Some(Self::Track),
            "random" => Some(Self::Random(Generator::new(!seed))),
            "stay" => Some(Self::Stay),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Random(_) => "random",
            Self::Stay => "stay",
        }
    }

    fn play(&mut self, game: &Pong) -> Move {
        match self {
            Self::Track => game.follow(1),
            Self::Random(generator) => match generator.next_u64() % 3 {
                0 => Move::Up,
                1 => Move::Stay,
                _ => Move::Down,
            },
            Self::Stay => Move::Stay,
        }
    }
}

impl Court {
    fn show(&self, reward: f64, done: bool, shown: &mut Observed) -> Result<(), Failed> {
        let obs = self.game.observation().map(f64::from);
        shown.show(&Observation { obs, scores: self.game.scores() }, Reward::Number(reward), done)
    }
}

impl Rules for Court {
    type Action = Action;

    fn reset(&mut self, how: &Reset, shown: &mut Observed) -> Result<(), Failed> {
        let seed = how.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().1);
        let opponent = match how.given.get("opponent") {
            None | Some(serde_json::Value::Null) => Some(Opponent::Track),
            Some(name) => name.as_str().and_then(|name| Opponent::named(name, seed)),
        };
        let known = || Failed::new(format!("there is no such opponent; there are {}", OPPONENTS.join(", ")));
        let opponent = opponent.ok_or_else(known)?;
        *self = Self { game: Pong::new(seed), opponent };
        self.show(0.0, false, shown)
    }

    fn step(&mut self, action: Action, shown: &mut Observed) -> Result<(), Failed> {
        let own = self.opponent.play(&self.game);
        let theirs = action.opponent_action.map_or(own, |Numbered(step)| step);
        let Played { scorer, standing } = self.game.step([action.action.0, theirs]);
        let reward = match scorer {
            None => 0.0,
            Some(0) => 1.0,
            Some(_) => -1.0,
        };
        self.show(reward, standing != Standing::Open, shown)?;
        match standing {
            Standing::Open => Ok(()),
            Standing::Won => shown.tell(&End { terminated: true, truncated: false }),
            Standing::TimeUp => shown.tell(&End { terminated: false, truncated: true }),
        }
    }

    fn state(&self) -> Option<Vec<u8>> {
        fields(&State { scores: self.game.scores(), opponent: self.opponent.name() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset(given: &serde_json::Value) -> Result<Court, Failed> {
        let given = given.as_object().unwrap().clone();
        let seed = given.get("seed").and_then(serde_json::Value::as_u64);
        let mut court = Court::default();
        court.reset(&Reset { seed, given }, &mut Observed::default()).map(|()| court)
    }

    fn play(mut court: Court, action: i64, opponent: Option<i64>) -> ([u32; 2], f64) {
        let mut shown = Observed::default();
        let mut sum = 0.0;
        let numbered = |number: i64| Numbered::try_from(number).unwrap();
        while !shown.done {
            let action = Action {
                action: numbered(action),
                opponent_action: opponent.map(numbered),
                _metadata: Metadata::new(),
            };
            court.step(action, &mut shown).unwrap();
            sum += shown.reward.as_number().unwrap();
        }
        (court.game.scores(), sum)
    }

    #[test]
    fn the_field_is_the_seed_s_whoever_plays() {
        // Recorded elsewhere: nobody moves, from this seed.
        let known = ([10, 11], -1.0);
        assert_eq!(play(reset(&json!({"seed": 42, "opponent": "stay"})).unwrap(), 1, None), known);
        assert_eq!(play(reset(&json!({"seed": 42, "opponent": "random"})).unwrap(), 1, Some(1)), known);
        assert_ne!(play(reset(&json!({"seed": 42})).unwrap(), 1, None), known, "an opponent that moves");
        assert_ne!(reset(&json!({})).unwrap().game, reset(&json!({})).unwrap().game, "without a seed");
        assert!(reset(&json!({"opponent": "nobody"})).unwrap_err().message.contains("track, random, stay"));
        let random = || play(reset(&json!({"seed": 3, "opponent": "random"})).unwrap(), 1, None);
        assert_eq!(random(), random());
    }
}
