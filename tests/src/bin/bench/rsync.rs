//! The peer of a join: `rsync` of the same files through mutual TLS 1.3 on loopback, each file synced at its end.
//!
//! The way that its documentation gives: a daemon, and `stunnel` at both ends.

use std::fmt::Display;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use vertebra_tests::cluster::Papers;
use vertebra_tests::node::{Folder, free_port};
use vertebra_tests::process::{Process, wait_until};

/// A daemon that serves one folder, and the tunnel to it.
pub struct Rsync {
    _processes: Vec<Process>,
    port: u16,
    folder: Folder,
}

impl Rsync {
    /// Serves `from` and everything below.
    pub fn of(from: &Path) -> Rsync {
        let folder = Folder::new("bench-rsync");
        let papers = Papers::new(folder.path());
        std::fs::write(folder.path().join("ca.pem"), papers.members_ca()).expect("the folder can be written");
        for name in ["server", "client"] {
            let identity = papers.peer(name);
            let both = format!("{}{}", identity.certificate, identity.key);
            std::fs::write(folder.path().join(format!("{name}.pem")), both).expect("the folder can be written");
        }
        let [daemon, tls, plain] = [(); 3].map(|()| free_port());
        let module = format!(
            "use chroot = no\nuid = 0\ngid = 0\n[files]\npath = {}\nread only = yes\n",
            from.display()
        );
        std::fs::write(folder.path().join("rsyncd.conf"), module).expect("the folder can be written");
        let server = tunnel(folder.path(), "server", false, tls, daemon);
        let client = tunnel(folder.path(), "client", true, plain, tls);
        let log = folder.path().join("log");
        let mut served = Command::new("rsync");
        served.args(["--daemon", "--no-detach", "--address=127.0.0.1"]);
        served.arg(format!("--port={daemon}"));
        served.arg(argument("--config", folder.path().join("rsyncd.conf").display()));
        let mut processes = vec![Process::start(&mut served, &log)];
        for configuration in [server, client] {
            processes.push(Process::start(Command::new("stunnel").arg(configuration), &log));
        }
        for port in [daemon, tls, plain] {
            wait_until("rsync and its tunnel listen", Duration::from_secs(20), || {
                TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
        }
        Rsync {
            _processes: processes,
            port: plain,
            folder,
        }
    }

    /// Copies everything to `to`, which is empty; how long it took until it was durable.
    pub fn copy(&self, to: &Path) -> Duration {
        let mut copy = Command::new("rsync");
        copy.args(["--recursive", "--whole-file", "--fsync"]);
        copy.arg(format!("rsync://127.0.0.1:{}/files/", self.port)).arg(to);
        let began = Instant::now();
        let output = copy.output().expect("rsync starts");
        let took = began.elapsed();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stderr),
            std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
        );
        took
    }
}

fn argument(name: &str, value: impl Display) -> String {
    format!("{name}={value}")
}

/// Writes the configuration of one end of the tunnel.
fn tunnel(folder: &Path, name: &str, client: bool, from: u16, to: u16) -> PathBuf {
    let folder_text = folder.display();
    let client = if client { "yes" } else { "no" };
    let text = format!(
        "foreground = yes\npid =\ndebug = err\n[{name}]\nclient = {client}\naccept = 127.0.0.1:{from}\nconnect = 127.0.0.1:{to}\n\
         cert = {folder_text}/{name}.pem\nCAfile = {folder_text}/ca.pem\nverifyChain = yes\nsslVersionMin = TLSv1.3\n"
    );
    let file = folder.join(format!("{name}.conf"));
    std::fs::write(&file, text).expect("the folder can be written");
    file
}
