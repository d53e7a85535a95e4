//! Golden bytes of everything stored. A difference here is a change of format: raise the version and keep the old bytes.

use super::super::values::{self, Bodies, Kept, Part, Retry, RetryKey, Waiting, WorkflowHead};
use super::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn kept() -> Kept {
    Kept {
        message: Message {
            id: MessageId::new(START, 42),
            sender: Some(id("A")),
            recipient: id("B"),
            report: false,
            metadata: metadata("W", Some("1")),
            chunks: 2,
            bytes: 3,
            created: START,
            expires: START.plus_ms(INBOX_MS),
            sequence: 0,
            events: vec![Event::plain(Status::Uploading, START)],
        },
        arrived: START,
        due: START.plus_ms(INBOX_MS),
        chunks_in: 1,
        first: Some(Part::of(&inline("one"), 42)),
        bodies: Bodies::Held,
        retried: false,
        retry: Some(RetryKey {
            period: 7,
            fingerprint: Digest([7; 32]),
        }),
    }
}

fn holds<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, golden: &str) {
    let bytes = values::write(value);
    assert_eq!(hex::encode(&bytes), golden);
    assert_eq!(values::read::<T>(&bytes), *value);
}

#[test]
fn values_are_written_byte_for_byte_as_they_always_were() {
    holds(
        &kept(),
        "011b32303236313132323132303030303030303034325f30303030303001014101420001570001013100000000000000020380c48299a03480dc81e7a13400010080c48299a0340000000080c48299a03480dc81e7a1340101002a03d33fb48ab5adff269ae172b29a6913ff04f6f266207a7a8e976f2ecd571d4492000001070707070707070707070707070707070707070707070707070707070707070707",
    );
    holds(
        &Part::of(&upload("x", 5, START, 1), 0),
        "0101818080808080808080808080a094c881a20305013ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0493ac697548d30b5",
    );
    holds(
        &Part::Released {
            digest: Digest([9; 32]),
        },
        "01020909090909090909090909090909090909090909090909090909090909090909",
    );
    holds(&Bodies::Releasing { from: 300 }, "0101ac02");
    holds(
        &Retry {
            message: MessageId::new(START, 42),
            at: START,
        },
        "011b32303236313132323132303030303030303034325f30303030303080c48299a034",
    );
    holds(
        &Waiting {
            message: MessageId::new(START, 42),
            at: START,
            workflow: "W".into(),
        },
        "011b32303236313132323132303030303030303034325f30303030303080c48299a0340157",
    );
    holds(
        &WorkflowHead {
            id: "W".into(),
            senders_listed: true,
            receivers_listed: false,
        },
        "0101570100",
    );
    holds(
        &mailbox("A", "X26"),
        "010141094d61696c626f782041035832360f416e206f7267616e69736174696f6e07456e676c616e640870617373776f72640101",
    );
    holds(
        &MailboxUse {
            last_seen: START,
            client: "c".into(),
        },
        "0180c48299a0340163",
    );
    holds(&3_u64, "0103");
}

#[test]
#[should_panic(expected = "start the newer release")]
fn a_value_of_a_later_release_is_refused_in_words() {
    values::read::<u64>(&[2, 0]);
}

#[test]
fn keys_stay_within_the_ledger_s_bound_whatever_clients_send() {
    let longest = "M".repeat(100);
    let mut world = World::with_mailboxes();
    world.apply(&Command::PutMailbox(mailbox(&longest, "X26X26X26X26")));
    let text = "é".repeat(10_000);
    world.apply(&Command::PutWorkflow(workflow_of(&text, &[&longest], &[&longest])));
    let metadata = metadata(&text, Some(&text));
    let command = send(world.nonce(), &longest, &longest, &metadata, 2, inline("x"));
    let message = sent_id(&world.apply(&command));
    world.chunk(&longest, &message, 2, 2, inline("y"));
    assert_eq!(world.inbox(&longest), std::slice::from_ref(&message));
    assert_eq!(by_local_id(&world.ledger, &id(&longest), &text, 9), [message]);
    assert!(world.dump().iter().all(|(_, key, _)| key.len() <= 511));
}
