//! The MESH cycle: send 1 KB, list, download, acknowledge.

use crate::drive::{Client, cycles, taken};
use crate::peers::{Peer, redis_sets_a_second, sandbox_credentials};
use crate::{Bound, Row, median, number_from};
use vertebra_tests::mesh::Credentials;
use vertebra_tests::node::{Folder, Node};
use vertebra_tests::wire::Target;

const INBOX: &str = "inbox?max_results=100";

async fn clients(count: usize, target: &Target, alice: &Credentials, bob: &Credentials) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(Client::open(target, alice, bob, INBOX).await);
    }
    clients
}

/// Processor time of a cycle, ours over mTLS and durable against the published sandbox in memory over plain HTTP.
pub async fn cpu_of_a_cycle() -> Vec<Row> {
    let scale = number_from("VERTEBRA_BENCH_SCALE", 1);
    let at_once = number_from("VERTEBRA_BENCH_CLIENTS", 64) as usize;
    let (rounds, peer_rounds) = (12_000 * scale / at_once as u64, 25 * scale);
    let folder = Folder::new("bench-cycle");
    let node = Node::start(&folder.path().join("data"));
    let target = node.target(Some(&node.identity()));
    let ours = clients(at_once, &target, &node.credentials(0), &node.credentials(1)).await;
    let ours = cycles(ours, 100).await;
    let (_, our) = taken(node.pid(), cycles(ours, rounds)).await;
    let our_us = our.server.as_secs_f64() * 1e6 / (at_once as u64 * rounds) as f64;
    drop(node);

    let peer = Peer::mesh_sandbox();
    let (alice, bob) = (sandbox_credentials("X26ABC1"), sandbox_credentials("X26ABC2"));
    // One alone first: the peer makes its store on the first request, and two for two at once.
    cycles(clients(1, &peer.target(), &alice, &bob).await, 1).await;
    let theirs = clients(at_once, &peer.target(), &alice, &bob).await;
    let theirs = cycles(theirs, 2).await;
    let (_, their) = taken(peer.pid(), cycles(theirs, peer_rounds)).await;
    let their_us = their.server.as_secs_f64() * 1e6 / (at_once as u64 * peer_rounds) as f64;
    vec![Row {
        measure: format!("MESH cycle, CPU, {at_once} clients"),
        ours: format!("{our_us:.0} µs"),
        peer: format!("mesh-sandbox {their_us:.0} µs"),
        figure: their_us / our_us,
        unit: "× less",
        least: Bound::AtLeast(40.0),
        aim: Bound::AtLeast(100.0),
        own_cpu: our.own,
    }]
}

/// Cycles a second at 64 clients against SETs a second of Redis with its file synced on every write.
pub async fn cycles_a_second() -> Vec<Row> {
    let scale = number_from("VERTEBRA_BENCH_SCALE", 1);
    let (at_once, rounds) = (64, 200 * scale);
    let folder = Folder::new("bench-throughput");
    let node = Node::start(&folder.path().join("data"));
    let redis_folder = Folder::new("bench-redis");
    let redis = Peer::redis(redis_folder.path());
    let target = node.target(Some(&node.identity()));
    let mut ours = clients(at_once, &target, &node.credentials(0), &node.credentials(1)).await;
    ours = cycles(ours, 20).await;
    redis_sets_a_second(&redis, 2_000);
    let (mut our_rates, mut their_rates) = (Vec::new(), Vec::new());
    let mut own = std::time::Duration::ZERO;
    // In turn, so that a busy moment of the machine meets both.
    for _ in 0..3 {
        let (kept, time) = taken(node.pid(), cycles(ours, rounds)).await;
        ours = kept;
        own += time.own;
        our_rates.push((at_once as u64 * rounds) as f64 / time.wall.as_secs_f64());
        their_rates.push(redis_sets_a_second(&redis, 20_000 * scale));
    }
    let (our, their) = (median(our_rates), median(their_rates));
    vec![Row {
        measure: "MESH cycles/s, 64 clients".into(),
        ours: format!("{our:.0}/s"),
        peer: format!("Redis, AOF always, {their:.0} SET/s"),
        figure: our / their,
        unit: "×",
        least: Bound::AtLeast(0.2),
        aim: Bound::AtLeast(0.5),
        own_cpu: own,
    }]
}
