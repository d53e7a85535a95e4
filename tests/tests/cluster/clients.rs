//! Clients whose every operation is noted: they change records on condition of the version, and send, list, download and
//! acknowledge messages, on whichever node answers.

use crate::{PATIENCE, age_s, ask_for_newcomer, renamed, value};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vertebra_tests::books::digest;
use vertebra_tests::cluster::{Cluster, WAIT_MAX};
use vertebra_tests::history::{Did, Entry, Got, MailOp, RecordOp, Recorder, StaleRead, Told};
use vertebra_tests::mesh::{Mailbox, V2, WORKFLOW, message_id, strings};
use vertebra_tests::pds::{BASE, Client, JSON_PATCH, Reply, request_id};

/// Patients and mailboxes of a history, and clients of each.
const PATIENTS: u32 = 2;
const MAILBOXES: u32 = 2;
const CLIENTS_EACH: u32 = 2;
/// At most so many nodes come while a history is made, with the next numbers.
const NEWCOMERS: u64 = 12;
/// Between two operations of a client.
const PAUSE_MS: std::ops::Range<u64> = 5..40;

/// What was done with a mailbox, before it is known which identifier is which message.
enum Raw {
    List(Vec<String>),
    Download(String, u16, String),
    Acknowledge(String),
}

/// What the clients of one history share.
pub struct Notes {
    recorder: Recorder,
    raw: Mutex<Vec<(Entry, u32, Raw)>>,
    /// Number and digest of each message, by its identifier.
    sent: Mutex<HashMap<String, (usize, String)>>,
    next_message: AtomicUsize,
    next_value: AtomicU32,
    /// Which life each node is in, those included that may come.
    lives: HashMap<u64, AtomicU32>,
    /// So many µs in all was the clock of each set forward.
    set_forward_us: HashMap<u64, AtomicI64>,
    /// The nodes that clients turn to.
    open: Mutex<Vec<u64>>,
    /// No new operations; those that are under way are brought to an end.
    stop: AtomicBool,
}

/// The clients of one history.
pub struct Clients {
    /// What they noted.
    pub notes: Arc<Notes>,
    tasks: Vec<JoinHandle<()>>,
}

/// Doors to all nodes, of which one is used until it fails.
struct Doors<T> {
    doors: BTreeMap<u64, T>,
    notes: Arc<Notes>,
    at: usize,
}

impl<T> Doors<T> {
    fn new(notes: &Arc<Notes>, first: u32, door: impl Fn(u64) -> T) -> Doors<T> {
        Doors {
            doors: notes.lives.keys().map(|&id| (id, door(id))).collect(),
            notes: notes.clone(),
            at: usize::try_from(first).expect("few clients"),
        }
    }

    fn now(&mut self) -> (u64, &mut T) {
        let id = self.notes.open(|open| open[self.at % open.len()]);
        (
            id,
            self.doors
                .get_mut(&id)
                .expect("no more nodes come than were reckoned with"),
        )
    }
}

impl Clients {
    /// Makes patients and mailboxes of their own, and starts.
    pub async fn start(cluster: &Cluster, name: &str, random: &mut StdRng) -> Clients {
        let ids = cluster.ids();
        let through = ids[0];
        let newest = *ids.last().expect("there are nodes");
        let reckoned = ids.iter().copied().chain(newest + 1..=newest + NEWCOMERS);
        let set_forward_us = reckoned.clone().map(|id| (id, AtomicI64::new(0))).collect();
        let notes = Arc::new(Notes {
            recorder: Recorder::default(),
            raw: Mutex::default(),
            sent: Mutex::default(),
            next_message: AtomicUsize::new(0),
            next_value: AtomicU32::new(100),
            lives: reckoned.map(|id| (id, AtomicU32::new(1))).collect(),
            set_forward_us,
            open: Mutex::new(ids),
            stop: AtomicBool::new(false),
        });
        let mut clients = Clients {
            notes,
            tasks: Vec::new(),
        };
        let mut number = 0;
        for patient in 0..PATIENTS {
            let asked = Instant::now();
            let (call_us, made) = loop {
                let call_us = clients.notes.recorder.now_us();
                let reply = ask_for_newcomer(&mut cluster.worker(through), patient + 1).await;
                // Seen now and then, and not explained yet: perhaps a clock that was just set right is not trusted so soon.
                if reply.status() != 503 || asked.elapsed() > WAIT_MAX {
                    break (call_us, reply);
                }
                println!("the cluster takes nobody yet: {}", reply.answer.text());
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            assert_eq!((made.ok(201).version(), value(&made.json)), (1, patient + 1));
            let began = Did::Record(
                patient,
                RecordOp::Began {
                    version: 1,
                    value: patient + 1,
                },
            );
            clients.notes.recorder.answered(0, through, call_us, began);
            for _ in 0..CLIENTS_EACH {
                number += 1;
                let worker = Worker {
                    client: number,
                    patient,
                    nhs_number: made.id().to_owned(),
                    doors: Doors::new(&clients.notes, number, |id| cluster.worker(id)),
                    seen: (1, made.json.clone()),
                    notes: clients.notes.clone(),
                    random: StdRng::seed_from_u64(random.random()),
                };
                clients.tasks.push(tokio::spawn(worker.run()));
            }
        }
        for mailbox in 0..MAILBOXES {
            let id_of = format!("X26{name}M{mailbox}").to_uppercase();
            cluster.add_mailboxes(through, &[&id_of]).await;
            for _ in 0..CLIENTS_EACH {
                number += 1;
                let owner = Owner {
                    client: number,
                    mailbox,
                    id: id_of.clone(),
                    doors: Doors::new(&clients.notes, number, |id| cluster.mailbox(id, &id_of)),
                    waiting: Vec::new(),
                    notes: clients.notes.clone(),
                    random: StdRng::seed_from_u64(random.random()),
                };
                clients.tasks.push(tokio::spawn(owner.run()));
            }
        }
        clients
    }

    /// Brings what is under way to an end, which takes a cluster that serves; gives the history.
    pub async fn finish(self) -> Vec<Entry> {
        self.notes.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no client panics");
        }
        self.notes.history()
    }
}

