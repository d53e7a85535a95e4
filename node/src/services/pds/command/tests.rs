use super::*;

fn number() -> NhsNumber {
    NhsNumber::parse("9000000009").expect("a number")
}

fn once() -> Option<Once> {
    Some(Once {
        key: [1; 16],
        content: [2; 16],
    })
}

fn put() -> PutPatient {
    PutPatient {
        number: number(),
        follows: 0,
        once: once(),
        security: Security::Restricted,
        superseded_by: None,
        digest: Digest([3; 32]),
        open_bytes: 3,
        place_bytes: 1,
        card: b"planted card".to_vec(),
        keys: vec![IndexKey {
            index: Index::Family,
            text: b"PLANTED".to_vec(),
            flags: 5,
        }],
        guard: Some(Guard {
            prefixes: vec![(Index::Birth, b"PLANTED".to_vec())],
            seen: [4; 16],
        }),
    }
}

/// One of each, with its tail and its bytes. New variants are added at the end.
fn every_command() -> Vec<(Command, &'static [u8], String)> {
    let digest = "03".repeat(32);
    let (once_hex, seen) = (format!("01{}{}", "01".repeat(16), "02".repeat(16)), "04".repeat(16));
    let planted = "07504c414e544544";
    let change = PutPatient {
        follows: 300,
        once: None,
        security: Security::Redacted,
        superseded_by: Some(number()),
        guard: None,
        keys: Vec::new(),
        ..put()
    };
    vec![
        (
            Command::PutPatient(Box::new(put())),
            b"tail",
            format!(
                "030089b4c4c32100{once_hex}0100{digest}03010c706c616e74656420636172640101{planted}05010100{planted}{seen}7461696c"
            ),
        ),
        (
            Command::PutPatient(Box::new(change)),
            b"tail",
            format!("030089b4c4c321ac0200030189b4c4c321{digest}03010c706c616e746564206361726400007461696c"),
        ),
        (
            Command::PutRelated {
                number: number(),
                bytes: 2,
                digest: Digest([3; 32]),
            },
            b"[]",
            format!("030189b4c4c32102{digest}5b5d"),
        ),
        (
            Command::PutCoverage {
                number: number(),
                follows: 2,
                once: once(),
                bytes: 2,
                digest: Digest([3; 32]),
            },
            b"{}",
            format!("030289b4c4c32102{once_hex}02{digest}7b7d"),
        ),
    ]
}

fn every_outcome() -> Vec<(Outcome, String)> {
    let stored = Outcome::Stored {
        number: number(),
        version: 2,
        at: Timestamp::from_ms(1_795_348_800_000),
        repeated: true,
    };
    let exists = Refusal::Exists {
        digest: Digest([3; 32]),
    };
    vec![
        (stored, "030089b4c4c3210280c48299a03401".into()),
        (
            Outcome::Refused(Refusal::VersionMismatch { version: 300 }),
            "030100ac02".into(),
        ),
        (Outcome::Refused(exists), format!("030101{}", "03".repeat(32))),
        (Outcome::Refused(Refusal::Unknown), "030102".into()),
        (Outcome::Refused(Refusal::Raced), "030103".into()),
        (Outcome::Refused(Refusal::RequestReused), "030104".into()),
    ]
}

#[test]
fn commands_travel_byte_for_byte_as_they_always_did() {
    for (command, tail, golden) in every_command() {
        let bytes = command.encode(tail);
        assert_eq!(hex::encode(&bytes), golden, "{command:?}");
        assert!(Command::decode(&bytes) == Ok(command.clone()), "{command:?}");
        assert_eq!(command.number(), number());
    }
}

#[test]
fn outcomes_travel_byte_for_byte_as_they_always_did() {
    for (outcome, golden) in every_outcome() {
        assert_eq!(hex::encode(outcome.encode()), golden);
        assert_eq!(Outcome::decode(&outcome.encode()), Ok(outcome));
    }
}

#[test]
fn the_debug_form_shows_nothing_personal() {
    for (command, ..) in every_command() {
        let shown = format!("{command:?}");
        for hidden in ["9000000009", "lanted", "LANTED", "112, 108"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
    }
    for (outcome, _) in every_outcome() {
        assert!(!format!("{outcome:?}").contains("9000000009"));
    }
    let shown = format!("{:?}", put().keys);
    assert_eq!(shown, "[IndexKey(Family)]");
}

#[test]
fn a_guard_shows_nothing_personal() {
    let shown = format!("{:?}", put().guard);
    assert_eq!(shown, "Some(Guard(1 prefixes))");
}

#[test]
fn bytes_that_are_no_command_are_refused_and_never_panic() {
    assert_eq!(Command::decode(&[]), Err(DecodeError::Malformed));
    assert_eq!(Command::decode(&[COMMAND_VERSION]), Err(DecodeError::Malformed));
    for version in [0, 1, 2, 4, 255] {
        assert_eq!(Command::decode(&[version, 0]), Err(DecodeError::Newer(version)));
        assert_eq!(Outcome::decode(&[version, 0]), Err(DecodeError::Newer(version)));
    }
    assert_eq!(
        Command::decode(&[COMMAND_VERSION, 99, 1, 2]),
        Err(DecodeError::Malformed)
    );
    assert_eq!(Outcome::decode(&[COMMAND_VERSION, 99]), Err(DecodeError::Malformed));
    for (command, tail, _) in every_command() {
        let bytes = command.encode(tail);
        for cut in 1..bytes.len() {
            assert_eq!(
                Command::decode(&bytes[..cut]),
                Err(DecodeError::Malformed),
                "{command:?} cut at {cut}"
            );
        }
        let longer = [&bytes[..], b" "].concat();
        assert_eq!(Command::decode(&longer), Err(DecodeError::Malformed), "{command:?}");
    }
    for (outcome, _) in every_outcome() {
        let longer = [&outcome.encode()[..], b" "].concat();
        assert_eq!(Outcome::decode(&longer), Err(DecodeError::Malformed));
    }
}

#[test]
fn a_number_with_a_wrong_check_digit_is_no_command() {
    let bytes = every_command()[2].0.encode(b"[]");
    let mut wrong = bytes.to_vec();
    wrong[2] ^= 1;
    assert_eq!(Command::decode(&wrong), Err(DecodeError::Malformed));
}

#[test]
fn the_tail_is_found_behind_the_command_of_that_number_alone() {
    let other = NhsNumber::parse("9000000017").expect("a number");
    for (command, tail, _) in every_command() {
        let bytes = command.encode(tail);
        let found = Command::tail_of(&bytes, number(), tail.len());
        assert_eq!(found.as_deref(), Some(tail));
        assert_eq!(Command::tail_of(&bytes, other, tail.len()), None);
        assert_eq!(Command::tail_of(&bytes, number(), bytes.len() + 1), None);
    }
    assert_eq!(Command::tail_of(&Bytes::from_static(&[9, 9]), number(), 1), None);
}

#[test]
#[should_panic(expected = "the tail is the resource, whole")]
fn a_tail_of_another_length_is_never_encoded() {
    every_command()[0].0.encode(b"tails");
}
