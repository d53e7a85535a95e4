//! `vertebra doctor`: one line a check, with what to do. It changes nothing but a file of its own that it removes again.

mod certificates;
mod cluster;
mod host;
mod redis;
#[cfg(test)]
mod tests;

use super::client::{Door, Target};
use super::sandbox::stored_config;
use super::{CliError, print};
use crate::auth::token::{KeyFiles, Keys};
use crate::config::{Config, FILE_DEFAULT, Secret, broker_address};
use serde::Serialize;
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// How long a broker may take to accept a connection.
const BROKER_WAIT_MAX: Duration = Duration::from_secs(3);

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Line {
    verdict: Verdict,
    /// What was looked at.
    about: String,
    /// What was found.
    found: String,
    /// What to do; empty when all is well.
    advice: String,
}

impl Line {
    fn ok(about: &str, found: impl Into<String>) -> Line {
        Line {
            verdict: Verdict::Ok,
            about: about.to_owned(),
            found: found.into(),
            advice: String::new(),
        }
    }

    fn warn(about: &str, found: impl Into<String>, advice: impl Into<String>) -> Line {
        Line {
            verdict: Verdict::Warn,
            about: about.to_owned(),
            found: found.into(),
            advice: advice.into(),
        }
    }

    fn fail(about: &str, found: impl Into<String>, advice: impl Into<String>) -> Line {
        Line {
            verdict: Verdict::Fail,
            about: about.to_owned(),
            found: found.into(),
            advice: advice.into(),
        }
    }
}

pub(super) fn run(args: &Args) -> Result<u8, CliError> {
    let mut lines = host::lines();
    match config(&args.target) {
        Ok(config) => {
            let file = config
                .file
                .as_ref()
                .map_or_else(|| "the sandbox's".to_owned(), |file| file.display().to_string());
            lines.push(Line::ok("configuration", file));
            lines.extend(host::storage(&config.node.data, config.journal.reserve_bytes));
            lines.extend(certificates::lines(&config, crate::base::Clock::default().now().ms()));
            lines.extend(cluster::lines(&config, crate::base::Clock::default().now().ms()));
            lines.extend(secrets(&config));
            lines.extend(listening(&config));
            lines.extend(rabbitmq(&config));
            lines.extend(redis::lines(&config));
        }
        Err(error) => lines.push(Line::fail(
            "configuration",
            error.to_string(),
            "correct it; `vertebra config check FILE` shows every problem",
        )),
    }
    match args.json {
        true => print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&lines).expect("lines have a JSON form")
        )),
        false => print(&render(&lines)),
    }
    Ok(u8::from(lines.iter().any(|line| line.verdict == Verdict::Fail)))
}

fn config(target: &Target) -> Result<Config, CliError> {
    match (&target.sandbox, &target.config) {
        (Some(folder), _) => stored_config(folder),
        (None, Some(file)) => Ok(Config::read(file)?),
        (None, None) => Ok(Config::read(Path::new(FILE_DEFAULT))?),
    }
}

