//! kill -9 in a storm of changes: what was acknowledged is there, as it was acknowledged, and on the record.

use crate::{Sandbox, newcomer, renamed, word};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use vertebra_tests::pds::{BASE, Client, JSON_PATCH, request_id};

const CLIENTS: usize = 8;
const PATIENTS: usize = 4;
const CYCLES: usize = 5;

/// A change that a client asked for.
#[derive(Clone)]
struct Change {
    client: usize,
    request: String,
    number: String,
    follows: u32,
    /// What it sent.
    body: String,
    /// The family name that it gives: no other change has it.
    family: String,
}

/// What clients know.
#[derive(Default)]
struct Books {
    /// Acknowledged: number and version → the change.
    acknowledged: BTreeMap<(String, u32), Change>,
    /// Without an answer.
    unknown: Vec<Change>,
    /// The identifiers of acknowledged reads.
    reads: Vec<String>,
    /// Refused: another was faster.
    refused: usize,
}

impl Books {
    fn acknowledge(&mut self, change: Change, version: u32) {
        assert_eq!(version, change.follows + 1);
        let at = (change.number.clone(), version);
        let other = self.acknowledged.insert(at, change);
        assert!(
            other.is_none(),
            "version {version} of one record was acknowledged to two changes"
        );
    }
}

impl Change {
    /// Sends it; `None`: no answer.
    async fn send(&self, client: &mut Client) -> Option<vertebra_tests::pds::Reply> {
        let tag = format!("W/\"{}\"", self.follows);
        let headers = [
            ("X-Request-ID", self.request.as_str()),
            ("If-Match", tag.as_str()),
            JSON_PATCH,
        ];
        let path = format!("{BASE}/Patient/{}", self.number);
        client
            .try_call("PATCH", &path, &headers, self.body.as_bytes())
            .await
            .ok()
    }
}

/// One client of the storm: it reads a record, changes it, and so on until the node is gone.
async fn storm(number: usize, mut client: Client, people: Vec<String>) -> Books {
    let mut books = Books::default();
    for turn in number.. {
        let person = &people[turn % people.len()];
        let request = request_id();
        let path = format!("{BASE}/Patient/{person}");
        let Ok(read) = client.try_call("GET", &path, &[("X-Request-ID", &request)], b"").await else {
            break;
        };
        if read.status() == 503 {
            break;
        }
        books.reads.push(request);
        let family = word();
        let change = Change {
            client: number,
            request: request_id(),
            number: person.clone(),
            follows: read.ok(200).version(),
            body: json!({"patches": renamed(&read.json, &family)}).to_string(),
            family,
        };
        match change.send(&mut client).await {
            None => {
                books.unknown.push(change);
                break;
            }
            Some(reply) if reply.status() == 503 => {
                books.unknown.push(change);
                break;
            }
            Some(reply) if reply.status() == 200 => {
                assert_eq!(reply.json["name"][0]["family"], change.family);
                books.acknowledge(change, reply.version());
            }
            Some(reply) => {
                reply.refused(409, "RESOURCE_VERSION_MISMATCH");
                books.refused += 1;
            }
        }
    }
    books
}

/// Somebody of the storm: each client is a person of their own.
fn somebody(sandbox: &Sandbox, client: usize) -> Client {
    if client % 2 == 0 {
        sandbox.worker()
    } else {
        sandbox.nurse()
    }
}

async fn shown(sandbox: &Sandbox, number: &str, version: u32) -> Value {
    let wanted = json!({"number": number, "version": version});
    let answer = sandbox.node.admin("POST", "/admin/patients/show", &wanted).await;
    assert_eq!(answer.status, 200, "version {version} is there: {}", answer.text());
    answer.json()["patient"].clone()
}

/// Every acknowledged version is there with its content, and no version is missing.
async fn hold_against(sandbox: &Sandbox, people: &[String], books: &Books, from: &BTreeMap<String, u32>) {
    for number in people {
        let versions: Vec<u64> = sandbox
            .history(number)
            .iter()
            .filter_map(|one| one["version"].as_u64())
            .collect();
        let newest = versions.first().copied().expect("a record has a version");
        let oldest = versions.last().copied().expect("a record has a version");
        assert_eq!(
            versions,
            (oldest..=newest).rev().collect::<Vec<_>>(),
            "no gap, nothing twice"
        );
        for ((_, version), change) in books.acknowledged.iter().filter(|((of, _), _)| of == number) {
            assert!(
                u64::from(*version) <= newest,
                "version {version} was acknowledged and is lost"
            );
            if *version > from[number] {
                let record = shown(sandbox, number, *version).await;
                assert_eq!(
                    record["name"][0]["family"], change.family,
                    "version {version} of {number}"
                );
                assert_eq!(record["meta"]["versionId"], json!(version.to_string()));
            }
        }
    }
}

