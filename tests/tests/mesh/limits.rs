//! Every limit of the interface: one below, at, one above.

use crate::{ours, world};
use vertebra_tests::mesh::{V1, V2, WORKFLOW};
use vertebra_tests::wire::Connection;

#[tokio::test]
async fn every_header_is_taken_at_its_longest_and_refused_one_longer() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    for (name, longest) in [
        ("Mex-To", 100),
        ("Mex-WorkflowID", 300),
        ("Mex-Subject", 500),
        ("Mex-LocalID", 300),
        ("Mex-PartnerID", 500),
        ("Mex-FileName", 300),
        ("Mex-Content-Checksum", 100),
    ] {
        for (length, fits) in [(longest - 1, true), (longest, true), (longest + 1, false)] {
            let value = "a".repeat(length);
            let mut headers = vec![("Mex-To", "X26ABC2"), ("Mex-WorkflowID", WORKFLOW)];
            headers.retain(|(other, _)| *other != name);
            headers.push((name, &value));
            for accept in [V1, V2] {
                headers.push(("Accept", accept));
                let answer = alice.call("POST", "outbox", &headers, b"x").await;
                headers.pop();
                // No mailbox has so long a name: one that fits is unregistered, one that does not is malformed.
                let expected = match (fits, name) {
                    (true, "Mex-To") => 417,
                    (true, _) => 202,
                    (false, _) => 400,
                };
                assert_eq!(answer.status, expected, "{name} of {length}: {}", answer.text());
            }
        }
    }
}

#[tokio::test]
async fn a_chunk_range_longer_than_20_characters_is_refused() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    let fits = format!("1:{}1", " ".repeat(17));
    for (range, status) in [(fits.as_str(), 202), (&format!("1:{}1", " ".repeat(18)), 400)] {
        let answer = alice
            .post("X26ABC2", WORKFLOW, &[("Mex-Chunk-Range", range)], b"x")
            .await;
        assert_eq!(answer.status, status, "{} characters: {}", range.len(), answer.text());
    }
}

#[tokio::test]
async fn a_body_is_taken_at_100_mib_and_refused_one_byte_larger() {
    let Some(world) = ours("100 MB bodies").await else {
        return;
    };
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let largest = 100 * 1024 * 1024;
    let mut body = vec![0u8; largest + 1];
    body.iter_mut()
        .enumerate()
        .for_each(|(at, byte)| *byte = (at * 31 + at / 4096) as u8);
    let message = alice.send(bob.id(), WORKFLOW, &[], &body[..largest]).await;
    let answer = bob.download(&message).await;
    assert!(
        answer.status == 200 && answer.body == body[..largest],
        "100 MiB came back altered"
    );
    let answer = alice.post(bob.id(), WORKFLOW, &[], &body).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    alice.disconnect();
    assert_eq!(bob.inbox().await, [message], "nothing of the refused one is left");
}

#[tokio::test]
async fn a_request_head_beyond_its_limit_is_431_and_the_next_client_is_served() {
    let Some(world) = ours("head limit").await else { return };
    let mut alice = world.mailbox(1);
    let long = "a".repeat(300 * 1024);
    let path = alice.path("inbox");
    match alice.try_call("GET", &path, &[("X-Long", &long)], b"").await {
        Ok(answer) => assert!(matches!(answer.status, 400 | 431), "{}", answer.status),
        // The node may break off while the client still writes.
        Err(_) => {}
    }
    alice.disconnect();
    assert_eq!(alice.call("GET", "inbox", &[], b"").await.status, 200);
}

#[tokio::test]
async fn malformed_requests_get_a_4xx_or_an_end_and_never_a_5xx() {
    let Some(world) = ours("malformed requests").await else {
        return;
    };
    let target = world.mailbox(1).target.clone();
    let cases: [&[u8]; 14] = [
        b"\r\n\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET  /  HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"GET /%00%ff%zz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /messageexchange/X26ABC1/inbox HTTP/1.1\r\nHost: a\r\nA\x00b: c\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    for case in cases {
        let mut connection = Connection::open(&target).await.expect("the node accepts connections");
        connection.write(case).await.expect("a fresh connection takes bytes");
        let wait = std::time::Duration::from_secs(3);
        if let Ok(Ok(answer)) = tokio::time::timeout(wait, connection.answer(false)).await {
            assert!(
                (400..500).contains(&answer.status),
                "{}: {}",
                String::from_utf8_lossy(case),
                answer.status
            );
        }
    }
    assert_eq!(world.mailbox(1).call("GET", "inbox", &[], b"").await.status, 200);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let Some(world) = ours("pipelining").await else { return };
    let alice = world.mailbox(1);
    let mut connection = Connection::open(&alice.target)
        .await
        .expect("the node accepts connections");
    let mut bytes = Vec::new();
    for rest in ["inbox", "count", "inbox/20200101000000000000_ABCDEF", "count"] {
        let (path, token) = (alice.path(rest), alice.credentials.token());
        bytes.extend(format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\n\r\n").into_bytes());
    }
    connection.write(&bytes).await.expect("a fresh connection takes bytes");
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(connection.answer(false).await.expect("an answer").status);
    }
    assert_eq!(statuses, [200, 200, 404, 200]);
}

#[tokio::test]
async fn http_2_is_spoken_where_the_client_offers_it() {
    let Some(world) = ours("HTTP/2").await else { return };
    let node = world.node();
    let folder = vertebra_tests::node::Folder::new("http2");
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("the temporary folder can be written");
        path
    };
    let identity = node.identity_of(0);
    let credentials = node.credentials(0);
    let output = std::process::Command::new("curl")
        .args([
            "-sS",
            "--http2",
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{http_code}",
        ])
        .arg("--cacert")
        .arg(write("ca.pem", node.ca()))
        .arg("--cert")
        .arg(write("client.pem", identity.certificate))
        .arg("--key")
        .arg(write("client.key", identity.key))
        .arg("-H")
        .arg(format!("Authorization: {}", credentials.token()))
        .arg(format!(
            "{}/messageexchange/{}/inbox",
            node.sandbox["url"].as_str().unwrap_or(""),
            credentials.mailbox
        ))
        .output()
        .expect("curl starts");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(out.trim(), "2 200", "{err}");
}
