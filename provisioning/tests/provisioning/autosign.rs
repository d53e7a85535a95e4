//! The CA's question, with requests as openssl makes them.

use super::boot_server::{BootServer, DEADLINE, N1, N1_MAC, Serving, attributes, autosign, json_of, request, text};
use serde_json::json;

/// A boot server whose machine `n1.north` holds a token.
fn issued(settings: &str) -> (BootServer, Serving, String) {
    let server = BootServer::with(settings);
    let serving = server.serve();
    let token = issue(&server, &serving);
    (server, serving, token)
}

fn issue(server: &BootServer, serving: &Serving) -> String {
    server.ok(&["arm", "n1.north"]);
    let answer = serving.post("/v1/enrol", &json!({"mac": N1_MAC, "serial": "S1"}), None);
    assert_eq!(answer.status, 200);
    json_of(&answer)["token"].as_str().expect("a token").to_owned()
}

fn honest(server: &BootServer, token: &str) -> Vec<u8> {
    let lines = attributes("node", "north");
    request(
        &server.folder,
        &format!("CN = {N1}"),
        Some(token),
        &[&lines[0], &lines[1]],
    )
}

#[test]
fn the_machine_s_own_request_is_signed_once() {
    let (server, _serving, token) = issued("");
    let csr = honest(&server, &token);
    let output = autosign(&server, N1, &csr);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(server.status("n1.north")["enrolment"], "enrolled");
    let output = autosign(&server, N1, &csr);
    assert_eq!(output.status.code(), Some(1), "a replay");
    assert!(
        text(&output).contains("redeemed already") && text(&output).contains("ca clean"),
        "{}",
        text(&output)
    );
    let again = honest(&server, &token);
    assert_eq!(
        autosign(&server, N1, &again).status.code(),
        Some(1),
        "another key, the same token"
    );
}

#[test]
fn a_request_that_is_wrong_in_anything_is_refused_and_leaves_the_token_good() {
    let (server, _serving, token) = issued("");
    let folder = &server.folder;
    let lines = |role: &str, datacentre: &str| attributes(role, datacentre).to_vec();
    let build = |subject: &str, token: Option<&str>, lines: &[String]| {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        request(folder, subject, token, &lines)
    };
    let own = format!("CN = {N1}");
    let with = |more: &str| {
        let mut all = lines("node", "north");
        all.push(more.to_owned());
        all
    };
    let wrong = "0".repeat(64);
    let long = "a".repeat(300);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "another token",
            build(&own, Some(&wrong), &lines("node", "north")),
            "not the token",
        ),
        (
            "no token",
            build(&own, None, &lines("node", "north")),
            "0 challengePassword",
        ),
        (
            "another role",
            build(&own, Some(&token), &lines("witness", "north")),
            "pp_role is `witness`",
        ),
        (
            "another data centre",
            build(&own, Some(&token), &lines("node", "south")),
            "pp_datacenter is `south`",
        ),
        (
            "no role",
            build(&own, Some(&token), &lines("node", "north")[1..]),
            "0 pp_role",
        ),
        (
            "no data centre",
            build(&own, Some(&token), &lines("node", "north")[..1]),
            "0 pp_datacenter",
        ),
        ("no extensions", build(&own, Some(&token), &[]), "pp_role"),
        (
            "another name",
            build("CN = n2.north.test.example", Some(&token), &lines("node", "north")),
            "is for `n2.north",
        ),
        (
            "more than a name",
            build(&format!("O = x\n{own}"), Some(&token), &lines("node", "north")),
            "is for `x, n1.north",
        ),
        (
            "two names",
            build(&format!("0.CN = {N1}\n1.CN = x"), Some(&token), &lines("node", "north")),
            "is for",
        ),
        (
            "an authorisation of Puppet",
            build(
                &own,
                Some(&token),
                &with("1.3.6.1.4.1.34380.1.3.39 = ASN1:UTF8String:true"),
            ),
            "1.3.6.1.4.1.34380.1.3.39",
        ),
        (
            "another's alternative name",
            build(&own, Some(&token), &with("subjectAltName = DNS:puppet")),
            "2.5.29.17",
        ),
        (
            "an address as alternative name",
            build(&own, Some(&token), &with("subjectAltName = IP:10.0.0.1")),
            "2.5.29.17",
        ),
        (
            "to be a CA",
            build(&own, Some(&token), &with("basicConstraints = CA:TRUE")),
            "2.5.29.19",
        ),
        (
            "a role that is no text",
            build(
                &own,
                Some(&token),
                &[
                    lines("node", "north")[1].clone(),
                    "1.3.6.1.4.1.34380.1.1.13 = ASN1:INTEGER:1".to_owned(),
                ],
            ),
            "UTF8String",
        ),
        (
            "a long role",
            build(&own, Some(&token), &lines(&long, "north")),
            "UTF8String",
        ),
    ];
    for (what, csr, words) in &cases {
        let output = autosign(&server, N1, csr);
        assert_eq!(output.status.code(), Some(1), "{what}: {}", text(&output));
        assert!(text(&output).contains(words), "{what}: {}", text(&output));
        assert!(!text(&output).contains(&token), "{what}: the token is not shown");
    }
    // Its own name as alternative name is what some agents send.
    let lines = with(&format!("subjectAltName = DNS:{N1}"));
    let output = autosign(&server, N1, &build(&own, Some(&token), &lines));
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn what_is_no_request_is_refused() {
    let (server, _serving, token) = issued("");
    let csr = honest(&server, &token);
    let pem = String::from_utf8(csr.clone()).expect("PEM");
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let cut = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        &body[..body.len() / 2 / 4 * 4]
    );
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("noise", vec![0xff; 2_000]),
        (
            "another label",
            pem.replace("CERTIFICATE REQUEST", "CERTIFICATE").into_bytes(),
        ),
        ("two of them", [csr.clone(), csr.clone()].concat()),
        ("cut", cut.into_bytes()),
        (
            "the CA's certificate",
            std::fs::read(server.path("ca.pem")).expect("a file"),
        ),
        ("too much", [csr.clone(), vec![b'x'; 200_000]].concat()),
    ];
    for (what, bytes) in cases {
        let output = autosign(&server, N1, &bytes);
        assert_eq!(output.status.code(), Some(1), "{what}: {}", text(&output));
    }
    for name in ["", "../x", "N1", "n1 north"] {
        assert!(!autosign(&server, name, &csr).status.success(), "{name}");
    }
    assert!(text(&autosign(&server, "n9.north.test.example", &csr)).contains("is for"));
    let other = "n9.north.test.example";
    let lines = attributes("node", "north");
    let stranger = request(
        &server.folder,
        &format!("CN = {other}"),
        Some(&token),
        &[&lines[0], &lines[1]],
    );
    assert!(text(&autosign(&server, other, &stranger)).contains("not in the inventory"));
    let second = "n2.north.test.example";
    let lines = attributes("witness", "north");
    let second_s = request(
        &server.folder,
        &format!("CN = {second}"),
        Some(&token),
        &[&lines[0], &lines[1]],
    );
    let output = autosign(&server, second, &second_s);
    assert!(
        !output.status.success() && text(&output).contains("no token is out"),
        "a second machine: {}",
        text(&output)
    );
    assert!(autosign(&server, N1, &csr).status.success(), "the token is still good");
}

