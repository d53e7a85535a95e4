//! Demographics on one node with many patients: load, read, update, search. The patients are loaded once for all of them.

use crate::demand::{Client, Door, Reader, Searcher, Updater, percentile_ms, together};
use crate::drive::{Taken, settle, taken};
use crate::peers::{Peer, trust_anything};
use crate::people::{self, People, Person};
use crate::postgres::{EXACT, FUZZY, Postgres};
use crate::postgres_client::Asker;
use crate::{Bound, Row, median, number_from};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vertebra_tests::node::{Folder, Node, binary};
use vertebra_tests::process::cpu;
use vertebra_tests::wire::Target;

/// Clients that read and update.
pub const AT_ONCE: usize = 64;
/// Clients that search.
const SEARCHING: usize = 16;
/// Of how many people a client that updates has its own, at most.
const OWN_MAX: usize = 200;
/// Rounds, each beside one of the peer's.
pub const ROUNDS: u64 = 3;
/// What Blaze loads a second on each core, by its own publication; ours is a fixed figure for all cores.
const BLAZE_A_SECOND: f64 = 630.0;

/// Which are wanted.
pub struct Wanted {
    /// How fast a file goes in.
    pub load: bool,
    /// GET of a patient.
    pub read: bool,
    /// What the audit costs a GET.
    pub audit: bool,
    /// PATCH of a patient.
    pub update: bool,
    /// A search by family, birthdate, gender.
    pub search: bool,
    /// A fuzzy search.
    pub fuzzy: bool,
}

impl Wanted {
    /// Whether patients are needed at all.
    pub fn any(&self) -> bool {
        self.load || self.read || self.audit || self.update || self.search || self.fuzzy
    }
}

/// A node with people in it.
pub struct Loaded {
    /// The node.
    pub node: Node,
    /// Who is in it.
    pub people: People,
    /// How many were loaded.
    pub count: u64,
    folder: Folder,
    /// How many of `people.some` are taken by clients that update.
    given: usize,
}

/// What one import took.
pub struct Import {
    patients: u64,
    wall: Duration,
    node: Duration,
    own: Duration,
}

fn vertebra(data: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(binary());
    let output = command.args(arguments).arg("--sandbox").arg(data).output();
    let output = output.expect("the binary starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Processor time of children that have ended.
fn children_cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel counts");
    let micros = |time: nix::sys::time::TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000);
    micros(usage.user_time()) + micros(usage.system_time())
}

impl Loaded {
    /// Starts a node on which one client may ask as often as it likes.
    pub fn start(name: &str) -> Loaded {
        let folder = Folder::new(name);
        let node = Node::start(&folder.path().join("data"));
        vertebra(&node.data, &["client", "set", "sandbox-app", "--rate", "100000"]);
        Loaded {
            node,
            people: People::default(),
            count: 0,
            folder,
            given: 0,
        }
    }

    /// Writes the next people up to `total` into a file and loads it; the file, and what that took.
    pub async fn grow(&mut self, total: u64) -> (PathBuf, Import) {
        let more = total - self.count;
        let file = people::write(self.folder.path(), self.count, more);
        let path = file.to_str().expect("a plain path");
        let (children, node, started) = (children_cpu(), cpu(self.node.pid()), Instant::now());
        let report = vertebra(&self.node.data, &["import", "--kind", "patients", "--json", path]);
        let wall = started.elapsed();
        let report: Value = serde_json::from_str(&report).expect("an import prints a report");
        let patients = report["loaded"]["patients"]["count"].as_u64();
        assert!(report["proved"] == true && patients == Some(more), "{report:#}");
        let import = Import {
            patients: more,
            wall,
            node: cpu(self.node.pid()) - node,
            own: children_cpu() - children,
        };
        println!("loaded {more} patients in {:.0} s", wall.as_secs_f64());
        self.people.add(&file, more);
        self.count = total;
        let node = &self.node;
        let figures = async || node.admin("GET", "/metrics", &Value::Null).await.text();
        settle(node.pid(), figures).await;
        (file, import)
    }

    /// Where clients connect, and the token of a worker.
    pub async fn doors(&self, count: usize) -> Vec<Door> {
        let token = self.node.sandbox["tokens"]["worker"]
            .as_str()
            .expect("a worker has a token");
        Door::several(count, &self.node.target(None), token).await
    }

