//! From a line to a command: parsed once, checked, cut for keeping. No I/O, so that it runs on the blocking pool.
//!
//! What is wrong with a line is said by naming the element, never by its value.

use super::super::Security;
use super::super::record::PATIENT_BYTES_MAX;
use super::super::records::NewVersion;
use super::super::rules;
use super::tally::Kind;
use crate::base::limits::COMMAND_BYTES_MAX;
use crate::base::{Digest, NhsNumber};
use bytes::Bytes;
use jiff::civil::Date;
use serde_json::Value;

/// Why a line was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// One word for scripts.
    pub code: &'static str,
    /// A sentence that names the element, never its value.
    pub reason: String,
}

/// An issue from constant text.
pub(super) fn issue(code: &'static str, reason: impl Into<String>) -> Issue {
    Issue {
        code,
        reason: reason.into(),
    }
}

/// A line that can be proposed.
pub(super) enum Prepared {
    Patient {
        number: NhsNumber,
        digest: Digest,
        command: Bytes,
    },
    Attached(Attached),
}

/// A line that belongs to a patient.
pub(super) struct Attached {
    pub(super) kind: Kind,
    pub(super) number: NhsNumber,
    pub(super) digest: Digest,
    /// `id` of the resource; empty when it has none.
    pub(super) id: String,
    /// Canonical JSON: keys sorted.
    pub(super) bytes: Vec<u8>,
}

/// Whether a resource has the profile's structure; values that may only be read are taken, records are full of them.
fn structure(kind: Kind, resource: &Value, today: Date) -> Result<(), Issue> {
    let judged = match kind {
        Kind::Patient => rules::patient(resource),
        Kind::RelatedPerson => rules::related_person(resource),
        Kind::Coverage => rules::coverage(resource, today).map(drop),
    };
    judged.map_err(|issues| match issues.into_iter().next() {
        Some(first) => issue(first.code.text(), first.diagnostics),
        None => issue("structure", "the resource is not of the profile's structure"),
    })
}

fn list<'a>(resource: &'a Value, element: &str) -> impl Iterator<Item = &'a Value> {
    resource[element].as_array().into_iter().flatten()
}

fn kind(resource: &Value) -> Result<Kind, Issue> {
    match resource["resourceType"].as_str() {
        Some("Patient") => Ok(Kind::Patient),
        Some("RelatedPerson") => Ok(Kind::RelatedPerson),
        Some("Coverage") => Ok(Kind::Coverage),
        Some(_) => Err(issue(
            "resource_type",
            "resourceType is none of Patient, RelatedPerson, Coverage",
        )),
        None => Err(issue("resource_type", "resourceType is missing")),
    }
}

fn number_at(resource: &Value, pointer: &str, element: &str) -> Result<NhsNumber, Issue> {
    match resource.pointer(pointer).map(Value::as_str) {
        None => Err(issue("nhs_number", format!("{element} is missing"))),
        Some(text) => text
            .and_then(NhsNumber::parse)
            .ok_or_else(|| issue("nhs_number", format!("{element} is not an NHS number"))),
    }
}

/// A record without a code is not taken: taking it for an open one could show where somebody hides.
fn security(patient: &Value) -> Result<Security, Issue> {
    let codes = patient.pointer("/meta/security").and_then(Value::as_array);
    match codes.map(Vec::as_slice) {
        Some([only]) => only["code"]
            .as_str()
            .and_then(Security::of_code)
            .ok_or_else(|| issue("security", "meta.security.code is none of U, R, V, REDACTED")),
        Some([]) | None => Err(issue("security", "meta.security is missing")),
        Some(_) => Err(issue("security", "meta.security has more than one code")),
    }
}

