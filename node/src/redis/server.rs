//! What a server says of itself, and whether that is what nonces need.

use super::connect::{Lost, Settings};
use ::redis::cmd;

/// A part of what `INFO` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Release.
    pub version: String,
    /// `maxmemory_policy`.
    pub policy: String,
    /// Bytes in use.
    pub memory_bytes: u64,
    /// Bound of these; 0 without one.
    pub memory_bytes_max: u64,
    /// The append-only file is on.
    pub append_only: bool,
    /// Replicas that are connected.
    pub replicas: u64,
}

impl Server {
    /// Reads the text of `INFO`.
    pub(super) fn read(info: &str) -> Server {
        let value = |name: &str| {
            let lines = info.lines();
            let mut found = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            found.next().unwrap_or("").trim()
        };
        let number = |name: &str| value(name).parse().unwrap_or(0);
        // Of what a server says its text ends up on operators' screens.
        let text = |name: &str| value(name).chars().filter(char::is_ascii_graphic).take(40).collect();
        Server {
            version: text("redis_version"),
            policy: text("maxmemory_policy"),
            memory_bytes: number("used_memory"),
            memory_bytes_max: number("maxmemory"),
            append_only: value("aof_enabled") == "1",
            replicas: number("connected_slaves"),
        }
    }

    /// What is not as it should be, one sentence each; what to do stands behind its semicolon.
    pub fn worries(&self) -> Vec<String> {
        let mut worries = Vec::new();
        if self.policy != "noeviction" {
            worries.push(format!(
                "Redis evicts ({}): a nonce that is evicted can be used again on another node; set `maxmemory-policy noeviction`",
                match self.policy.as_str() {
                    "" => "its policy is unknown",
                    policy => policy,
                }
            ));
        }
        if !self.append_only {
            worries.push(
                "Redis keeps no append-only file: after its restart a read's token can be used again on another node; set `appendonly yes`"
                    .to_owned(),
            );
        }
        if self.memory_bytes_max > 0 && self.memory_bytes / 9 > self.memory_bytes_max / 10 {
            worries.push(
                "Redis has used nine tenths of its memory, and at the bound it takes no nonces; raise `maxmemory`"
                    .to_owned(),
            );
        }
        worries
    }
}

/// A server that was looked at.
#[derive(Clone, Debug)]
pub struct Looked {
    /// `HOST:PORT`.
    pub address: String,
    /// What it says of itself.
    pub server: Server,
}

/// Connects as a node does, looks, and leaves; for `vertebra doctor`. Blocks, a few seconds at most.
///
/// # Errors
/// Why a node could not use it.
pub fn look(settings: &Settings) -> Result<Looked, Lost> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Lost::because(cause.to_string()))?;
    runtime.block_on(async {
        let session = settings.open(0).await?;
        let mut connection = session.connection.clone();
        let asked = async { cmd("INFO").query_async::<String>(&mut connection).await };
        let (session, info) = session.drive(asked).await?;
        Ok(Looked {
            address: session.address.clone(),
            server: Server::read(&info),
        })
    })
}
