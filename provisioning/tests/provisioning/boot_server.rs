//! A boot server in a folder of its own, and nodes whose root is a folder too.

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use vertebra_provisioning::http_client::{Answer, Service};

pub const BINARY: &str = env!("CARGO_BIN_EXE_vertebra-provisioning");
/// Only hangs are caught by it.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A site on loopback: machines ask from 127.0.0.1, which is the address of `n1.north`.
pub const INVENTORY: &str = r#"
format: 1
domain: test.example
sites:
  north: {subnet: 127.0.0.0/16, boot_server: 127.0.0.2, puppet_server: puppet.test.example}
  south: {subnet: 127.1.0.0/16, boot_server: 127.1.0.2, puppet_server: puppet.test.example}
machines:
  - {name: n1.north, site: north, role: node, macs: ["52:54:00:00:00:11", "52:54:00:00:01:11"], serial: "S1", address: 127.0.0.1, firmware: uefi}
  - {name: n2.north, site: north, role: witness, macs: ["52:54:00:00:00:12"], address: 127.0.0.12, firmware: bios}
  - {name: n1.south, site: south, role: node, macs: ["52:54:00:00:00:21"], address: 127.1.0.11, firmware: bios}
"#;
pub const N1: &str = "n1.north.test.example";
pub const N1_MAC: &str = "52:54:00:00:00:11";

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub struct BootServer {
    pub folder: PathBuf,
}

impl Drop for BootServer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

impl BootServer {
    pub fn new() -> BootServer {
        BootServer::with("")
    }

    /// `settings` are TOML tables for the end of the configuration; `[serve]` is there already.
    pub fn with(settings: &str) -> BootServer {
        // Not below target/: nginx's own user must be able to come here.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("vertebra-provisioning-{}-{number}", std::process::id()));
        fs::create_dir_all(folder.join("ipxe")).expect("a folder");
        let server = BootServer { folder };
        server.write("inventory.yaml", INVENTORY);
        server.write("ipxe/undionly.kpxe", "iPXE for BIOS\n");
        server.write("ipxe/ipxe.efi", "iPXE for UEFI\n");
        let serve = "listen = \"127.0.0.1:0\"\noperator_listen = \"127.0.0.1:0\"\ncertificate = \"boot.pem\"\nkey = \"boot.key\"";
        server.write(
            "provisioning.toml",
            &format!("inventory = \"inventory.yaml\"\nstate = \"state\"\noutput = \"out\"\nipxe = \"ipxe\"\n{settings}\n[serve]\n{serve}\n"),
        );
        server
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.join(below)
    }

    pub fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().expect("a folder above")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    pub fn read(&self, below: &str) -> String {
        let path = self.path(below);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .arg("--config")
            .arg(self.path("provisioning.toml"))
            .args(arguments);
        command
    }

    /// Runs a command that must end well; gives its output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the binary runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Runs a command that must fail with this code; gives what it says.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the binary runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        error
    }

    /// A release's folder, outside of the store.
    pub fn release_folder(&self, id: &str, state_version: u64) -> PathBuf {
        let folder = self.path(&format!("built/{id}"));
        fs::create_dir_all(&folder).expect("a folder");
        let mut files = serde_json::Map::new();
        for (name, text) in [
            ("vmlinuz", format!("kernel of {id}")),
            ("initrd.img", format!("initrd of {id}")),
            ("root.squashfs", format!("root of {id}")),
            ("vertebra.efi", format!("MZ image of {id}")),
            ("packages.txt", "puppet 7.23\n".to_owned()),
        ] {
            let sha256 = vertebra_provisioning::secret::sha256(text.as_bytes()).to_string();
            files.insert(name.to_owned(), json!({"sha256": sha256, "bytes": text.len()}));
            fs::write(folder.join(name), text).expect("a file");
        }
        let manifest = json!({
            "format": 1, "release": id, "flavour": "hardware", "commit": "0123abc", "source_date_epoch": 1,
            "state_version": state_version, "files": files,
        });
        fs::write(folder.join("manifest.json"), manifest.to_string()).expect("a file");
        folder
    }

    pub fn add(&self, id: &str, state_version: u64) {
        let folder = self.release_folder(id, state_version);
        self.ok(&["release", "add", &folder.display().to_string()]);
    }

    pub fn status(&self, name: &str) -> Value {
        let status: Value = serde_json::from_str(&self.ok(&["status", "--json"])).expect("JSON");
        let machines = status["machines"].as_array().expect("machines");
        machines
            .iter()
            .find(|machine| machine["name"] == name)
            .expect("the machine")
            .clone()
    }

    /// A boot CA and the service's certificate.
    pub fn certificates(&self) {
        certificate_authority(&self.folder, "ca");
        self.write(
            "boot.ext",
            "subjectAltName=DNS:vertebra-boot,DNS:localhost\nextendedKeyUsage=serverAuth\n",
        );
        openssl(
            &self.folder,
            &[
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                "boot.key",
                "-out",
                "boot.csr",
                "-subj",
                "/CN=vertebra-boot",
            ],
        );
        openssl(
            &self.folder,
            &[
                "x509", "-req", "-in", "boot.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "30", "-out",
                "boot.pem", "-extfile", "boot.ext",
            ],
        );
    }

    /// Starts the service and waits until it listens.
    pub fn serve(&self) -> Serving {
        if !self.path("boot.pem").exists() {
            self.certificates();
        }
        let log = self.path("serve.log");
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log");
        let from = file.metadata().expect("its length").len() as usize;
        let child = self
            .command(&["serve"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("it starts");
        let mut serving = Serving {
            child,
            log,
            machines: SocketAddr::from(([127, 0, 0, 1], 0)),
            operator: SocketAddr::from(([127, 0, 0, 1], 0)),
            ca: self.path("ca.pem"),
        };
        wait_for("the service listens", || {
            let text = fs::read_to_string(&serving.log).unwrap_or_default();
            let address = |mark: &str| {
                let rest = text.get(from..)?.split(mark).nth(1)?;
                rest.lines().next()?.trim().parse::<SocketAddr>().ok()
            };
            match (address("machines: https://"), address("operator: http://")) {
                (Some(machines), Some(operator)) => {
                    serving.machines = machines;
                    serving.operator = operator;
                    true
                }
                _ => false,
            }
        });
        serving
    }

    /// A node: a folder with its MAC, serial number and release.
    pub fn node(&self, name: &str, mac: &str, serial: &str, release: &str) -> Node {
        let root = self.path(&format!("nodes/{name}"));
        let at = |below: &str, text: &str| self.write(&format!("nodes/{name}/{below}"), text);
        at("sys/class/net/lo/address", "00:00:00:00:00:00\n");
        at("sys/class/net/eth0/address", &format!("{mac}\n"));
        at("sys/class/dmi/id/product_serial", &format!("{serial}\n"));
        at(
            "proc/cmdline",
            &format!("console=ttyS0 vertebra.release={release} vertebra.sha256=00\n"),
        );
        at("proc/sys/kernel/hostname", "localhost\n");
        at("etc/puppet/puppet.conf", "[main]\nssldir = /var/lib/puppet/ssl\n");
        if self.path("ca.pem").exists() {
            at("usr/share/vertebra/boot-ca.pem", &self.read("ca.pem"));
        }
        Node { root }
    }
}

pub struct Serving {
    child: Child,
    pub log: PathBuf,
    pub machines: SocketAddr,
    pub operator: SocketAddr,
    pub ca: PathBuf,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.machines.port())
    }

    pub fn client(&self) -> Service {
        Service::new(&self.url(), &self.ca).expect("a client")
    }

    pub fn post(&self, path: &str, body: &Value, key: Option<&str>) -> Answer {
        self.client().post(path, body, key, DEADLINE).expect("an answer")
    }

    /// Ends it as systemd would; it must end well.
    pub fn stop(mut self) {
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).expect("a signal");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }

    /// What nginx tells when a boot file was fetched.
    pub fn seen(&self, mac: &str, client: &str) -> Value {
        let path = format!("X-Boot-Path: /boot/{}.ipxe", mac.replace(':', "-"));
        let answer = curl(&[
            "-X",
            "POST",
            "-H",
            &path,
            "-H",
            &format!("X-Boot-Client: {client}"),
            &format!("http://{}/v1/seen", self.operator),
        ]);
        serde_json::from_str(&answer).expect("JSON")
    }

    pub fn page(&self, path: &str) -> String {
        curl(&[&format!("http://{}{path}", self.operator)])
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }
}

