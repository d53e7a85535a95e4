//! An orderly stop finishes what runs and loses nothing.

use crate::{Load, seed};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use vertebra_tests::books::Findings;
use vertebra_tests::mesh::WORKFLOW;
use vertebra_tests::node::{Folder, Node};
use vertebra_tests::process::signal;
use vertebra_tests::wire::Connection;

#[tokio::test]
async fn sigterm_under_load_loses_nothing_and_ends_with_0() {
    let seed = seed();
    let folder = Folder::new("stop");
    let mut node = Node::start(&folder.path().join("data"));
    let mut load = Load::new(8, seed);
    for _ in 0..3 {
        let tasks = load.run(&node, &Arc::new(AtomicBool::new(false)));
        tokio::time::sleep(Duration::from_millis(500)).await;
        let pid = node.pid();
        assert!(signal(pid, nix::sys::signal::Signal::SIGTERM));
        for task in tasks {
            task.await.expect("no client panics");
        }
        let status = node.await_end();
        assert_eq!(status.code(), Some(0), "{}", node.log_text());
        node.restart();
        load.settle(&node).await;
        assert_eq!(load.audit(&node, true).await, Findings::default(), "seed {seed}");
    }
    assert!(load.acknowledged().await > 10, "the load was no load");
}

#[tokio::test]
async fn a_request_in_flight_is_finished_after_sigterm_and_new_ones_are_not_taken() {
    let folder = Folder::new("flight");
    let mut node = Node::start(&folder.path().join("data"));
    let alice = node.mailbox(0);
    let mut connection = Connection::open(&alice.target).await.expect("a connection");
    let body = vec![3u8; 1_000_000];
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\nMex-To: X26ABC2\r\nMex-WorkflowID: {WORKFLOW}\r\n\
         Content-Length: {}\r\n\r\n",
        alice.path("outbox"),
        alice.credentials.token(),
        body.len()
    );
    connection.write(head.as_bytes()).await.expect("the node reads");
    connection.write(&body[..500_000]).await.expect("the node reads");
    // A warm-up on another connection shows that the first half has reached the node by now.
    node.mailbox(0).call("GET", "inbox", &[], b"").await;
    assert!(signal(node.pid(), nix::sys::signal::Signal::SIGTERM));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(node.ended().is_none(), "it waits for the request");
    assert!(
        Connection::open(&node.mailbox(1).target).await.is_err(),
        "it takes no new connection"
    );
    connection.write(&body[500_000..]).await.expect("the node still reads");
    let answer = connection.answer(false).await.expect("the request is finished");
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(node.await_end().code(), Some(0));
    node.restart();
    let mut bob = node.mailbox(1);
    let message = bob.inbox().await.remove(0);
    assert!(bob.download(&message).await.body == body);
}

#[tokio::test]
async fn a_request_on_its_way_at_sigterm_is_answered_on_open_connections_and_told_that_it_is_the_last() {
    let folder = Folder::new("linger");
    let mut node = Node::start(&folder.path().join("data"));
    let target = node.mailbox(0).target;
    // One that has never asked, and one between two requests.
    let fresh = Connection::open(&target).await.expect("a connection");
    let mut kept = Connection::open(&target).await.expect("a connection");
    let headers = [("Host", "a")];
    let first = kept
        .exchange("GET", "/nothing", &headers, b"")
        .await
        .expect("an answer");
    assert!(first.header("connection").is_none(), "nobody stops yet");
    assert!(signal(node.pid(), nix::sys::signal::Signal::SIGTERM));
    // The signal takes its time, so the first answers may not know yet; each connection ends with one that does.
    let mut open = vec![fresh, kept];
    while let Some(mut connection) = open.pop() {
        let answer = connection.exchange("GET", "/nothing", &headers, b"").await;
        let answer = answer.expect("a request on its way at the stop is answered");
        assert_eq!(answer.status, first.status);
        if !answer.closes() {
            open.insert(0, connection);
        }
    }
    assert_eq!(node.await_end().code(), Some(0));
}
