//! `tic_tac_toe`: three in a row; each step is the move of whose turn it is.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Metadata;
use crate::environment::{About, Environment, Models, Turns};
use crate::game::{Failed, Reset, Rules, Typed, fields};
use crate::model::{Field, Kind, Model};
use crate::observed::{Observed, Reward};

const LINES: [[usize; 3]; 8] =
    [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]];

/// What it is.
pub(super) fn environment() -> Environment {
    let number = || Kind::Integer { least: None, most: None };
    let position = Kind::Integer { least: Some(0), most: Some(8) };
    let position = Field::new("position", position, "Where to set a mark: 0 to 8, row by row");
    let board = || {
        let fields = Kind::List(Box::new(number()));
        Field::new("board", fields, "Nine fields, row by row; 1 and -1 are the players, 0 is free")
            .or(json!([]))
    };
    let legal = Field::new("legal_actions", Kind::List(Box::new(number())), "Free fields").or(json!([]));
    let next = || Field::new("next_player", number(), "Whose turn it is: 1 or -1").or(1);
    let about = About {
        name: "tic_tac_toe",
        class: "TicTacToeEnvironment",
        description: "Three in a row; the move that wins is worth 1, one to a taken field costs 1 and ends the game",
        version: "1.0.0",
    };
    let models = Models {
        action: Model::action("TicTacToeAction", "Where to set a mark.", vec![position]),
        observation: Model::observation("TicTacToeObservation", "The board.", vec![board(), legal, next()]),
        state: Model::state("TicTacToeState", "Where the game is.", vec![board(), next()]),
    };
    Environment::in_memory(about, models, Turns::FromReset, |_| Box::new(Typed(TicTacToe::default())))
}

#[derive(Debug, Clone)]
struct TicTacToe {
    board: [i8; 9],
    next: i8,
}

impl Default for TicTacToe {
    fn default() -> Self {
        Self { board: [0; 9], next: 1 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    position: Position,
    #[serde(default, rename = "metadata")]
    _metadata: Metadata,
}

/// A place on the board.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u8")]
struct Position(usize);

impl TryFrom<u8> for Position {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        if number < 9 { Ok(Self(number.into())) } else { Err("there is no such field") }
    }
}

#[derive(Serialize)]
struct Observation {
    board: [i8; 9],
    legal_actions: Vec<usize>,
    next_player: i8,
}

#[derive(Serialize)]
struct State {
    board: [i8; 9],
    next_player: i8,
}

impl TicTacToe {
    fn show(&self, reward: f64, done: bool, shown: &mut Observed) -> Result<(), Failed> {
        let legal_actions = (0..9).filter(|&field| self.board[field] == 0 && !done).collect();
        let observation = Observation { board: self.board, legal_actions, next_player: self.next };
        shown.show(&observation, Reward::Number(reward), done)
    }
}

impl Rules for TicTacToe {
    type Action = Action;

    fn reset(&mut self, _: &Reset, shown: &mut Observed) -> Result<(), Failed> {
        *self = Self::default();
        self.show(0.0, false, shown)
    }

    fn step(&mut self, action: Action, shown: &mut Observed) -> Result<(), Failed> {
        let field = &mut self.board[action.position.0];
        if *field != 0 {
            return self.show(-1.0, true, shown);
        }
        *field = self.next;
        self.next = -self.next;
        let won = LINES.iter().any(|line| line.iter().map(|&at| self.board[at]).sum::<i8>().abs() == 3);
        if won {
            return self.show(1.0, true, shown);
        }
        self.show(0.0, !self.board.contains(&0), shown)
    }

    fn state(&self) -> Option<Vec<u8>> {
        fields(&State { board: self.board, next_player: self.next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn games_end_as_they_should() {
        for (positions, reward) in [
            (&[0, 3, 1, 4, 2][..], 1.0),
            (&[4, 0, 2, 1, 6], 1.0),
            (&[0, 0], -1.0),
            (&[0, 1, 2, 4, 3, 5, 7, 6, 8], 0.0),
        ] {
            let mut game = TicTacToe::default();
            let mut shown = Observed::default();
            game.reset(&Reset::default(), &mut shown).unwrap();
            for (at, position) in positions.iter().enumerate() {
                game.step(Action { position: Position(*position), _metadata: Metadata::new() }, &mut shown)
                    .unwrap();
                let last = at + 1 == positions.len();
                assert_eq!(shown.done, last, "{positions:?} at {at}");
                assert_eq!(shown.reward, Reward::Number(if last { reward } else { 0.0 }), "{positions:?}");
            }
        }
    }
}
