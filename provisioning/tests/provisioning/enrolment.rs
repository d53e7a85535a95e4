//! A node enrols once, in its window, and never again needs the boot service.

use super::boot_server::{BootServer, DEADLINE, N1, N1_MAC, Node, Serving, json_of, sentence, text, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

use vertebra_provisioning::http_client::Service;

fn ready() -> (BootServer, Serving) {
    let server = BootServer::new();
    server.add("1", 1);
    server.ok(&["release", "promote", "1", "--all"]);
    let serving = server.serve();
    (server, serving)
}

fn enrol(node: &Node, serving: &Serving, seconds: &str) -> std::process::Output {
    node.run(&serving.url(), &["enrol", "--deadline-seconds", seconds])
}

#[test]
fn an_armed_machine_enrols_and_later_boots_need_no_service() {
    let (server, serving) = ready();
    let node = server.node("n1", N1_MAC, "S1", "1");
    server.ok(&["arm", "n1.north", "--minutes", "5"]);
    assert_eq!(server.status("n1.north")["enrolment"], "armed");
    let output = enrol(&node, &serving, "20");
    assert!(output.status.success(), "{}", text(&output));
    let enrolment = node.enrolment();
    let token = enrolment["token"].as_str().expect("a token").to_owned();
    let key = enrolment["report_key"].as_str().expect("a key").to_owned();
    assert_eq!(
        (enrolment["certname"].as_str(), enrolment["role"].as_str()),
        (Some(N1), Some("node"))
    );
    assert_eq!(enrolment["datacentre"], "north");
    let conf = node.read("etc/puppet/puppet.conf");
    assert!(
        conf.contains(&format!(
            "certname = {N1}\nserver = puppet.test.example\nssldir = /var/lib/puppet/ssl"
        )),
        "{conf}"
    );
    let attributes = node.read("etc/puppet/csr_attributes.yaml");
    assert!(
        attributes.contains(&token)
            && attributes.contains("pp_role: \"node\"")
            && attributes.contains("pp_datacenter: \"north\"")
    );
    assert_eq!(node.read("etc/hostname"), format!("{N1}\n"));
    assert_eq!(node.read("proc/sys/kernel/hostname"), N1);
    for file in ["etc/puppet/csr_attributes.yaml", "var/lib/vertebra/host/enrolment.json"] {
        let mode = node.file(file).metadata().expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
    assert_eq!(server.status("n1.north")["stage"], "enrolled");
    assert_eq!(server.status("n1.north")["stage_proved"], true);

    // The service is gone, and so is the RAM root; the data disk stays.
    let url = serving.url();
    let log = serving.log();
    serving.stop();
    fs::remove_dir_all(node.file("etc")).expect("gone");
    let output = node.run(&url, &["enrol", "--deadline-seconds", "1"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        node.read("etc/puppet/csr_attributes.yaml").contains(&token),
        "there is no certificate yet"
    );
    // Once there is a certificate, the token is nowhere.
    fs::create_dir_all(node.file("var/lib/puppet/ssl/certs")).expect("a folder");
    fs::write(
        node.file(&format!("var/lib/puppet/ssl/certs/{N1}.pem")),
        "a certificate",
    )
    .expect("a file");
    let output = node.run(&url, &["enrol", "--deadline-seconds", "1"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(!node.file("etc/puppet/csr_attributes.yaml").exists());
    assert_eq!(node.enrolment()["token"], Value::Null);
    assert!(node.read("etc/puppet/puppet.conf").contains(N1));
    for arguments in [
        ["stage", "serving"].as_slice(),
        &["stage", "disk", "--failed", "no disk"],
    ] {
        let output = node.run(&url, arguments);
        assert!(
            output.status.success() && text(&output).contains("going on without"),
            "{}",
            text(&output)
        );
    }
    // Nothing secret was logged or kept in the clear.
    let state = server.read(&format!("state/machines/{N1}.json"));
    for secret in [&token, &key] {
        assert!(!log.contains(secret.as_str()) && !state.contains(secret.as_str()));
    }
}

#[test]
fn a_machine_waits_until_it_is_armed_and_gives_up_with_what_to_do() {
    let (server, serving) = ready();
    let node = server.node("n1", N1_MAC, "S1", "1");
    let output = enrol(&node, &serving, "1");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("vertebra-provisioning arm"), "{}", text(&output));
    assert!(!node.file("etc/puppet/csr_attributes.yaml").exists());
    let url = serving.url();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| node.run(&url, &["enrol", "--deadline-seconds", "30"]));
        wait_for("it was refused", || {
            serving.log().matches("it is not armed").count() >= 3
        });
        server.ok(&["arm", N1]);
        let output = waiting.join().expect("it ends");
        assert!(output.status.success(), "{}", text(&output));
    });
    let output = node.run("https://localhost:1", &["enrol", "--deadline-seconds", "0"]);
    assert!(output.status.success(), "it is enrolled: {}", text(&output));
}

fn ask(serving: &Serving, mac: &str, serial: Option<&str>) -> vertebra_provisioning::http_client::Answer {
    let mut body = json!({"mac": mac});
    if let Some(serial) = serial {
        body["serial"] = json!(serial);
    }
    serving.post("/v1/enrol", &body, None)
}

#[test]
fn strangers_all_hear_the_same_sentence() {
    let (server, serving) = ready();
    let unknown = sentence(&ask(&serving, "52:54:00:66:66:66", None));
    assert!(unknown.contains("not armed"), "{unknown}");
    let refused = |mac: &str, serial: Option<&str>, why: &str| {
        let answer = ask(&serving, mac, serial);
        assert_eq!((answer.status, sentence(&answer)), (403, unknown.clone()), "{why}");
        assert!(
            serving.log().contains(why),
            "the log says why: {why}\n{}",
            serving.log()
        );
    };
    refused("52:54:00:66:66:66", None, "its MAC is not in the inventory");
    refused(N1_MAC, Some("S1"), "it is not armed");
    server.ok(&["arm", "n1.north"]);
    server.ok(&["arm", "n2.north"]);
    refused(N1_MAC, None, "it shows serial ``");
    refused(N1_MAC, Some("S2"), "it shows serial `S2`");
    refused("52:54:00:00:00:12", None, "the inventory gives it 127.0.0.12");
    // The right one, by its second interface; after that nobody, the right one included.
    let answer = ask(&serving, "52:54:00:00:01:11", Some("S1"));
    assert_eq!(answer.status, 200);
    assert_eq!(json_of(&answer)["certname"], N1);
    refused(N1_MAC, Some("S1"), "handed out to 127.0.0.1 already");
    assert_eq!(server.status("n1.north")["token_at"], "127.0.0.1");
    server.ok(&["disarm", "n1.north"]);
    server.ok(&["disarm", "n2.north"]);
    refused(N1_MAC, Some("S1"), "it is not armed");
}

#[test]
fn of_many_that_ask_at_once_one_gets_the_token() {
    let (server, serving) = ready();
    server.ok(&["arm", "n1.north"]);
    let client = serving.client();
    let body = json!({"mac": N1_MAC, "serial": "S1"});
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    client
                        .post("/v1/enrol", &body, None, DEADLINE)
                        .expect("an answer")
                        .status
                })
            })
            .collect();
        asking.into_iter().map(|one| one.join().expect("it ends")).collect()
    });
    assert_eq!(
        statuses.iter().filter(|status| **status == 200).count(),
        1,
        "{statuses:?}"
    );
    assert!(
        statuses.iter().all(|status| matches!(status, 200 | 403)),
        "{statuses:?}"
    );
}

