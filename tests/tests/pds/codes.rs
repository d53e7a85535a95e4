//! Each row of the specification's tables of errors, operation by operation, provoked at the wire.

use crate::{JANE, NOBODY, RESTRICTED, Sandbox, UNSOUND, coverage, registered, remove, replace, someone, test};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use vertebra_tests::pds::{BASE, Client, FHIR_JSON, JSON_PATCH, Reply, query, request_id};
use vertebra_tests::process::StoppedThread;
use vertebra_tests::wire::{Connection, Target};

/// A number that was invalidated.
const INVALIDATED: &str = "9000000076";
/// More than the largest body, in bytes.
const LARGE_BYTES: usize = 70_000;
/// How long a node's log may take, by default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Search,
    Create,
    Read,
    Update,
    Related,
    ReadCoverage,
    PutCoverage,
}

use Operation::{Create, PutCoverage, Read, ReadCoverage, Related, Search, Update};

/// The tables under each operation of the specification, the texts beside them included (503, 200).
const TABLES: [(Operation, &[(u16, &str)]); 7] = [
    (
        Search,
        &[
            (200, "TOO_MANY_MATCHES"),
            (400, "INVALID_SEARCH_DATA"),
            (400, "UNSUPPORTED_SERVICE"),
            (400, "MISSING_VALUE"),
            (400, "INVALID_VALUE"),
            (400, "ADDITIONAL_PROPERTIES"),
            (401, "ACCESS_DENIED"),
            (403, "INVALID_VALUE"),
            (408, "UNABLE_TO_CALL_SERVICE"),
            (429, "TOO_MANY_REQUESTS"),
        ],
    ),
    (
        Create,
        &[
            (200, "SINGLE_MATCH"),
            (200, "MULTIPLE_MATCHES"),
            (400, "MISSING_VALUE"),
            (400, "INVALID_VALUE"),
            (400, "VALIDATION_ERROR"),
            (400, "UNSUPPORTED_CHARACTERS_IN_FIELD"),
            (400, "ADDITIONAL_PROPERTIES"),
            (400, "UNSUPPORTED_VALUE"),
            (400, "TOO_FEW_VALUES_SUBMITTED"),
            (400, "TOO_MANY_VALUES_SUBMITTED"),
            (401, "ACCESS_DENIED"),
            (403, "ACCESS_DENIED"),
            (408, "UNABLE_TO_CALL_SERVICE"),
            (429, "TOO_MANY_REQUESTS"),
            (503, "SERVICE_UNAVAILABLE"),
        ],
    ),
    (
        Read,
        &[
            (400, "INVALID_RESOURCE_ID"),
            (400, "UNSUPPORTED_SERVICE"),
            (400, "MISSING_VALUE"),
            (400, "INVALID_VALUE"),
            (401, "ACCESS_DENIED"),
            (403, "ACCESS_DENIED"),
            (404, "RESOURCE_NOT_FOUND"),
            (404, "INVALIDATED_RESOURCE"),
            (408, "UNABLE_TO_CALL_SERVICE"),
            (429, "TOO_MANY_REQUESTS"),
        ],
    ),
    (
        Update,
        &[
            (400, "UNSUPPORTED_SERVICE"),
            (400, "MISSING_VALUE"),
            (400, "INVALID_VALUE"),
            (400, "INVALID_UPDATE"),
            (400, "INVALID_RESOURCE_ID"),
            (400, "VALIDATION_ERROR"),
            (400, "UNSUPPORTED_CHARACTERS_IN_FIELD"),
            (400, "ADDITIONAL_PROPERTIES"),
            (400, "UNSUPPORTED_VALUE"),
            (400, "TOO_FEW_VALUES_SUBMITTED"),
            (400, "TOO_MANY_VALUES_SUBMITTED"),
            (401, "ACCESS_DENIED"),
            (403, "FORBIDDEN_UPDATE"),
            (403, "ACCESS_DENIED"),
            (404, "RESOURCE_NOT_FOUND"),
            (404, "INVALIDATED_RESOURCE"),
            (408, "UNABLE_TO_CALL_SERVICE"),
            (409, "RESOURCE_VERSION_MISMATCH"),
            (412, "PRECONDITION_FAILED"),
            (429, "TOO_MANY_REQUESTS"),
            (503, "SERVICE_UNAVAILABLE"),
        ],
    ),
    (
        Related,
        &[
            (400, "INVALID_RESOURCE_ID"),
            (400, "MISSING_VALUE"),
            (400, "INVALID_VALUE"),
            (401, "ACCESS_DENIED"),
            (404, "RESOURCE_NOT_FOUND"),
            (404, "INVALIDATED_RESOURCE"),
            (408, "UNABLE_TO_CALL_SERVICE"),
            (429, "TOO_MANY_REQUESTS"),
        ],
    ),
    (
        ReadCoverage,
        &[
            (400, "INVALID_RESOURCE_ID"),
            (400, "INVALID_SEARCH_DATA"),
            (400, "MISSING_VALUE"),
            (400, "INVALID_VALUE"),
            (401, "ACCESS_DENIED"),
            (403, "ACCESS_DENIED"),
            (404, "RESOURCE_NOT_FOUND"),
            (404, "INVALIDATED_RESOURCE"),
            (408, "UNABLE_TO_CALL_SERVICE"),
            (429, "TOO_MANY_REQUESTS"),
        ],
    ),
    (
        PutCoverage,
        &[
            (400, "MISSING_VALUE"),
            (400, "INVALID_VALUE"),
            (400, "INVALID_UPDATE"),
            (400, "INVALID_RESOURCE_ID"),
            (400, "VALIDATION_ERROR"),
            (400, "TOO_FEW_VALUES_SUBMITTED"),
            (400, "TOO_MANY_VALUES_SUBMITTED"),
            (401, "ACCESS_DENIED"),
            (403, "FORBIDDEN_UPDATE"),
            (404, "RESOURCE_NOT_FOUND"),
            (408, "UNABLE_TO_CALL_SERVICE"),
            (409, "RESOURCE_VERSION_MISMATCH"),
            (412, "PRECONDITION_FAILED"),
            (429, "TOO_MANY_REQUESTS"),
            (503, "SERVICE_UNAVAILABLE"),
        ],
    ),
];

