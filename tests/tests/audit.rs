//! The record of every access: it answers who did what, it cannot be changed unseen, it leaves as FHIR.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use vertebra_tests::forge::{Forge, audit_segment};
use vertebra_tests::mesh::WORKFLOW;
use vertebra_tests::node::{Folder, Node, binary};
use vertebra_tests::process::wait_until;

fn audit(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("audit").args(arguments).arg("--sandbox").arg(data);
    command.output().expect("the binary starts")
}

fn told(output: &Output) -> String {
    let (out, errors) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(errors))
}

/// The lines of a command that must succeed.
fn lines(data: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = audit(data, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", told(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

fn query(data: &Path, arguments: &[&str]) -> Vec<Value> {
    lines(data, &[&["query", "--json"], arguments].concat())
}

fn verify(data: &Path) -> (Value, Option<i32>) {
    let output = audit(data, &["verify", "--json"]);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {}", told(&output)));
    (report, output.status.code())
}

fn actions(lines: &[Value]) -> Vec<(&str, &str)> {
    lines
        .iter()
        .map(|line| {
            (
                line["action"].as_str().unwrap_or(""),
                line["actor"].as_str().unwrap_or(""),
            )
        })
        .collect()
}

#[tokio::test]
async fn who_touched_a_message_is_answered_and_the_question_is_on_the_record_too() {
    let folder = Folder::new("audit-query");
    let data = folder.path().join("data");
    let node = Node::start(&data);
    let message = node.mailbox(0).send("X26ABC2", WORKFLOW, &[], b"x").await;
    let other = node.mailbox(0).send("X26ABC2", WORKFLOW, &[], b"y").await;
    node.mailbox(1).download(&message).await;
    node.mailbox(1).acknowledge(&message).await;
    let found = query(&data, &["--subject", &message]);
    let expected = [
        ("mesh.send", "X26ABC1"),
        ("mesh.download", "X26ABC2"),
        ("mesh.acknowledge", "X26ABC2"),
    ];
    assert_eq!(actions(&found), expected);
    // The question about the message is an entry about the message.
    let again = query(&data, &["--subject", &message]);
    assert_eq!(actions(&again)[3..], [("audit.query", "operator")]);
    let looked = query(&data, &["--action", "audit.*"]);
    assert_eq!(looked.len(), 2);
    assert!(
        looked[0]["subject"]
            .as_str()
            .is_some_and(|subject| subject.contains(&message))
    );
    for (arguments, expected) in [
        (&["--actor", "X26ABC1", "--action", "mesh.*"][..], 2),
        (&["--actor", "X26ABC2", "--outcome", "200"], 2),
        (&["--action", "mesh.send", "--limit", "1"], 1),
        (&["--organisation", "X26", "--action", "mesh.acknowledge"], 1),
        (&["--from", "2100-01-01T00:00:00Z"], 0),
        (&["--to", "2000-01-01T00:00:00Z"], 0),
        (&["--request", found[0]["request"].as_str().unwrap_or("")], 1),
    ] {
        assert_eq!(query(&data, arguments).len(), expected, "{arguments:?}");
    }
    let table = told(&audit(&data, &["query", "--action", "mesh.send", "--limit", "1"]));
    assert!(table.starts_with("ENTRY") && table.contains("--after"), "{table}");
    assert!(table.contains(&message) && !table.contains(&other), "{table}");
    assert!(!node.log_text().contains(&message), "what was asked for is in no log");
}

#[tokio::test]
async fn an_export_is_fhir_joins_line_by_line_and_goes_on_where_it_ended() {
    let folder = Folder::new("audit-export");
    let data = folder.path().join("data");
    let node = Node::start(&data);
    let message = node.mailbox(0).send("X26ABC2", WORKFLOW, &[], b"x").await;
    node.mailbox(1)
        .call("GET", "inbox/20000101000000000000_000000", &[], b"")
        .await;
    let events = lines(&data, &["export"]);
    let extension = |event: &Value, at: usize| event["extension"][at]["valueString"].as_str().unwrap_or("").to_owned();
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event["resourceType"], "AuditEvent");
        for pointer in [
            "/type/system",
            "/type/code",
            "/recorded",
            "/source/observer/identifier/value",
        ] {
            assert!(
                event.pointer(pointer).is_some_and(Value::is_string),
                "{pointer} in {event}"
            );
        }
        assert_eq!(event["agent"][0]["requestor"], true);
        assert!(
            ["C", "R", "U", "D", "E"].contains(&event["action"].as_str().unwrap_or("")),
            "{event}"
        );
        assert!(
            ["0", "4", "8", "12"].contains(&event["outcome"].as_str().unwrap_or("")),
            "{event}"
        );
        assert!(event["entity"][0]["what"]["identifier"]["value"].is_string(), "{event}");
        assert_eq!(extension(event, 0), (at + 1).to_string(), "no entry is left out");
        if at > 0 {
            assert_eq!(
                extension(event, 2),
                extension(&events[at - 1], 1),
                "each carries the hash before"
            );
        }
    }
    let sent = events
        .iter()
        .find(|event| event["subtype"][0]["code"] == "mesh.send")
        .expect("the send");
    assert_eq!((&sent["action"], &sent["outcome"]), (&"C".into(), &"0".into()));
    assert_eq!(sent["entity"][0]["what"]["identifier"]["value"], message.as_str());
    assert!(
        events.iter().any(|event| event["outcome"] == "4"),
        "the refusal is there"
    );
    let last = events.len().to_string();
    let rest = lines(&data, &["export", "--after", &last]);
    assert_eq!(
        rest[0]["subtype"][0]["code"], "audit.export",
        "the export is on the record"
    );

    let file = folder.path().join("audit.ndjson");
    let path = file.display().to_string();
    assert!(audit(&data, &["export", "--output", &path]).status.success());
    let text = fs::read_to_string(&file).expect("the export is there");
    assert!(text.lines().count() > events.len());
    let second = audit(&data, &["export", "--output", &path]);
    assert_eq!(second.status.code(), Some(2), "{}", told(&second));
    assert!(told(&second).contains("--force"), "{}", told(&second));
    assert_eq!(fs::read_to_string(&file).expect("still there"), text);
    assert!(audit(&data, &["export", "--output", &path, "--force"]).status.success());
}

