//! One slow member of three: what clients of the other two feel while it gets everything late, and while its disk is slow.
//!
//! The load is constant and far below what the cluster takes. A request's time counts from when it was due, so a stall
//! counts for all that waited behind it.

use crate::demand::percentile_ms;
use crate::drive::Client;
use crate::{Bound, Row, median, number_from};
use std::time::Duration;
use tokio::time::Instant;
use vertebra_tests::cluster::Cluster;
use vertebra_tests::disk::SlowWrites;
use vertebra_tests::process::cpu;

const SITES: [(&str, &str); 3] = [("a1", "north"), ("b1", "south"), ("w1", "witness")];
const BOXES: [&str; 2] = ["X26ALICE", "X26BOB"];
const BODY: [u8; 1024] = [b'l'; 1024];
/// Clients, of which each begins a cycle so often.
const CLIENTS: u32 = 32;
const EVERY: Duration = Duration::from_millis(250);
const ROUND: Duration = Duration::from_secs(15);
/// Before a round counts: what the change itself stirred up is over.
const SETTLING: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;
/// How late everything reaches the slow member, and everybody else from it.
const LATE: Duration = Duration::from_millis(50);
/// Writes a second that the slow disk takes.
const WRITES_PER_S: u32 = 20;
/// Where no limit can be set: the process stands still for so long, and then runs for so long.
const STOPPED: Duration = Duration::from_millis(90);
const RUNNING: Duration = Duration::from_millis(10);

/// How long requests took, seconds; sorted.
#[derive(Default)]
struct Took {
    writes: Vec<f64>,
    reads: Vec<f64>,
}

impl Took {
    fn figures(mut self) -> Figures {
        self.writes.sort_by(f64::total_cmp);
        self.reads.sort_by(f64::total_cmp);
        let of = |times: &[f64]| [percentile_ms(times, 50), percentile_ms(times, 99)];
        Figures {
            writes: of(&self.writes),
            reads: of(&self.reads),
        }
    }
}

/// p50 and p99 in ms.
#[derive(Clone, Copy)]
struct Figures {
    writes: [f64; 2],
    reads: [f64; 2],
}

/// Cycles of one client, each begun when it is due, until `end`.
async fn paced(mut client: Client, first: Instant, end: Instant) -> (Client, Took) {
    let (mut took, mut due) = (Took::default(), first);
    while due < end {
        tokio::time::sleep_until(due).await;
        let message = client.send(&BODY).await;
        let sent = Instant::now();
        client.list().await;
        let listed = Instant::now();
        client.download(&message, BODY.len()).await;
        let got = Instant::now();
        client.acknowledge(&message).await;
        let times = |from: Instant, to: Instant| (to - from).as_secs_f64();
        took.writes.extend([times(due, sent), times(got, Instant::now())]);
        took.reads.extend([times(sent, listed), times(listed, got)]);
        due += EVERY;
    }
    (client, took)
}

async fn round(clients: Vec<Client>) -> (Vec<Client>, Figures) {
    tokio::time::sleep(SETTLING).await;
    let began = Instant::now();
    let length = ROUND * number_from("VERTEBRA_BENCH_SCALE", 1) as u32;
    let tasks: Vec<_> = (0..)
        .zip(clients)
        .map(|(number, client)| tokio::spawn(paced(client, began + EVERY * number / CLIENTS, began + length)))
        .collect();
    let (mut clients, mut all) = (Vec::new(), Took::default());
    for task in tasks {
        let (client, took) = task.await.expect("no request fails");
        clients.push(client);
        all.writes.extend(took.writes);
        all.reads.extend(took.reads);
    }
    (clients, all.figures())
}

/// A slow disk, or what stands in for it.
enum SlowDisk {
    /// Its writes are limited.
    Limited {
        /// Until this is dropped.
        _writes: SlowWrites,
    },
    /// Its process stands still most of the time.
    Stopping(tokio::task::JoinHandle<()>),
}

impl SlowDisk {
    fn of(cluster: &Cluster, id: u64) -> SlowDisk {
        let pid = cluster.pid(id);
        let data = std::fs::canonicalize(cluster.home(id).join("data")).expect("the data folder is there");
        match SlowWrites::of(pid, &data, WRITES_PER_S) {
            Ok(writes) => SlowDisk::Limited { _writes: writes },
            Err(why) => {
                println!("no slow disk here ({why}): the process is stopped again and again instead");
                SlowDisk::Stopping(tokio::spawn(stop_and_go(pid)))
            }
        }
    }

    fn name(&self) -> String {
        match self {
            SlowDisk::Limited { .. } => format!("whose disk takes {WRITES_PER_S} writes a second"),
            SlowDisk::Stopping(_) => format!("that stands still for {STOPPED:?} of each {:?}", STOPPED + RUNNING),
        }
    }

