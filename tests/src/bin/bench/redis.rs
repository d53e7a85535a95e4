//! What Redis costs a read of message exchange: two nodes in turn, one beside a Redis that claims each token, one alone.

use crate::drive::{Client, lists, taken};
use crate::{Bound, Row, median, number_from};
use std::time::Duration;
use vertebra_tests::node::{Folder, Node};
use vertebra_tests::process::cpu;
use vertebra_tests::redis::Redis;

/// Clients at once.
const AT_ONCE: u64 = 64;
const ROUNDS: usize = 5;

/// What a read took in one round, µs of the node and of Redis, and reads a second.
struct Reached {
    node_us: f64,
    redis_us: f64,
    rate: f64,
}

/// Measures.
pub async fn measure() -> Vec<Row> {
    let rounds = 300 * number_from("VERTEBRA_BENCH_SCALE", 1);
    let mut redis = Redis::start();
    redis.servers[0].set("appendfsync", "everysec");
    let folder = Folder::new("bench-redis");
    let beside = redis.arguments();
    let beside: Vec<&str> = beside.iter().map(String::as_str).collect();
    let nodes = [
        Node::start(&folder.path().join("alone")),
        Node::start_with(&folder.path().join("beside"), &beside),
    ];
    let mut clients = Vec::new();
    for node in &nodes {
        let target = node.target(Some(&node.identity()));
        let (alice, bob) = (node.credentials(0), node.credentials(1));
        let mut some = Vec::new();
        for _ in 0..AT_ONCE {
            some.push(Client::open(&target, &alice, &bob, "inbox").await);
        }
        clients.push(lists(some, rounds / 3).await);
    }
    let mut reached = [Vec::new(), Vec::new()];
    let mut own_cpu = Duration::ZERO;
    for _ in 0..ROUNDS {
        for at in 0..2 {
            let some = std::mem::take(&mut clients[at]);
            let before = cpu(redis.servers[0].pid());
            let (some, time) = taken(nodes[at].pid(), lists(some, rounds)).await;
            clients[at] = some;
            own_cpu += time.own;
            let reads = (AT_ONCE * rounds) as f64;
            reached[at].push(Reached {
                node_us: time.server.as_secs_f64() * 1e6 / reads,
                redis_us: (cpu(redis.servers[0].pid()) - before).as_secs_f64() * 1e6 / reads,
                rate: reads / time.wall.as_secs_f64(),
            });
        }
    }
    let of = |at: usize, figure: fn(&Reached) -> f64| median(reached[at].iter().map(figure).collect());
    let (alone, with) = (of(0, |one| one.node_us), of(1, |one| one.node_us));
    let claimed = nodes[1].admin("GET", "/metrics", &serde_json::Value::Null).await.text();
    let counted: Vec<&str> = claimed
        .lines()
        .filter(|line| line.starts_with("vertebra_redis_nonces"))
        .collect();
    println!("{}", counted.join("; "));
    vec![Row {
        measure: format!("GET inbox, what Redis costs, CPU of the node, {AT_ONCE} clients"),
        ours: format!(
            "{with:.1} µs ({:.0}/s), and of Redis {:.1} µs",
            of(1, |one| one.rate),
            of(1, |one| one.redis_us)
        ),
        peer: format!("without {alone:.1} µs ({:.0}/s)", of(0, |one| one.rate)),
        figure: with / alone,
        unit: "×",
        least: Bound::Told,
        aim: Bound::Told,
        own_cpu,
    }]
}
