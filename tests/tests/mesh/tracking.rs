//! What a sender learns of its messages.

use crate::world;
use vertebra_tests::mesh::{V1, V2, WORKFLOW};

fn is_stamp(value: &serde_json::Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.len() == 14 && text.bytes().all(|b| b.is_ascii_digit()))
}

#[tokio::test]
async fn a_sender_tracks_a_message_through_its_life() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let headers = [
        ("Mex-LocalID", "track-1"),
        ("Mex-FileName", "f.txt"),
        ("Mex-Subject", "s"),
    ];
    let message = alice.send(bob.id(), WORKFLOW, &headers, b"12345").await;
    let path = format!("outbox/tracking?messageID={message}");
    let v1 = alice.call("GET", &path, &[("Accept", V1)], b"").await.json();
    for (key, value) in [
        ("messageId", message.as_str()),
        ("dtsId", &message),
        ("status", "Accepted"),
        ("statusSuccess", "SUCCESS"),
        ("sender", "X26ABC1"),
        ("recipient", "X26ABC2"),
        ("localId", "track-1"),
        ("fileName", "f.txt"),
        ("subject", "s"),
        ("workflowId", WORKFLOW),
        ("messageType", "Data"),
        ("addressType", "ALL"),
        ("downloadTimestamp", ""),
        ("senderOdsCode", "X26"),
        ("version", "1.0"),
    ] {
        assert_eq!(v1[key], value, "{key} of {v1}");
    }
    assert_eq!((&v1["fileSize"], &v1["chunkCount"]), (&5.into(), &1.into()), "{v1}");
    assert!(is_stamp(&v1["uploadTimestamp"]) && is_stamp(&v1["expiryTime"]), "{v1}");
    let v2 = alice.call("GET", &path, &[("Accept", V2)], b"").await.json();
    for (key, value) in [
        ("message_id", message.as_str()),
        ("status", "accepted"),
        ("local_id", "track-1"),
        ("filename", "f.txt"),
        ("workflow_id", WORKFLOW),
        ("recipient", "X26ABC2"),
        ("recipient_ods_code", "X26"),
    ] {
        assert_eq!(v2[key], value, "{key} of {v2}");
    }
    assert_eq!(v2["status_success"], true);
    assert!(
        v2["upload_timestamp"].as_str().is_some_and(|text| text.contains('T')),
        "{v2}"
    );
    bob.acknowledge(&message).await;
    let v1 = alice.call("GET", &path, &[("Accept", V1)], b"").await.json();
    assert_eq!(v1["status"], "Acknowledged", "{v1}");
    assert!(is_stamp(&v1["downloadTimestamp"]), "{v1}");
    let v2 = alice.call("GET", &path, &[("Accept", V2)], b"").await.json();
    assert_eq!(v2["status"], "acknowledged");
}

#[tokio::test]
async fn an_unfinished_message_is_tracked_as_uploading() {
    let world = world().await;
    let (mut alice, bob) = (world.mailbox(1), world.mailbox(2));
    let message = alice
        .send(bob.id(), WORKFLOW, &[("Mex-Chunk-Range", "1:2")], b"x")
        .await;
    let path = format!("outbox/tracking?messageID={message}");
    assert_eq!(
        alice.call("GET", &path, &[("Accept", V1)], b"").await.json()["status"],
        "Uploading"
    );
    assert_eq!(
        alice.call("GET", &path, &[("Accept", V2)], b"").await.json()["status"],
        "uploading"
    );
}

#[tokio::test]
async fn tracking_by_local_id_finds_one_says_300_for_several_and_404_for_none() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let message = alice.send(bob.id(), WORKFLOW, &[("Mex-LocalID", "one")], b"x").await;
    let answer = alice.call("GET", "outbox/tracking/one", &[("Accept", V1)], b"").await;
    assert_eq!(
        (answer.status, &answer.json()["messageId"]),
        (200, &message.as_str().into())
    );
    for body in [b"a", b"b"] {
        alice
            .send(bob.id(), WORKFLOW, &[("Mex-LocalID", "several")], body)
            .await;
    }
    assert_eq!(
        alice
            .call("GET", "outbox/tracking/several", &[("Accept", V1)], b"")
            .await
            .status,
        300
    );
    assert_eq!(
        alice
            .call("GET", "outbox/tracking/none", &[("Accept", V1)], b"")
            .await
            .status,
        404
    );
    assert_eq!(
        bob.call("GET", "outbox/tracking/one", &[("Accept", V1)], b"")
            .await
            .status,
        404,
        "not the sender"
    );
}

#[tokio::test]
async fn tracking_is_for_the_sender_alone() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let message = alice.send(bob.id(), WORKFLOW, &[], b"x").await;
    for accept in [V1, V2] {
        let path = format!("outbox/tracking?messageID={message}");
        assert_eq!(bob.call("GET", &path, &[("Accept", accept)], b"").await.status, 404);
        let none = "outbox/tracking?messageID=20200101000000000000_ABCDEF";
        assert_eq!(alice.call("GET", none, &[("Accept", accept)], b"").await.status, 404);
        assert_eq!(
            alice
                .call("GET", "outbox/tracking?messageID=", &[("Accept", accept)], b"")
                .await
                .status,
            400
        );
        assert_eq!(
            alice
                .call("GET", "outbox/tracking", &[("Accept", accept)], b"")
                .await
                .status,
            400
        );
    }
}

#[tokio::test]
async fn the_rich_outbox_tells_of_each_message_sent() {
    let world = world().await;
    let (mut alice, bob) = (world.mailbox(1), world.mailbox(2));
    let mut sent = Vec::new();
    for _ in 0..12 {
        sent.push(alice.send(bob.id(), WORKFLOW, &[], b"x").await);
    }
    let rich = alice.call("GET", "outbox/rich", &[], b"").await;
    assert_eq!(rich.status, 200, "{}", rich.text());
    let json = rich.json();
    let messages = json["messages"].as_array().cloned().unwrap_or_default();
    let mut ids: Vec<String> = messages
        .iter()
        .filter_map(|m| m["message_id"].as_str().map(str::to_owned))
        .collect();
    ids.sort_unstable();
    let mut expected = sent.clone();
    expected.sort_unstable();
    assert_eq!(ids, expected);
    assert_eq!(messages[0]["status"], "accepted");
    let few = alice.call("GET", "outbox/rich?max_results=10", &[], b"").await;
    assert_eq!(few.json()["messages"].as_array().map(Vec::len), Some(10));
    assert!(few.json()["links"]["next"].is_string(), "{}", few.text());
    for (query, status) in [
        ("max_results=9", 400),
        ("max_results=5001", 400),
        ("max_results=5000", 200),
    ] {
        assert_eq!(
            alice
                .call("GET", &format!("outbox/rich?{query}"), &[], b"")
                .await
                .status,
            status,
            "{query}"
        );
    }
}
