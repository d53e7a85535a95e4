use super::super::command::fingerprint;
use super::*;
use crate::base::OdsCode;
use crate::ledger::Ledger;
use crate::services::identity::command::ClientKey;
use std::path::PathBuf;

const START: Timestamp = Timestamp::from_ms(1_795_348_800_000);
const MINUTE_MS: u64 = 60 * 1000;

struct World {
    ledger: Ledger,
    at: At,
    folder: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl World {
    fn new() -> World {
        let folder = std::env::temp_dir().join(format!("vertebra-identity-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be made");
        let (ledger, _) = Ledger::open(&folder, 1 << 30).expect("the ledger opens");
        World {
            ledger,
            at: At { index: 0, time: START },
            folder,
        }
    }

    fn with_client() -> World {
        let mut world = World::new();
        assert_eq!(world.apply(&Command::PutClient(a_client("app"))), Outcome::Done);
        world
    }

    /// Judges as the log does: through bytes.
    fn apply(&mut self, command: &Command) -> Outcome {
        self.at.index += 1;
        let mut writer = self.ledger.writer();
        let outcome = apply_encoded(&mut writer, self.at, &command.encode()).expect("our own encoding");
        writer.commit();
        Outcome::decode(&outcome).expect("our own encoding")
    }

    fn issue(&mut self, client: &str, jti: &str, expires: Timestamp) -> Outcome {
        let client = id(client);
        self.apply(&Command::IssueToken {
            fingerprint: fingerprint(&client, jti),
            client,
            expires,
        })
    }

    fn pass(&mut self, ms: u64) {
        self.at.time = self.at.time.plus_ms(ms);
    }
}

fn id(text: &str) -> ClientId {
    ClientId::parse(text).expect("a client")
}

fn a_client(text: &str) -> Client {
    Client {
        id: id(text),
        name: "Name".into(),
        ods: OdsCode::parse("X26").expect("an ODS code"),
        keys: vec![ClientKey {
            kid: "k".into(),
            n: vec![0xC0, 1],
            e: vec![1, 0, 1],
        }],
        modes: vec![Mode::Application],
        scopes: vec!["s".into()],
        requests_per_second: 5,
        active: true,
    }
}

#[test]
fn an_assertion_gives_one_token() {
    let mut world = World::with_client();
    let end = START.plus_ms(5 * MINUTE_MS);
    assert_eq!(world.issue("app", "1", end), Outcome::Issued);
    assert_eq!(world.issue("app", "1", end), Outcome::Refused(Refusal::Replayed));
    assert_eq!(world.issue("app", "2", end), Outcome::Issued);
    assert_eq!(
        world.issue("app", "1", end.plus_ms(9 * MINUTE_MS)),
        Outcome::Refused(Refusal::Replayed),
        "signed again with another end"
    );
}

#[test]
fn a_client_s_standing_is_what_the_client_says() {
    let mut world = World::new();
    let mut client = a_client("app");
    let second = ClientKey {
        kid: "second".into(),
        n: (0..=255).chain(0..=255).collect(),
        e: Vec::new(),
    };
    client.keys.push(second);
    client.modes = Mode::ALL.to_vec();
    client.scopes.clear();
    client.requests_per_second = 100_000;
    for active in [true, false] {
        client.active = active;
        world.apply(&Command::PutClient(client.clone()));
        let expected = Standing {
            ods: client.ods.clone(),
            modes: client.modes.clone(),
            requests_per_second: client.requests_per_second,
            active,
        };
        assert_eq!(standing(&world.ledger, &client.id), Some(expected));
    }
    assert_eq!(standing(&world.ledger, &id("another")), None);
}

#[test]
fn two_clients_may_use_the_same_identifier() {
    let mut world = World::with_client();
    world.apply(&Command::PutClient(a_client("other")));
    assert_eq!(world.issue("app", "1", START), Outcome::Issued);
    assert_eq!(world.issue("other", "1", START), Outcome::Issued);
}

#[test]
fn a_client_must_be_there_active_and_allowed_to_act_by_itself() {
    let mut world = World::with_client();
    assert_eq!(
        world.issue("none", "1", START),
        Outcome::Refused(Refusal::ClientUnknown)
    );
    let mut changed = a_client("app");
    changed.modes = vec![Mode::Worker];
    world.apply(&Command::PutClient(changed.clone()));
    assert_eq!(
        world.issue("app", "1", START),
        Outcome::Refused(Refusal::ModeNotAllowed)
    );
    changed.active = false;
    world.apply(&Command::PutClient(changed));
    assert_eq!(
        world.issue("app", "1", START),
        Outcome::Refused(Refusal::ClientDisabled)
    );
    world.apply(&Command::PutClient(a_client("app")));
    assert_eq!(
        world.issue("app", "1", START),
        Outcome::Issued,
        "what was refused spent nothing"
    );
}

#[test]
fn an_assertion_is_refused_until_its_table_is_over_and_then_as_expired_whether_or_not_it_was_dropped() {
    let mut world = World::with_client();
    let end = START.plus_ms(5 * MINUTE_MS);
    assert_eq!(world.issue("app", "1", end), Outcome::Issued);
    let over_ms = (u64::from(period(end)) + 1) * PERIOD_MS + SKEW_MS - START.ms();
    world.pass(over_ms - 1);
    assert_eq!(world.issue("app", "1", end), Outcome::Refused(Refusal::Replayed));
    world.pass(1);
    assert_eq!(world.ledger.periods(SPENT).len(), 1, "nothing has dropped it yet");
    assert_eq!(
        world.issue("app", "1", end),
        Outcome::Refused(Refusal::AssertionExpired)
    );
    assert_eq!(world.issue("app", "2", world.at.time), Outcome::Issued);
    assert_eq!(
        world.issue("app", "1", end),
        Outcome::Refused(Refusal::AssertionExpired)
    );
}

#[test]
fn spent_assertions_are_dropped_by_the_table() {
    let mut world = World::with_client();
    for n in 0..200 {
        world.pass(7 * MINUTE_MS);
        let end = world.at.time.plus_ms(5 * MINUTE_MS);
        assert_eq!(world.issue("app", &n.to_string(), end), Outcome::Issued);
        assert!(world.ledger.periods(SPENT).len() <= 5, "after {n}");
    }
}

#[test]
fn clients_are_listed_in_pages_and_changed_whole() {
    let mut world = World::new();
    for n in 0..7 {
        world.apply(&Command::PutClient(a_client(&format!("app-{n}"))));
    }
    let page = clients(&world.ledger, None, 3);
    assert_eq!(
        page.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(),
        ["app-0", "app-1", "app-2"]
    );
    let rest = clients(&world.ledger, Some(&page[2].id), 100);
    assert_eq!(rest.len(), 4);
    assert!(clients(&world.ledger, None, 0).is_empty());
    let changed = Client {
        name: "Another".into(),
        ..a_client("app-3")
    };
    world.apply(&Command::PutClient(changed.clone()));
    assert_eq!(client(&world.ledger, &id("app-3")), Some(changed));
    assert_eq!(client(&world.ledger, &id("app-9")), None);
    assert_eq!(clients(&world.ledger, None, 100).len(), 7);
}

#[test]
fn values_are_written_byte_for_byte_as_they_always_were() {
    let bytes = write(&a_client("app"));
    assert_eq!(
        hex::encode(&bytes),
        "0103617070044e616d650358323601016b02c0010301000101000101730501"
    );
    assert_eq!(read::<Client>(&bytes), a_client("app"));
    assert_eq!(NOTHING, [1]);
}

#[test]
#[should_panic(expected = "start the newer release")]
fn a_value_of_a_later_release_is_refused_in_words() {
    read::<Client>(&[2, 0]);
}