/// A request, to be spoilt.
#[derive(Clone)]
struct Asked {
    operation: Operation,
    /// The caller's token.
    token: String,
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Asked {
    fn by(self, client: &Client) -> Asked {
        Asked {
            token: client.token.clone(),
            ..self
        }
    }

    fn at(self, path: &str) -> Asked {
        Asked {
            path: path.to_owned(),
            ..self
        }
    }

    /// With this header instead of its own; an empty one is left out.
    fn header(mut self, name: &str, value: &str) -> Asked {
        self.headers.retain(|(own, _)| own != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn body(self, body: impl ToString) -> Asked {
        Asked {
            body: body.to_string(),
            ..self
        }
    }

    /// With `value` at `pointer` of its body.
    fn with(self, pointer: &str, value: Value) -> Asked {
        let mut body: Value = serde_json::from_str(&self.body).expect("a good body is JSON");
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let parent = body.pointer_mut(parent).expect("it is there");
        parent[name] = value;
        self.body(body)
    }

    fn patches(self, patches: &Value) -> Asked {
        self.body(json!({ "patches": patches }))
    }

    async fn send(&self, target: &Target) -> Reply {
        let mut client = Client::new(target.clone(), &self.token);
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let headers: Vec<_> = headers.collect();
        client
            .call(self.method, &self.path, &headers, self.body.as_bytes())
            .await
    }

    /// Sends all but the last byte of its body, and waits for what the node says to that.
    async fn stall(&self, target: &Target) -> Reply {
        let mut head = format!(
            "{} {BASE}{} HTTP/1.1\r\nHost: {}\r\n",
            self.method, self.path, target.host
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let (bytes, sent) = (self.body.len(), &self.body[..self.body.len() - 1]);
        head.push_str(&format!("Authorization: Bearer {}\r\n", self.token));
        head.push_str(&format!(
            "X-Request-ID: {}\r\nContent-Length: {bytes}\r\n\r\n{sent}",
            request_id()
        ));
        let mut connection = Connection::open(target).await.expect("the node accepts");
        connection.write(head.as_bytes()).await.expect("the node reads");
        let answer = connection.answer(false).await.expect("the node answers");
        assert!(answer.closes(), "nobody knows where the next request begins");
        Reply::of(answer)
    }
}

/// Who and what the requests are about.
struct Cast {
    worker: Client,
    application: Client,
    /// Somebody with a practice: version 2.
    number: String,
    record: Value,
    patient: Client,
}

impl Cast {
    async fn of(sandbox: &Sandbox) -> Cast {
        let mut worker = sandbox.worker();
        let number = registered(&mut worker).await;
        let record = worker.read(&number).await.json;
        Cast {
            application: sandbox.application().await,
            patient: sandbox.patient(&number),
            worker,
            number,
            record,
        }
    }

    /// A good request.
    fn good(&self, operation: Operation) -> Asked {
        let (family, born) = (&self.record["name"][0]["family"], &self.record["birthDate"]);
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let search = query(&[("family", &text(family)), ("birthdate", &text(born))]);
        let number = &self.number;
        let (method, path) = match operation {
            Search => ("GET", format!("/Patient?{search}")),
            Create => ("POST", "/Patient".to_owned()),
            Read => ("GET", format!("/Patient/{number}")),
            Update => ("PATCH", format!("/Patient/{number}")),
            Related => ("GET", format!("/Patient/{number}/RelatedPerson")),
            ReadCoverage => ("GET", format!("/Coverage?subscriber%3Aidentifier={number}")),
            PutCoverage => ("POST", "/Coverage".to_owned()),
        };
        let (body, headers) = match operation {
            Search | Read | Related | ReadCoverage => (String::new(), vec![]),
            Create => (someone().to_string(), vec![FHIR_JSON]),
            Update => {
                let patches = json!([replace("/gender", json!("male"))]);
                (
                    json!({ "patches": patches }).to_string(),
                    vec![JSON_PATCH, ("If-Match", "W/\"2\"")],
                )
            }
            PutCoverage => (
                coverage(number, "1").to_string(),
                vec![FHIR_JSON, ("If-Match", "W/\"2\"")],
            ),
        };
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let client = match operation {
            Search | Create | Read | Update | Related => &self.worker,
            ReadCoverage | PutCoverage => &self.patient,
        };
        Asked {
            operation,
            token: client.token.clone(),
            method,
            path,
            headers: headers.into_iter().map(owned).collect(),
            body,
        }
    }

    fn refusals(&self, sandbox: &Sandbox) -> Vec<(Asked, u16, &'static str)> {
        let mut all = Vec::new();
        for (operation, _) in TABLES {
            let good = || self.good(operation);
            all.push((good().header("X-Request-ID", ""), 400, "MISSING_VALUE"));
            all.push((good().header("X-Request-ID", "1234"), 400, "INVALID_VALUE"));
            all.push((
                good().header("Authorization", "Bearer no.such.token"),
                401,
                "ACCESS_DENIED",
            ));
        }
        all.extend(self.of_search());
        all.extend(self.of_create(sandbox));
        all.extend(self.of_one_record(sandbox));
        all.extend(self.of_update(sandbox));
        all.extend(self.of_coverage(sandbox));
        all
    }

    fn of_search(&self) -> Vec<(Asked, u16, &'static str)> {
        let search = || self.good(Search);
        let more = |more: &str| search().at(&format!("{}&{more}", search().path));
        let wild = "/Patient?family=Sm*&gender=female&birthdate=ge1900-01-01&birthdate=le2026-01-01&_max-results=1";
        vec![
            (search().at(wild), 200, "TOO_MANY_MATCHES"),
            (search().at("/Patient?family=Smith"), 400, "INVALID_SEARCH_DATA"),
            (search().at("/Patient"), 400, "UNSUPPORTED_SERVICE"),
            (more("pets=1"), 400, "ADDITIONAL_PROPERTIES"),
            (more("_max-results=2").by(&self.application), 403, "INVALID_VALUE"),
        ]
    }

    fn of_create(&self, sandbox: &Sandbox) -> Vec<(Asked, u16, &'static str)> {
        let create = || self.good(Create);
        let [single, twin] = [(); 2].map(|()| someone());
        let mut loaded = Vec::new();
        for (person, number) in [(&single, "9990000018"), (&twin, "9990000026"), (&twin, "9990000034")] {
            let mut record = person.clone();
            record.as_object_mut().expect("a record").remove("extension");
            record["id"] = json!(number);
            record["meta"] = json!({"security": [
                {"code": "U", "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"}]});
            record["identifier"] = json!([{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": number}]);
            loaded.push(record);
        }
        sandbox.import(&loaded);
        vec![
            (create().body(&single), 200, "SINGLE_MATCH"),
            (create().body(&twin), 200, "MULTIPLE_MATCHES"),
            (create().body("{"), 400, "VALIDATION_ERROR"),
            (create().body("x".repeat(LARGE_BYTES)), 400, "VALIDATION_ERROR"),
            (create().body(huge()), 400, "VALIDATION_ERROR"),
            (
                create().with("/name/0/family", json!("Snow\u{2603}man")),
                400,
                "UNSUPPORTED_CHARACTERS_IN_FIELD",
            ),
            (create().with("/pets", json!("tabby")), 400, "ADDITIONAL_PROPERTIES"),
            (create().with("/gender", json!("other")), 400, "UNSUPPORTED_VALUE"),
            (
                create().with("/name/0/given", json!([])),
                400,
                "TOO_FEW_VALUES_SUBMITTED",
            ),
            (
                create().with("/name/0/given", json!(["A", "B", "C", "D", "E", "F"])),
                400,
                "TOO_MANY_VALUES_SUBMITTED",
            ),
            (create().by(&self.patient), 403, "ACCESS_DENIED"),
        ]
    }

    /// What is said of the number alone, by each operation that names one.
    fn of_one_record(&self, sandbox: &Sandbox) -> Vec<(Asked, u16, &'static str)> {
        let mut all = Vec::new();
        for operation in [Read, Update, Related, ReadCoverage] {
            for (number, status, code) in [
                (UNSOUND, 400, "INVALID_RESOURCE_ID"),
                (NOBODY, 404, "RESOURCE_NOT_FOUND"),
                (INVALIDATED, 404, "INVALIDATED_RESOURCE"),
            ] {
                let good = self.good(operation);
                let path = good.path.replace(&self.number, number);
                let asked = good.at(&path);
                let own = operation == ReadCoverage && number != UNSOUND;
                let asked = if own { asked.by(&sandbox.patient(number)) } else { asked };
                all.push((asked, status, code));
            }
        }
        let stranger = sandbox.patient(JANE);
        for operation in [Read, Update, ReadCoverage] {
            all.push((self.good(operation).by(&stranger), 403, "ACCESS_DENIED"));
        }
        for operation in [Read, Update] {
            all.push((self.good(operation).at("/Patient/"), 400, "UNSUPPORTED_SERVICE"));
        }
        all
    }

    fn of_update(&self, sandbox: &Sandbox) -> Vec<(Asked, u16, &'static str)> {
        let update = || self.good(Update);
        let part = |name: &str, value: Value| {
            let path = format!("/name/0/{name}");
            let id = self.record["name"][0]["id"].clone();
            update().patches(&json!([test("/name/0/id", id), replace(&path, value)]))
        };
        let gender = |value: Value| update().patches(&json!([replace("/gender", value)]));
        let many = vec![replace("/gender", json!("male")); 101];
        vec![
            (update().body("{}"), 400, "INVALID_UPDATE"),
            (update().body("x".repeat(LARGE_BYTES)), 400, "VALIDATION_ERROR"),
            (gender(json!("woman")), 400, "INVALID_VALUE"),
            (gender(json!("other")), 400, "UNSUPPORTED_VALUE"),
            (
                part("family", json!("Snow\u{2603}man")),
                400,
                "UNSUPPORTED_CHARACTERS_IN_FIELD",
            ),
            (part("given", json!([])), 400, "TOO_FEW_VALUES_SUBMITTED"),
            (update().patches(&json!(many)), 400, "TOO_MANY_VALUES_SUBMITTED"),
            (
                update().patches(&json!([replace("/pets", json!(1))])),
                400,
                "ADDITIONAL_PROPERTIES",
            ),
            (update().patches(&json!([remove("/gender")])), 403, "FORBIDDEN_UPDATE"),
            (
                gender(json!("male")).by(&sandbox.patient(&self.number)),
                403,
                "FORBIDDEN_UPDATE",
            ),
            (update().header("If-Match", "W/\"1\""), 409, "RESOURCE_VERSION_MISMATCH"),
            (update().header("If-Match", ""), 412, "PRECONDITION_FAILED"),
        ]
    }

    fn of_coverage(&self, sandbox: &Sandbox) -> Vec<(Asked, u16, &'static str)> {
        let put = || self.good(PutCoverage);
        let of = |number: &str| put().by(&sandbox.patient(number)).body(coverage(number, "1"));
        let get = self.good(ReadCoverage);
        let year = format!("{}&year=2003", get.path);
        let subscriber = "/subscriber/identifier/value";
        vec![
            (get.at(&year), 400, "INVALID_SEARCH_DATA"),
            (self.good(ReadCoverage).by(&self.worker), 403, "ACCESS_DENIED"),
            (put().body("{"), 400, "INVALID_UPDATE"),
            (put().with(subscriber, json!(UNSOUND)), 400, "INVALID_RESOURCE_ID"),
            (put().body("x".repeat(LARGE_BYTES)), 400, "VALIDATION_ERROR"),
            (put().with("/identifier", json!([])), 400, "TOO_FEW_VALUES_SUBMITTED"),
            (
                put().with("/identifier", json!([{}, {}])),
                400,
                "TOO_MANY_VALUES_SUBMITTED",
            ),
            (of(RESTRICTED), 403, "FORBIDDEN_UPDATE"),
            (of(NOBODY), 404, "RESOURCE_NOT_FOUND"),
            (put().header("If-Match", "W/\"1\""), 409, "RESOURCE_VERSION_MISMATCH"),
            (put().header("If-Match", ""), 412, "PRECONDITION_FAILED"),
        ]
    }
}

/// A request whose parts are good and whose whole is too large a record: long addresses and numbers of each use.
fn huge() -> Value {
    // A character of four bytes.
    let wide = "\u{1D54F}".repeat(255);
    let lines = vec![wide.as_str(); 5];
    let mut body = someone();
    let passing = |kind: &str| {
        json!({"use": kind, "text": "Holiday Home", "line": lines, "postalCode": "LS1 6AE",
        "period": {"start": "2026-01-01", "end": "2026-02-01"}})
    };
    let home = json!({"use": "home", "line": lines, "postalCode": "LS1 6AE"});
    body["address"] = json!([home, passing("temp"), passing("billing")]);
    let uses = [
        json!({"use": "home"}),
        json!({"use": "work"}),
        json!({"use": "temp"}),
        json!({"use": "mobile"}),
        json!({}),
    ];
    let numbers = ["phone", "fax", "other"].into_iter().flat_map(|system| {
        uses.clone().map(|mut number| {
            (number["system"], number["value"]) = (json!(system), json!(wide));
            number
        })
    });
    body["telecom"] = numbers.collect();
    body["name"][0]["prefix"] = json!(vec!["\u{17F}".repeat(35); 10]);
    body
}

/// The rows that were answered.
type Answered = BTreeSet<(Operation, u16, &'static str)>;

async fn refuse(sandbox: &Sandbox, cast: &Cast, answered: &mut Answered) {
    for (asked, status, code) in cast.refusals(sandbox) {
        let reply = asked.send(&sandbox.node.target(None)).await;
        assert_eq!(
            (reply.status(), reply.code()),
            (status, code),
            "{:?} {}: {}",
            asked.operation,
            asked.path,
            reply.diagnostics()
        );
        reply.refused(status, code);
        answered.insert((asked.operation, status, code));
    }
}

type Running = tokio::task::JoinHandle<(Asked, Reply)>;

/// Starts a request of each operation; with `stall`, the last byte of its body never comes.
fn start(target: &Target, asked: impl IntoIterator<Item = Asked>, stall: bool) -> Vec<Running> {
    let one = |asked: Asked| {
        let target = target.clone();
        tokio::spawn(async move {
            let reply = match stall {
                true => asked.stall(&target).await,
                false => asked.send(&target).await,
            };
            (asked, reply)
        })
    };
    asked.into_iter().map(one).collect()
}

/// While the log stands still, reads are told that nothing came of it, and writes that it is not known; a body that stands
/// still is given up. Then the log goes on, and what was not known is answered, and was done once.
async fn stand_still(sandbox: &Sandbox, cast: &Cast, other: &Cast, answered: &mut Answered) {
    let target = sandbox.node.target(None);
    let versions = |number: &str| sandbox.history(number).len();
    let (before, other_before) = (versions(&cast.number), versions(&other.number));
    let stopped = StoppedThread::of(sandbox.node.pid(), "log");
    let began = Instant::now();
    let stalled = start(
        &target,
        [Create, Update, PutCoverage].map(|operation| cast.good(operation)),
        true,
    );
    let reads = start(
        &target,
        [Search, Read, Related, ReadCoverage].map(|operation| cast.good(operation)),
        false,
    );
    let writes = [cast.good(Create), cast.good(Update), other.good(PutCoverage)];
    let writes = writes.map(|asked| asked.header("X-Request-ID", &request_id()));
    let writes = start(&target, writes, false);
    for read in reads {
        let (asked, reply) = read.await.expect("no client panics");
        reply.refused(408, "UNABLE_TO_CALL_SERVICE");
        answered.insert((asked.operation, 408, "UNABLE_TO_CALL_SERVICE"));
    }
    assert!(began.elapsed() >= TIMEOUT, "it had its time");
    let mut unknown = Vec::new();
    for write in writes {
        let (asked, reply) = write.await.expect("no client panics");
        reply.refused(503, "SERVICE_UNAVAILABLE");
        let seconds = reply.header("retry-after").and_then(|text| text.parse::<u64>().ok());
        assert!(seconds.is_some_and(|seconds| seconds > 0), "it says when to come again");
        answered.insert((asked.operation, 503, "SERVICE_UNAVAILABLE"));
        unknown.push(asked);
    }
    drop(stopped);
    for request in stalled {
        let (asked, reply) = request.await.expect("no client panics");
        reply.refused(408, "UNABLE_TO_CALL_SERVICE");
        answered.insert((asked.operation, 408, "UNABLE_TO_CALL_SERVICE"));
    }
    for asked in unknown {
        let told = [asked.send(&target).await, asked.send(&target).await];
        let status = if asked.operation == Update { 200 } else { 201 };
        let [first, second] = told.each_ref().map(|reply| reply.ok(status).json.clone());
        assert_eq!(without_time(first), without_time(second), "{:?}", asked.operation);
        if asked.operation == Create {
            assert_eq!(versions(told[0].id()), 1, "there is one");
        }
    }
    assert_eq!(versions(&cast.number), before + 1, "the change was made once");
    assert_eq!(
        versions(&other.number),
        other_before + 1,
        "the coverage was stored once"
    );
}

fn without_time(mut resource: Value) -> Value {
    resource.as_object_mut().expect("a resource").remove("timestamp");
    resource
}

async fn hurry(sandbox: &Sandbox, cast: &Cast, answered: &mut Answered) {
    sandbox.ok(&["client", "set", "sandbox-app", "--rate", "1"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    for (operation, _) in TABLES {
        loop {
            // Of a version that never is: what comes through before the limit changes nothing.
            let asked = cast.good(operation).header("If-Match", "W/\"999\"");
            let asked = if operation == Create { asked.body("{}") } else { asked };
            let reply = asked.send(&sandbox.node.target(None)).await;
            if reply.status() == 429 {
                reply.refused(429, "TOO_MANY_REQUESTS");
                answered.insert((operation, 429, "TOO_MANY_REQUESTS"));
                break;
            }
            assert!(Instant::now() < deadline, "{operation:?} is never refused");
        }
    }
}

#[tokio::test]
async fn every_row_of_the_specification_s_tables_of_errors_is_answered() {
    let sandbox = Sandbox::start("pds-codes");
    let (cast, other) = (Cast::of(&sandbox).await, Cast::of(&sandbox).await);
    let mut answered = Answered::new();
    refuse(&sandbox, &cast, &mut answered).await;
    assert_eq!(sandbox.history(&cast.number).len(), 2, "no refusal changed anything");
    stand_still(&sandbox, &cast, &other, &mut answered).await;
    hurry(&sandbox, &cast, &mut answered).await;
    let rows = TABLES
        .into_iter()
        .flat_map(|(operation, rows)| rows.iter().map(move |&(status, code)| (operation, status, code)));
    let missing: Vec<_> = rows.filter(|row| !answered.contains(row)).collect();
    assert!(missing.is_empty(), "no request was answered so: {missing:?}");
    sandbox.ok(&["audit", "verify"]);
}
