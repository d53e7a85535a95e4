//! Sending, chunk by chunk and again.

use super::super::tables::{self, NONCE_PERIOD_MS};
use super::*;
use crate::services::mesh::command::Refusal::*;

#[test]
fn a_refused_command_changes_nothing_but_spends_its_token() {
    let mut world = World::with_mailboxes();
    let token = world.nonce();
    let before = world.dump();
    let command = send(token.clone(), "A", "NOBODY", &metadata("W", Some("x")), 1, inline("x"));
    assert_eq!(world.apply(&command), refused(UnknownRecipient));
    assert_eq!(world.dump().len(), before.len() + 1, "the token alone");
    assert!(spent(&world.ledger, &token));
    assert_eq!(world.apply(&command), refused(Replayed));
    assert_eq!(world.apply(&Command::Spend { nonce: token }), refused(Replayed));
}

#[test]
fn a_token_whose_table_may_be_gone_is_refused_whether_or_not_it_is() {
    let mut world = World::with_mailboxes();
    let token = world.nonce();
    let hour_end = Timestamp::from_ms((START.ms() / NONCE_PERIOD_MS + 1) * NONCE_PERIOD_MS);
    let over = hour_end.plus_ms(NONCE_KEPT_MS);
    world.at.time = over.minus_ms(1);
    assert_eq!(world.apply(&Command::Spend { nonce: token.clone() }), Outcome::Done);
    assert_eq!(world.apply(&Command::Spend { nonce: token.clone() }), refused(Replayed));
    let fresh = nonce(77, START);
    assert!(!sweep_due(&world.ledger, over.minus_ms(1)));
    assert!(sweep_due(&world.ledger, over));
    world.at.time = over;
    assert_eq!(
        world.apply(&Command::Spend { nonce: fresh.clone() }),
        refused(Replayed),
        "before the sweep"
    );
    world.sweep();
    assert!(world.ledger.periods(tables::NONCES).is_empty());
    assert_eq!(
        world.apply(&Command::Spend { nonce: fresh }),
        refused(Replayed),
        "after the sweep"
    );
    assert_eq!(world.apply(&Command::Spend { nonce: token }), refused(Replayed));
}

#[test]
fn a_send_is_refused_in_order() {
    let mut world = World::with_mailboxes();
    world.apply(&Command::PutWorkflow(workflow_of("ONLY", &["A"], &["B"])));
    world.apply(&Command::PutMailbox(Mailbox {
        active: false,
        ..mailbox("OFF", "X26")
    }));
    let expired = upload("x", 1, START.minus_ms(UPLOAD_LEASE_MS), 1);
    let huge = upload("x", MESSAGE_BYTES_MAX + 1, START, 2);
    for (from, to, workflow, body, expected) in [
        ("Z", "Z", "ONLY", huge, UnknownMailbox),
        ("OFF", "Z", "ONLY", huge, UnknownMailbox),
        ("C", "Z", "ONLY", huge, UnknownRecipient),
        ("C", "OFF", "ONLY", huge, UnknownRecipient),
        ("C", "C", "ONLY", huge, SenderNotAllowed),
        ("A", "C", "ONLY", huge, RecipientNotAllowed),
        ("A", "B", "ONLY", huge, MessageTooLarge),
        ("A", "B", "ONLY", expired, UploadExpired),
        ("C", "C", "OTHER", expired, UploadExpired),
    ] {
        let command = send(world.nonce(), from, to, &metadata(workflow, None), 1, body);
        assert_eq!(world.apply(&command), refused(expected), "{from} to {to}");
    }
    let last_moment = upload("x", MESSAGE_BYTES_MAX, START.minus_ms(UPLOAD_LEASE_MS - 1), 3);
    let command = send(world.nonce(), "A", "B", &metadata("ONLY", None), 1, last_moment);
    assert!(matches!(world.apply(&command), Outcome::Sent { .. }));
    assert!(world.faults.is_empty());
}

