//! Other people's programs, measured beside us: started on a free port, stopped by their own identifiers.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use vertebra_tests::mesh::Credentials;
use vertebra_tests::node::free_port;
use vertebra_tests::process::wait_until;
use vertebra_tests::python::interpreter;
use vertebra_tests::wire::Target;

/// A running peer.
pub struct Peer {
    child: Child,
    /// Its port.
    pub port: u16,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = vertebra_tests::process::signal(self.child.id(), nix::sys::signal::Signal::SIGTERM);
        std::thread::sleep(Duration::from_millis(100));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn start(port: u16, command: &mut Command) -> Peer {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let peer = Peer { child, port };
        wait_until("the peer listens", Duration::from_secs(30), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        peer
    }

    /// The published mesh-sandbox: memory store, plain HTTP, real tokens.
    pub fn mesh_sandbox() -> Peer {
        let port = free_port();
        let mut command = Command::new(interpreter());
        command
            .args([
                "-m",
                "uvicorn",
                "--no-access-log",
                "--log-level",
                "error",
                "--port",
                &port.to_string(),
            ])
            .arg("mesh_sandbox.api:app")
            .envs([
                ("AUTH_MODE", "full"),
                ("STORE_MODE", "memory"),
                ("SHARED_KEY", "TestKey"),
            ]);
        Peer::start(port, &mut command)
    }

    /// Redis that syncs its file on every write.
    pub fn redis(folder: &Path) -> Peer {
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(folder);
        Peer::start(port, &mut command)
    }

    /// nginx that writes bodies to files, behind TLS.
    pub fn nginx(folder: &Path, certificate: &Path, key: &Path) -> Peer {
        let (port, inner) = (free_port(), free_port());
        let base = folder.display();
        let configuration = format!(
            "daemon off; worker_processes 1; pid {base}/nginx.pid; error_log {base}/error.log; user root;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; client_max_body_size 200m; client_body_temp_path {base}/bodies;\n\
             proxy_temp_path {base}/proxy; fastcgi_temp_path {base}/f; uwsgi_temp_path {base}/u;\n\
             scgi_temp_path {base}/s; keepalive_requests 100000;\n\
             server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {};\n\
             location / {{ client_body_in_file_only clean; proxy_pass_request_body off;\n\
             proxy_set_header Content-Length 0; proxy_pass http://127.0.0.1:{inner}; }} }}\n\
             server {{ listen 127.0.0.1:{inner}; location / {{ return 202; }} }} }}\n",
            certificate.display(),
            key.display()
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, configuration).expect("the folder can be written");
        let mut command = Command::new("nginx");
        command.arg("-e").arg(folder.join("error.log")).arg("-c").arg(&file);
        Peer::start(port, &mut command)
    }

    /// nginx that serves the files of `folder` behind TLS.
    pub fn nginx_files(folder: &Path, certificate: &Path, key: &Path) -> Peer {
        let port = free_port();
        let base = folder.display();
        let configuration = format!(
            "daemon off; worker_processes 1; pid {base}/nginx.pid; error_log {base}/error.log; user root;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; open_file_cache max=100;\n\
             client_body_temp_path {base}/bodies; proxy_temp_path {base}/proxy; fastcgi_temp_path {base}/f;\n\
             uwsgi_temp_path {base}/u; scgi_temp_path {base}/s; keepalive_requests 100000000;\n\
             server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {};\n\
             ssl_protocols TLSv1.3; root {base}; }} }}\n",
            certificate.display(),
            key.display()
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, configuration).expect("the folder can be written");
        let mut command = Command::new("nginx");
        command.arg("-e").arg(folder.join("error.log")).arg("-c").arg(&file);
        Peer::start(port, &mut command)
    }

    /// The single worker of a peer that forks one.
    pub fn worker(&self) -> u32 {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok())
            .unwrap_or(self.pid())
    }

    /// Plain HTTP to it.
    pub fn target(&self) -> Target {
        Target {
            address: ([127, 0, 0, 1], self.port).into(),
            host: "127.0.0.1".into(),
            tls: None,
        }
    }
}

/// The credentials mesh-sandbox has built in.
pub fn sandbox_credentials(mailbox: &str) -> Credentials {
    Credentials {
        mailbox: mailbox.into(),
        password: "password".into(),
        shared_key: "TestKey".into(),
    }
}

/// SET commands a second that redis-benchmark reaches with 64 clients.
pub fn redis_sets_a_second(redis: &Peer, requests: u64) -> f64 {
    let output = Command::new("redis-benchmark")
        .args([
            "-p",
            &redis.port.to_string(),
            "-c",
            "64",
            "-t",
            "set",
            "-d",
            "1024",
            "--csv",
            "-n",
        ])
        .arg(requests.to_string())
        .output()
        .expect("redis-benchmark starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("\"SET\"")).unwrap_or("");
    let field = line.split(',').nth(1).unwrap_or("").trim_matches('"');
    field
        .parse()
        .unwrap_or_else(|_| panic!("redis-benchmark printed no SET rate: {text}"))
}

/// What fio reaches with one write of 64 KiB and one fdatasync after the other: syncs a second.
pub fn fio_syncs_a_second(folder: &Path) -> f64 {
    let output = Command::new("fio")
        .args([
            "--name=sync",
            "--rw=write",
            "--bs=64k",
            "--size=256m",
            "--direct=1",
            "--fdatasync=1",
        ])
        .args([
            "--ioengine=psync",
            "--time_based",
            "--runtime=1",
            "--output-format=json",
            "--overwrite=1",
        ])
        .arg(format!("--directory={}", folder.display()))
        .output()
        .expect("fio starts");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("fio prints JSON");
    json["jobs"][0]["write"]["iops"].as_f64().expect("fio tells its rate")
}

/// TLS to a peer whose certificate is beside the point.
pub fn trust_anything() -> tokio_rustls::TlsConnector {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
    use std::sync::Arc;

    #[derive(Debug)]
    struct Anything;
    impl ServerCertVerifier for Anything {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::ring::default_provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    tokio_rustls::TlsConnector::from(Arc::new(config))
}
