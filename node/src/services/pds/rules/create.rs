//! Owns the judgement of a request to create a patient. It must never match or number one.
//! Source: POST `/Patient`, schema `PatientCreateRequest`.

use super::super::outcome::{Code, Issue};
use super::dates::{day, no_such_day};
use super::draft::Slot;
use super::elements::{self, Item};
use super::fields::{REGISTERING_AUTHORITY, extension};
use super::patch::bytes;
use super::profile::{self, Kind};
use super::{RECORD_BYTES_MAX, items, text, tidying, verdict};
use jiff::civil::Date;
use serde_json::{Map, Value};

/// The lists of a request whose items are judged like those of a patch.
const LISTS: [(&str, Kind); 4] = [
    ("name", Kind::Name),
    ("address", Kind::Address),
    ("telecom", Kind::Telecom),
    ("extension", Kind::Unknown),
];

/// Extensions that a request may carry and that are not kept.
const UNKEPT: [&str; 6] = [
    "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-BirthSex",
    "http://hl7.org/fhir/StructureDefinition/patient-cadavericDonor",
    "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-EthnicCategory",
    "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-ResidentialStatus",
    "http://hl7.org/fhir/StructureDefinition/patient-interpreterRequired",
    "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberUnavailableReason",
];

/// Turns a PatientCreateRequest into a Patient without id, meta and NHS number, which the caller adds.
///
/// Kept of the extensions are communication and contact preferences; the specification labels the others as not
/// persisted, and its Patient has no registering authority: that is for the caller's audit.
///
/// # Errors
/// The first of these steps that finds something, with all that it found: the request's own structure (`id` and other
/// elements it does not have: ADDITIONAL_PROPERTIES; no authority: MISSING_VALUE); each item's structure; the rules.
pub fn create(body: &Value, today: Date, ids: &mut dyn FnMut() -> String) -> Result<Value, Vec<Issue>> {
    verdict(profile::structure(Kind::CreateRequest, body, "", None))?;
    if !items(body, "extension")
        .iter()
        .any(|one| text(one, "url") == REGISTERING_AUTHORITY)
    {
        return Err(vec![Issue::at(
            Code::MissingValue,
            "extension",
            "add the registering authority",
        )]);
    }
    let mut draft = body.clone();
    for (list, kind) in LISTS {
        for item in draft.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            tidying::start(kind, item, today);
            let kind = kind_of(kind, item);
            // The time is asked of death notifications alone, and those are not kept.
            tidying::value(kind, item, "");
        }
    }
    let mut structure = Vec::new();
    for item in all(&draft) {
        if item.value.get("id").is_some() && item.kind != Kind::Unkept {
            let advice = "leave out the id of a new item, the service gives it one";
            structure.push(Issue::at(Code::InvalidUpdate, format!("{}/id", item.path), advice));
        }
        structure.extend(elements::item_structure(&item));
    }
    verdict(structure)?;
    verdict(judge(&draft, today))?;
    let made = finish(draft, ids);
    if bytes(&made) > RECORD_BYTES_MAX {
        let advice = format!("shorten the record, it may have at most {RECORD_BYTES_MAX} bytes");
        return Err(vec![Issue::new(Code::ValidationError, advice)]);
    }
    Ok(made)
}

fn kind_of(kind: Kind, value: &Value) -> Kind {
    let url = text(value, "url");
    match (kind, url) {
        (Kind::Unknown, REGISTERING_AUTHORITY) => Kind::RegisteringAuthority,
        (Kind::Unknown, url) if UNKEPT.contains(&url) => Kind::Unkept,
        // Pharmacies and removals are no part of the request; a death notification is accepted and not kept.
        (Kind::Unknown, _) => match elements::kind_of(kind, value) {
            Kind::Pharmacy => Kind::Unknown,
            Kind::DeathNotification => Kind::Unkept,
            other => other,
        },
        _ => kind,
    }
}

fn all(draft: &Value) -> Vec<Item<'_>> {
    let mut found = Vec::new();
    for (list, kind) in LISTS {
        for (index, value) in items(draft, list).iter().enumerate() {
            found.push(Item {
                kind: kind_of(kind, value),
                path: format!("{list}/{index}"),
                value,
                stored: None,
            });
        }
    }
    found
}

fn judge(draft: &Value, today: Date) -> Vec<Issue> {
    let mut issues = Vec::new();
    if items(draft, "name")
        .first()
        .is_some_and(|name| text(name, "use") != "usual")
    {
        issues.push(Issue::at(
            Code::InvalidValue,
            "name/0/use",
            "send the usual name of the new patient",
        ));
    }
    match day(text(draft, "birthDate")) {
        None => issues.push(no_such_day("birthDate".into())),
        Some(born) if born > today => {
            issues.push(Issue::at(
                Code::InvalidValue,
                "birthDate",
                "send a date that is not in the future",
            ));
        }
        Some(_) => {}
    }
    for item in all(draft) {
        elements::judge_item(&item, today, &mut issues);
    }
    for (list, kind) in LISTS {
        let list_items = items(draft, list);
        let slots = vec![Slot::ADDED; list_items.len()];
        elements::between(kind, list_items, &[], &slots, list, &mut issues);
    }
    // The rules speak of updates; a creation that breaks one is an invalid value.
    for issue in &mut issues {
        if matches!(issue.code, Code::InvalidUpdate | Code::ForbiddenUpdate) {
            issue.code = Code::InvalidValue;
        }
    }
    issues
}

fn finish(draft: Value, ids: &mut dyn FnMut() -> String) -> Value {
    let mut made = Map::new();
    made.insert("resourceType".into(), Value::from("Patient"));
    let Value::Object(draft) = draft else {
        return Value::Object(made);
    };
    for (name, mut value) in draft {
        if let Value::Array(list) = &mut value {
            let mut used = Vec::new();
            if name == "extension" {
                list.retain(|one| extension(text(one, "url")).is_some_and(|known| is_kept(known.kind)));
            } else {
                for item in list.iter_mut().filter_map(Value::as_object_mut) {
                    item.insert("id".into(), Value::String(tidying::fresh(ids, &mut used)));
                }
            }
            if list.is_empty() {
                continue;
            }
        }
        made.insert(name, value);
    }
    Value::Object(made)
}

fn is_kept(kind: Kind) -> bool {
    matches!(kind, Kind::Communication | Kind::ContactPreference)
}
