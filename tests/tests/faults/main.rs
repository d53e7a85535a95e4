//! What must survive: kill -9, a power cut, a full disk, clients that hang on, an orderly stop; and what must never show.
//!
//! Each test runs a sandbox of its own. `VERTEBRA_KILL_CYCLES` and `VERTEBRA_POWER_CYCLES` set how often; a failure
//! prints its seed, and `VERTEBRA_SEED` repeats it.

mod certificates;
mod disk_full;
mod kill;
mod parsers;
mod personal;
mod power;
mod slow;
mod stop;

use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Mutex;
use vertebra_tests::books::{Findings, Lane, audit};
use vertebra_tests::node::Node;

/// A count from the environment, for soaks.
fn count_from(name: &str, default: u32) -> u32 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// The seed of this run; printed, so that a failure can be repeated.
fn seed() -> u64 {
    let given = std::env::var("VERTEBRA_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    println!("VERTEBRA_SEED={seed}");
    seed
}

/// Clients under load, and their books.
struct Load {
    lanes: HashMap<String, Arc<Mutex<Lane>>>,
    collected: HashSet<String>,
    random: StdRng,
}

const RECIPIENT: &str = "X26ABC3";

impl Load {
    fn new(lanes: usize, seed: u64) -> Load {
        let names = (0..lanes).map(|number| format!("lane-{number}"));
        Load {
            lanes: names.map(|name| (name, Arc::default())).collect(),
            collected: HashSet::new(),
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Sends on every lane until `stop`, or until the node no longer answers; gives the tasks.
    fn run(&mut self, node: &Node, stop: &Arc<AtomicBool>) -> Vec<tokio::task::JoinHandle<()>> {
        let mut tasks = Vec::new();
        for (number, (name, lane)) in self.lanes.iter().enumerate() {
            let (name, lane, stop) = (name.clone(), lane.clone(), stop.clone());
            let mut from = node.mailbox(number % 2);
            let mut random = StdRng::seed_from_u64(self.random.random());
            tasks.push(tokio::spawn(async move {
                let mut lane = lane.lock().await;
                while !stop.load(Ordering::Relaxed) {
                    // Mostly small ones, some that go to the stream of large bodies.
                    let bytes = if random.random_ratio(1, 12) {
                        40_000..600_000
                    } else {
                        1..2_000
                    };
                    let body = |_| {
                        let mut body = vec![0u8; random.random_range(bytes)];
                        random.fill(&mut body[..]);
                        body
                    };
                    if !lane.step(&name, &mut from, RECIPIENT, body).await {
                        return;
                    }
                }
            }));
        }
        tasks
    }

    /// Messages acknowledged so far.
    async fn acknowledged(&self) -> usize {
        let mut sum = 0;
        for lane in self.lanes.values() {
            sum += lane.lock().await.acknowledged.len();
        }
        sum
    }

    /// Sends again what had no answer; each must be accepted now.
    async fn settle(&mut self, node: &Node) {
        for (number, (name, lane)) in self.lanes.iter().enumerate() {
            let mut lane = lane.lock().await;
            if lane.unknown.is_none() {
                continue;
            }
            let mut from = node.mailbox(number % 2);
            let taken = lane
                .step(name, &mut from, RECIPIENT, |_| {
                    unreachable!("the unknown one goes first")
                })
                .await;
            assert!(taken, "{name}: a restarted node takes the repeated message");
        }
    }

    /// Holds the inbox against the books.
    async fn audit(&mut self, node: &Node, collect: bool) -> Findings {
        let mut lanes = HashMap::new();
        for (name, lane) in &self.lanes {
            lanes.insert(name.clone(), std::mem::take(&mut *lane.lock().await));
        }
        let findings = audit(&lanes, &mut node.mailbox(2), &mut self.collected, collect).await;
        for (name, lane) in lanes {
            *self.lanes[&name].lock().await = lane;
        }
        findings
    }
}

#[tokio::test]
async fn the_books_notice_a_lost_altered_doubled_disordered_and_resurrected_message() {
    let folder = vertebra_tests::node::Folder::new("books");
    let node = Node::start(&folder.path().join("data"));
    let mut sender = node.mailbox(0);
    let mut lane = Lane::default();
    for _ in 0..4 {
        let sent = lane
            .step("lane", &mut sender, RECIPIENT, |number| vec![number as u8; 100])
            .await;
        assert!(sent);
    }
    let mut lanes = HashMap::from([("lane".to_owned(), lane)]);
    let mut recipient = node.mailbox(2);
    let mut collected = HashSet::new();
    assert_eq!(
        audit(&lanes, &mut recipient, &mut collected, false).await,
        Findings::default()
    );

    let book = &mut lanes.get_mut("lane").expect("the lane is there").acknowledged;
    let first = book[&1].0.clone();
    book.insert(
        9,
        ("20200101000000000000_ABCDEF".into(), "a message that never was".into()),
    );
    book.insert(2, (book[&2].0.clone(), "another digest".into()));
    collected.insert(first);
    // The same number again, with another body: a message sent twice, and after later ones.
    let twice = [("Mex-LocalID", "lane/3")];
    sender
        .send(RECIPIENT, vertebra_tests::mesh::WORKFLOW, &twice, b"again")
        .await;
    let found = audit(&lanes, &mut recipient, &mut collected, false).await;
    let expected = Findings {
        lost: 1,
        altered: 2,
        duplicated: 1,
        disordered: 1,
        resurrected: 1,
    };
    assert_eq!(found, expected);
}
