//! People in a real ledger, and searches among them.

mod cards;
mod creating;
mod measure;
mod normal;
mod property;
mod query;
mod searching;

use super::*;
use crate::base::NhsNumber;
use crate::services::pds::Security;
use crate::services::pds::command::{Command, Guard, Outcome, PutPatient};
use crate::services::pds::record;
use crate::services::pds::state;
pub(super) use crate::services::pds::state::tests::{World, number};
use jiff::civil::{Date, date};
use serde_json::{Value, json};

/// The day on which cards are made.
pub(super) const TODAY: Date = date(2026, 11, 26);

/// A record as it is put.
pub(super) struct Person {
    pub number: NhsNumber,
    pub patient: Value,
    pub security: Security,
    pub superseded_by: Option<NhsNumber>,
}

/// An unrestricted record; `name` is the family name and the given names.
pub(super) fn person(nine: u32, names: &[&str], gender: &str, birth: &str) -> Person {
    Person {
        number: number(900_000_000 + nine * 100),
        patient: json!({
            "name": [{"use": "usual", "family": names[0], "given": names[1..]}],
            "gender": gender, "birthDate": birth,
        }),
        security: Security::Unrestricted,
        superseded_by: None,
    }
}

impl Person {
    pub fn with(mut self, element: &str, value: Value) -> Person {
        self.patient[element] = value;
        self
    }

    pub fn secured(mut self, security: Security) -> Person {
        self.security = security;
        self
    }

    pub fn name(mut self, name: Value) -> Person {
        self.patient["name"].as_array_mut().expect("a list").push(name);
        self
    }

    pub fn at(self, postcode: &str) -> Person {
        self.with("address", json!([{"use": "home", "postalCode": postcode}]))
    }

    pub fn reached(self, email: &str, phone: &str) -> Person {
        let telecom = json!([{"system": "email", "value": email}, {"system": "phone", "value": phone}]);
        self.with("telecom", telecom)
    }

    pub fn practice(self, code: &str) -> Person {
        self.with("generalPractitioner", json!([{"identifier": {"value": code}}]))
    }

    pub fn card(&self) -> Card {
        Card::of(&self.patient, self.security, TODAY)
    }
}

/// Stores a person as the next version of the record; gives what the state said.
pub(super) fn put_guarded(world: &mut World, person: &Person, guard: Option<Guard>) -> Outcome {
    let kept = record::keep(person.number, person.security, person.superseded_by, &person.patient);
    let card = person.card();
    let put = PutPatient {
        number: person.number,
        follows: state::record(&world.ledger, person.number).map_or(0, |record| record.version),
        once: None,
        security: person.security,
        superseded_by: person.superseded_by,
        digest: kept.digest,
        open_bytes: kept.open_bytes(),
        place_bytes: kept.place_bytes,
        card: card.encode(),
        keys: card.keys(),
        guard,
    };
    world.apply(&Command::PutPatient(Box::new(put)), &kept.bytes)
}

pub(super) fn put(world: &mut World, person: &Person) {
    let stored = put_guarded(world, person, None);
    assert!(matches!(stored, Outcome::Stored { .. }), "{stored:?}");
}

pub(super) fn world(people: &[Person]) -> World {
    let mut world = World::new();
    people.iter().for_each(|person| put(&mut world, person));
    world
}

/// A query string as pairs.
pub(super) fn pairs(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

pub(super) fn parsed(query: &str) -> Search {
    Search::parse(&pairs(query), Mode::Worker).unwrap_or_else(|invalid| panic!("{query}: {invalid}"))
}

/// What a search finds, as numbers.
pub(super) fn found(world: &World, query: &str) -> Vec<NhsNumber> {
    let matches = search(&world.ledger, &parsed(query)).unwrap_or_else(|_| panic!("{query}: too many"));
    matches.into_iter().map(|found| found.number).collect()
}

/// The score of the one record that a search finds.
pub(super) fn score(world: &World, query: &str) -> u16 {
    match search(&world.ledger, &parsed(query)).expect("not too many")[..] {
        [found] => found.score.ten_thousandths(),
        ref other => panic!("{query}: {} found", other.len()),
    }
}
