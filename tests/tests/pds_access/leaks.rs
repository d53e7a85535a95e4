//! Where a restricted patient is turns up nowhere; and nobody's values turn up in logs, metrics and errors.

use crate::people::{self, BIRTH, Planted};
use crate::{ALONE, World, text, world};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use vertebra_tests::node::{Node, binary};
use vertebra_tests::pds::{BASE, Client, FHIR_JSON, JSON_PATCH, Reply, request_id};
use vertebra_tests::process::{Process, wait_until};
use vertebra_tests::wire::Connection;

/// Who is planted: restricted, very restricted, and somebody whom anybody may see.
struct People {
    hidden: [Planted; 2],
    open: Planted,
}

impl People {
    fn planted() -> People {
        People {
            hidden: [Planted::new("A1", "R"), Planted::new("A2", "V")],
            open: Planted::new("A3", "U"),
        }
    }

    fn resources(&self) -> Vec<Value> {
        let [one, two] = &self.hidden;
        [one.resources(), two.resources(), self.open.resources()].concat()
    }

    /// What no answer and no output may hold.
    fn places(&self) -> Vec<String> {
        self.hidden.iter().flat_map(Planted::places).collect()
    }

    /// What no log, metric and error may hold.
    fn values(&self) -> Vec<String> {
        let [one, two] = &self.hidden;
        [one.values(), two.values(), self.open.values()].concat()
    }
}

#[track_caller]
fn assert_without(what: &str, told: &str, values: &[String]) {
    let upper = told.to_uppercase();
    for value in values {
        let value = value.to_uppercase();
        if let Some(at) = upper.find(&value) {
            let from = (0..=at.saturating_sub(200))
                .rev()
                .find(|at| upper.is_char_boundary(*at));
            let around: String = upper[from.unwrap_or(0)..].chars().take(400).collect();
            panic!("{what} holds {value}: {around}");
        }
    }
}

/// Every form of search that could lead to `person`.
fn searches(person: &Planted) -> Vec<Vec<(&str, &str)>> {
    let postcode = person.postcode.as_str();
    let mut ways = vec![vec![]];
    for (name, value) in [
        ("address-postalcode", postcode),
        ("address-postcode", postcode),
        ("address-postalcode", &person.old_postcode),
        ("general-practitioner", &person.practice),
        ("phone", &person.phone),
        ("email", &person.email),
        ("gender", "female"),
        ("_exact-match", "true"),
        ("_fuzzy-match", "true"),
        ("_history", "true"),
        ("_max-results", "1"),
    ] {
        ways.push(vec![(name, value)]);
    }
    for extra in [("_history", "true"), ("_fuzzy-match", "true"), ("_exact-match", "true")] {
        for place in [
            ("address-postalcode", postcode),
            ("address-postalcode", &person.old_postcode),
            ("general-practitioner", &person.practice),
            ("phone", &person.phone),
            ("email", &person.email),
        ] {
            ways.push(vec![place, extra, ("gender", "female")]);
        }
    }
    let named = ways.into_iter().map(|way| [person.named(), way].concat());
    let mut all: Vec<_> = named.collect();
    let born = ("birthdate", BIRTH);
    let fuzzy = ("_fuzzy-match", "true");
    let female = ("gender", "female");
    all.push(vec![
        ("family", &person.family),
        born,
        female,
        ("address-postalcode", postcode),
        fuzzy,
    ]);
    all.push(vec![
        ("given", &person.given),
        born,
        female,
        ("address-postalcode", postcode),
        fuzzy,
    ]);
    all.push(vec![("family", "Hidden*"), born, ("phone", &person.phone)]);
    all.push(vec![("family", "Hidden*"), born, ("email", &person.email)]);
    all.push(vec![("family", "Hidden*"), born, ("address-postalcode", "ZE*")]);
    all.push(vec![
        ("family", "Hidden*"),
        ("birthdate", "ge1970-01-01"),
        ("general-practitioner", &person.practice),
    ]);
    all
}

