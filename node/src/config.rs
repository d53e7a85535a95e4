//! The whole configuration, parsed once into its final types.
//!
//! Owns: the TOML file's shape, defaults, ranges, and the refusal that names file, line and key. Must never know: what
//! the parts do with their values. Invariants: a `Config` in hand is in range, its paths are resolved and its secrets
//! existed when it was read; it holds the *paths* of secrets, never their values; an unknown key refuses.
//!
//! A path may begin with `$CREDENTIALS_DIRECTORY/` (systemd's `LoadCredential=`; where it is not set, the folder of the unit
//! that runs); any other relative path is relative to the folder of the configuration file. Sizes are bytes, times
//! milliseconds, both plain integers.

mod beside;
mod check;
mod lock;
mod secret;
mod show;
#[cfg(test)]
mod tests;

pub use beside::{Rabbitmq, Redis};
pub use check::{Number, broker_address, numbers, redis_problems};
pub use lock::{DataLock, DataLockError};
pub use secret::{Secret, SecretError};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Where the daemon looks when no `--config` is given.
pub const FILE_DEFAULT: &str = "/etc/vertebra/node.toml";

/// `iss` of the sandbox's people.
pub const SANDBOX_AUTHORITY: &str = "https://authority.sandbox";

/// The configuration of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file it came from; `None` in the sandbox. Not a key.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// Who this node is and where its data lies.
    #[serde(default)]
    pub node: Node,
    /// The front door.
    #[serde(default)]
    pub http: Http,
    /// Certificates of the front door. Required.
    pub tls: Tls,
    /// The operator's door.
    #[serde(default)]
    pub admin: Admin,
    /// Message exchange. Required.
    pub mesh: Mesh,
    /// Access tokens.
    #[serde(default)]
    pub tokens: Tokens,
    /// Demographics.
    #[serde(default)]
    pub pds: Pds,
    /// The broker that events go to. Default none: then none leave this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rabbitmq: Option<Rabbitmq>,
    /// The Redis that nodes share what is short-lived through. Default none: then each keeps it to itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    /// Segments and reserve.
    #[serde(default)]
    pub journal: Journal,
    /// Metadata store.
    #[serde(default)]
    pub ledger: Ledger,
    /// Consensus and admission.
    #[serde(default)]
    pub log: Log,
    /// Other members. Without this section the node is a cluster of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// What the node writes about itself.
    #[serde(default)]
    pub logging: Logging,
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// Number of this member in the cluster, never used again for another. 1..=1000000, default 1.
    pub id: u64,
    /// Name shown by `status`: 1 to 63 letters, digits, `-`, `.`. Default: the host's name.
    pub name: String,
    /// Data centre, by which the site rule counts voters: 1 to 63 letters, digits, `-`, `.`. Default `site-1`.
    pub site: String,
    /// Folder of all that is durable; made when absent. Default `/var/lib/vertebra`.
    pub data: PathBuf,
}

