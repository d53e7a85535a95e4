//! What happens to one member's disk: damage, which is repaired from another member while it serves, and a full one.

use crate::{SITES, Turn, age_s, newcomer, renamed};
use rand::{RngCore, SeedableRng, rngs::StdRng};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use vertebra_tests::cluster::{Cluster, WAIT_MAX};
use vertebra_tests::mesh::{Mailbox, WORKFLOW};

/// Small segments, and a log that is purged within seconds.
const OFTEN: &str = "[journal]\nlog_segment_bytes = 8388608\nbodies_segment_bytes = 16777216\n\
                     audit_segment_bytes = 8388608\nreserve_bytes = 33554432\n[ledger]\ncheckpoint_ms = 500\n";
/// What rides in a command, and what lies in pieces.
const SIZES: [usize; 2] = [20_000, 300_000];
/// Their messages fill more than two segments of the log's stream.
const ROUNDS: u64 = 1_000;
const DAMAGED: u64 = 2;
/// From a state older than this no place is shown.
const STALE: Duration = Duration::from_secs(6);

fn body(bytes: usize, seed: u64) -> Vec<u8> {
    let mut body = vec![0; bytes];
    StdRng::seed_from_u64(seed).fill_bytes(&mut body);
    body
}

/// Turns over a byte in the middle of the first copy of `body` below `folder`; gives whether one was found.
fn flip(folder: &Path, body: &[u8]) -> bool {
    for entry in fs::read_dir(folder).expect("the folder can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            if flip(&path, body) {
                return true;
            }
            continue;
        }
        let bytes = fs::read(&path).expect("the file can be read");
        if let Some(at) = bytes.windows(64).position(|window| window == &body[..64]) {
            let file = fs::File::options()
                .write(true)
                .open(&path)
                .expect("the file can be written");
            let middle = at + 1_000;
            file.write_all_at(&[!bytes[middle]], middle as u64)
                .expect("the file can be written");
            return true;
        }
    }
    false
}

/// Waits until nothing damaged is left in the files of `node`, while the log goes on.
async fn await_sound(cluster: &Cluster, node: u64, sender: &mut Mailbox) {
    let began = Instant::now();
    while !cluster.run(node, &["verify", "--deep"]).status.success() {
        assert!(
            began.elapsed() < WAIT_MAX,
            "the damage is still there: {}",
            cluster.log_tails()
        );
        sender.send("X26TWO", WORKFLOW, &[], b"the log goes on").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn assert_reads(recipient: &mut Mailbox, sent: &str, body: &[u8]) {
    let answer = recipient.download(sent).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        answer.body == body,
        "{} bytes came back, others than were sent",
        answer.body.len()
    );
}

#[tokio::test]
async fn damage_is_repaired_from_another_member_while_serving_and_its_segment_goes() {
    let _turn = Turn::take();
    let cluster = Cluster::new("damage").with_configuration(OFTEN).formed(&SITES).await;
    cluster.add_mailboxes(1, &["X26ONE", "X26TWO"]).await;
    let mut sender = cluster.mailbox(1, "X26ONE");
    let mut kept = Vec::new();
    for (number, bytes) in (0..).zip(SIZES) {
        let body = body(bytes, number);
        kept.push((sender.send("X26TWO", WORKFLOW, &[], &body).await, body));
    }
    // Nobody reads this one before its segment is written anew.
    let unread = body(20_000, 99);
    let unread_sent = sender.send("X26TWO", WORKFLOW, &[], &unread).await;
    for round in 0..ROUNDS {
        sender.send("X26TWO", WORKFLOW, &[], &body(20_000, 1_000 + round)).await;
    }
    cluster.await_level().await;
    let journal = cluster.home(DAMAGED).join("data/journal");
    for body in kept.iter().map(|(_, body)| body).chain([&unread]) {
        assert!(
            flip(&journal, body),
            "a body of {} bytes lies in the journal",
            body.len()
        );
    }
    let refused = cluster.run(DAMAGED, &["verify"]);
    assert!(!refused.status.success(), "a damaged segment is found");
    let mut recipient = cluster.mailbox(DAMAGED, "X26TWO");
    for (sent, body) in &kept {
        assert_reads(&mut recipient, sent, body).await;
    }
    let log = cluster.log_text(DAMAGED);
    assert!(log.contains("was replaced by another member's"), "{log}");
    // Nobody need ask for the rest: the segment is emptied by itself.
    await_sound(&cluster, DAMAGED, &mut sender).await;
    kept.push((unread_sent, unread));
    for (sent, body) in &kept {
        assert_reads(&mut recipient, sent, body).await;
    }
}

#[tokio::test]
async fn a_leader_with_damage_is_backed_up_and_takes_a_node_in_with_what_another_member_has() {
    let _turn = Turn::take();
    let mut cluster = Cluster::new("damaged-leader")
        .with_configuration(OFTEN)
        .formed(&SITES)
        .await;
    cluster.add_mailboxes(1, &["X26ONE", "X26TWO"]).await;
    let leads = cluster.await_leader(&cluster.ids()).await;
    let mut sender = cluster.mailbox(leads, "X26ONE");
    let mut kept = Vec::new();
    for number in 0..2 {
        let body = body(20_000, number);
        kept.push((sender.send("X26TWO", WORKFLOW, &[], &body).await, body));
    }
    for round in 0..ROUNDS {
        sender.send("X26TWO", WORKFLOW, &[], &body(20_000, 1_000 + round)).await;
    }
    cluster.await_level().await;
    let journal = cluster.home(leads).join("data/journal");
    assert!(flip(&journal, &kept[0].1), "the first lies in the journal");
    let to = cluster.home(leads).join("backup");
    cluster.ok(leads, &["backup", to.to_str().expect("a plain path")]);
    // What lies beside the first is written anew. Only then is it known in which place the second is read.
    await_sound(&cluster, leads, &mut sender).await;
    assert!(flip(&journal, &kept[1].1), "the second lies in the journal");
    let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leads).collect();
    cluster.add(4, "b2", "south", &others);
    cluster.start(4);
    cluster.ok(4, &["join", "--timeout", "50"]);
    let log = cluster.log_text(leads);
    assert!(log.contains("the files of a snapshot were made"), "{log}");
    assert_eq!(log.matches("was replaced by another member's").count(), 2, "{log}");
    cluster.await_ready(4).await;
    let mut recipient = cluster.mailbox(4, "X26TWO");
    for (sent, body) in &kept {
        assert_reads(&mut recipient, sent, body).await;
    }
}

