//! A full disk refuses writes, goes on reading, and is forgiven when there is room again.

use serde_json::json;
use std::time::{Duration, Instant};
use vertebra_tests::disk::{Disk, loop_devices_or_left_out};
use vertebra_tests::mesh::{Mailbox, WORKFLOW};
use vertebra_tests::node::{Folder, Node};
use vertebra_tests::pds::{Client, request_id};

const DISK_MIB: u64 = 6 * 1024;

/// Sends until the answer has that status.
async fn send_until(alice: &mut Mailbox, status: u16) -> vertebra_tests::wire::Answer {
    let started = Instant::now();
    let body = vec![9u8; 200_000];
    loop {
        let answer = alice.post("X26ABC2", WORKFLOW, &[], &body).await;
        if answer.status == status {
            return answer;
        }
        assert!(
            matches!(answer.status, 202 | 503),
            "{}: {}",
            answer.status,
            answer.text()
        );
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "no {status} after a minute"
        );
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_with_503_and_recovers_by_itself() {
    if !loop_devices_or_left_out("a_full_disk_refuses_writes_with_503_and_recovers_by_itself") {
        return;
    }
    let folder = Folder::new("full");
    let disk = Disk::new(&folder.path().join("image"), &folder.path().join("mount"), DISK_MIB);
    let mut node = Node::start(&disk.path().join("data"));
    let (mut alice, mut bob) = (node.mailbox(0), node.mailbox(1));
    let mut worker = Client::worker(&node);
    let kept = alice.send("X26ABC2", WORKFLOW, &[], b"before").await;
    // Somebody else takes all room but 4 MiB: far less than any reserve.
    disk.fill(4);

    let refused = send_until(&mut alice, 503).await;
    assert!(refused.header("retry-after").is_some(), "it says when to come again");
    assert_eq!(bob.download(&kept).await.body, b"before", "reading goes on");
    assert!(bob.inbox().await.contains(&kept));
    let seen = worker.read("9000000009").await;
    let number = seen.ok(200).id().to_owned();
    let change = json!([{"op": "replace", "path": "/gender", "value": "male"}]);
    let id = request_id();
    let refused = worker.patch_as(&id, &number, seen.version(), &change).await;
    refused.refused(503, "SERVICE_UNAVAILABLE");
    assert!(refused.header("retry-after").is_some(), "it says when to come again");
    assert_eq!(worker.read(&number).await.ok(200).version(), seen.version());
    assert!(node.ended().is_none(), "the node does not end for want of room");

    disk.free();
    send_until(&mut alice, 202).await;
    let changed = worker.patch_as(&id, &number, seen.version(), &change).await;
    assert_eq!(
        changed.ok(200).version(),
        seen.version() + 1,
        "the same request, now that there is room"
    );
    let listed = bob.inbox().await;
    node.kill();
    node.restart();
    assert_eq!(
        node.mailbox(1).inbox().await,
        listed,
        "and all that was accepted is still there"
    );
}
