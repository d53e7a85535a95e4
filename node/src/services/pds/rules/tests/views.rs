//! What a search returns, and what is left of a restricted patient.

use super::super::{restrict, views};
use super::*;

fn full() -> Value {
    let mut record = jane();
    record["managingOrganization"] = json!({"identifier": {"value": "Y12345"}});
    record["deceasedDateTime"] = json!("2025-01-01");
    record["text"] = json!({"div": "1 Trevelyan Square"});
    record["maritalStatus"] = json!({"text": "x"});
    let list = record["extension"].as_array_mut().expect("a list");
    list.push(death("1"));
    list.push(
        json!({"url": "https://fhir.nhs.uk/StructureDefinition/Extension-PDS-RemovalFromRegistration", "extension": [
        {"url": "removalFromRegistrationCode", "valueCodeableConcept": {"coding": [{"code": "SCT"}]}}]}),
    );
    list.push(json!({"url": "http://example.org/house", "valueString": "Trevelyan"}));
    let identifiers = record["identifier"].as_array_mut().expect("a list");
    identifiers[0]["assigner"] = json!({"display": "Leeds"});
    identifiers.push(json!({"system": "http://leeds.example.org", "value": "7"}));
    record
}

fn search_view(record: &Value) -> Value {
    // However a string is escaped.
    let shown = record.to_string().replace("\"usual\"", "\"\\u0075sual\"");
    serde_json::to_value(views::search_view(shown.as_bytes())).expect("JSON")
}

fn keys(record: &Value) -> Vec<&str> {
    record
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn a_search_returns_the_listed_elements_alone() {
    let record = search_view(&full());
    assert_eq!(record["name"].as_array().map(Vec::len), Some(1));
    assert_eq!(record["address"], json!([jane()["address"][0]]));
    assert_eq!(record["extension"], json!([death("1")]));
    for gone in ["managingOrganization", "text", "maritalStatus"] {
        assert!(!keys(&record).contains(&gone));
    }
    assert_eq!(record["generalPractitioner"], jane()["generalPractitioner"]);
    for kept in [
        "resourceType",
        "id",
        "identifier",
        "meta",
        "gender",
        "birthDate",
        "telecom",
        "deceasedDateTime",
    ] {
        assert_eq!(record.get(kept), full().get(kept), "{kept}");
    }
    assert_eq!(search_view(&jane()).get("extension"), None);
}

#[test]
fn a_restricted_patient_shows_no_place() {
    let mut record = full();
    restrict(&mut record);
    let shown = record.to_string();
    for place in [
        "Trevelyan",
        "LS1",
        "Leeds",
        "leeds",
        "Y12345",
        "016329",
        "07700",
        "jane.smith",
        "Manchester",
        "SCT",
    ] {
        assert!(!shown.contains(place), "{place}");
    }
    for gone in [
        "address",
        "telecom",
        "generalPractitioner",
        "contact",
        "managingOrganization",
        "text",
    ] {
        assert!(!keys(&record).contains(&gone));
    }
    assert_eq!(
        record["extension"],
        json!([language("fr"), preference("Not after 7pm"), death("1")])
    );
    assert_eq!(record["name"], jane()["name"]);
    assert_eq!(record["meta"], jane()["meta"]);
}

#[test]
fn views_of_malformed_values_show_nothing_of_them_and_do_not_panic() {
    let lists = json!({"resourceType": "Patient", "id": "1", "name": 1, "address": {}, "extension": "x", "identifier": [1], "meta": 2});
    for mut value in [json!(null), json!([]), lists.clone()] {
        restrict(&mut value);
    }
    let shown = search_view(&lists);
    assert_eq!(keys(&shown), ["id", "identifier", "meta", "resourceType"]);
    let uses = json!({"resourceType": "Patient", "id": "1", "name": [1, {"use": 2}, {"use": "usual"}, {}],
        "address": [null], "extension": [{"url": []}]});
    let shown = search_view(&uses);
    assert_eq!(shown["name"], json!([{"use": "usual"}]));
    assert_eq!(keys(&shown), ["id", "name", "resourceType"]);
}
