//! The two doors: limits, slow and oversized requests, the status page, certificates and inventories that change.

use super::boot_server::{BootServer, N1_MAC, Serving, curl, openssl, sentence, text, wait_for};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

/// A request as curl sends it; gives the status.
fn https(serving: &Serving, arguments: &[&str], path: &str) -> String {
    let ca = serving.ca.display().to_string();
    let url = format!("{}{path}", serving.url());
    let mut all = vec!["-o", "/dev/null", "-w", "%{http_code}", "--cacert", &ca];
    all.extend(arguments);
    all.push(&url);
    curl(&all)
}

#[test]
fn every_wrong_request_gets_its_own_clear_answer() {
    let server = BootServer::new();
    let serving = server.serve();
    for (path, body, status, words) in [
        ("/", json!({}), 404, "no such call"),
        ("/v1/enrol/", json!({}), 404, "no such call"),
        ("/status.json", json!({}), 404, "no such call"),
        ("/v1/enrol", json!({}), 400, "missing field `mac`"),
        ("/v1/enrol", json!([]), 400, "not what this call takes"),
        ("/v1/enrol", json!({"mac": "x"}), 400, "is not a MAC address"),
        (
            "/v1/enrol",
            json!({"mac": N1_MAC, "role": "node"}),
            400,
            "unknown field `role`",
        ),
        (
            "/v1/check-in",
            json!({"certname": "../x", "release": "1"}),
            400,
            "is not a host name",
        ),
        (
            "/v1/check-in",
            json!({"certname": "x", "release": "../1"}),
            400,
            "is not a release",
        ),
        (
            "/v1/redeem",
            json!({"certname": "x", "role": "node", "datacentre": "north"}),
            400,
            "missing field `token`",
        ),
        (
            "/v1/redeem",
            json!({"certname": "x", "role": "node", "datacentre": "north", "token": "x"}),
            403,
            "not good",
        ),
        (
            "/v1/enrol",
            json!({"mac": N1_MAC, "serial": "x".repeat(5_000)}),
            413,
            "larger than 4096 bytes",
        ),
    ] {
        let answer = serving.post(path, &body, None);
        assert_eq!(answer.status, status, "{path} {body}");
        assert!(
            sentence(&answer).contains(words),
            "{path} {body}: {}",
            sentence(&answer)
        );
    }
    assert_eq!(https(&serving, &["-X", "GET"], "/v1/enrol"), "405");
    assert_eq!(https(&serving, &["-d", "not json"], "/v1/stage"), "400");
    let header = format!("X-Long: {}", "x".repeat(20_000));
    assert_eq!(https(&serving, &["-d", "{}", "-H", &header], "/v1/stage"), "431");
    let many: Vec<String> = (0..60)
        .flat_map(|number| ["-H".to_owned(), format!("X-{number}: 1")])
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(
        https(&serving, &[&["-d", "{}"], many.as_slice()].concat(), "/v1/stage"),
        "431"
    );
    assert_eq!(
        https(&serving, &["--tls-max", "1.2", "-d", "{}"], "/v1/stage"),
        "400",
        "TLS 1.2 is spoken"
    );
    // Older TLS and plain HTTP are not.
    let ca = serving.ca.display().to_string();
    let old = Command::new("curl")
        .args(["-sS", "--tls-max", "1.1", "--cacert", &ca, &serving.url()])
        .output()
        .expect("curl runs");
    assert!(!old.status.success(), "{}", text(&old));
    let plain = Command::new("curl")
        .args(["-sS", "--max-time", "10", &format!("http://{}", serving.machines)])
        .output()
        .expect("curl runs");
    assert!(!plain.status.success(), "{}", text(&plain));
}

