//! Pong: two paddles, a ball, simultaneous moves. The rules are those of `rl-arena`'s environment of this name, step by
//! step and bit by bit: what was recorded there is played again here.
//!
//! The field is a unit square, `y` grows downwards. Player 0 stands left, player 1 right. Positions are single-precision
//! numbers, as there; a paddle's centre may reach the border.

use crate::numpy::Generator;

/// Points that win.
pub const WINNING_SCORE: u32 = 11;
/// Steps after which it is over whatever the score.
pub const MAX_STEPS: u32 = 1000;

const PADDLE_SPEED: f64 = 0.05;
/// Half of a paddle's height.
const REACH: f32 = 0.1;
const BALL_RADIUS: f32 = 0.02;
const BALL_SPEED: f64 = 0.02;
/// Where the paddles' faces are.
const LEFT: f32 = 0.05;
const RIGHT: f32 = 0.95;
/// The most that a paddle turns the ball.
const SPIN: f64 = 0.01;
/// The angle of a serve, at most, either way.
const SERVE: f64 = std::f64::consts::FRAC_PI_4;

/// What a player does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// 0.
    Up,
    /// 1.
    Stay,
    /// 2.
    Down,
}

/// A number that is no move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no move: 0 is up, 1 stays, 2 is down")]
pub struct NoMove(i64);

impl TryFrom<i64> for Move {
    type Error = NoMove;
    fn try_from(number: i64) -> Result<Self, NoMove> {
        match number {
            0 => Ok(Self::Up),
            1 => Ok(Self::Stay),
            2 => Ok(Self::Down),
            other => Err(NoMove(other)),
        }
    }
}

/// How a game stands after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It goes on.
    Open,
    /// Somebody has the points that win.
    Won,
    /// It took as long as it may.
    TimeUp,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Played {
    /// Who scored in it, if anybody.
    pub scorer: Option<usize>,
    /// How the game stands.
    pub standing: Standing,
}

/// A game.
#[derive(Debug, Clone, PartialEq)]
pub struct Pong {
    generator: Generator,
    ball: [f32; 2],
    velocity: [f32; 2],
    paddles: [f64; 2],
    scores: [u32; 2],
    steps: u32,
}