#[test]
fn a_machine_is_known_by_its_key_after_it_enrolled() {
    let (server, serving) = ready();
    server.ok(&["arm", "n1.north"]);
    let document = json_of(&ask(&serving, N1_MAC, Some("S1")));
    let key = document["report_key"].as_str().expect("a key");
    let check_in = |certname: &str, release: &str, key: Option<&str>| {
        let answer = serving.post("/v1/check-in", &json!({"certname": certname, "release": release}), key);
        (answer.status, sentence(&answer))
    };
    assert_eq!(check_in(N1, "1", Some(key)).0, 204);
    assert_eq!(server.status("n1.north")["running"], "1");
    assert_eq!(check_in(N1, "1", None).0, 401);
    assert_eq!(check_in(N1, "1", Some("x")).0, 401);
    assert_eq!(
        check_in("n2.north.test.example", "1", Some(key)).0,
        401,
        "another machine's key"
    );
    assert_eq!(check_in("n9.north.test.example", "1", Some(key)).0, 401);
    assert_eq!(
        check_in(N1, "7", Some(key)).0,
        403,
        "a release that is not in the store"
    );
    let stage = |body: Value, key: Option<&str>| serving.post("/v1/stage", &body, key).status;
    assert_eq!(stage(json!({"mac": N1_MAC, "stage": "initrd"}), None), 204);
    assert_eq!(server.status("n1.north")["stage_proved"], false);
    assert_eq!(
        stage(json!({"mac": N1_MAC, "stage": "serving"}), None),
        403,
        "that it serves, it must prove"
    );
    assert_eq!(stage(json!({"certname": N1, "stage": "serving"}), Some(key)), 204);
    assert_eq!(stage(json!({"certname": N1, "stage": "serving"}), Some("x")), 401);
    assert_eq!(
        stage(json!({"mac": "52:54:00:00:00:12", "stage": "initrd"}), None),
        403,
        "from another address"
    );
    assert_eq!(stage(json!({"mac": "52:54:00:66:66:66", "stage": "initrd"}), None), 403);
    assert_eq!(stage(json!({"stage": "initrd"}), None), 400);
    assert_eq!(stage(json!({"mac": N1_MAC, "stage": "lunch"}), None), 400);
    // The key of the token's thief is worth nothing once the machine is armed again and enrols.
    server.ok(&["arm", "n1.north"]);
    assert_eq!(ask(&serving, N1_MAC, Some("S1")).status, 200);
    assert_eq!(check_in(N1, "1", Some(key)).0, 401);
}

