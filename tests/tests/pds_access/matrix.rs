//! Caller kinds × operations × kinds of record, all of them, against a table written from the specification: its access
//! modes, and the tables of errors under each operation.

use crate::people::{coverage, new_patient};
use crate::{ABSENT, SCOPE, World, world};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::OnceCell;
use vertebra_tests::pds::{FHIR_JSON, JSON_PATCH, Reply, query, request_id};
use vertebra_tests::tokens::{Application, now_s, with};

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Caller {
    NoToken,
    GarbageToken,
    ExpiredWorker,
    Worker,
    WorkerBelowAal2,
    PatientOwn,
    PatientOther,
    PatientBelowP9,
    Application,
    DisabledApplication,
    ApplicationWithoutScope,
    WorkerOfAnotherMode,
}

const CALLERS: [Caller; 12] = [
    Caller::NoToken,
    Caller::GarbageToken,
    Caller::ExpiredWorker,
    Caller::Worker,
    Caller::WorkerBelowAal2,
    Caller::PatientOwn,
    Caller::PatientOther,
    Caller::PatientBelowP9,
    Caller::Application,
    Caller::DisabledApplication,
    Caller::ApplicationWithoutScope,
    Caller::WorkerOfAnotherMode,
];

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Search,
    Read,
    Update,
    Create,
    Related,
    ReadCoverage,
    PutCoverage,
    UnknownPath,
    WrongMethod,
}

const OPERATIONS: [Operation; 9] = [
    Operation::Search,
    Operation::Read,
    Operation::Update,
    Operation::Create,
    Operation::Related,
    Operation::ReadCoverage,
    Operation::PutCoverage,
    Operation::UnknownPath,
    Operation::WrongMethod,
];

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Open,
    Restricted,
    VeryRestricted,
    Superseded,
    Invalidated,
    Absent,
}

const KINDS: [Kind; 6] = [
    Kind::Open,
    Kind::Restricted,
    Kind::VeryRestricted,
    Kind::Superseded,
    Kind::Invalidated,
    Kind::Absent,
];

/// Whether the specification lets a caller do it: `Err` is the status of ACCESS_DENIED.
fn leave(caller: Caller, operation: Operation) -> Result<(), u16> {
    use Operation::{Create, PutCoverage, Read, ReadCoverage, Related, Search, UnknownPath, Update, WrongMethod};
    match (caller, operation) {
        (_, UnknownPath | WrongMethod) => Ok(()),
        (Caller::Worker, Search | Read | Update | Create | Related) => Ok(()),
        (Caller::Application, Search | Read | Related) => Ok(()),
        (Caller::PatientOwn, Read | Update | Related | ReadCoverage | PutCoverage) => Ok(()),
        // "User cannot perform this operation", "Patient cannot perform this action".
        (Caller::Worker | Caller::PatientOwn | Caller::PatientOther, _) => Err(403),
        // "Access token missing, invalid or expired, or calling application not configured for this operation."
        (_, _) => Err(401),
    }
}

/// What a caller is told who may: status and code, which is empty in a good answer. Changes name a version that never is.
fn outcome(operation: Operation, kind: Kind) -> (u16, &'static str) {
    match (operation, kind) {
        (Operation::UnknownPath, _) => (404, "UNSUPPORTED_SERVICE"),
        (Operation::WrongMethod, _) => (405, "UNSUPPORTED_SERVICE"),
        (Operation::Search, _) => (200, ""),
        (Operation::Create, _) => (201, ""),
        (_, Kind::Absent) => (404, "RESOURCE_NOT_FOUND"),
        (_, Kind::Invalidated) => (404, "INVALIDATED_RESOURCE"),
        (Operation::Update | Operation::PutCoverage, Kind::Restricted | Kind::VeryRestricted) => {
            (403, "FORBIDDEN_UPDATE")
        }
        (Operation::Update | Operation::PutCoverage, Kind::Open | Kind::Superseded) => {
            (409, "RESOURCE_VERSION_MISMATCH")
        }
        (Operation::Read | Operation::Related | Operation::ReadCoverage, _) => (200, ""),
    }
}

