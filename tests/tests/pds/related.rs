//! What hangs on a patient: related people and coverage.

use crate::{BARE, JANE, NOBODY, RESTRICTED, Sandbox, UNSOUND, coverage, newcomer};
use serde_json::{Value, json};
use vertebra_tests::pds::{Client, FHIR_JSON};

#[tokio::test]
async fn the_specification_s_scenarios_of_related_people() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let scenarios: [(&str, &[&str]); 4] = [
        (JANE, &["507B7621", "507B7622"]),
        ("9000000017", &["507B7617"]),
        (RESTRICTED, &[]),
        (BARE, &[]),
    ];
    for (number, expected) in scenarios {
        let version = worker.read(number).await.version();
        let related = worker.related(number).await;
        assert_eq!(
            (related.ok(200).ids(), &related.json["total"]),
            (expected.to_vec(), &json!(expected.len())),
            "{number}"
        );
        assert_eq!(
            (&related.json["resourceType"], &related.json["type"]),
            (&json!("Bundle"), &json!("searchset"))
        );
        assert_eq!(related.version(), version, "the patient's version");
        assert_eq!(related.header("content-type"), Some("application/fhir+json"));
        for entry in related.json["entry"].as_array().expect("a list, also of none") {
            let (url, id) = (
                entry["fullUrl"].as_str().expect("a link"),
                entry["resource"]["id"].as_str().expect("an id"),
            );
            assert!(
                url.ends_with(&format!("/FHIR/R4/Patient/{number}/RelatedPerson/{id}")),
                "{url}"
            );
            assert_eq!(entry["resource"]["resourceType"], "RelatedPerson");
        }
    }
    worker.related(NOBODY).await.refused(404, "RESOURCE_NOT_FOUND");
    worker.related(UNSOUND).await.refused(400, "INVALID_RESOURCE_ID");
    worker.related("").await.refused(400, "UNSUPPORTED_SERVICE");
    let missing = worker
        .call(
            "GET",
            &format!("/Patient/{JANE}/RelatedPerson"),
            &[("X-Request-ID", "")],
            b"",
        )
        .await;
    missing.refused(400, "MISSING_VALUE");
}

#[tokio::test]
async fn a_restricted_patient_s_related_people_are_not_shown() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let made = newcomer(&mut worker).await;
    let number = made.id();
    sandbox.import(&[json!({"resourceType": "RelatedPerson", "id": "507B0001", "active": true,
        "patient": {"identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": number}},
        "name": [{"use": "usual", "family": "Planted"}],
        "relationship": [{"coding": [{"system": "https://fhir.nhs.uk/R4/CodeSystem/UKCore-AdditionalRelatedPersonRole", "code": "Guardian"}]}]})]);
    assert_eq!(worker.related(number).await.ok(200).ids(), ["507B0001"]);
    sandbox.ok(&["patient", "restrict", number]);
    let hidden = worker.related(number).await;
    assert!(
        hidden.ok(200).ids().is_empty() && !hidden.answer.text().contains("Planted"),
        "{}",
        hidden.json
    );
}

#[tokio::test]
async fn the_specification_s_scenarios_of_coverage() {
    let sandbox = Sandbox::start("pds-coverage");
    let mut jane = Client::patient(&sandbox.node);
    let read = jane.coverage(JANE).await;
    let version = read.ok(200).version();
    assert_eq!(
        version,
        jane.read(JANE).await.ok(200).version(),
        "coverage counts in the patient's version"
    );
    assert_eq!(
        (&read.json["total"], &read.json["meta"]["versionId"]),
        (&json!(1), &json!(version.to_string()))
    );
    let kept = read.resources()[0];
    assert_eq!(
        (
            &kept["identifier"][0]["value"],
            &kept["payor"][0]["identifier"]["value"]
        ),
        (&json!("29401395498043123948"), &json!("92847ADGJL"))
    );
    assert_eq!(kept["subscriber"]["identifier"]["value"], JANE);
    let mut bare = sandbox.patient(BARE);
    let none = bare.coverage(BARE).await;
    assert_eq!(
        (none.ok(200).ids().len(), &none.json["total"], none.version()),
        (0, &json!(0), 1)
    );
    for (query, status, code) in [
        (
            "?subscriber%3Aidentifier=9000000009&year=2003",
            400,
            "INVALID_SEARCH_DATA",
        ),
        (
            "?subscriber%3Aidentifier=9000000009&subscriber%3Aidentifier=9000000009",
            400,
            "INVALID_SEARCH_DATA",
        ),
        ("?subscriber%3Aidentifier=9000000000", 400, "INVALID_RESOURCE_ID"),
        ("?subscriber%3Aidentifier=", 400, "MISSING_VALUE"),
        ("", 400, "MISSING_VALUE"),
    ] {
        jane.get(&format!("/Coverage{query}")).await.refused(status, code);
    }
    sandbox
        .patient(NOBODY)
        .coverage(NOBODY)
        .await
        .refused(404, "RESOURCE_NOT_FOUND");
    for id in ["", "1234"] {
        let code = if id.is_empty() {
            "MISSING_VALUE"
        } else {
            "INVALID_VALUE"
        };
        let path = format!("/Coverage?subscriber%3Aidentifier={JANE}");
        jane.call("GET", &path, &[("X-Request-ID", id)], b"")
            .await
            .refused(400, code);
        let headers = [("X-Request-ID", id), ("If-Match", "W/\"3\""), FHIR_JSON];
        jane.call(
            "POST",
            "/Coverage",
            &headers,
            coverage(JANE, "1").to_string().as_bytes(),
        )
        .await
        .refused(400, code);
    }
    jane.put_coverage(1, &coverage(JANE, "1"))
        .await
        .refused(409, "RESOURCE_VERSION_MISMATCH");
    let body = coverage(JANE, "29401395498043123949");
    let sent = body.to_string();
    for headers in [
        &[FHIR_JSON][..],
        &[FHIR_JSON, ("If-Match", "2")],
        &[FHIR_JSON, ("If-Match", "*")],
    ] {
        let refused = jane.call("POST", "/Coverage", headers, sent.as_bytes()).await;
        refused.refused(412, "PRECONDITION_FAILED");
    }
    let added = jane.put_coverage(version, &body).await;
    assert_eq!(
        (added.ok(201).version(), added.resources()),
        (version + 1, vec![&body]),
        "it comes back as it was sent"
    );
    let after = jane.coverage(JANE).await;
    assert_eq!(
        (after.ok(200).version(), after.resources()),
        (version + 1, vec![&body]),
        "there is one, the last"
    );
    assert_eq!(jane.read(JANE).await.ok(200).version(), version + 1);
    jane.put_coverage(version, &body)
        .await
        .refused(409, "RESOURCE_VERSION_MISMATCH");
}

