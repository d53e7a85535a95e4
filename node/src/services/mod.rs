//! The services. Each has an `api` that parses, checks the caller and proposes commands, and a `state` that judges them.

pub mod mesh;
pub mod pds;
