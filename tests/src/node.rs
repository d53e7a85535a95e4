//! The life of one sandbox under test: started from the real binary on a free port in a folder of its own, stopped by
//! its process identifier whatever happens to the test.

use crate::certificates::{Identity, connector};
use crate::mesh::{Credentials, Mailbox};
use crate::process::{Process, signal};
use crate::wire::{Answer, Connection, Target};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest wait until a sandbox serves: it only catches hangs.
pub const START_WAIT_MAX: Duration = Duration::from_secs(60);

/// The release binary: `VERTEBRA_BINARY`, else the one beside the test executable.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("VERTEBRA_BINARY") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("a running test has an executable");
    let folders = test.ancestors().skip(1).take(2);
    let found = folders
        .map(|folder| folder.join("vertebra"))
        .find(|path| path.is_file());
    found.expect("`vertebra` lies beside the tests: `make test` builds it first")
}

/// A folder below the system's temporary one that is removed with its owner.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes an empty folder.
    pub fn new(name: &str) -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let base = std::env::var_os("VERTEBRA_TEST_DIR")
            .map(PathBuf::from)
            .unwrap_or_else(std::env::temp_dir);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("vertebra-{name}-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary folder can be written");
        Folder(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os("VERTEBRA_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A port that was free a moment ago, from below the range that the system hands out, so that nobody is given it while
/// a node that was killed is on its way back to it.
pub fn free_port() -> u16 {
    for _ in 0..1000 {
        let port = rand::random_range(12_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("loopback has no free port");
}

/// A running sandbox.
pub struct Node {
    /// Its data folder.
    pub data: PathBuf,
    /// Its port for clients.
    pub port: u16,
    /// What it wrote in `sandbox.json`.
    pub sandbox: Value,
    /// From the start of the process until `sandbox.json` was there.
    pub ready_after: Duration,
    logs: PathBuf,
    arguments: Vec<String>,
    process: Process,
}

impl Node {
    /// Starts a sandbox on `data`, and waits until it is ready.
    pub fn start(data: &Path) -> Node {
        Node::start_with(data, &[])
    }

    /// The same with two threads that serve, however few cores there are: what they share is then shared.
    pub fn start_on_two(data: &Path) -> Node {
        Node::start_with(data, &["--reactors", "2"])
    }

    /// The same with more arguments.
    pub fn start_with(data: &Path, arguments: &[&str]) -> Node {
        let logs = data.with_extension("log");
        let port = free_port();
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        let sandbox_json = data.join("sandbox.json");
        let before = fs::metadata(sandbox_json).and_then(|meta| meta.modified()).ok();
        let started = Instant::now();
        let process = spawn(data, &logs, port, &arguments);
        let mut node = Node {
            data: data.to_owned(),
            port,
            sandbox: Value::Null,
            ready_after: Duration::ZERO,
            logs,
            arguments,
            process,
        };
        node.await_ready(before, started);
        node
    }

    /// Starts the process again on the same folder and port; it must have ended.
    pub fn restart(&mut self) {
        let before = self.written_at();
        let started = Instant::now();
        self.process = spawn(&self.data, &self.logs, self.port, &self.arguments);
        self.await_ready(before, started);
    }

    /// The same with other arguments.
    pub fn restart_with(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|&text| text.to_owned()).collect();
        self.restart();
    }

    fn written_at(&self) -> Option<std::time::SystemTime> {
        fs::metadata(self.data.join("sandbox.json"))
            .and_then(|meta| meta.modified())
            .ok()
    }

    fn await_ready(&mut self, before: Option<std::time::SystemTime>, started: Instant) {
        loop {
            if let Some(status) = self.process.ended() {
                panic!(
                    "the sandbox ended with {status} before it was ready:\n{}",
                    self.log_tail()
                );
            }
            let written = self.written_at();
            if written.is_some() && written != before {
                let text = fs::read_to_string(self.data.join("sandbox.json")).unwrap_or_default();
                if let Ok(sandbox) = serde_json::from_str(&text) {
                    self.sandbox = sandbox;
                    self.ready_after = started.elapsed();
                    return;
                }
            }
            assert!(
                started.elapsed() < START_WAIT_MAX,
                "the sandbox is not ready:\n{}",
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Its process identifier.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// kill -9, and waits for the end.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and waits for the orderly end.
    pub fn terminate(&mut self) -> ExitStatus {
        assert!(signal(self.pid(), Signal::SIGTERM), "the sandbox still runs");
        self.await_end()
    }

    /// Waits for the end that was asked for.
    pub fn await_end(&mut self) -> ExitStatus {
        self.process.await_end()
    }

    /// The process's end, when it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Everything it printed since the first start.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.logs).unwrap_or_default()).into_owned()
    }

    fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn text_at(&self, pointer: &str) -> String {
        let value = self.sandbox.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("sandbox.json has {pointer}")).to_owned()
    }

    /// PEM at `pointer` of sandbox.json: given whole, or as a path.
    fn pem_at(&self, pointer: &str) -> String {
        let text = self.text_at(pointer);
        if text.starts_with("-----BEGIN") {
            return text;
        }
        let path = self.data.join(text);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{} of sandbox.json: {error}", path.display()))
    }

    /// The CA of the server's certificate, PEM.
    pub fn ca(&self) -> String {
        self.pem_at("/ca")
    }

    /// The certificate that may act for every seeded mailbox.
    pub fn identity(&self) -> Identity {
        Identity {
            certificate: self.pem_at("/client_certificate"),
            key: self.pem_at("/client_key"),
        }
    }

    /// The certificate of mailbox `at` (0 to 2).
    pub fn identity_of(&self, at: usize) -> Identity {
        let base = format!("/mesh/mailboxes/{at}");
        Identity {
            certificate: self.pem_at(&format!("{base}/client_certificate")),
            key: self.pem_at(&format!("{base}/client_key")),
        }
    }

    /// Where clients connect, presenting `identity`.
    pub fn target(&self, identity: Option<&Identity>) -> Target {
        let (host, address) = split_url(&self.text_at("/url"));
        Target {
            address,
            host,
            tls: Some(connector(&self.ca(), identity)),
        }
    }

    /// What mailbox `at` proves itself with.
    pub fn credentials(&self, at: usize) -> Credentials {
        Credentials {
            mailbox: self.text_at(&format!("/mesh/mailboxes/{at}/id")),
            password: self.text_at(&format!("/mesh/mailboxes/{at}/password")),
            shared_key: self.text_at("/mesh/shared_key"),
        }
    }

    /// A client of mailbox `at` with its own certificate.
    pub fn mailbox(&self, at: usize) -> Mailbox {
        Mailbox::new(self.target(Some(&self.identity_of(at))), self.credentials(at))
    }

    /// The same through member `member` (0 is the first) of a sandbox of several.
    pub fn mailbox_through(&self, member: usize, at: usize) -> Mailbox {
        let target = self.target_through(member, Some(&self.identity_of(at)));
        Mailbox::new(target, self.credentials(at))
    }

    /// Where clients connect to member `member` of a sandbox of several, presenting `identity`.
    pub fn target_through(&self, member: usize, identity: Option<&Identity>) -> Target {
        let (host, address) = split_url(&self.text_at(&format!("/members/{member}/url")));
        let tls = Some(connector(&self.ca(), identity));
        Target { address, host, tls }
    }

    /// The operator's listener.
    pub fn admin_target(&self) -> Target {
        let (host, address) = split_url(&self.text_at("/admin_url"));
        Target {
            address,
            host,
            tls: None,
        }
    }

    /// A request to the operator's listener.
    pub async fn admin(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let mut connection = Connection::open(&self.admin_target())
            .await
            .expect("the operator's listener answers");
        let headers = [
            ("Host", "localhost"),
            ("Content-Type", "application/json"),
            ("Connection", "close"),
        ];
        let answer = connection.exchange(method, path, &headers, &body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path} got no answer: {error}"))
    }
}

/// Host and address of a URL.
pub fn split_url(url: &str) -> (String, SocketAddr) {
    let (scheme, rest) = url.split_once("://").expect("a URL has a scheme");
    let authority = rest.split('/').next().unwrap_or(rest);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().expect("a port is a number")),
        None => (authority, if scheme == "https" { 443 } else { 80 }),
    };
    let address = (host, port)
        .to_socket_addrs()
        .expect("the host has an address")
        .find(SocketAddr::is_ipv4);
    (host.to_owned(), address.expect("the host has an IPv4 address"))
}

fn spawn(data: &Path, logs: &Path, port: u16, arguments: &[String]) -> Process {
    let mut command = Command::new(binary());
    command
        .arg("sandbox")
        .arg("--data")
        .arg(data)
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .args(arguments);
    // Of several members each has its own, at fixed places.
    if !arguments.iter().any(|argument| argument == "--members") {
        command.args(["--admin-listen", "127.0.0.1:0"]);
    }
    Process::start(&mut command, logs)
}
