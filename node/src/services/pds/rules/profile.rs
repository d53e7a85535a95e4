//! Owns the structure of resources: the definitions of `profile.schema.json`, compiled once, and the translation of a
//! violation into a Spine code and a sentence. It must never know an operation, a date or a rule between elements.
//!
//! The schema is ours, written from FHIR R4 and the specification. `sent.*` is closed and holds what a client may send;
//! `stored.*` holds every element that FHIR R4 gives the resource, legacy values included, so that an imported record is
//! kept whole. `modifierExtension` is refused there: FHIR forbids processing a resource whose modifier is not understood.

use super::super::outcome::{Code, Issue};
use super::{is_nhs_number, text, verdict};
use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// A definition by which a value is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A HumanName.
    Name,
    /// An Address.
    Address,
    /// A ContactPoint of the patient.
    Telecom,
    /// An emergency contact.
    Contact,
    /// The general practice.
    Practice,
    /// The managing organisation.
    Organization,
    /// The gender.
    Gender,
    /// The date of birth.
    BirthDate,
    /// The date of death.
    DeceasedDateTime,
    /// The order of birth.
    MultipleBirthInteger,
    /// A nominated pharmacy, dispensing doctor or appliance supplier.
    Pharmacy,
    /// The death notification status.
    DeathNotification,
    /// Language and interpreter.
    Communication,
    /// Contact preferences.
    ContactPreference,
    /// The place of birth.
    BirthPlace,
    /// The authority that registers a new patient.
    RegisteringAuthority,
    /// An extension that a create request may carry and that is not kept.
    Unkept,
    /// A request to create a patient, its items left aside.
    CreateRequest,
    /// A Coverage.
    Coverage,
    /// A Patient as stored.
    StoredPatient,
    /// A RelatedPerson as stored.
    StoredRelatedPerson,
    /// Not in the profile: nothing passes.
    Unknown,
}

/// The definition's name of each kind, in the order of the enum.
const DEFINITIONS: [&str; 21] = [
    "sent.Name",
    "sent.Address",
    "sent.Telecom",
    "sent.Contact",
    "sent.Practice",
    "sent.Organization",
    "sent.gender",
    "sent.birthDate",
    "sent.deceasedDateTime",
    "sent.multipleBirthInteger",
    "sent.Pharmacy",
    "sent.DeathNotification",
    "sent.Communication",
    "sent.ContactPreference",
    "sent.BirthPlace",
    "sent.RegisteringAuthority",
    "sent.Unkept",
    "sent.CreateRequest",
    "sent.Coverage",
    "stored.Patient",
    "stored.RelatedPerson",
];

const _: () = assert!(DEFINITIONS.len() == Kind::Unknown as usize);

struct Profile {
    schema: Value,
    validators: Vec<Validator>,
}

static PROFILE: LazyLock<Profile> = LazyLock::new(|| {
    let schema: Value =
        serde_json::from_str(include_str!("profile.schema.json")).expect("the profile's schema is JSON");
    let mut validators = Vec::new();
    for name in DEFINITIONS {
        let root = json!({
            "$schema": schema["$schema"], "$ref": format!("#/$defs/{name}"), "$defs": schema["$defs"],
        });
        // The engine without backtracking: its time is linear in what a client sends.
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .build(&root)
            .expect("each definition of the profile compiles");
        validators.push(validator);
    }
    Profile { schema, validators }
});

/// Compiles the profile now, so that the first request does not wait for it.
pub fn prepare() {
    LazyLock::force(&PROFILE);
}

/// What is wrong with the structure of `value`, at `path`, in a stable order. Properties that `stored` has at the same
/// place with the same value are no additional ones: a client that sends back what it read has added nothing.
pub fn structure(kind: Kind, value: &Value, path: &str, stored: Option<&Value>) -> Vec<Issue> {
    let Some(validator) = PROFILE.validators.get(kind as usize) else {
        return vec![Issue::at(
            Code::AdditionalProperties,
            path,
            "leave this out, the profile does not have it",
        )];
    };
    if validator.is_valid(value) {
        return Vec::new();
    }
    let mut issues: Vec<Issue> = validator
        .iter_errors(value)
        .flat_map(|error| issues_of(&error, path, stored))
        .collect();
    issues.sort_by(|a, b| (&a.expression, a.code).cmp(&(&b.expression, b.code)));
    issues.dedup();
    issues
}

fn joined(path: &str, pointer: &str, last: &str) -> String {
    let mut whole = String::from(path);
    for part in [pointer.trim_start_matches('/'), last] {
        if !part.is_empty() {
            if !whole.is_empty() {
                whole.push('/');
            }
            whole.push_str(part);
        }
    }
    whole
}

/// The annotation `x-…` beside the keyword that failed.
fn beside<'a>(error: &ValidationError, annotation: &str) -> Option<&'a Value> {
    let keyword = error.schema_path().as_str();
    let (definition, _) = keyword.rsplit_once('/')?;
    PROFILE.schema.pointer(definition)?.get(annotation)
}

