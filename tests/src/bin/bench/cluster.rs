//! Three voters on this machine: beside one voter, and beside other people's clusters of three.

use crate::drive::{Client, cycles};
use crate::etcd_client::Etcd;
use crate::rabbit_client::Publisher;
use crate::{Bound, Row, commands, median, number_from, trios};
use serde_json::json;
use std::time::{Duration, Instant};
use vertebra_tests::cluster::Cluster;
use vertebra_tests::pds;
use vertebra_tests::process::cpu;

const AT_ONCE: usize = 64;
const BODY: [u8; 1024] = [b'm'; 1024];
const SITES: [(&str, &str); 3] = [("a1", "north"), ("b1", "south"), ("w1", "witness")];
const BOXES: [&str; 2] = ["X26ALICE", "X26BOB"];
const INBOX: &str = "inbox?max_results=100";
/// Rounds, of which the middle one counts.
const ROUNDS: usize = 3;

/// Commands a second and how long they took, seconds.
struct Rate {
    per_s: f64,
    p50: f64,
    p99: f64,
}

impl Rate {
    fn of(mut took: Vec<Duration>, wall: Duration) -> Rate {
        took.sort_unstable();
        let at = |share: usize| took[(took.len() - 1) * share / 100].as_secs_f64();
        Rate {
            per_s: took.len() as f64 / wall.as_secs_f64(),
            p50: at(50),
            p99: at(99),
        }
    }

    /// The middle of each figure.
    fn middle(rates: &[Rate]) -> Rate {
        let of = |figure: fn(&Rate) -> f64| median(rates.iter().map(figure).collect());
        Rate {
            per_s: of(|rate| rate.per_s),
            p50: of(|rate| rate.p50),
            p99: of(|rate| rate.p99),
        }
    }

    fn text(&self) -> String {
        format!(
            "{:.0}/s, p50 {:.1} ms, p99 {:.1} ms",
            self.per_s,
            self.p50 * 1e3,
            self.p99 * 1e3
        )
    }
}

/// Runs all clients at once, each for `rounds`; `each` does one command and gives the client back.
async fn at_once<C, F>(
    clients: Vec<C>,
    rounds: u64,
    each: impl Fn(C, u64) -> F + Clone + Send + 'static,
) -> (Vec<C>, Rate)
where
    C: Send + 'static,
    F: Future<Output = C> + Send,
{
    let started = Instant::now();
    let mut tasks = Vec::new();
    for mut client in clients {
        let each = each.clone();
        tasks.push(tokio::spawn(async move {
            let mut took = Vec::new();
            for round in 0..rounds {
                let began = Instant::now();
                client = each(client, round).await;
                took.push(began.elapsed());
            }
            (client, took)
        }));
    }
    let (mut clients, mut took) = (Vec::new(), Vec::new());
    for task in tasks {
        let (client, own) = task.await.expect("no client panics");
        clients.push(client);
        took.extend(own);
    }
    (clients, Rate::of(took, started.elapsed()))
}

async fn mesh_clients(cluster: &Cluster) -> Vec<Client> {
    let ids = cluster.ids();
    let mut clients = Vec::new();
    for number in 0..AT_ONCE {
        let alice = cluster.mailbox(ids[number % ids.len()], BOXES[0]);
        let bob = cluster.mailbox(ids[0], BOXES[1]);
        clients.push(Client::open(&alice.target, &alice.credentials, &bob.credentials, INBOX).await);
    }
    clients
}

/// What one cluster of ours reaches.
struct Ours {
    sends: Rate,
    cycles_per_s: f64,
    patches_per_s: f64,
    own_cpu: Duration,
}

