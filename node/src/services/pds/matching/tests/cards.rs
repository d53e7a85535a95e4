use super::*;
use crate::services::pds::command::{DecodeError, INDEX_KEYS_MAX, INDEX_TEXT_BYTES_MAX, Index, IndexKey};
use crate::services::pds::matching::card::flags;

fn jane() -> Person {
    person(0, &["Smith-Jones", "Jane", "Anne"], "female", "2010-10-22")
        .name(json!({"use": "maiden", "family": "O'Reilly"}))
        .at("LS1 6AE")
        .reached("Jane@Example.com", "+44 1632 960587")
        .practice("y12345")
        .with("deceasedDateTime", json!("2020-01-02T00:00:00+00:00"))
}

fn texts(keys: &[IndexKey], index: Index) -> Vec<(String, u8)> {
    let of_index = keys.iter().filter(|key| key.index == index);
    of_index
        .map(|key| (String::from_utf8_lossy(&key.text).into_owned(), key.flags))
        .collect()
}

#[test]
fn a_card_is_written_byte_for_byte_as_it_always_was() {
    let encoded = jane().card().encode();
    let golden = [
        "01000201da0f0a1601e40f010202",
        "010b534d495448204a4f4e455302044a414e4504414e4e45",
        "00074f5245494c4c5902044a414e4504414e4e45",
        "0101064c5331364145",
        "0106593132333435",
        "0101106a616e65406578616d706c652e636f6d",
        "01010b3031363332393630353837",
    ];
    assert_eq!(hex::encode(&encoded), golden.concat());
    assert_eq!(Card::decode(&encoded), Ok(jane().card()));
    let least = Card::of(&json!({}), Security::Redacted, TODAY).encode();
    assert_eq!(hex::encode(&least), "01030000000000000000");
    assert_eq!(Card::decode(&[]), Err(DecodeError::Malformed));
    assert_eq!(Card::decode(&[2, 0]), Err(DecodeError::Newer(2)));
    for cut in 1..encoded.len() {
        assert_eq!(Card::decode(&encoded[..cut]), Err(DecodeError::Malformed));
    }
    assert_eq!(
        Card::decode(&[&encoded[..], &[0]].concat()),
        Err(DecodeError::Malformed)
    );
    assert_eq!(format!("{:?}", jane().card()), "Card");
}

#[test]
fn the_keys_of_a_card_are_sorted_and_say_what_they_are() {
    let keys = jane().card().keys();
    assert!(keys.windows(2).all(|two| two[0] < two[1]));
    let (female, day) = (4, "\u{7}\u{fffd}\n\u{16}");
    let birth = texts(&keys, Index::Birth);
    let family = |name: &str, flags| (format!("{day}\u{1}{name}\u{0}"), flags);
    let code = |code: &str, flags| (format!("{day}\u{2}{code}"), flags | female);
    assert_eq!(
        birth,
        [
            family("OREILLY", female | flags::HISTORIC),
            family("SMITHJONES", female),
            code("A500", flags::AS_GIVEN),
            code("J500", flags::AS_GIVEN),
            code("J520", flags::AS_FAMILY),
            code("O640", flags::AS_FAMILY),
            code("S530", flags::AS_FAMILY),
            code("S532", flags::AS_FAMILY),
        ]
    );
    assert_eq!(texts(&keys, Index::Family).len(), 2);
    assert_eq!(texts(&keys, Index::Postcode), [(format!("LS16AE\u{0}{day}"), female)]);
    assert_eq!(texts(&keys, Index::Practice), [(format!("Y12345\u{0}{day}"), female)]);
    let contact = [
        ("ejane@example.com\u{0}".to_owned(), female),
        ("p01632960587\u{0}".to_owned(), female),
    ];
    assert_eq!(texts(&keys, Index::Contact), contact);
}

#[test]
fn nothing_of_the_place_of_a_record_that_is_not_unrestricted_is_in_an_index() {
    let restricted = jane().secured(Security::Restricted).card().keys();
    assert!(texts(&restricted, Index::Postcode).is_empty());
    assert!(texts(&restricted, Index::Practice).is_empty());
    assert_eq!(texts(&restricted, Index::Contact).len(), 2);
    assert!(restricted.iter().all(|key| key.flags & flags::RESTRICTED != 0));
    assert!(jane().secured(Security::VeryRestricted).card().keys().is_empty());
    assert!(jane().secured(Security::Redacted).card().keys().is_empty());
}