impl Default for Node {
    fn default() -> Node {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim();
        Node {
            id: 1,
            name: if check::is_name(host) {
                host.to_owned()
            } else {
                "node-1".to_owned()
            },
            site: "site-1".to_owned(),
            data: PathBuf::from("/var/lib/vertebra"),
        }
    }
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port of the service; a socket passed in by systemd takes its place. Default `0.0.0.0:443`.
    pub listen: SocketAddr,
    /// Threads that serve, each with a ring of its own; 0 becomes one for each core but the log's. 0..=256, default 0.
    pub reactors: u64,
    /// Connections at once over all reactors; the next one is closed at once. 1..=1000000, default 20000.
    pub connections_max: u64,
    /// Connections of one address, loopback excepted; the next one is closed at once. 1..=1000000, default 4000.
    pub connections_per_address_max: u64,
    /// Requests in work at once over all reactors; the next is answered 503 with Retry-After. 1..=1000000, default 4096.
    pub requests_max: u64,
    /// Memory that requests in work may take as estimated from their announced length, bytes; beyond it 503 with
    /// Retry-After. 1 MiB..=64 GiB, default 512 MiB.
    pub requests_bytes_max: u64,
    /// Streams at once on one HTTP/2 connection. 1..=1000, default 128.
    pub streams_max: u64,
    /// HTTP/2 streams reset before their answer after which the connection is closed. 1..=10000, default 64.
    pub streams_reset_max: u64,
    /// Request line and headers together, bytes; larger ones are answered 431. 1024..=61440, default 16384.
    pub header_bytes_max: u64,
    /// Header fields of one request; more are answered 431. 16..=1000, default 100.
    pub headers_max: u64,
    /// Body of one request, bytes; a larger one is answered 413. 1024..=104857600, default 104857600.
    pub body_bytes_max: u64,
    /// From the connection until the TLS handshake ends, ms. 100..=120000, default 10000.
    pub handshake_ms_max: u64,
    /// From the first byte of a request until its last header, ms. 100..=120000, default 10000.
    pub header_ms_max: u64,
    /// Time waiting for a body within which `progress_bytes_min` must arrive, ms. 100..=600000, default 20000.
    pub body_progress_ms_max: u64,
    /// Time waiting for a reader within which it must take `progress_bytes_min`, ms. 100..=600000, default 20000.
    pub write_progress_ms_max: u64,
    /// The least progress in the two windows above, bytes. 1..=1048576, default 4096.
    pub progress_bytes_min: u64,
    /// Between two requests on one connection, ms. 100..=3600000, default 75000.
    pub idle_ms_max: u64,
    /// Interval of HTTP/2 pings, and how long each may stay unanswered, ms. 100..=600000, default 20000.
    pub ping_ms: u64,
    /// How long requests in work may take at shutdown before they are cut off, ms. 0..=600000, default 20000.
    pub shutdown_ms_max: u64,
    /// What `Retry-After` says when load is shed, seconds. 1..=3600, default 2.
    pub retry_after_seconds: u64,
}

impl Default for Http {
    fn default() -> Http {
        Http {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 443)),
            reactors: 0,
            connections_max: 20_000,
            connections_per_address_max: 4_000,
            requests_max: 4_096,
            requests_bytes_max: 512 * MIB,
            streams_max: 128,
            streams_reset_max: 64,
            header_bytes_max: 16 * 1024,
            headers_max: 100,
            body_bytes_max: crate::base::limits::REQUEST_BODY_BYTES_MAX,
            handshake_ms_max: 10_000,
            header_ms_max: 10_000,
            body_progress_ms_max: 20_000,
            write_progress_ms_max: 20_000,
            progress_bytes_min: 4 * 1024,
            idle_ms_max: 75_000,
            ping_ms: 20_000,
            shutdown_ms_max: 20_000,
            retry_after_seconds: 2,
        }
    }
}

/// `[tls]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file: the server's certificate, then its intermediates. Required.
    pub certificate: PathBuf,
    /// PEM file: its private key. Required; a secret.
    pub key: PathBuf,
    /// PEM file: the authorities that sign client certificates. Required.
    pub client_ca: PathBuf,
    /// PEM or DER files: revocation lists of those authorities, read again when they change. Default none.
    #[serde(default)]
    pub crl: Vec<PathBuf>,
    /// Whether a client without a certificate is refused in the handshake. Default true.
    #[serde(default = "yes")]
    pub require_client_certificate: bool,
    /// How often certificate, key, authorities and lists, and the keys of `[tokens]`, are looked at for changes, ms. 100..=3600000, default 5000.
    #[serde(default = "reload_ms_default")]
    pub reload_ms: u64,
}

fn yes() -> bool {
    true
}

