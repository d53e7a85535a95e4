//! Two releases at once, under load: one member after the other gets the new one, or the old one back, and no request
//! fails; `upgrade finalize` is the point of no return.
//!
//! The old release is a build of an older source, named by `VERTEBRA_OLD_BINARY`, or else a copy of this one that says of
//! itself that it is another and speaks the first format level alone. `VERTEBRA_ROLLING_RESTARTS` sets how often all members
//! are restarted.

use crate::patient_clients::Load;
use crate::{SITES, Turn, count_from};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vertebra_tests::cluster::{Cluster, leader};
use vertebra_tests::node::binary;
use vertebra_tests::release::restamp;

/// What the old release calls itself where it is made here.
const OLD: &str = "0.0.9";
/// Requests that are answered between two restarts.
const BETWEEN: u64 = 60;

/// A cluster of the old release, whose front doors outlive its nodes; and the two releases.
struct Releases {
    old: PathBuf,
    new: PathBuf,
    /// The old one is older than format levels.
    ancient: bool,
}

impl Releases {
    fn new(cluster: &mut Cluster) -> Releases {
        let (old, new) = (cluster.folder().join("old"), cluster.folder().join("new"));
        fs::copy(binary(), &new).expect("the binary can be copied");
        let given = std::env::var_os("VERTEBRA_OLD_BINARY").map(PathBuf::from);
        match &given {
            Some(given) => drop(fs::copy(given, &old).expect("VERTEBRA_OLD_BINARY is a file")),
            None => restamp(&binary(), &old, OLD, 1..=1),
        }
        cluster.install_everywhere(&old);
        Releases {
            old,
            new,
            ancient: given.is_some(),
        }
    }
}

/// Stops a node, which hands over and finishes what it has, and starts it with this release; waits until it is healthy. Gives
/// the seconds of the one and of the other.
async fn restart(cluster: &mut Cluster, id: u64, release: &Path) -> (Duration, Duration) {
    let began = Instant::now();
    let status = cluster.stopped(id).await;
    assert_eq!(status.code(), Some(0), "an orderly end\n{}", cluster.log_tails());
    let drained = began.elapsed();
    cluster.install(id, release);
    let began = Instant::now();
    cluster.start(id);
    cluster.await_ready(id).await;
    let healthy = |status: &Value| status["state"] == "healthy";
    cluster.await_status(id, "it is healthy", healthy).await;
    (drained, began.elapsed())
}

async fn upgrade_status(cluster: &Cluster, id: u64) -> Value {
    let told = cluster.run_aside(id, &["upgrade", "status", "--json"]).await;
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    serde_json::from_slice(&told.stdout).expect("it is JSON")
}

