mod faults;

use super::merge::STRETCH_ENTRIES;
use super::*;
use crate::journal::Watermarks;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const MAP_BYTES_MAX: u64 = 1 << 30;
const A: Table = Table::permanent(1);
const B: Table = Table::permanent(2);
const LOCAL: Table = Table::permanent(210);

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("vertebra-ledger-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&path).expect("the temporary folder can be made");
        Folder(path)
    }
    fn open(&self) -> (Ledger, Opened) {
        Ledger::open(&self.0, MAP_BYTES_MAX).expect("the ledger opens")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn put(ledger: &Ledger, index: u64, table: Table, key: &[u8], value: &[u8]) {
    let mut writer = ledger.writer();
    writer.put(table, key, value);
    writer.commit();
    ledger.applied((1, 1, index), Timestamp::from_ms(index));
}

fn all(read: &impl Read, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    read.scan(table, Unbounded, Unbounded, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        true
    });
    found
}

fn checkpoint(ledger: &Ledger) {
    ledger
        .checkpoint_blocking(Watermarks::default())
        .expect("the checkpoint lands");
}

#[test]
fn a_checkpoint_is_found_again_with_its_position_time_and_watermarks() {
    let folder = Folder::new();
    let watermarks = Watermarks {
        from: [(1, 4096), (2, 8192), (3, 0)],
    };
    {
        let (ledger, opened) = folder.open();
        assert_eq!(opened, Opened::default());
        put(&ledger, 7, A, b"key", b"value");
        ledger.put_local(LOCAL, b"local", Some(b"here"));
        assert_eq!(ledger.checkpoint_next(), 1);
        ledger.checkpoint_blocking(watermarks).expect("lands");
        assert_eq!(ledger.checkpoint_landed(), 1);
        put(&ledger, 8, A, b"later", b"lost");
        assert_eq!(ledger.get(A, b"key").as_deref(), Some(&b"value"[..]));
    }
    let (ledger, opened) = folder.open();
    assert_eq!(
        opened,
        Opened {
            applied: Some((1, 1, 7)),
            at: Timestamp::from_ms(7),
            watermarks
        }
    );
    assert_eq!(ledger.get(A, b"key").as_deref(), Some(&b"value"[..]));
    assert_eq!(ledger.get(LOCAL, b"local").as_deref(), Some(&b"here"[..]));
    assert_eq!(
        ledger.get(A, b"later"),
        None,
        "what no checkpoint includes is the journal's"
    );
    assert_eq!(ledger.checkpoint_next(), 2);
}

#[test]
fn a_command_reads_its_own_writes_and_leaves_nothing_when_dropped() {
    let folder = Folder::new();
    let (ledger, _) = folder.open();
    put(&ledger, 1, A, b"b", b"1");
    let mut writer = ledger.writer();
    writer.put(A, b"a", b"2");
    writer.delete(A, b"b");
    writer.put(Table::of_period(9, 5), b"x", b"y");
    assert_eq!(writer.get(A, b"a").as_deref(), Some(&b"2"[..]));
    assert_eq!(writer.get(A, b"b"), None);
    assert_eq!(all(&writer, A), vec![(b"a".to_vec(), b"2".to_vec())]);
    assert_eq!(writer.periods(9), vec![5]);
    assert_eq!(ledger.get(A, b"a"), None);
    assert_eq!(ledger.periods(9), Vec::<u32>::new());
    drop(writer);
    assert_eq!(all(&ledger, A), vec![(b"b".to_vec(), b"1".to_vec())]);
}

#[test]
fn holds_come_back_from_commit_in_order() {
    let folder = Folder::new();
    let (ledger, _) = folder.open();
    let mut writer = ledger.writer();
    writer.hold(Hold::Entry(4));
    writer.hold(Hold::ReleaseUpload(UploadId(5)));
    assert_eq!(writer.commit(), vec![Hold::Entry(4), Hold::ReleaseUpload(UploadId(5))]);
}