/// What is changed in a good body, the refusal's status, and its code.
type Spoilt = (&'static str, Value, u16, &'static str);

#[tokio::test]
async fn each_fault_of_a_coverage_is_told_and_nothing_is_changed() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let made = newcomer(&mut worker).await;
    let number = made.id();
    let mut patient = sandbox.patient(number);
    let cases: [Spoilt; 13] = [
        // Without a card number: the specification's scenario.
        ("/identifier/0/value", Value::Null, 400, "MISSING_VALUE"),
        ("/identifier", Value::Null, 400, "MISSING_VALUE"),
        ("/payor", Value::Null, 400, "MISSING_VALUE"),
        ("/beneficiary", Value::Null, 400, "MISSING_VALUE"),
        ("/period", Value::Null, 400, "MISSING_VALUE"),
        ("/period/end", json!("2030-02-30"), 400, "INVALID_VALUE"),
        ("/period/end", json!("2999-01-01"), 400, "INVALID_VALUE"),
        ("/status", json!("cancelled"), 400, "INVALID_VALUE"),
        ("/identifier", json!([]), 400, "TOO_FEW_VALUES_SUBMITTED"),
        ("/identifier", json!([{}, {}]), 400, "TOO_MANY_VALUES_SUBMITTED"),
        (
            "/identifier/0/value",
            json!("no such card_number!"),
            400,
            "INVALID_VALUE",
        ),
        (
            "/subscriber/identifier/value",
            json!(UNSOUND),
            400,
            "INVALID_RESOURCE_ID",
        ),
        ("/subscriber", Value::Null, 400, "MISSING_VALUE"),
    ];
    for (pointer, value, status, code) in cases {
        let mut body = coverage(number, "29401395498043123948");
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let parent = body
            .pointer_mut(parent)
            .expect("it is there")
            .as_object_mut()
            .expect("an object");
        match value.clone() {
            Value::Null => drop(parent.remove(name)),
            value => drop(parent.insert(name.to_owned(), value)),
        }
        let refused = patient.put_coverage(1, &body).await;
        assert!(
            refused.codes().contains(&code),
            "{pointer} {value}: {}",
            refused.answer.text()
        );
        assert_eq!(refused.status(), status);
    }
    let headers = [("If-Match", "W/\"1\""), FHIR_JSON];
    patient
        .call("POST", "/Coverage", &headers, b"{")
        .await
        .refused(400, "INVALID_UPDATE");
    let plain = [("If-Match", "W/\"1\""), ("Content-Type", "text/plain")];
    patient
        .call(
            "POST",
            "/Coverage",
            &plain,
            coverage(number, "1").to_string().as_bytes(),
        )
        .await
        .refused(400, "INVALID_VALUE");
    let mut pets = coverage(number, "1");
    pets["pets"] = json!(1);
    patient
        .put_coverage(1, &pets)
        .await
        .refused(400, "ADDITIONAL_PROPERTIES");
    assert_eq!(patient.coverage(number).await.ok(200).version(), 1);
    sandbox.ok(&["patient", "restrict", number]);
    patient
        .put_coverage(2, &coverage(number, "1"))
        .await
        .refused(403, "FORBIDDEN_UPDATE");
    assert_eq!(sandbox.history(number).len(), 2);
}

#[tokio::test]
async fn a_superseded_number_s_coverage_is_that_of_the_record_that_stays() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let (old, new) = (newcomer(&mut worker).await, newcomer(&mut worker).await);
    let kept = coverage(new.id(), "123");
    sandbox.patient(new.id()).put_coverage(1, &kept).await.ok(201);
    sandbox.ok(&["patient", "supersede", old.id(), "--by", new.id()]);
    let read = sandbox.patient(old.id()).coverage(old.id()).await;
    assert_eq!((read.ok(200).version(), read.resources()), (2, vec![&kept]));
}