    /// Clients that read anybody.
    pub async fn readers(&self, count: usize) -> Vec<Reader> {
        let numbers: Arc<[u64]> = self.people.numbers.as_slice().into();
        let doors = self.doors(count).await.into_iter();
        doors.map(|door| Reader::of_patients(door, &numbers)).collect()
    }

    /// Clients that update, each with people that no client has changed before.
    pub async fn updaters(&mut self, count: usize) -> Vec<Updater> {
        let left = &self.people.some[self.given..];
        let each = (left.len() / count / 2).min(OWN_MAX);
        assert!(each > 0, "there are people left to change: more patients are needed");
        // All at once: a connection that waits for its turn is closed by the node.
        let doors = self.doors(count).await.into_iter().zip(left.chunks(each));
        let tasks: Vec<_> = doors
            .map(|(door, own)| tokio::spawn(Updater::of(door, own.to_vec())))
            .collect();
        let mut clients = Vec::new();
        for task in tasks {
            clients.push(task.await.expect("no client panics"));
        }
        self.given += each * count;
        clients
    }
}

/// One side's figures of a round of requests.
#[derive(Clone, Copy)]
pub struct Reached {
    /// Server's processor time a request, µs.
    pub cpu_us: f64,
    /// Requests a second.
    pub rate: f64,
    /// Median, ms.
    pub p50: f64,
    /// The slowest hundredth begins here, ms.
    pub p99: f64,
}

impl Reached {
    /// Medians of several.
    pub fn median(of: &[Reached]) -> Reached {
        let middle = |figure: fn(&Reached) -> f64| median(of.iter().map(figure).collect());
        Reached {
            cpu_us: middle(|reached| reached.cpu_us),
            rate: middle(|reached| reached.rate),
            p50: middle(|reached| reached.p50),
            p99: middle(|reached| reached.p99),
        }
    }
}

/// Lets clients of the server `pid` do their thing `rounds` times each.
pub async fn round<C: Client>(pid: u32, clients: Vec<C>, rounds: u64) -> (Vec<C>, Reached, Taken) {
    let ((clients, times), time) = taken(pid, together(clients, rounds)).await;
    let count = times.len() as f64;
    let reached = Reached {
        cpu_us: time.server.as_secs_f64() * 1e6 / count,
        rate: count / time.wall.as_secs_f64(),
        p50: percentile_ms(&times, 50),
        p99: percentile_ms(&times, 99),
    };
    (clients, reached, time)
}

/// Mean and bound of the slowest hundredth, as the node itself counts them for a route, between two looks at its metrics.
struct Seen(Vec<(f64, f64)>, f64);

