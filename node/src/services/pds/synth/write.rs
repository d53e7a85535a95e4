//! The resources as JSON, written straight into the output: no tree is built.
//!
//! Every text comes from our own lists, which hold nothing that JSON would escape; `_` in them is a space.

use super::draw::{Day, Draw, Purpose, date_of};
use super::names;
use super::person::{Choices, Facts, Gender, Home, Kind, Origin};
use super::places::COUNTRIES;
use crate::base::NhsNumber;
use std::io::Write as _;

const EXTENSION: &str = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-";
const CODES: &str = "https://fhir.hl7.org.uk/CodeSystem/UKCore-";
const ODS: &str = "https://fhir.nhs.uk/Id/ods-organization-code";
const NHS: &str = "https://fhir.nhs.uk/Id/nhs-number";

/// Appends without a way to fail: memory takes everything.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => { write!($out, $($arg)*).expect("memory takes what is written") };
}

/// One person on the way out.
pub(super) struct Page<'a> {
    pub(super) choices: &'a Choices,
    pub(super) seed: u64,
    pub(super) index: u64,
    pub(super) as_of: Day,
    pub(super) number: NhsNumber,
    /// Of the record that takes its place.
    pub(super) successor: Option<NhsNumber>,
    pub(super) kind: Kind,
    pub(super) facts: Facts,
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().map(|byte| if byte == b'_' { b' ' } else { byte }));
}

fn texts<'a>(out: &mut Vec<u8>, list: impl Iterator<Item = &'a str>) {
    out.push(b'[');
    for (at, word) in list.enumerate() {
        out.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
        text(out, word);
        out.push(b'"');
    }
    out.push(b']');
}

fn digits(out: &mut Vec<u8>, value: i64, places: u32) {
    for place in (0..places).rev() {
        out.push(b'0' + (value / 10_i64.pow(place) % 10) as u8);
    }
}

fn date(out: &mut Vec<u8>, day: Day) {
    let (year, month, day) = date_of(day);
    digits(out, year, 4);
    out.push(b'-');
    digits(out, month, 2);
    out.push(b'-');
    digits(out, day, 2);
}

/// `"id":"254406A3",`
fn id(out: &mut Vec<u8>, draw: &mut Draw) {
    let bits = draw.bits();
    out.extend_from_slice(b"\"id\":\"");
    out.extend((0..8).map(|at| b"0123456789ABCDEF"[(bits >> (at * 4) & 15) as usize]));
    out.extend_from_slice(b"\",");
}

/// `"period":{"start":…},`
fn period(out: &mut Vec<u8>, start: Day, end: Option<Day>) {
    out.extend_from_slice(b"\"period\":{\"start\":\"");
    date(out, start);
    if let Some(end) = end {
        out.extend_from_slice(b"\",\"end\":\"");
        date(out, end);
    }
    out.extend_from_slice(b"\"},");
}

fn home_lines(out: &mut Vec<u8>, home: &Home) {
    out.extend_from_slice(b"\"line\":[\"");
    if let Some((flat, name)) = home.premises {
        if flat > 0 {
            put!(out, "Flat {flat} ");
        }
        text(out, name);
        out.extend_from_slice(b"\",\"");
    }
    if home.house > 0 {
        put!(out, "{} ", home.house);
    }
    text(out, home.street.0);
    out.push(b' ');
    text(out, home.street.1);
    for line in [home.locality.unwrap_or(""), home.area.town, home.area.county] {
        if !line.is_empty() {
            out.extend_from_slice(b"\",\"");
            text(out, line);
        }
    }
    put!(
        out,
        "\"],\"postalCode\":\"{}{} {}{}{}\"",
        home.area.letters,
        home.district,
        home.sector,
        home.unit[0] as char,
        home.unit[1] as char
    );
}

