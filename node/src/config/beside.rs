//! The services beside a node: `[rabbitmq]` and `[redis]`. A node runs whole without them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `[rabbitmq]`, the same on every node: the one that leads publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rabbitmq {
    /// `amqps://HOST[:PORT][/VHOST]` of each broker of one RabbitMQ cluster, 1 to 8, tried in turn; `amqp://` on loopback
    /// only, because events hold NHS numbers. Required; without user and password.
    pub urls: Vec<String>,
    /// File with `USER:PASSWORD`, read at every connect. Required; a secret.
    pub credentials: PathBuf,
    /// PEM file: the authorities that sign the brokers' certificates. Required with `amqps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// PEM file: this node's certificate, for brokers that ask clients for one. Default none; only with `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file: its private key. Default none; only with `certificate`; a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Durable topic exchange, made when absent: 1 to 200 visible characters. Default `events`.
    #[serde(default = "exchange_default")]
    pub exchange: String,
    /// Durable quorum queues, made when absent, each with the routing keys it is bound by: at most 32 of at most 32.
    /// Default `{ "events.all" = ["#"] }`.
    #[serde(default = "queues_default")]
    pub queues: BTreeMap<String, Vec<String>>,
}

fn exchange_default() -> String {
    "events".to_owned()
}

fn queues_default() -> BTreeMap<String, Vec<String>> {
    BTreeMap::from([("events.all".to_owned(), vec!["#".to_owned()])])
}

impl Rabbitmq {
    /// With defaults for all but what is required.
    pub fn new(urls: Vec<String>, credentials: PathBuf) -> Rabbitmq {
        Rabbitmq {
            urls,
            credentials,
            ca: None,
            certificate: None,
            key: None,
            exchange: exchange_default(),
            queues: queues_default(),
        }
    }
}

/// `[redis]`, the same on every node of a cluster and of no other one: what nodes share through it may be lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// `HOST:PORT` of one Redis that is always primary. Default none; either this or `sentinels`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `HOST:PORT` of each Sentinel, at most 16, asked in turn. A primary that Sentinel names by address is known in its
    /// certificate by the name of the sentinel at that address, where there is one. Default none.
    #[serde(default)]
    pub sentinels: Vec<String>,
    /// What the sentinels call the primary: 1 to 200 visible characters. Default `vertebra`.
    #[serde(default = "primary_default")]
    pub primary: String,
    /// User, 1 to 200 visible characters. Default none: Redis's own default user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// File with the password, read at every connect. Default none; a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PathBuf>,
    /// File with the sentinels' password, read at every connect. Default none; a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel_password: Option<PathBuf>,
    /// PEM file: the authorities that sign the certificates of Redis and of the sentinels. Everything is TLS with it; without
    /// it all must be on loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// PEM file: this node's certificate, for servers that ask clients for one. Default none; only with `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file: its private key. Default none; only with `certificate`; a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The longest that a request waits for Redis, ms; then the node decides by what it knows itself. 5..=100, default 25.
    #[serde(default = "wait_ms_default")]
    pub wait_ms_max: u64,
}

fn primary_default() -> String {
    "vertebra".to_owned()
}

fn wait_ms_default() -> u64 {
    25
}

impl Redis {
    /// One Redis, or sentinels that know it, with defaults for all else.
    pub fn new(address: Option<String>, sentinels: Vec<String>) -> Redis {
        Redis {
            address,
            sentinels,
            primary: primary_default(),
            username: None,
            password: None,
            sentinel_password: None,
            ca: None,
            certificate: None,
            key: None,
            wait_ms_max: wait_ms_default(),
        }
    }
}