#[test]
fn slow_clients_are_let_go_and_honest_ones_are_served() {
    let server = BootServer::new();
    let text = server.read("provisioning.toml") + "patience_ms = 600\nconnections_max = 12\n";
    server.write("provisioning.toml", &text);
    let serving = server.serve();
    // One that says nothing, one that never ends its handshake, and as many as there is room for.
    let mut silent: Vec<TcpStream> = (0..12)
        .map(|_| TcpStream::connect(serving.machines).expect("connected"))
        .collect();
    let _ = silent[0].write_all(&[0x16, 0x03, 0x01]);
    let start = Instant::now();
    wait_for("an honest one is served", || {
        let answer = serving.client().post(
            "/v1/stage",
            &json!({"mac": N1_MAC, "stage": "initrd"}),
            None,
            Duration::from_secs(2),
        );
        answer.is_ok_and(|answer| answer.status == 204)
    });
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "the silent ones are let go: {:?}",
        start.elapsed()
    );
    for stream in &mut silent {
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        let mut byte = [0u8; 1];
        let end = stream.read(&mut byte);
        assert!(matches!(end, Ok(0) | Err(_)), "closed: {end:?}");
    }
    // A head and a body that never end: openssl as the client that dawdles.
    for (dawdler, answer) in [
        ("POST /v1/stage HTTP/1.1\r\nHost: x\r\nX: ", ""),
        (
            "POST /v1/stage HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
            "408",
        ),
    ] {
        let mut child = Command::new("openssl")
            .args([
                "s_client",
                "-quiet",
                "-connect",
                &serving.machines.to_string(),
                "-servername",
                "localhost",
            ])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("openssl runs");
        child
            .stdin
            .as_mut()
            .expect("a pipe")
            .write_all(dawdler.as_bytes())
            .expect("written");
        let mut said = String::new();
        let start = Instant::now();
        child
            .stdout
            .take()
            .expect("a pipe")
            .read_to_string(&mut said)
            .expect("it ends");
        let _ = child.kill();
        let _ = child.wait();
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{dawdler:?} took {:?}",
            start.elapsed()
        );
        assert!(said.contains(answer), "{dawdler:?}: {said}");
    }
}

#[test]
fn one_address_cannot_guess_for_long() {
    let server = BootServer::new();
    let serving = server.serve();
    let body = json!({"certname": "n1.north.test.example", "role": "node", "datacentre": "north", "token": "0"});
    let statuses: Vec<u16> = (0..20)
        .map(|_| serving.post("/v1/redeem", &body, None).status)
        .collect();
    assert!(statuses[..10].iter().all(|status| *status == 403), "{statuses:?}");
    assert!(statuses[18..].iter().all(|status| *status == 429), "{statuses:?}");
    let stage = serving.post("/v1/stage", &json!({"mac": N1_MAC, "stage": "initrd"}), None);
    assert_eq!(stage.status, 204, "other calls have a rate of their own");
}

#[test]
fn the_status_page_shows_every_machine_and_escapes_what_strangers_write() {
    let server = BootServer::new();
    server.add("1", 1);
    server.ok(&["release", "promote", "1", "--site", "north"]);
    let serving = server.serve();
    let hostile = "<script>alert('x')</script>\u{1b}[2J\r\nSet-Cookie: a=b & \"more\"";
    let body = json!({"mac": N1_MAC, "stage": "root", "failed": hostile});
    assert_eq!(serving.post("/v1/stage", &body, None).status, 204);
    server.ok(&["arm", "n2.north"]);
    let page = serving.page("/");
    for word in [
        "n1.north",
        "n2.north",
        "n1.south",
        N1_MAC,
        "127.0.0.12",
        "witness",
        "armed until",
        "root failed",
        "unproved",
        "http-equiv=\"refresh\"",
    ] {
        assert!(page.contains(word), "`{word}` is not on the page:\n{page}");
    }
    assert!(
        page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"),
        "{page}"
    );
    assert!(page.contains("&amp; &quot;more&quot;"));
    assert!(!page.contains("<script") && !page.contains('\u{1b}'));
    assert!(
        !serving.log().contains('\u{1b}') && !serving.log().contains("\nSet-Cookie"),
        "nor in the log"
    );
    let status: Value = serde_json::from_str(&serving.page("/status.json")).expect("JSON");
    assert_eq!(status["machines"].as_array().map(Vec::len), Some(3));
    assert_eq!(status["machines"][0]["stage"], "root failed");
    let table = server.ok(&["status"]);
    assert!(
        table.contains("root failed") && table.contains("armed until"),
        "{table}"
    );
    let heads = curl(&["-i", &format!("http://{}/", serving.operator)]);
    for head in [
        "content-security-policy: default-src 'none'",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
    ] {
        assert!(heads.to_ascii_lowercase().contains(head), "{heads}");
    }
    // A name that somebody made point here gets nothing; nor is anything else there.
    let url = format!("http://{}/status.json", serving.operator);
    let code = |arguments: &[&str]| curl(&[&["-o", "/dev/null", "-w", "%{http_code}"], arguments].concat());
    assert_eq!(code(&["-H", "Host: evil.example", &url]), "421");
    assert_eq!(code(&["-H", "Host: localhost:8480", &url]), "200");
    assert_eq!(code(&[&format!("http://{}/v1/enrol", serving.operator)]), "404");
    assert_eq!(code(&["-X", "POST", &format!("http://{}/", serving.operator)]), "404");
}

