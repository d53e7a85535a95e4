//! What a configuration must be: ranges, paths, and where in the file a problem stands.

use super::{Config, Problem, Rabbitmq, Redis};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// `sun_path` holds 108 bytes, the last of them 0.
pub(super) const SOCKET_PATH_BYTES_MAX: usize = 107;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// One number of the configuration with what it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// `http.connections_max`, say.
    pub key: &'static str,
    /// As configured.
    pub value: u64,
    /// `bytes`, `ms`, `seconds` or empty for a count.
    pub unit: &'static str,
    /// Smallest and largest value.
    pub range: RangeInclusive<u64>,
}

fn n(key: &'static str, value: u64, unit: &'static str, range: RangeInclusive<u64>) -> Number {
    Number {
        key,
        value,
        unit,
        range,
    }
}

/// Every number of the configuration: checked against these ranges, and shown with them.
pub fn numbers(c: &Config) -> Vec<Number> {
    let others = vec![
        n("node.id", c.node.id, "", 1..=1_000_000),
        n("tls.reload_ms", c.tls.reload_ms, "ms", 100..=3_600_000),
        n("mesh.sweep_ms", c.mesh.sweep_ms, "ms", 100..=3_600_000),
        n("pds.number_first", c.pds.number_first, "", 0..=999_999_999),
        n("pds.number_count", c.pds.number_count, "", 1..=1_000_000_000),
    ];
    let redis = c.redis.iter();
    let beside = redis.map(|redis| n("redis.wait_ms_max", redis.wait_ms_max, "ms", 5..=100));
    [others, front_door(c), stores(c), beside.collect()].concat()
}

fn front_door(c: &Config) -> Vec<Number> {
    vec![
        n("http.reactors", c.http.reactors, "", 0..=256),
        n("http.connections_max", c.http.connections_max, "", 1..=1_000_000),
        n(
            "http.connections_per_address_max",
            c.http.connections_per_address_max,
            "",
            1..=1_000_000,
        ),
        n("http.requests_max", c.http.requests_max, "", 1..=1_000_000),
        n(
            "http.requests_bytes_max",
            c.http.requests_bytes_max,
            "bytes",
            MIB..=64 * GIB,
        ),
        n("http.streams_max", c.http.streams_max, "", 1..=1_000),
        n("http.streams_reset_max", c.http.streams_reset_max, "", 1..=10_000),
        n(
            "http.header_bytes_max",
            c.http.header_bytes_max,
            "bytes",
            1_024..=61_440,
        ),
        n("http.headers_max", c.http.headers_max, "", 16..=1_000),
        n("http.body_bytes_max", c.http.body_bytes_max, "bytes", 1_024..=100 * MIB),
        n("http.handshake_ms_max", c.http.handshake_ms_max, "ms", 100..=120_000),
        n("http.header_ms_max", c.http.header_ms_max, "ms", 100..=120_000),
        n(
            "http.body_progress_ms_max",
            c.http.body_progress_ms_max,
            "ms",
            100..=600_000,
        ),
        n(
            "http.write_progress_ms_max",
            c.http.write_progress_ms_max,
            "ms",
            100..=600_000,
        ),
        n("http.progress_bytes_min", c.http.progress_bytes_min, "bytes", 1..=MIB),
        n("http.idle_ms_max", c.http.idle_ms_max, "ms", 100..=3_600_000),
        n("http.ping_ms", c.http.ping_ms, "ms", 100..=600_000),
        n("http.shutdown_ms_max", c.http.shutdown_ms_max, "ms", 0..=600_000),
        n(
            "http.retry_after_seconds",
            c.http.retry_after_seconds,
            "seconds",
            1..=3_600,
        ),
    ]
}

