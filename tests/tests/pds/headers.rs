//! What goes with every answer, good or bad: identifiers mirrored, the content type, and who is refused before anything
//! is looked at.

use crate::{JANE, NOBODY, Sandbox, UNSOUND, coverage, newcomer, replace, someone};
use serde_json::json;
use std::time::{Duration, Instant};
use vertebra_tests::pds::{FHIR_JSON, JSON_PATCH, Reply, request_id};
use vertebra_tests::tokens::{Authority, now_s, with};

/// A call of each operation, good and bad, that changes nothing: method, path, extra headers, body.
type Call = (&'static str, String, Vec<(&'static str, &'static str)>, String);

fn calls() -> Vec<Call> {
    let search = "/Patient?family=Smith&birthdate=2010-10-22".to_owned();
    let get = |path: &str| ("GET", path.to_owned(), vec![], String::new());
    let patch = |number: &str, tag: &'static str| {
        let body = json!({"patches": [replace("/gender", json!("male"))]}).to_string();
        (
            "PATCH",
            format!("/Patient/{number}"),
            vec![("If-Match", tag), JSON_PATCH],
            body,
        )
    };
    vec![
        get(&search),
        get("/Patient?family=Sm*&birthdate=2010-10-22&_max-results=1"),
        get("/Patient?pets=1"),
        get(&format!("/Patient/{JANE}")),
        get(&format!("/Patient/{NOBODY}")),
        get(&format!("/Patient/{UNSOUND}")),
        get(&format!("/Patient/{JANE}/RelatedPerson")),
        get(&format!("/Patient/{NOBODY}/RelatedPerson")),
        get(&format!("/Coverage?subscriber%3Aidentifier={JANE}")),
        get("/Observation"),
        get(""),
        ("DELETE", format!("/Patient/{JANE}"), vec![], String::new()),
        patch(JANE, "W/\"999\""),
        patch(JANE, "999"),
        patch(NOBODY, "W/\"1\""),
        ("POST", "/Patient".to_owned(), vec![FHIR_JSON], "{".to_owned()),
        (
            "POST",
            "/Patient".to_owned(),
            vec![("Content-Type", "text/plain")],
            "{}".to_owned(),
        ),
        (
            "POST",
            "/Coverage".to_owned(),
            vec![FHIR_JSON, ("If-Match", "W/\"1\"")],
            coverage(JANE, "1").to_string(),
        ),
    ]
}

#[track_caller]
fn proper(reply: &Reply, what: &str) {
    assert_eq!(
        reply.header("content-type"),
        Some("application/fhir+json"),
        "{what}: {}",
        reply.answer.text()
    );
    assert!(
        ["Patient", "Bundle", "OperationOutcome"]
            .iter()
            .any(|kind| reply.json["resourceType"] == *kind),
        "{what}"
    );
    assert!(reply.status() < 500, "{what}: {}", reply.answer.text());
    assert_eq!(
        reply.status() >= 400,
        !reply.issues().is_empty() && reply.status() != 200,
        "{what}"
    );
}

#[tokio::test]
async fn identifiers_are_mirrored_on_every_answer_and_every_answer_is_fhir() {
    let sandbox = Sandbox::shared();
    let mut clients = [sandbox.worker(), sandbox.patient(JANE), sandbox.application().await];
    for client in &mut clients {
        for (method, path, headers, body) in calls() {
            for forged in [false, true] {
                let (request, correlation) = (request_id(), "any value. of the client's, 1/2");
                let request = if forged { request.to_uppercase() } else { request };
                let mut all = vec![("X-Request-ID", request.as_str()), ("X-Correlation-ID", correlation)];
                all.extend(headers.iter().copied());
                if forged {
                    all.push(("Authorization", "Bearer no.such.token"));
                }
                let reply = client.call(method, &path, &all, body.as_bytes()).await;
                let what = format!("{method} {path} forged {forged}");
                assert_eq!(reply.header("x-request-id"), Some(request.as_str()), "{what}");
                assert_eq!(reply.header("x-correlation-id"), Some(correlation), "{what}");
                proper(&reply, &what);
            }
        }
    }
    let created = sandbox
        .worker()
        .create_as("60E0B220-8136-4CA5-AE46-1D97EF59D068", &someone())
        .await;
    assert_eq!(
        created.ok(201).header("x-request-id"),
        Some("60E0B220-8136-4CA5-AE46-1D97EF59D068")
    );
}