#[test]
fn a_token_that_expired_was_taken_back_or_was_not_handed_out_is_refused() {
    let (server, serving, token) = issued("");
    let csr = honest(&server, &token);
    // The clock cannot be moved; the moment in the file can.
    let file = format!("state/machines/{N1}.json");
    let state: serde_json::Value = serde_json::from_str(&server.read(&file)).expect("JSON");
    let mut expired = state.clone();
    expired["enrolment"]["expires"] = json!(1);
    server.write(&file, &expired.to_string());
    assert!(text(&autosign(&server, N1, &csr)).contains("expired"));
    server.write(&file, &state.to_string());
    server.ok(&["disarm", "n1.north"]);
    assert!(text(&autosign(&server, N1, &csr)).contains("no token is out"));
    server.ok(&["arm", "n1.north"]);
    assert!(text(&autosign(&server, N1, &csr)).contains("no token is out"));
    let new = issue(&server, &serving);
    assert!(
        text(&autosign(&server, N1, &csr)).contains("not the token"),
        "the older token"
    );
    let moved = super::boot_server::INVENTORY.replacen("role: node", "role: witness", 1);
    server.write("inventory.yaml", &moved);
    let csr = honest(&server, &new);
    assert!(text(&autosign(&server, N1, &csr)).contains("gives it role `witness` now"));
    server.write("inventory.yaml", "broken: [");
    assert!(text(&autosign(&server, N1, &csr)).contains("nobody is signed"));
    server.write("inventory.yaml", super::boot_server::INVENTORY);
    assert!(autosign(&server, N1, &csr).status.success());
}

#[test]
fn of_many_redemptions_at_once_exactly_one_wins() {
    let (server, serving, token) = issued("");
    let csr = honest(&server, &token);
    let body = json!({"certname": N1, "role": "node", "datacentre": "north", "token": token});
    let client = serving.client();
    let won: usize = std::thread::scope(|scope| {
        let by_program: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| autosign(&server, N1, &csr).status.success()))
            .collect();
        let by_wire: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    client
                        .post("/v1/redeem", &body, None, DEADLINE)
                        .expect("an answer")
                        .status
                        == 200
                })
            })
            .collect();
        by_program
            .into_iter()
            .chain(by_wire)
            .map(|one| usize::from(one.join().expect("it ends")))
            .sum()
    });
    assert_eq!(won, 1);
}

#[test]
fn a_ca_on_another_host_asks_the_boot_services() {
    let (server, serving, token) = issued("");
    let ca_host = BootServer::with(&format!(
        "[autosign]\nservices = [\"https://localhost:1\", \"{}\"]\nboot_ca = \"{}\"",
        serving.url(),
        server.path("ca.pem").display()
    ));
    let lines = attributes("node", "south");
    let wrong = request(
        &server.folder,
        &format!("CN = {N1}"),
        Some(&token),
        &[&lines[0], &lines[1]],
    );
    let output = autosign(&ca_host, N1, &wrong);
    assert!(
        !output.status.success() && text(&output).contains("the boot service's log says why"),
        "{}",
        text(&output)
    );
    let csr = honest(&server, &token);
    let output = autosign(&ca_host, N1, &csr);
    assert!(output.status.success(), "{}", text(&output));
    assert!(!autosign(&ca_host, N1, &csr).status.success(), "a replay");
    assert!(!serving.log().contains(&token));
    serving.stop();
    assert!(
        !autosign(&ca_host, N1, &csr).status.success(),
        "nobody to ask is no yes"
    );
}