/// A record to ask for, and how it is searched.
struct Target {
    kind: Kind,
    number: String,
    search: String,
}

/// One call and its answer.
struct Cell {
    caller: Caller,
    operation: Operation,
    kind: Kind,
    number: String,
    request: String,
    reply: Reply,
}

impl Cell {
    fn name(&self) -> String {
        format!("{:?} {:?} {:?}", self.caller, self.operation, self.kind)
    }
}

const ON_BEHALF: &str = "Y12345";

fn targets(world: &World) -> Vec<Target> {
    let hidden = world.node.sandbox["pds"]["nhs_numbers"][100]
        .as_str()
        .expect("people are seeded");
    world.told(&["patient", "restrict", hidden, "--very"]);
    let target = |kind| {
        let number = match kind {
            Kind::Open => "9000000017",
            Kind::Restricted => "9000000025",
            Kind::VeryRestricted => hidden,
            Kind::Superseded => "9000000068",
            Kind::Invalidated => "9000000076",
            Kind::Absent => ABSENT,
        };
        let (family, given, birth) = match kind {
            Kind::Absent => ("Nobodyatall".to_owned(), "None".to_owned(), "1980-01-01".to_owned()),
            _ => told_of(world, number),
        };
        let search = query(&[("family", &family), ("given", &given), ("birthdate", &birth)]);
        Target {
            kind,
            number: number.to_owned(),
            search,
        }
    };
    KINDS.into_iter().map(target).collect()
}

/// Family name, given name and date of birth, as operators see them.
fn told_of(world: &World, number: &str) -> (String, String, String) {
    let record: Value = serde_json::from_str(&world.told(&["patient", "show", number])).expect("JSON");
    let text = |pointer: &str| {
        let found = record.pointer(pointer).and_then(Value::as_str);
        found.unwrap_or_else(|| panic!("{number} has {pointer}")).to_owned()
    };
    (text("/name/0/family"), text("/name/0/given/0"), text("/birthDate"))
}

/// The token with which a caller asks for a record; empty: none.
struct Tokens {
    fixed: BTreeMap<Caller, String>,
    own: BTreeMap<Kind, String>,
}

async fn tokens(world: &World, targets: &[Target]) -> Tokens {
    let front = world.node.target(None);
    let app = Application::of(&world.node.sandbox);
    let closed = world.add_client("matrix-closed", SCOPE, &["application"], "1000");
    let closed_token = closed.access_token(&front).await;
    world.told(&["client", "disable", "matrix-closed"]);
    let bare = world.add_client("matrix-bare", "something-else", &["application"], "1000");
    let bare_token = bare.access_token(&front).await;
    world.add_client("matrix-app", SCOPE, &["application", "patient"], "1000");
    let worker = world.worker_claims(&app.client);
    let patient = world.patient_claims(&app.client, "9000000033");
    let expired = with(
        with(worker.clone(), "iat", json!(now_s() - 900)),
        "exp",
        json!(now_s() - 300),
    );
    let weak = with(worker.clone(), "authentication_assurance_level", json!("1"));
    let fixed = [
        (Caller::NoToken, String::new()),
        (Caller::GarbageToken, "Bearer not.a.token".to_owned()),
        (Caller::ExpiredWorker, world.signed(&expired)),
        (Caller::Worker, world.signed(&worker)),
        (Caller::WorkerBelowAal2, world.signed(&weak)),
        (Caller::PatientOther, world.signed(&patient)),
        (Caller::Application, app.access_token(&front).await),
        (Caller::DisabledApplication, closed_token),
        (Caller::ApplicationWithoutScope, bare_token),
        (
            Caller::WorkerOfAnotherMode,
            world.signed(&world.worker_claims("matrix-app")),
        ),
    ];
    let own = targets.iter().map(|target| {
        let claims = world.patient_claims(&app.client, &target.number);
        (target.kind, world.signed(&claims))
    });
    Tokens {
        fixed: fixed.into(),
        own: own.collect(),
    }
}

