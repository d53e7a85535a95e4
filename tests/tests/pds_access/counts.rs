//! What a search by place counts does not tell that somebody restricted would have matched.

use crate::people::{BIRTH, nhs_number, plain};
use crate::{ALONE, World};
use serde_json::Value;
use vertebra_tests::pds::Client;

/// Open people at the one place.
const OPEN: u32 = 50;
/// Open people of the same name elsewhere: with them a search compares nearly as many cards as it may.
const ELSEWHERE: u32 = 1_940;
/// Restricted people at the one place.
const RESTRICTED: u32 = 300;

const FAMILY: &str = "Countwell";
const POSTCODE: &str = "ZE5 9AA";
const PRACTICE: &str = "Z5C41";

fn population(with_restricted: bool) -> Vec<Value> {
    let mut number = 945_000_000;
    let mut next = || {
        let made = nhs_number(number);
        number = made[..9].parse::<u32>().expect("nine digits") + 1;
        made
    };
    let mut people = Vec::new();
    for _ in 0..OPEN {
        people.push(plain(&next(), "U", FAMILY, "Augusta", POSTCODE, PRACTICE));
    }
    for _ in 0..ELSEWHERE {
        people.push(plain(&next(), "U", FAMILY, "Augusta", "ZE6 9AA", "Z6C41"));
    }
    for at in 0..RESTRICTED {
        let security = if at % 2 == 0 { "R" } else { "V" };
        let made = plain(&next(), security, FAMILY, "Augusta", POSTCODE, PRACTICE);
        if with_restricted {
            people.push(made);
        }
    }
    people
}

/// Searches by the place, some with fewer matches than are too many and some with more.
fn searches() -> Vec<Vec<(&'static str, &'static str)>> {
    let names = [("family", FAMILY), ("birthdate", BIRTH)];
    let years = [("birthdate", "ge1960-01-01"), ("birthdate", "le1980-01-01")];
    let wild = [("family", "Coun*"), ("birthdate", BIRTH)];
    let fuzzy = [
        ("family", FAMILY),
        ("birthdate", BIRTH),
        ("gender", "female"),
        ("address-postalcode", POSTCODE),
        ("_fuzzy-match", "true"),
    ];
    let mut all = Vec::new();
    for base in [names, wild] {
        for place in [
            vec![("address-postalcode", POSTCODE)],
            vec![("address-postcode", "ze59aa")],
            vec![("address-postalcode", "ZE5*")],
            vec![("general-practitioner", PRACTICE)],
            vec![("address-postalcode", POSTCODE), ("general-practitioner", PRACTICE)],
            vec![("address-postalcode", POSTCODE), ("_history", "true")],
            vec![("address-postalcode", "ZE7 9AA")],
            vec![("general-practitioner", "Z7C41")],
        ] {
            for results in ["1", "49", "50"] {
                let mut search = base.to_vec();
                search.extend(place.iter().copied());
                search.push(("_max-results", results));
                all.push(search);
            }
        }
    }
    for place in [("address-postalcode", POSTCODE), ("general-practitioner", PRACTICE)] {
        let mut search = vec![("family", FAMILY), place];
        search.extend(years);
        all.push(search);
    }
    for results in ["49", "50"] {
        let mut search = fuzzy.to_vec();
        search.push(("_max-results", results));
        all.push(search);
    }
    all
}

/// What each search is told, without the time.
async fn told(client: &mut Client) -> Vec<(u16, String, Vec<String>, Value)> {
    let mut all = Vec::new();
    for search in searches() {
        let reply = client.search(&search).await;
        let ids = reply.ids().into_iter().map(str::to_owned).collect();
        let total = reply.json["total"].clone();
        all.push((reply.status(), reply.code().to_owned(), ids, total));
    }
    all
}

#[tokio::test]
async fn a_search_by_place_counts_the_same_with_and_without_restricted_people_there() {
    let _alone = ALONE.lock().await;
    let mut answers = Vec::new();
    for with_restricted in [true, false] {
        let world = World::start("pds-counts", &[]);
        world.import(&population(with_restricted));
        let mut worker = Client::worker(&world.node);
        let mut application = Client::application(&world.node).await;
        let named = worker.search(&[("family", FAMILY), ("birthdate", BIRTH)]).await;
        assert_eq!(named.code(), "TOO_MANY_MATCHES", "the population is there");
        let single = application
            .search(&[
                ("family", FAMILY),
                ("birthdate", BIRTH),
                ("address-postalcode", POSTCODE),
            ])
            .await;
        let single = (single.status(), single.code().to_owned(), single.json["total"].clone());
        answers.push((told(&mut worker).await, single));
    }
    let (with, without) = (&answers[0], &answers[1]);
    for (search, (one, other)) in searches().iter().zip(with.0.iter().zip(&without.0)) {
        assert_eq!(one, other, "{search:?}");
    }
    assert_eq!(with.1, without.1, "an application's search");
    let whole = with
        .0
        .iter()
        .filter(|(_, _, ids, _)| ids.len() == OPEN as usize)
        .count();
    let too_many = with
        .0
        .iter()
        .filter(|(_, code, _, _)| code == "TOO_MANY_MATCHES")
        .count();
    assert!(
        whole >= 6 && too_many >= 12,
        "both sides of the limit are seen: {whole}, {too_many}"
    );
}