impl Pong {
    /// A game whose serves and bounces come from this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut game = Self {
            generator: Generator::new(seed),
            ball: [0.5; 2],
            velocity: [0.0; 2],
            paddles: [0.5; 2],
            scores: [0; 2],
            steps: 0,
        };
        game.serve();
        game
    }

    /// Ball, its velocity, paddles, scores: what both players see.
    #[must_use]
    pub fn observation(&self) -> [f32; 8] {
        #[expect(clippy::cast_possible_truncation, reason = "as single-precision numbers is how it is seen")]
        let [left, right] = self.paddles.map(|paddle| paddle as f32);
        #[expect(clippy::cast_precision_loss, reason = "a score is at most 11")]
        let [own, other] = self.scores.map(|score| score as f32);
        let ([x, y], [vx, vy]) = (self.ball, self.velocity);
        [x, y, vx, vy, left, right, own, other]
    }

    /// The points.
    #[must_use]
    pub fn scores(&self) -> [u32; 2] {
        self.scores
    }

    /// Steps so far.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// What a player does who runs after the ball.
    #[must_use]
    pub fn follow(&self, player: usize) -> Move {
        const NEAR: f32 = 0.02;
        let seen = self.observation();
        let (ball, paddle) = (seen[1], seen[4 + player]);
        if ball < paddle - NEAR {
            Move::Up
        } else if ball > paddle + NEAR {
            Move::Down
        } else {
            Move::Stay
        }
    }

    /// Both move at once.
    pub fn step(&mut self, moves: [Move; 2]) -> Played {
        for (paddle, step) in self.paddles.iter_mut().zip(moves) {
            match step {
                Move::Up => *paddle = (*paddle - PADDLE_SPEED).max(0.0),
                Move::Down => *paddle = (*paddle + PADDLE_SPEED).min(1.0),
                Move::Stay => {}
            }
        }
        for (place, speed) in self.ball.iter_mut().zip(self.velocity) {
            *place += speed;
        }
        if self.ball[1] <= 0.0 || self.ball[1] >= 1.0 {
            self.velocity[1] = -self.velocity[1];
            self.ball[1] = self.ball[1].clamp(0.0, 1.0);
        }
        // A ball is near a paddle for more than one step, and turned in each.
        if self.ball[0] - BALL_RADIUS <= LEFT && self.is_hit(0) {
            self.velocity[0] = self.velocity[0].abs();
            self.turn();
        }
        if self.ball[0] + BALL_RADIUS >= RIGHT && self.is_hit(1) {
            self.velocity[0] = -self.velocity[0].abs();
            self.turn();
        }
        let scorer = match self.ball[0] {
            x if x <= 0.0 => Some(1),
            x if x >= 1.0 => Some(0),
            _ => None,
        };
        if let Some(scorer) = scorer {
            self.scores[scorer] += 1;
            self.serve();
        }
        self.steps += 1;
        let standing = if self.scores.iter().any(|score| *score >= WINNING_SCORE) {
            Standing::Won
        } else if self.steps >= MAX_STEPS {
            Standing::TimeUp
        } else {
            Standing::Open
        };
        Played { scorer, standing }
    }

    #[expect(clippy::cast_possible_truncation, reason = "distances are single-precision numbers")]
    fn is_hit(&self, player: usize) -> bool {
        (self.ball[1] - self.paddles[player] as f32).abs() <= REACH
    }

    #[expect(clippy::cast_possible_truncation, reason = "a velocity is a single-precision number")]
    fn turn(&mut self) {
        self.velocity[1] += self.generator.uniform(-SPIN, SPIN) as f32;
    }

    #[expect(clippy::cast_possible_truncation, reason = "a velocity is a single-precision number")]
    fn serve(&mut self) {
        let angle = self.generator.uniform(-SERVE, SERVE);
        let way = if self.generator.unit() < 0.5 { 1.0 } else { -1.0 };
        self.ball = [0.5; 2];
        self.velocity = [(way * BALL_SPEED * angle.cos()) as f32, (BALL_SPEED * angle.sin()) as f32];
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::Write as _;
    use std::path::{Path, PathBuf};

    use serde_json::Value;
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn policy(name: &str, game: &Pong, player: usize) -> Move {
        match name {
            "stay" => Move::Stay,
            "track" => game.follow(player),
            other => panic!("{other}"),
        }
    }

    fn hexadecimal(digest: impl AsRef<[u8]>) -> String {
        digest.as_ref().iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    /// Plays a game to its end: steps, scores, how it ended, and the hash of all observations.
    fn play(seed: u64, policies: [&str; 2]) -> (u32, [u32; 2], Standing, String) {
        let mut game = Pong::new(seed);
        let mut seen = Sha256::new();
        loop {
            let moves = [policy(policies[0], &game, 0), policy(policies[1], &game, 1)];
            let played = game.step(moves);
            for number in game.observation() {
                seen.update(number.to_le_bytes());
            }
            if played.standing != Standing::Open {
                return (game.steps(), game.scores(), played.standing, hexadecimal(seen.finalize()));
            }
        }
    }

    /// Recorded with numpy 2.4.6, so that no change of the rules goes unnoticed where no recording of others is at hand.
    #[test]
    fn games_go_as_they_always_went() {
        for (seed, policies, expected) in GAMES {
            let (steps, scores, _, hash) = play(seed, policies);
            assert_eq!((steps, scores, &hash[..16]), expected, "{seed} {policies:?}");
        }
    }

    /// Recordings of the environment that these rules are of. They are not ours to ship; they are looked for beside the
    /// repository or where `HOTHOUSE_SHARED` says.
    #[test]
    fn recorded_games_are_played_again() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let shared =
            std::env::var_os("HOTHOUSE_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
        let path = shared.join("data/pong_golden.json");
        let Ok(text) = std::fs::read(&path) else {
            let test = "recorded_games_are_played_again";
            let reason = format!("data: {test}: no {}; set HOTHOUSE_SHARED", path.display());
            if let Some(skips) = std::env::var_os("HOTHOUSE_SKIPS") {
                let mut skips = std::fs::File::options().append(true).create(true).open(skips).unwrap();
                writeln!(skips, "{reason}").unwrap();
            }
            println!("skipped: {reason}");
            return;
        };
        let golden: Value = serde_json::from_slice(&text).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let policies = [case["p1"].as_str().unwrap(), case["p2"].as_str().unwrap()];
            let seed = case["seed"].as_u64().unwrap();
            let first: Vec<f64> = Pong::new(seed).observation().into_iter().map(f64::from).collect();
            assert_eq!(serde_json::to_value(first).unwrap(), case["first_obs"][0], "{seed}");
            let (steps, scores, standing, hash) = play(seed, policies);
            assert_eq!(case["steps"], steps, "{seed} {policies:?}");
            assert_eq!(case["scores"], serde_json::json!(scores), "{seed} {policies:?}");
            assert_eq!(case["terminated"], standing == Standing::Won, "{seed} {policies:?}");
            assert_eq!(case["sha256_obs"], hash, "{seed} {policies:?}");
        }
    }

    type Game = (u64, [&'static str; 2], (u32, [u32; 2], &'static str));

    const GAMES: [Game; 3] = [
        (3, ["stay", "stay"], (754, [9, 11], "a7f72e37d0fd6d00")),
        (3, ["track", "stay"], (744, [11, 0], "b05e9108f0fffbe2")),
        (9, ["track", "track"], (1000, [0, 0], "b1785cb66d4d9088")),
    ];
}