/// JSON Patch as an oracle: a right guess and a wrong one at each value.
fn guesses(person: &Planted) -> Vec<(&'static str, [Value; 2])> {
    let other = Planted::new("Z9", "U");
    let pair = |one: &str, two: &str| [json!(one), json!(two)];
    vec![
        ("/address/0/postalCode", pair(&person.postcode, &other.postcode)),
        ("/address/1/postalCode", pair(&person.old_postcode, &other.old_postcode)),
        ("/address/0/id", pair("A1", "A9")),
        ("/telecom/0/value", pair(&person.phone, &other.phone)),
        ("/telecom/1/value", pair(&person.email, &other.email)),
        (
            "/generalPractitioner/0/identifier/value",
            pair(&person.practice, &other.practice),
        ),
        ("/contact/0/id", pair("C1", "C9")),
    ]
}

/// Everything that a caller can ask about the planted people, and what they were told.
async fn asked(world: &World, people: &People) -> Vec<(String, Reply)> {
    let mut told = Vec::new();
    let application = Client::application(&world.node).await;
    for (who, mut client) in [("worker", Client::worker(&world.node)), ("application", application)] {
        for person in people.hidden.iter().chain([&people.open]) {
            let number = person.number.as_str();
            told.push((format!("{who} reads {number}"), client.read(number).await));
            told.push((format!("{who} related {number}"), client.related(number).await));
            told.push((format!("{who} coverage {number}"), client.coverage(number).await));
            for search in searches(person) {
                let reply = client.search(&search).await;
                told.push((format!("{who} {search:?}"), reply));
            }
        }
    }
    for person in people.hidden.iter().chain([&people.open]) {
        let claims = world.patient_claims("sandbox-app", &person.number);
        let mut own = world.client(&world.signed(&claims));
        told.push((format!("{} reads", person.number), own.read(&person.number).await));
        told.push((format!("{} related", person.number), own.related(&person.number).await));
        told.push((
            format!("{} coverage", person.number),
            own.coverage(&person.number).await,
        ));
        let put = own.put_coverage(1, &people::coverage(&person.number)).await;
        told.push((format!("{} puts", person.number), put));
        told.push((format!("{} searches", person.number), own.search(&person.named()).await));
    }
    told
}

/// Requests that are refused though they hold values of people.
async fn refused(world: &World, people: &People) -> Vec<(String, Reply)> {
    let mut told = Vec::new();
    let mut worker = Client::worker(&world.node);
    for person in people.hidden.iter().chain([&people.open]) {
        let (number, family, postcode) = (&person.number, &person.family, &person.postcode);
        let email = &person.email;
        let paths = [
            format!("/Patient?family={family}&birthdate=eq1971-99-99&email={email}"),
            format!("/Patient?family={family}&{family}={email}&birthdate={BIRTH}"),
            format!("/Patient?family={family}&address-postalcode={}", "ZE1".repeat(40)),
            format!("/Patient?family={family}&phone={email}&birthdate={BIRTH}"),
            format!("/Patient?given={}&address-postalcode={postcode}", person.given).replace(' ', "%20"),
            format!("/Patient/{number}0"),
            format!("/Patient/{family}"),
            format!("/Patient/{number}/{family}"),
            format!("/Coverage?subscriber:identifier={number}&x={email}"),
            format!("/{family}?{email}"),
        ];
        for path in paths {
            told.push((format!("GET {path}"), worker.get(&path).await));
        }
        let bodies = [
            json!({"resourceType": "Patient", family.as_str(): email}).to_string(),
            json!({"name": [{"family": family, "given": [person.given], "use": email}]}).to_string(),
            format!("{{\"name\": \"{family}\", {email}"),
            people::new_patient(&format!("{family}\u{7}"), &[&person.given], postcode, email).to_string(),
        ];
        for body in bodies {
            let created = worker.call("POST", "/Patient", &[FHIR_JSON], body.as_bytes()).await;
            told.push((format!("POST {body}"), created));
            let headers = [("If-Match", "W/\"1\""), JSON_PATCH];
            let path = format!("/Patient/{number}");
            let patched = worker.call("PATCH", &path, &headers, body.as_bytes()).await;
            told.push((format!("PATCH {body}"), patched));
        }
        let headers = [
            ("NHSD-Session-URID", family.as_str()),
            ("X-Request-ID", number.as_str()),
            ("If-Match", email.as_str()),
            ("NHSD-End-User-Organisation-ODS", email.as_str()),
        ];
        told.push((
            "bad headers".to_owned(),
            worker.call("GET", "/Patient", &headers, b"").await,
        ));
        let patches = json!([{"op": "test", "path": format!("/address/0/{family}"), "value": email}]);
        told.push(("a test".to_owned(), worker.patch(number, 1, &patches).await));
        let patches = json!([{"op": email, "path": family, "value": email}]);
        told.push(("no patch".to_owned(), worker.patch(number, 1, &patches).await));
    }
    told
}