fn stores(c: &Config) -> Vec<Number> {
    vec![
        n(
            "journal.log_segment_bytes",
            c.journal.log_segment_bytes,
            "bytes",
            MIB..=GIB,
        ),
        n(
            "journal.bodies_segment_bytes",
            c.journal.bodies_segment_bytes,
            "bytes",
            MIB..=GIB,
        ),
        n(
            "journal.audit_segment_bytes",
            c.journal.audit_segment_bytes,
            "bytes",
            MIB..=GIB,
        ),
        n(
            "journal.reserve_bytes",
            c.journal.reserve_bytes,
            "bytes",
            16 * MIB..=1024 * GIB,
        ),
        n(
            "journal.queue_bytes_max",
            c.journal.queue_bytes_max,
            "bytes",
            MIB..=4 * GIB,
        ),
        n(
            "journal.reclaim_bytes_per_second",
            c.journal.reclaim_bytes_per_second,
            "bytes",
            MIB..=GIB,
        ),
        n(
            "ledger.map_bytes_max",
            c.ledger.map_bytes_max,
            "bytes",
            64 * MIB..=16 * 1024 * GIB,
        ),
        n(
            "ledger.checkpoint_bytes",
            c.ledger.checkpoint_bytes,
            "bytes",
            MIB..=4 * GIB,
        ),
        n("ledger.checkpoint_ms", c.ledger.checkpoint_ms, "ms", 100..=3_600_000),
        n("log.propose_timeout_ms", c.log.propose_timeout_ms, "ms", 100..=600_000),
        n("log.queue_bytes_max", c.log.queue_bytes_max, "bytes", MIB..=4 * GIB),
        n(
            "log.clock_jump_ms_max",
            c.log.clock_jump_ms_max,
            "ms",
            1_000..=86_400_000,
        ),
        n("log.stale_ms_max", c.log.stale_ms_max, "ms", 1_000..=86_400_000),
    ]
}

/// Whether `text` may name a node or a site.
pub(super) fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

fn problem(key: &str, what: impl Into<String>) -> Problem {
    Problem {
        line: None,
        key: key.to_owned(),
        what: what.into(),
    }
}

/// Everything about the values that is wrong.
pub(super) fn values(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    for number in numbers(config) {
        let (min, max) = (*number.range.start(), *number.range.end());
        if !number.range.contains(&number.value) {
            let unit = if number.unit.is_empty() {
                String::new()
            } else {
                format!(" {}", number.unit)
            };
            let what = format!("{} is out of range; set {min} to {max}{unit}", number.value);
            problems.push(problem(number.key, what));
        } else if number.key.ends_with("_segment_bytes") && number.value % 4_096 != 0 {
            let what = format!(
                "{} is not a multiple of 4096, the journal's block; round it up",
                number.value
            );
            problems.push(problem(number.key, what));
        }
    }
    for (key, name) in [("node.name", &config.node.name), ("node.site", &config.node.site)] {
        if !is_name(name) {
            problems.push(problem(key, "must be 1 to 63 letters, digits, '-' or '.'"));
        }
    }
    if !config.admin.listen.ip().is_loopback() {
        let what = format!(
            "{} is not a loopback address; use 127.0.0.1:PORT or [::1]:PORT",
            config.admin.listen
        );
        problems.push(problem("admin.listen", what));
    }
    if config.admin.listen == config.http.listen && config.admin.listen.port() != 0 {
        problems.push(problem(
            "admin.listen",
            "is the address of http.listen too; give each its own port",
        ));
    }
    let socket_bytes = config.admin.socket.as_os_str().len();
    if socket_bytes > SOCKET_PATH_BYTES_MAX {
        let what = format!("the path is {socket_bytes} bytes, a Unix socket takes {SOCKET_PATH_BYTES_MAX}; shorten it");
        problems.push(problem("admin.socket", what));
    }
    problems.extend(tokens(config));
    problems.extend(cluster(config));
    problems.extend(config.rabbitmq.iter().flat_map(rabbitmq));
    problems.extend(config.redis.iter().flat_map(redis_problems));
    problems.extend(files(config));
    problems
}

/// Longest issuer, audience or URL, bytes.
const NAME_BYTES_MAX: usize = 200;
/// Most URLs of the token endpoint.
const TOKEN_URLS_MAX: usize = 20;

