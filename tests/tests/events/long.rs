//! Brokers that are away for long, silent, full, or change their leader: part of `make soak`.

use crate::{Load, QUIET, Sender, after_beginning, check_books, check_order, distinct, of_kind};
use serde_json::json;
use std::time::{Duration, Instant};
use vertebra_tests::mesh::WORKFLOW;
use vertebra_tests::pds::Client;
use vertebra_tests::rabbit::{QUEUE, Rabbit, Subscriber};

/// Threads of a process.
fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// A broker, a node that is connected, and the first events taken out of the way.
async fn begin(brokers: usize) -> (Rabbit, Sender) {
    let rabbit = Rabbit::cluster(brokers);
    let sender = Sender::start(&rabbit, &[]).await;
    let subscriber = Subscriber::connect(&rabbit.brokers[0]).await;
    after_beginning(&subscriber.take_all(QUEUE, QUIET).await);
    (rabbit, sender)
}

#[tokio::test]
#[ignore = "long: part of `make soak`"]
async fn an_outbox_at_its_bound_gives_one_gap_and_one_resync() {
    let (mut rabbit, sender) = begin(1).await;
    sender.ok(&["events", "on", "--events-max", "320"]);
    rabbit.brokers[0].kill();
    let mut alice = sender.node.mailbox(0);
    let mut sent = Vec::new();
    for _ in 0..1_000 {
        sent.push(alice.send("X26ABC3", WORKFLOW, &[], b"x").await);
    }
    let view = sender.events().await;
    let (waiting, missing) = (
        view["waiting"].as_u64().unwrap_or(0),
        view["gap_events"].as_u64().unwrap_or(0),
    );
    assert!(waiting <= 320 && waiting + missing == 1_000, "{view}");
    rabbit.brokers[0].restart().await;
    sender.await_drained().await;
    let subscriber = Subscriber::connect(&rabbit.brokers[0]).await;
    let events = distinct(&subscriber.take_all(QUEUE, QUIET).await);
    let resyncs: Vec<_> = of_kind(&events, "events-resync-1").collect();
    assert_eq!(resyncs.len(), 1, "one gap, one resync");
    assert_eq!(events[0].text("type"), "events-resync-1", "and it comes first");
    assert_eq!(resyncs[0].json["data"]["cause"], "outbox-full");
    assert_eq!(resyncs[0].json["data"]["events_missing"], missing);
    let arrived: Vec<&str> = of_kind(&events, "mesh-message-arrived-1")
        .map(|event| event.text("subject"))
        .collect();
    assert_eq!(
        arrived,
        sent[missing as usize..],
        "what is not missing is there, in order"
    );
    assert!(
        sender.node.log_text().contains("subscribers are told to read again"),
        "the gap is in the node's log"
    );
}

#[tokio::test]
#[ignore = "long: part of `make soak`"]
async fn a_broker_that_stands_still_holds_up_nobody_and_leaves_no_threads_behind() {
    let (rabbit, sender) = begin(1).await;
    let before = threads(sender.node.pid());
    let load = Load::start(&sender.node, Duration::from_millis(10));
    load.await_answered(200).await;
    rabbit.brokers[0].freeze(true);
    let frozen = Instant::now();
    // Longer than heartbeats, confirms and the wait for an answer take to be given up, so that connecting is tried often.
    while frozen.elapsed() < Duration::from_secs(150) {
        load.await_answered(50).await;
    }
    let meanwhile = threads(sender.node.pid());
    assert!(meanwhile <= before + 3, "{meanwhile} threads, {before} before");
    rabbit.brokers[0].freeze(false);
    let back = Instant::now();
    let done = load.stop().await;
    sender.await_drained().await;
    println!("drained {:?} after the broker went on", back.elapsed());
    let subscriber = Subscriber::connect(&rabbit.brokers[0]).await;
    let events = distinct(&subscriber.take_all(QUEUE, QUIET).await);
    check_order(&events);
    check_books(&done, &events, 1);
}

