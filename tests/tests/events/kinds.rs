//! The scenario of `make test`: every kind of event, a broker that is killed under load, an event that no queue takes.

use crate::{Load, PLANTED, QUIET, Sender, after_beginning, check_books, check_order, distinct, of_kind};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use vertebra_tests::mesh::WORKFLOW;
use vertebra_tests::pds::Client;
use vertebra_tests::rabbit::{Got, QUEUE, Rabbit, Subscriber};

const DAY_MS: i64 = 24 * 3600 * 1000;

#[tokio::test]
async fn events_of_every_kind_arrive_in_order_and_none_is_lost_with_the_broker() {
    let mut rabbit = Rabbit::start();
    let mut sender = Sender::start(&rabbit, &[]).await;
    let subscriber = Subscriber::connect(&rabbit.brokers[0]).await;
    let began = Instant::now();
    let beginning = after_beginning(&subscriber.take_all(QUEUE, QUIET).await);
    println!(
        "{} events of the beginning after {:?}",
        beginning.len(),
        began.elapsed()
    );

    a_message_and_a_patient(&sender, &subscriber).await;
    drop(subscriber);
    a_broker_killed_under_load(&sender, &mut rabbit).await;
    an_event_that_no_queue_takes(&mut sender, &rabbit).await;
    a_message_that_expires(&sender, &rabbit).await;
    let log = sender.node.log_text();
    for leaked in [PLANTED, "not-a-secret", "nhs_number"] {
        assert!(!log.contains(leaked), "the node's log holds {leaked}");
    }
}

/// Every member of an event is one of these, and `data` holds identifiers alone.
fn check_shape(event: &Got, data: &[&str]) {
    let object = event.json.as_object().expect("an event is an object");
    let mut members: Vec<&str> = object.keys().map(String::as_str).collect();
    members.sort_unstable();
    let expected = [
        "data",
        "datacontenttype",
        "id",
        "partitionkey",
        "sequence",
        "source",
        "specversion",
        "subject",
        "time",
        "type",
    ];
    assert_eq!(members, expected);
    let held: Vec<&str> = event.json["data"]
        .as_object()
        .expect("data")
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(held, data);
    assert_eq!(event.text("specversion"), "1.0");
    assert_eq!(event.text("id"), event.message_id);
    assert!(!event.json.to_string().contains(PLANTED));
}

async fn a_message_and_a_patient(sender: &Sender, subscriber: &Subscriber) {
    let (mut alice, mut bob) = (sender.node.mailbox(0), sender.node.mailbox(1));
    let subject = [("Mex-Subject", PLANTED), ("Mex-LocalID", PLANTED)];
    let message = alice.send(bob.id(), WORKFLOW, &subject, b"x").await;
    bob.acknowledge(&message).await;
    bob.acknowledge(&message).await;
    let number = "9000000009";
    let mut worker = Client::worker(&sender.node);
    let version = worker.read(number).await.ok(200).version();
    let births = json!([{ "op": "add", "path": "/multipleBirthInteger", "value": 2 }]);
    worker.patch(number, version, &births).await.ok(200);
    // The same people again change nothing, so they are no events.
    let got = subscriber.take_some(QUEUE, 3).await;
    for (event, kind, key) in [
        (&got[0], "arrived", "message.arrived.X26ABC2"),
        (&got[1], "acknowledged", "message.acknowledged.X26ABC2"),
    ] {
        check_shape(event, &["mailbox", "message"]);
        assert_eq!(event.text("type"), format!("mesh-message-{kind}-1"));
        assert_eq!(event.routing_key, key);
        assert_eq!(
            (event.text("subject"), event.text("partitionkey")),
            (message.as_str(), bob.id())
        );
        assert_eq!(event.json["data"], json!({ "mailbox": bob.id(), "message": message }));
    }
    check_shape(&got[2], &["nhs_number", "version"]);
    assert_eq!(got[2].routing_key, "patient.changed");
    assert_eq!(
        got[2].json["data"],
        json!({ "nhs_number": number, "version": version + 1 })
    );

    // A restriction looks like any other change; what a very restricted record goes through is told nobody.
    let restricted = sender.node.sandbox["pds"]["nhs_numbers"][40].as_str().expect("people");
    sender.ok(&["patient", "restrict", restricted]);
    sender.ok(&["patient", "restrict", restricted, "--very"]);
    let mut bob = sender.node.mailbox(1);
    let last = bob.send("X26ABC1", WORKFLOW, &[], b"x").await;
    let got = subscriber.take_some(QUEUE, 3).await;
    for (event, version) in got.iter().zip([2, 3]) {
        check_shape(event, &["nhs_number", "version"]);
        assert_eq!(
            event.json["data"],
            json!({ "nhs_number": restricted, "version": version })
        );
    }
    assert_eq!(got[2].text("subject"), last);
    sender.node.mailbox(0).acknowledge(&last).await;
    subscriber.take_some(QUEUE, 1).await;
}