#[tokio::test]
async fn a_request_without_a_good_identifier_is_refused_by_every_operation() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let bad = [
        "1234",
        "60E0B220-8136-4CA5-AE46-1D97EF59D06",
        "60E0B220-8136-4CA5-AE46-1D97EF59D06G",
        "60E0B220_8136_4CA5_AE46_1D97EF59D068",
    ];
    for (method, path, headers, body) in calls() {
        let routed = !["/Observation", ""].contains(&path.as_str()) && method != "DELETE";
        if !routed {
            continue;
        }
        let mut all = headers.clone();
        all.push(("X-Request-ID", ""));
        worker
            .call(method, &path, &all, body.as_bytes())
            .await
            .refused(400, "MISSING_VALUE");
        for id in bad {
            let mut all = headers.clone();
            all.push(("X-Request-ID", id));
            let refused = worker.call(method, &path, &all, body.as_bytes()).await;
            refused.refused(400, "INVALID_VALUE");
            assert_eq!(refused.header("x-request-id"), Some(id), "mirrored all the same");
        }
    }
    let several = [
        ("X-Request-ID", ""),
        ("NHSD-Session-URID", "abc"),
        ("NHSD-End-User-Organisation-ODS", "!"),
    ];
    let refused = worker.call("GET", &format!("/Patient/{JANE}"), &several, b"").await;
    assert_eq!(
        refused.codes(),
        ["MISSING_VALUE", "INVALID_VALUE", "INVALID_VALUE"],
        "all at once"
    );
}

#[tokio::test]
async fn optional_headers_are_checked_and_taken_over() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let path = format!("/Patient/{JANE}");
    let long = "c".repeat(256);
    for (header, value, status) in [
        ("NHSD-Session-URID", "555254242102", 200),
        ("NHSD-Session-URID", "555254240100", 400),
        ("NHSD-Session-URID", "role", 400),
        ("NHSD-End-User-Organisation-ODS", "Y12345", 200),
        ("NHSD-End-User-Organisation-ODS", "not an ODS code", 400),
        ("X-Correlation-ID", &long[..255], 200),
        ("X-Correlation-ID", &long, 400),
    ] {
        let reply = worker.call("GET", &path, &[(header, value)], b"").await;
        assert_eq!(reply.status(), status, "{header}: {value}: {}", reply.answer.text());
        if status == 400 {
            reply.refused(400, "INVALID_VALUE");
        }
    }
    // In the other modes the role is ignored.
    let mut application = sandbox.application().await;
    let reply = application
        .call("GET", &path, &[("NHSD-Session-URID", "555254240100")], b"")
        .await;
    reply.ok(200);
    let request = request_id();
    let headers = [
        ("X-Request-ID", request.as_str()),
        ("NHSD-End-User-Organisation-ODS", "Y12345"),
    ];
    worker.call("GET", &path, &headers, b"").await.ok(200);
    let entries = sandbox.audited(&["--request", &request]);
    assert_eq!(
        (entries.len(), &entries[0]["on_behalf"]),
        (1, &json!("Y12345")),
        "{entries:?}"
    );
}

#[tokio::test]
async fn who_is_not_proved_is_told_nothing() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let authority = Authority::of(&sandbox.node.sandbox);
    let claims = |name: &str, value| {
        let mut claims = authority.claims("sandbox-app");
        for (name, value) in [
            ("scope", "personal-demographics-service"),
            ("sub", "u"),
            ("selected_roleid", "555"),
            ("role_code", "S8000:G8000:R8001"),
            ("org_code", "X26"),
            ("id_assurance_level", "3"),
            ("authentication_assurance_level", "3"),
        ] {
            claims = with(claims, name, json!(value));
        }
        format!("Bearer {}", authority.signed(&with(claims, name, value)))
    };
    let good = claims("jti", json!("x"));
    let path = format!("/Patient/{JANE}");
    worker
        .call("GET", &path, &[("Authorization", &good)], b"")
        .await
        .ok(200);
    for (what, bearer) in [
        ("none", String::new()),
        ("no scheme", worker.token.clone()),
        ("another scheme", format!("Basic {}", worker.token)),
        ("no token", "Bearer ".to_owned()),
        ("a broken signature", format!("{good}x")),
        ("expired", claims("exp", json!(now_s() - 1_000))),
        ("of another issuer", claims("iss", json!("https://elsewhere"))),
        ("for another audience", claims("aud", json!("elsewhere"))),
        ("of an unknown client", claims("client_id", json!("nobody"))),
        ("without the scope", claims("scope", json!("mesh"))),
        ("without any scope", claims("scope", json!(null))),
    ] {
        for path in [
            path.as_str(),
            &format!("/Patient/{NOBODY}"),
            "/Patient?family=Smith&birthdate=2010-10-22",
        ] {
            let refused = worker.call("GET", path, &[("Authorization", &bearer)], b"").await;
            assert_eq!(
                (refused.status(), refused.code()),
                (401, "ACCESS_DENIED"),
                "{what}: {}",
                refused.answer.text()
            );
            refused.refused(401, "ACCESS_DENIED");
        }
    }
}

