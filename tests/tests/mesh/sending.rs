//! POST /outbox: what is accepted, what is refused, and what reaches the other side.

use crate::{assert_error, ours, world};
use rand::{Rng, SeedableRng, rngs::StdRng};
use vertebra_tests::mesh::{V1, V2, WORKFLOW};

#[tokio::test]
async fn a_message_reaches_its_recipient_with_all_it_was_sent_with() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let headers = [
        ("Mex-Subject", "a subject"),
        ("Mex-LocalID", "local-1"),
        ("Mex-PartnerID", "partner-1"),
        ("Mex-FileName", "file.txt"),
        ("Mex-Content-Checksum", "b10a8db164e0754105b7a99be72e3fe5"),
        ("Mex-Content-Encrypted", "Y"),
        ("Mex-Content-Compressed", "Y"),
        ("Content-Type", "text/plain"),
    ];
    let message = alice.send(bob.id(), WORKFLOW, &headers, b"Hello Bob").await;
    let answer = bob.download(&message).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"Hello Bob"[..]));
    for (name, value) in [
        ("mex-from", alice.id()),
        ("mex-to", bob.id()),
        ("mex-workflowid", WORKFLOW),
        ("mex-messageid", &message),
        ("mex-messagetype", "DATA"),
        ("mex-subject", "a subject"),
        ("mex-localid", "local-1"),
        ("mex-partnerid", "partner-1"),
        ("mex-filename", "file.txt"),
        ("mex-content-checksum", "b10a8db164e0754105b7a99be72e3fe5"),
        ("mex-content-encrypted", "Y"),
        ("mex-content-compressed", "Y"),
        ("mex-chunk-range", "1:1"),
        ("mex-total-chunks", "1"),
        ("mex-statuscode", "00"),
        ("mex-statusevent", "TRANSFER"),
        ("mex-statussuccess", "SUCCESS"),
        ("mex-addresstype", "ALL"),
        ("mex-version", "1.0"),
        ("content-length", "9"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let stamp = answer.header("mex-statustimestamp").unwrap_or("");
    assert!(
        stamp.len() == 14 && stamp.bytes().all(|b| b.is_ascii_digit()),
        "{stamp}"
    );
    assert!(
        answer
            .header("content-type")
            .is_some_and(|value| value.starts_with("text/plain"))
    );
}

#[tokio::test]
async fn a_message_says_its_identifier_in_the_shape_of_its_version() {
    let world = world().await;
    let (mut alice, bob) = (world.mailbox(1), world.mailbox(2));
    let v2 = alice.post(bob.id(), WORKFLOW, &[("Accept", V2)], b"x").await;
    assert!(
        v2.json()["message_id"].is_string() && v2.json().get("messageID").is_none(),
        "{}",
        v2.text()
    );
    let v1 = alice.post(bob.id(), WORKFLOW, &[("Accept", V1)], b"y").await;
    assert!(
        v1.json()["messageID"].is_string() && v1.json().get("message_id").is_none(),
        "{}",
        v1.text()
    );
    if world.node.is_some() {
        let id = v2.json()["message_id"].as_str().unwrap_or("").to_owned();
        let (time, tail) = id.split_once('_').unwrap_or(("", ""));
        assert!(time.len() == 20 && time.bytes().all(|b| b.is_ascii_digit()), "{id}");
        assert!(
            tail.len() == 6 && tail.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_lowercase()),
            "{id}"
        );
    }
}

#[tokio::test]
async fn bodies_of_every_size_class_come_back_unaltered() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let seed: u64 = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let (inline, piece) = (32 * 1024, 256 * 1024);
    for bytes in [
        1,
        4095,
        4096,
        inline - 1,
        inline,
        inline + 1,
        piece - 1,
        piece,
        piece + 1,
        3 * piece + 17,
        5_000_000,
    ] {
        let mut body = vec![0u8; bytes];
        random.fill(&mut body[..]);
        let message = alice.send(bob.id(), WORKFLOW, &[], &body).await;
        let answer = bob.download(&message).await;
        assert_eq!(answer.status, 200, "{bytes} bytes, seed {seed}");
        assert!(answer.body == body, "{bytes} bytes came back altered, seed {seed}");
    }
}

#[tokio::test]
async fn a_missing_recipient_or_workflow_is_refused() {
    let world = world().await;
    let (mut alice, bob) = (world.mailbox(1), world.mailbox(2));
    for accept in [V1, V2] {
        let accept = ("Accept", accept);
        let no_to = alice
            .call("POST", "outbox", &[accept, ("Mex-WorkflowID", WORKFLOW)], b"x")
            .await;
        assert_eq!(no_to.status, 400, "{}", no_to.text());
        let no_workflow = alice
            .call("POST", "outbox", &[accept, ("Mex-To", bob.id())], b"x")
            .await;
        assert_eq!(no_workflow.status, 400, "{}", no_workflow.text());
    }
}

#[tokio::test]
async fn an_unregistered_recipient_is_code_12() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    for accept in [V1, V2] {
        let answer = alice.post("NOSUCHBOX", WORKFLOW, &[("Accept", accept)], b"x").await;
        assert_error(&answer, accept, 417, "SEND", "12");
    }
}

#[tokio::test]
async fn an_empty_body_is_code_02() {
    let world = world().await;
    let (mut alice, bob) = (world.mailbox(1), world.mailbox(2));
    for accept in [V1, V2] {
        let answer = alice.post(bob.id(), WORKFLOW, &[("Accept", accept)], b"").await;
        assert_error(&answer, accept, 417, "COLLECT", "02");
    }
}

