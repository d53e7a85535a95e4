//! Redis beside a cluster, as clients and operators see it: shared while it answers, missed by nobody while it does not.
//! Real redis-server and Sentinel from Debian's packages, three real members in front.
//!
//! What takes minutes is `#[ignore]`d and part of `make soak`.

mod failing;
mod sentinel;
mod sharing;

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;
use vertebra_tests::mesh::{WORKFLOW, strings};
use vertebra_tests::node::{Folder, Node, binary};
use vertebra_tests::redis::Redis;
use vertebra_tests::tokens::Application;
use vertebra_tests::wire::{Connection, Target};

/// Members of every cluster here.
const MEMBERS: usize = 3;
/// Longest wait until something shows: it only catches hangs.
const SHOW_WAIT_MAX: Duration = Duration::from_secs(60);
/// Slowest answer that a client may get whatever Redis does: a hang, not a slow disk.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(20);
/// What no log may hold.
const SECRET: &str = "not-a-secret-either";

/// Each member locks memory for its rings, of which a user may have little: one cluster at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// A cluster beside a Redis.
struct Site {
    node: Node,
    redis: Redis,
    _folder: Folder,
    _turn: MutexGuard<'static, ()>,
}

impl Site {
    /// Starts a cluster beside `redis`, and waits until every member asks it.
    async fn start(redis: Redis) -> Site {
        let turn = TURN.lock().await;
        let folder = Folder::new("beside-redis");
        let mut arguments = vec!["--members".to_owned(), MEMBERS.to_string()];
        arguments.extend(redis.arguments());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let node = Node::start_with(&folder.path().join("data"), &arguments);
        let site = Site {
            node,
            redis,
            _folder: folder,
            _turn: turn,
        };
        site.await_up().await;
        site
    }

    fn config(&self, member: usize) -> String {
        let config = self.node.sandbox["members"][member]["config"].as_str();
        config.expect("every member has a file").to_owned()
    }