#[tokio::test]
#[ignore = "long: part of `make soak`"]
async fn a_broker_with_an_alarm_is_waited_for() {
    let (rabbit, sender) = begin(1).await;
    let load = Load::start(&sender.node, Duration::from_millis(5));
    load.await_answered(100).await;
    rabbit.brokers[0]
        .control(&["set_vm_memory_high_watermark", "absolute", "1MB"])
        .await;
    sender
        .await_events("the broker blocks", |view| view["broker"] == "blocked")
        .await;
    let lost = sender.metric("vertebra_events_sessions_lost_total ").await;
    load.await_answered(500).await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    let view = sender.events().await;
    assert_eq!(view["broker"], "blocked", "{view}");
    assert_eq!(
        sender.metric("vertebra_events_sessions_lost_total ").await,
        lost,
        "the connection stays"
    );
    let status = sender.ok(&["status"]);
    assert!(
        status.contains("RabbitMQ takes no events (blocked)"),
        "healthy, and worth a look: {status}"
    );
    rabbit.brokers[0]
        .control(&["set_vm_memory_high_watermark", "0.4"])
        .await;
    let done = load.stop().await;
    sender.await_drained().await;
    let subscriber = Subscriber::connect(&rabbit.brokers[0]).await;
    let events = distinct(&subscriber.take_all(QUEUE, QUIET).await);
    check_order(&events);
    check_books(&done, &events, 1);
}

#[tokio::test]
#[ignore = "long: part of `make soak`"]
async fn three_brokers_fail_over_and_no_event_is_lost() {
    let (mut rabbit, sender) = begin(3).await;
    let load = Load::start(&sender.node, Duration::from_millis(5));
    for round in 0..6 {
        load.await_answered(200).await;
        let victim = round % 3;
        rabbit.brokers[victim].kill();
        let killed = Instant::now();
        load.await_answered(200).await;
        // Two of three are a quorum: events flow while the third is away.
        let confirmed = sender.metric("vertebra_events_confirmed_total ").await;
        loop {
            if sender.metric("vertebra_events_confirmed_total ").await > confirmed {
                break;
            }
            assert!(killed.elapsed() < Duration::from_secs(90), "{}", sender.events().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        println!("round {round}: events flow {:?} after the kill", killed.elapsed());
        rabbit.brokers[victim].restart().await;
    }
    let done = load.stop().await;
    sender.await_drained().await;
    let subscriber = Subscriber::connect(&rabbit.brokers[0]).await;
    let got = subscriber.take_all(QUEUE, Duration::from_secs(10)).await;
    let events = distinct(&got);
    println!("{} deliveries, {} events", got.len(), events.len());
    check_order(&events);
    check_books(&done, &events, 1);
}

#[tokio::test]
#[ignore = "long: part of `make soak`"]
async fn an_event_that_one_queue_refuses_is_parked_and_others_go_on() {
    let (rabbit, sender) = begin(1).await;
    let subscriber = Subscriber::connect(&rabbit.brokers[0]).await;
    subscriber.queue("full", "patient.#").await;
    let policy = r#"{"max-length":1,"overflow":"reject-publish"}"#;
    rabbit.brokers[0]
        .control(&["set_policy", "full", "^full$", policy, "--apply-to", "queues"])
        .await;
    let number = "9000000009";
    let mut worker = Client::worker(&sender.node);
    let mut alice = sender.node.mailbox(0);
    let mut version = worker.read(number).await.ok(200).version();
    let mut sent = Vec::new();
    for _ in 0..8 {
        let births = json!([{ "op": "add", "path": "/multipleBirthInteger", "value": 1 + version % 2 }]);
        version = worker.patch(number, version, &births).await.ok(200).version();
        sent.push(alice.send("X26ABC3", WORKFLOW, &[], b"x").await);
    }
    let view = sender.await_drained().await;
    assert!(view["parked"].as_u64().unwrap_or(0) >= 1, "{view}");
    let parked = sender.ok(&["events", "parked"]);
    assert!(parked.contains("refused"), "{parked}");
    let events = distinct(&subscriber.take_all(QUEUE, QUIET).await);
    let arrived: Vec<&str> = of_kind(&events, "mesh-message-arrived-1")
        .map(|event| event.text("subject"))
        .collect();
    assert_eq!(arrived, sent);
    // With room in that queue they go out, put back by an operator.
    rabbit.brokers[0].control(&["clear_policy", "full"]).await;
    sender.ok(&["events", "requeue", "--all"]);
    let view = sender.await_drained().await;
    assert_eq!(view["parked"], 0);
    let taken = distinct(&subscriber.take_all("full", QUIET).await);
    assert_eq!(taken.len(), 8, "each of the patient's events is there in the end");
}
