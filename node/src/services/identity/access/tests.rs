use super::*;
use crate::auth::token::{Keys, Policy};
use crate::base::OdsCode;
use crate::ledger::Ledger;
use crate::log::At;
use crate::services::identity::command::{Client, Command};
use ::http::HeaderValue;
use std::path::PathBuf;

struct Node {
    folder: PathBuf,
    ledger: Ledger,
    tokens: Tokens,
    rates: Rates,
    index: u64,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn now() -> Timestamp {
    Timestamp::from_ms(1_795_348_800_000)
}

fn a_client() -> Client {
    Client {
        id: ClientId::parse("app").expect("a client"),
        name: "App".into(),
        ods: OdsCode::parse("X26").expect("a code"),
        keys: Vec::new(),
        modes: vec![Mode::Application],
        scopes: Vec::new(),
        requests_per_second: 5,
        active: true,
    }
}

impl Node {
    fn new() -> Node {
        let folder = std::env::temp_dir().join(format!("vertebra-admit-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be made");
        let (ledger, _) = Ledger::open(&folder, 64 * 1024 * 1024).expect("the ledger opens");
        let key = folder.join("own.key");
        std::fs::write(&key, crate::auth::forged::ed25519_pem(1)).expect("writable");
        let files = crate::auth::token::KeyFiles {
            signing_key: Some(key),
            ..Default::default()
        };
        let policy = Policy {
            issuer: "us".into(),
            audience: "spine".into(),
            authority_issuer: "authority".into(),
        };
        Node {
            folder,
            ledger,
            tokens: Tokens::new(policy, Keys::from_files(&files).expect("a key")),
            rates: Rates::new(100),
            index: 0,
        }
    }

    fn put(&mut self, client: Client) {
        self.index += 1;
        let mut writer = self.ledger.writer();
        let at = At {
            index: self.index,
            time: now(),
        };
        state::apply(&mut writer, at, &Command::PutClient(client));
        writer.commit();
    }

    fn admit(&self) -> Result<Admitted, Denied> {
        let token = self.tokens.signer().expect("a key").issue("app", &[], 1, now());
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header");
        headers.insert(header::AUTHORIZATION, value);
        self.ask(&headers)
    }

    fn ask(&self, headers: &HeaderMap) -> Result<Admitted, Denied> {
        let gate = Gate {
            ledger: &self.ledger,
            tokens: &self.tokens,
            rates: &self.rates,
        };
        let peer = Peer {
            address: std::net::SocketAddr::from(([127, 0, 0, 1], 1)),
            certificate: None,
        };
        gate.admit(headers, &peer, now())
    }

    fn refused(&self) -> NotAdmitted {
        let denied = self.admit().expect_err("must be refused");
        assert!(denied.caller.is_some(), "the token was good, so it is known who it was");
        denied.refused
    }
}

#[test]
fn a_registered_client_is_admitted_at_its_rate_and_told_when_to_come_back() {
    let mut node = Node::new();
    node.put(a_client());
    let mut admitted = 0;
    let refused = loop {
        match node.admit() {
            Ok(request) => {
                assert_eq!(request.caller.organisation, OdsCode::parse("X26"));
                assert_eq!(request.caller.client, "app");
                admitted += 1;
            }
            Err(denied) => break denied.refused,
        }
        assert!(admitted < 10_000, "five a second were never exceeded");
    };
    assert!(admitted >= 5, "a second's worth at once: {admitted}");
    assert_eq!(refused, NotAdmitted::TooOften { retry_after_s: 1 });
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.retry_after_s(), Some(1));
}

#[test]
fn the_registry_is_asked_in_every_request() {
    let mut node = Node::new();
    assert_eq!(node.refused(), NotAdmitted::ClientUnknown);
    node.put(a_client());
    assert!(node.admit().is_ok());
    node.put(Client {
        active: false,
        ..a_client()
    });
    assert_eq!(node.refused(), NotAdmitted::ClientDisabled);
    node.put(Client {
        modes: vec![Mode::Worker],
        ..a_client()
    });
    assert_eq!(node.refused(), NotAdmitted::ModeNotAllowed);
    assert_eq!(node.refused().status(), StatusCode::FORBIDDEN);
}

#[test]
fn who_has_no_good_token_stays_unknown() {
    let node = Node::new();
    let denied = node.ask(&HeaderMap::new()).expect_err("no token");
    assert_eq!(denied.refused, NotAdmitted::Token(TokenRefused::Missing));
    assert_eq!(denied.refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(denied.refused.retry_after_s(), None);
    assert!(denied.caller.is_none());
}
