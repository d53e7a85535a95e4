//! The Vertebra node as a library, so that the binary, the tests and the benches share one build.
//!
//! Read `ARCHITECTURE.md` first. The arrows between these modules point down only; the tidy test holds them.

#![deny(missing_docs)]

pub mod admin;
pub mod audit;
pub mod auth;
pub mod base;
pub mod bodies;
pub mod cli;
pub mod config;
pub mod http;
pub mod journal;
pub mod ledger;
pub mod log;
pub mod metrics;
pub mod node;
pub mod outbox;
pub mod redis;
pub mod ring;
pub mod services;
pub mod systemd;
