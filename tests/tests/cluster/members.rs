//! Nodes come and go: a dead one is replaced under a new number, a drained one leads no more, and no site ever holds a
//! majority of the voters where there are two.

use crate::{SITES, Turn, newcomer};
use std::time::{Duration, Instant};
use vertebra_tests::cluster::{Cluster, WAIT_MAX, roles};
use vertebra_tests::mesh::WORKFLOW;

/// The role of `id` as node `through` tells it; empty when it is no member.
async fn role(cluster: &Cluster, through: u64, id: u64) -> String {
    let status = cluster.status(through).await.unwrap_or_default();
    roles(&status).remove(&id).unwrap_or_default()
}

async fn await_role(cluster: &Cluster, through: u64, id: u64, expected: &str) {
    cluster
        .await_status(through, &format!("node {id} is {expected:?}"), |status| {
            roles(status).get(&id).map(String::as_str).unwrap_or_default() == expected
        })
        .await;
}

#[tokio::test]
async fn a_dead_node_is_replaced_under_a_new_number_and_its_old_one_is_never_taken_again() {
    let _turn = Turn::take();
    let mut cluster = Cluster::form("replacing", &SITES).await;
    cluster.add_mailboxes(1, &["X26ONE", "X26TWO"]).await;
    let sent = cluster
        .mailbox(1, "X26ONE")
        .send("X26TWO", WORKFLOW, &[], b"kept")
        .await;
    let made = newcomer(&mut cluster.worker(2), 7).await;
    cluster.kill(3);
    await_role(&cluster, 1, 3, "unreachable").await;
    cluster.add(4, "w2", "witness", &[1, 2]);
    cluster.start(4);
    cluster.ok(4, &["join", "--timeout", "50"]);
    cluster.ok(1, &["leave", "3"]);
    cluster.await_voters(&[1, 2, 4]).await;
    // The new one has everything, and serves.
    cluster.await_ready(4).await;
    assert_eq!(cluster.mailbox(4, "X26TWO").inbox().await, [sent]);
    assert_eq!(cluster.worker(4).read(made.id()).await.ok(200).version(), 1);

    // A machine with the old number and an empty disk may have promised things that it forgot.
    cluster.empty(3);
    cluster.set_peers(3, &[1, 2, 4]);
    cluster.start(3);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        assert_ne!(cluster.ready(3).await, 200, "{}", cluster.log_tails());
        assert_eq!(role(&cluster, 1, 3).await, "", "it is no member");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let log = cluster.log_text(3);
    assert!(log.contains("belonged to another data folder"), "it says why:\n{log}");
    cluster.kill(3);

    // One that goes by itself; the two that stay go on.
    cluster.ok(4, &["leave"]);
    cluster
        .await_status(1, "two members", |status| roles(status).len() == 2)
        .await;
    cluster
        .mailbox(2, "X26ONE")
        .send("X26TWO", WORKFLOW, &[], b"two are enough")
        .await;
}

#[tokio::test]
async fn a_leader_that_is_drained_hands_over_and_takes_the_lead_no_more() {
    let _turn = Turn::take();
    let mut cluster = Cluster::form("draining", &SITES).await;
    cluster.add_mailboxes(1, &["X26ONE", "X26TWO"]).await;
    let all = cluster.ids();
    let leads = cluster.await_leader(&all).await;
    let others: Vec<u64> = all.iter().copied().filter(|&id| id != leads).collect();
    cluster.ok(leads, &["drain"]);
    cluster
        .await_status(others[0], "another leads", |status| {
            vertebra_tests::cluster::leader(status).is_some_and(|id| id != leads)
        })
        .await;
    assert_eq!(cluster.ready(leads).await, 503, "its front door wants no new clients");
    let next = cluster.await_leader(&others).await;
    cluster
        .mailbox(next, "X26ONE")
        .send("X26TWO", WORKFLOW, &[], b"x")
        .await;
    cluster.ok(leads, &["undrain"]);
    cluster.await_ready(leads).await;
    cluster
        .mailbox(leads, "X26ONE")
        .send("X26TWO", WORKFLOW, &[], b"y")
        .await;
    assert_eq!(cluster.mailbox(leads, "X26TWO").inbox().await.len(), 2);
}

#[tokio::test]
async fn no_site_gets_a_majority_of_the_voters() {
    let _turn = Turn::take();
    let mut cluster = Cluster::form("site-rule", &SITES).await;
    // Two of four are no majority.
    cluster.add(4, "a2", "north", &[1]);
    cluster.start(4);
    cluster.await_voters(&[1, 2, 3, 4]).await;
    // Three of five would be one: it learns, and waits.
    cluster.add(5, "a3", "north", &[1]);
    cluster.start(5);
    await_role(&cluster, 1, 5, "learner").await;
    let refused = cluster.run(5, &["join", "--timeout", "2"]);
    let sentence = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && sentence.contains("site north would hold 3 of 5"),
        "it says why: {sentence}"
    );
    assert_eq!(role(&cluster, 2, 5).await, "learner");
    // Without the other site's only one, north would have two of three.
    let refused = cluster.run(1, &["leave", "2"]);
    assert!(!refused.status.success(), "it stays");
    let sentence = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(sentence.contains("site"), "it says why: {sentence}");
    // With another of the other site both are promoted at once.
    cluster.add(6, "b2", "south", &[2]);
    cluster.start(6);
    cluster.await_voters(&[1, 2, 3, 4, 5, 6]).await;
    let started = Instant::now();
    cluster.ok(5, &["join", "--timeout", "50"]);
    assert!(started.elapsed() < WAIT_MAX);
}
