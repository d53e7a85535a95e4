use super::*;
use crate::services::pds::matching::query::*;

fn refused(query: &str, mode: Mode) -> Invalid {
    match Search::parse(&pairs(query), mode) {
        Ok(_) => panic!("{query} was accepted"),
        Err(invalid) => invalid,
    }
}

const LEAST: &str = "family=Smith&birthdate=eq2010-10-22";

#[test]
fn every_refusal_has_its_code_and_says_nothing_of_the_values() {
    for (query, code, says) in [
        ("", "UNSUPPORTED_SERVICE", "family and birthdate"),
        (
            "family=Sm*&gender=female&invalidParam=123&birthdate=eq2010-10-22",
            "ADDITIONAL_PROPERTIES",
            "number 3",
        ),
        ("managing-organization=Y12345", "ADDITIONAL_PROPERTIES", "number 1"),
        ("Family=Planted", "ADDITIONAL_PROPERTIES", "number 1"),
        ("family=&birthdate=eq2010-10-22", "MISSING_VALUE", "'family'"),
        ("family=%20&birthdate=eq2010-10-22", "MISSING_VALUE", "'family'"),
        ("birthdate=", "MISSING_VALUE", "'birthdate'"),
        ("family=Planted&family=Planted", "INVALID_VALUE", "'family'"),
        ("birthdate=22-10-2010", "INVALID_VALUE", "'birthdate'"),
        ("birthdate=eq2010-13-22", "INVALID_VALUE", "'birthdate'"),
        ("birthdate=gt2010-10-22", "INVALID_VALUE", "'birthdate'"),
        ("birthdate=eq2010-10-22T00:00", "INVALID_VALUE", "'birthdate'"),
        ("birthdate=é", "INVALID_VALUE", "'birthdate'"),
        (
            "birthdate=eq2010-10-22&birthdate=le2010-10-22",
            "INVALID_VALUE",
            "'birthdate'",
        ),
        (
            "birthdate=ge2010-10-22&birthdate=ge2010-10-23",
            "INVALID_VALUE",
            "'birthdate'",
        ),
        ("death-date=2010-1-1", "INVALID_VALUE", "'death-date'"),
        ("gender=mal", "INVALID_VALUE", "'gender'"),
        ("family=*mith", "INVALID_VALUE", "'family'"),
        ("family=S*", "INVALID_VALUE", "'family'"),
        ("family=O'*", "INVALID_VALUE", "'family'"),
        ("given=J*", "INVALID_VALUE", "'given'"),
        ("family=PlantedPlantedPlantedPlantedPlantedX", "INVALID_VALUE", "35"),
        ("family=-1-", "INVALID_VALUE", "'family'"),
        (
            "given=a&given=b&given=c&given=d&given=e&given=f",
            "INVALID_VALUE",
            "'given'",
        ),
        ("address-postalcode=L*", "INVALID_VALUE", "'address-postalcode'"),
        ("address-postalcode=LS1.6AE", "INVALID_VALUE", "'address-postalcode'"),
        ("address-postcode=LS1LS1LS1LS1", "INVALID_VALUE", "'address-postcode'"),
        ("general-practitioner=Y1*", "INVALID_VALUE", "'general-practitioner'"),
        ("email=planted", "INVALID_VALUE", "'email'"),
        ("email=planted*@example.com", "INVALID_VALUE", "'email'"),
        ("phone=0163*", "INVALID_VALUE", "'phone'"),
        ("phone=planted", "INVALID_VALUE", "'phone'"),
        ("phone=%2B", "INVALID_VALUE", "'phone'"),
        ("_fuzzy-match=yes", "INVALID_VALUE", "'_fuzzy-match'"),
        ("_exact-match=1", "INVALID_VALUE", "'_exact-match'"),
        ("_history=0", "INVALID_VALUE", "'_history'"),
        ("_max-results=0", "INVALID_VALUE", "'_max-results'"),
        ("_max-results=51", "INVALID_VALUE", "'_max-results'"),
        ("_max-results=-1", "INVALID_VALUE", "'_max-results'"),
        ("_max-results=1.0", "INVALID_VALUE", "'_max-results'"),
        ("_history=true", "INVALID_SEARCH_DATA", "family and birthdate"),
        ("family=Smith", "INVALID_SEARCH_DATA", "family and birthdate"),
        ("birthdate=eq2010-10-22", "INVALID_SEARCH_DATA", "family and birthdate"),
        (
            "given=Jane&birthdate=eq2010-10-22&gender=female",
            "INVALID_SEARCH_DATA",
            "family and birthdate",
        ),
        (
            "email=j.smith@example.com&phone=0163",
            "INVALID_SEARCH_DATA",
            "family and birthdate",
        ),
        (
            "family=Smith&birthdate=ge2010-10-23&birthdate=le2010-10-22",
            "INVALID_SEARCH_DATA",
            "ge",
        ),
        (
            "family=Smith&birthdate=eq2010-10-22&address-postalcode=LS1&address-postcode=LS1",
            "INVALID_SEARCH_DATA",
            "address-postalcode alone",
        ),
        (
            "family=Smith&birthdate=eq2010-10-22&_fuzzy-match=true",
            "INVALID_SEARCH_DATA",
            "fuzzy",
        ),
        (
            "family=Smith&given=Jane&_fuzzy-match=true",
            "INVALID_SEARCH_DATA",
            "fuzzy",
        ),
        (
            "family=Smith&gender=female&birthdate=eq2010-10-22&_fuzzy-match=true",
            "INVALID_SEARCH_DATA",
            "fuzzy",
        ),
        (
            "given=Jane&birthdate=eq2010-10-22&address-postalcode=LS1&_fuzzy-match=true",
            "INVALID_SEARCH_DATA",
            "fuzzy",
        ),
        (
            "family=Sm*&given=Jane&birthdate=eq2010-10-22&_fuzzy-match=true",
            "INVALID_SEARCH_DATA",
            "wildcards",
        ),
        (
            "family=Smith&given=Jane&birthdate=eq2010-10-22&address-postalcode=LS*&_fuzzy-match=true",
            "INVALID_SEARCH_DATA",
            "wildcards",
        ),
        (
            "family=Sm*&birthdate=eq2010-10-22&_exact-match=true",
            "INVALID_SEARCH_DATA",
            "wildcards",
        ),
    ] {
        let invalid = refused(query, Mode::Worker);
        assert_eq!(invalid.code(), code, "{query}");
        assert_eq!(invalid.status(), 400, "{query}");
        let diagnostics = invalid.to_string();
        assert!(diagnostics.contains(says), "{query}: {diagnostics}");
        let shown = format!("{diagnostics} {invalid:?}");
        for hidden in [
            "Planted",
            "planted",
            "invalidParam",
            "managing",
            "Smith",
            "2010-10",
            "mal.",
        ] {
            assert!(!shown.contains(hidden), "{query}: {shown}");
        }
    }
}