/// What tokens say and what must come together.
fn tokens(config: &Config) -> Vec<Problem> {
    let tokens = &config.tokens;
    let mut problems = Vec::new();
    let mut named: Vec<(&str, &str)> = vec![
        ("tokens.issuer", tokens.issuer.as_str()),
        ("tokens.audience", tokens.audience.as_str()),
    ];
    named.extend(
        tokens
            .authority_issuer
            .iter()
            .map(|name| ("tokens.authority_issuer", name.as_str())),
    );
    named.extend(tokens.token_urls.iter().map(|url| ("tokens.token_urls", url.as_str())));
    named.extend((!config.pds.url.is_empty()).then_some(("pds.url", config.pds.url.as_str())));
    for (key, name) in named {
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_graphic()) {
            problems.push(problem(key, "must be 1 to 200 visible ASCII characters without spaces"));
        }
    }
    if tokens.token_urls.len() > TOKEN_URLS_MAX {
        problems.push(problem(
            "tokens.token_urls",
            "has more than 20 URLs; keep those that clients use",
        ));
    }
    if tokens.authority_jwks.is_some() && tokens.authority_issuer.is_none() {
        let what = "is missing; name the issuer whose keys tokens.authority_jwks holds";
        problems.push(problem("tokens.authority_issuer", what));
    }
    if tokens.authority_jwks.is_none() && tokens.authority_issuer.is_some() {
        let what = "is missing; give the keys of tokens.authority_issuer, or remove that";
        problems.push(problem("tokens.authority_jwks", what));
    }
    if tokens.authority_issuer.as_ref() == Some(&tokens.issuer) {
        let what = "is tokens.issuer too; give each its own, so that neither can be taken for the other";
        problems.push(problem("tokens.authority_issuer", what));
    }
    problems
}

/// Most addresses of `cluster.peers`.
const PEERS_MAX: usize = 100;

/// `HOST:PORT`, the host a name or an address.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host_is_one = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => (1..=253).contains(&host.len()) && host.split('.').all(is_name),
    };
    host_is_one && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Addresses of the cluster.
fn cluster(config: &Config) -> Vec<Problem> {
    let Some(cluster) = &config.cluster else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    let what = "must be HOST:PORT, as 10.0.0.1:8444 or n1.north.example:8444";
    if !is_host_and_port(&cluster.address) {
        problems.push(problem("cluster.address", what));
    }
    if !cluster.peers.iter().all(|peer| is_host_and_port(peer)) {
        problems.push(problem("cluster.peers", format!("each {what}")));
    }
    if cluster.peers.len() > PEERS_MAX {
        problems.push(problem(
            "cluster.peers",
            "has more than 100 addresses; a few are enough",
        ));
    }
    if cluster.peers.contains(&cluster.address) {
        let what = "names this node itself; a node that founds a cluster has none, the others name their founder";
        problems.push(problem("cluster.peers", what));
    }
    if cluster.listen == config.http.listen && cluster.listen.port() != 0 {
        problems.push(problem(
            "cluster.listen",
            "is the address of http.listen too; give each its own port",
        ));
    }
    problems
}

/// Most brokers, queues, and keys of a queue.
const URLS_MAX: usize = 8;
const QUEUES_MAX: usize = 32;

/// Host and port of a broker's URL; `Err` says what is wrong with it. A URL is not repeated: it may hold a password.
pub fn broker_address(url: &str) -> Result<(String, u16), &'static str> {
    let (rest, port, secure) = match (url.strip_prefix("amqps://"), url.strip_prefix("amqp://")) {
        (Some(rest), _) => (rest, 5671, true),
        (None, Some(rest)) => (rest, 5672, false),
        (None, None) => return Err("must begin with amqps://"),
    };
    if url.contains(['@', '?', '#']) || !url.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("must be amqps://HOST[:PORT][/VHOST]; user and password belong into rabbitmq.credentials");
    }
    let authority = rest.split('/').next().unwrap_or(rest);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') => {
            let port = port.parse().map_err(|_| "has a port that is no number");
            (host, port?)
        }
        Some(_) | None => (authority, port),
    };
    match host {
        "" => Err("names no host"),
        _ if !secure && !is_loopback(host) => Err("must begin with amqps://; amqp:// is for a broker on loopback"),
        _ => Ok((host.trim_matches(['[', ']']).to_owned(), port)),
    }
}

