use super::certificates::{dates, matching, revocation_list};
use super::host::{direct_write, entropy, io_uring, kernel, space, storage};
use super::*;
use crate::cli::sandbox::prepare;
use std::fs;
use std::path::PathBuf;

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("vertebra-doctor-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("the temporary folder is writable");
    path
}

fn now() -> i64 {
    (crate::base::Clock::default().now().ms() / 1_000) as i64
}

#[test]
fn kernels_are_told_apart() {
    for (release, verdict) in [
        ("6.18.44-fc", Verdict::Ok),
        ("6.1.0-28-amd64", Verdict::Ok),
        ("7.0", Verdict::Ok),
        ("6.0.12", Verdict::Fail),
        ("5.15.0-generic", Verdict::Fail),
        ("", Verdict::Warn),
        ("custom", Verdict::Warn),
    ] {
        assert_eq!(kernel(release).verdict, verdict, "{release}");
    }
}

#[test]
fn entropy_and_space_are_judged_at_their_bounds() {
    assert_eq!(entropy("256").verdict, Verdict::Ok);
    assert_eq!(entropy("255").verdict, Verdict::Warn);
    assert_eq!(entropy("").verdict, Verdict::Warn);
    assert_eq!(space(100, 100).verdict, Verdict::Fail);
    assert_eq!(space(399, 100).verdict, Verdict::Warn);
    assert_eq!(space(400, 100).verdict, Verdict::Ok);
}

#[test]
fn a_ring_can_be_made_where_the_tests_run() {
    assert_eq!(
        io_uring("0").verdict,
        Verdict::Ok,
        "the node needs io_uring, and so do its tests"
    );
}

#[test]
fn storage_is_looked_at_where_the_folder_will_be_and_nothing_stays_behind() {
    let folder = folder("storage");
    let lines = storage(&folder.join("not/made/yet"), 1);
    assert!(
        lines.iter().any(|line| line.about == "file system") && lines.iter().any(|line| line.about == "disk space")
    );
    let _ = direct_write(&folder); // whether it works depends on the temporary folder's file system
    assert_eq!(fs::read_dir(&folder).expect("there").count(), 0);
    fs::remove_dir_all(&folder).expect("own folder");
}

#[test]
fn sandbox_certificates_are_good_and_their_keys_fit_only_them() {
    let folder = folder("certificates");
    prepare(&folder).expect("made");
    assert_eq!(dates("k", &folder.join("server.pem"), now()).verdict, Verdict::Ok);
    assert_eq!(
        dates("k", &folder.join("server.pem"), now() - 10 * 86_400).verdict,
        Verdict::Fail,
        "not valid yet"
    );
    assert_eq!(
        dates("k", &folder.join("server.pem"), now() + 10 * 366 * 86_400).verdict,
        Verdict::Fail,
        "expired"
    );
    let close = now() + 5 * 365 * 86_400 - 20 * 86_400;
    assert_eq!(
        dates("k", &folder.join("server.pem"), close).verdict,
        Verdict::Warn,
        "soon"
    );
    assert_eq!(
        dates("k", &folder.join("server.key"), now()).verdict,
        Verdict::Fail,
        "a key is no certificate"
    );
    assert_eq!(dates("k", &folder.join("none.pem"), now()).verdict, Verdict::Fail);
    assert_eq!(
        matching("k", &folder.join("server.pem"), &folder.join("server.key")).verdict,
        Verdict::Ok
    );
    assert_eq!(
        matching("k", &folder.join("server.pem"), &folder.join("sandbox.key")).verdict,
        Verdict::Fail
    );
    assert_eq!(
        matching("k", &folder.join("server.pem"), &folder.join("server.pem")).verdict,
        Verdict::Fail
    );
    fs::remove_dir_all(&folder).expect("own folder");
}

