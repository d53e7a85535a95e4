//! Certificates, trust, resumption and reload.

use super::*;
use crate::base::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::time::SystemTime;

/// A throw-away certificate authority.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, PEM.
pub(super) struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    pub(super) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
        let pem = issuer.pem();
        Authority { issuer, pem }
    }

    pub(super) fn issue(&self, name: &str, serial: u64) -> Identity {
        self.issue_until(name, serial, SystemTime::now() + Duration::from_secs(86_400))
    }

    fn issue_until(&self, name: &str, serial: u64, end: SystemTime) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "A12345");
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = (SystemTime::now() - Duration::from_secs(3600)).into();
        params.not_after = end.into();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A CRL that names these serials and ends at `next_update`.
    fn revoke(&self, serials: &[u64], next_update: SystemTime) -> Vec<u8> {
        let params = CertificateRevocationListParams {
            this_update: (SystemTime::now() - Duration::from_secs(86_400 * 30)).into(),
            next_update: next_update.into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: (SystemTime::now() - Duration::from_secs(60)).into(),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params
            .signed_by(&self.issuer)
            .expect("signed")
            .pem()
            .expect("PEM")
            .into_bytes()
    }
}

fn tomorrow() -> SystemTime {
    SystemTime::now() + Duration::from_secs(86_400)
}

fn material(server: &Identity, authority: &Authority, crls: &[Vec<u8>]) -> TlsMaterial {
    let authority = Some(authority.pem.as_bytes());
    TlsMaterial::from_bytes(server.certificate.as_bytes(), server.key.as_bytes(), authority, crls).expect("material")
}

pub(super) fn shared(authority: &Authority, client: ClientAuthentication) -> Arc<TlsShared> {
    let policy = TlsPolicy {
        client,
        ..TlsPolicy::default()
    };
    let server = authority.issue("localhost", 1);
    TlsShared::new(material(&server, authority, &[]), policy).expect("TLS")
}

/// Reloads with a CRL that names this serial.
pub(super) fn reload_revoking(tls: &TlsShared, authority: &Authority, serial: u64) {
    let server = authority.issue("localhost", 1);
    let crl = authority.revoke(&[serial], tomorrow());
    tls.reload(material(&server, authority, &[crl])).expect("reload");
}

pub(super) fn client_config(authority: &Authority, identity: Option<&Identity>, alpn: &[u8]) -> Arc<ClientConfig> {
    client_config_of(
        authority,
        identity,
        alpn,
        &[&rustls::version::TLS13, &rustls::version::TLS12],
    )
}

fn client_config_of(
    authority: &Authority,
    identity: Option<&Identity>,
    alpn: &[u8],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("PEM"))
        .expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("PEM")],
                PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("PEM"),
            )
            .expect("a pair"),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

/// Whether a client gets an answer; a refusal may show in the handshake or at the first read.
fn is_served(node: &Node, config: &Arc<ClientConfig>) -> bool {
    let Ok(mut client) = Client::tls(node.address, config) else {
        return false;
    };
    let sent = client.wire.write_all(b"GET /who HTTP/1.1\r\nhost: localhost\r\n\r\n");
    sent.is_ok() && client.receive(false).is_ok_and(|answer| answer.status == 200)
}

#[test]
fn a_client_is_known_by_its_certificate_in_both_versions_of_tls() {
    let authority = Authority::new("Test CA");
    let node = Node::tls(Limits::default(), &shared(&authority, ClientAuthentication::Required));
    let identity = authority.issue("mailbox.example", 7);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = client_config_of(&authority, Some(&identity), b"http/1.1", &[version]);
        let mut client = Client::tls(node.address, &config).expect("handshake");
        for _ in 0..20 {
            assert_eq!(client.get("/who").body, b"mailbox.example");
        }
        let body = pattern(0, 1_000_000);
        assert!(client.post("/echo", &body).body == body);
        assert!(client.get("/pattern/2000000").body == pattern(0, 2_000_000));
    }
    assert_eq!(read(&node.door.figures().handshakes_full), 2);
    node.until_empty();
    node.stop();
}

#[test]
fn what_is_read_of_a_certificate_is_right_and_its_debug_names_nobody() {
    let authority = Authority::new("Test CA");
    let identity = authority.issue("PLANTED", 0x0102);
    let der = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("PEM");
    let read = ClientCertificate::read(&der).expect("X.509");
    assert_eq!(
        (read.common_name.as_str(), read.organisation.as_deref()),
        ("PLANTED", Some("A12345"))
    );
    assert_eq!(
        (read.serial.as_slice(), read.dns_names.as_slice()),
        ([1, 2].as_slice(), ["localhost".to_owned()].as_slice())
    );
    assert!(read.not_after > Timestamp::from_ms(1_700_000_000_000));
    assert!(!format!("{read:?}").contains("PLANTED"));
    assert_eq!(ClientCertificate::read(&CertificateDer::from(vec![1, 2, 3])), None);
}

