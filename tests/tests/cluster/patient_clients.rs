//! Clients that stay with their node and send again only what HTTP lets them (RFC 9110, 9.2.2 and 15.6.4): what was surely
//! not sent, idempotent requests, and what was answered 503 with Retry-After. Everything else counts as failed.

use crate::{family, newcomer};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use vertebra_tests::cluster::Cluster;
use vertebra_tests::mesh::{Credentials, V2, WORKFLOW, message_id, strings};
use vertebra_tests::pds::{BASE, request_id};
use vertebra_tests::wire::{Answer, Connection, Target};

/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(15);
/// So long a client goes on trying.
const GIVE_UP: Duration = Duration::from_secs(30);
/// What it waits before it tries again where nobody says how long.
const AGAIN: Duration = Duration::from_millis(50);

/// What the clients of one load counted.
#[derive(Default)]
pub struct Counts {
    /// Requests that were answered as they should.
    pub answered: AtomicU64,
    /// Attempts again because there was no connection.
    pub not_sent: AtomicU64,
    /// Attempts again of idempotent requests whose connection was lost.
    pub lost: AtomicU64,
    /// Attempts again after 503 with Retry-After.
    pub refused: AtomicU64,
    /// The longest that one request took, attempts included, ms.
    pub longest_ms: AtomicU64,
    failed: Mutex<Vec<String>>,
}

impl Counts {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn fail(&self, what: String) {
        self.failed.lock().expect("no client panics while it counts").push(what);
    }

    /// What failed, one sentence each.
    pub fn failed(&self) -> Vec<String> {
        self.failed.lock().expect("no client panics while it counts").clone()
    }

    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// For people.
    pub fn text(&self) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{} requests answered, {} failed, retried: {} not sent, {} idempotent and lost, {} told to come again; the \
             longest took {} ms",
            count(&self.answered),
            self.failed().len(),
            count(&self.not_sent),
            count(&self.lost),
            count(&self.refused),
            count(&self.longest_ms)
        )
    }
}

/// One client: its node, its connection, what it shows of itself.
struct Caller {
    target: Target,
    connection: Option<Connection>,
    mailbox: Option<Credentials>,
    token: String,
    counts: Arc<Counts>,
}

type Headers<'a> = &'a [(&'a str, &'a str)];

