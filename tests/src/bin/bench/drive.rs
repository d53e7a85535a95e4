//! Clients that drive load from one thread: connections that are kept, tokens for every request.

use std::future::Future;
use std::time::{Duration, Instant};
use vertebra_tests::mesh::{Credentials, V2, WORKFLOW, message_id};
use vertebra_tests::process::cpu;
use vertebra_tests::wire::{Answer, Connection, Target};

/// One client on one connection: it sends from `alice` and collects as `bob`.
pub struct Client {
    connection: Connection,
    host: String,
    alice: Credentials,
    bob: Credentials,
    inbox: &'static str,
}

impl Client {
    /// Connects; `inbox` is the query of its listing.
    pub async fn open(target: &Target, alice: &Credentials, bob: &Credentials, inbox: &'static str) -> Client {
        let connection = Connection::open(target).await.expect("the server accepts");
        Client {
            connection,
            host: target.host.clone(),
            alice: alice.clone(),
            bob: bob.clone(),
            inbox,
        }
    }

    async fn call(&mut self, who: bool, method: &str, rest: &str, extra: &[(&str, &str)], body: &[u8]) -> Answer {
        let credentials = if who { &self.alice } else { &self.bob };
        let path = format!("/messageexchange/{}/{rest}", credentials.mailbox);
        let token = credentials.token();
        let mut headers = vec![("Host", self.host.as_str()), ("Authorization", &token), ("Accept", V2)];
        headers.extend_from_slice(extra);
        let answer = self.connection.exchange(method, &path, &headers, body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path} got no answer: {error}"))
    }

    /// Sends; the identifier.
    pub async fn send(&mut self, body: &[u8]) -> String {
        let to = self.bob.mailbox.clone();
        let answer = self
            .call(
                true,
                "POST",
                "outbox",
                &[("Mex-To", &to), ("Mex-WorkflowID", WORKFLOW)],
                body,
            )
            .await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        message_id(&answer)
    }

    /// Lists the inbox.
    pub async fn list(&mut self) -> Answer {
        let answer = self.call(false, "GET", self.inbox, &[], b"").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }

    /// Downloads a message of so many bytes.
    pub async fn download(&mut self, message: &str, bytes: usize) {
        let got = self.call(false, "GET", &format!("inbox/{message}"), &[], b"").await;
        assert!(got.status == 200 && got.body.len() == bytes, "{}", got.text());
    }

    /// Acknowledges a message.
    pub async fn acknowledge(&mut self, message: &str) {
        let path = format!("inbox/{message}/status/acknowledged");
        assert_eq!(self.call(false, "PUT", &path, &[], b"").await.status, 200);
    }

    /// Send, list, download, acknowledge.
    pub async fn cycle(&mut self, body: &[u8]) {
        let message = self.send(body).await;
        self.list().await;
        self.download(&message, body.len()).await;
        self.acknowledge(&message).await;
    }
}

/// What a run took.
pub struct Taken {
    /// Wall-clock time.
    pub wall: Duration,
    /// Processor time of the server.
    pub server: Duration,
    /// Processor time of this process.
    pub own: Duration,
}

/// Measures the server `pid` and this process while `work` runs.
pub async fn taken<T>(pid: u32, work: impl Future<Output = T>) -> (T, Taken) {
    let own_pid = std::process::id();
    let (server, own, started) = (cpu(pid), cpu(own_pid), Instant::now());
    let value = work.await;
    let taken = Taken {
        wall: started.elapsed(),
        server: cpu(pid) - server,
        own: cpu(own_pid) - own,
    };
    (value, taken)
}

/// Runs each client for `rounds` of cycles at once.
pub async fn cycles(clients: Vec<Client>, rounds: u64) -> Vec<Client> {
    let body = vec![b'm'; 1024];
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let body = body.clone();
            tokio::spawn(async move {
                for _ in 0..rounds {
                    client.cycle(&body).await;
                }
                client
            })
        })
        .collect();
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(task.await.expect("no client panics"));
    }
    clients
}

/// Lets each client list its inbox `rounds` times, all at once.
pub async fn lists(clients: Vec<Client>, rounds: u64) -> Vec<Client> {
    let tasks = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            for _ in 0..rounds {
                client.list().await;
            }
            client
        })
    });
    let mut clients = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        clients.push(task.await.expect("no client panics"));
    }
    clients
}

/// What may wait for a checkpoint in a node that is quiet.
const DIRTY_BYTES_MAX: f64 = 65_536.0;

/// Waits until a node that nobody asks anything has put in order what it was given: nothing is left for a checkpoint, and
/// its threads are idle. `figures` asks for its page of metrics.
pub async fn settle(pid: u32, figures: impl AsyncFn() -> String) {
    for _ in 0..120 {
        let before = cpu(pid);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let idle = cpu(pid) - before < Duration::from_millis(50);
        let text = figures().await;
        let dirty = text
            .lines()
            .find_map(|line| line.strip_prefix("vertebra_ledger_dirty_bytes "));
        let dirty: f64 = dirty
            .and_then(|bytes| bytes.parse().ok())
            .expect("the node tells what waits");
        if idle && dirty < DIRTY_BYTES_MAX {
            return;
        }
    }
    println!("the node is not quiet after two minutes");
}
