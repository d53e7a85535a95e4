//! Events to a real RabbitMQ: each at least once and in order for its key, whatever becomes of the broker; clients notice
//! nothing.
//!
//! One scenario is part of `make test`; those that take minutes are `#[ignore]`d and part of `make soak`. Each starts its
//! brokers from Debian's package, in a folder and on ports of its own.

mod kinds;
mod long;

use serde_json::{Value, json};
use std::collections::HashMap;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use vertebra_tests::mesh::WORKFLOW;
use vertebra_tests::node::{Folder, Node, binary};
use vertebra_tests::pds::Client;
use vertebra_tests::rabbit::{Got, Rabbit};

/// Longest wait for the outbox to drain: it only catches hangs.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(120);
/// So long without an event, a queue counts as empty.
const QUIET: Duration = Duration::from_secs(3);
/// Slowest answer that a client may get while a broker is away: a hang, not a slow disk.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// A sandbox whose events go to `rabbit`.
struct Sender {
    node: Node,
    folder: Folder,
}

impl Sender {
    /// Started with more arguments, and switched on: the resync event of the beginning is waited for and dropped by
    /// [`after_beginning`].
    async fn start(rabbit: &Rabbit, more: &[&str]) -> Sender {
        let folder = Folder::new("events");
        let node = start_node(&folder, rabbit, more);
        let sender = Sender { node, folder };
        sender.ok(&["client", "set", "sandbox-app", "--rate", "100000"]);
        sender.await_drained().await;
        sender
    }

    /// Ends the node in order and starts it with other arguments on the same data.
    fn restart_with(&mut self, rabbit: &Rabbit, more: &[&str]) {
        assert!(self.node.terminate().success(), "an orderly stop");
        self.node = start_node(&self.folder, rabbit, more);
    }