async fn ours(cluster: &Cluster) -> Ours {
    let scale = number_from("VERTEBRA_BENCH_SCALE", 1);
    cluster.add_mailboxes(1, &BOXES).await;
    let mut clients = mesh_clients(cluster).await;
    let own = cpu(std::process::id());
    clients = cycles(clients, 10).await;
    let mut cycle_rates = Vec::new();
    for _ in 0..ROUNDS {
        let (rounds, began) = (40 * scale, Instant::now());
        clients = cycles(clients, rounds).await;
        cycle_rates.push((AT_ONCE as u64 * rounds) as f64 / began.elapsed().as_secs_f64());
    }
    let mut sends = Vec::new();
    for _ in 0..ROUNDS {
        let (kept, rate) = at_once(clients, 100 * scale, |mut client: Client, _| async move {
            client.send(&BODY).await;
            client
        })
        .await;
        clients = kept;
        sends.push(rate);
    }
    drop(clients);
    let patches_per_s = patches(cluster, 40 * scale).await;
    Ours {
        sends: Rate::middle(&sends),
        cycles_per_s: median(cycle_rates),
        patches_per_s,
        own_cpu: cpu(std::process::id()) - own,
    }
}

/// Conditional updates a second, each client on a patient of its own.
async fn patches(cluster: &Cluster, rounds: u64) -> f64 {
    let ids = cluster.ids();
    let mut workers = Vec::new();
    for number in 0..AT_ONCE {
        let mut worker = cluster.worker(ids[number % ids.len()]);
        let made = worker.create(&person(number)).await;
        let id = made.ok(201).id().to_owned();
        workers.push((worker, id, 1_u32));
    }
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let (kept, rate) = at_once(
            workers,
            rounds,
            |(mut worker, id, version): (pds::Client, String, u32), round| async move {
                let change = json!([{"op": "add", "path": "/multipleBirthInteger", "value": round % 9 + 1}]);
                let changed = worker.patch(&id, version, &change).await;
                let version = changed.ok(200).version();
                (worker, id, version)
            },
        )
        .await;
        workers = kept;
        rates.push(rate.per_s);
    }
    median(rates)
}

fn person(number: usize) -> serde_json::Value {
    let letters: String = (0..12).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
    json!({
        "resourceType": "Patient",
        "name": [{"use": "usual", "given": [format!("G{letters}")], "family": format!("F{letters}"), "period": {"start": "2012-01-01"}}],
        "gender": "female",
        "birthDate": format!("19{:02}-01-01", 30 + number % 60),
        "address": [{"use": "home", "line": ["1 High Street", "Leeds"], "postalCode": "LS1 1AA", "period": {"start": "2020-01-01"}}],
        "extension": [{"url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-RegisteringAuthority", "extension": [
            {"url": "registeringAuthorityType", "valueCodeableConcept": {"coding": [
                {"system": "https://fhir.nhs.uk/CodeSystem/UKCore-RegisteringAuthorityType", "code": "x"}]}},
            {"url": "organisationIdentifier", "valueString": "RGS"}]}],
    })
}

async fn etcd() -> Rate {
    let scale = number_from("VERTEBRA_BENCH_SCALE", 1);
    let trio = trios::etcd();
    let mut clients = Vec::new();
    for number in 0..AT_ONCE {
        clients.push((Etcd::open(trio.ports[number % 3]).await, number));
    }
    let mut rates = Vec::new();
    for _ in 0..=ROUNDS {
        let (kept, rate) = at_once(
            clients,
            100 * scale,
            |(mut client, number): (Etcd, usize), round| async move {
                client.put(format!("k{number}/{round}").as_bytes(), &BODY).await;
                (client, number)
            },
        )
        .await;
        clients = kept;
        rates.push(rate);
    }
    // The first one warms up.
    Rate::middle(&rates[1..])
}

/// The same through our log: as many clients, and then one that has as many on their way, as RabbitMQ's publisher has.
async fn puts() -> (Rate, Rate) {
    let scale = number_from("VERTEBRA_BENCH_SCALE", 1);
    let trio = commands::ours().await;
    let mut clients = Vec::new();
    for number in 0..AT_ONCE {
        clients.push((commands::Client::open(trio.ports[number % 3]).await, number));
    }
    let mut rates = Vec::new();
    for _ in 0..=ROUNDS {
        let (kept, rate) = at_once(
            clients,
            100 * scale,
            |(mut client, number): (commands::Client, usize), round| async move {
                client.put(format!("k{number}/{round}").as_bytes(), &BODY).await;
                (client, number)
            },
        )
        .await;
        clients = kept;
        rates.push(rate);
    }
    drop(clients);
    let mut one = commands::Client::open(trio.ports[0]).await;
    let mut windowed = Vec::new();
    for _ in 0..=ROUNDS {
        let started = Instant::now();
        let took = one.put_many(&BODY, 6_400 * scale as usize, AT_ONCE).await;
        windowed.push(Rate::of(took, started.elapsed()));
    }
    (Rate::middle(&rates[1..]), Rate::middle(&windowed[1..]))
}