#[test]
fn a_workflow_with_an_empty_list_lets_every_mailbox_in() {
    let mut world = World::with_mailboxes();
    world.apply(&Command::PutWorkflow(workflow_of("IN", &[], &["B"])));
    world.apply(&Command::PutWorkflow(workflow_of("OUT", &["A"], &[])));
    for (from, to, workflow, expected) in [
        ("C", "B", "IN", None),
        ("C", "A", "IN", Some(RecipientNotAllowed)),
        ("A", "C", "OUT", None),
        ("B", "C", "OUT", Some(SenderNotAllowed)),
    ] {
        let command = send(world.nonce(), from, to, &metadata(workflow, None), 1, inline("x"));
        match (world.apply(&command), expected) {
            (Outcome::Sent { .. }, None) => {}
            (outcome, expected) => assert_eq!(outcome, refused(expected.expect("refused"))),
        }
    }
}

#[test]
fn the_same_send_again_gives_the_first_message_within_two_hours() {
    let mut world = World::with_mailboxes();
    let same = metadata("W", Some("order 1"));
    let first = sent_id(&send_with(&mut world, "A", &same, 1, "content"));
    world.pass(SAFE_RETRY_MS - 1);
    assert_eq!(send_with(&mut world, "A", &same, 1, "content"), repeated(&first));
    assert_eq!(world.inbox("B").len(), 1);
    assert_eq!(world.held.len(), 1);
    world.acknowledge("B", &first);
    assert_eq!(
        send_with(&mut world, "A", &same, 1, "content"),
        repeated(&first),
        "collected meanwhile"
    );
    world.pass(1);
    let second = sent_id(&send_with(&mut world, "A", &same, 1, "content"));
    assert_ne!(second, first);
    let both = by_local_id(&world.ledger, &id("A"), "order 1", 10);
    assert_eq!(both, [second.clone(), first], "newest first");
    assert_eq!(by_local_id(&world.ledger, &id("A"), "order 1", 1), [second]);
    assert!(by_local_id(&world.ledger, &id("C"), "order 1", 10).is_empty());
}

#[test]
fn an_inline_and_an_uploaded_body_of_one_content_are_the_same_send() {
    let mut world = World::with_mailboxes();
    let same = metadata("W", Some("1"));
    let first = sent_id(&send_with(&mut world, "A", &same, 1, "content"));
    // Its pieces are past their lease, which is of no concern: nobody will name them.
    let again = upload("content", 7, START.minus_ms(2 * UPLOAD_LEASE_MS), 9);
    let command = send(world.nonce(), "A", "B", &same, 1, again);
    assert_eq!(world.apply(&command), repeated(&first));
    assert_eq!(world.held.len(), 1, "nothing holds the second upload");
}

#[test]
fn a_send_that_differs_in_anything_is_a_new_message() {
    let mut world = World::with_mailboxes();
    let same = Metadata {
        subject: Some("s".into()),
        ..metadata("W", Some("1"))
    };
    let first = sent_id(&send_with(&mut world, "A", &same, 1, "content"));
    let others = [
        ("C", same.clone(), 1, "content"),
        ("A", same.clone(), 1, "other"),
        ("A", same.clone(), 2, "content"),
        (
            "A",
            Metadata {
                subject: None,
                ..same.clone()
            },
            1,
            "content",
        ),
        (
            "A",
            Metadata {
                local_id: Some("2".into()),
                ..same.clone()
            },
            1,
            "content",
        ),
        (
            "A",
            Metadata {
                workflow: "V".into(),
                ..same.clone()
            },
            1,
            "content",
        ),
        (
            "A",
            Metadata {
                compressed: true,
                ..same.clone()
            },
            1,
            "content",
        ),
    ];
    for (from, metadata, chunks, content) in &others {
        assert_ne!(sent_id(&send_with(&mut world, from, metadata, *chunks, content)), first);
    }
    let to_another = send(world.nonce(), "A", "C", &same, 1, inline("content"));
    assert_ne!(sent_id(&world.apply(&to_another)), first);
}

