//! Questions, administration, and what only the sandbox may do.

use super::*;
use crate::services::mesh::command::Refusal::*;

#[test]
fn a_changed_workflow_forgets_its_earlier_members() {
    let mut world = World::with_mailboxes();
    world.apply(&Command::PutWorkflow(workflow_of("W", &["A", "B"], &["B", "C"])));
    assert_eq!(
        workflow(&world.ledger, "W"),
        Some(workflow_of("W", &["A", "B"], &["B", "C"]))
    );
    world.apply(&Command::PutWorkflow(workflow_of("W", &["C"], &["B", "A"])));
    assert_eq!(
        workflow(&world.ledger, "W"),
        Some(workflow_of("W", &["C"], &["A", "B"]))
    );
    assert_eq!(workflow(&world.ledger, "V"), None);
    world.apply(&Command::PutWorkflow(workflow_of("V", &[], &[])));
    let all: Vec<String> = workflows(&world.ledger)
        .into_iter()
        .map(|workflow| workflow.id)
        .collect();
    assert_eq!(all, ["V", "W"]);
}

#[test]
fn receivers_are_found_by_workflow_and_organisation() {
    let mut world = World::with_mailboxes();
    world.apply(&Command::PutMailbox(mailbox("D", "X2")));
    world.apply(&Command::PutWorkflow(workflow_of(
        "W",
        &[],
        &["A", "B", "C", "D", "MISSING"],
    )));
    world.apply(&Command::PutMailbox(Mailbox {
        active: false,
        ..mailbox("B", "X26")
    }));
    let found = |ods: Option<&str>| -> Vec<String> {
        let mailboxes = receivers(&world.ledger, "W", ods);
        mailboxes.iter().map(|mailbox| mailbox.id.to_string()).collect()
    };
    assert_eq!(found(None), ["A", "C", "D"]);
    assert_eq!(found(Some("x26")), ["A"]);
    assert_eq!(found(Some("X27")), ["C"]);
    assert_eq!(found(Some("X2")), ["D"], "no prefix of another organisation");
    assert!(found(Some("Z99")).is_empty());
    assert!(found(Some("not an ods code")).is_empty());
    assert!(receivers(&world.ledger, "OTHER", None).is_empty());
    world.apply(&Command::PutMailbox(mailbox("A", "X27")));
    let moved = receivers(&world.ledger, "W", Some("X26"));
    assert!(moved.is_empty(), "a mailbox leaves its earlier organisation");
}

#[test]
fn mailboxes_are_listed_in_pages() {
    let world = World::with_mailboxes();
    let names = |after: Option<&MailboxId>, max| -> Vec<String> {
        let page = mailboxes(&world.ledger, after, max);
        page.iter().map(|mailbox| mailbox.id.to_string()).collect()
    };
    assert_eq!(names(None, 2), ["A", "B"]);
    assert_eq!(names(Some(&id("B")), 2), ["C"]);
    assert!(names(None, 0).is_empty());
}

#[test]
fn a_handshake_notes_the_client_and_writes_note_the_minute() {
    let mut world = World::with_mailboxes();
    let client = "é".repeat(400);
    let command = Command::Handshake {
        nonce: world.nonce(),
        mailbox: id("A"),
        client,
    };
    assert_eq!(world.apply(&command), Outcome::Done);
    let noted = mailbox_use(&world.ledger, &id("A"));
    assert_eq!((noted.last_seen, noted.client.len()), (START, 500));
    world.pass(59_999);
    world.send("A", "B", "x");
    assert_eq!(mailbox_use(&world.ledger, &id("A")).last_seen, START);
    world.pass(1);
    world.send("A", "B", "x");
    let later = mailbox_use(&world.ledger, &id("A"));
    assert_eq!((later.last_seen, later.client), (START.plus_ms(60_000), noted.client));
    let command = Command::Handshake {
        nonce: world.nonce(),
        mailbox: id("Z"),
        client: String::new(),
    };
    assert_eq!(world.apply(&command), refused(UnknownMailbox));
}