impl Notes {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn life(&self, node: u64) -> u32 {
        self.lives[&node].load(Ordering::Relaxed)
    }

    /// A node is about to be started again.
    pub fn begins_anew(&self, node: u64) {
        self.lives[&node].fetch_add(1, Ordering::Relaxed);
    }

    /// The clock of a node is about to be set so many ms forward.
    pub fn sets_forward(&self, node: u64, by_ms: i64) {
        self.set_forward_us[&node].fetch_add(by_ms * 1_000, Ordering::Relaxed);
    }

    fn open<T>(&self, what: impl FnOnce(&mut Vec<u64>) -> T) -> T {
        what(&mut self.open.lock().expect("no client panics while it looks for a door"))
    }

    /// Clients turn to this node too from now on.
    pub fn opens(&self, node: u64) {
        self.open(|open| open.push(node));
    }

    /// Clients turn to this node no more.
    pub fn closes(&self, node: u64) {
        self.open(|open| open.retain(|id| *id != node));
    }

    fn raw(&self, client: u32, node: u64, call_us: i64, mailbox: u32, raw: Raw) {
        let entry = Entry {
            client,
            node,
            call_us,
            return_us: Some(self.recorder.now_us()),
            did: Did::Mail(
                mailbox,
                MailOp::List {
                    waiting: Vec::new(),
                    strangers: 0,
                },
            ),
        };
        let mut all = self.raw.lock().expect("no client panics while it notes something");
        all.push((entry, mailbox, raw));
    }

    /// Everything, with messages by their numbers: all are known by now.
    fn history(&self) -> Vec<Entry> {
        let sent = self.sent.lock().expect("no client panics while it notes something");
        let mut entries = self.recorder.entries();
        for (entry, mailbox, raw) in self.raw.lock().expect("the clients have ended").drain(..) {
            let number = |id: &String| sent.get(id).map(|(number, _)| *number);
            // What nobody sent is a stranger, whatever was done with it.
            let stranger = MailOp::List {
                waiting: Vec::new(),
                strangers: 1,
            };
            let op = match &raw {
                Raw::List(ids) => {
                    let waiting: Vec<usize> = ids.iter().filter_map(number).collect();
                    let strangers = ids.len() - waiting.len();
                    MailOp::List { waiting, strangers }
                }
                Raw::Download(id, status, content) => match (sent.get(id), status) {
                    (None, _) => stranger,
                    (Some((message, _)), 410) => MailOp::Download {
                        message: *message,
                        got: Got::Gone,
                    },
                    (Some((message, _)), 404) => MailOp::Download {
                        message: *message,
                        got: Got::Missing,
                    },
                    (Some((message, right)), _) => {
                        let got = if content == right { Got::Content } else { Got::Other };
                        MailOp::Download { message: *message, got }
                    }
                },
                Raw::Acknowledge(id) => match number(id) {
                    None => stranger,
                    Some(message) => MailOp::Acknowledge {
                        message,
                        answered: true,
                    },
                },
            };
            entries.push(Entry {
                did: Did::Mail(mailbox, op),
                ..entry
            });
        }
        entries
    }
}