#[derive(Default)]
struct Model {
    tables: BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Model {
    fn range(&self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let inside = |key: &Vec<u8>| {
            let low = match from {
                Included(from) => key.as_slice() >= from,
                Excluded(from) => key.as_slice() > from,
                Unbounded => true,
            };
            let high = match to {
                Included(to) => key.as_slice() <= to,
                Excluded(to) => key.as_slice() < to,
                Unbounded => true,
            };
            low && high
        };
        let Some(keys) = self.tables.get(&table) else {
            return Vec::new();
        };
        keys.iter()
            .filter(|(key, _)| inside(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

fn compare(read: &impl Read, model: &Model, random: &mut StdRng, seed: u64) {
    let table = Table::of_period(random.random_range(1..4), random.random_range(0..3));
    let key = |random: &mut StdRng| random.random_range(0u16..600).to_be_bytes();
    let (low, high) = (key(random), key(random));
    let bound = |kind: u8, key: &'static [u8]| match kind {
        0 => Included(key),
        1 => Excluded(key),
        _ => Unbounded,
    };
    let from = bound(random.random_range(0..3), low.to_vec().leak());
    let to = bound(random.random_range(0..3), high.to_vec().leak());
    let mut expected = model.range(table, from, to);
    let mut found = Vec::new();
    let limit = random.random_range(1..700);
    read.scan(table, from, to, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        found.len() < limit
    });
    assert_eq!(found, expected[..expected.len().min(limit)], "up, seed {seed}");
    found.clear();
    expected.reverse();
    read.scan_down(table, from, to, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        found.len() < limit
    });
    assert_eq!(found, expected[..expected.len().min(limit)], "down, seed {seed}");
    assert_eq!(
        read.get(table, &low),
        model.tables.get(&table).and_then(|keys| keys.get(&low[..]).cloned()),
        "get, seed {seed}"
    );
    for id in 1..4 {
        let expected: Vec<u32> = model
            .tables
            .keys()
            .filter(|table| table.id == id)
            .map(|table| table.period)
            .collect();
        assert_eq!(read.periods(id), expected, "periods, seed {seed}");
    }
}

#[test]
fn random_commands_checkpoints_and_restarts_match_a_plain_map() {
    for seed in 0..12u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let folder = Folder::new();
        let (mut ledger, _) = folder.open();
        let mut model = Model::default();
        for index in 1..250u64 {
            let mut writer = ledger.writer();
            for _ in 0..random.random_range(0..30) {
                let table = Table::of_period(random.random_range(1..4), random.random_range(0..3));
                let key = random.random_range(0u16..600).to_be_bytes();
                match random.random_range(0..100) {
                    0 => {
                        writer.drop_table(table);
                        model.tables.remove(&table);
                    }
                    1..40 => {
                        writer.delete(table, &key);
                        if let Some(keys) = model.tables.get_mut(&table) {
                            keys.remove(&key[..]);
                        }
                    }
                    _ => {
                        let value = vec![index as u8; random.random_range(0..40)];
                        writer.put(table, &key, &value);
                        model.tables.entry(table).or_default().insert(key.to_vec(), value);
                    }
                }
            }
            compare(&writer, &model, &mut random, seed);
            writer.commit();
            ledger.applied((1, 1, index), Timestamp::from_ms(index));
            compare(&ledger, &model, &mut random, seed);
            if random.random_range(0..12) == 0 {
                checkpoint(&ledger);
                compare(&ledger, &model, &mut random, seed);
                if random.random_range(0..3) == 0 {
                    drop(ledger);
                    ledger = folder.open().0;
                    compare(&ledger, &model, &mut random, seed);
                }
            }
        }
        checkpoint(&ledger);
        let entries: u64 = model.tables.values().map(|keys| keys.len() as u64).sum();
        assert_eq!(ledger.verify_blocking().expect("whole").entries, entries, "seed {seed}");
    }
}

#[test]
fn a_scan_with_a_limit_touches_no_more_than_it_gives() {
    let folder = Folder::new();
    let (ledger, _) = folder.open();
    let mut writer = ledger.writer();
    for number in 0u32..100_000 {
        writer.put(A, &number.to_be_bytes(), b"entry");
    }
    writer.commit();
    ledger.applied((1, 1, 1), Timestamp::from_ms(1));
    checkpoint(&ledger);
    for (from, expected) in [(0u32, 100), (50_000, 100), (99_950, 50)] {
        let mut touched = 0;
        ledger.scan(A, Included(&from.to_be_bytes()), Unbounded, &mut |_, _| {
            touched += 1;
            touched < 100
        });
        assert_eq!(touched, expected);
    }
    let started = std::time::Instant::now();
    for _ in 0..1000 {
        let mut touched = 0;
        ledger.scan(A, Unbounded, Unbounded, &mut |_, _| {
            touched += 1;
            touched < 100
        });
    }
    // 100 entries take some microseconds; all 100,000 would take over a millisecond each time.
    println!("100 of 100,000: {} us", started.elapsed().as_micros() / 1000);
}

/// Writers move one token from key to key in a ring; whatever a checkpoint does meanwhile, each read sees exactly one.
#[test]
fn readers_never_see_a_gap_or_a_double_while_checkpoints_land() {
    let folder = Folder::new();
    let (ledger, _) = folder.open();
    let stop = AtomicBool::new(false);
    let scans = AtomicU64::new(0);
    put(&ledger, 1, A, &0u16.to_be_bytes(), b"token");
    put(&ledger, 2, B, b"steady", &1u64.to_be_bytes());
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (ledger, stop, scans) = (&ledger, &stop, &scans);
            scope.spawn(move || {
                let mut newest = 0;
                while !stop.load(Ordering::Relaxed) {
                    let mut tokens = 0;
                    let mut count = |_: &[u8], value: &[u8]| {
                        assert_eq!(value, b"token");
                        tokens += 1;
                        true
                    };
                    if reader % 2 == 0 {
                        ledger.scan(A, Unbounded, Unbounded, &mut count);
                    } else {
                        ledger.scan_down(A, Unbounded, Unbounded, &mut count);
                    }
                    assert_eq!(tokens, 1, "a scan saw half a command");
                    let steady = ledger.get(B, b"steady").expect("never a gap");
                    let steady = u64::from_be_bytes(steady.try_into().expect("eight bytes"));
                    assert!(steady >= newest, "a read went back in time: {steady} after {newest}");
                    newest = steady;
                    for period in ledger.periods(30) {
                        // It may have been dropped since; it never holds what another table's slot held.
                        let value = ledger.get(Table::of_period(30, period), b"k");
                        assert!(value.is_none_or(|value| value == period.to_be_bytes()));
                    }
                    scans.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let checkpoints = scope.spawn(|| {
            for _ in 0..60 {
                checkpoint(&ledger);
            }
            stop.store(true, Ordering::Relaxed);
        });
        let mut index = 3u64;
        let mut at = 0u16;
        while !stop.load(Ordering::Relaxed) {
            let next = (at * 31 + 7) % 200;
            let mut writer = ledger.writer();
            writer.delete(A, &at.to_be_bytes());
            writer.put(A, &next.to_be_bytes(), b"token");
            writer.put(B, b"steady", &index.to_be_bytes());
            let period = Table::of_period(30, (index / 50) as u32);
            writer.put(period, b"k", &period.period.to_be_bytes());
            if period.period > 2 {
                writer.drop_table(Table::of_period(30, period.period - 3));
            }
            writer.commit();
            ledger.applied((1, 1, index), Timestamp::from_ms(index));
            at = next;
            index += 1;
        }
        checkpoints.join().expect("checkpoints ran");
    });
    assert!(scans.load(Ordering::Relaxed) > 0);
    checkpoint(&ledger);
    let sizes = ledger.sizes().expect("sizes");
    assert!(sizes.tables < 12, "dropped tables give their slots back: {sizes:?}");
}

#[test]
fn a_checkpoint_never_includes_a_command_that_is_not_covered() {
    let folder = Folder::new();
    {
        let (ledger, _) = folder.open();
        put(&ledger, 1, A, b"counter", b"1");
        let mut writer = ledger.writer();
        writer.put(A, b"counter", b"2");
        writer.commit();
        // Committed, not yet covered: the checkpoint has to wait for the log.
        std::thread::scope(|scope| {
            let other = ledger.clone();
            let waits = scope.spawn(move || checkpoint(&other));
            while ledger.shared.writing.lock().freeze_wanted.is_none() {
                std::thread::yield_now();
            }
            ledger.put_local(LOCAL, b"with", Some(b"it"));
            ledger.applied((1, 1, 2), Timestamp::from_ms(2));
            waits.join().expect("lands");
        });
    }
    let (ledger, opened) = folder.open();
    assert_eq!(opened.applied, Some((1, 1, 2)));
    assert_eq!(ledger.get(A, b"counter").as_deref(), Some(&b"2"[..]));
    assert_eq!(ledger.get(LOCAL, b"with").as_deref(), Some(&b"it"[..]));
}

#[test]
fn a_scan_longer_than_a_stretch_goes_on_where_it_was() {
    let folder = Folder::new();
    let (ledger, _) = folder.open();
    let count = STRETCH_ENTRIES * 3 + 1;
    let mut writer = ledger.writer();
    for number in 0..count as u32 {
        writer.put(A, &number.to_be_bytes(), b"x");
    }
    writer.commit();
    ledger.applied((1, 1, 1), Timestamp::from_ms(1));
    assert_eq!(all(&ledger, A).len(), count);
    checkpoint(&ledger);
    assert_eq!(all(&ledger, A).len(), count);
    let mut down = 0;
    ledger.scan_down(A, Unbounded, Unbounded, &mut |_, _| {
        down += 1;
        true
    });
    assert_eq!(down, count);
}
