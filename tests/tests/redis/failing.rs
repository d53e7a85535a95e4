//! One Redis, in every way it can fail, under load: what it is for comes back with it, and meanwhile nobody waits.

use crate::{Load, Site};
use serde_json::Value;
use std::time::Duration;
use vertebra_tests::redis::Redis;

#[tokio::test]
async fn whatever_redis_does_nothing_is_lost_replayed_or_accepted_twice() {
    let mut site = Site::start(Redis::start()).await;
    site.check_back().await;
    let load = Load::start(&site);
    load.await_answered(50).await;

    silent(&site, &load).await;
    dead_and_back(&mut site, &load).await;
    emptied(&site).await;
    full(&mut site, &load).await;
    not_as_it_should_be(&mut site).await;
    another_password(&mut site, &load).await;

    site.check_back().await;
    load.stop(&site).await;
    site.check_logs();
}

/// It stands still: who meets it first waits a moment, nobody after.
async fn silent(site: &Site, load: &Load) {
    site.redis.servers[0].freeze(true);
    load.await_answered(50).await;
    site.await_not_up().await;
    site.check_alone().await;
    load.await_answered(50).await;
    site.redis.servers[0].freeze(false);
    site.check_back().await;
}

/// It is killed, and comes back with what it had synced.
async fn dead_and_back(site: &mut Site, load: &Load) {
    let before = site.claimed(0).await;
    site.redis.servers[0].kill();
    load.await_answered(50).await;
    site.await_each("it is away", |redis| redis["state"] == "away").await;
    site.check_alone().await;
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_secs(11) {
        load.await_answered(50).await;
    }
    let status = site.said(0, &["status"]).await;
    assert!(status.contains("! Redis is not asked (away"), "{status}");
    let doctor = site.said(1, &["doctor"]).await;
    assert!(
        doctor.contains("WARN  Redis") && doctor.contains("cannot be used"),
        "{doctor}"
    );
    site.redis.servers[0].start();
    site.await_up().await;
    let remembered = site.refused_by(1, &before).await;
    assert_ne!(remembered, Some(false), "what was synced is remembered");
    site.check_back().await;
}

/// It forgets everything: each node still knows what it has seen itself.
async fn emptied(site: &Site) {
    let before = site.claimed(0).await;
    assert_eq!(site.redis.servers[0].ask(&["FLUSHALL"]), "OK");
    assert_eq!(site.read(0, &before).await, 403, "the same node knows it");
    assert_eq!(site.read(1, &before).await, 200, "another one cannot, once");
    assert_eq!(site.read(1, &before).await, 403);
    site.check_back().await;
    let noticed = |redis: &Value| redis["forgotten"].as_u64() >= Some(1);
    site.await_each("that it has forgotten shows", noticed).await;
}

/// It has no memory left and evicts nothing.
async fn full(site: &mut Site, load: &Load) {
    site.redis.servers[0].set("maxmemory", "1");
    load.await_answered(50).await;
    let refusing = |redis: &Value| redis["state"] == "refusing" && redis["fault"].to_string().contains("OOM");
    site.await_each("it refuses", refusing).await;
    site.check_alone().await;
    site.redis.servers[0].set("maxmemory", "0");
    site.check_back().await;
}

/// It evicts, or keeps no file: it is used, and somebody is told.
async fn not_as_it_should_be(site: &mut Site) {
    site.redis.servers[0].set("maxmemory-policy", "allkeys-lru");
    site.redis.servers[0].set("appendonly", "no");
    let told = |redis: &Value| {
        let worries = redis["worries"].to_string();
        worries.contains("allkeys-lru") && worries.contains("append-only")
    };
    site.await_each("what is wrong is told", told).await;
    let doctor = site.said(0, &["doctor"]).await;
    for wanted in [
        "Redis evicts (allkeys-lru)",
        "maxmemory-policy noeviction",
        "appendonly yes",
    ] {
        assert!(doctor.contains(wanted), "{wanted} in {doctor}");
    }
    site.check_healthy().await;
    site.check_back().await;
    site.redis.servers[0].set("maxmemory-policy", "noeviction");
    site.redis.servers[0].set("appendonly", "yes");
    site.await_each("nothing is wrong", |redis| redis["worries"].to_string() == "[]")
        .await;
    let doctor = site.said(0, &["doctor"]).await;
    assert!(doctor.contains("is primary: release"), "{doctor}");
}

/// Its password is changed, then the file that names it.
async fn another_password(site: &mut Site, load: &Load) {
    site.redis.servers[0].set("requirepass", "another-password");
    site.redis.servers[0].ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    let refused = |redis: &Value| redis["state"] == "away" && redis["fault"].to_string().contains("login was refused");
    site.await_each("the login is refused", refused).await;
    site.check_alone().await;
    load.await_answered(50).await;
    std::fs::write(site.redis.password(), "another-password\n").expect("the file is ours");
    site.await_up().await;
}

#[tokio::test]
#[ignore = "long: part of `make soak`"]
async fn redis_fails_in_every_way_again_and_again_and_the_books_balance() {
    let rounds = std::env::var("VERTEBRA_REDIS_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut site = Site::start(Redis::start()).await;
    let load = Load::start(&site);
    let mut random = seed;
    for round in 0..rounds.unwrap_or(60) {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let what = (random >> 33) % 4;
        println!("round {round}: {what}");
        match what {
            0 => silent(&site, &load).await,
            1 => {
                site.redis.servers[0].kill();
                load.await_answered(20).await;
                site.await_not_up().await;
                site.redis.servers[0].start();
            }
            2 => {
                let (token, _) = site.spend(0).await;
                site.redis.servers[0].ask(&["FLUSHALL"]);
                assert_eq!(site.read(0, &token).await, 403);
            }
            _ => full(&mut site, &load).await,
        }
        site.check_back().await;
    }
    load.stop(&site).await;
    site.check_healthy().await;
    site.check_logs();
}
