//! Owns the two reduced views of a Patient. Both are lists of what stays: an element that nobody thought of goes.
//!
//! Source: GET `/Patient`, "Patient data returned" and schema `PatientSearch`; schema `Patient` for restricted records.

use super::fields::{DEATH_NOTIFICATION, NHS_NUMBER_SYSTEM, extension};
use super::text;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What a search returns of a patient: pieces of the record, as they were written.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found<'a> {
    #[serde(borrow)]
    resource_type: &'a RawValue,
    id: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    identifier: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "pieces", skip_serializing_if = "Option::is_none")]
    name: Option<Vec<&'a RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gender: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    birth_date: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multiple_birth_integer: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deceased_date_time: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "pieces", skip_serializing_if = "Option::is_none")]
    address: Option<Vec<&'a RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    telecom: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contact: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    general_practitioner: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "pieces", skip_serializing_if = "Option::is_none")]
    extension: Option<Vec<&'a RawValue>>,
}

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

/// Reduces a patient, as [`show`](crate::services::pds::record::show) wrote it, to what a search returns: usual, nickname
/// and temporary names; the home address; death, and no other extension.
///
/// # Panics
/// When `shown` is no patient's JSON: our own writing, so that would be a bug.
pub fn search_view(shown: &[u8]) -> Found<'_> {
    let mut found: Found<'_> = serde_json::from_slice(shown).expect("what is shown is JSON");
    keep_pieces(&mut found.name, |name: Use<'_>| {
        matches!(&*name.of, "usual" | "nickname" | "temp")
    });
    keep_pieces(&mut found.address, |address: Use<'_>| address.of == "home");
    keep_pieces(&mut found.extension, |one: Url<'_>| one.url == DEATH_NOTIFICATION);
    found
}

/// What an element of a list is for.
#[derive(Deserialize)]
struct Use<'a> {
    #[serde(rename = "use", borrow, default)]
    of: Cow<'a, str>,
}

/// What an extension says.
#[derive(Deserialize)]
struct Url<'a> {
    #[serde(borrow, default)]
    url: Cow<'a, str>,
}

/// The pieces of a list; of anything else none.
fn pieces<'a, D: Deserializer<'a>>(from: D) -> Result<Option<Vec<&'a RawValue>>, D::Error> {
    let list = <&RawValue>::deserialize(from)?;
    Ok(serde_json::from_str(list.get()).ok())
}

/// Keeps the pieces of a list that stay; a list of none goes.
fn keep_pieces<'a, T: Deserialize<'a>>(list: &mut Option<Vec<&'a RawValue>>, stays: impl Fn(T) -> bool) {
    if let Some(pieces) = list {
        pieces.retain(|piece| serde_json::from_str(piece.get()).is_ok_and(&stays));
    }
    list.take_if(|pieces| pieces.is_empty());
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
