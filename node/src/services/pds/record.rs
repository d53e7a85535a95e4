//! How a patient's JSON is kept and shown.
//!
//! Kept is the canonical form: without `resourceType`, `id`, `meta` and the `identifier` that repeats the number (they follow from
//! the record), keys sorted, the extensions sorted by their URL, and cut in two: what anybody may see who may see the
//! record, and the *place* part, which tells where the patient is. An answer is put together from the pieces by
//! concatenation: an unrestricted record is never parsed to be shown, and the place part of a restricted one is never
//! read for a client.
//!
//! Invariant: [`keep`] and [`whole`] are inverses, so nothing that was accepted is lost.

use super::{Security, rules};
use crate::base::{Digest, NhsNumber};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::ops::Range;

/// Elements that tell where a patient is. Of a restricted record more is in the place part: whatever
/// [`rules::restrict`] takes away.
const PLACE_ELEMENTS: [&str; 5] = [
    "address",
    "contact",
    "generalPractitioner",
    "managingOrganization",
    "telecom",
];

/// System of an NHS number.
pub const NHS_NUMBER_SYSTEM: &str = "https://fhir.nhs.uk/Id/nhs-number";
const CONFIDENTIALITY_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";

/// Largest canonical patient, in bytes: with its command it must fit a log entry with room to spare.
pub const PATIENT_BYTES_MAX: usize = 32 * 1024;

/// A patient as kept. Its `Debug` shows sizes only.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    /// The open part and the place part behind it, each a JSON object.
    pub bytes: Bytes,
    /// Length of the place part; 0 when there is none.
    pub place_bytes: u32,
    /// BLAKE3 over number, security, successor and canonical content; the same however the record is cut.
    pub digest: Digest,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kept({} bytes, {} of place)", self.bytes.len(), self.place_bytes)
    }
}

impl Kept {
    /// Length of the open part.
    pub fn open_bytes(&self) -> u32 {
        self.bytes.len() as u32 - self.place_bytes
    }
}

/// The canonical form of a patient: elements that follow from the record left out, extensions sorted. serde_json's
/// objects are sorted by key.
fn canonical(number: NhsNumber, patient: &Value) -> Map<String, Value> {
    let mut content = patient.as_object().cloned().unwrap_or_default();
    for derived in ["resourceType", "id", "meta"] {
        content.remove(derived);
    }
    if let Some(value) = content.remove("identifier")
        && let Some(own) = identifiers(number, &value)
    {
        content.insert("identifier".to_owned(), own);
    }
    if let Some(value) = content.get_mut("extension") {
        *value = extensions(value);
    }
    content
}

/// The identifiers without the one that only repeats the number, which follows from it; one that says more (a
/// verification status) stays. `None` when nothing is left.
fn identifiers(number: NhsNumber, identifiers: &Value) -> Option<Value> {
    let Value::Array(identifiers) = identifiers else {
        return Some(identifiers.clone());
    };
    let plain = json!({"system": NHS_NUMBER_SYSTEM, "value": number.to_string()});
    let own: Vec<Value> = identifiers.iter().filter(|one| **one != plain).cloned().collect();
    (!own.is_empty()).then_some(Value::Array(own))
}

/// The extensions, sorted by their URL.
fn extensions(extensions: &Value) -> Value {
    let mut sorted = extensions.clone();
    if let Value::Array(extensions) = &mut sorted {
        extensions.sort_by(|one, other| url(one).cmp(url(other)));
    }
    sorted
}

fn url(extension: &Value) -> &str {
    extension.get("url").and_then(Value::as_str).unwrap_or_default()
}

/// The digest by which loads are reconciled.
fn digest(number: NhsNumber, security: Security, superseded_by: Option<NhsNumber>, content: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.key());
    hasher.update(security.code().as_bytes());
    hasher.update(&[0]);
    hasher.update(&superseded_by.map_or([0; 5], NhsNumber::key));
    hasher.update(content);
    Digest(*hasher.finalize().as_bytes())
}

