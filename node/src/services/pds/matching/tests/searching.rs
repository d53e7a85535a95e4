use super::*;
use crate::services::pds::matching::rules::*;

/// The people of the specification's sandbox. It wants two for `Sm*` and one for a fuzzy `Smith`, so the other one must
/// not sound like her.
fn sandbox() -> World {
    let ended = json!({"start": "2019-01-01", "end": "2022-12-31"});
    world(&[
        person(0, &["Smith", "Jane"], "female", "2010-10-22")
            .at("LS1 6AE")
            .practice("Y12345")
            .with(
                "telecom",
                json!([
                    {"system": "phone", "value": "01632960587", "period": {"end": "2025-12-31"}},
                    {"system": "email", "value": "jane.smith@example.com", "period": ended},
                ]),
            ),
        person(1, &["Smedley", "Jayne"], "female", "2010-10-22").reached("jayne@example.com", "01632960588"),
        person(2, &["Smythe", "Janet"], "female", "2005-06-16")
            .at("LS1 6AE")
            .practice("Y12345")
            .reached("janet.smythe@example.com", "01632960587")
            .secured(Security::Restricted),
        person(3, &["Smith", "John Paul", "James"], "male", "2010-10-22")
            .reached("johnp.smith@example.com", "01632960587"),
    ])
}

#[test]
fn the_scenarios_of_the_specification_behave_as_listed() {
    let world = sandbox();
    let [jane, jayne, janet, john] = [0, 1, 2, 3].map(|nine| number(900_000_000 + nine * 100));
    let reach = "email=jane.smith@example.com&phone=01632960587";
    let basic = "gender=female&birthdate=eq2010-10-22";
    for (query, expected) in [
        (format!("family=Smith&{basic}&{reach}"), vec![jane]),
        (format!("family=Smith&{basic}&email=deb.trotter@example.com&phone=0121111111"), vec![]),
        (format!("family=Sm*&{basic}"), vec![jane, jayne]),
        (format!("family=Sm*&{basic}&{reach}"), vec![jane]),
        (format!("family=Sm*&{basic}&{reach}&_max-results=1"), vec![jane]),
        (
            format!("family=Smith&gender=female&birthdate=ge2010-10-21&birthdate=le2010-10-23&{reach}"),
            vec![jane],
        ),
        (format!("family=Smith&given=Jane&{basic}&{reach}&_fuzzy-match=true"), vec![jane]),
        (
            "family=Smythe&given=Janet&gender=female&birthdate=eq2005-06-16&email=janet.smythe@example.com&phone=01632960587"
                .to_owned(),
            vec![janet],
        ),
        (
            "family=Smith&given=John%20Paul&given=James&gender=male&birthdate=eq2010-10-22&email=johnp.smith@example.com&phone=01632960587"
                .to_owned(),
            vec![john],
        ),
    ] {
        assert_eq!(found(&world, &query), expected, "{query}");
    }
    let fuzzy = format!("family=Smith&given=Jane&{basic}&_fuzzy-match=true");
    assert_eq!(found(&world, &fuzzy), [jane]);
    let one = parsed(&format!("family=Sm*&{basic}&_max-results=1"));
    assert_eq!(search(&world.ledger, &one), Err(TooMany));
}

#[test]
fn every_parameter_narrows_a_search() {
    let died = |person: Person, day: &str| person.with("deceasedDateTime", json!(day));
    let one = died(person(0, &["Smith", "Jane"], "female", "2010-10-22"), "2020-01-01");
    let other = died(person(1, &["Smith", "Mary"], "male", "2010-10-22"), "2020-01-02");
    let world = world(&[
        one.at("LS1 6AE").practice("Y12345").reached("a@example.com", "0111"),
        other.at("LS1 6AB").practice("A20047").reached("b@example.com", "0222"),
        person(2, &["Smith", "Jane"], "female", "2010-10-23").at("LS1 6AE"),
    ]);
    let one = [number(900_000_000)];
    let least = "family=smith&birthdate=eq2010-10-22";
    assert_eq!(found(&world, least).len(), 2);
    for narrower in [
        "given=jane",
        "given=Ja*",
        "gender=female",
        "death-date=2020-01-01",
        "death-date=le2020-01-01",
        "address-postalcode=ls16ae",
        "address-postcode=LS1+6AE",
        "address-postalcode=LS1*E",
        "general-practitioner=y12345",
        "email=A@example.com",
        "phone=%2B44111",
    ] {
        assert_eq!(found(&world, &format!("{least}&{narrower}")), one, "{narrower}");
    }
    for none in [
        "given=Anne",
        "gender=other",
        "death-date=ge2020-01-03",
        "address-postalcode=LS",
        "phone=0112",
    ] {
        assert_eq!(found(&world, &format!("{least}&{none}")), [], "{none}");
    }
    // The same through every other index.
    for wide in [
        "birthdate=ge1900-01-01",
        "birthdate=le2010-10-22",
        "birthdate=ge2010-10-01&birthdate=le2010-10-22",
    ] {
        for narrower in [
            "",
            "&address-postalcode=LS16AE",
            "&general-practitioner=Y12345",
            "&phone=0111",
        ] {
            let query = format!("family=Sm*h&given=Jane&death-date=2020-01-01&{wide}{narrower}");
            assert_eq!(found(&world, &query), one, "{query}");
        }
    }
}