/// Whether a host as written names this machine alone.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Addresses and names of `[rabbitmq]`.
fn rabbitmq(rabbitmq: &Rabbitmq) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !(1..=URLS_MAX).contains(&rabbitmq.urls.len()) {
        problems.push(problem("rabbitmq.urls", "must name 1 to 8 brokers of one cluster"));
    }
    for url in &rabbitmq.urls {
        if let Err(what) = broker_address(url) {
            problems.push(problem("rabbitmq.urls", format!("one of them {what}")));
        }
    }
    if rabbitmq.ca.is_none() && rabbitmq.urls.iter().any(|url| url.starts_with("amqps://")) {
        let what = "is missing; name the authorities that sign the brokers' certificates";
        problems.push(problem("rabbitmq.ca", what));
    }
    match (&rabbitmq.certificate, &rabbitmq.key) {
        (Some(_), None) => problems.push(problem(
            "rabbitmq.key",
            "is missing; give the key of rabbitmq.certificate",
        )),
        (None, Some(_)) => problems.push(problem("rabbitmq.certificate", "is missing; give that of rabbitmq.key")),
        (Some(_), Some(_)) | (None, None) => {}
    }
    let fits = |name: &String| {
        (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_graphic())
            && !name.starts_with("amq.")
    };
    if !fits(&rabbitmq.exchange) {
        let what =
            "must be 1 to 200 visible ASCII characters and not begin with `amq.`, which the broker keeps for itself";
        problems.push(problem("rabbitmq.exchange", what));
    }
    let queues_fit = (1..=QUEUES_MAX).contains(&rabbitmq.queues.len())
        && rabbitmq
            .queues
            .iter()
            .all(|(name, keys)| fits(name) && (1..=QUEUES_MAX).contains(&keys.len()) && keys.iter().all(fits));
    if !queues_fit {
        let what = "must be 1 to 32 queues with 1 to 32 keys each, all of 1 to 200 visible ASCII characters, none beginning \
                    with `amq.`";
        problems.push(problem("rabbitmq.queues", what));
    }
    problems
}

/// Most sentinels.
const SENTINELS_MAX: usize = 16;