/// Cuts a patient for keeping.
pub fn keep(number: NhsNumber, security: Security, superseded_by: Option<NhsNumber>, patient: &Value) -> Kept {
    let (all, bytes, place_bytes) = if security.is_open() {
        keep_open(number, patient)
    } else {
        keep_restricted(canonical(number, patient))
    };
    Kept {
        place_bytes,
        bytes: Bytes::from(bytes),
        digest: digest(number, security, superseded_by, &all),
    }
}

/// The canonical content, the two parts, and the length of the second. Each element is written once and nothing is
/// copied as JSON but the two lists that the canonical form changes: nearly every write comes here.
fn keep_open(number: NhsNumber, patient: &Value) -> (Vec<u8>, Vec<u8>, u32) {
    let mut all = Vec::with_capacity(2048);
    let mut elements: Vec<(bool, Range<usize>)> = Vec::new();
    all.push(b'{');
    for (name, value) in patient.as_object().into_iter().flatten() {
        let value = match name.as_str() {
            "resourceType" | "id" | "meta" => continue,
            "identifier" => match identifiers(number, value) {
                Some(own) => Cow::Owned(own),
                None => continue,
            },
            "extension" => Cow::Owned(extensions(value)),
            _ => Cow::Borrowed(value),
        };
        if all.len() > 1 {
            all.push(b',');
        }
        let start = all.len();
        write(&mut all, name);
        all.push(b':');
        write(&mut all, value.as_ref());
        elements.push((PLACE_ELEMENTS.contains(&name.as_str()), start..all.len()));
    }
    all.push(b'}');
    let mut bytes = Vec::with_capacity(all.len() + 2);
    let part = |bytes: &mut Vec<u8>, wanted: bool| {
        bytes.push(b'{');
        let own = elements.iter().filter(|(place, _)| *place == wanted);
        for (at, (_, range)) in own.enumerate() {
            if at > 0 {
                bytes.push(b',');
            }
            bytes.extend_from_slice(&all[range.clone()]);
        }
        bytes.push(b'}');
    };
    part(&mut bytes, false);
    let open_bytes = bytes.len();
    if elements.iter().any(|(place, _)| *place) {
        part(&mut bytes, true);
    }
    let place_bytes = (bytes.len() - open_bytes) as u32;
    (all, bytes, place_bytes)
}

/// The same of a restricted record.
fn keep_restricted(mut open: Map<String, Value>) -> (Vec<u8>, Vec<u8>, u32) {
    let mut all = Vec::new();
    write(&mut all, &open);
    let mut place = Map::new();
    let mut shown = Value::Object(open.clone());
    rules::restrict(&mut shown);
    // An element that is shown in part is in the place part whole.
    open.retain(|element, value| {
        shown.get(element) == Some(value) || {
            place.insert(element.clone(), std::mem::take(value));
            false
        }
    });
    if let Value::Object(shown) = shown {
        open.extend(shown);
    }
    let mut bytes = Vec::new();
    write(&mut bytes, &open);
    let open_bytes = bytes.len();
    if !place.is_empty() {
        write(&mut bytes, &place);
    }
    let place_bytes = (bytes.len() - open_bytes) as u32;
    (all, bytes, place_bytes)
}

fn write(bytes: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(bytes, value).expect("JSON serialises into memory");
}

/// The head of a resource: what follows from the record.
fn head(number: NhsNumber, version: u32, security: Security) -> String {
    let display = match security {
        Security::Unrestricted => r#","display":"unrestricted""#,
        Security::Restricted => r#","display":"restricted""#,
        Security::VeryRestricted => "",
        Security::Redacted => r#","display":"redacted""#,
    };
    let code = security.code();
    format!(
        r#"{{"resourceType":"Patient","id":"{number}","meta":{{"versionId":"{version}","security":[{{"system":"{CONFIDENTIALITY_SYSTEM}","code":"{code}"{display}}}]}}"#
    )
}

