//! Redis and Sentinel as a site runs them, from Debian's packages, in folders and on ports of their own.

use crate::certificates::service_certificates;
use crate::node::{Folder, free_port};
use crate::process::{Process, signal, wait_until};
use nix::sys::signal::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Longest wait for a server to serve, or for sentinels to agree: it only catches hangs.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Of every server here.
const PASSWORD: &str = "not-a-secret-either";

/// One process, a Redis or a sentinel.
pub struct Server {
    /// Its port.
    pub port: u16,
    program: &'static str,
    folder: PathBuf,
    tls: bool,
    password: String,
    process: Option<Process>,
}

impl Server {
    fn new(folder: &Path, program: &'static str, port: u16, tls: bool, lines: &[String]) -> Server {
        let server = Server {
            port,
            program,
            folder: folder.join(format!("{program}-{port}")),
            tls,
            password: PASSWORD.to_owned(),
            process: None,
        };
        fs::create_dir_all(&server.folder).expect("the folder can be written");
        let mut text = format!(
            "bind 127.0.0.1\nprotected-mode yes\ndaemonize no\ndir {}\nrequirepass {PASSWORD}\n",
            server.folder.display()
        );
        text.push_str(&match tls {
            false => format!("port {port}\n"),
            true => format!(
                "port 0\ntls-port {port}\ntls-cert-file {0}/server.pem\ntls-key-file {0}/server.key\n\
                 tls-ca-cert-file {0}/ca.pem\ntls-auth-clients yes\ntls-replication yes\n",
                folder.display()
            ),
        });
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        fs::write(server.folder.join("server.conf"), text).expect("the folder can be written");
        server
    }

    /// Starts it, after a kill too, and waits until it serves.
    pub fn start(&mut self) {
        let mut command = Command::new(self.program);
        command.arg(self.folder.join("server.conf"));
        self.process = Some(Process::start(&mut command, &self.folder.join("output.log")));
        wait_until("the server answers", WAIT_MAX, || {
            if let Some(status) = self.process.as_mut().and_then(Process::ended) {
                panic!("{} ended with {status}:\n{}", self.program, self.log());
            }
            self.try_ask(&["PING"]) == Some("PONG".to_owned())
        });
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("output.log")).unwrap_or_default()
    }

    /// Its process identifier.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("a running server").pid()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Freezes it (`true`) or lets it go on: a machine that swaps, a partition that nobody notices.
    pub fn freeze(&self, frozen: bool) {
        let stop = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        assert!(signal(self.pid(), stop), "the server runs");
    }

    fn try_ask(&self, command: &[&str]) -> Option<String> {
        let mut client = Command::new("redis-cli");
        client.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "--no-auth-warning"]);
        client.args(["-a", &self.password]);
        if self.tls {
            let base = self.folder.parent().expect("it lies in the folder of all");
            client.args(["--tls", "--sni", "localhost"]);
            for (name, file) in [
                ("--cacert", "ca.pem"),
                ("--cert", "server.pem"),
                ("--key", "server.key"),
            ] {
                client.arg(name).arg(base.join(file));
            }
        }
        let output = client
            .args(command)
            .output()
            .expect("redis-cli is installed: `make test` does it");
        let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        output.status.success().then_some(text)
    }

    /// What it answers to a command, as redis-cli prints it.
    pub fn ask(&self, command: &[&str]) -> String {
        let answer = self.try_ask(command);
        answer.unwrap_or_else(|| panic!("{command:?} is answered; its log:\n{}", self.log()))
    }

    /// How many replicas follow it.
    pub fn replicas(&self) -> usize {
        self.ask(&["INFO", "replication"]).matches("state=online").count()
    }

    /// How far its replication stream has come.
    pub fn replication_offset(&self) -> u64 {
        let info = self.ask(&["INFO", "replication"]);
        let line = info.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
        line.and_then(|text| text.trim().parse().ok())
            .expect("a primary tells it")
    }

    /// Whether all its replicas have confirmed the stream up to here.
    pub fn replicas_reached(&self, goal: u64) -> bool {
        let info = self.ask(&["INFO", "replication"]);
        let reached = |line: &str| {
            let offset = line.split(',').find_map(|part| part.strip_prefix("offset="));
            offset
                .and_then(|text| text.parse().ok())
                .is_some_and(|offset: u64| offset >= goal)
        };
        info.lines().filter(|line| line.starts_with("slave")).all(reached)
    }

    /// Changes its configuration.
    pub fn set(&mut self, name: &str, value: &str) {
        assert_eq!(self.ask(&["CONFIG", "SET", name, value]), "OK", "{name}");
        if name == "requirepass" {
            value.clone_into(&mut self.password);
        }
    }
}

