//! PDS at the wire: each operation, each error code, repeats, races and kill -9, through the real binary.
//!
//! Tests that only need people share one sandbox, and each makes its own people: `Sandbox::shared`. The specification's
//! example patients are never changed there.

mod codes;
mod create;
mod faults;
mod headers;
mod races;
mod read;
mod related;
mod repeat;
mod search;
mod update;

use serde_json::{Value, json};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use vertebra_tests::node::{Folder, Node, binary};
use vertebra_tests::pds::{Client, Reply};
use vertebra_tests::process::wait_until;
use vertebra_tests::tokens::{Authority, with};

/// The example patient of the specification, and whom the sandbox's patient token is for.
const JANE: &str = "9000000009";
/// A restricted example patient.
const RESTRICTED: &str = "9000000025";
/// An example patient with next to nothing.
const BARE: &str = "9000000033";
/// A valid number that nobody has.
const NOBODY: &str = "9111231130";
/// Ten digits whose check digit is wrong.
const UNSOUND: &str = "9000000000";
/// The front of the extensions' names.
const UK: &str = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-";

/// A running sandbox and its folder.
struct Sandbox {
    node: Node,
    folder: Folder,
    _turn: Option<Turn>,
}

/// Leave to run a sandbox of one's own: one test at a time has it, because memory that rings lock is short on small
/// machines.
struct Turn;

static TAKEN: AtomicBool = AtomicBool::new(false);

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Not before its memory is given back does the next one start; a failed test may have stopped it already.
        let door = self.node.admin_target().address;
        self.node.kill();
        let started = Instant::now();
        while TcpStream::connect(door).is_ok() && started.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Turn {
    fn take() -> Turn {
        wait_until("it is this test's turn", Duration::from_secs(300), || {
            !TAKEN.swap(true, Ordering::AcqRel)
        });
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Release);
    }
}

impl Sandbox {
    /// One of its own, for tests that stop it, or change the example patients. Two threads serve; the rate is out of the way.
    fn start(name: &str) -> Sandbox {
        let turn = Turn::take();
        Sandbox::run_in(Folder::new(name), Some(turn))
    }

    fn run_in(folder: Folder, turn: Option<Turn>) -> Sandbox {
        let node = Node::start_on_two(&folder.path().join("data"));
        let sandbox = Sandbox {
            node,
            folder,
            _turn: turn,
        };
        sandbox.ok(&["client", "set", "sandbox-app", "--rate", "100000"]);
        sandbox
    }

    /// The one that tests share while any of them holds it.
    fn shared() -> Arc<Sandbox> {
        static SHARED: Mutex<Weak<Sandbox>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Sandbox::run_in(Folder::new("pds"), None));
            *shared = Arc::downgrade(&started);
            started
        })
    }

    /// kill -9. The kernel closes what a ring holds, and gives its memory back, a little after the process is gone: that
    /// is waited for.
    fn kill(&mut self) {
        let door = self.node.admin_target().address;
        self.node.kill();
        wait_until("the operator's door is shut", Duration::from_secs(10), || {
            TcpStream::connect(door).is_err()
        });
    }

    /// Runs the binary against this sandbox.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--sandbox").arg(&self.node.data);
        command.output().expect("the binary starts")
    }

    /// The same; it must succeed. Gives what it printed.
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, errors) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8_lossy(out).into_owned()
    }

    /// The same with JSON.
    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(arguments);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// The versions of a record, newest first.
    fn history(&self, number: &str) -> Vec<Value> {
        let told = self.json(&["patient", "history", number, "--json"]);
        told.as_array().cloned().expect("a list of versions")
    }

    /// What the audit has of these filters.
    fn audited(&self, filters: &[&str]) -> Vec<Value> {
        let text = self.ok(&[&["audit", "query", "--json", "--limit", "100000"], filters].concat());
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("an entry is JSON"))
            .collect()
    }

    /// Loads these resources, which must all be taken.
    fn import(&self, resources: &[Value]) {
        let file = self.file("import.ndjson");
        let lines: Vec<String> = resources.iter().map(Value::to_string).collect();
        std::fs::write(&file, lines.join("\n") + "\n").expect("the folder can be written");
        let report = self.json(&["import", "--kind", "patients", "--json", &file.display().to_string()]);
        assert_eq!(
            (&report["rejected"], &report["proved"]),
            (&json!(0), &json!(true)),
            "{report}"
        );
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{:08x}-{name}", rand::random::<u32>()))
    }

    fn worker(&self) -> Client {
        Client::worker(&self.node)
    }

    /// A healthcare worker who is somebody else than the sandbox's.
    fn nurse(&self) -> Client {
        self.person(&[
            ("sub", "555000000001"),
            ("selected_roleid", "555000000002"),
            ("role_code", "S8000:G8000:R8001"),
            ("org_code", "A20047"),
            ("id_assurance_level", "3"),
            ("authentication_assurance_level", "3"),
        ])
    }

    /// The patient of this number, signed in.
    fn patient(&self, number: &str) -> Client {
        self.person(&[
            ("sub", &format!("patient-{number}")),
            ("nhs_number", number),
            ("identity_proofing_level", "P9"),
            ("vot", "P9.Cp.Cd"),
        ])
    }

    fn person(&self, claims: &[(&str, &str)]) -> Client {
        let authority = Authority::of(&self.node.sandbox);
        let mut all = with(
            authority.claims("sandbox-app"),
            "scope",
            json!("personal-demographics-service"),
        );
        for (name, value) in claims {
            all = with(all, name, json!(value));
        }
        Client::new(self.node.target(None), &authority.signed(&all))
    }

    /// The application by itself.
    async fn application(&self) -> Client {
        Client::application(&self.node).await
    }
}

