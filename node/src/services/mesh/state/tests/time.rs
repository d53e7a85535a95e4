//! Collecting, and what time does.

use super::*;
use crate::services::mesh::command::Refusal::*;

#[test]
fn a_message_is_listed_downloaded_and_acknowledged() {
    let mut world = World::with_mailboxes();
    let message_id = world.send("A", "B", "hello");
    assert_eq!(world.inbox("B"), std::slice::from_ref(&message_id));
    let message = world.message(&message_id);
    assert_eq!(
        (message.status(), message.bytes, message.chunks),
        (Status::Accepted, 5, 1)
    );
    let index = world.at.index;
    assert_eq!(
        chunk(&world.ledger, &message_id, 1),
        Some(Stored::Entry { index, bytes: 5 })
    );
    assert_eq!(world.held, [Held::Entry(index)].into());
    assert_eq!(inbox_depth(&world.ledger, &id("B")), (1, Some(START)));

    assert_eq!(world.acknowledge("B", &message_id), Outcome::Done);
    assert!(world.inbox("B").is_empty());
    assert!(world.held.is_empty());
    assert_eq!(chunk(&world.ledger, &message_id, 1), None);
    assert_eq!(inbox_depth(&world.ledger, &id("B")), (0, None));
    assert_eq!(world.message(&message_id).status(), Status::Acknowledged);
    assert_eq!(
        world.acknowledge("B", &message_id),
        Outcome::Done,
        "again changes nothing"
    );
    assert_eq!(world.message(&message_id).events.len(), 2);
}

#[test]
fn an_acknowledgement_is_refused_in_order() {
    let mut world = World::with_mailboxes();
    let message_id = world.send("A", "B", "hello");
    let unknown = MessageId::new(START, 999_999);
    assert_eq!(world.acknowledge("Z", &message_id), refused(UnknownMailbox));
    assert_eq!(world.acknowledge("B", &unknown), refused(UnknownMessage));
    assert_eq!(world.acknowledge("A", &message_id), refused(NotYours));
    world.pass(INBOX_MS);
    world.sweep();
    assert_eq!(world.acknowledge("B", &message_id), refused(Gone));
}

#[test]
fn an_uncollected_message_expires_at_five_days_and_its_sender_is_told() {
    let mut world = World::with_mailboxes();
    let details = Metadata {
        subject: Some("s".into()),
        file_name: Some("f".into()),
        ..metadata("W", Some("1"))
    };
    let lost = sent_id(&send_with(&mut world, "A", &details, 1, "x"));
    world.pass(INBOX_MS - 1);
    world.sweep();
    assert_eq!(world.inbox("B"), std::slice::from_ref(&lost), "not a millisecond early");
    world.pass(1);
    assert!(sweep_due(&world.ledger, world.at.time));
    world.sweep();
    assert!(!sweep_due(&world.ledger, world.at.time));
    assert!(world.inbox("B").is_empty());
    assert_eq!(inbox_depth(&world.ledger, &id("B")), (0, None));
    let kept = world.message(&lost);
    assert_eq!(
        (kept.status(), kept.events[0].at),
        (Status::Undeliverable, world.at.time)
    );
    assert_eq!(world.held.len(), 1, "the body waits for the service desk");
    assert!(chunk(&world.ledger, &lost, 1).is_some());

    let [report_id] = &world.inbox("A")[..] else {
        panic!("one report")
    };
    let report = world.message(report_id);
    assert!(report.report && report.sender.is_none() && report.chunks == 0);
    assert_eq!(report.status(), Status::Accepted);
    let cause = &report.events[1];
    assert_eq!(
        (cause.status, cause.code.as_deref(), cause.event.as_deref()),
        (Status::Error, Some("14"), Some("SEND"))
    );
    assert_eq!(cause.linked.as_deref(), Some(lost.as_str()));
    assert_eq!(
        (&report.metadata.workflow[..], report.metadata.local_id.as_deref()),
        ("W", Some("1"))
    );
    assert_eq!(report.metadata.subject.as_deref(), Some("s"));
    assert!(
        by_local_id(&world.ledger, &id("A"), "1", 9) == [lost.clone()],
        "a report is nobody's sent message"
    );

    world.pass(INBOX_MS);
    world.sweep();
    assert_eq!(world.message(report_id).status(), Status::Undeliverable);
    assert!(
        world.inbox("A").is_empty() && world.inbox("B").is_empty(),
        "a report makes no further report"
    );

    world.at.time = START.plus_ms(PURGE_MS - 1);
    world.sweep();
    assert!(message(&world.ledger, &lost).is_some());
    world.pass(1);
    world.sweep();
    assert!(message(&world.ledger, &lost).is_none());
    assert!(world.held.is_empty());
    world.pass(INBOX_MS);
    world.sweep();
    assert!(message(&world.ledger, report_id).is_none());
    assert!(world.faults.is_empty());
    assert_nothing_left(&world);
}