#[test]
fn nobody_gets_in_without_a_certificate_of_the_right_authority() {
    let authority = Authority::new("Test CA");
    let other = Authority::new("Test CA");
    let node = Node::tls(Limits::default(), &shared(&authority, ClientAuthentication::Required));
    let good = authority.issue("good", 2);
    let foreign = other.issue("foreign", 3);
    let expired = authority.issue_until("expired", 4, SystemTime::now() - Duration::from_secs(60));
    assert!(is_served(&node, &client_config(&authority, Some(&good), b"http/1.1")));
    for refused in [None, Some(&foreign), Some(&expired)] {
        assert!(!is_served(&node, &client_config(&authority, refused, b"http/1.1")));
    }
    node.until("three failed", |figures| read(&figures.handshakes_failed) == 3);
    node.until_empty();
    node.stop();
}

#[test]
fn an_optional_certificate_may_be_missing_but_not_bad() {
    let authority = Authority::new("Test CA");
    let node = Node::tls(Limits::default(), &shared(&authority, ClientAuthentication::Optional));
    let mut nobody = Client::tls(node.address, &client_config(&authority, None, b"http/1.1")).expect("handshake");
    assert_eq!(nobody.get("/who").body, b"nobody");
    let foreign = Authority::new("Test CA").issue("foreign", 3);
    assert!(!is_served(
        &node,
        &client_config(&authority, Some(&foreign), b"http/1.1")
    ));
    node.stop();
}

#[test]
fn a_session_is_resumed_on_another_connection_with_the_same_client() {
    let authority = Authority::new("Test CA");
    let tls = shared(&authority, ClientAuthentication::Required);
    // Two reactors of one node share the tickets.
    let nodes = [Node::tls(Limits::default(), &tls), Node::tls(Limits::default(), &tls)];
    let identity = authority.issue("resumer", 5);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = client_config_of(&authority, Some(&identity), b"http/1.1", &[version]);
        for (attempt, resumed) in [false, true, true, true].into_iter().enumerate() {
            let mut client = Client::tls(nodes[attempt % 2].address, &config).expect("handshake");
            assert_eq!(
                client.get("/who").body,
                b"resumer",
                "a resumed session keeps its client"
            );
            assert_eq!(client.resumed, resumed, "attempt {attempt}");
        }
    }
    let resumed: u64 = nodes
        .iter()
        .map(|node| read(&node.door.figures().handshakes_resumed))
        .sum();
    assert_eq!(resumed, 6);
    for node in nodes {
        node.stop();
    }
}

#[test]
fn a_new_certificate_serves_new_connections_while_old_ones_go_on() {
    let authority = Authority::new("Test CA");
    let tls = shared(&authority, ClientAuthentication::Required);
    let node = Node::tls(Limits::default(), &tls);
    let identity = authority.issue("client", 5);
    let config = client_config(&authority, Some(&identity), b"http/1.1");
    let mut old = Client::tls(node.address, &config).expect("handshake");
    assert_eq!(old.get("/hello").status, 200);
    let before = tls.status();
    let next = authority.issue_until("localhost", 99, SystemTime::now() + Duration::from_secs(3 * 86_400));
    tls.reload(material(&next, &authority, &[])).expect("reload");
    let after = tls.status();
    assert_eq!(after.generation, before.generation + 1);
    assert!(after.certificate_not_after > before.certificate_not_after);
    assert_eq!(old.get("/hello").status, 200, "an open connection goes on");
    let mut resumed = Client::tls(node.address, &config).expect("handshake");
    assert_eq!(resumed.get("/hello").status, 200);
    assert!(resumed.resumed, "trust did not change, so tickets still work");
    let mut fresh =
        Client::tls(node.address, &client_config(&authority, Some(&identity), b"http/1.1")).expect("handshake");
    assert_eq!(fresh.get("/hello").status, 200);
    node.stop();
}