impl Tokens {
    fn header(&self, world: &World, caller: Caller, target: &Target) -> String {
        let token = match caller {
            Caller::PatientOwn => self.own[&target.kind].clone(),
            Caller::PatientBelowP9 => {
                let claims = world.patient_claims("sandbox-app", &target.number);
                world.signed(&with(claims, "identity_proofing_level", json!("P5")))
            }
            other => self.fixed[&other].clone(),
        };
        match caller {
            Caller::NoToken => String::new(),
            Caller::GarbageToken => token,
            _ => format!("Bearer {token}"),
        }
    }
}

/// Every cell, called once for the whole binary.
async fn cells() -> &'static [Cell] {
    static CELLS: OnceCell<Vec<Cell>> = OnceCell::const_new();
    CELLS.get_or_init(|| called(world())).await
}

async fn called(world: &World) -> Vec<Cell> {
    let targets = targets(world);
    let tokens = tokens(world, &targets).await;
    let mut client = world.client("");
    let mut cells = Vec::new();
    for caller in CALLERS {
        for operation in OPERATIONS {
            for target in &targets {
                let bearer = tokens.header(world, caller, target);
                let request = request_id();
                let (method, path, body) = asked(operation, target, cells.len());
                let content = if method == "PATCH" { JSON_PATCH } else { FHIR_JSON };
                let headers = [
                    ("Authorization", bearer.as_str()),
                    ("X-Request-ID", request.as_str()),
                    ("NHSD-End-User-Organisation-ODS", ON_BEHALF),
                    ("If-Match", "W/\"999999\""),
                    content,
                ];
                let reply = client.call(method, &path, &headers, body.as_bytes()).await;
                cells.push(Cell {
                    caller,
                    operation,
                    kind: target.kind,
                    number: target.number.clone(),
                    request,
                    reply,
                });
            }
        }
    }
    cells
}

fn asked(operation: Operation, target: &Target, at: usize) -> (&'static str, String, String) {
    let number = &target.number;
    match operation {
        Operation::Search => ("GET", format!("/Patient?{}", target.search), String::new()),
        Operation::Read => ("GET", format!("/Patient/{number}"), String::new()),
        Operation::Update => {
            let patches = json!({"patches": [{"op": "replace", "path": "/gender", "value": "other"}]});
            ("PATCH", format!("/Patient/{number}"), patches.to_string())
        }
        Operation::Create => {
            let letters: String = at.to_string().bytes().map(|digit| char::from(digit + 49)).collect();
            let (family, given, phone) = (
                format!("Matrix{letters}"),
                format!("Newly{letters}"),
                format!("07701{at:06}"),
            );
            let patient = new_patient(&family, &[&given], "ZZ99 3VZ", &phone);
            ("POST", "/Patient".to_owned(), patient.to_string())
        }
        Operation::Related => ("GET", format!("/Patient/{number}/RelatedPerson"), String::new()),
        Operation::ReadCoverage => {
            let query = query(&[("subscriber:identifier", number)]);
            ("GET", format!("/Coverage?{query}"), String::new())
        }
        Operation::PutCoverage => ("POST", "/Coverage".to_owned(), coverage(number).to_string()),
        Operation::UnknownPath => ("GET", format!("/Patient/{number}/Observation"), String::new()),
        Operation::WrongMethod => ("DELETE", format!("/Patient/{number}"), String::new()),
    }
}

