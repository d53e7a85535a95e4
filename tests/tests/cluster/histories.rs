//! Random faults from a seed while clients work; then their histories are judged.

use crate::clients::Clients;
use crate::trouble::{FAULTS, Trouble};
use crate::{Turn, count_from, seed};
use rand::{SeedableRng, rngs::StdRng};
use std::time::{Duration, Instant};
use vertebra_tests::disk::loop_devices_or_left_out;
use vertebra_tests::history::judge;

/// How long the faults of one history go on, and how many there are at least: all kinds within five histories.
const FAULTS_FOR: Duration = Duration::from_secs(8);
const FAULTS_MIN: usize = FAULTS.len().div_ceil(HISTORIES as usize);
const HISTORIES: u32 = 5;

#[tokio::test]
async fn histories_under_random_faults_are_those_of_one_node_that_never_fails() {
    let _turn = Turn::take();
    if !loop_devices_or_left_out("histories_under_random_faults_are_those_of_one_node_that_never_fails") {
        return;
    }
    let (histories, seed) = (count_from("VERTEBRA_HISTORIES", HISTORIES), seed());
    let mut trouble = Trouble::new().await;
    for history in 1..=histories {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(u64::from(history)));
        trouble = trouble.or_new().await;
        let clients = Clients::start(&trouble.cluster, &format!("H{history}"), &mut random).await;
        let started = Instant::now();
        let mut happened = Vec::new();
        while started.elapsed() < FAULTS_FOR || happened.len() < FAULTS_MIN {
            happened.push(trouble.strike(&clients, &mut random).await);
        }
        let all = trouble.cluster.ids();
        for &id in &all {
            trouble.cluster.await_ready(id).await;
        }
        trouble.cluster.await_leader(&all).await;
        let entries = clients.finish().await;
        trouble.cluster.await_level().await;
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
