use super::*;
use crate::services::pds::command::Refusal;
use crate::services::pds::matching::creating::twins;

fn jane(nine: u32) -> Person {
    person(nine, &["Smith", "Jane"], "female", "2010-10-22").at("LS1 6AE")
}

#[test]
fn likely_twins_are_found_and_others_are_not() {
    let new = || jane(9).reached("jane@example.com", "0111");
    for (known, is_twin, why) in [
        (jane(0), true, "the same"),
        (
            person(0, &["Smythe", "Jayne"], "female", "2010-10-22").at("LS16AE"),
            true,
            "spelt another way",
        ),
        (
            person(0, &["Smith", "J"], "unknown", "2010-10-22").at("LS16AE"),
            true,
            "an initial",
        ),
        (jane(0).with("birthDate", json!("2010-10-23")), false, "another day"),
        (jane(0).with("gender", json!("male")), false, "another gender"),
        (jane(0).at("LS1 6AB"), false, "a common name elsewhere"),
        (
            person(0, &["Smith", "Janet"], "female", "2010-10-22").at("LS16AE"),
            false,
            "a sister born the same day",
        ),
        (
            person(0, &["Brown", "Jane"], "female", "2010-10-22")
                .at("X1")
                .reached("JANE@example.com", "1"),
            true,
            "married",
        ),
        (
            person(0, &["Brown", "Jane"], "female", "2010-10-22").at("LS16AE"),
            false,
            "a neighbour",
        ),
        (
            person(0, &["Smith", "Jane"], "female", "2010-10-22"),
            true,
            "no place to compare",
        ),
    ] {
        let world = world(&[known]);
        let (found, _) = twins(&world.ledger, &new().card());
        assert_eq!(!found.is_empty(), is_twin, "{why}");
    }
    let moved = person(0, &["Smith", "Jane", "Anne"], "female", "2010-10-22").at("X1");
    let world = world(&[moved]);
    let two_names = person(9, &["Smith", "Jane", "Anne"], "female", "2010-10-22").at("LS1 6AE");
    assert_eq!(twins(&world.ledger, &two_names.card()).0.len(), 1);
}

#[test]
fn the_place_of_a_restricted_record_is_never_evidence() {
    let known = |security| jane(0).reached("jane@example.com", "0111").secured(security);
    let spelt = |place: &str| {
        person(9, &["Smythe", "Jayne"], "female", "2010-10-22")
            .at(place)
            .reached("jane@example.com", "0111")
    };
    let restricted = world(&[known(Security::Restricted)]);
    for place in ["LS1 6AE", "X1 1XX"] {
        assert_eq!(twins(&restricted.ledger, &spelt(place).card()).0, [], "{place}");
        assert_eq!(
            twins(&restricted.ledger, &jane(9).at(place).card()).0.len(),
            1,
            "the same names are enough"
        );
    }
    let open = world(&[known(Security::Unrestricted)]);
    assert_eq!(twins(&open.ledger, &spelt("LS1 6AE").card()).0.len(), 1);
    assert_eq!(
        twins(&open.ledger, &spelt("LS1 6AE").secured(Security::Restricted).card()).0,
        []
    );
    for hidden in [Security::VeryRestricted, Security::Redacted] {
        let world = world(&[known(hidden)]);
        assert_eq!(twins(&world.ledger, &jane(9).card()).0, []);
    }
}

#[test]
fn places_that_stand_for_no_place_are_no_evidence() {
    let world = world(&[jane(0).at("ZZ99 3VZ")]);
    let spelt = person(9, &["Smyth", "Jayne"], "female", "2010-10-22").at("ZZ99 3VZ");
    assert_eq!(twins(&world.ledger, &spelt.card()).0, []);
}

#[test]
fn a_create_is_refused_when_a_twin_came_in_between() {
    let mut world = world(&[person(0, &["Brown", "Mary"], "male", "1950-01-01")]);
    let (first, second) = (
        jane(1),
        person(2, &["Smyth", "Jayne"], "female", "2010-10-22").at("LS1 6AE"),
    );
    let (none, guard) = twins(&world.ledger, &first.card());
    let (also_none, late) = twins(&world.ledger, &second.card());
    assert_eq!((none.len(), also_none.len()), (0, 0));
    assert!(matches!(
        put_guarded(&mut world, &first, Some(guard)),
        Outcome::Stored { .. }
    ));
    let raced = put_guarded(&mut world, &second, Some(late));
    assert_eq!(raced, Outcome::Refused(Refusal::Raced));
    let (found, again) = twins(&world.ledger, &second.card());
    assert_eq!(found, [first.number]);
    // Who decides to create it none the less, with a fresh look, may.
    assert!(matches!(
        put_guarded(&mut world, &second, Some(again)),
        Outcome::Stored { .. }
    ));
    // Somebody of another day or sound is no race.
    let third = person(3, &["White", "Oliver"], "male", "2010-10-22");
    let (_, guard) = twins(&world.ledger, &third.card());
    put(&mut world, &person(4, &["Green", "Thomas"], "male", "2010-10-22"));
    assert!(matches!(
        put_guarded(&mut world, &third, Some(guard)),
        Outcome::Stored { .. }
    ));
}