/// Whose a related person or a coverage is.
fn whose(resource: &Value, kind: Kind) -> Result<NhsNumber, Issue> {
    let element = match kind {
        Kind::Patient => return number_at(resource, "/id", "id"),
        Kind::RelatedPerson => "patient",
        Kind::Coverage => "subscriber",
    };
    let reference = resource[element]["reference"].as_str();
    match reference.map(|text| text.rsplit('/').next().unwrap_or(text)) {
        Some(number) => NhsNumber::parse(number).ok_or_else(|| {
            issue(
                "nhs_number",
                format!("{element}.reference does not end in an NHS number"),
            )
        }),
        None => {
            let pointer = format!("/{element}/identifier/value");
            number_at(resource, &pointer, &format!("{element}.identifier.value"))
        }
    }
}

/// The record that takes its place, by its link.
fn successor(patient: &Value, number: NhsNumber, security: Security) -> Result<Option<NhsNumber>, Issue> {
    let mut links = list(patient, "link").filter(|link| link["type"] == "replaced-by");
    let Some(link) = links.next() else { return Ok(None) };
    if links.next().is_some() {
        return Err(issue("link", "link has more than one replaced-by"));
    }
    if security != Security::Redacted {
        return Err(issue(
            "link",
            "link says replaced-by, and meta.security is not REDACTED",
        ));
    }
    let other = number_at(link, "/other/identifier/value", "link.other.identifier.value")?;
    match other == number {
        true => Err(issue("link", "link replaces the record by itself")),
        false => Ok(Some(other)),
    }
}

/// Parses and checks one line.
pub(super) fn prepare(line: &[u8], today: Date) -> Result<Prepared, Issue> {
    let resource: Value = serde_json::from_slice(line).map_err(|cause| {
        issue(
            "not_json",
            format!("the line is not JSON from column {} on", cause.column()),
        )
    })?;
    if !resource.is_object() {
        return Err(issue("not_json", "the line is not a JSON object"));
    }
    let kind = kind(&resource)?;
    let number = whose(&resource, kind)?;
    match kind {
        Kind::Patient => patient(number, &resource, today),
        Kind::RelatedPerson | Kind::Coverage => attached(kind, number, &resource, today),
    }
}

fn too_large(what: &str, bytes: usize, bytes_max: usize) -> Issue {
    issue(
        "too_large",
        format!("{what} has {bytes} bytes, and may have {bytes_max}"),
    )
}

fn patient(number: NhsNumber, resource: &Value, today: Date) -> Result<Prepared, Issue> {
    let security = security(resource)?;
    let superseded_by = successor(resource, number, security)?;
    structure(Kind::Patient, resource, today)?;
    let (command, kept) = NewVersion::of(number, 0, (security, superseded_by), resource, today).command();
    if kept.bytes.len() > PATIENT_BYTES_MAX {
        return Err(too_large("the patient", kept.bytes.len(), PATIENT_BYTES_MAX));
    }
    let command = command.encode(&kept.bytes);
    if command.len() > COMMAND_BYTES_MAX {
        return Err(too_large("the patient with its keys", command.len(), COMMAND_BYTES_MAX));
    }
    Ok(Prepared::Patient {
        number,
        digest: kept.digest,
        command,
    })
}

fn attached(kind: Kind, number: NhsNumber, resource: &Value, today: Date) -> Result<Prepared, Issue> {
    let bytes = serde_json::to_vec(resource).expect("JSON serialises into memory");
    if bytes.len() > PATIENT_BYTES_MAX {
        return Err(too_large("the resource", bytes.len(), PATIENT_BYTES_MAX));
    }
    structure(kind, resource, today)?;
    Ok(Prepared::Attached(Attached {
        kind,
        number,
        digest: attached_digest(number, &bytes),
        id: resource["id"].as_str().unwrap_or("").to_owned(),
        bytes,
    }))
}

/// The digest by which related people and coverage are reconciled: of the number and the canonical resource.
pub(super) fn attached_digest(number: NhsNumber, canonical: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.key());
    hasher.update(canonical);
    Digest(*hasher.finalize().as_bytes())
}