fn reload_ms_default() -> u64 {
    5_000
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Unix socket of the operator, mode 0660; at most 107 bytes long. Default `/run/vertebra/admin.sock`.
    pub socket: PathBuf,
    /// Loopback address of metrics and health (in the sandbox of everything). Default `127.0.0.1:9443`.
    pub listen: SocketAddr,
}

impl Default for Admin {
    fn default() -> Admin {
        Admin {
            socket: PathBuf::from("/run/vertebra/admin.sock"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9443)),
        }
    }
}

/// `[mesh]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mesh {
    /// File whose content, less one newline at its end, is the HMAC key of NHSMESH tokens. Required; a secret.
    pub shared_key: PathBuf,
    /// The key before, honoured beside the new one while clients change over. Default none; a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_shared_key: Option<PathBuf>,
    /// Whether a message of a workflow that nobody registered is refused. A registered one always restricts its senders and
    /// receivers to those it lists. Default true.
    #[serde(default = "yes")]
    pub restrict_workflows: bool,
    /// How often due messages are expired and purged, ms. 100..=3600000, default 1000.
    #[serde(default = "sweep_ms_default")]
    pub sweep_ms: u64,
}

fn sweep_ms_default() -> u64 {
    1_000
}

/// `[tokens]`
///
/// A key is changed without an outage in three steps on every node, each followed by SIGHUP: the new key into
/// `previous_signing_key` (its tokens are taken from then on), then the two files change places, then, after ten minutes, the
/// old key is taken away. The authority's set may hold its old and its new keys at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    /// PEM file, PKCS#8, Ed25519: signs the access tokens of applications. Default none: then `/oauth2/token` answers 503. A
    /// secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<PathBuf>,
    /// The key before, or the one to come: its tokens are taken too. Default none; a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_signing_key: Option<PathBuf>,
    /// JSON file: the public keys (JWKS: RSA, EC, Ed25519) of the authority that signs the tokens of workers and patients.
    /// Default none: then there are no such tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority_jwks: Option<PathBuf>,
    /// `iss` of the authority's tokens: 1 to 200 visible characters. Required with `authority_jwks`, and only then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority_issuer: Option<String>,
    /// `iss` of our own tokens, the same on every node: 1 to 200 visible characters. Default `vertebra`.
    pub issuer: String,
    /// `aud` of every access token, the authority's too: 1 to 200 visible characters. Default `vertebra`.
    pub audience: String,
    /// What `aud` of a client assertion may be: the URLs of `/oauth2/token` that clients use, at most 20 of 1 to 200 visible
    /// characters. Default: `https://NAME/oauth2/token` with the node's name.
    pub token_urls: Vec<String>,
}

impl Default for Tokens {
    fn default() -> Tokens {
        Tokens {
            signing_key: None,
            previous_signing_key: None,
            authority_jwks: None,
            authority_issuer: None,
            issuer: "vertebra".to_owned(),
            audience: "vertebra".to_owned(),
            token_urls: Vec::new(),
        }
    }
}

/// `[pds]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pds {
    /// Where clients reach the front door, without a path: 1 to 200 visible characters. Links in answers start with it.
    /// Default: `https://NAME` with the node's name.
    pub url: String,
    /// The first nine digits of the lowest NHS number that may be given to a new patient. 0..=999999999, default 900000000:
    /// the range of test numbers, which no real patient has.
    pub number_first: u64,
    /// How many numbers of nine digits there are from there on to draw from. 1..=1000000000, default 100000000.
    pub number_count: u64,
}

impl Default for Pds {
    fn default() -> Pds {
        Pds {
            url: String::new(),
            number_first: 900_000_000,
            number_count: 100_000_000,
        }
    }
}

impl Pds {
    /// The first and the last nine digits that new numbers are drawn from.
    pub fn numbers(&self) -> (u32, u32) {
        let digits = |number: u64| u32::try_from(number.min(999_999_999)).expect("nine digits");
        (
            digits(self.number_first),
            digits(self.number_first + self.number_count - 1),
        )
    }
}

