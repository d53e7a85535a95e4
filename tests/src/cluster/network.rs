//! The network of a cluster under test: every node in a network namespace of its own, all on one bridge, and faults on the way.
//!
//! Owns: the namespaces, their links, and what is dropped between them. Must never know: what runs inside. Invariants: a
//! namespace lives as long as its holder, a process that reads from this one, so nothing outlives the test, also when it
//! is killed; what is dropped is dropped silently, as by a broken switch, never refused.

use super::late::Late;
use nix::sched::{CloneFlags, setns};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A direction between two nodes: from, to.
pub type Way = (u64, u64);

/// The last number of the clients' address.
const CLIENTS: u8 = 1;
/// What the switch calls the clients' link.
const CLIENTS_PORT: &str = "clients";

/// One namespace, gone with its holder.
struct Namespace(Child);

impl Namespace {
    fn new() -> Namespace {
        let holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo made; exec cat >/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut namespace = Namespace(holder);
        let mut line = String::new();
        let out = namespace.0.stdout.take().expect("its output is piped");
        BufReader::new(out)
            .read_line(&mut line)
            .expect("its output can be read");
        assert_eq!(line, "made\n", "network namespaces need root");
        run(namespace.enter("ip").args(["link", "set", "lo", "up"]));
        namespace
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.pid())
    }

    /// A command that runs inside.
    fn enter(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg("--").arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}

/// The bridge, its nodes, and a place for clients that reaches all of them, whatever is cut between the nodes.
pub struct Network {
    switch: Namespace,
    clients: Namespace,
    nodes: BTreeMap<u64, Namespace>,
    cut: BTreeSet<Way>,
    late: BTreeMap<u64, Late>,
    outside: File,
}

impl Network {
    /// Makes the bridge and takes this thread to the clients' place: what it connects from now on, and threads and processes
    /// that it starts, go from there. Dropping it takes the thread back.
    pub fn new() -> Network {
        let outside = File::open("/proc/thread-self/ns/net").expect("a thread has a network namespace");
        let (switch, clients) = (Namespace::new(), Namespace::new());
        run(switch.enter("ip").args(["link", "add", "bridge", "type", "bridge"]));
        run(switch.enter("ip").args(["link", "set", "bridge", "up"]));
        let network = Network {
            switch,
            clients,
            nodes: BTreeMap::new(),
            cut: BTreeSet::new(),
            late: BTreeMap::new(),
            outside,
        };
        network.plug(&network.clients, CLIENTS_PORT, CLIENTS);
        network.enter();
        network
    }

    /// Takes the calling thread to the clients' place.
    pub fn enter(&self) {
        let place = File::open(self.clients.path()).expect("the clients' namespace is there");
        setns(place, CloneFlags::CLONE_NEWNET).expect("root may change its network namespace");
    }

    /// A socket that listens where node `id` is, held here: whatever becomes of the node, connections wait in it.
    pub fn listen(&self, id: u64, port: u16) -> TcpListener {
        let place = File::open(self.nodes[&id].path()).expect("the node's namespace is there");
        setns(place, CloneFlags::CLONE_NEWNET).expect("root may change its network namespace");
        let listener = TcpListener::bind((self.address(id), port));
        self.enter();
        listener.expect("the port is free")
    }

    fn plug(&self, namespace: &Namespace, port: &str, last: u8) {
        let (pid, address) = (namespace.pid().to_string(), format!("{}/24", address(last)));
        let link = [
            "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", &pid,
        ];
        run(self.switch.enter("ip").args(link));
        run(self
            .switch
            .enter("ip")
            .args(["link", "set", port, "master", "bridge", "up"]));
        run(namespace.enter("ip").args(["address", "add", &address, "dev", "eth0"]));
        run(namespace.enter("ip").args(["link", "set", "eth0", "up"]));
    }

    /// Plugs in node `id` (1 to 200).
    pub fn add(&mut self, id: u64) {
        let namespace = Namespace::new();
        self.plug(&namespace, &port(id), last(id));
        self.nodes.insert(id, namespace);
    }

    /// Unplugs node `id`, where nothing runs any more.
    pub fn remove(&mut self, id: u64) {
        self.nodes.remove(&id);
    }

    /// Where node `id` is.
    pub fn address(&self, id: u64) -> Ipv4Addr {
        address(last(id))
    }

    /// A command that runs where node `id` is.
    pub fn command(&self, id: u64, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.nodes[&id].enter(program)
    }

