//! The inbox: listing, paging, filters, reading, acknowledging, counting.

use crate::world;
use vertebra_tests::mesh::{V1, V2, WORKFLOW, strings};

#[tokio::test]
async fn an_inbox_has_links_and_a_count_in_v2_alone() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let message = alice.send(bob.id(), WORKFLOW, &[], b"x").await;
    let v1 = bob.call("GET", "inbox", &[("Accept", V1)], b"").await;
    assert_eq!(strings(&v1.json()["messages"]), [message.clone()]);
    assert!(v1.json().get("links").is_none(), "{}", v1.text());
    let v2 = bob.call("GET", "inbox", &[("Accept", V2)], b"").await;
    assert_eq!(strings(&v2.json()["messages"]), [message]);
    assert_eq!(v2.json()["approx_inbox_count"], 1, "{}", v2.text());
    assert_eq!(v2.json()["links"]["self"], "/messageexchange/X26ABC2/inbox");
    assert!(v2.json()["links"].get("next").is_none(), "{}", v2.text());
    assert!(v2.header("content-type").is_some_and(|value| value.starts_with(V2)));
}

#[tokio::test]
async fn twelve_hundred_messages_are_listed_in_order_page_by_page() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let mut sent = Vec::new();
    for number in 0..1200 {
        sent.push(
            alice
                .send(bob.id(), WORKFLOW, &[], format!("body {number}").as_bytes())
                .await,
        );
    }
    assert!(bob.inbox().await == sent, "in one page, in the order sent");
    for page in [500, 1199, 1200, 100] {
        let mut path = bob.path(&format!("inbox?max_results={page}"));
        let mut listed = Vec::new();
        loop {
            let answer = bob.try_call("GET", &path, &[], b"").await.expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
            let messages = strings(&answer.json()["messages"]);
            assert!(messages.len() <= page);
            listed.extend(messages);
            let Some(next) = answer.json()["links"]["next"].as_str().map(str::to_owned) else {
                break;
            };
            assert!(listed.len() < sent.len(), "no link after the last message");
            path = next;
        }
        assert!(listed == sent, "pages of {page}");
    }
    let default = bob.call("GET", "inbox", &[], b"").await;
    assert_eq!(
        strings(&default.json()["messages"]).len(),
        500,
        "500 unless the client says otherwise"
    );
    // In v1 the client names the last message it has seen.
    let path = format!("inbox?max_results=10&continue_from={}", sent[99]);
    let v1 = bob.call("GET", &path, &[("Accept", V1)], b"").await;
    assert_eq!(strings(&v1.json()["messages"]), sent[100..110]);
}

#[tokio::test]
async fn a_page_that_was_acknowledged_does_not_lose_the_next_one() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let mut sent = Vec::new();
    for _ in 0..25 {
        sent.push(alice.send(bob.id(), WORKFLOW, &[], b"x").await);
    }
    let first = bob.call("GET", "inbox?max_results=10", &[], b"").await;
    let next = first.json()["links"]["next"]
        .as_str()
        .expect("there are more")
        .to_owned();
    if world.node.is_none() {
        return println!("LEFT OUT against a peer: its continuation is lost with the message it names");
    }
    for message in strings(&first.json()["messages"]) {
        bob.acknowledge(&message).await;
    }
    let second = bob.try_call("GET", &next, &[], b"").await.expect("an answer");
    assert_eq!(strings(&second.json()["messages"]), sent[10..20]);
}

