//! A cluster that gets into trouble: what can happen to it at random, and what its operators do about it.
//!
//! One thing happens at a time and is over before the next begins, but for damage on a disk: that stays until it is mended
//! or its node replaced, and no second node gets any meanwhile, because what a majority had must be somewhere.

use crate::SITES;
use crate::clients::Clients;
use rand::seq::IndexedRandom;
use rand::{Rng, rngs::StdRng};
use std::process::Output;
use std::time::{Duration, Instant};
use vertebra_tests::cluster::{Cluster, WAIT_MAX, leader, roles};
use vertebra_tests::disk::flip_bits;

/// Between faults, and how long one lasts.
const PAUSE_MS: std::ops::Range<u64> = 200..700;
const LASTS_MS: std::ops::Range<u64> = 200..2_500;
/// The same of one that a node must first notice: before it reads on with an age, before it knows that its clock is off.
const ALONE_MS: std::ops::Range<u64> = 2_500..5_000;
const OFF_MS: std::ops::Range<u64> = 200..4_000;
/// How far a clock jumps, either way: too little to be noticed, enough for peers to notice, more than a node takes for
/// slow adjustment. Less than what clients prove themselves with is good for.
const JUMPS_S: [std::ops::Range<i64>; 3] = [1..5, 6..500, 700..3_000];
/// Blocks with a bit turned over, at once.
const FLIPS: std::ops::RangeInclusive<usize> = 1..=8;
/// What a node says that ends because of damage on its disk: at its opening, and when it leads and cannot send on what
/// another one lacks.
const CANNOT_OPEN: &str = "restore this node from a peer";
const CANNOT_SEND: &str = "raft stopped after a storage error";
/// A node that ended so often because of damage is replaced, also if it opens once more.
const ENDS_MAX: u32 = 3;
/// Beyond this number another cluster is made: a network has no more places.
const NUMBER_MAX: u64 = 150;

/// What happens to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill,
    KillAll,
    PowerCut,
    PowerCutOfAll,
    Pause,
    PauseLeader,
    Isolate,
    IsolateLeader,
    PartPair,
    PartOneWay,
    Throttle,
    Drain,
    Restart,
    DiskFull,
    ClockJump,
    ClockJumpOfLeader,
    StartWithWrongClock,
    BitFlips,
    Replace,
    ReplaceLeader,
    ReplaceWhileLeaderDies,
}

/// All kinds.
pub const FAULTS: [Fault; 21] = [
    Fault::Kill,
    Fault::KillAll,
    Fault::PowerCut,
    Fault::PowerCutOfAll,
    Fault::Pause,
    Fault::PauseLeader,
    Fault::Isolate,
    Fault::IsolateLeader,
    Fault::PartPair,
    Fault::PartOneWay,
    Fault::Throttle,
    Fault::Drain,
    Fault::Restart,
    Fault::DiskFull,
    Fault::ClockJump,
    Fault::ClockJumpOfLeader,
    Fault::StartWithWrongClock,
    Fault::BitFlips,
    Fault::Replace,
    Fault::ReplaceLeader,
    Fault::ReplaceWhileLeaderDies,
];

/// A cluster and what is the matter with it.
pub struct Trouble {
    pub cluster: Cluster,
    /// Kinds that come before any comes twice.
    left: Vec<Fault>,
    /// Who may have damage on its disk, and how often it ended of it.
    damaged: Option<(u64, u32)>,
    /// The number of who comes next.
    next: u64,
}

impl Trouble {
    pub async fn new() -> Trouble {
        Trouble {
            cluster: Cluster::new("histories").on_disks().with_clocks().formed(&SITES).await,
            left: Vec::new(),
            damaged: None,
            next: SITES.len() as u64 + 1,
        }
    }

    /// The same cluster, or a new one when numbers run out.
    pub async fn or_new(mut self) -> Trouble {
        if self.next <= NUMBER_MAX {
            return self;
        }
        let left = std::mem::take(&mut self.left);
        // Its network goes before another one comes.
        drop(self);
        Trouble {
            left,
            ..Trouble::new().await
        }
    }

    /// Lets something happen, and its end come. Gives what.
    pub async fn strike(&mut self, clients: &Clients, random: &mut StdRng) -> Fault {
        tokio::time::sleep(Duration::from_millis(random.random_range(PAUSE_MS))).await;
        self.tend(clients, random).await;
        if self.left.is_empty() {
            self.left = FAULTS.to_vec();
        }
        let fault = self.left.swap_remove(random.random_range(0..self.left.len()));
        self.happen(fault, clients, random).await;
        self.cluster.heal();
        for id in self.cluster.ids() {
            self.cluster.network().throttle(id, 0);
        }
        self.tend(clients, random).await;
        fault
    }

