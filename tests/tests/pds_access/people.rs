//! People of the tests' own choice, with values that are found again wherever they turn up.

use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const EXTENSION: &str = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-";
const NUMBERS: &str = "https://fhir.nhs.uk/Id/nhs-number";
const ORGANISATIONS: &str = "https://fhir.nhs.uk/Id/ods-organization-code";

/// The first NHS number from these nine digits on.
pub fn nhs_number(nine: u32) -> String {
    let with_check = |nine: u32| {
        let digits = format!("{nine:09}");
        let weighed = digits.bytes().zip((2..=10).rev());
        let sum: u32 = weighed.map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
        let check = (11 - sum % 11) % 11;
        (check < 10).then(|| format!("{digits}{check}"))
    };
    (nine..).find_map(with_check).expect("most digits have a check digit")
}

/// Resources, one a line.
pub fn write(file: &Path, resources: &[Value]) {
    let lines: Vec<String> = resources.iter().map(Value::to_string).collect();
    fs::write(file, lines.join("\n") + "\n").expect("the folder can be written");
}

/// A patient with everything that tells where they are.
#[derive(Clone)]
pub struct Planted {
    /// The NHS number.
    pub number: String,
    /// U, R or V.
    pub security: &'static str,
    /// The family name.
    pub family: String,
    /// The one given name.
    pub given: String,
    /// The postcode now.
    pub postcode: String,
    /// The postcode of an earlier address.
    pub old_postcode: String,
    /// Telephone number.
    pub phone: String,
    /// Email address.
    pub email: String,
    /// General practice.
    pub practice: String,
    /// Two characters, other ones for everybody.
    tag: String,
}

/// Everybody's date of birth.
pub const BIRTH: &str = "1971-03-04";

impl Planted {
    /// Somebody; `tag` is one letter and one digit that make their values theirs.
    pub fn new(tag: &str, security: &'static str) -> Planted {
        let (letter, digit) = tag.split_at(1);
        let place = u32::from(letter.as_bytes()[0] - b'A') * 10 + digit.parse::<u32>().expect("a digit");
        let lower = tag.to_lowercase();
        Planted {
            number: nhs_number(944_000_000 + place * 100),
            security,
            family: format!("Hidden{}feather", spelt(tag)),
            given: format!("Ottoline{}", spelt(tag)),
            postcode: format!("ZE{digit} 9{letter}{letter}"),
            old_postcode: format!("ZE{digit} 8{letter}{letter}"),
            phone: format!("07700900{place:03}"),
            email: format!("planted.{lower}@example.org"),
            practice: format!("Z{letter}{digit}41"),
            tag: tag.to_owned(),
        }
    }

    /// Not of hexadecimal digits alone, so that no digest holds it.
    fn code(&self, kind: u8) -> String {
        format!("Z{}P{kind}", self.tag)
    }

    /// Every value that tells where they are.
    pub fn places(&self) -> Vec<String> {
        let squeezed = |text: &str| text.replace(' ', "");
        let tag = &self.tag;
        let mut all = vec![
            self.postcode.clone(),
            squeezed(&self.postcode),
            self.old_postcode.clone(),
            squeezed(&self.old_postcode),
            self.phone.clone(),
            self.email.clone(),
            self.practice.clone(),
            format!("planted-house-{tag}"),
            format!("planted-town-{tag}"),
            format!("planted-birthplace-{tag}"),
            format!("planted-kin-{tag}"),
            self.other_phone(),
        ];
        all.extend((1..=4).map(|kind| self.code(kind)));
        all
    }

    /// Every value of theirs, names and number too.
    pub fn values(&self) -> Vec<String> {
        let mut all = self.places();
        all.extend([self.number.clone(), self.family.clone(), self.given.clone()]);
        all
    }

    /// Patient and RelatedPerson.
    pub fn resources(&self) -> Vec<Value> {
        vec![self.patient(), self.kin()]
    }

    fn house(&self) -> String {
        format!("planted-house-{}", self.tag)
    }

    /// Another number than the patient's.
    fn other_phone(&self) -> String {
        format!("07701{}", &self.phone[5..])
    }