#[tokio::test]
async fn max_results_is_10_to_5000() {
    let world = world().await;
    let mut bob = world.mailbox(2);
    for (value, status) in [
        ("10", 200),
        ("11", 200),
        ("4999", 200),
        ("5000", 200),
        ("9", 400),
        ("5001", 400),
        ("-10", 400),
        ("ten", 400),
        ("", 400),
        ("99999999999999999999", 400),
    ] {
        for accept in [V1, V2] {
            let answer = bob
                .call("GET", &format!("inbox?max_results={value}"), &[("Accept", accept)], b"")
                .await;
            assert_eq!(answer.status, status, "max_results={value}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn continue_from_is_24_to_1000_characters() {
    let world = world().await;
    let mut bob = world.mailbox(2);
    for length in [1, 23, 1001] {
        let answer = bob
            .call("GET", &format!("inbox?continue_from={}", "2".repeat(length)), &[], b"")
            .await;
        assert_eq!(answer.status, 400, "{length}: {}", answer.text());
    }
    if world.node.is_some() {
        let answer = bob
            .call("GET", &format!("inbox?continue_from={}", "x".repeat(30)), &[], b"")
            .await;
        assert_eq!(answer.status, 400, "no continuation of ours: {}", answer.text());
    }
}

#[tokio::test]
async fn a_workflow_filter_matches_whole_beginning_and_part_and_their_opposites() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let mut ids = Vec::new();
    for workflow in ["ALPHA", "ALPHA_ACK", "BETA", "BETA_ACK"] {
        ids.push(alice.send(bob.id(), workflow, &[], b"x").await);
    }
    for (filter, expected) in [
        ("ALPHA", vec![0]),
        ("!ALPHA", vec![1, 2, 3]),
        ("ALPHA*", vec![0, 1]),
        ("!ALPHA*", vec![2, 3]),
        ("*_ACK*", vec![1, 3]),
        ("!*_ACK*", vec![0, 2]),
        ("NOTHING", vec![]),
        ("alpha", vec![]),
    ] {
        let query = filter.replace('!', "%21").replace('*', "%2A");
        let answer = bob
            .call("GET", &format!("inbox?workflow_filter={query}"), &[], b"")
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let expected: Vec<String> = expected.into_iter().map(|at: usize| ids[at].clone()).collect();
        assert_eq!(strings(&answer.json()["messages"]), expected, "{filter}");
    }
    for (filter, status) in [
        ("x".repeat(1), 400),
        ("x".repeat(2), 200),
        ("x".repeat(255), 200),
        ("x".repeat(256), 400),
    ] {
        let answer = bob
            .call("GET", &format!("inbox?workflow_filter={filter}"), &[], b"")
            .await;
        assert_eq!(answer.status, status, "{} characters", filter.len());
    }
}

#[tokio::test]
async fn a_filtered_listing_pages_through_all_that_match() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let mut wanted = Vec::new();
    for number in 0..60 {
        let workflow = if number % 2 == 0 { "WANTED" } else { "OTHER" };
        let id = alice.send(bob.id(), workflow, &[], b"x").await;
        if number % 2 == 0 {
            wanted.push(id);
        }
    }
    let mut path = bob.path("inbox?max_results=10&workflow_filter=WANTED");
    let mut listed = Vec::new();
    loop {
        let answer = bob.try_call("GET", &path, &[], b"").await.expect("an answer");
        listed.extend(strings(&answer.json()["messages"]));
        match answer.json()["links"]["next"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(listed, wanted);
}

#[tokio::test]
async fn an_acknowledged_message_leaves_the_inbox_and_may_be_acknowledged_again() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let message = alice.send(bob.id(), WORKFLOW, &[], b"x").await;
    let path = format!("inbox/{message}/status/acknowledged");
    let v1 = bob.call("PUT", &path, &[("Accept", V1)], b"").await;
    assert_eq!(
        (v1.status, v1.json()["messageId"].as_str()),
        (200, Some(message.as_str()))
    );
    let v2 = bob.call("PUT", &path, &[("Accept", V2)], b"").await;
    assert_eq!((v2.status, v2.body.len()), (200, 0), "again, and empty in v2");
    assert!(bob.inbox().await.is_empty());
    if world.node.is_some() {
        let again = bob.download(&message).await;
        assert_eq!(again.status, 410, "the specification: it cannot be downloaded again");
    }
}

#[tokio::test]
async fn another_mailboxs_message_cannot_be_read_or_acknowledged() {
    let world = world().await;
    let (mut alice, bob, mut carol) = (world.mailbox(1), world.mailbox(2), world.mailbox(3));
    let message = alice.send(bob.id(), WORKFLOW, &[], b"for bob alone").await;
    let answer = carol.download(&message).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(!answer.text().contains("for bob alone"));
    let answer = carol
        .call("PUT", &format!("inbox/{message}/status/acknowledged"), &[], b"")
        .await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(
        carol.call("HEAD", &format!("inbox/{message}"), &[], b"").await.status,
        404
    );
    assert_eq!(
        carol.call("GET", &format!("inbox/{message}/1"), &[], b"").await.status,
        403
    );
    assert_eq!(alice.download(&message).await.status, 403, "nor by its sender");
}

#[tokio::test]
async fn a_message_that_is_not_there_is_not_found() {
    let world = world().await;
    let mut bob = world.mailbox(2);
    for id in ["20200101000000000000_ABCDEF", "NOTANID", "%2E%2E"] {
        for accept in [V1, V2] {
            let header = [("Accept", accept)];
            let answer = bob.call("GET", &format!("inbox/{id}"), &header, b"").await;
            crate::assert_error(&answer, accept, 404, "RECEIVE", "20");
            let answer = bob
                .call("PUT", &format!("inbox/{id}/status/acknowledged"), &header, b"")
                .await;
            crate::assert_error(&answer, accept, 404, "RECEIVE", "20");
        }
        assert_eq!(bob.call("HEAD", &format!("inbox/{id}"), &[], b"").await.status, 404);
        assert_eq!(bob.call("GET", &format!("inbox/{id}/1"), &[], b"").await.status, 404);
    }
}

#[tokio::test]
async fn a_chunk_number_that_is_not_there_is_not_found() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let message = alice.send(bob.id(), WORKFLOW, &[], b"x").await;
    for (number, status) in [("1", 200), ("2", 404), ("1000000", 404), ("-1", 400), ("one", 400)] {
        let answer = bob.call("GET", &format!("inbox/{message}/{number}"), &[], b"").await;
        assert_eq!(answer.status, status, "chunk {number}: {}", answer.text());
    }
}

#[tokio::test]
async fn the_head_of_a_message_is_its_headers_without_its_body() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let message = alice.send(bob.id(), WORKFLOW, &[("Mex-Subject", "s")], b"body").await;
    let answer = bob.call("HEAD", &format!("inbox/{message}"), &[], b"").await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(answer.header("mex-messageid"), Some(message.as_str()));
    assert_eq!(answer.header("mex-subject"), Some("s"));
}