/// `[journal]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Journal {
    /// A new segment of the log, bytes, a multiple of 4096. 1 MiB..=1 GiB, default 64 MiB.
    pub log_segment_bytes: u64,
    /// A new segment of large bodies, bytes, a multiple of 4096. 1 MiB..=1 GiB, default 256 MiB.
    pub bodies_segment_bytes: u64,
    /// A new segment of the audit chain, bytes, a multiple of 4096. 1 MiB..=1 GiB, default 64 MiB.
    pub audit_segment_bytes: u64,
    /// Free bytes of the file system at which writes are refused. 16 MiB..=1 TiB, default 1 GiB.
    pub reserve_bytes: u64,
    /// Bytes that may wait for the next batch before appends are refused. 1 MiB..=4 GiB, default 64 MiB.
    pub queue_bytes_max: u64,
    /// Live bytes of old segments rewritten a second by the space reclaim. 1 MiB..=1 GiB, default 32 MiB.
    pub reclaim_bytes_per_second: u64,
}

const MIB: u64 = 1024 * 1024;

impl Default for Journal {
    fn default() -> Journal {
        Journal {
            log_segment_bytes: 64 * MIB,
            bodies_segment_bytes: 256 * MIB,
            audit_segment_bytes: 64 * MIB,
            reserve_bytes: 1024 * MIB,
            queue_bytes_max: 64 * MIB,
            reclaim_bytes_per_second: 32 * MIB,
        }
    }
}

/// `[ledger]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// Bound of the LMDB map, bytes of address space, not of memory. 64 MiB..=16 TiB, default 1 TiB.
    pub map_bytes_max: u64,
    /// A checkpoint starts when so many bytes wait in the overlay: it bounds memory, and what a restart replays.
    /// 1 MiB..=4 GiB, default 32 MiB.
    pub checkpoint_bytes: u64,
    /// Or after this long with anything in it, ms. 100..=3600000, default 10000.
    pub checkpoint_ms: u64,
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger {
            map_bytes_max: 1024 * 1024 * MIB,
            checkpoint_bytes: 32 * MIB,
            checkpoint_ms: 10_000,
        }
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A proposal not applied after this is answered "unknown, retry", and so is a read of demographics (408) or an audit
    /// entry of a change (503) that takes longer, ms. 100..=600000, default 10000.
    pub propose_timeout_ms: u64,
    /// Bytes of proposals that may wait before new ones are refused. 1 MiB..=4 GiB, default 64 MiB.
    pub queue_bytes_max: u64,
    /// A clock that jumped further than this since the last command stops writes, ms. 1000..=86400000, default 600000.
    pub clock_jump_ms_max: u64,
    /// A node that is cut off longer than this shows patients without address, telecom and practice, because a record may have
    /// been restricted since, ms. 1000..=86400000, default 900000.
    pub stale_ms_max: u64,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            propose_timeout_ms: 10_000,
            queue_bytes_max: 64 * MIB,
            clock_jump_ms_max: 600_000,
            stale_ms_max: 900_000,
        }
    }
}

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Address and port for peers; a socket passed in by systemd takes its place. Default `0.0.0.0:8444`.
    #[serde(default = "peer_listen_default")]
    pub listen: SocketAddr,
    /// `HOST:PORT` by which the other members reach this node. Required.
    pub address: String,
    /// PEM file: this node's certificate among its peers, then its intermediates. It must carry `node.name` as a DNS name and
    /// serve both ends of a connection. Required.
    pub certificate: PathBuf,
    /// PEM file: its private key. Required; a secret.
    pub key: PathBuf,
    /// PEM file: the authorities of the cluster's certificates. Required.
    pub ca: PathBuf,
    /// `HOST:PORT` of members whom a node with an empty data folder asks to be taken in, at most 100. Default none: such a node
    /// founds a cluster of its own.
    #[serde(default)]
    pub peers: Vec<String>,
}