fn render(lines: &[Line]) -> String {
    let width = lines.iter().map(|line| line.about.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for line in lines {
        let verdict = match line.verdict {
            Verdict::Ok => "OK  ",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        let found = line.found.replace('\n', &format!("\n{:1$}", "", width + 8));
        text.push_str(&format!("{verdict}  {:<width$}  {found}\n", line.about));
        if !line.advice.is_empty() {
            text.push_str(&format!("      {:<width$}  → {}\n", "", line.advice));
        }
    }
    let count = |verdict| lines.iter().filter(|line| line.verdict == verdict).count();
    text.push_str(&format!(
        "\n{} failed, {} warnings\n",
        count(Verdict::Fail),
        count(Verdict::Warn)
    ));
    text
}

/// Secrets can be read and are not open to everybody.
fn secrets(config: &Config) -> Vec<Line> {
    let mut lines = Vec::new();
    let keys = [
        ("mesh.shared_key", Some(&config.mesh.shared_key)),
        ("mesh.previous_shared_key", config.mesh.previous_shared_key.as_ref()),
    ];
    for (key, file) in keys.into_iter().filter_map(|(key, file)| file.map(|file| (key, file))) {
        lines.push(match Secret::read(file) {
            Ok(_) => open_to_others(key, file),
            Err(error) => Line::fail(key, error.to_string(), "put the key there, readable by the node alone"),
        });
    }
    lines.push(open_to_others("tls.key", &config.tls.key));
    lines.extend(tokens(config));
    lines
}

/// The keys of access tokens can be read, or their absence is told with what it means.
fn tokens(config: &Config) -> Vec<Line> {
    let mut lines = Vec::new();
    let files = KeyFiles {
        signing_key: config.tokens.signing_key.clone(),
        previous_signing_key: config.tokens.previous_signing_key.clone(),
        authority_jwks: config.tokens.authority_jwks.clone(),
    };
    match Keys::from_files(&files) {
        Ok(keys) => {
            let (own, authority) = (keys.own_kids().len(), keys.authority_kids().len());
            lines.push(Line::ok(
                "tokens",
                format!("{own} key(s) of our own, {authority} of the authority"),
            ));
        }
        Err(error) => lines.push(Line::fail(
            "tokens",
            error.to_string(),
            "correct the file; SIGHUP takes it up",
        )),
    }
    match &files.signing_key {
        Some(file) => lines.push(open_to_others("tokens.signing_key", file)),
        None => lines.push(Line::warn(
            "tokens.signing_key",
            "none: /oauth2/token answers 503",
            "make one (`openssl genpkey -algorithm ed25519`) and name it, if applications get their tokens here",
        )),
    }
    if let Some(file) = &files.previous_signing_key {
        lines.push(open_to_others("tokens.previous_signing_key", file));
    }
    if files.authority_jwks.is_none() {
        lines.push(Line::warn(
            "tokens.authority_jwks",
            "none: tokens of healthcare workers and patients are refused",
            "name the signing authority's public keys, if people use this service",
        ));
    }
    lines
}

/// The broker answers, or its absence is told with what it means.
fn rabbitmq(config: &Config) -> Vec<Line> {
    let Some(rabbitmq) = &config.rabbitmq else {
        let found = "not configured: no event leaves this node and, unless another node's configuration or `vertebra events on` \
                     switched events on, none is kept; messages and records are not affected";
        return vec![Line::ok("RabbitMQ", found)];
    };
    let mut lines = vec![open_to_others("rabbitmq.credentials", &rabbitmq.credentials)];
    for (n, url) in rabbitmq.urls.iter().enumerate() {
        let about = format!("rabbitmq.urls[{n}]");
        let reached = broker_address(url).map_err(str::to_owned).and_then(|(host, port)| {
            let addresses = (host.as_str(), port)
                .to_socket_addrs()
                .map_err(|cause| format!("{host}:{port}: {cause}"))?;
            let mut last = "the name has no address".to_owned();
            for address in addresses {
                match TcpStream::connect_timeout(&address, BROKER_WAIT_MAX) {
                    Ok(_) => return Ok(address),
                    Err(cause) => last = cause.to_string(),
                }
            }
            Err(format!("{host}:{port}: {last}"))
        });
        lines.push(match reached {
            Ok(address) => Line::ok(&about, format!("{address} answers")),
            Err(cause) => Line::warn(
                &about,
                format!("no answer ({cause}): events wait in the outbox up to its bound, clients are not affected"),
                "start the broker, or correct the address; see node/runbooks/rabbitmq-lost.md",
            ),
        });
    }
    lines
}

fn open_to_others(key: &str, file: &Path) -> Line {
    match std::fs::metadata(file) {
        Ok(m) if m.mode() & 0o007 != 0 => {
            let found = format!(
                "{} may be used by everybody on this host (mode {:o})",
                file.display(),
                m.mode() & 0o777
            );
            Line::warn(key, found, format!("chmod o-rwx {}", file.display()))
        }
        Ok(_) => Line::ok(key, "readable, closed to others"),
        Err(cause) => Line::fail(key, format!("{}: {cause}", file.display()), "put the file there"),
    }
}

/// The node runs, or its addresses are free.
fn listening(config: &Config) -> Vec<Line> {
    let door = Door::Socket(config.admin.socket.clone());
    if door.ask("GET", "/health/live", b"", Duration::from_secs(5)).is_ok() {
        return vec![Line::ok("node", format!("runs; it answers at {door}"))];
    }
    let mut lines = vec![Line::ok("node", "does not run (or this user may not use its socket)")];
    let peers = config
        .cluster
        .as_ref()
        .map(|cluster| ("cluster.listen", cluster.listen));
    for (key, address) in [
        ("http.listen", config.http.listen),
        ("admin.listen", config.admin.listen),
    ]
    .into_iter()
    .chain(peers)
    {
        lines.push(match TcpListener::bind(address) {
            Ok(_) => Line::ok(key, format!("{address} is free")),
            Err(cause) if cause.kind() == std::io::ErrorKind::AddrInUse => {
                let advice = format!(
                    "stop what listens there (`ss -ltnp sport = :{}`), or change {key}",
                    address.port()
                );
                Line::fail(key, format!("{address} is in use"), advice)
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::PermissionDenied => Line::warn(
                key,
                format!("{address} may not be bound by this user"),
                "let systemd pass the socket in (ListenStream=), or run doctor as the node's user",
            ),
            Err(cause) => Line::fail(
                key,
                format!("{address}: {cause}"),
                format!("give an address of this host in {key}"),
            ),
        });
    }
    lines
}