#[test]
fn an_upload_without_its_last_chunk_is_given_up_after_five_days() {
    let mut world = World::with_mailboxes();
    let message_id = sent_id(&send_with(&mut world, "A", &metadata("W", None), 3, "one"));
    world.pass(INBOX_MS - 1);
    assert_eq!(world.chunk("A", &message_id, 2, 3, inline("two")), taken(&message_id));
    world.pass(1);
    world.sweep();
    assert_eq!(world.message(&message_id).status(), Status::Undeliverable);
    assert!(world.held.is_empty(), "what can never be complete is let go");
    assert_eq!(world.inbox("A").len(), 1);
    assert_eq!(
        world.chunk("A", &message_id, 3, 3, inline("three")),
        refused(AlreadyComplete)
    );
    world.pass(PURGE_MS);
    world.sweep();
    world.pass(PURGE_MS);
    world.sweep();
    assert!(world.faults.is_empty());
    assert_nothing_left(&world);
}

#[test]
fn a_message_swept_only_after_thirty_days_still_makes_its_report() {
    let mut world = World::with_mailboxes();
    let lost = world.send("A", "B", "x");
    world.pass(PURGE_MS);
    world.sweep();
    assert!(message(&world.ledger, &lost).is_none());
    assert_eq!(world.inbox("A").len(), 1);
    assert_eq!(inbox_depth(&world.ledger, &id("B")), (0, None));
}

#[test]
fn one_sweep_gives_each_report_its_own_identifier_and_place() {
    let mut world = World::with_mailboxes();
    let lost: Vec<MessageId> = (0..30).map(|n| world.send("A", "B", &format!("{n}"))).collect();
    world.pass(INBOX_MS);
    assert_eq!(
        world.apply(&Command::Sweep { messages_max: 20 }),
        Outcome::Swept { messages: 20 }
    );
    assert_eq!(
        world.inbox("B").len(),
        11,
        "one of the twenty was an hour of spent tokens"
    );
    world.sweep();
    let reports = world.inbox("A");
    assert_eq!(reports.len(), 30);
    let linked: Vec<String> = reports
        .iter()
        .map(|report| world.message(report).events[1].linked.clone().expect("linked"))
        .collect();
    let lost: Vec<String> = lost.iter().map(MessageId::to_string).collect();
    assert_eq!(linked, lost, "in order");
    let mut after = 0;
    let mut paged = Vec::new();
    loop {
        let page = inbox(&world.ledger, &id("A"), after, 7, None, 0);
        paged.extend(page.messages);
        match page.next_after {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(paged, reports);
}

#[test]
fn a_message_of_many_chunks_is_let_go_a_bounded_piece_at_a_time() {
    let chunks = 3 * ACKNOWLEDGE_RELEASES_MAX;
    let mut world = World::with_mailboxes();
    let message_id = sent_id(&send_with(&mut world, "A", &metadata("W", None), chunks, "1"));
    for chunk in 2..=chunks {
        world.chunk("A", &message_id, chunk, chunks, inline(&chunk.to_string()));
    }
    assert_eq!(world.held.len() as u32, chunks);
    world.acknowledge("B", &message_id);
    assert_eq!(world.held.len() as u32, chunks - ACKNOWLEDGE_RELEASES_MAX);
    assert_eq!(
        chunk(&world.ledger, &message_id, chunks),
        None,
        "not to be had any more"
    );
    assert!(sweep_due(&world.ledger, world.at.time));
    assert_eq!(
        world.apply(&Command::Sweep { messages_max: 11 }),
        Outcome::Swept { messages: 11 }
    );
    assert_eq!(world.held.len() as u32, chunks - ACKNOWLEDGE_RELEASES_MAX - 10);
    world.sweep();
    assert!(world.held.is_empty());
    assert_eq!(
        world.chunk("A", &message_id, chunks, chunks, inline(&chunks.to_string())),
        repeated(&message_id)
    );
    world.pass(PURGE_MS);
    assert_eq!(
        world.apply(&Command::Sweep { messages_max: 1 }),
        Outcome::Swept { messages: 1 }
    );
    world.sweep();
    assert!(world.faults.is_empty());
    assert_nothing_left(&world);
}