fn issues_of(error: &ValidationError, path: &str, stored: Option<&Value>) -> Vec<Issue> {
    let pointer = error.instance_path().as_str();
    let here = || joined(path, pointer, "");
    let say = beside(error, "x-say").and_then(Value::as_str);
    let one = |code, advice: &str| vec![Issue::at(code, here(), say.unwrap_or(advice))];
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => additional(error, unexpected, path, stored),
        ValidationErrorKind::Required { property } => {
            let missing = joined(path, pointer, property.as_str().unwrap_or(""));
            vec![Issue::at(Code::MissingValue, missing, "add this, it is required")]
        }
        ValidationErrorKind::MinItems { limit } => one(
            Code::TooFewValuesSubmitted,
            &format!("send {limit} or more items, or leave the list out"),
        ),
        ValidationErrorKind::MaxItems { limit } => {
            one(Code::TooManyValuesSubmitted, &format!("send at most {limit} items"))
        }
        ValidationErrorKind::Enum { options } => vec![not_listed(error, options, here(), say)],
        ValidationErrorKind::Pattern { .. } => {
            let code = match beside(error, "x-code").and_then(Value::as_str) {
                Some("UNSUPPORTED_CHARACTERS_IN_FIELD") if error.instance().as_str() != Some("") => {
                    Code::UnsupportedCharactersInField
                }
                Some("INVALID_RESOURCE_ID") => Code::InvalidResourceId,
                _ => Code::InvalidValue,
            };
            one(code, "send a value of the form that the specification gives")
        }
        ValidationErrorKind::Type { .. } => one(Code::InvalidValue, "send the type that FHIR gives this element"),
        ValidationErrorKind::MaxLength { limit } => {
            let advice = format!("send at most {limit} characters");
            vec![Issue::at(Code::InvalidValue, here(), &advice)]
        }
        ValidationErrorKind::MinLength { limit } => {
            let advice = format!("send {limit} or more characters");
            vec![Issue::at(Code::InvalidValue, here(), &advice)]
        }
        ValidationErrorKind::Minimum { .. } | ValidationErrorKind::Maximum { .. } => {
            one(Code::InvalidValue, "send a number in the permitted range")
        }
        _ => one(Code::ValidationError, "send this as the specification describes it"),
    }
}

/// One issue for each property that the profile lacks. The client chose its name, so the path stops at the element.
fn additional(error: &ValidationError, unexpected: &[String], path: &str, stored: Option<&Value>) -> Vec<Issue> {
    let pointer = error.instance_path().as_str();
    let same = stored.and_then(|stored| stored.pointer(pointer));
    let sent = error.instance();
    let kept = |name: &String| same.is_some_and(|same| same.get(name).is_some() && same.get(name) == sent.get(name));
    if unexpected.iter().all(kept) {
        return Vec::new();
    }
    vec![Issue::at(
        Code::AdditionalProperties,
        joined(path, pointer, ""),
        "leave out the elements that the specification does not list here",
    )]
}

fn not_listed(error: &ValidationError, options: &Value, path: String, say: Option<&str>) -> Issue {
    let sent = error.instance();
    let readable = beside(error, "x-readable").and_then(Value::as_array);
    let settable: Vec<&str> = options
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let listed = match (say, settable.as_slice()) {
        (Some(say), _) => say.to_owned(),
        (None, [only]) => format!("send {only}"),
        (None, several) => format!("send one of {}", several.join(", ")),
    };
    if readable.is_some_and(|readable| readable.contains(sent)) {
        let advice = format!("this value can be read but not set; {listed}");
        return Issue::at(Code::UnsupportedValue, path, &advice);
    }
    Issue::at(Code::InvalidValue, path, &listed)
}

/// Judges a complete Patient as stored or imported: FHIR R4's elements and the profile's codes, legacy values included.
///
/// # Errors
/// ADDITIONAL_PROPERTIES for an element that FHIR R4 does not have, MISSING_VALUE, INVALID_VALUE, …: the structure first;
/// then INVALID_RESOURCE_ID when the id is no NHS number.
pub fn patient(resource: &Value) -> Result<(), Vec<Issue>> {
    verdict(structure(Kind::StoredPatient, resource, "", None))?;
    if !is_nhs_number(text(resource, "id")) {
        return Err(vec![Issue::at(
            Code::InvalidResourceId,
            "id",
            "send a valid NHS number",
        )]);
    }
    Ok(())
}

/// Judges a complete RelatedPerson as stored or imported.
///
/// # Errors
/// Those of its structure; then INVALID_RESOURCE_ID when the patient reference is no NHS number; then MISSING_VALUE when
/// neither a patient reference nor a name says who the person is.
pub fn related_person(resource: &Value) -> Result<(), Vec<Issue>> {
    verdict(structure(Kind::StoredRelatedPerson, resource, "", None))?;
    let number = resource.pointer("/patient/identifier/value").and_then(Value::as_str);
    if number.is_some_and(|number| !is_nhs_number(number)) {
        let path = "patient/identifier/value";
        return Err(vec![Issue::at(
            Code::InvalidResourceId,
            path,
            "send a valid NHS number",
        )]);
    }
    let named = resource
        .get("name")
        .and_then(Value::as_array)
        .is_some_and(|names| !names.is_empty());
    if number.is_none() && !named && resource.pointer("/patient/reference").is_none() {
        return Err(vec![Issue::at(
            Code::MissingValue,
            "name",
            "add a name, or refer to a patient",
        )]);
    }
    Ok(())
}