impl Cluster {
    /// A member of the sandbox's cluster that listens at `address`, its files below `folder`; it founds.
    pub fn sandbox(folder: &Path, name: &str, address: SocketAddr) -> Cluster {
        Cluster {
            listen: address,
            address: address.to_string(),
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
            ca: folder.join("ca.pem"),
            peers: Vec::new(),
        }
    }
}

fn peer_listen_default() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8444))
}

/// `[logging]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// `journald` (structured fields), `json` or `text` (both to standard error). Default `journald`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`. Default `info`.
    pub level: LogLevel,
}

impl Default for Logging {
    fn default() -> Logging {
        Logging {
            format: LogFormat::Journald,
            level: LogLevel::Info,
        }
    }
}

/// How log lines leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// systemd's journal, one field a value.
    Journald,
    /// One JSON object a line on standard error.
    Json,
    /// One line for people on standard error.
    Text,
}

/// From which level on lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// And what is about to.
    Warn,
    /// And what an operator wants to have seen.
    Info,
    /// And what a developer does.
    Debug,
    /// And everything.
    Trace,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1, where it is known.
    pub line: Option<usize>,
    /// The key, `http.listen` say; empty where the file as a whole is meant.
    pub key: String,
    /// What is wrong and what to do about it, one sentence.
    pub what: String,
}

/// Why a configuration was refused: everything that is wrong with it, so that one run shows it all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", self.file.display())?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            if !problem.key.is_empty() {
                write!(f, ": {}", problem.key)?;
            }
            write!(f, ": {}", problem.what)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Where systemd keeps the credentials of the unit while it runs: for an operator's command, which has no environment of it.
const UNIT_CREDENTIALS: &str = "/run/credentials/vertebra.service";

impl Config {
    /// Reads and checks `file`. Refuses, in this order: a file that cannot be read; text that is not this shape (unknown
    /// key, missing key, wrong type); then, all at once, values out of range and files that are missing.
    pub fn read(file: &Path) -> Result<Config, ConfigError> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let credentials =
            credentials.or_else(|| Some(PathBuf::from(UNIT_CREDENTIALS)).filter(|folder| folder.is_dir()));
        let text = std::fs::read_to_string(file).map_err(|e| ConfigError {
            file: file.to_owned(),
            problems: vec![Problem {
                line: None,
                key: String::new(),
                what: format!("cannot be read ({e}); name the right file with --config, or make it readable"),
            }],
        })?;
        Config::parse(&text, file, credentials.as_deref())
    }

    /// As [`read`](Self::read), from `text` that stands for `file`; `credentials` is what `$CREDENTIALS_DIRECTORY` means.
    pub fn parse(text: &str, file: &Path, credentials: Option<&Path>) -> Result<Config, ConfigError> {
        let refuse = |problems| ConfigError {
            file: file.to_owned(),
            problems,
        };
        let mut config: Config = toml::from_str(text).map_err(|e| refuse(vec![check::shape(text, &e)]))?;
        config.file = Some(file.to_owned());
        let base = file.parent().unwrap_or(Path::new("."));
        let mut problems = check::resolve(&mut config, base, credentials);
        problems.extend(check::values(&config));
        for problem in &mut problems {
            problem.line = check::line_of(text, &problem.key);
        }
        if !problems.is_empty() {
            return Err(refuse(problems));
        }
        if config.http.reactors == 0 {
            config.http.reactors = cores_for_reactors().min(256);
        }
        if config.tokens.token_urls.is_empty() {
            config.tokens.token_urls = vec![format!("https://{}/oauth2/token", config.node.name)];
        }
        if config.pds.url.is_empty() {
            config.pds.url = format!("https://{}", config.node.name);
        }
        Ok(config)
    }

    /// The sandbox's configuration: everything under `folder`, small segments so that it starts at once, a client
    /// certificate optional, workflows unrestricted. `admin` is a loopback address.
    pub fn sandbox(folder: &Path, listen: SocketAddr, admin: SocketAddr) -> Config {
        assert!(admin.ip().is_loopback(), "the sandbox's admin address is loopback");
        Config {
            file: None,
            node: Node {
                name: "sandbox".to_owned(),
                site: "sandbox".to_owned(),
                data: folder.join("data"),
                ..Node::default()
            },
            http: Http {
                listen,
                reactors: cores_for_reactors().min(4),
                shutdown_ms_max: 5_000,
                ..Http::default()
            },
            tls: Tls {
                certificate: folder.join("server.pem"),
                key: folder.join("server.key"),
                client_ca: folder.join("ca.pem"),
                crl: Vec::new(),
                require_client_certificate: false,
                reload_ms: 500,
            },
            admin: Admin {
                socket: sandbox_socket(folder, "admin"),
                listen: admin,
            },
            mesh: Mesh {
                shared_key: folder.join("shared.key"),
                previous_shared_key: None,
                restrict_workflows: false,
                sweep_ms: 200,
            },
            tokens: Tokens {
                signing_key: Some(folder.join("tokens.key")),
                authority_jwks: Some(folder.join("authority.jwks")),
                authority_issuer: Some(SANDBOX_AUTHORITY.to_owned()),
                ..Tokens::default()
            },
            pds: Pds {
                url: format!("https://{listen}"),
                ..Pds::default()
            },
            rabbitmq: None,
            redis: None,
            journal: Journal {
                log_segment_bytes: 16 * MIB,
                bodies_segment_bytes: 16 * MIB,
                audit_segment_bytes: 4 * MIB,
                reserve_bytes: 64 * MIB,
                ..Journal::default()
            },
            ledger: Ledger {
                map_bytes_max: 64 * 1024 * MIB,
                ..Ledger::default()
            },
            log: Log::default(),
            cluster: None,
            logging: Logging {
                format: LogFormat::Text,
                level: LogLevel::Info,
            },
        }
    }
}

