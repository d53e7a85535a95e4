//! Tests of the rules: a table for each concept, good and bad examples alike.

mod creation;
mod elements;
mod operations;
mod properties;
mod stored;
mod views;

use super::super::outcome::{Code, Issue};
use super::Mode;
use jiff::civil::{Date, date};
use serde_json::{Value, json};

pub const UK: &str = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-";
pub const NOW: &str = "2025-06-01T10:00:00+00:00";

pub fn today() -> Date {
    date(2025, 6, 1)
}

/// Identifiers 00000001, 00000002, …
pub fn counting() -> impl FnMut() -> String {
    let mut last = 0_u32;
    move || {
        last += 1;
        format!("{last:08X}")
    }
}

pub fn uk(name: &str) -> String {
    format!("{UK}{name}")
}

pub fn pharmacy(name: &str, code: &str) -> Value {
    json!({"url": uk(name), "valueReference": {"identifier": {
        "system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": code}}})
}

pub fn language(code: &str) -> Value {
    json!({"url": uk("NHSCommunication"), "extension": [
        {"url": "language", "valueCodeableConcept": {"coding": [
            {"system": "https://fhir.hl7.org.uk/CodeSystem/UKCore-HumanLanguage", "code": code}]}},
        {"url": "interpreterRequired", "valueBoolean": true}]})
}

pub fn preference(time: &str) -> Value {
    json!({"url": uk("ContactPreference"), "extension": [
        {"url": "PreferredContactMethod", "valueCodeableConcept": {"coding": [{"code": "1"}]}},
        {"url": "PreferredContactTimes", "valueString": time}]})
}

pub fn death(code: &str) -> Value {
    json!({"url": uk("DeathNotificationStatus"), "extension": [
        {"url": "deathNotificationStatus", "valueCodeableConcept": {"coding": [
            {"system": "https://fhir.hl7.org.uk/CodeSystem/UKCore-DeathNotificationStatus", "code": code}]}}]})
}

/// A patient with something of everything: about 3 KB.
pub fn jane() -> Value {
    json!({
        "resourceType": "Patient", "id": "9000000009",
        "meta": {"versionId": "2", "security": [{"code": "U", "display": "unrestricted",
            "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"}]},
        "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9000000009", "extension": [
            {"url": uk("NHSNumberVerificationStatus"), "valueCodeableConcept": {"coding": [{"code": "01",
                "system": "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatus"}]}}]}],
        "name": [
            {"id": "123", "use": "usual", "period": {"start": "2020-01-01"}, "prefix": ["Mrs"],
                "given": ["Jane", "Marie"], "family": "Smith", "suffix": ["MBE"]},
            {"id": "124", "use": "old", "family": "Jones", "given": ["Jane"]}],
        "gender": "female", "birthDate": "1980-10-22", "multipleBirthInteger": 1,
        "address": [
            {"id": "456", "use": "home", "period": {"start": "2020-01-01"}, "postalCode": "LS1 6AE",
                "line": ["1 Trevelyan Square", "Boar Lane", "Leeds"], "extension": [{"url": uk("AddressKey"),
                "extension": [{"url": "type", "valueCoding": {"code": "PAF",
                    "system": "https://fhir.hl7.org.uk/CodeSystem/UKCore-AddressKeyType"}},
                    {"url": "value", "valueString": "12345678"}]}]},
            {"id": "W456", "use": "work", "line": ["2 Old Road"], "postalCode": "LS2 1AA"}],
        "telecom": [
            {"id": "789", "system": "phone", "use": "home", "value": "01632960587", "period": {"start": "2020-01-01"}},
            {"id": "790", "system": "email", "use": "home", "value": "jane.smith@example.com"},
            {"id": "791", "system": "phone", "use": "mobile", "value": "07700900001"}],
        "contact": [{"id": "C123", "telecom": [{"system": "phone", "value": "01632960588"}],
            "relationship": [{"coding": [{"code": "C", "system": "http://terminology.hl7.org/CodeSystem/v2-0131"}]}]}],
        "generalPractitioner": [{"id": "254406A3", "type": "Organization", "identifier": {"value": "Y12345",
            "system": "https://fhir.nhs.uk/Id/ods-organization-code", "period": {"start": "2020-01-01"}}}],
        "extension": [
            pharmacy("NominatedPharmacy", "Y12345"), language("fr"), preference("Not after 7pm"),
            {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace",
                "valueAddress": {"city": "Manchester", "country": "GBR"}}],
    })
}

/// A patient with next to nothing.
pub fn bare() -> Value {
    json!({"resourceType": "Patient", "id": "9000000033", "name": [{"id": "1", "use": "usual", "family": "Lee"}]})
}

pub fn attempt(before: &Value, operations: &Value, mode: Mode) -> Result<Value, Vec<Issue>> {
    let untouched = before.clone();
    let mut ids = counting();
    let done = super::patch(before, &json!({"patches": operations}), mode, today(), NOW, &mut ids);
    assert_eq!(*before, untouched);
    if let Ok(after) = &done {
        assert_eq!(super::patient(after), Ok(()), "{operations}");
    }
    if let Err(issues) = &done {
        assert!(!issues.is_empty() && issues.len() <= 10);
    }
    done
}

pub fn worker(operations: Value) -> Result<Value, Vec<Issue>> {
    attempt(&jane(), &operations, Mode::Worker)
}

pub fn add(path: &str, value: Value) -> Value {
    json!({"op": "add", "path": path, "value": value})
}

pub fn replace(path: &str, value: Value) -> Value {
    json!({"op": "replace", "path": path, "value": value})
}

pub fn test(path: &str, value: Value) -> Value {
    json!({"op": "test", "path": path, "value": value})
}

pub fn remove(path: &str) -> Value {
    json!({"op": "remove", "path": path})
}

/// The record after operations that must pass.
pub fn passes(before: &Value, operations: Value) -> Value {
    match attempt(before, &operations, Mode::Worker) {
        Ok(after) => after,
        Err(issues) => panic!("{operations} was refused: {issues:?}"),
    }
}

/// The operations must be refused, first of all with this code at this path.
pub fn refused(before: &Value, operations: Value, mode: Mode, code: Code, path: &str) {
    match attempt(before, &operations, mode) {
        Ok(after) => panic!("{operations} passed: {after}"),
        Err(issues) => {
            let first = &issues[0];
            assert_eq!(
                (first.code, first.expression.as_deref().unwrap_or("")),
                (code, path),
                "{operations}: {issues:?}"
            );
        }
    }
}
