//! Proposals, restarts, limits.

use super::*;
use std::collections::BTreeSet;

#[test]
fn a_command_is_applied_answered_and_read_back() {
    let folder = Folder::new("one");
    tokio_uring::start(async {
        let opened = open(&folder).await;
        let log = &opened.log;
        let applied = log.propose(command(b'a', b"value")).await.expect("it is applied");
        assert_eq!(number(&applied.outcome), 1);
        assert_eq!(
            opened.ledger.get(VALUES, &applied.at.index.to_be_bytes()).as_deref(),
            Some(b"value".as_slice())
        );
        assert_eq!(
            log.command(applied.at.index).await.expect("it is there"),
            command(b'a', b"value")
        );
        log.linearizable().await.expect("a cluster of one");
        let status = log.status();
        assert!(status.leader);
        assert_eq!(status.applied, applied.at.index);
        assert_eq!(status.committed, applied.at.index);
        assert_eq!(status.queue, 0);
        let ping = log.deep_ping().await.expect("the whole path");
        assert!(ping.fsync_us > 0, "{ping:?}");
        assert!(matches!(log.command(999).await, Err(ReadError::Gone { .. })));
        log.close().await;
        assert_eq!(
            log.propose(command(b'a', b"late")).await.unwrap_err(),
            ProposeError::Closing
        );
    });
    tokio_uring::start(async {
        let opened = open(&folder).await;
        assert_eq!(count(&opened.ledger), 1);
        opened.log.close().await;
    });
}

/// What an older release could not read is not proposed before the level is raised, which stays so over a restart and is
/// seen beside the data folder.
#[test]
fn a_command_of_a_later_level_waits_until_that_one_is_in_force() {
    let folder = Folder::new("level");
    let file = || std::fs::read_to_string(folder.path().join("cluster.json")).expect("it is there");
    tokio_uring::start(async {
        let opened = open(&folder).await;
        let log = &opened.log;
        assert!(opened.founded && log.level() == level::FIRST && !file().contains("level"));
        let early = log.propose(Bytes::from_static(b"later")).await;
        assert_eq!(early.expect_err("it is too early"), ProposeError::NotYet);
        assert_eq!(count(&opened.ledger), 0, "nothing was applied");
        let unknown = log.raise_level(999).await.expect_err("no release speaks it");
        assert!(unknown.contains("does not speak"), "{unknown}");
        assert_eq!(log.raise_level(2).await, Ok(2));
        assert_eq!(log.raise_level(1).await, Ok(2), "it never goes down");
        assert!(file().contains("\"level\": 2"), "{}", file());
        log.propose(Bytes::from_static(b"later")).await.expect("it is in force");
        log.close().await;
    });
    tokio_uring::start(async {
        let opened = open(&folder).await;
        assert!(!opened.founded && opened.log.level() == 2);
        opened
            .log
            .propose(Bytes::from_static(b"later"))
            .await
            .expect("it is in force");
        opened.log.close().await;
    });
    // A later release was here.
    let later = file().replace("\"level\": 2", "\"level\": 3");
    std::fs::write(folder.path().join("cluster.json"), later).expect("a file of our own");
    tokio_uring::start(async {
        let refused = Log::open(
            config(&folder),
            journal_config(&folder),
            MAP_BYTES,
            Clock::default(),
            None,
            apply(),
        );
        let why = refused
            .await
            .err()
            .expect("a release that does not speak it")
            .to_string();
        assert!(why.contains("the format level in force is 3"), "{why}");
    });
}

/// Many threads at once, then the power goes: everything acknowledged is there once, in the order of the log.
#[test]
fn a_thousand_concurrent_proposals_keep_order_and_apply_once_over_a_kill() {
    const THREADS: u64 = 4;
    const EACH: u64 = 250;
    let folder = Folder::new("thousand");
    let mut acknowledged: Vec<(u64, Bytes, u64)> = Vec::new();
    tokio_uring::start(async {
        let opened = open(&folder).await;
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| propose_from(opened.log.clone(), thread, EACH))
            .collect();
        for thread in threads {
            until("a thread finishes", || thread.is_finished()).await;
            acknowledged.extend(thread.join().expect("it does not panic"));
        }
        assert_eq!(count(&opened.ledger), THREADS * EACH);
    });
    acknowledged.sort();
    let indexes: BTreeSet<u64> = acknowledged.iter().map(|(index, ..)| *index).collect();
    assert_eq!(indexes.len() as u64, THREADS * EACH, "two commands at one index");
    let order: Vec<u64> = acknowledged.iter().map(|(_, _, count)| *count).collect();
    assert_eq!(
        order,
        (1..=THREADS * EACH).collect::<Vec<_>>(),
        "applied in another order than the log's"
    );
    tokio_uring::start(async {
        let opened = open(&folder).await;
        assert_eq!(count(&opened.ledger), THREADS * EACH);
        for (index, bytes, _) in &acknowledged {
            assert_eq!(
                opened.ledger.get(VALUES, &index.to_be_bytes()).as_deref(),
                Some(&bytes[1..])
            );
            assert_eq!(&opened.log.command(*index).await.expect("it is there"), bytes);
        }
        opened.log.close().await;
    });
}

