//! What the state promises, judged over the real ledger.

use super::*;
use crate::journal::Watermarks;
use crate::ledger::{Ledger, Read, Table};
use crate::services::pds::command::{Guard, INDEXES, Index};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::ops::Bound;
use std::path::PathBuf;

/// Noon of some day.
pub const START: Timestamp = Timestamp::from_ms(1_795_348_800_000);
const HOUR_MS: u64 = 3600 * 1000;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A log of one over the real ledger.
pub struct World {
    pub ledger: Ledger,
    pub at: At,
    pub held: Vec<Hold>,
    _folder: Folder,
}

impl World {
    pub fn new() -> World {
        let path = std::env::temp_dir().join(format!("vertebra-pds-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&path).expect("the temporary folder can be made");
        let (ledger, _) = Ledger::open(&path, 8 << 30).expect("the ledger opens");
        World {
            ledger,
            at: At { index: 0, time: START },
            held: Vec::new(),
            _folder: Folder(path),
        }
    }

    /// Judges as the log does: through bytes.
    pub fn apply(&mut self, command: &Command, tail: &[u8]) -> Outcome {
        self.at.index += 1;
        let mut writer = self.ledger.writer();
        let outcome = apply_encoded(&mut writer, self.at, &command.encode(tail)).expect("our own encoding");
        self.held.extend(writer.commit());
        self.ledger.applied((1, 1, self.at.index), self.at.time);
        Outcome::decode(&outcome).expect("our own encoding")
    }

    pub fn checkpoint(&self) {
        let landed = self.ledger.checkpoint_blocking(Watermarks::default());
        landed.expect("the checkpoint lands");
    }

    fn put(&mut self, put: PutPatient) -> Outcome {
        let tail = vec![b' '; (put.open_bytes + put.place_bytes) as usize];
        self.apply(&Command::PutPatient(Box::new(put)), &tail)
    }

    fn coverage(&mut self, number: NhsNumber, follows: u32, once: Option<Once>) -> Outcome {
        let (bytes, digest) = (2, Digest::of(b"{}"));
        let command = Command::PutCoverage {
            number,
            follows,
            once,
            bytes,
            digest,
        };
        self.apply(&command, b"{}")
    }

    fn related(&mut self, number: NhsNumber, tail: &[u8]) -> Outcome {
        let (bytes, digest) = (tail.len() as u32, Digest::of(tail));
        self.apply(&Command::PutRelated { number, bytes, digest }, tail)
    }

    /// Everything in every table but the answered requests.
    fn everything(&self) -> Vec<(u8, Vec<u8>, Vec<u8>)> {
        let mut all = Vec::new();
        for id in (70..100).filter(|id| *id != tables::ONCE) {
            let table = Table::permanent(id);
            self.ledger
                .scan(table, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
                    all.push((id, key.to_vec(), value.to_vec()));
                    true
                });
        }
        all
    }

    /// All entries of all indexes.
    fn entries(&self) -> Vec<(NhsNumber, IndexKey)> {
        let mut all = Vec::new();
        for index in INDEXES {
            scan_index(&self.ledger, index, &[], None, &mut |found| {
                let (text, flags) = (found.text.to_vec(), found.flags);
                all.push((found.number, IndexKey { index, text, flags }));
                true
            });
        }
        all
    }
}

pub fn number(nine: u32) -> NhsNumber {
    (nine..)
        .find_map(NhsNumber::with_check_digit)
        .expect("one in the next few")
}

fn key(index: Index, text: &str, flags: u8) -> IndexKey {
    let text = text.as_bytes().to_vec();
    IndexKey { index, text, flags }
}

fn patient(number: NhsNumber, follows: u32) -> PutPatient {
    PutPatient {
        number,
        follows,
        once: None,
        security: Security::Unrestricted,
        superseded_by: None,
        digest: Digest::of(&[1]),
        open_bytes: 3,
        place_bytes: 2,
        card: vec![1, 2, 3],
        keys: vec![key(Index::Birth, "B", 1), key(Index::Family, "F", 2)],
        guard: None,
    }
}

fn once(key: u8, content: u8) -> Option<Once> {
    Some(Once {
        key: [key; 16],
        content: [content; 16],
    })
}

fn version_of(outcome: &Outcome) -> (u32, bool) {
    match outcome {
        Outcome::Stored { version, repeated, .. } => (*version, *repeated),
        Outcome::Refused(refusal) => panic!("refused: {refusal:?}"),
    }
}

#[test]
fn versions_are_counted_from_one_and_none_is_lost() {
    let mut world = World::new();
    let who = number(900_000_000);
    assert_eq!(version_of(&world.put(patient(who, 0))), (1, false));
    assert_eq!(version_of(&world.put(patient(who, 1))), (2, false));
    assert_eq!(version_of(&world.related(who, b"[]")), (2, false));
    assert_eq!(version_of(&world.coverage(who, 2, None)), (3, false));
    let current = record(&world.ledger, who).expect("a record");
    assert_eq!((current.version, current.patient.entry), (3, 2));
    assert_eq!((current.patient.bytes, current.place_bytes), (5, 2));
    assert_eq!(current.related.map(|part| (part.entry, part.bytes)), Some((3, 2)));
    assert_eq!(current.coverage.map(|part| part.entry), Some(4));
    let numbers = |records: Vec<Record>| records.iter().map(|record| record.version).collect::<Vec<u32>>();
    assert_eq!(numbers(versions(&world.ledger, who, None, 10)), [3, 2, 1]);
    assert_eq!(numbers(versions(&world.ledger, who, Some(3), 10)), [2, 1]);
    assert_eq!(numbers(versions(&world.ledger, who, None, 2)), [3, 2]);
    assert_eq!(numbers(versions(&world.ledger, who, None, 0)), [] as [u32; 0]);
    for one in 1..=3 {
        assert_eq!(version(&world.ledger, who, one).expect("kept").version, one);
    }
    assert_eq!(version(&world.ledger, who, 4), None);
    assert_eq!(version(&world.ledger, number(1), 1), None);
    // Every entry that a version names is held, once, and none is ever released.
    assert_eq!(world.held, [1, 2, 3, 4].map(Hold::Entry));
    assert_eq!(records(&world.ledger), 1);
}

#[test]
fn a_write_must_follow_the_version_there_is() {
    let mut world = World::new();
    let who = number(900_000_000);
    assert_eq!(world.put(patient(who, 1)), Outcome::Refused(Refusal::Unknown));
    assert_eq!(world.coverage(who, 1, None), Outcome::Refused(Refusal::Unknown));
    assert_eq!(world.related(who, b"[]"), Outcome::Refused(Refusal::Unknown));
    assert_eq!(world.everything(), []);
    world.put(patient(who, 0));
    world.put(patient(who, 1));
    let before = world.everything();
    let exists = Refusal::Exists {
        digest: Digest::of(&[1]),
    };
    assert_eq!(world.put(patient(who, 0)), Outcome::Refused(exists));
    for follows in [1, 3, u32::MAX] {
        let mismatch = Outcome::Refused(Refusal::VersionMismatch { version: 2 });
        assert_eq!(world.put(patient(who, follows)), mismatch);
        assert_eq!(world.coverage(who, follows, None), mismatch);
    }
    assert_eq!(world.coverage(who, 0, None), Outcome::Refused(exists));
    assert_eq!(world.everything(), before);
    assert_eq!(world.held.len(), 2);
}

#[test]
fn related_people_change_without_a_new_version_and_the_same_ones_change_nothing() {
    let mut world = World::new();
    let who = number(900_000_000);
    world.put(patient(who, 0));
    assert_eq!(version_of(&world.related(who, b"[1]")), (1, false));
    let before = world.everything();
    assert_eq!(version_of(&world.related(who, b"[1]")), (1, true));
    assert_eq!(world.everything(), before);
    assert_eq!(version_of(&world.related(who, b"[2]")), (1, false));
    // All that were ever there are held.
    assert_eq!(world.held, [1, 2, 4].map(Hold::Entry));
}

#[test]
fn of_two_commands_with_one_request_identifier_the_second_changes_nothing() {
    let mut world = World::new();
    let (who, other) = (number(900_000_000), number(900_000_100));
    let mut put = patient(who, 0);
    put.once = once(1, 1);
    let first = world.put(put.clone());
    let (before, at) = (world.everything(), world.at.time);
    world.at.time = START.plus_ms(23 * HOUR_MS);
    let again = Outcome::Stored {
        number: who,
        version: 1,
        at,
        repeated: true,
    };
    assert_eq!(version_of(&first), (1, false));
    assert_eq!(world.put(put.clone()), again);
    // A retry that meanwhile got another number is still the first request.
    put.number = other;
    assert_eq!(world.put(put.clone()), again);
    put.once = once(1, 2);
    assert_eq!(world.put(put), Outcome::Refused(Refusal::RequestReused));
    assert_eq!(
        world.coverage(who, 1, once(1, 2)),
        Outcome::Refused(Refusal::RequestReused)
    );
    assert_eq!(world.everything(), before);
    assert_eq!(world.held.len(), 1);
}

#[test]
fn a_refused_command_is_not_remembered() {
    let mut world = World::new();
    let who = number(900_000_000);
    let mut put = patient(who, 1);
    put.once = once(1, 1);
    assert_eq!(world.put(put.clone()), Outcome::Refused(Refusal::Unknown));
    put.follows = 0;
    assert_eq!(version_of(&world.put(put)), (1, false));
}

#[test]
fn an_answer_counts_for_a_day_and_is_dropped_with_its_table_after() {
    // Whenever in its period a request comes, it is remembered for 24 hours, and forgotten after 30.
    for minutes in [0, 1, 359] {
        let mut world = World::new();
        let who = number(900_000_000);
        world.at.time = Timestamp::from_ms(tables::ONCE_PERIOD_MS * 1000 + minutes * 60_000);
        let asked = world.at.time;
        let mut put = patient(who, 0);
        put.once = once(1, 1);
        world.put(put.clone());
        world.at.time = asked.plus_ms(24 * HOUR_MS);
        assert_eq!(version_of(&world.put(put.clone())), (1, true), "{minutes}");
        world.at.time = asked.plus_ms(30 * HOUR_MS);
        put.follows = 1;
        assert_eq!(version_of(&world.put(put.clone())), (2, false), "{minutes}");
        assert_eq!(world.ledger.periods(tables::ONCE).len(), 1, "the first table is gone");
        assert_eq!(
            answered(&world.ledger, world.at.time, &[1; 16]).map(|a| a.version),
            Some(2)
        );
        assert_eq!(answered(&world.ledger, world.at.time, &[2; 16]), None);
    }
}

#[test]
fn a_create_is_refused_when_somebody_created_one_in_between() {
    let mut world = World::new();
    let prefixes = vec![(Index::Birth, b"B".to_vec()), (Index::Family, b"F".to_vec())];
    let seen = seen_under(&world.ledger, &prefixes);
    let guard = Some(Guard { prefixes, seen });
    let (one, other, third) = (number(900_000_000), number(900_000_100), number(900_000_200));
    let mut elsewhere = patient(third, 0);
    elsewhere.keys = vec![key(Index::Birth, "A", 1), key(Index::Postcode, "B", 1)];
    world.put(elsewhere);
    let mut first = patient(one, 0);
    first.guard.clone_from(&guard);
    assert_eq!(
        version_of(&world.put(first)),
        (1, false),
        "what is elsewhere is no race"
    );
    let before = world.everything();
    let mut second = patient(other, 0);
    second.guard = guard;
    second.once = once(1, 1);
    assert_eq!(world.put(second.clone()), Outcome::Refused(Refusal::Raced));
    assert_eq!(world.everything(), before);
    let guard = second.guard.as_mut().expect("it has one");
    guard.seen = seen_under(&world.ledger, &guard.prefixes);
    assert_eq!(version_of(&world.put(second)), (1, false), "who has looked again may");
}

#[test]
fn what_was_seen_tells_entries_and_where_they_were_looked_for() {
    let mut world = World::new();
    let under = |world: &World, texts: &[&str]| {
        let prefixes: Vec<_> = texts
            .iter()
            .map(|text| (Index::Birth, text.as_bytes().to_vec()))
            .collect();
        seen_under(&world.ledger, &prefixes)
    };
    let empty = under(&world, &["B"]);
    assert_ne!(empty, under(&world, &["B", "C"]));
    world.put(patient(number(900_000_000), 0));
    let one = under(&world, &["B"]);
    assert_ne!(one, empty);
    assert_ne!(under(&world, &["B", "C"]), under(&world, &["C", "B"]));
    world.put(patient(number(900_000_100), 0));
    assert_ne!(under(&world, &["B"]), one);
}

#[test]
fn index_entries_are_exactly_the_keys_of_the_records() {
    let seed: u64 = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new();
    for step in 0..400 {
        let who = number(900_000_000 + 100 * rng.random_range(0..6));
        let follows = record(&world.ledger, who).map_or(0, |record| record.version);
        let mut keys: Vec<IndexKey> = (0..rng.random_range(0..8))
            .map(|_| {
                let index = INDEXES[rng.random_range(0..INDEXES.len())];
                key(index, ["A", "B", "BB"][rng.random_range(0..3)], 0)
            })
            .collect();
        keys.sort();
        keys.dedup();
        keys.iter_mut().for_each(|key| key.flags = rng.random_range(0..3));
        let mut put = patient(who, follows);
        put.keys.clone_from(&keys);
        world.put(put);
        if step % 50 == 0 {
            world.checkpoint();
        }
        assert_eq!(
            matched(&world.ledger, who).map(|matched| matched.keys),
            Some(keys),
            "seed {seed}"
        );
        let mut expected = Vec::new();
        for_each_record(&world.ledger, None, &mut |number, _| {
            let matched = matched(&world.ledger, number).expect("every record has one");
            expected.extend(matched.keys.into_iter().map(|key| (number, key)));
            true
        });
        let mut found = world.entries();
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "seed {seed}, step {step}");
    }
}

