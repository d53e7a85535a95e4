//! Certificates and revocation lists are changed while the node serves: SIGHUP reads them, and no connection is dropped.

use std::time::{Duration, Instant};
use vertebra_tests::mesh::WORKFLOW;
use vertebra_tests::site::Site;
use vertebra_tests::wire::Connection;

const BOXES: [(&str, &str); 2] = [("SITEA", "A01"), ("SITEB", "B01")];

/// A request on exactly this connection.
async fn ping(connection: &mut Connection) -> u16 {
    let answer = connection
        .exchange("GET", "/messageexchange/_ping", &[("Host", "localhost")], b"")
        .await;
    answer.expect("the connection was not dropped").status
}

#[tokio::test]
async fn a_new_server_certificate_is_served_after_sighup_and_no_connection_is_dropped() {
    let mut site = Site::start(&BOXES, "").await;
    let identity = site.client_identity("A01", 100);
    let target = site.target(Some(&identity));
    let mut kept = Connection::open(&target).await.expect("the node accepts");
    assert_eq!(ping(&mut kept).await, 200);
    let before = kept.server_certificate.clone();
    site.renew(2);
    site.reload();
    let started = Instant::now();
    loop {
        // A client that knows nothing of earlier sessions: a resumed one shows the certificate it began with.
        let mut fresh = Connection::open(&site.target(Some(&identity)))
            .await
            .expect("the node accepts");
        assert_eq!(ping(&mut fresh).await, 200);
        if fresh.server_certificate != before {
            break;
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "the old certificate is still served"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ping(&mut kept).await, 200);
}

#[tokio::test]
async fn a_spoilt_certificate_is_not_taken_and_the_old_one_goes_on() {
    let mut site = Site::start(&BOXES, "").await;
    let identity = site.client_identity("A01", 100);
    let target = site.target(Some(&identity));
    let before = Connection::open(&target)
        .await
        .expect("the node accepts")
        .server_certificate;
    site.spoil_certificate();
    site.reload();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut fresh = Connection::open(&target).await.expect("the node still accepts");
    assert_eq!(fresh.server_certificate, before);
    assert_eq!(ping(&mut fresh).await, 200);
    assert!(site.process.ended().is_none(), "{}", site.log_text());
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_once_the_list_is_read() {
    let mut site = Site::start(&BOXES, "").await;
    let (good, bad) = (site.client_identity("A01", 100), site.client_identity("B01", 666));
    let (mut alice, mut bob) = (site.mailbox("SITEA", &good), site.mailbox("SITEB", &bad));
    alice.send("SITEB", WORKFLOW, &[], b"before").await;
    assert_eq!(bob.inbox().await.len(), 1);
    site.revoke(666);
    site.reload();
    let started = Instant::now();
    loop {
        let mut fresh = site.mailbox("SITEB", &bad);
        let path = fresh.path("inbox");
        match fresh.try_call("GET", &path, &[], b"").await {
            Err(_) => break,
            Ok(answer) if answer.status == 403 => break,
            Ok(_) => assert!(
                started.elapsed() < Duration::from_secs(10),
                "a revoked certificate is still taken"
            ),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Nor on the connection that was open before, nor by a session that is resumed.
    let path = bob.path("inbox");
    match bob.try_call("GET", &path, &[], b"").await {
        Err(_) => {}
        Ok(answer) => assert_eq!(answer.status, 403, "the old connection goes on: {}", answer.text()),
    }
    alice.send("SITEB", WORKFLOW, &[], b"the others go on").await;
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_by_a_node() {
    let site = Site::start(&BOXES, "").await;
    let answer = match Connection::open(&site.target(None)).await {
        Err(_) => return,
        Ok(mut connection) => {
            connection
                .exchange("GET", "/messageexchange/_ping", &[("Host", "a")], b"")
                .await
        }
    };
    assert!(
        answer.is_err(),
        "TLS 1.3 tells it after the handshake, and answers nothing"
    );
}

#[tokio::test]
async fn a_certificate_is_bound_to_its_organisations_mailboxes() {
    let site = Site::start(&BOXES, "").await;
    let (a, b) = (site.client_identity("A01", 100), site.client_identity("B01", 101));
    assert_eq!(
        site.mailbox("SITEA", &a).call("GET", "inbox", &[], b"").await.status,
        200
    );
    assert_eq!(
        site.mailbox("SITEA", &b).call("GET", "inbox", &[], b"").await.status,
        403
    );
    let nobody = vertebra_tests::certificates::foreign_identity("test.a01.api.mesh-client.nhs.uk");
    let mut mallory = site.mailbox("SITEA", &nobody);
    let path = mallory.path("inbox");
    assert!(
        mallory.try_call("GET", &path, &[], b"").await.is_err(),
        "a foreign authority's certificate"
    );
}

#[tokio::test]
async fn test_only_calls_are_not_there_on_a_node() {
    let site = Site::start(&BOXES, "").await;
    let identity = site.client_identity("A01", 100);
    let mut connection = Connection::open(&site.target(Some(&identity)))
        .await
        .expect("the node accepts");
    for (method, path) in [
        ("DELETE", "/admin/reset"),
        ("DELETE", "/messageexchange/admin/reset"),
        ("POST", "/messageexchange/admin/report"),
        (
            "POST",
            "/messageexchange/admin/message/20200101000000000000_ABCDEF/event",
        ),
    ] {
        let answer = connection
            .exchange(method, path, &[("Host", "localhost")], b"")
            .await
            .expect("an answer");
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text());
    }
    let clock = site
        .operator("POST", "/admin/clock", &serde_json::json!({ "advance_ms": 1000 }))
        .await;
    assert_eq!(clock.expect("the socket answers").status, 403);
}

#[tokio::test]
async fn a_workflow_that_nobody_registered_is_refused_by_a_node() {
    let site = Site::start(&BOXES, "").await;
    let mut alice = site.mailbox("SITEA", &site.client_identity("A01", 100));
    let answer = alice.post("SITEB", "NOBODYS_FLOW", &[], b"x").await;
    assert_eq!(
        (answer.status, &answer.json()["detail"][0]["code"]),
        (417, &"17".into()),
        "{}",
        answer.text()
    );
    alice.send("SITEB", WORKFLOW, &[], b"x").await;
}