/// A node's admin socket that answers every request with this.
fn admin_socket(node: &Node, answer: &'static str) {
    use std::io::{Read, Write};
    let socket = node.file("run/vertebra/admin.sock");
    fs::create_dir_all(socket.parent().expect("a folder above")).expect("a folder");
    let _ = fs::remove_file(&socket);
    let listener = std::os::unix::net::UnixListener::bind(socket).expect("a socket");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut buffer = [0u8; 1024];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
}

#[test]
fn a_node_checks_in_when_it_takes_writes_and_says_why_when_not() {
    let (server, serving) = ready();
    let node = server.node("n1", N1_MAC, "S1", "1");
    let url = serving.url();
    let output = node.run(&url, &["check-in"]);
    assert!(
        !output.status.success() && text(&output).contains("not enrolled"),
        "{}",
        text(&output)
    );
    server.ok(&["arm", "n1.north"]);
    assert!(enrol(&node, &serving, "20").status.success());
    let output = node.run(&url, &["check-in"]);
    assert!(
        !output.status.success() && text(&output).contains("not ready"),
        "no node runs: {}",
        text(&output)
    );
    admin_socket(
        &node,
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 16\r\n\r\nno quorum <b>\0\x1b\n",
    );
    let output = node.run(&url, &["check-in"]);
    assert!(
        !output.status.success() && text(&output).contains("503 no quorum"),
        "{}",
        text(&output)
    );
    let row = server.status("n1.north");
    assert!(
        row["failed"]
            .as_str()
            .is_some_and(|failed| failed.starts_with("serving: 503 no quorum")),
        "{row}"
    );
    assert_eq!(row["running"], Value::Null);
    admin_socket(&node, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n");
    let output = node.run(&url, &["check-in"]);
    assert!(
        output.status.success() && text(&output).contains("release 1"),
        "{}",
        text(&output)
    );
    let row = server.status("n1.north");
    assert_eq!((&row["running"], &row["failed"]), (&json!("1"), &Value::Null));
    // A dead boot service is no failure of the node.
    serving.stop();
    let output = node.run(&url, &["check-in"]);
    assert!(
        output.status.success() && text(&output).contains("going on without"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_service_of_another_ca_is_not_believed() {
    let (server, serving) = ready();
    super::boot_server::certificate_authority(&server.folder, "other");
    server.ok(&["arm", "n1.north"]);
    let other = Service::new(&serving.url(), &server.path("other.pem")).expect("a client");
    let error = other
        .post("/v1/enrol", &json!({"mac": N1_MAC, "serial": "S1"}), None, DEADLINE)
        .expect_err("refused");
    assert!(error.to_string().contains("certificate"), "{error}");
    let node = server.node("n1", N1_MAC, "S1", "1");
    let ca = server.path("other.pem").display().to_string();
    let output = node.run(&serving.url(), &["enrol", "--deadline-seconds", "1", "--boot-ca", &ca]);
    assert!(
        !output.status.success() && text(&output).contains("certificate"),
        "{}",
        text(&output)
    );
    // The right CA, another name.
    let by_address = format!("https://127.0.0.1:{}", serving.machines.port());
    let output = node.run(&by_address, &["enrol", "--deadline-seconds", "1"]);
    assert!(
        !output.status.success() && text(&output).contains("certificate"),
        "{}",
        text(&output)
    );
    assert_eq!(
        server.status("n1.north")["enrolment"],
        "armed",
        "the token is still there for the machine"
    );
    for ca in ["missing.pem", "inventory.yaml", "boot.key"] {
        let ca = server.path(ca).display().to_string();
        let output = node.run(&serving.url(), &["enrol", "--deadline-seconds", "20", "--boot-ca", &ca]);
        assert!(!output.status.success(), "{ca}: {}", text(&output));
    }
}

#[test]
fn a_node_whose_answer_is_nonsense_writes_nothing() {
    use std::io::{Read, Write};
    let server = BootServer::new();
    server.certificates();
    let node = server.node("n1", N1_MAC, "S1", "1");
    // A service with the right certificate and wrong answers: openssl's own.
    for body in ["{}", "[", "{\"format\":1,\"certname\":\"../../x\"}"] {
        let mut child = std::process::Command::new("openssl")
            .args([
                "s_server", "-quiet", "-accept", "0", "-naccept", "1", "-cert", "boot.pem", "-key", "boot.key",
            ])
            .current_dir(&server.folder)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("openssl runs");
        // It says `ACCEPT 127.0.0.1:PORT` unless it is quiet; find the port by the process's own list instead.
        let port = listening_port(child.id());
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        child
            .stdin
            .as_mut()
            .expect("a pipe")
            .write_all(answer.as_bytes())
            .expect("written");
        let output = node.run(
            &format!("https://localhost:{port}"),
            &["enrol", "--deadline-seconds", "3"],
        );
        let _ = child.kill();
        let mut rest = Vec::new();
        let _ = child.stdout.take().expect("a pipe").read_to_end(&mut rest);
        let _ = child.wait();
        assert!(!output.status.success(), "{body}");
        assert!(text(&output).contains("node document"), "{body}: {}", text(&output));
        assert!(!node.file("var/lib/vertebra/host/enrolment.json").exists());
    }
}

/// The port on which a process listens, from the kernel's tables.
fn listening_port(process: u32) -> u16 {
    let mut port = 0;
    wait_for("it listens", || {
        let mut sockets = Vec::new();
        for entry in fs::read_dir(format!("/proc/{process}/fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            if let Ok(target) = fs::read_link(entry.path()) {
                sockets.push(target.display().to_string());
            }
        }
        for table in ["tcp", "tcp6"] {
            let text = fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default();
            for line in text.lines().skip(1) {
                let columns: Vec<&str> = line.split_whitespace().collect();
                if columns.get(3) == Some(&"0A") && sockets.contains(&format!("socket:[{}]", columns[9])) {
                    let hexadecimal = columns[1].rsplit(':').next().unwrap_or("");
                    port = u16::from_str_radix(hexadecimal, 16).unwrap_or(0);
                }
            }
        }
        port != 0
    });
    port
}