/// Whether the answers of an oracle tell a right guess from a wrong one.
async fn guess(world: &World, people: &People) {
    let mut worker = Client::worker(&world.node);
    for person in &people.hidden {
        let claims = world.patient_claims("sandbox-app", &person.number);
        let mut own = world.client(&world.signed(&claims));
        for (path, values) in guesses(person) {
            for version in [1, 7] {
                for client in [&mut worker, &mut own] {
                    let mut told = Vec::new();
                    for value in &values {
                        let mut patches = json!([{"op": "test", "path": path, "value": value}]);
                        let reply = client.patch(&person.number, version, &patches).await;
                        reply.refused(403, "FORBIDDEN_UPDATE");
                        told.push(reply.answer.text());
                        patches
                            .as_array_mut()
                            .expect("a list")
                            .push(json!({"op": "remove", "path": path}));
                        told.push(client.patch(&person.number, version, &patches).await.answer.text());
                    }
                    assert!(
                        told.iter().all(|text| *text == told[0]),
                        "{path} of version {version}: {told:#?}"
                    );
                }
            }
        }
    }
}

/// What operators see who ask for anything but the record itself.
async fn operated(world: &World, people: &People) -> Vec<(String, String)> {
    let entries = world.audited();
    let request = entries.last().and_then(|entry| entry["request"].as_str());
    let request = request.expect("the calls are on the record").to_owned();
    let number = people.hidden[0].number.as_str();
    let mut told = Vec::new();
    for arguments in [
        vec!["status"],
        vec!["status", "--json"],
        vec!["audit", "query", "--limit", "100000"],
        vec!["audit", "query", "--json", "--limit", "100000"],
        vec!["audit", "query", "--subject", number, "--json"],
        vec!["audit", "export"],
        vec!["audit", "verify"],
        vec!["trace", &request],
        vec!["trace", number],
        vec!["patient", "history", number],
        vec!["patient", "history", number, "--json"],
        vec!["client", "list"],
    ] {
        let output = world.cli(&arguments);
        let (out, errors) = (&output.stdout, &output.stderr);
        let printed = format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(errors));
        assert!(
            arguments[0] == "trace" || output.status.success(),
            "{arguments:?}: {printed}"
        );
        told.push((arguments.join(" "), printed));
    }
    told
}

/// Metrics and health: open to whoever reaches the operator's listener.
async fn watched(node: &Node) -> Vec<(String, String)> {
    let mut told = Vec::new();
    for path in [
        "/metrics",
        "/health/live",
        "/health/ready",
        "/health/deep",
        "/admin/status",
    ] {
        let answer = node.admin("GET", path, &Value::Null).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        told.push((path.to_owned(), answer.text()));
    }
    assert!(told[0].1.contains("pds_search"), "the calls are counted");
    told
}

