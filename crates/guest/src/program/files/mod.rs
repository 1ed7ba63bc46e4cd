//! Files of the sandbox, for the driver: every path is confined to the sandbox's root, every long job done in pieces.

pub mod job;
pub mod list;
pub mod meta;
pub mod patch;
pub mod path;
pub mod read;
pub mod remove;
pub mod requests;
pub mod tar_in;
pub mod tar_out;
pub mod temporary;
pub mod write;

pub use path::Root;