#[test]
fn material_that_does_not_fit_changes_nothing() {
    let authority = Authority::new("Test CA");
    let tls = shared(&authority, ClientAuthentication::Required);
    let one = authority.issue("localhost", 1);
    let two = authority.issue("localhost", 2);
    let crossed = Identity {
        certificate: one.certificate,
        key: two.key,
    };
    assert!(matches!(
        tls.reload(material(&crossed, &authority, &[])),
        Err(TlsError::Pair(_))
    ));
    let no_authority = TlsMaterial::from_bytes(two.certificate.as_bytes(), crossed.key.as_bytes(), None, &[]);
    assert!(matches!(
        tls.reload(no_authority.expect("parses")),
        Err(TlsError::Authority)
    ));
    assert_eq!(tls.status().generation, 1);
    let pem = two.certificate.as_bytes();
    let junk =
        |certificate: &[u8], key: &[u8], crls: &[Vec<u8>]| TlsMaterial::from_bytes(certificate, key, None, crls).err();
    assert!(matches!(junk(b"junk", b"junk", &[]), Some(TlsError::Certificate)));
    assert!(matches!(junk(pem, b"junk", &[]), Some(TlsError::Key)));
    assert!(matches!(
        junk(pem, crossed.key.as_bytes(), &[b"junk".to_vec()]),
        Some(TlsError::Crl)
    ));
    let missing = TlsFiles {
        certificate: "/nonexistent/certificate.pem".into(),
        ..TlsFiles::default()
    };
    assert!(matches!(
        TlsMaterial::from_files(&missing),
        Err(TlsError::Unreadable { .. })
    ));
}

#[test]
fn a_revoked_certificate_is_refused_on_new_resumed_and_open_connections() {
    let authority = Authority::new("Test CA");
    let tls = shared(&authority, ClientAuthentication::Required);
    let node = Node::tls(Limits::default(), &tls);
    let revoked = client_config(&authority, Some(&authority.issue("revoked", 66)), b"http/1.1");
    let good = client_config(&authority, Some(&authority.issue("good", 67)), b"http/1.1");
    let mut open_revoked = Client::tls(node.address, &revoked).expect("handshake");
    let mut open_good = Client::tls(node.address, &good).expect("handshake");
    assert_eq!(open_revoked.get("/who").status, 200);
    assert_eq!(open_good.get("/who").status, 200);
    let server = authority.issue("localhost", 1);
    let crl = authority.revoke(&[66], tomorrow());
    tls.reload(material(&server, &authority, &[crl])).expect("reload");
    assert_eq!(tls.status().crls, 1);
    // The open connection.
    let answer = open_revoked.get("/who");
    assert_eq!(answer.status, 403);
    assert!(String::from_utf8_lossy(&answer.body).contains("CERTIFICATE_REFUSED"));
    assert!(open_revoked.ends());
    assert_eq!(open_good.get("/who").status, 200);
    // A new one; this client holds a ticket, which must not let it past.
    assert!(!is_served(&node, &revoked));
    assert!(is_served(&node, &good));
    assert_eq!(read(&node.door.figures().refused_certificate), 1);
    assert_eq!(read(&node.door.figures().handshakes_resumed), 0);
    node.stop();
}

#[test]
fn an_open_connection_ends_with_its_authority_and_with_its_certificate() {
    let authority = Authority::new("Test CA");
    let tls = shared(&authority, ClientAuthentication::Required);
    let node = Node::tls(Limits::default(), &tls);
    let brief = authority.issue_until("brief", 5, SystemTime::now() + Duration::from_secs(3));
    let mut expires =
        Client::tls(node.address, &client_config(&authority, Some(&brief), b"http/1.1")).expect("handshake");
    assert_eq!(expires.get("/who").status, 200);
    until("it has expired", || {
        std::thread::sleep(Duration::from_millis(100));
        expires.get("/who").status == 403
    });
    assert!(expires.ends());
    let identity = authority.issue("client", 6);
    let mut open =
        Client::tls(node.address, &client_config(&authority, Some(&identity), b"http/1.1")).expect("handshake");
    assert_eq!(open.get("/who").status, 200);
    let server = authority.issue("localhost", 1);
    tls.reload(material(&server, &Authority::new("Next CA"), &[]))
        .expect("reload");
    assert_eq!(open.get("/who").status, 403);
    node.stop();
}

#[test]
fn twenty_megabytes_go_up_over_tls_unchanged() {
    let authority = Authority::new("Test CA");
    let tls = shared(&authority, ClientAuthentication::Optional);
    let node = Node::tls(Limits::default(), &tls);
    let mut client = Client::tls(node.address, &client_config(&authority, None, b"http/1.1")).expect("handshake");
    let body = pattern(0, 20_000_000);
    let digest = blake3::hash(&body).to_hex();
    let answer = client.post("/sum", &body);
    assert_eq!(answer.body, format!("20000000 {digest}").into_bytes());
    node.stop();
}

