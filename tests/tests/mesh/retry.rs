//! A retried POST /outbox gives the first answer: the published client does not retry it by itself, so people do.

use crate::ours;
use vertebra_tests::mesh::{WORKFLOW, message_id};

#[tokio::test]
async fn the_same_message_sent_again_has_the_same_identifier_and_is_delivered_once() {
    let Some(world) = ours("safe retry").await else { return };
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    for body in [vec![1u8; 100], vec![2u8; 100_000]] {
        let local = format!("retry-{}", body.len());
        let headers = [("Mex-LocalID", local.as_str()), ("Mex-Subject", "s")];
        let first = alice.send(bob.id(), WORKFLOW, &headers, &body).await;
        alice.disconnect();
        let again = alice.send(bob.id(), WORKFLOW, &headers, &body).await;
        assert_eq!(first, again);
        assert_eq!(bob.inbox().await.iter().filter(|id| **id == first).count(), 1);
    }
    assert_eq!(bob.inbox().await.len(), 2);
}

#[tokio::test]
async fn of_many_retries_at_once_one_message_is_made() {
    let Some(world) = ours("safe retry").await else { return };
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let mut alice = world.mailbox(1);
        tasks.push(tokio::spawn(async move {
            alice
                .send("X26ABC2", WORKFLOW, &[("Mex-LocalID", "at once")], b"same")
                .await
        }));
    }
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.expect("no task panics"));
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(world.mailbox(2).inbox().await, ids);
}

#[tokio::test]
async fn other_content_headers_or_no_local_id_make_a_new_message() {
    let Some(world) = ours("safe retry").await else { return };
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let to = bob.id().to_owned();
    let local = ("Mex-LocalID", "same");
    let mut ids = vec![
        alice.send(&to, WORKFLOW, &[local], b"content").await,
        alice.send(&to, WORKFLOW, &[local], b"other content").await,
        alice
            .send(&to, WORKFLOW, &[local, ("Mex-Subject", "other")], b"content")
            .await,
        alice.send(&to, "OTHER_FLOW", &[local], b"content").await,
        alice.send("X26ABC3", WORKFLOW, &[local], b"content").await,
        alice.send(&to, WORKFLOW, &[], b"content").await,
        alice.send(&to, WORKFLOW, &[], b"content").await,
    ];
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    assert_eq!(bob.inbox().await.len(), count - 1);
}

#[tokio::test]
async fn a_retried_chunked_message_is_delivered_once() {
    let Some(world) = ours("safe retry").await else { return };
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let headers = [("Mex-LocalID", "chunked"), ("Mex-Chunk-Range", "1:2")];
    let first = alice.send(bob.id(), WORKFLOW, &headers, b"one").await;
    assert_eq!(alice.post_chunk(&first, 2, 2, b"two").await.status, 202);
    let answer = alice.post(bob.id(), WORKFLOW, &headers, b"one").await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let again = message_id(&answer);
    let chunk = alice.post_chunk(&again, 2, 2, b"two").await;
    // The retried message is the first one: its chunk is repeated, or already complete.
    assert!(matches!(chunk.status, 202 | 423), "{}", chunk.text());
    assert_eq!(bob.inbox().await, [first], "delivered once");
}
