//! A cluster under test: real nodes as processes, each in a network namespace of its own, and the faults that happen to them.
//!
//! Owns: the nodes' folders, processes and papers, and what an operator says to them. Must never know: how a node is
//! built inside. Invariants: nothing outlives the test, also when it is killed; a node that was killed is not started
//! again before the kernel has let go of its ports.

mod clocks;
mod late;
mod network;
mod operators;
mod papers;

use clocks::Clocks;
pub use network::{Network, Way, between};
pub use operators::{leader, roles, term};
pub use papers::{HTTP_PORT, Member, PEER_PORT, Papers};

use crate::certificates::{Identity, connector};
use crate::disk::Disk;
use crate::mesh::{Credentials, Mailbox};
use crate::node::{Folder, binary};
use crate::pds::Client;
use crate::process::{Process, signal, wait_until};
use crate::tokens::with;
use crate::wire::Target;
use nix::sys::signal::Signal;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// Longest wait for something that a healthy cluster does by itself: it only catches hangs.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// Password of every mailbox.
const PASSWORD: &str = "cluster-password";
/// Organisation of every mailbox and client.
const ODS: &str = "X26";
/// Segments that are ready in a moment, and are filled often.
const SMALL_SEGMENTS: &str = "[journal]\nlog_segment_bytes = 8388608\nbodies_segment_bytes = 16777216\n\
                              audit_segment_bytes = 8388608\nreserve_bytes = 33554432\n";
/// Makes of what it may read the socket that systemd would pass in, and becomes the rest of its arguments.
const PASS_IN: &str = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http exec \"$@\"";
/// Size of a disk of a node's own.
const DISK_MIB: u64 = 1024;

/// One node: its folder, and its process while it runs.
struct Node {
    member: Member,
    process: Option<Process>,
    disk: Option<Disk>,
    cuts: u32,
    /// The release that it starts.
    binary: PathBuf,
    /// Its front door, where it is passed in as systemd does.
    door: Option<TcpListener>,
}

/// A cluster and its network.
pub struct Cluster {
    nodes: BTreeMap<u64, Node>,
    papers: Papers,
    identity: Identity,
    worker: String,
    alone: bool,
    disks: bool,
    doors: bool,
    clocks: Option<Clocks>,
    more: String,
    network: Network,
    folder: Folder,
}

impl Cluster {
    /// A cluster without nodes. The calling thread is where clients are from now on: see [`Network::new`].
    pub fn new(name: &str) -> Cluster {
        let folder = Folder::new(name);
        let papers = Papers::new(folder.path());
        // Where every user reaches it, whatever folder it was built in.
        fs::copy(binary(), folder.path().join("vertebra")).expect("the binary can be copied");
        let claims = [
            ("scope", "personal-demographics-service"),
            ("sub", "555043308597"),
            ("selected_roleid", "555254242102"),
            ("role_code", "S8000:G8000:R8001"),
            ("org_code", ODS),
            ("id_assurance_level", "3"),
            ("authentication_assurance_level", "3"),
        ];
        let mut all = papers.workers.claims(papers::CLIENT);
        // Good also for a node whose clock is some hours off.
        all = with(all, "iat", json!(crate::tokens::now_s() - 6 * 3600));
        all = with(all, "exp", json!(crate::tokens::now_s() + 24 * 3600));
        for (name, value) in claims {
            all = with(all, name, json!(value));
        }
        Cluster {
            nodes: BTreeMap::new(),
            identity: papers.client(ODS),
            worker: papers.workers.signed(&all),
            papers,
            alone: false,
            disks: false,
            doors: false,
            clocks: None,
            more: SMALL_SEGMENTS.to_owned(),
            network: Network::new(),
            folder,
        }
    }

    /// Nodes without a peers' port, each a cluster of one.
    pub fn alone(mut self) -> Cluster {
        self.alone = true;
        self
    }

    /// Nodes that [`Cluster::formed`] starts lie on disks of their own.
    pub fn on_disks(mut self) -> Cluster {
        self.disks = true;
        self
    }

