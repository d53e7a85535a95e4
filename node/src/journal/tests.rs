//! The journal on real files and a real ring.

use super::*;
use std::path::Path;

pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("vertebra-journal-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Folder(folder)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn config(folder: &Folder) -> JournalConfig {
    JournalConfig {
        folder: folder.path().to_path_buf(),
        node: 7,
        segment_bytes: [SEGMENT_BYTES_MIN; 3],
        reserve_bytes: 0,
        queue_bytes_max: 64 * 1024 * 1024,
    }
}

fn record(kind: u8, number: u64, bytes: usize) -> Record {
    let fill = Bytes::from(vec![number as u8; bytes]);
    Record {
        key: RecordKey { kind, id: 3, number },
        payload: vec![fill],
    }
}

type Replayed = Vec<(Stream, RecordKey, Position, Bytes)>;

async fn open(config: &JournalConfig, watermarks: Watermarks) -> Result<(Journal, Replayed), OpenError> {
    let mut replayed = Vec::new();
    let mut each = |stream, key, position, bytes| replayed.push((stream, key, position, bytes));
    let journal = Journal::open(config.clone(), watermarks, &mut each).await?;
    Ok((journal, replayed))
}

#[test]
fn what_was_appended_is_read_and_replayed_in_order() {
    let folder = Folder::new("order");
    let config = config(&folder);
    let mut known = Vec::new();
    tokio_uring::start(async {
        let (journal, replayed) = open(&config, Watermarks::default()).await.expect("a new journal opens");
        assert!(replayed.is_empty());
        for number in 0..200u64 {
            let stream = Stream::ALL[number as usize % 3];
            let bytes = (number as usize * 977) % 60_000;
            let positions = journal
                .append(stream, vec![record(1, number, bytes)])
                .await
                .expect("there is room");
            known.push((stream, RecordKey { kind: 1, id: 3, number }, positions[0], bytes));
        }
        for (stream, key, position, bytes) in &known {
            let read = journal.read(*stream, *position, *key).await.expect("it is there");
            assert_eq!(read, vec![key.number as u8; *bytes]);
        }
        assert!(journal.segments(Stream::Log).len() > 1, "the stream rolled");
        journal.close().await;
        assert!(matches!(
            journal.append(Stream::Log, vec![record(1, 0, 1)]).await,
            Err(AppendError::Closed)
        ));
    });
    tokio_uring::start(async {
        let (journal, replayed) = open(&config, Watermarks::default()).await.expect("it opens again");
        for stream in Stream::ALL {
            let wanted: Vec<_> = known
                .iter()
                .filter(|one| one.0 == stream)
                .map(|one| (one.1, one.2))
                .collect();
            let found: Vec<_> = replayed
                .iter()
                .filter(|one| one.0 == stream)
                .map(|one| (one.1, one.2))
                .collect();
            assert_eq!(wanted, found);
        }
        journal.close().await;
    });
}

