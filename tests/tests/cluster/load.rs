//! Senders under load that keep books, and how long none of them was served.

use crate::PATIENCE;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use vertebra_tests::books::{Findings, Lane, audit};
use vertebra_tests::cluster::{Cluster, WAIT_MAX};
use vertebra_tests::mesh::Mailbox;

const SENDER: &str = "X26LOAD";
const RECIPIENT: &str = "X26BOOKS";
/// Between two messages of one sender, and before it asks another node.
const PAUSE: Duration = Duration::from_millis(8);

/// One sender: its lane and when its messages were sent and acknowledged.
#[derive(Default)]
struct Sender {
    lane: Lane,
    acknowledged: Vec<(Instant, Instant)>,
}

/// Senders that each send one message after the other, to whichever node takes it.
pub struct Load {
    senders: Vec<(String, Arc<Mutex<Sender>>)>,
    collected: HashSet<String>,
    count: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// Registers the mailboxes.
    pub async fn new(cluster: &Cluster, senders: usize) -> Load {
        cluster.add_mailboxes(1, &[SENDER, RECIPIENT]).await;
        let senders = (0..senders).map(|number| (format!("lane-{number}"), Arc::default()));
        Load {
            senders: senders.collect(),
            collected: HashSet::new(),
            count: Arc::default(),
            stop: Arc::default(),
            tasks: Vec::new(),
        }
    }

    /// Sends until [`Load::stop`], each sender to another of these nodes first.
    pub fn start(&mut self, cluster: &Cluster, nodes: &[u64]) {
        self.stop = Arc::default();
        for (number, (name, sender)) in self.senders.iter().enumerate() {
            let mut doors: Vec<Mailbox> = nodes.iter().map(|&id| cluster.mailbox(id, SENDER)).collect();
            let (name, sender, stop, count) = (name.clone(), sender.clone(), self.stop.clone(), self.count.clone());
            self.tasks.push(tokio::spawn(async move {
                let mut sender = sender.lock().await;
                let mut at = number;
                while !stop.load(Ordering::Relaxed) {
                    let door = at % doors.len();
                    match sender.step(&name, &mut doors[door]).await {
                        true => drop(count.fetch_add(1, Ordering::Relaxed)),
                        false => at += 1,
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }));
        }
    }

    /// Lets everybody finish; no sender may have panicked.
    pub async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await.expect("no sender panics");
        }
    }

    /// Sends again what had no answer; each must be accepted within a deadline.
    pub async fn settle(&mut self, cluster: &Cluster, through: u64) {
        for (name, sender) in &self.senders {
            let mut sender = sender.lock().await;
            let mut door = cluster.mailbox(through, SENDER);
            let started = Instant::now();
            while sender.lane.unknown.is_some() && !sender.step(name, &mut door).await {
                assert!(
                    started.elapsed() < WAIT_MAX,
                    "{name} is not served\n{}",
                    cluster.log_tails()
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Messages acknowledged so far while the load ran.
    pub fn acknowledged_now(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Messages acknowledged so far in all. While nobody sends.
    pub async fn acknowledged(&self) -> usize {
        let mut sum = 0;
        for (_, sender) in &self.senders {
            sum += sender.lock().await.lane.acknowledged.len();
        }
        sum
    }

    /// Holds the inbox, as a node tells it, against the books, and collects it.
    pub async fn audit(&mut self, cluster: &Cluster, through: u64) -> Findings {
        let mut lanes = HashMap::new();
        for (name, sender) in &self.senders {
            lanes.insert(name.clone(), std::mem::take(&mut sender.lock().await.lane));
        }
        let mut recipient = cluster.mailbox(through, RECIPIENT);
        let findings = audit(&lanes, &mut recipient, &mut self.collected, true).await;
        for (name, sender) in &self.senders {
            sender.lock().await.lane = lanes.remove(name).expect("it was put there");
        }
        findings
    }

    /// From `fault` until the first message that was sent after it was acknowledged; `None`: there is none. While nobody
    /// sends.
    pub async fn outage(&self, fault: Instant) -> Option<Duration> {
        let mut first: Option<Instant> = None;
        for (_, sender) in &self.senders {
            let sender = sender.lock().await;
            let after = sender.acknowledged.iter().filter(|(sent, _)| *sent > fault);
            let own = after.map(|(_, acknowledged)| *acknowledged).min();
            first = first.into_iter().chain(own).min();
        }
        first.map(|acknowledged| acknowledged - fault)
    }
}

impl Sender {
    async fn step(&mut self, name: &str, door: &mut Mailbox) -> bool {
        let sent = Instant::now();
        let body = |number: u64| format!("{name}/{number}").into_bytes();
        let step = self.lane.step(name, door, RECIPIENT, body);
        let taken = tokio::time::timeout(PATIENCE, step).await == Ok(true);
        if taken {
            self.acknowledged.push((sent, Instant::now()));
        }
        taken
    }
}

/// The middle and the largest of these, for people.
pub fn middle_and_largest(mut outages: Vec<Duration>) -> String {
    outages.sort_unstable();
    match outages.as_slice() {
        [] => "none".to_owned(),
        all => format!("p50 {:?}, max {:?}", all[all.len() / 2], all[all.len() - 1]),
    }
}