#[test]
fn a_client_whose_authority_has_no_crl_is_refused_unless_that_is_allowed() {
    let authority = Authority::new("Test CA");
    let other = Authority::new("Other CA");
    let server = authority.issue("localhost", 1);
    let crl_of_other = other.revoke(&[1], tomorrow());
    let identity = client_config(&authority, Some(&authority.issue("client", 5)), b"http/1.1");
    for unknown_allowed in [false, true] {
        let policy = TlsPolicy {
            revocation: RevocationPolicy {
                unknown_allowed,
                ..RevocationPolicy::default()
            },
            ..TlsPolicy::default()
        };
        let tls = TlsShared::new(
            material(&server, &authority, std::slice::from_ref(&crl_of_other)),
            policy,
        )
        .expect("TLS");
        let node = Node::tls(Limits::default(), &tls);
        assert_eq!(is_served(&node, &identity), unknown_allowed);
        node.stop();
    }
}

#[test]
fn an_expired_crl_serves_for_its_grace_and_then_nobody_gets_in() {
    let authority = Authority::new("Test CA");
    let server = authority.issue("localhost", 1);
    let crl = authority.revoke(&[66], SystemTime::now() - Duration::from_secs(3600));
    let revoked = client_config(&authority, Some(&authority.issue("revoked", 66)), b"http/1.1");
    let good = client_config(&authority, Some(&authority.issue("good", 67)), b"http/1.1");
    for (expired_grace_s, served) in [(7200, true), (60, false)] {
        let policy = TlsPolicy {
            revocation: RevocationPolicy {
                expired_grace_s,
                ..RevocationPolicy::default()
            },
            ..TlsPolicy::default()
        };
        let tls = TlsShared::new(material(&server, &authority, std::slice::from_ref(&crl)), policy).expect("TLS");
        assert!(tls.status().crl_next_update.is_some());
        let node = Node::tls(Limits::default(), &tls);
        assert_eq!(is_served(&node, &good), served);
        assert!(!is_served(&node, &revoked), "what it names stays revoked");
        node.stop();
    }
}

#[test]
fn a_handshake_that_does_not_go_on_is_ended() {
    let authority = Authority::new("Test CA");
    let tls = shared(&authority, ClientAuthentication::Required);
    let node = Node::tls(limits::short(), &tls);
    let mut silent = node.client();
    let mut plain = node.client();
    plain.send("GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n");
    plain.ends();
    silent.ends();
    node.until("both counted", |figures| read(&figures.handshakes_failed) == 2);
    node.until_empty();
    node.stop();
}

#[test]
fn slow_clients_are_judged_over_tls_too() {
    let authority = Authority::new("Test CA");
    let tls = shared(&authority, ClientAuthentication::Optional);
    let node = Node::tls(limits::short(), &tls);
    let config = client_config(&authority, None, b"http/1.1");
    let mut slow_head = Client::tls(node.address, &config).expect("handshake");
    slow_head.send("GET /hel");
    assert_eq!(slow_head.receive(false).expect("an answer").status, 408);
    let mut slow_reader = Client::tls(node.address, &config).expect("handshake");
    slow_reader.send("GET /pattern/50000000 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    node.until("cut off", |figures| read(&figures.slow_reader) == 1);
    node.until_empty();
    node.stop();
}

#[test]
fn an_idle_connection_costs_little_memory() {
    isolated("http::tests::tls::an_idle_connection_costs_little_memory", || {
        let authority = Authority::new("Test CA");
        let tls = shared(&authority, ClientAuthentication::Required);
        let node = Node::tls(Limits::default(), &tls);
        let identity = authority.issue("client", 5);
        let config = client_config(&authority, Some(&identity), b"http/1.1");
        // What grows once, on either side, is not an idle connection's.
        let mut clients = Vec::new();
        for _ in 0..50 {
            clients.push(Client::tls(node.address, &config).expect("handshake"));
        }
        let before = wire::resident_kib("RssAnon:");
        let connections = 400;
        for _ in 0..connections {
            let mut client = Client::tls(node.address, &config).expect("handshake");
            assert_eq!(client.get("/hello").status, 200);
            clients.push(client);
        }
        let each_kib = (wire::resident_kib("RssAnon:") - before) / connections;
        // Both ends are in this process.
        println!("{each_kib} KiB for both ends");
        assert!(each_kib <= 96, "{each_kib} KiB for both ends of an idle TLS connection");
        node.stop();
    });
}