#[test]
fn given_names_are_searched_in_order_and_compound_ones_however_they_are_cut() {
    let world = world(&[
        person(0, &["Smith", "Alan", "Michael", "Peter"], "male", "2010-10-22"),
        person(1, &["Smith", "John Paul", "James"], "male", "2010-10-22"),
    ]);
    let [alan, john] = [0, 1].map(|nine| number(900_000_000 + nine * 100));
    for (given, expected) in [
        ("given=Alan", vec![alan]),
        ("given=Ala*", vec![alan]),
        ("given=Mic*", vec![]),
        ("given=Michael", vec![]),
        ("given=Alan&given=Michael", vec![alan]),
        ("given=Alan&given=Peter", vec![alan]),
        ("given=Alan&given=Pe*", vec![alan]),
        ("given=Alan&given=Peter&given=Michael", vec![]),
        ("given=Alan&given=Mark", vec![]),
        ("given=John+Paul", vec![john]),
        ("given=John-Paul", vec![john]),
        ("given=John&given=Paul", vec![john]),
        ("given=John&given=Paul&given=James", vec![john]),
        ("given=John+Paul&given=James", vec![john]),
        ("given=John", vec![]),
        ("given=John*", vec![john]),
    ] {
        assert_eq!(
            found(&world, &format!("family=Smith&birthdate=2010-10-22&{given}")),
            expected,
            "{given}"
        );
    }
}

#[test]
fn a_fuzzy_search_finds_homophones_exchanged_and_former_names_and_others_do_not() {
    let world = world(&[
        person(0, &["Smith", "Ann"], "female", "2010-10-22").at("LS1 6AE"),
        person(1, &["Thomas", "Adam"], "male", "2010-10-22"),
        person(2, &["Hume", "Casey"], "male", "1999-09-09").name(json!({"use": "old", "family": "Med"})),
        person(3, &["Smith-Jones", "Michael"], "male", "2010-10-22"),
        person(4, &["Brown", "J"], "male", "2010-10-22"),
        person(5, &["Green", "Peter", "Oliver"], "male", "2010-10-22"),
    ]);
    let who = |nine: u32| vec![number(900_000_000 + nine * 100)];
    for (query, nine) in [
        ("family=Smythe&given=Anne&birthdate=2010-10-22", 0),
        ("family=Adam&given=Thomas&birthdate=2010-10-22", 1),
        ("family=Adams&given=Tomas&birthdate=2010-10-22", 1),
        ("family=Med&given=Casey&birthdate=1999-09-09", 2),
        ("family=Jones&given=Michael&birthdate=2010-10-22", 3),
        ("family=Brown&given=John&birthdate=2010-10-22", 4),
        ("family=Green&given=Oliver&birthdate=2010-10-22", 5),
        (
            "family=Smyth&gender=female&address-postalcode=LS16AE&birthdate=2010-10-22",
            0,
        ),
        (
            "given=Anne&gender=female&address-postalcode=LS16AE&birthdate=2010-10-22",
            0,
        ),
        ("family=Smyth&given=An&birthdate=ge2010-10-01&birthdate=le2010-10-31", 0),
        (
            "given=Anne&gender=female&address-postalcode=LS16AE&birthdate=ge2000-05-03",
            0,
        ),
    ] {
        let adams = query.contains("Adams");
        let expected = if adams { vec![] } else { who(nine) };
        assert_eq!(
            found(&world, &format!("{query}&_fuzzy-match=true")),
            expected,
            "{query}"
        );
        if query.contains("family") {
            assert_eq!(found(&world, query), [], "{query}");
        }
    }
}

