//! `grid_world`: from one corner of a small field to the other.

use serde::{Deserialize, Serialize};

use super::Metadata;
use crate::environment::{About, Environment, Models, Turns};
use crate::game::{Failed, Reset, Rules, Typed, fields};
use crate::model::{Field, Kind, Model};
use crate::observed::{Observed, Reward};

const SIZE: i64 = 5;
const GOAL: (i64, i64) = (SIZE - 1, SIZE - 1);

/// What it is.
pub(super) fn environment() -> Environment {
    let way = Field::new("action", Kind::OneOf(&["UP", "DOWN", "LEFT", "RIGHT"]), "Which way to go");
    let place = || Kind::Integer { least: Some(0), most: Some(SIZE - 1) };
    let observation = vec![
        Field::new("x", place(), "Row, from the top").or(0),
        Field::new("y", place(), "Column, from the left").or(0),
        Field::new("message", Kind::Text, "What happened").or(""),
    ];
    let state = vec![
        Field::new("agent_x", place(), "Row, from the top").or(0),
        Field::new("agent_y", place(), "Column, from the left").or(0),
    ];
    let about = About {
        name: "grid_world",
        class: "GridWorldEnvironment",
        description: "Walk from the upper left to the lower right of a 5 × 5 field; each step costs 0.1, the goal is worth 1",
        version: "1.0.0",
    };
    let models = Models {
        action: Model::action("GridWorldAction", "Which way to go.", vec![way]),
        observation: Model::observation("GridWorldObservation", "Where the walker is.", observation),
        state: Model::state("GridWorldState", "Where the episode is.", state),
    };
    Environment::in_memory(about, models, Turns::FromReset, |_| Box::new(Typed(GridWorld::default())))
}

#[derive(Debug, Clone, Default)]
struct GridWorld {
    x: i64,
    y: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    action: Way,
    #[serde(default, rename = "metadata")]
    _metadata: Metadata,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Way {
    Up,
    Down,
    Left,
    Right,
}

#[derive(Serialize)]
struct Observation {
    x: i64,
    y: i64,
    message: &'static str,
}

#[derive(Serialize)]
struct State {
    agent_x: i64,
    agent_y: i64,
}

impl GridWorld {
    fn go(&mut self, way: Way) {
        let (dx, dy) = match way {
            Way::Up => (-1, 0),
            Way::Down => (1, 0),
            Way::Left => (0, -1),
            Way::Right => (0, 1),
        };
        // Walls hold: who walks into one stays.
        self.x = (self.x + dx).clamp(0, SIZE - 1);
        self.y = (self.y + dy).clamp(0, SIZE - 1);
    }
}

impl Rules for GridWorld {
    type Action = Action;

    fn reset(&mut self, _: &Reset, shown: &mut Observed) -> Result<(), Failed> {
        *self = Self::default();
        shown.show(&Observation { x: 0, y: 0, message: "The goal is at [4, 4]." }, Reward::Number(0.0), false)
    }

    fn step(&mut self, action: Action, shown: &mut Observed) -> Result<(), Failed> {
        self.go(action.action);
        let done = (self.x, self.y) == GOAL;
        let message = if done { "You are at the goal." } else { "On your way." };
        let reward = Reward::Number(if done { 1.0 } else { -0.1 });
        shown.show(&Observation { x: self.x, y: self.y, message }, reward, done)
    }

    fn state(&self) -> Option<Vec<u8>> {
        fields(&State { agent_x: self.x, agent_y: self.y })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nobody_leaves_the_field_and_only_the_goal_ends_it(ways in prop::collection::vec(0..4_usize, 0..60)) {
            let mut game = GridWorld::default();
            let mut shown = Observed::default();
            game.reset(&Reset::default(), &mut shown).unwrap();
            for way in ways {
                let action = [Way::Up, Way::Down, Way::Left, Way::Right][way];
                game.step(Action { action, _metadata: Metadata::new() }, &mut shown).unwrap();
                prop_assert!((0..SIZE).contains(&game.x) && (0..SIZE).contains(&game.y));
                prop_assert_eq!(shown.done, (game.x, game.y) == GOAL);
            }
        }
    }
}
