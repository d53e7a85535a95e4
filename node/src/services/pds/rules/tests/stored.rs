//! Records as they are stored or imported: legacy values pass, what FHIR does not have is refused.

use super::super::{patient, related_person};
use super::*;

#[test]
fn legacy_and_unknown_but_fhir_legal_values_pass() {
    let changes = [
        ("gender", json!("other")),
        ("birthDate", json!("1932")),
        ("deceasedDateTime", json!("2010-10")),
        ("active", json!(true)),
        ("maritalStatus", json!({"coding": [{"code": "M"}]})),
        ("photo", json!([{"url": "x"}])),
        ("_birthDate", json!({"extension": []})),
        ("name", json!([{"use": "official", "text": "A"}])),
        (
            "address",
            json!([{"use": "work", "text": "Castle", "city": "X", "extension": []}]),
        ),
        (
            "telecom",
            json!([{"system": "pager", "use": "old", "value": "1", "rank": 1}]),
        ),
        (
            "extension",
            json!([{"url": "http://example.org/x", "valueString": "y"}, death("U")]),
        ),
    ];
    assert_eq!(patient(&jane()), Ok(()));
    assert_eq!(patient(&bare()), Ok(()));
    for (name, value) in changes {
        let mut record = jane();
        record[name] = value;
        assert_eq!(patient(&record), Ok(()), "{name}");
        // An operation elsewhere keeps it as it is.
        let kept = record[name].clone();
        if name != "birthDate" && name != "deceasedDateTime" {
            let after = passes(&record, json!([replace("/multipleBirthInteger", json!(2))]));
            assert_eq!(after[name], kept);
        }
    }
}

#[test]
fn what_fhir_does_not_have_is_refused() {
    let cases = [
        ("pets", json!(1), Code::AdditionalProperties, ""),
        ("modifierExtension", json!([]), Code::AdditionalProperties, ""),
        ("resourceType", json!("Person"), Code::InvalidValue, "resourceType"),
        ("id", json!("x"), Code::InvalidResourceId, "id"),
        ("id", json!("9000000000"), Code::InvalidResourceId, "id"),
        ("gender", json!("robot"), Code::InvalidValue, "gender"),
        ("birthDate", json!("yesterday"), Code::InvalidValue, "birthDate"),
        ("name", json!({}), Code::InvalidValue, "name"),
        ("name", json!([{"use": "king"}]), Code::InvalidValue, "name/0/use"),
        (
            "meta",
            json!({"security": [{"code": "X"}]}),
            Code::InvalidValue,
            "meta/security/0/code",
        ),
        (
            "extension",
            json!([{"valueString": "y"}]),
            Code::MissingValue,
            "extension/0/url",
        ),
        (
            "extension",
            json!([death("7")]),
            Code::InvalidValue,
            "extension/0/extension/0/valueCodeableConcept/coding/0/code",
        ),
    ];
    for (name, value, code, at) in cases {
        let mut record = jane();
        record[name] = value;
        let issues = patient(&record).expect_err(name);
        assert_eq!(
            (issues[0].code, issues[0].expression.as_deref()),
            (code, Some(at)),
            "{issues:?}"
        );
    }
}

#[test]
fn related_people() {
    let role = |code: &str| json!({"system": "https://fhir.nhs.uk/R4/CodeSystem/UKCore-AdditionalRelatedPersonRole", "code": code});
    let person = |patient: Value, code: &str| {
        json!({"resourceType": "RelatedPerson", "id": "507B7621", "active": true, "patient": patient,
            "relationship": [{"coding": [role(code)]}]})
    };
    let number = |value: &str| json!({"identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": value}});
    assert_eq!(related_person(&person(number("9000000009"), "Guardian")), Ok(()));
    let first = |resource: Value| related_person(&resource).expect_err("refused")[0].code;
    assert_eq!(first(person(number("9000000000"), "Guardian")), Code::InvalidResourceId);
    assert_eq!(first(person(number("9000000009"), "Pet")), Code::InvalidValue);
    assert_eq!(first(person(json!({}), "Guardian")), Code::MissingValue);
    assert_eq!(
        first(json!({"resourceType": "RelatedPerson", "patient": {}})),
        Code::MissingValue
    );
}
