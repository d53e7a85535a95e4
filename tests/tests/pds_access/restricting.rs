//! A restriction takes effect with its answer; and creating a patient tells nothing of a restricted one.

use crate::people::{BIRTH, Planted, new_patient};
use crate::world;
use vertebra_tests::pds::Client;

/// Forms of search by a place; each finds the patient while they are open.
fn by_place<'a>(person: &'a Planted, postcode: &'a str) -> Vec<Vec<(&'a str, &'a str)>> {
    let names = person.named();
    let also = |more: &[(&'a str, &'a str)]| {
        let mut all = names.clone();
        all.extend_from_slice(more);
        all
    };
    vec![
        also(&[("address-postalcode", postcode), ("_history", "true")]),
        also(&[("address-postcode", postcode), ("_history", "true")]),
        also(&[
            ("address-postalcode", postcode),
            ("gender", "female"),
            ("_fuzzy-match", "true"),
        ]),
        vec![
            ("given", person.given.as_str()),
            ("birthdate", BIRTH),
            ("gender", "female"),
            ("address-postalcode", postcode),
            ("_fuzzy-match", "true"),
        ],
        vec![
            ("family", person.family.as_str()),
            ("birthdate", "ge1970-01-01"),
            ("birthdate", "le1972-01-01"),
            ("address-postalcode", postcode),
            ("_history", "true"),
        ],
    ]
}

async fn found_by(client: &mut Client, searches: &[Vec<(&str, &str)>]) -> Vec<bool> {
    let mut found = Vec::new();
    for search in searches {
        let reply = client.search(search).await;
        reply.ok(200);
        found.push(!reply.ids().is_empty());
    }
    found
}

#[tokio::test]
async fn a_restriction_takes_effect_at_once_on_every_way_to_a_record_and_so_does_its_end() {
    let world = world();
    let person = Planted::new("D1", "U");
    world.import(&person.resources());
    let mut worker = Client::worker(&world.node);
    let wide = format!("{}*", &person.postcode[..4]);
    let old = by_place(&person, &person.old_postcode);
    let mut now = by_place(&person, &person.postcode);
    for place in [
        ("address-postalcode", wide.as_str()),
        ("general-practitioner", &person.practice),
    ] {
        let mut search = person.named();
        search.push(place);
        now.push(search);
    }
    assert_eq!(found_by(&mut worker, &now).await, [true; 7], "open, by where they are");
    assert_eq!(found_by(&mut worker, &old).await, [true; 5], "open, by where they were");
    assert!(
        worker
            .read(&person.number)
            .await
            .answer
            .text()
            .contains(&person.postcode)
    );
    assert_eq!(worker.related(&person.number).await.ids().len(), 1);

    for very in [false, true] {
        let mut arguments = vec!["patient", "restrict", person.number.as_str()];
        arguments.extend(very.then_some("--very"));
        world.told(&arguments);
        assert_eq!(
            found_by(&mut worker, &now).await,
            [false; 7],
            "very {very}, by where they are"
        );
        assert_eq!(
            found_by(&mut worker, &old).await,
            [false; 5],
            "very {very}, by where they were"
        );
        let named = worker.search(&person.named()).await;
        assert_eq!(
            named.ids().is_empty(),
            very,
            "a restricted record is found by name, a very restricted one is not"
        );
        let read = worker.read(&person.number).await;
        read.ok(200);
        for reply in [&named, &read, &worker.related(&person.number).await] {
            let told = reply.answer.text();
            for value in person.places() {
                assert!(!told.contains(&value), "very {very}: {value} in {told}");
            }
        }
        assert!(worker.related(&person.number).await.ids().is_empty());
    }

    world.told(&["patient", "open", &person.number]);
    assert_eq!(
        found_by(&mut worker, &now).await,
        [true; 7],
        "open again, by where they are"
    );
    assert_eq!(
        found_by(&mut worker, &old).await,
        [true; 5],
        "open again, by where they were"
    );
    let read = worker.read(&person.number).await;
    for value in [&person.postcode, &person.phone, &person.practice] {
        assert!(read.answer.text().contains(value.as_str()), "nothing was lost: {value}");
    }
    assert_eq!(worker.related(&person.number).await.ids().len(), 1);
}

#[tokio::test]
async fn a_create_is_answered_the_same_whether_or_not_it_guesses_where_a_restricted_patient_is() {
    let world = world();
    // Two of a kind, so that what one guess creates is no match for the other.
    let (right, wrong) = (Planted::new("E1", "R"), Planted::new("E2", "R"));
    let very = Planted::new("E3", "V");
    world.import(&[right.resources(), wrong.resources(), very.resources()].concat());
    let mut worker = Client::worker(&world.node);
    let nowhere = ("ZE9 7XX", "07700900998");
    for (name, family, given) in [
        // Letters in the middle tell the two apart; the rest is spelt the same for both.
        ("the same names", "Hidden{}feather", "Ottoline{}"),
        ("names that sound alike", "Hidden{}fether", "Otoline{}"),
        ("another family name", "Married{}name", "Ottoline{}"),
        ("another given name", "Hidden{}feather", "Zebedee{}"),
    ] {
        let mut told = Vec::new();
        for (person, letters, place) in [
            (&right, "eb", (right.postcode.as_str(), right.phone.as_str())),
            (&wrong, "ec", nowhere),
        ] {
            let (family, given) = (family.replace("{}", letters), given.replace("{}", letters));
            let reply = worker.create(&new_patient(&family, &[&given], place.0, place.1)).await;
            assert!(
                !reply.answer.text().contains("planted"),
                "{name}: {}",
                reply.answer.text()
            );
            let names_them = reply.diagnostics().contains(&person.number);
            told.push((reply.status(), reply.code().to_owned(), names_them));
        }
        assert_eq!(
            told[0], told[1],
            "{name}: with their postcode and telephone number, and without"
        );
    }
    let request = new_patient(&very.family, &[&very.given], &very.postcode, &very.phone);
    let reply = worker.create(&request).await;
    reply.ok(201);
    assert_ne!(reply.id(), very.number, "a very restricted record is no match at all");
}