/// The servers of one site, and their folder.
pub struct Redis {
    /// The primary first.
    pub servers: Vec<Server>,
    /// Sentinels; none of a single server.
    pub sentinels: Vec<Server>,
    tls: bool,
    folder: Folder,
}

impl Redis {
    /// One server as it should be: nothing is evicted, every write is synced.
    pub fn start() -> Redis {
        let folder = Folder::new("redis");
        fs::write(folder.path().join("password"), PASSWORD).expect("the folder can be written");
        let mut server = Server::new(folder.path(), "redis-server", free_port(), false, &durable());
        server.start();
        Redis {
            servers: vec![server],
            sentinels: Vec::new(),
            tls: false,
            folder,
        }
    }

    /// A primary with two replicas and three sentinels, everything over TLS.
    pub fn behind_sentinels() -> Redis {
        let folder = Folder::new("redis");
        let (ca, server, node) = service_certificates();
        let write =
            |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("the folder can be written");
        write("password", PASSWORD);
        write("ca.pem", &ca);
        write("server.pem", &server.certificate);
        write("server.key", &server.key);
        write("node.pem", &node.certificate);
        write("node.key", &node.key);
        let primary = free_port();
        let mut servers = Vec::new();
        for n in 0..3 {
            let mut lines = durable();
            lines.extend(["repl-diskless-sync-delay 0", "repl-ping-replica-period 1"].map(str::to_owned));
            lines.push(format!("masterauth {PASSWORD}"));
            let port = match n {
                0 => primary,
                _ => {
                    lines.push(format!("replicaof 127.0.0.1 {primary}"));
                    free_port()
                }
            };
            let mut server = Server::new(folder.path(), "redis-server", port, true, &lines);
            server.start();
            servers.push(server);
        }
        wait_until("both replicas follow", WAIT_MAX, || servers[0].replicas() == 2);
        let lines = [
            format!("sentinel sentinel-pass {PASSWORD}"),
            format!("sentinel monitor vertebra 127.0.0.1 {primary} 2"),
            format!("sentinel auth-pass vertebra {PASSWORD}"),
            "sentinel down-after-milliseconds vertebra 1000".to_owned(),
            "sentinel failover-timeout vertebra 5000".to_owned(),
        ];
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let mut sentinel = Server::new(folder.path(), "redis-sentinel", free_port(), true, &lines);
            sentinel.start();
            sentinels.push(sentinel);
        }
        wait_until("the sentinels know each other and the replicas", WAIT_MAX, || {
            sentinels.iter().all(|sentinel| {
                let master = sentinel.ask(&["SENTINEL", "MASTER", "vertebra"]);
                let lines: Vec<&str> = master.lines().collect();
                let value = |name: &str| lines.iter().position(|line| *line == name).map(|at| lines[at + 1]);
                value("num-other-sentinels") == Some("2") && value("num-slaves") == Some("2")
            })
        });
        Redis {
            servers,
            sentinels,
            tls: true,
            folder,
        }
    }

    /// File with the password.
    pub fn password(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    /// Arguments of a sandbox that uses it. Sentinels by name, so that the address of a primary has one.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--redis-password".to_owned(), self.password().display().to_string()];
        for sentinel in &self.sentinels {
            arguments.push("--redis-sentinel".to_owned());
            arguments.push(format!("localhost:{}", sentinel.port));
        }
        if self.sentinels.is_empty() {
            arguments.push("--redis".to_owned());
            arguments.push(format!("127.0.0.1:{}", self.servers[0].port));
        }
        if self.tls {
            for (name, file) in [
                ("--redis-ca", "ca.pem"),
                ("--redis-certificate", "node.pem"),
                ("--redis-key", "node.key"),
            ] {
                arguments.push(name.to_owned());
                arguments.push(self.folder.path().join(file).display().to_string());
            }
        }
        arguments
    }

    /// The server on this port.
    pub fn server(&mut self, port: u16) -> &mut Server {
        let found = self.servers.iter_mut().find(|server| server.port == port);
        found.expect("one of ours")
    }

    /// Port of the primary, as the sentinels see it.
    pub fn primary_port(&self) -> u16 {
        let answer = self.sentinels[0].ask(&["SENTINEL", "get-master-addr-by-name", "vertebra"]);
        let port = answer.lines().nth(1).and_then(|port| port.parse().ok());
        port.unwrap_or_else(|| panic!("a sentinel names the primary: {answer}"))
    }
}

/// Lines of a server that loses nothing by itself.
fn durable() -> Vec<String> {
    [
        "appendonly yes",
        "appendfsync always",
        "save \"\"",
        "maxmemory-policy noeviction",
    ]
    .map(str::to_owned)
    .to_vec()
}