async fn rabbitmq() -> Rate {
    let scale = number_from("VERTEBRA_BENCH_SCALE", 1);
    let trio = trios::rabbitmq();
    let mut publisher = Publisher::open(trio.ports[0], "bench").await;
    let mut rates = Vec::new();
    for _ in 0..=ROUNDS {
        let started = Instant::now();
        let took = publisher.publish(&BODY, 6_400 * scale, AT_ONCE).await;
        rates.push(Rate::of(took, started.elapsed()));
    }
    Rate::middle(&rates[1..])
}

/// Ours with one voter and with three, then etcd, then RabbitMQ: one after the other, because each needs the whole machine.
pub async fn measure() -> Vec<Row> {
    let one = {
        let cluster = Cluster::new("bench-one")
            .alone()
            .with_configuration("")
            .formed(&SITES[..1])
            .await;
        ours(&cluster).await
    };
    let three = {
        let cluster = Cluster::new("bench-three").with_configuration("").formed(&SITES).await;
        ours(&cluster).await
    };
    let (puts, windowed) = puts().await;
    let etcd = etcd().await;
    let rabbit = rabbitmq().await;
    let row = |measure: &str, ours: String, peer: String, figure: f64, unit, least, aim| Row {
        measure: measure.to_owned(),
        ours,
        peer,
        figure,
        unit,
        least,
        aim,
        own_cpu: three.own_cpu,
    };
    let least = Bound::AtLeast;
    let most = Bound::AtMost;
    let commands = "1 KB commands/s, durable on a majority of three, 64 clients, no TLS to clients";
    let told = |text: &str| text.to_owned();
    vec![
        row(
            "MESH cycles/s, three voters ÷ one",
            format!("{:.0}/s", three.cycles_per_s),
            format!("one voter {:.0}/s", one.cycles_per_s),
            three.cycles_per_s / one.cycles_per_s,
            "×",
            least(0.4),
            least(0.6),
        ),
        row(
            "PATCH/s, three voters ÷ one",
            format!("{:.0}/s", three.patches_per_s),
            format!("one voter {:.0}/s", one.patches_per_s),
            three.patches_per_s / one.patches_per_s,
            "×",
            least(0.4),
            least(0.6),
        ),
        row(
            commands,
            puts.text(),
            format!("RabbitMQ quorum queue, confirms, window 64: {}", rabbit.text()),
            puts.per_s / rabbit.per_s,
            "×",
            least(3.0),
            least(10.0),
        ),
        row(
            "the same from one client with a window of 64",
            windowed.text(),
            format!("RabbitMQ, as above: {}", rabbit.text()),
            windowed.per_s / rabbit.per_s,
            "×",
            Bound::Told,
            Bound::Told,
        ),
        row(
            commands,
            puts.text(),
            format!("etcd 3.4, put: {}", etcd.text()),
            puts.per_s / etcd.per_s,
            "×",
            least(2.0),
            least(5.0),
        ),
        row(
            "commit latency p50",
            told("as above"),
            told("etcd, as above"),
            puts.p50 / etcd.p50,
            "×",
            most(1.0),
            most(0.5),
        ),
        row(
            "commit latency p99",
            told("as above"),
            told("etcd, as above"),
            puts.p99 / etcd.p99,
            "×",
            most(1.0),
            most(0.5),
        ),
        row(
            "1 KB MESH messages/s, audited, over mTLS, three voters, 64 clients",
            three.sends.text(),
            format!("etcd 3.4, put of 1 KB, no TLS: {}", etcd.text()),
            three.sends.per_s / etcd.per_s,
            "×",
            Bound::Told,
            Bound::Told,
        ),
    ]
}
