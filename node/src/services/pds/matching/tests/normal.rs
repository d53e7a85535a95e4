use crate::services::pds::matching::normal::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[test]
fn names_that_are_written_in_several_ways_are_one() {
    for (written, normal) in [
        ("O'Reilly", "OREILLY"),
        ("O\u{2019}Reilly", "OREILLY"),
        ("OReilly", "OREILLY"),
        ("Smith-Jones", "SMITH JONES"),
        ("  smith \u{2013} jones ", "SMITH JONES"),
        ("Kociński", "KOCINSKI"),
        ("Müller", "MULLER"),
        ("Søren", "SOREN"),
        ("Groß", "GROSS"),
        ("Łukasz", "LUKASZ"),
        ("Rene\u{301}e", "RENEE"),
        ("Ælfric", "AELFRIC"),
        ("Þór", "THOR"),
        ("ATTSÖN", "ATTSON"),
        ("PÀULINÉ", "PAULINE"),
        ("J.P.", "JP"),
        ("", ""),
        ("-", ""),
    ] {
        assert_eq!(name(written), normal, "{written}");
    }
    assert!(same(&name("O Reilly"), &name("O'Reilly")));
    assert!(same(&name("Smith-Jones"), &name("SmithJones")));
    assert!(!same(&name("Smith"), &name("Smith-Jones")));
    assert!(name(&"王".repeat(35)).len() <= NAME_BYTES_MAX);
}

#[test]
fn soundex_is_the_american_one() {
    for (names, code) in [
        (&["Robert", "Rupert"][..], "R163"),
        (&["Rubin"], "R150"),
        (&["Ashcraft", "Ashcroft"], "A261"),
        (&["Tymczak"], "T522"),
        (&["Pfister"], "P236"),
        (&["Honeyman"], "H555"),
        (&["Smith", "Smythe", "Smyth"], "S530"),
        (&["Ann", "Anne"], "A500"),
        (&["Jackson"], "J250"),
        (&["Lee"], "L000"),
        (&["Gutierrez"], "G362"),
    ] {
        for written in names {
            let found = soundex(&name(written)).expect("letters");
            assert_eq!(std::str::from_utf8(&found), Ok(code), "{written}");
        }
    }
    assert_eq!(soundex("123"), None);
    assert_eq!(soundex(""), None);
}

#[test]
fn several_words_sound_as_a_whole_and_each_alone_without_particles() {
    let codes_of = |text: &str| -> Vec<String> {
        let codes = codes(&name(text)).into_iter();
        codes
            .map(|code| String::from_utf8(code.to_vec()).expect("ASCII"))
            .collect()
    };
    assert_eq!(codes_of("Smith"), ["S530"]);
    assert_eq!(codes_of("Smith-Jones"), ["S532", "S530", "J520"]);
    assert_eq!(codes_of("van der Berg"), ["V536", "B620"]);
    assert_eq!(codes_of("O Reilly"), ["O640", "R400"]);
    assert_eq!(codes_of("7"), [] as [&str; 0]);
}

#[test]
fn places_and_numbers_are_compared_without_what_people_put_between() {
    assert_eq!(postcode(" ls1 6ae").as_deref(), Some("LS16AE"));
    assert_eq!(postcode(""), None);
    assert_eq!(postcode("ABCDEFGHIJK"), None);
    assert_eq!(
        email(" Jane.Smith@Example.com").as_deref(),
        Some("jane.smith@example.com")
    );
    assert_eq!(email(&"x".repeat(300)), None);
    for written in [
        "01632 960587",
        "+44 1632 960587",
        "0044 1632960587",
        "+44 (0)1632-960587",
        "(01632) 960587",
    ] {
        assert_eq!(phone(written).as_deref(), Some("01632960587"), "{written}");
    }
    assert_eq!(phone("+91 7855986859").as_deref(), Some("00917855986859"));
    assert_eq!(phone("+"), None);
    assert_eq!(phone(&"1".repeat(25)), None);
}

#[test]
fn a_normal_form_is_its_own_normal_form() {
    let seed: u64 = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..20_000 {
        let length = rng.random_range(0..50);
        let text: String = (0..length)
            .map(|_| match rng.random_range(0..4) {
                0 => rng.random::<char>(),
                1 => char::from(rng.random_range(b' '..=b'~')),
                2 => ['0', '4', '+', '(', ' ', '-'][rng.random_range(0..6)],
                _ => rng.random_range('\u{c0}'..'\u{250}'),
            })
            .collect();
        let once = name(&text);
        assert_eq!(name(&once), once, "seed {seed}");
        assert!(once.len() <= NAME_BYTES_MAX, "seed {seed}");
        let clean = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ';
        assert!(once.bytes().all(clean), "seed {seed}");
        assert_eq!(name(&squeezed(&once)), squeezed(&once), "seed {seed}");
        for form in [postcode, email, phone] {
            if let Some(once) = form(&text) {
                assert_eq!(form(&once), Some(once), "seed {seed}");
            }
        }
    }
}
