//! Handshake, versions, ping.

use crate::world;
use vertebra_tests::mesh::{V1, V2};

const CLIENT: [(&str, &str); 3] = [
    ("Mex-ClientVersion", "ApiDocs==0.0.1"),
    ("Mex-OSName", "Linux"),
    ("Mex-OSVersion", "#44~18.04.2-Ubuntu"),
];

#[tokio::test]
async fn a_handshake_names_the_mailbox_in_v1_and_is_empty_in_v2() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    for method in ["GET", "POST"] {
        for accept in [V1, "application/json", "*/*", ""] {
            let headers = [&CLIENT[..], &[("Accept", accept)]].concat();
            let answer = alice.call(method, "", &headers, b"").await;
            assert_eq!(answer.status, 200, "{method} {accept}: {}", answer.text());
            assert_eq!(answer.json()["mailboxId"], alice.id());
        }
        let headers = [&CLIENT[..], &[("Accept", V2)]].concat();
        let answer = alice.call(method, "", &headers, b"").await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.is_empty(), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_handshake_without_its_client_headers_is_refused() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    for missing in 0..CLIENT.len() {
        let mut headers = CLIENT.to_vec();
        headers.remove(missing);
        for accept in [V1, V2] {
            headers.push(("Accept", accept));
            assert_eq!(
                alice.call("POST", "", &headers, b"").await.status,
                400,
                "without {}",
                CLIENT[missing].0
            );
            headers.pop();
        }
    }
}

#[tokio::test]
async fn a_malformed_accept_is_refused() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    for accept in [
        "application/vnd.mesh.v2",
        "application/vnd.mesh.v2+xml",
        "application/vnd.mesh.vtwo+json",
        "application/vnd.mesh.+json",
        "text/vnd.mesh.v2+json",
    ] {
        let answer = alice.call("GET", "inbox", &[("Accept", accept)], b"").await;
        assert_eq!(answer.status, 400, "{accept}: {}", answer.text());
    }
    for accept in [
        "text/html",
        "application/json",
        V1,
        "text/html; application/vnd.mesh.v2+json",
    ] {
        let answer = alice.call("GET", "inbox", &[("Accept", accept)], b"").await;
        assert_eq!(answer.status, 200, "{accept}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_mailbox_is_found_whatever_the_case_of_its_path() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    let path = format!("/messageexchange/{}/inbox", alice.id().to_lowercase());
    assert_eq!(
        alice.try_call("GET", &path, &[], b"").await.expect("an answer").status,
        200
    );
}

#[tokio::test]
async fn a_ping_needs_no_token() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    let answer = alice
        .try_call("GET", "/messageexchange/_ping", &[("Authorization", "")], b"")
        .await;
    assert_eq!(answer.expect("an answer").status, 200);
}

#[tokio::test]
async fn an_update_is_taken_and_ignored() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    assert_eq!(alice.call("POST", "update", &[], b"{}").await.status, 200);
}

#[tokio::test]
async fn an_unknown_path_or_method_is_a_clear_refusal() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    for path in ["nothing", "inbox/1/2/3", "outbox/1/2/3"] {
        let answer = alice.call("GET", path, &[], b"").await;
        assert!(matches!(answer.status, 404 | 405), "{path}: {}", answer.status);
    }
    for method in ["DELETE", "PATCH"] {
        let answer = alice.call(method, "inbox", &[], b"").await;
        assert!(matches!(answer.status, 404 | 405), "{method}: {}", answer.status);
    }
}