#[test]
fn an_application_gets_one_result_and_may_not_ask_for_more() {
    for more in ["2", "50"] {
        let invalid = refused(&format!("{LEAST}&_max-results={more}"), Mode::Application);
        assert_eq!((invalid.code(), invalid.status()), ("INVALID_VALUE", 403));
    }
    for query in [LEAST.to_owned(), format!("{LEAST}&_max-results=1")] {
        let search = Search::parse(&pairs(&query), Mode::Application).expect("a search");
        assert_eq!(search.results_max, 1);
    }
    assert_eq!(parsed(LEAST).results_max, 50);
    assert_eq!(parsed(&format!("{LEAST}&_max-results=7")).results_max, 7);
}

#[test]
fn what_is_accepted_is_in_normal_form() {
    let search = parsed(
        "family=O'Reilly&given=John%20Paul&given=Ann*&gender=Female&birthdate=ge2010-10-21&birthdate=le2010-10-23&death-date=2011-01-01&address-postcode=ls1%206ae&general-practitioner=y12345&email=JANE@EXAMPLE.COM&phone=%2B44%201632%20960587&_history=TRUE",
    );
    assert_eq!(search.family.as_ref().map(Pattern::prefix), Some("OREILLY"));
    assert_eq!(
        search.givens.iter().map(Pattern::prefix).collect::<Vec<_>>(),
        ["JOHNPAUL", "ANN"]
    );
    assert_eq!(search.gender, Some(Gender::Female));
    assert_eq!(search.birth.count(), 3);
    assert_eq!(search.death.map(Days::count), Some(1));
    assert_eq!(search.postcode.as_ref().map(Pattern::prefix), Some("LS16AE"));
    assert_eq!(search.practice.as_ref().map(|code| code.as_str()), Some("Y12345"));
    assert_eq!(search.email.as_deref(), Some("jane@example.com"));
    assert_eq!(search.phone.as_deref(), Some("01632960587"));
    assert!(search.history && search.asks_place() && search.counts_history());
    assert!(!format!("{search:?} {:?}", search.family).contains("OREILLY"));
    let open = parsed("family=Smith&birthdate=le2010-10-23");
    assert_eq!(
        (open.birth.from(), open.birth.to()),
        (Day::FIRST, Day::parse("2010-10-23").expect("a day"))
    );
    for fuzzy in [
        "given=Jane&family=Smith&birthdate=eq2010-10-22",
        "family=Smith&birthdate=eq2010-10-22&gender=female&address-postalcode=LS16AE",
        "given=Jane&birthdate=eq2010-10-22&gender=female&address-postalcode=LS16AE",
    ] {
        assert!(parsed(&format!("{fuzzy}&_fuzzy-match=true")).counts_history());
    }
}

#[test]
fn wildcards_stand_for_any_letters_or_none_between_fixed_ends() {
    let fits = |pattern: &str, value: &str| {
        let search = parsed(&format!("birthdate=eq2010-10-22&family={pattern}"));
        search.family.expect("a family name").fits(value)
    };
    for (pattern, value, expected) in [
        ("Sm*t*", "SMITH", true),
        ("Sm*t*", "SMYTHE", true),
        ("Sm*t*", "SMALL", false),
        ("Sm*", "SM", true),
        ("Sm*th", "SMITH", true),
        ("Sm*th", "SMITHE", false),
        ("Smi*mith", "SMITH", false),
        ("Sm**th", "SMITH", true),
        ("Smith", "SMITHE", false),
        ("o'r*", "OREILLY", true),
    ] {
        assert_eq!(fits(pattern, value), expected, "{pattern} {value}");
    }
}

#[test]
fn more_parameters_than_any_search_has_are_refused_unread() {
    let many = vec![("given".to_owned(), "x".to_owned()); PARAMETERS_MAX + 1];
    assert_eq!(Search::parse(&many, Mode::Worker), Err(Invalid::TooMany));
}
