//! PATCH /Patient/{id}: the specification's scenarios, the rules of lists, every refusal; all or nothing.

use crate::{
    JANE, NOBODY, RESTRICTED, Sandbox, UK, UNSOUND, add, newcomer, registered, remove, renamed, replace, test, word,
};
use serde_json::{Value, json};
use vertebra_tests::pds::{Client, JSON_PATCH, Reply};

#[tokio::test]
async fn the_specification_s_scenarios_of_an_update() {
    let sandbox = Sandbox::start("pds-update");
    let mut worker = sandbox.worker();
    let male = json!([replace("/gender", json!("male"))]);
    let body = json!({ "patches": male }).to_string();
    let path = format!("/Patient/{JANE}");
    let before = worker.read(JANE).await;
    let version = before.ok(200).version();
    let current = format!("W/\"{version}\"");
    worker.patch(NOBODY, 1, &male).await.refused(404, "RESOURCE_NOT_FOUND");
    worker
        .patch(UNSOUND, 1, &male)
        .await
        .refused(400, "INVALID_RESOURCE_ID");
    worker.patch("", 1, &male).await.refused(400, "UNSUPPORTED_SERVICE");
    worker
        .call("PATCH", &path, &[JSON_PATCH], body.as_bytes())
        .await
        .refused(412, "PRECONDITION_FAILED");
    for tag in [
        "2",
        "\"2\"",
        "W/2",
        "W/\"two\"",
        "W/\"\"",
        "W/\"-2\"",
        "W/\"2\", W/\"3\"",
        "*",
        "W/\"99999999999\"",
    ] {
        let headers = [JSON_PATCH, ("If-Match", tag)];
        worker
            .call("PATCH", &path, &headers, body.as_bytes())
            .await
            .refused(412, "PRECONDITION_FAILED");
    }
    let twice = [
        JSON_PATCH,
        ("If-Match", current.as_str()),
        ("If-Match", current.as_str()),
    ];
    worker
        .call("PATCH", &path, &twice, body.as_bytes())
        .await
        .refused(412, "PRECONDITION_FAILED");
    for other in [0, 1, version - 1, version + 1, u32::MAX] {
        worker
            .patch(JANE, other, &male)
            .await
            .refused(409, "RESOURCE_VERSION_MISMATCH");
    }
    for kind in ["", "application/json", "application/fhir+json", "text/plain"] {
        let headers = [("Content-Type", kind), ("If-Match", current.as_str())];
        worker
            .call("PATCH", &path, &headers, body.as_bytes())
            .await
            .refused(400, "INVALID_VALUE");
    }
    let good = [JSON_PATCH, ("If-Match", current.as_str())];
    for body in [
        "{}",
        "[]",
        "",
        "{",
        "null",
        "{\"patches\":{}}",
        "{\"patches\":[]}",
        "\u{feff}{}",
        "{\"patches\":[1]}",
    ] {
        worker
            .call("PATCH", &path, &good, body.as_bytes())
            .await
            .refused(400, "INVALID_UPDATE");
    }
    for (header, id, code) in [
        ("X-Request-ID", "", "MISSING_VALUE"),
        ("X-Request-ID", "1234", "INVALID_VALUE"),
    ] {
        let headers = [JSON_PATCH, ("If-Match", current.as_str()), (header, id)];
        worker
            .call("PATCH", &path, &headers, body.as_bytes())
            .await
            .refused(400, code);
    }
    let charset = [
        ("Content-Type", "application/json-patch+json; charset=utf-8"),
        ("If-Match", current.as_str()),
    ];
    let updated = worker.call("PATCH", &path, &charset, body.as_bytes()).await;
    assert_eq!(
        (
            updated.ok(200).version(),
            &updated.json["gender"],
            &updated.json["meta"]["versionId"]
        ),
        (version + 1, &json!("male"), &json!((version + 1).to_string()))
    );
    assert_eq!(updated.header("content-type"), Some("application/fhir+json"));
    let mut expected = before.json.clone();
    (expected["gender"], expected["meta"]["versionId"]) = (json!("male"), json!((version + 1).to_string()));
    assert_eq!(updated.json, expected, "nothing else has changed");
    assert_eq!(worker.read(JANE).await.json, expected);
    worker
        .patch(RESTRICTED, 1, &male)
        .await
        .refused(403, "FORBIDDEN_UPDATE");
}

