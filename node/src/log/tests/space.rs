//! Checkpoints, purge, space, snapshots.

use super::*;
use crate::log::open::{Parts, open_parts};
use crate::log::snapshot::SnapshotData;
use crate::log::store::LogStore;
use openraft::RaftSnapshotBuilder;
use openraft::storage::RaftStateMachine;

fn eager(folder: &Folder) -> LogConfig {
    LogConfig {
        checkpoint_ms: 20,
        ..config(folder)
    }
}

/// Writes held and plain values until the log stream has several segments; gives the held indexes.
async fn fill(log: &Log, rounds: u64, hold_every: u64) -> Vec<u64> {
    let body = vec![9; 8 * 1024];
    let mut held = Vec::new();
    for round in 0..rounds {
        let batch = (0..16).map(|at| {
            let op = if (round * 16 + at) % hold_every == 0 {
                b'h'
            } else {
                b'a'
            };
            let bytes = command(op, &body);
            async move { (op, log.propose(bytes).await.expect("it is applied").at.index) }
        });
        for (op, index) in futures_util::future::join_all(batch).await {
            if op == b'h' {
                held.push(index);
            }
        }
    }
    held
}

#[test]
fn purged_entries_leave_held_ones_readable_and_segments_come_back() {
    let folder = Folder::new("space");
    let held = tokio_uring::start(async {
        let opened = open_with(&eager(&folder), &folder).await;
        let held = fill(&opened.log, 60, 40).await;
        let journal = opened.journal.clone();
        let log = opened.log.clone();
        // The log is purged below the second-last checkpoint, so an idle one keeps what came after that.
        let began = Instant::now();
        while log.status().first + 50 < log.status().applied {
            assert!(began.elapsed() < Duration::from_secs(30), "never: the log is purged");
            log.propose(command(b'a', b"")).await.expect("it is applied");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        until("early segments are gone", || {
            journal.segments(Stream::Log)[0].number > 1
        })
        .await;
        let first = log.status().first;
        let used = || -> u64 {
            journal
                .segments(Stream::Log)
                .iter()
                .map(|segment| u64::from(segment.used_bytes))
                .sum()
        };
        until("a few held values need little space", || used() < 3 * 1024 * 1024).await;
        for index in &held {
            assert_eq!(
                log.command(*index).await.expect("it is held")[0],
                b'h',
                "entry {index}, log from {first}"
            );
        }
        let gone = (0..first)
            .find(|index| !held.contains(index))
            .expect("some entry is purged");
        assert!(matches!(log.command(gone).await, Err(ReadError::Gone { .. })));
        held
    });
    tokio_uring::start(async {
        let opened = open_with(&eager(&folder), &folder).await;
        for index in &held {
            assert_eq!(opened.log.command(*index).await.expect("it is held")[0], b'h');
        }
        for index in &held {
            opened
                .log
                .propose(command(b'r', &index.to_le_bytes()))
                .await
                .expect("it is applied");
        }
        let journal = opened.journal.clone();
        until("released values' segments are gone", || {
            journal.segments(Stream::Log).len() <= 2
        })
        .await;
        let log = opened.log.clone();
        let found = log.command(held[0]).await;
        assert!(matches!(found, Err(ReadError::Gone { .. })), "{found:?}");
        opened.log.close().await;
    });
}

#[test]
fn kills_at_any_point_of_checkpoint_purge_and_reclaim_lose_nothing() {
    let folder = Folder::new("kills");
    let mut held: Vec<u64> = Vec::new();
    let mut all = 0;
    for round in 0..8 {
        let new = tokio_uring::start(async {
            let mut config = eager(&folder);
            config.checkpoint_ms = 1 + round * 7;
            let opened = open_with(&config, &folder).await;
            assert_eq!(count(&opened.ledger), all, "round {round}");
            for index in &held {
                assert_eq!(
                    opened.log.command(*index).await.expect("it is held")[0],
                    b'h',
                    "round {round}"
                );
            }
            fill(&opened.log, 12, 10).await
        });
        held.extend(new);
        all += 12 * 16;
    }
}

#[test]
fn a_restart_reads_what_the_last_checkpoint_lacks_and_no_more() {
    let folder = Folder::new("replay");
    tokio_uring::start(async {
        let opened = open(&folder).await;
        fill(&opened.log, 40, 1_000_000).await;
        opened.log.close().await;
    });
    tokio_uring::start(async {
        let opened = open(&folder).await;
        let status = opened.log.status();
        assert_eq!(count(&opened.ledger), 40 * 16);
        assert!(status.applied - status.checkpointed <= 1, "{status:?}");
        opened.log.close().await;
    });
}

async fn parts(folder: &Folder) -> Parts {
    let parts = open_parts(&config(folder), journal_config(folder), MAP_BYTES, apply()).await;
    parts.expect("the folder opens")
}

/// A node with state, closed.
async fn prepared(folder: &Folder) -> Vec<u64> {
    let opened = open(folder).await;
    let held = fill(&opened.log, 20, 7).await;
    opened
        .log
        .propose(command(b'r', &held[0].to_le_bytes()))
        .await
        .expect("it is applied");
    opened.log.close().await;
    held[1..].to_vec()
}

#[test]
fn a_snapshot_of_one_node_becomes_the_state_of_another() {
    let (from, to) = (Folder::new("snapshot-from"), Folder::new("snapshot-to"));
    let held = tokio_uring::start(prepared(&from));
    tokio_uring::start(async {
        let mut theirs = parts(&from).await;
        let mut builder = theirs.machine.get_snapshot_builder().await;
        let snapshot = builder.build_snapshot().await.expect("it is built");
        let (meta, files) = snapshot.snapshot.files().await.expect("the files are made");
        assert_eq!(meta, snapshot.meta);
        let mut ours = parts(&to).await;
        let data = SnapshotData::received(files);
        ours.machine
            .install_snapshot(&meta, data)
            .await
            .expect("it is installed");
        assert_eq!(
            ours.machine.applied_state().await.expect("it is known").0,
            meta.last_log_id
        );
        let (their_digest, our_digest) = (
            theirs.store.ledger.digest_blocking(),
            ours.store.ledger.digest_blocking(),
        );
        assert_eq!(their_digest.expect("whole"), our_digest.expect("whole"));
        for index in &held {
            let (theirs, ours) = (
                theirs.store.entry_here(*index).await,
                ours.store.entry_here(*index).await,
            );
            let ours = ours.expect("readable").expect("held");
            assert_eq!(ours, theirs.expect("readable").expect("held"));
        }
        theirs.store.journal.close().await;
    });
    // Everything above was dropped without a close: what was installed is durable.
    tokio_uring::start(async {
        let ours = parts(&to).await;
        assert_eq!(count(&ours.store.ledger), 20 * 16 + 1);
        let mut held = 0;
        tables::rows(&ours.store.ledger, tables::HELD, None, &mut |_, row| {
            assert!(row.copied);
            held += 1;
            true
        });
        assert_eq!(held, (20_u64 * 16).div_ceil(7) - 1);
        ours.store.journal.close().await;
    });
}

#[test]
fn a_damaged_snapshot_is_refused_and_changes_nothing() {
    let (from, to) = (Folder::new("damaged-from"), Folder::new("damaged-to"));
    tokio_uring::start(prepared(&from));
    tokio_uring::start(async {
        let mut theirs = parts(&from).await;
        let mut builder = theirs.machine.get_snapshot_builder().await;
        let snapshot = builder.build_snapshot().await.expect("it is built");
        let (meta, files) = snapshot.snapshot.files().await.expect("the files are made");
        let mut ours = parts(&to).await;
        for name in ["ledger.mdb", "entries", "uploads", "manifest.json"] {
            let path = files.join(name);
            let whole = std::fs::read(&path).expect("it is there");
            let mut damaged = whole.clone();
            damaged.truncate(whole.len().saturating_sub(1));
            if whole.is_empty() {
                damaged.push(0);
            }
            std::fs::write(&path, &damaged).expect("it can be written");
            let refused = ours
                .machine
                .install_snapshot(&meta, SnapshotData::received(files.clone()))
                .await;
            assert!(refused.is_err(), "{name} cut short");
            if whole.is_empty() {
                std::fs::write(&path, &whole).expect("it can be written");
                continue;
            }
            let mut damaged = whole.clone();
            damaged[whole.len() / 2] ^= 1;
            std::fs::write(&path, &damaged).expect("it can be written");
            let refused = ours
                .machine
                .install_snapshot(&meta, SnapshotData::received(files.clone()))
                .await;
            assert!(refused.is_err() || name == "manifest.json", "{name} with a flipped bit");
            std::fs::write(&path, &whole).expect("it can be written");
        }
        theirs.store.journal.close().await;
        ours.store.journal.close().await;
    });
}

#[test]
fn an_installation_cut_short_is_made_again_at_the_next_start() {
    let (from, to) = (Folder::new("again-from"), Folder::new("again-to"));
    tokio_uring::start(prepared(&from));
    tokio_uring::start(async {
        let mut theirs = parts(&from).await;
        let mut builder = theirs.machine.get_snapshot_builder().await;
        let snapshot = builder.build_snapshot().await.expect("it is built");
        let (_, files) = snapshot.snapshot.files().await.expect("the files are made");
        let folder = to.path().join("snapshots");
        std::fs::create_dir_all(&folder).expect("it can be made");
        std::fs::write(folder.join("installing"), files.to_str().expect("UTF-8")).expect("it can be written");
        let ours = parts(&to).await;
        assert_eq!(count(&ours.store.ledger), 20 * 16 + 1);
        assert!(!folder.join("installing").exists());
        theirs.store.journal.close().await;
        ours.store.journal.close().await;
    });
}

#[test]
fn a_truncation_is_durable_and_leaves_no_hole() {
    use crate::log::types::{Command, Entry, Payload, log_id};
    use openraft::storage::{IOFlushed, RaftLogStorage};
    let folder = Folder::new("truncate");
    let entry = |term, index| {
        let bytes = command(b'a', &[term as u8]);
        Entry {
            log_id: log_id(term, 1, index),
            payload: Payload::Normal(Command { stamp_ms: 1, bytes }),
        }
    };
    tokio_uring::start(async {
        let mut log = LogStore(parts(&folder).await.store);
        log.append((0..10).map(|index| entry(1, index)), IOFlushed::noop())
            .await
            .expect("it is taken");
        log.truncate_after(Some(log_id(1, 1, 4))).await.expect("it is durable");
        log.append((5..7).map(|index| entry(2, index)), IOFlushed::noop())
            .await
            .expect("it is taken");
        log.0.wait_durable(6).await;
    });
    tokio_uring::start(async {
        let parts = parts(&folder).await;
        assert_eq!(parts.store.bounds().2, Some(log_id(2, 1, 6)));
        parts.checkpoints.run().await.expect("a checkpoint");
        let mut log = LogStore(parts.store.clone());
        log.truncate_after(Some(log_id(2, 1, 5))).await.expect("it is durable");
    });
    tokio_uring::start(async {
        let parts = parts(&folder).await;
        assert_eq!(parts.store.bounds().2, Some(log_id(2, 1, 5)));
        for (index, term) in [(0, 1), (4, 1), (5, 2)] {
            let found = parts.store.entry_here(index).await.expect("readable").expect("there");
            assert_eq!(found, entry(term, index));
        }
        parts.store.journal.close().await;
    });
}
