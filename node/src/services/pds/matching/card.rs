//! What matching knows of a record: its card, and the index keys that follow from it.
//!
//! ```text
//! index    text of the key                                     one for each
//! Birth    day (4) 01 family, squeezed 00                      family name
//! Birth    day (4) 02 phonetic code (4)                        sound of a family or given name
//! Family   family, squeezed 00 day (4)                         family name
//! Postcode postcode 00 day (4)                                 postcode          unrestricted records only
//! Practice ODS code 00 day (4)                                 practice          unrestricted records only
//! Contact  'e' email 00, or 'p' number 00                      email, phone
//! ```
//!
//! A day is year (2 bytes, big-endian), month, day; four zeros when the day of birth is not known. Very restricted and
//! redacted records have no keys at all.
//!
//! What is historic: names with the use `old` or `maiden`; and a value whose period ended before the day on which the
//! card was made, if another value of its kind goes on. The last usual name, home address, telephone number and email address
//! that are known stay current though their period ended: nothing took their place. The card is made when the
//! record is written and not again when a period runs out.

use super::super::Security;
use super::super::command::{DecodeError, INDEX_KEYS_MAX, INDEX_TEXT_BYTES_MAX, Index, IndexKey};
use super::day::{DAY_KEY_BYTES, Day, NO_DAY_KEY};
use super::normal;
use crate::base::OdsCode;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// First byte of an encoded card.
pub const CARD_VERSION: u8 = 1;

/// Most names of a card; current ones come first.
pub const NAMES_MAX: usize = 12;
/// Most given names of a name.
pub const GIVENS_MAX: usize = 8;
/// Most postcodes of a card.
pub const POSTCODES_MAX: usize = 16;
/// Most email addresses and telephone numbers of a card, of each.
pub const CONTACTS_MAX: usize = 16;
/// Most phonetic keys of a card.
const CODES_MAX: usize = 180;

const _: () = assert!(2 * NAMES_MAX + CODES_MAX + POSTCODES_MAX + 1 + 2 * CONTACTS_MAX <= INDEX_KEYS_MAX);
const _: () = assert!(normal::EMAIL_BYTES_MAX + 2 <= INDEX_TEXT_BYTES_MAX);
const _: () = assert!(normal::NAME_BYTES_MAX + DAY_KEY_BYTES + 2 <= INDEX_TEXT_BYTES_MAX);

/// Kind byte in Birth: a family name follows.
pub const KIND_FAMILY: u8 = 1;
/// Kind byte in Birth: a phonetic code follows.
pub const KIND_CODE: u8 = 2;
/// First byte in Contact of an email address.
pub const CONTACT_EMAIL: u8 = b'e';
/// First byte in Contact of a telephone number.
pub const CONTACT_PHONE: u8 = b'p';
/// Ends a text of any length in a key.
pub const END: u8 = 0;

/// What the flags of an index key say.
pub mod flags {
    use super::Gender;

    /// No current value gives the key. Never set on phonetic keys, which only fuzzy searches read.
    pub const HISTORIC: u8 = 0x01;
    /// A family name sounds so.
    pub const AS_FAMILY: u8 = 0x10;
    /// A given name sounds so.
    pub const AS_GIVEN: u8 = 0x20;
    /// The record is restricted.
    pub const RESTRICTED: u8 = 0x40;
    const GENDER: u8 = 0x0E;

    /// The bits of a gender.
    pub const fn of_gender(gender: Gender) -> u8 {
        (gender as u8) << 1
    }

    /// Whether the gender in `flags` is this one.
    pub const fn says_gender(flags: u8, gender: Gender) -> bool {
        flags & GENDER == of_gender(gender)
    }
}

/// Gender as recorded; a record that says none counts as unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gender {
    /// `unknown`, or not said.
    Unknown,
    /// `male`.
    Male,
    /// `female`.
    Female,
    /// `other`.
    Other,
}

