//! POST /Patient: the specification's scenarios, every refusal, and no second record for one person.

use crate::{Sandbox, UK, authority, newcomer, someone, word};
use serde_json::{Value, json};
use vertebra_tests::pds::FHIR_JSON;

/// The request of the specification's example, for this family and given name.
fn example(given: &str, family: &str, postcode: &str) -> Value {
    json!({
        "resourceType": "Patient",
        "name": [{"use": "usual", "given": [given], "family": family, "prefix": ["Mrs"], "period": {"start": "1986-07-01"}}],
        "address": [{
            "line": ["1 Trevelyan Square", "Boar Lane", "City Centre", "Leeds", "West Yorkshire"],
            "period": {"start": "2020-01-01"}, "postalCode": postcode, "use": "home",
            "extension": [{"url": format!("{UK}AddressKey"), "extension": [
                {"url": "type", "valueCoding": {"code": "UPRN", "system": "https://fhir.hl7.org.uk/CodeSystem/UKCore-AddressKeyType"}},
                {"url": "value", "valueString": "203700882517"}]}],
        }],
        "gender": "female", "birthDate": "1982-07-10",
        "telecom": [{"use": "home", "system": "phone", "value": "123342", "period": {"start": "2020-01-02", "end": "2021-01-02"}}],
        "extension": [authority()],
    })
}