#[test]
fn a_page_ends_where_nothing_more_matches_and_a_filter_looks_at_no_more_than_its_bound() {
    let mut world = World::with_mailboxes();
    let mut named = Vec::new();
    for workflow in ["ABC", "ABD", "XBC", "ABC", "ZZZ", "ZZZ", "ABC"] {
        let command = send(world.nonce(), "A", "B", &metadata(workflow, None), 1, inline("x"));
        named.push(sent_id(&world.apply(&command)));
    }
    let list = |after, max, filter: Option<&WorkflowFilter>, scan_max| {
        let page = inbox(&world.ledger, &id("B"), after, max, filter, scan_max);
        let places: Vec<usize> = page
            .messages
            .iter()
            .map(|found| named.iter().position(|id| id == found).expect("ours"))
            .collect();
        (places, page.next_after)
    };
    let filter = |negated, pattern| WorkflowFilter { negated, pattern };
    let equals = filter(false, Pattern::Equals("ABC".into()));
    assert_eq!(list(0, 9, Some(&equals), 99), (vec![0, 3, 6], None));
    let starts = filter(false, Pattern::StartsWith("AB".into()));
    assert_eq!(list(0, 9, Some(&starts), 99), (vec![0, 1, 3, 6], None));
    let contains = filter(false, Pattern::Contains("BC".into()));
    assert_eq!(list(0, 9, Some(&contains), 99), (vec![0, 2, 3, 6], None));
    let not_equals = filter(true, Pattern::Equals("ABC".into()));
    assert_eq!(list(0, 9, Some(&not_equals), 99), (vec![1, 2, 4, 5], None));
    let not_contains = filter(true, Pattern::Contains("BC".into()));
    assert_eq!(list(0, 9, Some(&not_contains), 99), (vec![1, 4, 5], None));

    let (first, next) = list(0, 2, Some(&equals), 99);
    assert_eq!(first, [0, 3]);
    assert_eq!(list(next.expect("one more"), 2, Some(&equals), 99), (vec![6], None));
    assert_eq!(
        list(0, 4, Some(&not_equals), 99),
        (vec![1, 2, 4, 5], None),
        "no empty next page"
    );
    assert_eq!(list(0, 7, None, 0), (vec![0, 1, 2, 3, 4, 5, 6], None));
    let (none, next) = list(0, 9, Some(&filter(false, Pattern::Equals("ZZZ".into()))), 3);
    assert!(none.is_empty());
    assert_eq!(list(next.expect("to go on"), 9, Some(&equals), 99), (vec![3, 6], None));
    assert_eq!(list(0, 0, None, 0), (vec![], Some(0)));
}

#[test]
fn sent_and_received_messages_are_found_by_time_in_both_directions() {
    let mut world = World::with_mailboxes();
    let mut all = Vec::new();
    for n in 0..5 {
        all.push(world.send("A", "B", &n.to_string()));
        world.pass(1000);
    }
    world.acknowledge("B", &all[1]);
    let open = sent_id(&send_with(&mut world, "A", &metadata("W", None), 2, "open"));
    let ids = |messages: Vec<Message>| -> Vec<MessageId> { messages.into_iter().map(|message| message.id).collect() };
    let (a, b) = (id("A"), id("B"));
    let ledger = &world.ledger;
    let mut with_open = all.clone();
    with_open.push(open);
    assert_eq!(
        ids(received(ledger, &b, Timestamp::default(), None, 9)),
        all,
        "an open upload is not received yet"
    );
    assert_eq!(ids(sent(ledger, &a, Timestamp::default(), None, 9)), with_open);
    assert_eq!(ids(sent(ledger, &a, START.plus_ms(2000), None, 2)), all[2..4]);
    assert_eq!(ids(sent(ledger, &a, START.plus_ms(2001), Some(&all[0]), 2)), all[3..5]);
    assert_eq!(ids(received(ledger, &b, START, Some(&all[2]), 9)), all[3..]);
    let down: Vec<MessageId> = all.iter().rev().cloned().collect();
    assert_eq!(ids(received_newest_first(ledger, &b, START, None, 9)), down);
    assert_eq!(
        ids(received_newest_first(ledger, &b, START, Some(&all[2]), 1)),
        [all[1].clone()]
    );
    assert_eq!(
        ids(received_newest_first(ledger, &b, START.plus_ms(9000), Some(&all[2]), 9)),
        []
    );
    assert_eq!(
        ids(sent_newest_first(ledger, &a, START.plus_ms(3000), None, 2)).len(),
        2
    );
    assert!(sent(ledger, &b, START, None, 9).is_empty());
}

fn add_event(world: &mut World, message: &MessageId, status: Status) -> Outcome {
    world.apply(&Command::AddEvent {
        message: message.clone(),
        status,
        code: None,
        event: None,
        description: None,
        linked: None,
    })
}

