//! A site is lost, or a leader is cut off in silence, under load: the others go on, and nothing acknowledged is lost.

use crate::load::{Load, middle_and_largest};
use crate::{SITES, Turn, count_from, seed};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::time::{Duration, Instant};
use vertebra_tests::books::Findings;
use vertebra_tests::cluster::{Cluster, WAIT_MAX, leader};
use vertebra_tests::mesh::WORKFLOW;

/// Senders at once.
pub const SENDERS: usize = 4;
/// The least that must have been acknowledged before the next fault, so that the load is a load.
const ACKNOWLEDGED_BETWEEN: usize = 100;

/// Lets the load run until it has been served for a while; gives when it began to be watched.
pub async fn served(cluster: &Cluster, load: &mut Load, nodes: &[u64], random: &mut StdRng) {
    let before = load.acknowledged_now();
    load.start(cluster, nodes);
    let started = Instant::now();
    while load.acknowledged_now() < before + ACKNOWLEDGED_BETWEEN {
        assert!(started.elapsed() < WAIT_MAX, "no load\n{}", cluster.log_tails());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
}

/// Waits until messages sent after the fault are acknowledged, and a little longer; stops the load. Gives the outage.
pub async fn recovered(cluster: &Cluster, load: &mut Load, fault: Instant) -> Duration {
    let seen = load.acknowledged_now();
    while load.acknowledged_now() < seen + ACKNOWLEDGED_BETWEEN {
        assert!(
            fault.elapsed() < WAIT_MAX,
            "nobody is served after the fault\n{}",
            cluster.log_tails()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    load.stop().await;
    load.outage(fault).await.expect("messages were acknowledged")
}

#[tokio::test]
async fn the_loss_of_a_site_loses_nothing_that_was_acknowledged() {
    let _turn = Turn::take();
    let (losses, seed) = (count_from("VERTEBRA_SITE_LOSSES", 3), seed());
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::form("site-loss", &SITES).await;
    let mut load = Load::new(&cluster, SENDERS).await;
    let (mut with_leader, mut without) = (Vec::new(), Vec::new());
    for loss in 1..=losses {
        let all = cluster.ids();
        let leads = cluster.await_leader(&all).await;
        served(&cluster, &mut load, &all, &mut random).await;
        // Mostly the leader's site, which hurts most.
        let victim = match loss % 3 {
            0 => *all.iter().find(|&&id| id != leads).expect("there are three"),
            _ => leads,
        };
        let site = SITES[usize::try_from(victim).expect("few nodes") - 1].1;
        let lost = cluster.of_site(site);
        let fault = Instant::now();
        cluster.kill_all(&lost);
        let outage = recovered(&cluster, &mut load, fault).await;
        if victim == leads {
            &mut with_leader
        } else {
            &mut without
        }
        .push(outage);
        // The survivors have everything, before anything is sent again.
        let survivor = *cluster.running().first().expect("two survive");
        let found = load.audit(&cluster, survivor).await;
        assert_eq!(
            found,
            Findings::default(),
            "loss {loss}, seed {seed}\n{}",
            cluster.log_tails()
        );
        for &id in &lost {
            cluster.start(id);
        }
        for &id in &lost {
            cluster.await_ready(id).await;
        }
        cluster.await_level().await;
        load.settle(&cluster, victim).await;
        let found = load.audit(&cluster, victim).await;
        assert_eq!(
            found,
            Findings::default(),
            "after loss {loss}, seed {seed}\n{}",
            cluster.log_tails()
        );
    }
    println!(
        "{losses} sites lost, {} messages acknowledged, 0 lost; write outage with the leader's site: {}; with another: {}",
        load.acknowledged().await,
        middle_and_largest(with_leader),
        middle_and_largest(without)
    );
}

/// How a leader is cut off.
#[derive(Clone, Copy, Debug)]
enum Silence {
    /// Neither hears the other.
    Both,
    /// It hears nobody, and is heard.
    Deaf,
    /// It hears everybody, and is not heard.
    Mute,
}

#[tokio::test]
async fn a_leader_cut_off_in_silence_loses_nothing_that_was_acknowledged() {
    let _turn = Turn::take();
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::form("silence", &SITES).await;
    let mut load = Load::new(&cluster, SENDERS).await;
    let all = cluster.ids();
    for silence in [Silence::Both, Silence::Deaf, Silence::Mute] {
        let leads = cluster.await_leader(&all).await;
        let others: Vec<u64> = all.iter().copied().filter(|&id| id != leads).collect();
        served(&cluster, &mut load, &all, &mut random).await;
        let fault = Instant::now();
        match silence {
            Silence::Both => cluster.isolate(leads),
            Silence::Deaf => others.iter().for_each(|&other| cluster.part_one_way(other, leads)),
            Silence::Mute => others.iter().for_each(|&other| cluster.part_one_way(leads, other)),
        }
        let outage = recovered(&cluster, &mut load, fault).await;
        println!("a leader in silence ({silence:?}): write outage {outage:?}");
        let next = cluster.await_leader(&others).await;
        assert_ne!(next, leads, "another leads");
        let found = load.audit(&cluster, next).await;
        assert_eq!(
            found,
            Findings::default(),
            "{silence:?}, seed {seed}\n{}",
            cluster.log_tails()
        );
        // The old leader has nothing to say to writers: it does not know what the others decided.
        let local = format!("refused while {silence:?}");
        let refused = cluster
            .mailbox(leads, "X26LOAD")
            .post("X26BOOKS", WORKFLOW, &[("Mex-LocalID", &local)], b"x")
            .await;
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.header("retry-after").is_some(), "it says when to come again");
        cluster.heal();
        cluster.await_leader(&all).await;
        cluster.await_level().await;
        load.settle(&cluster, leads).await;
        let found = load.audit(&cluster, leads).await;
        assert_eq!(
            found,
            Findings::default(),
            "healed, {silence:?}, seed {seed}\n{}",
            cluster.log_tails()
        );
    }
    assert!(leader(&cluster.status(1).await.expect("it answers")).is_some());
}

#[tokio::test]
async fn a_write_that_a_leader_had_taken_when_it_was_cut_off_is_answered_503_at_once_when_it_knows() {
    let _turn = Turn::take();
    let mut cluster = Cluster::form("taken", &SITES).await;
    cluster.add_mailboxes(1, &["X26ONE", "X26TWO"]).await;
    let all = cluster.ids();
    let leads = cluster.await_leader(&all).await;
    let mut client = cluster.mailbox(leads, "X26ONE");
    client.send("X26TWO", WORKFLOW, &[], b"before").await;
    cluster.isolate(leads);
    // It does not know yet: it takes the message.
    let began = Instant::now();
    let headers = [("Mex-LocalID", "taken")];
    let answer = client.post("X26TWO", WORKFLOW, &headers, b"taken").await;
    let took = began.elapsed();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some(), "it says when to come again");
    assert!(
        took < Duration::from_secs(4),
        "nobody waits for what cannot come: {took:?}"
    );
    // Sent again under its identifier it is there once.
    cluster.heal();
    cluster.await_leader(&all).await;
    cluster.await_level().await;
    client.send("X26TWO", WORKFLOW, &headers, b"taken").await;
    assert_eq!(cluster.mailbox(leads, "X26TWO").inbox().await.len(), 2);
}
