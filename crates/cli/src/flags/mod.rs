//! Flags that several commands share.

mod file;
mod lease;
mod limits;
mod place;
mod values;

pub(crate) use file::FileFlag;
pub(crate) use lease::LeaseFlags;
pub(crate) use limits::LimitFlags;
pub(crate) use place::{NodeFlags, PlaceFlags, ServerFlags};
pub(crate) use values::{AmountFlag, EnvFlag, LabelFlag, duration, size};
