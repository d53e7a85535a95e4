//! A node that is cut off from the majority reads on, says how old it is, writes nothing, and comes back without a stir.

use crate::{SITES, Turn, age_s, newcomer, renamed, value};
use std::time::{Duration, Instant};
use vertebra_tests::cluster::{Cluster, WAIT_MAX, leader, term};
use vertebra_tests::mesh::WORKFLOW;
use vertebra_tests::wire::Answer;

/// Asks until the answer has an age.
async fn until_aged(mut ask: impl AsyncFnMut() -> Answer) -> (u64, Answer) {
    let started = Instant::now();
    loop {
        let answer = ask().await;
        if answer.status == 200 {
            if let Some(age) = age_s(&answer) {
                return (age, answer);
            }
        }
        assert!(
            started.elapsed() < WAIT_MAX,
            "no age: {} {:?}",
            answer.status,
            answer.headers
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_node_cut_off_reads_on_with_an_age_refuses_writes_and_returns_without_a_stir() {
    let _turn = Turn::take();
    let mut cluster = Cluster::form("minority", &SITES).await;
    cluster.add_mailboxes(1, &["X26ONE", "X26TWO"]).await;
    let made = newcomer(&mut cluster.worker(1), 1).await;
    let sent = cluster
        .mailbox(1, "X26ONE")
        .send("X26TWO", WORKFLOW, &[], b"before")
        .await;
    cluster.await_level().await;
    let all = cluster.ids();
    let leads = cluster.await_leader(&all).await;
    let before = term(&cluster.status(leads).await.expect("the leader answers"));
    let alone = *all.iter().find(|&&id| id != leads).expect("there are three");
    let cut_at = Instant::now();
    cluster.isolate(alone);

    let mut worker = cluster.worker(alone);
    let (first_age, _) = until_aged(async || worker.read(made.id()).await.answer).await;
    assert!(first_age <= cut_at.elapsed().as_secs() + 1, "it says {first_age} s");
    // The others go on meanwhile.
    let changed = cluster.worker(leads).patch(made.id(), 1, &renamed(&made.json, 2)).await;
    assert_eq!(changed.ok(200).version(), 2);
    assert_eq!(age_s(&changed.answer), None, "the majority's state is the present");
    let later = cluster
        .mailbox(leads, "X26ONE")
        .send("X26TWO", WORKFLOW, &[], b"meanwhile")
        .await;

    let read = worker.read(made.id()).await;
    assert_eq!((read.ok(200).version(), value(&read.json)), (1, 1), "its own state");
    assert!(age_s(&read.answer).is_some(), "and it says so");
    let mut recipient = cluster.mailbox(alone, "X26TWO");
    let (_, listed) = until_aged(async || recipient.call("GET", "inbox", &[], b"").await).await;
    assert_eq!(
        vertebra_tests::mesh::strings(&listed.json()["messages"]),
        std::slice::from_ref(&sent)
    );
    assert_eq!(recipient.download(&sent).await.body, b"before");
    let refusals = [
        worker.patch(made.id(), 1, &renamed(&made.json, 3)).await.answer,
        cluster
            .mailbox(alone, "X26ONE")
            .post("X26TWO", WORKFLOW, &[], b"x")
            .await,
        cluster
            .mailbox(alone, "X26ONE")
            .post("X26TWO", WORKFLOW, &[], &vec![1; 100_000])
            .await,
        recipient
            .call("PUT", &format!("inbox/{sent}/status/acknowledged"), &[], b"")
            .await,
    ];
    for refusal in refusals {
        assert_eq!(refusal.status, 503, "{}", refusal.text());
        assert!(refusal.header("retry-after").is_some(), "it says when to come again");
    }
    assert_ne!(cluster.ready(alone).await, 0, "it answers its own watchdog");
    // The age grows with the clock.
    let (age, _) = until_aged(async || worker.read(made.id()).await.answer).await;
    let waited = Instant::now();
    while waited.elapsed() < Duration::from_millis(2_200) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (older, _) = until_aged(async || worker.read(made.id()).await.answer).await;
    assert!(older >= age + 2, "{age} s, and {older} s more than two seconds later");

    cluster.heal();
    let started = Instant::now();
    loop {
        let read = worker.read(made.id()).await;
        if read.status() == 200 && age_s(&read.answer).is_none() {
            assert_eq!(
                (read.version(), value(&read.json)),
                (2, 2),
                "the present is the present"
            );
            break;
        }
        assert!(started.elapsed() < WAIT_MAX, "it stays old\n{}", cluster.log_tails());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(recipient.inbox().await, [sent, later]);
    cluster.await_level().await;
    for id in all {
        let status = cluster.status(id).await.expect("every node answers");
        assert_eq!(
            (term(&status), leader(&status)),
            (before, Some(leads)),
            "no election: {status}"
        );
    }
}

#[tokio::test]
async fn a_node_that_has_just_started_is_not_healthy_before_it_knows_that_it_is_current() {
    let _turn = Turn::take();
    let mut cluster = Cluster::form("just-started", &SITES).await;
    cluster.stop(3);
    cluster.add_mailboxes(1, &["X26LATER"]).await;
    cluster.isolate(3);
    cluster.start(3);
    cluster.await_operator(3).await;
    // Longer than a node takes to find out that it is cut off.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        assert_eq!(
            cluster.ready(3).await,
            503,
            "it cannot know what was acknowledged meanwhile"
        );
        let status = cluster.status(3).await.unwrap_or_default();
        assert_eq!(status["state"], "cannot_write", "{status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.heal();
    cluster.await_ready(3).await;
    cluster.mailbox(3, "X26LATER").inbox().await;
}

#[tokio::test]
async fn a_node_that_joins_refuses_nobody_for_what_it_does_not_know_yet() {
    let _turn = Turn::take();
    let mut cluster = Cluster::form("joining", &SITES[..1]).await;
    cluster.add_mailboxes(1, &["X26LATER"]).await;
    let (name, site) = SITES[1];
    cluster.add(2, name, site, &[1]);
    cluster.isolate(2);
    cluster.start(2);
    cluster.await_operator(2).await;
    let asked = cluster.mailbox(2, "X26LATER").call("GET", "inbox", &[], b"").await;
    let read = cluster.worker(2).read("9000000009").await;
    for answer in [asked, read.answer] {
        assert_eq!(
            answer.status,
            503,
            "it knows no mailbox and no client: {}",
            answer.text()
        );
        assert!(answer.header("retry-after").is_some(), "it says when to come again");
    }
    cluster.heal();
    cluster.await_voters(&[1, 2]).await;
    cluster.mailbox(2, "X26LATER").inbox().await;
}
