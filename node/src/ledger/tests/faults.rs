//! What must hold when the process is killed, a bit flips, the disk is full, or the ledger is replaced.

use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Tells a test that it is the child of itself, and in which folder it works.
const CHILD: &str = "VERTEBRA_LEDGER_TEST_CHILD";
const KEYS: u64 = 500;

fn child(test: &str, folder: &Folder) -> Child {
    Command::new(std::env::current_exe().expect("the test has a binary"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, &folder.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the test can start itself")
}

fn this_is_child() -> Option<Ledger> {
    let folder = std::env::var_os(CHILD)?;
    Some(
        Ledger::open(folder.as_ref(), MAP_BYTES_MAX)
            .expect("the ledger opens")
            .0,
    )
}

/// Command `index`: everything it writes follows from its number.
fn command(ledger: &Ledger, index: u64) {
    let mut writer = ledger.writer();
    writer.put(A, b"counter", &index.to_be_bytes());
    writer.put(
        B,
        &(index % KEYS).to_be_bytes(),
        &[&index.to_be_bytes()[..], &[index as u8; 300]].concat(),
    );
    let period = (index / 1000) as u32;
    writer.put(Table::of_period(40, period), &index.to_be_bytes(), b"nonce");
    if period >= 2 {
        writer.drop_table(Table::of_period(40, period - 2));
    }
    writer.commit();
    ledger.put_local(LOCAL, b"counter", Some(&index.to_be_bytes()));
    ledger.applied((1, 1, index), Timestamp::from_ms(index));
}

fn assert_state(ledger: &Ledger, index: u64) {
    assert_eq!(ledger.get(A, b"counter").expect("there"), index.to_be_bytes());
    let local = u64::from_be_bytes(
        ledger
            .get(LOCAL, b"counter")
            .expect("there")
            .try_into()
            .expect("eight bytes"),
    );
    assert!(local == index || local == index + 1, "local {local} at {index}");
    for key in 0..KEYS {
        let last = (index + 1)
            .checked_sub(KEYS)
            .map_or(0, |first| first + (key + KEYS - first % KEYS) % KEYS);
        let expected = if index >= KEYS {
            Some(last)
        } else {
            Some(key).filter(|key| (1..=index).contains(key))
        };
        let found = ledger
            .get(B, &key.to_be_bytes())
            .map(|value| u64::from_be_bytes(value[..8].try_into().expect("8")));
        assert_eq!(found, expected, "key {key} at {index}");
    }
    let period = (index / 1000) as u32;
    assert_eq!(
        ledger.periods(40),
        (period.saturating_sub(1)..=period).collect::<Vec<_>>()
    );
    let mut nonces = 0;
    for period in ledger.periods(40) {
        nonces += all(ledger, Table::of_period(40, period)).len() as u64;
    }
    assert_eq!(nonces, index - (u64::from(period.saturating_sub(1)) * 1000).max(1) + 1);
}

#[test]
fn a_process_killed_at_any_time_reopens_to_a_whole_checkpoint() {
    if let Some(ledger) = this_is_child() {
        let last = ledger
            .get(A, b"counter")
            .map_or(0, |value| u64::from_be_bytes(value.try_into().expect("8")));
        let other = ledger.clone();
        std::thread::spawn(move || {
            loop {
                let covered = other.shared.writing.lock().applied.map_or(0, |(_, _, index)| index);
                checkpoint(&other);
                println!("landed {covered}");
            }
        });
        for index in last + 1.. {
            command(&ledger, index);
        }
    }
    let folder = Folder::new();
    let mut before = 0;
    for cycle in 0..12 {
        let name = "ledger::tests::faults::a_process_killed_at_any_time_reopens_to_a_whole_checkpoint";
        let mut child = child(name, &folder);
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut more = 1 + rand::random_range(0..6);
        let mut landed = before;
        for line in lines.map_while(Result::ok) {
            let Some((_, covered)) = line.rsplit_once("landed ") else {
                continue;
            };
            let covered: u64 = covered.parse().expect("a number");
            more -= u32::from(covered > landed);
            landed = landed.max(covered);
            if more == 0 {
                break;
            }
        }
        assert_eq!(more, 0, "the child ended by itself");
        // Somewhere within the next checkpoint.
        std::thread::sleep(std::time::Duration::from_micros(rand::random_range(0..8000)));
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        let (ledger, opened) = folder.open();
        let (_, _, index) = opened.applied.expect("a checkpoint landed");
        assert!(
            index >= landed,
            "cycle {cycle}: the checkpoint of {landed} was lost, {index} was found"
        );
        assert_state(&ledger, index);
        ledger.verify_blocking().expect("whole");
        before = index;
    }
}

fn flip(folder: &Folder, pattern: &[u8]) {
    let path = super::super::store::generation_folder(&folder.0, 1).join("data.mdb");
    let mut bytes = std::fs::read(&path).expect("readable");
    let found: Vec<usize> = (0..bytes.len() - pattern.len())
        .filter(|at| bytes[*at..].starts_with(pattern))
        .collect();
    assert!(!found.is_empty(), "the value is in the file");
    for at in found {
        bytes[at + pattern.len() / 2] ^= 0x10;
    }
    std::fs::write(&path, bytes).expect("writable");
}

#[test]
fn a_flipped_bit_is_never_served() {
    const SECRET: &[u8] = b"a value that is easily found in the file";
    if let Some(ledger) = this_is_child() {
        match std::env::var("VERTEBRA_LEDGER_TEST_HOW").as_deref() {
            Ok("scan") => ledger.scan(A, Unbounded, Unbounded, &mut |_, _| {
                println!("served");
                true
            }),
            _ => {
                ledger.get(A, b"NHS-9000000009");
                println!("served");
            }
        }
        return;
    }
    let folder = Folder::new();
    {
        let (ledger, _) = folder.open();
        put(&ledger, 1, A, b"NHS-9000000009", SECRET);
        put(&ledger, 2, B, b"other", b"sound");
        checkpoint(&ledger);
    }
    flip(&folder, SECRET);
    {
        let (ledger, _) = folder.open();
        let error = ledger.verify_blocking().expect_err("damage is found");
        assert!(
            matches!(
                error,
                VerifyError::Corrupt {
                    table: 1,
                    period: 0,
                    entry: 1
                }
            ),
            "{error}"
        );
        assert!(ledger.digest_blocking().is_err());
        assert_eq!(ledger.get(B, b"other").as_deref(), Some(&b"sound"[..]));
    }
    for how in ["get", "scan"] {
        let child = Command::new(std::env::current_exe().expect("a binary"))
            .args([
                "ledger::tests::faults::a_flipped_bit_is_never_served",
                "--exact",
                "--nocapture",
            ])
            .env(CHILD, &folder.0)
            .env("VERTEBRA_LEDGER_TEST_HOW", how)
            .output()
            .expect("the test can start itself");
        let (out, err) = (
            String::from_utf8_lossy(&child.stdout),
            String::from_utf8_lossy(&child.stderr),
        );
        assert!(!child.status.success() && !out.contains("served"), "{how}: {out}");
        assert!(err.contains("corrupt value in ledger table 1"), "{how}: {err}");
        assert!(!err.contains("9000000009"), "a key may name a person");
    }
}

#[test]
fn a_ledger_of_a_later_release_is_refused_by_its_number() {
    let folder = Folder::new();
    {
        let (ledger, _) = folder.open();
        let store = ledger.shared.view.load().base.store.clone();
        let mut txn = store.env.write_txn().expect("begins");
        let format = (FORMAT + 1).to_le_bytes();
        let (meta, key) = (super::super::store::META, super::super::store::KEY_FORMAT);
        store
            .meta
            .put(&mut txn, key, &super::super::store::sealed(meta, key, &format))
            .expect("puts");
        txn.commit().expect("commits");
    }
    let error = Ledger::open(&folder.0, MAP_BYTES_MAX).err().expect("refused");
    assert_eq!(
        error.to_string(),
        "the ledger has format 2, this release reads up to 1; start the newer release"
    );
}

#[test]
fn damaged_notes_are_refused_at_open() {
    let folder = Folder::new();
    {
        let (ledger, _) = folder.open();
        put(&ledger, 1, A, b"k", b"v");
        checkpoint(&ledger);
        let store = ledger.shared.view.load().base.store.clone();
        let mut txn = store.env.write_txn().expect("begins");
        store
            .meta
            .put(&mut txn, super::super::store::KEY_CHECKPOINT, b"\x01\x02\x03\x04\x05")
            .expect("puts");
        txn.commit().expect("commits");
    }
    let error = Ledger::open(&folder.0, MAP_BYTES_MAX).err().expect("refused");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("restore this node"), "{error}");
}

#[test]
fn a_full_map_loses_nothing_and_is_tried_again() {
    let folder = Folder::new();
    {
        let (ledger, _) = Ledger::open(&folder.0, 2 << 20).expect("opens");
        put(&ledger, 1, A, b"early", b"1");
        checkpoint(&ledger);
        put(&ledger, 2, A, b"large", &vec![7; 3 << 20]);
        for _ in 0..2 {
            let error = ledger.checkpoint_blocking(Watermarks::default()).expect_err("full");
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
            put(&ledger, 3, A, b"late", b"3");
            assert_eq!(ledger.get(A, b"large").map(|value| value.len()), Some(3 << 20));
            assert_eq!(ledger.get(A, b"late").as_deref(), Some(&b"3"[..]));
        }
        assert_eq!(ledger.checkpoint_landed(), 1);
    }
    let (ledger, opened) = folder.open();
    assert_eq!(opened.applied, Some((1, 1, 1)), "the checkpoint before is whole");
    assert_eq!(all(&ledger, A), vec![(b"early".to_vec(), b"1".to_vec())]);
}

#[test]
fn the_same_commands_give_the_same_digest_whenever_checkpoints_ran() {
    let mut digests = Vec::new();
    for every in [7, 100, 5000] {
        let folder = Folder::new();
        let (ledger, _) = folder.open();
        ledger.put_local(LOCAL, b"differs", Some(&[every as u8]));
        for index in 1..3000u64 {
            command(&ledger, index);
            if index % every == 0 && index % 500 < 60 {
                checkpoint(&ledger);
            }
        }
        checkpoint(&ledger);
        digests.push(ledger.digest_blocking().expect("whole"));
    }
    assert_eq!(digests[0].applied, Some((1, 1, 2999)));
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0], digests[2]);
}