/// What is wrong with addresses and names of `[redis]`.
pub fn redis_problems(redis: &Redis) -> Vec<Problem> {
    let mut problems = Vec::new();
    match (&redis.address, redis.sentinels.len()) {
        (None, 0) => problems.push(problem(
            "redis.sentinels",
            "is missing; name the sentinels, or one Redis in redis.address",
        )),
        (Some(_), 1..) => problems.push(problem(
            "redis.address",
            "stands beside redis.sentinels, which know the primary; keep one of the two",
        )),
        (None, count) if count > SENTINELS_MAX => {
            problems.push(problem("redis.sentinels", "names more than 16; a few are enough"));
        }
        (Some(_), 0) | (None, _) => {}
    }
    let what = "must be HOST:PORT, as 127.0.0.1:6379 or n1.north.example:26379";
    let named = redis.address.iter().map(|address| ("redis.address", address));
    let named: Vec<_> = named
        .chain(redis.sentinels.iter().map(|address| ("redis.sentinels", address)))
        .collect();
    for (key, _) in named.iter().filter(|(_, address)| !is_host_and_port(address)) {
        problems.push(problem(key, what));
    }
    let host = |address: &str| address.rsplit_once(':').is_some_and(|(host, _)| is_loopback(host));
    if redis.ca.is_none() && !named.iter().all(|(_, address)| host(address)) {
        let what = "is missing; name the authorities of the servers' certificates: without TLS all must be on loopback";
        problems.push(problem("redis.ca", what));
    }
    for (key, name) in [
        ("redis.primary", Some(&redis.primary)),
        ("redis.username", redis.username.as_ref()),
    ] {
        let fits =
            |name: &String| (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
        if name.is_some_and(|name| !fits(name)) {
            problems.push(problem(key, "must be 1 to 200 visible ASCII characters without spaces"));
        }
    }
    if redis.username.is_some() && redis.password.is_none() {
        problems.push(problem(
            "redis.password",
            "is missing; name the file with the password of redis.username",
        ));
    }
    match (&redis.certificate, &redis.key) {
        (Some(_), None) => problems.push(problem("redis.key", "is missing; give the key of redis.certificate")),
        (None, Some(_)) => problems.push(problem("redis.certificate", "is missing; give that of redis.key")),
        (Some(_), Some(_)) if redis.ca.is_none() => {
            problems.push(problem("redis.ca", "is missing; a certificate is shown over TLS alone"));
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    problems
}

/// The paths of `[redis]` by their keys.
fn redis_paths(redis: &mut Redis) -> [(&'static str, &mut Option<PathBuf>); 5] {
    [
        ("redis.password", &mut redis.password),
        ("redis.sentinel_password", &mut redis.sentinel_password),
        ("redis.ca", &mut redis.ca),
        ("redis.certificate", &mut redis.certificate),
        ("redis.key", &mut redis.key),
    ]
}

/// Files that must be there: certificates and secrets.
fn files(config: &Config) -> Vec<Problem> {
    let mut wanted: Vec<(&str, &Path)> = vec![
        ("tls.certificate", &config.tls.certificate),
        ("tls.key", &config.tls.key),
        ("tls.client_ca", &config.tls.client_ca),
        ("mesh.shared_key", &config.mesh.shared_key),
    ];
    wanted.extend(config.tls.crl.iter().map(|path| ("tls.crl", path.as_path())));
    wanted.extend(
        config
            .mesh
            .previous_shared_key
            .iter()
            .map(|path| ("mesh.previous_shared_key", path.as_path())),
    );
    let tokens = &config.tokens;
    for (key, path) in [
        ("tokens.signing_key", &tokens.signing_key),
        ("tokens.previous_signing_key", &tokens.previous_signing_key),
        ("tokens.authority_jwks", &tokens.authority_jwks),
    ] {
        wanted.extend(path.iter().map(|path| (key, path.as_path())));
    }
    if let Some(cluster) = &config.cluster {
        wanted.extend([
            ("cluster.certificate", cluster.certificate.as_path()),
            ("cluster.key", &cluster.key),
            ("cluster.ca", &cluster.ca),
        ]);
    }
    if let Some(rabbitmq) = &config.rabbitmq {
        wanted.push(("rabbitmq.credentials", &rabbitmq.credentials));
        for (key, path) in [
            ("rabbitmq.ca", &rabbitmq.ca),
            ("rabbitmq.certificate", &rabbitmq.certificate),
            ("rabbitmq.key", &rabbitmq.key),
        ] {
            wanted.extend(path.iter().map(|path| (key, path.as_path())));
        }
    }
    let mut redis = config.redis.clone();
    for (key, path) in redis.iter_mut().flat_map(redis_paths) {
        wanted.extend(path.iter().map(|path| (key, path.as_path())));
    }
    let mut problems = Vec::new();
    for (key, path) in wanted {
        if path.starts_with("$CREDENTIALS_DIRECTORY") || path.as_os_str().is_empty() {
            continue; // named once already, by `resolve`
        }
        let why = match std::fs::File::open(path).and_then(|f| f.metadata()) {
            Err(e) => e.to_string(),
            Ok(m) if !m.is_file() => "it is not a file".to_owned(),
            Ok(m) if m.len() == 0 => "it is empty".to_owned(),
            Ok(_) => continue,
        };
        // Without the path: somebody may have written a secret where a path belongs.
        let what = format!("the file it names cannot be used ({why}); put it there and let the node read it");
        problems.push(problem(key, what));
    }
    problems
}

/// Makes every path whole; says which cannot be.
pub(super) fn resolve(config: &mut Config, base: &Path, credentials: Option<&Path>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut each = |key: &str, path: &mut PathBuf| {
        if let Ok(rest) = path.strip_prefix("$CREDENTIALS_DIRECTORY") {
            match credentials {
                Some(folder) => *path = folder.join(rest),
                None => problems.push(problem(
                    key,
                    "names $CREDENTIALS_DIRECTORY, which is not set; run under systemd with LoadCredential=, or give a path",
                )),
            }
        } else if path.as_os_str().is_empty() {
            problems.push(problem(key, "is empty; give a path"));
        } else if path.is_relative() {
            *path = base.join(&*path);
        }
    };
    each("node.data", &mut config.node.data);
    each("admin.socket", &mut config.admin.socket);
    each("tls.certificate", &mut config.tls.certificate);
    each("tls.key", &mut config.tls.key);
    each("tls.client_ca", &mut config.tls.client_ca);
    each("mesh.shared_key", &mut config.mesh.shared_key);
    config.tls.crl.iter_mut().for_each(|path| each("tls.crl", path));
    config
        .mesh
        .previous_shared_key
        .iter_mut()
        .for_each(|path| each("mesh.previous_shared_key", path));
    let tokens = &mut config.tokens;
    for (key, path) in [
        ("tokens.signing_key", &mut tokens.signing_key),
        ("tokens.previous_signing_key", &mut tokens.previous_signing_key),
        ("tokens.authority_jwks", &mut tokens.authority_jwks),
    ] {
        path.iter_mut().for_each(|path| each(key, path));
    }
    if let Some(cluster) = &mut config.cluster {
        each("cluster.certificate", &mut cluster.certificate);
        each("cluster.key", &mut cluster.key);
        each("cluster.ca", &mut cluster.ca);
    }
    if let Some(rabbitmq) = &mut config.rabbitmq {
        each("rabbitmq.credentials", &mut rabbitmq.credentials);
        for (key, path) in [
            ("rabbitmq.ca", &mut rabbitmq.ca),
            ("rabbitmq.certificate", &mut rabbitmq.certificate),
            ("rabbitmq.key", &mut rabbitmq.key),
        ] {
            path.iter_mut().for_each(|path| each(key, path));
        }
    }
    for (key, path) in config.redis.iter_mut().flat_map(redis_paths) {
        path.iter_mut().for_each(|path| each(key, path));
    }
    problems
}

/// The problem that a parser's refusal tells, with the key it stands at. The file's values are not repeated: a line may
/// hold a secret that somebody wrote where a path belongs.
pub(super) fn shape(text: &str, error: &toml::de::Error) -> Problem {
    let start = error.span().map_or(0, |span| span.start);
    let (line, section, key) = place(text, start);
    let message = error.message();
    let named = message.split('`').nth(1).unwrap_or_default();
    let whole_section = section == named || matches!(named, "tls" | "mesh" | "cluster");
    let join = |key: &str| {
        if section.is_empty() || whole_section {
            key.to_owned()
        } else {
            format!("{section}.{key}")
        }
    };
    let (key, what) = if message.starts_with("unknown field") {
        let expected = message.split_once(", ").map_or("", |(_, rest)| rest);
        (
            join(named),
            format!("there is no such key ({expected}); remove it or correct its name"),
        )
    } else if message.starts_with("missing field") {
        let what = if whole_section {
            "the section is missing; add it"
        } else {
            "is missing; add it"
        };
        (join(named), what.to_owned())
    } else if let Some((_, expected)) = message.rsplit_once(", expected ") {
        (
            key.map_or_else(|| section.clone(), join),
            format!("has the wrong type or value; give {expected}"),
        )
    } else {
        let lines: Vec<&str> = message.lines().collect();
        (
            key.map_or_else(|| section.clone(), join),
            format!("is not valid here ({}); correct it", lines.join("; ")),
        )
    };
    Problem {
        line: Some(line),
        key,
        what,
    }
}

/// Every section with its keys.
fn schema() -> toml::Table {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config::sandbox(Path::new(""), nowhere, nowhere);
    config.mesh.previous_shared_key = Some(PathBuf::new());
    config.tokens.previous_signing_key = Some(PathBuf::new());
    config.cluster = Some(super::Cluster {
        listen: nowhere,
        address: String::new(),
        certificate: PathBuf::new(),
        key: PathBuf::new(),
        ca: PathBuf::new(),
        peers: Vec::new(),
    });
    let rabbitmq = Rabbitmq::new(Vec::new(), PathBuf::new());
    config.rabbitmq = Some(Rabbitmq {
        ca: Some(PathBuf::new()),
        certificate: Some(PathBuf::new()),
        key: Some(PathBuf::new()),
        ..rabbitmq
    });
    let mut redis = Redis::new(Some(String::new()), Vec::new());
    redis.username = Some(String::new());
    for (_, path) in redis_paths(&mut redis) {
        *path = Some(PathBuf::new());
    }
    config.redis = Some(redis);
    toml::Table::try_from(config).expect("a configuration is a table of tables")
}

/// Line (from 1), section and key at a byte offset. Only names that the configuration has: a line of a value that spans
/// lines may look like a section or a key.
fn place(text: &str, offset: usize) -> (usize, String, Option<&str>) {
    let schema = schema();
    let mut section = String::new();
    let mut start = 0;
    for (n, line) in text.split('\n').enumerate() {
        let trimmed = line.trim();
        if let Some(header) = trimmed.strip_prefix('[') {
            let name = header
                .trim_start_matches('[')
                .split([']', '.'])
                .next()
                .unwrap_or("")
                .trim();
            name.clone_into(&mut section);
            if !schema.contains_key(name) {
                section.clear();
            }
        }
        if offset <= start + line.len() {
            let key = line
                .split_once('=')
                .map(|(key, _)| key.trim())
                .filter(|key| schema.get(&section).is_some_and(|keys| keys.get(key).is_some()));
            return (n + 1, section, key);
        }
        start += line.len() + 1;
    }
    (text.lines().count().max(1), section, None)
}

/// The line of a key, or of its section where the key is a default.
pub(super) fn line_of(text: &str, key: &str) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let (section, name) = key.split_once('.')?;
    let table = document.get_ref().get(section)?;
    let span = match table.get_ref().as_table().and_then(|t| t.get(name)) {
        Some(value) => value.span(),
        None => table.span(),
    };
    Some(text[..span.start.min(text.len())].matches('\n').count() + 1)
}