    async fn happen(&mut self, fault: Fault, clients: &Clients, random: &mut StdRng) {
        let cluster = &mut self.cluster;
        let ids = cluster.ids();
        let one = *ids.choose(random).expect("there are nodes");
        let rest: Vec<u64> = ids.iter().copied().filter(|&id| id != one).collect();
        let other = *rest.choose(random).expect("there are others");
        let mut last = async |ms: std::ops::Range<u64>| {
            tokio::time::sleep(Duration::from_millis(random.random_range(ms))).await;
        };
        match fault {
            Fault::Kill => cluster.kill(one),
            Fault::KillAll => cluster.kill_all(&ids),
            Fault::PowerCut => cluster.cut_power(one),
            Fault::PowerCutOfAll => ids.iter().for_each(|&id| cluster.cut_power(id)),
            Fault::Restart => drop(cluster.stop(one)),
            Fault::Pause | Fault::PauseLeader => {
                let one = if fault == Fault::Pause {
                    one
                } else {
                    self.leader_or_first().await
                };
                self.cluster.pause(one);
                last(LASTS_MS).await;
                self.cluster.resume(one);
                return;
            }
            Fault::Isolate => cluster.isolate(one),
            Fault::IsolateLeader => {
                let leader = self.leader_or_first().await;
                self.cluster.isolate(leader);
            }
            Fault::PartPair => cluster.part(&[one], &[other]),
            Fault::PartOneWay => cluster.part_one_way(one, other),
            Fault::Throttle => cluster.network().throttle(one, 256),
            Fault::Drain => {
                let leader = self.leader_or_first().await;
                // Refused while nobody can take over: then nothing happens.
                let _ = self.cluster.run(leader, &["drain"]);
                last(LASTS_MS).await;
                if !self.is_damaged(leader) {
                    self.cluster.ok(leader, &["undrain"]);
                } else {
                    // It may have ended meanwhile, and forgets it then.
                    let _ = self.cluster.run(leader, &["undrain"]);
                }
                return;
            }
            Fault::DiskFull => {
                cluster.fill_disk(one, 8);
                last(LASTS_MS).await;
                cluster.free_disk(one);
                return;
            }
            Fault::ClockJump | Fault::ClockJumpOfLeader | Fault::StartWithWrongClock => {
                return self.jump(fault, one, clients, random).await;
            }
            Fault::BitFlips => return self.flip(one, random).await,
            Fault::Replace => return self.replace(one, false, clients, random).await,
            Fault::ReplaceLeader | Fault::ReplaceWhileLeaderDies => {
                let leader = self.leader_or_first().await;
                let (gone, dies) = match fault {
                    Fault::ReplaceLeader => (leader, false),
                    _ => (one, true),
                };
                return self.replace(gone, dies, clients, random).await;
            }
        }
        last(if matches!(fault, Fault::Isolate | Fault::IsolateLeader) {
            ALONE_MS
        } else {
            LASTS_MS
        })
        .await;
    }

    fn is_damaged(&self, id: u64) -> bool {
        self.damaged.is_some_and(|(damaged, _)| damaged == id)
    }

    /// The leader that any node knows of; else the first.
    async fn leader_or_first(&self) -> u64 {
        for id in self.cluster.ids() {
            let status = self.cluster.status(id).await.unwrap_or_default();
            if let Some(leader) = leader(&status).filter(|leader| self.cluster.ids().contains(leader)) {
                return leader;
            }
        }
        self.cluster.ids()[0]
    }

    fn start(&mut self, id: u64, clients: &Clients) {
        clients.notes.begins_anew(id);
        self.cluster.start(id);
    }

    /// A clock is wrong for a while, of a node that runs on or of one that is started with it.
    async fn jump(&mut self, fault: Fault, one: u64, clients: &Clients, random: &mut StdRng) {
        let one = match fault {
            Fault::ClockJumpOfLeader => self.leader_or_first().await,
            _ => one,
        };
        let far = JUMPS_S.choose(random).expect("there are some").clone();
        let by_s = random.random_range(far);
        let by_ms = if random.random() { by_s * 1_000 } else { by_s * -1_000 };
        // Forward at once, or when it is set right.
        clients.notes.sets_forward(one, by_ms.abs());
        if fault == Fault::StartWithWrongClock {
            self.cluster.kill(one);
            self.cluster.set_clock(one, by_ms);
            self.start(one, clients);
        } else {
            self.cluster.set_clock(one, by_ms);
        }
        println!("the clock of node {one} is {by_ms} ms ahead");
        tokio::time::sleep(Duration::from_millis(random.random_range(OFF_MS))).await;
        self.cluster.set_clock(one, 0);
    }

