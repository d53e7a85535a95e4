//! Random people and random searches: the planner agrees with comparing everybody.

use super::*;
use crate::services::pds::matching::compare::compare;
use crate::services::pds::matching::planner::{self, Shape};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};

const FAMILIES: [&str; 10] = [
    "Smith",
    "Smythe",
    "Smith-Jones",
    "Jones",
    "O'Reilly",
    "Thomas",
    "Adam",
    "Kociński",
    "van der Berg",
    "Jane",
];
const GIVENS: [&str; 10] = [
    "Jane",
    "Jayne",
    "J",
    "Adam",
    "Thomas",
    "John Paul",
    "John",
    "Paul",
    "Ann",
    "Anne",
];
const DAYS: [&str; 6] = ["2010-10-22", "2010-10-23", "2010-11-30", "1999-09-09", "2010", "x"];
const POSTCODES: [&str; 4] = ["LS1 6AE", "LS1 6AB", "DN17 4AA", "DN16"];
const PRACTICES: [&str; 2] = ["Y12345", "A20047"];
const GENDERS: [&str; 4] = ["male", "female", "other", "unknown"];
const PHONES: [&str; 3] = ["0111", "0222", "+44 111"];
const EMAILS: [&str; 2] = ["a@example.com", "b@example.com"];

fn one_of<'a>(rng: &mut StdRng, from: &[&'a str]) -> &'a str {
    from[rng.random_range(0..from.len())]
}

fn anybody(rng: &mut StdRng, nine: u32) -> Person {
    let givens: Vec<&str> = (0..rng.random_range(0..3)).map(|_| one_of(rng, &GIVENS)).collect();
    let names = [&[one_of(rng, &FAMILIES)][..], &givens].concat();
    let gender = one_of(rng, &GENDERS[..2]);
    let day = one_of(rng, &DAYS);
    let mut person = person(nine, &names, gender, day);
    if rng.random_bool(0.4) {
        let used = one_of(rng, &["old", "maiden", "nickname", "temp"]);
        let name = json!({"use": used, "family": one_of(rng, &FAMILIES), "given": [one_of(rng, &GIVENS)]});
        person = person.name(name);
    }
    let ended = json!({"end": "2020-01-01"});
    let aged = |rng: &mut StdRng| {
        if rng.random_bool(0.3) {
            ended.clone()
        } else {
            Value::Null
        }
    };
    let addresses: Vec<Value> = (0..rng.random_range(0..3))
        .map(|_| {
            let postcode = one_of(rng, &POSTCODES);
            json!({"use": one_of(rng, &["home", "temp"]), "postalCode": postcode, "period": aged(rng)})
        })
        .collect();
    let mut telecoms: Vec<Value> = Vec::new();
    for (system, values) in [("phone", &PHONES[..]), ("email", &EMAILS[..])] {
        for _ in 0..rng.random_range(0..3) {
            telecoms.push(json!({"system": system, "value": one_of(rng, values), "period": aged(rng)}));
        }
    }
    person = person
        .with("address", json!(addresses))
        .with("telecom", json!(telecoms));
    if rng.random_bool(0.7) {
        person = person.practice(one_of(rng, &PRACTICES));
    }
    if rng.random_bool(0.3) {
        person = person.with("deceasedDateTime", json!("2020-01-01"));
    }
    person.security = match rng.random_range(0..10) {
        0 | 1 => Security::Restricted,
        2 => Security::VeryRestricted,
        3 => Security::Redacted,
        _ => Security::Unrestricted,
    };
    if rng.random_bool(0.1) {
        person.superseded_by = Some(number(900_000_000 + rng.random_range(0..40) * 100));
    }
    person
}

