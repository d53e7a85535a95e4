//! NHSMESH tokens: forged, malformed, late, early, used twice. Every refusal is 403.

use crate::{ours, world};
use jiff::{SignedDuration, Timestamp};
use vertebra_tests::mesh::{Credentials, WORKFLOW};

async fn status_with(alice: &mut vertebra_tests::mesh::Mailbox, token: &str) -> u16 {
    alice
        .call("GET", "inbox", &[("Authorization", token)], b"")
        .await
        .status
}

#[tokio::test]
async fn a_forged_token_is_refused() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    let right = alice.credentials.clone();
    let stamp = Timestamp::now().strftime("%Y%m%d%H%M").to_string();
    let forged = |change: fn(&mut Credentials)| {
        let mut wrong = right.clone();
        change(&mut wrong);
        wrong.token()
    };
    let wrong_password = forged(|wrong| wrong.password.push('x'));
    let wrong_key = forged(|wrong| wrong.shared_key.push('x'));
    let other_mailbox = forged(|wrong| wrong.mailbox = "X26ABC2".into());
    let no_mailbox = forged(|wrong| wrong.mailbox = String::new());
    for token in [wrong_password, wrong_key, other_mailbox, no_mailbox] {
        assert_eq!(status_with(&mut alice, &token).await, 403, "{token}");
    }
    // Each part of a rightful token, changed after it was signed.
    let token = right.token_of("nonce", "1", &stamp);
    let parts: Vec<&str> = token.trim_start_matches("NHSMESH ").split(':').collect();
    for at in 0..parts.len() {
        let mut changed: Vec<String> = parts.iter().map(|&part| part.to_owned()).collect();
        let flipped = if changed[at].ends_with('0') { "1" } else { "0" };
        let length = changed[at].len();
        changed[at].replace_range(length - 1.., flipped);
        assert_eq!(
            status_with(&mut alice, &format!("NHSMESH {}", changed.join(":"))).await,
            403,
            "part {at}"
        );
    }
}

#[tokio::test]
async fn a_malformed_token_is_refused() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    let right = alice.credentials.token();
    let id = alice.id().to_owned();
    let malformed = [
        String::new(),
        "NHSMESH".into(),
        "NHSMESH ".into(),
        "Basic dXNlcjpwYXNz".into(),
        "Bearer abc".into(),
        format!("NHSMESH {id}"),
        format!("NHSMESH {id}:1:2:3"),
        format!("{right}:more"),
        right.replace(":1:", ":one:"),
        right.replace(":1:", "::"),
        format!("NHSMESH {}", ":".repeat(400)),
        format!("NHSMESH {id}:{}:1:202001010000:ab", "n".repeat(4000)),
    ];
    for token in malformed {
        let answer = alice.call("GET", "inbox", &[("Authorization", &token)], b"").await;
        assert_eq!(answer.status, 403, "{token}: {}", answer.text());
    }
}

#[tokio::test]
async fn an_unknown_mailbox_is_refused_as_a_forged_token_is() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    alice.credentials.mailbox = "NOSUCHBOX".into();
    assert_eq!(alice.call("GET", "inbox", &[], b"").await.status, 403);
}

#[tokio::test]
async fn a_token_is_good_once_on_a_read() {
    let Some(world) = ours("single use").await else { return };
    let mut alice = world.mailbox(1);
    let token = alice.credentials.token();
    assert_eq!(status_with(&mut alice, &token).await, 200);
    assert_eq!(status_with(&mut alice, &token).await, 403);
    // Nor on another connection, nor for another call.
    alice.disconnect();
    let answer = alice.call("GET", "count", &[("Authorization", &token)], b"").await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn a_token_is_good_once_on_a_write() {
    let Some(world) = ours("single use").await else { return };
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let token = alice.credentials.token();
    let extra = [("Authorization", token.as_str())];
    assert_eq!(alice.post(bob.id(), WORKFLOW, &extra, b"once").await.status, 202);
    alice.disconnect();
    assert_eq!(alice.post(bob.id(), WORKFLOW, &extra, b"twice").await.status, 403);
    assert_eq!(bob.inbox().await.len(), 1, "the replayed message was not delivered");
    let message = bob.inbox().await.remove(0);
    let token = bob.credentials.token();
    let path = format!("inbox/{message}/status/acknowledged");
    assert_eq!(
        bob.call("PUT", &path, &[("Authorization", &token)], b"").await.status,
        200
    );
    assert_eq!(
        bob.call("PUT", &path, &[("Authorization", &token)], b"").await.status,
        403
    );
}

#[tokio::test]
async fn of_many_uses_of_one_token_at_once_one_wins() {
    let Some(world) = ours("single use").await else { return };
    let bob = world.mailbox(2);
    let token = world.mailbox(1).credentials.token();
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let (mut alice, token, to) = (world.mailbox(1), token.clone(), bob.id().to_owned());
        tasks.push(tokio::spawn(async move {
            alice
                .post(&to, WORKFLOW, &[("Authorization", &token)], b"race")
                .await
                .status
        }));
    }
    let mut accepted = 0;
    for task in tasks {
        match task.await.expect("no task panics") {
            202 => accepted += 1,
            status => assert_eq!(status, 403),
        }
    }
    assert_eq!(accepted, 1);
    assert_eq!(world.mailbox(2).inbox().await.len(), 1);
}

#[tokio::test]
async fn a_token_is_good_for_two_hours_either_way() {
    let Some(world) = ours("timestamps").await else { return };
    let mut alice = world.mailbox(1);
    for (minutes, status) in [(-119, 200), (119, 200), (-122, 403), (122, 403), (-60 * 24 * 365, 403)] {
        let token = alice
            .credentials
            .token_at(Timestamp::now() + SignedDuration::from_mins(minutes));
        assert_eq!(
            status_with(&mut alice, &token).await,
            status,
            "stamped {minutes} minutes from now"
        );
    }
}

#[tokio::test]
async fn a_timestamp_that_is_no_time_is_refused() {
    let Some(world) = ours("timestamps").await else { return };
    let mut alice = world.mailbox(1);
    for stamp in [
        "",
        "0",
        "20211332",
        "202113010000",
        "2021-01-01T00:00",
        "2021010100000",
        "20210101000",
        "999999999999",
    ] {
        let token = alice.credentials.token_of(&format!("nonce{stamp}"), "1", stamp);
        assert_eq!(status_with(&mut alice, &token).await, 403, "{stamp}");
    }
}

#[tokio::test]
async fn a_refusal_names_no_secret() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    let mut wrong = alice.credentials.clone();
    wrong.password = "planted-password-7391".into();
    let token = wrong.token();
    let answer = alice.call("GET", "inbox", &[("Authorization", &token)], b"").await;
    let text = answer.text();
    assert!(
        !text.contains("planted-password") && !text.contains("TestKey"),
        "{text}"
    );
    assert!(
        !text.contains(token.rsplit(':').next().expect("a token has parts")),
        "{text}"
    );
}
