//! Owns the two reduced views of a Patient. Both are lists of what stays: an element that nobody thought of goes.
//!
//! Source: GET `/Patient`, "Patient data returned" and schema `PatientSearch`; schema `Patient` for restricted records.

use super::fields::{DEATH_NOTIFICATION, NHS_NUMBER_SYSTEM, extension};
use super::text;
use serde_json::Value;

/// What a search returns of a patient.
const FOUND: [&str; 14] = [
    "resourceType",
    "id",
    "identifier",
    "meta",
    "name",
    "gender",
    "birthDate",
    "multipleBirthInteger",
    "deceasedDateTime",
    "address",
    "telecom",
    "contact",
    "generalPractitioner",
    "extension",
];

/// What any answer returns of a restricted patient. Not here: address, telecom, contact, generalPractitioner and
/// managingOrganization, which the specification names; and of FHIR's other elements `text` (it may repeat all of them),
/// `contained`, `link`, `photo` and `communication`, because nothing proves that they tell no place.
const RESTRICTED: [&str; 13] = [
    "resourceType",
    "id",
    "identifier",
    "meta",
    "active",
    "name",
    "gender",
    "birthDate",
    "multipleBirthInteger",
    "multipleBirthBoolean",
    "deceasedDateTime",
    "deceasedBoolean",
    "extension",
];

/// Reduces a patient to what a search returns: usual, nickname and temporary names; the home address; death, and no other
/// extension.
pub fn search_view(patient: &mut Value) {
    keep(patient, &FOUND);
    keep_items(patient, "name", |name| {
        matches!(text(name, "use"), "usual" | "nickname" | "temp")
    });
    keep_items(patient, "address", |address| text(address, "use") == "home");
    keep_items(patient, "extension", |one| text(one, "url") == DEATH_NOTIFICATION);
}

/// Removes from a patient everything that tells where the person lives, is treated, can be reached or comes from.
///
/// The specification names the elements and, of the extensions, the three pharmacies and the place of birth. Beyond it,
/// the removal from registration goes (its code can be "transferred to Scotland"), every extension that the profile does
/// not know, and identifiers other than the NHS number, with the assigner of that one: a hospital number tells the
/// hospital. Language, contact preference and death stay.
pub fn restrict(patient: &mut Value) {
    keep(patient, &RESTRICTED);
    keep_items(patient, "identifier", |identifier| {
        text(identifier, "system") == NHS_NUMBER_SYSTEM
    });
    for identifier in patient
        .get_mut("identifier")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(identifier) = identifier.as_object_mut() {
            identifier.remove("assigner");
        }
    }
    if let Some(meta) = patient.get_mut("meta").and_then(Value::as_object_mut) {
        meta.retain(|name, _| matches!(name.as_str(), "versionId" | "security" | "lastUpdated" | "profile"));
    }
    keep_items(patient, "extension", |one| {
        extension(text(one, "url")).is_some_and(|known| !known.place)
    });
}

fn keep(patient: &mut Value, names: &[&str]) {
    if let Some(patient) = patient.as_object_mut() {
        patient.retain(|name, _| names.contains(&name.as_str()));
    }
}

fn keep_items(patient: &mut Value, name: &str, stays: impl Fn(&Value) -> bool) {
    let Some(list) = patient.get_mut(name).and_then(Value::as_array_mut) else {
        return;
    };
    list.retain(stays);
    if list.is_empty() {
        if let Some(patient) = patient.as_object_mut() {
            patient.remove(name);
        }
    }
}