impl Gender {
    /// From the code in FHIR, whatever its case.
    pub fn of_code(code: &str) -> Option<Gender> {
        match code.to_ascii_lowercase().as_str() {
            "unknown" => Some(Gender::Unknown),
            "male" => Some(Gender::Male),
            "female" => Some(Gender::Female),
            "other" => Some(Gender::Other),
            _ => None,
        }
    }
}

/// A name in normal form. One that says no family name or no given names has those of the usual name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// Whether it is borne now.
    pub current: bool,
    /// Family name; may be empty.
    pub family: String,
    /// Given names in order.
    pub givens: Vec<String>,
}

/// A value in normal form that is so, or was.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aged {
    /// Whether it is so now.
    pub current: bool,
    /// The value.
    pub text: String,
}

/// What matching compares. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// How far the record may be shown, and so found.
    pub security: Security,
    /// Gender.
    pub gender: Gender,
    /// Date of birth; of one that says less, the first day that fits.
    pub birth: Option<Day>,
    /// Date of death, likewise.
    pub death: Option<Day>,
    /// Names, current ones first.
    pub names: Vec<Name>,
    /// Postcodes of all addresses.
    pub postcodes: Vec<Aged>,
    /// ODS code of the general practice.
    pub practice: Option<OdsCode>,
    /// Email addresses.
    pub emails: Vec<Aged>,
    /// Telephone numbers.
    pub phones: Vec<Aged>,
}

impl std::fmt::Debug for Card {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Card")
    }
}

impl Card {
    /// The card of a patient's resource on a day. Whatever is malformed in it is left out.
    pub fn of(patient: &Value, security: Security, today: Date) -> Card {
        let today = Day::of_date(today).unwrap_or(Day::FIRST);
        let day = |element| text(patient, element).and_then(Day::parse_kept);
        Card {
            security,
            gender: text(patient, "gender")
                .and_then(Gender::of_code)
                .unwrap_or(Gender::Unknown),
            birth: day("birthDate"),
            death: day("deceasedDateTime"),
            names: names(patient, today),
            postcodes: postcodes(patient, today),
            practice: practice(patient),
            emails: telecoms(patient, "email", today, normal::email),
            phones: telecoms(patient, "phone", today, normal::phone),
        }
    }

    /// Encodes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(&(CARD_VERSION, self)).expect("cards serialise into memory")
    }

    /// Decodes.
    ///
    /// # Errors
    /// Another first byte is `Newer`, whatever else is no card `Malformed`.
    pub fn decode(bytes: &[u8]) -> Result<Card, DecodeError> {
        match bytes.split_first() {
            Some((&CARD_VERSION, rest)) => match postcard::take_from_bytes::<Card>(rest) {
                Ok((card, [])) => Ok(card),
                Ok(_) | Err(_) => Err(DecodeError::Malformed),
            },
            Some((&version, _)) => Err(DecodeError::Newer(version)),
            None => Err(DecodeError::Malformed),
        }
    }

    /// The keys under which the record is found: sorted, none twice, at most [`INDEX_KEYS_MAX`].
    pub fn keys(&self) -> Vec<IndexKey> {
        match self.security {
            Security::Unrestricted | Security::Restricted => {}
            Security::VeryRestricted | Security::Redacted => return Vec::new(),
        }
        let mut keys = Keys::new(self);
        let day = keys.day;
        keys.names(self);
        if self.security.is_open() {
            for postcode in &self.postcodes {
                keys.add(
                    Index::Postcode,
                    &[postcode.text.as_bytes(), &[END], &day],
                    age(postcode.current),
                );
            }
            if let Some(practice) = &self.practice {
                keys.add(Index::Practice, &[practice.as_str().as_bytes(), &[END], &day], 0);
            }
        }
        for (kind, contacts) in [(CONTACT_EMAIL, &self.emails), (CONTACT_PHONE, &self.phones)] {
            for contact in contacts {
                keys.add(
                    Index::Contact,
                    &[&[kind], contact.text.as_bytes(), &[END]],
                    age(contact.current),
                );
            }
        }
        keys.sorted()
    }
}