fn propose_from(log: Log, thread: u64, each: u64) -> std::thread::JoinHandle<Vec<(u64, Bytes, u64)>> {
    std::thread::spawn(move || {
        tokio_uring::start(async move {
            let tasks: Vec<_> = (0..each)
                .map(|at| {
                    let log = log.clone();
                    let bytes = command(b'a', format!("thread {thread} command {at}").as_bytes());
                    tokio::task::spawn_local(async move {
                        let applied = log.propose(bytes.clone()).await.expect("it is applied");
                        (applied.at.index, bytes, number(&applied.outcome))
                    })
                })
                .collect();
            let mut done = Vec::new();
            for task in tasks {
                done.push(task.await.expect("it does not panic"));
            }
            done
        })
    })
}

#[test]
fn every_restart_continues_whether_closed_or_killed() {
    let folder = Folder::new("restarts");
    for round in 0..6 {
        tokio_uring::start(async {
            let mut config = config(&folder);
            if round == 3 {
                config.checkpoint_ms = 1;
            }
            let opened = open_with(&config, &folder).await;
            assert_eq!(count(&opened.ledger), round * 50, "round {round}");
            for _ in 0..50 {
                opened.log.propose(command(b'a', b"x")).await.expect("it is applied");
            }
            if round == 3 {
                let log = opened.log.clone();
                until("a checkpoint covers the round", || {
                    log.status().checkpointed >= log.status().applied
                })
                .await;
            }
            if round % 2 == 1 {
                opened.log.close().await;
            }
        });
    }
}

#[test]
fn log_time_never_goes_back_also_over_a_restart() {
    let folder = Folder::new("time");
    let mut last = 0;
    for ahead_ms in [3_600_000, 0] {
        tokio_uring::start(async {
            let clock = Clock::default();
            let journal = journal_config(&folder);
            let opened = Log::open(config(&folder), journal, MAP_BYTES, clock.clone(), None, apply()).await;
            let opened = opened.expect("the log opens");
            clock.advance_ms(ahead_ms);
            let applied = opened
                .log
                .propose(command(b't', b""))
                .await
                .expect("a deliberate offset is no jump");
            let time = number(&applied.outcome);
            assert_eq!(time, applied.at.time.ms());
            assert!(time >= last, "{time} after {last}");
            assert!(opened.log.time().ms() >= time);
            last = time;
        });
    }
    assert!(
        last > Clock::default().now().ms() + 3_000_000,
        "the later clock was behind the log"
    );
}

#[test]
fn a_jump_of_the_systems_clock_is_refused_and_taken_back() {
    let folder = Folder::new("jump");
    tokio_uring::start(async {
        let opened = open(&folder).await;
        let log = &opened.log;
        log.propose(command(b'a', b"x")).await.expect("it is applied");
        for by_ms in [61_000, -61_000] {
            log.shared.guard.lock().pretend_jump(by_ms);
            assert_eq!(
                log.propose(command(b'a', b"x")).await.unwrap_err(),
                ProposeError::ClockJumped
            );
            log.shared.guard.lock().pretend_jump(-by_ms);
            log.propose(command(b'a', b"x")).await.expect("the clock is back");
        }
        assert_eq!(log.status().queue, 0);
        log.close().await;
    });
}

#[test]
fn a_full_queue_sheds_load_and_takes_it_again() {
    let folder = Folder::new("full");
    tokio_uring::start(async {
        let mut config = config(&folder);
        config.queue_bytes_max = 100_000;
        let opened = open_with(&config, &folder).await;
        let body = vec![7; 10_000];
        let many = (0..40).map(|_| opened.log.propose(command(b'a', &body)));
        let outcomes = futures_util::future::join_all(many).await;
        let refused = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Err(ProposeError::Overloaded)))
            .count();
        let applied = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!((applied, refused), (9, 31));
        opened
            .log
            .propose(command(b'a', &body))
            .await
            .expect("there is room again");
        let large = vec![b'a'; COMMAND_BYTES_MAX + 1];
        assert_eq!(
            opened.log.propose(Bytes::from(large)).await.unwrap_err(),
            ProposeError::Overloaded
        );
        let fits = vec![b'a'; COMMAND_BYTES_MAX];
        opened
            .log
            .propose(Bytes::from(fits))
            .await
            .expect("the largest command");
        assert_eq!(count(&opened.ledger), 11);
        opened.log.close().await;
    });
}