/// Letters that nobody else has.
fn word() -> String {
    let letters = || char::from(rand::random_range(b'a'..=b'z'));
    let rest: String = (0..11).map(|_| letters()).collect();
    letters().to_uppercase().chain(rest.chars()).collect()
}

/// A request to create a person like whom there is nobody else.
fn someone() -> Value {
    let (year, month, day) = (
        rand::random_range(1930..2010),
        rand::random_range(1..=12),
        rand::random_range(1..=28),
    );
    let postcode = format!("LS{} {}AA", rand::random_range(1..=99), rand::random_range(1..=9));
    let phone = format!("0{}", rand::random_range(1_000_000_000_u64..9_999_999_999));
    json!({
        "resourceType": "Patient",
        "name": [{"use": "usual", "given": [word(), word()], "family": word(), "prefix": ["Ms"], "period": {"start": "2012-01-01"}}],
        "gender": "female",
        "birthDate": format!("{year}-{month:02}-{day:02}"),
        "address": [{"use": "home", "line": ["1 High Street", "Leeds"], "postalCode": postcode, "period": {"start": "2020-01-01"}}],
        "telecom": [{"use": "home", "system": "phone", "value": phone, "period": {"start": "2020-01-01"}}],
        "extension": [authority()],
    })
}

/// The registering authority of a request to create a person.
fn authority() -> Value {
    json!({"url": format!("{UK}RegisteringAuthority"), "extension": [
        {"url": "registeringAuthorityType", "valueCodeableConcept": {"coding": [
            {"system": "https://fhir.nhs.uk/CodeSystem/UKCore-RegisteringAuthorityType", "code": "x"}]}},
        {"url": "organisationIdentifier", "valueString": "RGS"}]})
}

/// A new person's record, version 1.
async fn newcomer(worker: &mut Client) -> Reply {
    let reply = worker.create(&someone()).await;
    reply.ok(201);
    reply
}

/// The number of a new person whose record has a practice too: version 2.
async fn registered(worker: &mut Client) -> String {
    let made = newcomer(worker).await;
    let practice = json!({"type": "Organization", "identifier": {
        "system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "B86001", "period": {"start": "2020-01-01"}}});
    let reply = worker
        .patch(made.id(), 1, &json!([add("/generalPractitioner/-", practice)]))
        .await;
    assert_eq!(reply.ok(200).version(), 2);
    made.id().to_owned()
}

fn add(path: &str, value: Value) -> Value {
    json!({"op": "add", "path": path, "value": value})
}

fn replace(path: &str, value: Value) -> Value {
    json!({"op": "replace", "path": path, "value": value})
}

fn test(path: &str, value: Value) -> Value {
    json!({"op": "test", "path": path, "value": value})
}

fn remove(path: &str) -> Value {
    json!({"op": "remove", "path": path})
}

/// Patches that give a record's usual name this family.
fn renamed(record: &Value, family: &str) -> Value {
    json!([
        test("/name/0/id", record["name"][0]["id"].clone()),
        replace("/name/0/family", json!(family))
    ])
}

fn coverage(number: &str, card: &str) -> Value {
    json!({
        "resourceType": "Coverage", "status": "active",
        "subscriber": {"identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": number}},
        "identifier": [{"value": card, "assigner": {
            "identifier": {"system": "urn:iso:std:iso:3166", "value": "FRA"}, "display": "France"}}],
        "payor": [{"identifier": {"value": "92847ADGJL"}}],
        "beneficiary": {"identifier": {"value": "178705ABC"}},
        "period": {"end": "2030-12-31"},
    })
}