    /// Front doors outlive their nodes: the sockets are made once and passed in at each start.
    pub fn with_passed_doors(mut self) -> Cluster {
        self.doors = true;
        self
    }

    /// Each node has a wall clock of its own, set with [`Cluster::set_clock`].
    pub fn with_clocks(mut self) -> Cluster {
        self.clocks = Some(Clocks::new(self.folder.path()));
        self
    }

    /// Nodes start this release from now on; those that run go on with theirs.
    pub fn install_everywhere(&mut self, binary: &Path) {
        let copy = self.folder.path().join("vertebra");
        fs::remove_file(&copy).expect("it was put there");
        fs::copy(binary, &copy).expect("the binary can be copied");
    }

    /// This node starts this release from its next start on. The path must be one that every user reaches.
    pub fn install(&mut self, id: u64, binary: &Path) {
        self.node(id).binary = binary.to_owned();
    }

    /// This TOML at the end of every configuration, in place of the small segments.
    pub fn with_configuration(mut self, more: &str) -> Cluster {
        self.more = more.to_owned();
        self
    }

    /// One founder and others who join it, as (name, site), numbered from 1; waits until all are voters, and registers
    /// a client that asks for workers and the workflow of tests.
    pub async fn form(name: &str, members: &[(&str, &str)]) -> Cluster {
        Cluster::new(name).formed(members).await
    }

    /// The same with what was configured before.
    pub async fn formed(mut self, members: &[(&str, &str)]) -> Cluster {
        for (id, (name, site)) in (1..).zip(members) {
            let peers: &[u64] = if id == 1 { &[] } else { &[1] };
            match self.disks {
                true => self.add_with_disk(id, name, site, peers),
                false => self.add(id, name, site, peers),
            }
            self.start(id);
            if id == 1 {
                self.await_ready(1).await;
            }
        }
        let all: Vec<u64> = self.ids();
        self.await_voters(&all).await;
        for &id in &all {
            self.await_ready(id).await;
        }
        self.register().await;
        self
    }

    async fn register(&self) {
        let client = json!({"ods": ODS, "modes": ["worker"], "scopes": ["personal-demographics-service"],
                            "requests_per_second": 100_000, "only_new": true});
        self.must(1, "PUT", &format!("/admin/clients/{}", papers::CLIENT), &client)
            .await;
        let workflow = json!({"senders": [], "receivers": []});
        self.must(
            1,
            "PUT",
            &format!("/admin/workflows/{}", crate::mesh::WORKFLOW),
            &workflow,
        )
        .await;
    }

    /// Registers mailboxes through one node.
    pub async fn add_mailboxes(&self, through: u64, mailboxes: &[&str]) {
        for mailbox in mailboxes {
            let change = json!({"name": mailbox, "ods": ODS, "password": PASSWORD, "only_new": true});
            self.must(through, "PUT", &format!("/admin/mailboxes/{mailbox}"), &change)
                .await;
        }
    }

    /// Plugs in a node that is not started yet. It asks the nodes `peers` to be taken in; without any it founds a cluster.
    pub fn add(&mut self, id: u64, name: &str, site: &str, peers: &[u64]) {
        self.add_on(id, name, site, peers, None);
    }

    /// The same on a disk of its own, whose power can be cut and that is small enough to fill.
    pub fn add_with_disk(&mut self, id: u64, name: &str, site: &str, peers: &[u64]) {
        let (image, mount) = (self.file(id, "image-0"), self.file(id, "mount-0"));
        let disk = Disk::new(&image, &mount, DISK_MIB);
        self.add_on(id, name, site, peers, Some(disk));
    }

