//! Owns what a demographic record may hold and how a client may change it: the profile's structure
//! (`profile.schema.json`), JSON Patch with its list rules, the rules of each element, and the two reduced views.
//!
//! Must never know: the clock, identifiers' randomness, the ledger, the wire, or who calls. Today's date, the time and
//! new identifiers are arguments; of the caller only the [`Mode`] is.
//!
//! Invariants:
//! - A refusal changes nothing: the record passed in is only read, and the result exists only when every operation and
//!   every rule has passed.
//! - What [`patch`] and [`create`] return passes [`patient`] (`create` once the caller has added the identity).
//! - An issue never repeats a value, neither sent nor stored. At most [`super::outcome::ISSUES_MAX`], in a stable order.
//! - Elements of a stored record that no operation touches come out as they went in, unknown and legacy ones included.
//!
//! Whether an ODS code belongs to an open practice or pharmacy is not known here: the directory answers that.
//!
//! Source: pds-fhir.bundled.yaml, the description of PATCH `/Patient/{id}` and the schemas it names.

mod address;
mod coverage;
mod create;
mod dates;
mod draft;
mod elements;
mod extension;
mod fields;
mod name;
mod operations;
mod patch;
mod profile;
mod telecom;
mod tidying;
mod views;

#[cfg(test)]
mod tests;

pub use coverage::coverage;
pub use create::create;
pub use patch::{is_restricted, patch};
pub use profile::{patient, prepare, related_person};
pub use views::{Found, restrict, search_view};

use super::outcome::{ISSUES_MAX, Issue};
use crate::base::NhsNumber;
use serde_json::Value;

/// Who changes a record: the specification gives each its own list of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Healthcare worker access.
    Worker,
    /// Patient access.
    Patient,
}

/// The most operations one patch request may hold.
pub const OPERATIONS_MAX: usize = 100;
/// The most tokens a path may have; the deepest element of the profile has eight.
pub const PATH_DEPTH_MAX: usize = 10;
/// The largest record, in bytes of JSON, that a change may leave.
pub const RECORD_BYTES_MAX: usize = 32 * 1024;

/// Whether a text is an NHS number.
fn is_nhs_number(text: &str) -> bool {
    NhsNumber::parse(text).is_some()
}

/// The text at `key`, empty when there is none: no element of the profile may be the empty text.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

/// The items at `key`, none when it is absent or no list.
fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The code of the first coding of a CodeableConcept, empty when there is none.
fn first_code(concept: Option<&Value>) -> &str {
    concept
        .and_then(|concept| items(concept, "coding").first())
        .map_or("", |coding| text(coding, "code"))
}

/// Nothing when there are no issues, otherwise the first [`ISSUES_MAX`].
fn verdict(mut issues: Vec<Issue>) -> Result<(), Vec<Issue>> {
    issues.truncate(ISSUES_MAX);
    if issues.is_empty() { Ok(()) } else { Err(issues) }
}