#[test]
fn a_value_whose_period_ended_is_historic_once_another_goes_on() {
    let ended = json!({"start": "2019-01-01", "end": "2022-12-31"});
    let phone = |value: &str, period: Option<&Value>| json!({"system": "phone", "value": value, "period": period});
    let phones = |telecom: Value| {
        let card = person(0, &["A", "B"], "male", "2000-01-01")
            .with("telecom", telecom)
            .card();
        card.phones
            .iter()
            .map(|phone| (phone.text.clone(), phone.current))
            .collect::<Vec<(String, bool)>>()
    };
    assert_eq!(
        phones(json!([phone("1", Some(&ended))])),
        [("1".into(), true)],
        "the last that is known"
    );
    let both = phones(json!([phone("1", Some(&ended)), phone("2", None)]));
    assert_eq!(both, [("2".into(), true), ("1".into(), false)]);
    let later = json!({"end": "2024-12-31"});
    let both = phones(json!([phone("1", Some(&ended)), phone("2", Some(&later))]));
    assert_eq!(both, [("2".into(), true), ("1".into(), false)]);
    // On its last day a period has not ended.
    let today = json!({"end": "2026-11-26"});
    let both = phones(json!([phone("1", Some(&today)), phone("2", None)]));
    assert_eq!(both, [("1".into(), true), ("2".into(), true)]);
    let card = person(0, &["A", "B"], "male", "2000-01-01")
        .name(json!({"use": "nickname", "family": "A", "given": ["C"], "period": ended}))
        .name(json!({"use": "old", "family": "D"}))
        .with("address", json!([{"use": "temp", "postalCode": "X1", "period": ended}, {"use": "home", "postalCode": "X2", "period": ended}]))
        .card();
    let current: Vec<bool> = card.names.iter().map(|name| name.current).collect();
    assert_eq!(current, [true, false, false]);
    assert_eq!(
        card.names[2].givens,
        ["B"],
        "a former family name goes with the given names of now"
    );
    let postcodes: Vec<bool> = card.postcodes.iter().map(|postcode| postcode.current).collect();
    assert_eq!(postcodes, [true, false]);
    assert_eq!(card.postcodes[0].text, "X2");
}

#[test]
fn malformed_elements_are_left_out_and_the_keys_have_their_limits() {
    let odd = json!({
        "name": [{"family": 7, "given": "x"}, "text", {"given": [1, "", "-"]}, {"use": "usual", "family": "\u{0}"}],
        "birthDate": "yesterday", "gender": 3, "deceasedDateTime": "2010-13-40", "address": {}, "telecom": [{"system": "phone"}],
        "generalPractitioner": [{"identifier": {"value": "not a code"}}],
    });
    let card = Card::of(&odd, Security::Unrestricted, TODAY);
    assert!(card.keys().is_empty());
    assert_eq!((card.birth, card.death, card.practice.clone()), (None, None, None));
    let names: Vec<Value> = (0..40_u8)
        .map(|n| {
            let letters = |m: u8| {
                format!(
                    "{}{} {}{}",
                    char::from(b'A' + n % 26),
                    "BCDFGKLMNR".repeat(9),
                    char::from(b'A' + m),
                    "DTL".repeat(3)
                )
            };
            json!({"use": "usual", "family": letters(n % 20), "given": (0..20).map(letters).collect::<Vec<_>>()})
        })
        .collect();
    let many = |system: &str| -> Vec<Value> {
        (0..99)
            .map(|n| json!({"system": system, "value": format!("{n}{}", "9".repeat(20))}))
            .collect()
    };
    let codes: Vec<Value> = (0..99).map(|n| json!({"postalCode": format!("LS{n}")})).collect();
    let crowd = person(0, &["A"], "male", "2010-10-22")
        .with("name", json!(names))
        .with("telecom", json!([many("phone"), many("email")].concat()))
        .with("address", json!(codes));
    let keys = crowd.card().keys();
    assert!(keys.len() > 80 && keys.len() <= INDEX_KEYS_MAX, "{}", keys.len());
    assert!(
        keys.iter()
            .all(|key| (1..=INDEX_TEXT_BYTES_MAX).contains(&key.text.len()))
    );
}

#[test]
fn days_that_are_known_in_part_count_as_the_first() {
    for (text, day) in [
        ("2010", Some("2010-01-01")),
        ("2010-10", Some("2010-10-01")),
        ("2010-10-22", Some("2010-10-22")),
        ("2010-10-22T00:00:00+00:00", Some("2010-10-22")),
        ("2010-10-22 00:00", None),
        ("2010-02-30", None),
        ("0000-01-01", None),
        ("+010-01-01", None),
        ("201", None),
        ("20é0", None),
    ] {
        assert_eq!(Day::parse_kept(text), day.and_then(Day::parse), "{text}");
    }
    let days = |from, to| Days::new(Day::parse(from).expect("a day"), Day::parse(to).expect("a day"));
    let february = days("2024-02-28", "2024-03-01").expect("a range");
    assert_eq!((february.count(), february.each().count()), (3, 3));
    assert_eq!(days("2024-03-01", "2024-02-28"), None);
    let all = Days::new(Day::FIRST, Day::LAST).expect("a range");
    assert_eq!(all.count(), 3_652_059);
    assert_eq!(Days::new(Day::LAST, Day::LAST).expect("a range").each().count(), 1);
}