    fn end(self, pid: u32) {
        match self {
            SlowDisk::Limited { .. } => {}
            SlowDisk::Stopping(task) => {
                task.abort();
                vertebra_tests::process::signal(pid, nix::sys::signal::Signal::SIGCONT);
            }
        }
    }
}

async fn stop_and_go(pid: u32) {
    use nix::sys::signal::Signal;
    use vertebra_tests::process::signal;
    while signal(pid, Signal::SIGSTOP) {
        tokio::time::sleep(STOPPED).await;
        signal(pid, Signal::SIGCONT);
        tokio::time::sleep(RUNNING).await;
    }
}

async fn clients(cluster: &Cluster, healthy: &[u64]) -> Vec<Client> {
    let mut clients = Vec::new();
    for number in 0..CLIENTS as usize {
        let alice = cluster.mailbox(healthy[number % healthy.len()], BOXES[0]);
        let bob = cluster.mailbox(healthy[0], BOXES[1]);
        let inbox = "inbox?max_results=100";
        clients.push(Client::open(&alice.target, &alice.credentials, &bob.credentials, inbox).await);
    }
    clients
}

/// Rounds with all three well, with the link of one slow, and with its disk slow, in turn.
pub async fn measure() -> Vec<Row> {
    let mut cluster = Cluster::new("bench-lagging").on_disks().formed(&SITES).await;
    let all = cluster.ids();
    let leader = cluster.await_leader(&all).await;
    let slow = *all.iter().rfind(|id| **id != leader).expect("three members");
    let healthy: Vec<u64> = all.iter().copied().filter(|id| *id != slow).collect();
    cluster.add_mailboxes(1, &BOXES).await;
    let own = cpu(std::process::id());
    // The relay stays in its link from here on, so that what it costs is in every figure.
    cluster.network().delay(slow, Duration::ZERO);
    let (mut clients, _) = round(clients(&cluster, &healthy).await).await;
    let (mut well, mut late, mut stuck) = (Vec::new(), Vec::new(), Vec::new());
    let mut named = String::new();
    for number in 0..ROUNDS {
        let figures;
        (clients, figures) = round(clients).await;
        println!("round {number}: well {}", text(&figures));
        well.push(figures);

        cluster.network().delay(slow, LATE);
        let figures;
        (clients, figures) = round(clients).await;
        println!("round {number}: late {}", text(&figures));
        late.push(figures);
        cluster.network().delay(slow, Duration::ZERO);
        cluster.await_level().await;

        let disk = SlowDisk::of(&cluster, slow);
        named = disk.name();
        let figures;
        (clients, figures) = round(clients).await;
        println!("round {number}: disk {}", text(&figures));
        stuck.push(figures);
        disk.end(cluster.pid(slow));
        cluster.await_level().await;
    }
    let leads = cluster.await_leader(&all).await;
    println!("the leader was {leader} at the start and is {leads} at the end, the slow member is {slow}");
    let own_cpu = cpu(std::process::id()).saturating_sub(own);
    let late_by = format!("with which everything is exchanged {LATE:?} late each way");
    let mut rows = rows(&late_by, &late, &well, own_cpu);
    rows.extend(self::rows(&named, &stuck, &well, own_cpu));
    rows
}

fn text(figures: &Figures) -> String {
    let Figures { writes, reads } = figures;
    format!(
        "writes p50 {:.1} ms, p99 {:.1} ms; reads p50 {:.1} ms, p99 {:.1} ms",
        writes[0], writes[1], reads[0], reads[1]
    )
}

fn rows(named: &str, slow: &[Figures], well: &[Figures], own_cpu: Duration) -> Vec<Row> {
    let kinds: [(&str, fn(&Figures) -> [f64; 2]); 2] =
        [("writes", |figures| figures.writes), ("reads", |figures| figures.reads)];
    let row = |(kind, of): (&str, fn(&Figures) -> [f64; 2])| {
        let at = |all: &[Figures], which: usize| median(all.iter().map(|figures| of(figures)[which]).collect());
        let told = |all: &[Figures]| format!("p50 {:.1} ms, p99 {:.1} ms", at(all, 0), at(all, 1));
        Row {
            measure: format!("p99 of {kind} at two members beside a third {named}"),
            ours: told(slow),
            peer: format!("all three well: {}", told(well)),
            figure: at(slow, 1) / at(well, 1),
            unit: "×",
            least: Bound::Told,
            aim: Bound::AtMost(2.0),
            own_cpu,
        }
    };
    kinds.into_iter().map(row).collect()
}
