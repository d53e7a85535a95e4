use super::*;

pub(crate) fn client(id: &str) -> Client {
    Client {
        id: ClientId::parse(id).expect("a client"),
        name: "Name".into(),
        ods: OdsCode::parse("X26").expect("an ODS code"),
        keys: vec![ClientKey {
            kid: "k".into(),
            n: vec![0xC0, 1],
            e: vec![1, 0, 1],
        }],
        modes: vec![Mode::Application, Mode::Patient],
        scopes: vec!["s".into()],
        requests_per_second: 300,
        active: true,
    }
}

#[test]
fn commands_are_written_byte_for_byte_as_they_always_were() {
    let issue = Command::IssueToken {
        client: ClientId::parse("app-1").expect("a client"),
        fingerprint: [7; 16],
        expires: Timestamp::from_ms(1_700_000_000_000),
    };
    for (command, golden) in [
        (
            Command::PutClient(client("app-1")),
            "0200056170702d31044e616d650358323601016b02c00103010001020002010173ac0201",
        ),
        (issue, "0201056170702d310707070707070707070707070707070780d095ffbc31"),
    ] {
        let bytes = command.encode();
        assert_eq!(hex::encode(&bytes), golden);
        assert_eq!(Command::decode(&bytes), Ok(command));
    }
}

#[test]
fn outcomes_are_written_byte_for_byte_as_they_always_were() {
    for (outcome, golden) in [
        (Outcome::Done, "0200"),
        (Outcome::Issued, "0201"),
        (Outcome::Refused(Refusal::Replayed), "020200"),
        (Outcome::Refused(Refusal::AssertionExpired), "020201"),
        (Outcome::Refused(Refusal::ClientUnknown), "020202"),
        (Outcome::Refused(Refusal::ClientDisabled), "020203"),
        (Outcome::Refused(Refusal::ModeNotAllowed), "020204"),
    ] {
        assert_eq!(hex::encode(outcome.encode()), golden);
        assert_eq!(Outcome::decode(&outcome.encode()), Ok(outcome));
    }
}

#[test]
fn bytes_that_are_no_command_are_refused() {
    let good = Command::PutClient(client("app-1")).encode();
    for length in 0..good.len() {
        assert_eq!(Command::decode(&good[..length]), Err(DecodeError), "{length}");
    }
    let mut longer = good.to_vec();
    longer.push(0);
    assert_eq!(Command::decode(&longer), Err(DecodeError));
    let mut other = good.to_vec();
    other[0] = 1;
    assert_eq!(Command::decode(&other), Err(DecodeError));
    let mut odd = good.to_vec();
    odd[3] = b'/';
    assert_eq!(Command::decode(&odd), Err(DecodeError), "no client has that name");
}

#[test]
fn a_fingerprint_tells_clients_and_identifiers_apart() {
    let id = |text: &str| ClientId::parse(text).expect("a client");
    let print = fingerprint(&id("a"), "b");
    assert_eq!(print, fingerprint(&id("a"), "b"));
    assert_ne!(print, fingerprint(&id("ab"), ""));
    assert_ne!(print, fingerprint(&id("a"), "B"));
    assert_ne!(print, fingerprint(&id("A"), "b"));
}

#[test]
fn identifiers_and_modes_are_read_strictly() {
    for good in ["a", "A-b_9", &"x".repeat(64)] {
        assert!(ClientId::parse(good).is_some(), "{good}");
    }
    for bad in ["", "a b", "a/b", "ä", "a\0", &"x".repeat(65)] {
        assert!(ClientId::parse(bad).is_none(), "{bad}");
    }
    for mode in Mode::ALL {
        assert_eq!(Mode::parse(mode.as_str()), Some(mode));
    }
    assert_eq!(Mode::parse("Application"), None);
}
