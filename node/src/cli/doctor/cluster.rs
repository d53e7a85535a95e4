//! `[cluster]`: the certificate is this node's and good for both ends, members answer, clocks agree, a site can be lost.

use super::Line;
use super::certificates::{dates, matching, read};
use crate::admin::status::Status;
use crate::cli::client::Door;
use crate::config::{Cluster, Config};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{ServerName, UnixTime};
use std::collections::BTreeSet;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// How long a member's port may take to answer.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Clocks further apart are worth a look, ms. The node itself acts on more than that.
const SKEW_MS_HIGH: u64 = 500;

/// Everything about members, as of `now_ms`; nothing without `[cluster]`.
pub(super) fn lines(config: &Config, now_ms: u64) -> Vec<Line> {
    let Some(cluster) = &config.cluster else {
        return vec![Line::ok("cluster", "not configured: a cluster of one")];
    };
    let now = (now_ms / 1_000) as i64;
    let mut lines = vec![
        dates("cluster.certificate", &cluster.certificate, now),
        matching("cluster.key", &cluster.certificate, &cluster.key),
        dates("cluster.ca", &cluster.ca, now),
        usable(cluster, &config.node.name, now_ms),
        super::open_to_others("cluster.key", &cluster.key),
    ];
    let door = Door::Socket(config.admin.socket.clone());
    match door.json::<Status>("GET", "/admin/status", b"") {
        Ok(status) => lines.extend(members(&status)),
        Err(_) => lines.extend(cluster.peers.iter().map(|peer| reachable(peer))),
    }
    lines
}

/// Whether peers take the certificate, as a server's and as a client's, under this node's name.
fn usable(cluster: &Cluster, name: &str, now_ms: u64) -> Line {
    let key = "cluster.certificate";
    let advice = format!(
        "issue one under cluster.ca with the DNS name {name} (node.name) and the usages serverAuth and clientAuth"
    );
    match verify(cluster, name, now_ms) {
        Ok(()) => Line::ok(key, format!("names {name}, good for both ends, under cluster.ca")),
        Err(why) => Line::fail(key, why, advice),
    }
}

fn verify(cluster: &Cluster, name: &str, now_ms: u64) -> Result<(), String> {
    let chain = read(&cluster.certificate)?;
    let mut roots = RootCertStore::empty();
    for authority in read(&cluster.ca)? {
        roots.add(authority).map_err(|cause| cause.to_string())?;
    }
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now_ms));
    let own_name = ServerName::try_from(name).map_err(|_| format!("node.name {name} is no DNS name"))?;
    let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
    let servers = servers.map_err(|cause| cause.to_string())?;
    servers
        .verify_server_cert(&chain[0], &chain[1..], &own_name, &[], now)
        .map_err(|cause| format!("peers refuse it where this node is called: {cause}"))?;
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
    let clients = clients.map_err(|cause| cause.to_string())?;
    clients
        .verify_client_cert(&chain[0], &chain[1..], now)
        .map_err(|cause| format!("peers refuse it where this node calls: {cause}"))?;
    Ok(())
}

/// Whether something listens at a member's address.
fn reachable(peer: &str) -> Line {
    let addresses = match peer.to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(cause) => return Line::fail("cluster.peers", format!("{peer}: {cause}"), "correct the name"),
    };
    let mut why = "the name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(_) => return Line::ok("cluster.peers", format!("{peer} is reachable")),
            Err(cause) => why = cause.to_string(),
        }
    }
    let advice = "start it, or look at the firewalls between (8444, both ways)";
    Line::warn("cluster.peers", format!("{peer}: {why}"), advice)
}

/// What the running node says of its members.
pub(super) fn members(status: &Status) -> Vec<Line> {
    let silent: Vec<String> = status
        .members
        .iter()
        .filter(|member| member.role == "unreachable")
        .map(|member| format!("{} ({}) at {}", member.name, member.id, member.address))
        .collect();
    let count = status.members.len();
    let answer = match silent.is_empty() {
        true => Line::ok("members", format!("{count}, all answer")),
        false => Line::warn(
            "members",
            format!("no answer from {}", silent.join(", ")),
            "is it up, is port 8444 open both ways, does its certificate name it? Its log and this node's say why",
        ),
    };
    let skew = status.cluster.skew_ms_max;
    let clocks = match skew <= SKEW_MS_HIGH {
        true => Line::ok("clocks", format!("within {skew} ms of this node's")),
        false => Line::warn(
            "clocks",
            format!("{skew} ms apart"),
            "see `chronyc tracking` on every member; the one that is off is the one to correct",
        ),
    };
    let mut lines = vec![answer, clocks];
    // While somebody is missing what may be lost besides is less than the sites say; status tells that.
    lines.extend(silent.is_empty().then(|| sites(status)));
    lines
}

/// What can be lost without losing writes.
fn sites(status: &Status) -> Line {
    let votes = status.members.iter().filter(|member| member.role != "learner");
    let sites: BTreeSet<&str> = votes.map(|member| member.site.as_str()).collect();
    match sites.len() {
        0 | 1 => Line::warn(
            "sites",
            "one: what it acknowledged is gone if the site is",
            "let members in other sites join",
        ),
        2 => Line::warn(
            "sites",
            "two and no witness: with either lost nothing can be written until an operator's `vertebra go-alone`",
            "let a witness on a third site join",
        ),
        more => Line::ok("sites", format!("{more}: any one may be lost")),
    }
}