fn address_key(out: &mut Vec<u8>, system: &str, value: u64, places: u32) {
    put!(
        out,
        r#"{{"url":"{EXTENSION}AddressKey","extension":[{{"url":"type","valueCoding":{{"system":"{CODES}AddressKeyType","code":"{system}"}}}},{{"url":"value","valueString":""#
    );
    digits(out, value as i64, places);
    out.extend_from_slice(b"\"}]}");
}

/// A landline and a mobile from the numbers that are kept for drama.
fn landline(out: &mut Vec<u8>, draw: &mut Draw) {
    out.extend_from_slice(b"01632960");
    digits(out, draw.below(1_000) as i64, 3);
}

fn mobile(out: &mut Vec<u8>, draw: &mut Draw) {
    out.extend_from_slice(b"07700900");
    digits(out, draw.below(1_000) as i64, 3);
}

/// Letters without accents, lower case.
fn plain(out: &mut Vec<u8>, word: &str) {
    let letters = word.bytes().filter(u8::is_ascii_alphabetic);
    out.extend(letters.map(|byte| byte.to_ascii_lowercase()));
}

/// The practice of a district: the same for all who live there, a handful of practices each.
fn practice(out: &mut Vec<u8>, draw: &mut Draw, home: &Home) {
    let letters = home.area.letters.as_bytes();
    let area = letters.iter().fold(0_u64, |sum, letter| sum * 31 + u64::from(*letter));
    let region = b"ABCDEFGHJKLMNPWY"[(area % 16) as usize];
    out.push(region);
    let code = 80_000 + (area * 97 + u64::from(home.district) * 7 + draw.below(5)) % 9_999;
    digits(out, code as i64, 5);
}

fn pharmacy(out: &mut Vec<u8>, draw: &mut Draw) {
    out.push(b'F');
    for _ in 0..2 {
        out.push(draw.one_of(b"ABCDEFGHJKLMNPQRTVWX"));
    }
    digits(out, draw.below(100) as i64, 2);
}

/// `{"url":…,"valueReference":…}` of an organisation.
fn organisation(out: &mut Vec<u8>, name: &str, code: impl FnOnce(&mut Vec<u8>)) {
    put!(
        out,
        r#"{{"url":"{EXTENSION}{name}","valueReference":{{"identifier":{{"system":"{ODS}","value":""#
    );
    code(out);
    out.extend_from_slice(b"\"}}}");
}