#[test]
fn a_test_event_moves_a_message_out_of_its_inbox_and_back() {
    let mut world = World::with_mailboxes();
    let message_id = world.send("A", "B", "x");
    assert_eq!(add_event(&mut world, &message_id, Status::Error), Outcome::Done);
    assert!(world.inbox("B").is_empty());
    world.pass(INBOX_MS - 1);
    assert_eq!(add_event(&mut world, &message_id, Status::Accepted), Outcome::Done);
    assert_eq!(world.inbox("B"), std::slice::from_ref(&message_id));
    world.pass(INBOX_MS - 1);
    world.sweep();
    assert_eq!(world.inbox("B").len(), 1, "its five days began again");
    assert_eq!(add_event(&mut world, &message_id, Status::Uploading), refused(Gone));
    assert_eq!(add_event(&mut world, &message_id, Status::Acknowledged), Outcome::Done);
    assert!(world.held.is_empty());
    assert_eq!(
        add_event(&mut world, &message_id, Status::Accepted),
        refused(Gone),
        "its body is released"
    );
    let open = sent_id(&send_with(&mut world, "A", &metadata("W", None), 2, "open"));
    assert_eq!(add_event(&mut world, &open, Status::Accepted), refused(Gone));
    let unknown = MessageId::new(START, 999_999);
    assert_eq!(add_event(&mut world, &unknown, Status::Error), refused(UnknownMessage));
    world.pass(PURGE_MS);
    world.sweep();
    world.pass(PURGE_MS);
    world.sweep();
    assert!(world.faults.is_empty());
    assert_nothing_left(&world);
}

#[test]
fn a_test_report_is_collected_and_put_back() {
    let mut world = World::with_mailboxes();
    let mut command = Command::Report {
        mailbox: id("A"),
        code: "21".into(),
        description: "a description".into(),
        workflow: "W".into(),
        subject: None,
        local_id: None,
        file_name: None,
        linked: Some("anything".into()),
    };
    let report = sent_id(&world.apply(&command));
    assert_eq!(world.inbox("A"), std::slice::from_ref(&report));
    let cause = world.message(&report).events[1].clone();
    assert_eq!(
        (cause.code.as_deref(), cause.event.as_deref()),
        (Some("21"), Some("TRANSFER"))
    );
    world.acknowledge("A", &report);
    assert_eq!(add_event(&mut world, &report, Status::Accepted), Outcome::Done);
    assert_eq!(world.inbox("A"), [report]);
    if let Command::Report { mailbox, .. } = &mut command {
        *mailbox = id("Z");
    }
    assert_eq!(world.apply(&command), refused(UnknownMailbox));
}

#[test]
fn reset_removes_the_messages_of_one_mailbox_or_of_all_and_keeps_tokens_spent() {
    let mut world = World::with_mailboxes();
    let token = world.nonce();
    world.apply(&Command::Spend { nonce: token.clone() });
    let same = metadata("W", Some("1"));
    let first = sent_id(&send_with(&mut world, "A", &same, 1, "x"));
    let other = world.send("C", "C", "other");
    send_with(&mut world, "A", &same, 2, "open");
    assert_eq!(world.apply(&Command::Reset { mailbox: Some(id("A")) }), Outcome::Done);
    assert!(world.inbox("B").is_empty());
    assert_eq!(world.inbox("C"), [other]);
    assert_eq!(world.held.len(), 1);
    assert_ne!(sent_id(&send_with(&mut world, "A", &same, 1, "x")), first);
    assert_eq!(world.apply(&Command::Reset { mailbox: None }), Outcome::Done);
    assert!(world.held.is_empty());
    assert!(world.faults.is_empty());
    assert_nothing_left(&world);
    assert_eq!(mailboxes(&world.ledger, None, 9).len(), 3);
    assert_eq!(world.apply(&Command::Spend { nonce: token }), refused(Replayed));
}

#[test]
fn the_busiest_commands_write_as_few_keys_as_the_format_says() {
    let mut world = World::with_mailboxes();
    // What is written once a mailbox, a minute or a token's hour.
    world.send("A", "B", "x");
    world.send("B", "A", "x");
    let new_keys = |world: &mut World, command: &Command| {
        let before = world.dump();
        world.apply(command);
        let after = world.dump();
        let changed = after.iter().filter(|entry| !before.contains(entry)).count();
        let gone = before
            .iter()
            .filter(|(table, key, _)| !after.iter().any(|now| now.0 == *table && now.1 == *key));
        changed + gone.count()
    };
    let whole = send(world.nonce(), "A", "B", &metadata("W", None), 1, inline("one"));
    assert_eq!(new_keys(&mut world, &whole), 7);
    let named = send(world.nonce(), "A", "B", &metadata("W", Some("1")), 1, inline("two"));
    assert_eq!(new_keys(&mut world, &named), 9);
    let first = MessageId::new(world.at.time, world.at.index);
    let acknowledge = Command::Acknowledge {
        nonce: world.nonce(),
        mailbox: id("B"),
        message: first,
    };
    assert_eq!(new_keys(&mut world, &acknowledge), 4);
    let begun = send(world.nonce(), "A", "B", &metadata("W", None), 3, inline("one"));
    let message = sent_id(&world.apply(&begun));
    world.pass(1);
    let middle = send_chunk(world.nonce(), "A", &message, 2, 3, inline("two"));
    assert_eq!(new_keys(&mut world, &middle), 3);
    let last = send_chunk(world.nonce(), "A", &message, 3, 3, inline("three"));
    assert_eq!(new_keys(&mut world, &last), 8);
}