    /// Runs `vertebra` on this sandbox.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--sandbox").arg(&self.node.data);
        command.output().expect("the binary starts")
    }

    /// The same, which must succeed; gives what it prints.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// What operators see of events.
    async fn events(&self) -> Value {
        let answer = self.node.admin("GET", "/admin/events", &Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Waits until operators see what `holds` of events.
    async fn await_events(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let view = self.events().await;
            if holds(&view) {
                return view;
            }
            assert!(
                started.elapsed() < DRAIN_WAIT_MAX,
                "waited in vain until {what}: {view}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until nothing waits any more.
    async fn await_drained(&self) -> Value {
        self.await_events("the outbox has drained", |view| {
            view["on"] == true && view["waiting"] == 0 && view["gap_events"].is_null()
        })
        .await
    }

    /// A figure of the metrics page.
    async fn metric(&self, name: &str) -> f64 {
        let page = self.node.admin("GET", "/metrics", &Value::Null).await.text();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        line.unwrap_or_else(|| panic!("the metrics page has {name}"))
    }
}

fn start_node(folder: &Folder, rabbit: &Rabbit, more: &[&str]) -> Node {
    let mut arguments = rabbit.arguments();
    arguments.extend(more.iter().map(|&text| text.to_owned()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Node::start_with(&folder.path().join("data"), &arguments)
}

/// What a load did: the only truth that the events are held against.
#[derive(Default)]
struct Done {
    /// Messages in order of their answers, per recipient.
    sent: HashMap<String, Vec<String>>,
    /// Acknowledged messages.
    acknowledged: Vec<String>,
    /// The last version of each patient.
    versions: HashMap<String, u32>,
    /// The slowest answer.
    slowest: Duration,
}

/// A load of messages, acknowledgements and changes of patients, until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    /// How many calls were answered.
    answered: Arc<AtomicU32>,
    tasks: Vec<JoinHandle<Done>>,
}

impl Load {
    /// Two mailboxes send to the third, which acknowledges; two patients change. `pause` lies between two calls of each.
    fn start(node: &Node, pause: Duration) -> Load {
        let load = Load {
            stop: Arc::default(),
            answered: Arc::default(),
            tasks: Vec::new(),
        };
        let numbers = node.sandbox["pds"]["nhs_numbers"].as_array().expect("people");
        let people = numbers.iter().rev().take(2).filter_map(Value::as_str);
        let mut tasks: Vec<JoinHandle<Done>> = people.map(|number| load.change(node, number, pause)).collect();
        tasks.extend([
            load.send(node, 0, pause),
            load.send(node, 1, pause),
            load.collect(node, pause),
        ]);
        Load { tasks, ..load }
    }

    fn send(&self, node: &Node, from: usize, pause: Duration) -> JoinHandle<Done> {
        let (stop, answered) = (self.stop.clone(), self.answered.clone());
        let (mut sender, to) = (node.mailbox(from), node.credentials(2).mailbox);
        tokio::spawn(async move {
            let mut done = Done::default();
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                let message = sender.send(&to, WORKFLOW, &[("Mex-Subject", PLANTED)], b"body").await;
                done.slowest = done.slowest.max(began.elapsed());
                done.sent.entry(to.clone()).or_default().push(message);
                answered.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(pause).await;
            }
            done
        })
    }

    fn collect(&self, node: &Node, pause: Duration) -> JoinHandle<Done> {
        let (stop, answered) = (self.stop.clone(), self.answered.clone());
        let mut recipient = node.mailbox(2);
        tokio::spawn(async move {
            let mut done = Done::default();
            while !stop.load(Ordering::Relaxed) {
                for message in recipient.inbox().await.into_iter().take(20) {
                    let began = Instant::now();
                    recipient.acknowledge(&message).await;
                    done.slowest = done.slowest.max(began.elapsed());
                    done.acknowledged.push(message);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                tokio::time::sleep(pause).await;
            }
            done
        })
    }

    fn change(&self, node: &Node, number: &str, pause: Duration) -> JoinHandle<Done> {
        let (stop, answered) = (self.stop.clone(), self.answered.clone());
        let (mut worker, number) = (Client::worker(node), number.to_owned());
        tokio::spawn(async move {
            let mut done = Done::default();
            let mut version = worker.read(&number).await.ok(200).version();
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                let births = json!([{ "op": "add", "path": "/multipleBirthInteger", "value": 1 + version % 2 }]);
                version = worker.patch(&number, version, &births).await.ok(200).version();
                done.slowest = done.slowest.max(began.elapsed());
                answered.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(pause).await;
            }
            done.versions.insert(number, version);
            done
        })
    }

    /// Waits until so many calls were answered.
    async fn await_answered(&self, count: u32) {
        let (started, goal) = (Instant::now(), self.answered.load(Ordering::Relaxed) + count);
        while self.answered.load(Ordering::Relaxed) < goal {
            assert!(started.elapsed() < DRAIN_WAIT_MAX, "the load goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it; every call was answered as it should, or this panics.
    async fn stop(self) -> Done {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Done::default();
        for task in self.tasks {
            let done = task.await.expect("every call of the load succeeds");
            for (to, messages) in done.sent {
                all.sent.entry(to).or_default().extend(messages);
            }
            all.acknowledged.extend(done.acknowledged);
            all.versions.extend(done.versions);
            all.slowest = all.slowest.max(done.slowest);
        }
        assert!(all.slowest < ANSWER_WAIT_MAX, "a client waited {:?}", all.slowest);
        all
    }
}

/// What no event may ever hold.
const PLANTED: &str = "Planted-Subject-7f3a";

/// Each event once, by its first sight. What is seen twice must be the same both times.
fn distinct(got: &[Got]) -> Vec<Got> {
    let mut seen: HashMap<String, Value> = HashMap::new();
    let mut first = Vec::new();
    for event in got {
        match seen.insert(event.text("id").to_owned(), event.json.clone()) {
            None => first.push(event.clone()),
            Some(before) => assert_eq!(before, event.json, "one identifier, one event"),
        }
    }
    first
}

/// The events of `kind`.
fn of_kind<'a>(events: &'a [Got], kind: &'a str) -> impl Iterator<Item = &'a Got> {
    events.iter().filter(move |event| event.text("type") == kind)
}

/// Events of each key are first seen in the order in which they happened.
fn check_order(events: &[Got]) {
    let mut last: HashMap<&str, &str> = HashMap::new();
    for event in events {
        let (key, sequence) = (event.text("partitionkey"), event.text("sequence"));
        let before = last.insert(key, sequence).unwrap_or("");
        assert!(before < sequence, "order of one key: {before} before {sequence}");
    }
}

fn sorted(mut all: Vec<&str>) -> Vec<&str> {
    all.sort_unstable();
    all
}

/// What the load did is what the events say, no more and no less.
fn check_books(done: &Done, events: &[Got], versions_before: u32) {
    let named = |kind| -> Vec<&str> {
        of_kind(events, kind)
            .map(|event| event.json["data"]["message"].as_str().unwrap_or(""))
            .collect()
    };
    let sent: Vec<&str> = done.sent.values().flatten().map(String::as_str).collect();
    assert_eq!(sorted(named("mesh-message-arrived-1")), sorted(sent), "arrivals");
    let acknowledged: Vec<&str> = done.acknowledged.iter().map(String::as_str).collect();
    assert_eq!(
        sorted(named("mesh-message-acknowledged-1")),
        sorted(acknowledged),
        "acknowledgements"
    );
    for (number, &version) in &done.versions {
        let seen: Vec<u64> = of_kind(events, "pds-record-change-1")
            .filter(|event| event.text("subject") == number)
            .filter_map(|event| event.json["data"]["version"].as_u64())
            .collect();
        let expected: Vec<u64> = (u64::from(versions_before) + 1..=u64::from(version)).collect();
        assert_eq!(seen, expected, "each version of a record, in order");
    }
}

/// The events behind the resync event that every subscription begins with, and without those of the seeded people.
fn after_beginning(got: &[Got]) -> Vec<Got> {
    let events = distinct(got);
    assert_eq!(events[0].text("type"), "events-resync-1", "{:?}", events[0]);
    assert_eq!(events[0].json["data"]["cause"], "switched-on");
    events
}
