//! `bench [measure …]`: the speed table, each measure beside its peer in the same run, written to `target/bench.md`.
//!
//! Measures: `journal cycle throughput inbox memory restart upload backup slow events redis`, `cluster` of three nodes, `lagging`
//! (one of three members is slow), `join` of a node to many patients and messages, and, on one node with many patients,
//! `load read audit search fuzzy update`; none named: all of these. `growth` takes long and runs only when it is named. It owns the load and
//! the peers' processes. It must never be the bottleneck: its own processor time stands in the table.
//! `VERTEBRA_BENCH_MESSAGES` (1,000,000) is how many messages wait for `memory`, `restart` and `join`,
//! `VERTEBRA_BENCH_PATIENTS` (1,000,000) how many patients are loaded, `VERTEBRA_BENCH_GROWTH` (4,000,000) how many `growth` ends with,
//! `VERTEBRA_BENCH_SCALE` (1) multiplies the rounds of the others.

#![deny(missing_docs)]

mod audit;
mod backup;
mod cluster;
mod commands;
mod cycle;
mod demand;
mod drive;
mod etcd_client;
mod events;
mod growth;
mod join;
mod journal;
mod lagging;
mod pds;
mod peers;
mod people;
mod postgres;
mod postgres_client;
mod rabbit_client;
mod redis;
mod rsync;
mod slow;
mod trios;
mod upload;
mod waiting;

use std::time::Duration;

/// The node's own, so that the journal alone runs as it does in the node.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How a figure is judged.
#[derive(Clone, Copy)]
pub enum Bound {
    /// The ratio must be at least so large.
    AtLeast(f64),
    /// The figure must be at most so large.
    AtMost(f64),
    /// Nothing must hold; the figure is told.
    Told,
}

impl Bound {
    fn holds(self, figure: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => figure >= bound,
            Bound::AtMost(bound) => figure <= bound,
            Bound::Told => true,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Bound::AtLeast(bound) => format!("≥ {bound} {unit}"),
            Bound::AtMost(bound) => format!("≤ {bound} {unit}"),
            Bound::Told => "–".to_owned(),
        }
    }
}

/// One line of the table.
pub struct Row {
    /// What was measured.
    pub measure: String,
    /// Our figure, with its unit.
    pub ours: String,
    /// The peer's, with its unit; `–` where there is none.
    pub peer: String,
    /// What is judged: a ratio or a figure.
    pub figure: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What must hold.
    pub least: Bound,
    /// What is hoped for.
    pub aim: Bound,
    /// Processor time of the load generator while it measured us.
    pub own_cpu: Duration,
}

impl Row {
    fn line(&self) -> String {
        let verdict = match (self.least.holds(self.figure), self.aim.holds(self.figure)) {
            (_, aimed) if matches!(self.least, Bound::Told) => match (self.aim, aimed) {
                (Bound::Told, _) => "told",
                (Bound::AtLeast(_) | Bound::AtMost(_), true) => "told, aim reached",
                (Bound::AtLeast(_) | Bound::AtMost(_), false) => "told, aim missed",
            },
            (_, true) => "pass, aim reached",
            (true, false) => "pass",
            (false, false) => "**FAIL**",
        };
        format!(
            "| {} | {} | {} | {:.3} {} | {} | {} | {verdict} | {:.2} s |",
            self.measure,
            self.ours,
            self.peer,
            self.figure,
            self.unit,
            self.least.text(self.unit),
            self.aim.text(self.unit),
            self.own_cpu.as_secs_f64()
        )
    }
}

/// A whole number from the environment.
pub fn number_from(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// The middle of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

const MEASURES: [&str; 21] = [
    "journal",
    "cycle",
    "throughput",
    "inbox",
    "memory",
    "restart",
    "upload",
    "backup",
    "slow",
    "events",
    "redis",
    "cluster",
    "lagging",
    "join",
    "load",
    "read",
    "audit",
    "search",
    "fuzzy",
    "update",
    GROWTH,
];
/// Runs only when it is named.
const GROWTH: &str = "growth";

fn main() {
    let named: Vec<String> = std::env::args().skip(1).collect();
    if named.first().is_some_and(|name| name == commands::MEMBER) {
        return commands::member(&named[1..]);
    }
    for name in &named {
        assert!(MEASURES.contains(&name.as_str()), "{name} is none of {MEASURES:?}");
    }
    let wanted = |name: &str| named.is_empty() || named.iter().any(|other| other == name);
    vertebra_tests::process::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    let mut rows = Vec::new();
    if wanted("journal") {
        rows.extend(show(journal::measure()));
    }
    if wanted("cycle") {
        rows.extend(show(runtime.block_on(cycle::cpu_of_a_cycle())));
    }
    if wanted("throughput") {
        rows.extend(show(runtime.block_on(cycle::cycles_a_second())));
    }
    if wanted("upload") {
        rows.extend(show(runtime.block_on(upload::measure())));
    }
    if wanted("backup") {
        rows.extend(show(runtime.block_on(backup::measure())));
    }
    if wanted("slow") {
        rows.extend(show(runtime.block_on(slow::measure())));
    }
    if wanted("events") {
        rows.extend(show(runtime.block_on(events::measure())));
    }
    if wanted("redis") {
        rows.extend(show(runtime.block_on(redis::measure())));
    }
    if wanted("cluster") {
        rows.extend(show(runtime.block_on(cluster::measure())));
    }
    if wanted("lagging") {
        rows.extend(show(runtime.block_on(lagging::measure())));
    }
    if wanted("join") {
        rows.extend(show(runtime.block_on(join::measure())));
    }
    if wanted("inbox") || wanted("memory") || wanted("restart") {
        rows.extend(show(runtime.block_on(waiting::measure(
            wanted("inbox"),
            wanted("memory"),
            wanted("restart"),
        ))));
    }
    let patients = pds::Wanted {
        load: wanted("load"),
        read: wanted("read"),
        audit: wanted("audit"),
        search: wanted("search"),
        fuzzy: wanted("fuzzy"),
        update: wanted("update"),
    };
    if patients.any() {
        rows.extend(show(runtime.block_on(pds::measure(patients))));
    }
    if named.iter().any(|name| name == GROWTH) {
        rows.extend(show(runtime.block_on(growth::measure())));
    }
    let path = vertebra_tests::python::workspace().join("target/bench.md");
    std::fs::write(&path, table(&rows)).expect("target can be written");
    println!("\nwritten to {}", path.display());
}

fn show(rows: Vec<Row>) -> Vec<Row> {
    for row in &rows {
        println!("{}", row.line());
    }
    rows
}

fn table(rows: &[Row]) -> String {
    let cores = std::thread::available_parallelism().map(usize::from).unwrap_or(0);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut text = format!(
        "# Speed\n\n{} · {cores} cores · kernel {} · peers measured in the same run. Figures are of this machine; ratios \
         travel better.\n\n| measure | ours | peer | judged | at least | aim | verdict | load generator's CPU |\n\
         |---|---|---|---|---|---|---|---|\n",
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
        kernel.trim()
    );
    for row in rows {
        text.push_str(&row.line());
        text.push('\n');
    }
    text
}