    fn add_on(&mut self, id: u64, name: &str, site: &str, peers: &[u64], disk: Option<Disk>) {
        self.network.add(id);
        if let Some(clocks) = &self.clocks {
            clocks.set(id, 0);
        }
        let peers = peers.iter().map(|&peer| self.peer_address(peer));
        let member = Member {
            id,
            name: name.to_owned(),
            site: site.to_owned(),
            peers: peers.collect(),
        };
        let node = Node {
            member,
            process: None,
            disk,
            cuts: 0,
            binary: self.folder.path().join("vertebra"),
            door: self.doors.then(|| self.network.listen(id, HTTP_PORT)),
        };
        self.nodes.insert(id, node);
        self.configure(id);
    }

    /// Writes the files of a node anew, after a test changed who it is.
    fn configure(&self, id: u64) {
        let folder = self.home(id);
        fs::create_dir_all(&folder).expect("the folder can be made");
        let node = &self.nodes[&id];
        let address = self.network.address(id);
        self.papers
            .write(&folder, &node.member, address, self.alone, &self.more);
        if let Some(disk) = &node.disk {
            let (data, link) = (disk.path().join("data"), folder.join("data"));
            fs::create_dir_all(&data).expect("the disk can be written");
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(data, link).expect("a link can be made");
        }
    }

    fn file(&self, id: u64, name: &str) -> PathBuf {
        self.folder.path().join(format!("n{id}-{name}"))
    }

