//! Protocols of other systems, so that their clients work unchanged.

pub mod openenv;