#[test]
fn a_copy_is_installed_whole_and_leaves_local_tables_alone() {
    let (theirs, ours) = (Folder::new(), Folder::new());
    let copy = theirs.0.join("copy");
    let digest = {
        let (ledger, _) = theirs.open();
        for index in 1..2500 {
            command(&ledger, index);
        }
        ledger.put_local(LOCAL, b"place", Some(b"theirs"));
        ledger.put_local(Table::permanent(DERIVED_TABLES_FROM), b"follows", Some(b"from state"));
        checkpoint(&ledger);
        put(&ledger, 2500, A, b"after", b"the copy");
        ledger.copy_blocking(&copy).expect("copied");
        assert!(ledger.copy_blocking(&copy).is_err(), "a copy is never written over");
        ledger.digest_blocking().expect("whole")
    };
    let watermarks = Watermarks {
        from: [(4, 4096), (0, 0), (0, 0)],
    };
    {
        let (ledger, _) = ours.open();
        put(&ledger, 1, A, b"stale", b"state");
        ledger.put_local(Table::permanent(211), b"place", Some(b"ours"));
        ledger.put_local(Table::permanent(DERIVED_TABLES_FROM), b"stale", Some(b"goes"));
        ledger.checkpoint_blocking(watermarks).expect("lands");
        put(&ledger, 2, Table::of_period(9, 9), b"stale", b"overlay");
        ledger.put_local(Table::permanent(211), b"newer", Some(b"ours too"));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let stale = ledger.get(A, b"stale").is_some();
                    let fresh = ledger.get(A, b"counter").is_some();
                    assert!(stale || fresh, "a reader saw neither");
                    assert!(ledger.get(Table::permanent(211), b"newer").is_some());
                }
            });
            let opened = ledger.install_blocking(&copy).expect("installed");
            stop.store(true, Ordering::Relaxed);
            assert_eq!(
                opened,
                Opened {
                    applied: Some((1, 1, 2499)),
                    at: Timestamp::from_ms(2499),
                    watermarks
                }
            );
        });
        assert_eq!(ledger.digest_blocking().expect("whole"), digest);
        put(&ledger, 2500, A, b"on", b"top");
        assert!(ledger.install_blocking(&ours.0.join("absent")).is_err());
        assert_eq!(
            ledger.get(A, b"on").as_deref(),
            Some(&b"top"[..]),
            "a failed install changes nothing"
        );
    }
    let (ledger, opened) = ours.open();
    assert_eq!(opened.applied, Some((1, 1, 2499)));
    assert_eq!(ledger.get(A, b"stale"), None);
    assert_eq!(ledger.periods(9), Vec::<u32>::new());
    assert_eq!(all(&ledger, LOCAL), Vec::new(), "their places are not ours");
    assert_eq!(all(&ledger, Table::permanent(211)).len(), 2);
    let derived = all(&ledger, Table::permanent(DERIVED_TABLES_FROM));
    assert_eq!(derived, vec![(b"follows".to_vec(), b"from state".to_vec())]);
    assert_eq!(ledger.generation(), 2);
    ledger.verify_blocking().expect("whole");
}