#[tokio::test]
async fn the_count_is_of_messages_that_wait() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    for _ in 0..3 {
        alice.send(bob.id(), WORKFLOW, &[], b"x").await;
    }
    let v1 = bob.call("GET", "count", &[("Accept", V1)], b"").await;
    assert_eq!(v1.json()["count"], 3, "{}", v1.text());
    assert_eq!(v1.json()["allResultsIncluded"], true);
    assert!(v1.json()["internalID"].is_string());
    let v2 = bob.call("GET", "count", &[("Accept", V2)], b"").await;
    assert_eq!(v2.json()["count"], 3, "{}", v2.text());
    assert!(v2.json().get("internalID").is_none());
}

#[tokio::test]
async fn the_rich_inbox_tells_of_each_message_newest_first() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let first = alice.send(bob.id(), WORKFLOW, &[("Mex-LocalID", "one")], b"x").await;
    let second = alice.send(bob.id(), WORKFLOW, &[("Mex-LocalID", "two")], b"y").await;
    bob.acknowledge(&first).await;
    let rich = bob.call("GET", "inbox/rich", &[], b"").await;
    assert_eq!(rich.status, 200, "{}", rich.text());
    let messages = rich.json()["messages"].as_array().cloned().unwrap_or_default();
    let ids: Vec<&str> = messages.iter().filter_map(|m| m["message_id"].as_str()).collect();
    assert_eq!(ids, [second.as_str(), first.as_str()]);
    assert_eq!(messages[0]["status"], "accepted");
    assert_eq!(messages[1]["status"], "acknowledged");
    assert_eq!(messages[0]["local_id"], "two");
    assert_eq!(
        (&messages[0]["sender"], &messages[0]["recipient"]),
        (&"X26ABC1".into(), &"X26ABC2".into())
    );
    assert_eq!(messages[0]["message_type"], "DATA");
    assert!(rich.json()["valid_at"].is_string() && rich.json()["links"]["self"].is_string());
    let few = bob.call("GET", "inbox/rich?max_results=1", &[], b"").await;
    let next = few.json()["links"]["next"]
        .as_str()
        .expect("there is one more")
        .to_owned();
    assert_eq!(few.json()["messages"].as_array().map(Vec::len), Some(1));
    if world.node.is_some() {
        let rest = bob.try_call("GET", &next, &[], b"").await.expect("an answer");
        assert_eq!(
            rest.json()["messages"][0]["message_id"],
            first.as_str(),
            "{}",
            rest.text()
        );
    }
    for (query, status) in [
        ("max_results=0", 400),
        ("max_results=2001", 400),
        ("max_results=2000", 200),
    ] {
        assert_eq!(
            bob.call("GET", &format!("inbox/rich?{query}"), &[], b"").await.status,
            status,
            "{query}"
        );
    }
}

/// A gzip stream of `hello hello hello hello`.
const ZIPPED: &str = "1f8b0800000000000203cb48cdc9c957c8402701e3513d8d17000000";

#[tokio::test]
async fn a_zipped_message_is_inflated_for_a_client_that_takes_no_gzip() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let zipped = hex::decode(ZIPPED).expect("the test's own bytes are hexadecimal");
    let message = alice
        .send(bob.id(), WORKFLOW, &[("Content-Encoding", "gzip")], &zipped)
        .await;
    let path = format!("inbox/{message}");
    let as_sent = bob.call("GET", &path, &[("Accept-Encoding", "gzip")], b"").await;
    assert_eq!(
        (as_sent.status, as_sent.header("content-encoding")),
        (200, Some("gzip"))
    );
    assert_eq!(as_sent.body, zipped);
    assert_eq!(as_sent.header("mex-content-compressed"), Some("Y"));
    for accept in [V1, V2] {
        let plain = bob.call("GET", &path, &[("Accept", accept)], b"").await;
        assert_eq!((plain.status, plain.header("content-encoding")), (200, None));
        assert_eq!(plain.text(), "hello hello hello hello");
    }
}