#[tokio::test]
async fn a_malformed_chunk_range_is_refused() {
    let world = world().await;
    let (mut alice, bob) = (world.mailbox(1), world.mailbox(2));
    for range in [
        "0:1",
        "2:1",
        "2:2",
        "1",
        "1:",
        ":1",
        "1:2:3",
        "a:b",
        "-1:1",
        "1:-1",
        "1:0",
        "1.0:2",
        "1:9999999999999",
    ] {
        for accept in [V1, V2] {
            if range == "1:9999999999999" && world.node.is_none() {
                continue;
            }
            let answer = alice
                .post(
                    bob.id(),
                    WORKFLOW,
                    &[("Accept", accept), ("Mex-Chunk-Range", range)],
                    b"x",
                )
                .await;
            assert_error(&answer, accept, 417, "SEND", "InvalidHeaderChunks");
        }
    }
    let good = alice
        .post(bob.id(), WORKFLOW, &[("Mex-Chunk-Range", " 1 : 1 ")], b"x")
        .await;
    assert_eq!(good.status, 202, "{}", good.text());
}

#[tokio::test]
async fn control_characters_and_urls_in_headers_are_code_06() {
    let world = world().await;
    let (mut alice, bob) = (world.mailbox(1), world.mailbox(2));
    let to = bob.id().to_owned();
    let bad: [(&str, &str); 7] = [
        ("Mex-Subject", "with\ttab"),
        ("Mex-LocalID", "with\ttab"),
        ("Mex-FileName", "with\ttab"),
        ("Mex-PartnerID", "with\ttab"),
        ("Mex-To", "http://example.org"),
        ("Mex-WorkflowID", "HTTPS://example.org"),
        ("Mex-Content-Checksum", "https://example.org"),
    ];
    for (name, value) in bad {
        for accept in [V1, V2] {
            let mut headers = vec![("Accept", accept)];
            headers.extend(
                [("Mex-To", to.as_str()), ("Mex-WorkflowID", WORKFLOW)]
                    .iter()
                    .filter(|(n, _)| *n != name),
            );
            headers.push((name, value));
            let answer = alice.call("POST", "outbox", &headers, b"x").await;
            assert_error(&answer, accept, 400, "TRANSFER", "06");
        }
    }
}

#[tokio::test]
async fn a_checksum_with_other_characters_is_refused() {
    let world = world().await;
    let (mut alice, bob) = (world.mailbox(1), world.mailbox(2));
    for checksum in ["abc$", "sha256=abc", "a_b", "é"] {
        let answer = alice
            .post(bob.id(), WORKFLOW, &[("Mex-Content-Checksum", checksum)], b"x")
            .await;
        assert_eq!(answer.status, 400, "{checksum}: {}", answer.text());
    }
    for checksum in ["SHA-256: ab/cd", "md5 0123"] {
        let answer = alice
            .post(bob.id(), WORKFLOW, &[("Mex-Content-Checksum", checksum)], b"x")
            .await;
        assert_eq!(answer.status, 202, "{checksum}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_content_encoding_other_than_gzip_is_refused() {
    let world = world().await;
    let (mut alice, bob) = (world.mailbox(1), world.mailbox(2));
    for accept in [V1, V2] {
        let answer = alice
            .post(
                bob.id(),
                WORKFLOW,
                &[("Accept", accept), ("Content-Encoding", "br")],
                b"x",
            )
            .await;
        assert_error(&answer, accept, 422, "SEND", "UnsupportedContentEncoding");
    }
}

#[tokio::test]
async fn a_recipient_is_found_whatever_the_case_of_its_name() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let message = alice.send(&bob.id().to_lowercase(), WORKFLOW, &[], b"x").await;
    assert_eq!(bob.inbox().await, [message]);
}

#[tokio::test]
async fn a_restricted_workflow_is_code_16_for_its_sender_and_17_for_its_recipient() {
    let Some(world) = ours("workflow restriction").await else {
        return;
    };
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    for accept in [V1, V2] {
        // TEST_WORKFLOW: only X26ABC1 sends, only X26ABC2 receives.
        let accept_header = ("Accept", accept);
        let not_sender = bob.post(alice.id(), "TEST_WORKFLOW", &[accept_header], b"x").await;
        assert_error(&not_sender, accept, 417, "SEND", "16");
        let not_receiver = alice.post("X26ABC3", "TEST_WORKFLOW", &[accept_header], b"x").await;
        assert_error(&not_receiver, accept, 417, "SEND", "17");
    }
    alice.send(bob.id(), "TEST_WORKFLOW", &[], b"x").await;
}

#[tokio::test]
async fn a_message_may_be_sent_to_oneself() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    let id = alice.id().to_owned();
    let message = alice.send(&id, "TEST_WORKFLOW2", &[], b"note to self").await;
    assert_eq!(alice.inbox().await, [message]);
}

#[tokio::test]
async fn a_sender_version_or_type_that_contradicts_itself_is_refused() {
    let Some(world) = ours("codes 07, 09 and 11").await else {
        return;
    };
    let mut alice = world.mailbox(1);
    for (name, value, code) in [
        ("Mex-From", "X26ABC2", "07"),
        ("Mex-Version", "2.0", "09"),
        ("Mex-MessageType", "REPORT", "11"),
    ] {
        for accept in [V1, V2] {
            let answer = alice
                .post("X26ABC2", WORKFLOW, &[("Accept", accept), (name, value)], b"x")
                .await;
            assert_error(&answer, accept, 417, "SEND", code);
        }
    }
    let fits = [
        ("Mex-From", "X26ABC1"),
        ("Mex-Version", "1.0"),
        ("Mex-MessageType", "DATA"),
    ];
    assert_eq!(alice.post("X26ABC2", WORKFLOW, &fits, b"x").await.status, 202);
}