impl Page<'_> {
    fn draw(&self, purpose: Purpose) -> Draw {
        Draw::new(self.seed, self.index, purpose)
    }

    fn age(&self) -> i64 {
        (self.facts.died.unwrap_or(self.as_of) - self.facts.born) * 100 / 36_525
    }

    /// A day since birth, at most so many days ago.
    fn since(&self, draw: &mut Draw, days_max: i64) -> Day {
        let end = self.facts.died.unwrap_or(self.as_of);
        let days = (end - self.facts.born).min(days_max);
        end - draw.between(0, days)
    }

    /// The patient, without the end of the line.
    pub(super) fn patient(&self, out: &mut Vec<u8>) {
        let draw = &mut self.draw(Purpose::Record);
        let number = self.number;
        let (code, shown) = match draw.below(100) {
            0..97 => ("01", "Number present and verified"),
            _ => ("02", "Number present but not traced"),
        };
        put!(
            out,
            r#"{{"resourceType":"Patient","id":"{number}","identifier":[{{"system":"{NHS}","value":"{number}","extension":[{{"url":"{EXTENSION}NHSNumberVerificationStatus","valueCodeableConcept":{{"coding":[{{"system":"{CODES}NHSNumberVerificationStatus","version":"1.0.0","code":"{code}","display":"{shown}"}}]}}}}]}}],"#
        );
        let security = match self.kind {
            Kind::Plain | Kind::NearDuplicate(_) => r#""U","display":"unrestricted""#,
            Kind::Restricted => r#""R","display":"restricted""#,
            Kind::VeryRestricted => r#""V""#,
            Kind::Superseded(_) | Kind::Invalidated => r#""REDACTED","display":"redacted""#,
        };
        put!(
            out,
            r#""meta":{{"versionId":"1","security":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":{security}}}]}},"#
        );
        if let Some(successor) = self.successor {
            put!(
                out,
                r#""link":[{{"type":"replaced-by","other":{{"identifier":{{"system":"{NHS}","value":"{successor}"}}}}}}],"#
            );
        }
        self.names(out, draw);
        self.born_and_died(out, draw);
        self.addresses(out, draw);
        self.telecoms(out, draw);
        self.practices(out, draw);
        self.extensions(out, draw);
        // The last element has no comma behind it.
        if out.last() == Some(&b',') {
            out.pop();
        }
        out.push(b'}');
    }

    fn prefix(&self, draw: &mut Draw) -> &'static str {
        let age = self.age();
        if age >= 25 && draw.chance(250) {
            return draw.one_of(&["Dr", "Dr", "Rev", "Prof"]);
        }
        match self.facts.gender {
            Gender::Male if age < 13 => "Master",
            Gender::Male => "Mr",
            Gender::Female if age < 18 => "Miss",
            Gender::Female => draw.one_of(&["Mrs", "Mrs", "Miss", "Ms"]),
            Gender::Other | Gender::Unknown => "Mx",
        }
    }

    fn family(&self, out: &mut Vec<u8>) {
        text(out, &self.facts.family);
        if let Some(second) = self.facts.second_family {
            out.push(b'-');
            text(out, second);
        }
    }

    fn names(&self, out: &mut Vec<u8>, draw: &mut Draw) {
        let facts = &self.facts;
        let (adult, female) = (self.age() >= 20, facts.gender == Gender::Female);
        let married = (adult && female && draw.chance(4_500)).then(|| facts.born + 7_305 + draw.below(3_000) as i64);
        let married = married.filter(|day| *day < facts.died.unwrap_or(self.as_of));
        let since = married.unwrap_or(facts.born);
        out.extend_from_slice(b"\"name\":[{");
        self.one_name(out, draw, "usual", (since, None), None, true);
        if let Some(day) = married {
            out.extend_from_slice(b"},{");
            let maiden = self.choices.family(draw, facts.origin);
            self.one_name(out, draw, "maiden", (facts.born, Some(day)), Some(maiden), false);
        } else if adult && draw.chance(250) {
            out.extend_from_slice(b"},{");
            let old = self.choices.family(draw, Origin::British);
            let changed = self.since(draw, 5_000);
            self.one_name(out, draw, "old", (facts.born, Some(changed)), Some(old), false);
        }
        let short = names::NICKNAMES.iter().find(|(long, _)| *long == facts.given[0]);
        if let Some((_, short)) = short
            && draw.chance(2_500)
        {
            out.extend_from_slice(b"},{");
            id(out, draw);
            out.extend_from_slice(b"\"use\":\"nickname\",");
            period(out, since, None);
            put!(out, "\"given\":[\"{short}\"],\"family\":\"");
            self.family(out);
            out.push(b'"');
        }
        out.extend_from_slice(b"}],");
    }

    fn one_name(
        &self,
        out: &mut Vec<u8>,
        draw: &mut Draw,
        r#use: &str,
        (start, end): (Day, Option<Day>),
        family: Option<&str>,
        titles: bool,
    ) {
        id(out, draw);
        put!(out, "\"use\":\"{}\",", r#use);
        period(out, start, end);
        out.extend_from_slice(b"\"given\":");
        texts(out, self.facts.given.iter().map(|name| &**name));
        out.extend_from_slice(b",\"family\":\"");
        match family {
            Some(family) => text(out, family),
            None => self.family(out),
        }
        out.push(b'"');
        if titles {
            put!(out, ",\"prefix\":[\"{}\"]", self.prefix(draw));
            if self.age() >= 30 && draw.chance(80) {
                put!(
                    out,
                    ",\"suffix\":[\"{}\"]",
                    draw.one_of(&["MBE", "OBE", "PhD", "BSc", "JP"])
                );
            }
        }
    }

    fn born_and_died(&self, out: &mut Vec<u8>, draw: &mut Draw) {
        let gender = match self.facts.gender {
            Gender::Female => "female",
            Gender::Male => "male",
            Gender::Other => "other",
            Gender::Unknown => "unknown",
        };
        put!(out, "\"gender\":\"{gender}\",\"birthDate\":\"");
        date(out, self.facts.born);
        out.extend_from_slice(b"\",");
        let order = match draw.below(1_000) {
            0..30 => 1 + draw.below(2),
            30..31 => 3,
            31..400 => 1,
            _ => 0,
        };
        if order > 0 {
            put!(out, "\"multipleBirthInteger\":{order},");
        }
        if let Some(died) = self.facts.died {
            out.extend_from_slice(b"\"deceasedDateTime\":\"");
            date(out, died);
            put!(out, "T{:02}:{:02}:00+00:00\",", draw.below(24), draw.below(60));
        }
    }

    fn addresses(&self, out: &mut Vec<u8>, draw: &mut Draw) {
        out.extend_from_slice(b"\"address\":[{");
        id(out, draw);
        period(out, self.since(draw, 9_000), None);
        out.extend_from_slice(b"\"use\":\"home\",");
        home_lines(out, &self.facts.home);
        if draw.chance(6_000) {
            out.extend_from_slice(b",\"extension\":[");
            address_key(out, "PAF", draw.below(100_000_000), 8);
            if draw.chance(7_000) {
                out.push(b',');
                address_key(out, "UPRN", 100_000_000_000 + draw.below(99_999_999_999), 12);
            }
            out.push(b']');
        }
        out.push(b'}');
        if draw.chance(300) {
            out.extend_from_slice(b",{");
            id(out, draw);
            let start = self.since(draw, 400);
            period(out, start, draw.chance(5_000).then_some(start + 300));
            let why = match self.age() {
                18..25 => "Student Accommodation",
                75.. => draw.one_of(&["Respite Care Address", "Convalescence Home"]),
                _ => draw.one_of(&[
                    "Second Home",
                    "Temporary Residence Address",
                    "Holiday Home",
                    "Mobile Home",
                ]),
            };
            put!(out, "\"use\":\"temp\",\"text\":\"{why}\",");
            home_lines(out, &self.choices.home(draw));
            out.push(b'}');
        }
        out.extend_from_slice(b"],");
    }

    fn telecoms(&self, out: &mut Vec<u8>, draw: &mut Draw) {
        let age = self.age();
        let (home, cell, email) = (draw.chance(5_500), draw.chance(7_500), age >= 16 && draw.chance(4_000));
        out.extend_from_slice(b"\"telecom\":[");
        let mut one = |out: &mut Vec<u8>, system: &str, r#use: &str, value: &dyn Fn(&mut Vec<u8>, &mut Draw)| {
            out.push(b'{');
            id(out, draw);
            period(out, self.since(draw, 3_000), None);
            put!(out, "\"system\":\"{system}\",\"value\":\"");
            value(out, draw);
            put!(out, "\",\"use\":\"{}\"}},", r#use);
        };
        if home {
            one(out, "phone", "home", &landline);
        }
        if cell {
            one(out, "phone", "mobile", &mobile);
        }
        if email {
            one(out, "email", "home", &|out, draw| {
                plain(out, &self.facts.given[0]);
                out.push(b'.');
                plain(out, &self.facts.family);
                put!(out, "{}@example.com", draw.below(10_000));
            });
        }
        close_list(out);
        if draw.chance(1_500) {
            out.extend_from_slice(b"\"contact\":[{");
            id(out, draw);
            period(out, self.since(draw, 3_000), None);
            put!(
                out,
                r#""relationship":[{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/v2-0131","code":"C","display":"Emergency Contact"}}]}}],"telecom":[{{"system":"phone","value":""#
            );
            mobile(out, draw);
            out.extend_from_slice(b"\"}]}],");
        }
    }

    fn practices(&self, out: &mut Vec<u8>, draw: &mut Draw) {
        if draw.chance(9_600) {
            out.extend_from_slice(b"\"generalPractitioner\":[{");
            id(out, draw);
            put!(
                out,
                r#""type":"Organization","identifier":{{"system":"{ODS}","value":""#
            );
            practice(out, draw, &self.facts.home);
            out.extend_from_slice(b"\",");
            period(out, self.since(draw, 9_000), self.facts.died);
            out.pop();
            out.extend_from_slice(b"}}],");
        }
    }

    fn extensions(&self, out: &mut Vec<u8>, draw: &mut Draw) {
        out.extend_from_slice(b"\"extension\":[");
        if draw.chance(6_000) {
            organisation(out, "NominatedPharmacy", |out| pharmacy(out, draw));
            out.push(b',');
        }
        if draw.chance(300) {
            organisation(out, "PreferredDispenserOrganization", |out| {
                practice(out, draw, &self.facts.home);
            });
            out.push(b',');
        }
        if draw.chance(100) {
            organisation(out, "MedicalApplianceSupplier", |out| pharmacy(out, draw));
            out.push(b',');
        }
        if let Some(died) = self.facts.died {
            let (code, shown) = match draw.below(100) {
                0..95 => ("2", "Formal - death notice received from Registrar of Deaths"),
                _ => (
                    "1",
                    "Informal - death notice received via an update from a local NHS Organisation such as GP or Trust",
                ),
            };
            put!(
                out,
                r#"{{"url":"{EXTENSION}DeathNotificationStatus","extension":[{{"url":"deathNotificationStatus","valueCodeableConcept":{{"coding":[{{"system":"{CODES}DeathNotificationStatus","version":"1.0.0","code":"{code}","display":"{shown}"}}]}}}},{{"url":"systemEffectiveDate","valueDateTime":""#
            );
            date(out, (died + draw.between(1, 9)).min(self.as_of));
            out.extend_from_slice(b"T00:00:00+00:00\"}]},");
        }
        let speaks_other = match self.facts.origin {
            Origin::British | Origin::Gaelic => draw.chance(60),
            Origin::Asian | Origin::East | Origin::African | Origin::Elsewhere => draw.chance(2_500),
        };
        if speaks_other {
            self.communication(out, draw);
            out.push(b',');
        }
        if draw.chance(400) {
            preference(out, draw);
            out.push(b',');
        }
        if draw.chance(7_000) {
            self.birth_place(out, draw);
            out.push(b',');
        }
        if draw.chance(60) && self.facts.died.is_none() {
            let (code, shown) = draw.one_of(&[
                ("SCT", "Transferred to Scotland"),
                ("NIT", "Transferred to Northern Ireland"),
                ("EMB", "Embarkation"),
                ("ORR", "Other reason"),
            ]);
            put!(
                out,
                r#"{{"url":"https://fhir.nhs.uk/StructureDefinition/Extension-PDS-RemovalFromRegistration","extension":[{{"url":"removalFromRegistrationCode","valueCodeableConcept":{{"coding":[{{"system":"https://fhir.nhs.uk/CodeSystem/PDS-RemovalReasonExitCode","code":"{code}","display":"{shown}"}}]}}}},{{"url":"effectiveTime","valuePeriod":{{"start":""#
            );
            date(out, self.since(draw, 2_000));
            out.extend_from_slice(b"T00:00:00+00:00\"}}]},");
        }
        close_list(out);
    }

    fn communication(&self, out: &mut Vec<u8>, draw: &mut Draw) {
        let (code, shown) = self.choices.language.choose(draw);
        put!(
            out,
            r#"{{"url":"{EXTENSION}NHSCommunication","extension":[{{"url":"language","valueCodeableConcept":{{"coding":[{{"system":"{CODES}HumanLanguage","version":"1.0.0","code":"{code}","display":"{shown}"}}]}}}},{{"url":"interpreterRequired","valueBoolean":{}}}]}}"#,
            draw.chance(6_000)
        );
    }

    fn birth_place(&self, out: &mut Vec<u8>, draw: &mut Draw) {
        let abroad = match self.facts.origin {
            Origin::British | Origin::Gaelic => None,
            Origin::Asian => Some(draw.one_of(&["IND", "PAK", "BGD", "GBR"])),
            Origin::East => Some(draw.one_of(&["POL", "ROU", "LTU", "GBR"])),
            Origin::African => Some(draw.one_of(&["NGA", "GHA", "SOM", "ZWE", "GBR"])),
            Origin::Elsewhere => Some(draw.one_of(&["CHN", "PRT", "ESP", "FRA", "GBR"])),
        };
        put!(
            out,
            r#"{{"url":"http://hl7.org/fhir/StructureDefinition/patient-birthPlace","valueAddress":{{"#
        );
        if abroad.is_none_or(|country| country == "GBR") {
            let area = &super::places::AREAS[self.choices.area.choose(draw)];
            put!(out, "\"city\":\"{}\",", area.town);
            if !area.county.is_empty() {
                put!(out, "\"district\":\"{}\",", area.county);
            }
        }
        put!(out, "\"country\":\"{}\"}}}}", abroad.unwrap_or("GBR"));
    }

    /// The related people, a line each; for one person in ten.
    pub(super) fn related(&self, out: &mut Vec<u8>) {
        let draw = &mut self.draw(Purpose::Related);
        let redacted = matches!(self.kind, Kind::Superseded(_) | Kind::Invalidated);
        let people = match draw.below(1_000) {
            0..75 => 1,
            75..97 => 2,
            97..100 => 3,
            _ => 0,
        };
        for rank in 1..=people {
            if !redacted {
                self.one_related(out, draw, rank);
            }
        }
    }

    fn one_related(&self, out: &mut Vec<u8>, draw: &mut Draw, rank: u32) {
        out.extend_from_slice(b"{\"resourceType\":\"RelatedPerson\",");
        id(out, draw);
        put!(
            out,
            r#""patient":{{"identifier":{{"system":"{NHS}","value":"{}"}}}},"active":true,"#,
            self.number
        );
        let child = self.age() < 16;
        period(out, self.since(draw, 4_000), None);
        let gender = draw.one_of(&[Gender::Female, Gender::Male]);
        let born = self.facts.born - if child { 10_000 } else { 0 };
        let given = self.choices.given(draw, self.facts.origin, gender, born);
        put!(
            out,
            "\"name\":[{{\"use\":\"usual\",\"given\":[\"{given}\"],\"family\":\""
        );
        match draw.chance(6_500) {
            true => self.family(out),
            false => text(out, self.choices.family(draw, self.facts.origin)),
        }
        let title = if gender == Gender::Male { "Mr" } else { "Mrs" };
        put!(out, "\",\"prefix\":[\"{title}\"]}}],");
        let (code, shown) = match (child, gender) {
            (true, Gender::Male) => ("FTH", "father"),
            (true, _) => ("MTH", "mother"),
            (false, _) => draw.one_of(&[
                ("SPS", "spouse"),
                ("SPS", "spouse"),
                ("DOMPART", "domestic partner"),
                ("CHILD", "child"),
                ("SIS", "sister"),
                ("BRO", "brother"),
                ("FAMMEMB", "family member"),
            ]),
        };
        let types = "http://hl7.org/fhir/ValueSet/relatedperson-relationshiptype";
        let roles = "https://fhir.nhs.uk/R4/CodeSystem/UKCore-AdditionalRelatedPersonRole";
        put!(
            out,
            r#""relationship":[{{"coding":[{{"system":"{roles}","code":"Personal","display":"Personal relationship with the patient"}},{{"system":"{types}","code":"{code}","display":"{shown}"}}"#
        );
        if rank == 1 && draw.chance(6_000) {
            put!(out, r#",{{"system":"{types}","code":"N","display":"Next-of-Kin"}}"#);
        }
        out.extend_from_slice(b"]}],\"telecom\":[{\"system\":\"phone\",\"value\":\"");
        mobile(out, draw);
        out.extend_from_slice(b"\",\"use\":\"mobile\"}],\"address\":[{\"use\":\"home\",");
        match draw.chance(7_000) {
            true => home_lines(out, &self.facts.home),
            false => home_lines(out, &self.choices.home(draw)),
        }
        out.extend_from_slice(b"}],\"extension\":[");
        let extension = "https://fhir.nhs.uk/R4/StructureDefinition/Extension-UKCore-";
        if draw.chance(2_000) {
            put!(
                out,
                r#"{{"url":"{extension}CopyCorrespondenceIndicator","valueBoolean":true}},"#
            );
        }
        put!(
            out,
            r#"{{"url":"{extension}ContactRank","valuePositiveInt":{rank}}}]}}"#
        );
        out.push(b'\n');
    }

    /// The coverage, a line, for one person in seventy.
    pub(super) fn coverage(&self, out: &mut Vec<u8>) {
        let draw = &mut self.draw(Purpose::Coverage);
        let redacted = matches!(self.kind, Kind::Superseded(_) | Kind::Invalidated);
        if redacted || !draw.chance(140) {
            return;
        }
        let (code, shown) = draw.one_of(&COUNTRIES);
        put!(
            out,
            r#"{{"resourceType":"Coverage","status":"active","subscriber":{{"identifier":{{"system":"{NHS}","value":"{}"}}}},"identifier":[{{"value":"80{:018}","assigner":{{"identifier":{{"system":"urn:iso:std:iso:3166","value":"{code}"}},"display":"{shown}"}}}}],"payor":[{{"identifier":{{"value":"{:06}{}"}}}}],"beneficiary":{{"identifier":{{"value":"{:06}{}"}}}},"period":{{"end":""#,
            self.number,
            draw.below(1_000_000_000_000_000_000),
            draw.below(1_000_000),
            code,
            draw.below(1_000_000),
            draw.one_of(&["ABC", "KLM", "XYZ"]),
        );
        date(out, self.as_of + draw.between(30, 1_800));
        out.extend_from_slice(b"\"}}\n");
    }
}

fn preference(out: &mut Vec<u8>, draw: &mut Draw) {
    put!(out, r#"{{"url":"{EXTENSION}ContactPreference","extension":["#);
    if draw.chance(5_000) {
        let (code, shown) = draw.one_of(&[("11", "Large print"), ("12", "Braille"), ("13", "Audio tape")]);
        put!(
            out,
            r#"{{"url":"PreferredWrittenCommunicationFormat","valueCodeableConcept":{{"coding":[{{"system":"{CODES}PreferredWrittenCommunicationFormat","code":"{code}","display":"{shown}"}}]}}}},"#
        );
    }
    let (code, shown) = draw.one_of(&[
        ("1", "Letter"),
        ("3", "Telephone"),
        ("4", "E-mail"),
        ("5", "Minicom (Textphone)"),
        ("7", "Sign language"),
    ]);
    put!(
        out,
        r#"{{"url":"PreferredContactMethod","valueCodeableConcept":{{"coding":[{{"system":"{CODES}PreferredContactMethod","code":"{code}","display":"{shown}"}}]}}}}"#
    );
    if draw.chance(4_000) {
        let times = draw.one_of(&["Not after 7pm", "Mornings only", "Weekdays 9 to 5", "Not on Fridays"]);
        put!(out, r#",{{"url":"PreferredContactTimes","valueString":"{times}"}}"#);
    }
    out.extend_from_slice(b"]}");
}

/// Ends a list whose items each have a comma behind them; takes an empty one back, with its key.
fn close_list(out: &mut Vec<u8>) {
    if out.last() == Some(&b',') {
        out.pop();
        out.extend_from_slice(b"],");
        return;
    }
    let key = out.iter().rposition(|byte| *byte == b',').map_or(0, |at| at + 1);
    out.truncate(key);
}
