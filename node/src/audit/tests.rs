use super::proof::Follower;
use super::*;
use crate::journal::{JournalConfig, Watermarks};
use std::path::PathBuf;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        Folder(std::env::temp_dir().join(format!("vertebra-audit-{:016x}", rand::random::<u64>())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn entry(number: u64) -> Entry {
    Entry {
        at: Timestamp::from_ms(number),
        request: RequestId(number),
        actor: "X26HC005".to_owned(),
        organisation: "X26".to_owned(),
        action: "mesh.send".to_owned(),
        subject: format!("message-{number}"),
        outcome: "202".to_owned(),
        role: "R8000".to_owned(),
        client: "app".to_owned(),
        ..Entry::default()
    }
}

async fn open(folder: &Folder, queue_bytes_max: usize) -> (Audit, Journal) {
    let config = JournalConfig {
        folder: folder.0.clone(),
        node: 1,
        segment_bytes: [8 << 20; 3],
        reserve_bytes: 0,
        queue_bytes_max,
    };
    let mut head = Head::default();
    let mut replay = |stream, key: RecordKey, _, payload: Bytes| {
        if stream == Stream::Audit {
            head = Audit::head_of(key.number, &payload);
        }
    };
    let journal = Journal::open(config, Watermarks::default(), &mut replay)
        .await
        .expect("the journal opens");
    (Audit::open(journal.clone(), head), journal)
}

async fn append_many(audit: &Audit, from: u64, count: u64) -> Vec<Result<u64, AppendError>> {
    let mut waiting = Vec::new();
    for number in from..from + count {
        let audit = audit.clone();
        waiting.push(tokio::task::spawn_local(
            async move { audit.append(entry(number)).await },
        ));
    }
    let mut answers = Vec::new();
    for answer in waiting {
        answers.push(answer.await.expect("no panic"));
    }
    answers
}

#[test]
fn a_chain_goes_on_over_a_restart_and_is_proved_with_its_logged_heads() {
    let folder = Folder::new();
    let first = tokio_uring::start(async {
        let (audit, journal) = open(&folder, 64 << 20).await;
        let numbers = append_many(&audit, 1, 300).await;
        let expected: Vec<_> = (1..=300).map(Ok).collect();
        assert_eq!(numbers, expected);
        journal.close().await;
        assert_eq!(audit.append(entry(0)).await, Err(AppendError::Closed));
        audit.head()
    });
    assert_eq!(first.sequence, 300);
    tokio_uring::start(async {
        let (audit, journal) = open(&folder, 64 << 20).await;
        assert_eq!(audit.head(), first, "the head is found in replay");
        assert_eq!(append_many(&audit, 301, 1).await, vec![Ok(301)]);
        let last = audit.head();
        assert_eq!(
            verify_blocking(&journal, &[first, last]).expect("readable"),
            Verdict::Whole(last)
        );
        let mut seen = Vec::new();
        query_blocking(&journal, 0, &mut |head, _, found| {
            let number = head.sequence;
            assert_eq!(*found, entry(number));
            seen.push(number);
            number < 250
        })
        .expect("readable");
        assert_eq!(seen, (1..=250).collect::<Vec<_>>());
        journal.close().await;
    });
}

#[test]
fn a_chain_over_segments_is_searched_from_the_right_one_and_proved_without_its_oldest() {
    let folder = Folder::new();
    tokio_uring::start(async {
        let (audit, journal) = open(&folder, 64 << 20).await;
        // One block each: the first segment of 1 MiB takes some 250.
        for number in 1..=600 {
            assert_eq!(audit.append(entry(number)).await, Ok(number));
        }
        let segments = journal.segments(Stream::Audit);
        assert!(segments.len() >= 2, "{segments:?}");
        for (after, from_ms) in [(0, 0), (100, 0), (500, 0), (0, 3_600_500)] {
            let start = start_of_blocking(&journal, after, from_ms).expect("readable");
            assert_eq!(start > 1, after == 500 || from_ms > 0, "behind {after}, from {from_ms}");
            let mut first = 0;
            let mut each = |head: Head, _, _: &Entry| {
                first = head.sequence;
                false
            };
            assert_eq!(query_blocking(&journal, start, &mut each).expect("readable"), None);
            assert!(
                first <= after + 1 || from_ms > 0,
                "nothing behind {after} is passed over: {first}"
            );
        }
        let whole = prove_blocking(&journal, &[audit.head()]).expect("readable");
        assert_eq!((whole.first, whole.matched), (Some(1), 1));
        journal.remove_segment(Stream::Audit, 1);
        let rest = prove_blocking(&journal, &[audit.head()]).expect("readable");
        assert_eq!(rest.verdict, Verdict::Whole(audit.head()));
        assert!(rest.first.is_some_and(|first| first > 200), "{:?}", rest.first);
        journal.close().await;
    });
}

#[test]
fn refused_entries_leave_no_gap_in_the_chain() {
    let folder = Folder::new();
    tokio_uring::start(async {
        // Room for few entries at a time: many of these are refused.
        let (audit, journal) = open(&folder, 2048).await;
        let mut taken = Vec::new();
        let mut refused = 0;
        for round in 0..40 {
            if round % 3 == 1 {
                // Another stream fills the queue.
                let key = RecordKey {
                    kind: 1,
                    id: 0,
                    number: round,
                };
                let record = Record {
                    key,
                    payload: vec![Bytes::from(vec![0; 100_000])],
                };
                journal.append_then(Stream::Bodies, vec![record], Box::new(|_| {}));
            }
            for answer in append_many(&audit, round * 100, 1 + round).await {
                match answer {
                    Ok(number) => taken.push(number),
                    Err(AppendError::Overloaded) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert!(refused > 0, "the bound was never met");
        taken.sort_unstable();
        assert_eq!(taken, (1..=taken.len() as u64).collect::<Vec<_>>());
        assert_eq!(
            verify_blocking(&journal, &[]).expect("readable"),
            Verdict::Whole(audit.head())
        );
        journal.close().await;
    });
}

#[test]
fn a_cut_tail_shows_against_a_logged_head() {
    let folder = Folder::new();
    tokio_uring::start(async {
        let (audit, journal) = open(&folder, 64 << 20).await;
        append_many(&audit, 1, 10).await;
        let later = Head {
            sequence: 12,
            hash: [7; 32],
        };
        let Verdict::Broken { sequence, why } = verify_blocking(&journal, &[later]).expect("readable") else {
            panic!("a cut tail was called whole");
        };
        assert_eq!(sequence, 11);
        assert!(why.contains("knows of 12"), "{why}");
        let other = Head {
            sequence: 4,
            hash: [7; 32],
        };
        let verdict = verify_blocking(&journal, &[audit.head(), other]).expect("readable");
        assert!(matches!(verdict, Verdict::Broken { sequence: 4, .. }), "{verdict:?}");
        journal.close().await;
    });
}

/// The records of a chain, without a journal, so that each can be spoiled.
fn chain(count: u64) -> Vec<(RecordKey, Vec<u8>)> {
    let mut head = Head::default();
    let mut records = Vec::new();
    for number in 1..=count {
        let mut payload = head.hash.to_vec();
        payload.push(VERSION);
        let payload = postcard::to_extend(&entry(number), payload).expect("encodes");
        head = Audit::head_of(number, &payload);
        records.push((
            RecordKey {
                kind: KIND_ENTRY,
                id: 0,
                number,
            },
            payload,
        ));
    }
    records
}

fn verdict(records: &[(RecordKey, Vec<u8>)], logged: &[Head]) -> Verdict {
    let mut follower = Follower::new(logged);
    for (key, payload) in records {
        follower.follow(*key, payload);
    }
    follower.proof().verdict
}

#[test]
fn every_spoiled_entry_is_named() {
    let sound = chain(6);
    let heads: Vec<Head> = sound
        .iter()
        .map(|(key, payload)| Audit::head_of(key.number, payload))
        .collect();
    assert_eq!(verdict(&sound, &heads), Verdict::Whole(heads[5]));
    assert_eq!(verdict(&[], &[]), Verdict::Whole(Head::default()));
    let broken_at = |records: &[(RecordKey, Vec<u8>)], logged: &[Head]| match verdict(records, logged) {
        Verdict::Broken { sequence, .. } => sequence,
        Verdict::Whole(head) => panic!("called whole up to {head:?}"),
    };
    for at in 0..6 {
        // A changed entry shows at the next one, and the one after tells which it was; the last shows against the log.
        for byte in 0..sound[at].1.len() {
            let mut spoiled = sound.clone();
            spoiled[at].1[byte] ^= 1;
            let found = broken_at(&spoiled, &heads[5..]);
            assert_eq!(found, at as u64 + 1, "byte {byte}");
        }
        let mut missing = sound.clone();
        missing.remove(at);
        // Without its first entry it is a chain whose oldest segment was removed; then the head in the log decides.
        if at > 0 {
            assert_eq!(broken_at(&missing, &heads[5..]), at as u64 + 1);
        } else {
            assert_eq!(verdict(&missing, &heads), Verdict::Whole(heads[5]));
            missing[0].1[0] ^= 1;
            assert_eq!(broken_at(&missing, &heads[..1]), 2);
        }
        let mut short = sound.clone();
        short[at].1.truncate(20);
        assert_eq!(broken_at(&short, &[]), at as u64 + 1);
    }
    let mut swapped = sound.clone();
    swapped.swap(2, 3);
    assert_eq!(broken_at(&swapped, &[]), 3);
    let mut newer = sound.clone();
    newer[5].1[HASH_BYTES] = VERSION + 1;
    assert_eq!(broken_at(&newer, &[]), 6);
    // A carried copy is not a break.
    let mut carried = sound.clone();
    carried.insert(4, sound[3].clone());
    assert_eq!(verdict(&carried, &heads), Verdict::Whole(heads[5]));
}

#[test]
fn golden_bytes_hold_the_entry_format() {
    let (_, payload) = &chain(1)[0];
    let expected = concat!(
        "0000000000000000000000000000000000000000000000000000000000000000",
        "02",
        "0101",
        "085832364843303035",
        "03583236",
        "096d6573682e73656e64",
        "096d6573736167652d31",
        "03323032",
        "055238303030",
        "03617070",
        "0000"
    );
    assert_eq!(hex::encode(payload), expected);
}

#[test]
fn an_entry_of_version_1_is_read_and_proved() {
    let mut payload = vec![0; HASH_BYTES];
    payload.extend_from_slice(
        &hex::decode("01010108583236484330303503583236096d6573682e73656e64096d6573736167652d3103323032")
            .expect("hexadecimal"),
    );
    let key = RecordKey {
        kind: KIND_ENTRY,
        id: 0,
        number: 1,
    };
    let mut follower = Follower::new(&[Audit::head_of(1, &payload)]);
    let read = follower.follow(key, &payload).expect("it is decoded");
    assert_eq!(
        (read.actor.as_str(), read.outcome.as_str(), read.role.as_str()),
        ("X26HC005", "202", "")
    );
    assert!(matches!(follower.proof().verdict, Verdict::Whole(_)));
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let long = Entry {
        subject: "é".repeat(TEXT_BYTES_MAX),
        ..entry(1)
    };
    let cut = long.cut();
    assert_eq!(cut.subject.len(), TEXT_BYTES_MAX);
    assert_eq!(cut.actor, "X26HC005");
}

#[test]
fn debug_never_shows_whom_an_entry_is_about() {
    let shown = format!(
        "{:?}",
        Entry {
            subject: "9000000009".to_owned(),
            ..entry(1)
        }
    );
    assert!(!shown.contains("9000000009"), "{shown}");
}
