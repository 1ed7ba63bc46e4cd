//! Environments: something with reset, step and state, as Gymnasium and OpenEnv have them.
//!
//! ```text
//! Catalogue ─► Environment (name, schemas, how one is made) ─► Session (one client's: episode, steps, turns) ─► Player
//!                                                                                    Game (rules in memory) ◄──┤
//!                                                     Instance (a worker, a sandbox, another server) ◄──────────┘
//! ```
//!
//! An [`Environment`] says what actions, observations and states look like; a [`Session`] counts, refuses what is out of
//! turn and keeps the bounds; a [`Game`] or an [`Instance`] only plays. Whoever has the client drives the session, so that
//! a step in memory costs no task and no lock.

pub mod builtin;
mod catalogue;
mod environment;
mod game;
mod instance;
pub mod model;
pub mod numpy;
mod observed;
pub mod package;
mod places;
pub mod pong;
mod sandboxes;
mod session;
mod step_log;
mod tasks;
pub mod worker;

pub use catalogue::Catalogue;
pub use environment::{Environment, Era, Maker, Schemas, Tool, Turns};
pub use game::{Failed, Game, Reset, Rules, ToolError, Typed};
pub use instance::{Arrays, Beside, Host, Instance, OpenError, Shown, Terms};
pub use observed::{Observed, Reward};
pub use places::{Full, Place, Places};
pub use sandboxes::{Fitting, Sandboxes, SandboxesOptions, Stocked};
pub use session::{Session, SessionLimits, StepError};
pub use tasks::{TaskError, TaskQuery};