#[test]
fn without_a_local_id_or_with_retry_switched_off_every_send_is_new() {
    let mut world = World::with_mailboxes();
    for local_id in [None, Some("")] {
        let one = sent_id(&send_with(&mut world, "A", &metadata("W", local_id), 1, "x"));
        let two = sent_id(&send_with(&mut world, "A", &metadata("W", local_id), 1, "x"));
        assert_ne!(one, two);
    }
    let named = metadata("W", Some("1"));
    let one = sent_id(&send_with(&mut world, "A", &named, 1, "x"));
    world.apply(&Command::PutMailbox(Mailbox {
        safe_retry: false,
        ..mailbox("A", "X26")
    }));
    let two = sent_id(&send_with(&mut world, "A", &named, 1, "x"));
    assert_ne!(one, two);
}

#[test]
fn chunks_come_in_any_order_and_complete_the_message_once() {
    let mut world = World::with_mailboxes();
    let message_id = sent_id(&send_with(&mut world, "A", &metadata("W", None), 3, "one"));
    assert!(world.inbox("B").is_empty());
    assert_eq!(world.chunk("A", &message_id, 3, 3, inline("three")), taken(&message_id));
    assert_eq!(world.message(&message_id).status(), Status::Uploading);
    assert_eq!(world.message(&message_id).sequence, 0);
    let between = world.send("A", "B", "between");
    world.pass(5);
    assert_eq!(world.chunk("A", &message_id, 2, 3, inline("two")), taken(&message_id));
    assert_eq!(
        world.inbox("B"),
        [between, message_id.clone()],
        "in order of completion"
    );
    let message = world.message(&message_id);
    assert_eq!((message.status(), message.bytes), (Status::Accepted, 11));
    assert_eq!(
        message.expires,
        START.plus_ms(5 + INBOX_MS),
        "five days from completion"
    );
    assert_eq!(world.held.len(), 4);
    assert_eq!(world.acknowledge("B", &message_id), Outcome::Done);
    assert_eq!(world.held.len(), 1);
    assert!(world.faults.is_empty());
}

#[test]
fn a_resent_chunk_replaces_the_earlier_one_while_others_are_missing() {
    let mut world = World::with_mailboxes();
    let message_id = sent_id(&send_with(&mut world, "A", &metadata("W", None), 3, "one"));
    world.chunk("A", &message_id, 2, 3, inline("two"));
    assert_eq!(
        world.chunk("A", &message_id, 2, 3, inline("two")),
        repeated(&message_id),
        "the very bytes"
    );
    assert_eq!(world.chunk("A", &message_id, 2, 3, inline("zwei!")), taken(&message_id));
    assert_eq!(world.chunk("A", &message_id, 1, 3, inline("eins!")), taken(&message_id));
    assert_eq!(world.message(&message_id).status(), Status::Uploading);
    assert_eq!(world.message(&message_id).bytes, 10);
    assert_eq!(world.held.len(), 2);
    assert!(world.faults.is_empty(), "{:?}", world.faults);
}

#[test]
fn a_chunk_is_refused_in_order() {
    let mut world = World::with_mailboxes();
    let gzip = Metadata {
        content_encoding: Some("gzip".into()),
        ..metadata("W", None)
    };
    let message_id = sent_id(&send_with(&mut world, "A", &gzip, 3, "one"));
    let unknown = MessageId::new(START, 999_999);
    let huge = upload("x", MESSAGE_BYTES_MAX - 2, START.minus_ms(UPLOAD_LEASE_MS), 1);
    let expired = upload("x", MESSAGE_BYTES_MAX - 3, START.minus_ms(UPLOAD_LEASE_MS), 1);
    for (from, message, chunk, encoding, chunks, body, expected) in [
        ("Z", &unknown, 4, None, 9, huge, UnknownMailbox),
        ("B", &unknown, 4, None, 9, huge, UnknownMessage),
        ("B", &message_id, 4, None, 9, huge, NotYours),
        ("A", &message_id, 4, None, 9, huge, ChunkBeyondEnd),
        ("A", &message_id, 0, None, 9, huge, ChunkBeyondEnd),
        ("A", &message_id, 3, None, 9, huge, ContentEncodingChanged),
        ("A", &message_id, 3, Some("gzip".to_owned()), 9, huge, ChunkTotalChanged),
        ("A", &message_id, 3, Some("gzip".to_owned()), 3, huge, MessageTooLarge),
        ("A", &message_id, 3, Some("gzip".to_owned()), 3, expired, UploadExpired),
    ] {
        let command = Command::SendChunk {
            nonce: world.nonce(),
            sender: id(from),
            message: message.clone(),
            chunk,
            chunks,
            content_encoding: encoding,
            body,
        };
        assert_eq!(world.apply(&command), refused(expected));
    }
    let whole = world.send("A", "B", "whole");
    assert_eq!(world.chunk("A", &whole, 9, 9, inline("x")), refused(AlreadyComplete));
}

