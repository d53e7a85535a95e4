//! The boot server and the node's side of it, at the wire: the real binary, real certificates, requests made by openssl,
//! dnsmasq and nginx as they are.

mod autosign;
mod boot_server;
mod crash;
mod enrolment;
mod fallback;
mod golden;
mod inventory;
mod network;
mod releases;
mod service;
