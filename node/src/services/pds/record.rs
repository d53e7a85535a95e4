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
use serde_json::{Map, Value, json};

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
    if let Some(Value::Array(identifiers)) = content.get_mut("identifier") {
        // The one that only repeats the number follows from it; one that says more (a verification status) is kept.
        let plain = json!({"system": NHS_NUMBER_SYSTEM, "value": number.to_string()});
        identifiers.retain(|identifier| *identifier != plain);
        if identifiers.is_empty() {
            content.remove("identifier");
        }
    }
    if let Some(Value::Array(extensions)) = content.get_mut("extension") {
        extensions.sort_by(|one, other| url(one).cmp(url(other)));
    }
    content
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
    let mut open = canonical(number, patient);
    let all = serde_json::to_vec(&open).expect("JSON serialises into memory");
    let digest = digest(number, security, superseded_by, &all);
    let mut place = Map::new();
    if security.is_open() {
        for element in PLACE_ELEMENTS {
            if let Some(value) = open.remove(element) {
                place.insert(element.to_owned(), value);
            }
        }
    } else {
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
    }
    let mut bytes = serde_json::to_vec(&open).expect("JSON serialises into memory");
    let open_bytes = bytes.len();
    if !place.is_empty() {
        serde_json::to_writer(&mut bytes, &place).expect("JSON serialises into memory");
    }
    Kept {
        place_bytes: (bytes.len() - open_bytes) as u32,
        bytes: Bytes::from(bytes),
        digest,
    }
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