#[test]
fn a_changed_inventory_is_taken_over_and_a_broken_one_is_not() {
    let server = BootServer::new();
    let serving = server.serve();
    let more = "  - {name: n9.north, site: north, role: node, macs: [\"52:54:00:00:00:99\"], address: 127.0.0.99, firmware: bios}\n";
    let inventory = super::boot_server::INVENTORY;
    server.write("inventory.yaml", &format!("{inventory}{more}"));
    wait_for("the page shows it", || serving.page("/").contains("n9.north"));
    wait_for("dnsmasq's file has it", || {
        server.read("out/north/dnsmasq.conf").contains("52:54:00:00:00:99")
    });
    server.write("inventory.yaml", "format: [");
    wait_for("the log says so", || {
        serving.log().contains("the inventory as it was stays in force")
    });
    assert!(serving.page("/").contains("n9.north"));
}

#[test]
fn a_renewed_certificate_is_taken_without_a_restart() {
    let server = BootServer::new();
    let serving = server.serve();
    let serial = || {
        let shown = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "openssl s_client -connect {} </dev/null 2>/dev/null | openssl x509 -noout -serial",
                serving.machines
            ))
            .output()
            .expect("openssl runs");
        String::from_utf8_lossy(&shown.stdout).into_owned()
    };
    let before = serial();
    assert!(before.starts_with("serial="), "{before}");
    let arguments = [
        "x509", "-req", "-in", "boot.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "30", "-out", "boot.pem",
        "-extfile", "boot.ext",
    ];
    openssl(&server.folder, &arguments);
    wait_for("the new one is shown", || serial() != before);
    server.write("boot.pem", "nonsense");
    wait_for("the log says so", || {
        serving.log().contains("the certificate as it was stays in force")
    });
    assert_eq!(https(&serving, &["-d", "{}"], "/v1/stage"), "400");
}

#[test]
fn a_service_that_cannot_start_says_why() {
    let server = BootServer::new();
    assert!(server.fails(1, &["serve"]).contains("boot.pem"), "no certificate");
    server.certificates();
    super::boot_server::certificate_authority(&server.folder, "other");
    let config = server.read("provisioning.toml");
    server.write(
        "provisioning.toml",
        &config.replace("key = \"boot.key\"", "key = \"other.key\""),
    );
    assert!(
        server.fails(1, &["serve"]).contains("other.key"),
        "another certificate's key"
    );
    server.write("provisioning.toml", &config);
    let serving = server.serve();
    server.write(
        "provisioning.toml",
        &config.replace(
            "\nlisten = \"127.0.0.1:0\"",
            &format!("\nlisten = \"{}\"", serving.machines),
        ),
    );
    assert!(
        server.fails(1, &["serve"]).contains(&serving.machines.to_string()),
        "an address in use"
    );
}
