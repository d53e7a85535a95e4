//! Bulk load and unload at the wire: nothing is lost, nothing is loaded twice, and the report proves it.

use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use vertebra_tests::node::{Folder, Node, binary};
use vertebra_tests::process::wait_until;

/// Writes synthetic people, and gives the file.
fn synth(folder: &Path, count: u32, seed: u32) -> PathBuf {
    let path = folder.join(format!("people-{seed}-{count}.ndjson"));
    let mut command = Command::new(binary());
    command.args([
        "synth",
        "patients",
        "--count",
        &count.to_string(),
        "--seed",
        &seed.to_string(),
    ]);
    let output = command.arg("--output").arg(&path).output().expect("the binary starts");
    assert!(output.status.success(), "{}", told(&output));
    path
}

fn told(output: &Output) -> String {
    let (out, errors) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(errors))
}

fn import_command(data: &Path, file: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(["import", "--kind", "patients", "--json"]).arg(file);
    command.arg("--sandbox").arg(data).args(more);
    command
}

/// Imports, and gives report and exit code.
fn import(data: &Path, file: &Path, more: &[&str]) -> (Value, Option<i32>) {
    read_report(&import_command(data, file, more).output().expect("the binary starts"))
}

fn read_report(output: &Output) -> (Value, Option<i32>) {
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {}", told(output)));
    (report, output.status.code())
}