/// A node with some entries, the head of which is in the log; stopped.
fn stopped(data: &Path) {
    let mut node = Node::start(data);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(async {
        for _ in 0..4 {
            node.mailbox(0).send("X26ABC2", WORKFLOW, &[], b"x").await;
        }
    });
    wait_until("the log knows two heads", Duration::from_secs(30), || {
        verify(data).0["heads_matched"].as_u64() >= Some(2)
    });
    assert_eq!(node.terminate().code(), Some(0), "{}", node.log_text());
    let (report, code) = verify(data);
    assert_eq!((&report["whole"], code), (&true.into(), Some(0)), "{report}");
    assert_eq!(report["first"], 1);
}

#[test]
fn an_altered_dropped_reordered_or_cut_off_entry_is_named() {
    let folder = Folder::new("audit-forged");
    let data = folder.path().join("data");
    stopped(&data);
    let segment = audit_segment(&data);
    let sound = fs::read(&segment).expect("a segment can be read");
    let forge = |change: &dyn Fn(&mut Forge)| {
        fs::write(&segment, &sound).expect("a segment can be written");
        let mut forge = Forge::open(&data);
        change(&mut forge);
        forge.write();
        verify(&data)
    };
    let (report, code) = forge(&|_| {});
    assert_eq!(code, Some(0), "written back unchanged it is whole: {report}");
    let altered = |forge: &mut Forge| {
        let payload = &mut forge.entry(5).payload;
        *payload.last_mut().expect("an entry has bytes") ^= 1;
    };
    let renumbered = |forge: &mut Forge| {
        forge.retain(|number| number != 5);
        for entry in forge.entries() {
            entry.number -= u64::from(entry.number > 5);
        }
    };
    let reordered = |forge: &mut Forge| {
        let fifth = forge.entry(5).clone();
        let sixth = std::mem::replace(forge.entry(6), fifth);
        *forge.entry(5) = sixth;
    };
    let swapped = |forge: &mut Forge| {
        let fifth = forge.entry(5).payload.clone();
        let sixth = std::mem::replace(&mut forge.entry(6).payload, fifth);
        forge.entry(5).payload = sixth;
    };
    type Change<'a> = &'a dyn Fn(&mut Forge);
    let changes: [(&str, u64, Change<'_>); 7] = [
        ("altered", 5, &altered),
        ("dropped", 5, &|forge| forge.retain(|number| number != 5)),
        ("the first dropped", 1, &|forge| forge.retain(|number| number != 1)),
        // The entry before it is the last that can still be told from a changed one.
        ("dropped and renumbered", 4, &renumbered),
        ("reordered with their numbers", 5, &reordered),
        ("reordered under their numbers", 5, &swapped),
        ("cut off", 4, &|forge| forge.retain(|number| number < 4)),
    ];
    for (what, sequence, change) in changes {
        let (report, code) = forge(change);
        assert_eq!(
            (&report["broken"], code),
            (&sequence.into(), Some(1)),
            "{what}: {report}"
        );
        assert!(
            report["why"].as_str().is_some_and(|why| why.len() > 10),
            "{what}: {report}"
        );
    }
    // Without valid checksums the journal finds it, and the entry is named all the same.
    fs::write(&segment, &sound).expect("a segment can be written");
    let wanted = Forge::open(&data).entry(5).payload.clone();
    let mut bytes = sound.clone();
    let at = bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
        .expect("entry 5");
    bytes[at + wanted.len() - 1] ^= 1;
    fs::write(&segment, &bytes).expect("a segment can be written");
    let (report, code) = verify(&data);
    assert_eq!((&report["broken"], code), (&5.into(), Some(1)), "{report}");
    let text = told(&audit(&data, &["verify"]));
    assert!(text.contains("BROKEN at entry 5"), "{text}");
}

#[tokio::test]
async fn a_running_node_finds_an_altered_entry_and_answers_nothing_behind_it() {
    let folder = Folder::new("audit-running");
    let data = folder.path().join("data");
    let node = Node::start(&data);
    for _ in 0..3 {
        node.mailbox(0).send("X26ABC2", WORKFLOW, &[], b"x").await;
    }
    assert_eq!(verify(&data).1, Some(0));
    let mut forge = Forge::open(&data);
    *forge.entry(5).payload.last_mut().expect("an entry has bytes") ^= 1;
    forge.write();
    let (report, code) = verify(&data);
    assert_eq!((&report["broken"], code), (&5.into(), Some(1)), "{report}");
    let asked = audit(&data, &["query"]);
    assert_eq!(asked.status.code(), Some(1), "{}", told(&asked));
}

#[tokio::test]
async fn every_acknowledged_access_is_on_the_record_after_kill_9() {
    let folder = Folder::new("audit-kill");
    let data = folder.path().join("data");
    let mut node = Node::start(&data);
    let mut sent = Vec::new();
    for round in 0..3 {
        for _ in 0..5 {
            let message = node.mailbox(0).send("X26ABC2", WORKFLOW, &[], b"x").await;
            if round % 2 == 0 {
                node.mailbox(1).download(&message).await;
            }
            sent.push((message, round % 2 == 0));
        }
        node.kill();
        node.restart();
    }
    let entries = query(&data, &["--action", "mesh.*", "--limit", "1000"]);
    let there = |action: &str, message: &str| {
        entries
            .iter()
            .any(|entry| entry["action"] == action && entry["subject"] == message && !entry["outcome"].is_null())
    };
    for (message, read) in &sent {
        assert!(there("mesh.send", message), "the send of {message}");
        assert!(!read || there("mesh.download", message), "the download of {message}");
    }
    assert_eq!(verify(&data).1, Some(0));
}

#[test]
fn wrong_usage_says_what_to_do() {
    let folder = Folder::new("audit-usage");
    for (arguments, says) in [
        (&["query", "--from", "yesterday"][..], "2026-11-22T15:04:05Z"),
        (&["query", "--limit", "0"], "100000"),
        (&["query", "--request", "12"], "16 hexadecimal digits"),
        (&["query", "--subject", ""], "--subject"),
        (
            &[
                "query",
                "--from",
                "2026-01-02T00:00:00Z",
                "--to",
                "2026-01-01T00:00:00Z",
            ],
            "--from must be before --to",
        ),
        (&["export", "--force"], "--output"),
        (&["export", "--after", "x"], "--after"),
        (&["prove"], "--help"),
    ] {
        let output = audit(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", told(&output));
        assert!(told(&output).contains(says), "{arguments:?}: {}", told(&output));
    }
    let output = audit(folder.path(), &["query"]);
    assert_eq!(output.status.code(), Some(1), "nothing runs: {}", told(&output));
}