    fn patient(&self) -> Value {
        let organisation = |code: String| json!({"identifier": {"system": ORGANISATIONS, "value": code}});
        let shop = |name: &str, kind| json!({"url": format!("{EXTENSION}{name}"), "valueReference": organisation(self.code(kind))});
        let since = json!({"start": "2020-01-01"});
        json!({
            "resourceType": "Patient", "id": self.number,
            "identifier": [{"system": NUMBERS, "value": self.number}],
            "meta": {"versionId": "1", "security": [{
                "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": self.security,
            }]},
            "name": [{"id": "N1", "use": "usual", "period": since, "given": [self.given], "family": self.family}],
            "gender": "female", "birthDate": BIRTH,
            "address": [
                {
                    "id": "A1", "use": "home", "period": since,
                    "line": [self.house(), format!("planted-town-{}", self.tag)], "postalCode": self.postcode,
                },
                {
                    "id": "A2", "use": "temp", "period": {"start": "2010-01-01", "end": "2011-01-01"},
                    "line": [self.house(), format!("planted-town-{}", self.tag)], "postalCode": self.old_postcode,
                },
            ],
            "telecom": [
                {"id": "T1", "use": "home", "period": since, "system": "phone", "value": self.phone},
                {"id": "T2", "use": "home", "period": since, "system": "email", "value": self.email},
            ],
            "contact": [{
                "id": "C1", "period": since,
                "relationship": [{"coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/v2-0131", "code": "C", "display": "Emergency Contact",
                }]}],
                "telecom": [{"system": "phone", "value": self.other_phone()}],
            }],
            "generalPractitioner": [{
                "id": "G1", "type": "Organization",
                "identifier": {"system": ORGANISATIONS, "value": self.practice, "period": since},
            }],
            "managingOrganization": {
                "type": "Organization",
                "identifier": {"system": ORGANISATIONS, "value": self.code(4), "period": since},
            },
            "extension": [
                shop("NominatedPharmacy", 1),
                shop("PreferredDispenserOrganization", 2),
                shop("MedicalApplianceSupplier", 3),
                {
                    "url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace",
                    "valueAddress": {"city": format!("planted-birthplace-{}", self.tag), "country": "GBR"},
                },
            ],
        })
    }

    fn kin(&self) -> Value {
        let since = json!({"start": "2020-01-01"});
        json!({
            "resourceType": "RelatedPerson", "id": format!("KIN{}", self.tag), "active": true, "period": since,
            "patient": {"identifier": {"system": NUMBERS, "value": self.number}},
            "name": [{"use": "usual", "period": since, "given": ["Sam"], "family": format!("planted-kin-{}", self.tag)}],
            "relationship": [{"coding": [{
                "system": "https://fhir.nhs.uk/R4/CodeSystem/UKCore-AdditionalRelatedPersonRole", "code": "Guardian",
                "display": "Guardian of patient",
            }]}],
            "telecom": [{"period": since, "system": "phone", "value": self.other_phone(), "use": "home"}],
            "address": [{
                "use": "home", "period": since, "line": [self.house(), format!("planted-town-{}", self.tag)],
                "postalCode": self.postcode,
            }],
        })
    }

    /// What a search for them says.
    pub fn named(&self) -> Vec<(&str, &str)> {
        vec![("family", &self.family), ("given", &self.given), ("birthdate", BIRTH)]
    }
}

/// Letters alone: names have no digits.
fn spelt(tag: &str) -> String {
    let letters = tag.bytes().map(|byte| match byte {
        b'0'..=b'9' => char::from(byte - b'0' + b'a'),
        _ => char::from(byte.to_ascii_lowercase()),
    });
    letters.collect()
}

/// A plain patient.
pub fn plain(number: &str, security: &str, family: &str, given: &str, postcode: &str, practice: &str) -> Value {
    json!({
        "resourceType": "Patient", "id": number,
        "identifier": [{"system": NUMBERS, "value": number}],
        "meta": {"versionId": "1", "security": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": security,
        }]},
        "name": [{"id": "N1", "use": "usual", "given": [given], "family": family}],
        "gender": "female", "birthDate": BIRTH,
        "address": [{
            "id": "A1", "use": "home", "period": {"start": "2020-01-01"}, "line": ["1 Somewhere"], "postalCode": postcode,
        }],
        "generalPractitioner": [{
            "id": "G1", "type": "Organization",
            "identifier": {"system": ORGANISATIONS, "value": practice, "period": {"start": "2020-01-01"}},
        }],
    })
}

/// A request to create a patient.
pub fn new_patient(family: &str, givens: &[&str], postcode: &str, phone: &str) -> Value {
    json!({
        "resourceType": "Patient",
        "name": [{"use": "usual", "given": givens, "family": family, "period": {"start": "1990-01-01"}}],
        "gender": "female", "birthDate": BIRTH,
        "address": [{"use": "home", "period": {"start": "2020-01-01"}, "line": ["2 Elsewhere"], "postalCode": postcode}],
        "telecom": [{"use": "home", "system": "phone", "value": phone, "period": {"start": "2020-01-01"}}],
        "extension": [{"url": format!("{EXTENSION}RegisteringAuthority"), "extension": [
            {"url": "registeringAuthorityType", "valueCodeableConcept": {"coding": [{
                "system": "https://fhir.nhs.uk/CodeSystem/UKCore-RegisteringAuthorityType", "code": "x",
            }]}},
            {"url": "organisationIdentifier", "valueString": "RGS"},
        ]}],
    })
}

/// A European health insurance card of a patient.
pub fn coverage(number: &str) -> Value {
    json!({
        "resourceType": "Coverage", "status": "active",
        "subscriber": {"identifier": {"system": NUMBERS, "value": number}},
        "identifier": [{"value": "29401395498043123948", "assigner": {
            "identifier": {"system": "urn:iso:std:iso:3166", "value": "FRA"}, "display": "France",
        }}],
        "payor": [{"identifier": {"value": "92847ADGJL"}}],
        "beneficiary": {"identifier": {"value": "178705ABC"}},
        "period": {"end": "2030-12-31"},
    })
}
