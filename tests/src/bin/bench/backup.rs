//! A backup: its rate beside `cp` of the same bytes and a sync, and what clients feel of it.

use crate::drive::Client;
use crate::{Bound, Row, median, number_from};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use vertebra_tests::node::{Folder, Node, binary};
use vertebra_tests::process::cpu;

/// Large bodies that lie in the node: 40 of 16 MiB.
const BODIES: u64 = 40;
const BODY_BYTES: usize = 16 << 20;
const ROUNDS: usize = 5;
/// Clients whose latency is looked at, and how long without a backup.
const CLIENTS: usize = 8;
const ALONE: Duration = Duration::from_secs(10);
const MB: f64 = 1e6;

fn backup_command(node: &Node, to: &Path, rate: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .arg("backup")
        .arg(to)
        .args(rate)
        .arg("--sandbox")
        .arg(&node.data);
    command.stdout(Stdio::null());
    command
}

fn must(command: &mut Command) -> f64 {
    let began = Instant::now();
    let status = command.status().expect("the program starts");
    assert!(status.success(), "{command:?}");
    began.elapsed().as_secs_f64()
}

fn bytes_in(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).expect("a folder").flatten();
    files
        .map(|found| match found.metadata().expect("it is there") {
            meta if meta.is_dir() => bytes_in(&found.path()),
            meta => meta.len(),
        })
        .sum()
}

/// Cycles of all clients while `goes_on`; p99 in milliseconds, and how many there were.
async fn p99(node: &Node, mut goes_on: impl FnMut() -> bool) -> (f64, usize) {
    let stop = std::rc::Rc::new(std::cell::Cell::new(false));
    let local = tokio::task::LocalSet::new();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let target = node.target(Some(&node.identity()));
        // Between mailboxes without the large bodies.
        let client = Client::open(
            &target,
            &node.credentials(1),
            &node.credentials(2),
            "inbox?max_results=10",
        )
        .await;
        let stop = stop.clone();
        clients.push(local.spawn_local(async move {
            let (mut client, mut took) = (client, Vec::new());
            while !stop.get() {
                let began = Instant::now();
                client.cycle(&[7; 1024]).await;
                took.push(began.elapsed().as_secs_f64() * 1e3);
            }
            took
        }));
    }
    let collected = local.run_until(async move {
        while goes_on() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.set(true);
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.await.expect("no cycle failed"));
        }
        all
    });
    let mut all = collected.await;
    all.sort_by(f64::total_cmp);
    let at = (all.len() * 99 / 100).min(all.len().saturating_sub(1));
    (all.get(at).copied().unwrap_or(f64::NAN), all.len())
}

fn runs(child: &mut Child) -> bool {
    match child.try_wait().expect("a child can be waited for") {
        Some(status) => {
            assert!(status.success(), "the backup ended with {status}");
            false
        }
        None => true,
    }
}

pub async fn measure() -> Vec<Row> {
    let folder = Folder::new("bench-backup");
    let node = Node::start(&folder.path().join("node"));
    let scale = number_from("VERTEBRA_BENCH_SCALE", 1);
    let target = node.target(Some(&node.identity()));
    let mut client = Client::open(&target, &node.credentials(0), &node.credentials(1), "inbox").await;
    let mut body = vec![0; BODY_BYTES];
    for at in 0..BODIES * scale {
        rand::fill(&mut body[..]);
        client.send(&body).await;
        println!("body {at}");
    }
    let (taken, copy) = (folder.path().join("taken"), folder.path().join("copy"));
    let own = cpu(std::process::id());
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    let mut bytes = 0.0;
    for round in 0..ROUNDS {
        let took = must(&mut backup_command(&node, &taken, &["--rate", "0"]));
        bytes = bytes_in(&taken) as f64;
        let script = "cp -r \"$1\" \"$2\" && sync -f \"$2\"";
        let peer = must(Command::new("sh").args(["-c", script, "copy"]).arg(&taken).arg(&copy));
        println!(
            "backup round {round}: {:.0} MB/s, cp and sync {:.0} MB/s",
            bytes / took / MB,
            bytes / peer / MB
        );
        ours.push(bytes / took / MB);
        peers.push(bytes / peer / MB);
        for folder in [&taken, &copy] {
            std::fs::remove_dir_all(folder).expect("it is there");
        }
    }
    let ratios = ours.iter().zip(&peers).map(|(ours, peer)| ours / peer).collect();
    let own_cpu = cpu(std::process::id()).saturating_sub(own);
    let mut rows = vec![Row {
        measure: format!("backup of {:.0} MB against cp and sync of the same files", bytes / MB),
        ours: format!("{:.0} MB/s", median(ours)),
        peer: format!("{:.0} MB/s", median(peers)),
        figure: median(ratios),
        unit: "×",
        least: Bound::AtLeast(0.5),
        aim: Bound::AtLeast(0.8),
        own_cpu,
    }];
    for (named, rate) in [
        ("at its default rate", &[][..]),
        ("as fast as it goes", &["--rate", "0"][..]),
    ] {
        let own = cpu(std::process::id());
        let mut figures = Vec::new();
        for _ in 0..3 {
            let began = Instant::now();
            let (alone, _) = p99(&node, || began.elapsed() < ALONE).await;
            let mut child = backup_command(&node, &taken, rate).spawn().expect("the binary starts");
            let (during, cycles) = p99(&node, || runs(&mut child)).await;
            std::fs::remove_dir_all(&taken).expect("it is there");
            println!("p99 of a cycle {named}: {during:.1} ms in {cycles} cycles, {alone:.1} ms alone");
            figures.push((during / alone, during, alone));
        }
        let of = |pick: fn(&(f64, f64, f64)) -> f64| median(figures.iter().map(pick).collect());
        rows.push(Row {
            measure: format!("p99 of {CLIENTS} clients' cycles while a backup runs {named}, against without"),
            ours: format!("{:.1} ms", of(|figure| figure.1)),
            peer: format!("{:.1} ms", of(|figure| figure.2)),
            figure: of(|figure| figure.0),
            unit: "×",
            least: Bound::AtMost(if rate.is_empty() { 2.0 } else { 10.0 }),
            aim: Bound::AtMost(if rate.is_empty() { 1.3 } else { 3.0 }),
            own_cpu: cpu(std::process::id()).saturating_sub(own),
        });
    }
    rows
}
