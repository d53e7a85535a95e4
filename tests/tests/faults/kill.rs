//! kill -9 under load, at any moment.

use crate::{Load, count_from, seed};
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use vertebra_tests::books::Findings;
use vertebra_tests::mesh::WORKFLOW;
use vertebra_tests::node::{Folder, Node};

#[tokio::test]
async fn an_acknowledged_message_survives_kill_9() {
    let cycles = count_from("VERTEBRA_KILL_CYCLES", 20);
    let seed = seed();
    let folder = Folder::new("kill");
    let mut node = Node::start_on_two(&folder.path().join("data"));
    let mut load = Load::new(8, seed);
    for cycle in 1..=cycles {
        let tasks = load.run(&node, &Arc::new(AtomicBool::new(false)));
        let alive_ms = load.random.random_range(20..600);
        tokio::time::sleep(Duration::from_millis(alive_ms)).await;
        node.kill();
        for task in tasks {
            task.await.expect("no client panics");
        }
        node.restart();
        let before = load.audit(&node, false).await;
        assert_eq!(
            before,
            Findings::default(),
            "cycle {cycle}, seed {seed}, before anything was repeated"
        );
        load.settle(&node).await;
        let after = load.audit(&node, true).await;
        assert_eq!(after, Findings::default(), "cycle {cycle}, seed {seed}");
    }
    let acknowledged = load.acknowledged().await;
    println!("{cycles} kills, {acknowledged} acknowledged messages: 0 lost, 0 altered, 0 duplicated, order kept");
    assert!(acknowledged > cycles as usize, "the load was no load");
}

#[tokio::test]
async fn a_spent_token_stays_spent_across_kill_9() {
    let folder = Folder::new("token");
    let mut node = Node::start_on_two(&folder.path().join("data"));
    let token = node.credentials(0).token();
    let headers = [("Authorization", token.as_str())];
    assert_eq!(
        node.mailbox(0)
            .post("X26ABC2", WORKFLOW, &headers, b"once")
            .await
            .status,
        202
    );
    node.kill();
    node.restart();
    assert_eq!(
        node.mailbox(0)
            .post("X26ABC2", WORKFLOW, &headers, b"twice")
            .await
            .status,
        403
    );
    assert_eq!(node.mailbox(1).inbox().await.len(), 1);
}

#[tokio::test]
async fn a_chunked_message_goes_on_where_kill_9_cut_it() {
    let folder = Folder::new("chunks");
    let mut node = Node::start_on_two(&folder.path().join("data"));
    let chunk = |number: u8| vec![number; 300_000];
    let mut alice = node.mailbox(0);
    let message = alice
        .send("X26ABC2", WORKFLOW, &[("Mex-Chunk-Range", "1:4")], &chunk(1))
        .await;
    assert_eq!(alice.post_chunk(&message, 3, 4, &chunk(3)).await.status, 202);
    node.kill();
    node.restart();
    let mut alice = node.mailbox(0);
    for number in [4, 2] {
        let answer = alice.post_chunk(&message, number, 4, &chunk(number as u8)).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    let mut bob = node.mailbox(1);
    assert_eq!(bob.inbox().await, [message.clone()]);
    for number in 1..=4u8 {
        let answer = bob.call("GET", &format!("inbox/{message}/{number}"), &[], b"").await;
        assert!(answer.body == chunk(number), "chunk {number} came back altered");
    }
}

#[tokio::test]
async fn an_upload_that_kill_9_cut_leaves_no_message() {
    let folder = Folder::new("upload");
    let mut node = Node::start_on_two(&folder.path().join("data"));
    let alice = node.mailbox(0);
    let mut connection = vertebra_tests::wire::Connection::open(&alice.target)
        .await
        .expect("a connection");
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\nMex-To: X26ABC2\r\nMex-WorkflowID: {WORKFLOW}\r\n\
         Content-Length: 9000000\r\n\r\n",
        alice.path("outbox"),
        alice.credentials.token()
    );
    connection.write(head.as_bytes()).await.expect("the node reads");
    connection.write(&vec![1; 4_000_000]).await.expect("the node reads");
    node.kill();
    node.restart();
    assert!(node.mailbox(1).inbox().await.is_empty());
    node.mailbox(0).send("X26ABC2", WORKFLOW, &[], b"the node works").await;
}
