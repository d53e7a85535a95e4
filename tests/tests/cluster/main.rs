//! The cluster: many nodes with one history, and nothing lost, whatever fails. Nodes are real processes in network
//! namespaces; one cluster runs at a time.
//!
//! `VERTEBRA_HISTORIES`, `VERTEBRA_SITE_LOSSES` and `VERTEBRA_ROLLING_RESTARTS` set how often; a failure prints its seed, and `VERTEBRA_SEED` repeats it.

mod bodies;
mod clients;
mod clocks;
mod disks;
mod forming;
mod histories;
mod load;
mod losses;
mod members;
mod minority;
mod network;
mod patient_clients;
mod planted;
mod sites;
mod trouble;
mod upgrade;

use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vertebra_tests::pds::{Client, Reply};
use vertebra_tests::wire::Answer;

/// Two data centres and a witness.
const SITES: [(&str, &str); 3] = [("a1", "north"), ("b1", "south"), ("w1", "witness")];
/// How long a client waits for an answer before it asks another node.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Leave to run a cluster: one at a time, because a machine with two cores runs three nodes and no more.
struct Turn(#[expect(dead_code, reason = "it is held, not looked at")] MutexGuard<'static, ()>);

static TURN: Mutex<()> = Mutex::new(());

impl Turn {
    fn take() -> Turn {
        Turn(TURN.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A count from the environment, for soaks.
fn count_from(name: &str, default: u32) -> u32 {
    let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
    given.unwrap_or(default)
}

/// The seed of this run; printed, so that a failure can be repeated.
fn seed() -> u64 {
    let given = std::env::var("VERTEBRA_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    println!("VERTEBRA_SEED={seed}");
    seed
}

/// The age of the state that an answer was given from, seconds; `None`: it is the present.
fn age_s(answer: &Answer) -> Option<u64> {
    let told = answer.header("vertebra-state-age")?;
    Some(
        told.parse()
            .unwrap_or_else(|_| panic!("an age in whole seconds: {told}")),
    )
}

/// A name of letters that stands for a number.
fn family(mut value: u32) -> String {
    let mut letters = vec![];
    for _ in 0..7 {
        letters.push(b'a' + u8::try_from(value % 26).expect("a letter"));
        value /= 26;
    }
    format!("V{}", String::from_utf8_lossy(&letters))
}

/// The number that the family name of a record stands for; 0 for any other name.
fn value(record: &Value) -> u32 {
    let name = record.pointer("/name/0/family").and_then(Value::as_str).unwrap_or("");
    let Some(letters) = name.strip_prefix('V').filter(|rest| rest.len() == 7) else {
        return 0;
    };
    let digits = letters
        .bytes()
        .rev()
        .map(|letter| u32::from(letter.saturating_sub(b'a')));
    digits.fold(0, |sum, digit| sum * 26 + digit)
}

/// Patches that give a record's first name this value.
fn renamed(record: &Value, to: u32) -> Value {
    json!([
        {"op": "test", "path": "/name/0/id", "value": record["name"][0]["id"]},
        {"op": "replace", "path": "/name/0/family", "value": family(to)},
    ])
}

/// A new person's record, version 1, whose name stands for `as_value`.
async fn newcomer(worker: &mut Client, as_value: u32) -> Reply {
    let reply = ask_for_newcomer(worker, as_value).await;
    assert_eq!((reply.ok(201).version(), value(&reply.json)), (1, as_value));
    reply
}

/// The same, however it is answered.
async fn ask_for_newcomer(worker: &mut Client, as_value: u32) -> Reply {
    let letters = |count: usize| -> String {
        (0..count)
            .map(|_| char::from(rand::random_range(b'a'..=b'z')))
            .collect()
    };
    let born = format!(
        "{}-{:02}-{:02}",
        rand::random_range(1930..2010),
        rand::random_range(1..=12),
        rand::random_range(1..=28)
    );
    worker
        .create(&json!({
            "resourceType": "Patient",
            "name": [{"use": "usual", "given": [format!("G{}", letters(9))], "family": family(as_value), "period": {"start": "2012-01-01"}}],
            "gender": "female",
            "birthDate": born,
            "address": [{"use": "home", "line": ["1 High Street", "Leeds"], "postalCode": "LS1 1AA", "period": {"start": "2020-01-01"}}],
            "extension": [{"url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-RegisteringAuthority", "extension": [
                {"url": "registeringAuthorityType", "valueCodeableConcept": {"coding": [
                    {"system": "https://fhir.nhs.uk/CodeSystem/UKCore-RegisteringAuthorityType", "code": "x"}]}},
                {"url": "organisationIdentifier", "valueString": "RGS"}]}],
        }))
        .await
}

#[test]
fn a_name_stands_for_its_number() {
    for number in [0, 1, 25, 26, 1_000, 987_654_321] {
        assert_eq!(value(&json!({"name": [{"family": family(number)}]})), number);
    }
}