/// One that reads and changes a patient's record.
struct Worker {
    client: u32,
    patient: u32,
    nhs_number: String,
    doors: Doors<Client>,
    /// The newest version it has seen, and what it said.
    seen: (u32, Value),
    notes: Arc<Notes>,
    random: StdRng,
}

impl Worker {
    async fn run(mut self) {
        while !self.notes.stopped() {
            if self.random.random_ratio(1, 2) {
                self.read().await;
            } else {
                self.change().await;
            }
            // Clients roam.
            self.doors.at += usize::from(self.random.random_ratio(1, 8));
            tokio::time::sleep(Duration::from_millis(self.random.random_range(PAUSE_MS))).await;
        }
        self.read().await;
    }

    async fn read(&mut self) {
        let path = format!("{BASE}/Patient/{}", self.nhs_number);
        let call_us = self.notes.recorder.now_us();
        let (node, door) = self.doors.now();
        let life = self.notes.life(node);
        let Ok(Ok(reply)) = timeout(PATIENCE, door.try_call("GET", &path, &[], b"")).await else {
            self.doors.at += 1;
            return;
        };
        if reply.status() == 503 {
            self.doors.at += 1;
            return;
        }
        assert_eq!(reply.status(), 200, "{}", reply.answer.text());
        let (version, value) = (reply.version(), value(&reply.json));
        let did = match age_s(&reply.answer) {
            None => Did::Record(self.patient, RecordOp::Read { version, value }),
            Some(age_s) => Did::Stale(StaleRead {
                patient: self.patient,
                version,
                value,
                age_s,
                life,
                set_forward_us: self.notes.set_forward_us[&node].load(Ordering::Relaxed),
            }),
        };
        self.notes.recorder.answered(self.client, node, call_us, did);
        if version > self.seen.0 {
            self.seen = (version, reply.json);
        }
    }

    /// One change, repeated under its identifier until it has an answer.
    async fn change(&mut self) {
        let (expected, record) = self.seen.clone();
        let to = self.notes.next_value.fetch_add(1, Ordering::Relaxed);
        let (request, tag) = (request_id(), format!("W/\"{expected}\""));
        let headers = [
            ("X-Request-ID", request.as_str()),
            ("If-Match", tag.as_str()),
            JSON_PATCH,
        ];
        let body = serde_json::json!({"patches": renamed(&record, to)}).to_string();
        let path = format!("{BASE}/Patient/{}", self.nhs_number);
        let call_us = self.notes.recorder.now_us();
        let mut tries = Tries::new(&self.notes);
        loop {
            let (node, door) = self.doors.now();
            let call = door.try_call("PATCH", &path, &headers, body.as_bytes());
            let reply: Option<Reply> = timeout(PATIENCE, call).await.ok().and_then(Result::ok);
            let told = match reply.as_ref().map(Reply::status) {
                Some(200) => Told::Stored(reply.as_ref().map_or(0, Reply::version)),
                Some(409) => Told::Mismatch,
                None | Some(503) => {
                    self.doors.at += 1;
                    if tries.again().await {
                        continue;
                    }
                    Told::Nothing
                }
                Some(other) => panic!(
                    "a change was answered {other}: {:?}",
                    reply.map(|reply| reply.answer.text())
                ),
            };
            let did = Did::Record(
                self.patient,
                RecordOp::Change {
                    expected,
                    value: to,
                    told,
                },
            );
            match told {
                Told::Nothing => self.notes.recorder.unanswered(self.client, node, call_us, did),
                Told::Stored(_) | Told::Mismatch => self.notes.recorder.answered(self.client, node, call_us, did),
            }
            match (told, reply) {
                (Told::Stored(version), Some(reply)) if version > self.seen.0 => self.seen = (version, reply.json),
                (Told::Mismatch, _) => self.read().await,
                _ => {}
            }
            return;
        }
    }
}

/// Tries of one operation: without end while the faults go on, for so long after that.
struct Tries {
    notes: Arc<Notes>,
    left_after_stop: u32,
}

impl Tries {
    fn new(notes: &Arc<Notes>) -> Tries {
        Tries {
            notes: notes.clone(),
            left_after_stop: 200,
        }
    }

    async fn again(&mut self) -> bool {
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.left_after_stop -= u32::from(self.notes.stopped());
        self.left_after_stop > 0
    }
}

/// One that sends to its own mailbox, and collects from it.
struct Owner {
    client: u32,
    mailbox: u32,
    id: String,
    doors: Doors<Mailbox>,
    /// What it saw waiting last.
    waiting: Vec<String>,
    notes: Arc<Notes>,
    random: StdRng,
}