/// Patches, the refusal's status and its code.
type Refused = (Value, u16, &'static str);

fn refusals(record: &Value) -> Vec<Refused> {
    let id = record["name"][0]["id"].clone();
    let address = record["address"][0]["id"].clone();
    let home = json!({"use": "home", "line": ["2 Low Road", "Leeds"], "postalCode": "LS2 2AA"});
    let with = |mut value: Value, name: &str, part: Value| {
        value[name] = part;
        value
    };
    let given = |names: Value| json!([test("/name/0/id", id.clone()), replace("/name/0/given", names)]);
    let name = |path: &str, value: Value| json!([test("/name/0/id", id.clone()), replace(path, value)]);
    vec![
        // What is no patch.
        (
            json!([{"op": "copy", "from": "/gender", "path": "/birthDate"}]),
            400,
            "INVALID_UPDATE",
        ),
        (
            json!([{"op": "move", "from": "/gender", "path": "/birthDate"}]),
            400,
            "INVALID_UPDATE",
        ),
        (json!([{"path": "/gender", "value": "male"}]), 400, "INVALID_UPDATE"),
        (json!([{"op": "replace", "value": "male"}]), 400, "INVALID_UPDATE"),
        (
            json!([{"op": "replace", "path": "gender", "value": "male"}]),
            400,
            "INVALID_UPDATE",
        ),
        (json!([{"op": "replace", "path": "/gender"}]), 400, "INVALID_UPDATE"),
        (json!([test("/gender", json!("male"))]), 400, "INVALID_UPDATE"),
        // The rules of lists.
        (json!([add("/address/0", home.clone())]), 400, "INVALID_UPDATE"),
        (json!([add("/address/1", home.clone())]), 400, "INVALID_UPDATE"),
        (json!([add("/address", json!([home]))]), 400, "INVALID_UPDATE"),
        (
            json!([add("/address/-", with(home.clone(), "id", json!("1")))]),
            400,
            "INVALID_UPDATE",
        ),
        (json!([remove("/address/0")]), 400, "INVALID_UPDATE"),
        (
            json!([
                test("/address/0/id", address.clone()),
                replace("/gender", json!("male")),
                remove("/address/0")
            ]),
            400,
            "INVALID_UPDATE",
        ),
        (
            json!([test("/address/0/id", json!("FFFFFFFF")), remove("/address/0")]),
            400,
            "INVALID_UPDATE",
        ),
        (
            json!([test("/address/0/use", json!("home")), remove("/address/0")]),
            400,
            "INVALID_UPDATE",
        ),
        (
            json!([test("/address/7/id", address.clone()), remove("/address/7")]),
            400,
            "INVALID_UPDATE",
        ),
        (json!([replace("/address/0", home.clone())]), 400, "INVALID_UPDATE"),
        (
            json!([replace("/address/0", with(home.clone(), "id", json!("FFFFFFFF")))]),
            400,
            "INVALID_UPDATE",
        ),
        (
            json!([replace("/name/0/family", json!("Unproved"))]),
            400,
            "INVALID_UPDATE",
        ),
        (json!([replace("/name/0/id", json!("FFFFFFFF"))]), 400, "INVALID_UPDATE"),
        (
            json!([test("/name/0/id", id.clone()), remove("/name/0/given")]),
            400,
            "INVALID_UPDATE",
        ),
        // Values.
        (
            json!([add(
                "/address/-",
                json!({"line": ["2 Low Road", "Leeds"], "postalCode": "LS2 2AA"})
            )]),
            400,
            "MISSING_VALUE",
        ),
        (
            json!([add("/telecom/-", json!({"use": "mobile", "system": "phone"}))]),
            400,
            "MISSING_VALUE",
        ),
        (json!([replace("/gender", json!("woman"))]), 400, "INVALID_VALUE"),
        (json!([replace("/gender", json!(1))]), 400, "INVALID_VALUE"),
        (
            json!([replace("/birthDate", json!("2010-02-30"))]),
            400,
            "INVALID_VALUE",
        ),
        (
            json!([replace("/birthDate", json!("22-10-2010"))]),
            400,
            "INVALID_VALUE",
        ),
        (json!([add("/multipleBirthInteger", json!(10))]), 400, "INVALID_VALUE"),
        (json!([replace("/gender", json!("other"))]), 400, "UNSUPPORTED_VALUE"),
        (
            json!([add("/name/-", json!({"use": "official", "family": "Planted"}))]),
            400,
            "UNSUPPORTED_VALUE",
        ),
        (
            name("/name/0/family", json!("Snow\u{2603}man")),
            400,
            "UNSUPPORTED_CHARACTERS_IN_FIELD",
        ),
        (
            name("/name/0/family", json!("Semi;colon")),
            400,
            "UNSUPPORTED_CHARACTERS_IN_FIELD",
        ),
        (given(json!([])), 400, "TOO_FEW_VALUES_SUBMITTED"),
        (
            given(json!(["A", "B", "C", "D", "E", "F"])),
            400,
            "TOO_MANY_VALUES_SUBMITTED",
        ),
        (
            Value::Array(vec![replace("/gender", json!("male")); 101]),
            400,
            "TOO_MANY_VALUES_SUBMITTED",
        ),
        // What a patient does not have.
        (json!([add("/pets/-", json!("tabby"))]), 400, "ADDITIONAL_PROPERTIES"),
        (json!([add("/pets", json!("tabby"))]), 400, "ADDITIONAL_PROPERTIES"),
        (
            json!([add("/address/-", with(home, "pets", json!("tabby")))]),
            400,
            "ADDITIONAL_PROPERTIES",
        ),
        // What nobody may change this way.
        (json!([replace("/id", json!(NOBODY))]), 403, "FORBIDDEN_UPDATE"),
        (json!([replace("/meta/versionId", json!("9"))]), 403, "FORBIDDEN_UPDATE"),
        (
            json!([add("/meta/security/-", json!({"code": "R"}))]),
            403,
            "FORBIDDEN_UPDATE",
        ),
        (
            json!([replace("/identifier/0/value", json!(NOBODY))]),
            403,
            "FORBIDDEN_UPDATE",
        ),
        (json!([replace("", json!({}))]), 403, "FORBIDDEN_UPDATE"),
        (json!([remove("/gender")]), 403, "FORBIDDEN_UPDATE"),
        (json!([remove("/birthDate")]), 403, "FORBIDDEN_UPDATE"),
        (
            json!([test("/name/0/id", id.clone()), remove("/name/0")]),
            403,
            "FORBIDDEN_UPDATE",
        ),
        (name("/name/0/use", json!("nickname")), 403, "FORBIDDEN_UPDATE"),
    ]
}

#[tokio::test]
async fn each_patch_that_breaks_a_rule_is_told_and_changes_nothing() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let number = registered(&mut worker).await;
    let before = worker.read(&number).await;
    for (patches, status, code) in refusals(&before.json) {
        let refused = worker.patch(&number, 2, &patches).await;
        assert_eq!(
            (refused.status(), refused.code()),
            (status, code),
            "{patches}: {}",
            refused.answer.text()
        );
        refused.refused(status, code);
        for sent in ["Planted", "Unproved", "Snow", "Semi", "FFFFFFFF", "woman", NOBODY] {
            assert!(
                !refused.answer.text().contains(sent),
                "it repeats what was sent: {}",
                refused.answer.text()
            );
        }
    }
    let large = "x".repeat(65_000);
    worker
        .patch(&number, 2, &json!([replace("/gender", json!(large))]))
        .await
        .refused(400, "INVALID_VALUE");
    let practice = before.json["generalPractitioner"][0]["id"].clone();
    let removal = json!([
        test("/generalPractitioner/0/id", practice),
        remove("/generalPractitioner/0")
    ]);
    worker
        .patch(&number, 2, &removal)
        .await
        .refused(403, "FORBIDDEN_UPDATE");
    let after = worker.read(&number).await;
    assert_eq!((after.json, sandbox.history(&number).len()), (before.json, 2));
}

