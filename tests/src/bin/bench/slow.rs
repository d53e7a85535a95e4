//! Honest clients' slowest hundredth, with and without a thousand clients that hang on.

use crate::drive::Client;
use crate::{Bound, Row, median, number_from};
use std::time::{Duration, Instant};
use vertebra_tests::node::{Folder, Node};
use vertebra_tests::process::cpu;
use vertebra_tests::wire::Connection;

const HONEST: usize = 8;
const SLOW: usize = 1000;

async fn p99(node: &Node, cycles_each: u64) -> f64 {
    let target = node.target(Some(&node.identity()));
    let mut tasks = Vec::new();
    for _ in 0..HONEST {
        let mut client = Client::open(&target, &node.credentials(0), &node.credentials(1), "inbox").await;
        tasks.push(tokio::spawn(async move {
            let mut times = Vec::new();
            for _ in 0..cycles_each {
                let started = Instant::now();
                client.cycle(&[b'h'; 1024]).await;
                times.push(started.elapsed().as_secs_f64());
            }
            times
        }));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("no client panics"));
    }
    times.sort_by(f64::total_cmp);
    times[times.len() * 99 / 100]
}

async fn slow_clients(node: &Node) -> Vec<Connection> {
    let target = node.target(Some(&node.identity()));
    let mut held = Vec::new();
    for number in 0..SLOW {
        let mut connection = Connection::open(&target).await.expect("the node accepts");
        let bytes: &[u8] = match number % 2 {
            0 => b"GET /messageexchange/X26ABC1/inbox HTTP/1.1\r\nHost: a\r\nX-Slow",
            _ => b"POST /messageexchange/X26ABC1/outbox HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhalf",
        };
        connection.write(bytes).await.expect("the node reads");
        held.push(connection);
    }
    held
}

/// Measures both, in turn.
pub async fn measure() -> Vec<Row> {
    let rounds = 250 * number_from("VERTEBRA_BENCH_SCALE", 1);
    let folder = Folder::new("bench-slow");
    let node = Node::start(&folder.path().join("data"));
    p99(&node, 50).await;
    let own = cpu(std::process::id());
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        without.push(p99(&node, rounds).await);
        let held = slow_clients(&node).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        with.push(p99(&node, rounds).await);
        drop(held);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (without, with) = (median(without), median(with));
    vec![Row {
        measure: format!("p99 of a cycle beside {SLOW} slow clients"),
        ours: format!("{:.2} ms", with * 1e3),
        peer: format!("without them {:.2} ms", without * 1e3),
        figure: with / without,
        unit: "×",
        least: Bound::AtMost(2.0),
        aim: Bound::AtMost(1.2),
        own_cpu: cpu(std::process::id()) - own,
    }]
}