#[test]
fn history_counts_only_when_it_is_asked_for() {
    let ended = json!({"end": "2020-12-31"});
    let world = world(&[person(0, &["Hume", "Casey"], "female", "1999-09-09")
        .name(json!({"use": "maiden", "family": "Med", "given": ["Casey"]}))
        .with("address", json!([{"use": "home", "postalCode": "LS1 6AE"}, {"use": "home", "postalCode": "DN17 4AA", "period": ended}]))
        .with("telecom", json!([
            {"system": "email", "value": "now@example.com"},
            {"system": "email", "value": "then@example.com", "period": ended},
            {"system": "phone", "value": "0111"},
            {"system": "phone", "value": "0222", "period": ended},
        ]))]);
    let now = "family=Hume&birthdate=1999-09-09";
    for then in [
        "family=Med&birthdate=1999-09-09".to_owned(),
        "family=Me*&birthdate=ge1990-01-01".to_owned(),
        format!("{now}&address-postalcode=DN174AA"),
        format!("{now}&address-postalcode=DN*"),
        format!("{now}&email=then@example.com"),
        format!("{now}&phone=0222"),
        "family=Hume&birthdate=le1999-09-09&phone=0222".to_owned(),
        "family=Hume&birthdate=le1999-09-09&address-postalcode=DN174AA".to_owned(),
    ] {
        assert_eq!(found(&world, &then), [], "{then}");
        assert_eq!(found(&world, &format!("{then}&_history=false")), [], "{then}");
        assert_eq!(found(&world, &format!("{then}&_history=true")).len(), 1, "{then}");
        assert!(score(&world, &format!("{then}&_history=true")) < 10_000, "{then}");
        assert_eq!(
            found(
                &world,
                &format!("{then}&given=Casey&_history=true&_exact-match=true")
                    .replace("Me*", "Med")
                    .replace("DN*", "DN174AA")
            ),
            []
        );
    }
    assert_eq!(score(&world, &format!("{now}&_history=true")), 10_000);
}

#[test]
fn the_score_falls_with_every_difference_and_one_is_exact() {
    let world = world(&[person(0, &["Smith", "Ann", "Mary"], "female", "2010-10-22")
        .name(json!({"use": "old", "family": "Reed", "given": ["Ann"]}))
        .at("LS1 6AE")
        .practice("Y12345")
        .with("deceasedDateTime", json!("2020-01-01"))]);
    let fuzzy = |query: &str| score(&world, &format!("{query}&birthdate=2010-10-22&_fuzzy-match=true"));
    let falling = [
        fuzzy("family=Smith&given=Ann"),
        fuzzy("family=Smythe&given=Ann"),
        fuzzy("family=Smythe&given=Anne"),
        fuzzy("family=Ann&given=Smith"),
    ];
    assert_eq!(falling[0], 10_000);
    assert!(falling.windows(2).all(|two| two[0] > two[1]), "{falling:?}");
    assert_eq!(fuzzy("family=Smith&given=Ann&given=Mary"), 10_000);
    assert!(fuzzy("family=Smith&given=Ann&given=Lucy") < 10_000);
    assert!(fuzzy("family=Reed&given=Ann") < fuzzy("family=Smith&given=Ann"));
    assert!(fuzzy("family=Reid&given=Ann") < fuzzy("family=Reed&given=Ann"));
    assert_eq!(
        fuzzy("family=Smith&given=Ann&general-practitioner=Y12345&death-date=2020-01-01"),
        10_000
    );
    // In a fuzzy search they are not used to search, and a mismatch reduces the score.
    assert!(fuzzy("family=Smith&given=Ann&general-practitioner=A1") < 10_000);
    assert!(fuzzy("family=Smith&given=Ann&death-date=2020-01-02") < 10_000);
    let plain = |query: &str| score(&world, &format!("{query}&birthdate=2010-10-22"));
    assert_eq!(plain("family=Smith"), 10_000);
    assert_eq!(
        plain("family=smith&given=ann&gender=female&address-postalcode=LS1+6AE"),
        10_000
    );
    assert!(plain("family=Smi*") < 10_000);
    assert!(plain("family=Smith&address-postalcode=LS*") < 10_000);
    assert!((Score::EXACT.fraction() - 1.0).abs() < f64::EPSILON);
    for (exact, expected) in [("family=Smith&given=Ann", 1), ("family=Smythe&given=Ann", 0)] {
        let query = format!("{exact}&birthdate=2010-10-22&_fuzzy-match=true&_exact-match=true");
        assert_eq!(found(&world, &query).len(), expected, "{exact}");
    }
}

