//! What many waiting messages cost: a listing, memory, a restart; and idle connections.

use crate::drive::{Client, taken};
use crate::{Bound, Row, median, number_from};
use std::time::{Duration, Instant};
use vertebra_tests::node::{Folder, Node};
use vertebra_tests::process::{cpu, status_bytes};
use vertebra_tests::wire::Connection;

const IDLE_CONNECTIONS: u64 = 10_000;
const MIB: f64 = 1024.0 * 1024.0;

/// Sends until `total` messages wait.
async fn fill(node: &Node, sent: &mut u64, total: u64) {
    let target = node.target(Some(&node.identity()));
    let missing = total.saturating_sub(*sent);
    let mut tasks = Vec::new();
    for lane in 0..64 {
        let mut client = Client::open(&target, &node.credentials(0), &node.credentials(1), "inbox").await;
        let count = missing / 64 + u64::from(lane < missing % 64);
        tasks.push(tokio::spawn(async move {
            for _ in 0..count {
                client.send(&[b'w'; 64]).await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("no client panics");
    }
    *sent = total.max(*sent);
}

/// Median time of a listing, in µs, and the server's processor time of one.
async fn listing_us(node: &Node) -> (f64, f64) {
    let target = node.target(Some(&node.identity()));
    let inbox = "inbox?max_results=100";
    let mut client = Client::open(&target, &node.credentials(0), &node.credentials(1), inbox).await;
    let rounds = 2000 * number_from("VERTEBRA_BENCH_SCALE", 1);
    let mut times = Vec::new();
    let (_, time) = taken(node.pid(), async {
        for _ in 0..rounds {
            let started = Instant::now();
            client.list().await;
            times.push(started.elapsed().as_secs_f64() * 1e6);
        }
    })
    .await;
    (median(times), time.server.as_secs_f64() * 1e6 / rounds as f64)
}

async fn listing(node: &Node, sent: &mut u64) -> Row {
    let own = cpu(std::process::id());
    fill(node, sent, 100).await;
    listing_us(node).await;
    let few = listing_us(node).await;
    fill(node, sent, 100_000).await;
    listing_us(node).await;
    let many = listing_us(node).await;
    Row {
        measure: "inbox listing, 100,000 waiting".into(),
        ours: format!("{:.0} µs ({:.0} µs CPU)", many.0, many.1),
        peer: format!("100 waiting {:.0} µs ({:.0} µs CPU)", few.0, few.1),
        figure: many.0 / few.0,
        unit: "×",
        least: Bound::AtMost(1.2),
        aim: Bound::AtMost(1.05),
        own_cpu: cpu(std::process::id()) - own,
    }
}

async fn idle_connections(node: &Node) -> Row {
    let target = node.target(Some(&node.identity()));
    let own = cpu(std::process::id());
    let before = status_bytes(node.pid(), "RssAnon");
    let mut held = Vec::new();
    for _ in 0..IDLE_CONNECTIONS {
        let mut connection = Connection::open(&target).await.expect("the node accepts");
        // One request each, so that what a request needs has been taken and, if it is, given back.
        let path = "/messageexchange/_ping";
        connection
            .exchange("GET", path, &[("Host", "a")], b"")
            .await
            .expect("the node answers");
        held.push(connection);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = status_bytes(node.pid(), "RssAnon");
    let each_kib = after.saturating_sub(before) as f64 / IDLE_CONNECTIONS as f64 / 1024.0;
    Row {
        measure: "RssAnon of an idle TLS connection, 10,000 of them".into(),
        ours: format!("{each_kib:.1} KiB"),
        peer: "–".into(),
        figure: each_kib,
        unit: "KiB",
        least: Bound::AtMost(64.0),
        aim: Bound::AtMost(32.0),
        own_cpu: cpu(std::process::id()) - own,
    }
}

/// Measures what is wanted on one node that fills up.
pub async fn measure(inbox: bool, memory: bool, restart: bool) -> Vec<Row> {
    let messages = number_from("VERTEBRA_BENCH_MESSAGES", 1_000_000);
    let folder = Folder::new("bench-waiting");
    let mut node = Node::start(&folder.path().join("data"));
    let mut rows = Vec::new();
    let mut sent = 0;
    if inbox {
        rows.push(listing(&node, &mut sent).await);
    }
    if memory {
        rows.push(idle_connections(&node).await);
    }
    if !memory && !restart {
        return rows;
    }
    let own = cpu(std::process::id());
    let started = Instant::now();
    fill(&node, &mut sent, messages).await;
    println!(
        "filled to {messages} waiting messages in {:.0} s",
        started.elapsed().as_secs_f64()
    );
    if memory {
        let mib = status_bytes(node.pid(), "RssAnon") as f64 / MIB;
        rows.push(Row {
            measure: format!("RssAnon with {messages} waiting messages"),
            ours: format!("{mib:.0} MiB"),
            peer: "–".into(),
            figure: mib,
            unit: "MiB",
            least: Bound::AtMost(1024.0),
            aim: Bound::AtMost(512.0),
            own_cpu: cpu(std::process::id()) - own,
        });
    }
    if restart {
        let mut seconds = Vec::new();
        for _ in 0..3 {
            // A little load right before, so that there is something to replay.
            let total = sent + 1000;
            fill(&node, &mut sent, total).await;
            node.kill();
            node.restart();
            let ready = node.ready_after;
            let mut bob = node.mailbox(1);
            let listed = bob.call("GET", "inbox?max_results=10", &[], b"").await;
            assert_eq!(listed.status, 200, "it is ready when it says so: {}", listed.text());
            seconds.push(ready.as_secs_f64());
        }
        let figure = median(seconds);
        rows.push(Row {
            measure: format!("restart to ready after kill -9, {messages} messages"),
            ours: format!("{figure:.2} s"),
            peer: "–".into(),
            figure,
            unit: "s",
            least: Bound::AtMost(2.0),
            aim: Bound::AtMost(0.5),
            own_cpu: cpu(std::process::id()) - own,
        });
    }
    rows
}