/// One round of everything, with all that is told held against what it may not hold.
async fn round(world: &World, people: &People) {
    let (places, values) = (people.places(), people.values());
    let answers = asked(world, people).await;
    let good = answers.iter().filter(|(_, reply)| reply.status() == 200).count();
    assert!(good > 150, "{good} good answers of {}", answers.len());
    for (what, reply) in &answers {
        assert!(reply.status() < 500, "{what}: {}", reply.answer.text());
        assert_without(
            what,
            &format!("{:?}{}", reply.answer.headers, reply.answer.text()),
            &places,
        );
    }
    let found = |person: &Planted| {
        answers
            .iter()
            .filter(|(_, reply)| reply.ids().contains(&&*person.number))
            .count()
    };
    assert!(
        found(&people.hidden[0]) >= 10,
        "by names, telephone and email a restricted patient is found"
    );
    assert_eq!(found(&people.hidden[1]), 0, "no search finds a very restricted patient");
    assert!(
        found(&people.open) > found(&people.hidden[0]),
        "by place too anybody else is found"
    );
    for (what, reply) in answers
        .iter()
        .filter(|(_, reply)| reply.ids().contains(&&*people.hidden[0].number))
    {
        let by_place = ["postalcode", "postcode", "general-practitioner"];
        assert!(
            !by_place.iter().any(|name| what.contains(name)),
            "found by {what}: {}",
            reply.answer.text()
        );
    }
    for (what, reply) in refused(world, people).await {
        assert!(
            (400..500).contains(&reply.status()),
            "{what}: {} {}",
            reply.status(),
            reply.answer.text()
        );
        assert_without(&what, &reply.answer.text(), &values);
    }
    guess(world, people).await;
}

#[tokio::test]
async fn where_a_restricted_patient_is_turns_up_nowhere_and_nobody_s_values_in_logs_and_metrics() {
    let _alone = ALONE.lock().await;
    let mut world = World::start("pds-leaks", &["--log-level", "trace"]);
    let people = People::planted();
    world.import(&people.resources());
    let (places, values) = (people.places(), people.values());
    for person in &people.hidden {
        let whole = world.told(&["patient", "show", &person.number]);
        for value in [
            &person.postcode,
            &person.old_postcode,
            &person.phone,
            &person.email,
            &person.practice,
        ] {
            assert!(whole.contains(value.as_str()), "it is there to be leaked: {value}");
        }
    }
    round(&world, &people).await;
    // Marked while the node runs, so that the commands of operators are in the log too.
    world.told(&["patient", "restrict", &people.open.number]);
    world.told(&["patient", "open", &people.open.number]);
    let names: Vec<String> = [&people.hidden[0], &people.hidden[1], &people.open]
        .into_iter()
        .flat_map(|person| [person.family.clone(), person.given.clone()])
        .collect();
    for (what, told) in operated(&world, &people).await {
        assert_without(&what, &told, &places);
        assert_without(&what, &told, &people.open.places());
        assert_without(&what, &told, &names);
    }
    for (what, told) in watched(&world.node).await {
        assert_without(&what, &told, &values);
    }
    world.node.terminate();
    let log = world.node.log_text();
    assert!(log.lines().count() > 100, "the log is there");
    assert_without("the log as text", &log, &values);

    let (log, process) = serve_with_json_log(&world).await;
    round(&world, &people).await;
    drop(process);
    let log = fs::read_to_string(log).expect("the log is there");
    let lines = log.lines().filter(|line| line.starts_with('{')).count();
    assert!(lines > 100, "the log is there, as JSON: {lines} lines");
    assert_without("the log as JSON", &log, &values);
}

/// The same data served by `vertebra node` with a configuration of its own, on the same port.
async fn serve_with_json_log(world: &World) -> (std::path::PathBuf, Process) {
    let data = &world.node.data;
    let admin = world.node.admin_target().address;
    let sandbox = &world.node.sandbox;
    let issuer = sandbox["tokens"]["authority"]["issuer"]
        .as_str()
        .expect("the authority has a name");
    let port = world.node.port;
    let configuration = format!(
        "[node]\nname = \"sandbox\"\nsite = \"sandbox\"\ndata = \"data\"\n\n[http]\nlisten = \"127.0.0.1:{port}\"\n\n\
         [tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\nclient_ca = \"ca.pem\"\n\
         require_client_certificate = false\n\n[admin]\nsocket = \"json.sock\"\nlisten = \"{admin}\"\n\n\
         [mesh]\nshared_key = \"shared.key\"\n\n[tokens]\nsigning_key = \"tokens.key\"\n\
         authority_jwks = \"authority.jwks\"\nauthority_issuer = \"{issuer}\"\n\
         token_urls = [\"https://127.0.0.1:{port}/oauth2/token\"]\n\n\
         [pds]\nurl = \"https://127.0.0.1:{port}\"\n\n[logging]\nformat = \"json\"\nlevel = \"trace\"\n"
    );
    let file = data.join("json.toml");
    fs::write(&file, configuration).expect("the folder can be written");
    let log = world.folder.path().join("json.log");
    let mut process = Process::start(Command::new(binary()).arg("node").arg("--config").arg(&file), &log);
    let target = world.node.target(None);
    wait_until("the node serves", vertebra_tests::node::START_WAIT_MAX, || {
        let told = || fs::read_to_string(&log).unwrap_or_default();
        assert!(process.ended().is_none(), "the node ended: {}", told());
        std::net::TcpStream::connect(target.address).is_ok()
    });
    drop(Connection::open(&target).await.expect("the node serves"));
    (log, process)
}

