//! Support for tests at the wire: it starts the real binary, speaks to it as a client would, and keeps the books.
//!
//! It owns the life of the processes under test and the raw bytes sent to them. It must never know how the node is built
//! inside: what a client or an operator cannot see, no test relies on. Invariants: every process started here is
//! stopped by its own identifier, also when the test is killed; every wait has a deadline that fails.

#![deny(missing_docs)]

pub mod books;
pub mod certificates;
pub mod cluster;
pub mod disk;
pub mod forge;
pub mod history;
pub mod mesh;
pub mod node;
pub mod pds;
pub mod process;
pub mod python;
pub mod rabbit;
pub mod redis;
pub mod release;
pub mod site;
pub mod tokens;
pub mod wire;
