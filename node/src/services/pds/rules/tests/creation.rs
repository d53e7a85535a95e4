//! POST /Patient and POST /Coverage.

use super::super::{coverage, create};
use super::*;

fn authority() -> Value {
    json!({"url": uk("RegisteringAuthority"), "extension": [
        {"url": "registeringAuthorityType", "valueCodeableConcept": {"coding": [
            {"system": "https://fhir.nhs.uk/CodeSystem/UKCore-RegisteringAuthorityType", "code": "x"}]}},
        {"url": "organisationIdentifier", "valueString": "RGS"}]})
}

fn request() -> Value {
    json!({
        "resourceType": "Patient", "gender": "female", "birthDate": "1982-07-10",
        "name": [{"use": "usual", "family": "Edwards", "given": ["Jane"], "prefix": ["Mrs."], "period": {"start": "1986-07-01"}}],
        "address": [{"use": "home", "line": ["1 Trevelyan Square", "", "Leeds"], "postalCode": "LS1 6AE"}],
        "telecom": [{"system": "phone", "use": "home", "value": "123342", "period": {"start": "2020-01-02", "end": "2021-01-02"}}],
        "extension": [authority(), language("fr"), death("1"),
            {"url": uk("EthnicCategory"), "valueCodeableConcept": {"coding": [{"code": "A"}]}},
            {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace", "valueAddress": {"city": "York"}}],
    })
}

fn made(body: &Value) -> Result<Value, Vec<Issue>> {
    let mut ids = counting();
    create(body, today(), &mut ids)
}

#[test]
fn a_new_patient_is_made_of_what_is_kept() {
    let mut patient = made(&request()).expect("the request fits");
    assert_eq!(patient["extension"], json!([language("fr")]));
    assert_eq!(patient["name"][0]["prefix"], json!(["Mrs"]));
    assert_eq!(patient["address"][0]["line"], json!(["1 Trevelyan Square", "Leeds"]));
    assert_eq!(patient["address"][0]["period"], json!({"start": "2025-06-01"}));
    assert!(patient["telecom"][0]["id"].is_string() && patient.get("id").is_none());
    patient["id"] = json!("9000000009");
    assert_eq!(super::super::patient(&patient), Ok(()));
}

#[test]
fn a_request_that_breaks_a_rule_makes_no_patient() {
    let cases: [(&str, Value, Code, &str); 17] = [
        ("/id", json!("9000000009"), Code::AdditionalProperties, ""),
        ("/pets", json!([]), Code::AdditionalProperties, ""),
        ("/gender", json!("other"), Code::UnsupportedValue, "gender"),
        ("/birthDate", json!("2025-06-02"), Code::InvalidValue, "birthDate"),
        ("/name", json!([]), Code::TooFewValuesSubmitted, "name"),
        (
            "/name",
            json!([{"use": "usual", "family": "A"}, {"use": "old", "family": "B"}]),
            Code::TooManyValuesSubmitted,
            "name",
        ),
        ("/name/0/use", json!("old"), Code::InvalidValue, "name/0/use"),
        (
            "/name/0/family",
            json!("E_d"),
            Code::UnsupportedCharactersInField,
            "name/0/family",
        ),
        ("/name/0/id", json!("1"), Code::InvalidUpdate, "name/0/id"),
        ("/address", json!([]), Code::TooFewValuesSubmitted, "address"),
        (
            "/address/0/use",
            json!("temp"),
            Code::MissingValue,
            "address/0/period/start",
        ),
        (
            "/telecom/1",
            json!({"system": "phone", "use": "home", "value": "2"}),
            Code::InvalidValue,
            "telecom/0",
        ),
        ("/extension", json!([language("fr")]), Code::MissingValue, "extension"),
        (
            "/extension/1",
            language("en"),
            Code::UnsupportedValue,
            "extension/1/extension/0/valueCodeableConcept/coding/0/code",
        ),
        (
            "/extension/1",
            pharmacy("NominatedPharmacy", "FA123"),
            Code::AdditionalProperties,
            "extension/1",
        ),
        (
            "/extension/1",
            json!({"url": "http://example.org/x"}),
            Code::AdditionalProperties,
            "extension/1",
        ),
        (
            "/extension/0/extension",
            json!([]),
            Code::TooFewValuesSubmitted,
            "extension/0/extension",
        ),
    ];
    for (path, value, code, at) in cases {
        let mut body = request();
        let (parent, last) = path.rsplit_once('/').expect("a path has a slash");
        match body.pointer_mut(parent).expect("the request has the parent") {
            Value::Object(object) => drop(object.insert(last.into(), value)),
            Value::Array(list) if last.parse() == Ok(list.len()) => list.push(value),
            Value::Array(list) => list[last.parse::<usize>().expect("an index")] = value,
            _ => unreachable!("a parent is an object or a list"),
        }
        let issues = made(&body).expect_err(path);
        assert_eq!(
            (issues[0].code, issues[0].expression.as_deref()),
            (code, Some(at)),
            "{path}: {issues:?}"
        );
    }
    for missing in ["name", "gender", "birthDate", "address", "extension"] {
        let mut body = request();
        body.as_object_mut().expect("an object").remove(missing);
        let issues = made(&body).expect_err(missing);
        assert_eq!(
            (issues[0].code, issues[0].expression.as_deref()),
            (Code::MissingValue, Some(missing))
        );
    }
    for no_object in [json!(null), json!([]), json!("x")] {
        assert_eq!(made(&no_object).expect_err("no object")[0].code, Code::InvalidValue);
    }
}

fn ehic() -> Value {
    json!({
        "resourceType": "Coverage", "status": "active",
        "subscriber": {"identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9000000009"}},
        "identifier": [{"value": "29401395498043123948", "assigner": {"display": "France",
            "identifier": {"system": "urn:iso:std:iso:3166", "value": "FRA"}}}],
        "payor": [{"identifier": {"value": "92847ADGJL"}}],
        "beneficiary": {"identifier": {"value": "178705ABC"}},
        "period": {"end": "2030-12-31"},
    })
}

#[test]
fn coverages() {
    assert_eq!(coverage(&ehic(), today()), Ok(("9000000009".into(), ehic())));
    let cases = [
        (
            "/subscriber/identifier/value",
            json!("9000000000"),
            Code::InvalidResourceId,
            "subscriber/identifier/value",
        ),
        ("/status", json!("draft"), Code::InvalidValue, "status"),
        (
            "/identifier/0/value",
            json!("é"),
            Code::InvalidValue,
            "identifier/0/value",
        ),
        ("/identifier", json!([]), Code::TooFewValuesSubmitted, "identifier"),
        (
            "/identifier/0/assigner/identifier/value",
            json!("XXX"),
            Code::InvalidValue,
            "identifier/0/assigner/identifier/value",
        ),
        (
            "/payor",
            json!([{"identifier": {"value": "1"}}, {"identifier": {"value": "2"}}]),
            Code::TooManyValuesSubmitted,
            "payor",
        ),
        ("/payor/0", json!({}), Code::MissingValue, "payor/0/identifier"),
        (
            "/beneficiary/identifier/value",
            json!("x".repeat(26)),
            Code::InvalidValue,
            "beneficiary/identifier/value",
        ),
        ("/period", json!({}), Code::MissingValue, "period/end"),
        ("/period/end", json!("2030-02-30"), Code::InvalidValue, "period/end"),
        ("/period/end", json!("2175-06-01"), Code::InvalidValue, "period/end"),
        ("/period/end", json!("1875-06-01"), Code::InvalidValue, "period/end"),
    ];
    for (path, value, code, at) in cases {
        let mut body = ehic();
        *body.pointer_mut(path).expect("the path exists") = value;
        let issues = coverage(&body, today()).expect_err(path);
        assert_eq!(
            (issues[0].code, issues[0].expression.as_deref()),
            (code, Some(at)),
            "{path}: {issues:?}"
        );
    }
}
