//! The journal alone, in this process: 1 KB entries from 64 committers, against fio's sync rate on the same disk.

use crate::peers::fio_syncs_a_second;
use crate::{Bound, Row, median};
use bytes::Bytes;
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use vertebra::journal::{Journal, JournalConfig, Record, RecordKey, Stream, Watermarks};
use vertebra_tests::node::Folder;
use vertebra_tests::process::cpu;

const COMMITTERS: u64 = 64;
/// Rounds, each beside one of fio's: other work on the machine then meets both alike.
const ROUNDS: usize = 7;
const RUN: Duration = Duration::from_secs(1);
/// A round fits into one segment, so that fio, which writes over one file again and again, and the journal write
/// equally much: zeros of the next segment are written between the rounds.
const SEGMENT_BYTES: u32 = 1 << 30;
const ROUND_BYTES: u32 = SEGMENT_BYTES / 8 * 7;

/// What one run of the journal reached.
struct Reached {
    entries_per_s: f64,
    syncs_per_s: f64,
    entries_per_sync: f64,
    cpu_us_per_entry: f64,
}

/// Waits until the log writes into a segment with room for a round and the next one is ready.
async fn settle(journal: &Journal, folder: &Path) {
    let filler = Bytes::from(vec![b'f'; 256 * 1024]);
    let key = RecordKey {
        kind: 1,
        id: 0,
        number: 0,
    };
    loop {
        let listed = journal.segments(Stream::Log);
        let newest = listed.last().expect("the log has a segment while it is open");
        let file = |number: u32| folder.join(format!("log/{number:010}.seg"));
        let bytes = std::fs::metadata(file(newest.number)).map_or(0, |file| file.len());
        let room = bytes.saturating_sub(u64::from(newest.used_bytes));
        let next_is_ready = file(newest.number + 1).exists();
        match (room >= u64::from(ROUND_BYTES), next_is_ready) {
            (true, true) => return,
            (true, false) => tokio::time::sleep(Duration::from_millis(20)).await,
            (false, _) => {
                let record = Record {
                    key,
                    payload: vec![filler.clone()],
                };
                journal.append(Stream::Log, vec![record]).await.expect("there is room");
            }
        }
    }
}

/// One round of all committers.
async fn round(journal: &Journal) -> Reached {
    let stop = Rc::new(Cell::new(false));
    let payload = Bytes::from(vec![b'j'; 1024]);
    let (before, own, started) = (journal.stats(), cpu(std::process::id()), Instant::now());
    let mut tasks = Vec::new();
    for committer in 0..COMMITTERS {
        let (journal, stop, payload) = (journal.clone(), stop.clone(), payload.clone());
        tasks.push(tokio::task::spawn_local(async move {
            let mut number = 0;
            while !stop.get() {
                number += 1;
                let key = RecordKey {
                    kind: 1,
                    id: u128::from(committer),
                    number,
                };
                let record = Record {
                    key,
                    payload: vec![payload.clone()],
                };
                journal.append(Stream::Log, vec![record]).await.expect("there is room");
            }
        }));
    }
    tokio::time::sleep(RUN).await;
    let (after, seconds) = (journal.stats(), started.elapsed().as_secs_f64());
    let used = cpu(std::process::id()) - own;
    stop.set(true);
    for task in tasks {
        task.await.expect("no committer panics");
    }
    let (entries, syncs) = (
        (after.records - before.records) as f64,
        (after.batches - before.batches) as f64,
    );
    Reached {
        entries_per_s: entries / seconds,
        syncs_per_s: syncs / seconds,
        entries_per_sync: entries / syncs,
        cpu_us_per_entry: used.as_secs_f64() * 1e6 / entries,
    }
}

/// A journal of its own for each round, because fio takes its file away as well.
fn run(folder: &Path) -> Reached {
    let config = JournalConfig {
        folder: folder.to_owned(),
        node: 1,
        segment_bytes: [SEGMENT_BYTES, 64 << 20, 64 << 20],
        reserve_bytes: 64 << 20,
        queue_bytes_max: 64 << 20,
    };
    let runtime = vertebra::ring::reactor::runtime().expect("the kernel gives a ring");
    runtime.block_on(async move {
        let mut ignore = |_, _, _, _| {};
        let journal = Journal::open(config, Watermarks::default(), &mut ignore)
            .await
            .expect("a new journal opens");
        settle(&journal, folder).await;
        let reached = round(&journal).await;
        journal.close().await;
        reached
    })
}

/// Measures both, in turn.
pub fn measure() -> Vec<Row> {
    let (mut ratios, mut ours, mut peers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let folder = Folder::new("bench-journal");
        let reached = run(folder.path());
        let fio_folder = Folder::new("bench-fio");
        let fio = fio_syncs_a_second(fio_folder.path());
        ratios.push(reached.syncs_per_s / fio);
        ours.push(reached);
        peers.push(fio);
    }
    let of = |figure: fn(&Reached) -> f64| median(ours.iter().map(figure).collect());
    let (entries, syncs) = (of(|run| run.entries_per_s), of(|run| run.syncs_per_s));
    let (per_sync, cpu_us) = (of(|run| run.entries_per_sync), of(|run| run.cpu_us_per_entry));
    let own_cpu = Duration::from_secs_f64(cpu_us * 1e-6 * entries * RUN.as_secs_f64());
    let row = |measure: &str, ours: String, peer: String, figure, unit, least, aim| Row {
        measure: measure.into(),
        ours,
        peer,
        figure,
        unit,
        least,
        aim,
        own_cpu,
    };
    let fio = median(peers);
    vec![
        row(
            "journal, 1 KB entries, 64 committers: sync rate",
            format!("{syncs:.0} syncs/s, {entries:.0} entries/s"),
            format!("fio {fio:.0} syncs/s"),
            median(ratios),
            "×",
            Bound::AtLeast(0.9),
            Bound::AtLeast(1.0),
        ),
        row(
            "journal: entries a sync",
            format!("{per_sync:.1}"),
            "–".into(),
            per_sync,
            "entries",
            Bound::AtLeast(20.0),
            Bound::AtLeast(50.0),
        ),
        row(
            "journal: CPU an entry, committers included",
            format!("{cpu_us:.2} µs"),
            "–".into(),
            cpu_us,
            "µs",
            Bound::AtMost(f64::INFINITY),
            Bound::AtMost(1.5),
        ),
    ]
}