#[test]
fn an_index_is_scanned_within_its_bounds() {
    let mut world = World::new();
    for (nine, text) in [(0, "A"), (100, "AB"), (200, "B"), (300, "\u{7f}")] {
        let mut put = patient(number(900_000_000 + nine), 0);
        put.keys = vec![key(Index::Family, text, 7)];
        world.put(put);
    }
    let texts = |from: &[u8], to: Option<&[u8]>, max: usize| {
        let mut texts = Vec::new();
        scan_index(&world.ledger, Index::Family, from, to, &mut |found| {
            assert_eq!(found.flags, 7);
            texts.push(String::from_utf8(found.text.to_vec()).expect("text"));
            texts.len() < max
        });
        texts
    };
    assert_eq!(texts(b"", None, 9), ["A", "AB", "B", "\u{7f}"]);
    assert_eq!(texts(b"A", None, 9), ["A", "AB"]);
    assert_eq!(texts(b"A", Some(b"B"), 9), ["A", "AB"]);
    assert_eq!(texts(b"AB", Some(b"C"), 9), ["AB", "B"]);
    assert_eq!(texts(b"", None, 2), ["A", "AB"]);
    assert_eq!(texts(b"B", Some(b"A"), 9), [] as [&str; 0]);
}

#[test]
fn records_are_walked_in_the_order_of_their_numbers_and_cards_are_read_alone() {
    let mut world = World::new();
    let numbers = [300, 0, 200, 100].map(|nine| number(900_000_000 + nine));
    for who in numbers {
        world.put(patient(who, 0));
    }
    let mut sorted = numbers.to_vec();
    sorted.sort();
    let mut walked = Vec::new();
    for_each_record(&world.ledger, Some(sorted[0]), &mut |number, record| {
        assert_eq!(record.version, 1);
        walked.push(number);
        walked.len() < 2
    });
    assert_eq!(walked, sorted[1..3]);
    assert_eq!(records(&world.ledger), 4);
    let mut card = Vec::new();
    assert!(with_card(&world.ledger, sorted[0], &mut |bytes| card = bytes.to_vec()));
    assert_eq!(card, [1, 2, 3]);
    assert!(!with_card(&world.ledger, number(1), &mut |_| panic!("there is none")));
}