/// Asks again for what had no answer: it was done, and the first answer comes; or it is done now; or others were faster.
async fn settle(sandbox: &Sandbox, books: &mut Books) {
    for change in std::mem::take(&mut books.unknown) {
        let mut client = somebody(sandbox, change.client);
        let reply = change.send(&mut client).await.expect("the node is there again");
        if reply.status() == 200 {
            assert_eq!(reply.json["name"][0]["family"], change.family, "its own answer");
            books.acknowledge(change, reply.version());
        } else {
            reply.refused(409, "RESOURCE_VERSION_MISMATCH");
            let next = shown(sandbox, &change.number, change.follows + 1).await;
            assert_ne!(next["name"][0]["family"], change.family, "it was done, and is denied");
        }
    }
}

fn audited(sandbox: &Sandbox) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in sandbox.audited(&["--action", "pds.*"]) {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let told = format!("{} {} {}", text("action"), text("subject"), text("outcome"));
        found.entry(text("client_request")).or_default().insert(told);
    }
    found
}

fn export(sandbox: &Sandbox, name: &str) -> (Value, Vec<u8>) {
    let file = sandbox.file(name);
    let path = file.display().to_string();
    let report = sandbox.json(&["export", "--kind", "patients", "--json", "--output", &path]);
    (
        report["exported"].clone(),
        std::fs::read(&file).expect("the export is there"),
    )
}

#[tokio::test]
async fn an_acknowledged_version_survives_kill_9() {
    let mut sandbox = Sandbox::start("pds-kill");
    let mut worker = sandbox.worker();
    let mut people = Vec::new();
    for _ in 0..PATIENTS {
        people.push(newcomer(&mut worker).await.id().to_owned());
    }
    let mut books = Books::default();
    let mut checked: BTreeMap<String, u32> = people.iter().map(|number| (number.clone(), 1)).collect();
    for cycle in 1..=CYCLES {
        let tasks: Vec<_> = (0..CLIENTS)
            .map(|client| tokio::spawn(storm(client, somebody(&sandbox, client), people.clone())))
            .collect();
        let alive_ms = rand::random_range(100..1_000);
        tokio::time::sleep(Duration::from_millis(alive_ms)).await;
        sandbox.kill();
        for task in tasks {
            let told = task.await.expect("no client panics");
            for ((_, version), change) in told.acknowledged {
                books.acknowledge(change, version);
            }
            books.unknown.extend(told.unknown);
            books.reads.extend(told.reads);
            books.refused += told.refused;
        }
        sandbox.node.restart();
        hold_against(&sandbox, &people, &books, &checked).await;
        settle(&sandbox, &mut books).await;
        hold_against(&sandbox, &people, &books, &checked).await;
        for (number, version) in books.acknowledged.keys() {
            checked.insert(number.clone(), *version);
        }
        println!(
            "cycle {cycle}, killed after {alive_ms} ms: {} changes acknowledged",
            books.acknowledged.len()
        );
    }
    hold_against(
        &sandbox,
        &people,
        &books,
        &people.iter().map(|number| (number.clone(), 1)).collect(),
    )
    .await;
    assert!(books.acknowledged.len() > CYCLES * 10, "the storm was none");
    let audit = audited(&sandbox);
    for ((number, version), change) in &books.acknowledged {
        let entries = audit.get(&change.request).cloned().unwrap_or_default();
        let wanted = ["200", "200 repeated"].map(|outcome| format!("pds.update {number} {outcome}"));
        assert!(
            wanted.iter().any(|one| entries.contains(one)),
            "version {version} is on the record: {entries:?}"
        );
    }
    for request in &books.reads {
        let entries = audit.get(request).cloned().unwrap_or_default();
        assert!(
            entries
                .iter()
                .any(|entry| entry.starts_with("pds.read") && entry.ends_with(" 200")),
            "a read is on the record: {entries:?}"
        );
    }
    let (digest, first) = export(&sandbox, "first.ndjson");
    sandbox.ok(&["verify", "--deep"]);
    sandbox.ok(&["audit", "verify"]);
    sandbox.kill();
    sandbox.ok(&["verify", "--deep"]);
    sandbox.node.restart();
    let (again, second) = export(&sandbox, "second.ndjson");
    assert_eq!(again, digest, "the same records have the same digest");
    assert!(first == second, "the exports are equal byte for byte");
    // Held against the node once more, the file proves itself: its digest, recomputed, is the export's.
    let file = sandbox.file("proof.ndjson");
    std::fs::write(&file, &second).expect("the folder can be written");
    let report = sandbox.json(&["import", "--kind", "patients", "--json", &file.display().to_string()]);
    assert_eq!(
        (&report["source"]["all"], &report["already_there"]["all"]),
        (&digest["all"], &digest["all"])
    );
    println!(
        "{CYCLES} kills, {} changes acknowledged, {} refused, {} reads: 0 lost, 0 altered, 0 twice, all on the record",
        books.acknowledged.len(),
        books.refused,
        books.reads.len()
    );
}