impl Caller {
    /// A request with all the attempts that HTTP allows; `None`: it failed, and is counted.
    async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: Headers<'_>,
        body: &[u8],
        right: u16,
    ) -> Option<Answer> {
        let began = Instant::now();
        let mut why = String::new();
        while began.elapsed() < GIVE_UP {
            let connection = match self.connection.take() {
                Some(connection) => Ok(connection),
                None => Connection::open(&self.target).await,
            };
            let Ok(mut connection) = connection else {
                Counts::add(&self.counts.not_sent);
                "no connection".clone_into(&mut why);
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            // Every attempt shows a token of its own, as the interface asks.
            let token = match &self.mailbox {
                Some(credentials) => credentials.token(),
                None => format!("Bearer {}", self.token),
            };
            let mut all = vec![("Host", self.target.host.as_str()), ("Authorization", token.as_str())];
            all.extend_from_slice(headers);
            match connection.exchange(method, path, &all, body).await {
                Ok(answer) if answer.status == right => {
                    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    self.counts.longest_ms.fetch_max(took_ms, Ordering::Relaxed);
                    Counts::add(&self.counts.answered);
                    if !answer.closes() {
                        self.connection = Some(connection);
                    }
                    return Some(answer);
                }
                Ok(answer) if answer.status == 503 && answer.header("retry-after").is_some() => {
                    Counts::add(&self.counts.refused);
                    why = answer.text();
                    let wait = answer.header("retry-after").and_then(|text| text.parse().ok());
                    tokio::time::sleep(wait.map_or(AGAIN, Duration::from_secs)).await;
                }
                Ok(answer) => {
                    self.counts
                        .fail(format!("{method} {path}: {} {}", answer.status, answer.text()));
                    return None;
                }
                Err(_) if matches!(method, "GET" | "PUT") => {
                    Counts::add(&self.counts.lost);
                    "connections were lost".clone_into(&mut why);
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => {
                    self.counts
                        .fail(format!("{method} {path} may or may not have been done: {error}"));
                    return None;
                }
            }
        }
        self.counts.fail(format!("{method} {path} in vain: {why}"));
        None
    }
}

/// Clients at work, some at each node.
pub struct Load {
    /// What they count.
    pub counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    senders: Vec<(String, JoinHandle<BTreeSet<String>>)>,
    workers: Vec<(String, JoinHandle<u32>)>,
}

impl Load {
    /// At each of these nodes one that sends and collects messages, and one that reads and changes a patient's record.
    pub async fn start(cluster: &Cluster, nodes: &[u64]) -> Load {
        let mut load = Load {
            counts: Arc::default(),
            stop: Arc::default(),
            senders: Vec::new(),
            workers: Vec::new(),
        };
        for &node in nodes {
            let (from, to) = (format!("X26ROLL{node}A"), format!("X26ROLL{node}B"));
            cluster.add_mailboxes(nodes[0], &[&from, &to]).await;
            let mailbox = cluster.mailbox(node, &from);
            let caller = load.caller(mailbox.target.clone(), Some(mailbox.credentials.clone()), String::new());
            load.senders
                .push((to.clone(), tokio::spawn(send(caller, to, load.stop.clone()))));
            let mut worker = cluster.worker(node);
            let made = newcomer(&mut worker, 1).await;
            let number = made.id().to_owned();
            let name = made.json["name"][0]["id"].as_str().unwrap_or_default().to_owned();
            let caller = load.caller(worker.target.clone(), None, worker.token.clone());
            let task = change(caller, number.clone(), name, load.stop.clone());
            load.workers.push((number, tokio::spawn(task)));
        }
        load
    }

    fn caller(&self, target: Target, mailbox: Option<Credentials>, token: String) -> Caller {
        Caller {
            target,
            connection: None,
            mailbox,
            token,
            counts: self.counts.clone(),
        }
    }

    /// Waits until so many more requests were answered.
    pub async fn goes_on(&self, cluster: &Cluster, requests: u64) {
        let (before, began) = (self.counts.answered(), Instant::now());
        while self.counts.answered() < before + requests {
            assert!(
                began.elapsed() < GIVE_UP * 2,
                "the load stands still: {}\n{}",
                self.counts.text(),
                cluster.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets everybody finish, and holds what they were told against what the nodes `through` which it is read say.
    pub async fn finish(self, cluster: &Cluster, through: u64) {
        self.stop.store(true, Ordering::Relaxed);
        for (to, task) in self.senders {
            let sent = task.await.expect("no client panics");
            let waiting: BTreeSet<String> = cluster.mailbox(through, &to).inbox().await.into_iter().collect();
            assert_eq!(
                waiting, sent,
                "the inbox of {to} holds what was acknowledged, no more and no less"
            );
        }
        for (number, task) in self.workers {
            let version = task.await.expect("no client panics");
            let reply = cluster.worker(through).read(&number).await;
            assert_eq!(
                reply.ok(200).version(),
                version,
                "every acknowledged change is there once"
            );
        }
    }
}

/// Sends to `to` and now and then lists what it has itself; gives what was acknowledged.
async fn send(mut caller: Caller, to: String, stop: Arc<AtomicBool>) -> BTreeSet<String> {
    let own = caller.mailbox.as_ref().expect("a mailbox's client").mailbox.clone();
    let mut acknowledged = BTreeSet::new();
    for number in 0u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let local = format!("{to}/{number}");
        let headers = [
            ("Accept", V2),
            ("Mex-To", to.as_str()),
            ("Mex-WorkflowID", WORKFLOW),
            ("Mex-LocalID", local.as_str()),
        ];
        let path = format!("/messageexchange/{own}/outbox");
        if let Some(answer) = caller.call("POST", &path, &headers, local.as_bytes(), 202).await {
            acknowledged.insert(message_id(&answer));
        }
        tokio::time::sleep(PAUSE).await;
        let path = format!("/messageexchange/{own}/inbox");
        if let Some(answer) = caller.call("GET", &path, &[("Accept", V2)], b"", 200).await {
            assert!(strings(&answer.json()["messages"]).is_empty(), "nobody sends to it");
        }
        tokio::time::sleep(PAUSE).await;
    }
    acknowledged
}

/// Reads a record and changes its first name, each time on condition of the version that it saw; gives the last version.
async fn change(mut caller: Caller, number: String, mut name: String, stop: Arc<AtomicBool>) -> u32 {
    let path = format!("{BASE}/Patient/{number}");
    let mut version = 1;
    while !stop.load(Ordering::Relaxed) {
        let request = request_id();
        if let Some(answer) = caller.call("GET", &path, &[("X-Request-ID", &request)], b"", 200).await {
            let record = answer.json();
            let seen = record["meta"]["versionId"]
                .as_str()
                .and_then(|text| text.parse::<u32>().ok());
            let aged = answer.header("vertebra-state-age").is_some();
            assert!(
                aged || seen == Some(version),
                "a current read is of version {version}, not {seen:?}"
            );
            record["name"][0]["id"]
                .as_str()
                .unwrap_or_default()
                .clone_into(&mut name);
        }
        tokio::time::sleep(PAUSE).await;
        let (request, tag) = (request_id(), format!("W/\"{version}\""));
        let headers = [
            ("X-Request-ID", request.as_str()),
            ("If-Match", tag.as_str()),
            ("Content-Type", "application/json-patch+json"),
        ];
        let body = json!({"patches": [
            {"op": "test", "path": "/name/0/id", "value": name},
            {"op": "replace", "path": "/name/0/family", "value": family(version + 1)},
        ]});
        if caller
            .call("PATCH", &path, &headers, body.to_string().as_bytes(), 200)
            .await
            .is_some()
        {
            version += 1;
        }
        tokio::time::sleep(PAUSE).await;
    }
    version
}
