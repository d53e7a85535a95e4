//! Certificates and mailboxes belong together.

use crate::ours;
use vertebra_tests::certificates::{Identity, connector, foreign_identity};
use vertebra_tests::mesh::{Mailbox, WORKFLOW};

#[tokio::test]
async fn a_certificate_of_another_mailbox_is_refused() {
    let Some(world) = ours("certificates").await else {
        return;
    };
    let node = world.node();
    for (certificate, mailbox) in [(0, 1), (1, 0), (2, 0)] {
        let target = node.target(Some(&node.identity_of(certificate)));
        let mut client = Mailbox::new(target, node.credentials(mailbox));
        let answer = client.call("GET", "inbox", &[], b"").await;
        assert_eq!(
            answer.status,
            403,
            "certificate {certificate} for mailbox {mailbox}: {}",
            answer.text()
        );
        let answer = client.post("X26ABC2", WORKFLOW, &[], b"x").await;
        assert_eq!(answer.status, 403, "{}", answer.text());
    }
}

#[tokio::test]
async fn the_sandboxs_own_certificate_acts_for_every_seeded_mailbox() {
    let Some(world) = ours("certificates").await else {
        return;
    };
    let node = world.node();
    for at in 0..3 {
        let mut client = Mailbox::new(node.target(Some(&node.identity())), node.credentials(at));
        assert_eq!(client.call("GET", "inbox", &[], b"").await.status, 200);
    }
}

#[tokio::test]
async fn a_certificate_of_a_foreign_ca_is_refused_in_the_handshake() {
    let Some(world) = ours("certificates").await else {
        return;
    };
    let node = world.node();
    let identity = foreign_identity("sandbox.x26.api.mesh-client.nhs.uk");
    let mut client = Mailbox::new(node.target(Some(&identity)), node.credentials(0));
    let path = client.path("inbox");
    assert!(
        client.try_call("GET", &path, &[], b"").await.is_err(),
        "a foreign certificate got an answer"
    );
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_node_gets_no_connection() {
    let Some(world) = ours("certificates").await else {
        return;
    };
    let node = world.node();
    let mut target = node.target(None);
    let Identity { certificate, .. } = foreign_identity("another CA");
    target.tls = Some(connector(&certificate, None));
    assert!(vertebra_tests::wire::Connection::open(&target).await.is_err());
}
