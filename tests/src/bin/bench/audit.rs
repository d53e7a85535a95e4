//! What the audit costs a GET: the same node in turn answers when an entry is durable, as a node does, while it is on its
//! way, and without any. The last two are the sandbox's alone.

use crate::pds::{AT_ONCE, Loaded, ROUNDS, Reached, round};
use crate::{Bound, Row, number_from};
use std::time::Duration;

/// What an answer waits for, and the arguments of the sandbox.
const WAYS: [(&str, &[&str]); 3] = [
    ("durable entry", &[]),
    ("entry on its way", &["--read-entries", "behind"]),
    ("no entry", &["--read-entries", "absent"]),
];

/// Measures, and leaves the node as it was.
pub async fn measure(loaded: &mut Loaded) -> Row {
    let rounds = 3_000 * number_from("VERTEBRA_BENCH_SCALE", 1);
    let mut reached = WAYS.map(|_| Vec::new());
    let mut own_cpu = Duration::ZERO;
    for _ in 0..ROUNDS {
        for ((_, arguments), reached) in WAYS.iter().zip(&mut reached) {
            restart(loaded, arguments);
            let readers = loaded.readers(AT_ONCE).await;
            let (readers, _, _) = round(loaded.node.pid(), readers, rounds / 4).await;
            let (_, one, time) = round(loaded.node.pid(), readers, rounds).await;
            reached.push(one);
            own_cpu += time.own;
        }
    }
    restart(loaded, &[]);
    let medians = reached.map(|reached| Reached::median(&reached));
    let told = |at: usize| {
        let Reached { cpu_us, rate, p50, p99 } = medians[at];
        let name = WAYS[at].0;
        format!("{name} {cpu_us:.1} µs ({rate:.0}/s, p50 {p50:.2} ms, p99 {p99:.1} ms)")
    };
    Row {
        measure: format!(
            "GET Patient, what the audit costs, CPU, {AT_ONCE} clients, {} patients",
            loaded.count
        ),
        ours: told(0),
        peer: format!("{}; {}", told(1), told(2)),
        figure: medians[0].cpu_us / medians[2].cpu_us,
        unit: "×",
        least: Bound::Told,
        aim: Bound::Told,
        own_cpu,
    }
}

fn restart(loaded: &mut Loaded, arguments: &[&str]) {
    assert!(loaded.node.terminate().success(), "the node ends in good order");
    loaded.node.restart_with(arguments);
}
