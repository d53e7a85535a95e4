//! A founder and two who join it are one cluster, and any of them takes any request.

use crate::{SITES, Turn, newcomer, renamed, value};
use std::collections::BTreeMap;
use vertebra_tests::cluster::{Cluster, leader, roles};
use vertebra_tests::mesh::WORKFLOW;

#[tokio::test]
async fn three_nodes_form_one_cluster_and_each_takes_any_request() {
    let _turn = Turn::take();
    let mut cluster = Cluster::form("forming", &SITES).await;
    let status = cluster.status(3).await.expect("the witness answers");
    let members = status["members"].as_array().expect("a list of members");
    let told: Vec<_> = members.iter().map(|one| (&one["name"], &one["site"])).collect();
    let expected: Vec<_> = SITES
        .iter()
        .map(|(name, site)| (name.to_string(), site.to_string()))
        .collect();
    for (told, expected) in told.iter().zip(&expected) {
        assert_eq!(
            (told.0.as_str(), told.1.as_str()),
            (Some(&*expected.0), Some(&*expected.1)),
            "{status}"
        );
    }
    assert_eq!(told.len(), 3, "{status}");
    let printed = cluster.ok(2, &["status"]);
    for (name, site) in SITES {
        assert!(printed.contains(name) && printed.contains(site), "{printed}");
    }

    // Written on one, read on all, at once: no read of the present is old.
    let boxes = ["X26ONE", "X26TWO", "X26THREE"];
    cluster.add_mailboxes(2, &boxes).await;
    for (writer, mailbox) in (1..=3).zip(boxes) {
        let body = format!("from {writer}").into_bytes();
        let sent = cluster
            .mailbox(writer, "X26ONE")
            .send(mailbox, WORKFLOW, &[], &body)
            .await;
        for reader in 1..=3 {
            let mut recipient = cluster.mailbox(reader, mailbox);
            assert_eq!(
                recipient.inbox().await,
                std::slice::from_ref(&sent),
                "sent on {writer}, listed on {reader}"
            );
            assert_eq!(
                recipient.download(&sent).await.body,
                body,
                "sent on {writer}, read on {reader}"
            );
        }
        cluster.mailbox(writer % 3 + 1, mailbox).acknowledge(&sent).await;
        for reader in 1..=3 {
            assert!(cluster.mailbox(reader, mailbox).inbox().await.is_empty());
        }
    }
    for writer in 1..=3 {
        let made = newcomer(&mut cluster.worker(writer), 1).await;
        let next = writer % 3 + 1;
        let changed = cluster.worker(next).patch(made.id(), 1, &renamed(&made.json, 2)).await;
        assert_eq!(changed.ok(200).version(), 2, "made on {writer}, changed on {next}");
        for reader in 1..=3 {
            let read = cluster.worker(reader).read(made.id()).await;
            assert_eq!((read.ok(200).version(), value(&read.json)), (2, 2), "read on {reader}");
        }
        // Sent again on a third node: the first answer, and nothing happens again.
        let refused = cluster
            .worker(writer)
            .patch(made.id(), 1, &renamed(&made.json, 3))
            .await;
        refused.refused(409, "RESOURCE_VERSION_MISMATCH");
    }
    cluster.await_level().await;

    // An orderly end of each in turn, and each comes back as who it was.
    for id in [1, 2, 3] {
        assert!(cluster.stop(id).success(), "{}", cluster.log_tails());
        cluster.start(id);
        cluster.await_ready(id).await;
    }
    cluster.await_voters(&[1, 2, 3]).await;
    let status = cluster.status(1).await.expect("the founder answers");
    let roles: BTreeMap<u64, String> = roles(&status);
    let leader = leader(&status).expect("there is a leader");
    assert_eq!(roles[&leader], "leader", "{status}");
}

#[tokio::test]
async fn a_change_repeated_on_another_node_happens_once() {
    let _turn = Turn::take();
    let cluster = Cluster::form("repeating", &SITES).await;
    let made = newcomer(&mut cluster.worker(1), 1).await;
    for (round, (first, second)) in (1..).zip([(1, 2), (2, 3), (3, 1)]) {
        let request = vertebra_tests::pds::request_id();
        let patches = renamed(&made.json, round + 1);
        let one = cluster
            .worker(first)
            .patch_as(&request, made.id(), round, &patches)
            .await;
        let again = cluster
            .worker(second)
            .patch_as(&request, made.id(), round, &patches)
            .await;
        assert_eq!(one.ok(200).version(), round + 1);
        assert_eq!((again.ok(200).version(), &again.json), (round + 1, &one.json));
    }
    cluster.add_mailboxes(3, &["X26ONE", "X26TWO"]).await;
    let again = [("Mex-LocalID", "once")];
    let mut ids = Vec::new();
    for id in 1..=3 {
        ids.push(
            cluster
                .mailbox(id, "X26ONE")
                .send("X26TWO", WORKFLOW, &again, b"once")
                .await,
        );
    }
    ids.dedup();
    assert_eq!(cluster.mailbox(2, "X26TWO").inbox().await, ids);
    // A token is good for one request, on whichever node.
    let mut one = cluster.mailbox(1, "X26ONE");
    let token = one.credentials.token();
    let headers = [("Authorization", token.as_str())];
    assert_eq!(one.post("X26TWO", WORKFLOW, &headers, b"once").await.status, 202);
    for id in 1..=3 {
        let mut other = cluster.mailbox(id, "X26ONE");
        assert_eq!(
            other.post("X26TWO", WORKFLOW, &headers, b"twice").await.status,
            403,
            "on node {id}"
        );
    }
}