async fn a_broker_killed_under_load(sender: &Sender, rabbit: &mut Rabbit) {
    let load = Load::start(&sender.node, Duration::from_millis(2));
    load.await_answered(300).await;
    rabbit.brokers[0].kill();
    load.await_answered(600).await;
    let waiting = sender.events().await["waiting"].as_u64().unwrap_or(0);
    assert!(waiting > 300, "with the broker away {waiting} events wait");
    rabbit.brokers[0].restart().await;
    let back = Instant::now();
    sender
        .await_events("events flow again", |view| view["broker"] == "publishing")
        .await;
    load.await_answered(300).await;
    let done = load.stop().await;
    sender.await_drained().await;
    println!("drained {:?} after the broker was back", back.elapsed());
    let subscriber = Subscriber::connect(&rabbit.brokers[0]).await;
    let got = subscriber.take_all(QUEUE, QUIET).await;
    let events = distinct(&got);
    println!("{} deliveries, {} events", got.len(), events.len());
    check_order(&events);
    check_books(&done, &events, 1);
    assert_eq!(of_kind(&events, "events-resync-1").count(), 0, "nothing is missing");
    let watermarks = sender.metric("vertebra_events_watermarks_total ").await;
    let confirmed = sender.metric("vertebra_events_confirmed_total ").await;
    assert!(
        watermarks < confirmed / 3.0,
        "{watermarks} watermarks for {confirmed} events"
    );
    assert_eq!(sender.metric("vertebra_events_parked ").await, 0.0);
}

async fn an_event_that_no_queue_takes(sender: &mut Sender, rabbit: &Rabbit) {
    let subscriber = Subscriber::connect(&rabbit.brokers[0]).await;
    sender.restart_with(rabbit, &["--rabbitmq-bind", "message.#"]);
    subscriber.unbind(QUEUE, "#").await;
    let number = "9000000009";
    let mut worker = Client::worker(&sender.node);
    let version = worker.read(number).await.ok(200).version();
    let births = json!([{ "op": "add", "path": "/multipleBirthInteger", "value": 1 }]);
    worker.patch(number, version, &births).await.ok(200);
    let mut alice = sender.node.mailbox(0);
    let message = alice.send("X26ABC2", WORKFLOW, &[], b"x").await;
    let got = subscriber.take_some(QUEUE, 1).await;
    assert_eq!(got[0].text("subject"), message, "what stands behind it is not held up");
    sender
        .await_events("it is parked", |view| view["parked"] == 1 && view["waiting"] == 0)
        .await;
    let parked: Value = serde_json::from_str(&sender.ok(&["events", "parked", "--json"])).expect("JSON");
    assert_eq!(
        (&parked[0]["reason"], &parked[0]["kind"]),
        (&json!("unroutable"), &json!("pds-record-change-1"))
    );
    assert!(!parked.to_string().contains(number), "whom it is about is not shown");
    let status = sender.run(&["status"]);
    let told = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        status.status.code() == Some(0) && told.contains("1 events are parked"),
        "{told}"
    );

    // It is not tried again by itself; put back, it goes where somebody wants it now.
    subscriber.queue("patients", "patient.#").await;
    assert!(sender.ok(&["events", "requeue", "--all"]).contains("1 events put back"));
    let back = subscriber.take_some("patients", 1).await;
    assert_eq!(json!(back[0].text("id")), parked[0]["id"]);
    assert_eq!(
        back[0].json["data"],
        json!({ "nhs_number": number, "version": version + 1 })
    );
    let view = sender.await_drained().await;
    assert_eq!((&view["parked"], &view["dropped"]), (&json!(0), &json!(0)));
}

