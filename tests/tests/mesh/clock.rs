//! Expiry and purge, with the sandbox's clock moved: on a sandbox of its own, because a clock is not set back.

use serde_json::json;
use vertebra_tests::mesh::{Mailbox, V1, V2, WORKFLOW};
use vertebra_tests::node::{Folder, Node};
use vertebra_tests::process::wait_until;

const MINUTE_MS: i64 = 60 * 1000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// The sandbox with its clock moved, and clients whose tokens follow it.
struct Moved {
    node: Node,
    ahead_ms: i64,
}

impl Moved {
    async fn advance(&mut self, ms: i64) {
        let answer = self
            .node
            .admin("POST", "/admin/clock", &json!({ "advance_ms": ms }))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.ahead_ms += ms;
    }

    fn mailbox(&self, at: usize) -> Mailbox {
        let mut mailbox = self.node.mailbox(at);
        mailbox.ahead = jiff::SignedDuration::from_millis(self.ahead_ms);
        mailbox
    }
}

/// Waits until `message` has the status `wanted` for its sender.
async fn await_status(alice: &mut Mailbox, message: &str, wanted: &str) {
    let path = format!("outbox/tracking?messageID={message}");
    let started = std::time::Instant::now();
    loop {
        let answer = alice.call("GET", &path, &[("Accept", V2)], b"").await;
        let status = if answer.status == 200 {
            answer.json()["status"].clone()
        } else {
            answer.status.into()
        };
        if status == wanted || status.to_string() == wanted {
            return;
        }
        assert!(
            started.elapsed().as_secs() < 30,
            "{message} is {status} and not {wanted}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_message_not_collected_for_five_days_is_reported_and_after_thirty_purged() {
    if std::env::var_os("VERTEBRA_PEER").is_some() {
        return println!("LEFT OUT against a peer: the clock");
    }
    let folder = Folder::new("clock");
    let mut moved = Moved {
        node: Node::start(&folder.path().join("data")),
        ahead_ms: 0,
    };
    let (mut alice, mut bob) = (moved.mailbox(0), moved.mailbox(1));
    let headers = [("Mex-LocalID", "late"), ("Mex-Subject", "fruit")];
    let late = alice.send(bob.id(), WORKFLOW, &headers, b"x").await;
    let collected = alice.send(bob.id(), WORKFLOW, &[], b"y").await;
    let unfinished = alice
        .send(bob.id(), WORKFLOW, &[("Mex-Chunk-Range", "1:2")], b"z")
        .await;
    bob.acknowledge(&collected).await;

    moved.advance(5 * DAY_MS - MINUTE_MS).await;
    bob = moved.mailbox(1);
    assert_eq!(bob.inbox().await, [late.clone()], "one minute before, it still waits");
    moved.advance(2 * MINUTE_MS).await;
    (alice, bob) = (moved.mailbox(0), moved.mailbox(1));
    await_status(&mut alice, &late, "undeliverable").await;
    assert!(bob.inbox().await.is_empty());
    assert_eq!(bob.download(&late).await.status, 410);
    await_status(&mut alice, &unfinished, "undeliverable").await;
    await_status(&mut alice, &collected, "acknowledged").await;

    let mut report = None;
    for message in alice.inbox().await {
        let answer = alice.download(&message).await;
        if answer.header("mex-linkedmsgid") == Some(&late) {
            report = Some((message, answer));
        }
    }
    let (report, answer) = report.expect("the sender has a non-delivery report");
    for (name, value) in [
        ("mex-messagetype", "REPORT"),
        ("mex-statuscode", "14"),
        ("mex-statusevent", "SEND"),
        ("mex-statussuccess", "ERROR"),
        ("mex-subject", "fruit"),
        ("mex-localid", "late"),
        ("mex-workflowid", WORKFLOW),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert!(answer.body.is_empty());
    let tracked = alice
        .call(
            "GET",
            &format!("outbox/tracking?messageID={late}"),
            &[("Accept", V1)],
            b"",
        )
        .await;
    assert_eq!(tracked.json()["statusSuccess"], "ERROR", "{}", tracked.text());

    // What expired stays expired across a crash, and the sandbox's clock goes on from the log's time.
    moved.node.kill();
    moved.node.restart();
    (alice, bob) = (moved.mailbox(0), moved.mailbox(1));
    await_status(&mut alice, &late, "undeliverable").await;
    assert_eq!(
        bob.download(&collected).await.status,
        410,
        "collected: it cannot be downloaded again"
    );

    moved.advance(26 * DAY_MS).await;
    (alice, bob) = (moved.mailbox(0), moved.mailbox(1));
    await_status(&mut alice, &late, "404").await;
    await_status(&mut alice, &collected, "404").await;
    assert_eq!(bob.download(&collected).await.status, 404);
    assert_eq!(
        alice.call("HEAD", &format!("inbox/{report}"), &[], b"").await.status / 100,
        4
    );
    wait_until("the node still runs", std::time::Duration::from_secs(1), || {
        moved.node.ended().is_none()
    });
}