/// Waits until every running node says that this level is in force.
async fn await_level_in_force(cluster: &Cluster, level: u64) {
    for id in cluster.running() {
        let began = Instant::now();
        while upgrade_status(cluster, id).await["level"] != level {
            assert!(began.elapsed() < Duration::from_secs(20), "level {level} on node {id}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn middle_and_largest(what: &str, times: &mut [Duration]) -> String {
    times.sort_unstable();
    let seconds = |at: usize| times.get(at).map_or(0.0, Duration::as_secs_f64);
    format!(
        "{what} p50 {:.2} s, max {:.2} s",
        seconds(times.len() / 2),
        seconds(times.len().saturating_sub(1))
    )
}

#[tokio::test]
async fn a_rolling_upgrade_fails_no_request_and_can_be_taken_back_until_it_is_finalized() {
    let _turn = Turn::take();
    let mut cluster = Cluster::new("upgrade").with_passed_doors();
    let releases = Releases::new(&mut cluster);
    let mut cluster = cluster.formed(&SITES).await;
    let all = cluster.ids();
    let load = Load::start(&cluster, &all).await;
    load.goes_on(&cluster, BETWEEN).await;

    // A canary: both releases at once, and the level stays.
    restart(&mut cluster, 2, &releases.new).await;
    let told = upgrade_status(&cluster, 2).await;
    assert_eq!((&told["level"], &told["newest"]), (&json!(1), &json!(2)), "{told}");
    assert_eq!(told["against"].as_array().map(Vec::len), Some(2), "{told}");
    let refused = cluster.run_aside(2, &["upgrade", "finalize"]).await;
    let sentence = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{sentence}");
    assert!(
        sentence.contains("a1 runs") && sentence.contains("w1 runs"),
        "it names who stands against it: {sentence}"
    );
    let compared = cluster
        .run_aside(2, &["upgrade", "compare", "--canary", "b1", "--soak", "4s"])
        .await;
    let (code, table) = (
        compared.status.code(),
        String::from_utf8_lossy(&compared.stdout).into_owned(),
    );
    assert!(
        matches!(code, Some(0 | 10 | 20)),
        "{code:?}: {}",
        String::from_utf8_lossy(&compared.stderr)
    );
    assert!(
        table.contains("b1 (2), canary") && table.contains("the others together"),
        "{table}"
    );
    println!("{table}");

    // The rest, one after the other; one goes back, and comes again.
    for (id, release) in [
        (1, &releases.new),
        (3, &releases.new),
        (1, &releases.old),
        (1, &releases.new),
    ] {
        restart(&mut cluster, id, release).await;
        load.goes_on(&cluster, BETWEEN).await;
    }
    let settled = |status: &Value| status["cluster"]["voters_answering"] == 3;
    cluster.await_status(3, "all answer", settled).await;
    let finalized = cluster.run_aside(3, &["upgrade", "finalize"]).await;
    assert!(
        finalized.status.success(),
        "{}",
        String::from_utf8_lossy(&finalized.stderr)
    );
    await_level_in_force(&cluster, 2).await;
    let again = cluster.run_aside(1, &["upgrade", "finalize"]).await;
    assert!(again.status.success(), "it is in force already");
    load.goes_on(&cluster, BETWEEN).await;
    let record = cluster.run_aside(3, &["audit", "query", "--limit", "1000"]).await;
    let record = String::from_utf8_lossy(&record.stdout).into_owned();
    assert!(
        record.contains("admin.upgrade.finalize"),
        "who did it is on the record: {record}"
    );

    // From here on there is no way back.
    cluster.stopped(2).await;
    cluster.install(2, &releases.old);
    let lines = cluster.log_text(2).len();
    cluster.start(2);
    assert_ne!(
        cluster.ended(2).await.code(),
        Some(0),
        "an older release does not start"
    );
    let log = cluster.log_text(2).split_off(lines);
    match releases.ancient {
        true => assert!(log.contains("cannot be read by this release"), "{log}"),
        false => assert!(
            log.contains("the format level in force is 2") && log.contains(OLD),
            "it says why:\n{log}"
        ),
    }
    cluster.install(2, &releases.new);
    cluster.start(2);
    cluster.await_ready(2).await;
    load.goes_on(&cluster, BETWEEN).await;

    println!("{}", load.counts.text());
    assert_eq!(load.counts.failed(), Vec::<String>::new(), "{}", cluster.log_tails());
    load.finish(&cluster, 1).await;
    cluster.await_level().await;
}

#[tokio::test]
async fn a_node_of_an_older_release_is_not_let_in_where_a_later_level_is_in_force() {
    let _turn = Turn::take();
    let mut cluster = Cluster::new("too-old");
    let old = cluster.folder().join("old");
    restamp(&binary(), &old, OLD, 1..=1);
    cluster.add(1, "a1", "north", &[]);
    cluster.start(1);
    cluster.await_ready(1).await;
    // Whoever founds a cluster has nobody older beside him.
    await_level_in_force(&cluster, 2).await;
    cluster.add(2, "b1", "south", &[1]);
    cluster.install(2, &old);
    cluster.start(2);
    let began = Instant::now();
    while !cluster
        .log_text(2)
        .contains("speaks format level 1, and the cluster's is 2")
    {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "it says why:\n{}",
            cluster.log_tails()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(cluster.stop(2).code(), Some(0));
    let new = cluster.folder().join("vertebra");
    cluster.install(2, &new);
    cluster.start(2);
    cluster.await_voters(&[1, 2]).await;
    await_level_in_force(&cluster, 2).await;
}

#[tokio::test]
async fn every_member_restarts_in_turn_under_load_and_no_request_fails() {
    let _turn = Turn::take();
    let rounds = count_from("VERTEBRA_ROLLING_RESTARTS", 1);
    let mut cluster = Cluster::new("rolling").with_passed_doors();
    let releases = Releases::new(&mut cluster);
    let mut cluster = cluster.formed(&SITES).await;
    let all = cluster.ids();
    let load = Load::start(&cluster, &all).await;
    let (mut drains, mut starts, mut led) = (Vec::new(), Vec::new(), 0);
    for round in 1..=rounds {
        let release = if round % 2 == 1 { &releases.new } else { &releases.old };
        for &id in &all {
            load.goes_on(&cluster, BETWEEN).await;
            let leads = leader(&cluster.status(id).await.unwrap_or_default()) == Some(id);
            led += u32::from(leads);
            let (drained, started) = restart(&mut cluster, id, release).await;
            drains.push(drained);
            starts.push(started);
        }
        assert_eq!(
            load.counts.failed(),
            Vec::<String>::new(),
            "round {round}\n{}",
            cluster.log_tails()
        );
    }
    load.goes_on(&cluster, BETWEEN).await;
    println!(
        "{rounds} rolling restarts of three members, {} of them led; {}; {}; {}",
        led,
        load.counts.text(),
        middle_and_largest("stop", &mut drains),
        middle_and_largest("start to healthy", &mut starts)
    );
    assert_eq!(load.counts.failed(), Vec::<String>::new(), "{}", cluster.log_tails());
    load.finish(&cluster, all[0]).await;
}