#[test]
fn the_weights_and_levels_keep_a_score_within_its_bounds() {
    let (most, least) = (Tally::default(), Tally::default());
    let (mut most, mut least) = (most, least);
    for (feature, weight) in WEIGHTS {
        assert!(weight > 0);
        most.add(feature, worth(Level::Exact, Age::Current));
        least.add(feature, worth(Level::Absent, Age::Historic));
    }
    assert_eq!(most.score(), Score::EXACT);
    assert_eq!(least.score().ten_thousandths(), 1);
    for (level, whole) in LEVELS {
        assert_eq!(level == Level::Exact, whole == SCORE_MAX);
        assert!(worth(level, Age::Historic) <= worth(level, Age::Current));
        assert!(worth(level, Age::Historic) < SCORE_MAX);
    }
}

#[test]
fn results_are_sorted_by_score_and_then_by_number() {
    let world = world(&[
        person(3, &["Smyth", "Jayne"], "female", "2010-10-22"),
        person(2, &["Smith", "Jane"], "female", "2010-10-22"),
        person(1, &["Smyth", "Jane"], "female", "2010-10-22"),
        person(0, &["Smith", "Jayne"], "female", "2010-10-22"),
        person(4, &["Smith", "Jane"], "female", "2010-10-22"),
    ]);
    let numbers = [2, 4, 1, 0, 3].map(|nine| number(900_000_000 + nine * 100));
    let query = "family=Smith&given=Jane&birthdate=2010-10-22&_fuzzy-match=true";
    let mut expected = numbers.to_vec();
    // A family name weighs more than a given name.
    expected.swap(2, 3);
    assert_eq!(found(&world, query), expected);
}

#[test]
fn more_matches_than_asked_for_are_too_many_and_a_search_has_a_budget() {
    let mut people: Vec<Person> = (0..60)
        .map(|n| person(n, &["Smith", "Jane"], "female", "2010-10-22"))
        .collect();
    people.extend((60..120).map(|n| person(n, &["Brown", "Jane"], "male", "2010-10-22").at("LS1 6AE")));
    let world = world(&people);
    let result = |query: &str| search(&world.ledger, &parsed(query)).map(|found| found.len());
    assert_eq!(result("family=Smith&birthdate=2010-10-22"), Err(TooMany));
    assert_eq!(result("family=Smith&birthdate=2010-10-22&gender=male"), Ok(0));
    assert_eq!(result("family=Sm*&birthdate=ge2010-10-22&gender=female"), Err(TooMany));
    // Day by day, more days than the budget has.
    assert_eq!(
        result("family=White&given=Jane&birthdate=ge1900-01-01&_fuzzy-match=true"),
        Err(TooMany)
    );
    assert_eq!(
        result("family=White&given=Jane&birthdate=ge2008-01-01&birthdate=le2011-01-01&_fuzzy-match=true"),
        Ok(0)
    );
    let few = (0..3)
        .map(|n| person(n, &["Smith", "Jane"], "female", "2010-10-22"))
        .collect::<Vec<_>>();
    let world = super::world(&few);
    for (max, expected) in [(1, Err(TooMany)), (2, Err(TooMany)), (3, Ok(3)), (4, Ok(3))] {
        let query = parsed(&format!("family=Smith&birthdate=2010-10-22&_max-results={max}"));
        assert_eq!(
            search(&world.ledger, &query).map(|found| found.len()),
            expected,
            "{max}"
        );
    }
}

#[test]
fn a_card_budget_ends_a_search_that_would_compare_too_many() {
    let many = planner::CARDS_MAX as u32 + 1;
    let mut world = World::new();
    for n in 0..many {
        put(&mut world, &person(n, &["Smith", "Jane"], "female", "2010-10-22"));
    }
    let result = |query: &str| search(&world.ledger, &parsed(query)).map(|found| found.len());
    assert_eq!(result("family=Smith&given=Mary&birthdate=2010-10-22"), Err(TooMany));
    assert_eq!(
        result("family=Smith&given=Mary&birthdate=2010-10-22&gender=male"),
        Ok(0)
    );
}

