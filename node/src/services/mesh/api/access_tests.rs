use super::*;
use crate::base::{OdsCode, Timestamp};
use crate::http::ClientCertificate;
use crate::ledger::Ledger;
use crate::log::At;
use crate::services::mesh::command::{Command, Outcome};
use ::http::HeaderValue;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::path::PathBuf;
use std::sync::Arc;

/// A gate over a ledger with X26ABC1 and X26ABC2 (X26), X27ABC3 (X27) and X26OFF (X26, switched off).
struct Node {
    folder: PathBuf,
    ledger: Ledger,
    clock: Clock,
    keys: SharedKeys,
    nonces: Nonces,
    sandbox: bool,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Node {
    fn new(sandbox: bool) -> Node {
        let folder = std::env::temp_dir().join(format!("vertebra-access-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be made");
        let (ledger, _) = Ledger::open(&folder, 64 * 1024 * 1024).expect("the ledger opens");
        let mailboxes = [
            ("X26ABC1", "X26"),
            ("X26ABC2", "X26"),
            ("X27ABC3", "X27"),
            ("X26OFF", "X26"),
        ];
        for (index, (id, ods)) in mailboxes.into_iter().enumerate() {
            let mailbox = Mailbox {
                id: MailboxId::parse(id).expect("a mailbox"),
                name: id.to_owned(),
                ods: OdsCode::parse(ods).expect("a code"),
                organisation: ods.to_owned(),
                billing_entity: String::new(),
                password: "password".to_owned(),
                active: id != "X26OFF",
                safe_retry: true,
            };
            apply(&ledger, index as u64 + 1, &Command::PutMailbox(mailbox));
        }
        let nonces = Nonces::new(10_000, state::TOKEN_MS);
        let keys = SharedKeys::new(b"TestKey", None);
        Node {
            folder,
            ledger,
            clock: Clock::default(),
            keys,
            nonces,
            sandbox,
        }
    }

    fn gate(&self) -> Gate<'_, Ledger> {
        let Node {
            ledger,
            clock,
            keys,
            nonces,
            sandbox,
            ..
        } = self;
        Gate {
            ledger,
            clock,
            keys,
            nonces,
            sandbox: *sandbox,
        }
    }

    /// A header signed as a client signs it, `minutes` from now.
    fn header(&self, mailbox: &str, password: &str, minutes: i64) -> HeaderMap {
        let nonce = rand::random::<u64>();
        let at = Timestamp::from_ms(self.clock.now().ms().saturating_add_signed(minutes * 60_000));
        let timestamp = at.calendar().strftime("%Y%m%d%H%M").to_string();
        let mut mac: Hmac<Sha256> = Hmac::new_from_slice(b"TestKey").expect("any length");
        mac.update(format!("{mailbox}:{nonce}:0:{password}:{timestamp}").as_bytes());
        let hash = hex::encode(mac.finalize().into_bytes());
        authorization(&format!("NHSMESH {mailbox}:{nonce}:0:{timestamp}:{hash}"))
    }

    fn read(&self, headers: &HeaderMap, peer: &Peer, mailbox: &str) -> Result<String, Refused> {
        let judged = at_once(self.gate().may_read(headers, peer, mailbox));
        judged
            .map(|(caller, _)| caller.caller.actor)
            .map_err(|denied| denied.failure.refused)
    }
}

/// What a future gives that waits for nothing, as none here does without Redis.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(future)
}

fn apply(ledger: &Ledger, index: u64, command: &Command) -> Outcome {
    let mut writer = ledger.writer();
    let at = At {
        index,
        time: Timestamp::from_ms(1_795_348_800_000),
    };
    let outcome = state::apply(&mut writer, at, command);
    writer.commit();
    outcome
}

fn authorization(text: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::from_str(text).expect("ASCII"));
    headers
}

fn peer(common_name: Option<&str>) -> Peer {
    let certificate = common_name.map(|name| {
        let common_name = match name {
            SANDBOX_COMMON_NAME => name.to_owned(),
            stem => format!("{stem}.api.mesh-client.nhs.uk"),
        };
        Arc::new(ClientCertificate {
            common_name,
            organisation: None,
            dns_names: Vec::new(),
            serial: Vec::new(),
            issuer: Vec::new(),
            not_after: Timestamp::default(),
            fingerprint: [0; 32],
        })
    });
    Peer {
        address: ([127, 0, 0, 1], 1).into(),
        certificate,
    }
}