    /// The same as another user than root, of this number.
    pub fn command_as(&self, user: u32, id: u64, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let user = user.to_string();
        command.arg(format!("--net={}", self.nodes[&id].path()));
        command.args(["--setuid", &user, "--setgid", &user, "--"]).arg(program);
        command
    }

    /// What is dropped now.
    pub fn cut(&self) -> &BTreeSet<Way> {
        &self.cut
    }

    /// Drops everything that goes these ways, silently, and nothing else.
    pub fn set_cut(&mut self, cut: BTreeSet<Way>) {
        let mut rules = "table bridge faults {}\ndelete table bridge faults\ntable bridge faults { chain forward { \
                         type filter hook forward priority 0; policy accept;\n"
            .to_owned();
        for &(from, to) in &cut {
            // Not the resolution of addresses: without it a way that is open would be shut too.
            rules.push_str(&format!(
                "iifname \"{}\" oifname \"{}\" ether type ip drop\n",
                port(from),
                port(to)
            ));
        }
        rules.push_str("}\n}\n");
        let mut nft = self.switch.enter("nft");
        let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft starts");
        let mut input = child.stdin.take().expect("its input is piped");
        input.write_all(rules.as_bytes()).expect("nft reads its rules");
        drop(input);
        assert!(child.wait().expect("nft ends").success(), "{rules}");
        self.cut = cut;
    }

    /// Lets everything that node `id` sends and receives arrive so much later. The first call puts the relay into its link, which
    /// stays: whoever compares with "not late" calls it with nothing before.
    pub fn delay(&mut self, id: u64, each_way: Duration) {
        if !self.late.contains_key(&id) {
            let relay = self.relay(id);
            self.late.insert(id, relay);
        }
        self.late.get_mut(&id).expect("it was put there").by(each_way);
    }

    /// Exchanges the link of a node for one with a relay in it; addresses stay, so connections do too.
    fn relay(&self, id: u64) -> Late {
        let (node, port) = (&self.nodes[&id], port(id));
        let shown = node.enter("ip").args(["-o", "link", "show", "eth0"]).output();
        let shown = String::from_utf8(shown.expect("ip starts").stdout).expect("ip prints text");
        let mut words = shown.split_whitespace().skip_while(|word| *word != "link/ether");
        let hardware = words.nth(1).expect("a link has an address");
        run(self.switch.enter("ip").args(["link", "delete", &port]));
        let relay = Late::between((&self.switch.path(), &port), (&node.path(), "eth0"));
        run(self
            .switch
            .enter("ip")
            .args(["link", "set", &port, "master", "bridge", "up"]));
        let own = format!("{}/24", address(last(id)));
        run(node.enter("ip").args(["link", "set", "eth0", "address", hardware]));
        run(node.enter("ip").args(["address", "add", &own, "dev", "eth0"]));
        run(node.enter("ip").args(["link", "set", "eth0", "up"]));
        relay
    }

    /// Lets node `id` send and receive no more than so many kbit/s; what is beyond waits, so everything comes late. 0: as
    /// fast as it can.
    pub fn throttle(&self, id: u64, kbit: u32) {
        let (rate, port) = (format!("{kbit}kbit"), port(id));
        for (place, device) in [(&self.switch, port.as_str()), (&self.nodes[&id], "eth0")] {
            let mut tc = place.enter("tc");
            if kbit == 0 {
                // Refused when it was not slow: that is what was asked for.
                let _ = tc.args(["qdisc", "delete", "dev", device, "root"]).output();
            } else {
                tc.args(["qdisc", "replace", "dev", device, "root", "tbf", "rate", &rate]);
                run(tc.args(["burst", "16kb", "latency", "2s"]));
            }
        }
    }
}

impl Default for Network {
    fn default() -> Network {
        Network::new()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = setns(&self.outside, CloneFlags::CLONE_NEWNET);
    }
}

/// Every way between one of `one` and one of `other`, both directions.
pub fn between(one: &[u64], other: &[u64]) -> BTreeSet<Way> {
    let mut ways = BTreeSet::new();
    for &a in one {
        for &b in other.iter().filter(|&&b| b != a) {
            ways.extend([(a, b), (b, a)]);
        }
    }
    ways
}

fn port(id: u64) -> String {
    format!("n{id}")
}

fn last(id: u64) -> u8 {
    assert!((1..=200).contains(&id), "a node of a test has a number from 1 to 200");
    CLIENTS + u8::try_from(id).expect("it is at most 200")
}

/// Addresses that are for documentation and belong to nobody.
fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, last)
}