#[tokio::test]
async fn a_leader_whose_disk_is_full_lets_another_lead() {
    let _turn = Turn::take();
    let cluster = Cluster::new("full").on_disks().formed(&SITES).await;
    cluster.add_mailboxes(1, &["X26ONE", "X26TWO"]).await;
    let all = cluster.ids();
    let full = cluster.await_leader(&all).await;
    cluster.fill_disk(full, 20);
    let with_room: Vec<u64> = all.iter().copied().filter(|id| *id != full).collect();
    cluster.await_leader(&with_room).await;
    for &id in &with_room {
        assert_takes(&cluster, id).await;
    }
    let log = cluster.log_text(full);
    assert!(log.contains("disk is full: it no longer leads"), "{log}");
    cluster.free_disk(full);
    assert_takes(&cluster, full).await;
}

/// It hears from its leader all the time and cannot follow it: its state ages.
#[tokio::test]
async fn a_follower_whose_disk_is_full_says_how_old_its_state_is_and_shows_no_place_from_an_old_one() {
    let _turn = Turn::take();
    let bound = format!("{OFTEN}[log]\nstale_ms_max = {}\n", STALE.as_millis());
    let cluster = Cluster::new("full-follower")
        .on_disks()
        .with_configuration(&bound)
        .formed(&SITES)
        .await;
    let leads = cluster.await_leader(&cluster.ids()).await;
    let full = cluster.ids().into_iter().find(|&id| id != leads).expect("a follower");
    let made = newcomer(&mut cluster.worker(leads), 1).await;
    cluster.await_level().await;
    assert!(made.json["address"].is_array(), "{}", made.json);
    cluster.fill_disk(full, 0);
    // The others go on, and the follower's journal soon has no room left.
    let (mut writer, mut reader) = (cluster.worker(leads), cluster.worker(full));
    let (mut newest, began) = (made, Instant::now());
    let mut changed_at = Instant::now();
    let aged = loop {
        let read = reader.read(newest.id()).await;
        if read.ok(200).version() < newest.version() {
            break read;
        }
        assert!(began.elapsed() < WAIT_MAX, "it follows\n{}", cluster.log_tails());
        let version = newest.version();
        newest = writer
            .patch(newest.id(), version, &renamed(&newest.json, version + 1))
            .await;
        assert_eq!(newest.ok(200).version(), version + 1);
        changed_at = Instant::now();
    };
    assert!(age_s(&aged.answer).is_some(), "an old state is not called the present");
    loop {
        // Each look is put on the record, and what room its segment still has is all there is.
        tokio::time::sleep(STALE / 50).await;
        let asked = Instant::now();
        let read = reader.read(newest.id()).await;
        assert!(read.ok(200).version() < newest.version());
        let (at_least, age) = (asked - changed_at, age_s(&read.answer).expect("an age"));
        assert!(
            age + 1 >= at_least.as_secs(),
            "it says {age} s after {at_least:?}\n{}",
            cluster.log_tails()
        );
        if at_least > STALE {
            assert!(read.json["address"].is_null(), "a place after {at_least:?}");
            break;
        }
    }
    cluster.free_disk(full);
    let began = Instant::now();
    loop {
        let read = reader.read(newest.id()).await;
        if read.ok(200).version() == newest.version() && age_s(&read.answer).is_none() {
            assert!(read.json["address"].is_array(), "the present is whole");
            break;
        }
        assert!(began.elapsed() < WAIT_MAX, "it stays old\n{}", cluster.log_tails());
    }
}

/// A message to a node is taken, at once or when it has noticed who leads and that it has room.
async fn assert_takes(cluster: &Cluster, id: u64) {
    let (mut sender, began) = (cluster.mailbox(id, "X26ONE"), Instant::now());
    while sender.post("X26TWO", WORKFLOW, &[], b"there is room").await.status != 202 {
        assert!(
            began.elapsed() < WAIT_MAX,
            "node {id} takes no message: {}",
            cluster.log_tails()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
