//! Sandboxes that are ready before anybody asks.
//!
//! A [`Fleet`] keeps templates and pools over a [`Node`](hothouse_sandbox::Node). What a pool does next is decided by
//! [`plan`](plan::plan), a pure function of what is wanted and what is there; the rest of the crate observes and obeys.
//!
//! ```text
//! claim ──► ready? ──yes──► bind ──► the caller         a ready one is never waited for
//!              └────no────► make one for the caller     a miss, counted apart
//! keeper:  observe ──► plan ──► make, retire ──► (a claim, an end, a second) ──► observe …
//! ```
//!
//! There is no database: templates and pools are files in the home, and whose a sandbox is stands in its state.

pub mod admission;
mod binding;
mod creation;
mod demand;
mod error;
mod fleet;
mod forks;
mod groups;
pub mod plan;
mod pool;
mod preparation;
mod requests;
mod setup;
mod shelf;

pub use admission::{Patience, QueueInfo};
pub use creation::Asked;
pub use error::{FleetError, FleetStartError};
pub use fleet::Fleet;
pub use requests::Replay;