#[tokio::test]
async fn each_caller_may_do_what_the_specification_lets_it_and_nothing_else() {
    let cells = cells().await;
    assert_eq!(cells.len(), CALLERS.len() * OPERATIONS.len() * KINDS.len());
    let mut wrong = Vec::new();
    for cell in cells {
        let expected = match leave(cell.caller, cell.operation) {
            Err(status) => (status, "ACCESS_DENIED"),
            Ok(()) => outcome(cell.operation, cell.kind),
        };
        let told = (cell.reply.status(), cell.reply.code());
        if told != expected {
            wrong.push(format!("{}: {told:?}, and not {expected:?}", cell.name()));
        }
    }
    assert!(wrong.is_empty(), "{} cells:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn a_refusal_is_the_same_whether_or_not_there_is_such_a_record() {
    let mut answers: BTreeMap<(Caller, Operation), BTreeSet<String>> = BTreeMap::new();
    for cell in cells().await {
        if leave(cell.caller, cell.operation).is_err() {
            let mut headers: Vec<&str> = cell
                .reply
                .answer
                .headers
                .iter()
                .map(|(name, _)| name.as_str())
                .collect();
            headers.sort_unstable();
            let whole = format!("{} {headers:?} {}", cell.reply.status(), cell.reply.answer.text());
            answers.entry((cell.caller, cell.operation)).or_default().insert(whole);
        }
    }
    assert!(answers.len() > 50, "most of the matrix is refused: {}", answers.len());
    for (call, told) in answers {
        assert_eq!(told.len(), 1, "{call:?} tells records apart: {told:#?}");
    }
}

#[tokio::test]
async fn what_is_answered_is_the_record_that_was_asked_for() {
    for cell in cells().await {
        if leave(cell.caller, cell.operation).is_err() || cell.reply.status() != 200 {
            continue;
        }
        let found = cell.reply.ids();
        match (cell.operation, cell.kind) {
            (Operation::Search, Kind::Open | Kind::Restricted) => {
                assert_eq!(found, [cell.number.as_str()], "{}", cell.name());
            }
            (Operation::Search, _) => assert!(found.is_empty(), "{}: {found:?}", cell.name()),
            (Operation::Read, Kind::Superseded) => assert_eq!(cell.reply.id(), "9000000041", "{}", cell.name()),
            (Operation::Read, _) => assert_eq!(cell.reply.id(), cell.number, "{}", cell.name()),
            (Operation::Related, Kind::Open) => assert_eq!(found, ["507B7617"], "{}", cell.name()),
            (Operation::Related, Kind::Restricted | Kind::VeryRestricted) => {
                assert!(found.is_empty(), "{}: {found:?}", cell.name());
            }
            (_, _) => assert_eq!(cell.reply.json["resourceType"], "Bundle", "{}", cell.name()),
        }
    }
}

/// What the audit is to say of a call: actor, role, client, organisation; `None` where nobody was proved.
fn who(cell: &Cell) -> Option<[String; 4]> {
    let worker = |client: &str| ["555043308597", "S8000:G8000:R8001", client, "X26"].map(str::to_owned);
    let application = |client: &str| [client, "", client, "X26"].map(str::to_owned);
    let patient = |number: &str| [number, "", "sandbox-app", ""].map(str::to_owned);
    match cell.caller {
        Caller::NoToken
        | Caller::GarbageToken
        | Caller::ExpiredWorker
        | Caller::WorkerBelowAal2
        | Caller::PatientBelowP9 => None,
        Caller::Worker => Some(worker("sandbox-app")),
        Caller::WorkerOfAnotherMode => Some(worker("matrix-app")),
        Caller::PatientOwn => Some(patient(&cell.number)),
        Caller::PatientOther => Some(patient("9000000033")),
        Caller::Application => Some(application("sandbox-app")),
        Caller::DisabledApplication => Some(application("matrix-closed")),
        Caller::ApplicationWithoutScope => Some(application("matrix-bare")),
    }
}

fn action(operation: Operation) -> Option<&'static str> {
    match operation {
        Operation::Search => Some("pds.search"),
        Operation::Read => Some("pds.read"),
        Operation::Update => Some("pds.update"),
        Operation::Create => Some("pds.create"),
        Operation::Related => Some("pds.related"),
        Operation::ReadCoverage => Some("pds.read_coverage"),
        Operation::PutCoverage => Some("pds.put_coverage"),
        // Nothing of a patient is there.
        Operation::UnknownPath | Operation::WrongMethod => None,
    }
}

