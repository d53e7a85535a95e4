//! What an operator says to a cluster under test and hears from it, and waiting for what it does by itself.

use super::{Cluster, WAIT_MAX};
use crate::node::binary;
use crate::process::Process;
use crate::wire::{Answer, Connection};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;
use std::time::{Duration, Instant};

/// Longest wait for an operator's answer.
const OPERATOR_WAIT_MAX: Duration = Duration::from_secs(10);

impl Cluster {
    /// A request through a node's operator socket.
    ///
    /// # Errors
    /// Nobody answers there within ten seconds.
    pub async fn operator(&self, id: u64, method: &str, path: &str, body: &Value) -> std::io::Result<Answer> {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let ask = async {
            let stream = tokio::net::UnixStream::connect(self.home(id).join("admin.sock")).await?;
            let headers = [
                ("Host", "localhost"),
                ("Content-Type", "application/json"),
                ("Connection", "close"),
            ];
            Connection::over(stream).exchange(method, path, &headers, &body).await
        };
        tokio::time::timeout(OPERATOR_WAIT_MAX, ask).await?
    }

    /// The same; it must succeed. Repeated while the node says 503.
    pub(super) async fn must(&self, id: u64, method: &str, path: &str, body: &Value) -> Answer {
        let started = Instant::now();
        loop {
            let answer = self.operator(id, method, path, body).await;
            match answer {
                Ok(answer) if matches!(answer.status, 200 | 201) => return answer,
                other => assert!(
                    matches!(&other, Ok(answer) if answer.status == 503) && started.elapsed() < WAIT_MAX,
                    "{method} {path} on node {id}: {other:?}\n{}",
                    self.log_tails()
                ),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What a node says of the cluster; `None` when it does not answer.
    pub async fn status(&self, id: u64) -> Option<Value> {
        let answer = self.operator(id, "GET", "/admin/status", &Value::Null).await.ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// Status code of `/health/ready`; 0 when nobody answers.
    pub async fn ready(&self, id: u64) -> u16 {
        let answer = self.operator(id, "GET", "/health/ready", &Value::Null).await;
        answer.map_or(0, |answer| answer.status)
    }

    /// Waits until a node serves.
    pub async fn await_ready(&mut self, id: u64) {
        let started = Instant::now();
        while self.ready(id).await != 200 {
            self.assert_alive(id);
            assert!(
                started.elapsed() < WAIT_MAX,
                "node {id} is not ready\n{}",
                self.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a node answers its operator, whatever it answers.
    pub async fn await_operator(&mut self, id: u64) {
        let started = Instant::now();
        while self.ready(id).await == 0 {
            self.assert_alive(id);
            assert!(
                started.elapsed() < WAIT_MAX,
                "node {id} does not answer\n{}",
                self.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Panics when a node's process has ended.
    pub fn assert_alive(&mut self, id: u64) {
        let ended = self.node(id).process.as_mut().and_then(Process::ended);
        assert!(ended.is_none(), "node {id} ended: {ended:?}\n{}", self.log_tails());
    }

    /// Waits until `condition` holds of what node `id` says.
    pub async fn await_status(&self, id: u64, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let status = self.status(id).await;
            if let Some(status) = status.as_ref().filter(|status| condition(status)) {
                return status.clone();
            }
            assert!(
                started.elapsed() < WAIT_MAX,
                "waited in vain until {what} on node {id}; it says {}\n{}",
                status.unwrap_or_default(),
                self.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until every running node shows exactly these as voters, one of them as the leader.
    pub async fn await_voters(&mut self, voters: &[u64]) {
        for id in self.running() {
            self.await_operator(id).await;
        }
        for id in self.running() {
            self.await_status(id, &format!("the voters are {voters:?}"), |status| {
                let roles = roles(status);
                let ids: Vec<u64> = roles.keys().copied().collect();
                let leaders = roles.values().filter(|role| *role == "leader").count();
                let follow = roles.values().filter(|role| *role == "follower").count();
                ids == voters && leaders == 1 && leaders + follow == voters.len()
            })
            .await;
        }
    }

    /// Waits until these nodes agree on one leader among them; gives it.
    pub async fn await_leader(&self, among: &[u64]) -> u64 {
        let started = Instant::now();
        loop {
            let mut told = BTreeSet::new();
            for &id in among {
                let status = self.status(id).await.unwrap_or_default();
                told.insert(leader(&status).unwrap_or(0));
            }
            if let (1, Some(&leader)) = (told.len(), told.first()) {
                if among.contains(&leader) {
                    return leader;
                }
            }
            assert!(
                started.elapsed() < WAIT_MAX,
                "no leader among {among:?}: they say {told:?}\n{}",
                self.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all running nodes have applied the same position.
    pub async fn await_level(&self) {
        let started = Instant::now();
        loop {
            let mut applied = BTreeSet::new();
            for id in self.running() {
                let status = self.status(id).await.unwrap_or_default();
                let own = status["members"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .find(|member| member["id"] == id);
                applied.insert(own.and_then(|member| member["applied"].as_u64()));
            }
            if applied.len() == 1 && !applied.contains(&None) {
                return;
            }
            assert!(
                started.elapsed() < WAIT_MAX,
                "nodes stay apart: applied {applied:?}\n{}",
                self.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs the binary as an operator of node `id` does, by its socket.
    pub fn run(&self, id: u64, arguments: &[&str]) -> Output {
        let socket = self.home(id).join("admin.sock");
        let mut command = self.network.command(id, binary());
        command.args(arguments).arg("--socket").arg(socket);
        command.output().expect("the binary starts")
    }

    /// The same without holding up what else runs on this thread, from now on and whether it is awaited or not.
    pub fn aside(&self, id: u64, arguments: &[&str]) -> impl Future<Output = Output> + use<> {
        let socket = self.home(id).join("admin.sock");
        let mut command = self.network.command(id, binary());
        command.args(arguments).arg("--socket").arg(socket);
        let runs = tokio::task::spawn_blocking(move || command.output());
        async { runs.await.expect("nothing panics").expect("the binary starts") }
    }

    /// The same, awaited.
    pub async fn run_aside(&self, id: u64, arguments: &[&str]) -> Output {
        self.aside(id, arguments).await
    }

    /// The same; it must succeed. Gives what it printed.
    #[track_caller]
    pub fn ok(&self, id: u64, arguments: &[&str]) -> String {
        let output = self.run(id, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{arguments:?} on node {id}: {errors}\n{}",
            self.log_tails()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// The role of each member, by number.
pub fn roles(status: &Value) -> BTreeMap<u64, String> {
    let members = status["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let told = members.iter().map(|member| {
        let role = member["role"].as_str().unwrap_or_default().to_owned();
        (member["id"].as_u64().unwrap_or(0), role)
    });
    told.collect()
}

/// The leader that a node follows, when it knows one.
pub fn leader(status: &Value) -> Option<u64> {
    status["cluster"]["leader"].as_u64().filter(|&id| id != 0)
}

/// The term it is in.
pub fn term(status: &Value) -> u64 {
    status["cluster"]["term"].as_u64().unwrap_or(0)
}