#[tokio::test]
async fn a_list_of_patches_whose_last_one_is_wrong_changes_nothing() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let made = newcomer(&mut worker).await;
    let (number, id) = (made.id(), made.json["name"][0]["id"].clone());
    let good = vec![
        replace("/gender", json!("male")),
        add("/multipleBirthInteger", json!(2)),
        add(
            "/telecom/-",
            json!({"use": "mobile", "system": "phone", "value": "07700900001"}),
        ),
        test("/name/0/id", id),
        replace("/name/0/family", json!("Changed")),
        add(
            "/address/-",
            json!({"use": "billing", "line": ["2 Low Road", "Leeds"], "postalCode": "LS2 2AA",
            "period": {"start": "2020-01-01", "end": "2020-06-01"}}),
        ),
    ];
    let wrong: [Refused; 6] = [
        (replace("/gender", json!("woman")), 400, "INVALID_VALUE"),
        (test("/birthDate", json!("1800-01-01")), 400, "INVALID_UPDATE"),
        (remove("/telecom/0"), 400, "INVALID_UPDATE"),
        (add("/pets", json!(1)), 400, "ADDITIONAL_PROPERTIES"),
        (remove("/birthDate"), 403, "FORBIDDEN_UPDATE"),
        (json!({"op": "replace"}), 400, "INVALID_UPDATE"),
    ];
    for (last, status, code) in wrong {
        let mut patches = good.clone();
        patches.push(last);
        worker
            .patch(number, 1, &Value::Array(patches))
            .await
            .refused(status, code);
        let read = worker.read(number).await;
        assert_eq!(
            (&read.json, read.version()),
            (&made.json, 1),
            "record and version are as before"
        );
    }
    assert_eq!(sandbox.history(number).len(), 1);
    let done = worker.patch(number, 1, &Value::Array(good)).await;
    assert_eq!(
        (
            done.ok(200).version(),
            &done.json["gender"],
            &done.json["name"][0]["family"]
        ),
        (2, &json!("male"), &json!("Changed"))
    );
    assert_eq!(
        (
            done.json["telecom"].as_array().map(Vec::len),
            done.json["address"].as_array().map(Vec::len)
        ),
        (Some(2), Some(2))
    );
    assert_eq!(worker.read(number).await.json, done.json);
}