#[test]
fn a_second_process_cannot_open_the_journal_until_the_first_has_closed_it() {
    let folder = Folder::new("lock");
    let config = config(&folder);
    tokio_uring::start(async {
        let (journal, _) = open(&config, Watermarks::default()).await.expect("a new journal opens");
        match open(&config, Watermarks::default()).await {
            Err(OpenError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            other => panic!("{:?}", other.map(|_| ())),
        }
        journal.close().await;
        let (journal, _) = open(&config, Watermarks::default()).await.expect("the lock is free");
        journal.close().await;
    });
}

#[test]
fn other_threads_append_and_read_while_the_owner_is_parked() {
    let folder = Folder::new("threads");
    let config = config(&folder);
    tokio_uring::start(async {
        let (journal, _) = open(&config, Watermarks::default()).await.expect("a new journal opens");
        let (sender, finished) = tokio::sync::oneshot::channel();
        let handle = journal.clone();
        std::thread::spawn(move || {
            let (answer, answers) = std::sync::mpsc::channel();
            for number in 0..300 {
                let answer = answer.clone();
                let done = Box::new(move |result: Result<Vec<Position>, AppendError>| {
                    answer
                        .send((number, result.expect("there is room")[0]))
                        .expect("it is heard");
                });
                handle.append_then(Stream::Audit, vec![record(1, number, 700)], done);
            }
            let positions: Vec<(u64, Position)> = answers.iter().take(300).collect();
            for (order, (number, position)) in positions.iter().enumerate() {
                assert_eq!(order as u64, *number, "answers come in the order of the calls");
                let key = RecordKey {
                    kind: 1,
                    id: 3,
                    number: *number,
                };
                let read = handle
                    .read_blocking(Stream::Audit, *position, key)
                    .expect("it is there");
                assert_eq!(read, vec![*number as u8; 700]);
            }
            sender.send(()).expect("the owner waits");
        });
        finished.await.expect("the thread finished");
        let stats = journal.stats();
        assert_eq!(stats.records, 300);
        assert!(
            stats.batches < 300 && stats.sync_us_sum >= stats.sync_us_last,
            "{stats:?}"
        );
        assert_eq!((stats.queue_bytes, stats.queue_records), (0, 0));
        journal.close().await;
    });
}

#[test]
fn a_removed_segment_is_gone_its_mark_stays_and_the_rest_opens() {
    let folder = Folder::new("removed");
    let config = config(&folder);
    tokio_uring::start(async {
        let (journal, _) = open(&config, Watermarks::default()).await.expect("a new journal opens");
        let big = || vec![record(1, 1, 200_000), record(0x85, 2, 50)];
        for _ in 0..30 {
            journal.append(Stream::Bodies, big()).await.expect("there is room");
        }
        let segments = journal.segments(Stream::Bodies);
        assert!(segments.len() > 4, "{segments:?}");
        let mut count = 0;
        let mut carried = 0;
        for segment in &segments {
            let mut each = |key: RecordKey, _, _| if key.kind < 0x80 { count += 1 } else { carried += 1 };
            journal
                .scan_blocking(Stream::Bodies, segment.number, &mut each)
                .expect("every segment is sound");
        }
        assert_eq!((count, carried), (30, 30), "repeated copies are not told");
        for segment in &segments[..3] {
            journal.remove_segment(Stream::Bodies, segment.number);
        }
        let position = Position {
            segment: 1,
            offset: 4096 + 128,
            bytes: 200_000,
        };
        let key = RecordKey {
            kind: 1,
            id: 3,
            number: 1,
        };
        journal
            .append(Stream::Log, vec![record(1, 1, 1)])
            .await
            .expect("there is room");
        journal.close().await;
        assert!(folder.path().join("bodies/0000000003.gone").exists());
        assert!(
            !folder.path().join("bodies/0000000002.gone").exists(),
            "the newest mark stands for all below it"
        );
        assert!(matches!(
            journal.read(Stream::Bodies, position, key).await,
            Err(ReadError::Gone { segment: 1, .. })
        ));
        let (journal, replayed) = open(&config, Watermarks::default())
            .await
            .expect("it opens without them");
        assert_eq!(journal.segments(Stream::Bodies)[0].number, 4);
        let newest = replayed
            .iter()
            .rfind(|one| one.1.kind == 0x85)
            .expect("the carried record is told");
        assert_eq!((newest.1.number, newest.3.len()), (2, 50));
        journal.close().await;
    });
}

#[test]
fn a_new_journal_of_production_size_opens_at_once() {
    let folder = Folder::new("first-start");
    let config = JournalConfig {
        segment_bytes: SEGMENT_BYTES_DEFAULT,
        ..config(&folder)
    };
    tokio_uring::start(async {
        let started = std::time::Instant::now();
        let (journal, _) = open(&config, Watermarks::default()).await.expect("a new journal opens");
        journal
            .append(Stream::Log, vec![record(1, 1, 100)])
            .await
            .expect("there is room");
        println!("first append durable after {:?}", started.elapsed());
        let made: u64 = Stream::ALL
            .iter()
            .flat_map(|stream| std::fs::read_dir(folder.path().join(FOLDERS[stream.index()])).expect("it is there"))
            .map(|entry| entry.expect("it is readable").metadata().map_or(0, |file| file.len()))
            .sum();
        assert!(made <= 16 * 1024 * 1024, "{made} bytes made before the first append");
        journal.close().await;
    });
}

/// Figures for the one who runs it: `cargo test --lib journal_throughput -- --ignored --nocapture`.
#[test]
#[ignore = "measures; proves nothing"]
fn journal_throughput_of_64_committers_of_1_kb() {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let folder = Folder::new("throughput");
    let config = JournalConfig {
        segment_bytes: SEGMENT_BYTES_DEFAULT,
        ..config(&folder)
    };
    let cpu_us = || {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the kernel answers");
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
    };
    tokio_uring::start(async {
        let (journal, _) = open(&config, Watermarks::default()).await.expect("a new journal opens");
        for committers in [1, 64, 256] {
            let (before, cpu_before) = (journal.stats(), cpu_us());
            let started = std::time::Instant::now();
            let tasks: Vec<_> = (0..committers)
                .map(|number| {
                    let journal = journal.clone();
                    tokio::task::spawn_local(async move {
                        let mut waits_us = Vec::new();
                        while started.elapsed().as_secs() < 4 {
                            let asked = std::time::Instant::now();
                            journal
                                .append(Stream::Log, vec![record(1, number, 1024)])
                                .await
                                .expect("there is room");
                            waits_us.push(asked.elapsed().as_micros() as u64);
                        }
                        waits_us
                    })
                })
                .collect();
            let mut waits_us = Vec::new();
            for task in tasks {
                waits_us.extend(task.await.expect("no committer panics"));
            }
            waits_us.sort_unstable();
            let after = journal.stats();
            let (records, batches) = (after.records - before.records, after.batches - before.batches);
            println!(
                "{committers} committers: {} entries/s, {:.1} a sync, mean sync {} us, p50 {} us, p99 {} us, max {} us, CPU {:.2} us an entry",
                records / 4,
                records as f64 / batches as f64,
                (after.sync_us_sum - before.sync_us_sum) / batches.max(1),
                waits_us[waits_us.len() / 2],
                waits_us[waits_us.len() * 99 / 100],
                waits_us[waits_us.len() - 1],
                (cpu_us() - cpu_before) as f64 / records as f64,
            );
        }
        journal.close().await;
    });
}

/// The kernel takes advice for its read-ahead and no more at a time: one call for a whole segment warms its beginning alone.
#[test]
fn a_full_segment_of_the_log_is_soon_read_without_asking_the_disk() {
    let folder = Folder::new("warm");
    let mut config = config(&folder);
    config.segment_bytes[Stream::Log as usize] = 32 * 1024 * 1024;
    tokio_uring::start(async {
        let (journal, _) = open(&config, Watermarks::default()).await.expect("a new journal opens");
        let mut positions = Vec::new();
        for number in 0.. {
            let records = vec![record(1, number, 128 * 1024)];
            let position = journal.append(Stream::Log, records).await.expect("there is room")[0];
            if position.segment != positions.first().map_or(position, |first: &Position| *first).segment {
                break;
            }
            positions.push(position);
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let cold = |position: &&Position| {
            let id = SegmentId {
                stream: Stream::Log.number(),
                number: position.segment,
            };
            let offset = u64::from(position.offset);
            let read = journal.shared.reads.read_cached(id, offset, position.bytes as usize);
            read.expect("the segment is there").is_none()
        };
        while let Some(cold) = positions.iter().find(cold) {
            assert!(std::time::Instant::now() < deadline, "{cold:?} is read from the disk");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        journal.close().await;
    });
}

#[test]
fn a_run_gives_what_single_reads_give_in_whatever_order_and_finds_damage() {
    let folder = Folder::new("run");
    let config = config(&folder);
    tokio_uring::start(async {
        let (journal, _) = open(&config, Watermarks::default()).await.expect("a new journal opens");
        let mut known = Vec::new();
        for number in 0..400u64 {
            let bytes = (number as usize * 977) % 60_000;
            let appended = journal.append(Stream::Log, vec![record(1, number, bytes)]).await;
            known.push((number, appended.expect("there is room")[0], bytes));
        }
        assert!(journal.segments(Stream::Log).len() > 3, "the stream rolled");
        let whole = known.clone();
        let (backwards, far): (Vec<_>, Vec<_>) = known.iter().copied().rev().partition(|(number, ..)| number % 7 > 0);
        for order in [whole, backwards, far] {
            let mut run = journal.run(Stream::Log);
            for (number, position, bytes) in order {
                let key = RecordKey { kind: 1, id: 3, number };
                let read = run.read_blocking(position, key).expect("it is there");
                assert_eq!(read, vec![number as u8; bytes]);
            }
        }
        let (_, damaged, _) = known[101];
        let path = folder.path().join(format!("log/{:010}.seg", damaged.segment));
        let file = std::fs::File::options().write(true).open(path).expect("it opens");
        let inside = u64::from(damaged.offset) + RECORD_HEADER_BYTES as u64 + 100;
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xee], inside).expect("written");
        let mut run = journal.run(Stream::Log);
        for (number, position, bytes) in known {
            let key = RecordKey { kind: 1, id: 3, number };
            match run.read_blocking(position, key) {
                Ok(read) => assert_eq!(read, vec![number as u8; bytes]),
                Err(ReadError::Corrupt { position, .. }) => assert_eq!(position, damaged),
                Err(other) => panic!("{other}"),
            }
            assert_eq!(run.read_blocking(position, key).is_err(), position == damaged);
        }
        journal.close().await;
    });
}
