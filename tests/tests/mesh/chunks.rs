//! Chunked messages: order, repetition, refusals, compression.

use crate::{assert_error, ours, world};
use vertebra_tests::mesh::{Mailbox, V1, V2, WORKFLOW, message_id};

async fn begin(alice: &mut Mailbox, to: &str, total: u32, first: &[u8]) -> String {
    let range = format!("1:{total}");
    let answer = alice.post(to, WORKFLOW, &[("Mex-Chunk-Range", &range)], first).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    message_id(&answer)
}

async fn chunk_of(bob: &mut Mailbox, message: &str, number: u32) -> (u16, Vec<u8>) {
    let answer = bob.call("GET", &format!("inbox/{message}/{number}"), &[], b"").await;
    (answer.status, answer.body)
}

#[tokio::test]
async fn a_chunked_message_is_whole_when_its_last_chunk_is_there() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let message = begin(&mut alice, "X26ABC2", 10, b"chunk 1").await;
    for number in 2..=10 {
        assert_eq!(bob.inbox().await.len(), 0, "not before chunk {number}");
        let body = format!("chunk {number}");
        let answer = alice.post_chunk(&message, number, 10, body.as_bytes()).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    assert_eq!(bob.inbox().await, [message.clone()]);
    let first = bob.download(&message).await;
    assert_eq!(first.status, 206);
    assert_eq!(first.header("mex-chunk-range"), Some("1:10"));
    assert_eq!(first.header("mex-total-chunks"), Some("10"));
    for number in 1..=10 {
        let (status, body) = chunk_of(&mut bob, &message, number).await;
        assert_eq!(status, if number < 10 { 206 } else { 200 }, "chunk {number}");
        assert_eq!(body, format!("chunk {number}").into_bytes());
    }
    assert_eq!(chunk_of(&mut bob, &message, 11).await.0, 404);
}

#[tokio::test]
async fn a_chunk_is_answered_in_the_shape_of_its_version() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    let message = begin(&mut alice, "X26ABC2", 3, b"1").await;
    let path = format!("outbox/{message}/2");
    let v1 = alice
        .call("POST", &path, &[("Accept", V1), ("Mex-Chunk-Range", "2:3")], b"2")
        .await;
    assert_eq!(v1.json()["messageID"], message.as_str(), "{}", v1.text());
    assert_eq!(v1.json()["blockID"], 2);
    let path = format!("outbox/{message}/3");
    let v2 = alice
        .call("POST", &path, &[("Accept", V2), ("Mex-Chunk-Range", "3:3")], b"3")
        .await;
    assert_eq!(v2.status, 202);
    if world.node.is_some() {
        assert_eq!(
            v2.json()["message_id"],
            message.as_str(),
            "as the specification has it: {}",
            v2.text()
        );
    }
}

#[tokio::test]
async fn chunks_may_come_in_any_order() {
    let Some(world) = ours("any order").await else { return };
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let large = vec![7u8; 400_000];
    for order in [[5, 4, 3, 2], [3, 5, 2, 4], [2, 3, 5, 4]] {
        let message = begin(&mut alice, "X26ABC2", 5, b"1").await;
        for (sent, number) in order.into_iter().enumerate() {
            assert!(!bob.inbox().await.contains(&message), "whole after {sent} of {order:?}");
            let answer = alice.post_chunk(&message, number, 5, &large[number as usize..]).await;
            assert_eq!(answer.status, 202, "{}", answer.text());
        }
        assert!(bob.inbox().await.contains(&message));
        for number in 2..=5 {
            assert!(chunk_of(&mut bob, &message, number).await.1 == large[number as usize..]);
        }
    }
}

#[tokio::test]
async fn a_chunk_may_be_sent_again() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let message = begin(&mut alice, "X26ABC2", 3, b"one").await;
    for _ in 0..3 {
        let answer = alice.post_chunk(&message, 2, 3, b"two").await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    assert_eq!(bob.inbox().await.len(), 0);
    assert_eq!(alice.post_chunk(&message, 3, 3, b"three").await.status, 202);
    assert_eq!(bob.inbox().await, [message.clone()]);
    assert_eq!(chunk_of(&mut bob, &message, 2).await.1, b"two");
}

#[tokio::test]
async fn a_chunk_after_the_last_one_is_locked_out() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    let message = begin(&mut alice, "X26ABC2", 2, b"one").await;
    assert_eq!(alice.post_chunk(&message, 2, 2, b"two").await.status, 202);
    assert_eq!(alice.post_chunk(&message, 2, 2, b"TWO").await.status, 423);
}

#[tokio::test]
async fn a_chunk_range_that_does_not_fit_is_refused() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    let message = begin(&mut alice, "X26ABC2", 3, b"one").await;
    for (number, range) in [(2, "3:3"), (2, "4:3"), (2, "0:3"), (2, "x"), (2, ""), (0, "0:3")] {
        for accept in [V1, V2] {
            let path = format!("outbox/{message}/{number}");
            let answer = alice
                .call("POST", &path, &[("Accept", accept), ("Mex-Chunk-Range", range)], b"x")
                .await;
            assert_error(&answer, accept, 417, "SEND", "InvalidHeaderChunks");
        }
    }
    let beyond = alice.post_chunk(&message, 4, 4, b"x").await;
    assert_eq!(beyond.status, 406, "{}", beyond.text());
    let no_number = alice
        .call(
            "POST",
            &format!("outbox/{message}/two"),
            &[("Mex-Chunk-Range", "2:3")],
            b"x",
        )
        .await;
    assert_eq!(no_number.status, 400, "{}", no_number.text());
}

#[tokio::test]
async fn a_chunk_of_no_message_is_not_found() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    assert_eq!(
        alice.post_chunk("20200101000000000000_ABCDEF", 2, 3, b"x").await.status,
        404
    );
    assert_eq!(alice.post_chunk("NOTANID", 2, 3, b"x").await.status, 404);
}

#[tokio::test]
async fn a_chunk_for_another_mailboxs_message_is_forbidden() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let message = begin(&mut alice, "X26ABC3", 2, b"one").await;
    assert_eq!(bob.post_chunk(&message, 2, 2, b"two").await.status, 403);
}

#[tokio::test]
async fn a_chunk_cannot_change_the_content_encoding() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    let message = begin(&mut alice, "X26ABC2", 2, b"one").await;
    let headers = [("Mex-Chunk-Range", "2:2"), ("Content-Encoding", "gzip")];
    let answer = alice
        .call("POST", &format!("outbox/{message}/2"), &headers, b"two")
        .await;
    assert_eq!(answer.status, 417, "{}", answer.text());
}

#[tokio::test]
async fn an_unfinished_message_cannot_be_read() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let message = begin(&mut alice, "X26ABC2", 2, b"one").await;
    let answer = bob.download(&message).await;
    assert_eq!(answer.status, 410, "{}", answer.text());
    assert_eq!(
        bob.call("HEAD", &format!("inbox/{message}"), &[], b"").await.status,
        410
    );
    assert_eq!(
        alice.call("HEAD", &format!("inbox/{message}"), &[], b"").await.status,
        200,
        "the sender may look"
    );
}