#[test]
fn a_good_token_and_certificate_are_let_in_once() {
    let node = Node::new(false);
    let headers = node.header("X26ABC1", "password", 0);
    assert_eq!(
        node.read(&headers, &peer(Some("server.X26")), "x26abc1"),
        Ok("X26ABC1".to_owned())
    );
    assert_eq!(
        node.read(&headers, &peer(Some("server.X26")), "X26ABC1"),
        Err(Refused::TokenReplayed)
    );
}

#[test]
fn a_token_spent_by_a_command_is_no_good_for_a_read() {
    let node = Node::new(false);
    let headers = node.header("X26ABC1", "password", 0);
    let (_, grant) = node
        .gate()
        .may_write(&headers, &peer(Some("server.X26")), "X26ABC1")
        .expect("let in");
    apply(&node.ledger, 100, &Command::Spend { nonce: grant.nonce() });
    // Another node: its own cache is empty, the log's answer is the same.
    let other = Nonces::new(10_000, state::TOKEN_MS);
    let gate = Gate {
        nonces: &other,
        ..node.gate()
    };
    let denied = at_once(gate.may_read(&headers, &peer(Some("server.X26")), "X26ABC1")).expect_err("spent");
    assert_eq!(denied.failure.refused, Refused::TokenReplayed);
    assert!(denied.caller.is_some(), "the refusal is on the record");
}

#[test]
fn tokens_are_refused_for_what_is_wrong_with_them() {
    let node = Node::new(false);
    let good = peer(Some("server.X26"));
    let judged = |headers: &HeaderMap, mailbox: &str| node.read(headers, &good, mailbox);
    assert_eq!(
        judged(&HeaderMap::new(), "X26ABC1"),
        Err(Refused::AuthorizationUnreadable)
    );
    assert_eq!(
        judged(&authorization("Bearer x"), "X26ABC1"),
        Err(Refused::AuthorizationUnreadable)
    );
    let other = node.header("X26ABC2", "password", 0);
    assert_eq!(judged(&other, "X26ABC1"), Err(Refused::MailboxMismatch));
    let lower = node.header("x26abc1", "password", 0);
    assert_eq!(judged(&lower, "x26abc1"), Err(Refused::MailboxMismatch));
    assert_eq!(
        judged(&node.header("X26ABC1", "password", -122), "X26ABC1"),
        Err(Refused::TokenOutOfTime)
    );
    assert_eq!(
        judged(&node.header("X26ABC1", "password", 122), "X26ABC1"),
        Err(Refused::TokenOutOfTime)
    );
    assert!(judged(&node.header("X26ABC1", "password", -118), "X26ABC1").is_ok());
    assert!(judged(&node.header("X26ABC1", "password", 118), "X26ABC1").is_ok());
}

#[test]
fn an_unknown_mailbox_is_refused_like_a_wrong_password() {
    let node = Node::new(false);
    let good = peer(Some("server.X26"));
    let refused = |headers: &HeaderMap, mailbox: &str| {
        at_once(node.gate().may_read(headers, &good, mailbox)).expect_err("refused")
    };
    let wrong = refused(&node.header("X26ABC1", "wrong", 0), "X26ABC1");
    let unknown = refused(&node.header("X26NONE", "wrong", 0), "X26NONE");
    let off = refused(&node.header("X26OFF", "wrong", 0), "X26OFF");
    let guessed = refused(&node.header("X26NONE", NOBODYS_PASSWORD, 0), "X26NONE");
    for denied in [wrong, unknown, off, guessed] {
        assert_eq!(denied.failure, Failure::from(Refused::TokenInvalid));
        assert_eq!(denied.caller, None);
    }
}

#[test]
fn a_forged_token_does_not_use_up_the_true_one() {
    let node = Node::new(false);
    let good = peer(Some("server.X26"));
    let headers = node.header("X26ABC1", "password", 0);
    let text = headers[header::AUTHORIZATION].to_str().expect("ASCII");
    let (unsigned, _) = text.rsplit_once(':').expect("parts");
    let forged = authorization(&format!("{unsigned}:{}", "0".repeat(64)));
    assert_eq!(node.read(&forged, &good, "X26ABC1"), Err(Refused::TokenInvalid));
    assert!(node.read(&headers, &good, "X26ABC1").is_ok());
}