#[test]
fn revocation_lists_are_judged_by_their_next_update() {
    use rcgen::{CertificateRevocationListParams, KeyIdMethod, SerialNumber};
    let folder = folder("crl");
    prepare(&folder).expect("made");
    let key = rcgen::KeyPair::from_pem(&fs::read_to_string(folder.join("ca.key")).expect("made")).expect("a key");
    let issuer =
        rcgen::Issuer::from_ca_cert_pem(&fs::read_to_string(folder.join("ca.pem")).expect("made"), key).expect("a CA");
    let list = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 1),
        next_update: rcgen::date_time_ymd(2026, 2, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![],
        key_identifier_method: KeyIdMethod::Sha256,
    }
    .signed_by(&issuer)
    .expect("signed");
    let (pem, der) = (folder.join("list.pem"), folder.join("list.crl"));
    fs::write(&pem, list.pem().expect("PEM")).expect("writable");
    fs::write(&der, list.der()).expect("writable");
    let at = |month: u8| rcgen::date_time_ymd(2026, month, 15).unix_timestamp();
    for file in [&pem, &der] {
        assert_eq!(revocation_list(file, at(1)).verdict, Verdict::Ok);
        assert_eq!(revocation_list(file, at(3)).verdict, Verdict::Fail);
    }
    assert_eq!(revocation_list(&folder.join("ca.pem"), at(1)).verdict, Verdict::Fail);
    assert_eq!(revocation_list(&folder.join("none"), at(1)).verdict, Verdict::Fail);
    fs::remove_dir_all(&folder).expect("own folder");
}

#[test]
fn an_address_in_use_and_an_open_key_are_told() {
    let folder = folder("ports");
    prepare(&folder).expect("made");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let loopback = "127.0.0.1:0".parse().expect("an address");
    let config = Config::sandbox(&folder, address, loopback);
    let lines = listening(&config);
    assert!(
        lines
            .iter()
            .any(|line| line.about == "http.listen" && line.verdict == Verdict::Fail),
        "{lines:?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.about == "admin.listen" && line.verdict == Verdict::Ok),
        "{lines:?}"
    );
    assert!(secrets(&config).iter().all(|line| line.verdict == Verdict::Ok));
    let key = &config.tls.key;
    let mode = |mode| fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("own file");
    mode(0o644);
    assert!(
        secrets(&config)
            .iter()
            .any(|line| line.about == "tls.key" && line.verdict == Verdict::Warn)
    );
    assert!(
        certificates::lines(&config, now() as u64 * 1_000)
            .iter()
            .all(|line| line.verdict != Verdict::Fail)
    );
    let shown = render(&secrets(&config));
    assert!(
        shown.contains("WARN") && shown.contains("chmod o-rwx") && !shown.contains("TestKey"),
        "{shown}"
    );
    fs::remove_dir_all(&folder).expect("own folder");
}

#[test]
fn a_certificate_among_peers_names_the_node_for_both_ends_under_the_clusters_authority() {
    use crate::cli::certificates::make_peers;
    let folder = folder("peers");
    prepare(&folder).expect("made");
    let peers = folder.join("peers");
    fs::create_dir(&peers).expect("writable");
    make_peers(&peers, &["n1.example"]).expect("made");
    let nowhere = "127.0.0.1:0".parse().expect("an address");
    let mut config = Config::sandbox(&folder, nowhere, nowhere);
    config.node.name = "n1.example".to_owned();
    let good = crate::config::Cluster::sandbox(&peers, "n1.example", nowhere);
    let mut failed = |change: &dyn Fn(&mut Config)| {
        config.cluster = Some(good.clone());
        change(&mut config);
        let lines = cluster::lines(&config, now() as u64 * 1_000);
        config.node.name = "n1.example".to_owned();
        let failed = lines.into_iter().filter(|line| line.verdict == Verdict::Fail);
        failed.map(|line| line.found).collect::<Vec<String>>()
    };
    assert_eq!(failed(&|_| {}), Vec::<String>::new());
    let other_name = failed(&|config| config.node.name = "n2.example".to_owned());
    assert!(
        other_name.iter().any(|found| found.contains("is called")),
        "{other_name:?}"
    );
    let other_authority = failed(&|config| {
        config.cluster.as_mut().expect("set").ca = config.tls.client_ca.clone();
    });
    assert_eq!(other_authority.len(), 1, "{other_authority:?}");
    let for_one_end = failed(&|config| {
        let cluster = config.cluster.as_mut().expect("set");
        (cluster.certificate, cluster.key) = (config.tls.certificate.clone(), config.tls.key.clone());
        cluster.ca.clone_from(&config.tls.client_ca);
        "localhost".clone_into(&mut config.node.name);
    });
    assert!(
        for_one_end.iter().any(|found| found.contains("calls")),
        "{for_one_end:?}"
    );
    fs::remove_dir_all(&folder).expect("own folder");
}
