//! Random faults from a seed while clients work; then their histories are judged.

use crate::clients::Clients;
use crate::{SITES, Turn, count_from, seed};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vertebra_tests::cluster::Cluster;
use vertebra_tests::disk::loop_devices_or_left_out;
use vertebra_tests::history::judge;

/// How long the faults of one history go on.
const FAULTS_FOR: Duration = Duration::from_secs(8);
/// Between faults, and how long one lasts.
const PAUSE_MS: std::ops::Range<u64> = 200..700;
const LASTS_MS: std::ops::Range<u64> = 200..2_500;
/// The same of one that a node must first notice before it reads on with an age.
const ALONE_MS: std::ops::Range<u64> = 2_500..5_000;

/// What happens to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
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
}

const FAULTS: [Fault; 14] = [
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
];

/// The leader that any node knows of; else the first.
async fn leader_or_first(cluster: &Cluster) -> u64 {
    for id in cluster.ids() {
        let status = cluster.status(id).await.unwrap_or_default();
        if let Some(leader) = vertebra_tests::cluster::leader(&status) {
            return leader;
        }
    }
    cluster.ids()[0]
}

/// Starts what does not run; each is in another life from now on.
fn start_all(cluster: &mut Cluster, clients: &Clients) {
    let running = cluster.running();
    for id in cluster.ids() {
        if !running.contains(&id) {
            clients.notes.lives[&id].fetch_add(1, Ordering::Relaxed);
            cluster.start(id);
        }
    }
}

async fn happen(fault: Fault, cluster: &mut Cluster, clients: &Clients, random: &mut StdRng) {
    let ids = cluster.ids();
    let one = *ids.choose(random).expect("there are nodes");
    let rest: Vec<u64> = ids.iter().copied().filter(|&id| id != one).collect();
    let other = *rest.choose(random).expect("there are others");
    let alone = matches!(fault, Fault::Isolate | Fault::IsolateLeader);
    let last = Duration::from_millis(random.random_range(if alone { ALONE_MS } else { LASTS_MS }));
    match fault {
        Fault::Kill => cluster.kill(one),
        Fault::KillAll => cluster.kill_all(&ids),
        Fault::PowerCut => cluster.cut_power(one),
        Fault::PowerCutOfAll => ids.iter().for_each(|&id| cluster.cut_power(id)),
        Fault::Restart => drop(cluster.stop(one)),
        Fault::Pause => {
            cluster.pause(one);
            tokio::time::sleep(last).await;
            cluster.resume(one);
        }
        Fault::PauseLeader => {
            let leader = leader_or_first(cluster).await;
            cluster.pause(leader);
            tokio::time::sleep(last).await;
            cluster.resume(leader);
        }
        Fault::Isolate => cluster.isolate(one),
        Fault::IsolateLeader => {
            let leader = leader_or_first(cluster).await;
            cluster.isolate(leader);
        }
        Fault::PartPair => cluster.part(&[one], &[other]),
        Fault::PartOneWay => cluster.part_one_way(one, other),
        Fault::Throttle => cluster.network().throttle(one, 256),
        Fault::Drain => {
            let leader = leader_or_first(cluster).await;
            // Refused while nobody can take over: then nothing happens.
            let _ = cluster.run(leader, &["drain"]);
            tokio::time::sleep(last).await;
            cluster.ok(leader, &["undrain"]);
        }
        Fault::DiskFull => {
            cluster.fill_disk(one, 8);
            tokio::time::sleep(last).await;
            cluster.free_disk(one);
        }
    }
    if !matches!(
        fault,
        Fault::Pause | Fault::PauseLeader | Fault::Drain | Fault::DiskFull
    ) {
        tokio::time::sleep(last).await;
    }
    cluster.heal();
    cluster.network().throttle(one, 0);
    start_all(cluster, clients);
}

#[tokio::test]
async fn histories_under_random_faults_are_those_of_one_node_that_never_fails() {
    let _turn = Turn::take();
    if !loop_devices_or_left_out("histories_under_random_faults_are_those_of_one_node_that_never_fails") {
        return;
    }
    let (histories, seed) = (count_from("VERTEBRA_HISTORIES", 5), seed());
    let mut cluster = Cluster::new("histories").on_disks().formed(&SITES).await;
    let mut left: Vec<Fault> = Vec::new();
    for history in 1..=histories {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(u64::from(history)));
        let clients = Clients::start(&cluster, &format!("H{history}"), &mut random).await;
        let started = Instant::now();
        let mut happened = Vec::new();
        while started.elapsed() < FAULTS_FOR {
            tokio::time::sleep(Duration::from_millis(random.random_range(PAUSE_MS))).await;
            // Each kind comes before any comes twice.
            if left.is_empty() {
                left = FAULTS.to_vec();
            }
            let fault = left.swap_remove(random.random_range(0..left.len()));
            happened.push(fault);
            happen(fault, &mut cluster, &clients, &mut random).await;
        }
        for id in cluster.ids() {
            cluster.await_ready(id).await;
        }
        let all = cluster.ids();
        cluster.await_leader(&all).await;
        let entries = clients.finish().await;
        cluster.await_level().await;
        match judge(&entries) {
            Ok(judged) => println!("history {history}: {judged}; {happened:?}"),
            Err(error) => {
                let file = std::env::temp_dir().join(format!("vertebra-history-{seed}-{history}.txt"));
                let text: Vec<String> = entries.iter().map(|entry| format!("{entry:?}\n")).collect();
                std::fs::write(&file, text.concat()).expect("the temporary folder can be written");
                panic!(
                    "history {history}, seed {seed}, after {happened:?}; whole in {}\n{error}",
                    file.display()
                );
            }
        }
    }
}