#[test]
fn a_transaction_that_does_not_fit_the_pinned_layers_is_not_used() {
    let folder = Folder::new();
    let (ledger, _) = folder.open();
    let pinned = ledger.shared.view.load_full();
    assert!(ledger.shared.snapshot(&pinned).is_some());
    put(&ledger, 1, A, b"k", b"v");
    checkpoint(&ledger);
    assert!(
        ledger.shared.snapshot(&pinned).is_none(),
        "LMDB is ahead of the pinned layers"
    );
    assert!(ledger.shared.snapshot(&ledger.shared.view.load_full()).is_some());
}

#[test]
fn pages_of_old_checkpoints_are_used_again_while_readers_come_and_go() {
    let folder = Folder::new();
    let (ledger, _) = folder.open();
    let mut sizes = Vec::new();
    for index in 1..200u64 {
        let mut writer = ledger.writer();
        for key in 0..200u64 {
            writer.put(A, &key.to_be_bytes(), &[index as u8; 500]);
        }
        writer.commit();
        ledger.applied((1, 1, index), Timestamp::from_ms(index));
        assert_eq!(all(&ledger, A).len(), 200);
        checkpoint(&ledger);
        assert_eq!(all(&ledger, A).len(), 200);
        sizes.push(ledger.sizes().expect("sizes").map_used_bytes);
    }
    assert!(
        sizes[198] <= sizes[20],
        "the file grows: {} after {}",
        sizes[198],
        sizes[20]
    );
}

