//! Other people's clusters of three, measured beside ours: etcd and RabbitMQ on loopback, each member a process of its own.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use vertebra_tests::node::{Folder, free_port};
use vertebra_tests::process::{Process, wait_until};

/// Three members and their ports for clients.
pub struct Trio {
    members: Vec<Process>,
    /// Ports on 127.0.0.1.
    pub ports: Vec<u16>,
    epmd: Option<u16>,
    _folder: Folder,
}

impl Drop for Trio {
    fn drop(&mut self) {
        self.members.clear();
        if let Some(port) = self.epmd {
            // Erlang's name server stays behind otherwise; by its port, so that it is ours. It ends once it has noticed that
            // its brokers are gone.
            for _ in 0..50 {
                let ended = Command::new("epmd")
                    .args(["-port", &port.to_string(), "-kill"])
                    .output();
                if ended.is_ok_and(|output| output.status.success()) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Three free ports on 127.0.0.1.
pub fn ports() -> [u16; 3] {
    std::array::from_fn(|_| free_port())
}

/// etcd with its defaults: every put is synced on a majority.
pub fn etcd() -> Trio {
    let folder = Folder::new("bench-etcd");
    let (clients, peers) = (ports(), ports());
    let all: Vec<String> = (0..3)
        .map(|at| format!("m{at}=http://127.0.0.1:{}", peers[at]))
        .collect();
    let mut members = Vec::new();
    for at in 0..3 {
        let (client, peer) = (
            format!("http://127.0.0.1:{}", clients[at]),
            format!("http://127.0.0.1:{}", peers[at]),
        );
        let mut command = Command::new("etcd");
        command.args(["--name", &format!("m{at}"), "--data-dir"]);
        command.arg(folder.path().join(format!("m{at}")));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
        command.args(["--log-level", "error"]);
        members.push(Process::start(&mut command, &folder.path().join("log")));
    }
    let endpoints: Vec<String> = clients.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    wait_until("etcd's three members are healthy", Duration::from_secs(60), || {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &endpoints.join(","), "endpoint", "health"]);
        command.output().expect("etcdctl starts").status.success()
    });
    Trio {
        members,
        ports: clients.to_vec(),
        epmd: None,
        _folder: folder,
    }
}

/// The server's own scripts: the wrappers in the path change the user.
fn rabbit_scripts() -> PathBuf {
    let base = Path::new("/usr/lib/rabbitmq/lib");
    let found = std::fs::read_dir(base).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = found.map(|entry| entry.path().join("sbin")).collect();
    folders.sort();
    folders.pop().expect("the package rabbitmq-server is installed")
}

/// Three brokers that find each other.
pub fn rabbitmq() -> Trio {
    let folder = Folder::new("bench-rabbitmq");
    let (clients, distribution, epmd) = (ports(), ports(), free_port());
    let scripts = rabbit_scripts();
    let at_home = |command: &mut Command, at: usize| {
        let home = folder.path().join(format!("r{at}"));
        command.env("HOME", folder.path());
        command.env("ERL_EPMD_PORT", epmd.to_string());
        command.env("RABBITMQ_NODENAME", format!("r{at}@localhost"));
        command.env("RABBITMQ_DIST_PORT", distribution[at].to_string());
        command.env("RABBITMQ_MNESIA_BASE", home.join("mnesia"));
        command.env("RABBITMQ_LOG_BASE", home.join("log"));
        command.env("RABBITMQ_CONFIG_FILE", home.join("rabbitmq.conf"));
        command.env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("plugins"));
        command.env("RABBITMQ_PID_FILE", home.join("pid"));
        command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 2:2 +sbwt none -noinput");
        // The script becomes the broker, instead of a parent that leaves it behind.
        command.env("RABBITMQ_ALLOW_INPUT", "1");
    };
    let cookie = folder.path().join(".erlang.cookie");
    std::fs::write(&cookie, "BENCHBENCHBENCH").expect("the folder can be written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o400);
    std::fs::set_permissions(&cookie, mode).expect("a file of our own");
    let mut members = Vec::new();
    for at in 0..3 {
        let home = folder.path().join(format!("r{at}"));
        std::fs::create_dir_all(&home).expect("the folder can be made");
        let mut text = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\ncluster_formation.peer_discovery_backend = classic_config\n",
            clients[at]
        );
        for other in 0..3 {
            text.push_str(&format!(
                "cluster_formation.classic_config.nodes.{} = r{other}@localhost\n",
                other + 1
            ));
        }
        std::fs::write(home.join("rabbitmq.conf"), text).expect("the folder can be written");
        std::fs::write(home.join("plugins"), "[].\n").expect("the folder can be written");
        let mut command = Command::new(scripts.join("rabbitmq-server"));
        at_home(&mut command, at);
        // Where a broker that is killed leaves what it was thinking.
        command.current_dir(&home);
        members.push(Process::start(&mut command, &folder.path().join("log")));
        // One after the other: brokers that start at once may each found a cluster.
        wait_until("a broker listens", Duration::from_secs(120), || {
            TcpStream::connect(("127.0.0.1", clients[at])).is_ok()
        });
    }
    wait_until("three brokers are one cluster", Duration::from_secs(60), || {
        let mut command = Command::new(scripts.join("rabbitmqctl"));
        at_home(&mut command, 0);
        command.args(["--formatter", "json", "cluster_status"]);
        let output = command.output().expect("rabbitmqctl starts");
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        status["running_nodes"].as_array().is_some_and(|nodes| nodes.len() == 3)
    });
    Trio {
        members,
        ports: clients.to_vec(),
        epmd: Some(epmd),
        _folder: folder,
    }
}