impl Seen {
    async fn at(node: &Node, route: &str) -> Seen {
        let text = node.admin("GET", "/metrics", &Value::Null).await.text();
        let value = |line: &str| {
            line.rsplit(' ')
                .next()
                .and_then(|text| text.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        let start = format!("vertebra_request_seconds_bucket{{route=\"{route}\",le=\"");
        let buckets = text.lines().filter_map(|line| {
            let (bound, _) = line.strip_prefix(&start)?.split_once('"')?;
            Some((bound.parse().unwrap_or(f64::INFINITY), value(line)))
        });
        let buckets = buckets.collect();
        let start = format!("vertebra_request_seconds_sum{{route=\"{route}\"}}");
        let sum = text.lines().find(|line| line.starts_with(&start)).map_or(0.0, value);
        Seen(buckets, sum)
    }

    fn since(&self, before: &Seen) -> String {
        // A route has no buckets until it is asked the first time.
        let earlier = |at: usize| before.0.get(at).map_or(0.0, |bucket| bucket.1);
        let counts: Vec<(f64, f64)> = (self.0.iter().enumerate())
            .map(|(at, (bound, count))| (*bound, count - earlier(at)))
            .collect();
        let all = counts.last().map_or(f64::NAN, |bucket| bucket.1);
        let bound = counts.iter().find(|(_, count)| *count >= all * 0.99);
        let bound_ms = bound.map_or(f64::NAN, |bucket| bucket.0 * 1e3);
        format!(
            "inside: mean {:.2} ms, p99 ≤ {bound_ms} ms",
            (self.1 - before.1) / all * 1e3
        )
    }
}

/// Measures what is wanted.
pub async fn measure(wanted: Wanted) -> Vec<Row> {
    let patients = number_from("VERTEBRA_BENCH_PATIENTS", 1_000_000);
    let mut loaded = Loaded::start("bench-pds");
    let (file, import) = loaded.grow(patients).await;
    let mut rows = Vec::new();
    if wanted.load {
        rows.push(load_row(&import));
    }
    if wanted.read {
        rows.push(read(&loaded).await);
    }
    if wanted.audit {
        rows.push(crate::audit::measure(&mut loaded).await);
    }
    if wanted.update || wanted.search || wanted.fuzzy {
        let mut postgres = Postgres::start();
        let started = Instant::now();
        postgres.load(&file);
        println!(
            "PostgreSQL: {} rows in {:.0} s",
            postgres.rows,
            started.elapsed().as_secs_f64()
        );
        if wanted.search {
            rows.push(search(&loaded, &postgres, false).await);
        }
        if wanted.fuzzy {
            rows.push(search(&loaded, &postgres, true).await);
        }
        if wanted.update {
            rows.extend(update(&mut loaded, &mut postgres).await);
        }
    }
    rows
}

fn load_row(import: &Import) -> Row {
    let rate = import.patients as f64 / import.wall.as_secs_f64();
    let each_us = |time: Duration| time.as_secs_f64() * 1e6 / import.patients as f64;
    Row {
        measure: format!("import of {} patients with all indexes, file to proof", import.patients),
        ours: format!(
            "{rate:.0}/s (CPU a patient: node {:.0} µs, importer {:.0} µs)",
            each_us(import.node),
            each_us(import.own)
        ),
        peer: format!("Blaze, published, {BLAZE_A_SECOND} resources/s a core"),
        figure: rate,
        unit: "patients/s",
        least: Bound::AtLeast(4_000.0),
        aim: Bound::AtLeast(10_000.0),
        own_cpu: import.own,
    }
}

/// nginx with a file of this size, under the node's own certificate.
fn nginx(folder: &Path, node: &Node, bytes: u64) -> (Peer, Target) {
    std::fs::write(folder.join("patient.json"), vec![b'p'; bytes as usize]).expect("the folder can be written");
    let (certificate, key) = (node.data.join("server.pem"), node.data.join("server.key"));
    let peer = Peer::nginx_files(folder, &certificate, &key);
    let target = Target {
        address: ([127, 0, 0, 1], peer.port).into(),
        host: "localhost".into(),
        tls: Some(trust_anything()),
    };
    (peer, target)
}

async fn read(loaded: &Loaded) -> Row {
    let rounds = 3_000 * number_from("VERTEBRA_BENCH_SCALE", 1);
    let readers = loaded.readers(AT_ONCE).await;
    let (mut readers, _, _) = round(loaded.node.pid(), readers, rounds / 4).await;
    let bytes = readers.iter().map(|reader| reader.bytes).sum::<u64>() / (AT_ONCE as u64 * (rounds / 4));
    let folder = Folder::new("bench-nginx-files");
    let (peer, target) = nginx(folder.path(), &loaded.node, bytes);
    let doors = Door::several(AT_ONCE, &target, "a-token-of-nobody").await;
    let files = doors.into_iter().map(|door| Reader::of_file(door, "/patient.json"));
    let (mut files, _, _) = round(peer.worker(), files.collect(), rounds / 4).await;
    let (mut ours, mut theirs, mut own_cpu) = (Vec::new(), Vec::new(), Duration::ZERO);
    for _ in 0..ROUNDS {
        let (kept, our, time) = round(loaded.node.pid(), readers, rounds).await;
        (readers, own_cpu) = (kept, own_cpu + time.own);
        ours.push(our);
        let (kept, their, _) = round(peer.worker(), files, rounds).await;
        files = kept;
        theirs.push(their);
    }
    let (our, their) = (Reached::median(&ours), Reached::median(&theirs));
    Row {
        measure: format!(
            "GET Patient, audited, CPU, {AT_ONCE} clients, {} patients",
            loaded.count
        ),
        ours: format!("{:.1} µs ({:.0}/s, p99 {:.1} ms)", our.cpu_us, our.rate, our.p99),
        peer: format!(
            "nginx, file of {bytes} bytes, {:.1} µs ({:.0}/s, p99 {:.1} ms)",
            their.cpu_us, their.rate, their.p99
        ),
        figure: our.cpu_us / their.cpu_us,
        unit: "×",
        least: Bound::AtMost(1.5),
        aim: Bound::AtMost(1.0),
        own_cpu,
    }
}

async fn search(loaded: &Loaded, postgres: &Postgres, fuzzy: bool) -> Row {
    let rounds = 5_000 * number_from("VERTEBRA_BENCH_SCALE", 1);
    let statement = if fuzzy { FUZZY } else { EXACT };
    let people: Arc<[Person]> = loaded.people.some.as_slice().into();
    let doors = loaded.doors(SEARCHING).await.into_iter();
    let searchers = doors.map(|door| Searcher::of(door, &people, fuzzy)).collect();
    let mut askers = Vec::new();
    for _ in 0..SEARCHING {
        askers.push(Asker::open(&postgres.socket(), statement, &people, fuzzy).await);
    }
    let (mut searchers, _, _) = round(loaded.node.pid(), searchers, rounds / 4).await;
    let (mut askers, _, _) = round(loaded.node.pid(), askers, rounds / 4).await;
    let (mut ours, mut theirs, mut own_cpu) = (Vec::new(), Vec::new(), Duration::ZERO);
    let before = Seen::at(&loaded.node, "pds_search").await;
    for _ in 0..ROUNDS {
        let (kept, our, time) = round(loaded.node.pid(), searchers, rounds).await;
        (searchers, own_cpu) = (kept, own_cpu + time.own);
        ours.push(our);
        let cpu_before = postgres.cpu();
        let (kept, their, _) = round(loaded.node.pid(), askers, rounds).await;
        let cpu_us = (postgres.cpu() - cpu_before).as_secs_f64() * 1e6 / (rounds * SEARCHING as u64) as f64;
        askers = kept;
        theirs.push(Reached { cpu_us, ..their });
    }
    let inside = Seen::at(&loaded.node, "pds_search").await.since(&before);
    let (our, their) = (Reached::median(&ours), Reached::median(&theirs));
    let text = |of: &Reached| format!("p99 {:.2} ms, p50 {:.2} ms, CPU {:.0} µs", of.p99, of.p50, of.cpu_us);
    let what = if fuzzy {
        "fuzzy search"
    } else {
        "search by family, birthdate, gender"
    };
    Row {
        measure: format!("{what}, p99, {SEARCHING} clients, {} patients", loaded.count),
        ours: format!("{} ({inside})", text(&our)),
        peer: format!("PostgreSQL, Unix socket, no audit, {}", text(&their)),
        figure: our.p99 / their.p99,
        unit: "×",
        least: Bound::AtMost(1.0),
        aim: Bound::AtMost(0.3),
        own_cpu,
    }
}

async fn update(loaded: &mut Loaded, postgres: &mut Postgres) -> Vec<Row> {
    let rounds = 1_200 * number_from("VERTEBRA_BENCH_SCALE", 1);
    let updaters = loaded.updaters(AT_ONCE).await;
    let pid = loaded.node.pid();
    let each = postgres.updates_each(ROUNDS + 1, 2_000);
    let (mut updaters, _, _) = round(pid, updaters, rounds / 4).await;
    postgres.updates(each);
    let (mut ours, mut their_cpu, mut their_rate) = (Vec::new(), Vec::new(), Vec::new());
    let mut own_cpu = Duration::ZERO;
    for _ in 0..ROUNDS {
        let (kept, our, time) = round(pid, updaters, rounds).await;
        (updaters, own_cpu) = (kept, own_cpu + time.own);
        ours.push(our);
        let their = postgres.updates(each);
        their_cpu.push(their.cpu_us);
        their_rate.push(their.rate);
    }
    postgres.check_updates();
    let (our, cpu_us, rate) = (Reached::median(&ours), median(their_cpu), median(their_rate));
    let row = |measure: &str, ours, peer, figure, least, aim| Row {
        measure: format!("{measure}, {AT_ONCE} clients, {} patients", loaded.count),
        ours,
        peer,
        figure,
        unit: "×",
        least,
        aim,
        own_cpu,
    };
    vec![
        row(
            "PATCH Patient, CPU",
            format!("{:.0} µs", our.cpu_us),
            format!("PostgreSQL, conditional UPDATE, pgbench, {cpu_us:.0} µs"),
            our.cpu_us / cpu_us,
            Bound::AtMost(1.0),
            Bound::AtMost(0.5),
        ),
        row(
            "PATCH Patient, rate",
            format!("{:.0}/s (p50 {:.1} ms, p99 {:.1} ms)", our.rate, our.p50, our.p99),
            format!("the same, {rate:.0}/s"),
            our.rate / rate,
            Bound::AtLeast(0.8),
            Bound::AtLeast(1.5),
        ),
    ]
}
