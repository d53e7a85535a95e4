//! A node as a site runs it: `vertebra node` with a configuration file, an authority of its own, mailboxes registered
//! through the operator's socket.

use crate::certificates::{Identity, connector};
use crate::mesh::{Credentials, Mailbox};
use crate::node::{Folder, binary, free_port};
use crate::process::{Process, signal};
use crate::wire::{Answer, Connection, Target};
use nix::sys::signal::Signal;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const SHARED_KEY: &str = "SiteKey";
const PASSWORD: &str = "site-password";

/// A running node and its authority.
pub struct Site {
    /// The process.
    pub process: Process,
    folder: Folder,
    port: u16,
    authority: Issuer<'static, KeyPair>,
    authority_pem: String,
    revoked: Vec<u64>,
    lists: u64,
}

impl Site {
    /// Starts a node with these mailboxes (name and ODS code), and waits until it is ready. `extra` is more TOML.
    pub async fn start(mailboxes: &[(&str, &str)], extra: &str) -> Site {
        let folder = Folder::new("site");
        let key = KeyPair::generate().expect("ring makes keys");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "Site test CA");
        let authority_pem = params.self_signed(&key).expect("an authority signs itself").pem();
        let authority = Issuer::new(params, key);
        let port = free_port();
        let configuration = folder.path().join("vertebra.toml");
        let logs = folder.path().join("log");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("ca.pem"), &authority_pem).expect("the folder can be written");
        fs::write(path("shared.key"), SHARED_KEY).expect("the folder can be written");
        let text = format!(
            "[node]\nname = \"site-node\"\nsite = \"site-1\"\ndata = \"data\"\n\n[http]\nlisten = \"127.0.0.1:{port}\"\n\n\
             [tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\nclient_ca = \"ca.pem\"\ncrl = [\"list.pem\"]\n\
             reload_ms = 3600000\n\n[admin]\nsocket = \"admin.sock\"\nlisten = \"127.0.0.1:{}\"\n\n\
             [mesh]\nshared_key = \"shared.key\"\n\n[logging]\nformat = \"text\"\n{extra}",
            free_port()
        );
        fs::write(&configuration, text).expect("the folder can be written");
        let first = server_certificate(&authority, 1);
        write_identity(&folder, &first);
        write_list(&folder, &authority, 1, &[]);
        for secret in ["shared.key", "server.key"] {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(path(secret), fs::Permissions::from_mode(0o600)).expect("a file of our own");
        }
        let process = Process::start(
            Command::new(binary()).arg("node").arg("--config").arg(&configuration),
            &logs,
        );
        let mut site = Site {
            process,
            folder,
            port,
            authority,
            authority_pem,
            revoked: Vec::new(),
            lists: 1,
        };
        site.await_ready().await;
        for (mailbox, ods) in mailboxes {
            let change = json!({ "name": mailbox, "ods": ods, "password": PASSWORD, "only_new": true });
            let answer = site
                .operator("PUT", &format!("/admin/mailboxes/{mailbox}"), &change)
                .await;
            let answer = answer.expect("the operator's socket answers");
            assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
        }
        // A node takes registered workflows alone; with nobody named, everybody may use it.
        let path = format!("/admin/workflows/{}", crate::mesh::WORKFLOW);
        let answer = site
            .operator("PUT", &path, &json!({ "senders": [], "receivers": [] }))
            .await;
        let answer = answer.expect("the operator's socket answers");
        assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
        site
    }

    async fn await_ready(&mut self) {
        let started = Instant::now();
        loop {
            if let Ok(answer) = self.operator("GET", "/health/ready", &Value::Null).await {
                if answer.status == 200 {
                    return;
                }
            }
            assert!(self.process.ended().is_none(), "the node ended:\n{}", self.log_text());
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "the node is not ready:\n{}",
                self.log_text()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// A request through the operator's socket.
    pub async fn operator(&self, method: &str, path: &str, body: &Value) -> std::io::Result<Answer> {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let stream = tokio::net::UnixStream::connect(self.socket()).await?;
        let mut connection = Connection::over(stream);
        let headers = [
            ("Host", "localhost"),
            ("Content-Type", "application/json"),
            ("Connection", "close"),
        ];
        connection.exchange(method, path, &headers, &body).await
    }

    /// What the node printed.
    pub fn log_text(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A client certificate for `ods`, with this serial number.
    pub fn client_identity(&self, ods: &str, serial: u64) -> Identity {
        let key = KeyPair::generate().expect("ring makes keys");
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        let name = format!("test.{}.api.mesh-client.nhs.uk", ods.to_lowercase());
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.authority).expect("a leaf can be signed");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// Where clients connect.
    pub fn target(&self, identity: Option<&Identity>) -> Target {
        let tls = Some(connector(&self.authority_pem, identity));
        Target {
            address: ([127, 0, 0, 1], self.port).into(),
            host: "localhost".into(),
            tls,
        }
    }

    /// A client of `mailbox`.
    pub fn mailbox(&self, mailbox: &str, identity: &Identity) -> Mailbox {
        let credentials = Credentials {
            mailbox: mailbox.into(),
            password: PASSWORD.into(),
            shared_key: SHARED_KEY.into(),
        };
        Mailbox::new(self.target(Some(identity)), credentials)
    }

    /// Puts a new server certificate in the place of the old one; its serial number.
    pub fn renew(&mut self, serial: u64) {
        write_identity(&self.folder, &server_certificate(&self.authority, serial));
    }

    /// Puts something that is no certificate there.
    pub fn spoil_certificate(&mut self) {
        fs::write(self.folder.path().join("server.pem"), "not a certificate").expect("the folder can be written");
    }

    /// Puts a list there that revokes this serial number too.
    pub fn revoke(&mut self, serial: u64) {
        self.revoked.push(serial);
        self.lists += 1;
        write_list(&self.folder, &self.authority, self.lists, &self.revoked);
    }

    /// SIGHUP.
    pub fn reload(&self) {
        assert!(signal(self.process.pid(), Signal::SIGHUP), "the node runs");
    }
}

fn server_certificate(authority: &Issuer<'static, KeyPair>, serial: u64) -> Identity {
    let key = KeyPair::generate().expect("ring makes keys");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).expect("two plain names");
    params.serial_number = Some(SerialNumber::from(serial));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, authority).expect("a leaf can be signed");
    Identity {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

fn write_identity(folder: &Folder, identity: &Identity) {
    fs::write(folder.path().join("server.key"), &identity.key).expect("the folder can be written");
    fs::write(folder.path().join("server.pem"), &identity.certificate).expect("the folder can be written");
}

fn write_list(folder: &Folder, authority: &Issuer<'static, KeyPair>, number: u64, revoked: &[u64]) {
    let revoked = revoked.iter().map(|&serial| RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2124, 1, 1),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = params.signed_by(authority).expect("an authority signs its list");
    fs::write(
        folder.path().join("list.pem"),
        list.pem().expect("a list has a PEM form"),
    )
    .expect("the folder can be written");
}