#[tokio::test]
async fn the_specification_s_scenarios_of_a_creation() {
    let sandbox = Sandbox::start("pds-create");
    let mut worker = sandbox.worker();
    let edwards = example("Jane", "Edwards", "LS1 6AE");
    let missing = [FHIR_JSON, ("X-Request-ID", "")];
    worker
        .call("POST", "/Patient", &missing, edwards.to_string().as_bytes())
        .await
        .refused(400, "MISSING_VALUE");
    worker.create_as("1234", &edwards).await.refused(400, "INVALID_VALUE");
    let json_type = [("Content-Type", "application/json")];
    let created = worker
        .call("POST", "/Patient", &json_type, edwards.to_string().as_bytes())
        .await;
    assert_eq!(created.ok(201).version(), 1);
    let number = created.id();
    assert_eq!(
        created.header("location"),
        Some(format!("/personal-demographics/FHIR/R4/Patient/{number}").as_str())
    );
    assert_eq!(created.header("content-type"), Some("application/fhir+json"));
    assert_eq!(
        (number.len(), &created.json["identifier"][0]["value"]),
        (10, &json!(number))
    );
    assert_eq!(
        (
            &created.json["meta"]["versionId"],
            &created.json["meta"]["security"][0]["code"]
        ),
        (&json!("1"), &json!("U"))
    );
    for part in ["gender", "birthDate"] {
        assert_eq!(created.json[part], edwards[part]);
    }
    for list in ["name", "address", "telecom"] {
        let mut kept = created.json[list][0].clone();
        let id = kept.as_object_mut().expect("an item").remove("id");
        assert!(
            id.is_some_and(|id| id.as_str().is_some_and(|id| id.len() == 8)),
            "{list}"
        );
        assert_eq!(kept, edwards[list][0]);
    }
    assert_eq!(worker.read(number).await.ok(200).json, created.json);
    let single = worker.create(&edwards).await;
    single.refused(200, "SINGLE_MATCH");
    assert!(
        single.diagnostics().contains(number),
        "the matched number: {}",
        single.diagnostics()
    );
    // Two records of one person: two loads, which never ask for twins.
    let twins: Vec<Value> = ["9990000018", "9990000026"]
        .map(|number| {
            let mut record = example("Louisa", "McMatch-Multiple", "DN19 7UD");
            record["id"] = json!(number);
            record["meta"] = json!({"security": [{"code": "U", "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"}]});
            record["identifier"] = json!([{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": number}]);
            record.as_object_mut().expect("a record").remove("extension");
            record
        })
        .to_vec();
    sandbox.import(&twins);
    let several = worker.create(&example("Louisa", "McMatch-Multiple", "DN19 7UD")).await;
    several.refused(200, "MULTIPLE_MATCHES");
    assert!(!several.answer.text().contains("9990000018"), "it names nobody");
}

/// What is changed in a good request, and the code of the refusal.
type Spoilt = (&'static str, Value, &'static str);

#[tokio::test]
async fn each_fault_of_a_request_is_told_and_nobody_is_created() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let period = json!({"start": "2020-01-01"});
    let cases: [Spoilt; 22] = [
        ("/name", Value::Null, "MISSING_VALUE"),
        ("/gender", Value::Null, "MISSING_VALUE"),
        ("/birthDate", Value::Null, "MISSING_VALUE"),
        ("/address", Value::Null, "MISSING_VALUE"),
        ("/extension", Value::Null, "MISSING_VALUE"),
        ("/name/0/family", Value::Null, "MISSING_VALUE"),
        (
            "/extension",
            json!([{"url": format!("{UK}NHSCommunication"), "extension": []}]),
            "MISSING_VALUE",
        ),
        ("/gender", json!("woman"), "INVALID_VALUE"),
        ("/birthDate", json!("2999-01-01"), "INVALID_VALUE"),
        ("/birthDate", json!("1982-02-30"), "INVALID_VALUE"),
        ("/name/0/use", json!("nickname"), "INVALID_VALUE"),
        ("/address/0/postalCode", json!("?"), "INVALID_VALUE"),
        (
            "/name/0/family",
            json!("Snow\u{2603}man"),
            "UNSUPPORTED_CHARACTERS_IN_FIELD",
        ),
        ("/gender", json!("other"), "UNSUPPORTED_VALUE"),
        ("/pets", json!("tabby"), "ADDITIONAL_PROPERTIES"),
        ("/id", json!("9000000009"), "ADDITIONAL_PROPERTIES"),
        ("/name/0/pets", json!("tabby"), "ADDITIONAL_PROPERTIES"),
        ("/name", json!([]), "TOO_FEW_VALUES_SUBMITTED"),
        ("/name/0/given", json!([]), "TOO_FEW_VALUES_SUBMITTED"),
        (
            "/name",
            json!([{"use": "usual", "family": "A"}, {"use": "nickname", "family": "A"}]),
            "TOO_MANY_VALUES_SUBMITTED",
        ),
        (
            "/name/0/given",
            json!(["A", "B", "C", "D", "E", "F"]),
            "TOO_MANY_VALUES_SUBMITTED",
        ),
        (
            "/telecom",
            json!([{"use": "home", "system": "email", "value": "no address", "period": period}]),
            "INVALID_VALUE",
        ),
    ];
    for (pointer, value, code) in cases {
        let mut body = someone();
        let (family, born) = (body["name"][0]["family"].clone(), body["birthDate"].clone());
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
        let refused = worker.create(&body).await;
        assert_eq!(
            (refused.status(), refused.code()),
            (400, code),
            "{pointer} {value}: {}",
            refused.answer.text()
        );
        refused.refused(400, code);
        let by = [
            ("family", family.as_str().expect("text")),
            ("birthdate", born.as_str().expect("text")),
        ];
        assert!(
            worker.search(&by).await.ok(200).ids().is_empty(),
            "{pointer}: somebody was created"
        );
        for sent in ["woman", "Snow", "no address", "tabby"] {
            assert!(!refused.answer.text().contains(sent), "it repeats what was sent");
        }
    }
    let good = someone().to_string();
    for kind in ["", "text/plain", "application/json-patch+json"] {
        worker
            .call("POST", "/Patient", &[("Content-Type", kind)], good.as_bytes())
            .await
            .refused(400, "INVALID_VALUE");
    }
    for body in ["", "{", "\u{0}", "nonsense"] {
        worker
            .call("POST", "/Patient", &[FHIR_JSON], body.as_bytes())
            .await
            .refused(400, "VALIDATION_ERROR");
    }
    let long = json!({"resourceType": "x".repeat(70_000)});
    worker.create(&long).await.refused(400, "VALIDATION_ERROR");
    let many = worker.create(&json!({"a": 1, "resourceType": "Person"})).await;
    assert!(
        many.issues().len() > 3,
        "all faults of the structure at once: {}",
        many.answer.text()
    );
}

#[tokio::test]
async fn one_person_gets_one_number_however_they_are_spelt() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let person = someone();
    let made = worker.create(&person).await;
    let number = made.ok(201).id();
    let contact = json!([{"use": "mobile", "system": "phone", "value": person["telecom"][0]["value"], "period": {"start": "2020-01-01"}}]);
    for (what, pointer, value) in [
        ("the same again", "/gender", person["gender"].clone()),
        ("moved", "/address/0/postalCode", json!("ZE1 0AA")),
        ("married", "/name/0/family", json!(word())),
        ("called otherwise", "/telecom", contact),
    ] {
        let mut other = person.clone();
        *other.pointer_mut(pointer).expect("it is there") = value;
        let single = worker.create(&other).await;
        assert_eq!(
            (single.status(), single.code()),
            (200, "SINGLE_MATCH"),
            "{what}: {}",
            single.answer.text()
        );
        assert!(single.diagnostics().contains(number), "{what}");
    }
    let mut twin = person.clone();
    (twin["gender"], twin["name"][0]["given"]) = (json!("male"), json!([word(), word()]));
    worker.create(&twin).await.ok(201);
    assert_eq!(worker.read(number).await.ok(200).version(), 1);
}

#[tokio::test]
async fn new_numbers_are_sound_and_all_different() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let mut numbers = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let made = newcomer(&mut worker).await;
        let digits: Vec<u32> = made.id().chars().filter_map(|c| c.to_digit(10)).collect();
        let sum: u32 = digits
            .iter()
            .zip((1..=10).rev())
            .map(|(digit, weight)| digit * weight)
            .sum();
        assert!(digits.len() == 10 && sum % 11 == 0, "the check digit fits");
        assert!(numbers.insert(made.id().to_owned()), "a number was given twice");
    }
}
