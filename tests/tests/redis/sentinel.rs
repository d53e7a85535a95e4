//! A primary, two replicas and three sentinels, everything over TLS: members follow the primary.

use crate::{Load, Site};
use serde_json::Value;
use std::time::{Duration, Instant};
use vertebra_tests::process::wait_until;
use vertebra_tests::redis::Redis;

/// Waits until the sentinels have another primary; gives its port.
async fn await_failover(site: &Site, before: u16) -> u16 {
    let started = Instant::now();
    loop {
        let now = site.redis.primary_port();
        if now != before {
            return now;
        }
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "the sentinels choose another primary"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until every member asks the primary on this port.
async fn await_primary(site: &Site, port: u16) {
    let follows = |redis: &Value| redis["state"] == "up" && redis["primary"] == format!("127.0.0.1:{port}");
    site.await_each("members follow the primary", follows).await;
}

#[tokio::test]
async fn members_follow_sentinel_to_another_primary_and_nothing_is_accepted_twice() {
    let mut site = Site::start(Redis::behind_sentinels()).await;
    site.check_back().await;
    let load = Load::start(&site);
    load.await_answered(50).await;
    let first = site.redis.primary_port();
    let doctor = site.said(0, &["doctor"]).await;
    assert!(
        doctor.contains(&format!("127.0.0.1:{first} is primary, as Sentinel says")),
        "{doctor}"
    );

    // Used before, and told to the replicas.
    let before = site.claimed(0).await;
    let primary = site.redis.server(first);
    let goal = primary.replication_offset();
    wait_until("the replicas have it", Duration::from_secs(60), || {
        primary.replicas_reached(goal)
    });
    let killed = Instant::now();
    primary.kill();
    load.await_answered(20).await;
    site.await_not_up().await;
    site.check_single_use().await;
    site.check_healthy().await;
    let second = await_failover(&site, first).await;
    await_primary(&site, second).await;
    println!("all members ask the new primary {:?} after the kill", killed.elapsed());
    assert_eq!(site.read(0, &before).await, 403, "the same node knows it");
    assert_ne!(site.refused_by(1, &before).await, Some(false), "the replica knew it");
    site.check_back().await;

    // The old one comes back as a replica: nobody asks it.
    site.redis.server(first).start();
    await_primary(&site, second).await;
    site.check_back().await;
    load.stop(&site).await;
    site.check_logs();
}

#[tokio::test]
#[ignore = "long: part of `make soak`"]
async fn a_primary_that_stands_still_is_left_and_its_return_fools_nobody() {
    let mut site = Site::start(Redis::behind_sentinels()).await;
    let load = Load::start(&site);
    for round in 0..4 {
        load.await_answered(50).await;
        let first = site.redis.primary_port();
        site.redis.server(first).freeze(true);
        load.await_answered(20).await;
        site.await_not_up().await;
        let second = await_failover(&site, first).await;
        await_primary(&site, second).await;
        site.check_back().await;
        // It still takes itself for the primary until a sentinel tells it.
        site.redis.server(first).freeze(false);
        load.await_answered(100).await;
        await_primary(&site, second).await;
        site.check_back().await;
        println!("round {round}: from {first} to {second}");
        // The next round needs somebody to fail over to.
        let waited = Instant::now();
        while site.redis.server(second).replicas() < 2 {
            assert!(waited.elapsed() < Duration::from_secs(60), "both others follow");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    load.stop(&site).await;
}