#[test]
fn an_inactive_mailbox_hears_so_when_it_knows_its_password() {
    let node = Node::new(false);
    let headers = node.header("X26OFF", "password", 0);
    assert_eq!(
        node.read(&headers, &peer(Some("server.X26")), "X26OFF"),
        Err(Refused::MailboxInactive)
    );
}

#[test]
fn a_certificate_binds_to_its_organisation_and_to_the_mailbox_it_names() {
    let node = Node::new(false);
    for (certificate, mailbox, expected) in [
        (Some("server.X26"), "X26ABC1", None),
        (Some("server.x26"), "X26ABC2", None),
        (Some("X26ABC1.X26"), "X26ABC1", None),
        (Some("x26abc1.X26"), "X26ABC1", None),
        (Some("X26ABC1.X26"), "X26ABC2", Some(Refused::CertificateForeign)),
        (Some("X27ABC3.X26"), "X26ABC1", Some(Refused::CertificateForeign)),
        (Some("server.X27"), "X26ABC1", Some(Refused::CertificateForeign)),
        (Some("X26ABC1.X27"), "X26ABC1", Some(Refused::CertificateForeign)),
        (Some("server"), "X26ABC1", Some(Refused::CertificateForeign)),
        (Some(SANDBOX_COMMON_NAME), "X26ABC1", Some(Refused::CertificateForeign)),
        (None, "X26ABC1", Some(Refused::CertificateMissing)),
    ] {
        let judged = node.read(&node.header(mailbox, "password", 0), &peer(certificate), mailbox);
        assert_eq!(judged.err(), expected, "{certificate:?} {mailbox}");
    }
}

#[test]
fn the_sandbox_takes_no_certificate_and_its_own_but_none_of_another_mailbox() {
    let node = Node::new(true);
    for (certificate, expected) in [
        (None, None),
        (Some(SANDBOX_COMMON_NAME), None),
        (Some("X26ABC1.X26"), None),
        (Some("X27ABC3.X27"), Some(Refused::CertificateForeign)),
    ] {
        let judged = node.read(&node.header("X26ABC1", "password", 0), &peer(certificate), "X26ABC1");
        assert_eq!(judged.err(), expected, "{certificate:?}");
    }
}

#[test]
fn look_ups_need_a_certificate_and_no_token_but_never_a_bad_one() {
    let node = Node::new(false);
    let judged = |headers: &HeaderMap, certificate| {
        let judged = at_once(node.gate().may_look_up(headers, &peer(certificate)));
        judged
            .map(|(caller, _)| caller.actor)
            .map_err(|denied| denied.failure.refused)
    };
    let name = "server.X26.api.mesh-client.nhs.uk".to_owned();
    assert_eq!(judged(&HeaderMap::new(), Some("server.X26")), Ok(name));
    assert_eq!(judged(&HeaderMap::new(), None), Err(Refused::CertificateMissing));
    assert_eq!(
        judged(&HeaderMap::new(), Some("server")),
        Err(Refused::CertificateForeign)
    );
    let token = node.header("X26ABC1", "password", 0);
    assert_eq!(judged(&token, Some("server.X26")), Ok("X26ABC1".to_owned()));
    assert_eq!(judged(&token, Some("server.X26")), Err(Refused::TokenReplayed));
    assert_eq!(
        judged(&authorization("NHSMESH x"), Some("server.X26")),
        Err(Refused::AuthorizationUnreadable)
    );
}

#[test]
fn test_only_calls_are_for_the_sandbox() {
    let denied = Node::new(false)
        .gate()
        .may_test(&peer(Some("server.X26")))
        .expect_err("refused");
    assert_eq!(denied.failure.refused, Refused::UnknownPath);
    assert!(Node::new(true).gate().may_test(&peer(None)).is_ok());
}

#[test]
fn at_the_bound_of_spent_tokens_new_ones_get_503_and_no_replay() {
    let mut node = Node::new(false);
    node.nonces = Nonces::new(1, state::TOKEN_MS);
    let good = peer(Some("server.X26"));
    let mut first = Vec::new();
    let mut full = 0;
    for _ in 0..1000 {
        let headers = node.header("X26ABC1", "password", 0);
        match node.read(&headers, &good, "X26ABC1") {
            Ok(_) => first.push(headers),
            Err(refused) => {
                assert_eq!(refused, Refused::NoncesFull);
                full += 1;
            }
        }
    }
    assert!(full > 0);
    for headers in first {
        assert_eq!(node.read(&headers, &good, "X26ABC1"), Err(Refused::TokenReplayed));
    }
}