/// One for each core but the log's, at least one: a third busy thread on two cores costs a tenth of the rate in switches.
fn cores_for_reactors() -> u64 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    cores.saturating_sub(1).max(1)
}

/// A Unix socket of the sandbox: in its folder, or, where that path is too long for a socket, in the temporary folder
/// under a name made from it.
pub fn sandbox_socket(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(format!("{name}.sock"));
    if path.as_os_str().len() <= check::SOCKET_PATH_BYTES_MAX {
        return path;
    }
    let digest = crate::base::Digest::of(path.as_os_str().as_encoded_bytes());
    std::env::temp_dir().join(format!("vertebra-{digest:?}.sock"))
}

/// The operator's socket that `file` names, read without its secrets: an operator may use the socket without being
/// allowed to read the keys. Nothing else of the file is judged.
pub fn admin_socket(file: &Path) -> Result<PathBuf, ConfigError> {
    #[derive(Deserialize)]
    struct Partial {
        #[serde(default)]
        admin: Option<PartialAdmin>,
    }
    #[derive(Deserialize)]
    struct PartialAdmin {
        socket: Option<PathBuf>,
    }
    let refuse = |problem| ConfigError {
        file: file.to_owned(),
        problems: vec![problem],
    };
    let text = std::fs::read_to_string(file).map_err(|e| {
        let what = format!("cannot be read ({e}); name the right file with --config, or use --socket");
        refuse(Problem {
            line: None,
            key: String::new(),
            what,
        })
    })?;
    let partial: Partial = toml::from_str(&text).map_err(|e| refuse(check::shape(&text, &e)))?;
    let socket = partial
        .admin
        .and_then(|admin| admin.socket)
        .unwrap_or_else(|| Admin::default().socket);
    Ok(file.parent().unwrap_or(Path::new(".")).join(socket))
}