#[test]
fn a_disk_at_its_reserve_refuses_writes_and_recovers() {
    let folder = Folder::new("reserve");
    tokio_uring::start(async {
        let opened = open(&folder).await;
        let log = &opened.log;
        log.shared.disk_full.store(true, Ordering::Release);
        // The keeper finds at its next look that there is room after all.
        let first = log.propose(command(b'a', b"x")).await;
        assert!(matches!(first, Err(ProposeError::DiskFull)), "{first:?}");
        until("the keeper looks", || !log.shared.disk_full.load(Ordering::Acquire)).await;
        log.propose(command(b'a', b"x")).await.expect("there is room");
        log.close().await;
    });
}

#[test]
fn closing_finishes_what_was_taken() {
    let folder = Folder::new("closing");
    tokio_uring::start(async {
        let opened = open(&folder).await;
        let many = (0..100).map(|_| opened.log.propose(command(b'a', b"x")));
        let (outcomes, ()) = tokio::join!(futures_util::future::join_all(many), opened.log.close());
        let applied = outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
        let closing = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Err(ProposeError::Closing)))
            .count() as u64;
        assert_eq!(applied + closing, 100);
        assert_eq!(count(&opened.ledger), applied);
    });
    tokio_uring::start(async {
        let opened = open(&folder).await;
        let began = opened.log.status();
        assert_eq!(began.checkpointed, began.applied, "something was left to replay");
    });
}

/// Not a benchmark: an order of magnitude in the test profile, printed with `--nocapture`.
#[test]
fn sixty_four_proposers_share_their_syncs() {
    const PROPOSERS: u64 = 64;
    const EACH: u64 = 100;
    let folder = Folder::new("rate");
    tokio_uring::start(async {
        let opened = open(&folder).await;
        let body = vec![7; 1024];
        let before = opened.journal.stats();
        let began = Instant::now();
        let tasks: Vec<_> = (0..PROPOSERS)
            .map(|_| {
                let (log, bytes) = (opened.log.clone(), command(b'a', &body));
                tokio::task::spawn_local(async move {
                    for _ in 0..EACH {
                        log.propose(bytes.clone()).await.expect("it is applied");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("it does not panic");
        }
        let seconds = began.elapsed().as_secs_f64();
        let batches = opened.journal.stats().batches - before.batches;
        let entries = PROPOSERS * EACH;
        println!(
            "{:.0} commands/s, {:.1} a sync",
            entries as f64 / seconds,
            entries as f64 / batches as f64
        );
        assert!(entries / batches >= 8, "{entries} entries in {batches} batches");
        opened.log.close().await;
    });
}

/// The journal's own queue is far smaller than what is proposed: it refuses most writes the first time.
#[test]
fn writes_that_the_journal_refuses_wait_in_order_and_none_is_lost() {
    const ALL: u64 = 400;
    let folder = Folder::new("backlog");
    let small = || JournalConfig {
        queue_bytes_max: 8 * 1024,
        ..journal_config(&folder)
    };
    tokio_uring::start(async {
        let opened = Log::open(config(&folder), small(), MAP_BYTES, Clock::default(), None, apply()).await;
        let opened = opened.expect("the log opens");
        let body = vec![7; 3_000];
        let tasks: Vec<_> = (0..ALL)
            .map(|at| {
                let (log, bytes) = (opened.log.clone(), command(b'a', &body));
                tokio::task::spawn_local(async move {
                    for _ in 0..at % 7 {
                        tokio::task::yield_now().await;
                    }
                    log.propose(bytes).await.map(|applied| number(&applied.outcome))
                })
            })
            .collect();
        let mut counts = BTreeSet::new();
        for task in tasks {
            counts.insert(task.await.expect("it does not panic").expect("it is applied"));
        }
        assert_eq!(counts.len() as u64, ALL);
    });
    tokio_uring::start(async {
        let opened = open(&folder).await;
        assert_eq!(count(&opened.ledger), ALL);
        opened.log.close().await;
    });
}

/// Runs itself as a process of its own, because the point is that the process ends.
#[test]
fn a_node_whose_storage_failed_ends_instead_of_serving_on() {
    const CHILD: &str = "VERTEBRA_LOG_TEST_FOLDER";
    const NAME: &str = "log::tests::serving::a_node_whose_storage_failed_ends_instead_of_serving_on";
    if let Ok(path) = std::env::var(CHILD) {
        let folder = Folder(PathBuf::from(path));
        tokio_uring::start(async {
            let opened = open(&folder).await;
            opened.journal.close().await;
            let outcome = opened.log.propose(command(b'a', b"x")).await;
            panic!("still here, with {outcome:?}");
        });
    }
    let folder = Folder::new("fatal");
    let test = std::env::current_exe().expect("this test has a path");
    let child = std::process::Command::new(test)
        .args(["--exact", NAME, "--nocapture"])
        .env(CHILD, folder.path())
        .output()
        .expect("it can be started");
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.code(), Some(70), "{said}");
    assert_eq!(
        said.lines().filter(|line| line.starts_with("vertebra: ")).count(),
        1,
        "{said}"
    );
}