    /// The folder of a node: configuration, certificates, `data`.
    pub fn home(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("n{id}"))
    }

    /// All numbers, started or not.
    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// The numbers of those whose process runs.
    pub fn running(&self) -> Vec<u64> {
        let running = self.nodes.iter().filter(|(_, node)| node.process.is_some());
        running.map(|(&id, _)| id).collect()
    }

    /// The numbers of the nodes of a site.
    pub fn of_site(&self, site: &str) -> Vec<u64> {
        let all = self.nodes.iter().filter(|(_, node)| node.member.site == site);
        all.map(|(&id, _)| id).collect()
    }

    /// The site of a node.
    pub fn site(&self, id: u64) -> &str {
        &self.nodes[&id].member.site
    }

    /// `HOST:PORT` for peers.
    pub fn peer_address(&self, id: u64) -> String {
        format!("{}:{PEER_PORT}", self.network.address(id))
    }

    fn front_door(&self, id: u64) -> SocketAddr {
        (self.network.address(id), HTTP_PORT).into()
    }

    /// The network, for what has no name here.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    // Processes.

    /// Starts a node's process; it must not run.
    pub fn start(&mut self, id: u64) {
        let home = self.home(id);
        self.own(id);
        let binary = self.nodes[&id].binary.clone();
        let process = match &self.nodes[&id].door {
            None => {
                let mut command = self.network.command_as(user(id), id, binary);
                command.arg("node").arg("--config").arg(home.join("node.toml"));
                self.give_clock(id, &mut command);
                Process::start(&mut command, &home.join("log"))
            }
            Some(door) => {
                let mut command = self.network.command_as(user(id), id, "sh");
                command.args(["-c", PASS_IN, "sh"]).arg(binary);
                command.arg("node").arg("--config").arg(home.join("node.toml"));
                self.give_clock(id, &mut command);
                let door = OwnedFd::from(door.try_clone().expect("a descriptor can be doubled"));
                Process::start_with(&mut command, Stdio::from(door), &home.join("log"))
            }
        };
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        assert!(node.process.is_none(), "node {id} runs already");
        node.process = Some(process);
    }

    fn give_clock(&self, id: u64, command: &mut Command) {
        if let Some(clocks) = &self.clocks {
            clocks.give(id, command);
        }
    }

    /// Sets a node's wall clock so many ms ahead of the machine's, or behind it, also while it runs.
    pub fn set_clock(&self, id: u64, ahead_ms: i64) {
        self.clocks.as_ref().expect("nodes have clocks").set(id, ahead_ms);
    }

    /// Gives a node's files to its user. Each node has one of its own, because the memory that rings lock is counted by user.
    fn own(&self, id: u64) {
        let owner = format!("{0}:{0}", user(id));
        let mut chown = Command::new("chown");
        chown.args(["-R", &owner]).arg(self.home(id));
        if let Some(disk) = &self.nodes[&id].disk {
            chown.arg(disk.path());
        }
        assert!(chown.status().expect("chown starts").success());
    }

    fn process(&self, id: u64) -> &Process {
        self.nodes[&id].process.as_ref().expect("the node runs")
    }

    /// Its process identifier; it runs.
    pub fn pid(&self, id: u64) -> u32 {
        self.process(id).pid()
    }

    /// kill -9, and waits until its port is free.
    pub fn kill(&mut self, id: u64) {
        self.kill_all(&[id]);
    }

    /// The same for several at once.
    pub fn kill_all(&mut self, ids: &[u64]) {
        for id in ids {
            signal(self.pid(*id), Signal::SIGKILL);
        }
        for id in ids {
            if let Some(mut process) = self.node(*id).process.take() {
                process.kill();
            }
        }
        for &id in ids {
            self.await_silence(id);
        }
    }

    /// A process's memory and sockets are given back a little after it is gone.
    fn await_silence(&self, id: u64) {
        if self.nodes[&id].door.is_some() {
            // It is never free: connections wait in it.
            return;
        }
        let door = self.front_door(id);
        wait_until("a killed node's port is free", Duration::from_secs(10), || {
            TcpStream::connect_timeout(&door, Duration::from_millis(200)).is_err()
        });
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node of the cluster")
    }

    /// SIGTERM, and waits for the orderly end.
    pub fn stop(&mut self, id: u64) -> ExitStatus {
        assert!(signal(self.pid(id), Signal::SIGTERM), "node {id} runs");
        let mut process = self.node(id).process.take().expect("the node runs");
        process.await_end()
    }

    /// The same without holding up what else runs on this thread.
    pub async fn stopped(&mut self, id: u64) -> ExitStatus {
        assert!(signal(self.pid(id), Signal::SIGTERM), "node {id} runs");
        self.ended(id).await
    }

    /// How the process ended by itself, without holding up what else runs on this thread.
    pub async fn ended(&mut self, id: u64) -> ExitStatus {
        let started = std::time::Instant::now();
        while self
            .node(id)
            .process
            .as_mut()
            .expect("the node was started")
            .ended()
            .is_none()
        {
            assert!(
                started.elapsed() < WAIT_MAX,
                "node {id} does not end\n{}",
                self.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.await_end(id)
    }

    /// SIGSTOP.
    pub fn pause(&self, id: u64) {
        assert!(signal(self.pid(id), Signal::SIGSTOP), "node {id} runs");
    }

    /// SIGCONT.
    pub fn resume(&self, id: u64) {
        assert!(signal(self.pid(id), Signal::SIGCONT), "node {id} runs");
    }

    /// Those whose process ended by itself since it was started. From now on they do not run.
    pub fn fallen(&mut self) -> Vec<u64> {
        let mut fallen = Vec::new();
        for (&id, node) in &mut self.nodes {
            if node.process.as_mut().and_then(Process::ended).is_some() {
                node.process = None;
                fallen.push(id);
            }
        }
        fallen
    }

    /// How the process ended by itself, within a deadline.
    pub fn await_end(&mut self, id: u64) -> ExitStatus {
        let mut process = self.node(id).process.take().expect("the node was started");
        process.await_end()
    }

    /// Cuts the power of a node with a disk of its own; the process dies, and what was not durable is gone. Start it again
    /// with [`Cluster::start`].
    pub fn cut_power(&mut self, id: u64) {
        let node = self.node(id);
        let disk = node.disk.take().expect("the node has a disk of its own");
        disk.cut_power();
        node.cuts += 1;
        let cuts = node.cuts;
        self.kill(id);
        let (image, mount) = (
            self.file(id, &format!("image-{cuts}")),
            self.file(id, &format!("mount-{cuts}")),
        );
        let disk = disk.copy_after_cut(&image, &mount);
        self.node(id).disk = Some(disk);
        self.configure(id);
    }

    /// Takes all room of a node's own disk but `left_mib`; see [`Cluster::free_disk`].
    pub fn fill_disk(&self, id: u64, left_mib: u64) {
        self.disk(id).fill(left_mib);
    }

    /// Gives it back.
    pub fn free_disk(&self, id: u64) {
        self.disk(id).free();
    }

    fn disk(&self, id: u64) -> &Disk {
        self.nodes[&id].disk.as_ref().expect("the node has a disk of its own")
    }

    /// Removes a node that does not run, its folder and its link: nothing is left of it.
    pub fn forget(&mut self, id: u64) {
        let node = self.nodes.remove(&id).expect("a node of the cluster");
        assert!(node.process.is_none(), "node {id} still runs");
        let _ = fs::remove_dir_all(self.home(id));
        self.network.remove(id);
    }

    /// Empties the data folder of a node that does not run: a machine with a new disk and the old configuration.
    pub fn empty(&mut self, id: u64) {
        assert!(self.nodes[&id].process.is_none(), "node {id} still runs");
        fs::remove_dir_all(self.home(id).join("data")).expect("the data folder can be removed");
    }

    /// Lets a node that does not run ask these to be taken in.
    pub fn set_peers(&mut self, id: u64, peers: &[u64]) {
        let peers = peers.iter().map(|&peer| self.peer_address(peer)).collect();
        self.node(id).member.peers = peers;
        self.configure(id);
    }

    /// What a node printed since its first start.
    pub fn log_text(&self, id: u64) -> String {
        fs::read_to_string(self.home(id).join("log")).unwrap_or_default()
    }

    /// The last lines of every node, for messages of failed assertions.
    pub fn log_tails(&self) -> String {
        let mut all = String::new();
        for id in self.ids() {
            let text = self.log_text(id);
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(25)..].join("\n");
            all.push_str(&format!("--- node {id}\n{tail}\n"));
        }
        all
    }

    // Network.

    /// Drops everything between the two groups, both directions, beside what is dropped already.
    pub fn part(&mut self, one: &[u64], other: &[u64]) {
        let mut cut = self.network.cut().clone();
        cut.extend(between(one, other));
        self.network.set_cut(cut);
    }

    /// Cuts a node off from all others, not from clients.
    pub fn isolate(&mut self, id: u64) {
        let all = self.ids();
        self.part(&[id], &all);
    }

    /// Drops what goes from one to the other; the way back stays open.
    pub fn part_one_way(&mut self, from: u64, to: u64) {
        let mut cut = self.network.cut().clone();
        cut.insert((from, to));
        self.network.set_cut(cut);
    }

    /// Everything goes everywhere again.
    pub fn heal(&mut self) {
        self.network.set_cut(BTreeSet::new());
    }

    // Clients.

    /// Where clients of node `id` connect, presenting `identity`.
    pub fn target(&self, id: u64, identity: Option<&Identity>) -> Target {
        Target {
            address: self.front_door(id),
            host: self.network.address(id).to_string(),
            tls: Some(connector(self.papers.ca(), identity)),
        }
    }

    /// A client of `mailbox` at node `id`.
    pub fn mailbox(&self, id: u64, mailbox: &str) -> Mailbox {
        let credentials = Credentials {
            mailbox: mailbox.to_owned(),
            password: PASSWORD.to_owned(),
            shared_key: papers::SHARED_KEY.to_owned(),
        };
        Mailbox::new(self.target(id, Some(&self.identity)), credentials)
    }

    /// A healthcare worker's client at node `id`.
    pub fn worker(&self, id: u64) -> Client {
        Client::new(self.target(id, None), &self.worker)
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("VERTEBRA_KEEP").is_some() {
            eprintln!("kept: {}", self.folder.path().display());
        }
        // Processes before their disks; namespaces go last, by the order of fields.
        for node in self.nodes.values_mut() {
            node.process = None;
        }
    }
}

/// The user that node `id` runs as: nobody else's, also while another test runs a cluster.
pub fn user(id: u64) -> u32 {
    let number = u32::try_from(id).expect("a small number");
    200_000 + std::process::id() % 10_000 * 256 + number
}