/// The key in Birth of a phonetic code on a day.
pub fn code_key(day: [u8; DAY_KEY_BYTES], code: normal::Code) -> Vec<u8> {
    [&day[..], &[KIND_CODE], &code].concat()
}

/// The beginning of keys in Birth of a family name on a day; whole with [`END`] behind it.
pub fn family_key(day: [u8; DAY_KEY_BYTES], family: &str) -> Vec<u8> {
    [&day[..], &[KIND_FAMILY], family.as_bytes()].concat()
}

fn age(current: bool) -> u8 {
    if current { 0 } else { flags::HISTORIC }
}

/// Keys in the making; of the same key with several flags one is left.
struct Keys {
    day: [u8; DAY_KEY_BYTES],
    of_record: u8,
    keys: BTreeMap<(Index, Vec<u8>), u8>,
}

impl Keys {
    fn new(card: &Card) -> Keys {
        let restricted = if card.security.is_open() { 0 } else { flags::RESTRICTED };
        Keys {
            day: card.birth.map_or(NO_DAY_KEY, Day::key),
            of_record: restricted | flags::of_gender(card.gender),
            keys: BTreeMap::new(),
        }
    }

    fn names(&mut self, card: &Card) {
        let day = self.day;
        for name in card.names.iter().filter(|name| !name.family.is_empty()) {
            let family = normal::squeezed(&name.family);
            self.add(Index::Birth, &[&family_key(day, &family), &[END]], age(name.current));
            self.add(Index::Family, &[family.as_bytes(), &[END], &day], age(name.current));
        }
        let mut codes: Vec<(normal::Code, u8)> = Vec::new();
        for name in &card.names {
            let families = normal::codes(&name.family)
                .into_iter()
                .map(|code| (code, flags::AS_FAMILY));
            codes.extend(families);
            for given in &name.givens {
                codes.extend(normal::codes(given).into_iter().map(|code| (code, flags::AS_GIVEN)));
            }
        }
        let mut distinct: Vec<normal::Code> = Vec::new();
        for (code, flag) in codes {
            if !distinct.contains(&code) {
                if distinct.len() == CODES_MAX {
                    continue;
                }
                distinct.push(code);
            }
            self.add(Index::Birth, &[&code_key(day, code)], flag);
        }
    }

    fn add(&mut self, index: Index, parts: &[&[u8]], flag: u8) {
        let flag = flag | self.of_record;
        let flags = self.keys.entry((index, parts.concat())).or_insert(flag);
        // A value that is also current is current; a name that is also a given name is both.
        *flags = (*flags | flag) & !flags::HISTORIC | (*flags & flag & flags::HISTORIC);
    }

    fn sorted(self) -> Vec<IndexKey> {
        let keys = self.keys.into_iter();
        keys.map(|((index, text), flags)| IndexKey { index, text, flags })
            .collect()
    }
}

fn text<'a>(of: &'a Value, element: &str) -> Option<&'a str> {
    of.get(element).and_then(Value::as_str)
}

fn list<'a>(of: &'a Value, element: &str) -> &'a [Value] {
    of.get(element).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The day on which an element's period ended, if that was before `today`.
fn ended(element: &Value, today: Day) -> Option<Day> {
    let end = element.get("period").and_then(|period| text(period, "end"));
    end.and_then(Day::parse_kept).filter(|end| *end < today)
}

/// For elements of one kind, of which one is always the last that is known: which are current.
fn current(elements: &[&Value], today: Day) -> Vec<bool> {
    let ends: Vec<Option<Day>> = elements.iter().map(|element| ended(element, today)).collect();
    let goes_on = ends.iter().any(Option::is_none);
    let last = ends.iter().flatten().max().copied();
    let is_current = |end: &Option<Day>| end.is_none() || (!goes_on && *end == last);
    ends.iter().map(is_current).collect()
}