#[tokio::test]
async fn who_may_not_is_told_so_whether_or_not_there_is_such_a_record() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let before = worker.read(JANE).await;
    let version = before.ok(200).version();
    let mut patient = sandbox.patient(JANE);
    for number in ["9000000017", NOBODY, "9000000076"] {
        patient.read(number).await.refused(403, "ACCESS_DENIED");
        patient.related(number).await.refused(403, "ACCESS_DENIED");
        patient.coverage(number).await.refused(403, "ACCESS_DENIED");
        patient
            .put_coverage(1, &coverage(number, "1"))
            .await
            .refused(403, "ACCESS_DENIED");
        patient
            .patch(number, 1, &json!([replace("/gender", json!("male"))]))
            .await
            .refused(403, "ACCESS_DENIED");
    }
    patient
        .search(&[("family", "Smith"), ("birthdate", "2010-10-22")])
        .await
        .refused(403, "ACCESS_DENIED");
    patient.create(&someone()).await.refused(403, "ACCESS_DENIED");
    worker.coverage(JANE).await.refused(403, "ACCESS_DENIED");
    worker
        .put_coverage(version, &coverage(JANE, "1"))
        .await
        .refused(403, "ACCESS_DENIED");
    let mut application = sandbox.application().await;
    application.create(&someone()).await.refused(401, "ACCESS_DENIED");
    application.coverage(JANE).await.refused(401, "ACCESS_DENIED");
    application
        .put_coverage(version, &coverage(JANE, "1"))
        .await
        .refused(401, "ACCESS_DENIED");
    application
        .patch(JANE, version, &json!([replace("/gender", json!("male"))]))
        .await
        .refused(401, "ACCESS_DENIED");
    assert_eq!(worker.read(JANE).await.json, before.json, "nothing of it was done");
}

#[tokio::test]
async fn an_unknown_path_or_method_is_refused_in_words() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    for path in [
        "",
        "/",
        "/Observation",
        "/Patient/9000000009/RelatedPerson/1",
        "/Patient/9000000009/Coverage",
        "/metadata",
    ] {
        worker.get(path).await.refused(404, "UNSUPPORTED_SERVICE");
    }
    for (method, path, allow) in [
        ("DELETE", "/Patient/9000000009", "GET, PATCH"),
        ("PUT", "/Patient/9000000009", "GET, PATCH"),
        ("PUT", "/Patient", "GET, POST"),
        ("POST", "/Patient/9000000009/RelatedPerson", "GET"),
        ("PATCH", "/Coverage", "GET, POST"),
    ] {
        let refused = worker.call(method, path, &[], b"").await;
        refused.refused(405, "UNSUPPORTED_SERVICE");
        assert_eq!(refused.header("allow"), Some(allow), "{method} {path}");
    }
}

#[tokio::test]
async fn above_its_rate_a_client_is_told_when_to_come_back() {
    let sandbox = Sandbox::start("pds-rate");
    let mut worker = sandbox.worker();
    let made = newcomer(&mut worker).await;
    sandbox.ok(&["client", "set", "sandbox-app", "--rate", "1"]);
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut served = 0;
    let refused = loop {
        let reply = worker.read(made.id()).await;
        if reply.status() != 200 {
            break reply;
        }
        served += 1;
        assert!(Instant::now() < deadline, "one a second was never exceeded");
    };
    refused.refused(429, "TOO_MANY_REQUESTS");
    let seconds: u64 = refused
        .header("retry-after")
        .and_then(|s| s.parse().ok())
        .expect("whole seconds");
    assert!((1..=5).contains(&seconds), "{seconds}");
    // Writes too, of a version and a body that would change nothing if a second went by in between.
    let change = json!([replace("/gender", json!("male"))]);
    while worker.patch(made.id(), 7, &change).await.code() != "TOO_MANY_REQUESTS" {
        assert!(Instant::now() < deadline, "changes are never refused");
    }
    while worker.create(&json!({})).await.code() != "TOO_MANY_REQUESTS" {
        assert!(Instant::now() < deadline, "creations are never refused");
    }
    sandbox.ok(&["client", "set", "sandbox-app", "--rate", "100000"]);
    let again = loop {
        let reply = worker.read(made.id()).await;
        if reply.status() == 200 {
            break reply;
        }
        reply.refused(429, "TOO_MANY_REQUESTS");
        assert!(Instant::now() < deadline, "the new rate is never in force");
    };
    assert_eq!(
        again.version(),
        1,
        "what was refused was not done, after {served} reads"
    );
    let entries = sandbox.audited(&["--outcome", "429 TOO_MANY_REQUESTS"]);
    assert!(!entries.is_empty(), "a refusal of a known caller is on the record");
}