fn export(data: &Path, file: &Path) -> Value {
    let mut command = Command::new(binary());
    command
        .args(["export", "--kind", "patients", "--json", "--force", "--output"])
        .arg(file);
    let output = command.arg("--sandbox").arg(data).output().expect("the binary starts");
    assert!(output.status.success(), "{}", told(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    report["exported"].clone()
}

fn count(report: &Value, part: &str) -> u64 {
    report[part]["all"]["count"].as_u64().expect("a count")
}

fn line_count(file: &Path) -> u64 {
    fs::read_to_string(file).expect("the file is there").lines().count() as u64
}

/// Lines that the state file says are done; 0 while there is none.
fn lines_done(state: &Path) -> u64 {
    let text = fs::read(state).unwrap_or_default();
    let state: Value = serde_json::from_slice(&text).unwrap_or_default();
    state["totals"]["lines"].as_u64().unwrap_or(0)
}

fn start_import(data: &Path, file: &Path, more: &[&str]) -> Child {
    let mut command = import_command(data, file, more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary starts")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[test]
fn what_is_imported_is_proved_and_the_same_again_changes_nothing_however_it_is_packed() {
    let folder = Folder::new("load-packed");
    let data = folder.path().join("data");
    let _node = Node::start(&data);
    let plain = synth(folder.path(), 2_000, 7);
    let lines = line_count(&plain);
    assert!(lines > 2_150, "some have related people: {lines}");
    let bytes = fs::read(&plain).expect("the people");
    let gzip = folder.path().join("people.gz");
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(&bytes).expect("memory");
    fs::write(&gzip, out.finish().expect("memory")).expect("the disk takes it");
    let (report, code) = import(&data, &gzip, &[]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["proved"], true);
    assert_eq!(
        (report["lines"].as_u64(), count(&report, "loaded")),
        (Some(lines), lines)
    );
    assert_eq!(report["source"], report["loaded"]);
    assert_eq!(report["loaded"]["patients"]["count"], 2_000);
    let zstandard = folder.path().join("people.zst");
    fs::write(&zstandard, zstd::encode_all(&bytes[..], 1).expect("memory")).expect("the disk takes it");
    for file in [&zstandard, &plain] {
        let (again, code) = import(&data, file, &[]);
        assert_eq!(code, Some(0), "{again:#}");
        assert_eq!(again["source"], report["source"]);
        assert_eq!(again["already_there"], report["loaded"]);
        assert_eq!((count(&again, "loaded"), again["proved"].as_bool()), (0, Some(true)));
    }
    // Standard input, with the other way round: what belongs to patients comes before them.
    let mut child = import_command(&data, Path::new("-"), &[]);
    let mut child = child
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut reversed: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    reversed.reverse();
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(&reversed.concat())
        .expect("the import reads");
    let (again, _) = read_report(&child.wait_with_output().expect("it ends"));
    assert_eq!(again["source"], report["source"]);
}

#[test]
fn lines_that_cannot_be_taken_are_named_and_nothing_else_is_lost() {
    let folder = Folder::new("load-rejects");
    let data = folder.path().join("data");
    let node = Node::start(&data);
    let people = synth(folder.path(), 600, 8);
    let mut lines: Vec<Vec<u8>> = fs::read(&people)
        .expect("the people")
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    let taken = lines.len() as u64;
    let resource = |line: &[u8]| serde_json::from_slice::<Value>(line).expect("JSON");
    let mut changed = resource(&lines[0]);
    changed["name"][0]["family"] = "Planted".into();
    let mut stray = lines
        .iter()
        .map(|line| resource(line))
        .find(|line| line["resourceType"] == "RelatedPerson")
        .expect("some have related people");
    stray["patient"] = serde_json::json!({"identifier": {"value": "9876543210"}});
    stray["id"] = "Planted".into();
    let bad: [(usize, Vec<u8>, &str); 7] = [
        (10, b"{\"resourceType\":\"Patient\",\"Planted".to_vec(), "not_json"),
        (
            20,
            br#"{"resourceType":"Patient","id":"9000000008","name":[{"family":"Planted"}]}"#.to_vec(),
            "nhs_number",
        ),
        (300, vec![b'x'; 70_000], "too_large"),
        (301, vec![0xFF, 0xFE], "not_json"),
        (
            500,
            br#"{"resourceType":"RelatedPerson","patient":{"identifier":{"value":"9876543210"}},"id":"Planted"}"#
                .to_vec(),
            "MISSING_VALUE",
        ),
        (550, stray.to_string().into_bytes(), "patient_unknown"),
        (600, changed.to_string().into_bytes(), "exists"),
    ];
    for (at, line, _) in &bad {
        lines.insert(*at, line.clone());
    }
    let file = folder.path().join("bad.ndjson");
    fs::write(&file, [lines.join(&b'\n'), b"\n\n".to_vec()].concat()).expect("the disk takes it");
    let rejects = folder.path().join("rejects");
    let (report, code) = import(&data, &file, &["--rejects", text(&rejects)]);
    assert_eq!((code, report["proved"].as_bool()), (Some(1), Some(true)), "{report:#}");
    assert_eq!(
        (report["rejected"].as_u64(), count(&report, "loaded")),
        (Some(7), taken)
    );
    let told = fs::read_to_string(&rejects).expect("a reject file");
    assert!(
        !told.contains("Planted") && !told.contains("9000000008") && !told.contains("9876543210"),
        "{told}"
    );
    let mut found: Vec<(u64, String)> = told
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|line| {
            (
                line["line"].as_u64().expect("a line"),
                line["code"].as_str().expect("a code").to_owned(),
            )
        })
        .collect();
    found.sort();
    let mut expected: Vec<(u64, String)> = bad
        .iter()
        .map(|(at, _, code)| (*at as u64 + 1, (*code).to_owned()))
        .collect();
    expected.sort();
    assert_eq!(found, expected);
    let with_lines = folder.path().join("rejects-with-lines");
    let more = ["--rejects", text(&with_lines), "--rejects-with-lines"];
    let (again, _) = import(&data, &file, &more);
    assert_eq!(
        (count(&again, "already_there"), again["rejected"].as_u64()),
        (taken, Some(7))
    );
    assert!(
        fs::read_to_string(&with_lines)
            .expect("a reject file")
            .contains("Planted")
    );
    assert!(
        !node.log_text().contains("Planted"),
        "nothing of a line is in the node's log"
    );
}

#[test]
fn an_import_that_is_killed_goes_on_and_ends_with_the_report_of_one_that_was_not() {
    let folder = Folder::new("load-import-killed");
    let (data, calm) = (folder.path().join("data"), folder.path().join("calm"));
    let _node = Node::start(&data);
    let people = synth(folder.path(), 6_000, 9);
    let state = folder.path().join("state");
    let rejects = folder.path().join("rejects");
    let more = ["--state", text(&state), "--rejects", text(&rejects)];
    for _ in 0..2 {
        let before = lines_done(&state);
        let mut running = start_import(&data, &people, &[&more[..], &["--rate", "1500"]].concat());
        wait_until("some batches are done", Duration::from_secs(60), || {
            lines_done(&state) > before
        });
        running.kill().expect("it runs");
        let ended = running.wait().expect("it ended");
        assert!(!ended.success(), "it was killed before its end");
    }
    let (report, code) = import(&data, &people, &more);
    assert_eq!(code, Some(0), "{report:#}");
    let _undisturbed = Node::start(&calm);
    let (expected, _) = import(&calm, &people, &[]);
    assert_eq!(report, expected);
    // The state file says that it is done: the same report, and nothing is sent.
    assert_eq!(import(&data, &people, &more).0, expected);
    // Of another file it is no state.
    let other = synth(folder.path(), 10, 9);
    let output = import_command(&data, &other, &more)
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
}

#[test]
fn a_node_that_is_killed_under_an_import_loses_nothing() {
    let folder = Folder::new("load-node-killed");
    let data = folder.path().join("data");
    let mut node = Node::start(&data);
    let people = synth(folder.path(), 6_000, 10);
    let state = folder.path().join("state");
    let running = start_import(&data, &people, &["--state", text(&state), "--rate", "2500"]);
    for _ in 0..2 {
        let before = lines_done(&state);
        wait_until("some batches are done", Duration::from_secs(60), || {
            lines_done(&state) > before
        });
        node.kill();
        node.restart();
    }
    let (report, code) = read_report(&running.wait_with_output().expect("it ends"));
    assert_eq!((code, report["proved"].as_bool()), (Some(0), Some(true)), "{report:#}");
    assert_eq!(count(&report, "loaded"), line_count(&people), "{report:#}");
    // What the report says is what comes out, beside the sandbox's own people.
    let exported = export(&data, &folder.path().join("export"));
    let own = node.sandbox["pds"]["nhs_numbers"].as_array().expect("numbers").len() as u64;
    assert_eq!(exported["patients"]["count"].as_u64(), Some(6_000 + own));
}

#[test]
fn what_is_exported_from_one_node_and_imported_into_another_has_the_same_digest() {
    let folder = Folder::new("load-export");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let node = Node::start(&one);
    let _other = Node::start(&two);
    let empty = export(&one, &folder.path().join("seeded"));
    assert_eq!(
        empty,
        export(&two, &folder.path().join("seeded")),
        "sandboxes are filled alike"
    );
    let (report, _) = import(&one, &synth(folder.path(), 1_500, 12), &[]);
    let file = folder.path().join("export.ndjson");
    let exported = export(&one, &file);
    assert_eq!(
        exported["all"]["count"].as_u64(),
        Some(count(&report, "loaded") + empty["all"]["count"].as_u64().expect("a count"))
    );
    assert_eq!(line_count(&file), exported["all"]["count"].as_u64().expect("a count"));
    let content = fs::read_to_string(&file).expect("the export");
    for whole in [
        "\"code\":\"R\"",
        "\"code\":\"V\"",
        "\"code\":\"REDACTED\"",
        "replaced-by",
        "LS1 4HR",
    ] {
        assert!(content.contains(whole), "{whole} is exported");
    }
    let (imported, code) = import(&two, &file, &[]);
    assert_eq!(code, Some(0), "{imported:#}");
    assert_eq!(imported["source"]["all"], exported["all"]);
    assert_eq!(
        count(&imported, "already_there"),
        empty["all"]["count"].as_u64().expect("a count")
    );
    assert_eq!(export(&two, &folder.path().join("again")), exported);
    // Who took records in and out is on the record, by counts and digests alone.
    for (action, least) in [("admin.load", 6), ("admin.unload", 6)] {
        let mut command = Command::new(binary());
        command
            .args(["audit", "query", "--json", "--action", action, "--sandbox"])
            .arg(&one);
        let output = command.output().expect("the binary starts");
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(lines.lines().count() >= least, "{action}: {lines}");
        assert!(lines.contains("digest="), "{lines}");
    }
    assert!(node.log_text().lines().all(|line| !line.contains("Smedley")));
}

#[tokio::test]
async fn a_batch_that_is_no_batch_is_refused_with_a_reason() {
    let folder = Folder::new("load-refused");
    let data = folder.path().join("data");
    let node = Node::start(&data);
    for (path, body, status) in [
        ("/admin/load?since=x", Value::Null, 400),
        ("/admin/unload", serde_json::json!({"after": "9000000008"}), 400),
        ("/admin/unload", serde_json::json!({"before": "9000000009"}), 400),
        ("/admin/load", Value::from("x".repeat(5 * 1024 * 1024)), 400),
        ("/admin/load", Value::from("x"), 200),
    ] {
        let answer = node.admin("POST", path, &body).await;
        assert_eq!(answer.status, status, "{path}");
    }
}