fn any_search(rng: &mut StdRng) -> String {
    let mut asked: Vec<(&str, String)> = Vec::new();
    let wild = |rng: &mut StdRng, text: &str| match rng.random_range(0..4) {
        0 => format!("{}*", text.chars().take(rng.random_range(2..4)).collect::<String>()),
        _ => text.to_owned(),
    };
    if rng.random_bool(0.9) {
        let family = one_of(rng, &FAMILIES);
        asked.push(("family", wild(rng, family)));
    }
    for _ in 0..[0, 0, 1, 1, 2][rng.random_range(0..5)] {
        let given = one_of(rng, &GIVENS);
        let given = if given.len() < 3 {
            given.to_owned()
        } else {
            wild(rng, given)
        };
        asked.push(("given", given));
    }
    let day = one_of(rng, &DAYS[..4]);
    match rng.random_range(0..5) {
        0 => asked.push(("birthdate", format!("ge{day}"))),
        1 => asked.push(("birthdate", format!("le{day}"))),
        2 => asked.extend([
            ("birthdate", "ge2010-10-20".to_owned()),
            ("birthdate", "le2010-11-20".to_owned()),
        ]),
        _ => asked.push(("birthdate", format!("eq{day}"))),
    }
    let mut maybe = |rng: &mut StdRng, likely: f64, parameter, from: &[&str]| {
        if rng.random_bool(likely) {
            asked.push((parameter, one_of(rng, from).to_owned()));
        }
    };
    maybe(rng, 0.4, "gender", &GENDERS[..2]);
    maybe(
        rng,
        0.2,
        "address-postalcode",
        &["LS16AE", "LS1 6AB", "LS*", "DN1*A", "DN16"],
    );
    maybe(rng, 0.2, "general-practitioner", &PRACTICES);
    maybe(rng, 0.15, "phone", &PHONES);
    maybe(rng, 0.15, "email", &EMAILS);
    maybe(rng, 0.1, "death-date", &["2020-01-01", "ge2020-01-02"]);
    maybe(rng, 0.3, "_history", &["true", "false"]);
    maybe(rng, 0.4, "_fuzzy-match", &["true"]);
    maybe(rng, 0.1, "_exact-match", &["true"]);
    maybe(rng, 0.2, "_max-results", &["1", "3", "5"]);
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(asked)
        .finish()
}

/// What comparing everybody gives.
fn naive(world: &World, search: &Search) -> Result<Vec<Match>, TooMany> {
    let mut best: BTreeMap<NhsNumber, Score> = BTreeMap::new();
    let mut everybody = Vec::new();
    state::for_each_record(&world.ledger, None, &mut |number, _| {
        everybody.push(number);
        true
    });
    for number in everybody {
        let card = planner::card_of(&world.ledger, number).expect("every record has a card");
        let standing = planner::standing(&world.ledger, search, number);
        if let (Some(score), Some(standing)) = (compare(search, &card), standing) {
            let kept = best.entry(standing).or_insert(score);
            *kept = score.max(*kept);
        }
    }
    if best.len() > search.results_max {
        return Err(TooMany);
    }
    let mut matches: Vec<Match> = best
        .into_iter()
        .map(|(number, score)| Match { number, score })
        .collect();
    matches.sort_by(|one, other| other.score.cmp(&one.score).then(one.number.cmp(&other.number)));
    Ok(matches)
}

#[test]
fn the_planner_finds_exactly_what_comparing_everybody_finds() {
    let seed: u64 = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut shapes: BTreeSet<String> = BTreeSet::new();
    let (mut some, mut over) = (0, 0);
    for _ in 0..12 {
        let mut world = World::new();
        for _ in 0..60 {
            let nine = rng.random_range(0..40);
            put(&mut world, &anybody(&mut rng, nine));
        }
        for _ in 0..900 {
            let query = any_search(&mut rng);
            let Ok(asked) = Search::parse(&pairs(&query), Mode::Worker) else {
                continue;
            };
            let shape = planner::shape(&asked);
            let days = asked.birth.count() as usize;
            let found = search(&world.ledger, &asked);
            if shape == Shape::BirthCodes
                && days * planner::SEEK_ENTRIES * 3 > planner::ENTRIES_MAX
                && found == Err(TooMany)
            {
                continue;
            }
            shapes.insert(format!("{shape:?}"));
            some += usize::from(found.as_ref().is_ok_and(|found| !found.is_empty()));
            over += usize::from(found.is_err());
            assert_eq!(found, naive(&world, &asked), "seed {seed}: {query}");
        }
    }
    assert_eq!(shapes.len(), 6, "seed {seed}: {shapes:?}");
    assert!(
        some > 200 && over > 0,
        "seed {seed}: {some} found something, {over} too many"
    );
}

#[test]
fn records_that_are_not_unrestricted_change_nothing_about_a_search_by_place() {
    let seed: u64 = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut compared = 0;
    for _ in 0..10 {
        let (mut with, mut without) = (World::new(), World::new());
        for nine in 0..60 {
            let mut person = anybody(&mut rng, nine);
            person.superseded_by = None;
            put(&mut with, &person);
            if person.security == Security::Unrestricted {
                put(&mut without, &person);
            }
        }
        for _ in 0..400 {
            let query = any_search(&mut rng);
            let Ok(asked) = Search::parse(&pairs(&query), Mode::Worker) else {
                continue;
            };
            if asked.asks_place() {
                compared += 1;
                let (one, other) = (search(&with.ledger, &asked), search(&without.ledger, &asked));
                assert_eq!(one, other, "seed {seed}: {query}");
            }
        }
    }
    assert!(compared > 300, "seed {seed}: {compared}");
}