    /// Runs `vertebra` against a member; a load on the same thread goes on meanwhile.
    async fn run(&self, member: usize, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).args(["--config", &self.config(member)]);
        let run = tokio::task::spawn_blocking(move || command.output().expect("the binary starts"));
        run.await.expect("a command that ends")
    }

    /// What it prints.
    async fn said(&self, member: usize, arguments: &[&str]) -> String {
        String::from_utf8_lossy(&self.run(member, arguments).await.stdout).into_owned()
    }

    /// Waits until the command says all of `wanted`.
    async fn await_said(&self, member: usize, arguments: &[&str], wanted: &[&str]) {
        let started = Instant::now();
        loop {
            let text = self.said(member, arguments).await;
            if wanted.iter().all(|part| text.contains(part)) {
                return;
            }
            assert!(
                started.elapsed() < SHOW_WAIT_MAX,
                "waited in vain for {wanted:?}: {text}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A member's status.
    async fn status(&self, member: usize) -> Value {
        let text = self.said(member, &["status", "--json"]).await;
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("status is JSON: {text}"))
    }

    /// Waits until every member sees of Redis what `holds`.
    async fn await_each(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let started = Instant::now();
        for member in 0..MEMBERS {
            loop {
                let redis = self.status(member).await["redis"].take();
                if holds(&redis) {
                    break;
                }
                assert!(
                    started.elapsed() < SHOW_WAIT_MAX,
                    "waited in vain until {what}: {redis}"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn await_up(&self) {
        self.await_each("Redis is asked", |redis| redis["state"] == "up").await;
    }

    async fn await_not_up(&self) {
        self.await_each("Redis is not asked", |redis| redis["state"] != "up")
            .await;
    }

    /// No member thinks worse of itself for Redis: nobody restarts or rolls back for want of it.
    async fn check_healthy(&self) {
        for member in 0..MEMBERS {
            let status = self.status(member).await;
            assert_ne!(status["state"], "cannot_write", "{status}");
            assert!(!status["reasons"].to_string().contains("Redis"), "{status}");
        }
    }

    /// Tokens that a member judged alone, because Redis did not answer in time or was not asked.
    async fn judged_alone(&self, member: usize) -> u64 {
        let port = self.node.port + 10 + member as u16;
        let target = Target {
            address: ([127, 0, 0, 1], port).into(),
            host: "localhost".into(),
            tls: None,
        };
        let mut connection = Connection::open(&target).await.expect("a member shows its figures");
        let headers = [("Host", "localhost"), ("Connection", "close")];
        let page = connection
            .exchange("GET", "/metrics", &headers, b"")
            .await
            .expect("a page");
        let page = page.text();
        let counted = page
            .lines()
            .find_map(|line| line.strip_prefix("vertebra_redis_nonces_total{answer=\"none\"} "));
        counted
            .and_then(|text| text.parse().ok())
            .expect("the page counts them")
    }

    /// Uses a token for a read through a member, which must answer it, and tells whether Redis was asked.
    async fn spend(&self, member: usize) -> (String, bool) {
        let before = self.judged_alone(member).await;
        let token = self.token();
        assert_eq!(self.read(member, &token).await, 200);
        let asked = self.judged_alone(member).await == before;
        (token, asked)
    }

    /// A token that was used through a member and claimed in Redis. On a busy machine an answer may come too late.
    async fn claimed(&self, member: usize) -> String {
        let started = Instant::now();
        loop {
            self.await_up().await;
            let (token, asked) = self.spend(member).await;
            if asked {
                return token;
            }
            assert!(started.elapsed() < SHOW_WAIT_MAX, "Redis answers in time now and then");
        }
    }

    /// Whether the token is refused by another member; `None` when Redis was not asked, which on a busy machine happens.
    async fn refused_by(&self, member: usize, token: &str) -> Option<bool> {
        let before = self.judged_alone(member).await;
        let status = self.read(member, token).await;
        let asked = self.judged_alone(member).await == before;
        match status {
            403 => Some(true),
            200 if asked => Some(false),
            200 => None,
            other => panic!("a read is answered {other}"),
        }
    }

    /// A read's token is good once for all members.
    async fn check_shared(&self) {
        let started = Instant::now();
        loop {
            let token = self.claimed(0).await;
            match self.refused_by(1, &token).await {
                Some(refused) => {
                    assert!(refused, "what one member took another refuses");
                    return;
                }
                None => assert!(started.elapsed() < SHOW_WAIT_MAX, "Redis answers in time now and then"),
            }
        }
    }

    /// Status of a read of the first mailbox's inbox with this token through a member.
    async fn read(&self, member: usize, token: &str) -> u16 {
        let mut mailbox = self.node.mailbox_through(member, 0);
        let path = mailbox.path("inbox");
        let answer = mailbox.try_call("GET", &path, &[("Authorization", token)], b"").await;
        answer.expect("an answer").status
    }

    /// The same of a message to the third mailbox.
    async fn write(&self, member: usize, token: &str) -> u16 {
        let mut mailbox = self.node.mailbox_through(member, 0);
        let path = mailbox.path("outbox");
        let headers = [
            ("Authorization", token),
            ("Mex-To", "X26ABC3"),
            ("Mex-WorkflowID", WORKFLOW),
        ];
        let answer = mailbox.try_call("POST", &path, &headers, b"once").await;
        answer.expect("an answer").status
    }

    fn token(&self) -> String {
        self.node.credentials(0).token()
    }

    /// What must hold whatever Redis does: a read's token is good once on its node, a write's and an assertion once at all.
    async fn check_single_use(&self) {
        let (token, _) = self.spend(0).await;
        assert_eq!(self.read(0, &token).await, 403, "the same node knows it");
        assert!([200, 403].contains(&self.read(1, &token).await));
        assert_eq!(self.read(1, &token).await, 403, "now that one knows it too");

        let token = self.token();
        assert_eq!(self.write(1, &token).await, 202);
        for member in 0..MEMBERS {
            assert_eq!(self.write(member, &token).await, 403, "no write is replayed");
            assert_eq!(self.read(member, &token).await, 403, "nor is its token good for a read");
        }

        let application = Application::of(&self.node.sandbox);
        let assertion = application.assertion();
        let ask = async |member: usize| {
            let target = self.node.target_through(member, None);
            application.ask(&target, &assertion).await.status
        };
        assert_eq!(ask(2).await, 200);
        for member in 0..MEMBERS {
            assert_eq!(ask(member).await, 400, "no assertion is taken twice");
        }
    }

    /// While nobody asks Redis each member knows its own tokens alone, and nobody waits for it.
    async fn check_alone(&self) {
        let (token, asked) = self.spend(0).await;
        assert!(!asked, "Redis is not asked");
        assert_eq!(self.refused_by(1, &token).await, None, "the other member judges alone");
        self.check_single_use().await;
        self.check_healthy().await;
    }

    /// It is asked again, and what is shared is.
    async fn check_back(&self) {
        self.await_up().await;
        self.check_shared().await;
        self.check_single_use().await;
    }

    /// No log of a member holds a password or a token.
    fn check_logs(&self) {
        for member in 0..MEMBERS {
            let name = self.node.sandbox["members"][member]["name"].as_str().expect("a name");
            let log = std::fs::read_to_string(self.node.data.join(format!("{name}.log"))).expect("a member has a log");
            for leaked in [SECRET, "NHSMESH X26", "vertebra:n:", "another-password"] {
                assert!(!log.contains(leaked), "the log of {name} holds {leaked}");
            }
        }
    }
}

/// Writes and reads through all members until it is stopped; each must be answered as it should, in time.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    tasks: Vec<JoinHandle<(Vec<String>, Duration)>>,
}

impl Load {
    fn start(site: &Site) -> Load {
        let mut load = Load {
            stop: Arc::default(),
            answered: Arc::default(),
            tasks: Vec::new(),
        };
        for member in 0..MEMBERS {
            let (stop, answered) = (load.stop.clone(), load.answered.clone());
            let mut sender = site.node.mailbox_through(member, 0);
            let mut reader = site.node.mailbox_through(member, 2);
            load.tasks.push(tokio::spawn(async move {
                let (mut sent, mut slowest) = (Vec::new(), Duration::ZERO);
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let answer = reader.call("GET", "inbox?max_results=10", &[], b"").await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    let read = began.elapsed();
                    sent.push(sender.send("X26ABC2", WORKFLOW, &[], b"under load").await);
                    slowest = slowest.max(read).max(began.elapsed().saturating_sub(read));
                    answered.fetch_add(2, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                (sent, slowest)
            }));
        }
        load
    }

    /// Waits until so many calls more were answered.
    async fn await_answered(&self, count: u32) {
        let (started, goal) = (Instant::now(), self.answered.load(Ordering::Relaxed) + count);
        while self.answered.load(Ordering::Relaxed) < goal {
            assert!(started.elapsed() < SHOW_WAIT_MAX, "the load goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it: each message that was acknowledged is in the inbox, once.
    async fn stop(self, site: &Site) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut sent, mut slowest) = (BTreeSet::new(), Duration::ZERO);
        for task in self.tasks {
            let (messages, slow) = task.await.expect("every call of the load succeeds");
            sent.extend(messages);
            slowest = slowest.max(slow);
        }
        println!("{} messages, the slowest answer after {slowest:?}", sent.len());
        assert!(slowest < ANSWER_WAIT_MAX, "a client waited {slowest:?}");
        let inbox = site.node.mailbox_through(1, 1).inbox().await;
        assert_eq!(inbox.len(), sent.len(), "no message is lost, none is there twice");
        assert_eq!(inbox.into_iter().collect::<BTreeSet<_>>(), sent);
    }
}

/// The names of the nodes that are seen in Redis.
fn seen(redis: &Value) -> Vec<String> {
    let nodes = redis["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    strings(&Value::from_iter(nodes.iter().map(|node| node["name"].clone())))
}
