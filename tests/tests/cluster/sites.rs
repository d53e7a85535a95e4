//! Two nodes in each of two data centres and a witness: either data centre may be lost, whole and under load.

use crate::load::Load;
use crate::losses::{SENDERS, recovered, served};
use crate::{Turn, seed};
use rand::{SeedableRng, rngs::StdRng};
use std::time::Instant;
use vertebra_tests::books::Findings;
use vertebra_tests::cluster::Cluster;
use vertebra_tests::mesh::WORKFLOW;

const FIVE: [(&str, &str); 5] = [
    ("a1", "north"),
    ("a2", "north"),
    ("b1", "south"),
    ("b2", "south"),
    ("w1", "witness"),
];
const WITNESS: u64 = 5;

/// How a data centre is lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// Its nodes die.
    Dead,
    /// Nobody hears from it, and it from nobody.
    Silent,
}

async fn assert_nothing_lost(cluster: &Cluster, load: &mut Load, through: u64, when: &str) {
    let found = load.audit(cluster, through).await;
    assert_eq!(found, Findings::default(), "{when}\n{}", cluster.log_tails());
}

#[tokio::test]
async fn of_five_a_whole_data_centre_is_lost_and_nothing_with_it_and_it_comes_back() {
    let _turn = Turn::take();
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::form("five", &FIVE).await;
    let mut load = Load::new(&cluster, SENDERS).await;
    let all = cluster.ids();
    for loss in [Loss::Dead, Loss::Silent] {
        // The one that leads hurts most. The witness may, but is not what is lost here.
        let mut leads = cluster.await_leader(&all).await;
        if leads == WITNESS {
            cluster.ok(WITNESS, &["drain"]);
            leads = cluster.await_leader(&[1, 2, 3, 4]).await;
            cluster.ok(WITNESS, &["undrain"]);
        }
        let lost = cluster.of_site(cluster.site(leads));
        let left: Vec<u64> = all.iter().copied().filter(|id| !lost.contains(id)).collect();
        served(&cluster, &mut load, &all, &mut random).await;
        let fault = Instant::now();
        match loss {
            Loss::Dead => cluster.kill_all(&lost),
            Loss::Silent => cluster.part(&lost, &left),
        }
        let outage = recovered(&cluster, &mut load, fault).await;
        println!("a data centre of two of five is lost ({loss:?}) with the leader: write outage {outage:?}");
        let next = cluster.await_leader(&left).await;
        let when = format!("{loss:?}, seed {seed}");
        assert_nothing_lost(&cluster, &mut load, next, &when).await;
        match loss {
            Loss::Dead => lost.iter().for_each(|&id| cluster.start(id)),
            Loss::Silent => {
                // Two of five know that they are too few.
                for &id in &lost {
                    let local = format!("refused by {id}");
                    let mut door = cluster.mailbox(id, "X26LOAD");
                    let refused = door.post("X26BOOKS", WORKFLOW, &[("Mex-LocalID", &local)], b"x").await;
                    assert_eq!(refused.status, 503, "{}", refused.text());
                }
                cluster.heal();
            }
        }
        for &id in &lost {
            cluster.await_ready(id).await;
        }
        cluster.await_leader(&all).await;
        cluster.await_level().await;
        for &id in &lost {
            load.settle(&cluster, id).await;
            assert_nothing_lost(&cluster, &mut load, id, &format!("back after {when}")).await;
        }
    }
    println!("{} messages acknowledged, 0 lost", load.acknowledged().await);

    // Two and two are as safe without the witness, which may go. Of these nobody may: the other site would be a majority.
    cluster.ok(1, &["leave", "5"]);
    for id in 1..=4 {
        let refused = cluster.run(id % 4 + 1, &["leave", &id.to_string()]);
        let sentence = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success(), "node {id} stays");
        assert!(sentence.contains("would hold 2 of 3 voters"), "it says why: {sentence}");
    }
}