impl Owner {
    async fn run(mut self) {
        while !self.notes.stopped() {
            match self.random.random_range(0..10) {
                0..4 => self.send().await,
                4..7 => self.list().await,
                7 => self.download().await,
                _ => self.acknowledge().await,
            }
            self.doors.at += usize::from(self.random.random_ratio(1, 8));
            tokio::time::sleep(Duration::from_millis(self.random.random_range(PAUSE_MS))).await;
        }
        self.list().await;
    }

    async fn send(&mut self) {
        let message = self.notes.next_message.fetch_add(1, Ordering::Relaxed);
        let bytes = if self.random.random_ratio(1, 10) { 50_000 } else { 100 };
        let mut body = format!("message {message} ").into_bytes();
        body.resize(bytes, b'.');
        let local = message.to_string();
        let headers = [
            ("Mex-To", self.id.as_str()),
            ("Mex-WorkflowID", WORKFLOW),
            ("Mex-LocalID", &local),
        ];
        let call_us = self.notes.recorder.now_us();
        let mut tries = Tries::new(&self.notes);
        loop {
            let (node, door) = self.doors.now();
            let path = door.path("outbox");
            let call = door.try_call("POST", &path, &headers, &body);
            match timeout(PATIENCE, call).await {
                Ok(Ok(answer)) if answer.status == 202 => {
                    let mut sent = self
                        .notes
                        .sent
                        .lock()
                        .expect("no client panics while it notes something");
                    sent.insert(message_id(&answer), (message, digest(&body)));
                    let did = Did::Mail(
                        self.mailbox,
                        MailOp::Send {
                            message,
                            answered: true,
                        },
                    );
                    self.notes.recorder.answered(self.client, node, call_us, did);
                    return;
                }
                Ok(Ok(answer)) if answer.status != 503 => {
                    panic!("a message was answered {}: {}", answer.status, answer.text());
                }
                _ => {}
            }
            self.doors.at += 1;
            assert!(tries.again().await, "a healed cluster takes a message");
        }
    }

    async fn list(&mut self) {
        let call_us = self.notes.recorder.now_us();
        let (node, door) = self.doors.now();
        let path = door.path("inbox?max_results=5000");
        let call = door.try_call("GET", &path, &[("Accept", V2)], b"");
        match timeout(PATIENCE, call).await {
            Ok(Ok(answer)) if answer.status == 200 => {
                if age_s(&answer).is_none() {
                    self.waiting = strings(&answer.json()["messages"]);
                    let raw = Raw::List(self.waiting.clone());
                    self.notes.raw(self.client, node, call_us, self.mailbox, raw);
                }
            }
            Ok(Ok(answer)) if answer.status != 503 => {
                panic!("a listing was answered {}: {}", answer.status, answer.text())
            }
            _ => self.doors.at += 1,
        }
    }

    fn one_of_the_waiting(&mut self) -> Option<String> {
        let count = self.waiting.len();
        (count > 0).then(|| self.waiting[self.random.random_range(0..count)].clone())
    }

    async fn download(&mut self) {
        let Some(id) = self.one_of_the_waiting() else { return };
        let call_us = self.notes.recorder.now_us();
        let (node, door) = self.doors.now();
        let path = door.path(&format!("inbox/{id}"));
        match timeout(PATIENCE, door.try_call("GET", &path, &[], b"")).await {
            Ok(Ok(answer)) if matches!(answer.status, 200 | 404 | 410) => {
                if age_s(&answer).is_none() {
                    let raw = Raw::Download(id, answer.status, digest(&answer.body));
                    self.notes.raw(self.client, node, call_us, self.mailbox, raw);
                }
            }
            Ok(Ok(answer)) if answer.status != 503 => {
                panic!("a download was answered {}: {}", answer.status, answer.text())
            }
            _ => self.doors.at += 1,
        }
    }

    async fn acknowledge(&mut self) {
        let Some(id) = self.one_of_the_waiting() else { return };
        let call_us = self.notes.recorder.now_us();
        let mut tries = Tries::new(&self.notes);
        loop {
            let (node, door) = self.doors.now();
            let path = door.path(&format!("inbox/{id}/status/acknowledged"));
            match timeout(PATIENCE, door.try_call("PUT", &path, &[], b"")).await {
                Ok(Ok(answer)) if answer.status == 200 => {
                    let raw = Raw::Acknowledge(id);
                    self.notes.raw(self.client, node, call_us, self.mailbox, raw);
                    return;
                }
                Ok(Ok(answer)) if answer.status != 503 => {
                    panic!("an acknowledgement was answered {}: {}", answer.status, answer.text());
                }
                _ => {}
            }
            self.doors.at += 1;
            assert!(tries.again().await, "a healed cluster takes an acknowledgement");
        }
    }
}