#[test]
fn a_reject_file_says_what_is_wrong_and_nothing_of_the_people() {
    let world = world();
    let people = [
        Planted::new("B1", "R"),
        Planted::new("B2", "V"),
        Planted::new("B3", "U"),
    ];
    let mut lines = Vec::new();
    for person in &people {
        let [patient, kin] = &person.resources()[..] else {
            panic!("two resources")
        };
        let spoilt = |pointer: &str, value: Value| {
            let mut spoilt = patient.clone();
            *spoilt.pointer_mut(pointer).expect("the patient has it") = value;
            spoilt
        };
        lines.push(spoilt("/id", json!(person.email)).to_string());
        lines.push(spoilt("/meta/security", json!([])).to_string());
        lines.push(spoilt("/meta/security/0/code", json!(person.postcode)).to_string());
        lines.push(spoilt("/birthDate", json!(person.family)).to_string());
        lines.push(spoilt("/address/0/use", json!(person.postcode)).to_string());
        lines.push(spoilt("/address/0/line", json!({ &*person.email: person.phone })).to_string());
        lines.push(spoilt("/telecom/0/system", json!(person.phone)).to_string());
        lines.push(spoilt("/name/0", json!(person.family)).to_string());
        lines.push(spoilt("/gender", json!(person.given)).to_string());
        lines.push(spoilt("/extension/3/valueAddress", json!({"city": 1, &*person.family: 1})).to_string());
        lines.push(patient.to_string()[..400].to_owned());
        lines.push(kin.to_string());
        lines.push(format!("{{\"resourceType\": \"{}\"}}", person.family));
    }
    let file = world.folder.path().join("spoilt.ndjson");
    let rejects = world.folder.path().join("spoilt.rejects");
    fs::write(&file, lines.join("\n")).expect("the folder can be written");
    let output = world.cli(&[
        "import",
        "--kind",
        "patients",
        text(&file),
        "--rejects",
        text(&rejects),
        "--json",
    ]);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told = fs::read_to_string(&rejects).expect("the rejects are there");
    assert_eq!(told.lines().count(), lines.len(), "each line is rejected: {told}");
    let printed = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    for person in &people {
        assert_without("the reject file", &told, &person.values());
        assert_without("what the import prints", &printed, &person.values());
        assert_without("the log", &world.node.log_text(), &person.values());
    }
}

#[tokio::test]
async fn an_error_before_any_route_repeats_nothing_either() {
    let world = world();
    let person = Planted::new("C1", "U");
    let mut worker = Client::worker(&world.node);
    for (method, path) in [
        (
            "GET",
            format!("{BASE}/Patient?family={}&email={}", person.family, "x".repeat(20_000)),
        ),
        (
            "GET",
            format!("/personal-demographics/{}?{}", person.family, person.email),
        ),
        ("PUT", format!("{BASE}/Patient/{}", person.number)),
        ("DELETE", format!("{BASE}/Patient?family={}", person.family)),
        ("GET", format!("/nothing/{}/{}", person.family, person.phone)),
    ] {
        let reply = worker
            .try_call(method, &path, &[("X-Request-ID", &request_id())], b"")
            .await;
        let reply = reply.unwrap_or_else(|error| panic!("{method} {path:.60} got no answer: {error}"));
        assert!(
            (400..500).contains(&reply.status()),
            "{method}: {}",
            reply.answer.text()
        );
        assert_without(method, &reply.answer.text(), &person.values());
        worker.disconnect();
    }
    assert_without("the log", &world.node.log_text(), &person.values());
}