    /// Bits turn over on a disk. Whoever reads them notices, or an operator who looks, or the node when it is started.
    async fn flip(&mut self, one: u64, random: &mut StdRng) {
        let (one, ends) = self.damaged.unwrap_or((one, 0));
        self.damaged = Some((one, ends));
        let journal = self.cluster.home(one).join("data/journal");
        let flipped = flip_bits(&journal, random.random_range(FLIPS), random);
        println!("bits of node {one} turned over: {flipped:?}");
        let looks = random.random_range(0..3);
        if looks == 1 {
            // It says what it finds; that it does is shown elsewhere.
            let _found = self.cluster.aside(one, &["verify", "--deep"]).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(LASTS_MS))).await;
        if looks == 2 {
            self.cluster.kill(one);
        }
    }

    /// A member goes for good and another one comes in its place, in one order or the other; who leads dies in between. One whose
    /// disk is damaged goes before any other: while two are left, both must be able to start.
    async fn replace(&mut self, gone: u64, leader_dies: bool, clients: &Clients, random: &mut StdRng) {
        let gone = self.damaged.map_or(gone, |(damaged, _)| damaged);
        let first = random.random();
        if first {
            self.leave(gone).await;
        }
        let new = self.next;
        self.next += 1;
        let site = self.cluster.site(gone).to_owned();
        let peers: Vec<u64> = self.cluster.ids().into_iter().filter(|&id| id != gone).collect();
        println!(
            "node {new} comes for node {gone}, which leaves {}",
            if first { "first" } else { "then" }
        );
        self.cluster.add_with_disk(new, &format!("{site}-{new}"), &site, &peers);
        self.cluster.start(new);
        clients.notes.opens(new);
        let joins = self.cluster.aside(new, &["join", "--timeout", "50"]);
        if leader_dies {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..1_500))).await;
            let leader = self.leader_or_first().await;
            println!("node {leader}, which leads, dies meanwhile");
            self.cluster.kill(leader);
            self.start(leader, clients);
        }
        assert_done("join", &joins.await, &self.cluster);
        if !first {
            self.leave(gone).await;
        }
        // One that has left and does not know it yet tells nobody anything wrong.
        tokio::time::sleep(Duration::from_millis(random.random_range(PAUSE_MS))).await;
        clients.notes.closes(gone);
        self.bury(gone);
    }

    /// Takes a member out, as another one's operator; asked again where that was not answered.
    async fn leave(&self, gone: u64) {
        let began = Instant::now();
        let others: Vec<u64> = self.cluster.running().into_iter().filter(|&id| id != gone).collect();
        loop {
            for &through in &others {
                let left = self.cluster.aside(through, &["leave", &gone.to_string()]).await;
                let status = self.cluster.status(through).await.unwrap_or_default();
                let members = roles(&status);
                if left.status.success() || !members.is_empty() && !members.contains_key(&gone) {
                    return;
                }
                if began.elapsed() > WAIT_MAX {
                    assert_done("leave", &left, &self.cluster);
                }
            }
        }
    }

    fn bury(&mut self, gone: u64) {
        if self.cluster.running().contains(&gone) {
            self.cluster.kill(gone);
        }
        self.cluster.forget(gone);
        if self.is_damaged(gone) {
            self.damaged = None;
        }
    }

    /// Starts what does not run. Who may have damage and ends of it is started again or, when it does not open, replaced;
    /// nobody else may end by itself. Returns once that one serves.
    pub async fn tend(&mut self, clients: &Clients, random: &mut StdRng) {
        let began = Instant::now();
        loop {
            for id in self.cluster.fallen() {
                self.assert_may_fall(id);
            }
            let running = self.cluster.running();
            let mut given_up = None;
            for id in self.cluster.ids().into_iter().filter(|id| !running.contains(id)) {
                match self.damaged {
                    Some((damaged, ENDS_MAX..)) if damaged == id => given_up = Some(id),
                    _ => self.start(id, clients),
                }
            }
            // Not before the others run.
            if let Some(id) = given_up {
                println!("node {id} is replaced: its disk is damaged");
                self.replace(id, false, clients, random).await;
            }
            match self.damaged {
                Some((damaged, _)) if self.cluster.ready(damaged).await != 200 => {}
                _ => return,
            }
            assert!(
                began.elapsed() < WAIT_MAX,
                "the damaged node neither serves nor ends\n{}",
                self.cluster.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Notes that a node ended by itself, which only damage on its disk excuses.
    fn assert_may_fall(&mut self, id: u64) {
        let log = self.cluster.log_text(id);
        let last = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
        let ends = match self.damaged {
            // What does not open once never will.
            Some((damaged, _)) if damaged == id && last.contains(CANNOT_OPEN) => ENDS_MAX,
            Some((damaged, ends)) if damaged == id && last.contains(CANNOT_SEND) => ends + 1,
            _ => panic!("node {id} ended by itself\n{}", self.cluster.log_tails()),
        };
        println!("node {id} ended of its damage");
        self.damaged = Some((id, ends));
    }
}

#[track_caller]
fn assert_done(what: &str, output: &Output, cluster: &Cluster) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {errors}\n{}", cluster.log_tails());
}