#[test]
fn two_nodes_that_apply_the_same_commands_have_the_same_digest() {
    let (mut one, mut other) = (World::new(), World::new());
    for world in [&mut one, &mut other] {
        for nine in 0..20 {
            let mut put = patient(number(900_000_000 + nine * 100), 0);
            put.once = once(nine as u8, 1);
            world.put(put);
        }
    }
    // Checkpoints fall elsewhere; a refused command is between them.
    one.checkpoint();
    for world in [&mut one, &mut other] {
        world.put(patient(number(900_000_000), 7));
        world.put(patient(number(900_000_000), 1));
        world.checkpoint();
    }
    let digest = |world: &World| world.ledger.digest_blocking().expect("it is whole");
    assert_eq!(digest(&one), digest(&other));
}

#[test]
fn values_are_written_byte_for_byte_as_they_always_were() {
    let part = |entry| Part {
        entry,
        bytes: 300,
        digest: Digest([7; 32]),
        at: START,
    };
    let record = Record {
        version: 2,
        at: START,
        security: Security::Restricted,
        superseded_by: Some(number(900_000_000)),
        patient: part(300),
        place_bytes: 100,
        related: Some(part(1)),
        coverage: None,
    };
    let digest = "07".repeat(32);
    let golden = format!("010280c48299a034010189b4c4c321ac02ac02{digest}80c48299a034640101ac02{digest}80c48299a03400");
    assert_eq!(hex::encode(values::write(&record)), golden);
    assert_eq!(values::read::<Record>(&values::write(&record)), record);
    let matched = Matched {
        card: vec![1, 2, 3],
        keys: vec![key(Index::Birth, "B", 1), key(Index::Contact, "C", 2)],
    };
    assert_eq!(hex::encode(values::write(&matched)), "0103010203020001420104014302");
    let answered = Answered {
        content: [5; 16],
        number: number(900_000_000),
        version: 2,
        at: START,
    };
    let golden = format!("01{}89b4c4c3210280c48299a034", "05".repeat(16));
    assert_eq!(hex::encode(values::write(&answered)), golden);
    let world_key = tables::index_key(&key(Index::Birth, "B", 1), number(900_000_000));
    assert_eq!(hex::encode(world_key), "420218711a09");
    assert_eq!(
        hex::encode(tables::version_key(number(900_000_000), 2)),
        "0218711a0900000002"
    );
}