/// The resource as a client sees it, from the kept pieces: `open` always, `place` only where it may be shown.
pub fn show(number: NhsNumber, version: u32, security: Security, open: &[u8], place: &[u8]) -> Bytes {
    let head = head(number, version, security);
    let mut shown = Vec::with_capacity(head.len() + open.len() + place.len() + 96);
    shown.extend_from_slice(head.as_bytes());
    if !says_identifier(open) {
        shown.extend_from_slice(
            format!(r#","identifier":[{{"system":"{NHS_NUMBER_SYSTEM}","value":"{number}"}}]"#).as_bytes(),
        );
    }
    for part in [open, place] {
        // Each part is an object; an empty one adds nothing.
        if let [b'{', inside @ .., b'}'] = part
            && !inside.is_empty()
        {
            shown.push(b',');
            shown.extend_from_slice(inside);
        }
    }
    shown.push(b'}');
    Bytes::from(shown)
}

/// Whether the kept open part has an identifier of its own. Keys are sorted, so the search stops at the first key
/// behind it, and nothing is parsed but the keys and what they skip.
fn says_identifier(open: &[u8]) -> bool {
    // The text can only be a key: inside a string its quotes would be escaped.
    memchr::memmem::find_iter(open, br#""identifier":[{"#).any(|at| depth_at(open, at) == 1)
}

/// How many objects and lists are open at `at`.
fn depth_at(json: &[u8], at: usize) -> usize {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in &json[..at] {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (true, b'"') => in_string = false,
            (false, b'"') => in_string = true,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (true | false, _) => {}
        }
    }
    depth
}

/// The whole resource as JSON, for changing it, for operators and for exports.
///
/// # Panics
/// When the kept bytes are not JSON: the journal checked them, so that would be a bug.
pub fn whole(number: NhsNumber, version: u32, security: Security, open: &[u8], place: &[u8]) -> Value {
    let mut shown: Value =
        serde_json::from_slice(&show(number, version, security, open, &[])).expect("kept parts are JSON");
    if !place.is_empty() {
        let place: Map<String, Value> = serde_json::from_slice(place).expect("kept parts are JSON");
        shown.as_object_mut().expect("a resource is an object").extend(place);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number() -> NhsNumber {
        NhsNumber::parse("9000000009").expect("a number")
    }

    fn patient() -> Value {
        json!({
            "resourceType": "Patient", "id": "9000000009",
            "meta": {"versionId": "2"},
            "identifier": [{"system": NHS_NUMBER_SYSTEM, "value": "9000000009"}],
            "name": [{"id": "1", "use": "usual", "given": ["Jane", "\"identifier\":[{"], "family": "Smith"}],
            "gender": "female", "birthDate": "2010-10-22",
            "address": [{"id": "456", "use": "home", "line": ["1 Trevelyan Square"], "postalCode": "LS1 6AE"}],
            "telecom": [{"id": "789", "system": "phone", "value": "01632960587", "use": "home"}],
            "generalPractitioner": [{"id": "254", "type": "Organization"}],
            "extension": [
                {"url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NominatedPharmacy", "valueReference": {}},
                {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace", "valueAddress": {"city": "Leeds"}},
                {"url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-DeathNotificationStatus", "extension": []},
            ],
        })
    }

    fn parts(kept: &Kept) -> (&[u8], &[u8]) {
        kept.bytes.split_at(kept.open_bytes() as usize)
    }

    fn sorted(mut patient: Value) -> Value {
        if let Some(Value::Array(extensions)) = patient.get_mut("extension") {
            extensions.sort_by(|one, other| url(one).cmp(url(other)));
        }
        patient
    }

    #[test]
    fn what_was_kept_comes_back_whole_however_restricted() {
        for security in [Security::Unrestricted, Security::Restricted, Security::VeryRestricted] {
            let kept = keep(number(), security, None, &patient());
            let (open, place) = parts(&kept);
            let mut back = whole(number(), 2, security, open, place);
            assert_eq!(back["meta"]["versionId"], "2");
            assert_eq!(back["meta"]["security"][0]["code"], security.code());
            let mut before = sorted(patient());
            back["meta"] = Value::Null;
            before["meta"] = Value::Null;
            assert_eq!(back, before);
        }
    }

    #[test]
    fn an_open_record_is_cut_as_its_canonical_form_would_be() {
        let mut unusual = patient();
        unusual["identifier"] = json!([
            {"system": NHS_NUMBER_SYSTEM, "value": "9000000009"}, {"system": "other", "value": "1"},
        ]);
        unusual["odd \"key\""] = json!({"b": 1, "a": [null, "\u{1F600}"]});
        for patient in [patient(), unusual, json!({}), json!({"address": []})] {
            let (all, bytes, place_bytes) = keep_open(number(), &patient);
            let mut open = canonical(number(), &patient);
            assert_eq!(all, serde_json::to_vec(&open).expect("JSON"));
            let mut place = Map::new();
            for element in PLACE_ELEMENTS {
                place.extend(open.remove(element).map(|value| (element.to_owned(), value)));
            }
            let mut expected = serde_json::to_vec(&open).expect("JSON");
            if !place.is_empty() {
                write(&mut expected, &place);
            }
            assert_eq!(bytes, expected);
            assert_eq!(place_bytes > 0, !place.is_empty());
        }
    }

    #[test]
    fn a_restricted_record_shows_nothing_of_the_place() {
        let kept = keep(number(), Security::Restricted, None, &patient());
        let (open, _) = parts(&kept);
        let shown = show(number(), 3, Security::Restricted, open, &[]);
        let text = std::str::from_utf8(&shown).expect("JSON");
        for hidden in ["LS1", "Trevelyan", "01632", "Leeds", "Pharmacy", "254"] {
            assert!(!text.contains(hidden), "{hidden}");
        }
        let shown: Value = serde_json::from_slice(&shown).expect("JSON");
        assert_eq!(shown["name"][0]["family"], "Smith");
        assert_eq!(shown["identifier"][0]["value"], "9000000009");
    }

    #[test]
    fn an_unrestricted_record_is_shown_by_concatenation() {
        let kept = keep(number(), Security::Unrestricted, None, &patient());
        let (open, place) = parts(&kept);
        let shown: Value =
            serde_json::from_slice(&show(number(), 2, Security::Unrestricted, open, place)).expect("JSON");
        assert_eq!(shown, whole(number(), 2, Security::Unrestricted, open, place));
        let least = keep(number(), Security::Unrestricted, None, &json!({}));
        assert_eq!(&least.bytes[..], b"{}");
        let shown: Value =
            serde_json::from_slice(&show(number(), 1, Security::Unrestricted, b"{}", &[])).expect("JSON");
        assert_eq!(shown["id"], "9000000009");
    }

    #[test]
    fn an_identifier_that_says_more_is_kept_and_not_repeated() {
        let mut verified = patient();
        verified["identifier"][0]["extension"] = json!([{"url": "x", "valueBoolean": true}]);
        let kept = keep(number(), Security::Unrestricted, None, &verified);
        let (open, place) = parts(&kept);
        let shown: Value =
            serde_json::from_slice(&show(number(), 1, Security::Unrestricted, open, place)).expect("JSON");
        assert_eq!(shown["identifier"], verified["identifier"]);
    }

    #[test]
    fn the_digest_tells_content_and_restriction_and_not_the_order_of_keys() {
        let one = keep(number(), Security::Unrestricted, None, &patient()).digest;
        let mut reordered = patient();
        reordered["extension"].as_array_mut().expect("a list").reverse();
        assert_eq!(keep(number(), Security::Unrestricted, None, &reordered).digest, one);
        assert_ne!(keep(number(), Security::Restricted, None, &patient()).digest, one);
        assert_ne!(
            keep(number(), Security::Unrestricted, Some(number()), &patient()).digest,
            one
        );
        let mut changed = patient();
        changed["gender"] = json!("male");
        assert_ne!(keep(number(), Security::Unrestricted, None, &changed).digest, one);
    }
}