#[test]
fn a_copy_opens_as_a_ledger_of_its_own() {
    let (from, to) = (Folder::new(), Folder::new());
    let (ledger, _) = from.open();
    put(&ledger, 1, A, b"k", b"v");
    checkpoint(&ledger);
    std::fs::create_dir(to.0.join("generation-1")).expect("made");
    ledger
        .copy_blocking(&to.0.join("generation-1/data.mdb"))
        .expect("copied");
    let (copy, opened) = to.open();
    assert_eq!(opened.applied, Some((1, 1, 1)));
    assert_eq!(copy.get(A, b"k").as_deref(), Some(&b"v"[..]));
}

#[test]
#[should_panic(expected = "inside a read's callback")]
fn a_write_from_inside_a_scan_is_a_bug_that_shows() {
    let folder = Folder::new();
    let (ledger, _) = folder.open();
    put(&ledger, 1, A, b"k", b"v");
    ledger.scan(A, Unbounded, Unbounded, &mut |_, _| {
        ledger.put_local(LOCAL, b"k", None);
        true
    });
}

#[test]
#[should_panic(expected = "local table")]
fn a_command_cannot_write_to_local_tables() {
    let folder = Folder::new();
    let (ledger, _) = folder.open();
    ledger.writer().put(LOCAL, b"k", b"v");
}
