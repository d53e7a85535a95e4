//! How long a new node takes to join a cluster that holds much: beside `rsync` of the same bytes over TLS.

use crate::drive::{Client, settle};
use crate::rsync::Rsync;
use crate::{Bound, Row, median, number_from, people};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vertebra_tests::cluster::{Cluster, roles};
use vertebra_tests::node::Folder;
use vertebra_tests::process::cpu;

/// Who founds, and who joins one after the other.
const SITES: [(&str, &str); 3] = [("a1", "north"), ("b1", "south"), ("w1", "witness")];
const BOXES: [&str; 2] = ["X26ALICE", "X26BOB"];
const BODY: [u8; 1024] = [b'j'; 1024];
const SENDERS: u64 = 64;
const MB: f64 = 1e6;
/// It only catches hangs.
const JOIN_MAX: Duration = Duration::from_secs(3_600);
const LOOK: Duration = Duration::from_millis(100);
/// Files made for one who joins serve others within a minute: the second one gets its own.
const FILES_FORGOTTEN: Duration = Duration::from_secs(62);

async fn fill(cluster: &Cluster, folder: &Path, patients: u64, messages: u64) {
    let file = people::write(folder, 0, patients);
    let path = file.to_str().expect("a plain path");
    let began = Instant::now();
    let output = cluster
        .run_aside(1, &["import", "--kind", "patients", "--json", path])
        .await;
    let report: Value = serde_json::from_slice(&output.stdout).expect("an import prints a report");
    assert!(report["proved"] == true, "{report:#}");
    std::fs::remove_file(&file).expect("the file is ours");
    println!("loaded {patients} patients in {:.0} s", began.elapsed().as_secs_f64());
    cluster.add_mailboxes(1, &BOXES).await;
    let (alice, bob) = (cluster.mailbox(1, BOXES[0]), cluster.mailbox(1, BOXES[1]));
    let began = Instant::now();
    let mut tasks = Vec::new();
    for lane in 0..SENDERS {
        let mut client = Client::open(&alice.target, &alice.credentials, &bob.credentials, "inbox").await;
        let count = messages / SENDERS + u64::from(lane < messages % SENDERS);
        tasks.push(tokio::spawn(async move {
            for _ in 0..count {
                client.send(&BODY).await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("no client panics");
    }
    println!("sent {messages} messages in {:.0} s", began.elapsed().as_secs_f64());
}

/// Waits until the founder has put in order what it was given.
async fn quiet(cluster: &Cluster) {
    let figures = async || {
        let page = cluster.operator(1, "GET", "/metrics", &Value::Null).await;
        page.expect("the node answers").text()
    };
    settle(cluster.pid(1), figures).await;
}

fn applied(status: &Value, id: u64) -> Option<u64> {
    let members = status["members"].as_array()?;
    members.iter().find(|member| member["id"] == id)?["applied"].as_u64()
}

/// From the start of its process until it votes and has applied what the founder has.
async fn join(cluster: &mut Cluster, id: u64) -> Duration {
    let (name, site) = SITES[id as usize - 1];
    cluster.add(id, name, site, &[1]);
    let began = Instant::now();
    cluster.start(id);
    loop {
        tokio::time::sleep(LOOK).await;
        cluster.assert_alive(id);
        assert!(
            began.elapsed() < JOIN_MAX,
            "node {id} does not join\n{}",
            cluster.log_tails()
        );
        let Some(theirs) = cluster.status(1).await else {
            continue;
        };
        let role = roles(&theirs).remove(&id).unwrap_or_default();
        if role != "follower" {
            continue;
        }
        let own = cluster.status(id).await.unwrap_or_default();
        let (own, founder) = (applied(&own, id), applied(&theirs, 1));
        if own.is_some() && own >= founder {
            return began.elapsed();
        }
    }
}

/// The files that the founder made for who joins.
fn snapshot(cluster: &Cluster) -> PathBuf {
    let folder = cluster.home(1).join("data/snapshots");
    let mut found = std::fs::read_dir(folder)
        .expect("a node has a folder of snapshots")
        .flatten();
    let snapshot = found.find(|entry| entry.file_name().to_string_lossy().starts_with("snapshot-"));
    snapshot.expect("who joined was given a snapshot").path()
}

fn bytes_in(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).expect("a folder").flatten();
    files.map(|file| file.metadata().map_or(0, |meta| meta.len())).sum()
}

/// Two nodes join one after the other, each beside a copy of the files that it was given.
pub async fn measure() -> Vec<Row> {
    let patients = number_from("VERTEBRA_BENCH_PATIENTS", 1_000_000);
    let messages = number_from("VERTEBRA_BENCH_MESSAGES", 1_000_000);
    let folder = Folder::new("bench-join-files");
    let mut cluster = Cluster::new("bench-join")
        .with_configuration("")
        .formed(&SITES[..1])
        .await;
    fill(&cluster, folder.path(), patients, messages).await;
    quiet(&cluster).await;
    let own = cpu(std::process::id());
    let (mut joins, mut copies, mut bytes) = (Vec::new(), Vec::new(), 0);
    for id in 2..=SITES.len() as u64 {
        if id > 2 {
            tokio::time::sleep(FILES_FORGOTTEN).await;
        }
        let (founder, began) = (cpu(cluster.pid(1)), Instant::now());
        let joined = join(&mut cluster, id).await;
        let (founder, joiner) = (cpu(cluster.pid(1)) - founder, cpu(cluster.pid(id)));
        println!(
            "node {id} joined in {:.1} s; CPU {:.1} s of the founder, {:.1} s of its own\n{}",
            joined.as_secs_f64(),
            founder.as_secs_f64(),
            joiner.as_secs_f64(),
            cluster.log_tails()
        );
        quiet(&cluster).await;
        println!(
            "the founder was quiet {:.0} s after the start",
            began.elapsed().as_secs_f64()
        );
        let files = snapshot(&cluster);
        bytes = bytes_in(&files);
        let copy = folder.path().join("copy");
        std::fs::create_dir(&copy).expect("the folder can be written");
        let copied = Rsync::of(&files).copy(&copy);
        assert_eq!(bytes_in(&copy), bytes, "all was copied");
        std::fs::remove_dir_all(&copy).expect("the copy is ours");
        println!(
            "rsync copied {:.0} MB in {:.1} s",
            bytes as f64 / MB,
            copied.as_secs_f64()
        );
        joins.push(joined.as_secs_f64());
        copies.push(copied.as_secs_f64());
    }
    let ratios = joins.iter().zip(&copies).map(|(join, copy)| join / copy).collect();
    vec![Row {
        measure: format!("join of a node to {patients} patients and {messages} messages, until it votes"),
        ours: format!("{:.1} s", median(joins)),
        peer: format!(
            "rsync of the {:.0} MB that it was given, TLS on loopback, synced: {:.1} s",
            bytes as f64 / MB,
            median(copies)
        ),
        figure: median(ratios),
        unit: "×",
        least: Bound::AtMost(2.0),
        aim: Bound::AtMost(1.2),
        own_cpu: cpu(std::process::id()).saturating_sub(own),
    }]
}
