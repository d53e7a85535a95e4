//! How fast the outbox drains to RabbitMQ, beside a program that does nothing but publish to a quorum queue with confirms:
//! the same broker, exchange, payload, properties and window, in turns.

use crate::drive::Client;
use crate::{Bound, Row, median, number_from};
use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueuePurgeOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, PublisherConfirm};
use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use vertebra_tests::node::{Folder, Node};
use vertebra_tests::process::cpu;
use vertebra_tests::rabbit::{EXCHANGE, QUEUE, Rabbit, Subscriber};

const ROUNDS: usize = 5;
const EVENTS: u64 = 40_000;
/// As the node's publisher.
const WINDOW: usize = 2_048;
const PAGE: usize = 128;
/// Longest wait for anything: it only catches hangs.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Sends so many messages, each one event, while no broker is there.
async fn fill(node: &Node, events: u64) {
    let target = node.target(Some(&node.identity()));
    let mut tasks = Vec::new();
    for _ in 0..64 {
        let mut client = Client::open(&target, &node.credentials(0), &node.credentials(1), "inbox").await;
        tasks.push(tokio::spawn(async move {
            for _ in 0..events / 64 {
                client.send(&[b'w'; 64]).await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("no client panics");
    }
}

/// What operators see of events: how many wait, and whether they flow.
async fn look(node: &Node) -> (u64, bool) {
    let answer = node.admin("GET", "/admin/events", &serde_json::Value::Null).await;
    let view = answer.json();
    (view["waiting"].as_u64().unwrap_or(0), view["broker"] == "publishing")
}

/// From then on the queue is there too.
async fn await_publishing(node: &Node) {
    let waited = Instant::now();
    while !look(node).await.1 {
        assert!(waited.elapsed() < WAIT_MAX, "the node finds the broker");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Events a second from the connection until nothing waits.
async fn drain(node: &Node, rabbit: &mut Rabbit, events: u64) -> f64 {
    rabbit.brokers[0].kill();
    fill(node, events).await;
    let (waiting, _) = look(node).await;
    rabbit.brokers[0].restart().await;
    // The broker has other things to do in its first seconds.
    let straight = Straight::open(rabbit).await;
    drop(straight);
    await_publishing(node).await;
    let started = Instant::now();
    while look(node).await.0 > 0 {
        assert!(started.elapsed() < WAIT_MAX, "the outbox drains");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    waiting as f64 / started.elapsed().as_secs_f64()
}

/// A program that only publishes, without TLS.
struct Straight {
    channel: Channel,
    _connection: Connection,
}

impl Straight {
    async fn open(rabbit: &Rabbit) -> Straight {
        let opened = Connection::connect(&rabbit.brokers[0].url(), ConnectionProperties::default()).await;
        let connection = opened.expect("the broker serves");
        let channel = connection.create_channel().await.expect("a channel");
        let confirms = channel.confirm_select(ConfirmSelectOptions::default()).await;
        confirms.expect("confirms");
        Straight {
            channel,
            _connection: connection,
        }
    }

    /// Events a second from the first to the last confirm.
    async fn publish(&self, body: &[u8], events: u64) -> f64 {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_secs());
        // As events have them: without an identifier no subscriber could tell what came twice.
        let properties = |number: usize| {
            BasicProperties::default()
                .with_content_type("application/cloudevents+json".into())
                .with_delivery_mode(2)
                .with_message_id(format!("{number:016x}-00000000-{seconds:012x}").into())
                .with_type("mesh-message-arrived-1".into())
                .with_timestamp(seconds)
                .with_app_id("bench".into())
        };
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let started = Instant::now();
        let mut waiting: VecDeque<PublisherConfirm> = VecDeque::new();
        let mut left = events as usize;
        while left > 0 || !waiting.is_empty() {
            let now = left.min(WINDOW - waiting.len()).min(PAGE);
            let handed = (left - now..left).map(|number| {
                let key = "message.arrived.X26ABC2".into();
                self.channel
                    .basic_publish(EXCHANGE.into(), key, options, body, properties(number))
            });
            for confirm in join_all(handed).await {
                waiting.push_back(confirm.expect("the broker takes it"));
            }
            left -= now;
            while waiting.len() + PAGE > WINDOW || (left == 0 && !waiting.is_empty()) {
                let confirm = waiting.pop_front().expect("some wait");
                let confirmed = confirm.await.expect("the broker answers");
                assert!(matches!(confirmed, Confirmation::Ack(None)), "{confirmed:?}");
            }
        }
        events as f64 / started.elapsed().as_secs_f64()
    }
}

/// Both in turns, on one broker: first as alike as they can be, then with the node's TLS, which brokers pay for too.
pub async fn measure() -> Vec<Row> {
    vec![
        beside(false, Bound::AtLeast(0.8), Bound::AtLeast(1.0)).await,
        beside(true, Bound::AtLeast(0.8), Bound::AtLeast(1.0)).await,
    ]
}

async fn beside(tls: bool, least: Bound, aim: Bound) -> Row {
    let events = EVENTS * number_from("VERTEBRA_BENCH_SCALE", 1);
    let mut rabbit = Rabbit::start();
    let folder = Folder::new("bench-events");
    let arguments = match tls {
        true => rabbit.arguments(),
        false => rabbit.plain_arguments(),
    };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let node = Node::start_with(&folder.path().join("data"), &arguments);
    let body = {
        await_publishing(&node).await;
        let subscriber = Subscriber::connect(&rabbit.brokers[0]).await;
        node.mailbox(0).send("X26ABC2", "VERTEBRA_TEST", &[], b"x").await;
        let got = subscriber.take_all(QUEUE, Duration::from_secs(3)).await;
        let arrived = got.iter().find(|event| event.text("type") == "mesh-message-arrived-1");
        arrived.expect("an event of the kind that is measured").json.to_string()
    };
    let own = cpu(std::process::id());
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let drained = drain(&node, &mut rabbit, events).await;
        let straight = Straight::open(&rabbit).await;
        purge(&straight.channel).await;
        let published = straight.publish(body.as_bytes(), events).await;
        purge(&straight.channel).await;
        println!("events, TLS {tls}, round {round}: outbox {drained:.0}/s, straight {published:.0}/s");
        ours.push(drained);
        peers.push(published);
    }
    let ratios = ours.iter().zip(&peers).map(|(ours, peer)| ours / peer).collect();
    let over = if tls {
        "over TLS, the peer without"
    } else {
        "without TLS"
    };
    Row {
        measure: format!("outbox to a quorum queue {over}, {events} events, drained with watermarks in the log"),
        ours: format!("{:.0} events/s", median(ours)),
        peer: format!("publishing straight, {:.0}/s", median(peers)),
        figure: median(ratios),
        unit: "×",
        least,
        aim,
        own_cpu: cpu(std::process::id()) - own,
    }
}

async fn purge(channel: &Channel) {
    let purged = channel.queue_purge(QUEUE.into(), QueuePurgeOptions::default()).await;
    purged.expect("the queue is there");
}