/// A two-chunk message that is complete.
fn complete(world: &mut World) -> MessageId {
    let message_id = sent_id(&send_with(world, "A", &metadata("W", Some("1")), 2, "one"));
    world.chunk("A", &message_id, 2, 2, inline("two"));
    message_id
}

#[test]
fn a_client_that_resends_everything_after_a_lost_answer_gets_the_first_message() {
    for collected in [false, true] {
        let mut world = World::with_mailboxes();
        let first = complete(&mut world);
        if collected {
            world.acknowledge("B", &first);
        }
        let waiting = world.inbox("B");
        let held = world.held.clone();
        assert_eq!(
            send_with(&mut world, "A", &metadata("W", Some("1")), 2, "one"),
            repeated(&first)
        );
        assert_eq!(world.chunk("A", &first, 2, 2, inline("two")), repeated(&first));
        assert_eq!(world.inbox("B"), waiting);
        assert_eq!(world.held, held);
        world.pass(SAFE_RETRY_MS);
        assert_eq!(world.chunk("A", &first, 2, 2, inline("two")), refused(AlreadyComplete));
    }
}

#[test]
fn a_later_chunk_that_differs_never_alters_a_complete_message_and_goes_through_as_a_new_one() {
    let mut world = World::with_mailboxes();
    let first = complete(&mut world);
    let chunk_2 = chunk(&world.ledger, &first, 2);
    let same = metadata("W", Some("1"));
    assert_eq!(send_with(&mut world, "A", &same, 2, "one"), repeated(&first));
    assert_eq!(
        world.chunk("A", &first, 2, 2, inline("other")),
        refused(AlreadyComplete)
    );
    assert_eq!(chunk(&world.ledger, &first, 2), chunk_2);
    let second = sent_id(&send_with(&mut world, "A", &same, 2, "one"));
    assert_ne!(second, first, "the refusal made the sender's next try a new message");
    assert_eq!(world.chunk("A", &second, 2, 2, inline("other")), taken(&second));
    assert_eq!(world.inbox("B"), [first, second]);
}

#[test]
fn two_uploads_that_began_alike_never_mix_under_one_message() {
    let mut world = World::with_mailboxes();
    let same = metadata("W", Some("1"));
    let first = sent_id(&send_with(&mut world, "A", &same, 3, "one"));
    world.chunk("A", &first, 2, 3, inline("two"));
    assert_eq!(send_with(&mut world, "A", &same, 3, "one"), repeated(&first));
    assert_eq!(world.chunk("A", &first, 2, 3, inline("two")), repeated(&first));
    assert_eq!(
        world.chunk("A", &first, 2, 3, inline("another two")),
        refused(AlreadyComplete)
    );
    let second = sent_id(&send_with(&mut world, "A", &same, 3, "one"));
    assert_ne!(second, first);
    assert_eq!(world.chunk("A", &second, 2, 3, inline("another two")), taken(&second));
    assert_eq!(
        world.chunk("A", &first, 3, 3, inline("three")),
        taken(&first),
        "the first goes on as it was"
    );
    assert_eq!(world.message(&first).bytes, 11);
}

#[test]
fn a_replaced_first_chunk_is_no_longer_found_by_a_retry_of_the_old_one() {
    let mut world = World::with_mailboxes();
    let same = metadata("W", Some("1"));
    let first = sent_id(&send_with(&mut world, "A", &same, 2, "one"));
    world.chunk("A", &first, 1, 2, inline("eins"));
    assert_ne!(sent_id(&send_with(&mut world, "A", &same, 2, "one")), first);
}
