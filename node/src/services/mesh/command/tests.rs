use super::*;
use crate::base::{OdsCode, UploadId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn id(text: &str) -> MailboxId {
    MailboxId::parse(text).expect("a mailbox identifier")
}

fn nonce() -> Nonce {
    Nonce {
        fingerprint: [7; 16],
        stamped: Timestamp::from_ms(1_700_000_000_000),
    }
}

fn message() -> MessageId {
    MessageId::parse("20210311101813838554_1B8F53").expect("a message identifier")
}

fn metadata() -> Metadata {
    Metadata {
        workflow: "W".into(),
        subject: Some("planted subject".into()),
        local_id: Some("1".into()),
        file_name: Some("planted file".into()),
        ..Metadata::default()
    }
}

fn inline() -> Body {
    Body::Inline {
        bytes: 4,
        digest: Digest([1; 32]),
    }
}

fn upload() -> Body {
    Body::Upload(Manifest {
        upload: UploadId(5),
        bytes: 300_000,
        pieces: 2,
        digest: Digest([2; 32]),
    })
}

/// One of each, with its tail and its bytes. New variants are added at the end.
fn every_command() -> Vec<(Command, &'static [u8], &'static str)> {
    let mailbox = Mailbox {
        id: id("A"),
        name: "Name".into(),
        ods: OdsCode::parse("X26").expect("an ODS code"),
        organisation: "Org".into(),
        billing_entity: "England".into(),
        password: "planted password".into(),
        active: true,
        safe_retry: false,
    };
    let workflow = Workflow {
        id: "W".into(),
        senders: vec![id("A")],
        receivers: vec![id("B"), id("C")],
    };
    let send = |body| Command::Send {
        nonce: nonce(),
        sender: id("A"),
        recipient: id("B"),
        metadata: metadata(),
        chunks: 3,
        body,
    };
    let chunk = Command::SendChunk {
        nonce: nonce(),
        sender: id("A"),
        message: message(),
        chunk: 2,
        chunks: 3,
        content_encoding: Some("gzip".into()),
        body: upload(),
    };
    let report = Command::Report {
        mailbox: id("A"),
        code: "14".into(),
        description: "d".into(),
        workflow: "W".into(),
        subject: Some("planted subject".into()),
        local_id: None,
        file_name: Some("planted file".into()),
        linked: None,
    };
    let event = Command::AddEvent {
        message: message(),
        status: Status::Error,
        code: Some("14".into()),
        event: None,
        description: None,
        linked: None,
    };
    vec![
        (
            Command::PutMailbox(mailbox),
            b"",
            "01000141044e616d6503583236034f726707456e676c616e6410706c616e7465642070617373776f72640100",
        ),
        (Command::PutWorkflow(workflow), b"", "010101570101410201420143"),
        (
            send(inline()),
            b"tail",
            "01020707070707070707070707070707070780d095ffbc31014101420157010f706c616e746564207375626a65637401013100010c706c616e7465642066696c65000000000003000401010101010101010101010101010101010101010101010101010101010101017461696c",
        ),
        (
            send(upload()),
            b"",
            "01020707070707070707070707070707070780d095ffbc31014101420157010f706c616e746564207375626a65637401013100010c706c616e7465642066696c650000000000030105e0a712020202020202020202020202020202020202020202020202020202020202020202",
        ),
        (
            chunk,
            b"",
            "01030707070707070707070707070707070780d095ffbc3101411b32303231303331313130313831333833383535345f31423846353302030104677a69700105e0a712020202020202020202020202020202020202020202020202020202020202020202",
        ),
        (
            Command::Acknowledge {
                nonce: nonce(),
                mailbox: id("A"),
                message: message(),
            },
            b"",
            "01040707070707070707070707070707070780d095ffbc3101411b32303231303331313130313831333833383535345f314238463533",
        ),
        (
            Command::Handshake {
                nonce: nonce(),
                mailbox: id("A"),
                client: "c".into(),
            },
            b"",
            "01050707070707070707070707070707070780d095ffbc3101410163",
        ),
        (Command::Sweep { messages_max: 300 }, b"", "0106ac02"),
        (
            report,
            b"",
            "0107014102313401640157010f706c616e746564207375626a65637400010c706c616e7465642066696c6500",
        ),
        (
            event,
            b"",
            "01081b32303231303331313130313831333833383535345f3142384635330401023134000000",
        ),
        (Command::Reset { mailbox: Some(id("A")) }, b"", "0109010141"),
        (
            Command::Spend { nonce: nonce() },
            b"",
            "010a0707070707070707070707070707070780d095ffbc31",
        ),
    ]
}

#[test]
fn commands_are_written_byte_for_byte_as_they_always_were() {
    for (command, tail, golden) in every_command() {
        let bytes = command.encode(tail);
        assert_eq!(hex::encode(&bytes), golden, "{command:?}");
        let (decoded, found) = Command::decode(&bytes).expect("our own bytes");
        assert!(decoded == command && found == tail, "{command:?}");
    }
}

#[test]
fn outcomes_are_written_byte_for_byte_as_they_always_were() {
    let refusals = [
        Refusal::Replayed,
        Refusal::UnknownRecipient,
        Refusal::SenderNotAllowed,
        Refusal::RecipientNotAllowed,
        Refusal::UnknownMessage,
        Refusal::NotYours,
        Refusal::Gone,
        Refusal::AlreadyComplete,
        Refusal::ChunkBeyondEnd,
        Refusal::ChunkTotalChanged,
        Refusal::ContentEncodingChanged,
        Refusal::UploadExpired,
        Refusal::UnknownMailbox,
        Refusal::MessageTooLarge,
    ];
    for (number, refusal) in refusals.into_iter().enumerate() {
        let outcome = Outcome::Refused(refusal);
        assert_eq!(outcome.encode()[..], [COMMAND_VERSION, 3, number as u8]);
        assert_eq!(Outcome::decode(&outcome.encode()), Ok(outcome));
    }
    let sent = Outcome::Sent {
        message: message(),
        repeated: true,
    };
    for (outcome, golden) in [
        (Outcome::Done, "0100"),
        (sent, "01011b32303231303331313130313831333833383535345f31423846353301"),
        (Outcome::Swept { messages: 300 }, "0102ac02"),
    ] {
        assert_eq!(hex::encode(outcome.encode()), golden);
        assert_eq!(Outcome::decode(&outcome.encode()), Ok(outcome));
    }
}

#[test]
fn a_command_of_a_later_release_is_refused_and_so_is_what_is_none() {
    let mut bytes = Command::Sweep { messages_max: 1 }.encode(b"").to_vec();
    bytes[0] = COMMAND_VERSION + 1;
    assert_eq!(
        Command::decode(&Bytes::from(bytes.clone())),
        Err(DecodeError::Newer(COMMAND_VERSION + 1))
    );
    assert_eq!(Outcome::decode(&bytes), Err(DecodeError::Newer(COMMAND_VERSION + 1)));
    bytes[0] = 0;
    assert_eq!(Command::decode(&Bytes::from(bytes)), Err(DecodeError::Malformed));
    assert_eq!(Command::decode(&Bytes::new()), Err(DecodeError::Malformed));
    assert_eq!(Outcome::decode(&[]), Err(DecodeError::Malformed));
    assert_eq!(Outcome::decode(&[COMMAND_VERSION, 0, 0]), Err(DecodeError::Malformed));
}

#[test]
fn a_tail_of_another_length_is_refused() {
    let (send, tail, _) = every_command().swap_remove(2);
    let bytes = send.encode(tail);
    assert_eq!(
        Command::decode(&bytes.slice(..bytes.len() - 1)),
        Err(DecodeError::Malformed)
    );
    let longer = [&bytes[..], b"x"].concat();
    assert_eq!(Command::decode(&Bytes::from(longer)), Err(DecodeError::Malformed));
    let sweep = [&Command::Sweep { messages_max: 1 }.encode(b"")[..], b"x"].concat();
    assert_eq!(Command::decode(&Bytes::from(sweep)), Err(DecodeError::Malformed));
}

#[test]
fn an_identifier_that_is_none_is_refused_in_decoding() {
    let good = Command::Reset { mailbox: Some(id("A")) }.encode(b"").to_vec();
    let mut bad = good.clone();
    *bad.last_mut().expect("not empty") = 0;
    assert!(Command::decode(&Bytes::from(good)).is_ok());
    assert_eq!(Command::decode(&Bytes::from(bad)), Err(DecodeError::Malformed));
}

#[test]
fn no_bytes_make_decoding_panic() {
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        for (command, tail, _) in every_command() {
            let bytes = command.encode(tail);
            for length in 0..bytes.len() {
                assert!(
                    Command::decode(&bytes.slice(..length)).is_err(),
                    "{command:?} cut at {length}"
                );
            }
            for _ in 0..200 {
                let mut changed = bytes.to_vec();
                for _ in 0..rng.random_range(1..4) {
                    let place = rng.random_range(0..changed.len());
                    changed[place] = rng.random();
                }
                let _ = Command::decode(&Bytes::from(changed.clone()));
                let _ = Outcome::decode(&changed);
            }
        }
    }
}

#[test]
fn debug_shows_nothing_personal_and_no_secret() {
    for (command, _, _) in every_command() {
        let shown = format!("{command:?}");
        assert!(!shown.contains("planted"), "{shown}");
    }
    assert!(!format!("{:?}", metadata()).contains("planted"));
}

#[test]
fn a_report_takes_the_index_digits_of_the_message_it_is_about() {
    let of = MessageId::new(Timestamp::from_ms(1_700_000_000_123), 12_345_678);
    assert_eq!(of.as_str(), "20231114221320123678_003039");
    let report = MessageId::of_report(Timestamp::from_ms(1_700_432_000_999), &of);
    assert_eq!(report.as_str(), "20231119221320999678_003039");
    assert_eq!(MessageId::parse(report.as_str()), Some(report));
}
