//! From a list of machines to machines that serve.
//!
//! Owns: the inventory and its rules, what dnsmasq and nginx are given, which release a machine boots, who may enrol,
//! and the reports that machines send while they boot. Must never know: what a node serves, or a private key other than
//! the one its own listener uses. Invariants: an enrolment token is handed out once and redeemed once; nothing secret is
//! in a rendered file, in the log or on the status page; with the service down, machines that are enrolled still boot.
//!
//! Direction: `names ← {inventory, machine, releases} ← {render, store} ← {serve, autosign} ← cli`; `client` is what
//! runs on a node and names `names` and `http_client` alone.

#![deny(missing_docs)]

pub mod autosign;
pub mod boot_plan;
pub mod cli;
pub mod client;
pub mod config;
pub mod files;
pub mod http_client;
pub mod inventory;
pub mod machine;
pub mod names;
pub mod page;
pub mod publish;
pub mod releases;
pub mod render;
pub mod secret;
pub mod serve;
pub mod store;