#[test]
fn restricted_records_are_found_by_name_and_contact_and_never_by_place() {
    let reached = |security| {
        person(0, &["Smythe", "Janet"], "female", "2005-06-16")
            .at("LS1 6AE")
            .practice("Y12345")
            .reached("janet@example.com", "0111")
            .secured(security)
    };
    let name = "family=Smythe&given=Janet&birthdate=2005-06-16";
    let by_place = [
        format!("{name}&address-postalcode=LS16AE"),
        format!("{name}&address-postalcode=LS*"),
        format!("{name}&general-practitioner=Y12345"),
        format!("{name}&general-practitioner=Y12345&_fuzzy-match=true"),
        format!("{name}&general-practitioner=A1&_fuzzy-match=true"),
        format!("{name}&address-postalcode=LS16AE&_fuzzy-match=true&_history=true"),
        "given=Janet&gender=female&birthdate=2005-06-16&address-postalcode=LS16AE&_fuzzy-match=true".to_owned(),
        "family=Smythe&birthdate=ge2000-01-01&general-practitioner=Y12345".to_owned(),
        "family=Smythe&birthdate=ge2000-01-01&phone=0111&address-postalcode=LS*".to_owned(),
    ];
    let by_name = [
        name.to_owned(),
        format!("{name}&email=janet@example.com&phone=0111"),
        format!("{name}&_fuzzy-match=true"),
        "family=Smythe&birthdate=ge2000-01-01".to_owned(),
        "family=Smythe&birthdate=ge2000-01-01&phone=0111".to_owned(),
    ];
    for (security, by_names, by_places) in [
        (Security::Unrestricted, 1, 1),
        (Security::Restricted, 1, 0),
        (Security::VeryRestricted, 0, 0),
        (Security::Redacted, 0, 0),
    ] {
        let mut world = world(&[reached(Security::Unrestricted)]);
        put(&mut world, &reached(security));
        for query in &by_name {
            assert_eq!(found(&world, query).len(), by_names, "{security:?} {query}");
        }
        for query in by_place.iter().filter(|query| !query.contains("=A1")) {
            assert_eq!(found(&world, query).len(), by_places, "{security:?} {query}");
        }
        assert_eq!(
            found(&world, &by_place[4]).len(),
            by_places,
            "{security:?}: a wrong practice"
        );
    }
}

#[test]
fn a_superseded_record_gives_the_one_that_supersedes_it() {
    let (one, other, last) = (number(900_000_000), number(900_000_100), number(900_000_200));
    let mut superseded = person(0, &["Cuff", "Jane"], "female", "1926-01-07").at("LS1 6AE");
    superseded.superseded_by = Some(other);
    let mut between = person(1, &["Cuff", "Joan"], "female", "1926-01-07");
    between.superseded_by = Some(last);
    let mut world = world(&[
        superseded,
        between,
        person(2, &["Cuff", "Jane"], "female", "1926-01-07"),
    ]);
    let query = "family=Cuff&given=Jane&birthdate=1926-01-07";
    assert_eq!(found(&world, query), [last]);
    assert_eq!(score(&world, query), 10_000);
    assert_eq!(found(&world, &format!("{query}&address-postalcode=LS16AE")), [last]);
    put(
        &mut world,
        &person(2, &["Cuff", "Jane"], "female", "1926-01-07").secured(Security::Restricted),
    );
    assert_eq!(found(&world, &format!("{query}&address-postalcode=LS16AE")), []);
    assert_eq!(found(&world, query), [last]);
    let mut circle = person(2, &["Cuff", "Jane"], "female", "1926-01-07");
    circle.superseded_by = Some(one);
    put(&mut world, &circle);
    assert_eq!(found(&world, query), []);
}

#[test]
fn what_a_record_no_longer_says_finds_it_no_more() {
    let mut world = world(&[person(0, &["Smith", "Jane"], "female", "2010-10-22")
        .at("LS1 6AE")
        .reached("a@b", "0111")]);
    put(
        &mut world,
        &person(0, &["Brown", "Mary"], "male", "2010-10-23").at("LS1 6AB"),
    );
    for query in [
        "family=Smith&birthdate=2010-10-22",
        "family=Smith&given=Jane&birthdate=2010-10-22&_fuzzy-match=true",
        "family=Brown&birthdate=ge2010-01-01&address-postalcode=LS16AE&_history=true",
        "family=Brown&birthdate=ge2010-01-01&phone=0111&_history=true",
        "family=Smith&birthdate=ge2010-01-01&_history=true",
    ] {
        assert_eq!(found(&world, query), [], "{query}");
    }
    assert_eq!(
        found(
            &world,
            "family=Brown&birthdate=2010-10-23&address-postalcode=LS16AB&gender=male"
        )
        .len(),
        1
    );
}

#[test]
fn a_patient_without_a_day_of_birth_is_in_no_range() {
    let mut nobody = person(0, &["Smith", "Jane"], "female", "x");
    nobody.patient.as_object_mut().expect("an object").remove("birthDate");
    let world = world(&[nobody, person(1, &["Smith", "Jane"], "female", "2010")]);
    assert_eq!(
        found(&world, "family=Smith&birthdate=ge0001-01-01"),
        [number(900_000_100)]
    );
    assert_eq!(
        found(&world, "family=Smith&birthdate=2010-01-01"),
        [number(900_000_100)]
    );
    assert_eq!(found(&world, "family=Smith&birthdate=ge9999-12-31"), []);
}
