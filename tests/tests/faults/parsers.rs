//! Random bytes at the wire: seeded, bounded (`VERTEBRA_FUZZ_ROUNDS`), and never a 5xx, an end or a stuck node.

use crate::{count_from, seed};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::time::Duration;
use vertebra_tests::mesh::{Mailbox, WORKFLOW};
use vertebra_tests::node::{Folder, Node};
use vertebra_tests::wire::Connection;

/// A value made of pieces that parsers stumble over, and of noise.
fn awkward(random: &mut StdRng) -> String {
    const PIECES: [&str; 24] = [
        ":",
        "::",
        "1",
        "0",
        "-1",
        "1:1",
        "1:2",
        "99999999999999999999",
        "NHSMESH",
        " ",
        "\t",
        "X26ABC1",
        "%",
        "%00",
        "\u{e9}",
        "é",
        "*",
        "!",
        "=",
        "&",
        "?",
        "/",
        "..",
        "application/vnd.mesh.v2+json",
    ];
    let mut text = String::new();
    for _ in 0..random.random_range(0..8) {
        if random.random_ratio(1, 4) {
            text.push(random.random_range(0x20u8..0x7f) as char);
        } else {
            text.push_str(PIECES[random.random_range(0..PIECES.len())]);
        }
    }
    text
}

async fn assert_refused_or_taken(alice: &mut Mailbox, method: &str, path: &str, headers: &[(&str, &str)], seed: u64) {
    let answer = alice.try_call(method, path, headers, b"x").await;
    match answer {
        Ok(answer) => assert!(
            answer.status < 500,
            "seed {seed}: {method} {path} {headers:?}: {} {}",
            answer.status,
            answer.text()
        ),
        // A request line that is none may end the connection.
        Err(_) => alice.disconnect(),
    }
}

#[tokio::test]
async fn awkward_headers_paths_and_tokens_never_cause_a_5xx() {
    let rounds = count_from("VERTEBRA_FUZZ_ROUNDS", 500);
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let folder = Folder::new("awkward");
    let mut node = Node::start(&folder.path().join("data"));
    let mut alice = node.mailbox(0);
    for _ in 0..rounds {
        let value = awkward(&mut random);
        let token = format!("NHSMESH {value}");
        let path = alice.path("outbox");
        let to = [("Mex-To", "X26ABC2"), ("Mex-WorkflowID", WORKFLOW)];
        let headers = [&to[..], &[("Mex-Chunk-Range", value.as_str())]].concat();
        assert_refused_or_taken(&mut alice, "POST", &path, &headers, seed).await;
        let headers = [("Authorization", token.as_str())];
        assert_refused_or_taken(&mut alice, "GET", &path, &headers, seed).await;
        let headers = [("Accept", value.as_str())];
        assert_refused_or_taken(&mut alice, "GET", &path, &headers, seed).await;
        let quoted = value.replace([' ', '\t'], "%20");
        for rest in [
            format!("inbox?max_results={quoted}"),
            format!("inbox/{quoted}"),
            format!("outbox/{quoted}/2"),
        ] {
            let path = alice.path(&rest);
            assert_refused_or_taken(&mut alice, "GET", &path, &[], seed).await;
        }
    }
    assert!(node.ended().is_none(), "seed {seed}");
    assert_eq!(
        node.mailbox(0).call("GET", "inbox", &[], b"").await.status,
        200,
        "seed {seed}"
    );
}

#[tokio::test]
async fn damaged_requests_never_stop_the_node() {
    let rounds = count_from("VERTEBRA_FUZZ_ROUNDS", 500) / 5;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let folder = Folder::new("damaged");
    let mut node = Node::start(&folder.path().join("data"));
    let alice = node.mailbox(0);
    for _ in 0..rounds {
        let mut bytes = format!(
            "POST {} HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\nMex-To: X26ABC2\r\nMex-WorkflowID: {WORKFLOW}\r\n\
             Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            alice.path("outbox"),
            alice.credentials.token()
        )
        .into_bytes();
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..4) {
                0 => bytes[at] = random.random(),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, random.random()),
                _ => {
                    let piece = bytes[at..].to_vec();
                    bytes.extend(piece);
                }
            }
        }
        let mut connection = Connection::open(&alice.target).await.expect("the node accepts");
        if connection.write(&bytes).await.is_err() {
            continue;
        }
        let wait = Duration::from_millis(50);
        if let Ok(Ok(answer)) = tokio::time::timeout(wait, connection.answer(false)).await {
            assert!(
                answer.status < 500,
                "seed {seed}: {} for {:?}",
                answer.status,
                String::from_utf8_lossy(&bytes)
            );
        }
    }
    assert!(node.ended().is_none(), "seed {seed}");
    assert_eq!(
        node.mailbox(0).call("GET", "inbox", &[], b"").await.status,
        200,
        "seed {seed}"
    );
}