async fn a_message_that_expires(sender: &Sender, rabbit: &Rabbit) {
    let subscriber = Subscriber::connect(&rabbit.brokers[0]).await;
    let (mut alice, bob) = (sender.node.mailbox(0), sender.node.mailbox(1));
    // What the load left behind is collected first, so that this one message alone expires.
    for at in 0..3 {
        let mut mailbox = sender.node.mailbox(at);
        for message in mailbox.inbox().await {
            mailbox.acknowledge(&message).await;
        }
    }
    let message = alice.send(bob.id(), WORKFLOW, &[], b"late").await;
    sender.await_drained().await;
    let before = subscriber.take_all(QUEUE, QUIET).await;
    assert_eq!(before[before.len() - 1].text("subject"), message);
    let moved = json!({ "advance_ms": 5 * DAY_MS + 1000 });
    assert_eq!(sender.node.admin("POST", "/admin/clock", &moved).await.status, 200);
    let got = subscriber.take_some(QUEUE, 2).await;
    let mut by_kind: Vec<(&str, &str)> = got
        .iter()
        .map(|event| (event.text("type"), event.text("partitionkey")))
        .collect();
    by_kind.sort_unstable();
    // The sender's report is a message that arrives.
    assert_eq!(
        by_kind,
        [
            ("mesh-message-arrived-1", "X26ABC1"),
            ("mesh-message-expired-1", "X26ABC2")
        ]
    );
    let expired = of_kind(&got, "mesh-message-expired-1").next().expect("just seen");
    assert_eq!(expired.text("subject"), message);
}

#[test]
fn a_broker_that_is_configured_wrongly_is_refused_with_what_to_do() {
    let output = std::process::Command::new(vertebra_tests::node::binary())
        .args([
            "sandbox",
            "--data",
            "/nonexistent/box",
            "--rabbitmq",
            "amqp://user:secret@10.0.0.1",
        ])
        .args(["--rabbitmq-credentials", "/nonexistent/login"])
        .output()
        .expect("the binary starts");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("rabbitmq.credentials") && !told.contains("secret"),
        "{told}"
    );
}

/// A node that has no broker and events off keeps nothing, and says so.
#[tokio::test]
async fn without_a_broker_a_node_runs_whole_and_keeps_no_events() {
    let folder = vertebra_tests::node::Folder::new("no-events");
    let node = vertebra_tests::node::Node::start(&folder.path().join("data"));
    node.mailbox(0).send("X26ABC2", WORKFLOW, &[], b"x").await;
    let view = node.admin("GET", "/admin/events", &Value::Null).await.json();
    assert_eq!(
        (&view["on"], &view["undecided"], &view["waiting"], &view["broker"]),
        (&json!(false), &json!(true), &json!(0), &json!("none"))
    );
    let status = std::process::Command::new(vertebra_tests::node::binary())
        .args(["status", "--sandbox"])
        .arg(&node.data)
        .output()
        .expect("the binary starts");
    assert_eq!(status.status.code(), Some(0), "it is healthy");
}