/// Changes a record and gives the new one.
async fn changed(worker: &mut Client, record: &Reply, patches: Value) -> Reply {
    let reply = worker.patch(record.id(), record.version(), &patches).await;
    assert_eq!(reply.ok(200).version(), record.version() + 1, "{patches}");
    assert_eq!(
        worker.read(record.id()).await.json,
        reply.json,
        "what was answered is what is read"
    );
    reply
}

#[tokio::test]
async fn list_items_are_added_replaced_and_removed_by_their_identifiers() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let made = newcomer(&mut worker).await;
    let mobile = json!({"use": "mobile", "system": "phone", "value": "07700900001", "period": {"start": "2021-01-01"}});
    let added = changed(&mut worker, &made, json!([add("/telecom/-", mobile.clone())])).await;
    let mut kept = added.json["telecom"][1].clone();
    let id = kept["id"].take();
    let text = id.as_str().expect("the service gives it an id");
    assert!(
        text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)),
        "{text}"
    );
    kept.as_object_mut().expect("an item").remove("id");
    assert_eq!(kept, mobile);
    let mut other = mobile.clone();
    (other["id"], other["value"]) = (id.clone(), json!("07700900002"));
    let replaced = changed(&mut worker, &added, json!([replace("/telecom/1", other.clone())])).await;
    assert_eq!(replaced.json["telecom"][1], other);
    let partly = json!([
        replace("/telecom/1/id", id.clone()),
        replace("/telecom/1/value", json!("07700900003"))
    ]);
    let replaced = changed(&mut worker, &replaced, partly).await;
    assert_eq!(replaced.json["telecom"][1]["value"], "07700900003");
    let gone = changed(
        &mut worker,
        &replaced,
        json!([test("/telecom/1/id", id.clone()), remove("/telecom/1")]),
    )
    .await;
    assert_eq!(gone.json["telecom"], made.json["telecom"]);
    // The whole of an item names it as well as its id.
    let whole = json!([
        test("/telecom/0", made.json["telecom"][0].clone()),
        remove("/telecom/0")
    ]);
    let none = changed(&mut worker, &gone, whole).await;
    assert!(none.json.get("telecom").is_none(), "no empty list is left");
    let pharmacy = json!({"url": format!("{UK}NominatedPharmacy"), "valueReference": {"identifier": {
        "system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "FAB12"}}});
    let with = changed(&mut worker, &none, json!([add("/extension/-", pharmacy.clone())])).await;
    assert_eq!(with.json["extension"], json!([pharmacy]));
    let url = format!("{UK}NominatedPharmacy");
    let without = changed(
        &mut worker,
        &with,
        json!([test("/extension/0/url", json!(url)), remove("/extension/0")]),
    )
    .await;
    assert!(without.json.get("extension").is_none());
    assert_eq!(sandbox.history(made.id()).len(), 8, "a version for each change");
}

#[tokio::test]
async fn a_patient_changes_what_a_patient_may_and_nothing_else() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let made = newcomer(&mut worker).await;
    let mut patient = sandbox.patient(made.id());
    let mobile = json!({"use": "mobile", "system": "phone", "value": "07700900001"});
    let added = patient.patch(made.id(), 1, &json!([add("/telecom/-", mobile)])).await;
    assert_eq!(added.ok(200).version(), 2);
    let id = made.json["telecom"][0]["id"].clone();
    for patches in [
        json!([replace("/gender", json!("male"))]),
        json!([replace("/birthDate", json!("1980-01-01"))]),
        renamed(&made.json, "Changed"),
        json!([add(
            "/telecom/-",
            json!({"use": "home", "system": "phone", "value": "01632960001"})
        )]),
        json!([test("/telecom/0/id", id), remove("/telecom/0")]),
    ] {
        patient
            .patch(made.id(), 2, &patches)
            .await
            .refused(403, "FORBIDDEN_UPDATE");
    }
    assert_eq!(worker.read(made.id()).await.json, added.json);
}

#[tokio::test]
async fn what_fhir_knows_and_the_profile_does_not_survives_a_patch() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let made = newcomer(&mut worker).await;
    // The same person as another system would have kept them, under a number of their own.
    let number = "9990000018";
    let mut foreign = made.json.clone();
    (foreign["id"], foreign["identifier"][0]["value"]) = (json!(number), json!(number));
    foreign["name"][0]["family"] = json!(word());
    for (name, value) in [
        ("active", json!(true)),
        (
            "maritalStatus",
            json!({"coding": [{"code": "M", "display": "Married"}], "text": "wed"}),
        ),
        (
            "photo",
            json!([{"contentType": "image/png", "url": "https://example.com/p.png"}]),
        ),
        (
            "_birthDate",
            json!({"extension": [{"url": "http://example.org/accuracy", "valueCode": "estimated"}]}),
        ),
        (
            "communication",
            json!([{"language": {"coding": [{"code": "cy"}]}, "preferred": true}]),
        ),
        (
            "extension",
            json!([{"url": "http://example.org/eyes", "valueString": "brown"}]),
        ),
    ] {
        foreign[name] = value;
    }
    foreign["address"][0]["district"] = json!("Beyond the profile");
    sandbox.import(std::slice::from_ref(&foreign));
    let before = worker.read(number).await;
    let record = changed(&mut worker, &before, json!([replace("/gender", json!("male"))])).await;
    let record = changed(&mut worker, &record, renamed(&before.json, "Changed")).await;
    let email =
        json!({"use": "home", "system": "email", "value": "jane@example.com", "period": {"start": "2020-01-01"}});
    let record = changed(&mut worker, &record, json!([add("/telecom/-", email)])).await;
    for name in [
        "active",
        "maritalStatus",
        "photo",
        "_birthDate",
        "communication",
        "extension",
        "address",
    ] {
        assert_eq!(record.json[name], foreign[name], "{name}");
    }
    assert_eq!(
        (&record.json["gender"], &record.json["name"][0]["family"]),
        (&json!("male"), &json!("Changed"))
    );
}

#[tokio::test]
async fn a_record_that_would_grow_too_large_is_refused_and_stays_as_it_is() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let made = newcomer(&mut worker).await;
    // Ten numbers of 255 characters, each of four bytes.
    let number = json!({"system": "phone", "value": "\u{1D54F}".repeat(255)});
    let contact = json!({
        "relationship": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0131", "code": "C"}]}],
        "telecom": vec![number; 10],
    });
    let patches = json!([add("/contact/-", contact)]);
    let mut record = made;
    let refused = loop {
        let reply = worker.patch(record.id(), record.version(), &patches).await;
        if reply.status() != 200 {
            break reply;
        }
        assert!(reply.version() < 10, "it grows for ever");
        record = reply;
    };
    refused.refused(400, "INVALID_UPDATE");
    assert!(record.version() > 2, "some fit: {}", refused.answer.text());
    assert_eq!(worker.read(record.id()).await.json, record.json);
}