/// As [`current`] among the elements with the use `last_of`; the others are current until their period ends.
fn current_by_use(elements: &[Value], last_of: &str, today: Day) -> Vec<bool> {
    let of_use = |element: &&Value| text(element, "use") == Some(last_of);
    let lasting: Vec<&Value> = elements.iter().filter(of_use).collect();
    let mut lasting_current = current(&lasting, today).into_iter();
    let is_current = |element: &Value| match of_use(&element) {
        true => lasting_current.next().unwrap_or(true),
        false => ended(element, today).is_none(),
    };
    elements.iter().map(is_current).collect()
}

fn names(patient: &Value, today: Day) -> Vec<Name> {
    let elements = list(patient, "name");
    let mut names = Vec::new();
    for (element, current) in elements.iter().zip(current_by_use(elements, "usual", today)) {
        let normal: Vec<String> = list(element, "given")
            .iter()
            .filter_map(Value::as_str)
            .map(normal::name)
            .collect();
        names.push(Name {
            current: current && !matches!(text(element, "use"), Some("old" | "maiden")),
            family: text(element, "family").map(normal::name).unwrap_or_default(),
            givens: normal
                .into_iter()
                .filter(|given| !given.is_empty())
                .take(GIVENS_MAX)
                .collect(),
        });
    }
    let is_usual = |element: &Value| text(element, "use") == Some("usual");
    let usual = elements
        .iter()
        .zip(&names)
        .find(|(element, name)| is_usual(element) && name.current);
    if let Some(usual) = usual.map(|(_, name)| name.clone()) {
        for name in &mut names {
            if name.family.is_empty() {
                name.family.clone_from(&usual.family);
            }
            if name.givens.is_empty() {
                name.givens.clone_from(&usual.givens);
            }
        }
    }
    names.retain(|name| !name.family.is_empty() || !name.givens.is_empty());
    names.sort_by_key(|name| !name.current);
    names.truncate(NAMES_MAX);
    names
}

fn postcodes(patient: &Value, today: Day) -> Vec<Aged> {
    let elements = list(patient, "address");
    let ages = elements.iter().zip(current_by_use(elements, "home", today));
    let found = ages.filter_map(|(element, current)| {
        let text = text(element, "postalCode").and_then(normal::postcode)?;
        Some(Aged { current, text })
    });
    distinct(found, POSTCODES_MAX)
}

fn telecoms(patient: &Value, system: &str, today: Day, normal: fn(&str) -> Option<String>) -> Vec<Aged> {
    let of_system = |element: &&Value| text(element, "system") == Some(system);
    let elements: Vec<&Value> = list(patient, "telecom").iter().filter(of_system).collect();
    let ages = elements.iter().zip(current(&elements, today));
    let found = ages.filter_map(|(element, current)| {
        let text = text(element, "value").and_then(normal)?;
        Some(Aged { current, text })
    });
    distinct(found, CONTACTS_MAX)
}

/// Current ones first, each value once.
fn distinct(found: impl Iterator<Item = Aged>, max: usize) -> Vec<Aged> {
    let mut found: Vec<Aged> = found.collect();
    found.sort_by_key(|aged| !aged.current);
    let mut kept: Vec<Aged> = Vec::new();
    for aged in found {
        if kept.len() < max && kept.iter().all(|other| other.text != aged.text) {
            kept.push(aged);
        }
    }
    kept
}

fn practice(patient: &Value) -> Option<OdsCode> {
    let identifiers = list(patient, "generalPractitioner")
        .iter()
        .filter_map(|gp| gp.get("identifier"));
    identifiers
        .filter_map(|identifier| text(identifier, "value"))
        .find_map(OdsCode::parse)
}
