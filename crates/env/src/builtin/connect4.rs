//! `connect4`: four in a row on a board of six rows and seven columns; each step is the move of whose turn it is.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Metadata;
use crate::environment::{About, Environment, Models, Turns};
use crate::game::{Failed, Reset, Rules, Typed, fields};
use crate::model::{Field, Kind, Model};
use crate::observed::{Observed, Reward};

const ROWS: usize = 6;
const COLUMNS: usize = 7;
/// Right, down, and the two diagonals.
const WAYS: [(isize, isize); 4] = [(0, 1), (1, 0), (1, 1), (1, -1)];

/// What it is.
pub(super) fn environment() -> Environment {
    // Any number: one that is no column costs the game.
    let column =
        Field::new("column", Kind::Integer { least: None, most: None }, "Where to drop a piece, 0 to 6");
    let number = || Kind::Integer { least: None, most: None };
    let rows = || Kind::List(Box::new(Kind::List(Box::new(number()))));
    let board = || {
        Field::new("board", rows(), "Rows from the top; 1 and -1 are the players, 0 is free").or(json!([]))
    };
    let legal =
        Field::new("legal_actions", Kind::List(Box::new(number())), "Columns with room").or(json!([]));
    let next = Field::new("next_player", number(), "Whose turn it is: 1 or -1").or(1);
    let about = About {
        name: "connect4",
        class: "Connect4Environment",
        description: "Four in a row; the move that wins is worth 1, one that cannot be made costs 1 and ends the game",
        version: "1.0.0",
    };
    let models = Models {
        action: Model::action("Connect4Action", "Where to drop a piece.", vec![column]),
        observation: Model::observation("Connect4Observation", "The board.", vec![board(), legal]),
        state: Model::state("Connect4State", "Where the game is.", vec![board(), next]),
    };
    Environment::in_memory(about, models, Turns::FromReset, |_| Box::new(Typed(Connect4::default())))
}

type Board = [[i8; COLUMNS]; ROWS];

#[derive(Debug, Clone)]
struct Connect4 {
    board: Board,
    next: i8,
}

impl Default for Connect4 {
    fn default() -> Self {
        Self { board: [[0; COLUMNS]; ROWS], next: 1 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    column: i64,
    #[serde(default, rename = "metadata")]
    _metadata: Metadata,
}

/// What is told beside the board.
#[derive(Serialize)]
struct Told {
    next_player: i8,
}

#[derive(Serialize)]
struct State {
    board: Board,
    next_player: i8,
}

#[derive(Serialize)]
struct Observation {
    board: Board,
    legal_actions: Vec<usize>,
}

impl Connect4 {
    fn legal(&self) -> Vec<usize> {
        (0..COLUMNS).filter(|&column| self.board[0][column] == 0).collect()
    }

    fn show(&self, reward: f64, done: bool, shown: &mut Observed) -> Result<(), Failed> {
        let legal_actions = if done { Vec::new() } else { self.legal() };
        shown.show(&Observation { board: self.board, legal_actions }, Reward::Number(reward), done)?;
        shown.tell(&Told { next_player: self.next })
    }

    fn at(&self, row: isize, column: isize) -> Option<i8> {
        let row = self.board.get(usize::try_from(row).ok()?)?;
        row.get(usize::try_from(column).ok()?).copied()
    }

    /// Whether the piece here is one of four.
    fn wins(&self, row: usize, column: usize) -> bool {
        let player = self.board[row][column];
        let (row, column) = (row.cast_signed(), column.cast_signed());
        WAYS.iter().any(|&(down, right)| {
            let run = |sign: isize| {
                (1..4)
                    .take_while(|&n| {
                        self.at(row + sign * n * down, column + sign * n * right) == Some(player)
                    })
                    .count()
            };
            run(1) + run(-1) >= 3
        })
    }
}

impl Rules for Connect4 {
    type Action = Action;

    fn reset(&mut self, _: &Reset, shown: &mut Observed) -> Result<(), Failed> {
        *self = Self::default();
        self.show(0.0, false, shown)
    }

    fn step(&mut self, action: Action, shown: &mut Observed) -> Result<(), Failed> {
        let column = usize::try_from(action.column).ok();
        let free = |column: &usize| (0..ROWS).rev().find(|&row| self.board[row][*column] == 0);
        let Some((row, column)) = column.filter(|c| *c < COLUMNS).and_then(|c| Some((free(&c)?, c))) else {
            return self.show(-1.0, true, shown);
        };
        self.board[row][column] = self.next;
        self.next = -self.next;
        if self.wins(row, column) {
            return self.show(1.0, true, shown);
        }
        self.show(0.0, self.legal().is_empty(), shown)
    }

    fn state(&self) -> Option<Vec<u8>> {
        fields(&State { board: self.board, next_player: self.next })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn play(columns: &[i64]) -> Vec<(Reward, bool)> {
        let mut game = Connect4::default();
        let mut ends = Vec::new();
        let mut shown = Observed::default();
        for &column in columns {
            game.step(Action { column, _metadata: Metadata::new() }, &mut shown).unwrap();
            ends.push((shown.reward, shown.done));
        }
        ends
    }

    #[test]
    fn four_in_each_way_win() {
        for columns in [
            &[0, 0, 1, 1, 2, 2, 3][..],
            &[0, 1, 0, 1, 0, 1, 0],
            &[0, 1, 1, 2, 2, 3, 2, 3, 3, 6, 3],
            &[6, 5, 5, 4, 4, 3, 4, 3, 3, 0, 3],
        ] {
            let ends = play(columns);
            let (last, before) = ends.split_last().unwrap();
            assert_eq!(*last, (Reward::Number(1.0), true), "{columns:?}");
            assert!(before.iter().all(|end| *end == (Reward::Number(0.0), false)), "{columns:?}");
        }
    }

    #[test]
    fn a_move_that_cannot_be_made_ends_the_game() {
        for columns in [&[7][..], &[-1], &[0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(*play(columns).last().unwrap(), (Reward::Number(-1.0), true), "{columns:?}");
        }
    }

    proptest! {
        #[test]
        fn players_take_turns_and_pieces_fall(columns in prop::collection::vec(0..7_i64, 0..42)) {
            let mut game = Connect4::default();
            let mut shown = Observed::default();
            for column in columns {
                game.step(Action { column, _metadata: Metadata::new() }, &mut shown).unwrap();
                let pieces: i64 = game.board.iter().flatten().map(|&piece| i64::from(piece)).sum();
                prop_assert!(pieces == 0 || pieces == 1);
                for column in 0..COLUMNS {
                    let filled: Vec<bool> = (0..ROWS).map(|row| game.board[row][column] != 0).collect();
                    prop_assert!(filled.is_sorted(), "no piece hangs in the air");
                }
                if shown.done {
                    break;
                }
            }
        }
    }
}