pub struct Node {
    pub root: PathBuf,
}

impl Node {
    pub fn run(&self, service: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .arg("--root")
            .arg(&self.root)
            .args(["--service", service]);
        command.output().expect("the binary runs")
    }

    pub fn file(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    pub fn read(&self, below: &str) -> String {
        fs::read_to_string(self.file(below)).unwrap_or_else(|error| panic!("{below}: {error}"))
    }

    pub fn enrolment(&self) -> Value {
        serde_json::from_str(&self.read("var/lib/vertebra/host/enrolment.json")).expect("JSON")
    }
}

pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub fn sentence(answer: &Answer) -> String {
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    value["sentence"].as_str().unwrap_or_default().to_owned()
}

pub fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).expect("JSON")
}

pub fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20"])
        .args(arguments)
        .output()
        .expect("curl runs");
    assert!(
        output.status.success(),
        "curl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("openssl runs");
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub fn certificate_authority(folder: &Path, name: &str) {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
    openssl(
        folder,
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &certificate,
            "-subj",
            &format!("/CN=boot CA {name}"),
            "-days",
            "30",
        ],
    );
}

/// A certificate request made by openssl: subject, challenge password, further lines of the extension section.
pub fn request(folder: &Path, subject: &str, token: Option<&str>, extensions: &[&str]) -> Vec<u8> {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let file = |end: &str| format!("request{number}.{end}");
    let mut text = "[req]\nprompt = no\ndistinguished_name = dn\n".to_owned();
    if !extensions.is_empty() {
        text.push_str("req_extensions = ext\n");
    }
    if token.is_some() {
        text.push_str("attributes = att\n");
    }
    text.push_str(&format!("[dn]\n{subject}\n"));
    if let Some(token) = token {
        text.push_str(&format!("[att]\nchallengePassword = {token}\n"));
    }
    if !extensions.is_empty() {
        text.push_str(&format!("[ext]\n{}\n", extensions.join("\n")));
    }
    fs::write(folder.join(file("cnf")), text).expect("a file");
    openssl(
        folder,
        &[
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            &file("key"),
            "-config",
            &file("cnf"),
            "-out",
            &file("csr"),
        ],
    );
    fs::read(folder.join(file("csr"))).expect("a request")
}

/// The extension lines of an honest node.
pub fn attributes(role: &str, datacentre: &str) -> [String; 2] {
    [
        format!("1.3.6.1.4.1.34380.1.1.13 = ASN1:UTF8String:{role}"),
        format!("1.3.6.1.4.1.34380.1.1.19 = ASN1:UTF8String:{datacentre}"),
    ]
}

/// Asks the autosign executable as the CA does.
pub fn autosign(server: &BootServer, certname: &str, request: &[u8]) -> Output {
    let mut child = server
        .command(&["autosign", certname])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // It may refuse before it has read all.
    let _ = child.stdin.take().expect("a pipe").write_all(request);
    child.wait_with_output().expect("it ends")
}

pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
