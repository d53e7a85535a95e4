//! What more patients cost: the same node with a first lot of patients and with all, each figure beside itself.

use crate::pds::{AT_ONCE, Loaded, Reached, round};
use crate::{Bound, Row, median, number_from};
use vertebra_tests::process::{cpu, status_bytes};

const MIB: f64 = 1024.0 * 1024.0;
const RESTARTS: usize = 3;

/// Figures at one size.
struct Figures {
    patients: u64,
    read: Reached,
    updates_a_second: f64,
    anonymous_mib: f64,
    restart_s: f64,
}

async fn figures(loaded: &mut Loaded) -> Figures {
    let scale = number_from("VERTEBRA_BENCH_SCALE", 1);
    let pid = loaded.node.pid();
    let readers = loaded.readers(AT_ONCE).await;
    let (mut readers, _, _) = round(pid, readers, 150 * scale).await;
    let mut reads = Vec::new();
    for _ in 0..3 {
        let (kept, reached, _) = round(pid, readers, 600 * scale).await;
        readers = kept;
        reads.push(reached);
    }
    let updaters = loaded.updaters(AT_ONCE).await;
    let (mut updaters, _, _) = round(pid, updaters, 100 * scale).await;
    let mut updates = Vec::new();
    for _ in 0..3 {
        let (kept, reached, _) = round(pid, updaters, 400 * scale).await;
        updaters = kept;
        updates.push(reached.rate);
    }
    drop((readers, updaters));
    let anonymous_mib = status_bytes(pid, "RssAnon") as f64 / MIB;
    let mut restarts = Vec::new();
    for _ in 0..RESTARTS {
        // A little right before, so that there is something to replay.
        let updaters = loaded.updaters(8).await;
        round(loaded.node.pid(), updaters, 100).await;
        loaded.node.kill();
        loaded.node.restart();
        restarts.push(loaded.node.ready_after.as_secs_f64());
        // It is ready when it says so.
        let readers = loaded.readers(1).await;
        round(loaded.node.pid(), readers, 10).await;
    }
    Figures {
        patients: loaded.count,
        read: Reached::median(&reads),
        updates_a_second: median(updates),
        anonymous_mib,
        restart_s: median(restarts),
    }
}

/// Measures at `VERTEBRA_BENCH_PATIENTS` and at `VERTEBRA_BENCH_GROWTH`.
pub async fn measure() -> Vec<Row> {
    let few = number_from("VERTEBRA_BENCH_PATIENTS", 1_000_000);
    let many = number_from("VERTEBRA_BENCH_GROWTH", 4_000_000);
    assert!(many > few, "VERTEBRA_BENCH_GROWTH is more than VERTEBRA_BENCH_PATIENTS");
    let own = cpu(std::process::id());
    let mut loaded = Loaded::start("bench-growth");
    let (file, _) = loaded.grow(few).await;
    // The next lot needs the room.
    std::fs::remove_file(file).expect("the file is ours");
    let before = figures(&mut loaded).await;
    loaded.grow(many).await;
    let after = figures(&mut loaded).await;
    let own_cpu = cpu(std::process::id()) - own;
    let row = |measure: &str, of: fn(&Figures) -> f64, unit: &str, slower: f64| Row {
        measure: format!("{measure}, {} patients", after.patients),
        ours: format!("{:.2} {unit}", of(&after)),
        peer: format!("{} patients {:.2} {unit}", before.patients, of(&before)),
        figure: slower,
        unit: "×",
        least: Bound::AtMost(1.3),
        aim: Bound::AtMost(1.0),
        own_cpu,
    };
    let grown = |of: fn(&Figures) -> f64| of(&after) / of(&before);
    let mut rows: Vec<Row> = Vec::new();
    let worse_when_more: [(&str, fn(&Figures) -> f64, &str); 4] = [
        ("GET Patient, CPU", |figures| figures.read.cpu_us, "µs"),
        ("GET Patient, p99", |figures| figures.read.p99, "ms"),
        ("RssAnon", |figures| figures.anonymous_mib, "MiB"),
        ("restart to ready after kill -9", |figures| figures.restart_s, "s"),
    ];
    for (measure, of, unit) in worse_when_more {
        rows.push(row(measure, of, unit, grown(of)));
    }
    let rate: fn(&Figures) -> f64 = |figures| figures.updates_a_second;
    rows.insert(
        2,
        row("PATCH Patient, rate, times slower", rate, "/s", 1.0 / grown(rate)),
    );
    rows
}