/// Holds the calls of proved callers for which `of` is true against the audit.
async fn on_the_record(of: impl Fn(&Cell) -> bool) -> usize {
    let cells = cells().await;
    let entries = world().audited();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let mut by_request: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for entry in &entries {
        by_request.entry(text(entry, "client_request")).or_default().push(entry);
    }
    let (mut wrong, mut held) = (Vec::new(), 0);
    for cell in cells {
        let (Some(who), Some(action)) = (who(cell), action(cell.operation)) else {
            assert!(
                !by_request.contains_key(&cell.request),
                "{} is on the record",
                cell.name()
            );
            continue;
        };
        if !of(cell) {
            continue;
        }
        held += 1;
        let found = by_request.get(&cell.request).map(Vec::as_slice).unwrap_or_default();
        let [entry] = found else {
            wrong.push(format!(
                "{}: {} entries with its X-Request-ID",
                cell.name(),
                found.len()
            ));
            continue;
        };
        let told = ["actor", "role", "client", "organisation"].map(|name| text(entry, name));
        let outcome = text(entry, "outcome");
        let status = cell.reply.status().to_string();
        if told != who || text(entry, "action") != action || outcome.split(' ').next() != Some(status.as_str()) {
            wrong.push(format!("{}: {entry}", cell.name()));
        }
        if text(entry, "on_behalf") != ON_BEHALF {
            wrong.push(format!("{}: on whose behalf is not on the record", cell.name()));
        }
    }
    assert!(wrong.is_empty(), "{} of {held}:\n{}", wrong.len(), wrong.join("\n"));
    held
}

#[tokio::test]
async fn each_call_of_a_caller_who_may_make_it_is_on_the_record() {
    let held = on_the_record(|cell| leave(cell.caller, cell.operation).is_ok()).await;
    assert_eq!(held, (5 + 3 + 5) * KINDS.len());
}

#[tokio::test]
async fn each_refused_call_of_a_proved_caller_is_on_the_record_as_fully() {
    let held = on_the_record(|cell| leave(cell.caller, cell.operation).is_err()).await;
    assert_eq!(held, (2 + 4 + 2 + 4 * 7) * KINDS.len());
}

#[tokio::test]
async fn a_patient_changes_how_to_reach_them_and_not_who_they_are() {
    let world = world();
    let number = world.node.sandbox["pds"]["nhs_numbers"][101]
        .as_str()
        .expect("people are seeded");
    let mut patient = world.client(&world.signed(&world.patient_claims("sandbox-app", number)));
    let version = patient.read(number).await.ok(200).version();
    for (path, value) in [
        ("/gender", json!("other")),
        ("/birthDate", json!("1970-01-01")),
        ("/name/0/family", json!("Other")),
    ] {
        let patches = json!([{"op": "replace", "path": path, "value": value}]);
        patient
            .patch(number, version, &patches)
            .await
            .refused(403, "FORBIDDEN_UPDATE");
    }
    let phone = json!({"use": "mobile", "system": "phone", "value": "07700900999", "period": {"start": "2026-01-01"}});
    let patches = json!([{"op": "add", "path": "/telecom/-", "value": phone}]);
    let changed = patient.patch(number, version, &patches).await;
    changed.ok(200);
    assert_eq!(changed.version(), version + 1);
    assert!(changed.answer.text().contains("07700900999"));
    let other = patient.patch("9000000017", 1, &patches).await;
    other.refused(403, "ACCESS_DENIED");
}
