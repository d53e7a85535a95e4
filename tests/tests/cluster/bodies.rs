//! Large bodies do not go through the log: they are on a majority before the message is accepted, and on every node soon.

use crate::{SITES, Turn};
use rand::{RngCore, SeedableRng, rngs::StdRng};
use vertebra_tests::cluster::Cluster;
use vertebra_tests::mesh::WORKFLOW;

/// Just above what rides in a command, several pieces, and many.
const SIZES: [usize; 3] = [33 * 1024, 700_000, 5_000_000];

fn body(bytes: usize, seed: u64) -> Vec<u8> {
    let mut body = vec![0; bytes];
    StdRng::seed_from_u64(seed).fill_bytes(&mut body);
    body
}

#[tokio::test]
async fn a_large_body_is_read_on_every_node_also_when_the_one_that_took_it_is_dead() {
    let _turn = Turn::take();
    let mut cluster = Cluster::form("bodies", &SITES).await;
    cluster.add_mailboxes(1, &["X26ONE", "X26TWO"]).await;
    let mut kept = Vec::new();
    for taker in 1..=3 {
        for (number, bytes) in (0..).zip(SIZES) {
            let body = body(bytes, taker * 10 + number);
            let sent = cluster
                .mailbox(taker, "X26ONE")
                .send("X26TWO", WORKFLOW, &[], &body)
                .await;
            for reader in 1..=3 {
                let answer = cluster.mailbox(reader, "X26TWO").download(&sent).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert!(answer.body == body, "{bytes} bytes taken on {taker}, read on {reader}");
            }
            kept.push((sent, body));
        }
    }
    // A moment after it was accepted, the node that took it is gone.
    for taker in 1..=3 {
        let body = body(5_000_000, 100 + taker);
        let sent = cluster
            .mailbox(taker, "X26ONE")
            .send("X26TWO", WORKFLOW, &[], &body)
            .await;
        cluster.kill(taker);
        let others = cluster.running();
        cluster.await_leader(&others).await;
        for reader in others {
            let answer = cluster.mailbox(reader, "X26TWO").download(&sent).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(answer.body == body, "taken on {taker}, which is dead, read on {reader}");
        }
        cluster.start(taker);
        cluster.await_ready(taker).await;
        cluster.await_level().await;
        kept.push((sent, body));
    }
    // One that was away while bodies came fetches them.
    cluster.kill(3);
    cluster.await_leader(&[1, 2]).await;
    let body = body(5_000_000, 1_000);
    let sent = cluster.mailbox(1, "X26ONE").send("X26TWO", WORKFLOW, &[], &body).await;
    kept.push((sent, body));
    cluster.start(3);
    cluster.await_ready(3).await;
    cluster.await_level().await;
    // Nobody else is there to ask any more, but a majority is: 3 serves what it fetched.
    let mut recipient = cluster.mailbox(3, "X26TWO");
    for (sent, body) in &kept {
        let answer = recipient.download(sent).await;
        assert!(
            answer.status == 200 && answer.body == *body,
            "{}: {} bytes",
            answer.status,
            answer.body.len()
        );
    }
}
